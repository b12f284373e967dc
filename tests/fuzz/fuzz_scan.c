/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A pcapng file that a crash may have left: blocks come one after the other, none is longer than the
 * file, and what is good ends where the scan says: not before, as a plain reading of the bytes shows.
 */
#include "fuzz.h"

#include <string.h>

#include "control/scan.h"

#define CUSTOM_COPY 0x00000bad
#define CUSTOM_KEEP 0x40000bad

static struct scan scan; /* its window is large, and made once */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_check(scan_open(&scan, -1, 0, 0, SCAN_WINDOW_MIN) == 0);
	return 0;
}

static uint32_t u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* Is there a whole, sound block at the begin of data? */
static bool block_sound(const uint8_t *data, size_t left, uint32_t *n_interfaces)
{
	const uint32_t type = left >= 12 ? u32(data) : 0, len = left >= 12 ? u32(data + 4) : 0;

	if (len < 12 || len % 4 != 0 || len > left || len > SCAN_BLOCK_MAX ||
		u32(data + len - 4) != len)
		return false;
	switch (type) {
	case PCAPNG_SHB:
		*n_interfaces = 0;
		return len >= 28 && u32(data + 8) == PCAPNG_BYTE_ORDER && data[12] == 1 &&
		       data[13] == 0;
	case PCAPNG_IDB:
		*n_interfaces += len >= 20;
		return len >= 20;
	case PCAPNG_ISB:
		return len >= 24 && u32(data + 8) < *n_interfaces;
	case PCAPNG_EPB:
		return len >= 32 && u32(data + 8) < *n_interfaces && u32(data + 20) <= len - 32 &&
		       u32(data + 24) >= u32(data + 20);
	case 3: /* simple packet */
	case 4: /* name resolution */
	case CUSTOM_COPY:
	case CUSTOM_KEEP:
		return len >= 16;
	default:
		return false;
	}
}

static void block_check(const uint8_t *data, const struct scan_block *block, uint64_t at)
{
	struct scan_packet packet;
	uint64_t received;

	fuzz_check(block->offset == at);
	fuzz_check(block->len >= 12 && block->len % 4 == 0);
	fuzz_check(memcmp(block->data, data + at, block->len) == 0);
	fuzz_check(u32(block->data) == block->type && u32(block->data + 4) == block->len);
	fuzz_check(u32(block->data + block->len - 4) == block->len);
	if (block->type == PCAPNG_EPB && scan_packet(block, &packet))
		fuzz_check(packet.cap_len <= block->len - 32 && packet.cap_len <= packet.orig_len);
	if (block->type == PCAPNG_ISB)
		scan_statistics(block, &received);
}

static void scan_again(const uint8_t *data, size_t size)
{
	uint8_t *window = scan.window;
	size_t window_size = scan.window_size;

	scan = (struct scan){.fd = fuzz_file(data, size),
		.end = size,
		.window = window,
		.window_size = window_size};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scan_block block;
	uint32_t n_interfaces = 0;
	uint64_t at = 0;
	int rc;

	scan_again(data, size);
	while ((rc = scan_next(&scan, &block)) == 1) {
		fuzz_check(block_sound(data + at, size - at, &n_interfaces));
		block_check(data, &block, at);
		at += block.len;
	}
	fuzz_check(rc == 0 && scan.offset == at && at <= size);
	fuzz_check(!block_sound(data + at, size - at, &n_interfaces));
	fuzz_check((scan.stop == SCAN_END) == (at == size));
	return 0;
}
