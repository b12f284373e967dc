/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Any bytes as an S3 server's answer, in the place of libcurl: what it does for s3.c is done here without
 * a connection, a hundred times as quickly. A head line by line, a body in pieces that the answer's length
 * chooses, and every end that an answer can come to.
 */
#include "answers.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <curl/curl.h>

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_share_setopt

/* The one handle that s3.c has at a time. */
static struct {
	bool open, no_body;
	curl_write_callback header, body;
	curl_read_callback read;
	void *header_arg, *body_arg, *read_arg;
	long status;
	curl_off_t length; /* as told; -1: not */
	const uint8_t *at, *end;
} handle;

CURLcode curl_global_init_mem(long flags, curl_malloc_callback m, curl_free_callback f,
	curl_realloc_callback r, curl_strdup_callback s, curl_calloc_callback c)
{
	return CURLE_OK;
}

void curl_global_cleanup(void)
{
}

CURLSH *curl_share_init(void)
{
	return (CURLSH *)&handle;
}

CURLSHcode curl_share_setopt(CURLSH *share, CURLSHoption option, ...)
{
	return CURLSHE_OK;
}

CURLSHcode curl_share_cleanup(CURLSH *share)
{
	return CURLSHE_OK;
}

CURL *curl_easy_init(void)
{
	fuzz_check(!handle.open);
	memset(&handle, 0, sizeof(handle));
	handle.open = true;
	return &handle;
}

void curl_easy_cleanup(CURL *curl)
{
	fuzz_check(handle.open);
	handle.open = false;
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	struct curl_slist *item = calloc(1, sizeof(*item)), **last = &list;

	fuzz_check(item != NULL && strpbrk(text, "\r\n") == NULL);
	item->data = strdup(text);
	while (*last != NULL)
		last = &(*last)->next;
	*last = item;
	return list;
}

void curl_slist_free_all(struct curl_slist *list)
{
	while (list != NULL) {
		struct curl_slist *next = list->next;

		free(list->data);
		free(list);
		list = next;
	}
}

const char *curl_easy_strerror(CURLcode rc)
{
	return "an error of libcurl's";
}

CURLcode curl_easy_setopt(CURL *curl, CURLoption option, ...)
{
	va_list args;

	fuzz_check(handle.open);
	va_start(args, option);
	switch (option) {
	case CURLOPT_NOBODY:
		handle.no_body = va_arg(args, long) != 0;
		break;
	case CURLOPT_HEADERFUNCTION:
		handle.header = va_arg(args, curl_write_callback);
		break;
	case CURLOPT_HEADERDATA:
		handle.header_arg = va_arg(args, void *);
		break;
	case CURLOPT_WRITEFUNCTION:
		handle.body = va_arg(args, curl_write_callback);
		break;
	case CURLOPT_WRITEDATA:
		handle.body_arg = va_arg(args, void *);
		break;
	case CURLOPT_READFUNCTION:
		handle.read = va_arg(args, curl_read_callback);
		break;
	case CURLOPT_READDATA:
		handle.read_arg = va_arg(args, void *);
		break;
	default:
		break;
	}
	va_end(args);
	return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *curl, CURLINFO info, ...)
{
	va_list args;

	va_start(args, info);
	if (info == CURLINFO_RESPONSE_CODE)
		*va_arg(args, long *) = handle.status;
	else if (info == CURLINFO_CONTENT_LENGTH_DOWNLOAD_T)
		*va_arg(args, curl_off_t *) = handle.length;
	va_end(args);
	return CURLE_OK;
}

/* The bytes of the next line, its end included; 0: there is no whole one. */
static size_t line_len(void)
{
	const uint8_t *end = memchr(handle.at, '\n', (size_t)(handle.end - handle.at));

	return end != NULL ? (size_t)(end + 1 - handle.at) : 0;
}

static curl_off_t length_read(const char *at, const char *end)
{
	curl_off_t length = 0;

	while (at < end && *at == ' ')
		at++;
	for (; at < end && *at >= '0' && *at <= '9' && length < INT32_MAX; at++)
		length = length * 10 + *at - '0';
	return length;
}

static bool line_give(size_t len)
{
	/* In memory of its own size: the first byte read behind it is seen. */
	char *line = malloc(len);
	bool taken;

	fuzz_check(line != NULL);
	memcpy(line, handle.at, len);
	if (len > 15 && strncasecmp(line, "content-length:", 15) == 0)
		handle.length = length_read(line + 15, line + len);
	taken = handle.header(line, 1, len, handle.header_arg) == len;
	free(line);
	handle.at += len;
	return taken;
}

static CURLcode head_read(void)
{
	const char *line = (const char *)handle.at;
	size_t len = line_len();

	handle.length = -1;
	if (len < 13 || strncmp(line, "HTTP/1.", 7) != 0)
		return CURLE_UNSUPPORTED_PROTOCOL;
	handle.status = 0;
	for (unsigned i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return CURLE_UNSUPPORTED_PROTOCOL;
		handle.status = handle.status * 10 + line[i] - '0';
	}
	for (; len > 0; len = line_len()) {
		const bool last = *handle.at == '\n' || (*handle.at == '\r' && len == 2);

		if (!line_give(len))
			return CURLE_WRITE_ERROR;
		if (last)
			return CURLE_OK;
	}
	return CURLE_RECV_ERROR;
}

static CURLcode body_read(void)
{
	size_t left = (size_t)(handle.end - handle.at), step = 1 + answer_size % 251;
	const bool partial = handle.length > (curl_off_t)left;

	if (handle.length >= 0 && !partial)
		left = (size_t)handle.length;
	while (left > 0) {
		const size_t len = left < step ? left : step;
		char *piece = malloc(len);
		bool taken;

		fuzz_check(piece != NULL);
		memcpy(piece, handle.at, len);
		taken = handle.body(piece, 1, len, handle.body_arg) == len;
		free(piece);
		if (!taken)
			return CURLE_WRITE_ERROR;
		handle.at += len;
		left -= len;
	}
	return partial ? CURLE_PARTIAL_FILE : CURLE_OK;
}

CURLcode curl_easy_perform(CURL *curl)
{
	char sent[7];
	CURLcode rc;

	while (handle.read != NULL && handle.read(sent, 1, sizeof(sent), handle.read_arg) != 0)
		;
	handle.at = answer;
	handle.end = answer + answer_size;
	if (answer_size == 0)
		return CURLE_GOT_NOTHING;
	do
		rc = head_read();
	while (rc == CURLE_OK && handle.status / 100 == 1);
	if (rc != CURLE_OK || handle.no_body || handle.status == 204 || handle.status == 304)
		return rc;
	return body_read();
}
