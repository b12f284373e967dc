/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/rx_set.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/engine.h"
#include "engine/event.h"
#include "engine/lane.h"
#include "engine/rcu.h"
#include "engine/rx.h"

/* From so many filters on it pays to read values once for all of them. */
#define COLUMNS_MIN 2

/* A set that was replaced, on its way through the grace period. */
struct retired {
	struct rcu_head rcu;
	struct rx_set *set;
	void (*done)(void *arg);
	void *arg;
	struct retired *next;
};

static struct {
	/* the RCU pointer */
	struct rx_set *published;

	/* constant after assign */
	unsigned n_rx;
	uint16_t slot_lcore[RX_SLOTS_MAX];

	/* control's own: the next set */
	struct tap *taps;
	unsigned n_taps;
	unsigned n_lanes;
	bool polled[CONFIG_PORTS_MAX];
	uint64_t generation; /* of the last set built; the first is 1 */

	/* pushed by the call_rcu thread, taken by control */
	struct retired *graced;
} state;

static struct rx_set *set_build(void);
static void set_free(struct rx_set *set);
static int view_lanes_collect(struct rx_view *view, unsigned rx);
static int view_polls_collect(
	struct rx_view *view, unsigned rx, struct tap **const *entries, const unsigned *n_entries);
static int poll_groups_make(struct rx_poll *poll, struct tap *const *entries, unsigned n);
static unsigned entries_collect(const struct port *port, struct tap **entries);
static int entry_compare(const void *a, const void *b);
static void retired_grace(struct rcu_head *head);

void rx_set_assign(unsigned n_rx)
{
	int shared[CONFIG_CPUS_MAX];
	unsigned n_slots = 0, n_queues = 0;

	state.n_rx = n_rx;
	for (unsigned i = 0; i < n_rx; i++)
		shared[i] = -1;
	for (unsigned p = 0; p < engine_ports(); p++) {
		struct port *port = engine_port(p);

		for (unsigned q = 0; q < port->n_queues; q++) {
			struct port_queue *queue = &port->queues[q];
			unsigned rx = n_queues++ % n_rx;
			bool own = port->own_clock || shared[rx] < 0;

			queue->rx = rx;
			queue->lane_slot = own ? n_slots++ : (unsigned)shared[rx];
			state.slot_lcore[queue->lane_slot] = rx;
			if (own && !port->own_clock)
				shared[rx] = queue->lane_slot;
		}
	}
}

unsigned rx_set_slot_lcore(unsigned slot)
{
	return state.slot_lcore[slot];
}

void rx_set_poll(struct port *port, bool on)
{
	state.polled[port->index] = on;
}

void rx_set_tap_add(struct tap *tap)
{
	tap->phase = TAP_LIVE;
	tap->next = state.taps;
	state.taps = tap;
	state.n_taps++;
	state.n_lanes += tap->n_lanes;
}

void rx_set_tap_end(struct tap *tap)
{
	tap->phase = TAP_ENDING;
}

void rx_set_tap_remove(struct tap *tap)
{
	struct tap **at = &state.taps;

	while (*at != tap)
		at = &(*at)->next;
	*at = tap->next;
	tap->phase = TAP_GONE;
	state.n_taps--;
	state.n_lanes -= tap->n_lanes;
}

unsigned rx_set_lanes(void)
{
	return state.n_lanes;
}

int rx_set_publish(void (*done)(void *arg), void *arg)
{
	struct retired *retired = calloc(1, sizeof(*retired));
	struct rx_set *set = set_build();

	if (retired == NULL || set == NULL) {
		free(retired);
		set_free(set);
		return -ENOMEM;
	}
	retired->done = done;
	retired->arg = arg;
	state.generation++;
	retired->set = rcu_xchg_pointer(&state.published, set);
	rcu_thread_online();
	call_rcu(&retired->rcu, retired_grace);
	rcu_thread_offline();
	rx_wake();
	return 0;
}

void rx_set_reclaim(void)
{
	struct retired *list = __atomic_exchange_n(&state.graced, NULL, __ATOMIC_ACQUIRE);
	struct retired *in_order = NULL;

	while (list != NULL) {
		struct retired *next = list->next;

		list->next = in_order;
		in_order = list;
		list = next;
	}
	while (in_order != NULL) {
		struct retired *retired = in_order;

		in_order = retired->next;
		set_free(retired->set);
		if (retired->done != NULL)
			retired->done(retired->arg);
		free(retired);
	}
}

void rx_set_fini(void)
{
	rcu_thread_online();
	rcu_barrier();
	rcu_thread_offline();
	rx_set_reclaim();
	set_free(state.published);
	state.published = NULL;
}

const struct rx_view *rx_set_view(unsigned rx)
{
	const struct rx_set *set = rcu_dereference(state.published);

	return set != NULL ? &set->views[rx] : NULL;
}

static struct rx_set *set_build(void)
{
	struct rx_set *set = calloc(1, sizeof(*set));
	struct tap **entries[CONFIG_PORTS_MAX] = {NULL};
	unsigned n_entries[CONFIG_PORTS_MAX] = {0};
	int rc = set != NULL ? 0 : -ENOMEM;

	for (unsigned p = 0; rc == 0 && p < engine_ports(); p++) {
		entries[p] = calloc(state.n_taps + 1, sizeof(**entries));
		if (entries[p] == NULL)
			rc = -ENOMEM;
		else
			n_entries[p] = entries_collect(engine_port(p), entries[p]);
	}
	for (unsigned rx = 0; rc == 0 && rx < state.n_rx; rx++) {
		set->n_views++;
		set->views[rx].generation = state.generation + 1;
		rc = view_lanes_collect(&set->views[rx], rx);
		if (rc == 0)
			rc = view_polls_collect(&set->views[rx], rx, entries, n_entries);
	}
	for (unsigned p = 0; p < engine_ports(); p++)
		free(entries[p]);
	if (rc == 0)
		return set;
	set_free(set);
	return NULL;
}

static void set_free(struct rx_set *set)
{
	if (set == NULL)
		return;
	for (unsigned rx = 0; rx < set->n_views; rx++) {
		struct rx_view *view = &set->views[rx];

		for (unsigned i = 0; view->polls != NULL && i < view->n_polls; i++) {
			struct rx_poll *poll = &view->polls[i];

			for (unsigned g = 0; poll->groups != NULL && g < poll->n_groups; g++)
				free(poll->groups[g].members);
			free(poll->groups);
		}
		free(view->polls);
		free(view->lanes);
		free(view->ending);
	}
	free(set);
}

static int view_lanes_collect(struct rx_view *view, unsigned rx)
{
	view->lanes = calloc(state.n_lanes + 1, sizeof(struct lane *));
	view->ending = calloc(state.n_lanes + 1, sizeof(struct lane *));
	if (view->lanes == NULL || view->ending == NULL)
		return -ENOMEM;
	for (struct tap *tap = state.taps; tap != NULL; tap = tap->next) {
		for (unsigned i = 0; i < tap->n_lanes; i++) {
			struct lane *lane = &tap->lanes[i];

			if (state.slot_lcore[lane->slot] != rx)
				continue;
			if (tap->phase == TAP_LIVE)
				view->lanes[view->n_lanes++] = lane;
			else
				view->ending[view->n_ending++] = lane;
		}
	}
	return 0;
}

static int view_polls_collect(
	struct rx_view *view, unsigned rx, struct tap **const *entries, const unsigned *n_entries)
{
	view->polls = calloc(RX_SLOTS_MAX, sizeof(*view->polls));
	if (view->polls == NULL)
		return -ENOMEM;
	for (unsigned p = 0; p < engine_ports(); p++) {
		struct port *port = engine_port(p);

		for (unsigned q = 0; state.polled[p] && q < port->n_queues; q++) {
			struct rx_poll *poll = &view->polls[view->n_polls];

			if (port->queues[q].rx != rx)
				continue;
			poll->queue = &port->queues[q];
			view->n_polls++;
			if (poll_groups_make(poll, entries[p], n_entries[p]) != 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* entries are sorted by filter: each run of the same one is a group. */
static int poll_groups_make(struct rx_poll *poll, struct tap *const *entries, unsigned n)
{
	const unsigned port = poll->queue->port->index;
	const unsigned slot = poll->queue->lane_slot;
	unsigned n_columns = 0;

	poll->groups = calloc(n + 1, sizeof(*poll->groups));
	if (poll->groups == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < n;) {
		struct rx_group *group = &poll->groups[poll->n_groups++];
		unsigned end = i;

		group->filter = entries[i]->spec.filter;
		n_columns += filter_by_columns(group->filter);
		while (end < n && entries[end]->spec.filter == group->filter)
			end++;
		group->members = calloc(end - i, sizeof(*group->members));
		if (group->members == NULL)
			return -ENOMEM;
		for (; i < end; i++) {
			struct rx_member *member = &group->members[group->n_members++];

			member->lane = entries[i]->lane_of[slot];
			member->offer = lane_offer_choose(member->lane);
			member->interface = entries[i]->interface_of[port];
		}
	}
	poll->by_columns = n_columns >= COLUMNS_MIN;
	return 0;
}

static unsigned entries_collect(const struct port *port, struct tap **entries)
{
	unsigned n = 0;

	for (struct tap *tap = state.taps; tap != NULL; tap = tap->next)
		if (tap->phase == TAP_LIVE && tap->interface_of[port->index] >= 0)
			entries[n++] = tap;
	qsort(entries, n, sizeof(*entries), entry_compare);
	return n;
}

static int entry_compare(const void *a, const void *b)
{
	uintptr_t fa = (uintptr_t)(*(struct tap *const *)a)->spec.filter;
	uintptr_t fb = (uintptr_t)(*(struct tap *const *)b)->spec.filter;

	return (fa > fb) - (fa < fb);
}

/* The call_rcu thread: no lcore sees the set any more; control does the rest. */
static void retired_grace(struct rcu_head *head)
{
	struct retired *retired = caa_container_of(head, struct retired, rcu);

	retired->next = __atomic_load_n(&state.graced, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(
		&state.graced, &retired->next, retired, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	event_raise();
}
