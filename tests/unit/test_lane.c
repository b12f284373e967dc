/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/lane: the bytes of its stream, cut into blocks anywhere; what happens when there is no
 * block; limits, deadlines, directions and stamps; and the books. Blocks and rings are real, the
 * bytes that ought to come out are built by other code (lane_fixture.h).
 */
#include "lane_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "eal_fixture.h"
#include "engine/event.h"
#include "engine/lane_internal.h"
#include "frames.h"
#include "frames_file.h"

#define HOMES  2
#define BLOCKS 32 /* of each home */
#define T0     1700000000000000000ULL

/* Packets of LEN bytes take 1000 in the stream: so many fit into n blocks, the last never full. */
#define LEN    968
#define FIT(n) ((uint64_t)(n)*BLOCK_SIZE / 1000)

static const uint64_t all = UINT64_MAX;

static int pool_start(void **state)
{
	struct err err;

	if (eal_fixture_start() != 0 || event_open() != 0)
		return -1;
	return block_pool_new(HOMES * BLOCKS * BLOCK_SIZE, false, HOMES, 1, &err);
}

static int pool_stop(void **state)
{
	block_pool_free();
	event_close();
	return 0;
}

static bool event_was_raised(void)
{
	eventfd_t value;

	return eventfd_read(event_fd(), &value) == 0;
}

/* The way that an rx_set would choose. */
static void offer(struct lane *lane, const struct burst *burst)
{
	lane_offer_choose(lane)(lane, burst, all, 0, 0);
}

/* n packets of len bytes in bursts; the writer takes blocks in between if asked to. */
static uint64_t offer_many(
	struct bench *bench, unsigned lane, uint64_t seq, uint64_t n, uint32_t len, bool write)
{
	struct burst burst;

	for (; n > 0; n -= burst.n) {
		burst_fill(&burst, n > 64 ? 64 : n, len, seq, T0 + seq);
		offer(&bench->lanes[lane], &burst);
		seq += burst.n;
		if (write)
			bench_write(bench, 1000);
		for (unsigned i = 0; i < burst.n; i++)
			packet_free(burst.pkts[i]);
	}
	return seq;
}

/* Random frames into one lane; the same frames into an own idea of the stream. */
static void stream_run(uint32_t snaplen, bool direction, uint64_t seed, unsigned n_interfaces)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct frames_rng rng = {seed};
	static struct frame frame;
	struct burst burst = {0};
	struct bytes want = {0};
	uint64_t stamp = T0, captured = 0, n = 0;
	uint8_t header[2048];
	size_t header_len = frames_header(header, sizeof(header), n_interfaces);

	bench_header(bench, 0, header, header_len);
	bytes_put(&want, header, header_len);
	bench_snaplen(bench, snaplen);
	lane->direction_known = direction;
	for (unsigned round = 0; round < 120; round++) {
		const unsigned n_burst = 1 + frames_below(&rng, PORT_BURST_MAX);
		const unsigned interface = frames_below(&rng, n_interfaces);

		for (unsigned i = 0; i < n_burst; i++) {
			uint32_t piece =
				frames_below(&rng, 3) == 0 ? 1 + frames_below(&rng, 700) : 0;

			frame_make(&frame, &rng);
			stamp += frames_below(&rng, 5000);
			burst_add(&burst, packet_new(frame.data, frame.len, piece), stamp);
			if (direction && frames_below(&rng, 2) == 0)
				burst.outbound |= 1ULL << i;
			captured += frame.len < snaplen ? frame.len : snaplen;
			want_put(
				&want, &(struct want_packet){
					       .interface = interface,
					       .stamp_ns = stamp,
					       .data = frame.data,
					       .cap_len = frame.len < snaplen ? frame.len : snaplen,
					       .orig_len = frame.len,
					       .flags = !direction                ? 0
							: burst.outbound >> i & 1 ? 2
										  : 1,
				       });
		}
		lane_offer_choose(lane)(lane, &burst, all, interface, 0);
		n += burst.n;
		burst_clear(&burst);
		if (frames_below(&rng, 4) == 0)
			lane_flush(lane);
		if (frames_below(&rng, 3) == 0)
			bench_write(bench, frames_below(&rng, 4));
		if (block_free_count() < HOMES * BLOCKS - BLOCKS / 2)
			bench_write(bench, 1000);
	}
	bench_end(bench);
	bench_file_equals(bench, 0, &want);
	bench_balances(bench);
	assert_int_equal(lane->accepted, n);
	assert_int_equal(lane->framed, n);
	assert_int_equal(lane->stamps_raised, 0);
	assert_int_equal(bench->disks[0].captured_bytes, captured);
	assert_true(bench->disks[0].n_partial > 5);
	bytes_free(&want);
	bench_free(bench);
}

static void the_stream_is_what_other_code_builds(void **state)
{
	static const uint32_t snaplens[] = {TAP_SNAPLEN_MAX, 1500, 128, 61, 4, 1};

	for (unsigned i = 0; i < COUNT(snaplens); i++) {
		stream_run(snaplens[i], false, 11 + i, 1);
		stream_run(snaplens[i], true, 23 + i, 3);
	}
}

/* Every place in a block where a packet can be cut in two, headers, padding and options included. */
static void packets_are_cut_anywhere(void **state)
{
	for (uint32_t before = 0; before < 140; before += 4) {
		struct bench *bench = bench_new(1, 1);
		struct lane *lane = &bench->lanes[0];
		struct bytes want = {0};
		uint8_t data[BLOCK_SIZE];
		struct burst burst = {0};

		for (unsigned i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)(i * 13 + before);
		lane->direction_known = true;
		/* Leaves `before` bytes of the first block. */
		burst_add(&burst, packet_new(data, BLOCK_SIZE - 44 - before, 0), T0);
		burst_add(&burst, packet_new(data, 77, before % 8 == 0 ? 3 : 0), T0 + 1);
		burst_add(&burst, packet_new(data + 5, 9, 0), T0 + 2);
		offer(lane, &burst);
		for (unsigned i = 0; i < burst.n; i++)
			want_put(&want, &(struct want_packet){
						.stamp_ns = T0 + i,
						.data = i == 2 ? data + 5 : data,
						.cap_len = burst.pkts[i]->pkt_len,
						.orig_len = burst.pkts[i]->pkt_len,
						.flags = 1,
					});
		bench_end(bench);
		bench_file_equals(bench, 0, &want);
		assert_int_equal(bench->disks[0].n_blocks, 2);
		burst_clear(&burst);
		bytes_free(&want);
		bench_free(bench);
	}
}

static void a_packet_longer_than_blocks_is_whole(void **state)
{
	const uint32_t len = TAP_SNAPLEN_MAX - 1;
	struct bench *bench = bench_new(1, 1);
	uint8_t *data = malloc(len);
	struct burst burst = {0};
	struct bytes want = {0};

	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i >> 8 ^ i);
	for (unsigned i = 0; i < 3; i++) {
		burst_add(&burst, packet_new(data, len, 9000), T0 + i);
		want_put(&want, &(struct want_packet){0, T0 + i, data, len, len, 0, 0});
	}
	offer(&bench->lanes[0], &burst);
	bench_end(bench);
	bench_file_equals(bench, 0, &want);
	assert_int_equal(bench->disks[0].packets[0], 3);
	burst_clear(&burst);
	bytes_free(&want);
	free(data);
	bench_free(bench);
}

/* Storage has written the header: the lane goes on behind it, and writes its last page again. */
static void the_stream_goes_on_behind_any_header(void **state)
{
	static const size_t lens[] = {0, 4, 4092, 4096, 4100, 8192, 12284, 70000};
	static uint8_t header[70000];

	for (unsigned i = 0; i < sizeof(header); i++)
		header[i] = (uint8_t)(i >> 3 ^ i);
	for (unsigned i = 0; i < COUNT(lens); i++) {
		struct bench *bench = bench_new(1, 1);
		struct bytes want = {0};
		uint8_t data[60] = {0};

		bench_header(bench, 0, header, lens[i]);
		offer_many(bench, 0, 0, 1, 60, false);
		bytes_put(&want, header, lens[i]);
		want_put(&want, &(struct want_packet){0, T0, data, 60, 60, 0, 0});
		bench_end(bench);
		bench_file_equals(bench, 0, &want);
		bytes_free(&want);
		bench_free(bench);
	}
}

static void a_full_block_goes_at_once(void **state)
{
	struct bench *bench = bench_new(1, 1);

	/* 64 blocks of 1024 bytes: exactly one of ours. */
	offer_many(bench, 0, 0, 63, 1024 - 32, false);
	assert_int_equal(bench_write(bench, 10), 0);
	offer_many(bench, 0, 63, 1, 1024 - 32, false);
	assert_int_equal(bench_write(bench, 10), 1);
	assert_int_equal(bench->disks[0].n_partial, 0);
	assert_int_equal(bench->disks[0].whole_end, BLOCK_SIZE);
	lane_flush(&bench->lanes[0]);
	assert_int_equal(bench_write(bench, 10), 0);
	assert_null(bench->lanes[0].block);
	bench_end(bench);
	assert_int_equal(bench->disks[0].n_blocks, 1);
	bench_free(bench);
}

static void a_flush_hands_over_what_is_new_and_only_that(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];

	lane_flush(lane);
	assert_int_equal(bench_write(bench, 10), 0);
	/* Three packets into one page: it is written three times, longer each time. */
	for (unsigned i = 0; i < 3; i++) {
		offer_many(bench, 0, i, 1, 68, false);
		lane_flush(lane);
		lane_flush(lane);
		assert_int_equal(bench_write(bench, 10), 1);
		assert_int_equal(bench->disks[0].whole_end, (i + 1) * 100);
		assert_int_equal(bench->disks[0].file.len, BLOCK_PAGE);
		assert_null(lane->block);
	}
	assert_int_equal(bench->disks[0].n_partial, 3);
	/* A page that is full is not written again. */
	offer_many(bench, 0, 3, 1, BLOCK_PAGE - 300 - 32, false);
	lane_flush(lane);
	assert_int_equal(bench_write(bench, 10), 1);
	assert_int_equal(bench->disks[0].n_partial, 3);
	assert_int_equal(bench->disks[0].next_offset, BLOCK_PAGE);
	offer_many(bench, 0, 4, 1, 68, false);
	bench_end(bench);
	assert_int_equal(bench->disks[0].n_blocks, 5);
	assert_int_equal(bench->disks[0].file.len, 2 * BLOCK_PAGE);
	bench_balances(bench);
	bench_free(bench);
}

static void an_idle_lane_holds_no_block(void **state)
{
	struct bench *bench = bench_new(3, 1);

	assert_int_equal(block_free_count(), block_count());
	offer_many(bench, 0, 0, 1, 60, false);
	offer_many(bench, 1, 0, 1, 60, false);
	assert_int_equal(block_free_count(), block_count() - 2);
	lane_flush(&bench->lanes[0]);
	lane_flush(&bench->lanes[1]);
	bench_write(bench, 10);
	assert_int_equal(block_free_count(), block_count());
	bench_end(bench);
	bench_free(bench);
}

static void without_a_block_packets_are_lost_whole_and_told_where(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct bytes want = {0};
	struct burst burst;
	uint8_t data[1000];
	/* One block is kept for lanes that hold none. */
	const uint64_t fit = FIT(BLOCKS - 1);
	uint64_t seq = offer_many(bench, 0, 0, fit + 100, LEN, false);

	assert_int_equal(lane->framed, fit);
	assert_int_equal(lane->dropped[DROP_no_block], 100);
	assert_int_equal(lane->accepted, fit + 100);
	assert_int_equal(lane->pending[0], 100);
	while (bench_write(bench, 10) != 0)
		;
	offer_many(bench, 0, seq, 1, 1000, false);
	assert_int_equal(lane->pending[0], 0);
	offer_many(bench, 0, seq + 1, 1, 1000, false);
	bench_end(bench);
	bench_balances(bench);
	assert_int_equal(bench->disks[0].told[0], 100);
	/* The gap stands at the first packet behind it, and nowhere else. */
	for (unsigned i = 0; i < 2; i++) {
		burst_fill(&burst, 1, 1000, seq + i, 0);
		memcpy(data, burst.pkts[0]->buf_addr, 1000);
		want_put(&want, &(struct want_packet){
					0, T0 + seq + i, data, 1000, 1000, 0, i == 0 ? 100 : 0});
		burst_clear(&burst);
	}
	assert_int_equal(bench->disks[0].whole_end, fit * 1000 + want.len);
	assert_memory_equal(bench->disks[0].file.data + fit * 1000, want.data, want.len);
	bytes_free(&want);
	bench_free(bench);
}

static void a_long_packet_without_room_leaves_room_for_short_ones(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	uint8_t *data = calloc(1, 200000);
	struct burst burst = {0};
	unsigned free_before;

	offer_many(bench, 0, 0, FIT(BLOCKS - 3) + 1, LEN, false);
	free_before = block_home(0)->n_free;
	assert_int_equal(free_before, 2);
	/* Needs three more blocks; of two one may be taken. */
	burst_add(&burst, packet_new(data, 60, 0), T0);
	burst_add(&burst, packet_new(data, 200000, 9000), T0);
	burst_add(&burst, packet_new(data, 60, 0), T0);
	burst.pkts[1]->pkt_len = 200000;
	offer(lane, &burst);
	assert_int_equal(lane->dropped[DROP_no_block], 1);
	assert_int_equal(lane->framed, FIT(BLOCKS - 3) + 1 + 2);
	assert_int_equal(block_home(0)->n_free, free_before);
	assert_null(lane->spare);
	bench_end(bench);
	assert_int_equal(bench->disks[0].told[0], 1);
	bench_balances(bench);
	burst_clear(&burst);
	free(data);
	bench_free(bench);
}

static void losses_are_told_per_interface(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct burst burst;

	offer_many(bench, 0, 0, FIT(BLOCKS - 1), LEN, false);
	burst_fill(&burst, 10, 700, 0, T0 + 100000);
	lane_offer(lane, &burst, 0x3ff, 1, 0);
	lane_offer(lane, &burst, 0x007, 2, 0);
	while (bench_write(bench, 10) != 0)
		;
	lane_offer(lane, &burst, 0x001, 0, 0);
	lane_offer(lane, &burst, 0x001, 1, 0);
	bench_end(bench);
	assert_int_equal(bench->disks[0].told[0], 0);
	assert_int_equal(bench->disks[0].told[1], 10);
	/* Nothing came after it on interface 2: the tail gap, for the closing statistics. */
	assert_int_equal(bench->disks[0].told[2], 0);
	assert_int_equal(lane->pending[2], 3);
	assert_int_equal(lane->if_dropped[1], 10);
	assert_int_equal(lane->if_dropped[2], 3);
	assert_int_equal(lane->if_accepted[1], 11);
	assert_int_equal(lane->filtered, 7 + 9 + 9);
	bench_balances(bench);
	burst_clear(&burst);
	bench_free(bench);
}

static void the_last_blocks_are_for_lanes_that_hold_none(void **state)
{
	struct bench *bench = bench_new(4, 1);

	/* The first lane takes what it can get: all but four. */
	offer_many(bench, 0, 0, FIT(BLOCKS), LEN, false);
	assert_int_equal(bench->lanes[0].framed, FIT(BLOCKS - 4));
	for (unsigned i = 1; i < 4; i++) {
		offer_many(bench, i, 0, 100, LEN, false);
		assert_int_equal(bench->lanes[i].framed, FIT(1));
		assert_int_equal(bench->lanes[i].dropped[DROP_no_block], 100 - FIT(1));
	}
	/* The first lane has more than its share, be it all handed over: the last block is not for it. */
	lane_flush(&bench->lanes[0]);
	offer_many(bench, 0, 0, 100, LEN, false);
	assert_int_equal(bench->lanes[0].framed, FIT(BLOCKS - 4));
	assert_int_equal(block_home(0)->n_free, 1);
	/* One of the others has handed over what it was filling, holds none, and gets it. */
	lane_flush(&bench->lanes[1]);
	offer_many(bench, 1, 0, 100, LEN, false);
	assert_in_range(bench->lanes[1].framed - FIT(1), FIT(1) - 4, FIT(1));
	assert_int_equal(block_home(0)->n_free, 0);
	bench_end(bench);
	bench_balances(bench);
	bench_free(bench);
}

static void a_frame_that_came_cut_is_counted_unless_the_snaplen_is_shorter(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct burst burst;
	struct bytes want = {0};
	uint8_t data[200];

	burst_fill(&burst, 3, 200, 0, T0);
	burst.cut = 1;
	burst.wire_len[0] = 65226;
	offer(lane, &burst);
	assert_int_equal(lane->dropped[DROP_oversize], 1);
	assert_int_equal(lane->framed, 2);
	bench_snaplen(bench, 200);
	offer(lane, &burst);
	assert_int_equal(lane->dropped[DROP_oversize], 1);
	assert_int_equal(lane->framed, 5);
	bench_end(bench);
	for (unsigned i = 0; i < 5; i++) {
		unsigned at = i < 2 ? i + 1 : i - 2;

		memcpy(data, burst.pkts[at]->buf_addr, 200);
		want_put(&want, &(struct want_packet){.stamp_ns = T0 + (i < 2 ? at : 2),
					.data = data,
					.cap_len = 200,
					.orig_len = i == 2 ? 65226 : 200,
					.drops = i == 0});
	}
	assert_int_equal(lane->stamps_raised, 2);
	bench_file_equals(bench, 0, &want);
	bench_balances(bench);
	burst_clear(&burst);
	bytes_free(&want);
	bench_free(bench);
}

/* limits, what 300 packets of 100 bytes leave, and why it ended */
static const struct limit_case {
	uint64_t packets, bytes, file_bytes;
	uint64_t framed;
	enum end_reason reason;
} limit_cases[] = {
	{100, 0, 0, 100, END_packet_limit},
	{128, 0, 0, 128, END_packet_limit}, /* the last place is the last of a burst */
	{1, 0, 0, 1, END_packet_limit},
	{0, 5000, 0, 50, END_byte_limit},
	{0, 5099, 0, 50, END_byte_limit},
	{0, 99, 0, 0, END_byte_limit},
	{0, 0, 13200, 100, END_file_limit}, /* 132 bytes each */
	{0, 0, 13199, 99, END_file_limit},
	{100, 10000, 13200, 100, END_packet_limit}, /* all at once: packets are asked last */
	{101, 10000, 13200, 100, END_file_limit},
	{100, 9999, 0, 99, END_byte_limit},
};

static void limits_are_exact(void **state)
{
	for (unsigned i = 0; i < COUNT(limit_cases); i++) {
		const struct limit_case *c = &limit_cases[i];
		struct bench *bench = bench_new(1, 1);
		struct lane *lane = &bench->lanes[0];
		uint64_t bursts = c->framed / 64 + (c->framed % 64 != 0 || c->framed == 0);

		limit_init(&bench->tap.limit, c->packets, c->bytes, c->file_bytes);
		event_was_raised();
		offer_many(bench, 0, 0, 300, 100, true);
		assert_int_equal(lane->framed, c->framed);
		assert_int_equal(lane->accepted, c->framed);
		/* The rest of the burst in which the lane learnt of it, and no more. */
		assert_int_equal(lane->over_limit, bursts * 64 - c->framed);
		assert_int_equal(lane->offered, bursts * 64);
		assert_int_equal(tap_end_reason(&bench->tap), c->reason);
		assert_true(event_was_raised());
		assert_true(lane->closed);
		bench_end(bench);
		assert_int_equal(bench->disks[0].packets[0], c->framed);
		bench_balances(bench);
		bench_free(bench);
	}
}

static void packets_without_a_block_use_up_no_limit(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	const uint64_t fit = FIT(BLOCKS - 1);

	limit_init(&bench->tap.limit, fit + 10, 0, 0);
	offer_many(bench, 0, 0, fit + 1000, LEN, false);
	assert_int_equal(lane->dropped[DROP_no_block], 1000);
	assert_int_equal(bench->tap.limit.packets, 10);
	assert_int_equal(tap_end_reason(&bench->tap), END_none);
	while (bench_write(bench, 10) != 0)
		;
	offer_many(bench, 0, 0, 64, 100, false);
	assert_int_equal(lane->framed, fit + 10);
	assert_int_equal(lane->over_limit, 54);
	bench_end(bench);
	assert_int_equal(bench->disks[0].told[0], 1000);
	bench_balances(bench);
	bench_free(bench);
}

/* The packet that would have told of a loss finds no place: the loss is not forgotten. */
static void a_loss_that_a_cut_packet_had_to_tell_is_the_tail_gap(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct burst burst;

	limit_init(&bench->tap.limit, 2, 0, 0);
	burst_fill(&burst, 6, 100, 0, T0);
	burst.cut = 1 << 2 | 1 << 3 | 1 << 5;
	offer(lane, &burst);
	bench_end(bench);
	assert_int_equal(lane->framed, 2);
	assert_int_equal(lane->over_limit, 1);
	assert_int_equal(lane->dropped[DROP_oversize], 3);
	assert_int_equal(bench->disks[0].told[0], 0);
	assert_int_equal(lane->pending[0], 3);
	bench_balances(bench);
	burst_clear(&burst);
	bench_free(bench);
}

struct hammer {
	struct bench *bench;
	unsigned lane;
	uint32_t len;
	pthread_t thread;
};

static void *hammer_run(void *arg)
{
	const struct hammer *hammer = arg;
	struct lane *lane = &hammer->bench->lanes[hammer->lane];
	struct burst burst;

	burst_fill(&burst, 64, hammer->len, hammer->lane, T0);
	while (!lane->closed) {
		burst.n = 1 + lane->offered % 64;
		offer(lane, &burst);
		if (lane->offered % 3 == 0)
			lane_flush(lane);
	}
	lane_end(lane);
	burst.n = 64;
	burst_clear(&burst);
	return NULL;
}

static void two_lcores_share_one_limit(void **state)
{
	for (unsigned kind = 0; kind < 2; kind++) {
		struct bench *bench = bench_new(2, 2);
		struct hammer hammers[2];
		uint64_t left = 200000;
		uint64_t sum, captured;

		limit_init(&bench->tap.limit, kind == 0 ? left : 0, kind == 1 ? left * 60 : 0, 0);
		for (unsigned i = 0; i < 2; i++) {
			hammers[i] = (struct hammer){bench, i, 60, 0};
			assert_int_equal(
				pthread_create(&hammers[i].thread, NULL, hammer_run, &hammers[i]),
				0);
		}
		while (!bench->disks[0].ended || !bench->disks[1].ended)
			bench_write(bench, 64);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(hammers[i].thread, NULL);
		bench_balances(bench);
		sum = bench->disks[0].packets[0] + bench->disks[1].packets[0];
		captured = bench->disks[0].captured_bytes + bench->disks[1].captured_bytes;
		assert_int_equal(sum, left);
		assert_int_equal(captured, left * 60);
		assert_int_equal(
			tap_end_reason(&bench->tap), kind == 0 ? END_packet_limit : END_byte_limit);
		bench_free(bench);
	}
}

static void directions_are_kept_apart(void **state)
{
	static const struct {
		enum direction direction;
		unsigned n;
	} cases[] = {{DIRECTION_BOTH, 64}, {DIRECTION_OUT, 16}, {DIRECTION_IN, 48}};

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct bench *bench = bench_new(1, 1);
		struct lane *lane = &bench->lanes[0];
		struct bytes want = {0};
		struct burst burst;

		lane->direction_known = true;
		bench->tap.spec.direction = cases[i].direction;
		burst_fill(&burst, 64, 60, 0, T0);
		burst.outbound = 0x1111111111111111;
		offer(lane, &burst);
		for (unsigned k = 0; k < 64; k++) {
			const bool out = k % 4 == 0;

			if (cases[i].direction == (out ? DIRECTION_IN : DIRECTION_OUT))
				continue;
			want_put(&want, &(struct want_packet){0, T0 + k, burst.pkts[k]->buf_addr,
						60, 60, out ? 2 : 1, 0});
		}
		bench_end(bench);
		bench_file_equals(bench, 0, &want);
		assert_int_equal(lane->framed, cases[i].n);
		assert_int_equal(lane->filtered, 64 - cases[i].n);
		assert_int_equal(lane->if_accepted[0], cases[i].n);
		bench_balances(bench);
		burst_clear(&burst);
		bytes_free(&want);
		bench_free(bench);
	}
}

static void packets_older_than_the_session_are_not_its_own(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct burst burst;

	bench->tap.start_ns = T0 + 10;
	burst_fill(&burst, 64, 60, 0, T0);
	offer(lane, &burst);
	assert_int_equal(lane->offered, 54);
	assert_int_equal(lane->framed, 54);
	/* It has begun: a clock that is set back now hides nothing. */
	burst.stamp_ns[0] = T0;
	burst.stamp_ns[1] = T0 + 9;
	burst.stamp_ns[2] = T0 - 3600 * 1000000000ULL;
	burst.n = 3;
	offer(lane, &burst);
	assert_int_equal(lane->offered, 57);
	assert_int_equal(lane->stamps_raised, 3);
	burst.n = 64;
	bench_end(bench);
	bench_balances(bench);
	burst_clear(&burst);
	bench_free(bench);
}

static void the_deadline_ends_it(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct burst burst;

	bench->tap.deadline_tsc = 1000;
	event_was_raised();
	burst_fill(&burst, 8, 60, 0, T0);
	lane_offer(lane, &burst, all, 0, 999);
	assert_int_equal(lane->framed, 8);
	assert_false(event_was_raised());
	lane_offer(lane, &burst, 0x0f, 0, 1000);
	assert_int_equal(lane->framed, 8);
	assert_int_equal(lane->over_limit, 4);
	assert_int_equal(lane->filtered, 4);
	assert_int_equal(tap_end_reason(&bench->tap), END_time_limit);
	assert_true(event_was_raised());
	lane_offer(lane, &burst, all, 0, 1001);
	assert_int_equal(lane->offered, 16);
	/* The first reason stays. */
	tap_end_set(&bench->tap, END_stopped);
	assert_int_equal(tap_end_reason(&bench->tap), END_time_limit);
	assert_false(event_was_raised());
	bench_end(bench);
	bench_balances(bench);
	burst_clear(&burst);
	bench_free(bench);
}

static void stamps_never_go_back(void **state)
{
	static const uint64_t in[] = {100, 90, 100, 101, 50, 4294967296 + 7, 3};
	static const uint64_t out[] = {100, 100, 100, 101, 101, 4294967296 + 7, 4294967296 + 7};
	struct bench *bench = bench_new(1, 1);
	struct burst burst = {0};
	struct bytes want = {0};

	for (unsigned i = 0; i < COUNT(in); i++) {
		burst_add(&burst, packet_new("x", 1, 0), T0 + in[i]);
		want_put(&want, &(struct want_packet){0, T0 + out[i], "x", 1, 1, 0, 0});
	}
	offer(&bench->lanes[0], &burst);
	assert_int_equal(bench->lanes[0].stamps_raised, 3);
	bench_end(bench);
	bench_file_equals(bench, 0, &want);
	burst_clear(&burst);
	bytes_free(&want);
	bench_free(bench);
}

static void an_empty_frame_is_a_packet_too(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct burst burst = {0};
	struct bytes want = {0};

	burst_add(&burst, packet_new("", 0, 0), T0);
	want_put(&want, &(struct want_packet){.stamp_ns = T0});
	offer(&bench->lanes[0], &burst);
	bench_end(bench);
	bench_file_equals(bench, 0, &want);
	assert_int_equal(bench->disks[0].packets[0], 1);
	burst_clear(&burst);
	bytes_free(&want);
	bench_free(bench);
}

static void what_filter_and_sampler_leave_out_is_counted(void **state)
{
	struct bench *bench = bench_new(2, 1);
	struct burst burst;

	bench->tap.spec.sample_mode = SAMPLE_EVERY;
	bench->tap.spec.sample_n = 10;
	burst_fill(&burst, 64, 60, 0, T0);
	for (unsigned i = 0; i < 100; i++)
		lane_offer(&bench->lanes[i & 1], &burst, 0x5555555555555555, 0, 0);
	/* A burst of which the filter keeps nothing. */
	lane_offer(&bench->lanes[0], &burst, 0, 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(bench->lanes[i].offered, 50 * 64 + (i == 0 ? 64 : 0));
		assert_int_equal(bench->lanes[i].filtered, 50 * 32 + (i == 0 ? 64 : 0));
		assert_int_equal(bench->lanes[i].if_accepted[0], 50 * 32);
	}
	assert_int_equal(bench->lanes[0].accepted + bench->lanes[1].accepted, 320);
	assert_int_equal(bench->lanes[0].sampled_out + bench->lanes[1].sampled_out, 3200 - 320);
	bench_end(bench);
	bench_balances(bench);
	burst_clear(&burst);
	bench_free(bench);
}

/* Two ports feed the lane; what they polled before it joined or after its end is not its own. */
static void what_was_not_offered_is_caught_up_with(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	uint64_t matched[2] = {1000, 500};
	struct burst burst;

	lane->matched[0] = &matched[0];
	lane->matched[2] = &matched[1];
	lane_join(lane);
	lane_catch_up(lane);
	assert_int_equal(lane->offered, 0);
	matched[0] += 64;
	matched[1] += 3;
	lane_join(lane);
	lane_catch_up(lane);
	assert_int_equal(lane->offered, 67);
	assert_int_equal(lane->filtered, 67);

	/* 128 packets passed by, then a burst of which it wants half. */
	burst_fill(&burst, 64, 60, 0, T0);
	matched[0] += 128 + 64;
	lane_catch_up_to(lane, 0, 64);
	assert_int_equal(lane->offered, 67 + 128);
	assert_int_equal(lane->filtered, 67 + 128);
	lane_offer(lane, &burst, 0x5555555555555555, 0, 0);
	lane_catch_up(lane);
	assert_int_equal(lane->offered, 67 + 128 + 64);
	assert_int_equal(lane->filtered, 67 + 128 + 32);
	burst_clear(&burst);

	/* What came before the end counts, what comes after it doesn't. */
	matched[1] += 7;
	bench_end(bench);
	assert_int_equal(lane->offered, 67 + 128 + 64 + 7);
	matched[0] += 64;
	lane_catch_up(lane);
	assert_int_equal(lane->offered, 67 + 128 + 64 + 7);
	assert_int_equal(lane->filtered, 67 + 128 + 32 + 7);
	bench_balances(bench);
	bench_free(bench);
}

static void nothing_comes_after_the_end(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];
	struct burst burst;

	burst_fill(&burst, 8, 60, 0, T0);
	offer(lane, &burst);
	lane_end(lane);
	lane_end(lane);
	offer(lane, &burst);
	lane_flush(lane);
	assert_int_equal(bench_write(bench, 10), 2);
	assert_true(bench->disks[0].ended);
	assert_int_equal(lane->offered, 8);
	assert_int_equal(bench->disks[0].packets[0], 8);
	burst_clear(&burst);
	bench_free(bench);
}

/* Walk the stream: every gap in the sequence numbers is told by the packet behind it. */
static void gaps_check(const struct bench *bench, const uint64_t *seq_end)
{
	const struct disk *disk = &bench->disks[0];
	uint64_t next[2] = {0}, n = 0;
	size_t at = 0;

	while (at < disk->whole_end) {
		const uint8_t *p = disk->file.data + at;
		uint32_t head[7], total;
		uint64_t seq, drops = 0;

		memcpy(head, p, sizeof(head));
		assert_int_equal(head[0], 6);
		memcpy(&total, p + head[1] - 4, 4);
		assert_int_equal(total, head[1]);
		memcpy(&seq, p + 28, 8);
		if (head[1] > 32 + (head[5] + 3) / 4 * 4)
			memcpy(&drops, p + 28 + (head[5] + 3) / 4 * 4 + 4, 8);
		assert_true(head[2] < 2);
		assert_int_equal(seq - next[head[2]], drops);
		next[head[2]] = seq + 1;
		at += head[1];
		n++;
	}
	assert_int_equal(at, disk->whole_end);
	assert_int_equal(n, bench->lanes[0].framed);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(seq_end[i] - next[i], bench->lanes[0].pending[i]);
}

static void a_slow_writer_costs_packets_but_no_truth(void **state)
{
	struct bench *bench = bench_new(2, 1);
	struct lane *lane = &bench->lanes[0];
	struct frames_rng rng = {5};
	uint64_t seq[2] = {0};
	struct burst burst;
	static uint8_t data[9000];

	for (unsigned round = 0; round < 3000; round++) {
		unsigned n = 1 + frames_below(&rng, 64), interface = frames_below(&rng, 2);

		memset(&burst, 0, sizeof(burst));
		for (unsigned i = 0; i < n; i++) {
			uint32_t len =
				8 + frames_below(&rng, frames_below(&rng, 9) == 0 ? 8900 : 200);

			memcpy(data, &seq[interface], 8);
			seq[interface]++;
			burst_add(&burst, packet_new(data, len, 1500), T0 + round);
			if (frames_below(&rng, 1000) == 0)
				burst.cut |= 1ULL << i;
		}
		lane_offer_choose(lane)(lane, &burst, all, interface, 0);
		burst_clear(&burst);
		if (frames_below(&rng, 10) == 0)
			lane_flush(lane);
		/* Now and then, and never enough. */
		if (frames_below(&rng, 12) == 0)
			bench_write(bench, frames_below(&rng, 7));
	}
	assert_true(lane->dropped[DROP_no_block] > 1000);
	assert_true(lane->dropped[DROP_oversize] > 10);
	assert_true(lane->framed > 10000);
	assert_int_equal(lane->offered, seq[0] + seq[1]);
	bench_end(bench);
	bench_balances(bench);
	gaps_check(bench, seq);
	bench_free(bench);
}

/* A burst with everything in it that makes a way ask twice. */
static void burst_random(struct burst *burst, struct frames_rng *rng, uint64_t *stamp_ns)
{
	static struct frame frame;
	const bool small = frames_below(rng, 3) != 0;
	const unsigned n = 1 + frames_below(rng, PORT_BURST_MAX);

	memset(burst, 0, sizeof(*burst));
	for (unsigned i = 0; i < n; i++) {
		const uint32_t piece = frames_below(rng, 40) == 0 ? 1 + frames_below(rng, 700) : 0;

		frame_make(&frame, rng);
		if (small && frame.len > 70)
			frame.len = frames_below(rng, 71);
		*stamp_ns += frames_below(rng, 50);
		burst_add(burst, packet_new(frame.data, frame.len, piece),
			*stamp_ns - (frames_below(rng, 50) == 0 ? 100 : 0));
		if (frames_below(rng, 2000) == 0) {
			burst->cut |= 1ULL << i;
			burst->wire_len[i] = frame.len + 1000;
		}
	}
}

static uint64_t mask_random(struct frames_rng *rng)
{
	const uint64_t bits = (uint64_t)frames_below(rng, 1U << 31) << 33 ^
			      (uint64_t)frames_below(rng, 1U << 31) << 11 ^
			      frames_below(rng, 1U << 31);

	switch (frames_below(rng, 4)) {
	case 0:
		return bits;
	case 1:
		return bits & bits >> 7 & bits >> 19;
	case 2:
		return frames_below(rng, 8) == 0 ? 0 : all;
	default:
		return all;
	}
}

/* Two lanes at two homes, with a writer that is now and then too slow for both. */
static void ways_compare(const struct lane_way *way, uint32_t snaplen_bytes, uint64_t seed)
{
	struct bench *bench = bench_new(2, 2);
	struct lane *general = &bench->lanes[0], *special = &bench->lanes[1];
	struct frames_rng rng = {seed};
	uint64_t stamp_ns = T0;
	struct burst burst;

	bench->tap.start_ns = T0 + 500;
	bench->tap.deadline_tsc = 990;
	bench_snaplen(bench, snaplen_bytes);
	assert_ptr_equal(lane_offer_choose(special), lane_plain_choose());
	for (unsigned round = 0; round < 1000; round++) {
		const unsigned interface = frames_below(&rng, 8) == 0;
		const uint64_t mask = mask_random(&rng);

		burst_random(&burst, &rng, &stamp_ns);
		lane_offer(general, &burst, mask, interface, round);
		way->offer(special, &burst, mask, interface, round);
		burst_clear(&burst);
		if (frames_below(&rng, 20) == 0) {
			lane_flush(general);
			lane_flush(special);
		}
		if (round % (snaplen_bytes > 1000 ? 700 : 100) == 99)
			bench_write(bench, 1000);
		assert_int_equal(general->used, special->used);
		assert_int_equal(general->stamp_last_ns, special->stamp_last_ns);
	}
	bench_end(bench);
	bench_balances(bench);
	assert_true(general->framed > 8000 && general->stamps_raised > 50);
	assert_int_not_equal(general->over_limit, 0);
	if (snaplen_bytes > 1000)
		assert_true(general->dropped[DROP_no_block] > 0);
	assert_memory_equal(&general->offered, &special->offered,
		offsetof(struct lane, settled) - offsetof(struct lane, offered));
	assert_memory_equal(general->pending, special->pending, sizeof(general->pending));
	assert_int_equal(bench->disks[0].n_blocks, bench->disks[1].n_blocks);
	assert_int_equal(bench->disks[0].captured_bytes, bench->disks[1].captured_bytes);
	assert_memory_equal(
		bench->disks[0].packets, bench->disks[1].packets, sizeof(bench->disks[0].packets));
	assert_memory_equal(
		bench->disks[0].told, bench->disks[1].told, sizeof(bench->disks[0].told));
	assert_int_equal(bench->disks[0].file.len, bench->disks[1].file.len);
	assert_memory_equal(
		bench->disks[0].file.data, bench->disks[1].file.data, bench->disks[0].file.len);
	bench_free(bench);
}

static void every_way_gives_what_the_general_one_gives(void **state)
{
	static const uint32_t snaplens[] = {TAP_SNAPLEN_MAX, 1500, 128, 61, 32, 1};
	const struct lane_way *way = lane_plain_ways;
	unsigned n = 0;

	for (;; way++) {
		for (unsigned i = 0; way->works() && i < COUNT(snaplens); i++, n++)
			ways_compare(way, snaplens[i], 31 + i);
		if (strcmp(way->name, "base") == 0)
			break;
	}
	assert_true(n >= COUNT(snaplens));
}

static void only_plain_lanes_take_the_short_way(void **state)
{
	struct bench *bench = bench_new(1, 1);
	struct lane *lane = &bench->lanes[0];

	assert_ptr_not_equal(lane_offer_choose(lane), lane_offer);
	lane->direction_known = true;
	assert_ptr_equal(lane_offer_choose(lane), lane_offer);
	lane->direction_known = false;
	bench->tap.spec.direction = DIRECTION_IN;
	assert_ptr_equal(lane_offer_choose(lane), lane_offer);
	bench->tap.spec.direction = DIRECTION_BOTH;
	bench->tap.spec.sample_mode = SAMPLE_FLOW;
	assert_ptr_equal(lane_offer_choose(lane), lane_offer);
	bench->tap.spec.sample_mode = SAMPLE_NONE;
	limit_init(&bench->tap.limit, 0, 0, 1);
	assert_ptr_equal(lane_offer_choose(lane), lane_offer);
	limit_init(&bench->tap.limit, 0, 0, 0);
	assert_ptr_not_equal(lane_offer_choose(lane), lane_offer);
	bench_end(bench);
	bench_free(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_stream_is_what_other_code_builds),
		cmocka_unit_test(packets_are_cut_anywhere),
		cmocka_unit_test(a_packet_longer_than_blocks_is_whole),
		cmocka_unit_test(the_stream_goes_on_behind_any_header),
		cmocka_unit_test(a_full_block_goes_at_once),
		cmocka_unit_test(a_flush_hands_over_what_is_new_and_only_that),
		cmocka_unit_test(an_idle_lane_holds_no_block),
		cmocka_unit_test(without_a_block_packets_are_lost_whole_and_told_where),
		cmocka_unit_test(a_long_packet_without_room_leaves_room_for_short_ones),
		cmocka_unit_test(losses_are_told_per_interface),
		cmocka_unit_test(the_last_blocks_are_for_lanes_that_hold_none),
		cmocka_unit_test(a_frame_that_came_cut_is_counted_unless_the_snaplen_is_shorter),
		cmocka_unit_test(limits_are_exact),
		cmocka_unit_test(packets_without_a_block_use_up_no_limit),
		cmocka_unit_test(a_loss_that_a_cut_packet_had_to_tell_is_the_tail_gap),
		cmocka_unit_test(two_lcores_share_one_limit),
		cmocka_unit_test(directions_are_kept_apart),
		cmocka_unit_test(packets_older_than_the_session_are_not_its_own),
		cmocka_unit_test(the_deadline_ends_it),
		cmocka_unit_test(stamps_never_go_back),
		cmocka_unit_test(an_empty_frame_is_a_packet_too),
		cmocka_unit_test(what_filter_and_sampler_leave_out_is_counted),
		cmocka_unit_test(what_was_not_offered_is_caught_up_with),
		cmocka_unit_test(nothing_comes_after_the_end),
		cmocka_unit_test(a_slow_writer_costs_packets_but_no_truth),
		cmocka_unit_test(every_way_gives_what_the_general_one_gives),
		cmocka_unit_test(only_plain_lanes_take_the_short_way),
	};

	return cmocka_run_group_tests(tests, pool_start, pool_stop);
}
