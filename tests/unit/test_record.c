/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/record: everything that a record holds comes back; what another version wrote, or what
 * nobody wrote, is refused and hurts nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/json.h"
#include "control/file.h"
#include "control/record.h"

static const struct uuid id = {{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}};

/* A session that has something in every member that a record holds. */
static struct session *session_full(uint64_t first)
{
	struct session *session = calloc(1, sizeof(*session));
	uint64_t *const numbers[] = {
		&session->serial,
		&session->sample_n,
		&session->rate_pps,
		&session->stream_port,
		&session->snaplen_bytes,
		&session->limit_packets,
		&session->limit_bytes,
		&session->limit_ns,
		&session->limit_file_bytes,
		&session->expected_bytes,
		&session->expected_packets,
		&session->degraded.since_ns,
		&session->degraded.snaplen_bytes,
		&session->degraded.sample_n,
		&session->upload.attempts,
		&session->upload.total_bytes,
		&session->upload.verified_ns,
		&session->created_ns,
		&session->started_ns,
		&session->ended_ns,
		&session->size_bytes,
		&session->ledger.offered,
		&session->ledger.filtered,
		&session->ledger.sampled_out,
		&session->ledger.over_limit,
		&session->ledger.accepted,
		&session->ledger.written,
		&session->ledger.durable,
		&session->ledger.unknown,
		&session->ledger.unknown_max,
		&session->ledger.written_bytes,
		&session->ledger.stamps_raised,
	};

	session->id = id;
	session->name = strdup("web\ttraffic \"x\" \\ \xc3\xa9\xf0\x9f\x90\x9f");
	session->notes = strdup("line 1\nline 2\n");
	session->account = strdup("*");
	session->owner = strdup("ops");
	session->filter = strdup("tcp port 443 and not host ::1");
	session->vendor = strdup("{\"a\":[1,\"\\u0001\"]}");
	session->message = strdup("the disk is full");
	session->dialect = DIALECT_cloudflare;
	session->state = SESSION_failed;
	session->reason = END_disk_full;
	session->n_ports = CONFIG_PORTS_MAX;
	for (unsigned i = 0; i < CONFIG_PORTS_MAX; i++)
		snprintf(session->port_names[i], CONFIG_NAME_MAX, "port%u", i);
	memset(session->port_names[0], 'a', CONFIG_NAME_MAX - 1);
	session->filter_engine = FILTER_ENGINE_INTERPRETER;
	session->sample_mode = SAMPLE_FLOW;
	session->degraded.level = 3;
	session->degraded.sample_mode = SAMPLE_RANDOM;
	session_event_add(session, "first %d", 1);
	session_event_add(session, "second");
	session->direction = DIRECTION_OUT;
	session->output = OUTPUT_STREAM;
	session->stream_address = strdup("2001:db8::1");
	session->bucket = strdup("evidence");
	session->prefix = strdup("a/\xc3\xa9");
	session->key = strdup("p/a/\xc3\xa9/x.pcapng");
	session->upload.message = strdup("the server is overloaded (503, SlowDown)");
	session->upload.state = UPLOAD_waiting;
	session->upload.local_gone = true;
	session->replaces = (struct uuid){{9, 8, 7, 6, 5, 4, 0x43, 2, 0x81}};
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		*numbers[i] = first + i;
	for (unsigned i = 0; i < DROP_COUNT; i++)
		session->ledger.dropped[i] = first + 100 + i;
	return session;
}

static void text_equal(char **a, char **b)
{
	if (*a == NULL || *b == NULL)
		assert_ptr_equal(*a, *b);
	else
		assert_string_equal(*a, *b);
	free(*a);
	free(*b);
	*a = NULL;
	*b = NULL;
}

/* Member by member where they point, then all bytes at once; frees both. */
static void session_equal(struct session *a, struct session *b)
{
	text_equal(&a->name, &b->name);
	text_equal(&a->notes, &b->notes);
	text_equal(&a->account, &b->account);
	text_equal(&a->owner, &b->owner);
	text_equal(&a->bucket, &b->bucket);
	text_equal(&a->prefix, &b->prefix);
	text_equal(&a->key, &b->key);
	text_equal(&a->upload.message, &b->upload.message);
	text_equal(&a->filter, &b->filter);
	text_equal(&a->vendor, &b->vendor);
	text_equal(&a->message, &b->message);
	if (a->events != NULL) {
		assert_memory_equal(a->events, b->events, sizeof(*a->events));
		free(a->events);
		free(b->events);
		a->events = b->events = NULL;
	}
	text_equal(&a->stream_address, &b->stream_address);
	assert_memory_equal(a, b, sizeof(*a));
	session_free(a);
	session_free(b);
}

static void what_is_printed_is_parsed(struct session *session)
{
	struct err err = {0};
	char *text = record_print(session, session->state);
	struct session *back = record_parse(&id, text, &err);

	if (back == NULL)
		fail_msg("%s: %s", err.field, err.text);
	free(text);
	session_equal(session, back);
}

static void every_member_comes_back(void **state)
{
	what_is_printed_is_parsed(session_full(1));
	what_is_printed_is_parsed(session_full(1ULL << 53));
	what_is_printed_is_parsed(session_full(INT64_MAX - 1000));
}

static void an_empty_session_comes_back(void **state)
{
	struct session *session = calloc(1, sizeof(*session));

	session->id = id;
	what_is_printed_is_parsed(session);
}

static void every_word_comes_back(void **state)
{
	for (unsigned i = 0; i < 11; i++) {
		struct session *session = session_full(1);

		session->state = i % SESSION_STATE_COUNT;
		session->reason = i % END_COUNT;
		session->dialect = i % DIALECT_COUNT;
		session->sample_mode = i % 4;
		session->direction = i % 3;
		session->output = i % 2;
		session->filter_engine = i % FILTER_ENGINES;
		what_is_printed_is_parsed(session);
	}
}

static void the_state_is_what_the_record_shall_say(void **state)
{
	struct session *session = session_full(1), *back;
	char *text = record_print(session, SESSION_converting);

	back = record_parse(&id, text, NULL);
	assert_non_null(back);
	assert_int_equal(back->state, SESSION_converting);
	assert_int_equal(session->state, SESSION_failed);
	free(text);
	session_free(session);
	session_free(back);
}

/* With its checksum; takes text. */
static char *summed(char *text, const struct uuid *whose)
{
	uint32_t crc = file_crc32c(file_crc32c(0, whose, sizeof(*whose)), text, strlen(text));
	char *whole;

	assert_true(asprintf(&whole, "%s\ncrc32c %08x\n", text, crc) > 0);
	free(text);
	return whole;
}

/* The full record with one member changed. */
static char *record_with(const char *key, json_t *value)
{
	struct session *session = session_full(1);
	char *text = record_print(session, session->state);
	json_t *json = json_parse(text, strcspn(text, "\n"), NULL);

	free(text);
	session_free(session);
	if (value != NULL)
		json_object_set_new(json, key, value);
	else
		json_object_del(json, key);
	text = json_print(json);
	json_decref(json);
	return summed(text, &id);
}

static void refused(char *text, const char *field)
{
	struct err err = {0};

	assert_null(record_parse(&id, text, &err));
	assert_int_equal(err.code, EINVAL);
	assert_string_equal(err.field, field);
	assert_true(err.text[0] != '\0');
	free(text);
}

static void other_versions_are_refused(void **state)
{
	struct err err = {0};
	char *text;

	text = record_with("version", json_integer(RECORD_VERSION + 1));
	assert_null(record_parse(&id, text, &err));
	assert_int_equal(err.code, ENOTSUP);
	free(text);
	refused(record_with("version", json_integer(0)), "version");
	refused(record_with("version", json_string("1")), "version");
	refused(record_with("version", NULL), "version");
}

/* As daemons before version 2 left it. */
static void version_1_is_read(void **state)
{
	char *text = record_with("version", json_integer(1));
	struct session *session;

	refused(strdup(text), "checksum"); /* version 1 has none */
	text[strcspn(text, "\n")] = '\0';
	session = record_parse(&id, text, NULL);
	assert_non_null(session);
	assert_string_equal(session->owner, "ops");
	assert_int_equal(session->ledger.dropped[0], 101);
	session_free(session);
	free(text);
	text = record_with("version", json_integer(2));
	text[strcspn(text, "\n")] = '\0';
	refused(text, "checksum");
}

static void another_captures_record_is_refused(void **state)
{
	static const struct uuid other = {{2}};
	struct session *session = session_full(1);
	char *text = record_print(session, session->state);
	struct err err = {0};

	assert_null(record_parse(&other, text, &err));
	assert_string_equal(err.field, "checksum");
	free(text);
	session_free(session);
}

static void unknown_words_are_refused(void **state)
{
	static const char *const words[] = {"state", "reason", "dialect", "sample_mode",
		"direction", "output", "filter_engine"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		refused(record_with(words[i], json_string("sideways")), words[i]);
		refused(record_with(words[i], json_string("")), words[i]);
		refused(record_with(words[i], json_integer(1)), words[i]);
		refused(record_with(words[i], NULL), words[i]);
	}
}

static void too_many_and_too_long_ports_fit(void **state)
{
	json_t *ports = json_array();
	char name[CONFIG_NAME_MAX + 50];
	struct session *session;
	char *text;

	memset(name, 'b', sizeof(name));
	for (unsigned i = 0; i < CONFIG_PORTS_MAX + 10; i++)
		json_array_append_new(ports, json_stringn(name, sizeof(name)));
	text = record_with("ports", ports);
	session = record_parse(&id, text, NULL);
	assert_non_null(session);
	assert_int_equal(session->n_ports, CONFIG_PORTS_MAX);
	for (unsigned i = 0; i < CONFIG_PORTS_MAX; i++)
		assert_int_equal(strlen(session->port_names[i]), CONFIG_NAME_MAX - 1);
	session_free(session);
	free(text);
}

static void what_is_no_record_is_refused(void **state)
{
	static const char *const texts[] = {"", " ", "{}", "[]", "null", "1", "\"version\"", "{",
		"{\"version\":1}", "{\"version\":1,\"version\":1}", "\xff\xfe",
		"\ncrc32c 00000000\n", "{\"version\":1e0}"};

	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct err err = {0};

		assert_null(record_parse(&id, texts[i], &err));
		assert_true(err.code != 0);
	}
}

/* A record that a crash cut short, or a disk changed: never half a session, and never another one. */
static void damaged_records_do_no_harm(void **state)
{
	struct session *session = session_full(1);
	char *text = record_print(session, session->state);
	const size_t len = strlen(text);
	uint32_t x = 1;

	for (size_t cut = 0; cut < len; cut++) {
		char *part = strndup(text, cut);

		assert_null(record_parse(&id, part, NULL));
		free(part);
	}
	for (size_t at = 0; at < len; at++)
		for (unsigned bit = 0; bit < 8; bit++) {
			text[at] ^= 1 << bit;
			assert_null(record_parse(&id, text, NULL));
			text[at] ^= 1 << bit;
		}
	for (unsigned i = 0; i < 5000; i++) {
		char *bad = strdup(text);
		struct session *back;

		for (unsigned k = 0; k < 1 + i % 3; k++) {
			x = x * 1664525 + 1013904223;
			bad[(x >> 8) % len] = (char)(x >> 3);
		}
		back = record_parse(&id, bad, NULL);
		assert_true(back == NULL || strcmp(bad, text) == 0);
		if (back != NULL)
			session_free(back);
		free(bad);
	}
	free(text);
	session_free(session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_member_comes_back),
		cmocka_unit_test(an_empty_session_comes_back),
		cmocka_unit_test(every_word_comes_back),
		cmocka_unit_test(the_state_is_what_the_record_shall_say),
		cmocka_unit_test(other_versions_are_refused),
		cmocka_unit_test(version_1_is_read),
		cmocka_unit_test(another_captures_record_is_refused),
		cmocka_unit_test(unknown_words_are_refused),
		cmocka_unit_test(too_many_and_too_long_ports_fit),
		cmocka_unit_test(what_is_no_record_is_refused),
		cmocka_unit_test(damaged_records_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
