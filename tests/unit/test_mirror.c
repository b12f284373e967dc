/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/mirror: streams of numbered packets, cut into blocks as a lane cuts them, shown to a reader
 * that takes as much as it likes. What comes out are whole packets in order, and where some are
 * missing the gap says how many: the numbers tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>

#include <cmocka.h>

#include "engine/mirror.h"
#include "engine/pcapng.h"

#define HEADER_LEN 196 /* of the file, before the first packet */

/* A lane's side: packets go into a block, full or flushed blocks to the mirror. */
struct source {
	struct mirror *mirror;
	struct block block;
	uint8_t data[BLOCK_SIZE];
	uint32_t used;
	uint64_t whole_end;
	uint32_t number; /* of the next packet */
	uint64_t rng;
};

/* The reader's side. */
struct reader {
	struct mirror *mirror;
	uint64_t next; /* number of the packet that must come; UINT64_MAX: any */
	uint64_t n_packets;
	uint64_t n_gaps;
};

static uint32_t below(struct source *source, uint32_t n)
{
	source->rng = source->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((source->rng >> 33) % n);
}

static void source_init(struct source *source, struct mirror *mirror, uint64_t seed)
{
	memset(mirror, 0, sizeof(*mirror));
	memset(source, 0, sizeof(*source));
	mirror_init(mirror, HEADER_LEN);
	source->mirror = mirror;
	source->block.data = source->data;
	source->used = HEADER_LEN;
	source->whole_end = HEADER_LEN;
	source->rng = seed;
}

/* Hand the block over and begin the next, as block_close and block_open of the lane do. */
static void source_send(struct source *source, bool flush)
{
	struct block *block = &source->block;
	const uint32_t whole = source->used & ~(BLOCK_PAGE - 1);
	const uint32_t tail_len = source->used - whole;
	uint8_t tail[BLOCK_PAGE];

	block->partial = flush && tail_len != 0;
	block->len = whole + (block->partial ? BLOCK_PAGE : 0);
	block->whole_end = source->whole_end;
	memcpy(tail, source->data + whole, tail_len);
	memset(source->data + source->used, 0, block->len - source->used);
	mirror_block(source->mirror, block);
	memset(source->data, 0xee, sizeof(source->data)); /* the block is somebody else's now */
	memcpy(source->data, tail, tail_len);
	block->offset += whole;
	memset(block->packets, 0, sizeof(block->packets));
	source->used = tail_len;
}

static void source_put(struct source *source, const void *bytes, uint32_t len)
{
	while (len > 0) {
		uint32_t piece;

		if (source->used == BLOCK_SIZE)
			source_send(source, false);
		piece = len < BLOCK_SIZE - source->used ? len : BLOCK_SIZE - source->used;
		memcpy(source->data + source->used, bytes, piece);
		source->used += piece;
		bytes = (const uint8_t *)bytes + piece;
		len -= piece;
	}
}

static void source_packet(struct source *source, uint32_t cap_len)
{
	static uint8_t data[1 << 18];
	struct pcapng_epb_head head = {
		.type = PCAPNG_EPB,
		.total_len = pcapng_epb_len(cap_len, 0),
		.ts_low = source->number++,
		.cap_len = cap_len,
		.orig_len = cap_len,
	};

	memset(data, head.ts_low & 255, cap_len);
	memset(data + cap_len, 0, 3);
	source_put(source, &head, sizeof(head));
	source_put(source, data, pcapng_pad(cap_len));
	source_put(source, &head.total_len, sizeof(head.total_len));
	source->block.packets[source->number % 3]++;
	source->whole_end = source->block.offset + source->used;
}

static void packet_check(struct reader *reader, const uint8_t *data)
{
	struct pcapng_epb_head head;
	uint32_t foot;

	memcpy(&head, data, sizeof(head));
	memcpy(&foot, data + head.total_len - 4, sizeof(foot));
	assert_int_equal(foot, head.total_len);
	if (reader->next != UINT64_MAX)
		assert_int_equal(head.ts_low, reader->next);
	for (uint32_t i = 0; i < head.cap_len; i++)
		if (data[sizeof(head) + i] != (head.ts_low & 255))
			fail_msg("packet %u byte %u", head.ts_low, i);
	reader->next = (uint64_t)head.ts_low + 1;
	reader->n_packets++;
}

/* Take what is there, at most max bytes. */
static void reader_take(struct reader *reader, size_t max)
{
	const uint8_t *data;
	const size_t len = mirror_peek(reader->mirror, &data);
	size_t at = 0;

	while (at < len && at < max) {
		uint32_t head[4];

		memcpy(head, data + at, sizeof(head));
		assert_true(head[1] >= sizeof(head) && head[1] <= len - at);
		if (head[0] == MIRROR_GAP) {
			assert_int_equal(head[1], sizeof(struct mirror_gap));
			assert_int_not_equal(head[2], 0);
			assert_true(reader->next != UINT64_MAX);
			reader->next += head[2];
			reader->n_gaps++;
		} else {
			assert_int_equal(head[0], PCAPNG_EPB);
			packet_check(reader, data + at);
		}
		at += head[1];
	}
	mirror_drop(reader->mirror, at);
}

/* All is read; nothing is missing without being counted. */
static void books_close(struct source *source, struct reader *reader, uint64_t first)
{
	reader_take(reader, SIZE_MAX);
	assert_int_equal(reader->next + mirror_last_gap(source->mirror), source->number);
	assert_int_equal(reader->n_packets + source->mirror->skipped, source->number - first);
}

static void a_reader_that_keeps_up_sees_all(void **state)
{
	static struct source source;
	static struct mirror mirror;
	struct reader reader = {.mirror = &mirror};

	source_init(&source, &mirror, 1);
	assert_int_equal(mirror_open(&mirror), 0);
	for (unsigned i = 0; i < 20000; i++) {
		source_packet(&source,
			below(&source, 40) == 0 ? below(&source, 200000) : below(&source, 1500));
		if (below(&source, 300) == 0)
			source_send(&source, true);
		reader_take(&reader, SIZE_MAX);
	}
	source_send(&source, true);
	books_close(&source, &reader, 0);
	assert_int_equal(mirror.skipped, 0);
	assert_int_equal(reader.n_packets, 20000);
	assert_true(mirror_close(&mirror));
}

static void a_slow_reader_is_told_what_it_missed(void **state)
{
	static struct source source;
	static struct mirror mirror;

	for (uint64_t seed = 1; seed <= 9; seed++) {
		struct reader reader = {.mirror = &mirror};
		const uint32_t longest = seed % 3 == 0 ? 262000 : seed % 3 == 1 ? 9000 : 200;

		source_init(&source, &mirror, seed);
		assert_int_equal(mirror_open(&mirror), 0);
		for (unsigned i = 0; i < 20 * MIRROR_SIZE / longest; i++) {
			source_packet(&source, below(&source, longest));
			if (below(&source, 100) == 0)
				source_send(&source, true);
			if (below(&source, 2 * MIRROR_SIZE / longest) == 0)
				reader_take(&reader, below(&source, MIRROR_SIZE));
		}
		source_send(&source, true);
		books_close(&source, &reader, 0);
		assert_true(mirror.skipped > 0);
		mirror_fini(&mirror);
	}
}

/* Opened in the middle, at any cut, closed and opened again. */
static void it_may_begin_anywhere(void **state)
{
	static struct source source;
	static struct mirror mirror;

	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct reader reader = {.mirror = &mirror, .next = UINT64_MAX};
		const uint32_t longest = seed % 2 == 0 ? 200000 : 3000;
		uint64_t first;

		source_init(&source, &mirror, seed);
		for (unsigned i = below(&source, 200); i > 0; i--)
			source_packet(&source, below(&source, longest));
		if (seed % 5 == 0)
			source_send(&source, true);
		assert_int_equal(mirror_open(&mirror), 0);
		first = source.number;
		for (unsigned i = 0; i < 100; i++) {
			source_packet(&source, below(&source, longest));
			reader_take(&reader, SIZE_MAX);
		}
		source_send(&source, true);
		reader_take(&reader, SIZE_MAX);
		assert_int_equal(reader.next, source.number);
		assert_int_equal(reader.n_gaps, 0);
		/* After a flush nothing is lost at the beginning: everything from then on is shown. */
		if (seed % 5 == 0)
			assert_int_equal(reader.n_packets, source.number - first);
		assert_true(mirror_close(&mirror));
		assert_true(mirror_close(&mirror));
		assert_null(mirror.ring);
	}
}

/* A closed one takes nothing, and opened again shows only what comes then. */
static void closed_is_closed(void **state)
{
	static struct source source;
	static struct mirror mirror;
	struct reader reader = {.mirror = &mirror, .next = 6};
	const uint8_t *data;

	source_init(&source, &mirror, 7);
	assert_int_equal(mirror_open(&mirror), 0);
	for (unsigned i = 0; i < 3; i++)
		source_packet(&source, 60);
	source_send(&source, true);
	assert_true(mirror_close(&mirror));
	for (unsigned i = 0; i < 3; i++)
		source_packet(&source, 60);
	source_send(&source, true);
	assert_int_equal(mirror_open(&mirror), 0);
	assert_int_equal(mirror_open(&mirror), 0);
	assert_int_equal(mirror_peek(&mirror, &data), 0);
	assert_int_equal(mirror_last_gap(&mirror), 0);
	source_packet(&source, 60);
	source_send(&source, true);
	books_close(&source, &reader, 6);
	assert_int_equal(reader.n_packets, 1);
	mirror_fini(&mirror);
}

static void *writer_run(void *arg)
{
	struct source *source = arg;

	for (unsigned i = 0; i < 100000; i++)
		source_packet(source, below(source, 1500));
	source_send(source, true);
	return NULL;
}

/* Writer and reader on two threads, with closing in between whenever it is allowed. */
static void two_threads_agree(void **state)
{
	static struct source source;
	static struct mirror mirror;
	struct reader reader = {.mirror = &mirror, .next = UINT64_MAX};
	uint64_t n_closed = 0;
	pthread_t writer;

	source_init(&source, &mirror, 3);
	assert_int_equal(mirror_open(&mirror), 0);
	assert_int_equal(pthread_create(&writer, NULL, writer_run, &source), 0);
	for (unsigned i = 0; i < 20000; i++) {
		reader_take(&reader, 1 << 17);
		if (i % 1000 == 999 && mirror_close(&mirror)) {
			n_closed++;
			reader.next = UINT64_MAX;
			assert_int_equal(mirror_open(&mirror), 0);
		}
	}
	pthread_join(writer, NULL);
	reader_take(&reader, SIZE_MAX);
	assert_true(n_closed > 0);
	if (reader.next != UINT64_MAX)
		assert_int_equal(reader.next + mirror_last_gap(&mirror), source.number);
	mirror_fini(&mirror);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_that_keeps_up_sees_all),
		cmocka_unit_test(a_slow_reader_is_told_what_it_missed),
		cmocka_unit_test(it_may_begin_anywhere),
		cmocka_unit_test(closed_is_closed),
		cmocka_unit_test(two_threads_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
