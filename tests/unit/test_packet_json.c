/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/packet_json: any frame's summary is JSON of bounded length; and api/pace, which keeps a rate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/pace.h"
#include "api/packet_json.h"
#include "config/json.h"

#include "frames.h"

#define FRAMES 20000

static void any_frame_becomes_json_that_fits(void **state)
{
	struct frames_rng rng = {.state = 0x15};
	static struct frame frame;
	char text[PACKET_JSON_MAX];

	for (unsigned i = 0; i < FRAMES; i++) {
		struct packet_summary summary;
		struct err err;
		json_t *json;
		size_t len;

		frame.len = 0;
		frame_make(&frame, &rng);
		if (frame.len > 0)
			frame.data[frames_below(&rng, frame.len)] = (uint8_t)frames_random(&rng);
		packet_summarize(&(struct packet_frame){.number = i + 1,
					 .data = frame.data,
					 .cap_len = frame.len,
					 .orig_len = frame.len},
			&summary);
		len = packet_json_print(&summary, NULL, text, sizeof(text));
		assert_true(len > 0 && len == strlen(text));
		json = json_parse(text, len, &err);
		assert_non_null(json);
		assert_int_equal(json_integer_value(json_object_get(json, "number")), i + 1);
		assert_int_equal(json_integer_value(json_object_get(json, "length")), frame.len);
		assert_string_equal(json_string_value(json_object_get(json, "info")), summary.info);
		assert_int_equal(
			json_is_null(json_object_get(json, "src_port")), !summary.outer.has_ports);
		assert_int_equal(
			json_is_null(json_object_get(json, "tunnel")), summary.tunnel == NULL);
		json_decref(json);
	}
}

static void what_does_not_fit_is_nothing(void **state)
{
	static const uint8_t frame[60] = {[12] = 0x88, [13] = 0xb5};
	struct packet_summary summary;
	char text[PACKET_JSON_MAX];
	size_t len;

	packet_summarize(
		&(struct packet_frame){.data = frame, .cap_len = 60, .orig_len = 60}, &summary);
	len = packet_json_print(&summary, "\"data\":\"AAAA\"", text, sizeof(text));
	assert_non_null(strstr(text, ",\"data\":\"AAAA\"}"));
	for (size_t size = 1; size <= len; size++)
		assert_int_equal(packet_json_print(&summary, "\"data\":\"AAAA\"", text, size), 0);
	assert_int_equal(packet_json_print(&summary, "\"data\":\"AAAA\"", text, len + 1), len);
}

static void a_pace_is_kept_over_time(void **state)
{
	struct pace pace = {0};
	uint64_t now_ns = 1000000000000ULL, n = 0;

	/* What was saved up, and not more. */
	assert_int_equal(pace_take(&pace, 1000, now_ns, 5000), 600);
	assert_int_equal(pace_take(&pace, 1000, now_ns, 5000), 0);
	for (unsigned i = 0; i < 1000; i++)
		n += pace_take(&pace, 1000, now_ns += 10000000, 7000);
	assert_int_equal(n, 10000);
	/* What is not wanted is saved, within the burst. */
	now_ns += 100000000;
	assert_int_equal(pace_take(&pace, 1000, now_ns, 30), 30);
	assert_int_equal(pace_take(&pace, 1000, now_ns, 500), 70);
	/* One a second comes, too. */
	pace = (struct pace){0};
	assert_int_equal(pace_take(&pace, 1, now_ns, 10), 1);
	assert_int_equal(pace_take(&pace, 1, now_ns + 999999999, 10), 0);
	assert_int_equal(pace_take(&pace, 1, now_ns + 1000000000, 10), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_frame_becomes_json_that_fits),
		cmocka_unit_test(what_does_not_fit_is_nothing),
		cmocka_unit_test(a_pace_is_kept_over_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
