/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/s3_url.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Text that grows to a bound; beyond it only its length does. */
struct text {
	char *out;
	size_t size;
	size_t len;
};

static void text_add(struct text *text, const char *what, size_t len);
static void text_encode(struct text *text, const char *what, bool slash);
static void query_add(struct text *text, const struct s3_query *query);

int s3_url(const struct config_bucket *bucket, const char *key, const struct s3_query *query,
	char *url, size_t size)
{
	const char *host = strstr(bucket->endpoint, "://") + 3;
	struct text text = {.out = url, .size = size};

	text_add(&text, bucket->endpoint, (size_t)(host - bucket->endpoint));
	if (bucket->style == CONFIG_STYLE_HOST) {
		text_add(&text, bucket->bucket, strlen(bucket->bucket));
		text_add(&text, ".", 1);
	}
	text_add(&text, host, strlen(host));
	text_add(&text, "/", 1);
	if (bucket->style == CONFIG_STYLE_PATH) {
		text_encode(&text, bucket->bucket, false);
		if (*key != '\0')
			text_add(&text, "/", 1);
	}
	text_encode(&text, key, true);
	if (query != NULL)
		query_add(&text, query);
	if (text.len >= size)
		return -ENAMETOOLONG;
	url[text.len] = '\0';
	return (int)text.len;
}

int s3_key(const struct config_bucket *bucket, const char *prefix, const char *name,
	char key[S3_KEY_MAX])
{
	const char *own = prefix != NULL ? prefix : "";
	int len = snprintf(key, S3_KEY_MAX, "%s%s%s%s%s", bucket->prefix,
		*bucket->prefix != '\0' ? "/" : "", own, *own != '\0' ? "/" : "", name);

	return len < S3_KEY_MAX ? 0 : -ENAMETOOLONG;
}

/* The smallest key that is larger than the last one, until there is none. */
static void query_add(struct text *text, const struct s3_query *query)
{
	const char *last = NULL;

	for (;;) {
		const struct s3_query *next = NULL;

		for (unsigned i = 0; i < S3_QUERY_PAIRS && query[i].key != NULL; i++)
			if ((last == NULL || strcmp(query[i].key, last) > 0) &&
				(next == NULL || strcmp(query[i].key, next->key) < 0))
				next = &query[i];
		if (next == NULL)
			return;
		text_add(text, last == NULL ? "?" : "&", 1);
		text_encode(text, next->key, false);
		text_add(text, "=", 1);
		text_encode(text, next->value != NULL ? next->value : "", false);
		last = next->key;
	}
}

static void text_add(struct text *text, const char *what, size_t len)
{
	if (text->len + len < text->size)
		memcpy(text->out + text->len, what, len);
	text->len += len;
}

static void text_encode(struct text *text, const char *what, bool slash)
{
	char code[4];

	for (; *what != '\0'; what++) {
		const unsigned char c = (unsigned char)*what;

		if ((c < 0x80 && isalnum(c)) || strchr("-._~", c) != NULL || (slash && c == '/')) {
			text_add(text, what, 1);
		} else {
			snprintf(code, sizeof(code), "%%%02X", c);
			text_add(text, code, 3);
		}
	}
}
