/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/mist_json: capture requests to specs, queries of lists, sessions to objects.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/mist_json.h"
#include "api/mist_message.h"
#include "fake.h"

#define A   "5c5b35000010"
#define B   "5c5b35000011"
#define NOW 1700000000

static struct config config;

static int decode(
	const char *text, bool organisation, struct mist_capture *capture, struct err *err)
{
	memset(err, 0, sizeof(*err));
	return mist_capture_decode(
		text, strlen(text), &config, &config.accounts[0], organisation, capture, err);
}

static void requests_become_specs(void **state)
{
	static const struct {
		const char *text;
		bool organisation;
		enum mist_format format;
		unsigned duration_s, packets, snaplen, n_ports;
		const char *filter;
	} cases[] = {
		{"{\"type\":\"wired\"}", false, MIST_PCAP, 600, 1024, 512, 2, ""},
		{"{\"type\":\"wired\",\"duration\":null,\"num_packets\":0,\"max_pkt_len\":64.0,"
		 "\"format\":\"stream\",\"ap_mac\":\"5C-5B-35-00-00-10\",\"band\":24,\"raw\":"
		 "false}",
			false, MIST_STREAM, 600, 0, 64, 1, ""},
		{"{\"type\":\"wired\",\"tcpdump_expression\":"
		 "\"udp port 67 or udp port 68 -vvv -tttt -en\"}",
			false, MIST_PCAP, 600, 1024, 512, 2, "udp port 67 or udp port 68"},
		{"{\"type\":\"wired\",\"tcpdump_expression\":\"ip[2:2] - 4 > 5 and len > -1\"}",
			false, MIST_PCAP, 600, 1024, 512, 2, "ip[2:2] - 4 > 5 and len > -1"},
		{"{\"type\":\"client\",\"client_mac\":\"60:A1:0A:77:34:12\",\"ssid\":\"\"}", false,
			MIST_PCAP, 600, 1024, 512, 2, "ether host 60:a1:0a:77:34:12"},
		{"{\"type\":\"client\",\"client_mac\":\"60a10a773412\",\"includes_mcast\":true}",
			false, MIST_PCAP, 600, 1024, 512, 2,
			"ether host 60:a1:0a:77:34:12 or ether multicast"},
		{"{\"type\":\"switch\",\"switches\":{},\"tcpdump_expression\":\"tcp\"}", false,
			MIST_STREAM, 600, 1024, 512, 2, "tcp"},
		{"{\"type\":\"switch\",\"switches\":{\"" A
		 "\":{\"ports\":{\"x\":{\"tcpdump_expression\":\"udp\"},\"y\":{}}}},"
		 "\"tcpdump_expression\":\"port 443\"}",
			false, MIST_STREAM, 600, 1024, 512, 1, "(udp) or (port 443)"},
		{"{\"type\":\"switch\",\"switches\":{\"" A
		 "\":{\"ports\":{\"x\":{\"tcpdump_expression\":\"udp\"},\"y\":{}}}}}",
			false, MIST_STREAM, 600, 1024, 512, 1, ""},
		{"{\"type\":\"switch\",\"switches\":{\"" A "\":{\"ports\":{\"ge-9\":{}}}}}", false,
			MIST_STREAM, 600, 1024, 512, 1, ""},
		{"{\"type\":\"gateway\",\"gateways\":{\"" A "\":{},\"" B
		 "\":{}},\"ports\":{\"p\":{\"tcpdump_expression\":\"icmp\"}},"
		 "\"max_pkt_len\":10240,\"num_packets\":10000,\"duration\":86400}",
			false, MIST_STREAM, 86400, 10000, 10240, 2, "icmp"},
		{"{\"type\":\"gateway\",\"gateways\":{\"001122334455\":{},\"" B "\":null}}", false,
			MIST_STREAM, 600, 1024, 512, 1, ""},
		{"{\"type\":\"mxedge\",\"mxedges\":{\"00000000-0000-0000-1000-" A
		 "\":{\"interfaces\":{\"xe0\":{\"tcpdump_expression\":\"arp -n\"}}}}}",
			true, MIST_STREAM, 600, 1024, 128, 1, "arp"},
		{"{\"type\":\"mxedge\",\"mxedges\":{},\"format\":\"tzsp\",\"tzsp_host\":"
		 "\"10.0.0.1\"}",
			true, MIST_TZSP, 600, 1024, 128, 2, ""},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct session_spec spec = {0};
		struct mist_capture capture;
		struct err err;

		if (decode(cases[i].text, cases[i].organisation, &capture, &err) != 0)
			fail_msg("%s: %s: %s", cases[i].text, err.field, err.text);
		mist_spec(&capture, &spec);
		assert_int_equal(capture.format, cases[i].format);
		assert_int_equal(spec.dialect, DIALECT_mist);
		assert_int_equal(spec.limit_ns, cases[i].duration_s * 1000000000ULL);
		assert_int_equal(spec.limit_packets, cases[i].packets);
		assert_int_equal(spec.snaplen_bytes, cases[i].snaplen);
		assert_int_equal(spec.n_ports, cases[i].n_ports);
		assert_string_equal(spec.filter, cases[i].filter);
		assert_int_equal(
			spec.output, cases[i].format == MIST_TZSP ? OUTPUT_STREAM : OUTPUT_FILE);
		if (spec.output == OUTPUT_STREAM) {
			assert_string_equal(spec.stream_address, "10.0.0.1");
			assert_int_equal(spec.stream_port, 37008);
			assert_int_equal(spec.encapsulation, STREAM_tzsp);
		}
		mist_capture_release(&capture);
	}
}

static void a_devices_port_may_have_one_of_ours(void **state)
{
	struct mist_capture capture;
	struct err err;

	/* ge-9 of A is tap1 by [mist] devices, tap1 is itself, everything else of A is tap0. */
	assert_int_equal(
		decode("{\"type\":\"switch\",\"switches\":{\"" A "\":{\"ports\":{\"ge-9\":{}}}}}",
			false, &capture, &err),
		0);
	assert_int_equal(capture.ports[0], 1);
	mist_capture_release(&capture);
	assert_int_equal(decode("{\"type\":\"switch\",\"switches\":{\"" A
				"\":{\"ports\":{\"tap1\":{},\"ge-1\":{}}}}}",
				 false, &capture, &err),
		0);
	assert_int_equal(capture.n_ports, 2);
	assert_int_equal(capture.ports[0], 1);
	assert_int_equal(capture.ports[1], 0);
	mist_capture_release(&capture);
}

static void bad_members_are_named(void **state)
{
	static const struct {
		const char *text, *field, *word;
	} cases[] = {
		{"{}", "type", "required"},
		{"{\"type\":\"radiotap,wired\"}", "type", "no radio"},
		{"{\"type\":\"mxedge\"}", "type", "/orgs"},
		{"{\"type\":\"wired\",\"duration\":59}", "duration", "60 to 86400"},
		{"{\"type\":\"wired\",\"num_packets\":10001}", "num_packets", "0 to 10000"},
		{"{\"type\":\"wired\",\"max_pkt_len\":2049}", "max_pkt_len", "64 to 2048"},
		{"{\"type\":\"wired\",\"format\":\"tzsp\"}", "format", "pcap or stream"},
		{"{\"type\":\"wired\",\"ap_mac\":\"001122334455\"}", "ap_mac", A ", " B},
		{"{\"type\":\"wired\",\"tcpdump_expression\":\"tcp -w x\"}", "tcpdump_expression",
			"-w"},
		{"{\"type\":\"wired\",\"tcpdump_expression\":\"-n tcp\"}", "tcpdump_expression",
			"tcp"},
		{"{\"type\":\"client\"}", "client_mac", "required"},
		{"{\"type\":\"client\",\"client_mac\":\"1\"}", "client_mac", "12 hex digits"},
		{"{\"type\":\"client\",\"client_mac\":\"" A "\",\"ssid\":\"x\"}", "ssid", "radio"},
		{"{\"type\":\"switch\"}", "switches", "required"},
		{"{\"type\":\"gateway\",\"gateways\":{\"" A "\":5}}", "gateways", "object"},
		{"{\"type\":\"switch\",\"switches\":{\"" A
		 "\":{\"ports\":{\"1\":{},\"2\":{},\"3\":{},\"4\":{},\"5\":{},\"6\":{},\"7\":{}}}}"
		 "}",
			"ports", "at most 6"},
		{"{\"type\":\"gateway\",\"gateways\":{\"" A
		 "\":{\"ports\":{\"p\":{\"tcpdump_expression\":\"tcp\"}}},\"" B "\":{}}}",
			"tcpdump_expression", "one filter"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mist_capture capture;
		struct err err;

		assert_int_equal(decode(cases[i].text, false, &capture, &err), -EINVAL);
		assert_string_equal(err.field, cases[i].field);
		if (strstr(err.text, cases[i].word) == NULL)
			fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].word);
	}
}

static int query(const char *text, struct mist_query *out, struct err *err)
{
	struct request request = {0};
	int rc;

	assert_int_equal(request_target_parse(&request, "/", text), 0);
	rc = mist_query_decode(&request, NOW, out, err);
	free(request.text);
	return rc;
}

static void ranges_of_time_are_understood(void **state)
{
	static const struct {
		const char *text;
		uint64_t start_s, end_s, limit, page;
	} cases[] = {
		{"", NOW - 86400, NOW, 100, 1},
		{"page=1&limit=100&start=0&end=0&duration=1d", NOW - 86400, NOW, 100, 1},
		{"start=1600000000&end=1600000100", 1600000000, 1600000100, 100, 1},
		{"start=1600000000.5", 1600000000, NOW, 100, 1},
		{"end=1600000000&duration=10m", 1599999400, 1600000000, 100, 1},
		{"duration=2w", NOW - 14 * 86400, NOW, 100, 1},
		{"start=-1d&end=-1h", NOW - 86400, NOW - 3600, 100, 1},
		{"end=now&duration=30s", NOW - 30, NOW, 100, 1},
		{"limit=0&page=7", NOW - 86400, NOW, 0, 7},
	};
	static const char *const bad[][2] = {{"duration=1y", "duration"}, {"start=x", "start"},
		{"end=-1", "end"}, {"start=5&end=4", "start"}, {"limit=-1", "limit"},
		{"page=0", "page"}, {"client_mac=5", "client_mac"}};
	struct mist_query out;
	struct err err;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(query(cases[i].text, &out, &err), 0);
		assert_int_equal(out.start_s, cases[i].start_s);
		assert_int_equal(out.end_s, cases[i].end_s);
		assert_int_equal(out.limit, cases[i].limit);
		assert_int_equal(out.page, cases[i].page);
	}
	assert_int_equal(query("client_mac=5C:5B:35:00:00:10", &out, &err), 0);
	assert_string_equal(out.client_mac, A);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(query(bad[i][0], &out, &err), -EINVAL);
		assert_string_equal(err.field, bad[i][1]);
	}
}

static void expect_json(json_t *json, const char *expected)
{
	char *text = json_print(json);

	assert_string_equal(text, expected);
	free(text);
	json_decref(json);
}

static void sessions_become_objects(void **state)
{
	struct session_info info = {
		.id = {{1}},
		.state = SESSION_running,
		.created_ns = 1700000000250000000ULL,
		.started_ns = 1700000000500000000ULL,
		.limit_ns = 600000000000ULL,
		.limit_packets = 1024,
		.filter = "udp",
		.notes = "",
	};
	struct mist_capture capture;
	struct err err;

	assert_int_equal(decode("{\"type\":\"wired\",\"tcpdump_expression\":\"udp -n\"}", false,
				 &capture, &err),
		0);
	info.vendor = capture.echo;
	info.ledger.accepted = 7;
	expect_json(mist_started(&info, &config.accounts[0]),
		"{\"id\":\"01000000-0000-0000-0000-000000000000\",\"org_id\":\"o\",\"site_id\":"
		"\"s\","
		"\"timestamp\":1700000000.5,\"expiry\":1700000600.5,\"type\":\"wired\",\"format\":"
		"\"pcap\",\"duration\":600,\"max_pkt_len\":512,\"client_mac\":null,\"ssid\":null,"
		"\"num_packets\":1024,\"include_mcast\":false,\"aps\":[\"" A "\",\"" B
		"\"],\"ap_count\":2,\"invalid_aps\":{},\"tcpdump_parser_expression\":\"udp\","
		"\"enabled\":true,\"raw\":true}");
	expect_json(mist_status(&info),
		"{\"id\":\"01000000-0000-0000-0000-000000000000\",\"type\":\"wired\",\"format\":"
		"\"pcap\",\"duration\":600,\"max_num_packets\":1024,\"max_pkt_len\":512,"
		"\"includes_mcast\":false,\"client_mac\":null,\"ap_mac\":null,\"ssid\":null,"
		"\"tcpdump_expression\":\"udp -n\",\"num_packets\":7,\"started_time\":1700000000,"
		"\"aps\":[\"" A "\",\"" B "\"],\"ok\":[\"" A "\",\"" B "\"],\"failed\":[]}");
	info.state = SESSION_complete;
	info.notes = "n";
	expect_json(mist_item(&info, &config.accounts[0], "http://x"),
		"{\"id\":\"01000000-0000-0000-0000-000000000000\",\"org_id\":\"o\",\"site_id\":"
		"\"s\","
		"\"timestamp\":1700000000.25,\"type\":\"wired\",\"format\":\"pcap\",\"duration\":"
		"600,"
		"\"max_num_packets\":1024,\"aps\":[\"" A "\",\"" B "\"],\"ap_macs\":[\"" A "\",\"" B
		"\"],\"url\":\"http://x\",\"pcap_url\":\"http://x\",\"termination_reason\":"
		"\"default\",\"notes\":\"n\"}");
	mist_capture_release(&capture);
}

static const uint8_t frame[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 42, 8, 0, 0x45, 0,
	0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0x30, 0x39, 0, 8, 0, 0};

static void packets_become_messages(void **state)
{
	static const char *const parts[] = {
		",\"pcap_dict\":{\"src_mac\":\"02:00:00:00:00:02\",\"dst_mac\":"
		"\"02:00:00:00:00:01\",\"vlan\":42,\"src_ip\":\"10.0.0.1\",\"dst_ip\":"
		"\"10.0.0.2\",\"src_port\":53,\"dst_port\":12345,\"proto\":\"UDP\",\"ap_mac\":"
		"\"5c:5b:35:00:00:11\",\"direction\":\"tx\",\"timestamp\":1700000000,\"length\":"
		"159.0,\"interface\":\"wired\",\"info\":\"1700000000.123456 ",
		"\\n\"},\"pcap_raw\":\"1MOyoQIABAAAAAAAAAAAAP//AAABAAAAAPFTZUDiAQAuAAAAnwAAAA",
		"\"}}",
	};
	struct mist_packet packet = {
		.time_ns = 1700000000123456789ULL,
		.interface = 0,
		.flags = 2,
		.cap_len = sizeof(frame),
		.orig_len = 159,
		.data = frame,
	};
	struct session_info info = {.n_ports = 1, .ports = {"tap1"}};
	struct mist_source source;
	char *text, *at;

	info.vendor = "{\"scope\":\"site\",\"type\":\"wired\"}";
	mist_source_read(&info, &config, &source);
	at = text = mist_message(&source, &packet);
	assert_int_equal(strncmp(text, parts[0], strlen(parts[0])), 0);
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		at = strstr(at, parts[i]);
		if (at == NULL)
			fail_msg("%s lacks %s", text, parts[i]);
		at += strlen(parts[i]);
	}
	assert_string_equal(at, "");
	free(text);

	info.vendor = "{\"scope\":\"org\",\"type\":\"mxedge\"}";
	mist_source_read(&info, &config, &source);
	packet.flags = 1;
	packet.cap_len = 10; /* not even two addresses */
	text = mist_message(&source, &packet);
	assert_non_null(strstr(text, "\"mxedge_id\":\"00000000-0000-0000-1000-5c5b35000011\""));
	assert_non_null(strstr(text, "\"protocol\":"));
	assert_non_null(strstr(text, "\"direction\":\"rx\""));
	assert_non_null(strstr(text, "\"interface\":\"tap1\""));
	assert_non_null(strstr(text, "\"src_mac\":null"));
	free(text);
}

static void flags_are_found_in_a_block(void **state)
{
	static const uint32_t with[] = {
		6, 0, 0, 0, 0, 5, 5, 0x44332211, 0x55, 0x00040004, 9, 0x00040002, 2, 0, 0};
	static const uint32_t without[] = {6, 0, 0, 0, 0, 5, 5, 0x44332211, 0x55, 0};

	assert_int_equal(mist_block_flags((const uint8_t *)with, sizeof(with)), 2);
	assert_int_equal(mist_block_flags((const uint8_t *)without, sizeof(without)), 0);
	/* Nothing is believed that reaches over the end. */
	for (uint32_t len = 0; len < sizeof(with); len += 4)
		mist_block_flags((const uint8_t *)with, len);
}

static void errors_say_what_the_vendor_says(void **state)
{
	struct err err = {.code = EINVAL, .field = "filter", .text = "syntax error"};

	mist_err_rename(&err);
	expect_json(mist_error(400, &err), "{\"detail\":\"tcpdump_expression: syntax error\"}");
	expect_json(mist_error(401, &err),
		"{\"detail\":\"Authentication credentials were not provided.\"}");
	expect_json(mist_error(403, &err),
		"{\"detail\":\"You do not have permission to perform this action.\"}");
	expect_json(mist_error(404, &(struct err){0}), "{\"detail\":\"Not found.\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_become_specs),
		cmocka_unit_test(a_devices_port_may_have_one_of_ours),
		cmocka_unit_test(bad_members_are_named),
		cmocka_unit_test(ranges_of_time_are_understood),
		cmocka_unit_test(sessions_become_objects),
		cmocka_unit_test(packets_become_messages),
		cmocka_unit_test(flags_are_found_in_a_block),
		cmocka_unit_test(errors_say_what_the_vendor_says),
	};
	int rc;

	config.n_ports = 2;
	strcpy(config.ports[0].name, "tap0");
	strcpy(config.ports[1].name, "tap1");
	for (unsigned i = 0; i < 2; i++)
		strcpy(config.ports[i].interface, "lo");
	config.mist.devices.n = 3;
	strcpy(config.mist.devices.item[0], A "=tap0");
	strcpy(config.mist.devices.item[1], B "=tap1");
	strcpy(config.mist.devices.item[2], A "/ge-9=tap1");
	config.n_accounts = 1;
	strcpy(config.accounts[0].name, "default");
	strcpy(config.accounts[0].site_id, "s");
	strcpy(config.accounts[0].org_id, "o");
	config.accounts[0].ports.n = 1;
	strcpy(config.accounts[0].ports.item[0], "*");
	fake_start(&config, "/tmp");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	fake_stop();
	return rc;
}
