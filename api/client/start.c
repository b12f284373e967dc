/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * sluice start: tcpdump's flags. Without -w it prints the id and returns; with -w it stays until
 * the capture ends and leaves the file.
 */
#include "api/client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/client/capture.h"
#include "api/client/http.h"
#include "api/client/text.h"

struct start_options {
	struct client_list ports;
	const char *output;
	uint64_t packets;
	uint64_t snaplen;
	const char *direction;
	double seconds;
	uint64_t bytes;
	uint64_t expect;
	const char *sample;
	uint64_t rate;
	const char *replaces;
	const char *stream;
	const char *encapsulation;
	const char *bucket;
	const char *name;
	const char *notes;
};
_Static_assert(sizeof(struct start_options) <= CLIENT_OPTIONS_SIZE, "main.c makes the room");

#define O(member) offsetof(struct start_options, member)
static const struct flag start_flags[] = {
	{'i', "port", "PORT", FLAG_LIST, O(ports),
		"capture on it; may be repeated; default: all ports"},
	{'w', "write", "FILE", FLAG_TEXT, O(output),
		"stay until the end, then leave the capture there; - is standard output"},
	{'c', "packets", "N", FLAG_NUMBER, O(packets),
		"end after exactly N packets; 0 is no limit"},
	{'s', "snaplen", "N", FLAG_NUMBER, O(snaplen),
		"keep the first N bytes of a packet; 0 is all of it, the default"},
	{'Q', "direction", "DIR", FLAG_TEXT, O(direction), "in, out or inout (default)"},
	{0, "seconds", "N", FLAG_REAL, O(seconds),
		"end after N seconds, such as 10 or 0.5; 0 is no limit"},
	{0, "bytes", "N", FLAG_SIZE, O(bytes),
		"end before more than N captured bytes (K M G T); 0 is no limit"},
	{0, "expect", "N", FLAG_SIZE, O(expect),
		"bytes a second (K M G T) that will come: checked against what the disk takes"},
	{0, "sample", "MODE:N", FLAG_TEXT, O(sample), "every:N, random:N or flow:N: one in N"},
	{0, "rate", "N", FLAG_NUMBER, O(rate), "keep at most N packets a second; 0 is all"},
	{0, "replaces", "ID", FLAG_TEXT, O(replaces),
		"delete that capture once this one has a packet"},
	{0, "stream", "ADDRESS", FLAG_TEXT, O(stream),
		"send packets there instead of keeping them; ADDRESS:PORT or [V6]:PORT for a port"},
	{0, "encapsulation", "NAME", FLAG_TEXT, O(encapsulation),
		"of a stream: gre (in UDP, default) or tzsp"},
	{0, "bucket", "NAME[/PREFIX]", FLAG_TEXT, O(bucket),
		"upload the file to that [bucket] of the daemon's configuration when it is closed"},
	{0, "name", "TEXT", FLAG_TEXT, O(name), "a name for people"},
	{0, "notes", "TEXT", FLAG_TEXT, O(notes), "what this is for"},
	{0},
};

static int start_run(struct client *client, const void *options, unsigned n_words, char **words);
static json_t *spec_make(const struct start_options *options, unsigned n_words, char **words);
static bool sampling_set(json_t *spec, const struct start_options *options);
static bool sample_parse(json_t *sampling, const char *text);
static bool stream_set(json_t *spec, const struct start_options *options);
static bool bucket_set(json_t *spec, const struct start_options *options);
static bool direction_parse(const char *text, const char **direction);
static char *words_join(unsigned n_words, char **words);
static int capture_to_file(struct client *client, json_t *spec, const char *path);
static int finished(struct client *client, const json_t *capture, const char *path, int rc);

const struct command start_command = {
	.name = "start",
	.words = "[FILTER...]",
	.words_max = CLIENT_WORDS_MAX,
	.help = "start a capture; with -w stay until it ends (Ctrl-C stops it) and leave its file",
	.flags = start_flags,
	.run = start_run,
};

static int start_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	const struct start_options *start = options;
	json_t *spec = spec_make(start, n_words, words), *capture;
	int rc;

	if (spec == NULL)
		return CLIENT_USAGE;
	if (start->output != NULL)
		return capture_to_file(client, spec, start->output);
	rc = http_call(client, "POST", "/api/v1/captures", spec, &capture);
	if (rc == CLIENT_OK && client->json)
		client_print_json(capture);
	else if (rc == CLIENT_OK)
		puts(text_string(capture, "id"));
	json_decref(capture);
	return rc;
}

static void number_set(json_t *object, const char *name, uint64_t number)
{
	if (number != 0)
		json_object_set_new(object, name, json_integer((json_int_t)number));
}

/* False when text is not UTF-8: a member that silently went missing would be a wider capture. */
static bool text_set(json_t *object, const char *name, const char *text)
{
	if (text == NULL || *text == '\0')
		return true;
	if (json_object_set_new(object, name, json_string(text)) == 0)
		return true;
	client_fail(CLIENT_USAGE, "%s: is not valid UTF-8", name);
	return false;
}

static bool texts_set(json_t *spec, const struct start_options *options, const char *filter)
{
	const char *direction;

	return direction_parse(options->direction, &direction) &&
	       text_set(spec, "direction", direction) && text_set(spec, "filter", filter) &&
	       text_set(spec, "replaces", options->replaces) &&
	       text_set(spec, "name", options->name) && text_set(spec, "notes", options->notes);
}

static bool ports_set(json_t *spec, const struct client_list *ports)
{
	json_t *list = json_array();
	bool good = true;

	for (unsigned i = 0; i < ports->n && good; i++)
		good = json_array_append_new(list, json_string(ports->item[i])) == 0;
	if (!good)
		client_fail(CLIENT_USAGE, "-i: is not valid UTF-8");
	if (ports->n > 0)
		json_object_set(spec, "ports", list);
	json_decref(list);
	return good;
}

/* The request; NULL when something was wrong with what was typed, and said. */
static json_t *spec_make(const struct start_options *options, unsigned n_words, char **words)
{
	json_t *spec = json_object(), *limits = json_object();
	char *filter = words_join(n_words, words);
	bool good;

	json_object_set_new(spec, "limits", limits);
	number_set(limits, "packets", options->packets);
	if (options->seconds > 0)
		json_object_set_new(limits, "seconds", json_number(options->seconds));
	number_set(limits, "bytes", options->bytes);
	number_set(spec, "snaplen", options->snaplen);
	if (options->expect != 0)
		json_object_set_new(spec, "expected",
			json_pack("{sI}", "bytes_per_second", (json_int_t)options->expect));
	good = filter != NULL && ports_set(spec, &options->ports) &&
	       texts_set(spec, options, filter) && sampling_set(spec, options) &&
	       stream_set(spec, options) && bucket_set(spec, options);
	free(filter);
	if (good)
		return spec;
	json_decref(spec);
	return NULL;
}

static bool sampling_set(json_t *spec, const struct start_options *options)
{
	json_t *sampling = json_object();
	bool good = options->sample == NULL || sample_parse(sampling, options->sample);

	number_set(sampling, "rate_pps", options->rate);
	if (json_object_size(sampling) > 0)
		json_object_set(spec, "sampling", sampling);
	json_decref(sampling);
	return good;
}

/* "192.0.2.1", "192.0.2.1:4754", "2001:db8::1", "[2001:db8::1]:4754" */
static bool stream_set(json_t *spec, const struct start_options *options)
{
	const char *text = options->stream, *colon, *port = NULL;
	size_t len;
	json_t *output;

	if (text == NULL)
		return true;
	if (options->output != NULL) {
		client_fail(CLIENT_USAGE, "--stream: leaves no file for -w");
		return false;
	}
	colon = strrchr(text, ':');
	len = strlen(text);
	if (*text == '[' && strchr(text, ']') != NULL) {
		text++;
		len = strchr(text, ']') - text;
		port = text[len + 1] == ':' ? text + len + 2 : NULL;
	} else if (colon != NULL && strchr(text, ':') == colon) {
		len = colon - text;
		port = colon + 1;
	}
	output = json_object();
	json_object_set_new(output, "type", json_string("stream"));
	json_object_set_new(output, "address", json_stringn(text, len));
	if (port != NULL)
		json_object_set_new(output, "port", json_integer(strtoll(port, NULL, 10)));
	if (options->encapsulation != NULL)
		json_object_set_new(output, "encapsulation", json_string(options->encapsulation));
	json_object_set_new(spec, "output", output);
	return true;
}

/* "evidence", "evidence/case 17/host" */
static bool bucket_set(json_t *spec, const struct start_options *options)
{
	const char *slash = options->bucket != NULL ? strchr(options->bucket, '/') : NULL;
	json_t *output, *bucket, *prefix = NULL;

	if (options->bucket == NULL)
		return true;
	if (options->stream != NULL) {
		client_fail(CLIENT_USAGE, "--bucket: a capture with --stream has no file");
		return false;
	}
	bucket = json_stringn(options->bucket,
		slash != NULL ? (size_t)(slash - options->bucket) : strlen(options->bucket));
	if (slash != NULL)
		prefix = json_string(slash + 1);
	if (bucket == NULL || (slash != NULL && prefix == NULL)) {
		json_decref(bucket);
		json_decref(prefix);
		client_fail(CLIENT_USAGE, "--bucket: is not valid UTF-8");
		return false;
	}
	output = json_object();
	json_object_set_new(output, "type", json_string("s3"));
	json_object_set_new(output, "bucket", bucket);
	if (prefix != NULL)
		json_object_set_new(output, "prefix", prefix);
	json_object_set_new(spec, "output", output);
	return true;
}

/* "flow:100" */
static bool sample_parse(json_t *sampling, const char *text)
{
	const char *colon = strchr(text, ':');
	json_t *mode;
	char *end = NULL;
	long long n;

	mode = colon != NULL ? json_stringn(text, colon - text) : NULL;
	n = colon != NULL ? strtoll(colon + 1, &end, 10) : 0;
	if (n <= 0 || *end != '\0' || mode == NULL) {
		json_decref(mode);
		client_fail(
			CLIENT_USAGE, "--sample: %s, allowed: every:N, random:N or flow:N", text);
		return false;
	}
	json_object_set_new(sampling, "mode", mode);
	json_object_set_new(sampling, "n", json_integer(n));
	return true;
}

/* tcpdump's words to the API's. */
static bool direction_parse(const char *text, const char **direction)
{
	static const char *const words[][2] = {
		{"in", "in"}, {"out", "out"}, {"inout", "both"}, {"both", "both"}};

	*direction = NULL;
	for (unsigned i = 0; text != NULL && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i][0]) == 0)
			*direction = words[i][1];
	if (text != NULL && *direction == NULL)
		client_fail(CLIENT_USAGE, "-Q: %s, allowed: in, out or inout", text);
	return text == NULL || *direction != NULL;
}

/* As tcpdump does, so that a filter needs no quotes. */
static char *words_join(unsigned n_words, char **words)
{
	char *joined = NULL;
	size_t size;
	FILE *out = open_memstream(&joined, &size);

	if (out == NULL)
		return NULL;
	for (unsigned i = 0; i < n_words; i++)
		fprintf(out, "%s%s", i > 0 ? " " : "", words[i]);
	fclose(out);
	return joined;
}

/* The file is opened first: a capture that cannot be kept is not begun. */
static int capture_to_file(struct client *client, json_t *spec, const char *path)
{
	struct capture_output output;
	json_t *capture = NULL;
	char id[64];
	int rc = capture_output_open(&output, path), closing;

	if (rc != CLIENT_OK) {
		json_decref(spec);
		return rc;
	}
	http_interrupts_catch();
	rc = http_call(client, "POST", "/api/v1/captures", spec, &capture);
	if (rc == CLIENT_OK) {
		snprintf(id, sizeof(id), "%s", text_string(capture, "id"));
		json_decref(capture);
		rc = capture_wait(client, id, &capture);
		if (rc == CLIENT_OK)
			rc = capture_fetch(client, id, "", true, &output);
		if (rc == CLIENT_NO_SERVER)
			client_fail(rc, "the capture is %s", id);
	}
	closing = capture_output_finish(&output, rc == CLIENT_OK);
	if (rc == CLIENT_OK)
		rc = closing;
	if (capture != NULL)
		rc = finished(client, capture, path, rc);
	json_decref(capture);
	return rc;
}

/* What tcpdump says at the end, on a terminal; losses always. */
static int finished(struct client *client, const json_t *capture, const char *path, int rc)
{
	const json_t *ledger = json_object_get(capture, "ledger");
	const char *message = text_string(capture, "message");
	char written[TEXT_SIZE], dropped[TEXT_SIZE], reasons[256];

	if (client->json && strcmp(path, "-") != 0)
		client_print_json(capture);
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "%s packets captured (%s)\n",
			text_digits(written, text_number(ledger, "written")),
			text_string(capture, "reason"));
	if (text_dropped(ledger) > 0)
		fprintf(stderr, "%s packets dropped: %s\n",
			text_digits(dropped, text_dropped(ledger)),
			text_drop_reasons(reasons, sizeof(reasons), ledger));
	if (strcmp(text_string(capture, "state"), "failed") == 0)
		return client_fail(CLIENT_REFUSED, "the capture failed: %s: %s",
			text_string(capture, "reason"), message);
	return rc;
}
