/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/cloudflare_json.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/rfc3339.h"
#include "api/server.h"

#define NS_PER_S        1000000000ULL
#define OFFSET_PAST_S   (24 * 3600)
#define OFFSET_SLACK_S  5
#define SIMPLE_TIME_MAX 300
#define FULL_TIME_MAX   86400
#define ABSENT          UINT64_MAX

static const char no_match[] = "No packets matched the filter in the time limit given. Please "
			       "modify the filter or try again.";

struct filter_v1 {
	const char *source_address, *destination_address;
	uint64_t source_port, destination_port, protocol; /* ABSENT: not given */
};

struct create {
	unsigned type, system;
	double time_limit;
	uint64_t packet_limit, byte_limit;
	const char *offset_time, *colo_name, *colo, *destination_conf;
	struct filter_v1 filter;
};

static const struct json_field filter_fields[] = {
	{"source_address", JSON_KIND_TEXT, offsetof(struct filter_v1, source_address), .max = 45,
		.help = "an IP address"},
	{"destination_address", JSON_KIND_TEXT, offsetof(struct filter_v1, destination_address),
		.max = 45, .help = "an IP address"},
	{"source_port", JSON_KIND_INTEGER, offsetof(struct filter_v1, source_port), .max = 65535,
		.help = "a TCP, UDP or SCTP port"},
	{"destination_port", JSON_KIND_INTEGER, offsetof(struct filter_v1, destination_port),
		.max = 65535, .help = "a TCP, UDP or SCTP port"},
	{"protocol", JSON_KIND_INTEGER, offsetof(struct filter_v1, protocol), .max = 255,
		.help = "an IP protocol number"},
};
static const struct json_shape filter_shape = {JSON_SHAPE_FIELDS(filter_fields),
	.unknown_ignored = true, .null_is_absent = true, .real_is_integer = true};

static const char *const type_words[] = {"simple", "full", NULL}; /* as enum cloudflare_type */
static const char *const system_words[] = {"magic-transit", NULL};

static const struct json_field type_fields[] = {
	{"type", JSON_KIND_WORD, offsetof(struct create, type), .required = true,
		.words = type_words, .help = "simple or full"},
};
static const struct json_shape type_shape = {JSON_SHAPE_FIELDS(type_fields),
	.unknown_ignored = true, .null_is_absent = true, .real_is_integer = true};

#define SYSTEM_FIELD                                                                     \
	{                                                                                \
		"system", JSON_KIND_WORD, offsetof(struct create, system),               \
			.required = true, .words = system_words, .help = "magic-transit" \
	}
#define TIME_FIELD(max_s)                                                            \
	{                                                                            \
		"time_limit", JSON_KIND_NUMBER, offsetof(struct create, time_limit), \
			.required = true, .min = 1, .max = (max_s),                  \
			.help = "the capture's duration in seconds"                  \
	}
#define PACKETS_FIELD(must)                                                               \
	{                                                                                 \
		"packet_limit", JSON_KIND_INTEGER, offsetof(struct create, packet_limit), \
			.required = (must), .min = 1, .max = 10000,                       \
			.help = "the most packets to keep"                                \
	}
#define FILTER_FIELD                                                                  \
	{                                                                             \
		"filter_v1", JSON_KIND_OBJECT, offsetof(struct create, filter),       \
			.shape = &filter_shape, .help = "what the packets must match" \
	}

static const struct json_field simple_fields[] = {
	SYSTEM_FIELD,
	TIME_FIELD(SIMPLE_TIME_MAX),
	PACKETS_FIELD(true),
	FILTER_FIELD,
	{"offset_time", JSON_KIND_TEXT, offsetof(struct create, offset_time), .max = RFC3339_SIZE,
		.help = "RFC 3339 time"},
};

static const struct json_field full_fields[] = {
	SYSTEM_FIELD,
	TIME_FIELD(FULL_TIME_MAX),
	PACKETS_FIELD(false),
	FILTER_FIELD,
	{"byte_limit", JSON_KIND_INTEGER, offsetof(struct create, byte_limit), .min = 1,
		.max = 1000000000, .help = "the most bytes to keep"},
	{"colo_name", JSON_KIND_TEXT, offsetof(struct create, colo_name), .min = 1, .max = 32,
		.help = "the data center, like ord02 or ORD"},
	/* what every published example calls it */
	{"colo", JSON_KIND_TEXT, offsetof(struct create, colo), .min = 1, .max = 32,
		.help = "the data center, like ord02 or ORD"},
	{"destination_conf", JSON_KIND_TEXT, offsetof(struct create, destination_conf), .min = 1,
		.max = 1024, .required = true, .help = "the full URI of the bucket"},
};

static const struct json_shape shapes[] = {
	[CLOUDFLARE_SIMPLE] = {JSON_SHAPE_FIELDS(simple_fields), .unknown_ignored = true,
		.null_is_absent = true, .real_is_integer = true},
	[CLOUDFLARE_FULL] = {JSON_SHAPE_FIELDS(full_fields), .unknown_ignored = true,
		.null_is_absent = true, .real_is_integer = true},
};

static int colo_check(
	const struct create *create, const struct config_account *account, struct err *err);
static int destination_check(const char *uri, struct err *err);
static int offset_check(const char *text, uint64_t now_ns, struct err *err);
static int filter_make(
	const struct filter_v1 *filter, char text[CLOUDFLARE_FILTER_MAX], struct err *err);
static json_t *echo_make(const json_t *document, const struct create *create);

int cloudflare_create_decode(const char *body, size_t len, const struct config_account *account,
	enum config_deliver deliver, uint64_t now_ns, struct cloudflare_request *request,
	struct err *err)
{
	struct create create = {
		.filter = {.source_port = ABSENT, .destination_port = ABSENT, .protocol = ABSENT},
	};
	json_t *document = json_parse(body, len, err), *echo;
	int rc;

	memset(request, 0, sizeof(*request));
	if (document == NULL)
		return -EINVAL;
	rc = json_decode(document, &type_shape, &create, err);
	if (rc == 0)
		rc = json_decode(document, &shapes[create.type], &create, err);
	if (rc == 0)
		rc = filter_make(&create.filter, request->filter, err);
	if (rc == 0 && create.type == CLOUDFLARE_FULL)
		rc = colo_check(&create, account, err);
	if (rc == 0 && create.type == CLOUDFLARE_FULL)
		rc = deliver == CONFIG_DELIVER_BUCKET
			     ? cloudflare_destination_parse(
				       create.destination_conf, &request->destination, err)
			     : destination_check(create.destination_conf, err);
	if (rc == 0 && create.offset_time != NULL)
		rc = offset_check(create.offset_time, now_ns, err);
	if (rc < 0)
		goto out;
	request->type = create.type;
	request->time_limit_s = create.time_limit;
	request->packet_limit = create.packet_limit;
	request->byte_limit = create.byte_limit;
	echo = echo_make(document, &create);
	request->echo = json_print(echo);
	json_decref(echo);
	if (request->echo == NULL)
		rc = err_set(err, ENOMEM, NULL, "no memory");
out:
	json_decref(document);
	return rc;
}

struct bucket_request {
	const char *destination_conf, *ownership_challenge;
};

static const struct json_field add_fields[] = {
	{"destination_conf", JSON_KIND_TEXT, offsetof(struct bucket_request, destination_conf),
		.min = 1, .max = OWNERSHIP_DESTINATION_MAX, .required = true,
		.help = "the full URI of the bucket"},
};
static const struct json_field validate_fields[] = {
	{"destination_conf", JSON_KIND_TEXT, offsetof(struct bucket_request, destination_conf),
		.min = 1, .max = OWNERSHIP_DESTINATION_MAX, .required = true,
		.help = "the full URI of the bucket"},
	{"ownership_challenge", JSON_KIND_LINES,
		offsetof(struct bucket_request, ownership_challenge), .min = 1, .max = 1024,
		.required = true, .help = "what the challenge in the bucket holds"},
};
static const struct json_shape add_shape = {
	JSON_SHAPE_FIELDS(add_fields), .unknown_ignored = true, .null_is_absent = true};
static const struct json_shape validate_shape = {
	JSON_SHAPE_FIELDS(validate_fields), .unknown_ignored = true, .null_is_absent = true};

int cloudflare_bucket_decode(const char *body, size_t len, bool validate,
	struct cloudflare_bucket *bucket, struct err *err)
{
	json_t *document = json_parse(body, len, err);
	struct bucket_request request = {0};
	size_t end;
	int rc;

	memset(bucket, 0, sizeof(*bucket));
	if (document == NULL)
		return -EINVAL;
	rc = json_decode(document, validate ? &validate_shape : &add_shape, &request, err);
	if (rc == 0)
		rc = cloudflare_destination_parse(
			request.destination_conf, &bucket->destination, err);
	if (rc == 0)
		snprintf(bucket->conf, sizeof(bucket->conf), "%s", request.destination_conf);
	if (rc == 0 && validate) {
		/* Who pastes what a program printed pastes the end of the line, too. */
		end = strlen(request.ownership_challenge);
		while (end > 0 && isspace((unsigned char)request.ownership_challenge[end - 1]))
			end--;
		snprintf(bucket->challenge, sizeof(bucket->challenge), "%.*s", (int)end,
			request.ownership_challenge);
	}
	json_decref(document);
	return rc;
}

void cloudflare_spec(
	const struct cloudflare_request *request, unsigned sample_n, struct session_spec *spec)
{
	spec->dialect = DIALECT_cloudflare;
	spec->filter = request->filter;
	spec->limit_ns = (uint64_t)(request->time_limit_s * NS_PER_S + 0.5);
	spec->limit_packets = request->packet_limit;
	spec->limit_bytes = request->byte_limit;
	spec->direction = DIRECTION_BOTH;
	spec->vendor = request->echo;
	spec->sample_n = 1;
	if (request->type == CLOUDFLARE_FULL)
		return;
	spec->snaplen_bytes = CLOUDFLARE_SIMPLE_SNAPLEN;
	if (sample_n > 1) {
		spec->sample_mode = SAMPLE_EVERY;
		spec->sample_n = sample_n;
	}
}

/* "ORD" is the prefix of "ord02" that ends where its digits begin. */
static bool colo_matches(const char *asked, const char *colo)
{
	size_t letters = 0;

	while (isalpha((unsigned char)colo[letters]))
		letters++;
	return strcasecmp(asked, colo) == 0 ||
	       (letters > 0 && strlen(asked) == letters && strncasecmp(asked, colo, letters) == 0);
}

static int colo_check(
	const struct create *create, const struct config_account *account, struct err *err)
{
	const char *asked = create->colo_name != NULL ? create->colo_name : create->colo;

	if (asked == NULL)
		return err_set(err, EINVAL, "colo_name",
			"is required: the data center, like ord02 or ORD");
	if (account->colo[0] == '\0')
		return err_set(err, EINVAL, "colo_name",
			"\"%s\" is not known: this account has no colo", asked);
	if (!colo_matches(asked, account->colo))
		return err_set(err, EINVAL, "colo_name", "\"%s\" is not known; known: %s", asked,
			account->colo);
	return 0;
}

/* SCHEME://BUCKET[/DIRECTORY][?NAME=VALUE&..] */
static int destination_check(const char *uri, struct err *err)
{
	static const char *const schemes[] = {"s3://", "gs://", "r2://"};
	static const char bucket_chars[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";

	for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t len = strlen(schemes[i]), bucket;

		if (strncmp(uri, schemes[i], len) != 0)
			continue;
		bucket = strspn(uri + len, bucket_chars);
		if (bucket >= 3 && bucket <= 63 && strchr("/?", uri[len + bucket]) != NULL &&
			strchr(uri, ' ') == NULL && strchr(uri, '#') == NULL)
			return 0;
	}
	return err_set(err, EINVAL, "destination_conf",
		"must be s3://BUCKET, gs://BUCKET or r2://BUCKET, with /DIRECTORY and ?PARAMETERS "
		"as "
		"needed, not \"%.60s\"",
		uri);
}

static int offset_check(const char *text, uint64_t now_ns, struct err *err)
{
	uint64_t wall_ns;

	if (!rfc3339_parse(text, &wall_ns))
		return err_set(
			err, EINVAL, "offset_time", "must be an RFC 3339 time, not \"%s\"", text);
	if (wall_ns > now_ns + OFFSET_SLACK_S * NS_PER_S ||
		wall_ns + OFFSET_PAST_S * NS_PER_S < now_ns)
		return err_set(err, EINVAL, "offset_time",
			"must be within the last 24 hours, not %s", text);
	if (wall_ns + OFFSET_SLACK_S * NS_PER_S < now_ns)
		return err_set(err, EINVAL, "offset_time", "this host keeps no past traffic");
	return 0;
}

static void term_add(char text[CLOUDFLARE_FILTER_MAX], const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void term_add(char text[CLOUDFLARE_FILTER_MAX], const char *fmt, ...)
{
	size_t len = strlen(text);
	va_list args;

	if (len > 0)
		len += snprintf(text + len, CLOUDFLARE_FILTER_MAX - len, " and ");
	va_start(args, fmt);
	vsnprintf(text + len, CLOUDFLARE_FILTER_MAX - len, fmt, args);
	va_end(args);
}

/* The address goes into the expression as inet_ntop writes it, never as it came. */
static int address_add(const char *address, const char *field, const char *side,
	char text[CLOUDFLARE_FILTER_MAX], struct err *err)
{
	char canonical[INET6_ADDRSTRLEN];
	struct in6_addr v6;
	struct in_addr v4;

	if (address == NULL)
		return 0;
	if (inet_pton(AF_INET, address, &v4) == 1)
		inet_ntop(AF_INET, &v4, canonical, sizeof(canonical));
	else if (inet_pton(AF_INET6, address, &v6) == 1)
		inet_ntop(AF_INET6, &v6, canonical, sizeof(canonical));
	else
		return err_set(
			err, EINVAL, field, "must be an IPv4 or IPv6 address, not \"%s\"", address);
	term_add(text, "%s host %s", side, canonical);
	return 0;
}

static int filter_make(
	const struct filter_v1 *filter, char text[CLOUDFLARE_FILTER_MAX], struct err *err)
{
	int rc;

	text[0] = '\0';
	rc = address_add(filter->source_address, "filter_v1.source_address", "src", text, err);
	if (rc == 0)
		rc = address_add(filter->destination_address, "filter_v1.destination_address",
			"dst", text, err);
	if (rc < 0)
		return rc;
	if (filter->source_port != ABSENT)
		term_add(text, "src port %u", (unsigned)filter->source_port);
	if (filter->destination_port != ABSENT)
		term_add(text, "dst port %u", (unsigned)filter->destination_port);
	if (filter->protocol != ABSENT)
		term_add(text, "(ip proto %u or ip6 proto %u)", (unsigned)filter->protocol,
			(unsigned)filter->protocol);
	return 0;
}

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

static json_t *filter_echo(const json_t *filter)
{
	json_t *echo = json_object();

	for (unsigned i = 0; i < filter_shape.n_fields; i++) {
		json_t *value = json_object_get(filter, filter_shape.fields[i].name);

		if (value != NULL && !json_is_null(value))
			json_object_set(echo, filter_shape.fields[i].name, value);
	}
	return echo;
}

/* Bucket keys that a client puts into the URI are not stored and not shown. */
static json_t *destination_echo(const char *uri)
{
	static const char *const secrets[] = {"access-key-id=", "secret-access-key="};
	char *copy = strdup(uri), *query, *to, *save = NULL;
	json_t *echo;

	if (copy == NULL)
		return NULL;
	query = strchr(copy, '?');
	if (query != NULL) {
		char *all = strdup(query + 1);

		to = query;
		*to = '\0';
		for (char *one = all != NULL ? strtok_r(all, "&", &save) : NULL; one != NULL;
			one = strtok_r(NULL, "&", &save)) {
			if (strncmp(one, secrets[0], strlen(secrets[0])) == 0 ||
				strncmp(one, secrets[1], strlen(secrets[1])) == 0)
				continue;
			to += sprintf(to, "%c%s", to == query ? '?' : '&', one);
		}
		free(all);
	}
	echo = json_text(copy);
	free(copy);
	return echo;
}

/* What GET shows again: the members of the type, as they were sent. */
static json_t *echo_make(const json_t *document, const struct create *create)
{
	const char *colo = create->colo_name != NULL ? create->colo_name : create->colo;
	json_t *echo = json_object();

	put(echo, "type", json_string(type_words[create->type]));
	put(echo, "time_limit", json_number(create->time_limit));
	if (create->packet_limit != 0)
		put(echo, "packet_limit", json_integer((json_int_t)create->packet_limit));
	if (create->byte_limit != 0)
		put(echo, "byte_limit", json_integer((json_int_t)create->byte_limit));
	if (create->offset_time != NULL)
		put(echo, "offset_time", json_text(create->offset_time));
	if (colo != NULL)
		put(echo, "colo_name", json_text(colo));
	if (create->destination_conf != NULL)
		put(echo, "destination_conf", destination_echo(create->destination_conf));
	put(echo, "filter_v1", filter_echo(json_object_get(document, "filter_v1")));
	return echo;
}

enum cloudflare_type cloudflare_type(const struct session_info *info)
{
	json_t *vendor = info->vendor != NULL ? json_loads(info->vendor, 0, NULL) : NULL;
	const char *type = json_string_value(json_object_get(vendor, "type"));
	bool full = type != NULL && strcmp(type, type_words[CLOUDFLARE_FULL]) == 0;

	json_decref(vendor);
	return full ? CLOUDFLARE_FULL : CLOUDFLARE_SIMPLE;
}

/* A full capture that nothing matched: the vendor calls that a failure. */
static bool matched_nothing(const struct session_info *info, bool full)
{
	return full && info->state == SESSION_complete && info->ledger.accepted == 0;
}

static const char *status_name(const struct session_info *info, bool full)
{
	switch (info->state) {
	case SESSION_starting:
		return "pending";
	case SESSION_running:
	case SESSION_stopping:
		return "running";
	case SESSION_converting:
		return info->queued ? "conversion_pending" : "conversion_running";
	case SESSION_uploading:
		return "conversion_running";
	case SESSION_complete:
		return matched_nothing(info, full) ? "failed" : "success";
	case SESSION_failed:
		return "failed";
	default:
		return "unknown";
	}
}

static void full_put(json_t *pcap, const struct session_info *info)
{
	put(pcap, "packets_captured", json_integer((json_int_t)info->ledger.written));
	if (matched_nothing(info, true))
		put(pcap, "error_message", json_string(no_match));
	else if (info->state == SESSION_failed)
		put(pcap, "error_message",
			json_text(info->message != NULL ? info->message : "The capture failed."));
}

/* How many of packet_limit a simple capture may still keep. */
static void simple_put(json_t *pcap, const struct session_info *info)
{
	bool open = !session_state_closed(info->state);
	uint64_t left = info->limit_packets > info->ledger.accepted
				? info->limit_packets - info->ledger.accepted
				: 0;

	put(pcap, "packets_remaining", json_integer(open ? (json_int_t)left : 0));
}

json_t *cloudflare_pcap(const struct session_info *info, bool created)
{
	json_t *pcap = info->vendor != NULL ? json_loads(info->vendor, 0, NULL) : NULL;
	bool full = cloudflare_type(info) == CLOUDFLARE_FULL;
	char id[UUID_TEXT_SIZE], time[RFC3339_SIZE];

	if (pcap == NULL)
		pcap = json_object();
	uuid_print_hex(&info->id, id);
	rfc3339_print(info->created_ns, 6, time);
	put(pcap, "id", json_string(id));
	put(pcap, "status", json_string(created ? "pending" : status_name(info, full)));
	put(pcap, "submitted", json_string(time));
	put(pcap, "system", json_string(system_words[0]));
	if (created)
		return pcap;
	if (full)
		full_put(pcap, info);
	else
		simple_put(pcap, info);
	return pcap;
}

json_t *cloudflare_ownership(const struct ownership *owned)
{
	char id[UUID_TEXT_SIZE], file[OWNERSHIP_FILENAME_SIZE];
	char submitted[RFC3339_SIZE], validated[RFC3339_SIZE] = "";
	json_t *json = json_object();

	uuid_print_hex(&owned->id, id);
	ownership_filename(owned, file);
	rfc3339_print(owned->submitted_ns, 6, submitted);
	if (owned->validated_ns != 0)
		rfc3339_print(owned->validated_ns, 6, validated);
	put(json, "id", json_string(id));
	put(json, "status", json_string(ownership_status_name(owned->status)));
	put(json, "submitted", json_string(submitted));
	put(json, "validated", json_string(validated));
	put(json, "destination_conf", json_text(owned->destination));
	put(json, "filename", json_string(file));
	return json;
}

char *cloudflare_stop_requested(const char *vendor, uint64_t now_ns)
{
	json_t *json = vendor != NULL ? json_loads(vendor, 0, NULL) : NULL;
	char time[RFC3339_SIZE], *text = NULL;

	if (json != NULL && json_object_get(json, "stop_requested") == NULL) {
		rfc3339_print(now_ns, 6, time);
		put(json, "stop_requested", json_string(time));
		text = json_print(json);
	}
	json_decref(json);
	return text;
}

json_t *cloudflare_envelope(json_t *result)
{
	json_t *envelope = json_object();

	put(envelope, "success", json_true());
	put(envelope, "errors", json_array());
	put(envelope, "messages", json_array());
	put(envelope, "result", result);
	return envelope;
}

json_t *cloudflare_failure(enum cloudflare_code code, const char *message)
{
	json_t *envelope = json_object(), *error = json_object(), *errors = json_array();

	put(error, "code", json_integer(code));
	put(error, "message", json_text(message));
	json_array_append_new(errors, error);
	put(envelope, "success", json_false());
	put(envelope, "errors", errors);
	put(envelope, "messages", json_array());
	put(envelope, "result", json_null());
	return envelope;
}

json_t *cloudflare_error(int status, const struct err *err)
{
	static const struct {
		int status;
		enum cloudflare_code code;
		const char *message; /* when err says nothing */
	} rows[] = {
		{400, CLOUDFLARE_BAD_FIELD, "Bad request"},
		{401, CLOUDFLARE_NO_RIGHT, "Authentication error"},
		{403, CLOUDFLARE_NO_RIGHT, "Authentication error"},
		{404, CLOUDFLARE_NO_ROUTE, "No route for the URI"},
		{405, CLOUDFLARE_NO_METHOD, "Method not allowed"},
		{409, CLOUDFLARE_UNFINISHED, "Conflict"},
		{413, CLOUDFLARE_TOO_LARGE, "The body is larger than 1 MiB"},
		{416, CLOUDFLARE_BAD_FIELD, "Range not satisfiable"},
		{429, CLOUDFLARE_TOO_MANY, "Too many requests"},
		{503, CLOUDFLARE_FULL_UP, "Service unavailable"},
		{507, CLOUDFLARE_NO_STORAGE, "Insufficient storage"},
	};
	char message[sizeof(err->field) + sizeof(err->text) + 4];

	snprintf(message, sizeof(message), "%s%s%s", err->field, err->field[0] != '\0' ? ": " : "",
		err->text);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == status)
			return cloudflare_failure(
				rows[i].code, message[0] != '\0' ? message : rows[i].message);
	return cloudflare_failure(
		CLOUDFLARE_INTERNAL, message[0] != '\0' ? message : server_phrase(status));
}

void cloudflare_err_rename(struct err *err)
{
	static const char *const names[][2] = {
		{"limits.packets", "packet_limit"},
		{"limits.bytes", "byte_limit"},
		{"limits.seconds", "time_limit"},
		{"filter", "filter_v1"},
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(err->field, names[i][0]) == 0)
			snprintf(err->field, sizeof(err->field), "%s", names[i][1]);
}
