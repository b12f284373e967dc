/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/nsx_json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/nsx_filter.h"
#include "api/server.h"

#define NS_PER_S          1000000000ULL
#define NS_PER_MS         1000000ULL
#define BYTES_PER_MB      1000000ULL
#define ABSENT            UINT32_MAX
#define FILESIZE_MAX      INT32_MAX /* clients hold it in 32 bits */
#define PCAP_HEAD_BYTES   24
#define PCAP_RECORD_BYTES 16
/* How every vendor text of a restart begins: ids are found by it without parsing. */
#define RESTART_HEAD "{\"sessionid\":\""

struct create {
	const char *node, *node_ip, *capvalue, *streamaddress;
	unsigned cappoint, capsource, filtertype, direction, capmode; /* ABSENT: not given */
	uint64_t capduration, capamount, capfilesize, caprate, capsnaplen, capcore, streamport;
};

enum { DIRECTION_INPUT, DIRECTION_OUTPUT, DIRECTION_DUAL };
enum { POINT_DVFILTER = 4, POINT_LOGICALPORT = 5 };
enum { MODE_STANDALONE, MODE_STREAM };

/* The same place in both means the same. */
static const char *const manager_points[] = {"VNIC", "VMKNIC", "VMNIC", "VDRPORT", "DVFILTER",
	"LOGICALPORT", "VIF", "FCPORT", "PNIC", NULL};
static const char *const policy_points[] = {"VNIC", "VMKNIC", "VMNIC", "VDRPORT", "DVFILTER",
	"SEGMENTPORT", "VIF", "FCPORT", "PNIC", NULL};
static const char *const source_words[] = {"CLI", "UI", NULL};
static const char *const filtertype_words[] = {"PRE", "POST", NULL};
static const char *const direction_words[] = {"INPUT", "OUTPUT", "DUAL", NULL};
static const char *const mode_words[] = {"STANDALONE", "STREAM", NULL};

#define WORD_FIELD(member, list, must, what)                                \
	{                                                                   \
#member, JSON_KIND_WORD, offsetof(struct create, member),   \
			.required = (must), .words = (list), .help = (what) \
	}
#define TEXT_FIELD(member, size, what)                                                   \
	{                                                                                \
#member, JSON_KIND_TEXT, offsetof(struct create, member), .max = (size), \
									  .help = (what) \
	}
#define INT_FIELD(member, limit, what)                                                       \
	{                                                                                    \
#member, JSON_KIND_INTEGER, offsetof(struct create, member), .max = (limit), \
									     .help = (what)  \
	}

/* clang-format off */
#define FIELDS(points) {                                                                          \
	WORD_FIELD(cappoint, points, true, "the kind of point to capture at"),                    \
	WORD_FIELD(capsource, source_words, true, "CLI or UI"),                                   \
	TEXT_FIELD(node, 255, "a transport node"),                                                \
	TEXT_FIELD(node_ip, INET6_ADDRSTRLEN, "a transport node's address"),                      \
	TEXT_FIELD(capvalue, CONFIG_TEXT_MAX - 1, "the point to capture at"),                     \
	WORD_FIELD(direction, direction_words, false, "which way packets go"),                    \
	WORD_FIELD(filtertype, filtertype_words, false, "the stage of a DVFILTER"),               \
	INT_FIELD(capduration, INT32_MAX, "seconds"),                                             \
	INT_FIELD(capamount, INT32_MAX, "packets"),                                               \
	INT_FIELD(capfilesize, INT32_MAX, "megabytes"),                                           \
	INT_FIELD(caprate, INT32_MAX, "packets a second"),                                        \
	INT_FIELD(capsnaplen, INT32_MAX, "bytes of each packet"),                                 \
	INT_FIELD(capcore, INT32_MAX, "an Edge's CPU core"),                                      \
	WORD_FIELD(capmode, mode_words, false, "STANDALONE or STREAM"),                           \
	TEXT_FIELD(streamaddress, INET6_ADDRSTRLEN, "where a stream goes"),                       \
	INT_FIELD(streamport, UINT16_MAX, "a UDP port"),                                          \
}
/* clang-format on */

static const struct json_field manager_fields[] = FIELDS(manager_points);
static const struct json_field policy_fields[] = FIELDS(policy_points);

#define SHAPE(table)                                                                       \
	{                                                                                  \
		JSON_SHAPE_FIELDS(table), .unknown_ignored = true, .null_is_absent = true, \
					  .real_is_integer = true                          \
	}

static const struct json_shape shapes[] = {
	[NSX_MANAGER] = SHAPE(manager_fields),
	[NSX_POLICY] = SHAPE(policy_fields),
};

static int document_decode(const json_t *document, enum nsx_family family,
	const struct config *config, struct nsx_request *request, struct err *err);
static int members_check(const struct create *create, struct err *err);
static int node_check(const struct create *create, const struct config *config, struct err *err);
static json_t *echo_make(const json_t *document, const struct json_shape *shape);
static void text_clean(char *text);
static json_t *clean_text(const char *text);

int nsx_request_decode(const char *body, size_t len, enum nsx_family family,
	const struct config *config, struct nsx_request *request, struct err *err)
{
	json_t *document = json_parse(body, len, err);
	int rc;

	memset(request, 0, sizeof(*request));
	if (document == NULL)
		return -EINVAL;
	rc = document_decode(document, family, config, request, err);
	json_decref(document);
	return rc;
}

int nsx_vendor_decode(const char *vendor, const struct config *config, struct nsx_request *request,
	struct err *err)
{
	json_t *json = vendor != NULL ? json_loads(vendor, 0, NULL) : NULL;
	const json_t *document = json_object_get(json, "request");
	const char *point = json_string_value(json_object_get(document, "cappoint"));
	bool policy = point != NULL && strcmp(point, policy_points[POINT_LOGICALPORT]) == 0;
	int rc;

	memset(request, 0, sizeof(*request));
	rc = document_decode(document, policy ? NSX_POLICY : NSX_MANAGER, config, request, err);
	json_decref(json);
	return rc;
}

void nsx_request_free(struct nsx_request *request)
{
	json_decref(request->echo);
	request->echo = NULL;
}

static bool given(const char *text)
{
	return text != NULL && *text != '\0';
}

static int document_decode(const json_t *document, enum nsx_family family,
	const struct config *config, struct nsx_request *request, struct err *err)
{
	struct create create = {
		.filtertype = ABSENT, .direction = DIRECTION_DUAL, .capmode = MODE_STANDALONE};
	int rc = json_decode(document, &shapes[family], &create, err);

	if (rc == 0)
		rc = members_check(&create, err);
	if (rc == 0)
		rc = nsx_filter(json_object_get(document, "options"), request->filter,
			sizeof(request->filter), err);
	if (rc == 0)
		rc = node_check(&create, config, err);
	if (rc < 0)
		return rc;
	if (given(create.capvalue))
		snprintf(request->point, sizeof(request->point), "%s", create.capvalue);
	request->direction = create.direction == DIRECTION_INPUT    ? DIRECTION_IN
			     : create.direction == DIRECTION_OUTPUT ? DIRECTION_OUT
								    : DIRECTION_BOTH;
	request->stream = create.capmode == MODE_STREAM;
	if (request->stream)
		snprintf(request->stream_address, sizeof(request->stream_address), "%s",
			create.streamaddress);
	request->stream_port = (unsigned)create.streamport;
	request->seconds = create.capduration;
	request->packets = create.capamount;
	request->megabytes = create.capfilesize;
	request->rate_pps = create.caprate;
	request->snaplen_bytes = create.capsnaplen;
	request->echo = echo_make(document, &shapes[family]);
	return 0;
}

/* A client in shell pastes our JSON into a literal of another language: nothing that JSON would
 * escape comes back in a session. */
static int text_check(const char *text, const char *field, struct err *err)
{
	if (text == NULL || strpbrk(text, "\"'\\") == NULL)
		return 0;
	return err_set(err, EINVAL, field, "must have no quotes and backslashes, not %s", text);
}

static int address_check(const char *text, const char *field, struct err *err)
{
	struct in6_addr address;

	if (!given(text) || inet_pton(AF_INET, text, &address) == 1 ||
		inet_pton(AF_INET6, text, &address) == 1)
		return 0;
	return err_set(err, EINVAL, field, "must be an IPv4 or IPv6 address, not %s", text);
}

/* Rules between members, and those that would change what is captured. */
static int members_check(const struct create *create, struct err *err)
{
	if (text_check(create->node, "node", err) < 0 ||
		text_check(create->capvalue, "capvalue", err) < 0 ||
		address_check(create->node_ip, "node_ip", err) < 0)
		return -EINVAL;
	if (create->filtertype != ABSENT && create->cappoint != POINT_DVFILTER)
		return err_set(err, EINVAL, "filtertype",
			"%s is for cappoint DVFILTER only, not for %s",
			filtertype_words[create->filtertype], manager_points[create->cappoint]);
	if (create->capcore != 0)
		return err_set(err, EINVAL, "capcore",
			"%" PRIu64 " cannot be honoured: this host does not tell packets by CPU "
			"core; leave it out or 0",
			create->capcore);
	if (create->capmode == MODE_STREAM && !given(create->streamaddress))
		return err_set(err, EINVAL, "streamaddress", "is required with capmode STREAM");
	if (create->capmode == MODE_STREAM && create->capfilesize != 0)
		return err_set(err, EINVAL, "capfilesize",
			"%" PRIu64 " cannot be honoured: a STREAM has no file",
			create->capfilesize);
	return address_check(create->streamaddress, "streamaddress", err);
}

static int node_check(const struct create *create, const struct config *config, struct err *err)
{
	const char *node = config->nsx.node, *node_ip = config->nsx.node_ip;

	if (given(create->node) && *node != '\0' && strcmp(create->node, node) != 0)
		return err_set(err, ENOENT, "node", "%s is not this host, which is %s",
			create->node, node);
	if (given(create->node_ip) && *node_ip != '\0' && strcmp(create->node_ip, node_ip) != 0)
		return err_set(err, ENOENT, "node_ip", "%s is not this host, which is %s",
			create->node_ip, node_ip);
	return 0;
}

void nsx_spec(const struct nsx_request *request, struct session_spec *spec)
{
	spec->dialect = DIALECT_nsx;
	spec->filter = request->filter;
	spec->direction = request->direction;
	spec->limit_ns = request->seconds * NS_PER_S;
	spec->limit_packets = request->packets;
	spec->limit_file_bytes = request->megabytes * BYTES_PER_MB;
	spec->sample_n = 1;
	spec->rate_pps = request->rate_pps;
	/* More than any packet has is all of it. */
	spec->snaplen_bytes =
		request->snaplen_bytes <= TAP_SNAPLEN_MAX ? request->snaplen_bytes : 0;
	spec->output = request->stream ? OUTPUT_STREAM : OUTPUT_FILE;
	if (!request->stream)
		return;
	spec->stream_address = request->stream_address;
	spec->stream_port = request->stream_port;
	spec->encapsulation = STREAM_gre;
}

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

static void put_count(json_t *object, const char *name, uint64_t count)
{
	put(object, name, json_integer((json_int_t)count));
}

/* options without what a ListResult may hold besides. */
static json_t *options_echo(const json_t *options)
{
	const json_t *values = json_object_get(options, "values");
	json_t *echo = json_object(), *list = json_array();
	const json_t *value;
	size_t i;

	json_array_foreach (values, i, value) {
		json_t *one = json_object();

		json_object_set(one, "name", json_object_get(value, "name"));
		json_object_set(one, "value", json_object_get(value, "value"));
		json_array_append_new(list, one);
	}
	put(echo, "values", list);
	return echo;
}

/* The vendor's members, as they were sent. */
static json_t *echo_make(const json_t *document, const struct json_shape *shape)
{
	const json_t *options = json_object_get(document, "options");
	json_t *echo = json_object();

	for (unsigned i = 0; i < shape->n_fields; i++) {
		json_t *value = json_object_get(document, shape->fields[i].name);

		if (value != NULL && !json_is_null(value))
			json_object_set(echo, shape->fields[i].name, value);
	}
	if (json_is_object(options))
		put(echo, "options", options_echo(options));
	return echo;
}

char *nsx_vendor(const struct nsx_request *request, const char *session_id)
{
	json_t *json = json_object();
	char *text;

	if (session_id != NULL)
		put(json, "sessionid", json_string(session_id));
	json_object_set(json, "request", request->echo);
	text = json_print(json);
	json_decref(json);
	return text;
}

bool nsx_session_restarted(const struct session_info *info)
{
	return info->vendor != NULL &&
	       strncmp(info->vendor, RESTART_HEAD, strlen(RESTART_HEAD)) == 0;
}

void nsx_session_id(const struct session_info *info, char id[UUID_TEXT_SIZE])
{
	if (nsx_session_restarted(info))
		snprintf(id, UUID_TEXT_SIZE, "%s", info->vendor + strlen(RESTART_HEAD));
	else
		uuid_print(&info->id, id);
}

static bool ended_badly(const struct session_info *info)
{
	return info->state == SESSION_failed || info->reason == END_disk_full ||
	       info->reason == END_io_error || info->reason == END_port_lost ||
	       info->reason == END_recovered;
}

/* For an end without a message of its own. */
static const char *bad_end(enum end_reason reason)
{
	switch (reason) {
	case END_disk_full:
		return "the disk is full";
	case END_port_lost:
		return "the port is gone";
	case END_recovered:
		return "the host was restarted; what was captured before is in the file";
	default:
		return "the capture could not be written";
	}
}

/* An end is told only once the file can be had: clients that poll ask for it next. */
static const char *status_name(const struct session_info *info)
{
	if (info->state == SESSION_starting)
		return "CREATED";
	if (!session_state_closed(info->state))
		return "STARTED";
	if (ended_badly(info))
		return "ERROR";
	return info->reason == END_stopped || info->reason == END_shutdown ? "STOPPED" : "FINISHED";
}

/* The request in the words of the family that is read. */
static json_t *request_show(const struct session_info *info, enum nsx_family family)
{
	const char *const *points = family == NSX_POLICY ? policy_points : manager_points;
	json_t *vendor = info->vendor != NULL ? json_loads(info->vendor, 0, NULL) : NULL;
	json_t *request = json_incref(json_object_get(vendor, "request"));
	const char *point;

	json_decref(vendor);
	if (request == NULL)
		request = json_object();
	point = json_string_value(json_object_get(request, "cappoint"));
	if (point != NULL && (strcmp(point, manager_points[POINT_LOGICALPORT]) == 0 ||
				     strcmp(point, policy_points[POINT_LOGICALPORT]) == 0))
		put(request, "cappoint", json_string(points[POINT_LOGICALPORT]));
	return request;
}

uint64_t nsx_file_bytes(const struct session_info *info, enum config_nsx_format format)
{
	if (info->output != OUTPUT_FILE || info->size_bytes == 0)
		return 0;
	return format == CONFIG_NSX_PCAPNG
		       ? info->size_bytes
		       : PCAP_HEAD_BYTES + info->ledger.written * PCAP_RECORD_BYTES +
				 info->ledger.written_bytes;
}

static void file_put(json_t *session, const struct session_info *info, enum nsx_family family,
	const char *id, uint64_t file_bytes)
{
	char location[128];

	snprintf(location, sizeof(location),
		family == NSX_POLICY ? "/policy/api/v1/infra/pktcap/session/%s/CapturedFile"
				     : "/api/v1/pktcap/session/%s/capturefile",
		id);
	if (info->output == OUTPUT_FILE)
		put(session, "filelocation", json_string(location));
	put_count(session, "filesize", file_bytes <= FILESIZE_MAX ? file_bytes : FILESIZE_MAX);
}

json_t *nsx_session(const struct session_info *info, enum nsx_family family, uint64_t file_bytes)
{
	const bool closed = session_state_closed(info->state);
	json_t *session = json_object();
	char id[UUID_TEXT_SIZE];

	nsx_session_id(info, id);
	put(session, "sessionid", json_string(id));
	put(session, "sessionname",
		info->name[0] != '\0' ? clean_text(info->name) : json_string(id));
	put(session, "sessionstatus", json_string(status_name(info)));
	put(session, "request", request_show(info, family));
	put_count(session, "starttime", info->created_ns / NS_PER_MS);
	if (closed && info->ended_ns != 0)
		put_count(session, "endtime", info->ended_ns / NS_PER_MS);
	file_put(session, info, family, id, file_bytes);
	if (closed && ended_badly(info))
		put(session, "errormsg",
			clean_text(info->message != NULL ? info->message : bad_end(info->reason)));
	put(session, "id", json_string(id));
	put(session, "display_name", json_incref(json_object_get(session, "sessionname")));
	put_count(session, "_create_time", info->created_ns / NS_PER_MS);
	put(session, "_create_user", clean_text(info->owner));
	put(session, "_protection", json_string("NOT_PROTECTED"));
	return session;
}

json_t *nsx_list(json_t *list)
{
	json_t *json = json_object();

	put_count(json, "result_count", json_array_size(list));
	put(json, "results", list);
	return json;
}

json_t *nsx_error(int status, const struct err *err)
{
	static const struct {
		int status;
		int code;
		const char *name;
		const char *message; /* when err says nothing */
	} rows[] = {
		{400, 255, "BAD_REQUEST", "The request is not valid"},
		{401, 401, "UNAUTHORIZED", "Credentials are required"},
		{403, 403, "FORBIDDEN",
			"The credentials were incorrect or the account specified has been locked."},
		{404, 600, "NOT_FOUND", "The requested object could not be found"},
		{405, 405, "METHOD_NOT_ALLOWED", "The method is not allowed here"},
		{412, 604, "PRECONDITION_FAILED", "The object is not in the state for that"},
		{413, 413, "PAYLOAD_TOO_LARGE", "The body is larger than 1 MiB"},
		{500, 500, "INTERNAL_SERVER_ERROR", "Internal error"},
		{503, 503, "SERVICE_UNAVAILABLE", "The service is not available"},
	};
	char message[sizeof(err->field) + sizeof(err->text) + 4];
	const char *name = NULL, *fallback = server_phrase(status);
	json_t *error = json_object();
	int code = status;

	snprintf(message, sizeof(message), "%s%s%s", err->field, err->field[0] != '\0' ? ": " : "",
		err->text);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == status) {
			code = rows[i].code;
			name = rows[i].name;
			fallback = rows[i].message;
		}
	if (name != NULL)
		put(error, "httpStatus", json_string(name));
	put(error, "error_code", json_integer(code));
	put(error, "module_name", json_string("pktcap"));
	put(error, "error_message", clean_text(message[0] != '\0' ? message : fallback));
	return error;
}

void nsx_err_rename(struct err *err)
{
	static const char *const names[][2] = {
		{"limits", "capduration"},
		{"limits.packets", "capamount"},
		{"limits.seconds", "capduration"},
		{"limits.file_bytes", "capfilesize"},
		{"sampling.rate_pps", "caprate"},
		{"snaplen", "capsnaplen"},
		{"filter", "options"},
		{"ports", "capvalue"},
		{"output", "streamaddress"},
		{"output.address", "streamaddress"},
		{"output.port", "streamport"},
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(err->field, names[i][0]) == 0) {
			snprintf(err->field, sizeof(err->field), "%s", names[i][1]);
			return;
		}
}

static void text_clean(char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '"')
			*text = '\'';
		else if (*text == '\\')
			*text = '/';
		else if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = ' ';
		/* Three of them would end a literal in Python. */
		if (text[0] == '\'' && (text[1] == '\'' || text[1] == '"'))
			*text = ' ';
	}
}

/* Text with nothing in it that JSON would escape. */
static json_t *clean_text(const char *text)
{
	char *copy = strdup(text);
	json_t *json;

	if (copy == NULL)
		return NULL;
	text_clean(copy);
	json = json_text(copy);
	free(copy);
	return json;
}
