/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/filters: where the word is that the compiler's message is about.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/filters.h"

static void words_are_found_by_the_message(void **state)
{
	static const struct {
		const char *filter, *message;
		bool found;
		size_t offset, len;
	} rows[] = {
		{"tcp prot 80", "syntax error at 'prot', character 5", true, 4, 4},
		{"port http-x", "unknown port 'http-x', character 6", true, 5, 6},
		/* A minus belongs to a word only inside of it; what is quoted is the word. */
		{"port 80- or tcp", "syntax error at '80', character 6", true, 5, 2},
		{"port 80-90x", "unknown port '80-90x', character 6", true, 5, 6},
		{"len -foo > 3", "syntax error at '-', character 5", true, 4, 1},
		{"len-foo > 3", "syntax error at '-', character 4", true, 3, 1},
		{"udp port 80-", "what, character 10", true, 9, 2},
		{"tcp -foo", "what, character 5", true, 4, 1},
		{"port http-alt-x", "'so' at 'http-alt-x', character 6", true, 5, 10},
		{"tcp && && udp", "syntax error at '&&', character 8", true, 7, 2},
		{"tcp 'x", "syntax error at ''', character 5", true, 4, 1},
		{"ip[0] = ", "syntax error at the end, after '='", true, 8, 0},
		{"tcp ) or", "syntax error at ')', character 5", true, 4, 1},
		{"host x", "write an address instead of 'x', character 6", true, 5, 1},
		{"tcp and udp", "expression rejects all packets", false, 0, 0},
		{"tcp", "what, character 9", false, 0, 0},
		{"tcp", "what, character 0", false, 0, 0},
		{"tcp", "what, character 1 of many", false, 0, 0},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t offset = 0, len = 0;

		assert_int_equal(filters_locate(rows[i].filter, rows[i].message, &offset, &len),
			rows[i].found);
		if (!rows[i].found)
			continue;
		assert_int_equal(offset, rows[i].offset);
		assert_int_equal(len, rows[i].len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_found_by_the_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
