/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The hot loop. On device ports it makes no system call while taps are active; on kernel interfaces
 * it sleeps in poll(2) between bursts.
 */
#include "engine/rx.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_pause.h>

#include "engine/clock.h"
#include "engine/counter.h"
#include "engine/engine.h"
#include "engine/fault.h"
#include "engine/lane.h"
#include "engine/rcu.h"
#include "engine/rx_set.h"

#define FLUSH_MS_MAX 250
#define FLUSH_MS_MIN 5
#define FLUSH_SHARE  4 /* of the time in which what is accepted is to be durable */

/* Sleep no longer while lanes may hold unflushed bytes. */
#define LANES_WAIT_MS_MAX 100
#define LANES_WAIT_SHARE  10
#define NAP_AFTER_ROUNDS  1000 /* empty ones, before an idle device port is napped on */
#define NAP_NS            100000
#define NAP_PPS_MAX       (PORT_BURST_MAX * (CLOCK_NS_PER_S / NAP_NS)) /* a nap is one burst at most */
#define RX_NICE           (-20)
#define PREFETCH_LANE     8 /* lanes ahead */
#define PREFETCH_BLOCK    4

/* A round that took long. An entry may be read while it is replaced: it then shows one gap's begin with
 * another's length, which nobody acts on. */
struct rx_gap {
	uint64_t began_tsc;
	uint64_t tsc;
};

struct rx {
	/* constant while running */
	unsigned index;
	unsigned lcore;
	unsigned cpu;
	int kick; /* eventfd */
	uint64_t flush_every_tsc;
	unsigned lanes_wait_ms;
	uint64_t gap_min_tsc;

	/* the lcore's own */
	const struct rx_view *view __attribute__((aligned(64)));
	uint64_t generation; /* of view: it, not the address, tells a new set */
	uint64_t flush_next_tsc;
	unsigned n_empty_rounds;
	bool spins; /* a device port is polled: there is nothing to sleep on */
	bool paced; /* all of these by a schedule so slow that a nap is not noticed */
	unsigned n_fds;
	struct pollfd fds[1 + RX_SLOTS_MAX];
	struct burst burst;
	struct filter_work *work;

	/* written by the lcore, read by anyone */
	uint64_t cycles_useful __attribute__((aligned(64)));
	uint64_t cycles_idle;
	uint64_t rounds;
	uint64_t polls;
	uint64_t polls_full;
	unsigned n_lanes;
	int tid;
	uint64_t gaps;
	uint64_t gap_longest_tsc;
	struct rx_gap gap_ring[ENGINE_GAPS_MAX];
};

static struct rx rxs[CONFIG_CPUS_MAX];
static unsigned n_rxs;
static atomic_bool stopping;

static unsigned clamp(uint64_t ms, unsigned max_ms);
static uint64_t gap_ns(uint64_t cycles);
static int rx_main(void *arg);
static void view_enter(struct rx *rx, const struct rx_view *view);
static unsigned view_poll(struct rx *rx);
static unsigned queue_poll(struct rx *rx, struct rx_poll *poll);
static double pace_pps(const struct port_queue *queue);
static unsigned queue_pace(struct port_queue *queue, uint64_t now_tsc);
static void groups_offer(struct rx *rx, struct rx_poll *poll, uint64_t now_tsc);
static void found_offer(struct rx_poll *poll, const struct burst *burst, uint64_t now_tsc);
static void group_offer(
	const struct rx_group *group, const struct burst *burst, uint64_t mask, uint64_t now_tsc);
static bool members_begun(const struct rx_poll *poll);
static void lanes_flush(struct rx *rx, uint64_t now_tsc);
static void round_count(struct rx *rx, unsigned n, uint64_t began_tsc);
static void gap_note(struct rx *rx, uint64_t began_tsc, uint64_t cycles);
static void idle_wait(struct rx *rx);

int rx_start(const struct config_cpus *cpus, uint64_t durable_every_ms, struct err *err)
{
	int rc;

	atomic_store(&stopping, false);
	for (unsigned i = 0; i < cpus->n; i++) {
		struct rx *rx = &rxs[i];

		memset(rx, 0, sizeof(*rx));
		rx->index = i;
		rx->lcore = i + 1;
		rx->cpu = cpus->cpu[i];
		rx->flush_every_tsc =
			clock_tsc_hz() / 1000 * clamp(durable_every_ms / FLUSH_SHARE, FLUSH_MS_MAX);
		rx->lanes_wait_ms = clamp(durable_every_ms / LANES_WAIT_SHARE, LANES_WAIT_MS_MAX);
		rx->gap_min_tsc = clock_tsc_hz() * ENGINE_GAP_MIN_US / 1000000;
		rx->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rc = rx->kick >= 0 ? 0 : -errno;
		rx->work = filter_work_new();
		if (rc == 0)
			rc = rx->work != NULL ? rte_eal_remote_launch(rx_main, rx, rx->lcore)
					      : -ENOMEM;
		if (rc != 0) {
			rx_stop();
			return err_set(err, -rc, "engine.rx_cpus", "cannot start RX lcore %u: %s",
				rx->lcore, strerror(-rc));
		}
		n_rxs++;
	}
	return 0;
}

void rx_stop(void)
{
	atomic_store(&stopping, true);
	rx_wake();
	for (unsigned i = 0; i < n_rxs; i++) {
		rte_eal_wait_lcore(rxs[i].lcore);
		close(rxs[i].kick);
		filter_work_free(rxs[i].work);
	}
	n_rxs = 0;
}

unsigned rx_count(void)
{
	return n_rxs;
}

void rx_wake(void)
{
	for (unsigned i = 0; i < n_rxs; i++)
		eventfd_write(rxs[i].kick, 1);
}

void rx_status(unsigned index, struct engine_lcore *status)
{
	const struct rx *rx = &rxs[index];

	status->lcore = rx->lcore;
	status->cpu = rx->cpu;
	status->role = "rx";
	status->cycles_useful = COUNTER_READ(rx->cycles_useful);
	status->cycles_idle = COUNTER_READ(rx->cycles_idle);
	status->rounds = COUNTER_READ(rx->rounds);
	status->gaps = COUNTER_READ(rx->gaps);
	status->gap_longest_ns = gap_ns(COUNTER_READ(rx->gap_longest_tsc));
	for (unsigned i = 0; i < ENGINE_GAPS_MAX && i < status->gaps; i++) {
		const struct rx_gap *gap = &rx->gap_ring[(status->gaps - 1 - i) % ENGINE_GAPS_MAX];

		status->gap_last[i].at_ns = clock_tsc_to_ns(COUNTER_READ(gap->began_tsc));
		status->gap_last[i].ns = gap_ns(COUNTER_READ(gap->tsc));
	}
	status->lanes = __atomic_load_n(&rx->n_lanes, __ATOMIC_RELAXED);
	status->spins = __atomic_load_n(&rx->spins, __ATOMIC_RELAXED);
	status->polls = COUNTER_READ(rx->polls);
	status->polls_full = COUNTER_READ(rx->polls_full);
	status->tid = __atomic_load_n(&rx->tid, __ATOMIC_RELAXED);
}

static unsigned clamp(uint64_t ms, unsigned max_ms)
{
	return ms < FLUSH_MS_MIN ? FLUSH_MS_MIN : ms > max_ms ? max_ms : (unsigned)ms;
}

static uint64_t gap_ns(uint64_t cycles)
{
	return (uint64_t)((double)cycles * 1e9 / (double)clock_tsc_hz());
}

static int rx_main(void *arg)
{
	struct rx *rx = arg;
	uint64_t began_tsc = rte_rdtsc();

	setpriority(PRIO_PROCESS, 0, RX_NICE);
	__atomic_store_n(&rx->tid, gettid(), __ATOMIC_RELAXED);
	rcu_register_thread();
	view_enter(rx, NULL);
	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		const struct rx_view *view = rx_set_view(rx->index);
		unsigned n;

		fault_point(FAULT_rx_pause);
		if (view != NULL && view->generation != rx->generation)
			view_enter(rx, view);
		n = view_poll(rx);
		lanes_flush(rx, began_tsc);
		round_count(rx, n, began_tsc);
		rcu_quiescent_state();
		if (n == 0)
			idle_wait(rx);
		began_tsc = rte_rdtsc();
	}
	rcu_unregister_thread();
	return 0;
}

/* First sight of a new set: end what is ending, learn what there is to sleep on. */
static void view_enter(struct rx *rx, const struct rx_view *view)
{
	rx->view = view;
	rx->spins = false;
	rx->paced = true;
	rx->n_fds = 1;
	rx->fds[0] = (struct pollfd){.fd = rx->kick, .events = POLLIN};
	if (view == NULL)
		return;
	rx->generation = view->generation;
	for (unsigned i = 0; i < view->n_lanes; i++)
		lane_join(view->lanes[i]);
	for (unsigned i = 0; i < view->n_ending; i++)
		lane_end(view->ending[i]);
	for (unsigned i = 0; i < view->n_polls; i++) {
		const struct port_queue *queue = view->polls[i].queue;
		const double pps = pace_pps(queue);

		if (queue->wait_fd >= 0) {
			rx->fds[rx->n_fds++] =
				(struct pollfd){.fd = queue->wait_fd, .events = POLLIN};
			continue;
		}
		rx->spins = true;
		rx->paced = rx->paced && pps > 0 && pps <= NAP_PPS_MAX;
	}
	block_home(rx->index)->n_lanes = view->n_lanes;
	__atomic_store_n(&rx->n_lanes, view->n_lanes, __ATOMIC_RELAXED);
}

static unsigned view_poll(struct rx *rx)
{
	unsigned n = 0;

	for (unsigned i = 0; rx->view != NULL && i < rx->view->n_polls; i++)
		n += queue_poll(rx, &rx->view->polls[i]);
	return n;
}

static unsigned queue_poll(struct rx *rx, struct rx_poll *poll)
{
	struct port_queue *queue = poll->queue;
	const struct port_ops *ops = queue->port->ops;
	const uint64_t now_tsc = rte_rdtsc();
	unsigned max = PORT_BURST_MAX;
	unsigned n;

	if (queue->port->config->rate_pps != 0)
		max = queue_pace(queue, now_tsc);
	if (max == 0)
		return 0;
	n = ops->rx(queue, &rx->burst, max);
	if (n == 0)
		return 0;
	queue->pace_taken += n;
	COUNTER_ADD(rx->polls, 1);
	COUNTER_ADD(rx->polls_full, n == PORT_BURST_MAX);
	COUNTER_ADD(queue->polled, n);
	if (poll->n_groups != 0) {
		COUNTER_ADD(queue->matched, n);
		*queue->slot_matched += n;
		groups_offer(rx, poll, now_tsc);
	} else {
		COUNTER_ADD(queue->unmatched, n);
	}
	ops->release(queue, &rx->burst);
	return n;
}

/* The schedule of one queue; 0 = none. */
static double pace_pps(const struct port_queue *queue)
{
	return (double)queue->port->config->rate_pps / queue->port->n_queues;
}

/* How many packets the schedule allows now. What a stall left behind is worked off afterwards. */
static unsigned queue_pace(struct port_queue *queue, uint64_t now_tsc)
{
	uint64_t due;

	if (queue->pace_start_tsc == 0) {
		queue->pace_start_tsc = now_tsc;
		queue->pace_taken = 0;
	}
	due = (uint64_t)((double)(now_tsc - queue->pace_start_tsc) * pace_pps(queue) /
			 (double)clock_tsc_hz());
	if (due <= queue->pace_taken)
		return 0;
	return RTE_MIN(due - queue->pace_taken, (uint64_t)PORT_BURST_MAX);
}

/*
 * Lanes whose filter wants nothing of the burst are left alone: they catch up later. Not before all
 * have begun, which the first burst of a set settles as a rule.
 */
static void groups_offer(struct rx *rx, struct rx_poll *poll, uint64_t now_tsc)
{
	const struct burst *burst = &rx->burst;
	const bool all = !poll->begun;

	if (poll->n_classified != 0)
		found_offer(poll, burst, now_tsc);
	if (poll->by_columns)
		filter_work_burst(rx->work, burst->pkts, burst->n);
	for (unsigned g = poll->n_classified; g < poll->n_groups; g++) {
		const struct rx_group *group = &poll->groups[g];
		const uint64_t mask = poll->by_columns
					      ? filter_run(group->filter, rx->work)
					      : filter_burst(group->filter, burst->pkts, burst->n);

		if (mask != 0 || all)
			group_offer(group, burst, mask, now_tsc);
	}
	if (unlikely(all))
		poll->begun = members_begun(poll);
}

static inline const struct lane *found_lane(const struct rx_poll *poll, unsigned i)
{
	return poll->groups[poll->found[i]].members[0].lane;
}

/* The groups that are looked up together. */
static void found_offer(struct rx_poll *poll, const struct burst *burst, uint64_t now_tsc)
{
	const unsigned n_found =
		classify_burst(poll->classify, burst->pkts, burst->n, poll->masks, poll->found);

	for (unsigned g = 0; !poll->begun && g < poll->n_classified; g++)
		if (poll->masks[g] == 0)
			group_offer(&poll->groups[g], burst, 0, now_tsc);
	for (unsigned i = 0; i < n_found; i++) {
		const unsigned g = poll->found[i];

		if (i + PREFETCH_LANE < n_found)
			lane_prefetch(found_lane(poll, i + PREFETCH_LANE));
		if (i + PREFETCH_BLOCK < n_found)
			lane_prefetch_block(found_lane(poll, i + PREFETCH_BLOCK));
		group_offer(&poll->groups[g], burst, poll->masks[g], now_tsc);
		poll->masks[g] = 0;
	}
}

static void group_offer(
	const struct rx_group *group, const struct burst *burst, uint64_t mask, uint64_t now_tsc)
{
	for (unsigned i = 0; i < group->n_members; i++) {
		const struct rx_member *member = &group->members[i];

		lane_catch_up_to(member->lane, member->interface, burst->n);
		member->offer(member->lane, burst, mask, member->interface, now_tsc);
	}
}

static bool members_begun(const struct rx_poll *poll)
{
	for (unsigned g = 0; g < poll->n_groups; g++)
		for (unsigned i = 0; i < poll->groups[g].n_members; i++) {
			const struct lane *lane = poll->groups[g].members[i].lane;

			if (!lane->begun && !lane->closed)
				return false;
		}
	return true;
}

static void lanes_flush(struct rx *rx, uint64_t now_tsc)
{
	if (now_tsc < rx->flush_next_tsc)
		return;
	rx->flush_next_tsc = now_tsc + rx->flush_every_tsc;
	for (unsigned i = 0; rx->view != NULL && i < rx->view->n_lanes; i++) {
		lane_catch_up(rx->view->lanes[i]);
		lane_flush(rx->view->lanes[i]);
	}
	block_collect(block_home(rx->index));
}

static void round_count(struct rx *rx, unsigned n, uint64_t began_tsc)
{
	const uint64_t cycles = rte_rdtsc() - began_tsc;

	COUNTER_ADD(rx->rounds, 1);
	if (n != 0) {
		rx->n_empty_rounds = 0;
		COUNTER_ADD(rx->cycles_useful, cycles);
	} else {
		rx->n_empty_rounds++;
		COUNTER_ADD(rx->cycles_idle, cycles);
	}
	if (unlikely(cycles >= rx->gap_min_tsc))
		gap_note(rx, began_tsc, cycles);
}

/* Nothing was polled meanwhile: much work, or a CPU that was taken away. */
static void gap_note(struct rx *rx, uint64_t began_tsc, uint64_t cycles)
{
	struct rx_gap *gap = &rx->gap_ring[rx->gaps % ENGINE_GAPS_MAX];

	__atomic_store_n(&gap->began_tsc, began_tsc, __ATOMIC_RELAXED);
	__atomic_store_n(&gap->tsc, cycles, __ATOMIC_RELAXED);
	if (cycles > rx->gap_longest_tsc)
		__atomic_store_n(&rx->gap_longest_tsc, cycles, __ATOMIC_RELAXED);
	COUNTER_ADD(rx->gaps, 1);
}

/*
 * Nothing came. A device port with taps is polled on; without any it may nap, and between two bursts
 * of a slow schedule too, which leaves a shared CPU to others. Kernel interfaces wake poll(2); the
 * RCU grace period does not wait for a sleeper, which loads the pointer anew after it.
 */
static void idle_wait(struct rx *rx)
{
	const bool lanes = rx->view != NULL && rx->view->n_lanes != 0;
	const struct timespec nap = {.tv_nsec = NAP_NS};
	const struct timespec wait = {.tv_nsec = rx->lanes_wait_ms * 1000000L};
	eventfd_t value;

	if (rx->spins && !rx->paced && (lanes || rx->n_empty_rounds < NAP_AFTER_ROUNDS)) {
		rte_pause();
		return;
	}
	rcu_thread_offline();
	ppoll(rx->fds, rx->n_fds, rx->spins ? &nap : lanes ? &wait : NULL, NULL);
	if (rx->fds[0].revents != 0)
		eventfd_read(rx->kick, &value);
	rcu_thread_online();
}
