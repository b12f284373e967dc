/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A small S3 client: the requests that an upload and its verification need, one after another. It
 * blocks, so it runs on a worker that may. Everything is signed (SigV4) with the SHA-256 of what is
 * sent; nothing is redirected, unpacked or proxied; no connection is made to an address that
 * s3_address.h refuses; what an answer may bring is bounded. This is the one file pair of the daemon
 * that knows libcurl.
 */
#ifndef CONTROL_S3_H
#define CONTROL_S3_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "config/config.h"
#include "config/err.h"
#include "control/hash.h"
#include "control/s3_url.h"

#define S3_UPLOAD_ID_MAX 1024
#define S3_ETAG_MAX      128 /* without its quotes */
#define S3_PARTS_MAX     10000
#define S3_SIZE_MAX      (5ULL << 40)
#define S3_BODY_MAX      (4U << 20) /* of an answer */

/* What came of a request, as far as one who has to go on must know. */
enum s3_outcome {
	S3_DONE,
	S3_ABSENT,      /* there is no such object, or no such multipart upload */
	S3_EXISTS,      /* it was to be new and is not */
	S3_RETRY,       /* the same again, later: not reached, overloaded, broken off */
	S3_CREDENTIALS, /* the same again with other credentials or rights */
	S3_REFUSED,     /* not by itself: no such bucket, wrong region, address or certificate */
	S3_CANCELED,
};

struct s3_answer {
	enum s3_outcome outcome;
	long status;         /* HTTP's; 0: there was no answer */
	char code[64];       /* S3's word for the error: "SlowDown"; or "" */
	char text[256];      /* a sentence for people, without a secret */
	bool part_is_wrong;  /* of complete: the list or a part of it was not accepted */
	uint64_t sent_bytes; /* of the body */
};

/* main, before there are threads. 0 or -errno. */
int s3_init(void);
void s3_fini(void);

/* Any thread: every request ends soon with S3_CANCELED, and those to come at once. The process ends. */
void s3_cancel_all(void);

struct s3;
/*
 * Read the credentials and be ready; no connection is made yet. canceled (may be NULL) ends what runs
 * when another thread sets it. sent_bytes (may be NULL) counts what a body brought so far; atomic. NULL
 * with err: EACCES, EINVAL, ENOENT for the credentials file, ENOMEM. bucket must outlive it.
 */
struct s3 *s3_open(const struct config_bucket *bucket, const bool *canceled, uint64_t *sent_bytes,
	struct err *err);
void s3_close(struct s3 *s3);

/* What is sent: len bytes of a file from offset on, or memory (fd < 0). */
struct s3_body {
	int fd;
	uint64_t offset;
	const void *data;
	uint64_t len;
	uint8_t sha256[HASH_SHA256_SIZE];
	uint8_t md5[HASH_MD5_SIZE];
};
/* Read it once and fill sha256 and md5. 0, -ECANCELED or -errno. */
int s3_body_hash(struct s3 *s3, struct s3_body *body);

#define S3_SHA256_META "x-amz-meta-sha256" /* with each object of ours, as hex */

struct s3_object {
	uint64_t size_bytes;
	char etag[S3_ETAG_MAX];
	char sha256[HASH_HEX_SIZE]; /* S3_SHA256_META, or "" */
	bool encrypted;             /* so that its ETag is no MD5 */
};

/*
 * A whole object at once. type: its content type. meta_sha256: hex, kept with it, or NULL. only_new: if
 * there is one already: S3_EXISTS (where the server does not know that condition, nobody asks).
 */
enum s3_outcome s3_object_put(struct s3 *s3, const char *key, const struct s3_body *body,
	const char *type, const char *meta_sha256, bool only_new, struct s3_object *object,
	struct s3_answer *answer);
enum s3_outcome s3_object_head(
	struct s3 *s3, const char *key, struct s3_object *object, struct s3_answer *answer);
/* At most size - 1 bytes; more is S3_REFUSED. *len without the NUL that follows. */
enum s3_outcome s3_object_get(struct s3 *s3, const char *key, char *data, size_t size, size_t *len,
	struct s3_answer *answer);
/* Read it to its end, keep nothing. More than size_max bytes is S3_REFUSED. */
enum s3_outcome s3_object_hash(struct s3 *s3, const char *key, uint64_t size_max,
	uint64_t *size_bytes, uint8_t sha256[HASH_SHA256_SIZE], struct s3_answer *answer);
/* S3_DONE also when there was none. */
enum s3_outcome s3_object_delete(struct s3 *s3, const char *key, struct s3_answer *answer);

/* One part of a multipart upload, as the list for its completion names it. */
struct s3_part {
	unsigned number; /* from 1 */
	char etag[S3_ETAG_MAX];
};

enum s3_outcome s3_multipart_create(struct s3 *s3, const char *key, const char *type,
	const char *meta_sha256, char upload_id[S3_UPLOAD_ID_MAX], struct s3_answer *answer);
/*
 * part->etag is what the server said. S3_RETRY when it said none, several, or one that has the form of
 * an MD5 and is not that of the body: then what arrived is not what was sent.
 */
enum s3_outcome s3_part_put(struct s3 *s3, const char *key, const char *upload_id,
	const struct s3_body *body, struct s3_part *part, struct s3_answer *answer);
/*
 * In ascending order. S3_DONE only when the answer's body says so, too. After S3_RETRY, S3_ABSENT and
 * S3_EXISTS the object may be there: ask s3_object_head.
 */
enum s3_outcome s3_multipart_complete(struct s3 *s3, const char *key, const char *upload_id,
	const struct s3_part *parts, unsigned n_parts, bool only_new, struct s3_answer *answer);
/* S3_DONE also when there is none. */
enum s3_outcome s3_multipart_abort(
	struct s3 *s3, const char *key, const char *upload_id, struct s3_answer *answer);
/* Each unfinished multipart upload whose key begins so. fn returns false to end it. */
typedef bool s3_multipart_fn(const char *key, const char *upload_id, void *arg);
enum s3_outcome s3_multipart_each(struct s3 *s3, const char *prefix, s3_multipart_fn *fn, void *arg,
	struct s3_answer *answer);

#endif
