/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/client/text: numbers and times as people read them, at the edges where they change shape.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "api/client/text.h"

static void si_keeps_three_digits(void **state)
{
	static const struct {
		double number;
		const char *unit, *text;
	} rows[] = {
		{0, "", "0"},
		{0, "B", "0 B"},
		{7, "", "7"},
		{999, "B", "999 B"},
		{999.6, "B", "1.00 kB"},
		{1000, "", "1.00 k"},
		{9994, "", "9.99 k"},
		{9996, "", "10.0 k"},
		{99940, "", "99.9 k"},
		{99960, "", "100 k"},
		{999499, "", "999 k"},
		{999500, "", "1.00 M"},
		{12345678, "B", "12.3 MB"},
		{3.6e9, "B", "3.60 GB"},
		{1e18, "", "1.00 E"},
		{9e21, "", "9000 E"},
	};
	char out[TEXT_SIZE];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(text_si(out, rows[i].number, rows[i].unit), rows[i].text);
}

static void digits_are_grouped(void **state)
{
	char out[TEXT_SIZE];

	assert_string_equal(text_digits(out, 0), "0");
	assert_string_equal(text_digits(out, 999), "999");
	assert_string_equal(text_digits(out, 1000), "1,000");
	assert_string_equal(text_digits(out, -123456), "-123,456");
	assert_string_equal(text_digits(out, INT64_MAX), "9,223,372,036,854,775,807");
	assert_string_equal(text_digits(out, INT64_MIN), "-9,223,372,036,854,775,808");
}

static void durations_grow_hours(void **state)
{
	char out[TEXT_SIZE];

	assert_string_equal(text_duration(out, 0.9), "0:00");
	assert_string_equal(text_duration(out, 59.9), "0:59");
	assert_string_equal(text_duration(out, 3599), "59:59");
	assert_string_equal(text_duration(out, 3600), "1:00:00");
	assert_string_equal(text_duration(out, 90061), "25:01:01");
	assert_string_equal(text_duration(out, -1), "0:00");
}

static void times_are_local(void **state)
{
	json_t *time = json_string("2026-11-20T22:30:00.123456789Z");
	char out[TEXT_SIZE];

	setenv("TZ", "UTC-2", 1);
	tzset();
	assert_string_equal(text_time(out, time), "2026-11-21 00:30:00");
	assert_string_equal(text_time(out, NULL), "-");
	assert_string_equal(text_time(out, json_null()), "-");
	json_decref(time);
	time = json_string("soon");
	assert_string_equal(text_time(out, time), "-");
	json_decref(time);
}

static void members_have_defaults(void **state)
{
	json_t *json = json_pack("{s:I s:f s:s s:[s s]}", "big", (json_int_t)9007199254740993,
		"real", 2.9, "text", "x", "list", "a", "b");
	char out[4];

	assert_true(text_number(json, "big") == 9007199254740993);
	assert_int_equal(text_number(json, "real"), 2);
	assert_int_equal(text_number(json, "none"), 0);
	assert_int_equal(text_number(NULL, "none"), 0);
	assert_string_equal(text_string(json, "text"), "x");
	assert_string_equal(text_string(json, "big"), "");
	assert_string_equal(text_joined(out, sizeof(out), json_object_get(json, "list")), "a, ");
	assert_string_equal(text_joined(out, sizeof(out), NULL), "");
	json_decref(json);
}

static void drops_are_added_up(void **state)
{
	json_t *ledger = json_pack(
		"{s:{s:i s:i s:i}}", "dropped", "no_block", 1000, "quota", 0, "io_error", 3);
	char out[64];

	assert_int_equal(text_dropped(ledger), 1003);
	assert_string_equal(
		text_drop_reasons(out, sizeof(out), ledger), "no_block 1,000, io_error 3");
	assert_int_equal(text_dropped(NULL), 0);
	json_decref(ledger);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(si_keeps_three_digits),
		cmocka_unit_test(digits_are_grouped),
		cmocka_unit_test(durations_grow_hours),
		cmocka_unit_test(times_are_local),
		cmocka_unit_test(members_have_defaults),
		cmocka_unit_test(drops_are_added_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
