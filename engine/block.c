/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The arena and its blocks. One mmap outside DPDK's memory: MADV_DONTFORK and MADV_DONTDUMP are
 * ours to set there, and io_uring gains nothing from registered memory on this path.
 */
#include "engine/block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include <rte_malloc.h>
#include <rte_ring.h>

#include "engine/counter.h"
#include "engine/fault.h"

#define ARENA_ALIGN    (2ULL << 20)
#define ARENA_MIN      (64ULL << 20)
#define ARENA_MAX      (256ULL << 20)
#define ARENA_MAX_HUGE (4ULL << 30)
#define RECEIVE_MAX    64

static struct {
	uint8_t *arena;
	uint64_t size_bytes;
	bool huge;
	unsigned n_homes;
	unsigned n_writers;
	unsigned n_blocks;
	struct block_home homes[CONFIG_CPUS_MAX];
	unsigned next_home[2 * CONFIG_CPUS_MAX]; /* by writer; its own */
} pool;

static void low_mark(struct block_home *home, unsigned n_free);
static uint64_t arena_size_auto(bool huge);
static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max);
static int arena_map(uint64_t size_bytes, bool huge);
static int home_init(struct block_home *home, unsigned index, unsigned n_blocks);
static struct rte_ring *ring_new(const char *kind, unsigned home, unsigned writer, unsigned size);

int block_pool_new(
	uint64_t size_bytes, bool huge, unsigned n_homes, unsigned n_writers, struct err *err)
{
	int rc;

	if (size_bytes == 0)
		size_bytes = arena_size_auto(huge);
	size_bytes = (size_bytes + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	rc = arena_map(size_bytes, huge);
	if (rc != 0)
		return err_set(err, -rc, "engine.block_memory",
			"cannot map %llu MiB of block memory: %s",
			(unsigned long long)(size_bytes >> 20), strerror(-rc));
	pool.n_homes = n_homes;
	pool.n_writers = n_writers;
	pool.n_blocks = size_bytes / BLOCK_SIZE / n_homes * n_homes;
	for (unsigned i = 0; i < n_homes; i++) {
		rc = home_init(&pool.homes[i], i, pool.n_blocks / n_homes);
		if (rc != 0) {
			block_pool_free();
			return err_set(err, -rc, "engine.block_memory",
				"no memory for %u block headers", pool.n_blocks);
		}
	}
	return 0;
}

void block_pool_free(void)
{
	for (unsigned i = 0; i < pool.n_homes; i++) {
		struct block_home *home = &pool.homes[i];

		free(home->blocks);
		free(home->stack);
		for (unsigned w = 0; w < pool.n_writers; w++) {
			rte_ring_free(home->forth[w]);
			rte_ring_free(home->back[w]);
		}
	}
	if (pool.arena != NULL)
		munmap(pool.arena, pool.size_bytes);
	memset(&pool, 0, sizeof(pool));
}

struct block_home *block_home(unsigned index)
{
	return &pool.homes[index];
}

unsigned block_count(void)
{
	return pool.n_blocks;
}

unsigned block_free_count(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < pool.n_homes; i++) {
		struct block_home *home = &pool.homes[i];

		n += __atomic_load_n(&home->n_free, __ATOMIC_RELAXED);
		for (unsigned w = 0; w < pool.n_writers; w++)
			n += rte_ring_count(home->back[w]);
	}
	return n;
}

unsigned block_low_take(void)
{
	const unsigned now = block_free_count();
	unsigned n = 0;

	for (unsigned i = 0; i < pool.n_homes; i++)
		n += __atomic_exchange_n(
			&pool.homes[i].n_low, pool.homes[i].n_blocks, __ATOMIC_RELAXED);
	return RTE_MIN(n, now);
}

uint64_t block_missed_count(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < pool.n_homes; i++)
		n += COUNTER_READ(pool.homes[i].n_missed);
	return n;
}

bool block_on_hugepages(void)
{
	return pool.huge;
}

unsigned block_lanes_max(void)
{
	return pool.n_blocks / 2;
}

bool block_lane_reserve(struct block_home *home)
{
	if (home->n_reserved >= home->n_blocks / 2)
		return false;
	home->n_reserved++;
	return true;
}

void block_lane_release(struct block_home *home)
{
	home->n_reserved--;
}

struct block *block_take(struct block_home *home, enum block_claim claim)
{
	const unsigned n_left[] = {
		[BLOCK_FIRST] = 0,
		[BLOCK_NEXT] = home->n_lanes,
		[BLOCK_MORE] = RTE_MAX(home->n_lanes, home->n_blocks / 8),
	};
	struct block *block;

	/* What came back last is what the caches still hold. */
	block_collect(home);
	if (home->n_free <= n_left[claim] || fault_point(FAULT_block_take) != 0) {
		COUNTER_ADD(home->n_missed, 1);
		low_mark(home, 0);
		return NULL;
	}
	block = home->stack[home->n_free - 1];
	__atomic_store_n(&home->n_free, home->n_free - 1, __ATOMIC_RELAXED);
	low_mark(home, home->n_free);
	return block;
}

void block_untake(struct block_home *home, struct block *block)
{
	home->stack[home->n_free] = block;
	__atomic_store_n(&home->n_free, home->n_free + 1, __ATOMIC_RELAXED);
}

void block_collect(struct block_home *home)
{
	unsigned n = home->n_free;

	for (unsigned w = 0; w < home->n_writers; w++)
		n += rte_ring_sc_dequeue_burst(
			home->back[w], (void **)&home->stack[n], home->n_blocks - n, NULL);
	__atomic_store_n(&home->n_free, n, __ATOMIC_RELAXED);
}

void block_send(struct block_home *home, unsigned writer, struct block *block)
{
	int rc = rte_ring_sp_enqueue(home->forth[writer], block);

	RTE_VERIFY(rc == 0);
}

unsigned block_receive(unsigned writer, struct block **blocks, unsigned n_max)
{
	/* Each home is the first in turn: a busy one does not keep the others waiting. */
	const unsigned first = pool.next_home[writer]++;
	unsigned n = 0;

	for (unsigned i = 0; i < pool.n_homes; i++) {
		struct block_home *home = &pool.homes[(first + i) % pool.n_homes];

		n += rte_ring_sc_dequeue_burst(
			home->forth[writer], (void **)&blocks[n], n_max - n, NULL);
	}
	return n;
}

void block_return(unsigned writer, struct block *block)
{
	int rc = rte_ring_sp_enqueue(pool.homes[block->home].back[writer], block);

	RTE_VERIFY(rc == 0);
}

bool block_scarce(unsigned home)
{
	return __atomic_load_n(&pool.homes[home].n_free, __ATOMIC_RELAXED) <
	       pool.homes[home].n_blocks / 4;
}

static void low_mark(struct block_home *home, unsigned n_free)
{
	if (n_free < __atomic_load_n(&home->n_low, __ATOMIC_RELAXED))
		__atomic_store_n(&home->n_low, n_free, __ATOMIC_RELAXED);
}

/* Half of the free hugepages, or a sixteenth of the memory, within the plan's bounds. */
static uint64_t arena_size_auto(bool huge)
{
	struct sysinfo info;
	unsigned long free_pages = 0;
	FILE *file;

	if (huge) {
		file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
		if (file != NULL) {
			if (fscanf(file, "%lu", &free_pages) != 1)
				free_pages = 0;
			fclose(file);
		}
		return clamp((free_pages << 21) / 2, ARENA_MIN, ARENA_MAX_HUGE);
	}
	if (sysinfo(&info) != 0)
		return ARENA_MIN;
	return clamp((uint64_t)info.totalram * info.mem_unit / 16, ARENA_MIN, ARENA_MAX);
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
	return value < min ? min : value > max ? max : value;
}

static int arena_map(uint64_t size_bytes, bool huge)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uint8_t *at, *aligned;

	at = MAP_FAILED;
	if (huge)
		at = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			flags | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	pool.huge = at != MAP_FAILED;
	if (at == MAP_FAILED) {
		at = mmap(NULL, size_bytes + ARENA_ALIGN, PROT_READ | PROT_WRITE, flags, -1, 0);
		if (at == MAP_FAILED)
			return -errno;
		aligned = (uint8_t *)(((uintptr_t)at + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1));
		if (aligned > at)
			munmap(at, aligned - at);
		munmap(aligned + size_bytes, at + ARENA_ALIGN - aligned);
		at = aligned;
		madvise(at, size_bytes, MADV_HUGEPAGE);
		/* First touch belongs to the start, not to the first packets. */
		madvise(at, size_bytes, MADV_POPULATE_WRITE);
	}
	madvise(at, size_bytes, MADV_DONTFORK);
	madvise(at, size_bytes, MADV_DONTDUMP);
	pool.arena = at;
	pool.size_bytes = size_bytes;
	return 0;
}

static int home_init(struct block_home *home, unsigned index, unsigned n_blocks)
{
	unsigned ring_size = rte_align32pow2(pool.n_blocks + block_lanes_max() + 1);

	home->n_blocks = n_blocks;
	home->n_writers = pool.n_writers;
	home->blocks = calloc(n_blocks, sizeof(*home->blocks));
	home->stack = calloc(n_blocks, sizeof(*home->stack));
	if (home->blocks == NULL || home->stack == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < n_blocks; i++) {
		struct block *block = &home->blocks[i];

		block->data = pool.arena + ((uint64_t)index * n_blocks + i) * BLOCK_SIZE;
		block->home = index;
		/* The first to be taken is the lowest. */
		home->stack[n_blocks - 1 - i] = block;
	}
	home->n_free = n_blocks;
	home->n_low = n_blocks;
	for (unsigned w = 0; w < pool.n_writers; w++) {
		home->forth[w] = ring_new("forth", index, w, ring_size);
		home->back[w] = ring_new("back", index, w, ring_size);
		if (home->forth[w] == NULL || home->back[w] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static struct rte_ring *ring_new(const char *kind, unsigned home, unsigned writer, unsigned size)
{
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), "%s-%u-%u", kind, home, writer);
	return rte_ring_create(name, size, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
}
