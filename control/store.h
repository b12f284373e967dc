/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Captures as files. Everything here blocks: it runs on the storage, bulk or read worker (or in main
 * before the loop), never on the control thread. No function keeps state between calls but the root's
 * directory descriptor; what a capture has open is in struct store_capture, owned by the caller.
 *
 *   ROOT/lock                                    flock: one daemon per root
 *   ROOT/captures/UUID.open/  record lane<k>.pcapng    while running, merging, recovering
 *   ROOT/captures/UUID/       record capture.pcapng    one rename of the directory = complete
 *   ROOT/trash/UUID                                    being deleted
 *
 * Invariant: a byte that a capture has not written reads as zero.
 */
#ifndef CONTROL_STORE_H
#define CONTROL_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/err.h"
#include "control/uuid.h"
#include "engine/pcapng.h"

#define STORE_LANES_MAX 256

/* Main, before the threads. Make the root's directories (0700), take the lock, empty the trash. */
int store_open(const char *root, struct err *err);
void store_close(void);

struct store_lane {
	int fd;			  /* what the writer writes to: O_DIRECT where the file system can */
	bool direct;
	uint64_t allocated_bytes; /* by fallocate, size included; 0 where fallocate is not supported */
};

struct store_capture {
	struct uuid id;
	int dir; /* UUID.open */
	unsigned n_lanes;
	struct store_lane lanes[STORE_LANES_MAX];
};

/*
 * Make UUID.open with its record and n_lanes lane files, each starting with header (section and
 * interface blocks); everything fsynced, the directory and its parent too. On failure nothing is left.
 * err: field "output", code ENOSPC, EIO ...
 */
int store_create(struct store_capture *capture, const struct uuid *id, unsigned n_lanes,
	const void *header, uint64_t header_len, const char *record, struct err *err);

/*
 * Keep space ahead: extend the lane's file until allocated_bytes >= want_bytes (1 MiB, doubling, then
 * 256 MiB steps). 0, -ENOSPC when the disk is full (after trying smaller steps), or -errno. 0 and
 * nothing done where fallocate is not supported.
 */
int store_extend(struct store_lane *lane, uint64_t want_bytes);

/* fdatasync one lane. 0 or -errno; after a failure the lane must be treated as suspect for ever. */
int store_sync(struct store_lane *lane);

/* Replace the record (write new, fsync, rename, fsync directory). Works on UUID.open and UUID. */
int store_record_write(const struct uuid *id, const char *record);

/*
 * The durable marks of a running capture: two slots in turn in UUID.open/state, crc32c and generation.
 */
struct store_mark {
	uint64_t durable_bytes; /* of the lane file */
	uint64_t durable_packets;
};
struct store_state {
	uint64_t generation;
	uint64_t accepted; /* at the time of the mark */
	uint64_t dropped;
	unsigned n_lanes;
	struct store_mark marks[STORE_LANES_MAX];
};
int store_state_write(struct store_capture *capture, struct store_state *state);
int store_state_read(int dir, struct store_state *state); /* newest valid slot; -ENOENT: none */

/*
 * Close a capture whose lanes have settled. lane_bytes[k] = end of lane k's last whole packet;
 * lane_packets[k]. At most one lane with packets: append trailer (statistics blocks), cut to the byte,
 * fdatasync, rename to capture.pcapng, remove the other lanes, write record, rename the directory,
 * fsync its parent; *size_bytes = the file's size; returns 0. More than one: cut and fdatasync each,
 * keep UUID.open, return 1: a merge must follow. -errno: failed, what can be read stays readable.
 * Closes the lanes' descriptors in each case.
 */
int store_finish(struct store_capture *capture, const uint64_t *lane_bytes,
	const uint64_t *lane_packets, const void *trailer, uint64_t trailer_len, const char *record,
	uint64_t *size_bytes);

/* Move to trash/ (one rename) and remove; true progress even if killed between. 0 or -errno. */
int store_delete(const struct uuid *id);
/* Remove the data of a closed capture, keep its record (retention). */
int store_expire(const struct uuid *id);

/* Bytes that sessions' files take on disk (allocated), and the file system's size and free bytes. */
struct store_usage {
	uint64_t used_bytes;
	uint64_t size_bytes;
	uint64_t free_bytes;
};
int store_usage(struct store_usage *usage);

/* Every capture directory, in no order: fn(id, open, record text or NULL). Before the loop. */
int store_each(int (*fn)(const struct uuid *id, bool open, const char *record, void *arg), void *arg);

/* Path of a capture's file for readers: lane < 0: capture.pcapng of a closed one. */
void store_path(const struct uuid *id, bool open, int lane, char *path, uint64_t size);

#endif
