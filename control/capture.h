/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The files of one running session: made, kept ahead of the writers, synced and closed on the storage
 * worker, asked for on the control thread. All functions are the control thread's; none blocks.
 */
#ifndef CONTROL_CAPTURE_H
#define CONTROL_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/err.h"
#include "control/uuid.h"

struct capture;
struct tap;

typedef void capture_done(void *arg, const struct err *err);

/* header (the file's section and interface blocks, malloc'ed) becomes the capture's. expect_bytes: about
 * how large it will be, UINT64_MAX: nobody knows. NULL: no memory. */
struct capture *capture_new(const struct uuid *id, unsigned n_lanes, uint64_t expect_bytes,
	void *header, size_t header_len);
/* No job of it may be under way. NULL is fine. */
void capture_free(struct capture *capture);

/* Make directory and files; done with err->code 0, or the reason and nothing left behind. record is
 * malloc'ed text and becomes the capture's. */
void capture_create(struct capture *capture, char *record, capture_done *done, void *arg);
/* Before create: what bounds the packets that a crash may leave unaccounted. No more than rate_max_pps
 * are accepted a second (0: nobody knows). */
void capture_bounds(struct capture *capture, uint64_t rate_max_pps);
/* Before create: on a full disk the tap, which waits, too, loses packets until there is space. */
void capture_wait(struct capture *capture);
/* While it is being made: nobody is told any more, what was made is removed, and it frees itself. */
void capture_abandon(struct capture *capture);
/* After create: tell the tap's lanes where to write. */
void capture_connect(struct capture *capture, struct tap *tap);

/*
 * Ten times a second while the tap is not drained: extend files that are about to be full, sync when
 * sync_every_ns is over and something was written. Posts at most one job at a time; trouble (full disk,
 * failed sync) raises the tap's end.
 */
void capture_tend(struct capture *capture, struct tap *tap, uint64_t sync_every_ns);

/* Nothing is set aside for it from the next capture_tend on, as if the disk were full. */
void capture_hold(struct capture *capture, bool hold);
/* It waits for space. */
bool capture_full(const struct capture *capture);
/* What made it raise the tap's end: a sentence, or NULL. */
const char *capture_trouble(const struct capture *capture);

/* What its index could not be written for, or 0: a recovery would know less. Not for want of space. */
int capture_index_error(const struct capture *capture);

/*
 * The tap has drained: close the files. trailer and record are malloc'ed and become the capture's. done
 * gets err->code 0 and then capture_merges says whether a merge must follow. After an error it may be
 * tried once more, with a record that tells what is known by now.
 */
void capture_finish(struct capture *capture, const struct tap *tap, void *trailer,
	size_t trailer_len, char *record, capture_done *done, void *arg);
void capture_finish_again(struct capture *capture, char *record);
bool capture_merges(const struct capture *capture);
/*
 * It could not be closed, and its tap is gone: try again, with the record as it should be now (malloc'ed);
 * false: that is no use, the files are not what was written any more. done as before; then
 * capture_size_bytes is the closed file's.
 */
bool capture_finish_later(struct capture *capture, char *record, capture_done *done, void *arg);
uint64_t capture_size_bytes(const struct capture *capture);
/* What the closed file will have: known before it is closed. */
uint64_t capture_final_size(
	const struct capture *capture, const struct tap *tap, size_t trailer_len);

/*
 * Packets behind a successful fdatasync. Once one has failed this stands still for ever: the kernel may
 * have given up what it could not write, and a later sync would say that all is well.
 */
uint64_t capture_durable_packets(const struct capture *capture);
/* -errno of the sync that failed, or 0. */
int capture_suspect(const struct capture *capture);
/* How long the oldest accepted packet has been waiting for that, to a tenth of a second; 0: none is. */
uint64_t capture_risk_ns(const struct capture *capture);
/* Captures of this process of which a sync failed. */
uint64_t capture_sync_failures(void);
/* Disk space that its files hold. */
uint64_t capture_allocated_bytes(const struct capture *capture);

#endif
