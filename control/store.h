/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Captures as files. Everything here blocks: it runs on the storage, bulk or read worker (or in
 * main before the loop), never on the control thread. No function keeps state between calls but the
 * root's directory descriptor; what a capture has open is in struct store_capture, owned by the
 * caller.
 *
 *   ROOT/lock                                    flock: one daemon per root
 *   ROOT/captures/UUID.open/  record state index lane<k>.pcapng  while running, merging,
 *                                                               recovering
 *   ROOT/captures/UUID/       record capture.pcapng    one rename of the directory = complete
 *   ROOT/spare/                                        space that was touched before: spare.h
 *   ROOT/trash/UUID                                    being deleted
 *
 * Invariant: a byte that a capture has not written reads as zero.
 */
#ifndef CONTROL_STORE_H
#define CONTROL_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "control/index.h"
#include "control/uuid.h"
#include "engine/drop.h"
#include "engine/pcapng.h"

#define STORE_LANES_MAX 256

/* Main, before the threads. Make the root (its parent must exist) and its directories (0700), take
 * the lock, empty the trash. err: field "storage.root", EBUSY when another daemon has the lock. */
int store_open(const char *root, struct err *err);
void store_close(void);

struct store_lane {
	bool spare; /* its file was one */
	int fd;     /* what the writer writes to: O_DIRECT where the file system can */
	bool direct;
	uint64_t allocated_bytes; /* by fallocate, size included; 0 where fallocate is not supported
				   */
};

struct store_capture {
	struct uuid id; /* set by store_create; the descriptors are closed by store_finish or
			   store_release */
	int dir;        /* UUID.open */
	struct index_file index;
	unsigned n_lanes;
	struct store_lane lanes[STORE_LANES_MAX];
};

/*
 * Make UUID.open with its record and n_lanes lane files, each starting with header (section and
 * interface blocks); everything fsynced, the directory and its parent too. A lane of which much is
 * expected (UINT64_MAX: nobody knows how much) begins on a spare if there is one. On failure nothing is
 * left. err: field "output", code ENOSPC, EIO ...
 */
int store_create(struct store_capture *capture, const struct uuid *id, unsigned n_lanes,
	uint64_t expect_bytes, const void *header, uint64_t header_len, const char *record,
	struct err *err);

/* Close the descriptors of a capture that is given up (store_delete follows) without touching its
 * files. Idempotent. */
void store_release(struct store_capture *capture);

/*
 * Keep space ahead: extend the lane's file until allocated_bytes >= want_bytes (1 MiB, doubling,
 * then 256 MiB steps). 0, -ENOSPC when the disk is full (after trying smaller steps;
 * allocated_bytes says how far it got), or -errno. 0 and nothing done where fallocate is not
 * supported.
 */
int store_extend(struct store_lane *lane, uint64_t want_bytes);

/* Is the lane's file still what was made? -ESTALE: it was removed, -ENODATA: it was cut. */
int store_lane_check(const struct store_lane *lane);
/* strerror of an -errno; of the two above a sentence. */
const char *store_strerror(int rc);

/* fdatasync one lane, or all. 0 or -errno; after a failure the lane must be treated as suspect for ever. */
int store_sync(struct store_lane *lane);
int store_sync_all(struct store_capture *capture);

/* Replace the record (write new, fsync, rename, fsync directory). Works on UUID.open and UUID;
 * -ENOENT: there is neither. */
int store_record_write(const struct uuid *id, const char *record);

/* What is there is no record that can be believed: keep it as record.bad. 0, also if there is none. */
int store_record_aside(const struct uuid *id);

/*
 * What the session's counters said at one moment, and what bounds what came after it. On disk: drops by
 * enum drop, and a change of what it holds makes a new STORE_STATE_VERSION.
 */
#define STORE_DROPS_MAX 16
_Static_assert(DROP_COUNT <= STORE_DROPS_MAX, "every reason has its place on disk");
struct store_books {
	uint64_t noted_ns; /* wall clock; 0: nothing is known */
	uint64_t offered;
	uint64_t filtered;
	uint64_t sampled_out;
	uint64_t over_limit;
	uint64_t accepted;
	uint64_t stamps_raised;
	uint64_t dropped[STORE_DROPS_MAX];
	uint64_t if_dropped[CONFIG_PORTS_MAX]; /* by interface */
	uint64_t rate_max_pps; /* no more can be accepted a second; 0: nobody knows */
	uint64_t unused;
};
_Static_assert(sizeof(struct store_books) <= INDEX_NOTE_MAX, "fits a note");

/*
 * The durable marks of a running capture: two slots in turn in UUID.open/state, crc32c and
 * generation.
 */
#define STORE_STATE_VERSION 2
struct store_mark {
	uint64_t durable_bytes; /* of the lane file */
	uint64_t durable_packets;
};
struct store_state {
	uint64_t version; /* set by store_state_write */
	uint64_t generation;
	struct uuid id; /* set by store_state_write */
	struct store_books books;
	unsigned n_lanes;
	struct store_mark marks[STORE_LANES_MAX];
};
/* Counts state->generation up, then writes. Durable when it returns 0. */
int store_state_write(struct store_capture *capture, struct store_state *state);
/* The newest valid slot of id's capture in dir; -ENOENT: none. Of version 1 it takes the marks. */
int store_state_read(int dir, const struct uuid *id, struct store_state *state);
/* Of state and note the books that were noted last. */
void store_books_read(int dir, const struct uuid *id, struct store_books *books);

/*
 * Close a capture whose lanes have settled and were synced. *suspect_rc is 0, or what a sync failed with:
 * then no other is believed, and what cannot be made durable is closed all the same. A first failure
 * here is put there and returned. lane_bytes[k] = end of lane k's last whole packet;
 * lane_packets[k]. At most one lane with packets: append trailer (statistics blocks), cut to the
 * byte, fdatasync, rename to capture.pcapng, remove the other lanes, write record, rename the
 * directory, fsync its parent; *size_bytes = the file's size; returns 0. Little that was written onto a
 * spare is copied to a file of its own, and the spare is a spare again. More than one: cut and
 * fdatasync each, keep UUID.open, return 1: merge_prepare and merge_run must follow. -errno:
 * failed, what can be read stays readable in UUID.open; -ESTALE or -ENODATA: somebody else has removed,
 * replaced or cut what belongs to the capture, and nothing was touched. The record is durable before
 * capture.pcapng has its name; NULL keeps the one that is there. Closes the capture's descriptors in
 * each case. May be called again after a failure, and goes on where it stopped.
 */
int store_finish(struct store_capture *capture, const uint64_t *lane_bytes,
	const uint64_t *lane_packets, const void *trailer, uint64_t trailer_len, const char *record,
	int *suspect_rc, uint64_t *size_bytes);

/* Move to trash/ (one rename) and remove, or keep as a spare what makes a good one; true progress even
 * if killed between. 0, -ENOENT or -errno. */
int store_delete(const struct uuid *id);
/* Remove the data of a capture that nobody writes, keep its record (retention); UUID.open becomes
 * UUID. */
int store_expire(const struct uuid *id);

/* The file system's size and free bytes. */
struct store_usage {
	uint64_t size_bytes;
	uint64_t free_bytes;
};
int store_usage(struct store_usage *usage);

/* Of one capture, open or closed: length of its pcapng files, and what they take on disk. */
int store_size(const struct uuid *id, uint64_t *size_bytes, uint64_t *allocated_bytes);

/* Every capture directory, in no order: fn(id, open, record text or NULL). Before the loop. A
 * non-zero return of fn ends it and is returned. */
int store_each(
	int (*fn)(const struct uuid *id, bool open, const char *record, void *arg), void *arg);

/* Path of a capture's file for readers: lane < 0: capture.pcapng of a closed one. */
void store_path(const struct uuid *id, bool open, int lane, char *path, uint64_t size);

/* ROOT's descriptor, while the store is open. */
int store_root(void);

/* One of the paths that session_parts gives, for reading. No link beneath the root is followed. A file
 * descriptor or -errno. */
int store_part_open(const char *path);
/* The name of the directory's file system if it is one whose files can be made to read as zero and keep
 * their blocks: ext4, XFS. Else NULL. */
const char *store_system_name(int dir);

/* ---- for merge.c and merge_recover.c, bulk worker ---- */

#define STORE_CAPTURE   "capture.pcapng"
#define STORE_NAME_SIZE 32

void store_lane_name(unsigned lane, char name[STORE_NAME_SIZE]);

/* Directory descriptor of UUID.open or UUID, the caller's; or -errno. */
int store_dir_open(const struct uuid *id, bool open);

/* Open dir/name (made if need be) as a lane is: O_DIRECT where possible, at least want_bytes
 * allocated from allocated_bytes = from_bytes (a multiple of 4096) on. 0 or -errno. */
int store_lane_open(struct store_lane *lane, int dir, const char *name, uint64_t from_bytes,
	uint64_t want_bytes);
void store_lane_close(struct store_lane *lane);

/* End dir/name after len_bytes with the trailer, cut, fdatasync. May be called again with the same
 * arguments after a kill at any point. 0 or -errno. */
int store_seal(
	int dir, const char *name, uint64_t len_bytes, const void *trailer, uint64_t trailer_len);

/* Rename dir/name (whole and durable; may be done already) to capture.pcapng, remove all but that
 * and the record, rename UUID.open to UUID. May be called again after a kill. 0 or -errno. */
int store_publish(const struct uuid *id, int dir, const char *name, uint64_t *size_bytes);

#endif
