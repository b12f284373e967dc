/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/uuid: version and variant, both spellings there and back, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "control/uuid.h"

static const struct uuid fixed = {{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x77, 0x88, 0x99, 0xaa,
	0xbb, 0xcc, 0xdd, 0xee, 0xff}};
#define FIXED     "00112233-4455-4677-8899-aabbccddeeff"
#define FIXED_HEX "00112233445546778899aabbccddeeff"

static void made_ids_are_random_version_4(void **state)
{
	struct uuid ids[1000];
	uint8_t ones[16] = {0}, zeros[16] = {0};

	for (unsigned i = 0; i < 1000; i++) {
		uuid_make(&ids[i]);
		assert_int_equal(ids[i].byte[6] >> 4, 4);
		assert_int_equal(ids[i].byte[8] >> 6, 2);
		for (unsigned k = 0; k < 16; k++) {
			ones[k] |= ids[i].byte[k];
			zeros[k] |= ~ids[i].byte[k];
		}
		for (unsigned k = 0; k < i; k++)
			assert_memory_not_equal(&ids[i], &ids[k], sizeof(ids[i]));
	}
	/* Every other bit took both values: for one bit the odds against that are 2^-999. */
	for (unsigned k = 0; k < 16; k++) {
		assert_int_equal(ones[k], k == 6 ? 0x4f : k == 8 ? 0xbf : 0xff);
		assert_int_equal(zeros[k], k == 6 ? 0xbf : k == 8 ? 0x7f : 0xff);
	}
}

static void both_spellings_are_printed(void **state)
{
	char text[UUID_TEXT_SIZE];

	uuid_print(&fixed, text);
	assert_string_equal(text, FIXED);
	uuid_print_hex(&fixed, text);
	assert_string_equal(text, FIXED_HEX);
}

static void both_spellings_are_parsed(void **state)
{
	struct uuid uuid = {{0}};

	assert_true(uuid_parse(FIXED, 36, &uuid));
	assert_memory_equal(&uuid, &fixed, sizeof(uuid));
	memset(&uuid, 0, sizeof(uuid));
	assert_true(uuid_parse(FIXED_HEX "/more", 32, &uuid));
	assert_memory_equal(&uuid, &fixed, sizeof(uuid));
}

static void anything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"0",
		"00112233-4455-4677-8899-aabbccddeef",
		"00112233-4455-4677-8899-aabbccddeefff",
		"00112233-4455-4677-8899-aabbccddeefF",
		"00112233-4455-4677-8899-AABBCCDDEEFF",
		"0011223-34455-4677-8899-aabbccddeeff",
		"00112233-4455-4677-8899-aabbccddee g",
		"001122334455467788-99aabbccddeeff--",
		"../../../../etc/passwd/aaaaaaaaaaaaa",
		"00112233_4455_4677_8899_aabbccddeeff",
		"00112233445546778899aabbccddeef",
		"00112233445546778899aabbccddeefg",
		"{0112233-4455-4677-8899-aabbccddeef}",
	};
	struct uuid uuid = fixed;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(uuid_parse(bad[i], strlen(bad[i]), &uuid));
	assert_false(uuid_parse("00112233-4455-4677-8899-aabbccddee\0f", 36, &uuid));
	assert_memory_equal(&uuid, &fixed, sizeof(uuid));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_ids_are_random_version_4),
		cmocka_unit_test(both_spellings_are_printed),
		cmocka_unit_test(both_spellings_are_parsed),
		cmocka_unit_test(anything_else_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
