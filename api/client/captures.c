/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Commands on captures that are there: list, show, change, stop, watch, download, packets, delete.
 */
#include "api/client/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/client/capture.h"
#include "api/client/http.h"
#include "api/client/text.h"

#define WATCH_MS 500 /* on a terminal; a line a second otherwise */

struct list_options {
	const char *state;
	uint64_t limit;
	bool all;
};

struct download_options {
	const char *output;
	const char *format;
	bool partial;
};

struct watch_options {
	bool packets;
	bool raw;
};

struct packets_options {
	uint64_t offset;
	uint64_t limit;
};

/* Texts, so that 0 and nothing can be told apart. */
struct change_options {
	const char *name;
	const char *notes;
	const char *packets;
	const char *seconds;
};

static const struct flag no_flags[] = {{0}};
static const struct flag change_flags[] = {
	{0, "name", "TEXT", FLAG_TEXT, offsetof(struct change_options, name), "a name for people"},
	{0, "notes", "TEXT", FLAG_TEXT, offsetof(struct change_options, notes), "what this is for"},
	{'c', "packets", "N", FLAG_TEXT, offsetof(struct change_options, packets),
		"while it runs: end after exactly N packets in all; 0 is no limit"},
	{0, "seconds", "N", FLAG_TEXT, offsetof(struct change_options, seconds),
		"while it runs: end N seconds after its start; 0 is no limit"},
	{0},
};
static const struct flag list_flags[] = {
	{0, "state", "STATE", FLAG_TEXT, offsetof(struct list_options, state), "only these"},
	{'n', "limit", "N", FLAG_COUNT, offsetof(struct list_options, limit),
		"at most N, 1 to 1000 (100)"},
	{'a', "all", NULL, FLAG_YES, offsetof(struct list_options, all), "all there are"},
	{0},
};
static const struct flag download_flags[] = {
	{'w', "write", "FILE", FLAG_TEXT, offsetof(struct download_options, output),
		"where to; - is standard output; default ID.pcapng"},
	{0, "format", "FORMAT", FLAG_TEXT, offsetof(struct download_options, format),
		"pcapng (default) or pcap"},
	{0, "partial", NULL, FLAG_YES, offsetof(struct download_options, partial),
		"of a running capture, what there is so far"},
	{0},
};
static const struct flag watch_flags[] = {
	{0, "packets", NULL, FLAG_YES, offsetof(struct watch_options, packets),
		"the packets, a line each, instead of the ledger"},
	{0, "raw", NULL, FLAG_YES, offsetof(struct watch_options, raw),
		"the packets as pcapng: sluice watch --raw ID | wireshark -k -i -"},
	{0},
};
static const struct flag packets_flags[] = {
	{0, "offset", "N", FLAG_NUMBER, offsetof(struct packets_options, offset), "skip N packets"},
	{'n', "limit", "N", FLAG_COUNT, offsetof(struct packets_options, limit), "at most N"},
	{0},
};

static int list_run(struct client *client, const void *options, unsigned n_words, char **words);
static int show_run(struct client *client, const void *options, unsigned n_words, char **words);
static int change_run(struct client *client, const void *options, unsigned n_words, char **words);
static int stop_run(struct client *client, const void *options, unsigned n_words, char **words);
static int watch_run(struct client *client, const void *options, unsigned n_words, char **words);
static int download_run(struct client *client, const void *options, unsigned n_words, char **words);
static int packets_run(struct client *client, const void *options, unsigned n_words, char **words);
static int delete_run(struct client *client, const void *options, unsigned n_words, char **words);
static unsigned show_print(const json_t *capture);
static void list_row(struct table *table, const json_t *capture);

const struct command list_command = {
	"list", "", 0, 0, "captures, newest first", list_flags, list_run};
const struct command show_command = {
	"show", "ID...", 1, CLIENT_WORDS_MAX, "one capture with its ledger", no_flags, show_run};
const struct command change_command = {"change", "ID", 1, 1,
	"another name, notes, or limits while it runs", change_flags, change_run};
const struct command stop_command = {"stop", "ID...", 1, CLIENT_WORDS_MAX,
	"end captures; what they accepted is in their files then", no_flags, stop_run};
const struct command watch_command = {"watch", "ID", 1, 1,
	"the ledger or the packets, live until the capture ends", watch_flags, watch_run};
const struct command download_command = {
	"download", "ID", 1, 1, "fetch a capture's file", download_flags, download_run};
const struct command packets_command = {
	"packets", "ID", 1, 1, "a capture's packets as a list", packets_flags, packets_run};
const struct command delete_command = {"delete", "ID...", 1, CLIENT_WORDS_MAX,
	"stop captures if needed and remove their files", no_flags, delete_run};

/* One page of the list: the one behind cursor. */
static int list_page(
	struct client *client, const struct list_options *list, const char *cursor, json_t **out)
{
	char *state = http_escape(list->state != NULL ? list->state : "");
	char *after = http_escape(cursor), *path = NULL;
	uint64_t limit = list->limit != 0 ? list->limit : list->all ? 1000 : 100;
	int rc = CLIENT_REFUSED;

	if (state != NULL && after != NULL &&
		asprintf(&path, "/api/v1/captures?limit=%" PRIu64 "%s%s%s%s", limit,
			*state != '\0' ? "&state=" : "", state, *after != '\0' ? "&cursor=" : "",
			after) >= 0)
		rc = http_call(client, "GET", path, NULL, out);
	free(path);
	free(after);
	free(state);
	return rc;
}

static int list_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	static const char *const titles[] = {"ID", "STATE", "NAME", "PORTS", "STARTED", ">PACKETS",
		">DURABLE", ">DROPPED", ">SIZE", "FILTER"};
	const struct list_options *list = options;
	char cursor[256] = "";
	struct table table;
	json_t *page, *capture;
	size_t i;
	int rc;

	table_begin(&table, sizeof(titles) / sizeof(titles[0]), titles);
	do {
		rc = list_page(client, list, cursor, &page);
		if (rc != CLIENT_OK)
			break;
		snprintf(cursor, sizeof(cursor), "%s", text_string(page, "next"));
		if (client->json)
			client_print_json(page);
		json_array_foreach (json_object_get(page, "captures"), i, capture) {
			list_row(&table, capture);
		}
		json_decref(page);
	} while (list->all && *cursor != '\0');
	if (rc == CLIENT_OK && !client->json) {
		table_print(&table);
		if (*cursor != '\0' && isatty(STDOUT_FILENO))
			puts("There are more: --all shows them.");
	} else {
		table_free(&table);
	}
	return rc;
}

/* An upload takes its time: how far it is stands beside it. */
static const char *state_text(char out[TEXT_SIZE], const json_t *capture)
{
	const json_t *upload = json_object_get(capture, "upload");
	const uint64_t total = text_number(upload, "total_bytes");

	snprintf(out, TEXT_SIZE, "%s", text_string(capture, "state"));
	if (strcmp(out, "uploading") == 0 && total != 0)
		snprintf(out, TEXT_SIZE, "uploading %" PRIu64 "%%",
			(uint64_t)((double)text_number(upload, "bytes") * 100 / total));
	return out;
}

static void list_row(struct table *table, const json_t *capture)
{
	const json_t *ledger = json_object_get(capture, "ledger");
	char text[TEXT_SIZE], ports[128], filter[40];

	table_cell(table, text_string(capture, "id"));
	table_cell(table, state_text(text, capture));
	table_cell(table, text_string(capture, "name"));
	table_cell(table, text_joined(ports, sizeof(ports), json_object_get(capture, "ports")));
	table_cell(table, text_time(text, json_object_get(capture, "started_at")));
	table_cell(table, text_si(text, text_number(ledger, "written"), ""));
	table_cell(table, text_si(text, text_number(ledger, "durable"), ""));
	table_cell(table, text_si(text, text_dropped(ledger), ""));
	table_cell(table, text_si(text, text_number(capture, "size_bytes"), "B"));
	snprintf(filter, sizeof(filter), "%s", text_string(capture, "filter"));
	table_cell(table, filter);
}

static int show_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	int rc = CLIENT_OK;
	json_t *capture;

	for (unsigned i = 0; i < n_words && rc == CLIENT_OK; i++) {
		rc = capture_get(client, words[i], &capture);
		if (rc != CLIENT_OK)
			break;
		if (client->json)
			client_print_json(capture);
		else
			show_print(capture);
		json_decref(capture);
	}
	return rc;
}

static unsigned line_print(const char *name, const char *value)
{
	if (value == NULL || *value == '\0')
		return 0;
	printf("%-13s %s\n", name, value);
	return 1;
}

/* The members of a ledger in the order of the books. */
static const char *const ledger_members[] = {"offered", "filtered", "sampled_out", "over_limit",
	"accepted", "written", "durable", "in_flight", "unknown"};

/* After a recovery: what is not known may be more. */
static unsigned unknown_print(const json_t *ledger)
{
	const json_t *most = json_object_get(ledger, "unknown_max");
	char line[64], digits[TEXT_SIZE];

	if (json_is_null(most))
		return line_print("", "             unknown: nobody knows the most");
	if (!json_is_integer(most) ||
		text_number(ledger, "unknown_max") == text_number(ledger, "unknown"))
		return 0;
	snprintf(line, sizeof(line), "%20s at most",
		text_digits(digits, text_number(ledger, "unknown_max")));
	return line_print("", line);
}

/* Seconds may have a fraction. */
static const char *limit_text(char out[TEXT_SIZE], const json_t *limit)
{
	if (!json_is_real(limit))
		return text_digits(out, json_integer_value(limit));
	snprintf(out, TEXT_SIZE, "%.9g", json_real_value(limit));
	return out;
}

/* What was taken back of what it asked for, and what happened to it. */
static unsigned events_print(const json_t *capture)
{
	const json_t *degraded = json_object_get(capture, "degraded");
	const json_t *to = json_object_get(degraded, "to");
	char line[512], since[TEXT_SIZE], digits[TEXT_SIZE];
	unsigned n = 0;
	json_t *event;
	size_t i;

	if (json_is_object(degraded)) {
		snprintf(line, sizeof(line), "since %s: snaplen %s, 1 packet in %" PRIu64,
			text_time(since, json_object_get(degraded, "since")),
			text_digits(digits, text_number(to, "snaplen")),
			text_number(json_object_get(to, "sampling"), "n"));
		n += line_print("degraded", line);
	}
	json_array_foreach (json_object_get(capture, "events"), i, event) {
		snprintf(line, sizeof(line), "%s  %.400s",
			text_time(since, json_object_get(event, "at")), text_string(event, "text"));
		n += line_print(i == 0 ? "events" : "", line);
	}
	return n;
}

/* Where its object is, and how far that is. */
static unsigned upload_print(const json_t *capture)
{
	const json_t *upload = json_object_get(capture, "upload");
	char line[512], done[TEXT_SIZE], total[TEXT_SIZE], at[TEXT_SIZE];
	unsigned n;

	if (!json_is_object(upload))
		return 0;
	n = line_print("object", text_string(upload, "url"));
	snprintf(line, sizeof(line), "%s, %s of %s, %" PRIu64 " attempts",
		text_string(upload, "state"), text_si(done, text_number(upload, "bytes"), "B"),
		text_si(total, text_number(upload, "total_bytes"), "B"),
		text_number(upload, "attempts"));
	n += line_print("upload", line);
	if (*text_string(upload, "message") != '\0') {
		snprintf(line, sizeof(line), "%.400s", text_string(upload, "message"));
		n += line_print("", line);
	}
	if (*text_string(upload, "next_at") != '\0')
		n += line_print("next attempt", text_time(at, json_object_get(upload, "next_at")));
	if (json_is_false(json_object_get(upload, "local")))
		n += line_print("", "the local file was removed after that");
	return n;
}

/* Returns how many lines it took, for watch to go back. */
static unsigned show_print(const json_t *capture)
{
	const json_t *ledger = json_object_get(capture, "ledger");
	const json_t *sampling = json_object_get(capture, "sampling");
	const json_t *limits = json_object_get(capture, "limits");
	static const char *const texts[] = {
		"id", "name", "notes", "account", "owner", "dialect", "replaces"};
	static const char *const times[] = {"created_at", "started_at", "ended_at"};
	char line[512], digits[TEXT_SIZE], si[TEXT_SIZE];
	unsigned n = 0;
	const char *name;
	json_t *value;

	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		n += line_print(texts[i], text_string(capture, texts[i]));
	snprintf(line, sizeof(line), "%s%s%s", text_string(capture, "state"),
		*text_string(capture, "reason") != '\0' ? ", " : "",
		text_string(capture, "reason"));
	n += line_print("state", line);
	n += line_print("message", text_string(capture, "message"));
	n += upload_print(capture);
	n += line_print(
		"ports", text_joined(line, sizeof(line), json_object_get(capture, "ports")));
	snprintf(line, sizeof(line), "%.400s  (%s)", text_string(capture, "filter"),
		text_string(capture, "filter_engine"));
	n += line_print("filter", *text_string(capture, "filter") != '\0' ? line : "");
	if (strcmp(text_string(sampling, "mode"), "none") != 0) {
		snprintf(line, sizeof(line), "%s, 1 in %" PRIu64, text_string(sampling, "mode"),
			text_number(sampling, "n"));
		n += line_print("sampling", line);
	}
	if (text_number(sampling, "rate_pps") != 0) {
		snprintf(line, sizeof(line), "%" PRIu64 " packets a second",
			text_number(sampling, "rate_pps"));
		n += line_print("at most", line);
	}
	n += line_print("snaplen", text_digits(digits, text_number(capture, "snaplen")));
	n += line_print("direction", text_string(capture, "direction"));
	json_object_foreach ((json_t *)limits, name, value) {
		if (json_number_value(value) == 0)
			continue;
		snprintf(line, sizeof(line), "limit %s", name);
		n += line_print(line, limit_text(digits, value));
	}
	for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		snprintf(line, sizeof(line), "%.*s", (int)strlen(times[i]) - 3, times[i]);
		n += line_print(line, text_time(digits, json_object_get(capture, times[i])));
	}
	snprintf(line, sizeof(line), "%s (%s)",
		text_digits(digits, text_number(capture, "size_bytes")),
		text_si(si, text_number(capture, "size_bytes"), "B"));
	n += line_print("size", line);
	for (unsigned i = 0; i < sizeof(ledger_members) / sizeof(ledger_members[0]); i++) {
		snprintf(line, sizeof(line), "%20s",
			text_digits(digits, text_number(ledger, ledger_members[i])));
		n += line_print(ledger_members[i], line);
	}
	n += unknown_print(ledger);
	snprintf(line, sizeof(line), "%20s", text_digits(digits, text_dropped(ledger)));
	n += line_print("dropped", line);
	n += line_print("", text_drop_reasons(line, sizeof(line), ledger));
	n += events_print(capture);
	return n;
}

static int stop_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	int rc = CLIENT_OK;
	json_t *capture;

	for (unsigned i = 0; i < n_words && rc == CLIENT_OK; i++) {
		rc = capture_stop(client, words[i], &capture);
		if (rc != CLIENT_OK)
			break;
		if (client->json)
			client_print_json(capture);
		json_decref(capture);
	}
	return rc;
}

/* One line a second where nobody can go back. */
static void watch_line(const json_t *capture)
{
	const json_t *ledger = json_object_get(capture, "ledger");

	printf("%s offered %" PRIu64 " accepted %" PRIu64 " written %" PRIu64 " durable %" PRIu64
	       " in_flight %" PRIu64 " dropped %" PRIu64 "\n",
		text_string(capture, "state"), text_number(ledger, "offered"),
		text_number(ledger, "accepted"), text_number(ledger, "written"),
		text_number(ledger, "durable"), text_number(ledger, "in_flight"),
		text_dropped(ledger));
	fflush(stdout);
}

/* What the daemon sends goes out as it is. */
static int watch_packets(struct client *client, const char *id, bool raw)
{
	char *path;
	int rc;

	if (raw && isatty(STDOUT_FILENO))
		return client_fail(
			CLIENT_USAGE, "--raw is for a pipe or a file, not for a terminal");
	path = http_capture_path(id, raw ? "/live" : "/live?format=text");
	rc = http_download(client, path, STDOUT_FILENO, NULL, NULL);
	free(path);
	return rc;
}

static int watch_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	const struct watch_options *watch = options;
	bool terminal = isatty(STDOUT_FILENO) && !client->json, closed = false;
	unsigned lines = 0;
	json_t *capture;
	int rc;

	if (watch->packets || watch->raw)
		return watch_packets(client, words[0], watch->raw);
	while (!closed) {
		rc = capture_get(client, words[0], &capture);
		if (rc != CLIENT_OK)
			return rc;
		closed = capture_closed(capture);
		if (terminal && lines > 0)
			printf("\033[%uA\033[J", lines);
		if (terminal)
			lines = show_print(capture);
		else if (client->json)
			client_print_json(capture);
		else
			watch_line(capture);
		fflush(stdout);
		json_decref(capture);
		if (!closed)
			usleep((terminal ? WATCH_MS : 1000) * 1000);
	}
	return CLIENT_OK;
}

static int download_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	const struct download_options *download = options;
	const char *format = download->format != NULL ? download->format : "pcapng";
	struct capture_output output;
	char *query = NULL, *name = NULL, *escaped = http_escape(format);
	int rc, closing;

	if (escaped == NULL ||
		asprintf(&query, "?format=%s%s", escaped, download->partial ? "&partial=1" : "") <
			0 ||
		asprintf(&name, "%s.%s", words[0], format) < 0)
		return client_fail(CLIENT_REFUSED, "no memory");
	if (download->output == NULL && strchr(name, '/') != NULL) {
		rc = client_fail(CLIENT_USAGE, "%s is no name for a file, give one with -w", name);
		goto out;
	}
	rc = capture_output_open(&output, download->output != NULL ? download->output : name);
	if (rc != CLIENT_OK)
		goto out;
	http_interrupts_catch();
	http_interrupts = 1; /* there is nothing to stop first: Ctrl-C ends a download */
	rc = capture_fetch(client, words[0], query, false, &output);
	closing = capture_output_finish(&output, rc == CLIENT_OK);
	if (rc == CLIENT_OK)
		rc = closing;
	if (rc == CLIENT_OK && download->output == NULL)
		puts(name);
out:
	free(escaped);
	free(query);
	free(name);
	return rc;
}

static int packets_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	static const char *const titles[] = {
		">NUMBER", "TIME", "SOURCE", "DESTINATION", "PROTOCOL", ">LENGTH", "INFO"};
	const struct packets_options *packets = options;
	char rest[80], number[TEXT_SIZE], end[128], *path;
	json_t *answer, *packet;
	struct table table;
	size_t i;
	int rc;

	snprintf(rest, sizeof(rest), "/packets?offset=%" PRIu64 "&limit=%" PRIu64, packets->offset,
		packets->limit != 0 ? packets->limit : 100);
	path = http_capture_path(words[0], rest);
	rc = http_call(client, "GET", path, NULL, &answer);
	free(path);
	if (rc != CLIENT_OK)
		return rc;
	if (client->json) {
		client_print_json(answer);
		json_decref(answer);
		return rc;
	}
	table_begin(&table, sizeof(titles) / sizeof(titles[0]), titles);
	json_array_foreach (json_object_get(answer, "packets"), i, packet) {
		bool ip = *text_string(packet, "src_ip") != '\0';

		table_cell(&table, text_digits(number, text_number(packet, "number")));
		table_cell(&table, text_string(packet, "time"));
		for (unsigned side = 0; side < 2; side++) {
			const char *address =
				text_string(packet, side == 0 ? (ip ? "src_ip" : "src_mac")
							      : (ip ? "dst_ip" : "dst_mac"));
			uint64_t port = text_number(packet, side == 0 ? "src_port" : "dst_port");

			if (port != 0)
				snprintf(end, sizeof(end), "%s.%" PRIu64, address, port);
			table_cell(&table, port != 0 ? end : address);
		}
		table_cell(&table, text_string(packet, "protocol"));
		table_cell(&table, text_digits(number, text_number(packet, "length")));
		table_cell(&table, text_string(packet, "info"));
	}
	table_print(&table);
	json_decref(answer);
	return rc;
}

static bool number_put(json_t *object, const char *name, const char *text)
{
	json_t *number = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

	if (text == NULL)
		return true;
	if (!json_is_number(number)) {
		json_decref(number);
		client_fail(CLIENT_USAGE, "--%s: \"%s\" is no number", name, text);
		return false;
	}
	json_object_set_new(object, name, number);
	return true;
}

static bool text_put(json_t *object, const char *name, const char *text)
{
	if (text == NULL || json_object_set_new(object, name, json_string(text)) == 0)
		return true;
	client_fail(CLIENT_USAGE, "--%s: is not valid UTF-8", name);
	return false;
}

static int change_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	const struct change_options *change = options;
	json_t *patch = json_object(), *limits = json_object(), *capture = NULL;
	char *path = http_capture_path(words[0], "");
	int rc = CLIENT_USAGE;

	if (!text_put(patch, "name", change->name) || !text_put(patch, "notes", change->notes) ||
		!number_put(limits, "packets", change->packets) ||
		!number_put(limits, "seconds", change->seconds))
		goto out;
	if (json_object_size(limits) > 0)
		json_object_set(patch, "limits", limits);
	rc = http_call(client, "PATCH", path, json_incref(patch), &capture);
	if (rc == CLIENT_OK && client->json)
		client_print_json(capture);
out:
	json_decref(capture);
	json_decref(limits);
	json_decref(patch);
	free(path);
	return rc;
}

static int delete_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	int rc = CLIENT_OK;

	for (unsigned i = 0; i < n_words && rc == CLIENT_OK; i++) {
		char *path = http_capture_path(words[i], "");

		rc = http_call(client, "DELETE", path, NULL, NULL);
		free(path);
	}
	return rc;
}
