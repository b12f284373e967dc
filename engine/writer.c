/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Per writer: receive blocks from the lcores' rings into the queues of their lanes; submit a lane's
 * queue when it is large, old, ending or memory runs short; reap what is done and settle it in
 * stream order. It sleeps in the sink's wait or a short nap, never spins: a spinning writer halves
 * the disk.
 */
#include "engine/writer.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "engine/clock.h"
#include "engine/counter.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/fault.h"
#include "engine/lane.h"

#define GATHER_NS   20000000ULL
#define NAP_MIN_NS  500000ULL
#define NAP_MAX_NS  10000000ULL
#define NAP_BLOCKS  16            /* 1 MiB: what a nap is to bring at most */
#define RUSH_BPS    4000000000ULL /* that may begin during a nap without filling half the memory */
#define RECEIVE_MAX 256
#define RETRY_NS    100000000ULL /* between tries of a write that waits for space */
#define WRITER_NICE (-10)

struct sink {
	const struct sink_ops *ops;
	void *state;
};

struct writer {
	/* constant while running */
	unsigned index;
	unsigned cpu;
	pthread_t thread;
	int kick;
	struct sink disk;
	struct sink null;

	/* the writer's own */
	struct lane *lanes; /* with queued blocks, or an END to tell; served in turn */
	struct lane **lanes_end;
	struct sink_write *free_writes;
	struct sink_write *writes; /* all, SINK_WRITES_MAX */
	unsigned n_flying_disk;
	uint64_t flying_bytes; /* to the disk */
	unsigned n_flying_null;
	uint64_t nap_ns;
	uint64_t nap_max_ns;
	uint64_t window_began_ns; /* blocks are counted in it, to see whether the nap is right */
	unsigned window_blocks;

	/* shared with control */
	atomic_uint n_live; /* lanes bound here that have not drained */

	/* written by the writer, read by anyone */
	uint64_t cycles_useful __attribute__((aligned(64)));
	uint64_t cycles_idle;
	uint64_t rounds;
	uint64_t disk_bytes;
	uint64_t disk_writes;
	uint64_t disk_writes_slow;
	uint64_t disk_cycles;
	int tid;
};

static struct writer writers[WRITERS_MAX]; /* those for the disk first */
static unsigned n_writers;
static unsigned n_disk_writers;
static unsigned next_writer[WRITERS_PER_CPU];
static atomic_bool stopping;
static atomic_uint gather_blocks =
	SINK_IOVS_DEFAULT; /* a write's size, when there is enough to write */
static atomic_ulong flying_bytes_max = ULONG_MAX; /* to the disk, per writer */

static int writer_open(struct writer *writer, unsigned index, unsigned cpu);
static uint64_t nap_max_ns(void);
static void *writer_main(void *arg);
static unsigned blocks_receive(struct writer *writer);
static void lane_enqueue(struct writer *writer, struct lane *lane, struct block *block);
static void lane_list(struct writer *writer, struct lane *lane);
static struct lane *lane_unlist(struct writer *writer);
static void lanes_submit(struct writer *writer);
static bool lane_ready(const struct lane *lane, uint64_t now_ns);
static bool writes_left(const struct writer *writer, const struct lane *lane);
static void lane_bound(struct lane *lane, const struct sink_write *write);
static void lane_submit(struct writer *writer, struct lane *lane);
static void write_submit(struct writer *writer, struct lane *lane, struct sink_write *write);
static bool space_wait(struct lane *lane, struct sink_write *write);
static void space_retry(struct writer *writer, struct lane *lane, uint64_t now_ns);
static void block_give_back(struct writer *writer, struct lane *lane, struct block *block);
static uint64_t oldest_tsc(const struct writer *writer);
static struct sink_write *write_gather(struct writer *writer, struct lane *lane);
static unsigned writes_reap(struct writer *writer, uint64_t wait_ns);
static void disk_count(struct writer *writer, struct sink_write *write);
static void lane_settle(struct writer *writer, struct lane *lane);
static void write_settle(struct writer *writer, struct lane *lane, struct sink_write *write);
static void block_settle(struct lane *lane, const struct block *block);
static void block_settle_written(struct lane *lane, const struct block *block);
static void block_settle_lost(struct lane *lane, const struct block *block);
static void block_settle_stream(struct lane *lane, const struct block *block);
static void lane_fail(struct lane *lane, int error);
static void queue_abandon(struct writer *writer, struct lane *lane);
static void lane_drain(struct writer *writer, struct lane *lane);
static void nap_adapt(struct writer *writer, unsigned n_blocks);
static void writer_wait(struct writer *writer, unsigned n_blocks, unsigned n_reaped);

int writer_start(const struct config_cpus *cpus, struct err *err)
{
	int rc;

	atomic_store(&stopping, false);
	atomic_store(&gather_blocks, SINK_IOVS_DEFAULT);
	atomic_store(&flying_bytes_max, ULONG_MAX);
	n_disk_writers = cpus->n;
	for (unsigned i = 0; i < WRITERS_PER_CPU * cpus->n; i++) {
		rc = writer_open(&writers[i], i, cpus->cpu[i % cpus->n]);
		if (rc != 0) {
			writer_stop();
			return err_set(err, -rc, "engine.writer_cpus", "cannot start writer %u: %s",
				i, strerror(-rc));
		}
		n_writers++;
	}
	return 0;
}

void writer_stop(void)
{
	atomic_store(&stopping, true);
	for (unsigned i = 0; i < n_writers; i++) {
		struct writer *writer = &writers[i];

		eventfd_write(writer->kick, 1);
		pthread_join(writer->thread, NULL);
		if (writer->disk.ops != NULL)
			writer->disk.ops->close(writer->disk.state);
		writer->null.ops->close(writer->null.state);
		free(writer->writes);
		close(writer->kick);
	}
	n_writers = 0;
}

unsigned writer_choose(bool disk)
{
	const unsigned next = next_writer[disk]++ % n_disk_writers;

	return disk ? next : n_disk_writers + next;
}

void writer_wake(unsigned index)
{
	atomic_fetch_add(&writers[index].n_live, 1);
	eventfd_write(writers[index].kick, 1);
}

void writer_writes_set(uint32_t write_bytes, unsigned depth)
{
	const unsigned blocks_max = block_count() / 2;
	unsigned blocks = write_bytes / BLOCK_SIZE;

	if (blocks > SINK_IOVS_MAX)
		blocks = SINK_IOVS_MAX;
	if (blocks > blocks_max / 2)
		blocks = blocks_max / 2;
	if (blocks < 1)
		blocks = 1;
	if (depth > blocks_max / blocks)
		depth = blocks_max / blocks;
	if (depth < 2)
		depth = 2;
	atomic_store(&gather_blocks, blocks);
	atomic_store(&flying_bytes_max, (uint64_t)depth * blocks * BLOCK_SIZE);
}

void writer_kick(void)
{
	for (unsigned i = 0; i < n_writers; i++)
		eventfd_write(writers[i].kick, 1);
}

unsigned writer_count(void)
{
	return n_writers;
}

void writer_status(unsigned index, struct engine_lcore *status)
{
	const struct writer *writer = &writers[index];

	status->lcore = index;
	status->cpu = writer->cpu;
	status->role = "writer";
	status->cycles_useful = COUNTER_READ(writer->cycles_useful);
	status->cycles_idle = COUNTER_READ(writer->cycles_idle);
	status->rounds = COUNTER_READ(writer->rounds);
	status->disk_bytes = COUNTER_READ(writer->disk_bytes);
	status->disk_writes = COUNTER_READ(writer->disk_writes);
	status->disk_writes_slow = COUNTER_READ(writer->disk_writes_slow);
	status->disk_cycles = COUNTER_READ(writer->disk_cycles);
	status->disk_in_flight = __atomic_load_n(&writer->n_flying_disk, __ATOMIC_RELAXED);
	status->disk_oldest_tsc = oldest_tsc(writer);
	status->tid = __atomic_load_n(&writer->tid, __ATOMIC_RELAXED);
}

const char *writer_sink_name(void)
{
	return writers[0].disk.ops->name;
}

static int writer_open(struct writer *writer, unsigned index, unsigned cpu)
{
	cpu_set_t cpus;
	char name[16];
	int rc;

	memset(writer, 0, sizeof(*writer));
	writer->index = index;
	writer->lanes_end = &writer->lanes;
	writer->cpu = cpu;
	writer->nap_ns = NAP_MIN_NS;
	writer->nap_max_ns = nap_max_ns();
	writer->kick = eventfd(0, EFD_CLOEXEC);
	writer->writes = calloc(SINK_WRITES_MAX, sizeof(*writer->writes));
	if (writer->kick < 0 || writer->writes == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < SINK_WRITES_MAX; i++) {
		writer->writes[i].next = writer->free_writes;
		writer->free_writes = &writer->writes[i];
	}
	if (index < n_disk_writers) {
		writer->disk.ops = sink_disk_open(&writer->disk.state);
		if (writer->disk.ops == NULL)
			return -ENOMEM;
	}
	writer->null.ops = &sink_null_ops;
	writer->null.state = sink_null_ops.open();
	rc = pthread_create(&writer->thread, NULL, writer_main, writer);
	if (rc != 0)
		return -rc;
	snprintf(name, sizeof(name), "wr/%u", index);
	pthread_setname_np(writer->thread, name);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return -pthread_setaffinity_np(writer->thread, sizeof(cpus), &cpus);
}

/* What is slow may turn fast while its writer sleeps: half of the memory takes that. */
static uint64_t nap_max_ns(void)
{
	const uint64_t half_bytes = (uint64_t)block_count() / 2 * BLOCK_SIZE;
	const uint64_t filled_ns = half_bytes * CLOCK_NS_PER_S / RUSH_BPS;

	if (filled_ns < NAP_MIN_NS)
		return NAP_MIN_NS;
	return filled_ns < NAP_MAX_NS ? filled_ns : NAP_MAX_NS;
}

static void *writer_main(void *arg)
{
	struct writer *writer = arg;

	setpriority(PRIO_PROCESS, 0, WRITER_NICE);
	__atomic_store_n(&writer->tid, gettid(), __ATOMIC_RELAXED);
	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		const uint64_t began_tsc = rte_rdtsc();
		bool flying = writer->n_flying_disk != 0;
		uint64_t waited_tsc, ended_tsc;
		unsigned n_blocks, n_reaped;

		fault_point(FAULT_writer_stall);
		n_blocks = blocks_receive(writer);
		lanes_submit(writer);
		flying = flying || writer->n_flying_disk != 0;
		n_reaped = writes_reap(writer, 0);
		waited_tsc = rte_rdtsc();
		writer_wait(writer, n_blocks, n_reaped);
		COUNTER_ADD(writer->rounds, 1);
		COUNTER_ADD(writer->cycles_useful, waited_tsc - began_tsc);
		ended_tsc = rte_rdtsc();
		COUNTER_ADD(writer->cycles_idle, ended_tsc - waited_tsc);
		if (flying)
			COUNTER_ADD(writer->disk_cycles, ended_tsc - began_tsc);
	}
	return NULL;
}

static unsigned blocks_receive(struct writer *writer)
{
	struct block *blocks[RECEIVE_MAX];
	unsigned n = block_receive(writer->index, blocks, RECEIVE_MAX);

	for (unsigned i = 0; i < n; i++)
		lane_enqueue(writer, blocks[i]->lane, blocks[i]);
	return n;
}

static void lane_enqueue(struct writer *writer, struct lane *lane, struct block *block)
{
	lane_list(writer, lane);
	if (block->end) {
		lane->ended = true;
		return;
	}
	mirror_block(&lane->mirror, block);
	if (lane->queue == NULL)
		lane->queue_since_ns = clock_monotonic_ns();
	block->next = NULL;
	*lane->queue_end = block;
	lane->queue_end = &block->next;
	lane->queue_bytes += block->len;
	lane->queue_partial |= block->partial;
}

static void lane_list(struct writer *writer, struct lane *lane)
{
	if (lane->listed)
		return;
	lane->listed = true;
	lane->list_next = NULL;
	*writer->lanes_end = lane;
	writer->lanes_end = &lane->list_next;
}

static struct lane *lane_unlist(struct writer *writer)
{
	struct lane *lane = writer->lanes;

	writer->lanes = lane->list_next;
	if (writer->lanes == NULL)
		writer->lanes_end = &writer->lanes;
	lane->listed = false;
	return lane;
}

/* One round over the lanes. Where writes run out it ends, and the next round begins there. */
static void lanes_submit(struct writer *writer)
{
	const uint64_t now_ns = writer->lanes != NULL ? clock_monotonic_ns() : 0;
	struct lane **round_end = writer->lanes_end;

	while (writer->lanes != NULL) {
		const bool last = round_end == &writer->lanes->list_next;
		struct lane *lane = writer->lanes;

		if (lane_ready(lane, now_ns) && !writes_left(writer, lane))
			break;
		lane_unlist(writer);
		if (lane->no_space)
			space_retry(writer, lane, now_ns);
		if (lane->sink_error != 0)
			queue_abandon(writer, lane);
		while (lane_ready(lane, now_ns) && writes_left(writer, lane))
			lane_submit(writer, lane);
		if (lane->queue != NULL || lane->no_space)
			lane_list(writer, lane);
		else if (lane->ended && lane->writes == NULL)
			lane_drain(writer, lane);
		if (last)
			break;
	}
}

static bool lane_ready(const struct lane *lane, uint64_t now_ns)
{
	if (lane->queue == NULL || lane->partial_flying || lane->no_space || lane->sink_error != 0)
		return false;
	return lane->queue_bytes >=
		       atomic_load_explicit(&gather_blocks, memory_order_relaxed) * BLOCK_SIZE ||
	       lane->queue_partial || lane->ended || now_ns - lane->queue_since_ns >= GATHER_NS ||
	       block_scarce(lane->queue->home);
}

static bool writes_left(const struct writer *writer, const struct lane *lane)
{
	return writer->free_writes != NULL &&
	       (lane->tap->spec.sink != SINK_FILE ||
		       writer->flying_bytes <
			       atomic_load_explicit(&flying_bytes_max, memory_order_relaxed));
}

/* Note where the write's last packet ends. */
static void lane_bound(struct lane *lane, const struct sink_write *write)
{
	const uint64_t n = lane->n_bounds;
	const struct tap_bound *last = &lane->bounds[(n - 1) % TAP_BOUNDS_MAX];
	struct tap_bound *bound = &lane->bounds[n % TAP_BOUNDS_MAX];
	uint64_t packets = n != 0 ? last->packets : 0, told = n != 0 ? last->told : 0;
	uint64_t offset = 0;

	for (const struct block *block = write->blocks; block != NULL; block = block->next) {
		for (unsigned i = 0; i < lane->tap->spec.n_ports; i++) {
			packets += block->packets[i];
			told += block->told[i];
		}
		offset = block->whole_end;
	}
	COUNTER_SET(bound->offset, offset);
	COUNTER_SET(bound->packets, packets);
	COUNTER_SET(bound->told, told);
	__atomic_store_n(&lane->n_bounds, n + 1, __ATOMIC_RELEASE);
}

static void lane_submit(struct writer *writer, struct lane *lane)
{
	struct sink_write *write = write_gather(writer, lane);

	lane->partial_flying = write->partial;
	COUNTER_SET(lane->submitted_bytes, write->offset + write->len);
	write->next = NULL;
	*lane->writes_end = write;
	lane->writes_end = &write->next;
	write_submit(writer, lane, write);
}

static void write_submit(struct writer *writer, struct lane *lane, struct sink_write *write)
{
	const bool null = lane->tap->spec.sink != SINK_FILE;
	struct sink *sink = null ? &writer->null : &writer->disk;

	write->submitted_tsc = rte_rdtsc();
	if (null) {
		writer->n_flying_null++;
	} else {
		lane_bound(lane, write);
		writer->n_flying_disk++;
		writer->flying_bytes += write->len;
		COUNTER_SET(write->flying_tsc, write->submitted_tsc);
	}
	/* What a stream sends is sent at once; then there is nothing left to write. */
	if (lane->stream != NULL)
		sink_stream_send(lane->stream, write);
	sink->ops->submit(sink->state, write);
}

/* The queue's first blocks, up to a partial one, as one write. */
static struct sink_write *write_gather(struct writer *writer, struct lane *lane)
{
	const unsigned n_max = atomic_load_explicit(&gather_blocks, memory_order_relaxed);
	struct sink_write *write = writer->free_writes;
	struct block **last = &write->blocks;
	bool partial = false;

	writer->free_writes = write->next;
	memset(write, 0, offsetof(struct sink_write, iovs));
	write->lane = lane;
	write->fd = lane->file.fd;
	write->direct = lane->file.direct;
	write->offset = lane->queue->offset;
	write->blocks = NULL;
	while (lane->queue != NULL && write->n_iovs < n_max && !partial) {
		struct block *block = lane->queue;

		lane->queue = block->next;
		lane->queue_bytes -= block->len;
		partial = block->partial;
		write->iovs[write->n_iovs++] =
			(struct iovec){.iov_base = block->data, .iov_len = block->len};
		write->len += block->len;
		block->next = NULL;
		*last = block;
		last = &block->next;
	}
	write->partial = partial;
	if (lane->queue == NULL)
		lane->queue_end = &lane->queue;
	/* At most one partial block can be queued: the next comes half a second later, or with END.
	 */
	lane->queue_partial = false;
	for (const struct block *block = lane->queue; block != NULL; block = block->next)
		lane->queue_partial |= block->partial;
	return write;
}

static unsigned writes_reap(struct writer *writer, uint64_t wait_ns)
{
	struct sink_write *done[SINK_WRITES_MAX];
	unsigned n_disk = 0, n_null = 0;

	if (writer->n_flying_null != 0)
		n_null = writer->null.ops->reap(writer->null.state, done, SINK_WRITES_MAX, 0);
	if (writer->n_flying_disk != 0)
		n_disk = writer->disk.ops->reap(writer->disk.state, done + n_null,
			SINK_WRITES_MAX - n_null, n_null == 0 ? wait_ns : 0);
	writer->n_flying_null -= n_null;
	writer->n_flying_disk -= n_disk;
	for (unsigned i = n_null; i < n_null + n_disk; i++)
		disk_count(writer, done[i]);
	for (unsigned i = 0; i < n_disk + n_null; i++)
		lane_settle(writer, done[i]->lane);
	return n_disk + n_null;
}

static void disk_count(struct writer *writer, struct sink_write *write)
{
	const uint64_t slow_tsc = clock_tsc_hz() / 1000 * ENGINE_WRITE_SLOW_MS;

	writer->flying_bytes -= write->len;
	COUNTER_SET(write->flying_tsc, 0);
	COUNTER_ADD(writer->disk_bytes, write->done);
	COUNTER_ADD(writer->disk_writes, 1);
	COUNTER_ADD(writer->disk_writes_slow, rte_rdtsc() - write->submitted_tsc > slow_tsc);
}

/* Writes complete in any order; a lane's are settled in the order of the stream. */
static void lane_settle(struct writer *writer, struct lane *lane)
{
	while (lane->writes != NULL && lane->writes->complete) {
		struct sink_write *write = lane->writes;

		if (write->error != 0 && space_wait(lane, write)) {
			lane_list(writer, lane);
			return;
		}
		lane->writes = write->next;
		if (lane->writes == NULL)
			lane->writes_end = &lane->writes;
		write_settle(writer, lane, write);
		write->next = writer->free_writes;
		writer->free_writes = write;
	}
	if (lane->ended)
		lane_list(writer, lane);
}

static bool error_is_full(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

/*
 * The lane's first write found no space: keep it, take in nothing more, and try again later; what was
 * written behind it is settled behind it. Not for ever: an ended lane wants to be closed, and others
 * want the memory.
 */
static bool space_wait(struct lane *lane, struct sink_write *write)
{
	if (!lane->tap->spec.waits || !error_is_full(write->error) || lane->ended ||
		lane->sink_error != 0 || block_scarce(write->blocks->home))
		return false;
	write->complete = false;
	write->error = 0;
	lane->retry_ns = clock_monotonic_ns() + RETRY_NS;
	__atomic_store_n(&lane->no_space, true, __ATOMIC_RELAXED);
	return true;
}

static void space_retry(struct writer *writer, struct lane *lane, uint64_t now_ns)
{
	if (now_ns < lane->retry_ns && !lane->ended)
		return;
	__atomic_store_n(&lane->no_space, false, __ATOMIC_RELAXED);
	write_submit(writer, lane, lane->writes);
}

static void write_settle(struct writer *writer, struct lane *lane, struct sink_write *write)
{
	if (write->error != 0 && lane->sink_error == 0)
		lane_fail(lane, write->error);
	while (write->blocks != NULL) {
		struct block *block = write->blocks;

		write->blocks = block->next;
		block_settle(lane, block);
		block_give_back(writer, lane, block);
	}
	if (write->partial)
		lane->partial_flying = false;
}

/* The packets that end in this block are in the file, or lost: a stream has no hole in its middle.
 */
static void block_settle(struct lane *lane, const struct block *block)
{
	if (lane->stream != NULL)
		block_settle_stream(lane, block);
	else if (lane->sink_error == 0)
		block_settle_written(lane, block);
	else
		block_settle_lost(lane, block);
}

static void block_settle_written(struct lane *lane, const struct block *block)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < lane->tap->spec.n_ports; i++) {
		n += block->packets[i];
		COUNTER_ADD(lane->if_written[i], block->packets[i]);
	}
	COUNTER_SET(lane->whole_written, block->whole_end);
	COUNTER_ADD(lane->written_bytes, block->captured_bytes);
	COUNTER_ADD(lane->written, n);
	COUNTER_ADD(lane->settled, n);
}

static void block_settle_lost(struct lane *lane, const struct block *block)
{
	const enum drop reason = error_is_full(lane->sink_error) ? DROP_no_space : DROP_io_error;
	uint64_t n = 0;

	for (unsigned i = 0; i < lane->tap->spec.n_ports; i++) {
		n += block->packets[i];
		COUNTER_ADD(lane->if_lost[i], block->packets[i]);
		COUNTER_ADD(lane->if_untold[i], block->told[i]);
	}
	COUNTER_ADD(lane->lost[reason], n);
	COUNTER_ADD(lane->settled, n);
}

/* Of a stream's packets some may have left and others not. */
static void block_settle_stream(struct lane *lane, const struct block *block)
{
	uint64_t n = 0, n_unsent = 0, n_oversize = 0;

	for (unsigned i = 0; i < lane->tap->spec.n_ports; i++) {
		const unsigned lost = block->unsent[i] + block->oversize[i];

		n += block->packets[i];
		n_unsent += block->unsent[i];
		n_oversize += block->oversize[i];
		COUNTER_ADD(lane->if_written[i], block->packets[i] - lost);
		COUNTER_ADD(lane->if_lost[i], lost);
	}
	COUNTER_SET(lane->whole_written, block->whole_end);
	COUNTER_ADD(lane->written_bytes, block->captured_bytes - block->unsent_bytes);
	COUNTER_ADD(lane->written, n - n_unsent - n_oversize);
	COUNTER_ADD(lane->lost[DROP_stream_backpressure], n_unsent);
	COUNTER_ADD(lane->lost[DROP_oversize], n_oversize);
	COUNTER_ADD(lane->settled, n);
}

static void lane_fail(struct lane *lane, int error)
{
	int none = 0;

	lane->sink_error = error;
	__atomic_compare_exchange_n(
		&lane->tap->sink_error, &none, error, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	tap_end_set(lane->tap, error_is_full(error) ? END_disk_full : END_io_error);
}

static void block_give_back(struct writer *writer, struct lane *lane, struct block *block)
{
	COUNTER_ADD(lane->returned, 1);
	block_return(writer->index, block);
}

/* Any thread: a write that completes meanwhile was in flight a moment ago. */
static uint64_t oldest_tsc(const struct writer *writer)
{
	uint64_t oldest = 0;

	for (unsigned i = 0; i < SINK_WRITES_MAX; i++) {
		const uint64_t tsc = COUNTER_READ(writer->writes[i].flying_tsc);

		if (tsc != 0 && (oldest == 0 || tsc < oldest))
			oldest = tsc;
	}
	return oldest;
}

static void queue_abandon(struct writer *writer, struct lane *lane)
{
	/* What flies still settles first, in stream order. */
	while (lane->writes == NULL && lane->queue != NULL) {
		struct block *block = lane->queue;

		lane->queue = block->next;
		block_settle(lane, block);
		block_give_back(writer, lane, block);
	}
	if (lane->queue == NULL) {
		lane->queue_end = &lane->queue;
		lane->queue_bytes = 0;
		lane->queue_partial = false;
	}
}

/* END was received, nothing is queued and nothing flies. */
static void lane_drain(struct writer *writer, struct lane *lane)
{
	struct tap *tap = lane->tap;
	const unsigned n_lanes = tap->n_lanes;

	atomic_fetch_sub(&writer->n_live, 1);
	COUNTER_SET(tap->ended_ns, clock_wall_ns());
	/* Control may free the tap as soon as it sees this: nothing of it is touched after. */
	if (__atomic_add_fetch(&tap->lanes_drained, 1, __ATOMIC_ACQ_REL) == n_lanes)
		event_raise();
}

/*
 * Nobody wakes a writer for a block: each nap costs a wake-up, more than a slow capture's packets do.
 * A stream that would bring much during a nap shortens it at once; a slow one doubles it, but only
 * after a time as long as the nap, since completions end many early.
 */
static void nap_adapt(struct writer *writer, unsigned n_blocks)
{
	const uint64_t now_ns = clock_monotonic_ns();

	writer->window_blocks += n_blocks;
	if (writer->window_blocks < NAP_BLOCKS && now_ns - writer->window_began_ns < writer->nap_ns)
		return;
	if (writer->window_blocks >= NAP_BLOCKS)
		writer->nap_ns = NAP_MIN_NS;
	else if (writer->window_blocks < NAP_BLOCKS / 2)
		writer->nap_ns = RTE_MIN(2 * writer->nap_ns, writer->nap_max_ns);
	writer->window_blocks = 0;
	writer->window_began_ns = now_ns;
}

static void writer_wait(struct writer *writer, unsigned n_blocks, unsigned n_reaped)
{
	struct timespec nap = {0};
	eventfd_t value;

	nap_adapt(writer, n_blocks);
	if (n_blocks + n_reaped >= RECEIVE_MAX)
		return;
	/* What was settled may have made a lane ready, or drained it. */
	nap.tv_nsec = (long)(n_reaped != 0 ? NAP_MIN_NS : writer->nap_ns);
	if (writer->n_flying_disk != 0) {
		writes_reap(writer, nap.tv_nsec);
	} else if (atomic_load(&writer->n_live) == 0) {
		eventfd_read(writer->kick, &value);
	} else {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	}
}
