/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A kernel interface watched passively: AF_PACKET with a TPACKET_V3 ring per queue. It sees what
 * tcpdump sees and takes nothing away from the host. rx hands out mbuf headers over the ring's own
 * memory, so nothing is copied here; a block goes back to the kernel when its last packet was
 * released. A burst never spans two blocks.
 *
 * The sockets exist from open to close. While the port is stopped a filter refuses every packet, so
 * that none is counted and none from before a start is delivered after it; rings come and go with
 * start.
 */
#include "engine/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_mbuf.h>

#include "engine/clock.h"
#include "engine/counter.h"
#include "engine/fault.h"

/*
 * A frame cannot be longer than a block. Loopback hands out 65,549 bytes and BIG TCP up to 512 KiB
 * in one frame: both fit whole into 1 MiB, and a block's unused end (at most one frame) stays
 * small. 32 MiB a port ride out 25 ms at 10 Gb/s; many queues have fewer blocks each, but never
 * fewer than 4.
 */
#define RING_BLOCK_BYTES  (1U << 20)
#define RING_BLOCKS       32U
#define RING_BLOCKS_MIN   4U
#define RING_FRAME_BYTES  2048U /* V3 packs frames; the kernel only wants a plausible number */
#define RING_RETIRE_MS    10U
#define VLAN_TAG_BYTES    4U
#define MAC_PAIR_BYTES    12U
#define SEGMENT_BYTES_MAX UINT16_MAX
#define SEGMENTS_MAX      (PORT_BURST_MAX + RING_BLOCK_BYTES / SEGMENT_BYTES_MAX + 1)
#define LINK_MODE_WORDS   127

struct afpacket_queue {
	/* set by open or start, then constant */
	int fd;
	unsigned n_blocks;
	uint8_t *ring; /* NULL: not there */

	/* its lcore only */
	unsigned block;                  /* the one that is or will be handed out */
	unsigned left;                   /* packets of it not handed out yet */
	const struct tpacket3_hdr *next; /* the first of these */
	uint64_t bytes;                  /* on the wire, handed out; read by anyone (relaxed) */
	struct rte_mbuf segments[SEGMENTS_MAX];
};

struct afpacket_port {
	int ifindex;
	bool loopback;
	struct afpacket_queue *queues[PORT_QUEUES_MAX];
};

static int find_interface(struct port *port, struct err *err);
static int interface_missing(const char *name, struct err *err);
static int queue_open(struct port *port, unsigned index, struct err *err);
static void queue_close(struct afpacket_queue *queue);
static int queues_join(struct port *port, struct err *err);
static int ring_new(struct afpacket_queue *queue, unsigned n_blocks);
static void ring_free(struct afpacket_queue *queue);
static unsigned ring_left(const struct afpacket_queue *queue);
static struct tpacket_block_desc *ring_block(const struct afpacket_queue *queue);
static bool block_take(struct afpacket_queue *queue);
static void block_return(struct afpacket_queue *queue);
static unsigned packet_fill(struct burst *burst, unsigned i, const struct tpacket3_hdr *header,
	struct rte_mbuf *segments);
static uint8_t *packet_tag(uint8_t *data, const struct tpacket3_hdr *header);
static unsigned packet_chain(struct rte_mbuf *segments, uint8_t *data, uint32_t len);
static int attach(int fd, struct sock_filter *code, unsigned n);
static int refuse_all(int fd);
static int admit(int fd, bool loopback);
static int promiscuous(const struct port *port, int option);
static void read_losses(struct port *port);
static void read_interface(struct port *port);
static uint32_t read_speed(int fd, struct ifreq *ifr);

static int afpacket_open(struct port *port, struct err *err)
{
	struct afpacket_port *priv = calloc(1, sizeof(*priv));
	int rc;

	if (priv == NULL)
		return err_set(err, ENOMEM, NULL, "out of memory");
	port->priv = priv;
	if (port->config->rx_queues < 1 || port->config->rx_queues > PORT_QUEUES_MAX)
		return err_set(err, EINVAL, "rx_queues", "%u, but 1 to %u is allowed",
			port->config->rx_queues, PORT_QUEUES_MAX);
	rc = find_interface(port, err);
	if (rc == 0 && port_queues_new(port, port->config->rx_queues) != 0)
		rc = err_set(err, ENOMEM, NULL, "out of memory");
	for (unsigned i = 0; rc == 0 && i < port->n_queues; i++)
		rc = queue_open(port, i, err);
	if (rc == 0 && port->n_queues > 1)
		rc = queues_join(port, err);
	if (rc != 0)
		return rc;
	snprintf(port->driver, sizeof(port->driver), "af_packet");
	port->own_clock = true;
	/* The kernel closes a block at the second tick that finds it unchanged, ticks are rounded up to
	 * its own, and the lcore has to wake up. */
	port->latency_ms = 4 * RING_RETIRE_MS;
	port->loss = PORT_LOSS_EXACT;
	port->direction = PORT_DIRECTION_EXACT;
	read_interface(port);
	return 0;
}

static int afpacket_start(struct port *port, struct err *err)
{
	struct afpacket_port *priv = port->priv;
	int rc = 0;

	read_interface(port);
	if (port->gone)
		return err_set(err, ENODEV, "interface", "interface %s was removed",
			port->config->interface);
	for (unsigned i = 0; rc == 0 && i < port->n_queues; i++)
		if (priv->queues[i]->ring == NULL)
			rc = ring_new(priv->queues[i], priv->queues[i]->n_blocks);
	if (rc == 0)
		rc = promiscuous(port, PACKET_ADD_MEMBERSHIP);
	for (unsigned i = 0; rc == 0 && i < port->n_queues; i++) {
		port->queues[i].wait_fd = priv->queues[i]->fd;
		rc = admit(priv->queues[i]->fd, priv->loopback);
	}
	if (rc != 0) {
		port_afpacket_ops.stop(port);
		return err_set(err, -rc, "interface", "interface %s cannot be started: %s",
			port->config->interface, strerror(-rc));
	}
	return 0;
}

static void afpacket_stop(struct port *port)
{
	const unsigned settle_us = 2 * RING_RETIRE_MS * 1000;
	struct afpacket_port *priv = port->priv;

	for (unsigned i = 0; i < port->n_queues; i++)
		refuse_all(priv->queues[i]->fd);
	promiscuous(port, PACKET_DROP_MEMBERSHIP);
	/* Packets that passed the filter just before are still being put into the ring. */
	usleep(settle_us);
	read_losses(port);
	for (unsigned i = 0; i < port->n_queues; i++) {
		/* The kernel has counted them as received and nobody will poll them: they are
		 * missed. */
		COUNTER_ADD(port->nic_missed, ring_left(priv->queues[i]));
		ring_free(priv->queues[i]);
		port->queues[i].wait_fd = -1;
	}
}

static void afpacket_close(struct port *port)
{
	struct afpacket_port *priv = port->priv;

	if (priv == NULL)
		return;
	for (unsigned i = 0; i < PORT_QUEUES_MAX; i++)
		queue_close(priv->queues[i]);
	port_queues_free(port);
	free(priv);
	port->priv = NULL;
}

static unsigned afpacket_rx(struct port_queue *port_queue, struct burst *burst, unsigned max)
{
	struct afpacket_queue *queue = port_queue->priv;
	struct rte_mbuf *segments = queue->segments;
	const struct tpacket3_hdr *header;
	uint64_t bytes = 0;
	unsigned n;

	burst->n = 0;
	burst->outbound = 0;
	burst->cut = 0;
	if (queue->left == 0 && !block_take(queue))
		return 0;
	n = RTE_MIN(max, queue->left);
	header = queue->next;
	for (unsigned i = 0; i < n; i++) {
		segments += packet_fill(burst, i, header, segments);
		bytes += header->tp_len;
		header = RTE_PTR_ADD(header, header->tp_next_offset);
	}
	queue->next = header;
	queue->left -= n;
	COUNTER_ADD(queue->bytes, bytes);
	burst->n = n;
	return n;
}

static void afpacket_release(struct port_queue *port_queue, struct burst *burst)
{
	struct afpacket_queue *queue = port_queue->priv;

	if (queue->left == 0)
		block_return(queue);
	burst->n = 0;
}

static void afpacket_refresh(struct port *port)
{
	read_losses(port);
	read_interface(port);
}

const struct port_ops port_afpacket_ops = {
	.kind = "interface",
	.open = afpacket_open,
	.start = afpacket_start,
	.stop = afpacket_stop,
	.close = afpacket_close,
	.rx = afpacket_rx,
	.release = afpacket_release,
	.refresh = afpacket_refresh,
};

static int find_interface(struct port *port, struct err *err)
{
	const char *name = port->config->interface;
	struct afpacket_port *priv = port->priv;
	struct ifreq ifr = {0};
	int fd, rc = 0;

	if (strlen(name) >= sizeof(ifr.ifr_name))
		return interface_missing(name, err);
	strcpy(ifr.ifr_name, name);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, errno, "interface", "socket: %s", strerror(errno));
	if (ioctl(fd, SIOCGIFHWADDR, &ifr) != 0)
		rc = interface_missing(name, err);
	else if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER &&
		 ifr.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK)
		rc = err_set(err, EINVAL, "interface",
			"interface %s has no Ethernet frames (hardware type %u); "
			"Ethernet-like interfaces and lo are allowed",
			name, ifr.ifr_hwaddr.sa_family);
	priv->loopback = ifr.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK;
	port->has_mac = rc == 0 && !priv->loopback;
	if (port->has_mac)
		memcpy(port->mac, ifr.ifr_hwaddr.sa_data, sizeof(port->mac));
	if (rc == 0 && ioctl(fd, SIOCGIFINDEX, &ifr) != 0)
		rc = interface_missing(name, err);
	priv->ifindex = ifr.ifr_ifindex;
	close(fd);
	return rc;
}

static int interface_missing(const char *name, struct err *err)
{
	struct if_nameindex *all = if_nameindex();
	char list[200] = "";
	size_t len = 0;

	for (struct if_nameindex *i = all; i != NULL && i->if_index != 0; i++)
		if (len + strlen(i->if_name) + 3 < sizeof(list))
			len += sprintf(list + len, "%s%s", len > 0 ? ", " : "", i->if_name);
	if (all != NULL)
		if_freenameindex(all);
	return err_set(
		err, ENODEV, "interface", "there is no interface %s; there are %s", name, list);
}

static int queue_open(struct port *port, unsigned index, struct err *err)
{
	const int version = TPACKET_V3;
	const unsigned reserve_bytes = VLAN_TAG_BYTES;
	struct afpacket_port *priv = port->priv;
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = priv->ifindex,
	};
	struct afpacket_queue *queue = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*queue));
	unsigned n_blocks = RTE_MAX(RING_BLOCKS / port->n_queues, RING_BLOCKS_MIN);
	int rc = 0;

	if (queue == NULL)
		return err_set(err, ENOMEM, NULL, "out of memory");
	memset(queue, 0, sizeof(*queue));
	priv->queues[index] = queue;
	port->queues[index].priv = queue;
	/* Protocol 0: deaf until it is bound, which comes after the filter. */
	queue->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (queue->fd < 0)
		return err_set(err, errno, "interface", "interface %s cannot be watched: %s%s",
			port->config->interface, strerror(errno),
			errno == EPERM ? " (the daemon needs root or CAP_NET_RAW)" : "");
	if (setsockopt(queue->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0 ||
		setsockopt(queue->fd, SOL_PACKET, PACKET_RESERVE, &reserve_bytes,
			sizeof(reserve_bytes)) != 0)
		rc = -errno;
	if (rc == 0)
		rc = refuse_all(queue->fd);
	if (rc == 0)
		rc = ring_new(queue, n_blocks);
	if (rc == 0 && bind(queue->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		rc = -errno;
	if (rc != 0)
		return err_set(err, -rc, "interface", "interface %s cannot be watched: %s",
			port->config->interface, strerror(-rc));
	return 0;
}

static void queue_close(struct afpacket_queue *queue)
{
	if (queue == NULL)
		return;
	ring_free(queue);
	if (queue->fd >= 0)
		close(queue->fd);
	free(queue);
}

/* The kernel spreads flows over the sockets of a group, both directions of one flow to the same. */
static int queues_join(struct port *port, struct err *err)
{
	struct afpacket_port *priv = port->priv;
	int group = (PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID) << 16;

	for (unsigned i = 0; i < port->n_queues; i++) {
		socklen_t size = sizeof(group);
		int fd = priv->queues[i]->fd;

		if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof(group)) != 0 ||
			getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, &size) != 0)
			return err_set(err, errno, "rx_queues",
				"interface %s cannot be spread over %u queues: %s; 1 always works",
				port->config->interface, port->n_queues, strerror(errno));
		group = (group & 0xffff) | PACKET_FANOUT_HASH << 16;
	}
	return 0;
}

static int ring_new(struct afpacket_queue *queue, unsigned n_blocks)
{
	const struct tpacket_req3 request = {
		.tp_block_size = RING_BLOCK_BYTES,
		.tp_block_nr = n_blocks,
		.tp_frame_size = RING_FRAME_BYTES,
		.tp_frame_nr = n_blocks * (RING_BLOCK_BYTES / RING_FRAME_BYTES),
		.tp_retire_blk_tov = RING_RETIRE_MS,
	};
	const struct tpacket_req3 none = {0};
	void *ring;

	queue->n_blocks = n_blocks;
	queue->block = 0;
	queue->left = 0;
	if (setsockopt(queue->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) != 0)
		return -errno;
	ring = mmap(NULL, (size_t)n_blocks * RING_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		queue->fd, 0);
	if (ring == MAP_FAILED) {
		int rc = -errno;

		setsockopt(queue->fd, SOL_PACKET, PACKET_RX_RING, &none, sizeof(none));
		return rc;
	}
	queue->ring = ring;
	return 0;
}

static void ring_free(struct afpacket_queue *queue)
{
	const struct tpacket_req3 none = {0};

	if (queue->ring == NULL)
		return;
	munmap(queue->ring, (size_t)queue->n_blocks * RING_BLOCK_BYTES);
	queue->ring = NULL;
	setsockopt(queue->fd, SOL_PACKET, PACKET_RX_RING, &none, sizeof(none));
}

/* Packets that the kernel has put into the ring and that were never handed out. Blocks were given
 * back with num_pkts 0, so what stands in any block, the kernel's open one included, is such
 * packets. */
static unsigned ring_left(const struct afpacket_queue *queue)
{
	unsigned n = 0;

	for (unsigned i = 0; queue->ring != NULL && i < queue->n_blocks; i++) {
		const struct tpacket_block_desc *block =
			RTE_PTR_ADD(queue->ring, (size_t)i * RING_BLOCK_BYTES);

		if (i == queue->block && queue->left > 0)
			n += queue->left;
		else
			n += __atomic_load_n(&block->hdr.bh1.num_pkts, __ATOMIC_RELAXED);
	}
	return n;
}

static struct tpacket_block_desc *ring_block(const struct afpacket_queue *queue)
{
	return RTE_PTR_ADD(queue->ring, (size_t)queue->block * RING_BLOCK_BYTES);
}

/* Acquire: what the kernel wrote before it gave the block away is seen after it. */
static bool block_take(struct afpacket_queue *queue)
{
	for (unsigned i = 0; i < queue->n_blocks; i++) {
		struct tpacket_block_desc *block = ring_block(queue);

		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
			    TP_STATUS_USER))
			return false;
		queue->left = block->hdr.bh1.num_pkts;
		queue->next = RTE_PTR_ADD(block, block->hdr.bh1.offset_to_first_pkt);
		if (likely(queue->left > 0))
			return true;
		block_return(queue);
	}
	return false;
}

/* Release: the kernel writes into the block only after our last look at it. */
static void block_return(struct afpacket_queue *queue)
{
	struct tpacket_block_desc *block = ring_block(queue);

	block->hdr.bh1.num_pkts = 0;
	__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	queue->block = queue->block + 1 == queue->n_blocks ? 0 : queue->block + 1;
}

/* Describe one packet of the ring as packet i of burst. Returns the number of segments it took. */
static unsigned packet_fill(struct burst *burst, unsigned i, const struct tpacket3_hdr *header,
	struct rte_mbuf *segments)
{
	const struct sockaddr_ll *address = RTE_PTR_ADD(header, TPACKET_ALIGN(sizeof(*header)));
	uint8_t *data = RTE_PTR_ADD(header, header->tp_mac);
	uint32_t len = header->tp_snaplen, wire_len = header->tp_len;

	if (unlikely((header->tp_status & TP_STATUS_VLAN_VALID) != 0 && len >= MAC_PAIR_BYTES)) {
		data = packet_tag(data, header);
		len += VLAN_TAG_BYTES;
		wire_len += VLAN_TAG_BYTES;
	}
	burst->pkts[i] = segments;
	burst->stamp_ns[i] = header->tp_sec * CLOCK_NS_PER_S + header->tp_nsec +
			     fault_offset_ns(FAULT_kernel_stamp);
	burst->outbound |= (uint64_t)(address->sll_pkttype == PACKET_OUTGOING) << i;
	if (unlikely(len < wire_len)) {
		burst->cut |= 1ULL << i;
		burst->wire_len[i] = wire_len;
	}
	return packet_chain(segments, data, len);
}

/* The kernel keeps the outermost tag beside the frame: put it back where it was on the wire. The
 * four bytes in front of the frame were reserved for this. */
static uint8_t *packet_tag(uint8_t *data, const struct tpacket3_hdr *header)
{
	const uint16_t tag[2] = {
		htons(header->tp_status & TP_STATUS_VLAN_TPID_VALID ? header->hv1.tp_vlan_tpid
								    : ETH_P_8021Q),
		htons(header->hv1.tp_vlan_tci),
	};

	memmove(data - VLAN_TAG_BYTES, data, MAC_PAIR_BYTES);
	memcpy(data - VLAN_TAG_BYTES + MAC_PAIR_BYTES, tag, sizeof(tag));
	return data - VLAN_TAG_BYTES;
}

/* A segment's length has 16 bits. A block has room for so few longer frames that the segments of a
 * burst cannot run out (SEGMENTS_MAX). */
static unsigned packet_chain(struct rte_mbuf *segments, uint8_t *data, uint32_t len)
{
	struct rte_mbuf *last = segments;
	uint32_t rest = len;

	for (;; last++) {
		uint16_t part = RTE_MIN(rest, (uint32_t)SEGMENT_BYTES_MAX);

		last->buf_addr = data;
		last->buf_len = part;
		last->data_len = part;
		last->data_off = 0;
		last->refcnt = 1;
		last->nb_segs = 1;
		last->port = RTE_MBUF_PORT_INVALID;
		last->pkt_len = part;
		last->next = NULL;
		data += part;
		rest -= part;
		if (likely(rest == 0))
			break;
		last->next = last + 1;
	}
	segments->nb_segs = last - segments + 1;
	segments->pkt_len = len;
	return segments->nb_segs;
}

static int attach(int fd, struct sock_filter *code, unsigned n)
{
	const struct sock_fprog program = {.len = n, .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0
		       ? 0
		       : -errno;
}

/* What a filter refuses is neither counted nor stored by the kernel. */
static int refuse_all(int fd)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};

	return attach(fd, code, RTE_DIM(code));
}

/* Loopback shows each packet twice, as it goes out and as it comes in; tcpdump shows the second. */
static int admit(int fd, bool loopback)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const int unused = 0;

	if (loopback)
		return attach(fd, code, RTE_DIM(code));
	return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) == 0 ? 0
											  : -errno;
}

static int promiscuous(const struct port *port, int option)
{
	const struct afpacket_port *priv = port->priv;
	const struct packet_mreq request = {
		.mr_ifindex = priv->ifindex,
		.mr_type = PACKET_MR_PROMISC,
	};

	return setsockopt(priv->queues[0]->fd, SOL_PACKET, option, &request, sizeof(request)) == 0
		       ? 0
		       : -errno;
}

/* The kernel's counters start over with each reading; tp_packets includes tp_drops. */
static void read_losses(struct port *port)
{
	const struct afpacket_port *priv = port->priv;

	uint64_t bytes = 0;

	for (unsigned i = 0; i < port->n_queues; i++) {
		struct tpacket_stats_v3 stats = {0};
		socklen_t size = sizeof(stats);

		if (getsockopt(priv->queues[i]->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) !=
			0)
			continue;
		bytes += COUNTER_READ(priv->queues[i]->bytes);
		COUNTER_ADD(port->nic_missed, stats.tp_drops);
		COUNTER_ADD(port->offered, stats.tp_packets);
	}
	__atomic_store_n(&port->rx_bytes, bytes, __ATOMIC_RELAXED);
}

/* By index and over our own socket: the interface may have been renamed, and the socket stays in
 * the network namespace that it was made in. */
static void read_interface(struct port *port)
{
	const struct afpacket_port *priv = port->priv;
	int fd = priv->queues[0]->fd, pending;
	socklen_t size = sizeof(pending);
	struct ifreq ifr = {.ifr_ifindex = priv->ifindex};
	bool there, up = false;

	there = ioctl(fd, SIOCGIFNAME, &ifr) == 0;
	if (there && ioctl(fd, SIOCGIFMTU, &ifr) == 0)
		__atomic_store_n(&port->mtu, ifr.ifr_mtu, __ATOMIC_RELAXED);
	if (there)
		__atomic_store_n(&port->speed_mbps, read_speed(fd, &ifr), __ATOMIC_RELAXED);
	if (there && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0)
		up = (ifr.ifr_flags & IFF_UP) != 0 && (ifr.ifr_flags & IFF_RUNNING) != 0;
	__atomic_store_n(&port->link_up, up, __ATOMIC_RELAXED);
	if (!there)
		__atomic_store_n(&port->gone, true, __ATOMIC_RELAXED);
	/* An interface that goes down leaves an error at each socket, and poll(2) returns at once
	 * until somebody has read it. */
	for (unsigned i = 0; i < port->n_queues; i++)
		if (getsockopt(priv->queues[i]->fd, SOL_SOCKET, SO_ERROR, &pending, &size) != 0)
			continue;
}

/* 0 = not known. The kernel answers the first question with the number of words it wants to return.
 */
static uint32_t read_speed(int fd, struct ifreq *ifr)
{
	union {
		struct ethtool_link_settings settings;
		uint32_t room[sizeof(struct ethtool_link_settings) / 4 + 3 * LINK_MODE_WORDS];
	} request = {.settings.cmd = ETHTOOL_GLINKSETTINGS};
	struct ethtool_link_settings *settings = &request.settings;

	ifr->ifr_data = (void *)&request;
	if (ioctl(fd, SIOCETHTOOL, ifr) != 0 || settings->link_mode_masks_nwords >= 0)
		return 0;
	settings->link_mode_masks_nwords = -settings->link_mode_masks_nwords;
	settings->cmd = ETHTOOL_GLINKSETTINGS;
	if (ioctl(fd, SIOCETHTOOL, ifr) != 0)
		return 0;
	return settings->speed == (uint32_t)SPEED_UNKNOWN ? 0 : settings->speed;
}
