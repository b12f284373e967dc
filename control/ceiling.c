/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Measured with the sink that captures are written with, gathered writes from blocks of memory and files
 * that grow as theirs do. The file has no name, so nothing of it is left, whatever happens. Bulk worker
 * for what blocks, control thread for the rest.
 */
#include "control/ceiling.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "config/log.h"
#include "control/file.h"
#include "control/job.h"
#include "control/quota.h"
#include "control/store.h"
#include "engine/block.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/sink.h"

#define NAME          "ceiling"
#define VERSION       1
#define AGE_MAX_NS    (7 * 24 * 3600 * CLOCK_NS_PER_S)
#define RETRY_TICKS   60 /* after a measuring that failed */
#define SHARE         32 /* of the space that is left, this part is used */
#define SIZE_MIN      (256ULL << 20)
#define SIZE_MAX_USED (4ULL << 30)
#define STEP          (256ULL << 20) /* as a lane's file grows */
#define BUFFER_SIZE   (32ULL << 20)  /* more than caches hold */
#define REAP_NS       5000000ULL
#define SLOW_PER_S \
	(200ULL << 20) /* slower than this, and the settings' differences are waiting time */
#define BETTER 110     /* percent of the default's rate that another must have */
#define PAYS   115     /* percent of the fresh rate that the touched one must have */

uint64_t ceiling_slice_ns = 200000000;

static const struct setting {
	uint32_t write_bytes;
	unsigned depth;
} settings[] = {
	{4U << 20, 32},
	{4U << 20, 8},
	{1U << 20, 32},
	{1U << 20, 8},
	{16U << 20, 8},
};
#define N_SETTINGS (sizeof(settings) / sizeof(settings[0]))

struct probe {
	int fd;
	const struct sink_ops *ops;
	void *sink;
	uint8_t *buffer;
	struct sink_write *writes;
	struct sink_write *free;
	unsigned n_flying;
	uint64_t size_max;
	uint64_t allocated; /* of the file */
	uint64_t written;   /* of the file, from its begin */
	uint64_t offset;    /* of the next write */
	uint64_t end;       /* of what the slice may write */
	bool again;         /* at the end go on at the begin */
	int rc;
};

static struct {
	const struct config *config;
	bool known; /* ceiling holds */
	struct ceiling ceiling;
	bool measuring;
	unsigned wait_ticks;
	struct job job;
	/* the job's */
	uint64_t size_max;
	struct ceiling fresh;
	int rc;
	/* anybody's */
	atomic_bool yield;
} state;

static int system_print(int dir, char *text, size_t size);
static bool result_load(struct ceiling *ceiling);
static int result_save(const struct ceiling *ceiling);
static void result_use(const struct ceiling *ceiling);
static bool measure_due(void);
static uint64_t measure_space(void);
static void measure_work(struct job *job);
static void measure_done(struct job *job);
static int probe_open(struct probe *probe, int dir, uint64_t size_max);
static void probe_close(struct probe *probe);
static int probe_fresh(
	struct probe *probe, const struct setting *setting, uint64_t slice_ns, uint64_t *rate);
static int probe_touched(struct probe *probe, const struct setting *setting, uint64_t *rate);
static int probe_run(
	struct probe *probe, const struct setting *setting, uint64_t slice_ns, uint64_t *rate);

void ceiling_init(const struct config *config)
{
	struct ceiling ceiling;

	memset(&state, 0, sizeof(state));
	state.config = config;
	if (result_load(&ceiling))
		result_use(&ceiling);
}

void ceiling_tick(bool idle)
{
	if (state.wait_ticks != 0)
		state.wait_ticks--;
	if (!idle || state.measuring || state.wait_ticks != 0 || !measure_due())
		return;
	state.size_max = measure_space();
	if (state.size_max < SIZE_MIN)
		return;
	state.measuring = true;
	atomic_store(&state.yield, false);
	state.job = (struct job){.run = measure_work, .done = measure_done};
	job_post(WORKER_BULK, &state.job);
}

void ceiling_yield(void)
{
	atomic_store(&state.yield, true);
}

const struct ceiling *ceiling_get(void)
{
	return state.known ? &state.ceiling : NULL;
}

bool ceiling_touch_pays(void)
{
	return state.known &&
	       state.ceiling.touched_bytes_per_s / PAYS > state.ceiling.fresh_bytes_per_s / 100;
}

int ceiling_measure(int dir, uint64_t size_max, struct ceiling *ceiling)
{
	uint64_t rates[N_SETTINGS] = {0};
	struct probe probe;
	unsigned best = 0;
	int rc;

	rc = probe_open(&probe, dir, size_max);
	if (rc == 0)
		rc = probe_fresh(
			&probe, &settings[0], 2 * ceiling_slice_ns, &ceiling->fresh_bytes_per_s);
	for (unsigned i = 0; i < N_SETTINGS && rc == 0; i++)
		if (i == 0 || ceiling->fresh_bytes_per_s >= SLOW_PER_S)
			rc = probe_touched(&probe, &settings[i], &rates[i]);
	if (rc == 0) {
		best = ceiling_choose(rates, N_SETTINGS);
		ceiling->touched_bytes_per_s = rates[best];
		ceiling->write_bytes = settings[best].write_bytes;
		ceiling->depth = settings[best].depth;
	}
	if (rc == 0 && best != 0)
		rc = probe_fresh(
			&probe, &settings[best], ceiling_slice_ns, &ceiling->fresh_bytes_per_s);
	ceiling->measured_at_ns = clock_wall_ns();
	probe_close(&probe);
	return rc;
}

unsigned ceiling_choose(const uint64_t *rates, unsigned n)
{
	unsigned best = 0;

	for (unsigned i = 1; i < n; i++)
		if (rates[i] > rates[best])
			best = i;
	return rates[best] / BETTER > rates[0] / 100 ? best : 0;
}

/* ---- the kept result ---- */

/* Which storage it is: a result of another one says nothing. -EOPNOTSUPP: none that is measured. */
static int system_print(int dir, char *text, size_t size)
{
	const char *name = store_system_name(dir);
	struct statfs fs;

	if (name == NULL)
		return -EOPNOTSUPP;
	if (fstatfs(dir, &fs) != 0)
		return -errno;
	snprintf(text, size, "%s-%08x%08x-%" PRIu64, name, (unsigned)fs.f_fsid.__val[0],
		(unsigned)fs.f_fsid.__val[1], (uint64_t)fs.f_blocks * fs.f_bsize);
	return 0;
}

#define FORMAT(system, u64, u)                  \
	"version = %d\n"                        \
	"storage = " system "\n"                \
	"measured_at_ns = %" u64 "\n"           \
	"fresh_bytes_per_second = %" u64 "\n"   \
	"touched_bytes_per_second = %" u64 "\n" \
	"write_bytes = %" u64 "\n"              \
	"depth = %" u "\n"

static bool result_load(struct ceiling *ceiling)
{
	char system[80], kept[80], *text;
	int version = 0, n;

	if (system_print(store_root(), system, sizeof(system)) != 0 ||
		file_load(store_root(), NAME, 4096, &text, NULL) != 0)
		return false;
	n = sscanf(text, FORMAT("%79s", SCNu64, "u"), &version, kept, &ceiling->measured_at_ns,
		&ceiling->fresh_bytes_per_s, &ceiling->touched_bytes_per_s, &ceiling->write_bytes,
		&ceiling->depth);
	free(text);
	return n == 7 && version == VERSION && strcmp(kept, system) == 0;
}

static int result_save(const struct ceiling *ceiling)
{
	char system[80], text[512];
	int rc;

	rc = system_print(store_root(), system, sizeof(system));
	if (rc != 0)
		return rc;
	snprintf(text, sizeof(text), FORMAT("%s", PRIu64, "u"), VERSION, system,
		ceiling->measured_at_ns, ceiling->fresh_bytes_per_s, ceiling->touched_bytes_per_s,
		ceiling->write_bytes, ceiling->depth);
	return file_replace(store_root(), NAME, text, strlen(text));
}

static void result_use(const struct ceiling *ceiling)
{
	state.ceiling = *ceiling;
	state.known = true;
	engine_writes_set((uint32_t)ceiling->write_bytes, ceiling->depth);
	log_info("storage takes %" PRIu64 " MB/s, %" PRIu64 " MB/s where nothing was written "
		 "before; writes of %" PRIu64 " KiB, %u in flight",
		ceiling->touched_bytes_per_s / 1000000, ceiling->fresh_bytes_per_s / 1000000,
		ceiling->write_bytes >> 10, ceiling->depth);
}

/* ---- measuring ---- */

static bool measure_due(void)
{
	const uint64_t now_ns = clock_wall_ns();

	if (state.config->storage.measure == CONFIG_MEASURE_NO)
		return false;
	return !state.known || now_ns < state.ceiling.measured_at_ns ||
	       now_ns - state.ceiling.measured_at_ns > AGE_MAX_NS;
}

/* A small part of what Sluice may still use; less than SIZE_MIN: not worth it. */
static uint64_t measure_space(void)
{
	const uint64_t limit = quota_limit_bytes(), used = quota_used_bytes();
	uint64_t room = limit > used ? limit - used : 0;
	struct store_usage usage;

	if (store_usage(&usage) != 0)
		return 0;
	if (room > usage.free_bytes)
		room = usage.free_bytes;
	room = room / SHARE / STEP * STEP;
	return room < SIZE_MAX_USED ? room : SIZE_MAX_USED;
}

static void measure_work(struct job *job)
{
	state.rc = ceiling_measure(store_root(), state.size_max, &state.fresh);
	if (state.rc == 0 && result_save(&state.fresh) != 0)
		log_warning("the storage's measured rate cannot be kept in ROOT/" NAME);
}

static void measure_done(struct job *job)
{
	state.measuring = false;
	if (state.rc == 0) {
		result_use(&state.fresh);
		return;
	}
	state.wait_ticks = RETRY_TICKS;
	if (state.rc == -ECANCELED)
		state.wait_ticks = 2;
	else if (state.rc == -EOPNOTSUPP)
		state.wait_ticks = UINT32_MAX; /* it will not be another one */
	else
		log_warning("the storage's rate cannot be measured: %s", strerror(-state.rc));
}

/* ---- a probe: a nameless file and writes to it ---- */

static void buffer_fill(uint8_t *buffer)
{
	uint64_t x = 0x9e3779b97f4a7c15ULL;

	/* Devices that look for zeros or repeats find none. */
	for (size_t i = 0; i < BUFFER_SIZE; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(buffer + i, &x, sizeof(x));
	}
}

static int probe_open(struct probe *probe, int dir, uint64_t size_max)
{
	*probe = (struct probe){.fd = -1, .size_max = size_max, .buffer = MAP_FAILED};
	if (store_system_name(dir) == NULL)
		return -EOPNOTSUPP;
	probe->fd = openat(dir, ".", O_TMPFILE | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
	if (probe->fd < 0)
		return errno == EINVAL ? -EOPNOTSUPP : -errno;
	probe->buffer =
		mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	probe->writes = calloc(SINK_WRITES_MAX, sizeof(*probe->writes));
	if (probe->buffer == MAP_FAILED || probe->writes == NULL)
		return -ENOMEM;
	buffer_fill(probe->buffer);
	for (unsigned i = 0; i < SINK_WRITES_MAX; i++) {
		probe->writes[i].next = probe->free;
		probe->free = &probe->writes[i];
	}
	probe->ops = sink_disk_open(&probe->sink);
	return probe->ops != NULL ? 0 : -errno;
}

static void probe_close(struct probe *probe)
{
	if (probe->ops != NULL)
		probe->ops->close(probe->sink);
	free(probe->writes);
	if (probe->buffer != MAP_FAILED)
		munmap(probe->buffer, BUFFER_SIZE);
	if (probe->fd >= 0)
		close(probe->fd);
}

/* Go on where the file ends. */
static int probe_fresh(
	struct probe *probe, const struct setting *setting, uint64_t slice_ns, uint64_t *rate)
{
	int rc;

	probe->offset = probe->written;
	probe->end = probe->size_max;
	probe->again = false;
	rc = probe_run(probe, setting, slice_ns, rate);
	probe->written = probe->offset;
	return rc;
}

/* What is written already, made to read as zero: a spare. */
static int probe_touched(struct probe *probe, const struct setting *setting, uint64_t *rate)
{
	if (fallocate(probe->fd, FALLOC_FL_ZERO_RANGE, 0, (off_t)probe->written) != 0)
		return -errno;
	probe->offset = 0;
	probe->end = probe->written;
	probe->again = true;
	return probe_run(probe, setting, ceiling_slice_ns, rate);
}

static int probe_extend(struct probe *probe, uint64_t want)
{
	while (probe->allocated < want) {
		uint64_t step = probe->size_max - probe->allocated;

		if (step > STEP)
			step = STEP;
		if (fallocate(probe->fd, 0, (off_t)probe->allocated, (off_t)step) != 0)
			return -errno;
		probe->allocated += step;
	}
	return 0;
}

/* False: the file has all that it may have. */
static bool probe_submit(struct probe *probe, uint32_t write_bytes)
{
	struct sink_write *write = probe->free;

	if (probe->offset + write_bytes > probe->end && probe->again)
		probe->offset = 0;
	if (probe->offset + write_bytes > probe->end)
		return false;
	probe->rc = probe_extend(probe, probe->offset + write_bytes);
	if (probe->rc != 0)
		return false;
	probe->free = write->next;
	memset(write, 0, offsetof(struct sink_write, iovs));
	write->fd = probe->fd;
	write->offset = probe->offset;
	write->len = write_bytes;
	for (; write->n_iovs < write_bytes / BLOCK_SIZE; write->n_iovs++)
		write->iovs[write->n_iovs] = (struct iovec){
			.iov_base = probe->buffer +
				    (write->offset + write->n_iovs * BLOCK_SIZE) % BUFFER_SIZE,
			.iov_len = BLOCK_SIZE,
		};
	probe->offset += write_bytes;
	probe->n_flying++;
	probe->ops->submit(probe->sink, write);
	return true;
}

/* Bytes that were written. */
static uint64_t probe_reap(struct probe *probe)
{
	struct sink_write *done[SINK_WRITES_MAX];
	unsigned n = probe->ops->reap(probe->sink, done, SINK_WRITES_MAX, REAP_NS);
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++) {
		if (done[i]->error != 0)
			probe->rc = -done[i]->error;
		bytes += done[i]->done;
		done[i]->next = probe->free;
		probe->free = done[i];
	}
	probe->n_flying -= n;
	return bytes;
}

static int probe_run(
	struct probe *probe, const struct setting *setting, uint64_t slice_ns, uint64_t *rate)
{
	const uint64_t began_ns = clock_monotonic_ns();
	uint64_t bytes = 0;
	bool more = true;

	probe->rc = 0;
	while (more || probe->n_flying != 0) {
		more = more && probe->rc == 0 && !atomic_load(&state.yield) &&
		       clock_monotonic_ns() - began_ns < slice_ns;
		while (more && probe->n_flying < setting->depth)
			more = probe_submit(probe, setting->write_bytes);
		if (probe->n_flying != 0)
			bytes += probe_reap(probe);
	}
	if (atomic_load(&state.yield))
		return -ECANCELED;
	*rate = (uint64_t)((double)bytes * CLOCK_NS_PER_S /
			   (double)(clock_monotonic_ns() - began_ns + 1));
	return probe->rc;
}
