/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/cloudflare_json: create requests to specs, sessions to PCAP objects, errors to envelopes.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/cloudflare_json.h"

#define NOW_NS 1700000000000000000ULL /* 2023-11-14T22:13:20Z */

#define SIMPLE                                                                                  \
	"\"type\":\"simple\",\"system\":\"magic-transit\",\"time_limit\":300,\"packet_limit\":" \
	"10000"
#define FULL                                                                                 \
	"\"type\":\"full\",\"system\":\"magic-transit\",\"time_limit\":86400,\"colo_name\":" \
	"\"ord02\","                                                                         \
	"\"destination_conf\":\"s3://pcaps-bucket?region=us-east-1\""

static const struct config_account account = {.name = "default", .colo = "ord02"};

static int decode(const char *text, struct cloudflare_request *request, struct err *err)
{
	memset(err, 0, sizeof(*err));
	return cloudflare_create_decode(
		text, strlen(text), &account, CONFIG_DELIVER_LOCAL, NOW_NS, request, err);
}

static void a_simple_request_becomes_a_spec(void **state)
{
	struct cloudflare_request request;
	struct session_spec spec = {0};
	struct err err;

	assert_int_equal(
		decode("{" SIMPLE ",\"byte_limit\":\"ignored\",\"x\":[]}", &request, &err), 0);
	cloudflare_spec(&request, 100, &spec);
	assert_int_equal(spec.dialect, DIALECT_cloudflare);
	assert_string_equal(spec.filter, "");
	assert_int_equal(spec.limit_ns, 300000000000);
	assert_int_equal(spec.limit_packets, 10000);
	assert_int_equal(spec.limit_bytes, 0);
	assert_int_equal(spec.snaplen_bytes, 160);
	assert_int_equal(spec.sample_mode, SAMPLE_EVERY);
	assert_int_equal(spec.sample_n, 100);
	assert_string_equal(spec.vendor,
		"{\"type\":\"simple\",\"time_limit\":300,\"packet_limit\":10000,\"filter_v1\":{}}");
	free(request.echo);

	memset(&spec, 0, sizeof(spec));
	cloudflare_spec(&request, 1, &spec);
	assert_int_equal(spec.sample_mode, SAMPLE_NONE);
}

static void a_full_request_becomes_a_spec(void **state)
{
	struct cloudflare_request request;
	struct session_spec spec = {0};
	struct err err;

	assert_int_equal(decode("{" FULL ",\"byte_limit\":1000000000,\"packet_limit\":5.0,"
				"\"time_limit\":0}",
				 &request, &err),
		-EINVAL); /* a repeated member */
	assert_int_equal(
		decode("{" FULL ",\"byte_limit\":1000000000,\"packet_limit\":5.0}", &request, &err),
		0);
	cloudflare_spec(&request, 100, &spec);
	assert_int_equal(spec.limit_ns, 86400000000000);
	assert_int_equal(spec.limit_packets, 5);
	assert_int_equal(spec.limit_bytes, 1000000000);
	assert_int_equal(spec.snaplen_bytes, 0);
	assert_int_equal(spec.sample_mode, SAMPLE_NONE);
	assert_string_equal(spec.vendor,
		"{\"type\":\"full\",\"time_limit\":86400,\"packet_limit\":5,\"byte_limit\":"
		"1000000000,\"colo_name\":\"ord02\",\"destination_conf\":\"s3://"
		"pcaps-bucket?region="
		"us-east-1\",\"filter_v1\":{}}");
	free(request.echo);
}

static void filters_become_expressions(void **state)
{
	static const struct {
		const char *filter, *expression;
	} cases[] = {
		{"{}", ""},
		{"null", ""},
		{"{\"source_address\":\"1.2.3.4\"}", "src host 1.2.3.4"},
		{"{\"destination_address\":\"2001:DB8:0::1\"}", "dst host 2001:db8::1"},
		{"{\"source_port\":0}", "src port 0"},
		{"{\"destination_port\":65535.0}", "dst port 65535"},
		{"{\"protocol\":6}", "(ip proto 6 or ip6 proto 6)"},
		{"{\"source_address\":\"1.2.3.4\",\"destination_address\":\"5.6.7.8\","
		 "\"source_port\":123,\"destination_port\":80,\"protocol\":17,\"vlan\":1}",
			"src host 1.2.3.4 and dst host 5.6.7.8 and src port 123 and dst port 80 "
			"and "
			"(ip proto 17 or ip6 proto 17)"},
		{"{\"source_address\":\"1111:2222:3333:4444:5555:6666:7777:8888\","
		 "\"destination_address\":\"1111:2222:3333:4444:5555:6666:7777:8888\",\"source_"
		 "port\":65535,\"destination_port\":65535,\"protocol\":255}",
			"src host 1111:2222:3333:4444:5555:6666:7777:8888 and dst host "
			"1111:2222:3333:4444:5555:6666:7777:8888 and src port 65535 and dst port "
			"65535 and (ip proto 255 or ip6 proto 255)"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cloudflare_request request;
		struct err err;
		char text[1024];

		snprintf(text, sizeof(text), "{" SIMPLE ",\"filter_v1\":%s}", cases[i].filter);
		assert_int_equal(decode(text, &request, &err), 0);
		assert_string_equal(request.filter, cases[i].expression);
		free(request.echo);
	}
}

static void colos_match_in_any_case_and_by_prefix(void **state)
{
	static const struct {
		const char *members;
		int rc;
	} cases[] = {
		{"\"colo_name\":\"ord02\"", 0},
		{"\"colo_name\":\"ORD02\"", 0},
		{"\"colo_name\":\"ORD\"", 0},
		{"\"colo\":\"ord\"", 0},
		{"\"colo\":\"lhr\",\"colo_name\":\"ord\"", 0},
		{"\"colo_name\":\"or\"", -EINVAL},
		{"\"colo_name\":\"ord0\"", -EINVAL},
		{"\"colo_name\":\"ord022\"", -EINVAL},
		{"\"colo_name\":\"\"", -EINVAL},
		{"\"colo_name\":null", -EINVAL},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cloudflare_request request;
		struct err err;
		char text[512];

		snprintf(text, sizeof(text),
			"{\"type\":\"full\",\"system\":\"magic-transit\",\"time_limit\":1,"
			"\"destination_conf\":\"gs://bucket/dir\",%s}",
			cases[i].members);
		assert_int_equal(decode(text, &request, &err), cases[i].rc);
		if (cases[i].rc < 0)
			assert_string_equal(err.field, "colo_name");
		free(request.echo);
	}
}

static void secrets_of_a_bucket_are_not_kept(void **state)
{
	struct cloudflare_request request;
	struct err err;

	assert_int_equal(
		decode("{\"type\":\"full\",\"system\":\"magic-transit\",\"time_limit\":1,\"colo\":"
		       "\"ord\",\"destination_conf\":\"r2://bucket?access-key-id=AK&account-id=7&"
		       "secret-access-key=SK&x=1\"}",
			&request, &err),
		0);
	assert_non_null(strstr(request.echo, "\"r2://bucket?account-id=7&x=1\""));
	assert_null(strstr(request.echo, "SK"));
	free(request.echo);
	assert_int_equal(
		decode("{\"type\":\"full\",\"system\":\"magic-transit\",\"time_limit\":1,\"colo\":"
		       "\"ord\",\"destination_conf\":\"r2://bucket?secret-access-key=SK\"}",
			&request, &err),
		0);
	assert_non_null(strstr(request.echo, "\"r2://bucket\""));
	free(request.echo);
}

static void bad_members_are_named(void **state)
{
#define TRY(type, members, name, part)           \
	{                                        \
		"{" type members "}", name, part \
	}
#define ONLY(members) "{\"system\":\"magic-transit\"," members "}"
	static const struct {
		const char *text, *field, *word;
	} cases[] = {
		{"{}", "type", "required"},
		{"{\"type\":\"half\"}", "type", "simple, full"},
		{"{\"type\":\"simple\"}", "system", "required"},
		{"{\"type\":\"simple\",\"system\":\"x\"}", "system", "magic-transit"},
		{ONLY("\"type\":\"simple\",\"packet_limit\":1"), "time_limit", "required"},
		{ONLY("\"type\":\"simple\",\"packet_limit\":1,\"time_limit\":301"), "time_limit",
			"1 to 300"},
		{ONLY("\"type\":\"simple\",\"packet_limit\":1,\"time_limit\":0.5"), "time_limit",
			"1 to 300"},
		{ONLY("\"type\":\"simple\",\"packet_limit\":1,\"time_limit\":\"300\""),
			"time_limit", "number"},
		{ONLY("\"type\":\"simple\",\"time_limit\":1"), "packet_limit", "required"},
		{ONLY("\"type\":\"simple\",\"time_limit\":1,\"packet_limit\":10001"),
			"packet_limit", "1 to 10000"},
		{ONLY("\"type\":\"simple\",\"time_limit\":1,\"packet_limit\":1.5"), "packet_limit",
			"integer"},
		TRY(SIMPLE, ",\"filter_v1\":5", "filter_v1", "object"),
		TRY(SIMPLE, ",\"filter_v1\":{\"source_port\":65536}", "filter_v1.source_port",
			"65535"),
		TRY(SIMPLE, ",\"filter_v1\":{\"protocol\":256}", "filter_v1.protocol", "255"),
		TRY(SIMPLE, ",\"filter_v1\":{\"source_address\":\"example.com\"}",
			"filter_v1.source_address", "IPv4 or IPv6"),
		TRY(SIMPLE, ",\"filter_v1\":{\"source_address\":\"1.2.3.4 or tcp\"}",
			"filter_v1.source_address", "IPv4 or IPv6"),
		TRY(SIMPLE, ",\"filter_v1\":{\"destination_address\":\"1.2.3.0/24\"}",
			"filter_v1.destination_address", "IPv4 or IPv6"),
		TRY(SIMPLE, ",\"filter_v1\":{\"destination_address\":\"\"}",
			"filter_v1.destination_address", "IPv4 or IPv6"),
		TRY(SIMPLE, ",\"offset_time\":\"yesterday\"", "offset_time", "RFC 3339"),
		TRY(SIMPLE, ",\"offset_time\":\"2023-11-13T22:13:19Z\"", "offset_time", "24 hours"),
		TRY(SIMPLE, ",\"offset_time\":\"2023-11-14T22:14:20Z\"", "offset_time", "24 hours"),
		TRY(SIMPLE, ",\"offset_time\":\"2023-11-14T22:13:14Z\"", "offset_time",
			"this host keeps no past traffic"),
		TRY(FULL, ",\"byte_limit\":0", "byte_limit", "1 to 1000000000"),
		TRY(FULL, ",\"packet_limit\":0", "packet_limit", "1 to 10000"),
		{ONLY("\"type\":\"full\",\"time_limit\":86401"), "time_limit", "86400"},
		{ONLY("\"type\":\"full\",\"time_limit\":1,\"destination_conf\":\"s3://abc\""),
			"colo_name", "required"},
		{ONLY("\"type\":\"full\",\"time_limit\":1,\"colo\":\"ord\""), "destination_conf",
			"required"},
		{ONLY("\"type\":\"full\",\"time_limit\":1,\"colo\":\"lhr01\",\"destination_conf\":"
		      "\"s3://abc\""),
			"colo_name", "ord02"},
		{ONLY("\"type\":\"full\",\"time_limit\":1,\"colo\":\"ord\",\"destination_conf\":"
		      "\"/etc/passwd\""),
			"destination_conf", "s3://"},
		{ONLY("\"type\":\"full\",\"time_limit\":1,\"colo\":\"ord\",\"destination_conf\":"
		      "\"s3://a b\""),
			"destination_conf", "s3://"},
		{"{", "", "malformed"},
		{"[]", "", "object"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cloudflare_request request;
		struct err err;

		assert_int_equal(decode(cases[i].text, &request, &err), -EINVAL);
		assert_string_equal(err.field, cases[i].field);
		if (strstr(err.text, cases[i].word) == NULL)
			fail_msg("\"%s\" lacks \"%s\"", err.text, cases[i].word);
	}
}

static void an_offset_of_now_is_kept(void **state)
{
	struct cloudflare_request request;
	struct err err;

	assert_int_equal(decode("{" SIMPLE ",\"offset_time\":\"2023-11-14T23:13:16+01:00\"}",
				 &request, &err),
		0);
	assert_non_null(strstr(request.echo, "\"offset_time\":\"2023-11-14T23:13:16+01:00\""));
	free(request.echo);
}

static struct session_info info_make(const char *vendor, enum session_state state)
{
	return (struct session_info){
		.id = {{0x66, 0x80, 0x2c, 0xa5, 0x66, 0x8e, 0x47, 0xa2, 0xb8, 0x2c, 0x2e, 0x67,
			0x46, 0xe4, 0x50, 0x37}},
		.vendor = vendor,
		.dialect = DIALECT_cloudflare,
		.state = state,
		.created_ns = 1700000000123456789ULL,
		.limit_packets = 10,
		.ledger = {.accepted = 4, .written = 3},
	};
}

static void expect(const struct session_info *info, bool created, const char *want)
{
	json_t *json = cloudflare_pcap(info, created);
	char *text = json_print(json);

	assert_string_equal(text, want);
	free(text);
	json_decref(json);
}

static void a_session_becomes_a_pcap(void **state)
{
	static const char simple[] = "{\"type\":\"simple\",\"filter_v1\":{}}";
	static const char full[] = "{\"type\":\"full\",\"filter_v1\":{}}";
	struct session_info info = info_make(simple, SESSION_running);

	expect(&info, true,
		"{\"type\":\"simple\",\"filter_v1\":{},\"id\":\"66802ca5668e47a2b82c2e6746e45037\","
		"\"status\":\"pending\",\"submitted\":\"2023-11-14T22:13:20.123456Z\",\"system\":"
		"\"magic-transit\"}");
	expect(&info, false,
		"{\"type\":\"simple\",\"filter_v1\":{},\"id\":\"66802ca5668e47a2b82c2e6746e45037\","
		"\"status\":\"running\",\"submitted\":\"2023-11-14T22:13:20.123456Z\",\"system\":"
		"\"magic-transit\",\"packets_remaining\":6}");
	info = info_make(full, SESSION_complete);
	expect(&info, false,
		"{\"type\":\"full\",\"filter_v1\":{},\"id\":\"66802ca5668e47a2b82c2e6746e45037\","
		"\"status\":\"success\",\"submitted\":\"2023-11-14T22:13:20.123456Z\",\"system\":"
		"\"magic-transit\",\"packets_captured\":3}");
}

static void states_have_their_names(void **state)
{
	static const struct {
		enum session_state state;
		bool queued;
		const char *status;
	} cases[] = {
		{SESSION_starting, false, "pending"},
		{SESSION_running, false, "running"},
		{SESSION_stopping, false, "running"},
		{SESSION_converting, true, "conversion_pending"},
		{SESSION_converting, false, "conversion_running"},
		{SESSION_uploading, false, "conversion_running"},
		{SESSION_complete, false, "success"},
		{SESSION_failed, false, "failed"},
		{SESSION_deleted, false, "unknown"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct session_info info = info_make("{\"type\":\"full\"}", cases[i].state);
		json_t *json;

		info.queued = cases[i].queued;
		json = cloudflare_pcap(&info, false);
		assert_string_equal(
			json_string_value(json_object_get(json, "status")), cases[i].status);
		json_decref(json);
	}
}

static void only_a_full_capture_fails_without_a_match(void **state)
{
	struct session_info info = info_make("{\"type\":\"full\"}", SESSION_complete);
	json_t *json;

	info.ledger.accepted = info.ledger.written = 0;
	json = cloudflare_pcap(&info, false);
	assert_string_equal(json_string_value(json_object_get(json, "status")), "failed");
	assert_string_equal(json_string_value(json_object_get(json, "error_message")),
		"No packets matched the filter in the time limit given. Please modify the filter "
		"or "
		"try again.");
	json_decref(json);
	info.vendor = "{\"type\":\"simple\"}";
	json = cloudflare_pcap(&info, false);
	assert_string_equal(json_string_value(json_object_get(json, "status")), "success");
	assert_null(json_object_get(json, "error_message"));
	json_decref(json);
	/* Matched, but lost: not that message. */
	info.vendor = "{\"type\":\"full\"}";
	info.ledger.accepted = 1;
	json = cloudflare_pcap(&info, false);
	assert_string_equal(json_string_value(json_object_get(json, "status")), "success");
	json_decref(json);
}

static void a_stop_is_noted_once(void **state)
{
	char *first = cloudflare_stop_requested("{\"type\":\"full\"}", NOW_NS);

	assert_string_equal(
		first, "{\"type\":\"full\",\"stop_requested\":\"2023-11-14T22:13:20.000000Z\"}");
	assert_null(cloudflare_stop_requested(first, NOW_NS + 1));
	assert_null(cloudflare_stop_requested(NULL, NOW_NS));
	free(first);
}

static void errors_are_envelopes(void **state)
{
	static const struct {
		int status;
		const char *field, *text, *errors;
	} cases[] = {
		{400, "packet_limit", "must be 1",
			"{\"code\":1400,\"message\":\"packet_limit: must be 1\"}"},
		{401, "", "", "{\"code\":10000,\"message\":\"Authentication error\"}"},
		{403, "", "no", "{\"code\":10000,\"message\":\"no\"}"},
		{404, "", "", "{\"code\":7003,\"message\":\"No route for the URI\"}"},
		{405, "", "", "{\"code\":10405,\"message\":\"Method not allowed\"}"},
		{501, "", "", "{\"code\":1500,\"message\":\"Not Implemented\"}"},
		{507, "output", "full", "{\"code\":1507,\"message\":\"output: full\"}"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = {0};
		char want[256], *text;
		json_t *json;

		strcpy(err.field, cases[i].field);
		strcpy(err.text, cases[i].text);
		json = cloudflare_error(cases[i].status, &err);
		text = json_print(json);
		snprintf(want, sizeof(want),
			"{\"success\":false,\"errors\":[%s],\"messages\":[],\"result\":null}",
			cases[i].errors);
		assert_string_equal(text, want);
		free(text);
		json_decref(json);
	}
}

static void fields_are_called_as_the_vendor_calls_them(void **state)
{
	struct err err = {.field = "limits.packets"};

	cloudflare_err_rename(&err);
	assert_string_equal(err.field, "packet_limit");
	strcpy(err.field, "engine.block_memory");
	cloudflare_err_rename(&err);
	assert_string_equal(err.field, "engine.block_memory");
}

/* Three buckets: one for everybody, one for this account, one for another. */
static const struct config places = {
	.n_accounts = 2,
	.accounts = {{.name = "default"}, {.name = "other"}},
	.n_buckets = 3,
	.buckets =
		{
			{.name = "pcaps-bucket",
				.region = "us-east-1",
				.accounts = {.n = 1, .item = {"*"}}},
			{.name = "Mine.2_x",
				.region = "eu-west-1",
				.accounts = {.n = 2, .item = {"other", "default"}}},
			{.name = "127.0.0.1",
				.region = "us-east-1",
				.accounts = {.n = 1, .item = {"other"}}},
		},
};

static void destinations_are_taken_apart(void **state)
{
	static const struct {
		const char *uri, *bucket, *directory, *region;
	} cases[] = {
		{"s3://pcaps-bucket?region=us-east-1", "pcaps-bucket", "", "us-east-1"},
		{"s3://b", "b", "", ""},
		{"s3://b/", "b", "", ""},
		{"s3://b/?region=x", "b", "", "x"},
		{"s3://b/dir/sub?region=x", "b", "dir/sub", "x"},
		{"s3://b/dir/sub/", "b", "dir/sub", ""},
		{"s3://Mine.2_x/a.b/...", "Mine.2_x", "a.b/...", ""},
	};
	struct cloudflare_destination destination;
	struct err err;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(cloudflare_destination_parse(cases[i].uri, &destination, &err), 0);
		assert_string_equal(destination.bucket, cases[i].bucket);
		assert_string_equal(destination.directory, cases[i].directory);
		assert_string_equal(destination.region, cases[i].region);
	}
}

static void destinations_that_mean_anything_else_are_refused(void **state)
{
	static const char *const uris[] = {
		"",
		"s3",
		"s3:",
		"s3:/b",
		"s3://",
		"s3:///dir",
		"s3://?region=x",
		"S3://b",
		"gs://b",
		"r2://b",
		"file:///etc/passwd",
		"gopher://h:70/_x",
		"http://h/b",
		"https://h/b",
		"//b",
		"b",
		"/b",
		" s3://b",
		"s3://b ",
		"s3://b\n",
		"s3://user@b",
		"s3://user:pw@b/d",
		"s3://b:80",
		"s3://b:80/d",
		"s3://b:/d",
		"s3://[::1]/d",
		"s3://b#f",
		"s3://b/d#f",
		"s3://b?region=x#f",
		"s3://b/%2e%2e/d",
		"s3://b/a%2fb",
		"s3://b//d",
		"s3://b/d//e",
		"s3://b/d//",
		"s3://b//",
		"s3://b/.",
		"s3://b/..",
		"s3://b/../d",
		"s3://b/d/./e",
		"s3://b/d/..",
		"s3://b\\d",
		"s3://b/d\\e",
		"s3://b/d e",
		"s3://b/d;e",
		"s3://b/\xc3\xbc",
		"s3://b/d\r\nX: y",
		"s3://b?",
		"s3://b?region",
		"s3://b?region=",
		"s3://b?region=x&region=y",
		"s3://b?region=x&endpoint=http://169.254.169.254",
		"s3://b?endpoint=x",
		"s3://b?access-key-id=x",
		"s3://b?Region=x",
		"s3://b?region=x/y",
		"s3://b?region=x%20",
		"s3://b?region=x?region=y",
		"s3://0x7f.1:9000",
	};
	struct cloudflare_destination destination;
	char longest[1024];
	struct err err;

	for (unsigned i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
		assert_int_equal(
			cloudflare_destination_parse(uris[i], &destination, &err), -EINVAL);
		assert_string_equal(err.field, "destination_conf");
		assert_non_null(strstr(err.text, "allowed: s3://BUCKET"));
	}
	for (size_t len = 60; len < sizeof(longest) - 1; len += 451) {
		memset(longest, 'a', len + 1);
		memcpy(longest, "s3://b/", 7);
		longest[len] = '\0';
		assert_int_equal(cloudflare_destination_parse(longest, &destination, &err),
			len - 7 < CLOUDFLARE_DIRECTORY_SIZE ? 0 : -EINVAL);
		memcpy(longest, "s3://bb", 7);
		assert_int_equal(cloudflare_destination_parse(longest, &destination, &err),
			len - 5 < CONFIG_NAME_MAX ? 0 : -EINVAL);
	}
}

static void destinations_are_buckets_of_the_account(void **state)
{
	static const struct {
		const char *uri, *account, *word; /* word: of the refusal */
	} cases[] = {
		{"s3://pcaps-bucket", "default", NULL},
		{"s3://pcaps-bucket?region=us-east-1", "other", NULL},
		{"s3://Mine.2_x/d?region=eu-west-1", "default", NULL},
		{"s3://mine.2_x", "default", "allowed: pcaps-bucket, Mine.2_x"},
		{"s3://pcaps-bucket?region=eu-west-1", "default", "allowed: us-east-1"},
		{"s3://127.0.0.1", "default", "allowed: pcaps-bucket, Mine.2_x"},
		{"s3://2130706433", "default", "no bucket"},
		{"s3://0x7f000001", "other", "no bucket"},
		{"s3://0177.0.0.1", "other", "no bucket"},
		{"s3://localhost", "other", "allowed: pcaps-bucket, Mine.2_x, 127.0.0.1"},
	};
	struct cloudflare_destination destination;
	struct err err;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct config_bucket *bucket;

		assert_int_equal(cloudflare_destination_parse(cases[i].uri, &destination, &err), 0);
		bucket = cloudflare_destination_bucket(
			&places, cases[i].account, &destination, &err);
		if (cases[i].word == NULL) {
			assert_non_null(bucket);
			assert_string_equal(bucket->name, destination.bucket);
			continue;
		}
		assert_null(bucket);
		assert_string_equal(err.field, "destination_conf");
		assert_non_null(strstr(err.text, cases[i].word));
	}
}

static void requests_about_buckets_are_read(void **state)
{
	struct cloudflare_bucket bucket;
	struct err err;

#define READ(text, validate) cloudflare_bucket_decode(text, strlen(text), validate, &bucket, &err)
	assert_int_equal(READ("{\"destination_conf\":\"s3://b/d\",\"x\":1}", false), 0);
	assert_string_equal(bucket.conf, "s3://b/d");
	assert_string_equal(bucket.destination.directory, "d");
	assert_int_equal(READ("{\"destination_conf\":\"s3://b\",\"ownership_challenge\":\"abc "
			      "\\n\"}",
				 true),
		0);
	assert_string_equal(bucket.challenge, "abc");
	assert_int_equal(READ("{}", false), -EINVAL);
	assert_string_equal(err.field, "destination_conf");
	assert_int_equal(READ("{\"destination_conf\":5}", false), -EINVAL);
	assert_string_equal(err.field, "destination_conf");
	assert_int_equal(READ("{\"destination_conf\":\"s3://b\"}", true), -EINVAL);
	assert_string_equal(err.field, "ownership_challenge");
	assert_int_equal(READ("[]", true), -EINVAL);
	assert_int_equal(READ("", true), -EINVAL);
#undef READ
}

static void an_ownership_shows_no_challenge(void **state)
{
	struct ownership owned = {.id = {{0x98, 0x83, 0x87, 0x4e}},
		.destination = "s3://b",
		.challenge = "secret",
		.submitted_ns = NOW_NS};
	json_t *json = cloudflare_ownership(&owned);
	char *text = json_print(json);

	assert_string_equal(text,
		"{\"id\":\"9883874e000000000000000000000000\",\"status\":\"pending\","
		"\"submitted\":\"2023-11-14T22:13:20.000000Z\",\"validated\":\"\","
		"\"destination_conf\":\"s3://b\",\"filename\":"
		"\"ownership-challenge-9883874e000000000000000000000000.txt\"}");
	free(text);
	json_decref(json);
	owned.status = OWNERSHIP_success;
	owned.validated_ns = NOW_NS + 1000000000;
	json = cloudflare_ownership(&owned);
	assert_string_equal(json_string_value(json_object_get(json, "validated")),
		"2023-11-14T22:13:21.000000Z");
	assert_string_equal(json_string_value(json_object_get(json, "status")), "success");
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_simple_request_becomes_a_spec),
		cmocka_unit_test(a_full_request_becomes_a_spec),
		cmocka_unit_test(filters_become_expressions),
		cmocka_unit_test(colos_match_in_any_case_and_by_prefix),
		cmocka_unit_test(secrets_of_a_bucket_are_not_kept),
		cmocka_unit_test(bad_members_are_named),
		cmocka_unit_test(an_offset_of_now_is_kept),
		cmocka_unit_test(a_session_becomes_a_pcap),
		cmocka_unit_test(states_have_their_names),
		cmocka_unit_test(only_a_full_capture_fails_without_a_match),
		cmocka_unit_test(a_stop_is_noted_once),
		cmocka_unit_test(errors_are_envelopes),
		cmocka_unit_test(fields_are_called_as_the_vendor_calls_them),
		cmocka_unit_test(destinations_are_taken_apart),
		cmocka_unit_test(destinations_that_mean_anything_else_are_refused),
		cmocka_unit_test(destinations_are_buckets_of_the_account),
		cmocka_unit_test(requests_about_buckets_are_read),
		cmocka_unit_test(an_ownership_shows_no_challenge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
