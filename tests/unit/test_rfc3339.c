/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/rfc3339: times there and back, and what is no time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/rfc3339.h"

static void times_are_printed_in_utc(void **state)
{
	char text[RFC3339_SIZE];

	rfc3339_print(1700000000123456789ULL, 9, text);
	assert_string_equal(text, "2023-11-14T22:13:20.123456789Z");
	rfc3339_print(1700000000123456789ULL, 6, text);
	assert_string_equal(text, "2023-11-14T22:13:20.123456Z");
	rfc3339_print(1700000000000000001ULL, 9, text);
	assert_string_equal(text, "2023-11-14T22:13:20.000000001Z");
	rfc3339_print(1700000000999999999ULL, 0, text);
	assert_string_equal(text, "2023-11-14T22:13:20Z");
}

static void times_are_parsed(void **state)
{
	static const struct {
		const char *text;
		uint64_t wall_ns;
	} cases[] = {
		{"2023-11-14T22:13:20Z", 1700000000000000000ULL},
		{"2023-11-14t22:13:20z", 1700000000000000000ULL},
		{"2023-11-14T22:13:20.5Z", 1700000000500000000ULL},
		{"2023-11-14T22:13:20.1234567899Z", 1700000000123456789ULL},
		{"2023-11-14T23:43:20+01:30", 1700000000000000000ULL},
		{"2023-11-14T20:13:20-02:00", 1700000000000000000ULL},
		{"1970-01-01T00:00:00Z", 0},
		{"2024-02-29T00:00:00Z", 1709164800000000000ULL},
		{"2016-12-31T23:59:60Z", 1483228800000000000ULL},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t wall_ns;

		assert_true(rfc3339_parse(cases[i].text, &wall_ns));
		assert_true(wall_ns == cases[i].wall_ns);
	}
}

static void other_text_is_no_time(void **state)
{
	static const char *const bad[] = {
		"",
		"yesterday",
		"2023-11-14",
		"2023-11-14T22:13:20",
		"2023-11-14 22:13:20Z",
		"2023-11-14T22:13Z",
		"2023-11-14T22:13:20.Z",
		"2023-11-14T22:13:20Zx",
		"2023-11-14T22:13:20+0100",
		"2023-11-14T22:13:20+24:00",
		"2023-13-14T22:13:20Z",
		"2023-02-29T22:13:20Z",
		"2023-02-30T22:13:60Z",
		"2023-11-14T24:13:20Z",
		"2023-11-14T22:60:20Z",
		"2023-11-14T22:13:61Z",
		"1969-12-31T23:59:59Z",
		"1970-01-01T00:00:00+01:00",
		"9999-11-14T22:13:20Z",
		"-023-11-14T22:13:20Z",
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t wall_ns;

		if (rfc3339_parse(bad[i], &wall_ns))
			fail_msg("taken for a time: %s", bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_printed_in_utc),
		cmocka_unit_test(times_are_parsed),
		cmocka_unit_test(other_text_is_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
