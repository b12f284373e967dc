/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The text of HTTP/1.1 without a socket: every case of tests/api/http11.jsonl, whole and in pieces of every
 * size up to seventeen bytes, and what that list cannot ask for. What a server makes of a request that is
 * good HTTP is tests/e2e/test_http.py's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "config/json.h"
#include "api/http.h"

#define CASES_FILE SOURCE_DIR "/tests/api/http11.jsonl"
#define CASES_MIN  190
#define PIECE_MAX  17
#define BODY_MAX   (1 << 20) /* the server's, whose refusal 413 of a longer one is listed, too */

/* What came of some bytes: good requests, and the refusal of the one behind them. */
struct outcome {
	unsigned n_good;
	int refusal; /* 0: none */
	size_t body_len;
};

/* Bytes on their way: those of a buffer that arrive piece by piece. */
struct stream {
	const char *data;
	size_t len, at, have, step;
};

static bool stream_more(struct stream *stream)
{
	if (stream->have == stream->len)
		return false;
	stream->have += stream->len - stream->have < stream->step ? stream->len - stream->have
								  : stream->step;
	return true;
}

/* A head from a copy of just its bytes, so that a byte too far is seen. */
static ssize_t head_read(struct stream *stream, struct http_head *head, char **copy)
{
	struct http_scan scan = {0};
	ssize_t len;
	int rc;

	*copy = NULL;
	do
		len = http_head_scan(&scan, stream->data + stream->at, stream->have - stream->at);
	while (len == 0 && stream_more(stream));
	if (len <= 0)
		return len;
	*copy = malloc((size_t)len + 1);
	memcpy(*copy, stream->data + stream->at, (size_t)len);
	(*copy)[len] = '\0';
	stream->at += (size_t)len;
	rc = http_head_parse(head, *copy, (size_t)len);
	return rc < 0 ? rc : len;
}

/* 1: all of it is there, 0: it is not, or a refusal. */
static int chunked_read(struct stream *stream, size_t *body_len)
{
	struct http_chunks chunks = {0};
	int rc;

	do {
		do {
			size_t used, len;

			rc = http_chunks_read(&chunks, stream->data + stream->at,
				stream->have - stream->at, &used, &len);
			if (rc < 0)
				return rc;
			stream->at += used;
			*body_len += len;
			if (*body_len > BODY_MAX)
				return -413;
		} while (rc == 0 && stream->at < stream->have);
	} while (rc == 0 && stream_more(stream));
	return rc;
}

static int body_read(struct stream *stream, const struct http_head *head, size_t *body_len)
{
	if (head->framing == HTTP_NO_BODY)
		return 1;
	if (head->framing == HTTP_CHUNKED)
		return chunked_read(stream, body_len);
	if (head->length > BODY_MAX)
		return -413;
	while (stream->have - stream->at < head->length)
		if (!stream_more(stream))
			return 0;
	stream->at += head->length;
	*body_len += head->length;
	return 1;
}

static struct outcome outcome_of(const char *data, size_t len, size_t step)
{
	struct stream stream = {.data = data, .len = len, .step = step};
	struct outcome outcome = {0};
	static struct http_head head;
	bool keep = true;

	while (keep && (stream.at < stream.have || stream_more(&stream))) {
		char *copy;
		ssize_t rc = head_read(&stream, &head, &copy);

		if (rc > 0)
			rc = body_read(&stream, &head, &outcome.body_len);
		keep = rc > 0 && head.keep;
		outcome.n_good += rc > 0;
		outcome.refusal = rc < 0 ? (int)-rc : 0;
		free(copy);
		if (rc == 0)
			break;
	}
	return outcome;
}

/* Text stands for bytes, one each; ["text", n] for n times the text. */
static char *octets(const json_t *send, size_t *len)
{
	const size_t n = json_is_array(send) ? json_array_size(send) : 1;
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	for (size_t i = 0; i < n; i++) {
		const json_t *part = json_is_array(send) ? json_array_get(send, i) : send;
		const json_t *unit = json_is_array(part) ? json_array_get(part, 0) : part;
		const json_int_t times =
			json_is_array(part) ? json_integer_value(json_array_get(part, 1)) : 1;

		for (json_int_t k = 0; k < times; k++)
			for (size_t b = 0; b < json_string_length(unit); b++) {
				uint8_t c = (uint8_t)json_string_value(unit)[b];

				if (c >= 0xc0) /* U+0080 to U+00FF, in two bytes */
					c = (uint8_t)(c << 6 |
						      (json_string_value(unit)[++b] & 0x3f));
				fputc(c, out);
			}
	}
	fclose(out);
	return text;
}

/* Which refusals are those of the text: the others are said of a good request. */
static bool is_of_the_text(int status)
{
	static const int ours[] = {400, 413, 414, 417, 431, 505};

	for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (ours[i] == status)
			return true;
	return false;
}

static void case_check(const json_t *one)
{
	const char *name = json_string_value(json_object_get(one, "name"));
	const json_t *answers = json_object_get(one, "answers");
	const size_t n = json_array_size(answers);
	const int last = (int)json_integer_value(json_array_get(answers, n - 1));
	struct outcome whole, pieces;
	size_t len;
	char *data = octets(json_object_get(one, "send"), &len);

	whole = outcome_of(data, len, len);
	for (size_t step = 1; step <= PIECE_MAX; step++) {
		pieces = outcome_of(data, len, step);
		if (pieces.n_good != whole.n_good || pieces.refusal != whole.refusal ||
			(whole.refusal == 0 && pieces.body_len != whole.body_len))
			fail_msg("%s: %u good, then %d, and in pieces of %zu %u good, then %d",
				name, whole.n_good, whole.refusal, step, pieces.n_good,
				pieces.refusal);
	}
	if (whole.refusal != 0 && (whole.refusal != last || whole.n_good != n - 1))
		fail_msg("%s: %u good, then %d, not %d", name, whole.n_good, whole.refusal, last);
	/* 400 is also said of a path that cannot be decoded. */
	if (whole.refusal == 0 && is_of_the_text(last) && last != 400)
		fail_msg("%s: is taken, and not refused with %d", name, last);
	if (whole.refusal == 0 && last < 300 && whole.n_good < n)
		fail_msg("%s: %u requests, not %zu", name, whole.n_good, n);
	free(data);
}

static void every_listed_case_is_read_as_listed(void **state)
{
	FILE *file = fopen(CASES_FILE, "r");
	char *line = NULL;
	unsigned n = 0;
	size_t size = 0;

	assert_non_null(file);
	for (ssize_t len; (len = getline(&line, &size, file)) > 0; n++) {
		json_t *one = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);

		assert_non_null(one);
		case_check(one);
		json_decref(one);
	}
	free(line);
	fclose(file);
	assert_true(n >= CASES_MIN);
}

/* Parse text; the head points into static memory. */
static int parsed(struct http_head *head, const char *text)
{
	static char copy[HTTP_HEAD_MAX + 1];
	struct http_scan scan = {0};
	const size_t len = strlen(text);

	assert_int_equal(http_head_scan(&scan, text, len), len);
	memcpy(copy, text, len + 1);
	return http_head_parse(head, copy, len);
}

static void a_head_says_what_it_says(void **state)
{
	static struct http_head head;

	assert_int_equal(parsed(&head, "POST http://a.b:8080?x=1 HTTP/1.1\r\nhost:  c \r\n"
				       "Content-Length: 18446744073709551616\r\n"
				       "EXPECT: 100-Continue\r\nA: \t b \t c \t\r\nEmpty:\r\n\r\n"),
		0);
	assert_string_equal(head.method, "POST");
	assert_string_equal(head.path, "/");
	assert_string_equal(head.query, "x=1");
	assert_string_equal(http_head_find(&head, "Host"), "a.b:8080"); /* the target's */
	assert_string_equal(http_head_find(&head, "a"), "b \t c");
	assert_string_equal(http_head_find(&head, "Empty"), "");
	assert_null(http_head_find(&head, "B"));
	assert_int_equal(head.minor, 1);
	assert_true(head.keep && head.expects_continue);
	assert_int_equal(head.framing, HTTP_LENGTH);
	assert_true(head.length == UINT64_MAX);

	assert_int_equal(
		parsed(&head, "GET /a%20b HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\n"), 0);
	assert_string_equal(head.path, "/a%20b"); /* decoding is request.c's */
	assert_null(head.query);
	assert_int_equal(head.minor, 0);
	assert_true(head.keep && !head.expects_continue);
	assert_int_equal(head.framing, HTTP_NO_BODY);
	assert_int_equal(
		parsed(&head, "GET / HTTP/1.1\r\nHost: x\r\nConnection: closed\r\n\r\n"), 0);
	assert_true(head.keep);
}

static void refusals_come_as_early_as_they_are_certain(void **state)
{
	static const struct {
		const char *text;
		int refusal;
	} rows[] = {
		{"\x16", -400}, /* a TLS handshake */
		{"GET\n", -400},
		{"GET / HTTP/1.1\r\nHost: x\ry", -400},
		{"\r\n\r\n", -400},
		{"GET  / HTTP/1.1\r\n", -400},
		{"GET / HTTP/2.0\r\n", -505},
		{"GET / HTTP/1.1\r\nHost: x\r\n\x7f", -400},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const size_t len = strlen(rows[i].text);
		struct http_scan scan = {0};

		assert_int_equal(http_head_scan(&scan, rows[i].text, len - 1), 0);
		assert_int_equal(http_head_scan(&scan, rows[i].text, len), rows[i].refusal);
	}
}

static void limits_are_where_they_are_said_to_be(void **state)
{
	static const char line[] = "GET / HTTP/1.1\r\n";
	char *text = malloc(2 * HTTP_HEAD_MAX);
	struct http_scan scan = {0};

	/* A request line that does not end, and the last byte that it may have. */
	memset(text, 'G', 2 * HTTP_HEAD_MAX);
	assert_int_equal(http_head_scan(&scan, text, HTTP_LINE_MAX + 1), 0);
	assert_int_equal(http_head_scan(&scan, text, HTTP_LINE_MAX + 2), -414);
	/* A head that does not end. */
	scan = (struct http_scan){0};
	memcpy(text, line, strlen(line));
	assert_int_equal(http_head_scan(&scan, text, HTTP_HEAD_MAX - 1), 0);
	assert_int_equal(http_head_scan(&scan, text, HTTP_HEAD_MAX), -431);
	/* The longest that does. */
	scan = (struct http_scan){0};
	memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
	assert_int_equal(http_head_scan(&scan, text, HTTP_HEAD_MAX), HTTP_HEAD_MAX);
	free(text);
}

static void headers_are_counted(void **state)
{
	static struct http_head head;
	char text[HTTP_HEAD_MAX];

	for (unsigned n = HTTP_HEADERS_MAX; n <= HTTP_HEADERS_MAX + 1; n++) {
		size_t len = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: x\r\n");

		for (unsigned i = 1; i < n; i++)
			len += (size_t)sprintf(text + len, "A%u: b\r\n", i);
		strcpy(text + len, "\r\n");
		assert_int_equal(parsed(&head, text), n <= HTTP_HEADERS_MAX ? 0 : -431);
	}
	assert_int_equal(head.n_headers, HTTP_HEADERS_MAX);
}

static void a_chunked_body_ends_where_it_ends(void **state)
{
	static const char text[] = "5;a=b\r\nhello\r\n001\r\n!\r\n0\r\nA: b\r\n\r\nGET";
	struct http_chunks chunks = {0};
	size_t at = 0, used, len;
	char body[16] = "";
	int rc;

	do {
		rc = http_chunks_read(&chunks, text + at, strlen(text) - at, &used, &len);
		assert_true(rc >= 0 && len <= used);
		strncat(body, text + at + used - len, len);
		at += used;
	} while (rc == 0);
	assert_string_equal(body, "hello!");
	assert_string_equal(text + at, "GET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_listed_case_is_read_as_listed),
		cmocka_unit_test(a_head_says_what_it_says),
		cmocka_unit_test(refusals_come_as_early_as_they_are_certain),
		cmocka_unit_test(limits_are_where_they_are_said_to_be),
		cmocka_unit_test(headers_are_counted),
		cmocka_unit_test(a_chunked_body_ends_where_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
