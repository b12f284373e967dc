/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A lane is one tap on one RX lcore (on one queue, where queues carry their own clock): a byte
 * stream of pcapng blocks, cut into blocks of 64 KiB. It holds no block while idle, only the
 * unfinished last page of what it handed over. Inside the engine only; control sees tap.h.
 *
 * Who writes what is in the struct; the hand-over from lcore to writer is the block ring, the way
 * back (settled counts, errors, drained) is single words with release and acquire.
 */
#ifndef ENGINE_LANE_H
#define ENGINE_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_prefetch.h>

#include "engine/block.h"
#include "engine/limit.h"
#include "engine/mirror.h"
#include "engine/port.h"
#include "engine/sample.h"
#include "engine/sink.h"
#include "engine/tap.h"

struct lane {
	/* set by control before publication, then constant */
	struct tap *tap;
	struct block_home *home;
	uint16_t slot;
	uint16_t writer;
	bool direction_known; /* the ports say which way a packet went: epb_flags are written */
	struct sink_file file;
	uint8_t *tail; /* BLOCK_PAGE bytes: the stream's unfinished last page */

	/* control's, read by the lcore: no block may reach beyond, for the disk has no more space */
	uint64_t space_end; /* 0 = nothing is known to stand in the way */

	const uint64_t *matched[CONFIG_PORTS_MAX]; /* by interface: packets polled for taps, ever;
						      NULL: its port doesn't feed this lane */

	/* the lcore's own */
	struct block *block __attribute__((aligned(64)));
	struct block *spare; /* taken for the burst at hand, linked by next */
	uint32_t used;       /* bytes in block */
	uint32_t tail_len;
	uint64_t next_offset; /* where the next block starts in the stream */
	uint64_t whole_end;
	uint64_t stamp_last_ns;
	uint64_t taken; /* blocks of the stream that were begun */
	bool dirty;     /* bytes since the last hand-over */
	bool closed;    /* offers nothing any more: its end was learnt, or END was sent */
	bool end_sent;
	bool begun; /* a packet from after the session's start was seen: all others are, too */
	bool joined;
	uint64_t counted[CONFIG_PORTS_MAX]; /* of matched: counted here, or from before it joined */
	struct sample_state sample;
	uint64_t pending[CONFIG_PORTS_MAX]; /* losses not told in a file yet, by interface */

	/* written by the lcore, read by anyone: COUNTER_ADD */
	uint64_t offered __attribute__((aligned(64)));
	uint64_t filtered;
	uint64_t sampled_out;
	uint64_t over_limit;
	uint64_t accepted;
	uint64_t framed;
	uint64_t dropped[DROP_COUNT];
	uint64_t stamps_raised;
	uint64_t if_accepted[CONFIG_PORTS_MAX]; /* passed filter and direction */
	uint64_t if_dropped[CONFIG_PORTS_MAX];

	/* written by the writer, read by anyone: COUNTER_ADD */
	uint64_t settled
		__attribute__((aligned(64))); /* of framed: written or lost by the writer */
	uint64_t written;
	uint64_t written_bytes; /* captured lengths */
	uint64_t lost[DROP_COUNT];
	uint64_t if_written[CONFIG_PORTS_MAX];
	uint64_t if_lost[CONFIG_PORTS_MAX];
	uint64_t if_untold[CONFIG_PORTS_MAX]; /* dropcounts that stood in lost blocks */
	uint64_t whole_written;               /* stream offset: contiguous, whole packets */
	uint64_t submitted_bytes;             /* stream offset up to which writes were issued */
	uint64_t n_bounds; /* of what was submitted; the last ones are in bounds, by number */
	struct tap_bound bounds[TAP_BOUNDS_MAX];
	uint64_t returned; /* of taken: given back, or about to be */
	bool no_space;     /* a write waits for space: nothing more is taken in meanwhile */
	int sink_error;    /* errno of the first failed write, or 0 */

	/* the writer's own */
	struct stream *stream;                            /* NULL but for SINK_STREAM */
	struct block *queue __attribute__((aligned(64))); /* received, not submitted */
	struct block **queue_end;
	uint32_t queue_bytes;
	uint64_t queue_since_ns;
	struct sink_write *writes; /* submitted, in stream order */
	struct sink_write **writes_end;
	bool queue_partial;  /* the queue has a partial block: do not wait for more */
	bool partial_flying; /* nothing may be submitted until it has completed */
	bool ended;          /* END was received */
	uint64_t retry_ns;   /* monotonic: when the write that waits for space is tried again */
	bool listed;
	struct lane *list_next; /* the writer's list of lanes with work */

	struct mirror mirror; /* who writes what stands there */

	struct block end; /* the END message */
};

struct tap {
	/* set by tap_new, then constant */
	struct tap_spec spec;
	int8_t interface_of[CONFIG_PORTS_MAX]; /* engine port index -> interface id, or -1 */
	uint32_t snaplen_bytes
		[CONFIG_PORTS_MAX]; /* by interface: the session's or the port's, the less; relaxed,
				       see tap_change, as are spec.sample_mode and sample_n */
	unsigned n_lanes;
	struct lane *lanes;
	struct lane **lane_of; /* by lane slot of the engine; NULL where the tap has none */

	/* set by control in engine_tap_add, then constant */
	uint64_t start_ns; /* wall clock: older packets are not this session's */
	uint64_t start_tsc;
	uint64_t
		known_tsc; /* from then on no packet is older, whatever its stamp says; 0 = never */
	uint64_t deadline_tsc; /* UINT64_MAX = none; tap_limits_set may move it: atomic */

	/* control's own */
	enum { TAP_NEW, TAP_LIVE, TAP_ENDING, TAP_GONE } phase;
	struct tap *next;
	bool classified; /* in the last set that it was live in, on some port */

	/* shared by lanes: atomics */
	struct limit limit __attribute__((aligned(64)));
	uint64_t sample_count
		__attribute__((aligned(64))); /* SAMPLE_EVERY: packets seen, all lanes */
	struct sample_rate rate;
	int end_reason __attribute__((aligned(64))); /* enum end_reason; first to set it wins */
	int sink_error;
	unsigned lanes_drained;
	uint64_t ended_ns;
};

/*
 * A lane need not be touched for a burst of which its filter wants nothing: such packets are counted
 * as offered and filtered later, by lane_catch_up, before anything else happens to the lane and four
 * times a second. What they are is no guess: since the lane joined, each burst that was polled for
 * taps of its port was either offered to it by lane_offer or rejected as a whole by its filter. A
 * lane that has not begun must be offered every burst, since only it knows whose packets they are.
 */

/* lcore, when it first sees the lane in a set: what is polled from now on is the lane's to count. */
void lane_join(struct lane *lane);
/* lcore, between bursts: count what was not offered. */
void lane_catch_up(struct lane *lane);
/* lcore, before lane_offer: the same for one interface, up to the n packets of the burst at hand. */
void lane_catch_up_to(struct lane *lane, unsigned interface, unsigned n);

/*
 * lcore. Offer a burst's packets (those in mask passed the filter) to the lane; everything that
 * happens to them is counted here. now_tsc is the time of the poll.
 */
typedef void lane_offer_fn(struct lane *lane, const struct burst *burst, uint64_t mask,
	unsigned interface, uint64_t now_tsc);
lane_offer_fn lane_offer;

/* Control thread: of all ways that give the same bytes and counts, the fastest for this lane. */
lane_offer_fn *lane_offer_choose(const struct lane *lane);

/*
 * lcore. The lane is going to be offered something soon; then, a little before it is. With many
 * lanes that take a packet each, nothing of them is in the cache.
 */
static inline void lane_prefetch(const struct lane *lane)
{
	rte_prefetch0(lane);
	rte_prefetch0(&lane->block);
	rte_prefetch0(&lane->counted);
	rte_prefetch0(&lane->offered);
	rte_prefetch0(&lane->if_accepted);
	rte_prefetch0(lane->tap);
}

static inline void lane_prefetch_block(const struct lane *lane)
{
	if (lane->block == NULL)
		return;
	rte_prefetch0(lane->block);
	rte_prefetch0(lane->block->data + lane->used);
	rte_prefetch0(lane->block->data + lane->used + 64);
}

/* lcore, four times a second: hand over what is there, so that it reaches the file. */
void lane_flush(struct lane *lane);

/* lcore: hand over the last block and END; afterwards the lane is the writer's. Idempotent. */
void lane_end(struct lane *lane);

/* When a tap with this limit of time ends. */
uint64_t tap_deadline(const struct tap *tap, uint64_t limit_ns);

/* Control thread: what engine_tap_change does to the tap. */
void tap_change(
	struct tap *tap, uint32_t snaplen_bytes, enum sample_mode sample_mode, uint32_t sample_n);

/* Any thread, not from inside a burst's loop: raise the tap's end; wakes control the first time. */
void tap_end_set(struct tap *tap, enum end_reason reason);

#endif
