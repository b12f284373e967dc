/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/citrix_json: requests to specs, captures and packets to objects, errors.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/citrix_json.h"
#include "fake.h"

#define PC(members) "{\"packet_capture\":{" members "}}"

static struct config config;

static int decode(const char *text, struct citrix_capture *capture, struct err *err)
{
	memset(err, 0, sizeof(*err));
	return citrix_capture_decode(text, strlen(text), &config, "*", capture, err);
}

static void what_is_left_out_has_the_default(void **state)
{
	static const char *const texts[] = {"", "{}", "{\"packet_capture\":{}}",
		"{\"packet_capture\":null}",
		PC("\"duration\":null,\"interface\":null,\"summary\":5")};

	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct citrix_capture capture;
		struct session_spec spec = {0};
		struct err err;

		assert_int_equal(decode(texts[i], &capture, &err), 0);
		citrix_spec(&capture, &spec);
		assert_int_equal(spec.dialect, DIALECT_citrix);
		assert_int_equal(spec.n_ports, 3);
		assert_null(spec.filter);
		assert_int_equal(spec.limit_ns, 5000000000);
		assert_int_equal(spec.limit_packets, 0);
		assert_int_equal(spec.limit_file_bytes, 575000000);
		assert_int_equal(spec.snaplen_bytes, 0);
		assert_string_equal(spec.vendor,
			"{\"interface\":\"tap0--a-b--tap2\",\"duration\":5,\"filter_str\":\"\","
			"\"max_packets\":\"MAX\"}");
		citrix_capture_release(&capture);
	}
}

static void numbers_may_be_strings(void **state)
{
	static const struct {
		const char *members;
		uint64_t duration_s, max_packets;
	} cases[] = {
		{"\"duration\":30,\"max_packets\":1000", 30, 1000},
		{"\"duration\":\"15\",\"max_packets\":\"5000\"", 15, 5000},
		{"\"duration\":10.0,\"max_packets\":\"MAX\"", 10, 0},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct citrix_capture capture;
		char text[200];
		struct err err;

		snprintf(text, sizeof(text), PC("%s"), cases[i].members);
		assert_int_equal(decode(text, &capture, &err), 0);
		assert_int_equal(capture.duration_s, cases[i].duration_s);
		assert_int_equal(capture.max_packets, cases[i].max_packets);
		citrix_capture_release(&capture);
	}
}

static void interfaces_are_cut_at_two_hyphens_only(void **state)
{
	static const struct {
		const char *interface;
		unsigned n;
		uint8_t ports[3];
	} cases[] = {
		{"MGMT", 1, {0}},
		{"1/2--MGMT", 2, {2, 0}},
		{"LTE-1--MGMT--1/2", 3, {1, 0, 2}},
		{"a-b--tap0", 2, {1, 0}},
		{"MGMT--tap0--MGMT", 1, {0}},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct citrix_capture capture;
		char text[200];
		struct err err;

		snprintf(text, sizeof(text), PC("\"interface\":\"%s\""), cases[i].interface);
		assert_int_equal(decode(text, &capture, &err), 0);
		assert_int_equal(capture.n_ports, cases[i].n);
		assert_memory_equal(capture.ports, cases[i].ports, cases[i].n);
		citrix_capture_release(&capture);
	}
}

static void bad_members_are_named(void **state)
{
	static const struct {
		const char *text, *field, *word;
	} cases[] = {
		{"{", "", "malformed"},
		{"[]", "", "object"},
		{"{\"packet_capture\":[]}", "packet_capture", "object"},
		{"{\"interface\":\"MGMT\"}", "interface", "packet_capture"},
		{"{\"filter_str\":\"tcp\"}", "filter_str", "packet_capture"},
		{PC("\"duration\":6"), "duration", "5, 10, 15, 30"},
		{PC("\"duration\":0"), "duration", "5, 10, 15, 30"},
		{PC("\"duration\":\"5s\""), "duration", "not \"5s\""},
		{PC("\"duration\":true"), "duration", "5, 10, 15, 30"},
		{PC("\"max_packets\":0"), "max_packets", "1000, 2000, 5000, MAX"},
		{PC("\"max_packets\":\"max\""), "max_packets", "MAX"},
		{PC("\"max_packets\":[1000]"), "max_packets", "MAX"},
		{PC("\"interface\":\"\""), "interface", "bytes"},
		{PC("\"interface\":\"--\""), "interface", "known: MGMT, LTE-1, 1/2, tap0"},
		{PC("\"interface\":\"MGMT--\""), "interface", "no interface \"\""},
		{PC("\"interface\":\"mgmt\""), "interface", "no interface \"mgmt\""},
		{PC("\"interface\":[\"MGMT\"]"), "interface", "string"},
		{PC("\"filter_str\":5"), "filter_str", "string"},
		{PC("\"filter_str\":\"a\\u0007\""), "filter_str", "control"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct citrix_capture capture;
		struct err err;

		assert_int_equal(decode(cases[i].text, &capture, &err), -EINVAL);
		assert_string_equal(err.field, cases[i].field);
		if (strstr(err.text, cases[i].word) == NULL)
			fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].word);
	}
}

static void changes_keep_what_cannot_change(void **state)
{
	static const struct session_info info = {
		.vendor = "{\"interface\":\"MGMT\",\"duration\":30,\"filter_str\":\"udp\","
			  "\"max_packets\":1000}",
		.limit_ns = 30000000000,
		.limit_packets = 1000,
	};
	static const struct {
		const char *text;
		int rc;
		const char *field;
		uint64_t limit_packets, limit_s;
	} cases[] = {
		{"", 0, NULL, 1000, 30},
		{PC("\"duration\":\"10\",\"max_packets\":\"MAX\""), 0, NULL, 0, 10},
		{PC("\"interface\":\"MGMT\",\"filter_str\":\"udp\",\"duration\":5"), 0, NULL, 1000,
			5},
		{PC("\"interface\":\"1/2\",\"duration\":5"), -EINVAL, "interface", 0, 0},
		{PC("\"filter_str\":\"\""), -EINVAL, "filter_str", 0, 0},
		{PC("\"duration\":7"), -EINVAL, "duration", 0, 0},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t limit_packets = 0, limit_ns = 0;
		struct err err = {0};
		char *echo = NULL;

		assert_int_equal(citrix_change_decode(cases[i].text, strlen(cases[i].text), &info,
					 &limit_packets, &limit_ns, &echo, &err),
			cases[i].rc);
		if (cases[i].rc < 0) {
			assert_string_equal(err.field, cases[i].field);
			continue;
		}
		assert_int_equal(limit_packets, cases[i].limit_packets);
		assert_int_equal(limit_ns, cases[i].limit_s * 1000000000);
		assert_non_null(strstr(echo, "\"interface\":\"MGMT\""));
		if (i == 1)
			assert_non_null(strstr(echo, "\"duration\":\"10\""));
		free(echo);
	}
}

static void packets_are_ten_strings(void **state)
{
	static const uint8_t frame[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0,
		0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0x30, 0x39, 0, 8, 0, 0};
	struct packet_summary packet;
	json_t *json;
	char *text;

	packet_summarize(
		&(struct packet_frame){
			.number = 7,
			.time_ns = 1700000000123456789ULL,
			.data = frame,
			.cap_len = sizeof(frame),
			.orig_len = 60,
		},
		&packet);
	json = citrix_packet(&packet);
	text = json_print(json);
	assert_string_equal(text,
		"{\"number\":\"7\",\"time\":\"2023-11-14T22:13:20.123456789Z\","
		"\"src_mac\":\"02:00:00:00:00:02\",\"dst_mac\":\"02:00:00:00:00:01\","
		"\"src_ip\":\"10.0.0.1\",\"dst_ip\":\"10.0.0.2\",\"src_port\":\"53\","
		"\"dst_port\":\"12345\",\"protocol\":\"UDP\",\"length\":\"60\"}");
	free(text);
	json_decref(json);
}

static void captures_show_what_was_asked(void **state)
{
	struct session_info info = {
		.vendor = "{\"interface\":\"MGMT\",\"duration\":\"5\"}",
		.state = SESSION_complete,
		.reason = END_file_limit,
	};
	json_t *json = citrix_capture(&info, citrix_added_message(&info), json_array());
	char *text = json_print(json);

	assert_string_equal(text,
		"{\"interface\":\"MGMT\",\"duration\":\"5\",\"message\":\"resource added "
		"succesfully; the capture ended at the maximum file size of 575 MB\","
		"\"summary\":[]}");
	free(text);
	json_decref(json);
	info.reason = END_time_limit;
	assert_string_equal(citrix_added_message(&info), "resource added succesfully");
	assert_string_equal(citrix_state_message(&info), "packet capture completed");
	info.state = SESSION_running;
	assert_string_equal(citrix_state_message(&info), "packet capture is running");
}

static void errors_are_flat(void **state)
{
	static const struct {
		struct err err;
		int status;
		const char *text;
	} cases[] = {
		{{.code = EINVAL, .field = "filter", .text = "syntax error"}, 400,
			"{\"errorcode\":400,\"errormessage\":\"filter_str: syntax error\"}"},
		{{.code = EBUSY, .text = "busy"}, 400,
			"{\"errorcode\":400,\"errormessage\":\"busy\"}"},
		{{.code = EAGAIN, .text = "full"}, 500,
			"{\"errorcode\":500,\"errormessage\":\"full\"}"},
		{{.code = ENOSPC, .text = "no room"}, 500,
			"{\"errorcode\":500,\"errormessage\":\"no room\"}"},
		{{.code = EPERM}, 403,
			"{\"errorcode\":403,\"errormessage\":\"Unauthorized: Forbidden\"}"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = cases[i].err;
		json_t *json;
		char *text;

		citrix_err_rename(&err);
		assert_int_equal(citrix_status(&err), cases[i].status);
		json = citrix_error(cases[i].status, &err);
		text = json_print(json);
		assert_string_equal(text, cases[i].text);
		free(text);
		json_decref(json);
	}
}

static void logins_are_decoded(void **state)
{
	static const char good[] =
		"{\"login\":{\"username\":\"admin\",\"password\":\"x\",\"timeout\":\"9999\"}}";
	static const char *const bad[][2] = {
		{"{}", "login"},
		{"{\"login\":\"admin\"}", "login"},
		{"{\"login\":{\"username\":\"admin\"}}", "password"},
		{"{\"login\":{\"password\":\"x\"}}", "username"},
	};
	const char *name, *secret;
	json_t *document;
	struct err err;

	assert_int_equal(
		citrix_login_decode(good, strlen(good), &name, &secret, &document, &err), 0);
	assert_string_equal(name, "admin");
	assert_string_equal(secret, "x");
	json_decref(document);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(citrix_login_decode(bad[i][0], strlen(bad[i][0]), &name, &secret,
					 &document, &err),
			-EINVAL);
		assert_string_equal(err.field, bad[i][1]);
		json_decref(document);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left_out_has_the_default),
		cmocka_unit_test(numbers_may_be_strings),
		cmocka_unit_test(interfaces_are_cut_at_two_hyphens_only),
		cmocka_unit_test(bad_members_are_named),
		cmocka_unit_test(changes_keep_what_cannot_change),
		cmocka_unit_test(packets_are_ten_strings),
		cmocka_unit_test(captures_show_what_was_asked),
		cmocka_unit_test(errors_are_flat),
		cmocka_unit_test(logins_are_decoded),
	};
	int rc;

	config.n_ports = 3;
	strcpy(config.ports[0].name, "tap0");
	strcpy(config.ports[1].name, "a-b");
	strcpy(config.ports[2].name, "tap2");
	for (unsigned i = 0; i < 3; i++)
		strcpy(config.ports[i].interface, "lo");
	config.citrix.interfaces.n = 3;
	strcpy(config.citrix.interfaces.item[0], "MGMT=tap0");
	strcpy(config.citrix.interfaces.item[1], "LTE-1=a-b");
	strcpy(config.citrix.interfaces.item[2], "1/2=tap2");
	fake_start(&config, "/tmp");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	fake_stop();
	return rc;
}
