/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One file at a time, ROOT/spare/fill, grows by a slice in each job and is handed over to spare.c when it
 * has its size. Bulk worker for the slices, control thread for the rest.
 */
#include "control/spare_fill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/ioprio.h>

#include "config/log.h"
#include "control/ceiling.h"
#include "control/file.h"
#include "control/job.h"
#include "control/quota.h"
#include "control/spare.h"
#include "engine/clock.h"

#define NAME        "fill"
#define AUTO_BYTES  (16ULL << 30)
#define ROOM_SHARE  4            /* no more than this part of what captures may still take */
#define SLICE_NS    200000000ULL /* of each second */
#define WRITE_BYTES (4U << 20)
#define STEP        (256ULL << 20)
#define ALIGN       4096

static struct {
	const struct config *config;
	bool filling; /* a job is under way */
	bool failed;  /* and is not tried again */
	struct job job;
	/* the job's while filling */
	int fd;
	uint8_t *buffer;
	uint64_t goal_bytes;
	uint64_t allocated_bytes;
	int rc;
	/* anybody's */
	atomic_ullong written_bytes;
	atomic_ullong credit_bytes; /* may be written yet */
	atomic_bool yield;
} state = {.fd = -1};

static uint64_t goal_find(void);
static uint64_t wanted_bytes(void);
static void fill_work(struct job *job);
static void fill_done(struct job *job);
static int fill_open(void);
static int fill_slice(void);
static void fill_close(bool keep);

void spare_fill_init(const struct config *config)
{
	state.config = config;
	state.failed = false;
	atomic_store(&state.credit_bytes, wanted_bytes());
}

void spare_fill_fini(void)
{
	if (state.fd >= 0)
		fill_close(true);
}

void spare_fill_tick(bool idle)
{
	if (state.filling || state.failed || state.config == NULL)
		return;
	if (state.fd < 0)
		state.goal_bytes = idle && ceiling_touch_pays() ? goal_find() : 0;
	if (!idle || state.goal_bytes == 0)
		return;
	state.filling = true;
	atomic_store(&state.yield, false);
	state.job = (struct job){.run = fill_work, .done = fill_done};
	job_post(WORKER_BULK, &state.job);
}

void spare_fill_yield(void)
{
	atomic_store(&state.yield, true);
}

void spare_fill_used(uint64_t bytes)
{
	atomic_fetch_add(&state.credit_bytes, bytes);
}

uint64_t spare_fill_bytes(void)
{
	return atomic_load(&state.written_bytes);
}

/* How much the spares should be. */
static uint64_t wanted_bytes(void)
{
	const uint64_t limit = spare_limit_bytes();

	if (state.config->storage.spare_bytes != CONFIG_SPARE_AUTO)
		return limit;
	return limit < AUTO_BYTES ? limit : AUTO_BYTES;
}

/* The size of the next spare to make, 0: none. One for each RX CPU's lane makes up what is wanted. */
static uint64_t goal_find(void)
{
	const uint64_t wanted = wanted_bytes(), have = spare_bytes();
	const uint64_t limit = quota_limit_bytes(), used = quota_used_bytes();
	uint64_t goal = wanted / state.config->engine.rx_cpus.n;

	if (goal < SPARE_MIN)
		goal = SPARE_MIN;
	if (goal > wanted - (have < wanted ? have : wanted))
		goal = wanted - (have < wanted ? have : wanted);
	if (goal > atomic_load(&state.credit_bytes))
		goal = atomic_load(&state.credit_bytes);
	if (used > limit || goal > (limit - used) / ROOM_SHARE ||
		goal > quota_free_bytes() / ROOM_SHARE || goal < SPARE_MIN)
		return 0;
	return goal / WRITE_BYTES * WRITE_BYTES;
}

/* At the lowest I/O priority that there is; the worker has its own back afterwards. */
static void fill_work(struct job *job)
{
	const long before = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);

	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
	state.rc = state.fd < 0 ? fill_open() : 0;
	if (state.rc == 0)
		state.rc = fill_slice();
	if (before >= 0)
		syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, before);
	if (state.rc != 0 || spare_fill_bytes() == state.goal_bytes)
		fill_close(state.rc == 0);
}

static void fill_done(struct job *job)
{
	state.filling = false;
	if (state.rc == 0)
		return;
	state.failed = true;
	log_warning("no spares are made: %s", strerror(-state.rc));
}

static void buffer_fill(void)
{
	/* Not zero and no repeats: devices take shortcuts there. */
	uint64_t x = 0x9e3779b97f4a7c15ULL;

	for (size_t i = 0; i < WRITE_BYTES; i += sizeof(x)) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		memcpy(state.buffer + i, &x, sizeof(x));
	}
}

static int fill_open(void)
{
	state.allocated_bytes = 0;
	state.buffer = aligned_alloc(ALIGN, WRITE_BYTES);
	if (state.buffer == NULL)
		return -ENOMEM;
	buffer_fill();
	state.fd = openat(spare_dir(), NAME,
		O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_NOFOLLOW | O_CLOEXEC, 0600);
	return state.fd < 0 ? -errno : 0;
}

static int fill_slice(void)
{
	const uint64_t began_ns = clock_monotonic_ns();
	int rc = 0;

	while (rc == 0 && spare_fill_bytes() < state.goal_bytes && !atomic_load(&state.yield) &&
		clock_monotonic_ns() - began_ns < SLICE_NS) {
		if (state.allocated_bytes < spare_fill_bytes() + WRITE_BYTES) {
			if (fallocate(state.fd, 0, (off_t)state.allocated_bytes, STEP) != 0)
				return -errno;
			state.allocated_bytes += STEP;
		}
		rc = file_write_at(state.fd, state.buffer, WRITE_BYTES, spare_fill_bytes());
		if (rc != 0)
			break;
		atomic_fetch_add(&state.written_bytes, WRITE_BYTES);
		atomic_fetch_sub(&state.credit_bytes, WRITE_BYTES);
	}
	return rc;
}

static void fill_close(bool keep)
{
	if (state.fd >= 0 && ftruncate(state.fd, (off_t)spare_fill_bytes()) != 0)
		keep = false;
	if (state.fd >= 0)
		close(state.fd);
	state.fd = -1;
	free(state.buffer);
	state.buffer = NULL;
	atomic_store(&state.written_bytes, 0);
	if (!keep || !spare_keep(spare_dir(), NAME))
		unlinkat(spare_dir(), NAME, 0);
}
