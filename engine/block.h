/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Blocks: 64 KiB pieces of the arena that carry a lane's byte stream to its writer. Every block has
 * a home, the RX lcore that fills it; a home's free blocks are a stack (last returned, first used:
 * the hot set stays small). Nothing here allocates after block_pool_new.
 *
 *   home's stack --block_take (lcore)--> lane --ring--> writer --block_return--> ring --> home's
 * stack
 */
#ifndef ENGINE_BLOCK_H
#define ENGINE_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

#define BLOCK_SIZE 65536U
#define BLOCK_PAGE 4096U

struct lane;
struct rte_ring;

struct block {
	/* constant */
	uint8_t *data; /* BLOCK_SIZE bytes, page aligned */
	uint16_t home;

	/* written by the lane's lcore before the hand-over, read by the writer after */
	bool partial; /* its last page is rewritten by the lane's next block */
	bool end;     /* no data: the lane's last message */
	uint32_t len; /* bytes to write, a multiple of BLOCK_PAGE */
	struct lane *lane;
	uint64_t offset;    /* of data[0] in the lane's stream, a multiple of BLOCK_PAGE */
	uint64_t whole_end; /* stream offset of the end of the last whole packet so far */
	uint64_t captured_bytes;
	uint64_t told[CONFIG_PORTS_MAX];    /* sum of the dropcounts that end in this block */
	uint16_t packets[CONFIG_PORTS_MAX]; /* that end in this block, by interface */

	/* the writer's, for a stream: of packets, those that were not sent */
	uint16_t unsent[CONFIG_PORTS_MAX];
	uint16_t oversize[CONFIG_PORTS_MAX]; /* longer than a datagram */
	uint64_t unsent_bytes;               /* captured lengths of both */

	struct block *next; /* whoever holds the block */
};
/* The smallest packet block has 32 bytes: a block's counts fit their type. */
_Static_assert(BLOCK_SIZE / 32 <= UINT16_MAX, "packets per block fit 16 bits");

/* One per RX lcore. */
struct block_home {
	/* constant */
	unsigned n_blocks;
	unsigned n_writers;
	struct block *blocks;
	struct rte_ring *forth[2 * CONFIG_CPUS_MAX]; /* lcore -> writer */
	struct rte_ring *back[2 * CONFIG_CPUS_MAX];  /* writer -> lcore */

	/* control's own */
	unsigned n_reserved; /* lanes that live here or are about to */

	/* the lcore's own */
	struct block **stack __attribute__((aligned(64)));
	unsigned n_lanes; /* live lanes here: so many blocks are kept for lanes that hold none */

	/* written by the lcore, read by anyone */
	unsigned n_free;
	uint64_t n_missed; /* block_take that found none */

	/* the fewest that were free: the lcore lowers it, block_low_take begins anew; a mark that falls
	 * between these two is lost, and only shown to people */
	unsigned n_low;
};

/*
 * Main thread. Map the arena (size 0 = auto by the memory plan) and split it over n_homes. rings
 * have room for every block and max_lanes end messages. huge says whether MAP_HUGETLB is to be
 * tried.
 */
int block_pool_new(
	uint64_t size_bytes, bool huge, unsigned n_homes, unsigned n_writers, struct err *err);
void block_pool_free(void);

struct block_home *block_home(unsigned index);
unsigned block_count(void); /* in all homes */
unsigned block_free_count(void);
/* Control thread: the fewest that were free since the last call. */
unsigned block_low_take(void);
/* Any thread: how often a block was wanted and none was there. */
uint64_t block_missed_count(void);
bool block_on_hugepages(void);
/* Lanes that may live at one time: half the blocks. */
unsigned block_lanes_max(void);
/*
 * Control thread: one more lane at this home, from before it is published until after its grace period.
 * False: half of the home's blocks have their lane already.
 */
bool block_lane_reserve(struct block_home *home);
void block_lane_release(struct block_home *home);

/*
 * What a lane that asks for a block has already: one that has none may take the very last; one that has
 * some leaves as many as there are lanes; and one that has more than its share, because its disk does
 * not answer say, leaves an eighth to the others. Of the eighth who has much gets nothing: the next one
 * whose disk does not answer leaves some of it, too.
 */
enum block_claim { BLOCK_FIRST, BLOCK_NEXT, BLOCK_MORE };

/* Home's lcore. A lane with so many blocks has more than its share, or more than twice what is left for all;
 * there is nothing to share out before blocks become few. */
static inline bool block_share_is_over(const struct block_home *home, uint64_t n_held)
{
	return home->n_free <= home->n_blocks / 8 && home->n_lanes > 1 &&
	       (n_held > home->n_blocks / home->n_lanes || n_held > 2 * home->n_free);
}

/* Home's lcore. */
struct block *block_take(struct block_home *home, enum block_claim claim);
/* Home's lcore: put back a block that was taken and not used. */
void block_untake(struct block_home *home, struct block *block);
/* Home's lcore: collect what writers returned. */
void block_collect(struct block_home *home);
/* Home's lcore: hand to the writer; never fails, the ring has room for all. */
void block_send(struct block_home *home, unsigned writer, struct block *block);
/* Writer. */
unsigned block_receive(unsigned writer, struct block **blocks, unsigned n_max);
void block_return(unsigned writer, struct block *block);
/* Any thread: less than a quarter of the home's blocks are free. */
bool block_scarce(unsigned home);

#endif
