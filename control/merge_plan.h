/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a merge must know to start and to go on after a kill: UUID.open/merge, written once, whole
 * or not at all. For merge.c and merge_recover.c; bulk worker.
 */
#ifndef CONTROL_MERGE_PLAN_H
#define CONTROL_MERGE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "control/scan.h"
#include "control/store.h"

#define MERGE_CHECKPOINT "merge.checkpoint" /* a slot file; there since a merge_run began */

/* A place in a lane where bytes were lost: what goes on behind it begins with a packet. */
#define MERGE_GAPS_MAX 1024
struct merge_gap {
	uint64_t from; /* end of the last good block */
	uint64_t to;
	uint64_t packets; /* that stood there */
	uint64_t told;    /* losses that these packets told of */
	uint64_t lane;
};

struct merge_plan {
	uint32_t recovered; /* made by merge_recover: its caller has not written the record yet */
	uint32_t n_lanes;
	uint32_t header_lane; /* whose first header_len bytes begin the capture */
	uint32_t trailer_len;
	uint64_t header_len;
	uint64_t
		lane_bytes[STORE_LANES_MAX]; /* end of the lane's last whole block; 0 = no header */
	uint8_t trailer[STORE_LANES_MAX * PCAPNG_STATISTICS_MAX];
	/* version 1 ends here */
	uint64_t gaps_bytes; /* what telling of the gaps makes the capture longer */
	uint64_t n_gaps;
	struct merge_gap gaps[MERGE_GAPS_MAX]; /* by lane and offset */
};

/* id's plan in dir, of this version or the one before. 0, -ENOENT, -EBADMSG (checksum), or -errno. */
int merge_plan_load(int dir, const struct uuid *id, struct merge_plan *plan);
/* Twice, one after the other: lanes are consumed by what it says, so it must not be lost. */
int merge_plan_save(int dir, const struct uuid *id, const struct merge_plan *plan);

/* Lanes with packets. */
unsigned merge_plan_lanes(const struct merge_plan *plan);

/* The file that the plan leads to. */
uint64_t merge_plan_size(const struct merge_plan *plan);

/* Walk over the section header and interface blocks at the scan's begin, up to the first other
 * block: scan->offset is then the header's length. 1: *block is that block; 0: the scan stopped;
 * -errno. */
int merge_header_skip(struct scan *scan, struct scan_block *block);

/* The gap in front of the block at offset of lane, or NULL. */
const struct merge_gap *merge_plan_gap_before(
	const struct merge_plan *plan, unsigned lane, uint64_t offset);
/* The gap that begins at offset of lane, or NULL. */
const struct merge_gap *merge_plan_gap_at(
	const struct merge_plan *plan, unsigned lane, uint64_t offset);

/*
 * The packet block behind a gap as it stands in the capture: with what was lost in epb_dropcount and a
 * comment. out has room for the block and MERGE_GAP_TEXT_MAX more. Returns its length.
 */
#define MERGE_GAP_TEXT_MAX 256
uint32_t merge_gap_put(uint8_t *out, const struct scan_block *block, const struct merge_gap *gap);

/* dir/lane<k> for reading, and its length; -ENOENT behind the last one. */
int merge_lane_open(int dir, unsigned lane, uint64_t *len_bytes);

/* Any thread: merge_cancel was called. */
bool merge_canceled(void);

/* 1 when merge_run was called before or needs nobody's record: see merge_pending. */
int merge_plan_begun(int dir, const struct uuid *id);

#endif
