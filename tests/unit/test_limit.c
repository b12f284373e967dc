/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/limit: every limit is exact, alone and against another thread, and names itself.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/limit.h"

#define BURST 64

static uint32_t len60[BURST], len92[BURST];

static int lens_fill(void **state)
{
	for (unsigned i = 0; i < BURST; i++) {
		len60[i] = 60;
		len92[i] = 92;
	}
	return 0;
}

static unsigned take(struct limit *limit, unsigned n, enum end_reason *end)
{
	*end = END_none;
	return limit_take(limit, len60, len92, n, end);
}

static void without_a_limit_it_is_off(void **state)
{
	struct limit limit;

	limit_init(&limit, 0, 0, 0);
	assert_false(limit.on);
	limit_init(&limit, 0, 0, 1);
	assert_true(limit.on);
}

static void packets_are_counted_to_the_last(void **state)
{
	struct limit limit;
	enum end_reason end;

	limit_init(&limit, 100, 0, 0);
	assert_int_equal(take(&limit, 64, &end), 64);
	assert_int_equal(end, END_none);
	assert_int_equal(take(&limit, 64, &end), 36);
	assert_int_equal(end, END_packet_limit);
	/* Whoever comes later learns it too. */
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(take(&limit, 64, &end), 0);
		assert_int_equal(end, END_packet_limit);
	}
}

static void taking_the_last_place_ends_it(void **state)
{
	struct limit limit;
	enum end_reason end;

	limit_init(&limit, 64, 0, 0);
	assert_int_equal(take(&limit, 63, &end), 63);
	assert_int_equal(end, END_none);
	assert_int_equal(take(&limit, 1, &end), 1);
	assert_int_equal(end, END_packet_limit);

	limit_init(&limit, 0, 600, 0);
	assert_int_equal(take(&limit, 10, &end), 10);
	assert_int_equal(end, END_byte_limit);

	limit_init(&limit, 0, 0, 920);
	assert_int_equal(take(&limit, 10, &end), 10);
	assert_int_equal(end, END_file_limit);
}

static void bytes_take_the_longest_prefix(void **state)
{
	static const uint32_t lens[] = {100, 200, 50, 1000, 10};
	static const struct {
		uint64_t limit;
		unsigned fit;
		int64_t left;
	} cases[] = {
		{99, 0, 99},
		{100, 1, 0},
		{299, 1, 199},
		{300, 2, 0},
		{349, 2, 49},
		{350, 3, 0},
		{1349, 3, 999}, /* the last would fit, but not in order */
		{1350, 4, 0},
		{1360, 5, 0},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum end_reason end = END_none;
		struct limit limit;

		limit_init(&limit, 0, cases[i].limit, 0);
		assert_int_equal(limit_take(&limit, lens, len92, 5, &end), cases[i].fit);
		assert_int_equal(limit.bytes, cases[i].left);
		assert_int_equal(end, END_byte_limit);

		end = END_none;
		limit_init(&limit, 0, 0, cases[i].limit);
		assert_int_equal(limit_take(&limit, len60, lens, 5, &end), cases[i].fit);
		assert_int_equal(limit.file_bytes, cases[i].left);
		assert_int_equal(end, END_file_limit);
	}
}

static void the_tightest_limit_gives_the_reason(void **state)
{
	static const struct {
		uint64_t packets, bytes, file_bytes;
		unsigned fit;
		enum end_reason end;
	} cases[] = {
		{10, 10000, 10000, 10, END_packet_limit},
		{50, 600, 10000, 10, END_byte_limit},
		{50, 10000, 920, 10, END_file_limit},
		{10, 600, 920, 10, END_packet_limit},
		{11, 600, 920, 10, END_file_limit},
		{11, 600, 10000, 10, END_byte_limit},
		{64, 10000, 10000, 64, END_packet_limit},
		{65, 10000, 10000, 64, END_none},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum end_reason end;
		struct limit limit;

		limit_init(&limit, cases[i].packets, cases[i].bytes, cases[i].file_bytes);
		assert_int_equal(take(&limit, 64, &end), cases[i].fit);
		assert_int_equal(end, cases[i].end);
	}
}

static void the_largest_limits_do_not_wrap(void **state)
{
	struct limit limit;
	enum end_reason end;

	limit_init(&limit, INT64_MAX, INT64_MAX, INT64_MAX);
	assert_int_equal(take(&limit, 64, &end), 64);
	assert_int_equal(end, END_none);
	assert_int_equal(limit.packets, INT64_MAX - 64);
	assert_int_equal(limit.bytes, INT64_MAX - 64 * 60);
	assert_int_equal(limit.file_bytes, INT64_MAX - 64 * 92);
}

static void an_empty_burst_takes_nothing(void **state)
{
	struct limit limit;
	enum end_reason end;

	limit_init(&limit, 1, 1, 1);
	assert_int_equal(take(&limit, 0, &end), 0);
	assert_int_equal(end, END_none);
	assert_int_equal(limit.packets, 1);
	assert_int_equal(limit.bytes, 1);
}

/* Threads take bursts of different sizes until each has learnt of the end. */
struct taker {
	pthread_t thread;
	pthread_barrier_t *start;
	struct limit *limit;
	unsigned seed;
	uint64_t packets, bytes, framed;
	enum end_reason end;
};

static void *taker_run(void *arg)
{
	struct taker *taker = arg;
	uint32_t cap[BURST], framed[BURST];
	uint32_t x = taker->seed;

	pthread_barrier_wait(taker->start);
	while (taker->end == END_none) {
		unsigned n = 1 + (x >> 7) % BURST, got;

		for (unsigned i = 0; i < n; i++) {
			x = x * 1664525 + 1013904223;
			cap[i] = 60 + (x >> 21);
			framed[i] = (cap[i] + 3) / 4 * 4 + 32;
		}
		got = limit_take(taker->limit, cap, framed, n, &taker->end);
		assert_true(got <= n);
		taker->packets += got;
		for (unsigned i = 0; i < got; i++) {
			taker->bytes += cap[i];
			taker->framed += framed[i];
		}
	}
	return NULL;
}

static void takers_run(struct limit *limit, struct taker takers[2])
{
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, 2);
	for (unsigned i = 0; i < 2; i++) {
		takers[i] = (struct taker){.start = &start, .limit = limit, .seed = 77 + 31 * i};
		assert_int_equal(pthread_create(&takers[i].thread, NULL, taker_run, &takers[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(takers[i].thread, NULL);
	pthread_barrier_destroy(&start);
}

static void two_threads_get_exactly_the_packets(void **state)
{
	for (unsigned round = 0; round < 20; round++) {
		const uint64_t n = 100000 + round;
		struct taker takers[2];
		struct limit limit;

		limit_init(&limit, n, 0, 0);
		takers_run(&limit, takers);
		assert_int_equal(takers[0].packets + takers[1].packets, n);
		assert_int_equal(takers[0].end, END_packet_limit);
		assert_int_equal(takers[1].end, END_packet_limit);
	}
}

static void two_threads_get_no_byte_too_many_and_lose_none(void **state)
{
	for (unsigned round = 0; round < 20; round++) {
		const uint64_t n = 100000000 + 7919 * round;
		const bool file = round % 2 != 0;
		struct taker takers[2];
		struct limit limit;
		uint64_t sum;

		limit_init(&limit, 0, file ? 0 : n, file ? n : 0);
		takers_run(&limit, takers);
		sum = file ? takers[0].framed + takers[1].framed
			   : takers[0].bytes + takers[1].bytes;
		/* What was not given out is what is left, and less than the longest packet. */
		assert_int_equal(sum + (uint64_t)(file ? limit.file_bytes : limit.bytes), n);
		assert_in_range(sum, n - 2200, n);
		assert_int_equal(takers[0].end, file ? END_file_limit : END_byte_limit);
		assert_int_equal(takers[1].end, file ? END_file_limit : END_byte_limit);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_limit_it_is_off),
		cmocka_unit_test(packets_are_counted_to_the_last),
		cmocka_unit_test(taking_the_last_place_ends_it),
		cmocka_unit_test(bytes_take_the_longest_prefix),
		cmocka_unit_test(the_tightest_limit_gives_the_reason),
		cmocka_unit_test(the_largest_limits_do_not_wrap),
		cmocka_unit_test(an_empty_burst_takes_nothing),
		cmocka_unit_test(two_threads_get_exactly_the_packets),
		cmocka_unit_test(two_threads_get_no_byte_too_many_and_lose_none),
	};

	return cmocka_run_group_tests(tests, lens_fill, NULL);
}
