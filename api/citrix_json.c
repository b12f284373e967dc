/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/citrix_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/port.h"
#include "api/native_json.h"
#include "api/rfc3339.h"
#include "api/route.h"
#include "api/server.h"

#define NS_PER_S      1000000000ULL
#define SEPARATOR     "--"
#define INTERFACE_MAX 1024
#define SHOWN_MAX     60

/* A number that is one of a few: clients send it as a number or as a string. */
struct choice {
	const char *text;
	uint64_t value;
};

static const struct choice durations[] = {{"5", 5}, {"10", 10}, {"15", 15}, {"30", 30}, {NULL, 0}};
static const struct choice packet_counts[] = {
	{"1000", 1000}, {"2000", 2000}, {"5000", 5000}, {"MAX", 0}, {NULL, 0}};

/* What stands in the vendor's text, in the documents' order. */
static const char *const members[] = {"interface", "duration", "filter_str", "max_packets"};

struct texts {
	const char *interface, *filter;
};

static const struct json_field text_fields[] = {
	{"interface", JSON_KIND_TEXT, offsetof(struct texts, interface), .min = 1,
		.max = INTERFACE_MAX, .help = "interfaces, joined with --"},
	{"filter_str", JSON_KIND_LINES, offsetof(struct texts, filter),
		.max = FILTER_EXPRESSION_MAX - 1, .help = "a pcap filter expression"},
};
static const struct json_shape text_shape = {
	JSON_SHAPE_FIELDS(text_fields), .unknown_ignored = true, .null_is_absent = true};

struct login {
	const char *name, *secret;
};

static const struct json_field login_fields[] = {
	{"username", JSON_KIND_TEXT, offsetof(struct login, name), .min = 1, .max = 255,
		.required = true, .help = "the name of a token"},
	{"password", JSON_KIND_TEXT, offsetof(struct login, secret), .min = 1, .max = 255,
		.required = true, .help = "the token's secret"},
};
static const struct json_shape login_shape = {
	JSON_SHAPE_FIELDS(login_fields), .unknown_ignored = true, .null_is_absent = true};

static int object_find(const json_t *document, const json_t **object, struct err *err);
static int choice_read(const json_t *object, const char *name, const struct choice *choices,
	uint64_t *value, struct err *err);
static int interfaces_read(const char *text, const struct config *config, const char *account,
	struct citrix_capture *capture, struct err *err);
static char *echo_make(const json_t *object, const struct citrix_capture *capture);
static json_t *vendor_json(const struct session_info *info);

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

int citrix_capture_decode(const char *body, size_t len, const struct config *config,
	const char *account, struct citrix_capture *capture, struct err *err)
{
	struct texts texts = {0};
	const json_t *object;
	int rc;

	*capture = (struct citrix_capture){.duration_s = 5};
	capture->document = len == 0 ? json_object() : json_parse(body, len, err);
	if (capture->document == NULL)
		return -EINVAL;
	rc = object_find(capture->document, &object, err);
	if (rc == 0)
		rc = json_decode(object, &text_shape, &texts, err);
	if (rc == 0)
		rc = choice_read(object, "duration", durations, &capture->duration_s, err);
	if (rc == 0)
		rc = choice_read(object, "max_packets", packet_counts, &capture->max_packets, err);
	if (rc == 0)
		rc = interfaces_read(texts.interface, config, account, capture, err);
	if (rc < 0)
		goto fail;
	capture->interface = texts.interface;
	capture->filter = texts.filter;
	capture->echo = echo_make(object, capture);
	if (capture->echo != NULL)
		return 0;
	rc = err_set(err, ENOMEM, NULL, "no memory");
fail:
	citrix_capture_release(capture);
	return rc;
}

void citrix_capture_release(struct citrix_capture *capture)
{
	json_decref(capture->document);
	free(capture->echo);
	capture->document = NULL;
	capture->echo = NULL;
}

void citrix_spec(const struct citrix_capture *capture, struct session_spec *spec)
{
	spec->dialect = DIALECT_citrix;
	spec->n_ports = capture->n_ports;
	memcpy(spec->ports, capture->ports, sizeof(spec->ports));
	spec->filter = capture->filter;
	spec->sample_n = 1;
	spec->direction = DIRECTION_BOTH;
	spec->limit_ns = capture->duration_s * NS_PER_S;
	spec->limit_packets = capture->max_packets;
	spec->limit_file_bytes = CITRIX_FILE_MAX;
	spec->output = OUTPUT_FILE;
	spec->vendor = capture->echo;
}

/* A member of the request that says something else than the capture that runs. */
static int member_keep(
	const json_t *object, const json_t *vendor, const char *name, struct err *err)
{
	const json_t *wanted = json_object_get(object, name);
	const char *is = json_string_value(json_object_get(vendor, name));

	if (wanted == NULL || json_is_null(wanted))
		return 0;
	if (is != NULL && json_is_string(wanted) && strcmp(json_string_value(wanted), is) == 0)
		return 0;
	return err_set(err, EINVAL, name,
		"cannot be changed while the capture runs; duration and max_packets can");
}

int citrix_change_decode(const char *body, size_t len, const struct session_info *info,
	uint64_t *limit_packets, uint64_t *limit_ns, char **echo, struct err *err)
{
	json_t *document = len == 0 ? json_object() : json_parse(body, len, err);
	json_t *vendor = vendor_json(info);
	uint64_t duration_s = info->limit_ns / NS_PER_S;
	const json_t *object = NULL;
	int rc = document != NULL ? object_find(document, &object, err) : -EINVAL;

	*limit_packets = info->limit_packets;
	if (rc == 0)
		rc = member_keep(object, vendor, "interface", err);
	if (rc == 0)
		rc = member_keep(object, vendor, "filter_str", err);
	if (rc == 0)
		rc = choice_read(object, "duration", durations, &duration_s, err);
	if (rc == 0)
		rc = choice_read(object, "max_packets", packet_counts, limit_packets, err);
	if (rc < 0)
		goto out;
	*limit_ns = duration_s * NS_PER_S;
	for (unsigned i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		json_t *value = json_object_get(object, members[i]);

		if (value != NULL && !json_is_null(value))
			json_object_set(vendor, members[i], value);
	}
	*echo = json_print(vendor);
	if (*echo == NULL)
		rc = err_set(err, ENOMEM, NULL, "no memory");
out:
	json_decref(document);
	json_decref(vendor);
	return rc;
}

int citrix_login_decode(const char *body, size_t len, const char **name, const char **secret,
	json_t **document, struct err *err)
{
	struct login login = {0};
	const json_t *object;
	int rc;

	*document = json_parse(body, len, err);
	if (*document == NULL)
		return -EINVAL;
	object = json_object_get(*document, "login");
	if (!json_is_object(object))
		return err_set(
			err, EINVAL, "login", "is required: an object with username and password");
	rc = json_decode(object, &login_shape, &login, err);
	*name = login.name;
	*secret = login.secret;
	return rc;
}

/* What stands in {"packet_capture":{..}}; an empty body asks for what {} asks for. */
static int object_find(const json_t *document, const json_t **object, struct err *err)
{
	*object = json_object_get(document, "packet_capture");
	if (!json_is_object(document))
		return err_set(err, EINVAL, NULL, "must be a JSON object");
	if (json_is_object(*object))
		return 0;
	if (*object != NULL && !json_is_null(*object))
		return err_set(err, EINVAL, "packet_capture", "must be an object");
	/* Taken as they stand they would be unknown, and everything would be captured. */
	for (unsigned i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (json_object_get(document, members[i]) != NULL)
			return err_set(err, EINVAL, members[i],
				"must stand in {\"packet_capture\":{...}}");
	*object = document;
	return 0;
}

static bool choice_is(const struct choice *choice, const json_t *value)
{
	if (json_is_string(value))
		return strcmp(json_string_value(value), choice->text) == 0;
	return json_is_number(value) && choice->value != 0 &&
	       json_number_value(value) == (double)choice->value;
}

static int choice_read(const json_t *object, const char *name, const struct choice *choices,
	uint64_t *value, struct err *err)
{
	const json_t *given = json_object_get(object, name);
	char allowed[80] = "", *shown;
	size_t len = 0;

	if (given == NULL || json_is_null(given))
		return 0;
	for (unsigned i = 0; choices[i].text != NULL; i++) {
		if (choice_is(&choices[i], given)) {
			*value = choices[i].value;
			return 0;
		}
		len += snprintf(allowed + len, sizeof(allowed) - len, "%s%s", i > 0 ? ", " : "",
			choices[i].text);
	}
	shown = json_print_ascii(given);
	err_set(err, EINVAL, name, "must be one of: %s, not %.*s", allowed, SHOWN_MAX,
		shown != NULL ? shown : "this");
	free(shown);
	return -EINVAL;
}

/* The port that a client calls name: by [citrix] interfaces, or its own. */
static const char *port_name(const struct config *config, const char *name)
{
	const struct config_list *pairs = &config->citrix.interfaces;
	const size_t len = strlen(name);

	for (unsigned i = 0; i < pairs->n; i++)
		if (strncmp(pairs->item[i], name, len) == 0 && pairs->item[i][len] == '=')
			return pairs->item[i] + len + 1;
	return name;
}

/* Two names for one port are one. */
static void port_add(struct citrix_capture *capture, uint8_t port)
{
	for (unsigned i = 0; i < capture->n_ports; i++)
		if (capture->ports[i] == port)
			return;
	capture->ports[capture->n_ports++] = port;
}

static bool port_is_allowed(const char *name, const uint8_t *ports, unsigned n_ports)
{
	for (unsigned i = 0; i < n_ports; i++)
		if (strcmp(engine_port(ports[i])->config->name, name) == 0)
			return true;
	return false;
}

static int interface_unknown(const struct config *config, const char *name, const uint8_t *ports,
	unsigned n_ports, struct err *err)
{
	const struct config_list *pairs = &config->citrix.interfaces;
	char known[160] = "";
	size_t len = 0;

	for (unsigned i = 0; i < pairs->n && len < sizeof(known); i++) {
		int n = (int)strcspn(pairs->item[i], "=");

		if (port_is_allowed(pairs->item[i] + n + 1, ports, n_ports))
			len += snprintf(known + len, sizeof(known) - len, "%s%.*s",
				len > 0 ? ", " : "", n, pairs->item[i]);
	}
	for (unsigned i = 0; i < n_ports && len < sizeof(known); i++)
		len += snprintf(known + len, sizeof(known) - len, "%s%s", len > 0 ? ", " : "",
			engine_port(ports[i])->config->name);
	return err_set(err, EINVAL, "interface", "there is no interface \"%.63s\"; known: %s", name,
		known);
}

static int interface_read(const char *name, const struct config *config, const uint8_t *allowed,
	unsigned n_allowed, struct citrix_capture *capture, struct err *err)
{
	const char *port = port_name(config, name);

	for (unsigned i = 0; i < n_allowed; i++) {
		if (strcmp(engine_port(allowed[i])->config->name, port) != 0)
			continue;
		port_add(capture, allowed[i]);
		return 0;
	}
	return interface_unknown(config, name, allowed, n_allowed, err);
}

/* "LTE-1--MGMT--1/2": a single hyphen is part of a name. */
static int interfaces_read(const char *text, const struct config *config, const char *account,
	struct citrix_capture *capture, struct err *err)
{
	uint8_t allowed[CONFIG_PORTS_MAX];
	unsigned n_allowed = native_account_ports(config, account, allowed);
	char copy[INTERFACE_MAX + 1], *next;
	int rc = 0;

	if (n_allowed == 0)
		return err_set(
			err, EINVAL, "interface", "the account \"%s\" has no ports", account);
	if (text == NULL) {
		capture->n_ports = n_allowed;
		memcpy(capture->ports, allowed, sizeof(allowed));
		return 0;
	}
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *name = copy; name != NULL && rc == 0; name = next) {
		next = strstr(name, SEPARATOR);
		if (next != NULL) {
			*next = '\0';
			next += strlen(SEPARATOR);
		}
		rc = interface_read(name, config, allowed, n_allowed, capture, err);
	}
	return rc;
}

/* The ports' names as one interface text. */
static json_t *interfaces_text(const struct citrix_capture *capture)
{
	char text[CONFIG_PORTS_MAX * (CONFIG_NAME_MAX + 2)] = "";
	size_t len = 0;

	for (unsigned i = 0; i < capture->n_ports; i++)
		len += snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? SEPARATOR : "",
			engine_port(capture->ports[i])->config->name);
	return json_text(text);
}

/* What is shown again: as it was sent, or the default. */
static char *echo_make(const json_t *object, const struct citrix_capture *capture)
{
	json_t *echo = json_object();
	char *text;

	put(echo, "interface", interfaces_text(capture));
	put(echo, "duration", json_integer((json_int_t)capture->duration_s));
	put(echo, "filter_str", json_string(""));
	put(echo, "max_packets", json_string("MAX"));
	for (unsigned i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		json_t *value = json_object_get(object, members[i]);

		if (value != NULL && !json_is_null(value))
			json_object_set(echo, members[i], value);
	}
	text = json_print(echo);
	json_decref(echo);
	return text;
}

static json_t *vendor_json(const struct session_info *info)
{
	json_t *vendor = info->vendor != NULL ? json_loads(info->vendor, 0, NULL) : NULL;

	return vendor != NULL ? vendor : json_object();
}

static void put_ports(json_t *json, const struct packet_flow *flow)
{
	char text[8];

	snprintf(text, sizeof(text), "%u", flow->src_port);
	put(json, "src_port", json_string(flow->has_ports ? text : ""));
	snprintf(text, sizeof(text), "%u", flow->dst_port);
	put(json, "dst_port", json_string(flow->has_ports ? text : ""));
}

json_t *citrix_packet(const struct packet_summary *packet)
{
	const struct packet_flow *flow = &packet->outer;
	char number[24], time[RFC3339_SIZE], length[16];
	char src_mac[PACKET_MAC_MAX] = "", dst_mac[PACKET_MAC_MAX] = "";
	char src_ip[PACKET_IP_MAX], dst_ip[PACKET_IP_MAX];
	json_t *json = json_object();

	snprintf(number, sizeof(number), "%" PRIu64, packet->number);
	snprintf(length, sizeof(length), "%u", packet->orig_len);
	rfc3339_print(packet->time_ns, 9, time);
	if (flow->has_mac) {
		packet_mac_print(flow->src_mac, src_mac);
		packet_mac_print(flow->dst_mac, dst_mac);
	}
	packet_ip_print(flow->ip_version, flow->src_ip, src_ip);
	packet_ip_print(flow->ip_version, flow->dst_ip, dst_ip);
	put(json, "number", json_string(number));
	put(json, "time", json_string(time));
	put(json, "src_mac", json_string(src_mac));
	put(json, "dst_mac", json_string(dst_mac));
	put(json, "src_ip", json_string(src_ip));
	put(json, "dst_ip", json_string(dst_ip));
	put_ports(json, flow);
	put(json, "protocol", json_text(flow->protocol));
	put(json, "length", json_string(length));
	return json;
}

json_t *citrix_capture(const struct session_info *info, const char *message, json_t *summary)
{
	json_t *json = vendor_json(info);

	put(json, "message", json_text(message));
	put(json, "summary", summary);
	return json;
}

const char *citrix_state_message(const struct session_info *info)
{
	switch (info->state) {
	case SESSION_complete:
		return info->reason == END_file_limit
			       ? "packet capture ended at the maximum file size of 575 MB"
			       : "packet capture completed";
	case SESSION_failed:
		return info->message != NULL && info->message[0] != '\0' ? info->message
									 : "packet capture failed";
	case SESSION_deleted:
		return "packet capture completed; its file is no longer kept";
	default:
		return "packet capture is running";
	}
}

const char *citrix_added_message(const struct session_info *info)
{
	return info->reason == END_file_limit ? CITRIX_ADDED
		       "; the capture ended at the maximum file size of 575 MB"
					      : CITRIX_ADDED;
}

json_t *citrix_wrap(const char *resource, json_t *object)
{
	json_t *json = json_object();

	put(json, resource, object);
	return json;
}

json_t *citrix_message(const char *resource, const char *message)
{
	json_t *object = json_object();

	put(object, "message", json_text(message));
	return citrix_wrap(resource, object);
}

json_t *citrix_error(int status, const struct err *err)
{
	static const struct {
		int status;
		const char *message; /* when err says nothing */
	} rows[] = {
		{400, "Failed: bad input parameter"},
		{401, "Unauthorized: Failed Authentication"},
		{403, "Unauthorized: Forbidden"},
		{404, "Failed: there is no such resource"},
		{405, "Failed: Data format unacceptable"},
		{415, "Failed: Data format unacceptable"},
		{500, "Failed: Internal Server Error"},
	};
	const char *message = server_phrase(status);
	char text[sizeof(err->field) + sizeof(err->text) + 4];
	json_t *json = json_object();

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == status)
			message = rows[i].message;
	if (err->text[0] != '\0') {
		snprintf(text, sizeof(text), "%s%s%s", err->field,
			err->field[0] != '\0' ? ": " : "", err->text);
		message = text;
	}
	put(json, "errorcode", json_integer(status));
	put(json, "errormessage", json_text(message));
	return json;
}

int citrix_status(const struct err *err)
{
	int status = route_status(err);

	if (status == 409)
		return 400;
	return status > 500 ? 500 : status;
}

void citrix_err_rename(struct err *err)
{
	static const char *const names[][2] = {
		{"filter", "filter_str"},
		{"ports", "interface"},
		{"limits.seconds", "duration"},
		{"limits.packets", "max_packets"},
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(err->field, names[i][0]) == 0)
			snprintf(err->field, sizeof(err->field), "%s", names[i][1]);
}
