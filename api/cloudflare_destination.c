/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/cloudflare_destination.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SCHEME "s3://"
#define FIELD  "destination_conf"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* Nothing among them that a URL gives a meaning, and nothing that must be encoded to be signed. */
static const char name_chars[] = LETTERS "._-";
static const char directory_chars[] = LETTERS "._-~/";

static bool directory_is_good(const char *directory);

/* Copy len bytes of text that consist of chars. */
static bool take(char *to, size_t size, const char *text, size_t len, const char *chars)
{
	if (len >= size || strspn(text, chars) < len)
		return false;
	memcpy(to, text, len);
	to[len] = '\0';
	return true;
}

/* The part between bucket and query: "/a/b", "/a/b/", "/" or nothing. */
static bool directory_take(struct cloudflare_destination *destination, const char *text, size_t len)
{
	if (len > 0 && text[0] == '/') {
		text++;
		len--;
	}
	if (len > 1 && text[len - 1] == '/')
		len--;
	return take(destination->directory, sizeof(destination->directory), text, len,
		       directory_chars) &&
	       directory_is_good(destination->directory);
}

/* No part of it is empty, "." or "..": it means the same to everybody. */
static bool directory_is_good(const char *directory)
{
	const char *at = directory;

	while (*directory != '\0') {
		size_t len = strcspn(at, "/");

		if (len == 0 || (len == 1 && at[0] == '.') ||
			(len == 2 && strncmp(at, "..", 2) == 0))
			return false;
		if (at[len] == '\0')
			return true;
		at += len + 1;
	}
	return true;
}

/* "?region=REGION" and nothing else. */
static bool query_take(struct cloudflare_destination *destination, const char *query)
{
	static const char key[] = "?region=";
	const char *value = query + sizeof(key) - 1;

	if (*query == '\0')
		return true;
	return strncmp(query, key, sizeof(key) - 1) == 0 && *value != '\0' &&
	       take(destination->region, sizeof(destination->region), value, strlen(value),
		       name_chars);
}

int cloudflare_destination_parse(
	const char *uri, struct cloudflare_destination *destination, struct err *err)
{
	const char *at = uri + sizeof(SCHEME) - 1;
	size_t len;

	memset(destination, 0, sizeof(*destination));
	if (strncmp(uri, SCHEME, sizeof(SCHEME) - 1) != 0)
		goto refuse;
	len = strspn(at, name_chars);
	if (len == 0 || strchr("/?", at[len]) == NULL ||
		!take(destination->bucket, sizeof(destination->bucket), at, len, name_chars))
		goto refuse;
	at += len;
	len = strcspn(at, "?");
	if (!directory_take(destination, at, len) || !query_take(destination, at + len))
		goto refuse;
	return 0;
refuse:
	return err_set(err, EINVAL, FIELD,
		"\"%.100s\" cannot be delivered to; allowed: s3://BUCKET, with /DIRECTORY and "
		"?region=REGION as needed",
		uri);
}

/* "a, b": those that the account may use. */
static void names_print(const struct config *config, const char *account, char *text, size_t size)
{
	size_t len = 0;

	snprintf(text, size, "none");
	for (unsigned i = 0; i < config->n_buckets && len < size; i++) {
		const struct config_bucket *bucket = &config->buckets[i];

		if (config_bucket_allows(config, bucket, account))
			len += snprintf(
				text + len, size - len, "%s%s", len > 0 ? ", " : "", bucket->name);
	}
}

const struct config_bucket *cloudflare_destination_bucket(const struct config *config,
	const char *account, const struct cloudflare_destination *destination, struct err *err)
{
	const struct config_bucket *bucket = config_bucket_find(config, destination->bucket);
	char names[160];

	if (bucket == NULL || !config_bucket_allows(config, bucket, account)) {
		names_print(config, account, names, sizeof(names));
		err_set(err, EINVAL, FIELD, "this account has no bucket \"%s\"; allowed: %s",
			destination->bucket, names);
		return NULL;
	}
	if (destination->region[0] != '\0' && strcmp(destination->region, bucket->region) != 0) {
		err_set(err, EINVAL, FIELD, "bucket \"%s\" is not in region \"%s\"; allowed: %s",
			bucket->name, destination->region, bucket->region);
		return NULL;
	}
	return bucket;
}
