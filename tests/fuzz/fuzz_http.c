/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The text of HTTP/1.1: in whatever pieces it comes, head and chunks end at the same byte and say the
 * same. The first byte chooses the pieces; the rest is a head, and behind it a chunked body.
 */
#include "fuzz.h"

#include <string.h>

#include "api/http.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

/* The head's length as seen in pieces, which grow by step. */
static ssize_t head_scan(const char *text, size_t len, size_t step)
{
	struct http_scan scan = {0};
	ssize_t rc = 0;

	for (size_t have = 0; rc == 0 && have < len;) {
		have = have + step < len ? have + step : len;
		rc = http_head_scan(&scan, text, have);
		fuzz_check(rc <= (ssize_t)have);
	}
	return rc;
}

static void text_check(const char *text)
{
	for (; text != NULL && *text != '\0'; text++)
		fuzz_check(*text != '\r' && *text != '\n');
}

static unsigned headers_named(const struct http_head *head, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < head->n_headers; i++)
		n += strcasecmp(head->headers[i].name, name) == 0;
	return n;
}

static void head_check(char *text, size_t len)
{
	struct http_head head;

	if (http_head_parse(&head, text, len) != 0)
		return;
	fuzz_check(head.method[0] != '\0' && head.n_headers <= HTTP_HEADERS_MAX);
	fuzz_check(head.path[0] == '/' || strcmp(head.path, "*") == 0);
	fuzz_check(head.minor <= 1);
	fuzz_check(headers_named(&head, "Host") == 1 || head.minor == 0);
	fuzz_check(headers_named(&head, "Host") <= 1);
	text_check(head.path);
	text_check(head.query);
	for (unsigned i = 0; i < head.n_headers; i++) {
		fuzz_check(head.headers[i].name[0] != '\0');
		fuzz_check(strpbrk(head.headers[i].name, " \t:") == NULL);
		text_check(head.headers[i].value);
	}
	/* Nothing that two readers could frame in two ways. */
	if (head.framing != HTTP_NO_BODY)
		fuzz_check((http_head_find(&head, "Content-Length") != NULL) !=
			   (http_head_find(&head, "Transfer-Encoding") != NULL));
}

struct body {
	int rc;
	size_t used, len;
	uint32_t sum;
};

static struct body chunks_read(const char *data, size_t len, size_t step)
{
	struct http_chunks chunks = {0};
	struct body body = {0};

	while (body.rc == 0 && body.used < len) {
		size_t have = len - body.used < step ? len - body.used : step;
		size_t used = 0, body_len = 0;

		body.rc = http_chunks_read(&chunks, data + body.used, have, &used, &body_len);
		if (body.rc < 0)
			break; /* how far it was read does not matter */
		fuzz_check(used <= have && body_len <= used && (used > 0 || body.rc != 0));
		body.used += used;
		for (size_t i = body.used - body_len; i < body.used; i++)
			body.sum = body.sum * 31 + (uint8_t)data[i];
		body.len += body_len;
	}
	return body;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct body whole, pieces;
	char *text;
	ssize_t len;
	size_t step;

	if (size == 0)
		return 0;
	step = 1 + data[0] % 17;
	text = fuzz_text(data + 1, --size);
	len = head_scan(text, size, size);
	fuzz_check(len == head_scan(text, size, step));
	if (len > 0) {
		char *head = fuzz_text((uint8_t *)text, (size_t)len);

		head_check(head, (size_t)len);
		free(head);
	}
	if (len < 0)
		len = 0;
	whole = chunks_read(text + len, size - (size_t)len, size + 1);
	pieces = chunks_read(text + len, size - (size_t)len, step);
	fuzz_check(whole.rc == pieces.rc);
	fuzz_check(whole.rc < 0 || (whole.used == pieces.used && whole.len == pieces.len &&
					   whole.sum == pieces.sum));
	free(text);
	return 0;
}
