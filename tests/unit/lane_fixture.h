/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * For tests of what lcores do, without lcores: packets in memory of their own (a sanitizer sees the
 * byte behind the last one), taps with lanes made by hand over the real block pool, the stream that
 * ought to come out built by code that shares nothing with the lane's, and a writer that takes
 * blocks, checks what a block promises, and keeps a "file" in memory.
 */
#ifndef TESTS_UNIT_LANE_FIXTURE_H
#define TESTS_UNIT_LANE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rte_mbuf.h>

#include "engine/lane.h"

#define LANES_MAX 48

/* Bytes that grow. */
struct bytes {
	uint8_t *data;
	size_t len, room;
};

static inline void bytes_put_at(struct bytes *b, size_t at, const void *data, size_t len)
{
	if (at + len > b->room) {
		b->room = 2 * (at + len);
		b->data = realloc(b->data, b->room);
		assert_non_null(b->data);
	}
	if (len != 0)
		memcpy(b->data + at, data, len);
	if (at + len > b->len)
		b->len = at + len;
}

static inline void bytes_put(struct bytes *b, const void *data, size_t len)
{
	bytes_put_at(b, b->len, data, len);
}

static inline void bytes_put32(struct bytes *b, uint32_t value)
{
	bytes_put(b, &value, sizeof(value));
}

static inline void bytes_free(struct bytes *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/* One packet as a chain of pieces of at most piece bytes (0: one piece), each in memory of its own.
 */
static inline struct rte_mbuf *packet_new(const void *data, uint32_t len, uint32_t piece)
{
	struct rte_mbuf *first = NULL, **last = &first;
	const uint8_t *from = data;
	uint32_t left = len;

	do {
		struct rte_mbuf *mbuf = aligned_alloc(64, (sizeof(*mbuf) + 63) & ~63UL);
		uint32_t n = piece != 0 && left > piece ? piece : left;

		assert_non_null(mbuf);
		memset(mbuf, 0, sizeof(*mbuf));
		mbuf->buf_addr = malloc(n);
		if (n != 0)
			memcpy(mbuf->buf_addr, from, n);
		mbuf->data_len = (uint16_t)n;
		mbuf->nb_segs = 1;
		mbuf->buf_len = (uint16_t)n;
		*last = mbuf;
		last = &mbuf->next;
		if (mbuf != first)
			first->nb_segs++;
		from += n;
		left -= n;
	} while (left > 0);
	first->pkt_len = len;
	return first;
}

static inline void packet_free(struct rte_mbuf *mbuf)
{
	while (mbuf != NULL) {
		struct rte_mbuf *next = mbuf->next;

		free(mbuf->buf_addr);
		free(mbuf);
		mbuf = next;
	}
}

static inline unsigned burst_add(struct burst *burst, struct rte_mbuf *mbuf, uint64_t stamp_ns)
{
	burst->pkts[burst->n] = mbuf;
	burst->stamp_ns[burst->n] = stamp_ns;
	return burst->n++;
}

/* Frees the packets; the burst is empty then. */
static inline void burst_clear(struct burst *burst)
{
	for (unsigned i = 0; i < burst->n; i++)
		packet_free(burst->pkts[i]);
	memset(burst, 0, sizeof(*burst));
}

/* A burst of n packets of len bytes each, that begin with seq, seq + 1, ... */
static inline void burst_fill(
	struct burst *burst, unsigned n, uint32_t len, uint64_t seq, uint64_t stamp_ns)
{
	uint8_t *data = calloc(1, len + 8);

	memset(burst, 0, sizeof(*burst));
	for (unsigned i = 0; i < n; i++, seq++) {
		memset(data, (int)(seq * 7), len);
		memcpy(data, &seq, sizeof(seq));
		burst_add(burst, packet_new(data, len, 0), stamp_ns + i);
	}
	free(data);
}

/* What a packet block looks like, spelled out. flags, drops 0: no such option. */
struct want_packet {
	uint32_t interface;
	uint64_t stamp_ns;
	const void *data;
	uint32_t cap_len, orig_len;
	uint32_t flags;
	uint64_t drops;
};

static inline void want_put(struct bytes *b, const struct want_packet *packet)
{
	static const uint8_t zeros[4];
	const uint32_t pad = (4 - packet->cap_len % 4) % 4;
	const size_t at = b->len;
	uint32_t total;

	bytes_put32(b, 6);
	bytes_put32(b, 0);
	bytes_put32(b, packet->interface);
	bytes_put32(b, packet->stamp_ns >> 32);
	bytes_put32(b, (uint32_t)packet->stamp_ns);
	bytes_put32(b, packet->cap_len);
	bytes_put32(b, packet->orig_len);
	bytes_put(b, packet->data, packet->cap_len);
	bytes_put(b, zeros, pad);
	if (packet->flags != 0) {
		bytes_put(b, "\2\0\4\0", 4);
		bytes_put32(b, packet->flags);
	}
	if (packet->drops != 0) {
		bytes_put(b, "\4\0\10\0", 4);
		bytes_put(b, &packet->drops, 8);
	}
	if (packet->flags != 0 || packet->drops != 0)
		bytes_put(b, zeros, 4);
	total = (uint32_t)(b->len - at + 4);
	bytes_put32(b, total);
	memcpy(b->data + at + 4, &total, 4);
}

/* Where one lane's blocks go. */
struct disk {
	struct lane *lane;
	struct bytes file;
	uint64_t next_offset; /* where the next block must begin */
	uint32_t tail_len;    /* bytes that it must begin with: they are in file already */
	uint64_t whole_end;
	bool ended;
	unsigned n_blocks, n_partial;
	uint64_t packets[CONFIG_PORTS_MAX];
	uint64_t told[CONFIG_PORTS_MAX];
	uint64_t captured_bytes;
};

/* A tap, its lanes, and where they go. */
struct bench {
	struct tap tap;
	struct lane lanes[LANES_MAX];
	struct disk disks[LANES_MAX];
	unsigned n_lanes;
};

static inline void bench_snaplen(struct bench *bench, uint32_t snaplen_bytes)
{
	bench->tap.spec.snaplen_bytes = snaplen_bytes;
	for (unsigned i = 0; i < CONFIG_PORTS_MAX; i++)
		bench->tap.snaplen_bytes[i] = snaplen_bytes;
}

/* n lanes: lane i lives at home i % n_homes. Everything else is the test's to set before use. */
static inline struct bench *bench_new(unsigned n_lanes, unsigned n_homes)
{
	struct bench *bench = aligned_alloc(64, (sizeof(*bench) + 63) & ~63UL);

	assert_non_null(bench);
	memset(bench, 0, sizeof(*bench));
	bench->n_lanes = n_lanes;
	bench->tap.spec.n_ports = 4;
	bench_snaplen(bench, TAP_SNAPLEN_MAX);
	bench->tap.spec.sample_n = 1;
	bench->tap.deadline_tsc = UINT64_MAX;
	bench->tap.n_lanes = n_lanes;
	bench->tap.lanes = bench->lanes;
	for (unsigned i = 0; i < n_lanes; i++) {
		struct lane *lane = &bench->lanes[i];

		lane->tap = &bench->tap;
		lane->home = block_home(i % n_homes);
		lane->home->n_lanes++;
		lane->tail = aligned_alloc(64, BLOCK_PAGE);
		assert_non_null(lane->tail);
		lane->file.fd = -1;
		lane->queue_end = &lane->queue;
		lane->writes_end = &lane->writes;
		sample_init(&lane->sample, 1 + i);
		bench->disks[i].lane = lane;
	}
	return bench;
}

/* Begin lane's file with a header. */
static inline void bench_header(struct bench *bench, unsigned i, const void *header, size_t len)
{
	struct disk *disk = &bench->disks[i];

	tap_lane_sink(&bench->tap, i, -1, false, header, len);
	bytes_put(&disk->file, header, len);
	disk->next_offset = len / BLOCK_PAGE * BLOCK_PAGE;
	disk->tail_len = len % BLOCK_PAGE;
	disk->whole_end = len;
}

/* Where the last packet ends that is there as a whole, walked from where it was known. */
static inline uint64_t disk_walk(const struct disk *disk, uint64_t end)
{
	uint64_t at = disk->whole_end;
	uint32_t head[2];

	while (at + sizeof(head) <= end) {
		memcpy(head, disk->file.data + at, sizeof(head));
		if (head[1] == 0 || at + head[1] > end)
			break;
		at += head[1];
	}
	return at;
}

static inline void disk_put(struct disk *disk, const struct block *block)
{
	uint64_t end = block->offset + block->len;

	assert_false(disk->ended);
	disk->n_blocks++;
	assert_int_equal(block->offset, disk->next_offset);
	assert_true(block->len > 0 && block->len <= BLOCK_SIZE && block->len % BLOCK_PAGE == 0);
	assert_int_equal((uintptr_t)block->data % BLOCK_PAGE, 0);
	/* The unfinished page comes again, unchanged as far as it was. */
	if (disk->tail_len != 0)
		assert_memory_equal(block->data, disk->file.data + block->offset, disk->tail_len);
	assert_true(block->whole_end >= disk->whole_end && block->whole_end <= end);
	if (block->partial) {
		disk->n_partial++;
		/* Handed over between packets: from the end of the last one on there are zeros. */
		assert_true(block->whole_end > end - BLOCK_PAGE);
		for (uint64_t at = block->whole_end; at < end; at++)
			assert_int_equal(block->data[at - block->offset], 0);
	}
	disk->tail_len = block->partial ? block->whole_end % BLOCK_PAGE : 0;
	disk->next_offset = block->partial ? end - BLOCK_PAGE : end;
	bytes_put_at(&disk->file, block->offset, block->data, block->len);
	assert_int_equal(block->whole_end, disk_walk(disk, end));
	disk->whole_end = block->whole_end;
	disk->captured_bytes += block->captured_bytes;
	for (unsigned i = 0; i < CONFIG_PORTS_MAX; i++) {
		disk->packets[i] += block->packets[i];
		disk->told[i] += block->told[i];
	}
}

/* Take up to n_max blocks from writer 0's rings, in the order in which they came. */
static inline unsigned bench_write(struct bench *bench, unsigned n_max)
{
	unsigned n = 0;
	struct block *block;

	while (n < n_max && block_receive(0, &block, 1) == 1) {
		struct disk *disk = &bench->disks[block->lane - bench->lanes];

		n++;
		if (block->end) {
			assert_ptr_equal(block, &disk->lane->end);
			assert_false(disk->ended);
			disk->ended = true;
			continue;
		}
		disk_put(disk, block);
		block_return(0, block);
	}
	return n;
}

static inline void bench_end(struct bench *bench)
{
	for (unsigned i = 0; i < bench->n_lanes; i++)
		lane_end(&bench->lanes[i]);
	while (bench_write(bench, 64) != 0)
		;
	for (unsigned i = 0; i < bench->n_lanes; i++)
		assert_true(bench->disks[i].ended);
}

/* Afterwards every block must be back: nothing leaks. */
static inline void bench_free(struct bench *bench)
{
	for (unsigned i = 0; i < bench->n_lanes; i++) {
		bench->lanes[i].home->n_lanes--;
		free(bench->lanes[i].tail);
		bytes_free(&bench->disks[i].file);
	}
	assert_int_equal(block_free_count(), block_count());
	free(bench);
}

/* What the lane counted of its packets adds up, and is what the disk got. */
static inline void bench_balances(const struct bench *bench)
{
	for (unsigned i = 0; i < bench->n_lanes; i++) {
		const struct lane *lane = &bench->lanes[i];
		const struct disk *disk = &bench->disks[i];
		uint64_t dropped = 0, packets = 0;

		for (unsigned r = 0; r < DROP_COUNT; r++)
			dropped += lane->dropped[r];
		for (unsigned p = 0; p < CONFIG_PORTS_MAX; p++) {
			packets += disk->packets[p];
			assert_int_equal(lane->if_dropped[p], disk->told[p] + lane->pending[p]);
		}
		assert_int_equal(lane->offered,
			lane->filtered + lane->sampled_out + lane->over_limit + lane->accepted);
		assert_int_equal(lane->accepted, lane->framed + dropped);
		assert_int_equal(lane->framed, packets);
	}
}

/* The file of lane i is exactly want, and zeros up to the end of its last page. */
static inline void bench_file_equals(
	const struct bench *bench, unsigned i, const struct bytes *want)
{
	const struct disk *disk = &bench->disks[i];

	assert_int_equal(disk->whole_end, want->len);
	assert_true(disk->file.len >= want->len && disk->file.len < want->len + BLOCK_PAGE);
	assert_memory_equal(disk->file.data, want->data, want->len);
	for (size_t at = want->len; at < disk->file.len; at++)
		assert_int_equal(disk->file.data[at], 0);
}

#endif
