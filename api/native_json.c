/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/native_json.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "control/ceiling.h"
#include "control/control.h"
#include "control/load.h"
#include "control/totals.h"
#include "engine/drop.h"
#include "engine/engine.h"
#include "engine/port.h"
#include "api/rfc3339.h"
#include "api/server.h"

#define NS_PER_S     1000000000ULL
#define SECONDS_MAX  315360000 /* ten years */
#define SAMPLE_N_MAX UINT32_MAX

struct native_sampling {
	unsigned mode;
	uint64_t n;
	uint64_t rate_pps;
};

struct native_limits {
	uint64_t packets, bytes, file_bytes;
	double seconds;
};

struct native_expected {
	uint64_t bytes, packets;
};

struct native_output {
	unsigned type, encapsulation;
	const char *address;
	uint64_t port;
	const char *bucket, *prefix;
};

struct native_request {
	const char *name, *notes, *filter;
	struct json_texts ports;
	struct native_sampling sampling;
	uint64_t snaplen_bytes;
	unsigned direction;
	struct native_limits limits;
	struct native_expected expected;
	struct native_output output;
	const char *replaces;
};

/* In the order of enum sample_mode, enum direction and enum session_output. */
static const char *const sample_words[] = {"none", "every", "random", "flow", NULL};
static const char *const direction_words[] = {"both", "in", "out", NULL};
static const char *const output_words[] = {"file", "none", "stream", "s3", NULL};
static const char *const encapsulation_words[] = {
#define X(name, port, help) #name,
	STREAM_ENCAPSULATIONS(X)
#undef X
		NULL,
};

static const struct json_field sampling_fields[] = {
	{"mode", JSON_KIND_WORD, offsetof(struct native_sampling, mode), .words = sample_words,
		.help = "how packets are chosen"},
	{"n", JSON_KIND_INTEGER, offsetof(struct native_sampling, n), .min = 1, .max = SAMPLE_N_MAX,
		.help = "one packet, or one flow, in n is kept"},
	{"rate_pps", JSON_KIND_INTEGER, offsetof(struct native_sampling, rate_pps),
		.max = SESSION_RATE_MAX, .help = "packets kept per second at most; 0 = no bound"},
};
static const struct json_shape sampling_shape = {JSON_SHAPE_FIELDS(sampling_fields)};

static const struct json_field limits_fields[] = {
	{"packets", JSON_KIND_INTEGER, offsetof(struct native_limits, packets), .max = INT64_MAX,
		.help = "packets kept; 0 = no limit"},
	{"bytes", JSON_KIND_INTEGER, offsetof(struct native_limits, bytes), .max = INT64_MAX,
		.help = "captured bytes kept; 0 = no limit"},
	{"seconds", JSON_KIND_NUMBER, offsetof(struct native_limits, seconds), .max = SECONDS_MAX,
		.help = "time from the start; 0 = no limit"},
	{"file_bytes", JSON_KIND_INTEGER, offsetof(struct native_limits, file_bytes),
		.max = INT64_MAX, .help = "size of the delivered file; 0 = no limit"},
};
static const struct json_shape limits_shape = {JSON_SHAPE_FIELDS(limits_fields)};

static const struct json_field expected_fields[] = {
	{"bytes_per_second", JSON_KIND_INTEGER, offsetof(struct native_expected, bytes),
		.max = INT64_MAX, .help = "of packets that pass the filter; 0 = not known"},
	{"packets_per_second", JSON_KIND_INTEGER, offsetof(struct native_expected, packets),
		.max = INT64_MAX,
		.help = "that pass the filter; 0 = not known: 512 bytes each are assumed"},
};
static const struct json_shape expected_shape = {JSON_SHAPE_FIELDS(expected_fields)};

static const struct json_field output_fields[] = {
	{"type", JSON_KIND_WORD, offsetof(struct native_output, type), .words = output_words,
		.required = true, .help = "where the packets go"},
	{"address", JSON_KIND_TEXT, offsetof(struct native_output, address), .max = 45,
		.help = "IPv4 or IPv6 address that [stream] allow names"},
	{"port", JSON_KIND_INTEGER, offsetof(struct native_output, port), .max = UINT16_MAX,
		.help = "UDP port; 0 = the encapsulation's own"},
	{"encapsulation", JSON_KIND_WORD, offsetof(struct native_output, encapsulation),
		.words = encapsulation_words, .help = "what is put before each packet"},
	{"bucket", JSON_KIND_TEXT, offsetof(struct native_output, bucket), .min = 1,
		.max = CONFIG_NAME_MAX - 1, .help = "name of a [bucket] of the configuration"},
	{"prefix", JSON_KIND_TEXT, offsetof(struct native_output, prefix),
		.max = SESSION_PREFIX_MAX, .help = "what the object's key begins with, as a/b"},
};
static const struct json_shape output_shape = {JSON_SHAPE_FIELDS(output_fields)};

static const struct json_field request_fields[] = {
	{"name", JSON_KIND_LINES, offsetof(struct native_request, name),
		.max = SESSION_NAME_MAX - 1, .help = "a name for people"},
	{"ports", JSON_KIND_TEXTS, offsetof(struct native_request, ports), .min = 1,
		.max = CONFIG_PORTS_MAX, .help = "names of ports; left out: all of the account's"},
	{"filter", JSON_KIND_LINES, offsetof(struct native_request, filter),
		.max = FILTER_EXPRESSION_MAX - 1, .help = "a pcap filter expression"},
	{"sampling", JSON_KIND_OBJECT, offsetof(struct native_request, sampling),
		.shape = &sampling_shape, .help = "which of the matching packets are kept"},
	{"snaplen", JSON_KIND_INTEGER, offsetof(struct native_request, snaplen_bytes),
		.max = TAP_SNAPLEN_MAX, .help = "bytes kept of each packet; 0 = all"},
	{"direction", JSON_KIND_WORD, offsetof(struct native_request, direction),
		.words = direction_words, .help = "as the host of the port sees it"},
	{"limits", JSON_KIND_OBJECT, offsetof(struct native_request, limits),
		.shape = &limits_shape, .help = "what ends the capture by itself"},
	{"expected", JSON_KIND_OBJECT, offsetof(struct native_request, expected),
		.shape = &expected_shape,
		.help = "how much is going to come, judged against what the disk takes"},
	{"output", JSON_KIND_OBJECT, offsetof(struct native_request, output),
		.shape = &output_shape, .help = "where the packets go"},
	{"notes", JSON_KIND_LINES, offsetof(struct native_request, notes),
		.max = SESSION_NOTES_MAX - 1, .help = "text for people"},
	{"replaces", JSON_KIND_TEXT, offsetof(struct native_request, replaces),
		.max = UUID_TEXT_SIZE - 1,
		.help = "id of a capture that is deleted once this one has a packet"},
};
static const struct json_shape request_shape = {JSON_SHAPE_FIELDS(request_fields)};

struct native_patch_limits {
	uint64_t packets;
	double seconds; /* negative: not given */
};

struct native_patch_request {
	const char *name, *notes;
	struct native_patch_limits limits;
};

/* Limits of bytes are taken from a file whose size is fixed at its start. */
static const struct json_field patch_limits_fields[] = {
	{"packets", JSON_KIND_INTEGER, offsetof(struct native_patch_limits, packets),
		.max = INT64_MAX, .help = "packets kept in all; 0 = no limit"},
	{"seconds", JSON_KIND_NUMBER, offsetof(struct native_patch_limits, seconds),
		.max = SECONDS_MAX, .help = "time from the start; 0 = no limit"},
};
static const struct json_shape patch_limits_shape = {JSON_SHAPE_FIELDS(patch_limits_fields)};

static const struct json_field patch_fields[] = {
	{"name", JSON_KIND_LINES, offsetof(struct native_patch_request, name),
		.max = SESSION_NAME_MAX - 1, .help = "a name for people"},
	{"notes", JSON_KIND_LINES, offsetof(struct native_patch_request, notes),
		.max = SESSION_NOTES_MAX - 1, .help = "text for people"},
	{"limits", JSON_KIND_OBJECT, offsetof(struct native_patch_request, limits),
		.shape = &patch_limits_shape, .help = "what ends the capture, while it runs"},
};
static const struct json_shape patch_shape = {JSON_SHAPE_FIELDS(patch_fields)};

struct native_token_request {
	const char *name, *account, *expires_at;
	unsigned role;
};

static const char *const role_words[] = {"viewer", "operator", "admin", NULL};

static const struct json_field token_fields[] = {
	{"name", JSON_KIND_TEXT, offsetof(struct native_token_request, name), .min = 1,
		.max = CONFIG_NAME_MAX - 1, .required = true, .help = "letters, digits, . _ -"},
	{"role", JSON_KIND_WORD, offsetof(struct native_token_request, role), .words = role_words,
		.required = true, .help = "viewer, operator or admin"},
	{"account", JSON_KIND_TEXT, offsetof(struct native_token_request, account), .min = 1,
		.max = CONFIG_NAME_MAX - 1, .help = "an account's name, or * for all"},
	{"expires_at", JSON_KIND_TEXT, offsetof(struct native_token_request, expires_at), .min = 1,
		.max = RFC3339_SIZE, .help = "RFC 3339 time; left out: never"},
};
static const struct json_shape token_shape = {
	JSON_SHAPE_FIELDS(token_fields), .null_is_absent = true};

static json_t *body_parse(const char *body, size_t len, struct err *err);
static int output_check(const struct native_output *output, struct err *err);
static int sampling_check(const struct native_sampling *sampling, struct err *err);
static int ports_decode(const struct json_texts *names, const struct config *config,
	const struct principal *who, struct session_spec *spec, struct err *err);
static int replaces_decode(
	const char *text, const struct principal *who, struct session_spec *spec, struct err *err);

/* A limit of any time at all is never 0, which would be no limit. */
static uint64_t limit_ns(double seconds)
{
	uint64_t ns = (uint64_t)(seconds * NS_PER_S + 0.5);

	return seconds > 0 && ns == 0 ? 1 : ns;
}

int native_spec_decode(const char *body, size_t len, const struct config *config,
	const struct principal *who, struct session_spec *spec, json_t **document, struct err *err)
{
	struct native_request request = {0};
	int rc;

	*document = body_parse(body, len, err);
	if (*document == NULL)
		return -EINVAL;
	rc = json_decode(*document, &request_shape, &request, err);
	if (rc == 0)
		rc = sampling_check(&request.sampling, err);
	if (rc == 0)
		rc = output_check(&request.output, err);
	if (rc == 0)
		rc = ports_decode(&request.ports, config, who, spec, err);
	if (rc == 0 && request.replaces != NULL)
		rc = replaces_decode(request.replaces, who, spec, err);
	if (rc < 0)
		return rc;
	spec->name = request.name;
	spec->notes = request.notes;
	spec->account = who->account;
	spec->owner = who->name;
	spec->dialect = DIALECT_native;
	spec->filter = request.filter;
	spec->sample_mode = request.sampling.mode;
	spec->sample_n = request.sampling.n != 0 ? request.sampling.n : 1;
	spec->rate_pps = request.sampling.rate_pps;
	spec->snaplen_bytes = request.snaplen_bytes;
	spec->direction = request.direction;
	spec->limit_packets = request.limits.packets;
	spec->limit_bytes = request.limits.bytes;
	spec->limit_ns = limit_ns(request.limits.seconds);
	spec->limit_file_bytes = request.limits.file_bytes;
	spec->expected_bytes = request.expected.bytes;
	spec->expected_packets = request.expected.packets;
	spec->output = request.output.type;
	spec->stream_address = request.output.address;
	spec->stream_port = (unsigned)request.output.port;
	spec->encapsulation = request.output.encapsulation;
	spec->bucket = request.output.bucket;
	spec->prefix = request.output.prefix;
	spec->vendor = NULL;
	return 0;
}

int native_patch_decode(const char *body, size_t len, struct native_patch *patch, json_t **document,
	struct err *err)
{
	struct native_patch_request request = {
		.limits = {.packets = NATIVE_LIMIT_KEPT, .seconds = -1},
	};
	int rc;

	*document = json_parse(body, len, err);
	if (*document == NULL)
		return -EINVAL;
	rc = json_decode(*document, &patch_shape, &request, err);
	patch->name = request.name;
	patch->notes = request.notes;
	patch->limit_packets = request.limits.packets;
	patch->limit_ns =
		request.limits.seconds < 0 ? NATIVE_LIMIT_KEPT : limit_ns(request.limits.seconds);
	return rc;
}

int native_token_decode(const char *body, size_t len, const struct config *config,
	struct auth_token *token, struct err *err)
{
	struct native_token_request request = {.account = "*"};
	json_t *document = body_parse(body, len, err);
	int rc;

	if (document == NULL)
		return -EINVAL;
	memset(token, 0, sizeof(*token));
	rc = json_decode(document, &token_shape, &request, err);
	if (rc < 0)
		goto out;
	if (strcmp(request.account, "*") != 0 &&
		config_account_find(config, request.account) == NULL) {
		rc = err_set(err, EINVAL, "account",
			"there is no account \"%.63s\" in the configuration; * means all",
			request.account);
		goto out;
	}
	if (request.expires_at != NULL && (!rfc3339_parse(request.expires_at, &token->expires_ns) ||
						  token->expires_ns <= rfc3339_now())) {
		rc = err_set(err, EINVAL, "expires_at",
			"must be an RFC 3339 time in the future, not \"%s\"", request.expires_at);
		goto out;
	}
	snprintf(token->name, sizeof(token->name), "%s", request.name);
	snprintf(token->account, sizeof(token->account), "%s", request.account);
	token->role = ROLE_VIEWER + request.role;
out:
	json_decref(document);
	return rc;
}

/* Nothing at all asks for what {} asks for. */
static json_t *body_parse(const char *body, size_t len, struct err *err)
{
	return len == 0 ? json_object() : json_parse(body, len, err);
}

/* Each kind of output has members of its own. */
static int output_check(const struct native_output *output, struct err *err)
{
	if (output->type != OUTPUT_STREAM && (output->address != NULL || output->port != 0))
		return err_set(err, EINVAL, "output.address", "is for type stream only");
	if (output->type != OUTPUT_S3 && (output->bucket != NULL || output->prefix != NULL))
		return err_set(err, EINVAL,
			output->bucket != NULL ? "output.bucket" : "output.prefix",
			"is for type s3 only");
	if (output->type == OUTPUT_S3 && output->bucket == NULL)
		return err_set(err, EINVAL, "output.bucket",
			"is required with type s3: the name of a [bucket] of the configuration");
	return 0;
}

/* One in one would be no sampling: who left n out meant something else. */
static int sampling_check(const struct native_sampling *sampling, struct err *err)
{
	if (sampling->mode == SAMPLE_NONE || sampling->n != 0)
		return 0;
	return err_set(err, EINVAL, "sampling.n",
		"is required with mode \"%s\": one packet, or one flow, in n is kept",
		sample_words[sampling->mode]);
}

unsigned native_account_ports(
	const struct config *config, const char *account, uint8_t ports[CONFIG_PORTS_MAX])
{
	const struct config_account *found = config_account_find(config, account);
	unsigned n = 0;

	for (unsigned i = 0; i < engine_ports() && n < CONFIG_PORTS_MAX; i++) {
		bool mine = strcmp(account, "*") == 0;

		for (unsigned k = 0; found != NULL && k < found->ports.n && !mine; k++)
			mine = strcmp(found->ports.item[k], "*") == 0 ||
			       strcmp(found->ports.item[k], engine_port(i)->config->name) == 0;
		if (mine)
			ports[n++] = i;
	}
	return n;
}

/* "a, b, c" of the ports that may be named. */
static void ports_list(const uint8_t *ports, unsigned n, char *text, size_t size)
{
	size_t len = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < n && len < size; i++)
		len += snprintf(text + len, size - len, "%s%s", i > 0 ? ", " : "",
			engine_port(ports[i])->config->name);
}

static int port_decode(const char *name, const char *field, const uint8_t *allowed,
	unsigned n_allowed, struct session_spec *spec, struct err *err)
{
	char known[160];

	for (unsigned i = 0; i < n_allowed; i++) {
		if (strcmp(engine_port(allowed[i])->config->name, name) != 0)
			continue;
		for (unsigned k = 0; k < spec->n_ports; k++)
			if (spec->ports[k] == allowed[i])
				return err_set(err, EINVAL, field, "\"%s\" is named twice", name);
		spec->ports[spec->n_ports++] = allowed[i];
		return 0;
	}
	ports_list(allowed, n_allowed, known, sizeof(known));
	return err_set(err, EINVAL, field, "there is no port \"%.63s\"; known: %s", name, known);
}

static int ports_decode(const struct json_texts *names, const struct config *config,
	const struct principal *who, struct session_spec *spec, struct err *err)
{
	uint8_t allowed[CONFIG_PORTS_MAX];
	unsigned n_allowed = native_account_ports(config, who->account, allowed);

	spec->n_ports = 0;
	for (unsigned i = 0; i < names->n; i++) {
		char field[32];
		int rc;

		snprintf(field, sizeof(field), "ports.%u", i);
		rc = port_decode(names->item[i], field, allowed, n_allowed, spec, err);
		if (rc < 0)
			return rc;
	}
	if (names->n > 0)
		return 0;
	if (n_allowed == 0)
		return err_set(
			err, EINVAL, "ports", "the account \"%s\" has no ports", who->account);
	spec->n_ports = n_allowed;
	memcpy(spec->ports, allowed, n_allowed);
	return 0;
}

static int replaces_decode(
	const char *text, const struct principal *who, struct session_spec *spec, struct err *err)
{
	const struct session *session = NULL;
	struct session_info info;

	if (strlen(text) == UUID_TEXT_SIZE - 1 && uuid_parse(text, strlen(text), &spec->replaces))
		session = session_find(&spec->replaces);
	if (session != NULL)
		session_info(session, &info);
	if (session != NULL && auth_sees(who, info.account))
		return 0;
	return err_set(err, EINVAL, "replaces", "there is no capture \"%s\"", text);
}

static json_t *text_or_null(const char *text)
{
	return text != NULL ? json_text(text) : json_null();
}

static json_t *time_or_null(uint64_t wall_ns)
{
	char text[RFC3339_SIZE];

	if (wall_ns == 0)
		return json_null();
	rfc3339_print(wall_ns, 9, text);
	return json_string(text);
}

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

static void put_count(json_t *object, const char *name, uint64_t count)
{
	put(object, name, json_integer((json_int_t)count));
}

static json_t *dropped_json(const struct ledger *ledger)
{
	static const char *const reasons[] = {
#define X(name, help) #name,
		DROP_REASONS(X)
#undef X
	};
	json_t *json = json_object();

	for (unsigned i = 0; i < DROP_COUNT; i++)
		put_count(json, reasons[i], ledger->dropped[i]);
	return json;
}

json_t *native_ledger(const struct ledger *ledger)
{
	json_t *json = json_object();

	put_count(json, "offered", ledger->offered);
	put_count(json, "filtered", ledger->filtered);
	put_count(json, "sampled_out", ledger->sampled_out);
	put_count(json, "over_limit", ledger->over_limit);
	put_count(json, "accepted", ledger->accepted);
	put_count(json, "written", ledger->written);
	put_count(json, "durable", ledger->durable);
	put_count(json, "in_flight", ledger->in_flight);
	put_count(json, "stamps_raised", ledger->stamps_raised);
	put_count(json, "unknown", ledger->unknown);
	put(json, "unknown_max",
		ledger->unknown_max == LEDGER_UNBOUNDED
			? json_null()
			: json_integer((json_int_t)ledger->unknown_max));
	put(json, "dropped", dropped_json(ledger));
	return json;
}

static const char *reason_name(enum end_reason reason)
{
	static const char *const names[] = {
#define X(name) #name,
		END_REASONS(X)
#undef X
	};

	return reason == END_none ? NULL : names[reason];
}

static json_t *ports_json(const struct session_info *info)
{
	json_t *json = json_array();

	for (unsigned i = 0; i < info->n_ports; i++)
		json_array_append_new(json, json_text(info->ports[i]));
	return json;
}

static json_t *sampling_json(const struct session_info *info)
{
	json_t *json = json_object();

	put(json, "mode", json_string(sample_words[info->sample_mode]));
	put_count(json, "n", info->sample_mode == SAMPLE_NONE ? 1 : info->sample_n);
	put_count(json, "rate_pps", info->rate_pps);
	return json;
}

static json_t *limits_json(const struct session_info *info)
{
	json_t *json = json_object();

	put_count(json, "packets", info->limit_packets);
	put_count(json, "bytes", info->limit_bytes);
	put(json, "seconds", json_number((double)info->limit_ns / NS_PER_S));
	put_count(json, "file_bytes", info->limit_file_bytes);
	return json;
}

static json_t *expected_json(const struct session_info *info)
{
	json_t *json = json_object();

	put_count(json, "bytes_per_second", info->expected_bytes);
	put_count(json, "packets_per_second", info->expected_packets);
	return json;
}

static json_t *kept_json(uint64_t snaplen_bytes, enum sample_mode mode, uint64_t n)
{
	json_t *json = json_object(), *sampling = json_object();

	put_count(json, "snaplen", snaplen_bytes);
	put(sampling, "mode", json_string(sample_words[mode]));
	put_count(sampling, "n", n);
	put(json, "sampling", sampling);
	return json;
}

static json_t *degraded_json(const struct session_info *info)
{
	const struct session_degraded *degraded = info->degraded;
	json_t *json;

	if (degraded == NULL)
		return json_null();
	json = json_object();
	put(json, "reason", json_string("disk"));
	put(json, "since", time_or_null(degraded->since_ns));
	put(json, "from",
		kept_json(info->snaplen_bytes, info->sample_mode,
			info->sample_mode == SAMPLE_NONE ? 1 : info->sample_n));
	put(json, "to",
		kept_json(degraded->snaplen_bytes, degraded->sample_mode, degraded->sample_n));
	return json;
}

static json_t *events_json(const struct session_events *events)
{
	json_t *list = json_array();

	for (unsigned i = 0; events != NULL && i < events->n; i++) {
		json_t *json = json_object();

		put(json, "at", time_or_null(events->event[i].at_ns));
		put(json, "text", json_text(events->event[i].text));
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *upload_json(const struct session_info *info)
{
	json_t *json;

	if (info->output != OUTPUT_S3)
		return json_null();
	json = json_object();
	put(json, "state", json_string(session_upload_state_name(info->upload.state)));
	put(json, "url", json_sprintf("s3://%s/%s", info->upload.bucket, info->upload.key));
	put_count(json, "bytes", info->upload.bytes);
	put_count(json, "total_bytes", info->upload.total_bytes);
	put_count(json, "attempts", info->upload.attempts);
	put(json, "message", text_or_null(info->upload.message));
	put(json, "next_at", time_or_null(info->upload.next_ns));
	put(json, "local", json_boolean(!info->upload.local_gone));
	return json;
}

json_t *native_capture(const struct session_info *info)
{
	json_t *json = json_object(), *output = json_object();
	char id[UUID_TEXT_SIZE], replaces[UUID_TEXT_SIZE];

	uuid_print(&info->id, id);
	uuid_print(&info->replaces, replaces);
	put(json, "id", json_string(id));
	put(json, "name", json_text(info->name));
	put(json, "notes", json_text(info->notes));
	put(json, "account", json_text(info->account));
	put(json, "owner", json_text(info->owner));
	put(json, "dialect", json_string(session_dialect_name(info->dialect)));
	put(json, "state", json_string(session_state_name(info->state)));
	put(json, "reason", text_or_null(reason_name(info->reason)));
	put(json, "message", text_or_null(info->message));
	put(json, "ports", ports_json(info));
	put(json, "filter", json_text(info->filter));
	put(json, "filter_engine", json_string(filter_engine_name(info->filter_engine)));
	put(json, "sampling", sampling_json(info));
	put_count(json, "snaplen", info->snaplen_bytes);
	put(json, "direction", json_string(direction_words[info->direction]));
	put(json, "limits", limits_json(info));
	put(json, "expected", expected_json(info));
	put(json, "degraded", degraded_json(info));
	put(json, "events", events_json(info->events));
	put(output, "type", json_string(output_words[info->output]));
	if (info->output == OUTPUT_STREAM) {
		put(output, "address", json_text(info->stream_address));
		put_count(output, "port", info->stream_port);
		put(output, "encapsulation", json_string(encapsulation_words[info->encapsulation]));
	}
	if (info->output == OUTPUT_S3) {
		put(output, "bucket", json_text(info->bucket));
		put(output, "prefix", json_text(info->prefix));
	}
	put(json, "output", output);
	put(json, "upload", upload_json(info));
	put(json, "replaces", text_or_null(uuid_is_zero(&info->replaces) ? NULL : replaces));
	put(json, "created_at", time_or_null(info->created_ns));
	put(json, "started_at", time_or_null(info->started_ns));
	put(json, "ended_at", time_or_null(info->ended_ns));
	put_count(json, "size_bytes", info->size_bytes);
	put(json, "ledger", native_ledger(&info->ledger));
	return json;
}

json_t *native_token(const struct auth_token *token, const char *secret)
{
	json_t *json = json_object();

	put(json, "name", json_text(token->name));
	put(json, "role", json_string(auth_role_name(token->role)));
	put(json, "account", json_text(token->account));
	put(json, "created_at", time_or_null(token->created_ns));
	put(json, "expires_at", time_or_null(token->expires_ns));
	if (secret != NULL && *secret != '\0')
		put(json, "secret", json_string(secret));
	return json;
}

/* Counters of the device thread and the lcores are read as they stand; each is whole by itself. */
static uint64_t counter(const uint64_t *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static json_t *counters_json(const struct port *port)
{
	json_t *json = json_object();
	uint64_t rx = 0, matched = 0, unmatched = 0;

	for (unsigned i = 0; i < port->n_queues; i++) {
		rx += counter(&port->queues[i].polled);
		matched += counter(&port->queues[i].matched);
		unmatched += counter(&port->queues[i].unmatched);
	}
	put_count(json, "offered", counter(&port->offered));
	put_count(json, "rx", rx);
	put_count(json, "rx_bytes", counter(&port->rx_bytes));
	put_count(json, "nic_missed", counter(&port->nic_missed));
	put_count(json, "nic_errors", counter(&port->nic_errors));
	put_count(json, "nic_nombuf", counter(&port->nic_nombuf));
	put_count(json, "matched", matched);
	put_count(json, "unmatched", unmatched);
	return json;
}

static json_t *port_json(const struct port *port)
{
	const struct config_port *config = port->config;
	bool kernel = config->interface[0] != '\0';
	json_t *json = json_object();
	char mac[18];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", port->mac[0], port->mac[1],
		port->mac[2], port->mac[3], port->mac[4], port->mac[5]);
	put(json, "name", json_text(config->name));
	put(json, kernel ? "interface" : "device",
		json_text(kernel ? config->interface : config->device));
	put(json, "driver", json_text(port->driver));
	put(json, "link", json_string(port->link_up && !port->gone ? "up" : "down"));
	put_count(json, "speed_mbps", port->speed_mbps);
	put(json, "mac", port->has_mac ? json_string(mac) : json_null());
	put_count(json, "mtu", port->mtu);
	put_count(json, "rx_queues", port->n_queues);
	put(json, "loss_visibility", json_string(port_loss_name(port->loss)));
	put(json, "direction", json_string(port_direction_name(port->direction)));
	put(json, "counters", counters_json(port));
	return json;
}

json_t *native_ports(const struct config *config, const struct principal *who)
{
	json_t *json = json_object(), *list = json_array();
	uint8_t ports[CONFIG_PORTS_MAX];
	const char *account = who->role == ROLE_ADMIN ? "*" : who->account;
	unsigned n = native_account_ports(config, account, ports);

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, port_json(engine_port(ports[i])));
	put(json, "ports", list);
	return json;
}

json_t *native_buckets(const struct config *config, const struct principal *who)
{
	json_t *json = json_object(), *list = json_array();

	for (unsigned i = 0; i < config->n_buckets; i++) {
		const struct config_bucket *from = &config->buckets[i];
		json_t *bucket;

		if (!config_bucket_allows(config, from, who->account))
			continue;
		bucket = json_object();
		put(bucket, "name", json_text(from->name));
		put(bucket, "bucket", json_text(from->bucket));
		put(bucket, "prefix", json_text(from->prefix));
		put(bucket, "keep", json_boolean(from->keep));
		json_array_append_new(list, bucket);
	}
	put(json, "buckets", list);
	return json;
}

static json_t *gaps_json(const struct engine_lcore *lcore)
{
	json_t *json = json_object(), *list = json_array();

	for (unsigned i = 0; i < ENGINE_GAPS_MAX && i < lcore->gaps; i++) {
		json_t *gap = json_object();

		put(gap, "at", time_or_null(lcore->gap_last[i].at_ns));
		put_count(gap, "ns", lcore->gap_last[i].ns);
		json_array_append_new(list, gap);
	}
	put_count(json, "count", lcore->gaps);
	put_count(json, "longest_ns", lcore->gap_longest_ns);
	put(json, "last", list);
	return json;
}

static json_t *lcores_json(const struct engine_status *engine)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < engine->n_lcores; i++) {
		const struct engine_lcore *lcore = &engine->lcores[i];
		json_t *json = json_object();

		put_count(json, "lcore", lcore->lcore);
		put_count(json, "cpu", lcore->cpu);
		put(json, "role", json_string(lcore->role));
		put_count(json, "cycles_useful", lcore->cycles_useful);
		put_count(json, "cycles_idle", lcore->cycles_idle);
		put_count(json, "rounds", lcore->rounds);
		if (strcmp(lcore->role, "rx") == 0)
			put(json, "gaps", gaps_json(lcore));
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *ceiling_json(const struct ceiling *ceiling)
{
	json_t *json;

	if (ceiling == NULL)
		return json_null();
	json = json_object();
	put_count(json, "touched_bytes_per_second", ceiling->touched_bytes_per_s);
	put_count(json, "fresh_bytes_per_second", ceiling->fresh_bytes_per_s);
	put_count(json, "write_bytes", ceiling->write_bytes);
	put_count(json, "depth", ceiling->depth);
	put(json, "measured_at", time_or_null(ceiling->measured_at_ns));
	return json;
}

static json_t *rate_json(double per_second)
{
	return json_integer((json_int_t)(per_second + 0.5));
}

/* The figures by the names that a bottleneck has. */
static json_t *nic_json(const struct load *load)
{
	json_t *json = json_object(), *list = json_array();

	for (unsigned i = 0; i < load->n_ports; i++) {
		const struct load_port *from = &load->ports[i];
		json_t *port = json_object();

		put(port, "name", json_text(from->port->config->name));
		put(port, "packets_per_second", rate_json(from->packets));
		put(port, "missed_per_second", rate_json(from->missed));
		put(port, "nombuf_per_second", rate_json(from->no_buffers));
		put(port, "errors_per_second", rate_json(from->errors));
		put(port, "loss_visibility", json_string(port_loss_name(from->port->loss)));
		json_array_append_new(list, port);
	}
	put(json, "ports", list);
	return json;
}

static json_t *cores_json(const struct load_lcore *lcores, unsigned n, bool rx)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++) {
		json_t *json = json_object();

		put_count(json, "lcore", lcores[i].lcore);
		put_count(json, "cpu", lcores[i].cpu);
		put_count(json, "busy_percent", lcores[i].busy_percent);
		put_count(json, "waited_percent", lcores[i].waited_percent);
		if (rx)
			put_count(json, "full_polls_percent", lcores[i].full_percent);
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *resources_json(const struct load *load)
{
	json_t *json = json_object(), *rx = json_object(), *blocks = json_object(),
	       *disk = json_object();

	put(json, "nic", nic_json(load));
	put(rx, "lcores", cores_json(load->rx, load->n_rx, true));
	put(json, "rx_core", rx);
	put_count(blocks, "total", load->blocks.total);
	put_count(blocks, "low", load->blocks.low);
	put(blocks, "missed_per_second", rate_json(load->blocks.missed));
	put(blocks, "writers", cores_json(load->writers, load->n_writers, false));
	put(json, "blocks", blocks);
	put(disk, "bytes_per_second", rate_json(load->disk.bytes));
	put(disk, "ceiling_bytes_per_second",
		load->disk.ceiling_bytes != 0 ? json_integer((json_int_t)load->disk.ceiling_bytes)
					      : json_null());
	put_count(disk, "busy_percent", load->disk.busy_percent);
	put_count(disk, "in_flight", load->disk.in_flight);
	put_count(disk, "in_flight_max", load->disk.in_flight_max);
	put_count(disk, "slow_writes", load->disk.slow_writes);
	put(json, "disk", disk);
	return json;
}

static json_t *admission_json(const struct admission_status *admission)
{
	static const char *const words[] = {"report", "refuse", "degrade"};
	json_t *json = json_object();
	const bool known = admission->ceiling_bytes != 0;

	put(json, "overload", json_string(words[admission->overload]));
	put(json, "ceiling_bytes_per_second",
		known ? json_integer((json_int_t)admission->ceiling_bytes) : json_null());
	put_count(json, "load_bytes_per_second", admission->load_bytes);
	put(json, "left_bytes_per_second",
		known ? json_integer((json_int_t)admission->left_bytes) : json_null());
	put_count(json, "degraded_captures", admission->n_degraded);
	put(json, "overloaded_since", time_or_null(admission->overloaded_since_ns));
	return json;
}

json_t *native_status(void)
{
	json_t *json = json_object(), *blocks = json_object(), *storage = json_object(),
	       *risk = json_object();
	struct control_status control;
	struct engine_status engine;
	struct ledger sum;

	totals_read(&sum);
	control_status(&control);
	engine_status(&engine);
	put(json, "version", json_string(SLUICE_VERSION));
	put_count(json, "uptime_seconds", control.uptime_ns / NS_PER_S);
	put(json, "lcores", lcores_json(&engine));
	put_count(blocks, "total", engine.blocks);
	put_count(blocks, "free", engine.blocks_free);
	put(json, "blocks", blocks);
	put_count(storage, "size_bytes", control.storage_size_bytes);
	put_count(storage, "used_bytes", control.storage_used_bytes);
	put_count(storage, "quota_bytes", control.storage_quota_bytes);
	put_count(storage, "spare_bytes", control.storage_spare_bytes);
	put(storage, "ceiling", ceiling_json(control.ceiling));
	put(storage, "stalled_since", time_or_null(control.storage_stalled_since_ns));
	put_count(storage, "stalls", control.storage_stalls);
	put(json, "storage", storage);
	put_count(risk, "packets", control.at_risk_packets);
	put_count(risk, "bytes", control.at_risk_bytes);
	put(risk, "seconds", json_number((double)(control.at_risk_ns / 1000000) / 1e3));
	put(json, "at_risk", risk);
	put(json, "dropped", dropped_json(&sum));
	put(json, "bottleneck", text_or_null(control.bottleneck));
	put(json, "bottleneck_since", time_or_null(control.bottleneck_since_ns));
	put(json, "explanation", json_text(control.explanation));
	put(json, "admission", admission_json(&control.admission));
	put(json, "resources", resources_json(control.load));
	return json;
}

/* What to say when the error was found where no field or value is known. */
static const char *error_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} rows[] = {
		{400, "this is not a well-formed HTTP/1.1 request"},
		{404, "there is nothing at this path"},
		{413, "a request body may have at most 1048576 bytes"},
		{501, "this method is not known here"},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].status == status)
			return rows[i].text;
	return server_phrase(status);
}

/* "limits.packets" as a JSON Pointer. */
static json_t *pointer_json(const char *field)
{
	char text[sizeof(((struct err *)0)->field) + 1];

	snprintf(text, sizeof(text), "/%s", field);
	for (char *c = text; *c != '\0'; c++)
		if (*c == '.')
			*c = '/';
	return json_text(text);
}

json_t *native_error(int status, const struct err *err)
{
	char detail[sizeof(err->field) + sizeof(err->text) + 4];
	json_t *json = json_object();

	snprintf(detail, sizeof(detail), "%s%s%s", err->field, err->field[0] != '\0' ? ": " : "",
		err->text[0] != '\0' ? err->text : error_text(status));
	put(json, "type", json_string("about:blank"));
	put(json, "title", json_string(server_phrase(status)));
	put_count(json, "status", status);
	put(json, "detail", json_text(detail));
	if (status == 400 && err->field[0] != '\0')
		put(json, "pointer", pointer_json(err->field));
	return json;
}
