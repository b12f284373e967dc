/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * UUID.open/index: what a running capture notes ten times a second without waiting for the disk. Where
 * in its lanes packets begin, so that a recovery can go on behind a hole without guessing, and what its
 * counters said. Every entry has a checksum over the capture's id, its place in the file and its
 * content: one that is torn, old or another capture's is no entry. Storage worker while it grows, bulk
 * worker to read; after make it never changes how the file lies on the disk but by whole steps.
 */
#ifndef CONTROL_INDEX_H
#define CONTROL_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "control/uuid.h"

#define INDEX_NAME       "index"
#define INDEX_LANES      256
#define INDEX_NOTE_MAX   480
#define INDEX_HEADER_MAX 3568

/* A place where a packet begins, and what stands before it in the lane's stream. */
struct index_entry {
	uint64_t offset;
	uint64_t packets;
	uint64_t told; /* sum of the dropcounts of these packets */
	uint32_t lane;
};

struct index_file {
	int fd;
	struct uuid id;
	uint64_t n;          /* entries so far */
	uint64_t n_room;     /* entries that there is space for */
	uint64_t generation; /* of the note */
	int grown;           /* since the last sync */
	struct {
		uint64_t slot; /* of the last entry */
		uint64_t kept; /* offset of the one before */
		int any;
	} lanes[INDEX_LANES];
};

/* Make dir/index with room for entries and, if it is no longer than INDEX_HEADER_MAX, a copy of the header
 * that each lane begins with; durable but for the directory. 0 or -errno; closes what it opened on failure. */
int index_make(struct index_file *index, int dir, const struct uuid *id, const void *header,
	size_t header_len);
void index_close(struct index_file *index);

/* Not durable when they return. Entries of a lane come in order of offset; one that is near the one
 * before takes its place. len <= INDEX_NOTE_MAX. 0 or -errno. */
int index_put(struct index_file *index, const struct index_entry *entry);
int index_note(struct index_file *index, const void *note, size_t len);

/* Begin to write what was put, as far as the disk takes it; costs next to nothing. */
void index_push(struct index_file *index);
/* Have what was put on the disk: durable with the next successful sync of any file there. 0 or -errno. */
int index_sync(struct index_file *index);

/* The entries of id's index in dir, by lane and offset, in malloc'd memory. 0 (n may be 0: there is no
 * index, or nothing in it that can be believed) or -errno. */
int index_load(int dir, const struct uuid *id, struct index_entry **entries, size_t *n);
/* The newest note of len bytes. 0 or -ENOENT. */
int index_note_load(int dir, const struct uuid *id, void *note, size_t len);
/* The copy of the lanes' header: its length, at most INDEX_HEADER_MAX; 0: there is none. */
size_t index_header_load(int dir, const struct uuid *id, void *header);

#endif
