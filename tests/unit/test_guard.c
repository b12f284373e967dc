/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/guard: how many wrong secrets an address may show, and how soon that is forgotten.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/guard.h"

#define S 1000000000ULL

static int start(void **state)
{
	guard_start();
	return 0;
}

/* How many of n at one time are taken as such. */
static unsigned taken(const char *peer, uint64_t now_ns, unsigned n)
{
	unsigned good = 0;

	for (unsigned i = 0; i < n; i++)
		good += guard_wrong(peer, now_ns) == 0;
	return good;
}

static void a_burst_is_taken_and_no_more(void **state)
{
	assert_int_equal(taken("127.0.0.1", S, GUARD_BURST), GUARD_BURST);
	assert_int_equal(guard_wrong("127.0.0.1", S), GUARD_PERIOD_MS / 1000);
	assert_int_equal(taken("127.0.0.1", S, 1000), 0);
}

static void who_waits_as_told_is_taken_again(void **state)
{
	unsigned wait_s;

	taken("127.0.0.1", S, GUARD_BURST);
	wait_s = guard_wrong("127.0.0.1", S);
	assert_int_equal(guard_wrong("127.0.0.1", S + wait_s * S), 0);
	assert_int_not_equal(guard_wrong("127.0.0.1", S + wait_s * S), 0);
	/* All is forgotten in the end, and not more than all. */
	assert_int_equal(taken("127.0.0.1", 1000 * S, 1000), GUARD_BURST);
}

/* A guesser who never waits gets one answer a period. */
static void rates_are_bounded_for_ever(void **state)
{
	unsigned good = 0;

	for (uint64_t ms = 0; ms < 600000; ms += 10)
		good += guard_wrong("192.0.2.1", S + ms * 1000000) == 0;
	assert_in_range(good, 600000 / GUARD_PERIOD_MS, 600000 / GUARD_PERIOD_MS + GUARD_BURST);
}

static void other_addresses_are_others(void **state)
{
	taken("127.0.0.1", S, 1000);
	assert_int_equal(taken("127.0.0.2", S, 1000), GUARD_BURST);
	assert_int_equal(taken("::1", S, 1000), GUARD_BURST);
	assert_int_equal(taken("2001:db8:0:1::1", S, 1000), GUARD_BURST);
	/* A subscriber has 2^64 addresses. */
	assert_int_equal(taken("2001:db8:0:1:ffff::2", S, 1000), 0);
	assert_int_equal(taken("2001:db8:0:2::1", S, 1000), GUARD_BURST);
}

static void many_addresses_meet_the_bound_for_all(void **state)
{
	struct guard_status status;
	unsigned good = 0;
	char peer[48];

	for (unsigned i = 0; i < 100000; i++) {
		snprintf(peer, sizeof(peer), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		good += guard_wrong(peer, S) == 0;
	}
	assert_int_equal(good, GUARD_BURST_ALL);
	guard_status(&status);
	assert_int_equal(status.wrong, 100000);
	assert_int_equal(status.limited, 100000 - good);
	/* What is spent for all comes back for all. */
	assert_int_equal(taken("127.0.0.9", 2 * S, 1000), 1000 / GUARD_PERIOD_ALL_MS);
}

/* Who is limited by himself takes nothing from the others. */
static void one_address_uses_up_its_own_only(void **state)
{
	taken("127.0.0.1", S, 100 * GUARD_BURST_ALL);
	assert_int_equal(taken("127.0.0.2", S, GUARD_BURST), GUARD_BURST);
}

/* The place of the worst is not taken by those that come once. */
static void a_flood_does_not_wash_the_worst_out(void **state)
{
	char peer[48];

	taken("192.0.2.1", S, GUARD_BURST);
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(peer, sizeof(peer), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
		guard_wrong(peer, S);
	}
	/* Once the bound for all has room again, his own is what he meets. */
	assert_int_equal(guard_wrong("192.0.2.1", S + S), GUARD_PERIOD_MS / 1000 - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_burst_is_taken_and_no_more, start),
		cmocka_unit_test_setup(who_waits_as_told_is_taken_again, start),
		cmocka_unit_test_setup(rates_are_bounded_for_ever, start),
		cmocka_unit_test_setup(other_addresses_are_others, start),
		cmocka_unit_test_setup(many_addresses_meet_the_bound_for_all, start),
		cmocka_unit_test_setup(one_address_uses_up_its_own_only, start),
		cmocka_unit_test_setup(a_flood_does_not_wash_the_worst_out, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
