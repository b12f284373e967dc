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

	/* a row for each slot, written by its lcore only: struct port_queue, slot_matched */
	uint64_t slot_matched[RX_SLOTS_MAX][CONFIG_PORTS_MAX] __attribute__((aligned(64)));

	/* control's own: the next set */
	struct tap *taps;
	unsigned n_taps;
	unsigned n_lanes;
	bool polled[CONFIG_PORTS_MAX];
	uint64_t generation; /* of the last set built; the first is 1 */

	/* pushed by the call_rcu thread, taken by control */
	struct retired *graced;
} state;

/* The live taps of a port, those with the same filter beside each other. */
struct run {
	struct filter *filter;
	unsigned n;
	struct tap **taps;
};

/* What a set is to do with a port's packets, whoever polls it. */
struct plan {
	unsigned n_taps;
	struct tap **taps;
	unsigned n_runs;
	struct run *runs;
	bool *taken; /* by run: looked up by classify */
	const struct classify *classify;
};

static struct rx_set *set_build(void);
static void set_free(struct rx_set *set);
static int view_lanes_collect(struct rx_view *view, unsigned rx);
static int view_polls_collect(struct rx_view *view, unsigned rx, const struct plan *plans);
static int poll_groups_make(struct rx_poll *poll, const struct plan *plan);
static void poll_group_add(struct rx_poll *poll, const struct run *run, struct rx_member *members);
static int plan_make(struct plan *plan, const struct port *port, struct classify **classify);
static void plan_free(struct plan *plan);
static unsigned taps_collect(const struct port *port, struct tap **taps);
static int tap_compare(const void *a, const void *b);
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
			queue->slot_matched = &state.slot_matched[queue->lane_slot][p];
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
	struct plan plans[CONFIG_PORTS_MAX] = {0};
	int rc = set != NULL ? 0 : -ENOMEM;

	for (struct tap *tap = state.taps; tap != NULL; tap = tap->next)
		tap->classified = tap->classified && tap->phase != TAP_LIVE;
	for (unsigned p = 0; rc == 0 && p < engine_ports(); p++)
		rc = plan_make(&plans[p], engine_port(p), &set->classify[p]);
	for (unsigned rx = 0; rc == 0 && rx < state.n_rx; rx++) {
		set->n_views++;
		set->views[rx].generation = state.generation + 1;
		rc = view_lanes_collect(&set->views[rx], rx);
		if (rc == 0)
			rc = view_polls_collect(&set->views[rx], rx, plans);
	}
	for (unsigned p = 0; p < engine_ports(); p++)
		plan_free(&plans[p]);
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

			free(poll->groups);
			free(poll->members);
			free(poll->masks);
			free(poll->found);
		}
		free(view->polls);
		free(view->lanes);
		free(view->ending);
	}
	for (unsigned p = 0; p < CONFIG_PORTS_MAX; p++)
		classify_free(set->classify[p]);
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

static int view_polls_collect(struct rx_view *view, unsigned rx, const struct plan *plans)
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
			if (poll_groups_make(poll, &plans[p]) != 0)
				return -ENOMEM;
		}
	}
	return 0;
}

/* A group for each run; those that are looked up together first, in their order. */
static int poll_groups_make(struct rx_poll *poll, const struct plan *plan)
{
	const unsigned n_classified = classify_filters(plan->classify);
	struct rx_member *members;
	unsigned n_columns = 0;

	poll->classify = plan->classify;
	poll->groups = calloc(plan->n_runs + 1, sizeof(*poll->groups));
	poll->members = calloc(plan->n_taps + 1, sizeof(*poll->members));
	poll->masks = calloc(n_classified + 1, sizeof(*poll->masks));
	poll->found = calloc(n_classified + 1, sizeof(*poll->found));
	if (poll->groups == NULL || poll->members == NULL || poll->masks == NULL ||
		poll->found == NULL)
		return -ENOMEM;
	members = poll->members;
	for (unsigned taken = 2; taken-- > 0;) {
		for (unsigned i = 0; i < plan->n_runs; i++) {
			if (plan->taken[i] != taken)
				continue;
			poll_group_add(poll, &plan->runs[i], members);
			members += plan->runs[i].n;
		}
	}
	poll->n_classified = n_classified;
	for (unsigned g = n_classified; g < poll->n_groups; g++)
		n_columns += filter_by_columns(poll->groups[g].filter);
	poll->by_columns = n_columns >= COLUMNS_MIN;
	return 0;
}

static void poll_group_add(struct rx_poll *poll, const struct run *run, struct rx_member *members)
{
	struct rx_group *group = &poll->groups[poll->n_groups++];

	group->filter = run->filter;
	group->members = members;
	group->n_members = run->n;
	for (unsigned i = 0; i < run->n; i++) {
		const struct tap *tap = run->taps[i];

		members[i].lane = tap->lane_of[poll->queue->lane_slot];
		members[i].offer = lane_offer_choose(members[i].lane);
		members[i].interface = tap->interface_of[poll->queue->port->index];
	}
}

/* *classify is the set's. */
static int plan_make(struct plan *plan, const struct port *port, struct classify **classify)
{
	struct filter **filters = calloc(state.n_taps + 1, sizeof(*filters));

	plan->taps = calloc(state.n_taps + 1, sizeof(*plan->taps));
	plan->runs = calloc(state.n_taps + 1, sizeof(*plan->runs));
	plan->taken = calloc(state.n_taps + 1, sizeof(*plan->taken));
	if (filters == NULL || plan->taps == NULL || plan->runs == NULL || plan->taken == NULL) {
		free(filters);
		return -ENOMEM;
	}
	plan->n_taps = taps_collect(port, plan->taps);
	for (unsigned i = 0; i < plan->n_taps; i++) {
		struct filter *filter = plan->taps[i]->spec.filter;

		if (i == 0 || filter != filters[plan->n_runs - 1]) {
			filters[plan->n_runs] = filter;
			plan->runs[plan->n_runs++] =
				(struct run){.filter = filter, .taps = &plan->taps[i]};
		}
		plan->runs[plan->n_runs - 1].n++;
	}
	*classify = classify_new(filters, plan->n_runs, plan->taken);
	plan->classify = *classify;
	for (unsigned r = 0; r < plan->n_runs; r++)
		for (unsigned i = 0; plan->taken[r] && i < plan->runs[r].n; i++)
			plan->runs[r].taps[i]->classified = true;
	free(filters);
	return 0;
}

static void plan_free(struct plan *plan)
{
	free(plan->taps);
	free(plan->runs);
	free(plan->taken);
}

static unsigned taps_collect(const struct port *port, struct tap **taps)
{
	unsigned n = 0;

	for (struct tap *tap = state.taps; tap != NULL; tap = tap->next)
		if (tap->phase == TAP_LIVE && tap->interface_of[port->index] >= 0)
			taps[n++] = tap;
	qsort(taps, n, sizeof(*taps), tap_compare);
	return n;
}

static int tap_compare(const void *a, const void *b)
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
