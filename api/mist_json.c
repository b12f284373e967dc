/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/mist_json.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/port.h"
#include "api/native_json.h"
#include "api/server.h"

#define NS_PER_S          1000000000ULL
#define EXPRESSION_MAX    2048
#define TARGETS_MAX       32
#define SWITCH_PORTS_MAX  6
#define DAY_S             86400
#define LIMIT_DEFAULT     100
#define LIMIT_MAX         1000
#define TZSP_PORT_DEFAULT 37008
#define MAC_DIGITS        (MIST_MAC_SIZE - 1)
#define NO_ID             "00000000-0000-0000-0000-000000000000"

/* In the order of enum mist_type, then what only a radio could do. */
static const char *const type_words[] = {"client", "wired", "switch", "gateway", "mxedge",
	"new_assoc", "wireless", "radiotap", "radiotap,wired", "scan", NULL};
static const char *const format_words[] = {"pcap", "stream", "tzsp", NULL};

struct create {
	unsigned type, format;
	uint64_t duration, num_packets, max_pkt_len, tzsp_port;
	bool includes_mcast;
	const char *client_mac, *ap_mac, *ssid, *expression, *tzsp_host;
};

#define TYPE_FIELD                                                         \
	{                                                                  \
		"type", JSON_KIND_WORD, offsetof(struct create, type),     \
			.required = true, .words = type_words,             \
			.help = "client, wired, switch, gateway or mxedge" \
	}
#define COMMON_FIELDS(most)                                                              \
	{"duration", JSON_KIND_INTEGER, offsetof(struct create, duration), .min = 60,    \
		.max = 86400, .help = "seconds"},                                        \
		{"num_packets", JSON_KIND_INTEGER, offsetof(struct create, num_packets), \
			.max = 10000, .help = "packets to keep, 0 = any number"},        \
	{                                                                                \
		"max_pkt_len", JSON_KIND_INTEGER, offsetof(struct create, max_pkt_len),  \
			.min = 64, .max = (most), .help = "bytes kept of a packet"       \
	}
#define EXPRESSION_FIELD                                                                    \
	{                                                                                   \
		"tcpdump_expression", JSON_KIND_LINES, offsetof(struct create, expression), \
			.max = EXPRESSION_MAX, .help = "a pcap expression"                  \
	}
#define FORMAT_FIELD(allowed)                                                   \
	{                                                                       \
		"format", JSON_KIND_WORD, offsetof(struct create, format),      \
			.words = (allowed), .help = "how packets are delivered" \
	}
#define AP_FIELD                                                           \
	{                                                                  \
		"ap_mac", JSON_KIND_TEXT, offsetof(struct create, ap_mac), \
			.max = 64, .help = "the device, 12 hex digits"     \
	}

static const struct json_field type_fields[] = {TYPE_FIELD};
static const struct json_field client_fields[] = {COMMON_FIELDS(2048), AP_FIELD,
	{"client_mac", JSON_KIND_TEXT, offsetof(struct create, client_mac), .max = 64,
		.required = true, .help = "12 hex digits"},
	{"ssid", JSON_KIND_TEXT, offsetof(struct create, ssid), .max = 64, .help = "a radio's"},
	{"includes_mcast", JSON_KIND_BOOL, offsetof(struct create, includes_mcast),
		.help = "multicast too"}};
static const struct json_field wired_fields[] = {
	COMMON_FIELDS(2048), AP_FIELD, EXPRESSION_FIELD, FORMAT_FIELD(format_words)};
static const struct json_field switch_fields[] = {
	COMMON_FIELDS(2048), EXPRESSION_FIELD, FORMAT_FIELD(format_words)};
static const struct json_field gateway_fields[] = {
	COMMON_FIELDS(10240), EXPRESSION_FIELD, FORMAT_FIELD(format_words)};
static const struct json_field mxedge_fields[] = {COMMON_FIELDS(2048), EXPRESSION_FIELD,
	FORMAT_FIELD(format_words),
	{"tzsp_host", JSON_KIND_TEXT, offsetof(struct create, tzsp_host), .min = 1, .max = 63,
		.help = "an address"},
	{"tzsp_port", JSON_KIND_INTEGER, offsetof(struct create, tzsp_port), .min = 1, .max = 65535,
		.help = "a UDP port"}};

#define SHAPE(fields)                                                                       \
	{                                                                                   \
		JSON_SHAPE_FIELDS(fields), .unknown_ignored = true, .null_is_absent = true, \
					   .real_is_integer = true                          \
	}
static const struct json_shape type_shape = SHAPE(type_fields);

/* What is particular to a type. */
static const struct kind {
	struct json_shape shape;
	enum mist_format formats[2]; /* allowed; the first is the default */
	uint64_t max_pkt_len;        /* default */
	const char *devices;         /* the member that names them by MAC; NULL: ap_mac does */
	const char *ports;           /* what a device's ports are called */
	unsigned devices_max, ports_max;
} kinds[] = {
	[MIST_CLIENT] = {SHAPE(client_fields), {MIST_PCAP, MIST_PCAP}, 512},
	[MIST_WIRED] = {SHAPE(wired_fields), {MIST_PCAP, MIST_STREAM}, 512},
	[MIST_SWITCH] = {SHAPE(switch_fields), {MIST_STREAM, MIST_STREAM}, 512, "switches", "ports",
		TARGETS_MAX, SWITCH_PORTS_MAX},
	[MIST_GATEWAY] = {SHAPE(gateway_fields), {MIST_STREAM, MIST_STREAM}, 512, "gateways",
		"ports", TARGETS_MAX, TARGETS_MAX},
	[MIST_MXEDGE] = {SHAPE(mxedge_fields), {MIST_STREAM, MIST_TZSP}, 128, "mxedges",
		"interfaces", 1, 1},
};

/* One port that is captured on, and the expression for it ("" = everything). */
struct target {
	uint8_t port;
	const char *expression; /* a copy: options are cut off */
};

/* A request on its way to a struct mist_capture. */
struct reading {
	const struct config *config;
	const struct kind *kind;
	const struct create *create;
	uint8_t allowed[CONFIG_PORTS_MAX];
	unsigned n_allowed;
	struct target targets[TARGETS_MAX];
	unsigned n_targets;
	char *copies[TARGETS_MAX + 1]; /* of expressions */
	unsigned n_copies;
	json_t *known;   /* MACs that are captured on */
	json_t *invalid; /* MAC to reason */
};

static int type_check(unsigned type, bool organisation, struct err *err);
static int format_check(const struct kind *kind, const struct create *create, struct err *err);
static int targets_read(const json_t *document, struct reading *reading, struct err *err);
static int targets_take(
	const struct reading *reading, struct mist_capture *capture, struct err *err);
static int client_take(const struct create *create, struct mist_capture *capture, struct err *err);
static char *echo_make(
	const struct reading *reading, const struct mist_capture *capture, bool organisation);
static const char *expression_copy(
	struct reading *reading, const char *text, const char *field, struct err *err);

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

int mist_capture_decode(const char *body, size_t len, const struct config *config,
	const struct config_account *account, bool organisation, struct mist_capture *capture,
	struct err *err)
{
	struct create create = {
		.duration = 600, .num_packets = 1024, .tzsp_port = TZSP_PORT_DEFAULT};
	struct reading reading = {.config = config, .create = &create};
	json_t *document = json_parse(body, len, err);
	int rc;

	*capture = (struct mist_capture){.document = document};
	if (document == NULL)
		return -EINVAL;
	reading.known = json_array();
	reading.invalid = json_object();
	reading.n_allowed = native_account_ports(config, account->name, reading.allowed);
	rc = json_decode(document, &type_shape, &create, err);
	if (rc == 0)
		rc = type_check(create.type, organisation, err);
	if (rc < 0)
		goto out;
	reading.kind = &kinds[create.type];
	create.format = reading.kind->formats[0];
	create.max_pkt_len = reading.kind->max_pkt_len;
	rc = json_decode(document, &reading.kind->shape, &create, err);
	if (rc == 0)
		rc = format_check(reading.kind, &create, err);
	if (rc == 0)
		rc = targets_read(document, &reading, err);
	if (rc == 0)
		rc = create.type == MIST_CLIENT ? client_take(&create, capture, err) : 0;
	if (rc == 0)
		rc = targets_take(&reading, capture, err);
	if (rc < 0)
		goto out;
	capture->type = create.type;
	capture->format = create.format;
	capture->duration_s = create.duration;
	capture->num_packets = create.num_packets;
	capture->max_pkt_len = create.max_pkt_len;
	capture->tzsp_host = create.tzsp_host;
	capture->tzsp_port = create.tzsp_port;
	capture->echo = echo_make(&reading, capture, organisation);
	if (capture->filter == NULL || capture->echo == NULL)
		rc = err_set(err, ENOMEM, NULL, "no memory");
out:
	for (unsigned i = 0; i < reading.n_copies; i++)
		free(reading.copies[i]);
	json_decref(reading.known);
	json_decref(reading.invalid);
	if (rc < 0)
		mist_capture_release(capture);
	return rc;
}

void mist_capture_release(struct mist_capture *capture)
{
	json_decref(capture->document);
	free(capture->filter);
	free(capture->echo);
	*capture = (struct mist_capture){0};
}

void mist_spec(const struct mist_capture *capture, struct session_spec *spec)
{
	spec->dialect = DIALECT_mist;
	spec->n_ports = capture->n_ports;
	memcpy(spec->ports, capture->ports, sizeof(spec->ports));
	spec->filter = capture->filter;
	spec->sample_n = 1;
	spec->snaplen_bytes = capture->max_pkt_len;
	spec->direction = DIRECTION_BOTH;
	spec->limit_ns = capture->duration_s * NS_PER_S;
	spec->limit_packets = capture->num_packets;
	spec->output = OUTPUT_FILE;
	spec->vendor = capture->echo;
	if (capture->format != MIST_TZSP)
		return;
	spec->output = OUTPUT_STREAM;
	spec->stream_address = capture->tzsp_host;
	spec->stream_port = (unsigned)capture->tzsp_port;
	spec->encapsulation = STREAM_tzsp;
}

static int type_check(unsigned type, bool organisation, struct err *err)
{
	if (type > MIST_MXEDGE)
		return err_set(err, EINVAL, "type",
			"\"%s\" is not possible: this host has no radio; wired, switch, gateway "
			"and client are",
			type_words[type]);
	if (organisation != (type == MIST_MXEDGE))
		return err_set(err, EINVAL, "type", "\"%s\" is captured under /%s",
			type_words[type], organisation ? "sites" : "orgs");
	return 0;
}

static int format_check(const struct kind *kind, const struct create *create, struct err *err)
{
	if (create->format != kind->formats[0] && create->format != kind->formats[1])
		return err_set(err, EINVAL, "format", "must be %s%s%s for type %s, not \"%s\"",
			format_words[kind->formats[0]],
			kind->formats[0] != kind->formats[1] ? " or " : "",
			kind->formats[0] != kind->formats[1] ? format_words[kind->formats[1]] : "",
			type_words[create->type], format_words[create->format]);
	if (create->format == MIST_TZSP && create->tzsp_host == NULL)
		return err_set(
			err, EINVAL, "tzsp_host", "is required with format tzsp: an address");
	if (create->ssid != NULL && create->ssid[0] != '\0')
		return err_set(err, EINVAL, "ssid",
			"\"%s\" cannot be matched: this host has no radio", create->ssid);
	return 0;
}

bool mist_mac_parse(const char *text, char mac[MIST_MAC_SIZE])
{
	unsigned n = 0;

	/* An edge's id is a UUID whose last part is its MAC. */
	if (strlen(text) == 36 && text[23] == '-')
		text += 24;
	for (; *text != '\0'; text++) {
		if (strchr(":-.", *text) != NULL)
			continue;
		if (!isxdigit((unsigned char)*text) || n == MAC_DIGITS)
			return false;
		mac[n++] = (char)tolower((unsigned char)*text);
	}
	mac[n] = '\0';
	return n == MAC_DIGITS;
}

static void own_mac(const struct port *port, char mac[MIST_MAC_SIZE])
{
	mac[0] = '\0';
	for (unsigned i = 0; port->has_mac && i < sizeof(port->mac); i++)
		sprintf(mac + 2 * i, "%02x", port->mac[i]);
}

void mist_port_mac(const struct config *config, const char *name, char mac[MIST_MAC_SIZE])
{
	const struct config_list *devices = &config->mist.devices;

	mac[0] = '\0';
	for (unsigned i = 0; i < devices->n; i++) {
		if (strcmp(strchr(devices->item[i], '=') + 1, name) != 0)
			continue;
		snprintf(mac, MIST_MAC_SIZE, "%s", devices->item[i]);
		return;
	}
	for (unsigned i = 0; i < engine_ports(); i++)
		if (strcmp(engine_port(i)->config->name, name) == 0)
			own_mac(engine_port(i), mac);
}

static int port_by_name(const struct reading *reading, const char *name)
{
	for (unsigned i = 0; i < reading->n_allowed; i++)
		if (strcmp(engine_port(reading->allowed[i])->config->name, name) == 0)
			return reading->allowed[i];
	return -1;
}

/* The port behind "MAC" or, with an id, "MAC/ID" in [mist] devices. */
static int port_by_pair(const struct reading *reading, const char *mac, const char *id)
{
	const struct config_list *devices = &reading->config->mist.devices;
	char name[CONFIG_NAME_MAX * 2];
	size_t len;

	len = snprintf(
		name, sizeof(name), "%s%s%.60s", mac, id != NULL ? "/" : "", id != NULL ? id : "");
	for (unsigned i = 0; i < devices->n; i++)
		if (strncmp(devices->item[i], name, len) == 0 && devices->item[i][len] == '=')
			return port_by_name(reading, devices->item[i] + len + 1);
	return -1;
}

/* The port of a device, or -1: it is not known here, or not this account's. */
static int port_by_mac(const struct reading *reading, const char *mac)
{
	int port = port_by_pair(reading, mac, NULL);
	char own[MIST_MAC_SIZE];

	for (unsigned i = 0; i < reading->n_allowed && port < 0; i++) {
		own_mac(engine_port(reading->allowed[i]), own);
		if (strcmp(own, mac) == 0)
			port = reading->allowed[i];
	}
	return port;
}

/* One of a device's ports: by "MAC/ID", by the name that it has here, else all that is seen of it. */
static int port_by_id(const struct reading *reading, const char *mac, const char *id)
{
	int port = port_by_pair(reading, mac, id);

	if (port < 0)
		port = port_by_name(reading, id);
	return port >= 0 ? port : port_by_mac(reading, mac);
}

static int target_add(struct reading *reading, int port, const char *expression, struct err *err)
{
	if (reading->n_targets == TARGETS_MAX)
		return err_set(err, EINVAL, reading->kind->devices, "at most %d ports are possible",
			TARGETS_MAX);
	reading->targets[reading->n_targets++] =
		(struct target){.port = port, .expression = expression};
	return 0;
}

static void known_add(struct reading *reading, const char *mac)
{
	const json_t *one;
	size_t i;

	json_array_foreach (reading->known, i, one)
		if (strcmp(json_string_value(one), mac) == 0)
			return;
	json_array_append_new(reading->known, json_text(mac));
}

/* All ports of the account: no device was named. */
static int targets_all(struct reading *reading, const char *expression, struct err *err)
{
	char mac[MIST_MAC_SIZE];
	int rc = 0;

	if (reading->n_allowed == 0)
		return err_set(err, EINVAL, NULL, "this site has no ports on this host");
	for (unsigned i = 0; i < reading->n_allowed && rc == 0; i++) {
		rc = target_add(reading, reading->allowed[i], expression, err);
		mist_port_mac(reading->config, engine_port(reading->allowed[i])->config->name, mac);
		if (mac[0] != '\0')
			known_add(reading, mac);
	}
	return rc;
}

static int device_unknown(
	const struct reading *reading, const char *field, const char *device, struct err *err)
{
	char known[160] = "", mac[MIST_MAC_SIZE];
	size_t len = 0;

	for (unsigned i = 0; i < reading->n_allowed && len < sizeof(known); i++) {
		mist_port_mac(reading->config, engine_port(reading->allowed[i])->config->name, mac);
		if (mac[0] != '\0')
			len += snprintf(
				known + len, sizeof(known) - len, "%s%s", len > 0 ? ", " : "", mac);
	}
	return err_set(err, EINVAL, field, "there is no device \"%.40s\" here; known: %s", device,
		known[0] != '\0' ? known : "none");
}

/* wired and client: one device, or all. */
static int ap_read(struct reading *reading, const char *expression, struct err *err)
{
	const char *text = reading->create->ap_mac;
	char mac[MIST_MAC_SIZE];
	int port;

	if (text == NULL || text[0] == '\0')
		return targets_all(reading, expression, err);
	port = mist_mac_parse(text, mac) ? port_by_mac(reading, mac) : -1;
	if (port < 0)
		return device_unknown(reading, "ap_mac", text, err);
	known_add(reading, mac);
	return target_add(reading, port, expression, err);
}

/* {"ge-0/0/1":{"tcpdump_expression":"..."}}: what a port says goes before what the request says. */
static int ports_read(const json_t *ports, const char *mac, const char *common,
	struct reading *reading, struct err *err)
{
	const char *id;
	json_t *one;
	int rc = 0;

	if (json_object_size(ports) > reading->kind->ports_max)
		return err_set(err, EINVAL, reading->kind->ports,
			"at most %u are possible, not %zu", reading->kind->ports_max,
			json_object_size(ports));
	json_object_foreach ((json_t *)ports, id, one) {
		const json_t *text = json_object_get(one, "tcpdump_expression");
		const char *expression = common;

		if (!json_is_object(one) && !json_is_null(one))
			return err_set(err, EINVAL, reading->kind->ports,
				"\"%.40s\" must be an object", id);
		if (text != NULL && !json_is_null(text)) {
			if (!json_is_string(text) || json_string_length(text) > EXPRESSION_MAX)
				return err_set(err, EINVAL, "tcpdump_expression",
					"of \"%.40s\" must be a string of at most %d bytes", id,
					EXPRESSION_MAX);
			expression = expression_copy(
				reading, json_string_value(text), "tcpdump_expression", err);
			if (expression == NULL)
				return -err->code;
		}
		rc = target_add(reading, port_by_id(reading, mac, id), expression, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int device_read(const char *name, const json_t *device, const json_t *common_ports,
	const char *common, struct reading *reading, struct err *err)
{
	const json_t *ports = json_object_get(device, reading->kind->ports);
	char mac[MIST_MAC_SIZE];
	int port;

	if (!json_is_object(device) && !json_is_null(device))
		return err_set(
			err, EINVAL, reading->kind->devices, "\"%.40s\" must be an object", name);
	if (ports == NULL || json_is_null(ports))
		ports = common_ports;
	if (ports != NULL && !json_is_object(ports) && !json_is_null(ports))
		return err_set(err, EINVAL, reading->kind->ports, "must be an object");
	port = mist_mac_parse(name, mac) ? port_by_mac(reading, mac) : -1;
	if (port < 0) {
		json_object_set_new_nocheck(
			reading->invalid, name, json_string("there is no such device here"));
		return 0;
	}
	known_add(reading, mac);
	if (json_object_size(ports) == 0)
		return target_add(reading, port, common, err);
	return ports_read(ports, mac, common, reading, err);
}

static int devices_read(
	const json_t *document, const char *common, struct reading *reading, struct err *err)
{
	const struct kind *kind = reading->kind;
	const json_t *devices = json_object_get(document, kind->devices);
	const json_t *common_ports = json_object_get(document, kind->ports);
	const char *name;
	json_t *device;
	int rc;

	if (!json_is_object(devices))
		return err_set(err, EINVAL, kind->devices, "is required: an object, by MAC");
	if (json_object_size(devices) > kind->devices_max)
		return err_set(err, EINVAL, kind->devices, "at most %u are possible, not %zu",
			kind->devices_max, json_object_size(devices));
	json_object_foreach ((json_t *)devices, name, device) {
		rc = device_read(name, device, common_ports, common, reading, err);
		if (rc < 0)
			return rc;
	}
	if (json_object_size(devices) == 0)
		return targets_all(reading, common, err);
	if (reading->n_targets == 0)
		return device_unknown(reading, kind->devices,
			json_object_iter_key(json_object_iter((json_t *)devices)), err);
	return 0;
}

static int targets_read(const json_t *document, struct reading *reading, struct err *err)
{
	const char *text = reading->create->expression;
	const char *common =
		expression_copy(reading, text != NULL ? text : "", "tcpdump_expression", err);

	if (common == NULL)
		return -err->code;
	if (reading->kind->devices == NULL)
		return ap_read(reading, common, err);
	return devices_read(document, common, reading, err);
}

/* -vvv, -en: how tcpdump prints, which does not matter here. Not "-" and not "-1". */
static bool option_is(const char *word, size_t len)
{
	return len > 1 && word[0] == '-' && isalpha((unsigned char)word[1]);
}

static bool option_is_harmless(const char *word, size_t len)
{
	return option_is(word, len) && strspn(word + 1, "vten") >= len - 1;
}

/*
 * A copy without the tcpdump options that some clients write behind the expression. NULL with err:
 * any other option would change what is captured, or is somebody's try.
 */
static const char *expression_copy(
	struct reading *reading, const char *text, const char *field, struct err *err)
{
	char *copy = strdup(text);
	bool options = false;

	if (copy == NULL || reading->n_copies > TARGETS_MAX) {
		free(copy);
		err_set(err, copy == NULL ? ENOMEM : EINVAL, field, "are too many");
		return NULL;
	}
	reading->copies[reading->n_copies++] = copy;
	for (size_t at = strspn(copy, " \t\n"), len; copy[at] != '\0';
		at += len, at += strspn(copy + at, " \t\n")) {
		len = strcspn(copy + at, " \t\n");
		if (option_is_harmless(copy + at, len)) {
			memset(copy + at, ' ', len);
			options = true;
		} else if (options || option_is(copy + at, len)) {
			err_set(err, EINVAL, field,
				"\"%.*s\": of tcpdump's options only -v, -t, -e and -n are "
				"allowed, behind the expression",
				len < 40 ? (int)len : 40, copy + at);
			return NULL;
		}
	}
	for (size_t len = strlen(copy); len > 0 && strchr(" \t\n", copy[len - 1]) != NULL; len--)
		copy[len - 1] = '\0';
	return copy;
}

/* What a port is to keep: everything, or what any of its targets' expressions matches. */
static char *port_filter(const struct reading *reading, uint8_t port)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	unsigned n = 0, n_distinct = 0;
	bool everything = false;

	if (out == NULL)
		return NULL;
	for (unsigned i = 0; i < reading->n_targets; i++)
		n_distinct += reading->targets[i].port == port;
	for (unsigned i = 0; i < reading->n_targets; i++) {
		const struct target *target = &reading->targets[i];
		bool again = false;

		if (target->port != port)
			continue;
		everything |= target->expression[0] == '\0';
		for (unsigned k = 0; k < i && !again; k++)
			again = reading->targets[k].port == port &&
				strcmp(reading->targets[k].expression, target->expression) == 0;
		if (again)
			continue;
		if (n++ > 0)
			fputs(" or ", out);
		fprintf(out, n_distinct > 1 ? "(%s)" : "%s", target->expression);
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	if (everything)
		text[0] = '\0';
	return text;
}

/* Ports and their one filter. */
static int targets_take(
	const struct reading *reading, struct mist_capture *capture, struct err *err)
{
	bool mine = capture->filter == NULL; /* else it is the client's */

	for (unsigned i = 0; i < reading->n_targets; i++) {
		uint8_t port = reading->targets[i].port;
		char *filter;

		if (memchr(capture->ports, port, capture->n_ports) != NULL)
			continue;
		capture->ports[capture->n_ports++] = port;
		if (!mine)
			continue;
		filter = port_filter(reading, port);
		if (filter == NULL)
			return err_set(err, ENOMEM, NULL, "no memory");
		if (capture->filter != NULL && strcmp(capture->filter, filter) != 0) {
			free(filter);
			return err_set(err, EINVAL, "tcpdump_expression",
				"must be the same for all ports of this host: one capture has one "
				"filter");
		}
		free(capture->filter);
		capture->filter = filter;
	}
	return 0;
}

/* A client's frames, and with includes_mcast everybody's multicast. */
static int client_take(const struct create *create, struct mist_capture *capture, struct err *err)
{
	char mac[MIST_MAC_SIZE], *text;

	if (!mist_mac_parse(create->client_mac, mac))
		return err_set(err, EINVAL, "client_mac", "must be 12 hex digits, not \"%.40s\"",
			create->client_mac);
	if (asprintf(&text, "ether host %.2s:%.2s:%.2s:%.2s:%.2s:%.2s%s", mac, mac + 2, mac + 4,
		    mac + 6, mac + 8, mac + 10,
		    create->includes_mcast ? " or ether multicast" : "") < 0)
		return err_set(err, ENOMEM, NULL, "no memory");
	capture->filter = text;
	return 0;
}

static json_t *text_or_null(const char *text)
{
	return text != NULL && text[0] != '\0' ? json_text(text) : json_null();
}

static json_t *client_json(const char *text)
{
	char mac[MIST_MAC_SIZE];

	return text != NULL && mist_mac_parse(text, mac) ? json_string(mac) : json_null();
}

/* What the objects show again. Lists of devices stand under the name that the type has for them. */
static char *echo_make(
	const struct reading *reading, const struct mist_capture *capture, bool organisation)
{
	const struct create *create = reading->create;
	json_t *echo = json_object();
	char *text;

	put(echo, "scope", json_string(organisation ? "org" : "site"));
	put(echo, "type", json_string(type_words[create->type]));
	put(echo, "format", json_string(format_words[create->format]));
	put(echo, "duration", json_integer((json_int_t)create->duration));
	put(echo, "max_num_packets", json_integer((json_int_t)create->num_packets));
	put(echo, "max_pkt_len", json_integer((json_int_t)create->max_pkt_len));
	put(echo, "includes_mcast", json_boolean(create->includes_mcast));
	put(echo, "client_mac", client_json(create->client_mac));
	put(echo, "ap_mac", client_json(create->ap_mac));
	put(echo, "ssid", json_null());
	if (create->expression != NULL)
		put(echo, "tcpdump_expression", json_text(create->expression));
	if (create->format == MIST_TZSP) {
		put(echo, "tzsp_host", json_text(create->tzsp_host));
		put(echo, "tzsp_port", json_integer((json_int_t)create->tzsp_port));
	}
	json_object_set(echo, reading->kind->devices != NULL ? reading->kind->devices : "aps",
		reading->known);
	json_object_set(echo, "devices", reading->known);
	json_object_set(echo, "invalid", reading->invalid);
	text = json_print(echo);
	json_decref(echo);
	return text;
}

int mist_notes_decode(
	const char *body, size_t len, const char **notes, json_t **document, struct err *err)
{
	static const struct json_field fields[] = {
		{"notes", JSON_KIND_LINES, 0, .max = SESSION_NOTES_MAX - 1,
			.help = "text for people"},
	};
	static const struct json_shape shape = SHAPE(fields);

	*notes = NULL;
	*document = len == 0 ? json_object() : json_parse(body, len, err);
	if (*document == NULL)
		return -EINVAL;
	return json_decode(*document, &shape, notes, err);
}

/* "10m", "1d", "2w" in seconds; 0: it is not that. */
static uint64_t span_parse(const char *text)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', DAY_S}, {'w', 7 * DAY_S}};
	char *end;
	uint64_t n;

	if (!isdigit((unsigned char)*text) || strlen(text) > 9)
		return 0;
	n = strtoull(text, &end, 10);
	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (end[0] == units[i].unit && end[1] == '\0')
			return n * units[i].seconds;
	return 0;
}

/* Epoch seconds, "-1d" or "now". 0 means "not given", as the vendor's SDK says it: *time is left. */
static int time_param(const struct request *request, const char *name, uint64_t now_s,
	uint64_t *time, struct err *err)
{
	const char *text = request_param(request, name);
	uint64_t span;
	double number;
	char *end;

	if (text == NULL || text[0] == '\0' || strcmp(text, "0") == 0)
		return 0;
	if (strcmp(text, "now") == 0) {
		*time = now_s;
		return 0;
	}
	span = text[0] == '-' ? span_parse(text + 1) : 0;
	if (span != 0 && span <= now_s) {
		*time = now_s - span;
		return 0;
	}
	number = isdigit((unsigned char)text[0]) ? strtod(text, &end) : -1;
	if (number < 0 || *end != '\0' || number > 1e11 || strpbrk(text, "xXpP") != NULL)
		return err_set(err, EINVAL, name,
			"must be epoch seconds, \"-1d\" or \"now\", not \"%.40s\"", text);
	*time = (uint64_t)number;
	return 0;
}

int mist_query_decode(
	const struct request *request, uint64_t now_s, struct mist_query *query, struct err *err)
{
	const char *duration = request_param(request, "duration");
	const char *client = request_param(request, "client_mac");
	uint64_t span = DAY_S, start_s = UINT64_MAX;
	int rc;

	*query = (struct mist_query){.end_s = now_s};
	rc = request_param_number(
		request, "limit", 0, LIMIT_MAX, LIMIT_DEFAULT, &query->limit, err);
	if (rc == 0)
		rc = request_param_number(request, "page", 1, UINT32_MAX, 1, &query->page, err);
	if (rc == 0)
		rc = time_param(request, "start", now_s, &start_s, err);
	if (rc == 0)
		rc = time_param(request, "end", now_s, &query->end_s, err);
	if (rc < 0)
		return rc;
	if (duration != NULL && duration[0] != '\0') {
		span = span_parse(duration);
		if (span == 0)
			return err_set(err, EINVAL, "duration",
				"must be like 10m, 1d or 2w, not \"%.40s\"", duration);
	}
	query->start_s = start_s != UINT64_MAX ? start_s
			 : query->end_s > span ? query->end_s - span
					       : 0;
	if (query->start_s > query->end_s)
		return err_set(err, EINVAL, "start", "must not be after end");
	if (client != NULL && client[0] != '\0' && !mist_mac_parse(client, query->client_mac))
		return err_set(
			err, EINVAL, "client_mac", "must be 12 hex digits, not \"%.40s\"", client);
	return 0;
}

static json_t *vendor_json(const struct session_info *info)
{
	json_t *vendor = info->vendor != NULL ? json_loads(info->vendor, 0, NULL) : NULL;

	return vendor != NULL ? vendor : json_object();
}

static bool vendor_says(const struct session_info *info, const char *name, const char *value)
{
	json_t *vendor = vendor_json(info);
	const char *text = json_string_value(json_object_get(vendor, name));
	bool says = text != NULL && strcmp(text, value) == 0;

	json_decref(vendor);
	return says;
}

bool mist_organisation(const struct session_info *info)
{
	return vendor_says(info, "scope", "org");
}

bool mist_format_is_pcap(const struct session_info *info)
{
	return vendor_says(info, "format", "pcap");
}

bool mist_type_is_wired(const struct session_info *info)
{
	return vendor_says(info, "type", type_words[MIST_WIRED]) ||
	       vendor_says(info, "type", type_words[MIST_CLIENT]);
}

bool mist_client_is(const struct session_info *info, const char mac[MIST_MAC_SIZE])
{
	return vendor_says(info, "client_mac", mac);
}

/* Members of the vendor text that an object has as they are. */
static void copy(json_t *to, const json_t *vendor, const char *const *names)
{
	for (; *names != NULL; names++) {
		json_t *value = json_object_get(vendor, *names);

		if (value != NULL)
			json_object_set(to, *names, value);
	}
}

static void put_id(json_t *json, const struct session_info *info)
{
	char id[UUID_TEXT_SIZE];

	uuid_print(&info->id, id);
	put(json, "id", json_string(id));
}

static double seconds(uint64_t ns)
{
	return round((double)ns / 1000) / 1e6; /* what a double holds exactly enough */
}

static void put_ids(json_t *json, const struct config_account *account)
{
	/* Typed clients parse both as UUIDs, also where an account has only one of them. */
	put(json, "org_id", json_text(account->org_id[0] != '\0' ? account->org_id : NO_ID));
	put(json, "site_id", json_text(account->site_id[0] != '\0' ? account->site_id : NO_ID));
}

json_t *mist_started(const struct session_info *info, const struct config_account *account)
{
	static const char *const same[] = {"type", "format", "duration", "max_pkt_len",
		"client_mac", "ssid", "gateways", "switches", "mxedges", "tzsp_host", "tzsp_port",
		NULL};
	const uint64_t start_ns = info->started_ns != 0 ? info->started_ns : info->created_ns;
	json_t *json = json_object(), *vendor = vendor_json(info);
	json_t *aps = json_object_get(vendor, "aps");

	put_id(json, info);
	put_ids(json, account);
	put(json, "timestamp", json_real(seconds(start_ns)));
	put(json, "expiry", json_real(seconds(start_ns + info->limit_ns)));
	copy(json, vendor, same);
	put(json, "num_packets", json_integer((json_int_t)info->limit_packets));
	json_object_set(json, "include_mcast", json_object_get(vendor, "includes_mcast"));
	put(json, "aps", aps != NULL ? json_incref(aps) : json_array());
	put(json, "ap_count",
		json_integer((json_int_t)json_array_size(json_object_get(vendor, "devices"))));
	json_object_set(json, "invalid_aps", json_object_get(vendor, "invalid"));
	put(json, "tcpdump_parser_expression", text_or_null(info->filter));
	put(json, "enabled", json_true());
	put(json, "raw", json_true());
	json_decref(vendor);
	return json;
}

json_t *mist_status(const struct session_info *info)
{
	static const char *const same[] = {"type", "format", "duration", "max_num_packets",
		"max_pkt_len", "includes_mcast", "client_mac", "ap_mac", "ssid", "gateways",
		"switches", "mxedges", "tcpdump_expression", "tzsp_host", "tzsp_port", NULL};
	json_t *json = json_object(), *vendor = vendor_json(info), *failed = json_array();
	json_t *aps = json_object_get(vendor, "aps"), *reason;
	const char *mac;

	put_id(json, info);
	copy(json, vendor, same);
	put(json, "num_packets", json_integer((json_int_t)info->ledger.accepted));
	put(json, "started_time",
		json_integer(
			(json_int_t)((info->started_ns != 0 ? info->started_ns : info->created_ns) /
				     NS_PER_S)));
	put(json, "aps", aps != NULL ? json_incref(aps) : json_array());
	json_object_set(json, "ok", json_object_get(vendor, "devices"));
	json_object_foreach (json_object_get(vendor, "invalid"), mac, reason)
		json_array_append_new(failed, json_text(mac));
	put(json, "failed", failed);
	json_decref(vendor);
	return json;
}

json_t *mist_item(
	const struct session_info *info, const struct config_account *account, const char *url)
{
	static const char *const same[] = {"type", "format", "duration", "max_num_packets", NULL};
	json_t *json = json_object(), *vendor = vendor_json(info);
	json_t *aps = json_object_get(vendor, "aps");

	put_id(json, info);
	put_ids(json, account);
	put(json, "timestamp", json_real(seconds(info->created_ns)));
	copy(json, vendor, same);
	put(json, "aps", aps != NULL ? json_incref(aps) : json_array());
	json_object_set(json, "ap_macs", json_object_get(vendor, "devices"));
	put(json, "url", json_string(url != NULL ? url : ""));
	if (url != NULL && mist_format_is_pcap(info))
		put(json, "pcap_url", json_string(url));
	if (session_state_closed(info->state))
		put(json, "termination_reason", json_string("default"));
	if (info->notes[0] != '\0')
		put(json, "notes", json_text(info->notes));
	json_decref(vendor);
	return json;
}

json_t *mist_search(
	const struct mist_query *query, json_t *results, uint64_t total, const char *next)
{
	json_t *json = json_object();

	put(json, "start", json_integer((json_int_t)query->start_s));
	put(json, "end", json_integer((json_int_t)query->end_s));
	put(json, "limit", json_integer((json_int_t)query->limit));
	put(json, "total", json_integer((json_int_t)total));
	put(json, "results", results);
	if (next != NULL)
		put(json, "next", json_string(next));
	return json;
}

void mist_privileges_add(json_t *privileges, const struct config_account *account, const char *role)
{
	for (unsigned site = 0; site < 2; site++) {
		const char *id = site ? account->site_id : account->org_id;
		json_t *one;

		if (id[0] == '\0')
			continue;
		one = json_object();
		put(one, "scope", json_string(site ? "site" : "org"));
		put(one, site ? "site_id" : "org_id", json_text(id));
		put(one, "role", json_string(role));
		put(one, "name", json_text(account->name));
		json_array_append_new(privileges, one);
	}
}

json_t *mist_error(int status, const struct err *err)
{
	const char *detail = NULL;
	char text[sizeof(err->field) + sizeof(err->text) + 4];
	json_t *json = json_object();

	if (status == 401)
		detail = "Authentication credentials were not provided.";
	else if (status == 403)
		detail = "You do not have permission to perform this action.";
	else if (status == 404 && err->text[0] == '\0')
		detail = "Not found.";
	else if (err->text[0] == '\0')
		detail = server_phrase(status);
	if (detail == NULL) {
		snprintf(text, sizeof(text), "%s%s%s", err->field,
			err->field[0] != '\0' ? ": " : "", err->text);
		detail = text;
	}
	put(json, "detail", json_text(detail));
	return json;
}

void mist_err_rename(struct err *err)
{
	static const char *const names[][2] = {
		{"filter", "tcpdump_expression"},
		{"limits.packets", "num_packets"},
		{"limits.seconds", "duration"},
		{"snaplen", "max_pkt_len"},
		{"output.address", "tzsp_host"},
		{"output.port", "tzsp_port"},
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(err->field, names[i][0]) == 0)
			snprintf(err->field, sizeof(err->field), "%s", names[i][1]);
}
