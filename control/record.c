/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/json.h"
#include "control/file.h"
#include "control/memory.h"

#define CHECKSUM     "crc32c "
#define CHECKSUM_LEN (sizeof("\n" CHECKSUM "00000000\n") - 1)

/* One table for both ways: a number of a session and its name. */
#define RECORD_NUMBERS(X)         \
	X(serial)                 \
	X(sample_n)               \
	X(rate_pps)               \
	X(stream_port)            \
	X(snaplen_bytes)          \
	X(limit_packets)          \
	X(limit_bytes)            \
	X(limit_ns)               \
	X(limit_file_bytes)       \
	X(expected_bytes)         \
	X(expected_packets)       \
	X(degraded.level)         \
	X(degraded.since_ns)      \
	X(degraded.snaplen_bytes) \
	X(degraded.sample_n)      \
	X(created_ns)             \
	X(started_ns)             \
	X(ended_ns)               \
	X(size_bytes)             \
	X(upload.attempts)        \
	X(upload.total_bytes)     \
	X(upload.verified_ns)     \
	X(upload.local_gone)      \
	X(ledger.offered)         \
	X(ledger.filtered)        \
	X(ledger.sampled_out)     \
	X(ledger.over_limit)      \
	X(ledger.accepted)        \
	X(ledger.written)         \
	X(ledger.durable)         \
	X(ledger.unknown)         \
	X(ledger.unknown_max)     \
	X(ledger.written_bytes)   \
	X(ledger.stamps_raised)

#define RECORD_TEXTS(X)   \
	X(name)           \
	X(notes)          \
	X(account)        \
	X(owner)          \
	X(filter)         \
	X(vendor)         \
	X(message)        \
	X(stream_address) \
	X(bucket)         \
	X(prefix)         \
	X(key)            \
	X(upload.message)

static char *checksum_add(char *text, const struct uuid *id);
static bool checksum_cut(const char *text, size_t *len);
static bool checksum_fits(const char *text, size_t len, const struct uuid *id);
static json_t *dropped_print(const struct ledger *ledger);
static void dropped_parse(const json_t *object, struct ledger *ledger);
static void degraded_parse(const json_t *json, struct session *session);
static int upload_parse(const json_t *json, struct session *session, struct err *err);
static json_t *events_print(const struct session_events *events);
static void events_parse(const json_t *list, struct session *session);
static int enums_parse(const json_t *json, struct session *session, struct err *err);
static int word_parse(const json_t *json, const char *key, const char *(*name)(unsigned),
	unsigned count, unsigned *value, struct err *err);
static int texts_parse(const json_t *json, struct session *session);
static void ports_parse(const json_t *json, struct session *session);

static char *record_make(const struct session *session, enum session_state state);

static const char *state_word(unsigned value)
{
	return session_state_name(value);
}

static const char *reason_word(unsigned value)
{
	return end_reason_name(value);
}

static const char *dialect_word(unsigned value)
{
	return session_dialect_name(value);
}

static const char *sample_word(unsigned value)
{
	static const char *const names[] = {"none", "every", "random", "flow"};

	return names[value];
}

static const char *direction_word(unsigned value)
{
	static const char *const names[] = {"both", "in", "out"};

	return names[value];
}

static const char *output_word(unsigned value)
{
	static const char *const names[] = {"file", "none", "stream", "s3"};

	return names[value];
}

static const char *upload_word(unsigned value)
{
	return session_upload_state_name(value);
}

static const char *engine_word(unsigned value)
{
	return filter_engine_name(value);
}

/* A session without a record of its end would be taken for one that died. */
char *record_print(const struct session *session, enum session_state state)
{
	char *text = record_make(session, state);

	for (unsigned i = 0; text == NULL && i < MEMORY_TRIES; i++) {
		usleep(MEMORY_WAIT_US);
		text = record_make(session, state);
	}
	return text;
}

static char *record_make(const struct session *session, enum session_state state)
{
	json_t *json = json_object();
	json_t *ports = json_array();
	char replaces[UUID_TEXT_SIZE];
	char *text;

	json_object_set_new(json, "version", json_integer(RECORD_VERSION));
#define X(member) json_object_set_new(json, #member, json_integer((json_int_t)session->member));
	RECORD_NUMBERS(X)
#undef X
#define X(member)                    \
	if (session->member != NULL) \
		json_object_set_new(json, #member, json_text(session->member));
	RECORD_TEXTS(X)
#undef X
	json_object_set_new(json, "state", json_string(state_word(state)));
	json_object_set_new(json, "reason", json_string(reason_word(session->reason)));
	json_object_set_new(json, "dialect", json_string(dialect_word(session->dialect)));
	json_object_set_new(json, "sample_mode", json_string(sample_word(session->sample_mode)));
	json_object_set_new(json, "direction", json_string(direction_word(session->direction)));
	json_object_set_new(json, "output", json_string(output_word(session->output)));
	json_object_set_new(json, "upload.state", json_string(upload_word(session->upload.state)));
	json_object_set_new(
		json, "filter_engine", json_string(engine_word(session->filter_engine)));
	if (!uuid_is_zero(&session->replaces)) {
		uuid_print(&session->replaces, replaces);
		json_object_set_new(json, "replaces", json_string(replaces));
	}
	json_object_set_new(json, "dropped", dropped_print(&session->ledger));
	for (unsigned i = 0; i < session->n_ports; i++)
		json_array_append_new(ports, json_string(session->port_names[i]));
	json_object_set_new(json, "ports", ports);
	json_object_set_new(json, "degraded.sample_mode",
		json_string(sample_word(session->degraded.sample_mode)));
	if (session->events != NULL)
		json_object_set_new(json, "events", events_print(session->events));
	text = json_print(json);
	json_decref(json);
	return text != NULL ? checksum_add(text, &session->id) : NULL;
}

struct session *record_parse(const struct uuid *id, const char *text, struct err *err)
{
	struct session *session = calloc(1, sizeof(*session));
	size_t len = strlen(text);
	const bool summed = checksum_cut(text, &len);
	json_t *json = json_parse(text, len, err);
	json_int_t version = json_integer_value(json_object_get(json, "version"));
	const char *replaces;

	if (session == NULL || json == NULL)
		goto fail;
	if (summed && !checksum_fits(text, len, id)) {
		err_set(err, EINVAL, "checksum",
			"the record's checksum does not fit: it is damaged, "
			"or another capture's");
		goto fail;
	}
	if (version < 1 || version > RECORD_VERSION) {
		err_set(err, version > RECORD_VERSION ? ENOTSUP : EINVAL, "version",
			"record version %lld is not known, only 1 to %d are", (long long)version,
			RECORD_VERSION);
		goto fail;
	}
	if (summed != (version > 1)) {
		err_set(err, EINVAL, "checksum", "the record of version %d has %s checksum",
			(int)version, summed ? "a" : "no");
		goto fail;
	}
	session->id = *id;
#define X(member) session->member = json_integer_value(json_object_get(json, #member));
	RECORD_NUMBERS(X)
#undef X
	if (texts_parse(json, session) != 0 || enums_parse(json, session, err) != 0 ||
		upload_parse(json, session, err) != 0)
		goto fail;
	replaces = json_string_value(json_object_get(json, "replaces"));
	if (replaces != NULL)
		uuid_parse(replaces, strlen(replaces), &session->replaces);
	ports_parse(json, session);
	dropped_parse(json_object_get(json, "dropped"), &session->ledger);
	if (version == 1 && session->reason == END_recovered)
		session->ledger.unknown_max = LEDGER_UNBOUNDED;
	degraded_parse(json, session);
	events_parse(json_object_get(json, "events"), session);
	json_decref(json);
	return session;
fail:
	json_decref(json);
	if (session != NULL)
		session_free(session);
	return NULL;
}

static uint32_t checksum(const char *text, size_t len, const struct uuid *id)
{
	return file_crc32c(file_crc32c(0, id, sizeof(*id)), text, len);
}

/* Takes text. */
static char *checksum_add(char *text, const struct uuid *id)
{
	char *whole;

	if (asprintf(&whole, "%s\n" CHECKSUM "%08" PRIx32 "\n", text,
		    checksum(text, strlen(text), id)) < 0)
		whole = NULL;
	free(text);
	return whole;
}

/* Take the last line off, if it is a checksum. */
static bool checksum_cut(const char *text, size_t *len)
{
	if (*len < CHECKSUM_LEN ||
		memcmp(text + *len - CHECKSUM_LEN, "\n" CHECKSUM, sizeof(CHECKSUM)) != 0)
		return false;
	*len -= CHECKSUM_LEN;
	return true;
}

/* Every character of it: a number may be written in many ways. */
static bool checksum_fits(const char *text, size_t len, const struct uuid *id)
{
	char line[CHECKSUM_LEN + 1];

	snprintf(line, sizeof(line), "\n" CHECKSUM "%08" PRIx32 "\n", checksum(text, len, id));
	return strcmp(text + len, line) == 0;
}

static json_t *dropped_print(const struct ledger *ledger)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < DROP_COUNT; i++)
		json_object_set_new(
			object, drop_name(i), json_integer((json_int_t)ledger->dropped[i]));
	return object;
}

static void dropped_parse(const json_t *object, struct ledger *ledger)
{
	for (unsigned i = 0; i < DROP_COUNT; i++)
		ledger->dropped[i] = json_integer_value(json_object_get(object, drop_name(i)));
}

/* Records of before there was any degrading say nothing of it. */
static void degraded_parse(const json_t *json, struct session *session)
{
	unsigned mode = session->sample_mode;

	if (json_object_get(json, "degraded.sample_mode") != NULL)
		word_parse(json, "degraded.sample_mode", sample_word, 4, &mode, NULL);
	session->degraded.sample_mode = mode < 4 ? mode : session->sample_mode;
}

/* Records of before there were buckets say nothing of them. */
static int upload_parse(const json_t *json, struct session *session, struct err *err)
{
	unsigned state = UPLOAD_none;

	if (json_object_get(json, "upload.state") != NULL &&
		word_parse(json, "upload.state", upload_word, UPLOAD_STATE_COUNT, &state, err) != 0)
		return -EINVAL;
	session->upload.state = state;
	return 0;
}

static json_t *events_print(const struct session_events *events)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < events->n; i++) {
		json_t *event = json_object();

		json_object_set_new(
			event, "at_ns", json_integer((json_int_t)events->event[i].at_ns));
		json_object_set_new(event, "text", json_text(events->event[i].text));
		json_array_append_new(list, event);
	}
	return list;
}

static void events_parse(const json_t *list, struct session *session)
{
	const json_t *event;
	size_t i;

	json_array_foreach (list, i, event) {
		const char *text = json_string_value(json_object_get(event, "text"));

		session_event_add(session, "%s", text != NULL ? text : "");
		if (session->events != NULL)
			session->events->event[session->events->n - 1].at_ns =
				json_integer_value(json_object_get(event, "at_ns"));
	}
}

static int enums_parse(const json_t *json, struct session *session, struct err *err)
{
	unsigned state, reason, dialect, sample, direction, output, engine;

	if (word_parse(json, "state", state_word, SESSION_STATE_COUNT, &state, err) != 0 ||
		word_parse(json, "reason", reason_word, END_COUNT, &reason, err) != 0 ||
		word_parse(json, "dialect", dialect_word, DIALECT_COUNT, &dialect, err) != 0 ||
		word_parse(json, "sample_mode", sample_word, 4, &sample, err) != 0 ||
		word_parse(json, "direction", direction_word, 3, &direction, err) != 0 ||
		word_parse(json, "output", output_word, 4, &output, err) != 0 ||
		word_parse(json, "filter_engine", engine_word, FILTER_ENGINES, &engine, err) != 0)
		return -EINVAL;
	session->state = state;
	session->reason = reason;
	session->dialect = dialect;
	session->sample_mode = sample;
	session->direction = direction;
	session->output = output;
	session->filter_engine = engine;
	return 0;
}

static int word_parse(const json_t *json, const char *key, const char *(*name)(unsigned),
	unsigned count, unsigned *value, struct err *err)
{
	const char *word = json_string_value(json_object_get(json, key));

	for (*value = 0; word != NULL && *value < count; (*value)++)
		if (strcmp(word, name(*value)) == 0)
			return 0;
	return err_set(err, EINVAL, key, "\"%s\" is not known", word != NULL ? word : "");
}

static int texts_parse(const json_t *json, struct session *session)
{
	const char *text;

#define X(member)                                                     \
	text = json_string_value(json_object_get(json, #member));     \
	if (text != NULL && (session->member = strdup(text)) == NULL) \
		return -ENOMEM;
	RECORD_TEXTS(X)
#undef X
	return 0;
}

static void ports_parse(const json_t *json, struct session *session)
{
	const json_t *ports = json_object_get(json, "ports");

	for (size_t i = 0; i < json_array_size(ports) && i < CONFIG_PORTS_MAX; i++) {
		const char *name = json_string_value(json_array_get(ports, i));

		if (name == NULL)
			continue;
		strncpy(session->port_names[session->n_ports], name, CONFIG_NAME_MAX - 1);
		session->n_ports++;
	}
}
