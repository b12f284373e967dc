/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/scan: whole files, cuts at every byte, flipped bytes, holes, blocks over window borders,
 * and pcapng inside a packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/scan.h"
#include "frames_file.h"

static int file;
static uint8_t *buf;
static size_t len;
static size_t header_len;
static size_t ends[100000]; /* where block k ends */
static unsigned n_blocks;

static void block_add(size_t block_len)
{
	len += block_len;
	ends[n_blocks++] = len;
}

static void file_make(unsigned n_packets, uint32_t cap_len_max)
{
	n_blocks = 0;
	len = 0;
	header_len = frames_header(buf, 4096, 2);
	block_add(pcapng_section_put(
		buf, 4096, &(struct pcapng_section){.application = "sluice", .os = "test"}));
	for (unsigned i = 0; i < 2; i++) {
		uint32_t total;

		memcpy(&total, buf + len + 4, 4);
		block_add(total);
	}
	assert_int_equal(len, header_len);
	for (unsigned i = 0; i < n_packets; i++)
		block_add(frames_packet(buf + len, i % 2, 1000 + i, i * 7919 % (cap_len_max + 1),
			i % 5 == 4 ? i : 0, i));
}

static void file_save(void)
{
	assert_int_equal(ftruncate(file, 0), 0);
	assert_int_equal(pwrite(file, buf, len, 0), len);
}

static int make(void **state)
{
	char path[] = "/tmp/test_scan.XXXXXX";

	file = mkstemp(path);
	unlink(path);
	buf = malloc(64 << 20);
	return file < 0 || buf == NULL;
}

static int clean(void **state)
{
	free(buf);
	return close(file);
}

/* Blocks found up to the stop. */
static unsigned scan_all(struct scan *scan, uint64_t end)
{
	struct scan_block block;
	unsigned n = 0;
	int rc;

	assert_int_equal(scan_open(scan, file, 0, end, SCAN_WINDOW_MIN), 0);
	while ((rc = scan_next(scan, &block)) == 1) {
		assert_memory_equal(block.data, buf + block.offset, block.len);
		assert_int_equal(block.offset + block.len, ends[n]);
		n++;
	}
	assert_int_equal(rc, 0);
	scan_close(scan);
	return n;
}

static void every_block_comes_over_many_windows(void **state)
{
	struct scan scan;

	file_make(20000, 3000); /* 30 MB: 30 window borders, nearly all within a block */
	file_save();
	assert_int_equal(scan_all(&scan, len), n_blocks);
	assert_int_equal(scan.stop, SCAN_END);
	assert_int_equal(scan.offset, len);
	assert_int_equal(scan.n_interfaces, 2);
}

static void packets_are_read(void **state)
{
	struct scan_packet packet;
	struct scan_block block;
	struct scan scan;
	unsigned n = 0;

	file_make(1000, 200);
	file_save();
	assert_int_equal(scan_open(&scan, file, header_len, len, SCAN_WINDOW_MIN), 0);
	scan.n_interfaces = 2;
	for (; scan_next(&scan, &block) == 1; n++) {
		assert_true(scan_packet(&block, &packet));
		assert_int_equal(packet.interface_id, n % 2);
		assert_int_equal(packet.stamp, 1000 + n);
		assert_int_equal(scan_stamp(&block), 1000 + n);
		assert_int_equal(packet.cap_len, n * 7919 % 201);
		assert_int_equal(packet.orig_len, packet.cap_len);
		assert_int_equal(packet.drops, n % 5 == 4 ? n : 0);
	}
	assert_int_equal(n, 1000);
	scan_close(&scan);
}

static unsigned blocks_within(size_t end)
{
	unsigned n = 0;

	while (n < n_blocks && ends[n] <= end)
		n++;
	return n;
}

static void a_cut_at_any_byte_ends_before_the_cut_block(void **state)
{
	struct scan scan;
	unsigned n;

	file_make(12, 60);
	file_save();
	for (size_t end = 0; end <= len; end++) {
		n = blocks_within(end);
		assert_int_equal(scan_all(&scan, end), n);
		assert_int_equal(scan.offset, n > 0 ? ends[n - 1] : 0);
		assert_int_equal(scan.stop, scan.offset == end ? SCAN_END : SCAN_BAD);
	}
}

static void a_file_shorter_than_said_is_bad(void **state)
{
	struct scan scan;

	file_make(12, 60);
	file_save();
	assert_int_equal(scan_all(&scan, len + 100), n_blocks);
	assert_int_equal(scan.stop, SCAN_BAD);
	assert_int_equal(scan.offset, len);
}

static void zeros_stop_it(void **state)
{
	struct scan scan;
	size_t hole;

	file_make(40, 100);
	/* behind the data, as fallocate leaves it */
	memset(buf + len, 0, 5000);
	for (size_t zeros = 1; zeros < 5000; zeros += zeros < 40 ? 1 : 997) {
		assert_int_equal(pwrite(file, buf, len + zeros, 0), len + zeros);
		assert_int_equal(scan_all(&scan, len + zeros), n_blocks);
		assert_int_equal(scan.stop, SCAN_ZERO);
		assert_int_equal(scan.offset, len);
	}
	/* between good blocks: nothing behind is trusted */
	hole = ends[20];
	memset(buf + hole, 0, ends[22] - hole);
	file_save();
	assert_int_equal(scan_all(&scan, len), 21);
	assert_int_equal(scan.stop, SCAN_ZERO);
	assert_int_equal(scan.offset, hole);
	/* from the middle of a block on */
	memset(buf + ends[10] + 20, 0, len - ends[10] - 20);
	file_save();
	assert_int_equal(scan_all(&scan, len), 11);
	assert_int_equal(scan.stop, SCAN_BAD);
}

/* Any byte of a packet's frame flipped stops the walk there, or changes data that carry no check.
 */
static void flipped_framing_stops_it(void **state)
{
	static const uint8_t framing[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
	struct scan scan;
	size_t at;

	file_make(30, 100);
	for (unsigned i = 0; i < sizeof(framing); i++) {
		at = ends[15] + framing[i];
		buf[at] ^= 0x82;
		file_save();
		assert_int_equal(scan_all(&scan, len), 16);
		assert_int_equal(scan.stop, SCAN_BAD);
		buf[at] ^= 0x82;
	}
	for (unsigned i = 1; i <= 4; i++) {
		buf[ends[16] - i] ^= 0x10;
		file_save();
		assert_int_equal(scan_all(&scan, len), 16);
		buf[ends[16] - i] ^= 0x10;
	}
}

static void impossible_lengths_stop_it(void **state)
{
	static const uint32_t cap_lens[] = {1, 5, 100000, UINT32_MAX, UINT32_MAX - 2, 0x80000000};
	struct scan scan;
	uint32_t cap_len;

	file_make(1, 0);
	for (unsigned i = 0; i < sizeof(cap_lens) / sizeof(cap_lens[0]); i++) {
		memcpy(buf + header_len + 20, &cap_lens[i], 4);
		file_save();
		assert_int_equal(scan_all(&scan, len), 3);
		assert_int_equal(scan.stop, SCAN_BAD);
	}
	cap_len = 0;
	memcpy(buf + header_len + 20, &cap_len, 4);
	file_save();
	assert_int_equal(scan_all(&scan, len), 4);
}

static void a_capture_within_a_packet_is_not_found(void **state)
{
	struct scan scan;
	uint8_t inner[300];
	size_t inner_len;

	file_make(3, 0);
	inner_len = frames_packet(inner, 0, 5, 100, 0, 1);
	block_add(frames_packet(buf + len, 0, 2000, 200, 0, 9));
	memcpy(buf + ends[n_blocks - 2] + 28 + 4, inner, inner_len);
	file_save();
	assert_int_equal(scan_all(&scan, len), n_blocks);
	buf[ends[n_blocks - 2]] = 0x77; /* the outer block is torn */
	file_save();
	assert_int_equal(scan_all(&scan, len), n_blocks - 1);
	assert_int_equal(scan.offset, ends[n_blocks - 2]);
}

static void malformed_options_are_told(void **state)
{
	uint8_t packet[200];
	struct scan_block block = {.type = PCAPNG_EPB, .data = packet};
	struct scan_packet read;

	block.len = frames_packet(packet, 0, 5, 10, 77, 1);
	assert_true(scan_packet(&block, &read));
	assert_int_equal(read.drops, 77);
	packet[28 + 12 + 2] = 7; /* dropcount of seven bytes */
	assert_false(scan_packet(&block, &read));
	packet[28 + 12 + 2] = 200; /* longer than the block */
	assert_false(scan_packet(&block, &read));
	packet[28 + 12 + 2] = 8;
	packet[28 + 12 + 12 + 2] = 1; /* end of options with a length */
	assert_false(scan_packet(&block, &read));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_block_comes_over_many_windows),
		cmocka_unit_test(packets_are_read),
		cmocka_unit_test(a_cut_at_any_byte_ends_before_the_cut_block),
		cmocka_unit_test(a_file_shorter_than_said_is_bad),
		cmocka_unit_test(zeros_stop_it),
		cmocka_unit_test(flipped_framing_stops_it),
		cmocka_unit_test(impossible_lengths_stop_it),
		cmocka_unit_test(a_capture_within_a_packet_is_not_found),
		cmocka_unit_test(malformed_options_are_told),
	};

	return cmocka_run_group_tests(tests, make, clean);
}
