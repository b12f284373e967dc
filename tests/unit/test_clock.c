/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The clock with a made-up counter and a made-up wall clock, so that drift and steps are exact; and
 * once with the machine's own.
 */
#include "engine/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#include <rte_cycles.h>

#define HZ         2500000000ULL
#define SYNC_TICKS (HZ / 10)
#define EPOCH_NS   1700000000000000000ULL
#define PPM        1e-6

/* A counter, and a wall clock that runs faster than it by drift and may be set. */
struct world {
	struct clock_conv conv;
	uint64_t ticks;
	double drift;
	int64_t set_ns;
	uint64_t last_ns; /* what the conversion last said */
};

static uint64_t world_wall(const struct world *world)
{
	return EPOCH_NS + world->set_ns +
	       (int64_t)((double)world->ticks / HZ * 1e9 * (1 + world->drift));
}

static int64_t world_error(const struct world *world)
{
	return (int64_t)(clock_conv_ns(&world->conv, world->ticks) - world_wall(world));
}

static void world_init(struct world *world, double drift)
{
	*world = (struct world){.drift = drift};
	clock_conv_init(&world->conv, HZ, 0, EPOCH_NS);
	world->last_ns = EPOCH_NS;
}

/* Run for a time with a sync every 100 ms; read the clock every 100 us and hold it to its promise.
 */
static void world_run(struct world *world, double seconds, bool may_jump)
{
	const uint64_t step = HZ / 10000, step_ns = 100000, slack_ns = 50 + 2;
	const uint64_t end = world->ticks + (uint64_t)(seconds * HZ);

	while (world->ticks < end) {
		uint64_t ns;

		world->ticks += step;
		ns = clock_conv_ns(&world->conv, world->ticks);
		assert_true(ns >= world->last_ns);
		assert_true(ns - world->last_ns >= step_ns - slack_ns);
		if (!may_jump)
			assert_true(ns - world->last_ns <= step_ns + slack_ns);
		world->last_ns = ns;
		if (world->ticks % SYNC_TICKS == 0)
			clock_conv_sync(&world->conv, world->ticks, world_wall(world));
	}
}

static void test_drift_is_followed(void **state)
{
	static const double drifts[] = {0, 1 * PPM, 80 * PPM, -80 * PPM, 300 * PPM, -450 * PPM};
	struct world world;

	for (unsigned i = 0; i < sizeof(drifts) / sizeof(drifts[0]); i++) {
		world_init(&world, drifts[i]);
		world_run(&world, 30, false);
		assert_in_range(llabs(world_error(&world)), 0, 200);
	}
}

static void test_small_step_is_slewed(void **state)
{
	struct world world;

	world_init(&world, 20 * PPM);
	world_run(&world, 5, false);
	world.set_ns += 20000000;
	world_run(&world, 1, false);
	assert_true(world_error(&world) < -19000000);
	world_run(&world, 60, false);
	assert_in_range(llabs(world_error(&world)), 0, 1000);
}

static void test_large_step_forward_is_jumped(void **state)
{
	struct world world;

	world_init(&world, -20 * PPM);
	world_run(&world, 5, false);
	world.set_ns += 3600 * 1000000000LL;
	world_run(&world, 0.3, true);
	assert_in_range(llabs(world_error(&world)), 0, 1000);
	/* One jump, and neither the step nor the jump has taught it a wrong rate. */
	world_run(&world, 30, false);
	assert_in_range(llabs(world_error(&world)), 0, 200);
}

static void test_step_back_is_slewed(void **state)
{
	struct world world;

	world_init(&world, 0);
	world_run(&world, 5, false);
	world.set_ns -= 1000000000;
	world_run(&world, 10, false);
	/* 500 ppm of ten seconds are 5 ms, and it began late by a sync. */
	assert_true(world_error(&world) < 1000000000 - 4800000);
	assert_true(world_error(&world) > 1000000000 - 5200000);
	world.set_ns += 1000000000;
	world_run(&world, 30, false);
	assert_in_range(llabs(world_error(&world)), 0, 200);
}

static void test_long_silence(void **state)
{
	struct world world;

	world_init(&world, 50 * PPM);
	world_run(&world, 5, false);
	world.ticks += 100 * HZ;
	world.last_ns = clock_conv_ns(&world.conv, world.ticks);
	world_run(&world, 30, false);
	assert_in_range(llabs(world_error(&world)), 0, 200);
}

/* Who read the parameters before a sync and converts just after it agrees with who comes later. */
static void test_readers_with_old_parameters(void **state)
{
	struct world world;

	srand(1);
	world_init(&world, 0);
	for (unsigned i = 0; i < 20000; i++) {
		struct clock_conv old = world.conv;
		uint64_t late = world.ticks + rand() % (HZ / 25); /* 40 ms late */
		uint64_t ns;

		world.drift = (rand() % 800 - 400) * PPM;
		world.set_ns += rand() % 2000001 - 1000000;
		clock_conv_sync(&world.conv, world.ticks, world_wall(&world));
		ns = clock_conv_ns(&old, late);
		assert_int_equal(clock_conv_ns(&world.conv, late), ns);
		assert_true(ns >= world.last_ns);
		world.last_ns = ns;
		world.ticks += SYNC_TICKS;
	}
}

static void test_hasty_syncs_change_nothing(void **state)
{
	struct world world;
	uint32_t seq;

	world_init(&world, 0);
	world.ticks = SYNC_TICKS;
	clock_conv_sync(&world.conv, world.ticks, world_wall(&world));
	seq = world.conv.seq;
	for (unsigned i = 0; i < 10; i++)
		clock_conv_sync(&world.conv, world.ticks + i, world_wall(&world) + 999999);
	/* 30 ms later is not hasty, but the last line has not begun. */
	clock_conv_sync(&world.conv, world.ticks + HZ * 3 / 100, world_wall(&world));
	assert_int_equal(world.conv.seq, seq);
	world.ticks += HZ * 6 / 100;
	clock_conv_sync(&world.conv, world.ticks, world_wall(&world));
	assert_int_equal(world.conv.seq, seq + 1);
}

static void test_slow_and_fast_counters(void **state)
{
	static const double rates[] = {1e6, 78.125e6, 156.25e6, 1e9, 5e9};

	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct clock_conv conv;
		double ticks = 0;

		clock_conv_init(&conv, rates[i] * (1 + 100 * PPM), 0, EPOCH_NS);
		for (unsigned s = 1; s <= 300; s++) {
			ticks = rates[i] / 10 * s;
			clock_conv_sync(&conv, ticks, EPOCH_NS + s * 100000000ULL);
		}
		assert_in_range(
			clock_conv_ns(&conv, ticks) - (EPOCH_NS + 30000000000ULL) + 1500, 0, 3000);
	}
}

/* A reader never sees half of a publication: on a straight wall clock every line is the same one.
 */
struct race {
	struct clock_conv conv;
	uint64_t ticks;
	bool done;
};

static void *race_sync(void *arg)
{
	struct race *race = arg;

	for (unsigned i = 0; i < 300000; i++) {
		uint64_t ticks = race->ticks + SYNC_TICKS;

		clock_conv_sync(&race->conv, ticks, EPOCH_NS + ticks * 2 / 5);
		__atomic_store_n(&race->ticks, ticks, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&race->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void test_publication_is_whole(void **state)
{
	static struct race race;
	pthread_t thread;
	uint64_t reads = 0;

	clock_conv_init(&race.conv, HZ, 0, EPOCH_NS);
	assert_int_equal(pthread_create(&thread, NULL, race_sync, &race), 0);
	while (!__atomic_load_n(&race.done, __ATOMIC_ACQUIRE)) {
		uint64_t ticks = __atomic_load_n(&race.ticks, __ATOMIC_ACQUIRE);
		int64_t error = clock_conv_ns(&race.conv, ticks) - (EPOCH_NS + ticks * 2 / 5);

		/* The reader may be many of these hasty syncs behind, which costs rounding. */
		assert_in_range(error + 100000, 0, 200000);
		reads++;
	}
	pthread_join(thread, NULL);
	assert_true(reads > 0);
}

static void test_this_machine(void **state)
{
	uint64_t ns, last_ns = 0, before_ns, begin, end, began_ns;

	assert_int_equal(clock_init(), 0);
	began_ns = clock_monotonic_ns();
	begin = rte_rdtsc();
	while (clock_monotonic_ns() - began_ns < 300000000) {
		clock_sync();
		for (unsigned i = 0; i < 1000; i++) {
			ns = clock_tsc_to_ns(rte_rdtsc());
			assert_true(ns >= last_ns);
			last_ns = ns;
		}
	}
	end = rte_rdtsc();
	before_ns = clock_wall_ns();
	ns = clock_tsc_to_ns(rte_rdtsc());
	/* Within a millisecond, on a machine that may be taken away from us in between. */
	assert_true(ns + 1000000 > before_ns && ns < clock_wall_ns() + 1000000);
	assert_in_range(clock_tsc_hz(), (end - begin) * 3.2, (end - begin) * 3.35);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drift_is_followed),
		cmocka_unit_test(test_small_step_is_slewed),
		cmocka_unit_test(test_large_step_forward_is_jumped),
		cmocka_unit_test(test_step_back_is_slewed),
		cmocka_unit_test(test_long_silence),
		cmocka_unit_test(test_readers_with_old_parameters),
		cmocka_unit_test(test_hasty_syncs_change_nothing),
		cmocka_unit_test(test_slow_and_fast_counters),
		cmocka_unit_test(test_publication_is_whole),
		cmocka_unit_test(test_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
