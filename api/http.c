/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/http.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define VERSION_LEN       8 /* "HTTP/1.1" */
#define CHUNK_DIGITS_MAX  8
#define LENGTH_DIGITS_MAX 19

/* The parts of a request line. */
struct request_line {
	const char *method, *target, *version;
	size_t method_len, target_len;
};

static int byte_judge(const struct http_scan *scan, const char *text, size_t at);
static int line_judge(struct request_line *line, const char *text, size_t len);
static int target_parse(struct http_head *head, char *target, char **authority);
static int headers_cut(struct http_head *head, char *text, char *end);
static int headers_judge(struct http_head *head, char *authority);
static int framing_judge(struct http_head *head);
static bool is_token(const char *text, size_t len);
static bool is_host(const char *text);
static bool is_listed(const struct http_head *head, const char *name, const char *word);

ssize_t http_head_scan(struct http_scan *scan, const char *text, size_t len)
{
	struct request_line line;
	int rc;

	for (size_t i = scan->seen; i < len; i++) {
		rc = byte_judge(scan, text, i);
		if (rc < 0)
			return rc;
		if (text[i] != '\n')
			continue;
		if (i - scan->line > 1 && !scan->lined) {
			rc = line_judge(&line, text + scan->line, i - 1 - scan->line);
			if (rc < 0)
				return rc;
			scan->lined = true;
		} else if (i - scan->line == 1 && scan->lined) {
			return (ssize_t)i + 1;
		} else if (i - scan->line == 1 && scan->n_blank++ > 0) {
			return -400;
		}
		scan->line = i + 1;
	}
	scan->seen = len;
	return len < HTTP_HEAD_MAX ? 0 : -431;
}

/* Lines end with CR LF and no other way; control characters stand nowhere (RFC 9112, 2.2; 9110, 5.5). */
static int byte_judge(const struct http_scan *scan, const char *text, size_t at)
{
	const unsigned char c = text[at];
	const bool after_cr = at > scan->line && text[at - 1] == '\r';

	if (at >= HTTP_HEAD_MAX)
		return -431;
	if (!scan->lined && at - scan->line > HTTP_LINE_MAX)
		return -414;
	if (after_cr != (c == '\n'))
		return -400;
	if (c == '\n' || c == '\r')
		return 0;
	if (c < ' ' && c != '\t')
		return -400;
	/* What is no HTTP at all shows early: a TLS handshake, for one. */
	return c == 0x7f || (!scan->lined && (c > 0x7f || c == '\t')) ? -400 : 0;
}

/* METHOD SP TARGET SP HTTP/1.x, with single spaces. */
static int line_judge(struct request_line *line, const char *text, size_t len)
{
	const char *end = text + len, *space = memchr(text, ' ', len);

	if (space == NULL || !is_token(text, space - text))
		return -400;
	line->method = text;
	line->method_len = space - text;
	line->target = space + 1;
	space = memchr(line->target, ' ', end - line->target);
	if (space == NULL || space == line->target)
		return -400;
	line->target_len = space - line->target;
	line->version = space + 1;
	if (end - line->version != VERSION_LEN || memcmp(line->version, "HTTP/", 5) != 0 ||
		!isdigit((unsigned char)line->version[5]) || line->version[6] != '.' ||
		!isdigit((unsigned char)line->version[7]))
		return -400;
	return line->version[5] == '1' ? 0 : -505;
}

int http_head_parse(struct http_head *head, char *text, size_t len)
{
	char *end = text + len, *authority = NULL, *eol;
	struct request_line line;
	int rc;

	head->n_headers = 0;
	if (text[0] == '\r') /* the empty line that is forgiven */
		text += 2;
	eol = memchr(text, '\r', end - text);
	if (eol == NULL)
		return -400;
	rc = line_judge(&line, text, eol - text);
	if (rc < 0)
		return rc;
	/* A later minor version is read as the latest that we know (RFC 9110, 2.5). */
	head->minor = line.version[7] != '0';
	text[line.method_len] = '\0';
	head->method = text;
	text += line.target - line.method;
	text[line.target_len] = '\0';
	rc = target_parse(head, text, &authority);
	if (rc == 0)
		rc = headers_cut(head, eol + 2, end);
	if (rc == 0)
		rc = headers_judge(head, authority);
	return rc == 0 ? framing_judge(head) : rc;
}

const char *http_head_find(const struct http_head *head, const char *name)
{
	for (unsigned i = 0; i < head->n_headers; i++)
		if (strcasecmp(head->headers[i].name, name) == 0)
			return head->headers[i].value;
	return NULL;
}

/* "/path?query", "http://authority/path?query", or "*" for OPTIONS. */
static int target_parse(struct http_head *head, char *target, char **authority)
{
	static const char *const schemes[] = {"http://", "https://"};
	char *path = target, *query;

	if (target[strcspn(target, "#\"<>\\")] != '\0')
		return -400;
	for (unsigned i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		const size_t len = strlen(schemes[i]);

		if (strncasecmp(target, schemes[i], len) == 0) {
			path = target + len + strcspn(target + len, "/?");
			/* Moved by one, over the scheme, so that it can end with a NUL. */
			*authority = memmove(target + len - 1, target + len, path - target - len);
			path[-1] = '\0';
		}
	}
	query = strchr(path, '?');
	if (query != NULL)
		*query++ = '\0';
	head->query = query;
	head->path = path;
	if (*authority != NULL && *path == '\0')
		head->path = "/";
	if (strcmp(target, "*") == 0)
		return strcmp(head->method, "OPTIONS") == 0 ? 0 : -400;
	return head->path[0] == '/' ? 0 : -400;
}

/* Name and value of every line; text ends with an empty one. */
static int headers_cut(struct http_head *head, char *text, char *end)
{
	while (text < end && *text != '\r') {
		char *eol = memchr(text, '\r', end - text), *colon, *value;

		if (eol == NULL)
			return -400;
		/* A line that begins with space would go on the one before it: folded. */
		colon = memchr(text, ':', eol - text);
		if (colon == NULL || !is_token(text, colon - text))
			return -400;
		if (head->n_headers == HTTP_HEADERS_MAX)
			return -431;
		*colon = '\0';
		value = colon + 1;
		while (*value == ' ' || *value == '\t')
			value++;
		head->headers[head->n_headers].name = text;
		head->headers[head->n_headers++].value = value;
		text = eol + 2;
		do
			*eol-- = '\0';
		while (eol >= value && (*eol == ' ' || *eol == '\t'));
	}
	return 0;
}

static unsigned header_count(const struct http_head *head, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < head->n_headers; i++)
		n += strcasecmp(head->headers[i].name, name) == 0;
	return n;
}

/* authority: what the target says in the place of Host, or NULL. */
static int headers_judge(struct http_head *head, char *authority)
{
	static const char *const once[] = {"Host", "Content-Length", "Transfer-Encoding",
		"Content-Type", "Content-Encoding", "Authorization", "Expect"};
	const char *expect;

	for (unsigned i = 0; i < sizeof(once) / sizeof(once[0]); i++)
		if (header_count(head, once[i]) > 1)
			return -400;
	for (unsigned i = 0; i < head->n_headers; i++) {
		struct http_header *header = &head->headers[i];

		if (strcasecmp(header->name, "Host") != 0)
			continue;
		if (!is_host(header->value))
			return -400;
		if (authority != NULL)
			header->value = authority;
	}
	if (authority != NULL && !is_host(authority))
		return -400;
	if (head->minor > 0 && http_head_find(head, "Host") == NULL)
		return -400;
	head->keep = head->minor > 0 ? !is_listed(head, "Connection", "close")
				     : is_listed(head, "Connection", "keep-alive");
	expect = http_head_find(head, "Expect");
	head->expects_continue = expect != NULL && head->minor > 0;
	return expect != NULL && strcasecmp(expect, "100-continue") != 0 ? -417 : 0;
}

/* One way to tell the body's end, and only one (RFC 9112, 6.3 and 11.2). */
static int framing_judge(struct http_head *head)
{
	const char *coding = http_head_find(head, "Transfer-Encoding");
	const char *length = http_head_find(head, "Content-Length");

	head->framing = HTTP_NO_BODY;
	head->length = 0;
	if (coding != NULL) {
		if (length != NULL || head->minor == 0 || strcasecmp(coding, "chunked") != 0)
			return -400;
		head->framing = HTTP_CHUNKED;
	} else if (length != NULL) {
		const size_t n_digits = strspn(length, "0123456789");

		if (n_digits == 0 || length[n_digits] != '\0')
			return -400;
		head->framing = HTTP_LENGTH;
		for (size_t i = 0; i < n_digits; i++)
			head->length = head->length * 10 + (length[i] - '0');
		if (n_digits > LENGTH_DIGITS_MAX)
			head->length = UINT64_MAX;
	}
	return 0;
}

static bool is_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) &&
			(text[i] == '\0' || strchr("!#$%&'*+-.^_`|~", text[i]) == NULL))
			return false;
	return len > 0;
}

/* A name, an IPv4 address, or an IPv6 address in brackets; perhaps a port. It stands in links. */
static bool is_host(const char *text)
{
	static const char hex[] = "0123456789abcdefABCDEF:.";
	size_t len = 0;

	if (*text == '[') {
		len = 1 + strspn(text + 1, hex);
		if (len < 3 || text[len++] != ']')
			return false;
	} else {
		while (isalnum((unsigned char)text[len]) ||
			(text[len] != '\0' && strchr("-._~", text[len]) != NULL))
			len++;
	}
	if (len == 0)
		return false;
	if (text[len] == ':') {
		const size_t n_digits = strspn(text + len + 1, "0123456789");

		if (n_digits > 5)
			return false;
		len += 1 + n_digits;
	}
	return text[len] == '\0';
}

/* Is word in one of the lists that stand in headers of that name? */
static bool is_listed(const struct http_head *head, const char *name, const char *word)
{
	for (unsigned i = 0; i < head->n_headers; i++) {
		if (strcasecmp(head->headers[i].name, name) != 0)
			continue;
		for (const char *at = head->headers[i].value; *at != '\0';) {
			at += strspn(at, ", \t");
			if (strcspn(at, ", \t") == strlen(word) &&
				strncasecmp(at, word, strlen(word)) == 0)
				return true;
			at += strcspn(at, ",");
		}
	}
	return false;
}

/*
 * Chunks: what each byte may be where, one function per state. A state takes one byte and returns 0 or a
 * refusal; only data is taken as a whole.
 */
enum {
	CHUNK_SIZE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER_BEGIN,
	CHUNK_TRAILER_NAME,
	CHUNK_TRAILER_VALUE,
	CHUNK_TRAILER_LF,
	CHUNK_LAST_LF,
	CHUNK_END,
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int size_take(struct http_chunks *chunks, char c)
{
	const int digit = hex_digit(c);

	if (digit >= 0) {
		if (chunks->n_digits++ == CHUNK_DIGITS_MAX)
			return -413;
		chunks->left = chunks->left << 4 | (unsigned)digit;
		return 0;
	}
	if (chunks->n_digits == 0 || (c != ';' && c != '\r'))
		return -400;
	chunks->state = c == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_LF;
	return 0;
}

static int extension_take(struct http_chunks *chunks, char c)
{
	if (c == '\r')
		chunks->state = CHUNK_SIZE_LF;
	else if (((unsigned char)c < ' ' && c != '\t') || c == 0x7f ||
		 ++chunks->extensions_len > HTTP_EXTENSIONS_MAX)
		return -400;
	return 0;
}

static int trailer_take(struct http_chunks *chunks, char c)
{
	if (++chunks->trailers_len > HTTP_TRAILERS_MAX)
		return -431;
	switch (chunks->state) {
	case CHUNK_TRAILER_BEGIN:
		if (c == '\r') {
			chunks->state = CHUNK_LAST_LF;
			return 0;
		}
		chunks->state = CHUNK_TRAILER_NAME;
		return is_token(&c, 1) ? 0 : -400;
	case CHUNK_TRAILER_NAME:
		if (c == ':')
			chunks->state = CHUNK_TRAILER_VALUE;
		return c == ':' || is_token(&c, 1) ? 0 : -400;
	default:
		if (c == '\r')
			chunks->state = CHUNK_TRAILER_LF;
		return c == '\r' || c == '\t' || ((unsigned char)c >= ' ' && c != 0x7f) ? 0 : -400;
	}
}

static int expect(struct http_chunks *chunks, char c, char wanted, unsigned next)
{
	chunks->state = next;
	return c == wanted ? 0 : -400;
}

static int chunk_byte(struct http_chunks *chunks, char c)
{
	switch (chunks->state) {
	case CHUNK_SIZE:
		return size_take(chunks, c);
	case CHUNK_EXTENSION:
		return extension_take(chunks, c);
	case CHUNK_SIZE_LF:
		chunks->n_digits = 0;
		return expect(chunks, c, '\n', chunks->left > 0 ? CHUNK_DATA : CHUNK_TRAILER_BEGIN);
	case CHUNK_DATA_CR:
		return expect(chunks, c, '\r', CHUNK_DATA_LF);
	case CHUNK_DATA_LF:
		return expect(chunks, c, '\n', CHUNK_SIZE);
	case CHUNK_TRAILER_LF:
		return expect(chunks, c, '\n', CHUNK_TRAILER_BEGIN);
	case CHUNK_LAST_LF:
		return expect(chunks, c, '\n', CHUNK_END);
	default:
		return trailer_take(chunks, c);
	}
}

int http_chunks_read(
	struct http_chunks *chunks, const char *data, size_t len, size_t *used, size_t *body_len)
{
	*used = 0;
	*body_len = 0;
	while (*used < len && chunks->state != CHUNK_END) {
		int rc;

		if (chunks->state == CHUNK_DATA) {
			*body_len = len - *used < chunks->left ? len - *used : chunks->left;
			*used += *body_len;
			chunks->left -= *body_len;
			if (chunks->left == 0)
				chunks->state = CHUNK_DATA_CR;
			return 0;
		}
		rc = chunk_byte(chunks, data[(*used)++]);
		if (rc < 0)
			return rc;
	}
	return chunks->state == CHUNK_END;
}
