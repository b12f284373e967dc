/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A pcapng file that a crash may have left: blocks come one after the other, none is longer than the
 * file, and what is good ends where the scan says.
 */
#include "fuzz.h"

#include <string.h>

#include "control/scan.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

static uint32_t u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void block_check(const uint8_t *data, const struct scan_block *block, uint64_t at)
{
	struct scan_packet packet;

	fuzz_check(block->offset == at);
	fuzz_check(block->len >= 12 && block->len % 4 == 0);
	fuzz_check(memcmp(block->data, data + at, block->len) == 0);
	fuzz_check(u32(block->data) == block->type && u32(block->data + 4) == block->len);
	fuzz_check(u32(block->data + block->len - 4) == block->len);
	if (block->type == PCAPNG_EPB && scan_packet(block, &packet))
		fuzz_check(packet.cap_len <= block->len - 32 && packet.cap_len <= packet.orig_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = fuzz_file(data, size);
	struct scan_block block;
	struct scan scan;
	uint64_t at = 0;
	int rc;

	fuzz_check(scan_open(&scan, fd, 0, size, SCAN_WINDOW_MIN) == 0);
	while ((rc = scan_next(&scan, &block)) == 1) {
		block_check(data, &block, at);
		at += block.len;
	}
	fuzz_check(rc == 0 && scan.offset == at && at <= size);
	fuzz_check((scan.stop == SCAN_END) == (at == size));
	scan_close(&scan);
	return 0;
}
