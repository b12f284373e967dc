/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A closed file becomes an object, exactly once: sent in parts with what got through noted on disk, so
 * that a later attempt, after a restart, too, goes on from there; never over another object; believed
 * only when the bucket says that it holds just these bytes. An attempt ends with the first failure:
 * waiting for the next is the control thread's (session_upload.c). Worker.
 *
 * What proves an object: its size and, where the server keeps MD5s as ETags, the ETag that follows from
 * those of the parts. Where it does not (encryption with keys of their own), it is read back once.
 */
#ifndef CONTROL_UPLOAD_H
#define CONTROL_UPLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "control/s3.h"
#include "control/uuid.h"

#define UPLOAD_SUFFIX \
	".pcapng" /* an object's name is its capture's id and this, or as the spec says */

/* One attempt. */
struct upload {
	const struct config_bucket *bucket;
	struct uuid id;       /* of the capture; its directory is closed */
	char key[S3_KEY_MAX]; /* where the object goes */
	bool canceled;        /* atomic: set by whoever wants it to end */
	/* Atomic, while it runs. */
	uint64_t sent_bytes;  /* of the file: there, or on their way */
	uint64_t total_bytes; /* 0: not known yet */
	/* When it has ended. */
	struct s3_answer answer; /* S3_DONE: the object is there and is the file */
	bool progressed;         /* something got through that a next attempt need not do */
};
void upload_run(struct upload *upload);

/* What all uploads did since the start; any thread. */
struct upload_counts {
	uint64_t sent_bytes;            /* of bodies, those that failed included */
	uint64_t parts;                 /* that got through; a file in one piece is one */
	uint64_t verified;              /* objects */
	uint64_t retries;               /* attempts after a first */
	uint64_t failures[S3_CANCELED]; /* attempts, by their outcome */
};
void upload_counts(struct upload_counts *counts);
/* An attempt begins that is not the first. */
void upload_retry_count(void);

/*
 * How long to wait after the nth failure in a row (1 ...) with this outcome: doubling up to a bound,
 * and by random (any number) between half of it and the whole.
 */
uint64_t upload_delay_ms(unsigned n_failures, enum s3_outcome outcome, uint64_t random);

/*
 * What is owed to buckets: objects and unfinished uploads of captures that were deleted here, in
 * ROOT/uploads/UUID until they are gone there, too.
 */
/*
 * Durable when it returns 0: upload_debts_run will see to it. keep_object: only what is unfinished goes.
 * look_twice: something was being sent and may still arrive: half a minute later there is another look.
 */
int upload_debt_add(const struct uuid *id, const char *bucket, const char *key, bool keep_object,
	bool look_twice);
/* Pay all that can be paid now. How many are left. */
unsigned upload_debts_run(const struct config *config);

/*
 * Unfinished uploads in bucket under keys of ours. found is called with each; only what is certain to
 * be ours and dead may then be given to upload_abort.
 */
typedef void upload_found(const struct uuid *id, const char *key, const char *upload_id, void *arg);
enum s3_outcome upload_list(const struct config_bucket *bucket, upload_found *found, void *arg,
	struct s3_answer *answer);
enum s3_outcome upload_abort(const struct config_bucket *bucket, const char *key,
	const char *upload_id, struct s3_answer *answer);

#endif
