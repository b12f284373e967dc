/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The text of HTTP/1.1 requests (RFC 9110, 9112): where a head ends, what it says, how the body is
 * framed. Strict: what another implementation in front of us could read in another way is refused,
 * so no request hides in another. Works on memory alone: no sockets, no allocation, any thread.
 *
 * Every function that judges returns a refusal as the negative HTTP status: -400.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HTTP_HEAD_MAX       (16 * 1024) /* request line and headers */
#define HTTP_LINE_MAX       (8 * 1024)  /* the request line */
#define HTTP_HEADERS_MAX    100
#define HTTP_EXTENSIONS_MAX 1024 /* of all chunks together; nobody knows one */
#define HTTP_TRAILERS_MAX   4096 /* read and forgotten */

/* Where the search for a head's end stands; zero before the first byte. */
struct http_scan {
	size_t seen;
	size_t line;      /* where the current line began */
	unsigned n_blank; /* empty lines before the request line: one is forgiven */
	bool lined;       /* the request line is whole, and good */
};

/*
 * Look at text, of which the first scan->seen bytes have been looked at before. The length of the head
 * with its empty line, 0: not all of it is there, or a refusal as soon as it is certain: 400, 414
 * (request line), 431 (head), 505.
 */
ssize_t http_head_scan(struct http_scan *scan, const char *text, size_t len);

struct http_header {
	const char *name;
	const char *value; /* without space around it */
};

enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED };

struct http_head {
	const char *method;
	const char *path;  /* begins with "/", or is "*" */
	const char *query; /* NULL: none */
	unsigned minor;    /* HTTP/1.minor: 0 or 1 */
	bool keep;         /* the connection goes on after the answer */
	bool expects_continue;
	enum http_framing framing;
	uint64_t length; /* HTTP_LENGTH */
	unsigned n_headers;
	struct http_header headers[HTTP_HEADERS_MAX];
};

/*
 * Take apart a head that http_head_scan found whole. head points into text, which is changed and must
 * have room for one byte behind len. 0, or a refusal: 400, 417, 431, 505. How long a body may be is
 * not judged here; a length beyond 64 bits is UINT64_MAX.
 */
int http_head_parse(struct http_head *head, char *text, size_t len);

/* The value of a header, the first of several; NULL: not there. */
const char *http_head_find(const struct http_head *head, const char *name);

/* A chunked body on its way; zero before its first byte. */
struct http_chunks {
	unsigned state;
	unsigned n_digits;
	uint64_t left; /* of the current chunk */
	size_t extensions_len;
	size_t trailers_len;
};

/*
 * Read on: *used bytes of data are done with, of which the last *body_len are part of the body. 1: that was
 * the body's end, 0: go on behind *used, or a refusal: 400, 413 (a size beyond 32 bits), 431.
 */
int http_chunks_read(
	struct http_chunks *chunks, const char *data, size_t len, size_t *used, size_t *body_len);

#endif
