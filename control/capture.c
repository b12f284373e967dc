/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/ceiling.h"
#include "control/job.h"
#include "control/merge.h"
#include "control/spare_fill.h"
#include "control/store.h"
#include "engine/clock.h"
#include "engine/tap.h"

#define AHEAD_BYTES_MIN (1ULL << 20)  /* kept ahead of a lane that is idle */
#define SPACE_RESERVE   (64ULL << 10) /* of a full disk, for the statistics at the file's end */
#define PROBES_MAX      16

static uint64_t sync_failures;

/* When so many packets had been accepted: as long as not all of them are durable or lost, they are at
 * risk since then. */
struct probe {
	uint64_t at_ns;
	uint64_t accepted;
};

struct capture {
	struct uuid id;
	unsigned n_lanes;
	uint64_t expect_bytes;
	void *header;
	size_t header_len;
	struct store_capture store;
	struct job job; /* create or finish */
	struct job tend;
	bool tending;
	char *record;
	void *trailer;
	size_t trailer_len;
	struct err err;
	int finish_rc;
	capture_done *done;
	void *arg;

	/* control fills, the tend job reads */
	struct tap *tap; /* for the end that trouble raises; alive while tending */
	struct tap_lane_mark marks[STORE_LANES_MAX];
	uint64_t want_bytes[STORE_LANES_MAX];
	uint64_t marked_ns;
	struct store_books books;
	bool noted; /* nothing was accepted or lost since */
	unsigned n_bounds[STORE_LANES_MAX];
	struct tap_bound (*bounds)[TAP_BOUNDS_MAX]; /* by lane: where packets begin, news */
	bool sync;
	bool suspect_known; /* what is to be closed tells of it */
	bool hold;
	bool full; /* the last extension found no space, and it waits */

	/* the storage worker's own */
	int suspect_rc; /* of the first sync that failed: none is believed any more */

	/* the jobs' results */
	int extend_rc;
	int damage; /* the files are not what was written any more: no use to close them */
	int sync_rc;
	int index_rc; /* the first that the index could not be written for, but for want of space */
	bool all_synced;
	uint64_t synced_packets;
	struct store_state state;

	/* control fills, the finish job reads: a tend job may still be reading its own */
	struct tap_lane_mark ends[STORE_LANES_MAX];

	/* control's own */
	uint64_t bound_serials[STORE_LANES_MAX];
	uint64_t synced_ns;
	uint64_t durable_packets;
	uint64_t allocated_bytes;
	int suspect; /* as suspect_rc */
	unsigned n_probes;
	struct probe probes[PROBES_MAX];
	bool waits;
	bool space_missing; /* a write waits for it */
	uint64_t size_bytes;
	char trouble[160];
};

static void create_run(struct job *job);
static void job_done(struct job *job);
static void abandoned_run(struct job *job);
static void abandoned_done(struct job *job);
static void marks_take(struct capture *capture, const struct tap *tap);
static void books_take(struct capture *capture, const struct tap *tap);
static void tend_run(struct job *job);
static int lane_extend(struct capture *capture, unsigned index);
static void space_tell(struct capture *capture, bool full);
static void trouble_set(struct capture *capture, const char *what, int rc);
static void index_tend(struct capture *capture);
static int lanes_sync(struct capture *capture);
static uint64_t settled_packets(const struct capture *capture);
static void probe_add(struct capture *capture);
static void probes_settle(struct capture *capture);
static void suspect_note(struct capture *capture);
static void tend_done(struct job *job);
static void finish_run(struct job *job);
static struct capture *capture_of(struct job *job);

struct capture *capture_new(const struct uuid *id, unsigned n_lanes, uint64_t expect_bytes,
	void *header, size_t header_len)
{
	struct capture *capture = calloc(1, sizeof(*capture));

	if (capture == NULL) {
		free(header);
		return NULL;
	}
	capture->id = *id;
	capture->n_lanes = n_lanes;
	capture->expect_bytes = expect_bytes;
	capture->header = header;
	capture->header_len = header_len;
	capture->synced_ns = clock_monotonic_ns();
	capture->bounds = calloc(n_lanes, sizeof(*capture->bounds));
	if (capture->bounds == NULL) {
		capture_free(capture);
		return NULL;
	}
	return capture;
}

void capture_free(struct capture *capture)
{
	if (capture == NULL)
		return;
	free(capture->header);
	free(capture->record);
	free(capture->trailer);
	free(capture->bounds);
	free(capture);
}

void capture_bounds(struct capture *capture, uint64_t rate_max_pps)
{
	capture->books.noted_ns = clock_wall_ns();
	capture->books.rate_max_pps = rate_max_pps;
}

void capture_create(struct capture *capture, char *record, capture_done *done, void *arg)
{
	ceiling_yield();
	spare_fill_yield();
	capture->record = record;
	capture->done = done;
	capture->arg = arg;
	capture->job = (struct job){.run = create_run, .done = job_done, .work = FAULT_WORK_CREATE};
	job_post(WORKER_STORAGE, &capture->job);
}

void capture_wait(struct capture *capture)
{
	capture->waits = true;
}

void capture_abandon(struct capture *capture)
{
	capture->done = NULL;
}

void capture_connect(struct capture *capture, struct tap *tap)
{
	for (unsigned i = 0; i < capture->n_lanes; i++) {
		const struct store_lane *lane = &capture->store.lanes[i];

		tap_lane_sink(tap, i, lane->fd, lane->direct, capture->header, capture->header_len);
		capture->allocated_bytes += lane->allocated_bytes;
	}
}

void capture_tend(struct capture *capture, struct tap *tap, uint64_t sync_every_ns)
{
	if (capture->tending)
		return;
	capture->tending = true;
	capture->tap = tap;
	marks_take(capture, tap);
	capture->sync = capture->marked_ns - capture->synced_ns >= sync_every_ns &&
			capture->durable_packets != capture->synced_packets &&
			capture->suspect == 0;
	capture->tend = (struct job){.run = tend_run, .done = tend_done, .work = FAULT_WORK_TEND};
	job_post(WORKER_STORAGE, &capture->tend);
}

void capture_finish(struct capture *capture, const struct tap *tap, void *trailer,
	size_t trailer_len, char *record, capture_done *done, void *arg)
{
	for (unsigned i = 0; i < capture->n_lanes; i++)
		tap_lane_mark(tap, i, &capture->ends[i]);
	free(capture->record);
	capture->record = record;
	capture->trailer = trailer;
	capture->trailer_len = trailer_len;
	capture->suspect_known = capture->suspect != 0;
	capture->done = done;
	capture->arg = arg;
	capture->job = (struct job){.run = finish_run, .done = job_done, .work = FAULT_WORK_CLOSE};
	job_post(WORKER_STORAGE, &capture->job);
}

void capture_finish_again(struct capture *capture, char *record)
{
	free(capture->record);
	capture->record = record;
	capture->suspect_known = capture->suspect != 0;
	job_post(WORKER_STORAGE, &capture->job);
}

int capture_suspect(const struct capture *capture)
{
	return capture->suspect;
}

void capture_hold(struct capture *capture, bool hold)
{
	if (!capture->tending)
		capture->hold = hold;
}

bool capture_full(const struct capture *capture)
{
	return capture->full || capture->space_missing;
}

const char *capture_trouble(const struct capture *capture)
{
	return capture->trouble[0] != '\0' ? capture->trouble : NULL;
}

int capture_index_error(const struct capture *capture)
{
	return capture->tending ? 0 : capture->index_rc;
}

bool capture_finish_later(struct capture *capture, char *record, capture_done *done, void *arg)
{
	if (capture->damage != 0) {
		free(record);
		return false;
	}
	capture->done = done;
	capture->arg = arg;
	capture_finish_again(capture, record);
	return true;
}

uint64_t capture_size_bytes(const struct capture *capture)
{
	return capture->size_bytes;
}

bool capture_merges(const struct capture *capture)
{
	return capture->finish_rc == 1;
}

uint64_t capture_final_size(
	const struct capture *capture, const struct tap *tap, size_t trailer_len)
{
	uint64_t size_bytes = capture->header_len + trailer_len;

	for (unsigned i = 0; i < capture->n_lanes; i++) {
		struct tap_lane_mark mark;

		tap_lane_mark(tap, i, &mark);
		size_bytes += mark.written_bytes - capture->header_len;
	}
	return size_bytes;
}

uint64_t capture_durable_packets(const struct capture *capture)
{
	return capture->durable_packets;
}

uint64_t capture_risk_ns(const struct capture *capture)
{
	return capture->n_probes != 0 ? clock_monotonic_ns() - capture->probes[0].at_ns : 0;
}

uint64_t capture_sync_failures(void)
{
	return sync_failures;
}

uint64_t capture_allocated_bytes(const struct capture *capture)
{
	return capture->allocated_bytes;
}

static void create_run(struct job *job)
{
	struct capture *capture = capture_of(job);
	int rc = store_create(&capture->store, &capture->id, capture->n_lanes,
		capture->expect_bytes / capture->n_lanes, capture->header, capture->header_len,
		capture->record, &capture->err);

	if (rc != 0 && capture->err.code == 0)
		err_set(&capture->err, -rc, "output", "cannot make the capture's files: %s",
			strerror(-rc));
	if (rc == 0)
		index_note(&capture->store.index, &capture->books, sizeof(capture->books));
}

static void job_done(struct job *job)
{
	struct capture *capture = capture_of(job);
	const struct err err = capture->err;

	if (capture->done == NULL) {
		capture->job = (struct job){.run = abandoned_run, .done = abandoned_done};
		job_post(WORKER_STORAGE, &capture->job);
		return;
	}
	suspect_note(capture);
	if (capture->all_synced && capture->suspect == 0) {
		capture->n_probes = 0;
		capture->durable_packets = 0;
		for (unsigned i = 0; i < capture->n_lanes; i++)
			capture->durable_packets += capture->ends[i].written_packets;
	}
	memset(&capture->err, 0, sizeof(capture->err));
	capture->done(capture->arg, &err);
}

static void abandoned_run(struct job *job)
{
	struct capture *capture = capture_of(job);

	if (capture->err.code != 0)
		return;
	store_release(&capture->store);
	store_delete(&capture->id);
}

static void abandoned_done(struct job *job)
{
	capture_free(capture_of(job));
}

/* How far each lane is, and how far its space should reach: what it wrote in a second, ahead. */
static void marks_take(struct capture *capture, const struct tap *tap)
{
	const uint64_t now_ns = clock_monotonic_ns();
	const uint64_t elapsed_ns = now_ns - capture->marked_ns + 1;

	capture->synced_packets = 0;
	for (unsigned i = 0; i < capture->n_lanes; i++) {
		struct tap_lane_mark *mark = &capture->marks[i];
		uint64_t before = mark->submitted_bytes;
		uint64_t ahead;

		tap_lane_mark(tap, i, mark);
		ahead = (mark->submitted_bytes - before) * CLOCK_NS_PER_S / elapsed_ns;
		if (ahead < AHEAD_BYTES_MIN / 2)
			ahead = AHEAD_BYTES_MIN / 2;
		capture->want_bytes[i] = mark->submitted_bytes + ahead;
		capture->synced_packets += mark->written_packets;
		capture->n_bounds[i] =
			tap_lane_bounds(tap, i, &capture->bound_serials[i], capture->bounds[i]);
	}
	capture->marked_ns = now_ns;
	books_take(capture, tap);
}

static void books_take(struct capture *capture, const struct tap *tap)
{
	struct store_books *books = &capture->books;
	const struct store_books before = *books;
	struct ledger ledger;

	/* Before the counters: what comes in between counts as later. */
	books->noted_ns = clock_wall_ns();
	tap_ledger(tap, &ledger);
	books->offered = ledger.offered;
	books->filtered = ledger.filtered;
	books->sampled_out = ledger.sampled_out;
	books->over_limit = ledger.over_limit;
	books->accepted = ledger.accepted;
	books->stamps_raised = ledger.stamps_raised;
	for (unsigned i = 0; i < DROP_COUNT; i++)
		books->dropped[i] = ledger.dropped[i];
	for (unsigned i = 0; i < tap_interfaces(tap); i++) {
		struct tap_interface stats;

		tap_interface(tap, i, &stats);
		books->if_dropped[i] = stats.dropped;
	}
	capture->noted = before.offered == books->offered && before.accepted == books->accepted &&
			 memcmp(before.dropped, books->dropped, sizeof(before.dropped)) == 0;
	probe_add(capture);
}

/* Durable, or lost. */
static uint64_t settled_packets(const struct capture *capture)
{
	uint64_t settled = capture->durable_packets;

	for (unsigned i = 0; i < DROP_COUNT; i++)
		settled += capture->books.dropped[i];
	return settled;
}

/* Where the disk takes its time every second probe goes, but never the oldest. */
static void probe_add(struct capture *capture)
{
	unsigned n;

	probes_settle(capture);
	n = capture->n_probes;
	if (capture->books.accepted <= settled_packets(capture) ||
		(n != 0 && capture->probes[n - 1].accepted == capture->books.accepted))
		return;
	if (capture->n_probes == PROBES_MAX) {
		capture->n_probes = PROBES_MAX / 2;
		for (unsigned i = 0; i < PROBES_MAX / 2; i++)
			capture->probes[i] = capture->probes[2 * i];
	}
	capture->probes[capture->n_probes++] =
		(struct probe){.at_ns = capture->marked_ns, .accepted = capture->books.accepted};
}

static void probes_settle(struct capture *capture)
{
	const uint64_t settled = settled_packets(capture);
	unsigned n = 0;

	while (n < capture->n_probes && capture->probes[n].accepted <= settled)
		n++;
	capture->n_probes -= n;
	memmove(capture->probes, capture->probes + n, capture->n_probes * sizeof(struct probe));
}

/* The pages of a failed sync may be gone while the next one says that all is well. */
static void suspect_note(struct capture *capture)
{
	char text[UUID_TEXT_SIZE];

	if (capture->suspect != 0 || capture->suspect_rc == 0)
		return;
	capture->suspect = capture->suspect_rc;
	sync_failures++;
	uuid_print(&capture->id, text);
	log_error("capture %s cannot be made durable: %s", text, strerror(-capture->suspect));
}

static bool is_damage(int rc)
{
	return rc == -ESTALE || rc == -ENODATA;
}

static void tend_run(struct job *job)
{
	struct capture *capture = (struct capture *)((char *)job - offsetof(struct capture, tend));

	capture->extend_rc = 0;
	capture->sync_rc = 0;
	for (unsigned i = 0; i < capture->n_lanes; i++) {
		int rc = store_lane_check(&capture->store.lanes[i]);

		if (is_damage(rc))
			capture->damage = rc;
		if (rc == 0)
			rc = lane_extend(capture, i);
		if (rc != 0)
			capture->extend_rc = rc;
	}
	index_tend(capture);
	if (!capture->sync)
		return;
	if (capture->suspect_rc == 0)
		capture->suspect_rc = lanes_sync(capture);
	capture->sync_rc = capture->suspect_rc;
}

/* Once it is full there is room again when the file has grown, and not when less is wanted. */
static int lane_extend(struct capture *capture, unsigned index)
{
	struct store_lane *lane = &capture->store.lanes[index];
	uint64_t want_bytes = capture->want_bytes[index];

	if (capture->full && want_bytes < lane->allocated_bytes + AHEAD_BYTES_MIN)
		want_bytes = lane->allocated_bytes + AHEAD_BYTES_MIN;
	if (capture->hold && want_bytes > lane->allocated_bytes)
		return -ENOSPC;
	return store_extend(lane, want_bytes);
}

static bool is_full(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

static void index_check(struct capture *capture, int rc)
{
	if (capture->index_rc == 0 && !is_full(rc))
		capture->index_rc = rc;
}

/* It helps a recovery and is no promise: where it cannot be written, less can be rescued. */
static void index_tend(struct capture *capture)
{
	struct index_file *index = &capture->store.index;
	bool news = !capture->noted;
	int rc = 0;

	for (unsigned i = 0; i < capture->n_lanes; i++)
		for (unsigned k = 0; k < capture->n_bounds[i] && rc == 0; k++) {
			const struct tap_bound *bound = &capture->bounds[i][k];

			news = true;
			rc = index_put(index, &(struct index_entry){.offset = bound->offset,
						      .packets = bound->packets,
						      .told = bound->told,
						      .lane = i});
		}
	index_check(capture, rc);
	if (!capture->noted)
		index_check(capture, index_note(index, &capture->books, sizeof(capture->books)));
	if (news)
		index_push(index);
}

static int lanes_sync(struct capture *capture)
{
	struct store_state *state = &capture->state;

	for (unsigned i = 0; i < capture->n_lanes; i++) {
		struct store_mark *mark = &state->marks[i];
		int rc;

		if (mark->durable_packets == capture->marks[i].written_packets)
			continue;
		rc = store_sync(&capture->store.lanes[i]);
		if (rc != 0)
			return rc;
		mark->durable_packets = capture->marks[i].written_packets;
		mark->durable_bytes = capture->marks[i].written_bytes;
	}
	state->n_lanes = capture->n_lanes;
	state->books = capture->books;
	index_check(capture, index_sync(&capture->store.index));
	return store_state_write(&capture->store, state);
}

/* The tap's lanes go no further than there is space. */
static void space_tell(struct capture *capture, bool full)
{
	capture->space_missing = tap_space_missing(capture->tap);
	for (unsigned i = 0; i < capture->n_lanes && (full || capture->full); i++) {
		const uint64_t allocated_bytes = capture->store.lanes[i].allocated_bytes;

		tap_lane_space(capture->tap, i,
			full && allocated_bytes > SPACE_RESERVE ? allocated_bytes - SPACE_RESERVE
								: 0);
	}
	capture->full = full;
}

static void trouble_set(struct capture *capture, const char *what, int rc)
{
	if (capture->trouble[0] == '\0')
		snprintf(capture->trouble, sizeof(capture->trouble), "%s: %s", what,
			store_strerror(rc));
}

static void tend_done(struct job *job)
{
	struct capture *capture = (struct capture *)((char *)job - offsetof(struct capture, tend));

	capture->tending = false;
	capture->allocated_bytes = 0;
	for (unsigned i = 0; i < capture->n_lanes; i++)
		capture->allocated_bytes += capture->store.lanes[i].allocated_bytes;
	suspect_note(capture);
	space_tell(capture, capture->waits && is_full(capture->extend_rc));
	if (capture->extend_rc != 0 && !capture->full) {
		trouble_set(capture, "the file cannot be extended", capture->extend_rc);
		tap_end_raise(
			capture->tap, is_full(capture->extend_rc) ? END_disk_full : END_io_error);
	} else if (capture->sync_rc != 0) {
		trouble_set(capture, "what was written cannot be made durable", capture->sync_rc);
		tap_end_raise(capture->tap, END_io_error);
	}
	if (capture->sync && capture->sync_rc == 0) {
		capture->synced_ns = capture->marked_ns;
		capture->durable_packets = capture->synced_packets;
		probes_settle(capture);
	}
}

static void finish_run(struct job *job)
{
	struct capture *capture = capture_of(job);
	uint64_t bytes[STORE_LANES_MAX], packets[STORE_LANES_MAX];
	int rc;

	for (unsigned i = 0; i < capture->n_lanes; i++) {
		bytes[i] = capture->ends[i].written_bytes;
		packets[i] = capture->ends[i].written_packets;
		if (capture->store.lanes[i].spare)
			spare_fill_used(bytes[i]);
	}
	if (capture->damage != 0) {
		store_release(&capture->store);
		capture->finish_rc = capture->damage;
		err_set(&capture->err, EIO, NULL, "the file cannot be closed: %s",
			store_strerror(capture->damage));
		return;
	}
	/* An error that the kernel keeps for a descriptor is seen through no other. */
	if (capture->suspect_rc == 0 && !capture->all_synced)
		capture->suspect_rc = store_sync_all(&capture->store);
	capture->all_synced = capture->suspect_rc == 0;
	if (!capture->all_synced && !capture->suspect_known) {
		capture->finish_rc = capture->suspect_rc;
		err_set(&capture->err, -capture->suspect_rc, NULL, "it cannot be made durable: %s",
			strerror(-capture->suspect_rc));
		return;
	}
	rc = store_finish(&capture->store, bytes, packets, capture->trailer, capture->trailer_len,
		capture->record, &capture->suspect_rc, &capture->size_bytes);
	if (is_damage(rc))
		capture->damage = rc;
	if (rc == 1) {
		int prepared = merge_prepare(&capture->id, capture->trailer, capture->trailer_len);

		rc = prepared == 0 ? 1 : prepared;
	}
	capture->finish_rc = rc;
	if (rc < 0)
		err_set(&capture->err, -rc, NULL, "the file cannot be closed: %s",
			store_strerror(rc));
}

static struct capture *capture_of(struct job *job)
{
	return (struct capture *)((char *)job - offsetof(struct capture, job));
}
