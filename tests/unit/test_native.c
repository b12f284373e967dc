/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/native_json: bodies to specs, sessions and errors to JSON.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/native_json.h"
#include "fake.h"

static struct config config;
static const struct principal admin = {.name = "admin", .account = "*", .role = ROLE_ADMIN};
static const struct principal one = {.name = "op", .account = "one", .role = ROLE_OPERATOR};
static const struct principal none = {.name = "op", .account = "none", .role = ROLE_OPERATOR};

static int decode(const char *text, const struct principal *who, struct session_spec *spec,
	json_t **document, struct err *err)
{
	memset(spec, 0, sizeof(*spec));
	memset(err, 0, sizeof(*err));
	return native_spec_decode(text, strlen(text), &config, who, spec, document, err);
}

static void everything_reaches_the_spec(void **state)
{
	struct session_spec spec;
	json_t *document;
	struct err err;

	assert_int_equal(
		decode("{\"name\":\"n\",\"ports\":[\"tap1\",\"tap0\"],\"filter\":\"tcp\","
		       "\"sampling\":{\"mode\":\"flow\",\"n\":8},\"snaplen\":96,\"direction\":"
		       "\"out\",\"limits\":{\"packets\":1,\"bytes\":2,\"seconds\":0.25,"
		       "\"file_bytes\":4},\"expected\":{\"bytes_per_second\":5,"
		       "\"packets_per_second\":6},\"output\":{\"type\":\"none\"},\"notes\":"
		       "\"a\\nb\"}",
			&admin, &spec, &document, &err),
		0);
	assert_string_equal(spec.name, "n");
	assert_string_equal(spec.notes, "a\nb");
	assert_string_equal(spec.account, "*");
	assert_string_equal(spec.owner, "admin");
	assert_int_equal(spec.dialect, DIALECT_native);
	assert_int_equal(spec.n_ports, 2);
	assert_int_equal(spec.ports[0], 1);
	assert_int_equal(spec.ports[1], 0);
	assert_string_equal(spec.filter, "tcp");
	assert_int_equal(spec.sample_mode, SAMPLE_FLOW);
	assert_int_equal(spec.sample_n, 8);
	assert_int_equal(spec.snaplen_bytes, 96);
	assert_int_equal(spec.direction, DIRECTION_OUT);
	assert_int_equal(spec.limit_packets, 1);
	assert_int_equal(spec.limit_bytes, 2);
	assert_int_equal(spec.limit_ns, 250000000);
	assert_int_equal(spec.limit_file_bytes, 4);
	assert_int_equal(spec.expected_bytes, 5);
	assert_int_equal(spec.expected_packets, 6);
	assert_int_equal(spec.output, OUTPUT_NONE);
	assert_null(spec.vendor);
	json_decref(document);
}

static void nothing_asks_for_everything(void **state)
{
	static const char *const texts[] = {"", "{}"};

	for (unsigned i = 0; i < 2; i++) {
		struct session_spec spec;
		json_t *document;
		struct err err;

		assert_int_equal(decode(texts[i], &admin, &spec, &document, &err), 0);
		assert_int_equal(spec.n_ports, 3);
		assert_null(spec.filter);
		assert_int_equal(spec.sample_mode, SAMPLE_NONE);
		assert_int_equal(spec.sample_n, 1);
		assert_int_equal(spec.snaplen_bytes, 0);
		assert_int_equal(spec.output, OUTPUT_FILE);
		assert_int_equal(spec.limit_ns, 0);
		json_decref(document);
	}
}

static void the_shortest_time_is_a_limit(void **state)
{
	struct session_spec spec;
	json_t *document;
	struct err err;

	assert_int_equal(
		decode("{\"limits\":{\"seconds\":1e-10}}", &admin, &spec, &document, &err), 0);
	assert_int_equal(spec.limit_ns, 1);
	json_decref(document);
}

static void ports_are_those_of_the_account(void **state)
{
	struct session_spec spec;
	json_t *document;
	struct err err;

	assert_int_equal(decode("{}", &one, &spec, &document, &err), 0);
	assert_int_equal(spec.n_ports, 2);
	assert_int_equal(spec.ports[0], 0);
	assert_int_equal(spec.ports[1], 2);
	json_decref(document);
	assert_int_equal(
		decode("{\"ports\":[\"tap2\",\"tap1\"]}", &one, &spec, &document, &err), -EINVAL);
	assert_string_equal(err.field, "ports.1");
	assert_string_equal(err.text, "there is no port \"tap1\"; known: tap0, tap2");
	json_decref(document);
	assert_int_equal(
		decode("{\"ports\":[\"tap2\",\"tap2\"]}", &one, &spec, &document, &err), -EINVAL);
	assert_string_equal(err.field, "ports.1");
	json_decref(document);
	assert_int_equal(decode("{}", &none, &spec, &document, &err), -EINVAL);
	assert_string_equal(err.field, "ports");
	json_decref(document);
}

static void a_rate_and_what_is_replaced_are_read(void **state)
{
	struct session_spec spec = {0};
	json_t *document;
	struct err err;

	assert_int_equal(
		decode("{\"sampling\":{\"rate_pps\":5000}}", &one, &spec, &document, &err), 0);
	assert_int_equal(spec.rate_pps, 5000);
	assert_int_equal(spec.sample_mode, SAMPLE_NONE);
	assert_true(uuid_is_zero(&spec.replaces));
	json_decref(document);
	assert_int_equal(decode("{\"replaces\":\"00000000-0000-4000-8000-000000000000\"}", &one,
				 &spec, &document, &err),
		-EINVAL);
	assert_string_equal(err.field, "replaces");
	assert_non_null(strstr(err.text, "there is no capture"));
	json_decref(document);
}

static void bad_members_are_named(void **state)
{
	static const struct {
		const char *text, *field, *word;
	} cases[] = {
		{"{\"filters\":\"ip\"}", "filters", "filter"},
		{"{\"limits\":{\"packet\":1}}", "limits.packet", "packets"},
		{"{\"sampling\":{\"mode\":\"every\",\"n\":0}}", "sampling.n", "1"},
		{"{\"sampling\":{\"mode\":\"every\"}}", "sampling.n", "required"},
		{"{\"sampling\":{\"mode\":\"random\"}}", "sampling.n", "required"},
		{"{\"sampling\":{\"mode\":\"flow\"}}", "sampling.n", "required"},
		{"{\"sampling\":{\"n\":4294967296}}", "sampling.n", "4294967295"},
		{"{\"sampling\":{\"rate_pps\":-1}}", "sampling.rate_pps", "from 0 to"},
		{"{\"snaplen\":262145}", "snaplen", "262144"},
		{"{\"direction\":\"up\"}", "direction", "both, in, out"},
		{"{\"output\":{}}", "output.type", "required"},
		{"{\"output\":{\"type\":\"s3\",\"url\":\"x\"}}", "output.url", "bucket"},
		{"{\"output\":{\"type\":\"s3\"}}", "output.bucket", "required"},
		{"{\"output\":{\"type\":\"s3\",\"bucket\":\"b\",\"port\":1}}", "output.address",
			"stream only"},
		{"{\"output\":{\"type\":\"file\",\"bucket\":\"b\"}}", "output.bucket", "s3 only"},
		{"{\"output\":{\"type\":\"none\",\"prefix\":\"b\"}}", "output.prefix", "s3 only"},
		{"{\"output\":{\"type\":\"file\",\"port\":1}}", "output.address", "stream only"},
		{"{\"output\":{\"type\":\"stream\",\"port\":65536}}", "output.port", "65535"},
		{"{\"output\":{\"type\":\"stream\",\"encapsulation\":\"vxlan\"}}",
			"output.encapsulation", "gre, tzsp"},
		{"{\"output\":{\"type\":\"tape\"}}", "output.type", "file, none"},
		{"{\"output\":{\"type\":\"file\",\"path\":\"/x\"}}", "output.path", "type"},
		{"{\"limits\":{\"seconds\":-1}}", "limits.seconds", "0"},
		{"{\"id\":\"x\"}", "id", "known"},
		{"[]", "", "object"},
		{"{", "", "line 1"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct session_spec spec;
		json_t *document;
		struct err err;

		assert_int_equal(decode(cases[i].text, &admin, &spec, &document, &err), -EINVAL);
		assert_string_equal(err.field, cases[i].field);
		if (strstr(err.text, cases[i].word) == NULL)
			fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].word);
		json_decref(document);
	}
}

static void a_capture_has_the_shape_of_the_contract(void **state)
{
	static const char want[] =
		"{\"id\":\"00112233-4455-4677-8899-aabbccddeeff\",\"name\":\"n\",\"notes\":\"\","
		"\"account\":\"*\",\"owner\":\"admin\",\"dialect\":\"native\",\"state\":"
		"\"complete\",\"reason\":\"packet_limit\",\"message\":null,\"ports\":[\"tap0\"],"
		"\"filter\":\"tcp\",\"filter_engine\":\"jit\",\"sampling\":{\"mode\":\"none\","
		"\"n\":1,\"rate_pps\":0},\"snaplen\":262144,\"direction\":\"both\",\"limits\":{"
		"\"packets\":5,"
		"\"bytes\":0,\"seconds\":0.5,\"file_bytes\":0},\"expected\":{"
		"\"bytes_per_second\":8,\"packets_per_second\":9},\"degraded\":{\"reason\":"
		"\"disk\",\"since\":\"2023-11-14T22:13:20.000000001Z\",\"from\":{\"snaplen\":"
		"262144,\"sampling\":{\"mode\":\"none\",\"n\":1}},\"to\":{\"snaplen\":128,"
		"\"sampling\":{\"mode\":\"random\",\"n\":2}}},\"events\":[{\"at\":"
		"\"2023-11-14T22:13:20.000000001Z\",\"text\":\"too much\"}],"
		"\"output\":{\"type\":\"file\"},\"upload\":null,\"replaces\":null,"
		"\"created_at\":\"2023-11-14T22:13:20.000000001Z\",\"started_at\":null,"
		"\"ended_at\":null,\"size_bytes\":77,\"ledger\":{\"offered\":18446744073709551,"
		"\"filtered\":2,\"sampled_out\":3,\"over_limit\":4,\"accepted\":5,\"written\":6,"
		"\"durable\":7,\"in_flight\":8,\"stamps_raised\":0,\"unknown\":9,\"unknown_max\":"
		"12,\"dropped\":{\"no_"
		"block\":10,"
		"\"oversize\":0,\"encode_error\":0,\"io_error\":0,\"no_space\":0,\"quota\":0,"
		"\"writer_stopped\":0,\"stream_backpressure\":11}}}";
	const struct session_degraded degraded = {.level = 4,
		.since_ns = 1700000000000000001ULL,
		.snaplen_bytes = 128,
		.sample_mode = SAMPLE_RANDOM,
		.sample_n = 2};
	const struct session_events events = {
		.n = 1, .event[0] = {.at_ns = 1700000000000000001ULL, .text = "too much"}};
	struct session_info info = {
		.id = {{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x77, 0x88, 0x99, 0xaa, 0xbb,
			0xcc, 0xdd, 0xee, 0xff}},
		.name = "n",
		.notes = "",
		.account = "*",
		.owner = "admin",
		.filter = "tcp",
		.state = SESSION_complete,
		.reason = END_packet_limit,
		.n_ports = 1,
		.ports = {"tap0"},
		.filter_engine = FILTER_ENGINE_JIT,
		.sample_n = 4,
		.snaplen_bytes = 262144,
		.limit_packets = 5,
		.limit_ns = 500000000,
		.expected_bytes = 8,
		.expected_packets = 9,
		.degraded = &degraded,
		.events = &events,
		.created_ns = 1700000000000000001ULL,
		.size_bytes = 77,
		.ledger = {.offered = 18446744073709551ULL,
			.filtered = 2,
			.sampled_out = 3,
			.over_limit = 4,
			.accepted = 5,
			.written = 6,
			.durable = 7,
			.in_flight = 8,
			.unknown = 9},
	};
	json_t *json;
	char *text;

	info.ledger.unknown_max = 12;
	info.ledger.dropped[DROP_no_block] = 10;
	info.ledger.dropped[DROP_stream_backpressure] = 11;
	json = native_capture(&info);
	text = json_print(json);
	assert_string_equal(text, want);
	free(text);
	json_decref(json);
}

static void errors_are_problems(void **state)
{
	static const struct {
		int status;
		const char *field, *text, *want;
	} cases[] = {
		{400, "limits.packets", "must be",
			"{\"type\":\"about:blank\",\"title\":\"Bad "
			"Request\",\"status\":400,\"detail\":"
			"\"limits.packets: must be\",\"pointer\":"
			"\"/limits/packets\"}"},
		{503, "engine.block_memory", "full",
			"{\"type\":\"about:blank\",\"title\":"
			"\"Service Unavailable\",\"status\":503,"
			"\"detail\":\"engine.block_memory: full\"}"},
		{404, "", "",
			"{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,"
			"\"detail\":\"there is nothing at this path\"}"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = {0};
		json_t *json;
		char *text;

		strcpy(err.field, cases[i].field);
		strcpy(err.text, cases[i].text);
		json = native_error(cases[i].status, &err);
		text = json_print(json);
		assert_string_equal(text, cases[i].want);
		free(text);
		json_decref(json);
	}
}

static void tokens_are_decoded_and_shown(void **state)
{
	static const char good[] = "{\"name\":\"eye\",\"role\":\"operator\",\"account\":\"one\","
				   "\"expires_at\":\"2100-01-01T00:00:00Z\"}";
	static const struct {
		const char *text, *field;
	} bad[] = {
		{"{\"role\":\"viewer\"}", "name"},
		{"{\"name\":\"x\"}", "role"},
		{"{\"name\":\"x\",\"role\":\"king\"}", "role"},
		{"{\"name\":\"x\",\"role\":\"viewer\",\"account\":\"no\"}", "account"},
		{"{\"name\":\"x\",\"role\":\"viewer\",\"expires_at\":\"2001-01-01T00:00:00Z\"}",
			"expires_at"},
		{"{\"name\":\"x\",\"role\":\"viewer\",\"hash\":\"\"}", "hash"},
	};
	struct auth_token token;
	struct err err;
	json_t *json;
	char *text;

	assert_int_equal(native_token_decode(good, strlen(good), &config, &token, &err), 0);
	json = native_token(&token, "s3cret");
	text = json_print(json);
	assert_string_equal(text,
		"{\"name\":\"eye\",\"role\":\"operator\",\"account\":\"one\",\"created_at\":null,"
		"\"expires_at\":\"2100-01-01T00:00:00.000000000Z\",\"secret\":\"s3cret\"}");
	free(text);
	json_decref(json);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(native_token_decode(
					 bad[i].text, strlen(bad[i].text), &config, &token, &err),
			-EINVAL);
		assert_string_equal(err.field, bad[i].field);
	}
}

static void patches_take_name_notes_and_limits_only(void **state)
{
	static const char *const bad[][2] = {
		{"{\"state\":\"complete\"}", "state"},
		{"{\"limits\":{\"bytes\":1}}", "limits.bytes"},
		{"{\"limits\":{\"seconds\":-1}}", "limits.seconds"},
		{"", ""}, /* nothing asked for */
	};
	static const char good[] = "{\"notes\":\"n\"}";
	static const char limits[] = "{\"limits\":{\"packets\":7,\"seconds\":0.5}}";
	struct native_patch patch;
	json_t *document;
	struct err err;

	assert_int_equal(native_patch_decode(good, strlen(good), &patch, &document, &err), 0);
	assert_null(patch.name);
	assert_string_equal(patch.notes, "n");
	assert_int_equal(patch.limit_packets, NATIVE_LIMIT_KEPT);
	assert_int_equal(patch.limit_ns, NATIVE_LIMIT_KEPT);
	json_decref(document);
	assert_int_equal(native_patch_decode(limits, strlen(limits), &patch, &document, &err), 0);
	assert_int_equal(patch.limit_packets, 7);
	assert_int_equal(patch.limit_ns, 500000000);
	json_decref(document);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			native_patch_decode(bad[i][0], strlen(bad[i][0]), &patch, &document, &err),
			-EINVAL);
		assert_string_equal(err.field, bad[i][1]);
		json_decref(document);
	}
}

static void ports_show_their_books(void **state)
{
	json_t *json = native_ports(&config, &one), *port;

	assert_int_equal(json_array_size(json_object_get(json, "ports")), 2);
	port = json_array_get(json_object_get(json, "ports"), 1);
	assert_string_equal(json_string_value(json_object_get(port, "name")), "tap2");
	assert_string_equal(json_string_value(json_object_get(port, "device")), "net_null0");
	assert_null(json_object_get(port, "interface"));
	assert_string_equal(json_string_value(json_object_get(port, "loss_visibility")), "exact");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(port, "counters"), "rx")), 7);
	json_decref(json);
}

static void a_figure(const json_t *status, const char *resource, const char *list, const char *name,
	int64_t value)
{
	const json_t *at = json_object_get(json_object_get(status, "resources"), resource);

	if (list != NULL)
		at = json_array_get(json_object_get(at, list), 0);
	assert_non_null(json_object_get(at, name));
	assert_int_equal(json_integer_value(json_object_get(at, name)), value);
}

static void status_answers_why_packets_are_lost(void **state)
{
	json_t *status = native_status();
	const json_t *disk = json_object_get(json_object_get(status, "resources"), "disk");

	assert_string_equal(json_string_value(json_object_get(status, "bottleneck")), "disk");
	assert_string_equal(
		json_string_value(json_object_get(status, "explanation")), "it is the disk");
	assert_string_equal(json_string_value(json_object_get(status, "bottleneck_since")),
		"2023-11-14T22:13:20.123456789Z");
	a_figure(status, "nic", "ports", "packets_per_second", 1000);
	a_figure(status, "nic", "ports", "missed_per_second", 3);
	a_figure(status, "nic", "ports", "errors_per_second", 1);
	a_figure(status, "rx_core", "lcores", "cpu", 3);
	a_figure(status, "rx_core", "lcores", "busy_percent", 97);
	a_figure(status, "rx_core", "lcores", "full_polls_percent", 80);
	a_figure(status, "blocks", NULL, "low", 7);
	a_figure(status, "blocks", NULL, "missed_per_second", 12);
	a_figure(status, "blocks", "writers", "waited_percent", 20);
	a_figure(status, "disk", NULL, "bytes_per_second", 900000000);
	a_figure(status, "disk", NULL, "busy_percent", 99);
	assert_true(json_is_null(json_object_get(disk, "ceiling_bytes_per_second")));
	json_decref(status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_reaches_the_spec),
		cmocka_unit_test(nothing_asks_for_everything),
		cmocka_unit_test(the_shortest_time_is_a_limit),
		cmocka_unit_test(ports_are_those_of_the_account),
		cmocka_unit_test(a_rate_and_what_is_replaced_are_read),
		cmocka_unit_test(bad_members_are_named),
		cmocka_unit_test(a_capture_has_the_shape_of_the_contract),
		cmocka_unit_test(errors_are_problems),
		cmocka_unit_test(tokens_are_decoded_and_shown),
		cmocka_unit_test(patches_take_name_notes_and_limits_only),
		cmocka_unit_test(ports_show_their_books),
		cmocka_unit_test(status_answers_why_packets_are_lost),
	};
	int rc;

	config.n_ports = 3;
	strcpy(config.ports[0].name, "tap0");
	strcpy(config.ports[0].interface, "lo");
	strcpy(config.ports[1].name, "tap1");
	strcpy(config.ports[1].interface, "lo");
	strcpy(config.ports[2].name, "tap2");
	strcpy(config.ports[2].device, "net_null0");
	config.n_accounts = 2;
	strcpy(config.accounts[0].name, "one");
	config.accounts[0].ports.n = 2;
	strcpy(config.accounts[0].ports.item[0], "tap2");
	strcpy(config.accounts[0].ports.item[1], "tap0");
	strcpy(config.accounts[1].name, "none");
	fake_start(&config, "/tmp");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	fake_stop();
	return rc;
}
