/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/rx_set and engine/tap: which lcore polls what for whom, and that an old set lives until
 * the last lcore has passed it by. The ports are the test's own; a thread plays the lcore.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_mbuf.h>

#include "eal_fixture.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/lane.h"
#include "engine/rcu.h"
#include "engine/rx_set.h"
#include "engine/writer.h"

#define PORTS  4
#define BLOCKS 64

static struct port ports[PORTS];
static const struct config_port port_config = {.snaplen_bytes = 64};
static struct port_queue queues[PORTS][PORT_QUEUES_MAX] __attribute__((aligned(64)));
static unsigned n_ports;

/* Stand for the engine's. */
unsigned engine_ports(void)
{
	return n_ports;
}

struct port *engine_port(unsigned index)
{
	return &ports[index];
}

static void port_make(unsigned i, unsigned n_queues, bool own_clock)
{
	memset(&ports[i], 0, sizeof(ports[i]));
	memset(queues[i], 0, sizeof(queues[i]));
	ports[i].index = i;
	ports[i].config = &port_config;
	ports[i].n_queues = n_queues;
	ports[i].queues = queues[i];
	ports[i].own_clock = own_clock;
	ports[i].direction = own_clock ? PORT_DIRECTION_EXACT : PORT_DIRECTION_BY_MAC;
	for (unsigned q = 0; q < n_queues; q++) {
		queues[i][q].port = &ports[i];
		queues[i][q].index = (uint16_t)q;
	}
	n_ports = i + 1;
}

static int group_start(void **state)
{
	const struct config_cpus cpus = {.n = 1, .cpu = {(unsigned)sched_getcpu()}};
	struct err err;

	if (eal_fixture_start() != 0 || event_open() != 0)
		return -1;
	rcu_register_thread();
	rcu_thread_offline();
	if (block_pool_new(BLOCKS * BLOCK_SIZE, false, 2, WRITERS_PER_CPU, &err) != 0)
		return -1;
	return writer_start(&cpus, &err);
}

static int group_stop(void **state)
{
	writer_stop();
	block_pool_free();
	event_close();
	rcu_unregister_thread();
	return 0;
}

/* Two lcores; a device with three queues, an interface with its own clock, a device with one. */
static int ports_start(void **state)
{
	port_make(0, 3, false);
	port_make(1, 2, true);
	port_make(2, 1, false);
	rx_set_assign(2);
	return 0;
}

static int ports_stop(void **state)
{
	rx_set_fini();
	for (unsigned i = 0; i < PORTS; i++)
		rx_set_poll(&ports[i], false);
	return rx_set_lanes() == 0 ? 0 : -1;
}

static struct tap *tap_make(unsigned n, uint8_t first, uint8_t second, struct filter *filter)
{
	struct tap_spec spec = {.n_ports = n,
		.ports = {first, second},
		.filter = filter,
		.sample_n = 1,
		.snaplen_bytes = 100};
	struct err err;
	struct tap *tap = tap_new(&spec, &err);

	if (tap == NULL)
		fail_msg("%s", err.text);
	return tap;
}

static struct filter *filter_returning(uint32_t value)
{
	struct filter_code code = {.n = 1, .insn = {{.code = 6, .k = value}}};
	struct err err;
	struct filter *filter = filter_new(&code, &err);

	assert_non_null(filter);
	return filter;
}

static unsigned n_done;

static void count_done(void *arg)
{
	n_done++;
	if (arg != NULL)
		*(unsigned *)arg = n_done;
}

static void publish(void)
{
	assert_int_equal(rx_set_publish(count_done, NULL), 0);
}

static void queues_are_dealt_out_in_turn(void **state)
{
	/* Queues in order: 0/0 0/1 0/2 1/0 1/1 2/0, lcores in turn. */
	static const struct {
		unsigned port, queue, rx;
	} want[] = {{0, 0, 0}, {0, 1, 1}, {0, 2, 0}, {1, 0, 1}, {1, 1, 0}, {2, 0, 1}};

	for (unsigned i = 0; i < 6; i++) {
		const struct port_queue *queue = &queues[want[i].port][want[i].queue];

		assert_int_equal(queue->rx, want[i].rx);
		assert_int_equal(rx_set_slot_lcore(queue->lane_slot), want[i].rx);
	}
	/* One lane per lcore is shared; queues with a clock of their own have their own. */
	assert_int_equal(queues[0][0].lane_slot, queues[0][2].lane_slot);
	assert_int_equal(queues[0][1].lane_slot, queues[2][0].lane_slot);
	assert_int_not_equal(queues[0][0].lane_slot, queues[0][1].lane_slot);
	for (unsigned q = 0; q < 2; q++) {
		unsigned slot = queues[1][q].lane_slot;

		assert_int_not_equal(slot, queues[1][1 - q].lane_slot);
		assert_int_not_equal(slot, queues[0][0].lane_slot);
		assert_int_not_equal(slot, queues[0][1].lane_slot);
	}
}

static void a_tap_has_a_lane_for_each_slot(void **state)
{
	struct tap *tap;

	tap = tap_make(1, 0, 0, NULL);
	assert_int_equal(tap_lanes(tap), 2);
	tap_free(tap);
	tap = tap_make(1, 2, 0, NULL);
	assert_int_equal(tap_lanes(tap), 1);
	assert_int_equal(tap->lanes[0].slot, queues[2][0].lane_slot);
	assert_ptr_equal(tap->lanes[0].home, block_home(1));
	assert_int_equal(tap->interface_of[2], 0);
	assert_int_equal(tap->interface_of[0], -1);
	tap_free(tap);
	/* The order of the spec gives the interface ids. */
	tap = tap_make(2, 1, 0, NULL);
	assert_int_equal(tap_lanes(tap), 4);
	assert_int_equal(tap->interface_of[1], 0);
	assert_int_equal(tap->interface_of[0], 1);
	for (unsigned q = 0; q < 3; q++)
		assert_false(tap->lane_of[queues[0][q].lane_slot]->direction_known);
	for (unsigned q = 0; q < 2; q++)
		assert_true(tap->lane_of[queues[1][q].lane_slot]->direction_known);
	tap_free(tap);
	tap_free(NULL);
}

static void before_the_first_set_there_is_nothing(void **state)
{
	assert_null(rx_set_view(0));
	assert_null(rx_set_view(1));
}

static void a_port_is_polled_only_when_asked_for(void **state)
{
	const struct rx_view *view;

	publish();
	assert_int_equal(rx_set_view(0)->n_polls, 0);
	rx_set_poll(&ports[0], true);
	publish();
	view = rx_set_view(0);
	assert_int_equal(view->n_polls, 2);
	assert_ptr_equal(view->polls[0].queue, &queues[0][0]);
	assert_ptr_equal(view->polls[1].queue, &queues[0][2]);
	assert_int_equal(view->polls[0].n_groups, 0);
	assert_int_equal(view->n_lanes, 0);
	assert_int_equal(rx_set_view(1)->n_polls, 1);
	rx_set_poll(&ports[0], false);
	publish();
	assert_int_equal(rx_set_view(0)->n_polls, 0);
}

/* Which of the queue's groups the lane stands in; fails when it is in none or in two. */
static const struct rx_group *group_of(
	const struct rx_view *view, const struct port_queue *queue, const struct tap *tap)
{
	const struct rx_group *found = NULL;

	for (unsigned i = 0; i < view->n_polls; i++) {
		const struct rx_poll *poll = &view->polls[i];

		for (unsigned g = 0; poll->queue == queue && g < poll->n_groups; g++) {
			for (unsigned m = 0; m < poll->groups[g].n_members; m++) {
				const struct rx_member *member = &poll->groups[g].members[m];

				if (member->lane->tap != tap)
					continue;
				assert_null(found);
				assert_ptr_equal(member->lane, tap->lane_of[queue->lane_slot]);
				assert_int_equal(
					member->interface, tap->interface_of[queue->port->index]);
				assert_ptr_equal(member->offer, lane_offer_choose(member->lane));
				found = &poll->groups[g];
			}
		}
	}
	assert_non_null(found);
	return found;
}

static void taps_are_grouped_by_port_and_filter(void **state)
{
	struct filter *one = filter_returning(1), *two = filter_returning(2);
	struct filter *again = filter_returning(1);
	struct tap *a = tap_make(2, 0, 1, one), *b = tap_make(1, 0, 0, two);
	struct tap *c = tap_make(1, 0, 0, again), *d = tap_make(1, 1, 0, NULL);
	struct tap *const taps[] = {a, b, c, d};
	const struct rx_view *view;

	/* The same program is the same filter. */
	assert_ptr_equal(one, again);
	for (unsigned i = 0; i < 4; i++)
		rx_set_tap_add(taps[i]);
	for (unsigned i = 0; i < 3; i++)
		rx_set_poll(&ports[i], true);
	publish();
	assert_int_equal(rx_set_lanes(), 4 + 2 + 2 + 2);
	view = rx_set_view(0);
	/* lcore 0: queues 0/0, 0/2, 1/1 */
	assert_int_equal(view->n_polls, 3);
	assert_int_equal(view->n_lanes, 2 + 1 + 1 + 1);
	for (unsigned q = 0; q < 3; q += 2) {
		const struct rx_group *group = group_of(view, &queues[0][q], a);

		assert_ptr_equal(group, group_of(view, &queues[0][q], c));
		assert_ptr_not_equal(group, group_of(view, &queues[0][q], b));
		assert_ptr_equal(group->filter, one);
		assert_int_equal(group->n_members, 2);
		assert_ptr_equal(group_of(view, &queues[0][q], b)->filter, two);
	}
	assert_ptr_equal(group_of(view, &queues[1][1], a)->filter, one);
	assert_null(group_of(view, &queues[1][1], d)->filter);
	/* Two filters share what they read, one does not. */
	for (unsigned i = 0; i < view->n_polls; i++)
		assert_int_equal(
			view->polls[i].by_columns, view->polls[i].queue->port == &ports[0]);
	/* lcore 1: queues 0/1, 1/0, 2/0; nobody listens to the last */
	view = rx_set_view(1);
	assert_int_equal(view->n_polls, 3);
	assert_ptr_equal(group_of(view, &queues[1][0], a)->filter, one);
	for (unsigned i = 0; i < 3; i++)
		if (view->polls[i].queue == &queues[2][0])
			assert_int_equal(view->polls[i].n_groups, 0);
	for (unsigned i = 0; i < 4; i++)
		rx_set_tap_remove(taps[i]);
	publish();
	rx_set_fini();
	for (unsigned i = 0; i < 4; i++)
		tap_free(taps[i]);
	filter_put(one);
	filter_put(two);
	filter_put(again);
}

/* src host 10.0.0.n, and nothing but that. */
static struct filter *filter_host(uint32_t n)
{
	struct filter_code code = {.n = 6,
		.insn = {{.code = 0x28, .k = 12}, {.code = 0x15, .jf = 3, .k = 0x800},
			{.code = 0x20, .k = 26}, {.code = 0x15, .jf = 1, .k = 0x0a000000 + n},
			{.code = 6, .k = 1}, {.code = 6, .k = 0}}};
	struct err err;
	struct filter *filter = filter_new(&code, &err);

	assert_non_null(filter);
	return filter;
}

static void many_filters_are_looked_up_together(void **state)
{
	enum { N = CLASSIFY_FILTERS_MIN + 2 };
	struct tap *taps[N];
	const struct rx_poll *poll;

	/* The last two are of other kinds; one filter has two taps. */
	for (unsigned i = 0; i < N; i++) {
		struct filter *filter = i < N - 2    ? filter_host(i)
					: i == N - 2 ? filter_returning(1)
						     : filter_host(0);

		taps[i] = tap_make(1, 0, 0, filter);
		rx_set_tap_add(taps[i]);
		filter_put(filter);
	}
	rx_set_poll(&ports[0], true);
	publish();
	for (unsigned rx = 0; rx < 2; rx++) {
		poll = &rx_set_view(rx)->polls[0];
		assert_int_equal(poll->n_classified, N - 2);
		assert_int_equal(poll->n_groups, N - 1);
		assert_int_equal(classify_filters(poll->classify), N - 2);
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(
				group_of(rx_set_view(rx), poll->queue, taps[i]) - poll->groups <
					poll->n_classified,
				i != N - 2);
		/* Each group under its number. */
		for (unsigned g = 0; g < poll->n_classified; g++) {
			uint8_t frame[60] = {[13] = 0, [12] = 8, [14] = 0x45, [26] = 10};
			static struct rte_mbuf mbuf; /* aligned even where ASan moves the stack */
			struct rte_mbuf *pkt = &mbuf;
			unsigned n_hits = 0;

			mbuf = (struct rte_mbuf){.buf_addr = frame,
				.data_len = sizeof(frame),
				.pkt_len = sizeof(frame),
				.nb_segs = 1};

			for (frame[29] = 0; frame[29] < N; frame[29]++)
				if (filter_burst(poll->groups[g].filter, &pkt, 1) != 0) {
					n_hits++;
					assert_int_equal(classify_burst(poll->classify, &pkt, 1,
								 poll->masks, poll->found),
						1);
					assert_int_equal(poll->found[0], g);
					poll->masks[g] = 0;
				}
			assert_int_equal(n_hits, 1);
		}
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(tap_filter_engine(taps[i]),
			i != N - 2 ? FILTER_ENGINE_CLASSIFIER : FILTER_ENGINE_JIT);

	/* One less, and each is asked by itself; the one that ended keeps what it had. */
	rx_set_tap_end(taps[1]);
	publish();
	assert_int_equal(rx_set_view(0)->polls[0].n_classified, 0);
	assert_int_equal(rx_set_view(0)->polls[0].n_groups, N - 2);
	assert_int_equal(tap_filter_engine(taps[0]), FILTER_ENGINE_JIT);
	assert_int_equal(tap_filter_engine(taps[1]), FILTER_ENGINE_CLASSIFIER);
	for (unsigned i = 0; i < N; i++)
		rx_set_tap_remove(taps[i]);
	publish();
	rx_set_fini();
	for (unsigned i = 0; i < N; i++)
		tap_free(taps[i]);
}

static void a_tap_ends_in_two_sets(void **state)
{
	struct tap *tap = tap_make(1, 0, 0, NULL), *other = tap_make(1, 0, 0, NULL);
	const struct rx_view *view;

	rx_set_poll(&ports[0], true);
	rx_set_tap_add(tap);
	rx_set_tap_add(other);
	publish();
	assert_int_equal(rx_set_view(0)->n_lanes, 2);
	assert_int_equal(rx_set_view(0)->n_ending, 0);
	rx_set_tap_end(tap);
	publish();
	for (unsigned rx = 0; rx < 2; rx++) {
		view = rx_set_view(rx);
		assert_int_equal(view->n_lanes, 1);
		assert_ptr_equal(view->lanes[0]->tap, other);
		assert_int_equal(view->n_ending, 1);
		assert_ptr_equal(view->ending[0]->tap, tap);
		assert_int_equal(view->polls[0].n_groups, 1);
		assert_int_equal(view->polls[0].groups[0].n_members, 1);
	}
	assert_int_equal(rx_set_lanes(), 4);
	rx_set_tap_remove(tap);
	publish();
	assert_int_equal(rx_set_view(0)->n_ending, 0);
	assert_int_equal(rx_set_lanes(), 2);
	rx_set_tap_remove(other);
	publish();
	rx_set_fini();
	tap_free(tap);
	tap_free(other);
}

static void more_lanes_than_blocks_allow_are_refused(void **state)
{
	struct tap_spec spec = {.n_ports = 1, .ports = {0}, .sample_n = 1, .snaplen_bytes = 1};
	struct tap *taps[BLOCKS];
	struct err err = {0};
	unsigned n = 0;

	for (; (taps[n] = tap_new(&spec, &err)) != NULL; n++)
		rx_set_tap_add(taps[n]);
	/* Two lanes each; half the blocks. */
	assert_int_equal(n, BLOCKS / 4);
	assert_int_equal(err.code, EAGAIN);
	assert_string_equal(err.field, "engine.block_memory");
	rx_set_tap_remove(taps[--n]);
	tap_free(taps[n]);
	taps[n] = tap_new(&spec, &err);
	assert_non_null(taps[n]);
	tap_free(taps[n]);
	while (n > 0) {
		rx_set_tap_remove(taps[--n]);
		tap_free(taps[n]);
	}
}

/* A thread that plays lcore 0. */
struct lcore {
	pthread_t thread;
	bool held; /* it may not pass a quiescent state */
	bool stop;
	unsigned n_passed;
	unsigned n_sets;
};

static void *lcore_run(void *arg)
{
	struct lcore *lcore = arg;
	const struct rx_view *before = NULL;

	rcu_register_thread();
	while (!__atomic_load_n(&lcore->stop, __ATOMIC_ACQUIRE)) {
		const struct rx_view *view = rx_set_view(0);

		if (view != before)
			lcore->n_sets++;
		before = view;
		/* Reads all of it: the sanitizer build sees a set that was freed too early. */
		for (unsigned i = 0; view != NULL && i < view->n_polls; i++)
			for (unsigned g = 0; g < view->polls[i].n_groups; g++)
				for (unsigned m = 0; m < view->polls[i].groups[g].n_members; m++)
					assert_true(view->polls[i].groups[g].members[m].lane->tap !=
						    NULL);
		while (__atomic_load_n(&lcore->held, __ATOMIC_ACQUIRE) &&
			!__atomic_load_n(&lcore->stop, __ATOMIC_ACQUIRE))
			usleep(200);
		rcu_quiescent_state();
		__atomic_add_fetch(&lcore->n_passed, 1, __ATOMIC_RELEASE);
		sched_yield();
	}
	rcu_unregister_thread();
	return NULL;
}

static void lcore_start(struct lcore *lcore)
{
	*lcore = (struct lcore){.held = false};
	assert_int_equal(pthread_create(&lcore->thread, NULL, lcore_run, lcore), 0);
}

static void lcore_stop(struct lcore *lcore)
{
	__atomic_store_n(&lcore->stop, true, __ATOMIC_RELEASE);
	pthread_join(lcore->thread, NULL);
}

static bool done_soon(unsigned n)
{
	for (unsigned i = 0; i < 3000 && n_done != n; i++) {
		usleep(1000);
		rx_set_reclaim();
	}
	return n_done == n;
}

static void an_old_set_waits_for_the_lcore(void **state)
{
	struct lcore lcore;

	rx_set_poll(&ports[0], true);
	n_done = 0;
	publish();
	assert_true(done_soon(1));
	lcore_start(&lcore);
	while (__atomic_load_n(&lcore.n_passed, __ATOMIC_ACQUIRE) < 3)
		usleep(100);
	__atomic_store_n(&lcore.held, true, __ATOMIC_RELEASE);
	/* Let it come to where it does not pass. */
	usleep(20000);
	n_done = 0;
	publish();
	usleep(50000);
	rx_set_reclaim();
	assert_int_equal(n_done, 0);
	__atomic_store_n(&lcore.held, false, __ATOMIC_RELEASE);
	assert_true(done_soon(1));
	lcore_stop(&lcore);
}

static void callbacks_come_in_the_order_of_the_sets(void **state)
{
	unsigned order[20] = {0};

	n_done = 0;
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(rx_set_publish(count_done, &order[i]), 0);
	assert_true(done_soon(20));
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(order[i], i + 1);
}

static void taps_come_and_go_under_a_running_lcore(void **state)
{
	struct lcore lcore;

	for (unsigned i = 0; i < 3; i++)
		rx_set_poll(&ports[i], true);
	lcore_start(&lcore);
	for (unsigned i = 0; i < 100; i++) {
		struct tap *tap = tap_make(2, i % 2, 2, NULL);

		n_done = 0;
		rx_set_tap_add(tap);
		publish();
		rx_set_tap_end(tap);
		publish();
		rx_set_tap_remove(tap);
		publish();
		assert_true(done_soon(3));
		tap_free(tap);
	}
	lcore_stop(&lcore);
	assert_true(lcore.n_sets > 10);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, ports_start, ports_stop)
	const struct CMUnitTest tests[] = {
		TEST(before_the_first_set_there_is_nothing),
		TEST(queues_are_dealt_out_in_turn),
		TEST(a_tap_has_a_lane_for_each_slot),
		TEST(a_port_is_polled_only_when_asked_for),
		TEST(taps_are_grouped_by_port_and_filter),
		TEST(many_filters_are_looked_up_together),
		TEST(a_tap_ends_in_two_sets),
		TEST(more_lanes_than_blocks_allow_are_refused),
		TEST(an_old_set_waits_for_the_lcore),
		TEST(callbacks_come_in_the_order_of_the_sets),
		TEST(taps_come_and_go_under_a_running_lcore),
	};

	return cmocka_run_group_tests(tests, group_start, group_stop);
}
