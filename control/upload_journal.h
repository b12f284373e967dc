/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * How far an upload got, on disk beside its file, so that it goes on after a restart or a kill where it
 * stopped. A file of records, each with version and checksum, appended and synced before what it says is
 * relied on; a torn or damaged one ends the file, and what was behind it is forgotten. Blocks: worker.
 */
#ifndef CONTROL_UPLOAD_JOURNAL_H
#define CONTROL_UPLOAD_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "control/hash.h"
#include "control/s3.h"

#define UPLOAD_JOURNAL "upload" /* its name in a capture's directory */

/* What goes where, said once. */
struct upload_plan {
	uint64_t size_bytes;
	uint64_t part_bytes;
	uint8_t sha256[HASH_SHA256_SIZE]; /* of the file */
	uint8_t md5[HASH_MD5_SIZE];       /* of the file */
	char bucket[CONFIG_NAME_MAX];     /* the section's name */
	char key[S3_KEY_MAX];
	/* Of what is owed: */
	bool keep_object; /* only unfinished uploads are to go */
	bool look_twice;  /* what was sent last may still arrive */
};

struct upload_journal {
	int fd;       /* -1: not open */
	uint64_t end; /* where the next record goes */
	bool planned;
	struct upload_plan plan;
	unsigned n_creates;               /* multipart uploads that were asked for */
	char upload_id[S3_UPLOAD_ID_MAX]; /* "": none */
	unsigned n_parts;                 /* of the plan */
	unsigned n_done;
	struct s3_part *parts;         /* n_parts; number 0: not sent yet */
	uint8_t (*md5)[HASH_MD5_SIZE]; /* of each */
};

/*
 * Open dir/name, made if there is none, and read what is whole in it. 0; -EPROTO: a newer version wrote
 * it, nothing was changed; or -errno. upload_journal_close in each case.
 */
int upload_journal_open(struct upload_journal *journal, int dir, const char *name);
void upload_journal_close(struct upload_journal *journal);

/* Each appends and syncs. 0 or -errno; after a failure the journal is to be closed. */
int upload_journal_plan(struct upload_journal *journal, const struct upload_plan *plan);
int upload_journal_creating(struct upload_journal *journal);
int upload_journal_created(struct upload_journal *journal, const char *upload_id);
int upload_journal_part(struct upload_journal *journal, const struct s3_part *part,
	const uint8_t md5[HASH_MD5_SIZE]);
/* The multipart upload is no more; the plan holds. */
int upload_journal_restart(struct upload_journal *journal);

/* Of a file of size_bytes: wanted_bytes, or more for at most S3_PARTS_MAX parts. */
uint64_t upload_part_bytes(uint64_t size_bytes, uint64_t wanted_bytes);

#endif
