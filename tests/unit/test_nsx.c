/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/nsx_json, api/nsx_filter: requests to specs, options to expressions, sessions and errors to
 * text.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/nsx_filter.h"
#include "api/nsx_inventory.h"
#include "api/nsx_json.h"

#define MINIMAL "\"cappoint\":\"VMNIC\",\"capsource\":\"UI\""

static struct config config;
static struct nsx_request request;
static struct err err;

static int decode(const char *text, enum nsx_family family)
{
	memset(&err, 0, sizeof(err));
	return nsx_request_decode(text, strlen(text), family, &config, &request, &err);
}

static void taken(const char *text, enum nsx_family family)
{
	if (decode(text, family) != 0)
		fail_msg("%s: %s", err.field, err.text);
}

static void refused(const char *text, const char *field, const char *word)
{
	assert_true(decode(text, NSX_MANAGER) < 0);
	assert_string_equal(err.field, field);
	if (strstr(err.text, word) == NULL)
		fail_msg("%s: %s", word, err.text);
	nsx_request_free(&request);
}

static void a_request_becomes_a_spec(void **state)
{
	struct session_spec spec = {0};

	taken("{" MINIMAL ",\"capvalue\":\"vmnic0\",\"direction\":\"OUTPUT\",\"capamount\":20000,"
	      "\"capduration\":600,\"capfilesize\":3,\"caprate\":50,\"capsnaplen\":96,\"capcore\":"
	      "0,"
	      "\"streamaddress\":\"\",\"streamport\":0,\"node\":\"any\",\"options\":{\"values\":[{"
	      "\"name\":\"IPPROTO\",\"value\":\"0x06\"}],\"result_count\":1,\"cursor\":\"x\"}}",
		NSX_MANAGER);
	nsx_spec(&request, &spec);
	assert_string_equal(request.point, "vmnic0");
	assert_int_equal(spec.dialect, DIALECT_nsx);
	assert_string_equal(spec.filter, "ip proto 6");
	assert_int_equal(spec.direction, DIRECTION_OUT);
	assert_int_equal(spec.limit_packets, 20000);
	assert_int_equal(spec.limit_ns, 600000000000);
	assert_int_equal(spec.limit_file_bytes, 3000000);
	assert_int_equal(spec.rate_pps, 50);
	assert_int_equal(spec.snaplen_bytes, 96);
	assert_int_equal(spec.output, OUTPUT_FILE);
	nsx_request_free(&request);
}

static void what_is_left_out_bounds_nothing(void **state)
{
	struct session_spec spec = {0};

	taken("{" MINIMAL ",\"capamount\":0,\"direction\":null,\"options\":null,\"capvalue\":\"\","
	      "\"capsnaplen\":2147483647,\"filtertype\":null,\"x\":[{}]}",
		NSX_POLICY);
	nsx_spec(&request, &spec);
	assert_string_equal(request.point, "");
	assert_string_equal(spec.filter, "");
	assert_int_equal(spec.direction, DIRECTION_BOTH);
	assert_int_equal(spec.limit_packets + spec.limit_ns + spec.limit_file_bytes, 0);
	assert_int_equal(spec.rate_pps + spec.snaplen_bytes, 0);
	nsx_request_free(&request);
}

static void families_have_a_word_of_their_own(void **state)
{
	taken("{\"cappoint\":\"LOGICALPORT\",\"capsource\":\"CLI\"}", NSX_MANAGER);
	nsx_request_free(&request);
	taken("{\"cappoint\":\"SEGMENTPORT\",\"capsource\":\"CLI\"}", NSX_POLICY);
	nsx_request_free(&request);
	assert_int_equal(decode("{\"cappoint\":\"LOGICALPORT\",\"capsource\":\"CLI\"}", NSX_POLICY),
		-EINVAL);
	refused("{\"cappoint\":\"SEGMENTPORT\",\"capsource\":\"CLI\"}", "cappoint", "LOGICALPORT");
}

static void another_node_is_not_found(void **state)
{
	strcpy(config.nsx.node, "here");
	strcpy(config.nsx.node_ip, "192.0.2.1");
	taken("{" MINIMAL ",\"node\":\"here\",\"node_ip\":\"192.0.2.1\"}", NSX_MANAGER);
	nsx_request_free(&request);
	assert_int_equal(decode("{" MINIMAL ",\"node\":\"there\"}", NSX_MANAGER), -ENOENT);
	assert_string_equal(err.field, "node");
	assert_int_equal(decode("{" MINIMAL ",\"node_ip\":\"192.0.2.2\"}", NSX_MANAGER), -ENOENT);
	assert_string_equal(err.field, "node_ip");
	memset(&config, 0, sizeof(config));
}

static void expression_is(const char *values, const char *expression)
{
	char text[FILTER_EXPRESSION_MAX], document[1024];
	json_t *options;

	snprintf(document, sizeof(document), "{\"values\":[%s]}", values);
	options = json_loads(document, 0, NULL);
	assert_non_null(options);
	memset(&err, 0, sizeof(err));
	if (nsx_filter(options, text, sizeof(text), &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
	json_decref(options);
	assert_string_equal(text, expression);
}

#define O(name, value) "{\"name\":\"" name "\",\"value\":\"" value "\"}"

static void options_become_expressions(void **state)
{
	static const struct {
		const char *values, *expression;
	} cases[] = {
		{"", ""},
		{O("ETHTYPE", "0x86DD"), "ether proto 0x86dd"},
		{O("ETHTYPE", "2054"), "ether proto 0x0806"},
		{O("MAC", "00-50-56-AB-cd-01"), "ether host 00:50:56:ab:cd:01"},
		{O("SRCMAC", "00:50:56:01:02:03"), "ether src 00:50:56:01:02:03"},
		{O("DSTMAC", "00:50:56:01:02:03"), "ether dst 00:50:56:01:02:03"},
		{O("VLAN", "0"), "vlan 0"},
		{O("IP", "10.0.0.1"), "ip host 10.0.0.1"},
		{O("SRCIP", "10.1.2.3/20"), "ip src net 10.1.0.0/20"},
		{O("DSTIP", "10.1.2.3/0"), "ip dst net 0.0.0.0/0"},
		{O("IPPROTO", "0x01"), "ip proto 1"},
		{O("PORT", "0"), "port 0"},
		{O("SRCPORT", "65535"), "src port 65535"},
		{O("DSTPORT", "010"), "dst port 10"},
		{O("IPPROTO6", "58"), "ip6 proto 58"},
		{O("IP6", "2001:DB8:0::1"), "ip6 host 2001:db8::1"},
		{O("SRCIP6", "2001:db8:ffff::/33"), "ip6 src net 2001:db8:8000::/33"},
		{O("DSTIP6", "::/0"), "ip6 dst net ::/0"},
		{O("PORT", "80") "," O("VLAN", "7") "," O("IP", "1.2.3.4") "," O("VLAN", "8"),
			"vlan 7 and vlan 8 and port 80 and ip host 1.2.3.4"},
		{O("VNI", "0x10"),
			"(udp dst port 4789 and ip and udp[8] & 8 != 0 and udp[12:4] & 0xffffff00 "
			"= 0x00001000) or (ip6[6] = 17 and ip6[42:2] = 4789 and ip6[48] & 8 != 0 "
			"and ip6[52:4] & 0xffffff00 = 0x00001000) or (geneve 16)"},
		{O("SRCIP", "10.0.0.0/8") "," O("VNI", "1"),
			"(udp dst port 4789 and ip and udp[8] & 8 != 0 and udp[12:4] & 0xffffff00 "
			"= 0x00000100 and udp[28:2] = 0x0800 and ((udp[42:4] & 0xff000000 = "
			"0x0a000000))) or (ip6[6] = 17 and ip6[42:2] = 4789 and ip6[48] & 8 != 0 "
			"and ip6[52:4] & 0xffffff00 = 0x00000100 and ip6[68:2] = 0x0800 and "
			"((ip6[82:4] & 0xff000000 = 0x0a000000))) or (geneve 1 and ip src net "
			"10.0.0.0/8)"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expression_is(cases[i].values, cases[i].expression);
}

static void too_long_an_expression_is_refused(void **state)
{
	char text[64];
	json_t *options =
		json_loads("{\"values\":[" O("IP6", "2001:db8::1") "," O("VNI", "1") "]}", 0, NULL);

	assert_int_equal(nsx_filter(options, text, sizeof(text), &err), -EINVAL);
	assert_string_equal(err.field, "options");
	assert_non_null(strstr(err.text, "at most 63"));
	json_decref(options);
}

static void what_would_change_the_capture_is_refused(void **state)
{
	refused("{" MINIMAL ",\"filtertype\":\"PRE\"}", "filtertype", "DVFILTER");
	refused("{" MINIMAL ",\"capcore\":2}", "capcore", "core");
	refused("{" MINIMAL ",\"direction\":\"BOTH\"}", "direction", "INPUT, OUTPUT, DUAL");
	refused("{" MINIMAL ",\"capamount\":-1}", "capamount", "0 to 2147483647");
	refused("{" MINIMAL ",\"node\":\"a'b\"}", "node", "quotes");
	refused("{" MINIMAL ",\"options\":{\"values\":[" O("VLAN", "4096") "]}}",
		"options.values.0.value (VLAN)", "0 to 4095");
}

static struct session_info info_of(enum session_state state, enum end_reason reason)
{
	return (struct session_info){
		.id = {{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}},
		.name = "",
		.owner = "ops",
		.dialect = DIALECT_nsx,
		.state = state,
		.reason = reason,
		.output = OUTPUT_FILE,
		.created_ns = 1700000000123456789ULL,
		.ended_ns = 1700000001123456789ULL,
		.size_bytes = 5000,
		.ledger = {.written = 7, .written_bytes = 700},
		.vendor = "{\"request\":{\"cappoint\":\"SEGMENTPORT\",\"capsource\":\"UI\"}}",
	};
}

static void states_have_their_names(void **state)
{
	static const struct {
		enum session_state state;
		enum end_reason reason;
		const char *name;
	} cases[] = {
		{SESSION_starting, END_none, "CREATED"},
		{SESSION_running, END_none, "STARTED"},
		{SESSION_stopping, END_stopped, "STARTED"},
		{SESSION_converting, END_packet_limit, "STARTED"},
		{SESSION_complete, END_stopped, "STOPPED"},
		{SESSION_complete, END_shutdown, "STOPPED"},
		{SESSION_complete, END_packet_limit, "FINISHED"},
		{SESSION_complete, END_time_limit, "FINISHED"},
		{SESSION_complete, END_file_limit, "FINISHED"},
		{SESSION_failed, END_disk_full, "ERROR"},
		{SESSION_failed, END_recovered, "ERROR"},
		{SESSION_deleted, END_stopped, "STOPPED"},
		{SESSION_deleted, END_io_error, "ERROR"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct session_info info = info_of(cases[i].state, cases[i].reason);
		json_t *json = nsx_session(&info, NSX_MANAGER, 5);

		assert_string_equal(
			json_string_value(json_object_get(json, "sessionstatus")), cases[i].name);
		assert_int_equal(json_object_get(json, "errormsg") != NULL,
			strcmp(cases[i].name, "ERROR") == 0);
		assert_int_equal(json_object_get(json, "endtime") != NULL,
			session_state_closed(cases[i].state));
		json_decref(json);
	}
}

static void a_session_is_shown_in_the_family_s_words(void **state)
{
	struct session_info info = info_of(SESSION_complete, END_stopped);
	json_t *json = nsx_session(&info, NSX_MANAGER, 3000000000ULL);
	char *text = json_print(json);

	assert_string_equal(text,
		"{\"sessionid\":\"01020304-0506-4708-8900-000000000000\","
		"\"sessionname\":\"01020304-0506-4708-8900-000000000000\","
		"\"sessionstatus\":\"STOPPED\","
		"\"request\":{\"cappoint\":\"LOGICALPORT\",\"capsource\":\"UI\"},"
		"\"starttime\":1700000000123,\"endtime\":1700000001123,"
		"\"filelocation\":\"/api/v1/pktcap/session/01020304-0506-4708-8900-000000000000/"
		"capturefile\",\"filesize\":2147483647,"
		"\"id\":\"01020304-0506-4708-8900-000000000000\","
		"\"display_name\":\"01020304-0506-4708-8900-000000000000\","
		"\"_create_time\":1700000000123,\"_create_user\":\"ops\","
		"\"_protection\":\"NOT_PROTECTED\"}");
	free(text);
	json_decref(json);
	json = nsx_session(&info, NSX_POLICY, 0);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(json, "request"), "cappoint")),
		"SEGMENTPORT");
	json_decref(json);
}

static void files_have_the_length_of_their_format(void **state)
{
	struct session_info info = info_of(SESSION_complete, END_stopped);

	assert_int_equal(nsx_file_bytes(&info, CONFIG_NSX_PCAP), 24 + 7 * 16 + 700);
	assert_int_equal(nsx_file_bytes(&info, CONFIG_NSX_PCAPNG), 5000);
	info.output = OUTPUT_NONE;
	assert_int_equal(nsx_file_bytes(&info, CONFIG_NSX_PCAP), 0);
}

static void a_restart_goes_by_the_first_id(void **state)
{
	static const char first[] = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
	struct session_info info = info_of(SESSION_running, END_none);
	char id[UUID_TEXT_SIZE], *vendor;

	nsx_session_id(&info, id);
	assert_string_equal(id, "01020304-0506-4708-8900-000000000000");
	assert_false(nsx_session_restarted(&info));
	assert_int_equal(nsx_vendor_decode(info.vendor, &config, &request, &err), 0);
	vendor = nsx_vendor(&request, first);
	nsx_request_free(&request);
	info.vendor = vendor;
	nsx_session_id(&info, id);
	assert_string_equal(id, first);
	assert_true(nsx_session_restarted(&info));
	assert_int_equal(nsx_vendor_decode(vendor, &config, &request, &err), 0);
	nsx_request_free(&request);
	free(vendor);
}

/* Clients in shell paste our JSON into literals of other languages. */
static void nothing_is_escaped(void **state)
{
	struct session_info info = info_of(SESSION_failed, END_io_error);
	json_t *json;
	char *text;

	info.name = "a \"\"\"b\"\"\" '''c''' \\ \n\t\x01 d";
	info.message = "writing \"x\\y\" failed\n";
	json = nsx_session(&info, NSX_MANAGER, 0);
	text = json_print(json);
	assert_null(strchr(text, '\\'));
	assert_null(strstr(text, "'''"));
	assert_non_null(strstr(text, "writing 'x/y' failed"));
	free(text);
	json_decref(json);
}

static void errors_are_api_errors(void **state)
{
	static const struct {
		int status, code;
		const char *name;
	} cases[] = {
		{400, 255, "BAD_REQUEST"},
		{401, 401, "UNAUTHORIZED"},
		{403, 403, "FORBIDDEN"},
		{404, 600, "NOT_FOUND"},
		{412, 604, "PRECONDITION_FAILED"},
		{500, 500, "INTERNAL_SERVER_ERROR"},
		{503, 503, "SERVICE_UNAVAILABLE"},
		{416, 416, NULL},
	};
	static const struct err nothing;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *json = nsx_error(cases[i].status, &nothing);
		const char *name = json_string_value(json_object_get(json, "httpStatus"));

		assert_int_equal(
			json_integer_value(json_object_get(json, "error_code")), cases[i].code);
		assert_true(
			cases[i].name == NULL ? name == NULL : strcmp(name, cases[i].name) == 0);
		assert_non_null(json_string_value(json_object_get(json, "module_name")));
		assert_true(json_string_length(json_object_get(json, "error_message")) > 0);
		json_decref(json);
	}
	err_set(&err, EINVAL, "limits.packets", "is bad");
	nsx_err_rename(&err);
	assert_string_equal(err.field, "capamount");
	err_set(&err, EINVAL, "filter", "is bad");
	nsx_err_rename(&err);
	assert_string_equal(err.field, "options");
}

static void ports_have_lasting_ids(void **state)
{
	char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];

	nsx_port_id("tap0", a);
	nsx_port_id("tap1", b);
	assert_string_equal(a, "41e8d8a8-827a-5194-9418-4efc682816c1");
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_becomes_a_spec),
		cmocka_unit_test(what_is_left_out_bounds_nothing),
		cmocka_unit_test(families_have_a_word_of_their_own),
		cmocka_unit_test(another_node_is_not_found),
		cmocka_unit_test(options_become_expressions),
		cmocka_unit_test(too_long_an_expression_is_refused),
		cmocka_unit_test(what_would_change_the_capture_is_refused),
		cmocka_unit_test(states_have_their_names),
		cmocka_unit_test(a_session_is_shown_in_the_family_s_words),
		cmocka_unit_test(files_have_the_length_of_their_format),
		cmocka_unit_test(a_restart_goes_by_the_first_id),
		cmocka_unit_test(nothing_is_escaped),
		cmocka_unit_test(errors_are_api_errors),
		cmocka_unit_test(ports_have_lasting_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
