/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/packet_words: which packets have which words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "api/packet_words.h"

static bool found(const char *text)
{
	/* UDP 10.0.0.1:53 > 10.0.0.2:1024 */
	static const uint8_t bytes[] = "\x02\0\0\0\0\x01\x02\0\0\0\0\xfe\x08\0"
				       "\x45\0\0\x1c\0\0\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02"
				       "\0\x35\x04\0\0\x08\0\0";
	struct packet_summary summary;
	struct packet_words words;
	struct err err;

	packet_summarize(
		&(struct packet_frame){
			.data = bytes, .cap_len = sizeof(bytes) - 1, .orig_len = sizeof(bytes) - 1},
		&summary);
	assert_int_equal(packet_words_parse(text, &words, &err), 0);
	return packet_words_match(&words, &summary);
}

static void all_words_must_be_there(void **state)
{
	assert_true(found(NULL));
	assert_true(found(""));
	assert_true(found("udp"));
	assert_true(found("  UDP\t10.0.0.2 "));
	assert_true(found("10.0.0.1.53"));
	assert_true(found("02:00:00:00:00:fe"));
	assert_false(found("tcp"));
	assert_false(found("udp tcp"));
}

static void a_minus_excludes(void **state)
{
	assert_true(found("-tcp"));
	assert_true(found("udp -tcp"));
	assert_false(found("-udp"));
	/* By itself it is a word as others are. */
	assert_false(found("udp - "));
}

static void too_much_is_refused(void **state)
{
	struct packet_words words;
	char text[128];
	struct err err;

	assert_true(packet_words_parse("1 2 3 4 5 6 7 8 9", &words, &err) < 0);
	assert_string_equal(err.field, "words");
	memset(text, 'x', sizeof(text));
	text[PACKET_WORD_MAX] = '\0';
	assert_true(packet_words_parse(text, &words, &err) < 0);
	text[PACKET_WORD_MAX - 1] = '\0';
	assert_int_equal(packet_words_parse(text, &words, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_words_must_be_there),
		cmocka_unit_test(a_minus_excludes),
		cmocka_unit_test(too_much_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
