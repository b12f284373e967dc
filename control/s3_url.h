/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * URLs as they must be written to be signed: everything but letters, digits and - . _ ~ is encoded
 * (of a key not the / either), the query is in the order of its keys, and every key has its =. What is
 * signed and what is sent are then the same bytes. Pure; any thread.
 */
#ifndef CONTROL_S3_URL_H
#define CONTROL_S3_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

#define S3_KEY_MAX     1025 /* bytes with NUL, UTF-8: what S3 allows */
#define S3_QUERY_PAIRS 8
#define S3_URL_MAX     16384

struct s3_query {
	const char *key;   /* NULL behind the last */
	const char *value; /* NULL = "" */
};

/*
 * The URL of key ("" = the bucket itself) with up to S3_QUERY_PAIRS parameters in any order (NULL:
 * none). Its length, or -ENAMETOOLONG.
 */
int s3_url(const struct config_bucket *bucket, const char *key, const struct s3_query *query,
	char *url, size_t size);

/*
 * bucket's prefix, prefix (may be NULL or ""; no / at either end), name: "a/b/NAME". 0 or
 * -ENAMETOOLONG.
 */
int s3_key(const struct config_bucket *bucket, const char *prefix, const char *name,
	char key[S3_KEY_MAX]);

#endif
