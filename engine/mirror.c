/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A stream is cut into blocks anywhere; a ring shall hold whole packets. So the writer shows the
 * ring up to the last whole packet (head) and copies on behind it (fill). When it skips a block it
 * takes back what it had of a cut packet, and finds the next packet's beginning by the length in
 * the first bytes of the one that was cut.
 */
#include "engine/mirror.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/counter.h"

_Static_assert((MIRROR_SIZE & (MIRROR_SIZE - 1)) == 0, "positions are taken modulo the size");

static uint8_t *ring_map(void);
static void view_begin(struct mirror *mirror);
static bool start_find(struct mirror *mirror, const struct block *block, uint64_t *start);
static bool room_enough(const struct mirror *mirror, uint64_t len);
static void block_put(
	struct mirror *mirror, const struct block *block, uint64_t start, uint64_t end);
static void gap_put(struct mirror *mirror);
static void block_skip(struct mirror *mirror, const struct block *block);
static void cut_keep(struct mirror *mirror, const struct block *block, uint64_t end);
static void cut_complete(struct mirror *mirror, const struct block *block);
static void skipped_add(struct mirror *mirror, uint64_t n);

void mirror_init(struct mirror *mirror, uint64_t len)
{
	mirror->received = len;
	mirror->boundary = len;
}

void mirror_fini(struct mirror *mirror)
{
	if (mirror->ring != NULL)
		munmap(mirror->ring, 2 * MIRROR_SIZE);
	mirror->ring = NULL;
}

int mirror_open(struct mirror *mirror)
{
	if (__atomic_load_n(&mirror->state, __ATOMIC_RELAXED) != MIRROR_CLOSED)
		return 0;
	mirror->ring = ring_map();
	if (mirror->ring == NULL)
		return -ENOMEM;
	mirror->tail = 0;
	mirror->head = 0;
	mirror->skipped = 0;
	mirror->fresh = true;
	__atomic_store_n(&mirror->state, MIRROR_OPEN, __ATOMIC_RELEASE);
	return 0;
}

bool mirror_close(struct mirror *mirror)
{
	int open = MIRROR_OPEN;

	/* Against mirror_copy: it touches ring and positions between open -> copying and back only. */
	if (!__atomic_compare_exchange_n(&mirror->state, &open, MIRROR_CLOSED, false,
		    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return open == MIRROR_CLOSED;
	mirror_fini(mirror);
	return true;
}

size_t mirror_peek(const struct mirror *mirror, const uint8_t **data)
{
	*data = mirror->ring + (mirror->tail & (MIRROR_SIZE - 1));
	return COUNTER_READ(mirror->head) - mirror->tail;
}

void mirror_drop(struct mirror *mirror, size_t len)
{
	COUNTER_ADD(mirror->tail, len);
}

uint64_t mirror_last_gap(const struct mirror *mirror)
{
	return mirror->fresh ? 0 : mirror->gap;
}

void mirror_copy(struct mirror *mirror, const struct block *block)
{
	const uint64_t end = mirror_block_end(block);
	int open = MIRROR_OPEN;
	uint64_t start;

	if (!__atomic_compare_exchange_n(&mirror->state, &open, MIRROR_COPYING, false,
		    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	if (mirror->fresh)
		view_begin(mirror);
	if (start_find(mirror, block, &start) && room_enough(mirror, end - start))
		block_put(mirror, block, start, end);
	else
		block_skip(mirror, block);
	cut_keep(mirror, block, end);
	__atomic_store_n(&mirror->state, MIRROR_OPEN, __ATOMIC_RELEASE);
}

/* Two views of the same memory, one behind the other. */
static uint8_t *ring_map(void)
{
	const int fd = memfd_create("mirror", MFD_CLOEXEC);
	uint8_t *ring = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, MIRROR_SIZE) == 0)
		ring = mmap(NULL, 2 * MIRROR_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < 2 && ring != MAP_FAILED; i++) {
		if (mmap(ring + (size_t)i * MIRROR_SIZE, MIRROR_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED)
			continue;
		munmap(ring, 2 * MIRROR_SIZE);
		ring = MAP_FAILED;
	}
	close(fd);
	return ring != MAP_FAILED ? ring : NULL;
}

static void view_begin(struct mirror *mirror)
{
	mirror->fresh = false;
	mirror->begun = false;
	mirror->joined = false;
	mirror->fill = 0;
	mirror->gap = 0;
	mirror->cut_len = 0;
}

/* From which byte of the stream on this block can be shown; false: from none. */
static bool start_find(struct mirror *mirror, const struct block *block, uint64_t *start)
{
	const uint64_t end = mirror_block_end(block);
	uint32_t cut_len;

	if (mirror->joined) {
		*start = mirror->received;
		return true;
	}
	if (mirror->boundary >= block->offset) {
		*start = mirror->boundary;
		mirror->begun = true;
		return true;
	}
	/* The packet at the boundary began in a block that was not shown. */
	cut_complete(mirror, block);
	if (mirror->cut_len != sizeof(mirror->cut))
		return false;
	memcpy(&cut_len, mirror->cut + sizeof(uint32_t), sizeof(cut_len));
	*start = mirror->boundary + cut_len;
	if (*start >= end)
		return false;
	if (room_enough(mirror, end - *start)) {
		if (mirror->begun)
			skipped_add(mirror, 1); /* it ends in this block, and is not shown */
		mirror->begun = true;
	}
	return true;
}

static bool room_enough(const struct mirror *mirror, uint64_t len)
{
	return mirror->fill + sizeof(struct mirror_gap) + len - COUNTER_READ(mirror->tail) <=
	       MIRROR_SIZE;
}

static void block_put(
	struct mirror *mirror, const struct block *block, uint64_t start, uint64_t end)
{
	if (mirror->gap != 0)
		gap_put(mirror);
	memcpy(mirror->ring + (mirror->fill & (MIRROR_SIZE - 1)),
		block->data + (start - block->offset), end - start);
	mirror->fill += end - start;
	mirror->joined = true;
	/* Less than that is there when a packet takes more than this block. */
	if (end - block->whole_end <= mirror->fill - mirror->head)
		COUNTER_SET(mirror->head, mirror->fill - (end - block->whole_end));
}

static void gap_put(struct mirror *mirror)
{
	const struct mirror_gap gap = {
		.type = MIRROR_GAP,
		.len = sizeof(gap),
		.skipped_low = (uint32_t)mirror->gap,
		.skipped_high = mirror->gap >> 32,
		.len_again = sizeof(gap),
	};

	memcpy(mirror->ring + (mirror->fill & (MIRROR_SIZE - 1)), &gap, sizeof(gap));
	mirror->fill += sizeof(gap);
	mirror->gap = 0;
}

/* The packets that end in this block are not shown, nor the beginning of one that was copied. */
static void block_skip(struct mirror *mirror, const struct block *block)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < CONFIG_PORTS_MAX; i++)
		n += block->packets[i];
	if (mirror->begun)
		skipped_add(mirror, n);
	mirror->fill = mirror->head;
	mirror->joined = false;
}

/* The first bytes of the packet that goes on behind this block. */
static void cut_keep(struct mirror *mirror, const struct block *block, uint64_t end)
{
	const uint64_t left = end - block->whole_end;

	if (block->whole_end < block->offset) {
		cut_complete(mirror, block); /* it began before and does not end here */
		return;
	}
	mirror->cut_len = left < sizeof(mirror->cut) ? left : sizeof(mirror->cut);
	memcpy(mirror->cut, block->data + (block->whole_end - block->offset), mirror->cut_len);
}

/* Blocks of a stream begin at multiples of 4: of the 8 bytes, 4 may have been in the one before. */
static void cut_complete(struct mirror *mirror, const struct block *block)
{
	const uint32_t missing = sizeof(mirror->cut) - mirror->cut_len;

	if (mirror->cut_len == 0 || missing == 0)
		return;
	memcpy(mirror->cut + mirror->cut_len, block->data, missing);
	mirror->cut_len = sizeof(mirror->cut);
}

static void skipped_add(struct mirror *mirror, uint64_t n)
{
	COUNTER_ADD(mirror->skipped, n);
	mirror->gap += n;
}
