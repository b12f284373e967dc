/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A mirror shows a running lane's packets to control: while it is open, the lane's writer copies
 * what it receives into a ring of bounded size, if there is room, and counts what it skips if there
 * is not. It never waits, never calls the kernel, and a closed one costs the writer a test and two
 * stores a block. Watching therefore never costs a captured packet.
 *
 * In the ring lie whole pcapng packet blocks, one behind the other, as they are in the file; where
 * packets were skipped stands a struct mirror_gap.
 */
#ifndef ENGINE_MIRROR_H
#define ENGINE_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/block.h"

#define MIRROR_SIZE (1U << 20)
#define MIRROR_GAP  0x80000001U /* among block types: "for local use" */

struct mirror_gap {
	uint32_t type;
	uint32_t len;
	uint32_t skipped_low;
	uint32_t skipped_high;
	uint32_t len_again; /* like every pcapng block */
};

enum mirror_state { MIRROR_CLOSED, MIRROR_OPEN, MIRROR_COPYING };

struct mirror {
	/* control's while closed, else constant */
	uint8_t *ring; /* mapped twice in a row: any piece of it is in one piece */
	/* control's */
	uint64_t tail __attribute__((aligned(64))); /* read by the writer */

	/* control: closed <-> open; the writer: open <-> copying */
	int state __attribute__((aligned(64)));
	bool fresh;       /* set by control with open: the writer has not seen it yet */
	uint64_t head;    /* written by the writer: end of the last whole packet */
	uint64_t skipped; /* written by the writer: packets since open that are not in the ring */

	/* the writer's own */
	uint64_t fill; /* behind head: the beginning of a packet that goes on in the next block */
	uint64_t gap;  /* of skipped: not told by a struct mirror_gap yet */
	uint64_t received; /* the stream's bytes so far */
	uint64_t boundary; /* where its next packet begins, <= received */
	bool begun;  /* a packet's beginning was found: what is not shown from now on is skipped */
	bool joined; /* the block before was copied */
	uint32_t cut_len;
	uint8_t cut[8]; /* the first bytes of the packet that goes on behind the last block */
};

/* Control, before the lane is published: its stream begins with len bytes of file header. */
void mirror_init(struct mirror *mirror, uint64_t len);
/* Control, once no writer knows the lane. */
void mirror_fini(struct mirror *mirror);

/* Control: show what the writer receives from now on. 0, -ENOMEM; idempotent. */
int mirror_open(struct mirror *mirror);
/* Control: show no more, give the memory back. False: the writer is copying just now; ask again. */
bool mirror_close(struct mirror *mirror);

/* Control: the bytes that are there; then give back the first len of them. */
size_t mirror_peek(const struct mirror *mirror, const uint8_t **data);
void mirror_drop(struct mirror *mirror, size_t len);
/* Control, once the tap has drained: packets skipped behind the last one in the ring. */
uint64_t mirror_last_gap(const struct mirror *mirror);

/* Writer: a block that is not closed. */
void mirror_copy(struct mirror *mirror, const struct block *block);

/* Where the block's bytes end in the stream: a partial one is filled up with zeros. */
static inline uint64_t mirror_block_end(const struct block *block)
{
	return block->partial ? block->whole_end : block->offset + block->len;
}

/* Writer: every block that it receives. */
static inline void mirror_block(struct mirror *mirror, const struct block *block)
{
	if (__atomic_load_n(&mirror->state, __ATOMIC_RELAXED) != MIRROR_CLOSED)
		mirror_copy(mirror, block);
	mirror->boundary = block->whole_end;
	mirror->received = mirror_block_end(block);
}

#endif
