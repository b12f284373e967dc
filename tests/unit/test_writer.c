/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/writer: the real thread over a disk that does as the test says: that holds writes back,
 * completes them in any order, or fails one. Its table of functions stands where io_uring's would.
 */
#include "lane_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "eal_fixture.h"
#include "engine/counter.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/writer.h"
#include "frames.h"

#define BLOCKS 256
#define T0     1700000000000000000ULL

/* 64 packets of this length fill a block. */
#define LEN_64TH (BLOCK_SIZE / 64 - 32)

static struct fake {
	pthread_mutex_t lock;
	/* the test's */
	bool hold;     /* complete only what is allowed */
	bool reverse;  /* the last submitted first */
	unsigned fail; /* this submission fails, from 1 */
	int error;
	/* the disk's */
	unsigned n_submitted;
	unsigned n_flying;
	unsigned n_flying_max;
	unsigned n_overlaps; /* writes of a page that was being written */
	struct sink_write *flying[SINK_WRITES_MAX + 1];
	bool allowed[SINK_WRITES_MAX + 1];
	bool failing[SINK_WRITES_MAX + 1];
	uint32_t lens[1000];
	struct bytes files[LANES_MAX];
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *fake_open(void)
{
	return &fake;
}

static void fake_close(void *sink)
{
}

static void fake_submit(void *sink, struct sink_write *write)
{
	pthread_mutex_lock(&fake.lock);
	for (unsigned i = 0; i < fake.n_flying; i++) {
		const struct sink_write *other = fake.flying[i];

		fake.n_overlaps += other->fd == write->fd &&
				   other->offset < write->offset + write->len &&
				   write->offset < other->offset + other->len;
	}
	if (fake.n_submitted < COUNT(fake.lens))
		fake.lens[fake.n_submitted] = write->len;
	fake.n_submitted++;
	fake.failing[fake.n_flying] = fake.n_submitted == fake.fail;
	fake.allowed[fake.n_flying] = false;
	fake.flying[fake.n_flying++] = write;
	if (fake.n_flying > fake.n_flying_max)
		fake.n_flying_max = fake.n_flying;
	pthread_mutex_unlock(&fake.lock);
}

/* The bytes reach the file when the write completes, not before. */
static void write_complete(unsigned i)
{
	struct sink_write *write = fake.flying[i];
	uint64_t at = write->offset;

	if (fake.failing[i]) {
		write->error = fake.error;
	} else {
		for (unsigned k = 0; k < write->n_iovs; k++) {
			bytes_put_at(&fake.files[write->fd], at, write->iovs[k].iov_base,
				write->iovs[k].iov_len);
			at += write->iovs[k].iov_len;
		}
		write->done = write->len;
	}
	write->complete = true;
	fake.n_flying--;
	for (; i < fake.n_flying; i++) {
		fake.flying[i] = fake.flying[i + 1];
		fake.allowed[i] = fake.allowed[i + 1];
		fake.failing[i] = fake.failing[i + 1];
	}
}

static unsigned fake_reap(void *sink, struct sink_write **writes, unsigned n_max, uint64_t wait_ns)
{
	unsigned n = 0;

	pthread_mutex_lock(&fake.lock);
	for (unsigned k = fake.n_flying; k > 0 && n < n_max; k--) {
		unsigned i = fake.reverse || fake.hold ? k - 1 : 0;

		if (fake.hold && !fake.allowed[i])
			continue;
		writes[n++] = fake.flying[i];
		write_complete(i);
	}
	pthread_mutex_unlock(&fake.lock);
	if (n == 0 && wait_ns != 0)
		usleep(wait_ns / 1000);
	return n;
}

/* Stands for io_uring: the archive's own is not linked then. */
const struct sink_ops sink_uring_ops = {
	.name = "fake",
	.open = fake_open,
	.close = fake_close,
	.submit = fake_submit,
	.reap = fake_reap,
};

void sink_uring_keep(bool keep)
{
}

static unsigned submitted(void)
{
	unsigned n;

	pthread_mutex_lock(&fake.lock);
	n = fake.n_submitted;
	pthread_mutex_unlock(&fake.lock);
	return n;
}

static unsigned flying(void)
{
	unsigned n;

	pthread_mutex_lock(&fake.lock);
	n = fake.n_flying;
	pthread_mutex_unlock(&fake.lock);
	return n;
}

static void hold_set(bool hold)
{
	pthread_mutex_lock(&fake.lock);
	fake.hold = hold;
	pthread_mutex_unlock(&fake.lock);
}

/* Let the ith of those in flight complete. */
static void allow(unsigned i)
{
	pthread_mutex_lock(&fake.lock);
	fake.allowed[i] = true;
	pthread_mutex_unlock(&fake.lock);
}

/* Conditions come true soon, or never. */
#define SOON(condition)                                               \
	do {                                                          \
		unsigned waited_ms = 0;                               \
                                                                      \
		for (; !(condition) && waited_ms < 5000; waited_ms++) \
			usleep(1000);                                 \
		if (waited_ms == 5000)                                \
			fail_msg("never: " #condition);               \
	} while (0)

static int pool_start(void **state)
{
	struct err err;

	if (eal_fixture_start() != 0 || event_open() != 0)
		return -1;
	return block_pool_new(BLOCKS * BLOCK_SIZE, false, 1, WRITERS_PER_CPU, &err);
}

static int pool_stop(void **state)
{
	block_pool_free();
	event_close();
	return 0;
}

static int fake_start(void **state)
{
	const struct config_cpus cpus = {.n = 1, .cpu = {(uint16_t)sched_getcpu()}};
	eventfd_t value;
	struct err err;

	for (unsigned i = 0; i < LANES_MAX; i++)
		bytes_free(&fake.files[i]);
	memset((char *)&fake + sizeof(fake.lock), 0, sizeof(fake) - sizeof(fake.lock));
	eventfd_read(event_fd(), &value);
	return writer_start(&cpus, &err);
}

static int fake_stop(void **state)
{
	writer_stop();
	for (unsigned i = 0; i < LANES_MAX; i++)
		bytes_free(&fake.files[i]);
	return fake.n_overlaps == 0 && fake.n_flying == 0 && fake.n_flying_max <= SINK_WRITES_MAX
		       ? 0
		       : -1;
}

/* A tap that is live as engine_tap_add makes it. Lane i's file is i. */
static struct bench *tap_start(unsigned n_lanes)
{
	struct bench *bench = bench_new(n_lanes, 1);

	for (unsigned i = 0; i < n_lanes; i++) {
		bench->lanes[i].file.fd = (int)i;
		writer_wake(0);
	}
	return bench;
}

static void tap_finish(struct bench *bench)
{
	for (unsigned i = 0; i < bench->n_lanes; i++)
		lane_end(&bench->lanes[i]);
	SOON(tap_drained(&bench->tap));
}

static uint64_t packets_offer(struct lane *lane, unsigned n, uint32_t len)
{
	struct burst burst;

	for (; n > 0; n -= burst.n) {
		burst_fill(&burst, n < 64 ? n : 64, len, lane->offered, T0 + lane->offered);
		lane_offer(lane, &burst, UINT64_MAX, 0, 0);
		for (unsigned i = 0; i < burst.n; i++)
			packet_free(burst.pkts[i]);
	}
	return lane->framed;
}

/* Drained taps are settled to the packet, and every block is home. */
static void books_check(struct bench *bench)
{
	struct ledger ledger;
	uint64_t dropped = 0;

	tap_ledger(&bench->tap, &ledger);
	for (unsigned r = 0; r < DROP_COUNT; r++)
		dropped += ledger.dropped[r];
	assert_int_equal(ledger.in_flight, 0);
	assert_int_equal(ledger.offered,
		ledger.filtered + ledger.sampled_out + ledger.over_limit + ledger.accepted);
	assert_int_equal(ledger.accepted, ledger.written + dropped);
	for (unsigned i = 0; i < bench->n_lanes; i++) {
		struct lane *lane = &bench->lanes[i];

		assert_int_equal(lane->settled, lane->framed);
		assert_null(lane->queue);
		assert_null(lane->writes);
		assert_int_equal(lane->queue_bytes, 0);
	}
	assert_true(tap_ended_ns(&bench->tap) > T0);
	assert_int_equal(block_free_count(), block_count());
}

static void what_lanes_hand_over_is_in_the_files(void **state)
{
	struct bench *bench = tap_start(3);
	struct frames_rng rng = {9};
	struct bytes want[3] = {{0}};
	uint64_t captured = 0;
	static struct frame frame;
	eventfd_t value;

	fake.reverse = true;
	for (unsigned round = 0; round < 1500; round++) {
		unsigned k = frames_below(&rng, 3);
		struct burst burst = {0};

		for (unsigned i = 0; i < 32; i++) {
			frame_make(&frame, &rng);
			burst_add(&burst, packet_new(frame.data, frame.len, 0), T0 + round);
			want_put(&want[k], &(struct want_packet){0, T0 + round, frame.data,
						   frame.len, frame.len, 0, 0});
			captured += frame.len;
		}
		SOON(block_free_count() > BLOCKS / 2);
		lane_offer(&bench->lanes[k], &burst, UINT64_MAX, 0, 0);
		if (frames_below(&rng, 20) == 0)
			lane_flush(&bench->lanes[k]);
		burst_clear(&burst);
	}
	tap_finish(bench);
	assert_int_equal(eventfd_read(event_fd(), &value), 0);
	for (unsigned i = 0; i < 3; i++) {
		const struct lane *lane = &bench->lanes[i];
		struct tap_lane_mark mark;

		tap_lane_mark(&bench->tap, i, &mark);
		assert_int_equal(mark.written_bytes, want[i].len);
		assert_int_equal(mark.written_packets, lane->framed);
		assert_int_equal(mark.submitted_bytes, fake.files[i].len);
		assert_int_equal(lane->written, lane->framed);
		assert_int_equal(lane->if_written[0], lane->framed);
		assert_true(fake.files[i].len < want[i].len + BLOCK_PAGE);
		assert_memory_equal(fake.files[i].data, want[i].data, want[i].len);
		captured -= lane->written_bytes;
		bytes_free(&want[i]);
	}
	assert_int_equal(captured, 0);
	books_check(bench);
	bench_free(bench);
}

static void blocks_are_gathered(void **state)
{
	struct bench *bench = bench_new(1, 1);

	/* All there before the writer wakes. */
	bench->lanes[0].file.fd = 0;
	packets_offer(&bench->lanes[0], 64 * 130, LEN_64TH);
	writer_wake(0);
	tap_finish(bench);
	assert_int_equal(fake.n_submitted, 3);
	assert_int_equal(fake.lens[0], SINK_IOVS_DEFAULT * BLOCK_SIZE);
	assert_int_equal(fake.lens[1], SINK_IOVS_DEFAULT * BLOCK_SIZE);
	assert_int_equal(fake.lens[2], 2 * BLOCK_SIZE);
	assert_int_equal(bench->lanes[0].written, 64 * 130);
	books_check(bench);
	bench_free(bench);
}

/* A larger write, and no more in flight than asked for; small ones are not held up by that. */
static void writes_are_as_large_and_as_many_as_set(void **state)
{
	struct bench *bench = bench_new(1, 1);

	writer_writes_set(16 * BLOCK_SIZE, 3);
	fake.hold = true;
	bench->lanes[0].file.fd = 0;
	packets_offer(&bench->lanes[0], 64 * 100, LEN_64TH);
	writer_wake(0);
	SOON(submitted() == 3);
	usleep(30000);
	assert_int_equal(submitted(), 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fake.lens[i], 16 * BLOCK_SIZE);
	allow(0);
	SOON(submitted() == 4);
	hold_set(false);
	tap_finish(bench);
	assert_int_equal(bench->lanes[0].written, 64 * 100);
	assert_int_equal(fake.n_flying_max, 3);
	books_check(bench);
	bench_free(bench);
}

/* Half of the blocks are enough for what flies, however much is asked for. */
static void writes_leave_half_of_the_blocks(void **state)
{
	struct bench *bench = bench_new(1, 1);

	writer_writes_set(1U << 30, 1000);
	fake.hold = true;
	bench->lanes[0].file.fd = 0;
	packets_offer(&bench->lanes[0], 64 * 200, LEN_64TH);
	writer_wake(0);
	SOON(submitted() == 2);
	usleep(30000);
	assert_int_equal(submitted(), 2);
	assert_int_equal(fake.lens[0] + fake.lens[1], BLOCKS / 2 * BLOCK_SIZE);
	hold_set(false);
	tap_finish(bench);
	books_check(bench);
	bench_free(bench);
}

static void a_few_blocks_do_not_wait_for_long(void **state)
{
	struct bench *bench = tap_start(1);

	packets_offer(&bench->lanes[0], 64 * 3, LEN_64TH);
	SOON(COUNTER_READ(bench->lanes[0].written) == 64 * 3);
	tap_finish(bench);
	books_check(bench);
	bench_free(bench);
}

/* Three writes of 64 blocks, held: what counts as written is what is contiguous. */
static void writes_settle_in_stream_order(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];

	fake.hold = true;
	lane->file.fd = 0;
	packets_offer(lane, 64 * 192, LEN_64TH);
	writer_wake(0);
	SOON(submitted() == 3);
	assert_int_equal(COUNTER_READ(lane->submitted_bytes), 192 * BLOCK_SIZE);
	allow(2);
	SOON(flying() == 2);
	usleep(20000);
	assert_int_equal(COUNTER_READ(lane->written), 0);
	assert_int_equal(COUNTER_READ(lane->whole_written), 0);
	assert_int_equal(block_free_count(), BLOCKS - 192);
	allow(0);
	SOON(COUNTER_READ(lane->written) == 64 * 64);
	assert_int_equal(COUNTER_READ(lane->whole_written), 64 * BLOCK_SIZE);
	SOON(block_free_count() == BLOCKS - 128);
	allow(0);
	SOON(COUNTER_READ(lane->written) == 64 * 192);
	assert_int_equal(COUNTER_READ(lane->whole_written), 192 * BLOCK_SIZE);
	hold_set(false);
	tap_finish(bench);
	books_check(bench);
	bench_free(bench);
}

static void a_page_is_in_one_write_at_a_time(void **state)
{
	struct bench *bench = tap_start(1);
	struct lane *lane = &bench->lanes[0];

	hold_set(true);
	packets_offer(lane, 1, 100);
	lane_flush(lane);
	SOON(submitted() == 1);
	packets_offer(lane, 64 * 3, LEN_64TH);
	lane_flush(lane);
	usleep(60000);
	assert_int_equal(submitted(), 1);
	allow(0);
	SOON(submitted() == 2);
	hold_set(false);
	tap_finish(bench);
	assert_int_equal(fake.lens[0], BLOCK_PAGE);
	assert_int_equal(lane->written, 1 + 64 * 3);
	books_check(bench);
	bench_free(bench);
}

static void no_more_than_32_are_in_flight(void **state)
{
	struct bench *bench = tap_start(40);

	hold_set(true);
	for (unsigned i = 0; i < 40; i++) {
		packets_offer(&bench->lanes[i], 1, 100);
		lane_flush(&bench->lanes[i]);
	}
	SOON(submitted() == SINK_WRITES_MAX);
	usleep(30000);
	assert_int_equal(submitted(), SINK_WRITES_MAX);
	hold_set(false);
	tap_finish(bench);
	assert_int_equal(fake.n_submitted, 40);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(bench->lanes[i].written, 1);
	books_check(bench);
	bench_free(bench);
}

static const struct failure {
	int error;
	enum drop drop;
	enum end_reason reason;
} failures[] = {
	{ENOSPC, DROP_no_space, END_disk_full},
	{EDQUOT, DROP_no_space, END_disk_full},
	{EIO, DROP_io_error, END_io_error},
};

/* Of three writes the second fails, the third succeeds and completes first: what is behind the
 * failure is lost all the same, and so is what comes after. */
static void a_failed_write_ends_the_stream_there(void **state)
{
	for (unsigned k = 0; k < COUNT(failures); k++) {
		const struct failure *failure = &failures[k];
		struct bench *bench = bench_new(2, 1);
		struct lane *lane = &bench->lanes[0];
		struct tap_interface interface;
		eventfd_t value;

		fake.n_submitted = 0;
		fake.hold = true;
		fake.fail = 2;
		fake.error = failure->error;
		eventfd_read(event_fd(), &value);
		lane->file.fd = 0;
		bench->lanes[1].file.fd = 1;
		/* A loss that is told in a block that is lost is untold again. */
		packets_offer(lane, 64 * 64, LEN_64TH);
		lane->pending[0] = 5;
		lane->if_dropped[0] = 5;
		lane->dropped[DROP_oversize] = 5;
		lane->accepted += 5;
		lane->offered += 5;
		packets_offer(lane, 64 * 128, LEN_64TH);
		writer_wake(0);
		writer_wake(0);
		SOON(submitted() >= 3);
		allow(2);
		allow(1);
		SOON(flying() <= 1);
		usleep(5000);
		assert_int_equal(tap_end_reason(&bench->tap), END_none);
		hold_set(false);
		SOON(tap_end_reason(&bench->tap) == failure->reason);
		SOON(COUNTER_READ(lane->settled) >= 64 * 192 - 64);
		assert_int_equal(eventfd_read(event_fd(), &value), 0);
		assert_int_equal(tap_sink_error(&bench->tap), failure->error);
		/* The lcore does not know yet. */
		packets_offer(lane, 64 * 3, LEN_64TH);
		lane_flush(lane);
		packets_offer(lane, 10, 100);
		/* The other lane is not hurt. */
		packets_offer(&bench->lanes[1], 100, 100);
		tap_finish(bench);
		assert_int_equal(lane->written, 64 * 64);
		assert_int_equal(lane->whole_written, 64 * BLOCK_SIZE);
		assert_int_equal(lane->lost[failure->drop], lane->framed - 64 * 64);
		assert_int_equal(lane->if_lost[0], lane->framed - 64 * 64);
		assert_int_equal(bench->lanes[1].written, 100);
		tap_interface(&bench->tap, 0, &interface);
		assert_int_equal(interface.written, 64 * 64 + 100);
		assert_int_equal(interface.dropped, lane->if_lost[0] + 5);
		assert_int_equal(interface.tail_gap, lane->if_lost[0] + 5);
		books_check(bench);
		bench_free(bench);
	}
}

static void the_null_sink_takes_all(void **state)
{
	struct bench *bench = bench_new(2, 1);

	bench->tap.spec.sink = SINK_NULL;
	writer_wake(0);
	writer_wake(0);
	for (unsigned round = 0; round < 200; round++) {
		SOON(block_free_count() > BLOCKS / 2);
		packets_offer(&bench->lanes[round & 1], 64, 1500);
	}
	tap_finish(bench);
	assert_int_equal(fake.n_submitted, 0);
	assert_int_equal(bench->lanes[0].written + bench->lanes[1].written, 200 * 64);
	books_check(bench);
	bench_free(bench);
}

static void a_lane_without_packets_drains_at_once(void **state)
{
	struct bench *bench = tap_start(3);
	eventfd_t value;

	assert_false(tap_drained(&bench->tap));
	tap_finish(bench);
	SOON(eventfd_read(event_fd(), &value) == 0);
	assert_int_equal(fake.n_submitted, 0);
	books_check(bench);
	bench_free(bench);
}

/* The tap is drained when all its lanes are, and not before. */
static void drained_is_after_the_last_write(void **state)
{
	struct bench *bench = tap_start(2);

	hold_set(true);
	packets_offer(&bench->lanes[0], 10, 100);
	lane_end(&bench->lanes[0]);
	lane_end(&bench->lanes[1]);
	SOON(submitted() == 1);
	SOON(COUNTER_READ(bench->tap.lanes_drained) == 1);
	usleep(20000);
	assert_false(tap_drained(&bench->tap));
	hold_set(false);
	SOON(tap_drained(&bench->tap));
	assert_int_equal(bench->lanes[0].written, 10);
	books_check(bench);
	bench_free(bench);
}

/* Somebody looks at the books all the time. */
struct looker {
	pthread_t thread;
	struct bench *bench;
	bool stop;
	unsigned n_looks;
	unsigned n_wrong;
};

static void *looker_run(void *arg)
{
	struct looker *looker = arg;

	while (!__atomic_load_n(&looker->stop, __ATOMIC_RELAXED)) {
		struct ledger ledger;
		uint64_t dropped = 0;

		tap_ledger(&looker->bench->tap, &ledger);
		for (unsigned r = 0; r < DROP_COUNT; r++)
			dropped += ledger.dropped[r];
		looker->n_looks++;
		looker->n_wrong += ledger.written + dropped > ledger.accepted;
		looker->n_wrong += ledger.accepted > ledger.offered;
		looker->n_wrong += (int64_t)ledger.in_flight < 0;
		sched_yield();
	}
	return NULL;
}

static void the_ledger_is_never_ahead_of_itself(void **state)
{
	struct bench *bench = tap_start(2);
	struct looker looker = {.bench = bench};

	assert_int_equal(pthread_create(&looker.thread, NULL, looker_run, &looker), 0);
	for (unsigned round = 0; round < 3000; round++) {
		packets_offer(&bench->lanes[round & 1], 64, 200);
		if (round % 100 == 0) {
			lane_flush(&bench->lanes[round & 1]);
			usleep(100);
		}
	}
	tap_finish(bench);
	__atomic_store_n(&looker.stop, true, __ATOMIC_RELAXED);
	pthread_join(looker.thread, NULL);
	assert_true(looker.n_looks > 10);
	assert_int_equal(looker.n_wrong, 0);
	books_check(bench);
	bench_free(bench);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_start, fake_stop)
	const struct CMUnitTest tests[] = {
		TEST(what_lanes_hand_over_is_in_the_files),
		TEST(blocks_are_gathered),
		TEST(writes_are_as_large_and_as_many_as_set),
		TEST(writes_leave_half_of_the_blocks),
		TEST(a_few_blocks_do_not_wait_for_long),
		TEST(writes_settle_in_stream_order),
		TEST(a_page_is_in_one_write_at_a_time),
		TEST(no_more_than_32_are_in_flight),
		TEST(a_failed_write_ends_the_stream_there),
		TEST(the_null_sink_takes_all),
		TEST(a_lane_without_packets_drains_at_once),
		TEST(drained_is_after_the_last_write),
		TEST(the_ledger_is_never_ahead_of_itself),
	};

	return cmocka_run_group_tests(tests, pool_start, pool_stop);
}
