/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The rx_set: what every RX lcore is to do, immutable, published through the program's one RCU
 * pointer. Control keeps the list of live taps and polled ports, builds a new set for every change
 * (all changes of one turn of its loop share one), swaps it in, and frees the old one after a grace
 * period.
 *
 * Ending a tap takes two sets: in the first its lanes stand under "ending", and each lcore hands
 * over the lane's last block with END when it first sees the set; in the second they are gone.
 */
#ifndef ENGINE_RX_SET_H
#define ENGINE_RX_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "engine/classify.h"
#include "engine/filter.h"
#include "engine/port.h"
#include "engine/lane.h"

#define RX_SLOTS_MAX (CONFIG_PORTS_MAX * PORT_QUEUES_MAX)

/* A lane that takes a queue's packets, and the interface id they have in its file. */
struct rx_member {
	lane_offer_fn *offer; /* chosen for the lane when the set was built */
	struct lane *lane;
	unsigned interface;
};

/* Taps with the same filter: it is evaluated once for all of them. */
struct rx_group {
	struct filter *filter;
	unsigned n_members;
	struct rx_member *members;
};

struct rx_poll {
	struct port_queue *queue;
	unsigned n_groups;
	struct rx_group *groups;
	struct rx_member *members; /* of all groups */
	bool by_columns; /* so many of the groups that are not: they share what they read, filter_run */
	unsigned
		n_classified; /* the first so many groups are looked up together, by their number */
	const struct classify *classify;

	/* the lcore's own */
	uint64_t *masks; /* n_classified; 0 between bursts */
	uint16_t *found; /* n_classified */
	bool begun;      /* all lanes have begun or are closed: they need not be offered nothing */
};

/* One lcore's part. */
struct rx_view {
	uint64_t generation; /* of the set: an address may come back, this never does */
	unsigned n_polls;
	struct rx_poll *polls;
	unsigned n_lanes; /* live lanes of this lcore, for the flush */
	struct lane **lanes;
	unsigned n_ending;
	struct lane **ending;
};

struct rx_set {
	unsigned n_views;
	struct rx_view views[CONFIG_CPUS_MAX];
	struct classify *classify[CONFIG_PORTS_MAX]; /* by port; NULL where each filter is asked */
};

/* Main thread, at start: give every queue its lcore and its lane slot. */
void rx_set_assign(unsigned n_rx);
unsigned rx_set_slot_lcore(unsigned slot);

/* Control thread: change what the next set holds. */
void rx_set_poll(struct port *port, bool on);
void rx_set_tap_add(struct tap *tap);
void rx_set_tap_end(struct tap *tap);
void rx_set_tap_remove(struct tap *tap);
/* Lanes of live and ending taps. */
unsigned rx_set_lanes(void);

/*
 * Control thread: build and publish. done(arg) is called from rx_set_reclaim once no lcore can see
 * the set before it. 0 or -ENOMEM (nothing changed, call again).
 */
int rx_set_publish(void (*done)(void *arg), void *arg);
/* Control thread, when the event fd fired: free old sets, call their done. */
void rx_set_reclaim(void);
/* Main thread, lcores stopped: wait for pending grace periods and free everything. */
void rx_set_fini(void);

/* lcore, between quiescent states. NULL before the first publication. */
const struct rx_view *rx_set_view(unsigned rx);

#endif
