/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A port is a source of packets: a DPDK device (port_eth.c) or a kernel interface watched passively
 * (port_afpacket.c), behind one const struct of operations that is chosen at start.
 *
 * Life: open (main thread, at start; fails loudly) -> start (device thread) -> its queues enter the
 * rx_set (control) -> rx/release on their lcores -> they leave the rx_set, grace period -> stop
 * (device thread) -> close (main thread, at the end). start/stop may repeat.
 */
#ifndef ENGINE_PORT_H
#define ENGINE_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

#define PORT_BURST_MAX  64
#define PORT_QUEUES_MAX 16

struct rte_mbuf;
struct port;
struct port_queue;

enum port_loss { PORT_LOSS_EXACT, PORT_LOSS_LOWER_BOUND, PORT_LOSS_NONE };
enum port_direction { PORT_DIRECTION_EXACT, PORT_DIRECTION_BY_MAC, PORT_DIRECTION_NONE };

/* What one poll of one queue brought. Filled by ops->rx, valid until ops->release. */
struct burst {
	unsigned n;
	uint64_t
		outbound; /* bit i: the host sent packet i (ports with direction exact or by_mac) */
	uint64_t cut;     /* bit i: pkt_len is less than wire_len[i]: the source lost the rest */
	struct rte_mbuf *pkts[PORT_BURST_MAX];
	uint64_t stamp_ns[PORT_BURST_MAX]; /* wall clock, set for every packet */
	uint32_t wire_len[PORT_BURST_MAX]; /* valid only where cut has a bit */
};

struct port_ops {
	const char *kind; /* "interface" or "device" */

	/* Main thread. Find the device, fill the "set by open" members, make queues. 0 or -errno.
	 */
	int (*open)(struct port *port, struct err *err);
	/* Device thread. After start, rx may be called on every queue. 0 or -errno with err. */
	int (*start)(struct port *port, struct err *err);
	/* Device thread, when no lcore polls the port any more. */
	void (*stop)(struct port *port);
	/* Main thread. After stop; frees what open made. Takes a port whose open failed half-way.
	 */
	void (*close)(struct port *port);

	/*
	 * The queue's lcore only. Take up to max (<= PORT_BURST_MAX) packets, fill burst, return n.
	 * No malloc, log or lock; a system call on kernel interfaces only, and not per packet.
	 */
	unsigned (*rx)(struct port_queue *queue, struct burst *burst, unsigned max);
	/* The queue's lcore only. Give the packets of the last rx back, before the next rx of that
	 * queue; called only after an rx that returned more than 0. */
	void (*release)(struct port_queue *queue, struct burst *burst);

	/*
	 * Device thread, about ten times a second while started, and once more right after stop was
	 * asked and the queues are drained: refresh the "written by the device thread" members.
	 */
	void (*refresh)(struct port *port);
};

struct port_queue {
	/* set by open, then constant */
	struct port *port;
	uint16_t index;
	void *priv; /* the ops' own */
	/* set by start, constant while started */
	int wait_fd; /* poll(2) it for POLLIN when the queue is idle; -1: poll the queue itself */

	/* set by engine at start, then constant */
	uint16_t lane_slot; /* which of a tap's lanes takes this queue's packets */
	uint16_t rx;        /* which RX lcore polls it */
	uint64_t *
		slot_matched; /* its lcore only: matched, of all queues of this port and lane slot */

	/* written by its lcore, read by anyone (relaxed) */
	uint64_t polled __attribute__((aligned(64))); /* port books: rx */
	uint64_t matched;
	uint64_t unmatched;

	uint64_t pace_start_tsc;  /* lcore only; 0 = the schedule starts at the next poll (set by
				     start) */
	uint64_t pace_taken;      /* lcore only */
	uint64_t poll_before_tsc; /* lcore only: when the queue was polled last; 0 = not since the
				     start */
};

struct port {
	/* set at start from the configuration, then constant */
	const struct port_ops *ops;
	const struct config_port *config;
	unsigned index; /* in engine order = configuration order */
	void *priv;     /* the ops' own */

	/* set by open, then constant */
	char driver[32]; /* "af_packet", "net_pcap", "mlx5_pci" ... */
	uint8_t mac[6];
	bool has_mac;
	bool own_clock; /* stamps come from the NIC or the kernel, per queue: one lane per queue */
	uint32_t latency_ms; /* how long a packet may lie in the source before rx hands it out */
	enum port_loss loss;
	enum port_direction direction;
	unsigned n_queues;
	struct port_queue *queues; /* n_queues, 64-byte aligned, made by port_queues_new */

	/* written by the device thread, read by anyone (relaxed) */
	bool started;
	bool link_up;
	bool gone;           /* removed; packets will not come any more */
	uint32_t speed_mbps; /* 0 = not known */
	uint32_t mtu;
	/* the driver's or the kernel's own counts since open, accumulated in 64 bits, never reset
	 */
	uint64_t offered;
	uint64_t rx_bytes; /* of what reached us; 0: the driver does not say */
	uint64_t nic_missed;
	uint64_t nic_errors;
	uint64_t nic_nombuf;
	/* mbufs of the port: all, and those that nobody holds now; 0: it has none of its own */
	uint32_t mbufs;
	uint32_t mbufs_free;
};

extern const struct port_ops port_eth_ops;
extern const struct port_ops port_afpacket_ops;

/* Main thread. Allocate n zeroed, aligned queues for port, wait_fd = -1. 0 or -ENOMEM. */
int port_queues_new(struct port *port, unsigned n);
void port_queues_free(struct port *port);

const char *port_loss_name(enum port_loss loss);                /* "exact", "lower_bound", "none" */
const char *port_direction_name(enum port_direction direction); /* "exact", "by_mac", "none" */

#endif
