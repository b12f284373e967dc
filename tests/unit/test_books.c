/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/client/books: every law holds when it should and breaks by exactly what is missing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/client/books.h"

static json_t *capture(const char *state, json_int_t offered, json_int_t accepted,
	json_int_t written, json_int_t in_flight, json_int_t no_block)
{
	return json_pack("{s:s s:{s:I s:I s:I s:I s:I s:I s:I s:I s:I s:{s:I s:i}}}", "state",
		state, "ledger", "offered", offered, "filtered", (json_int_t)5, "sampled_out",
		(json_int_t)3, "over_limit", (json_int_t)2, "accepted", accepted, "written",
		written, "durable", (json_int_t)0, "in_flight", in_flight, "unknown", (json_int_t)1,
		"dropped", "no_block", no_block, "quota", 4);
}

static json_t *port(const char *visibility, json_int_t offered, json_int_t rx, json_int_t matched)
{
	return json_pack("{s:s s:{s:I s:I s:i s:i s:i s:I s:i}}", "loss_visibility", visibility,
		"counters", "offered", offered, "rx", rx, "nic_missed", 1, "nic_errors", 2,
		"nic_nombuf", 3, "matched", matched, "unmatched", 10);
}

static void judge(json_t *json, unsigned n_expected, int64_t first, int64_t second,
	bool first_holds, bool second_holds)
{
	struct books_law laws[BOOKS_LAWS_MAX];

	assert_non_null(json);
	assert_int_equal(books_capture(json, laws), n_expected);
	assert_int_equal(laws[0].residual, first);
	assert_int_equal(laws[1].residual, second);
	assert_int_equal(laws[0].holds, first_holds);
	assert_int_equal(laws[1].holds, second_holds);
	json_decref(json);
}

static void closed_captures_balance_exactly(void **state)
{
	judge(capture("complete", 110, 100, 85, 0, 10), 4, 0, 0, true, true);
	judge(capture("failed", 111, 100, 85, 0, 10), 4, 1, 0, false, true);
	judge(capture("deleted", 109, 100, 85, 0, 10), 4, -1, 0, false, true);
	judge(capture("complete", 110, 100, 84, 0, 10), 4, 0, 1, true, false);
	judge(capture("complete", 110, 100, 85, 0, 11), 4, 0, -1, true, false);
}

static void running_captures_may_lag(void **state)
{
	judge(capture("running", 115, 100, 60, 20, 10), 3, 5, 5, true, true);
	judge(capture("stopping", 109, 100, 85, 1, 10), 3, -1, -1, false, false);
}

static void nothing_is_in_flight_in_the_end(void **state)
{
	struct books_law laws[BOOKS_LAWS_MAX];
	json_t *json = capture("complete", 110, 100, 80, 5, 10);

	assert_int_equal(books_capture(json, laws), 4);
	assert_true(laws[1].holds);
	assert_string_equal(laws[3].text, "in_flight = 0");
	assert_false(laws[3].holds);
	assert_int_equal(laws[3].residual, 5);
	json_decref(json);
}

static void big_numbers_are_exact(void **state)
{
	const json_int_t big = 9007199254740993; /* 2^53 + 1: a double cannot hold it */

	judge(capture("complete", big + 10, big, big - 15, 0, 10), 4, 0, 0, true, true);
	judge(capture("complete", big + 11, big, big - 15, 0, 10), 4, 1, 0, false, true);
}

static unsigned port_judge(json_t *before, json_t *now, struct books_law laws[BOOKS_LAWS_MAX])
{
	unsigned n = books_port(before, now, laws);

	json_decref(before);
	json_decref(now);
	return n;
}

static void quiet_ports_balance_exactly(void **state)
{
	struct books_law laws[BOOKS_LAWS_MAX];

	assert_int_equal(
		port_judge(port("exact", 106, 100, 90), port("exact", 106, 100, 90), laws), 2);
	assert_true(laws[0].holds && laws[1].holds);
	port_judge(port("exact", 107, 100, 90), port("exact", 107, 100, 90), laws);
	assert_false(laws[0].holds);
	assert_int_equal(laws[0].residual, 1);
	port_judge(port("exact", 106, 100, 91), port("exact", 106, 100, 91), laws);
	assert_false(laws[1].holds);
	assert_int_equal(laws[1].residual, -1);
}

static void moving_ports_differ_by_what_moved(void **state)
{
	struct books_law laws[BOOKS_LAWS_MAX];

	/* offered went from 106 to 156; rx was read later and is 10 ahead */
	port_judge(port("exact", 106, 100, 90), port("exact", 156, 160, 150), laws);
	assert_true(laws[0].holds && laws[1].holds);
	/* 200 behind is more than moved */
	port_judge(port("exact", 306, 100, 90), port("exact", 356, 160, 150), laws);
	assert_false(laws[0].holds);
}

static void unseen_loss_has_no_law(void **state)
{
	struct books_law laws[BOOKS_LAWS_MAX];

	assert_int_equal(port_judge(port("none", 0, 100, 90), port("none", 0, 100, 90), laws), 1);
	assert_true(laws[0].holds);
	assert_int_equal(
		port_judge(port("lower_bound", 0, 100, 91), port("lower_bound", 0, 100, 91), laws),
		1);
	assert_false(laws[0].holds);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(closed_captures_balance_exactly),
		cmocka_unit_test(running_captures_may_lag),
		cmocka_unit_test(nothing_is_in_flight_in_the_end),
		cmocka_unit_test(big_numbers_are_exact),
		cmocka_unit_test(quiet_ports_balance_exactly),
		cmocka_unit_test(moving_ports_differ_by_what_moved),
		cmocka_unit_test(unseen_loss_has_no_law),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
