/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The merge of lanes: a heap of lanes by (time, lane) in front of one output that is written in
 * large O_DIRECT pieces; lanes are read ahead through the page cache and dropped from it behind.
 * What makes it restartable is one order of events: output durable, then the checkpoint that says
 * so, then holes in the lanes, up to the checkpoint before: one checkpoint may be lost. Bulk worker.
 */
#include "control/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "config/log.h"
#include "control/file.h"
#include "control/merge_output.h"
#include "control/merge_plan.h"

#define PAGE        4096ULL
#define OUTPUT      "capture.new"
#define WINDOWS_MAX (64ULL << 20) /* all lanes together, but each at least SCAN_WINDOW_MIN */
#define WINDOW_MAX  (4ULL << 20)
#define AHEAD_STEP  (1ULL << 20) /* of one request: the kernel may forget what is more */

uint64_t merge_checkpoint_bytes = 256ULL << 20;

struct merge_lane {
	unsigned index;
	int fd;
	uint64_t end; /* bytes of it that count */
	uint64_t punched;
	uint64_t ahead; /* asked for up to here */
	struct scan scan;
	struct scan_block block;     /* the next one */
	uint64_t stamp;              /* its time */
	const struct merge_gap *gap; /* in front of it, or NULL */
};

/* What UUID.open/merge.checkpoint holds. */
struct checkpoint {
	uint64_t out_bytes;
	uint64_t lane_bytes[STORE_LANES_MAX]; /* consumed; behind that: the next block */
};

struct merge {
	int dir;
	struct merge_plan plan;
	struct merge_output out;
	struct checkpoint checkpoint;
	struct checkpoint checkpoint_before;
	uint64_t generation;
	uint64_t checkpoint_at; /* the next one is due when the buffer filled begins here or behind
				 */
	unsigned n_lanes;
	struct merge_lane lanes[STORE_LANES_MAX];
	unsigned n_heap;
	struct merge_lane *heap[STORE_LANES_MAX];
};

static int merge_begin(int dir, const struct uuid *id, const char *record);
static int merge_build(int dir, const struct uuid *id, char name[STORE_NAME_SIZE]);
static int merge_lanes(struct merge *merge);
static int plan_fill(int dir, struct merge_plan *plan);

int merge_run(const struct uuid *id, const char *record, uint64_t *size_bytes)
{
	char name[STORE_NAME_SIZE] = OUTPUT;
	uint64_t allocated;
	int dir, rc;

	if (merge_canceled())
		return -ECANCELED;
	dir = store_dir_open(id, true);
	if (dir == -ENOENT)
		return store_size(id, size_bytes, &allocated);
	if (dir < 0)
		return dir;
	rc = merge_begin(dir, id, record);
	if (rc == 0)
		rc = merge_build(dir, id, name);
	if (rc == 0)
		rc = store_publish(id, dir, name, size_bytes);
	close(dir);
	return rc;
}

int merge_prepare(const struct uuid *id, const void *trailer, uint64_t trailer_len)
{
	struct merge_plan *plan;
	int dir, rc;

	if (trailer_len > sizeof(plan->trailer))
		return -EMSGSIZE;
	plan = calloc(1, sizeof(*plan));
	if (plan == NULL)
		return -ENOMEM;
	memcpy(plan->trailer, trailer, trailer_len);
	plan->trailer_len = trailer_len;
	dir = store_dir_open(id, true);
	rc = dir < 0 ? dir : plan_fill(dir, plan);
	if (rc == 0)
		rc = merge_plan_save(dir, id, plan);
	if (dir >= 0)
		close(dir);
	free(plan);
	return rc;
}

int merge_pending(const struct uuid *id)
{
	int dir, pending;

	dir = store_dir_open(id, true);
	if (dir < 0)
		return 0;
	pending = merge_plan_begun(dir, id);
	close(dir);
	return pending;
}

/* The record, then the mark that it is there: the slot file without a checkpoint in it. */
static int merge_begin(int dir, const struct uuid *id, const char *record)
{
	int rc = 0;

	if (record != NULL)
		rc = store_record_write(id, record);
	/* Without an output nothing was consumed, and what does not look new was not finished. */
	if (rc == 0 && faccessat(dir, OUTPUT, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
		rc = file_slots_fresh(dir, MERGE_CHECKPOINT);
		rc = rc == 0 ? file_slots_make(dir, MERGE_CHECKPOINT) : rc < 0 ? rc : 0;
	}
	return rc;
}

/* Which lane has all that there is to say: the only one with packets, or the first good one. */
static unsigned lane_only(const struct merge_plan *plan)
{
	for (unsigned i = 0; i < plan->n_lanes; i++)
		if (plan->lane_bytes[i] > plan->header_len)
			return i;
	return plan->header_lane;
}

/* Make the whole capture in a file of this directory, and say its name. */
static int merge_build(int dir, const struct uuid *id, char name[STORE_NAME_SIZE])
{
	struct merge *merge;
	unsigned only;
	int rc;

	if (faccessat(dir, STORE_CAPTURE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	merge = calloc(1, sizeof(*merge));
	if (merge == NULL)
		return -ENOMEM;
	merge->dir = dir;
	rc = merge_plan_load(dir, id, &merge->plan);
	if (rc == 0 && (merge_plan_lanes(&merge->plan) > 1 || merge->plan.n_gaps != 0)) {
		rc = merge_lanes(merge);
	} else if (rc == 0) {
		only = lane_only(&merge->plan);
		store_lane_name(only, name);
		rc = store_seal(dir, name, merge->plan.lane_bytes[only], merge->plan.trailer,
			merge->plan.trailer_len);
	}
	free(merge);
	return rc;
}

/* ---- checkpoints ---- */

/* Give the consumed part of a lane back, but for its header. Where that cannot be done it just
 * stays. */
static void lane_punch(struct merge *merge, struct merge_lane *lane, uint64_t consumed)
{
	uint64_t from = lane->punched, to = consumed / PAGE * PAGE;

	if (to <= from)
		return;
	if (fallocate(lane->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from) == 0)
		lane->punched = to;
}

/* Space runs out before the next checkpoint only if others take it. */
static void checkpoint_plan(struct merge *merge)
{
	uint64_t every = merge_checkpoint_bytes;
	struct statvfs fs;

	if (fstatvfs(merge->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize / 4 < every)
		every = (uint64_t)fs.f_bavail * fs.f_frsize / 4;
	merge->checkpoint_at = merge->out.offset + every;
}

static int checkpoint_take(struct merge *merge)
{
	struct checkpoint *checkpoint = &merge->checkpoint;
	struct merge_lane *lane;
	int rc;

	merge->checkpoint_before = *checkpoint;
	checkpoint->out_bytes = merge_output_bytes(&merge->out);
	for (unsigned i = 0; i < merge->n_lanes; i++) {
		lane = &merge->lanes[i];
		checkpoint->lane_bytes[lane->index] = lane->block.offset;
	}
	rc = merge_output_sync(&merge->out);
	if (rc == 0)
		rc = file_slot_write(merge->dir, MERGE_CHECKPOINT, ++merge->generation, checkpoint,
			sizeof(*checkpoint));
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < merge->n_lanes; i++) {
		lane = &merge->lanes[i];
		lane_punch(merge, lane, merge->checkpoint_before.lane_bytes[lane->index]);
	}
	checkpoint_plan(merge);
	return 0;
}

/* ---- lanes ---- */

/* A window was read: ask for the two that follow, and leave nothing behind in the page cache. */
static void lane_ahead(struct merge_lane *lane)
{
	const struct scan *scan = &lane->scan;
	uint64_t read_end = scan->window_offset + scan->window_len;
	uint64_t want = read_end + 2 * scan->window_size;

	if (want > lane->end)
		want = lane->end;
	if (lane->ahead >= want || lane->ahead >= read_end + scan->window_size)
		return;
	if (lane->ahead < read_end)
		lane->ahead = read_end;
	for (; lane->ahead < want; lane->ahead += AHEAD_STEP)
		posix_fadvise(lane->fd, lane->ahead, AHEAD_STEP, POSIX_FADV_WILLNEED);
	if (scan->window_offset > 0) /* a length of 0 is all of the file */
		posix_fadvise(lane->fd, 0, scan->window_offset, POSIX_FADV_DONTNEED);
}

/* Have the lane's next block; behind the last one its block is an empty one at the end. */
static int lane_next(struct merge *merge, struct merge_lane *lane)
{
	const struct merge_gap *gap;
	int rc;

	gap = merge_plan_gap_at(&merge->plan, lane->index, lane->scan.offset);
	if (gap != NULL)
		lane->scan.offset = gap->to;
	lane->gap = merge_plan_gap_before(&merge->plan, lane->index, lane->scan.offset);
	rc = scan_next(&lane->scan, &lane->block);

	lane_ahead(lane);
	if (rc == 1) {
		if (lane->block.type == PCAPNG_EPB)
			lane->stamp = scan_stamp(&lane->block);
		return 0;
	}
	lane->block = (struct scan_block){.offset = lane->scan.offset};
	if (rc == 0 && lane->scan.stop != SCAN_END) {
		log_error("merge: lane %u is damaged at byte %llu (%s): nothing behind that is "
			  "merged",
			lane->index, (unsigned long long)lane->scan.offset,
			scan_stop_name(lane->scan.stop));
		rc = -EBADMSG;
	}
	return rc;
}

static int lane_open(struct merge *merge, unsigned index, size_t window_size)
{
	struct merge_lane *lane = &merge->lanes[merge->n_lanes];
	uint64_t len;
	char name[STORE_NAME_SIZE];
	int rc;

	store_lane_name(index, name);
	lane->index = index;
	lane->end = merge->plan.lane_bytes[index];
	lane->punched = (merge->plan.header_len + PAGE - 1) / PAGE * PAGE;
	lane->fd = openat(merge->dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (lane->fd < 0)
		return -errno;
	merge->n_lanes++;
	len = merge->checkpoint.lane_bytes[index];
	rc = scan_open(&lane->scan, lane->fd, len, lane->end, window_size);
	if (rc != 0)
		return rc;
	/* The header was read when the plan was made; it may be gone by now. */
	lane->scan.n_interfaces = UINT32_MAX;
	return lane_next(merge, lane);
}

static void lanes_close(struct merge *merge)
{
	for (unsigned i = 0; i < merge->n_lanes; i++) {
		scan_close(&merge->lanes[i].scan);
		close(merge->lanes[i].fd);
	}
}

static bool lane_before(const struct merge_lane *a, const struct merge_lane *b)
{
	return a->stamp != b->stamp ? a->stamp < b->stamp : a->index < b->index;
}

static bool lane_empty(const struct merge_lane *lane)
{
	return lane->block.len == 0;
}

/* ---- heap ---- */

static void heap_down(struct merge *merge, unsigned at)
{
	struct merge_lane **heap = merge->heap, *lane = heap[at];
	unsigned child;

	while ((child = 2 * at + 1) < merge->n_heap) {
		if (child + 1 < merge->n_heap && lane_before(heap[child + 1], heap[child]))
			child++;
		if (!lane_before(heap[child], lane))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = lane;
}

static void heap_make(struct merge *merge)
{
	for (unsigned i = 0; i < merge->n_lanes; i++)
		if (!lane_empty(&merge->lanes[i]))
			merge->heap[merge->n_heap++] = &merge->lanes[i];
	for (unsigned i = merge->n_heap / 2; i-- > 0;)
		heap_down(merge, i);
}

/* The lane that comes after the first; NULL when there is no other. */
static struct merge_lane *heap_second(const struct merge *merge)
{
	if (merge->n_heap < 3)
		return merge->n_heap == 2 ? merge->heap[1] : NULL;
	return lane_before(merge->heap[1], merge->heap[2]) ? merge->heap[1] : merge->heap[2];
}

static void heap_settle(struct merge *merge)
{
	if (lane_empty(merge->heap[0]))
		merge->heap[0] = merge->heap[--merge->n_heap];
	if (merge->n_heap > 0)
		heap_down(merge, 0);
}

/* ---- the merge ---- */

/* The block behind a gap, with what tells of it. */
static int gap_put(struct merge *merge, const struct merge_lane *lane)
{
	uint8_t *block = malloc(lane->block.len + MERGE_GAP_TEXT_MAX);
	int rc;

	if (block == NULL)
		return -ENOMEM;
	rc = merge_output_put(&merge->out, block, merge_gap_put(block, &lane->block, lane->gap));
	free(block);
	return rc;
}

/* Take from the first lane as long as it is the first. */
static int merge_step(struct merge *merge)
{
	struct merge_lane *lane = merge->heap[0], *second = heap_second(merge);
	int rc;

	do {
		if (lane->gap == NULL)
			rc = merge_output_put(&merge->out, lane->block.data, lane->block.len);
		else
			rc = gap_put(merge, lane);
		if (rc == 0)
			rc = lane_next(merge, lane);
		if (rc == 0 && merge->out.offset >= merge->checkpoint_at)
			rc = checkpoint_take(merge);
		if (rc == 0 && merge_canceled())
			rc = -ECANCELED;
		if (rc != 0)
			return rc;
	} while (!lane_empty(lane) && (second == NULL || lane_before(lane, second)));
	heap_settle(merge);
	return 0;
}

static int header_put(struct merge *merge)
{
	uint64_t len = merge->plan.header_len, lane_len;
	uint8_t *header;
	int fd, rc;

	header = malloc(len);
	fd = merge_lane_open(merge->dir, merge->plan.header_lane, &lane_len);
	if (header == NULL || fd < 0)
		rc = header == NULL ? -ENOMEM : fd;
	else
		rc = file_read_at(fd, header, len, 0);
	if (rc == 0)
		rc = merge_output_put(&merge->out, header, len);
	if (fd >= 0)
		close(fd);
	free(header);
	return rc;
}

/* Where to go on: the checkpoint, or the begin. */
static int checkpoint_find(struct merge *merge)
{
	struct checkpoint *checkpoint = &merge->checkpoint;
	int rc;

	rc = file_slot_read(
		merge->dir, MERGE_CHECKPOINT, &merge->generation, checkpoint, sizeof(*checkpoint));
	if (rc != -ENOENT)
		return rc;
	/* Of a file that is no checkpoint, and not as it was made, nobody knows what was consumed. */
	rc = file_slots_fresh(merge->dir, MERGE_CHECKPOINT);
	if (rc != 1)
		return rc == 0 ? -EBADMSG : rc;
	for (unsigned i = 0; i < merge->plan.n_lanes; i++)
		checkpoint->lane_bytes[i] = merge->plan.header_len;
	return 0;
}

static int lanes_open(struct merge *merge)
{
	size_t window_size = WINDOWS_MAX / merge_plan_lanes(&merge->plan);
	int rc = 0;

	if (window_size < SCAN_WINDOW_MIN)
		window_size = SCAN_WINDOW_MIN;
	if (window_size > WINDOW_MAX)
		window_size = WINDOW_MAX;
	for (unsigned i = 0; i < merge->plan.n_lanes && rc == 0; i++)
		if (merge->plan.lane_bytes[i] > merge->plan.header_len)
			rc = lane_open(merge, i, window_size);
	return rc;
}

static int merge_lanes(struct merge *merge)
{
	int rc;

	rc = checkpoint_find(merge);
	if (rc != 0)
		return rc;
	rc = merge_output_open(&merge->out, merge->dir, OUTPUT, merge->checkpoint.out_bytes);
	if (rc == 0 && merge->checkpoint.out_bytes == 0)
		rc = header_put(merge);
	if (rc == 0)
		rc = lanes_open(merge);
	heap_make(merge);
	checkpoint_plan(merge);
	while (rc == 0 && merge->n_heap > 0)
		rc = merge_step(merge);
	if (rc == 0)
		rc = merge_output_put(&merge->out, merge->plan.trailer, merge->plan.trailer_len);
	if (rc == 0)
		rc = merge_output_finish(&merge->out);
	lanes_close(merge);
	merge_output_close(&merge->out);
	return rc;
}

/* ---- the plan ---- */

static int header_measure(int fd, uint64_t len, uint64_t *header_len)
{
	struct scan_block block;
	struct scan scan;
	int rc;

	rc = scan_open(&scan, fd, 0, len, SCAN_WINDOW_MIN);
	if (rc != 0)
		return rc;
	rc = merge_header_skip(&scan, &block);
	*header_len = scan.offset;
	scan_close(&scan);
	return rc < 0 ? rc : 0;
}

/* The lanes as store_finish cut them. */
static int plan_fill(int dir, struct merge_plan *plan)
{
	int fd, rc = 0;

	for (; plan->n_lanes < STORE_LANES_MAX && rc == 0; plan->n_lanes++) {
		fd = merge_lane_open(dir, plan->n_lanes, &plan->lane_bytes[plan->n_lanes]);
		if (fd < 0)
			return fd == -ENOENT && plan->n_lanes > 0 ? 0 : fd;
		if (plan->n_lanes == 0)
			rc = header_measure(fd, plan->lane_bytes[0], &plan->header_len);
		close(fd);
	}
	return rc;
}
