/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a lane does with a burst: count, sample, find room, take places under the limits, frame.
 * Runs on the lane's lcore; no allocation, log, lock or system call but the wake-up when a session
 * ends.
 */
#include "engine/lane_internal.h"

#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>

#include "engine/clock.h"
#include "engine/counter.h"
#include "engine/epb.h"

/* The packets of a burst that are to be framed, in order. */
struct plan {
	unsigned n;
	unsigned interface;
	bool plain;                    /* no options, nothing cut: straight code will do */
	uint8_t index[PORT_BURST_MAX]; /* in the burst */
	uint32_t cap_len[PORT_BURST_MAX];
	uint32_t framed_len[PORT_BURST_MAX];
	uint64_t dropcount[PORT_BURST_MAX]; /* losses to be told with this packet */
};

static uint64_t mask_known(struct lane *lane, const struct burst *burst, uint64_t now_tsc);
static uint64_t mask_direction(enum direction direction, const struct burst *burst);
static void plan_make(struct lane *lane, const struct burst *burst, uint64_t mask,
	unsigned interface, struct plan *plan);
static bool room_take(
	struct lane *lane, uint64_t *room_bytes, uint64_t need_bytes, enum drop *reason);
static struct block *room_block(struct lane *lane, unsigned n_ahead, bool holds, enum drop *reason);
static void packet_drop(struct lane *lane, unsigned interface, enum drop reason);
static void plan_cut(struct lane *lane, struct plan *plan, unsigned n);
static void plan_frame(struct lane *lane, const struct burst *burst, const struct plan *plan);
static unsigned run_put(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned first);
static void packet_put(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned at);
static void frame_put(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned at);
static void frame_put_split(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned at);
static void block_open(struct lane *lane);
static void block_close(struct lane *lane, bool partial);
static void spare_release(struct lane *lane);

void lane_join(struct lane *lane)
{
	if (lane->joined)
		return;
	lane->joined = true;
	for (unsigned i = 0; i < lane->tap->spec.n_ports; i++)
		lane->counted[i] = lane->matched[i] != NULL ? *lane->matched[i] : 0;
}

void lane_catch_up(struct lane *lane)
{
	for (unsigned i = 0; i < lane->tap->spec.n_ports; i++)
		if (lane->matched[i] != NULL)
			lane_catch_up_to(lane, i, 0);
}

void lane_catch_up_to(struct lane *lane, unsigned interface, unsigned n)
{
	const uint64_t n_matched = *lane->matched[interface];
	const uint64_t n_rejected = n_matched - n - lane->counted[interface];

	lane->counted[interface] = n_matched;
	if (n_rejected == 0 || lane->closed)
		return;
	COUNTER_ADD(lane->offered, n_rejected);
	COUNTER_ADD(lane->filtered, n_rejected);
}

void lane_offer(struct lane *lane, const struct burst *burst, uint64_t mask, unsigned interface,
	uint64_t now_tsc)
{
	struct tap *tap = lane->tap;
	enum end_reason end = END_none;
	uint64_t known, kept;
	struct plan plan;
	unsigned n, n_offered, n_passed;

	if (lane->closed)
		return;
	known = mask_known(lane, burst, now_tsc);
	n_offered = __builtin_popcountll(known);
	mask &= known & mask_direction(tap->spec.direction, burst);
	n_passed = __builtin_popcountll(mask);
	COUNTER_ADD(lane->offered, n_offered);
	COUNTER_ADD(lane->filtered, n_offered - n_passed);
	if (n_passed == 0)
		return;
	COUNTER_ADD(lane->if_accepted[interface], n_passed);
	kept = sample_burst(__atomic_load_n(&tap->spec.sample_mode, __ATOMIC_ACQUIRE),
		__atomic_load_n(&tap->spec.sample_n, __ATOMIC_RELAXED), &lane->sample,
		&tap->sample_count, burst, mask);
	if (unlikely(tap->spec.rate_pps != 0))
		kept = sample_rate_take(&tap->rate, now_tsc, kept);
	if (kept != mask)
		COUNTER_ADD(lane->sampled_out, n_passed - __builtin_popcountll(kept));
	if (unlikely(now_tsc >= __atomic_load_n(&tap->deadline_tsc, __ATOMIC_RELAXED))) {
		COUNTER_ADD(lane->over_limit, __builtin_popcountll(kept));
		lane->closed = true;
		tap_end_set(tap, END_time_limit);
		return;
	}

	if (!tap->limit.on) {
		lane_frame(lane, burst, kept, interface);
		return;
	}
	plan_make(lane, burst, kept, interface, &plan);
	n = limit_take(&tap->limit, plan.cap_len, plan.framed_len, plan.n, &end);
	if (n < plan.n)
		plan_cut(lane, &plan, n);
	plan_frame(lane, burst, &plan);
	spare_release(lane);
	if (unlikely(end != END_none)) {
		lane->closed = true;
		tap_end_set(tap, end);
	}
}

lane_offer_fn *lane_offer_choose(const struct lane *lane)
{
	const struct tap *tap = lane->tap;

	if (lane->direction_known || tap->spec.direction != DIRECTION_BOTH ||
		tap->spec.sample_mode != SAMPLE_NONE || tap->spec.rate_pps != 0 || tap->limit.on)
		return lane_offer;
	return lane_plain_choose();
}

void lane_frame(struct lane *lane, const struct burst *burst, uint64_t mask, unsigned interface)
{
	struct plan plan;

	plan_make(lane, burst, mask, interface, &plan);
	plan_frame(lane, burst, &plan);
	spare_release(lane);
}

void lane_block_full(struct lane *lane)
{
	block_close(lane, false);
}

void lane_flush(struct lane *lane)
{
	if (lane->dirty && !lane->end_sent)
		block_close(lane, true);
}

void lane_end(struct lane *lane)
{
	if (lane->end_sent)
		return;
	lane_catch_up(lane);
	lane->closed = true;
	lane_flush(lane);
	RTE_VERIFY(lane->block == NULL);
	lane->end_sent = true;
	lane->end.end = true;
	lane->end.lane = lane;
	block_send(lane->home, lane->writer, &lane->end);
}

/*
 * Packets from before the session began (they sat in the source) are not offered to it. That is asked
 * only until the first one that is, and no longer than they may have sat there: a wall clock set back
 * must not hide packets.
 */
static uint64_t mask_known(struct lane *lane, const struct burst *burst, uint64_t now_tsc)
{
	const uint64_t all = burst->n == 64 ? UINT64_MAX : (1ULL << burst->n) - 1;
	const struct tap *tap = lane->tap;
	unsigned first = 0;

	if (likely(lane->begun))
		return all;
	while (first < burst->n && burst->stamp_ns[first] < tap->start_ns &&
		(tap->known_tsc == 0 || now_tsc < tap->known_tsc))
		first++;
	if (first == burst->n)
		return 0;
	lane->begun = true;
	return all & (UINT64_MAX << first);
}

static uint64_t mask_direction(enum direction direction, const struct burst *burst)
{
	if (direction == DIRECTION_BOTH)
		return UINT64_MAX;
	return direction == DIRECTION_OUT ? burst->outbound : ~burst->outbound;
}

/* Room first: a packet without a block is lost here and uses up no limit. */
static void plan_make(struct lane *lane, const struct burst *burst, uint64_t mask,
	unsigned interface, struct plan *plan)
{
	const uint32_t flags_len = lane->direction_known ? PCAPNG_EPB_FLAGS_SIZE : 0;
	const uint32_t snaplen_bytes =
		__atomic_load_n(&lane->tap->snaplen_bytes[interface], __ATOMIC_RELAXED);
	const uint64_t cut = burst->cut;
	uint64_t room_bytes = lane->block != NULL ? BLOCK_SIZE - lane->used : 0;
	uint64_t pending = lane->pending[interface];
	enum drop reason;
	unsigned n = 0;

	plan->interface = interface;
	plan->plain = flags_len == 0 && cut == 0 && pending == 0;
	for (; mask != 0; mask &= mask - 1) {
		unsigned i = __builtin_ctzll(mask);
		const struct rte_mbuf *pkt = burst->pkts[i];
		uint32_t cap_len = RTE_MIN(pkt->pkt_len, snaplen_bytes);
		uint32_t framed_len;

		if (unlikely((cut >> i & 1) != 0 && cap_len < snaplen_bytes)) {
			packet_drop(lane, interface, DROP_oversize);
			pending++;
			continue;
		}
		framed_len = pcapng_epb_len(
			cap_len, flags_len + (pending != 0 ? PCAPNG_EPB_DROPCOUNT_SIZE : 0));
		if (unlikely(room_bytes < framed_len) &&
			!room_take(lane, &room_bytes, framed_len, &reason)) {
			packet_drop(lane, interface, reason);
			plan->plain = false;
			pending++;
			continue;
		}
		room_bytes -= framed_len;
		plan->index[n] = i;
		plan->cap_len[n] = cap_len;
		plan->framed_len[n] = framed_len;
		plan->dropcount[n] = pending;
		pending = 0;
		n++;
	}
	plan->n = n;
	lane->pending[interface] = pending;
}

/* Blocks until need_bytes fit, all or none of them: a packet is never begun without its end. */
static bool room_take(
	struct lane *lane, uint64_t *room_bytes, uint64_t need_bytes, enum drop *reason)
{
	struct block *taken = NULL;
	struct block **last = &lane->spare;
	uint64_t room = *room_bytes;
	bool holds = lane->block != NULL || lane->spare != NULL;
	unsigned n_ahead = 0;

	while (*last != NULL) {
		last = &(*last)->next;
		n_ahead++;
	}
	while (room < need_bytes) {
		struct block *block = room_block(lane, n_ahead++, holds, reason);

		if (block == NULL) {
			while (taken != NULL) {
				block = taken;
				taken = block->next;
				block_untake(lane->home, block);
			}
			return false;
		}
		/* The stream's unfinished page goes first into a lane's first block. */
		room += BLOCK_SIZE - (holds ? 0 : lane->tail_len);
		holds = true;
		block->next = taken;
		taken = block;
	}
	*last = taken;
	*room_bytes = room;
	return true;
}

/* The block that comes behind n_ahead others which are taken but not begun; or why there is none. */
static struct block *room_block(struct lane *lane, unsigned n_ahead, bool holds, enum drop *reason)
{
	const uint64_t next =
		lane->block != NULL ? lane->block->offset + BLOCK_SIZE : lane->next_offset;
	const uint64_t end = next + (uint64_t)(n_ahead + 1) * BLOCK_SIZE;
	const uint64_t space_end = __atomic_load_n(&lane->space_end, __ATOMIC_RELAXED);
	uint64_t n_held;

	*reason = DROP_no_space;
	if (unlikely((space_end != 0 && end > space_end) ||
		     __atomic_load_n(&lane->no_space, __ATOMIC_RELAXED)))
		return NULL;
	*reason = DROP_no_block;
	n_held = lane->taken + n_ahead - COUNTER_READ(lane->returned);
	/* What has come back is not looked for before there is little left. */
	if (block_share_is_over(lane->home, n_held))
		block_collect(lane->home);
	if (block_share_is_over(lane->home, n_held))
		return block_take(lane->home, BLOCK_MORE);
	return block_take(lane->home, holds ? BLOCK_NEXT : BLOCK_FIRST);
}

/* Every loss inside the engine's lcores goes through here: freed by the burst, counted by this. */
static void packet_drop(struct lane *lane, unsigned interface, enum drop reason)
{
	COUNTER_ADD(lane->accepted, 1);
	COUNTER_ADD(lane->dropped[reason], 1);
	COUNTER_ADD(lane->if_dropped[interface], 1);
}

/* The plan's packets from n on found no place. Losses they were to tell of are still to be told. */
static void plan_cut(struct lane *lane, struct plan *plan, unsigned n)
{
	for (unsigned i = n; i < plan->n; i++)
		lane->pending[plan->interface] += plan->dropcount[i];
	COUNTER_ADD(lane->over_limit, plan->n - n);
	plan->n = n;
}

static void plan_frame(struct lane *lane, const struct burst *burst, const struct plan *plan)
{
	if (plan->n == 0)
		return;
	COUNTER_ADD(lane->accepted, plan->n);
	COUNTER_ADD(lane->framed, plan->n);
	for (unsigned i = 0; i < plan->n;) {
		if (unlikely(lane->block == NULL))
			block_open(lane);
		if (likely(plan->plain))
			i = run_put(lane, burst, plan, i);
		if (i < plan->n)
			packet_put(lane, burst, plan, i++);
	}
	lane->dirty = true;
	if (unlikely(lane->used == BLOCK_SIZE))
		block_close(lane, false);
}

static inline uint64_t frame_stamp(struct lane *lane, uint64_t stamp_ns)
{
	if (unlikely(stamp_ns < lane->stamp_last_ns)) {
		COUNTER_ADD(lane->stamps_raised, 1);
		return lane->stamp_last_ns;
	}
	lane->stamp_last_ns = stamp_ns;
	return stamp_ns;
}

static inline void frame_head(struct lane *lane, const struct burst *burst, const struct plan *plan,
	unsigned at, uint8_t *head)
{
	const unsigned i = plan->index[at];

	epb_head_put(head, plan->interface, frame_stamp(lane, burst->stamp_ns[i]),
		plan->framed_len[at], plan->cap_len[at],
		unlikely(burst->cut >> i & 1) ? burst->wire_len[i] : burst->pkts[i]->pkt_len);
}

/* Padding, options and the length at the end: at most 3 + 8 + 12 + 4 + 4 bytes. */
static inline uint32_t frame_foot(const struct lane *lane, const struct burst *burst,
	const struct plan *plan, unsigned at, uint8_t *foot)
{
	const uint32_t pad = -plan->cap_len[at] & 3;
	uint8_t *p = foot;

	if (pad != 0) {
		memset(p, 0, pad);
		p += pad;
	}
	if (lane->direction_known) {
		const uint32_t flags[2] = {PCAPNG_EPB_FLAGS | 4U << 16,
			burst->outbound >> plan->index[at] & 1 ? 2 : 1};

		memcpy(p, flags, sizeof(flags));
		p += sizeof(flags);
	}
	if (unlikely(plan->dropcount[at] != 0)) {
		const uint32_t option[3] = {PCAPNG_EPB_DROPCOUNT | 8U << 16,
			(uint32_t)plan->dropcount[at], plan->dropcount[at] >> 32};

		memcpy(p, option, sizeof(option));
		p += sizeof(option);
	}
	if (p != foot + pad) {
		memset(p, 0, PCAPNG_OPT_END_SIZE);
		p += PCAPNG_OPT_END_SIZE;
	}
	memcpy(p, &plan->framed_len[at], PCAPNG_EPB_TAIL);
	return p + PCAPNG_EPB_TAIL - foot;
}

#define FRAME_FOOT_MAX 32

static inline void frame_data(uint8_t *to, const struct rte_mbuf *pkt, uint32_t len)
{
	while (unlikely(len > pkt->data_len)) {
		memcpy(to, rte_pktmbuf_mtod(pkt, const void *), pkt->data_len);
		to += pkt->data_len;
		len -= pkt->data_len;
		pkt = pkt->next;
	}
	epb_copy(to, rte_pktmbuf_mtod(pkt, const uint8_t *), len);
}

/*
 * Packets without options, as many as fit into the block: the common case, in straight code. Returns
 * the first that is not framed.
 */
static unsigned run_put(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned first)
{
	struct block *block = lane->block;
	uint8_t *to = block->data + lane->used;
	uint32_t left = BLOCK_SIZE - lane->used;
	uint64_t captured_bytes = 0;
	unsigned i = first;

	for (; i < plan->n && plan->framed_len[i] <= left; i++) {
		const uint32_t cap_len = plan->cap_len[i];
		const uint32_t framed_len = plan->framed_len[i];

		frame_head(lane, burst, plan, i, to);
		frame_data(to + PCAPNG_EPB_HEAD, burst->pkts[plan->index[i]], cap_len);
		epb_foot_put(to, cap_len, framed_len);
		to += framed_len;
		left -= framed_len;
		captured_bytes += cap_len;
	}
	lane->used = BLOCK_SIZE - left;
	block->packets[plan->interface] += i - first;
	block->captured_bytes += captured_bytes;
	if (i != first)
		lane->whole_end = block->offset + lane->used;
	return i;
}

/* Any packet: with options, or over the end of the block. */
static void packet_put(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned at)
{
	if (likely(lane->used + plan->framed_len[at] <= BLOCK_SIZE))
		frame_put(lane, burst, plan, at);
	else
		frame_put_split(lane, burst, plan, at);
	lane->block->packets[plan->interface]++;
	lane->block->captured_bytes += plan->cap_len[at];
	lane->block->told[plan->interface] += plan->dropcount[at];
	lane->whole_end = lane->block->offset + lane->used;
}

static void frame_put(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned at)
{
	uint8_t *to = lane->block->data + lane->used;

	frame_head(lane, burst, plan, at, to);
	to += PCAPNG_EPB_HEAD;
	frame_data(to, burst->pkts[plan->index[at]], plan->cap_len[at]);
	frame_foot(lane, burst, plan, at, to + plan->cap_len[at]);
	lane->used += plan->framed_len[at];
}

/* Bytes that may run over the end of one block into the next, which room_take has ready. */
static void stream_put(struct lane *lane, const uint8_t *from, uint32_t len)
{
	while (len > 0) {
		uint32_t piece;

		if (lane->used == BLOCK_SIZE) {
			block_close(lane, false);
			block_open(lane);
		}
		piece = RTE_MIN(len, BLOCK_SIZE - lane->used);
		memcpy(lane->block->data + lane->used, from, piece);
		lane->used += piece;
		from += piece;
		len -= piece;
	}
}

static void frame_put_split(
	struct lane *lane, const struct burst *burst, const struct plan *plan, unsigned at)
{
	const struct rte_mbuf *pkt = burst->pkts[plan->index[at]];
	uint8_t head[PCAPNG_EPB_HEAD];
	uint8_t foot[FRAME_FOOT_MAX];
	uint32_t left = plan->cap_len[at];

	frame_head(lane, burst, plan, at, head);
	stream_put(lane, head, sizeof(head));
	while (left > 0) {
		uint32_t piece = RTE_MIN(left, pkt->data_len);

		stream_put(lane, rte_pktmbuf_mtod(pkt, const uint8_t *), piece);
		left -= piece;
		pkt = pkt->next;
	}
	stream_put(lane, foot, frame_foot(lane, burst, plan, at, foot));
}

/* The next block of the stream, which begins with the unfinished page of the one before. */
static void block_open(struct lane *lane)
{
	struct block *block = lane->spare;

	RTE_VERIFY(block != NULL);
	lane->spare = block->next;
	lane->taken++;
	block->lane = lane;
	block->end = false;
	block->offset = lane->next_offset;
	block->captured_bytes = 0;
	memset(block->packets, 0, sizeof(block->packets));
	memset(block->told, 0, sizeof(block->told));
	memcpy(block->data, lane->tail, lane->tail_len);
	lane->used = lane->tail_len;
	lane->tail_len = 0;
	lane->block = block;
}

/*
 * Hand the block over. A partial one ends inside a page: that page is filled with zeros on its way
 * to the disk, kept here, and written again as the beginning of the next block.
 */
static void block_close(struct lane *lane, bool partial)
{
	struct block *block = lane->block;
	const uint32_t whole = lane->used & ~(BLOCK_PAGE - 1);

	lane->tail_len = lane->used - whole;
	lane->next_offset = block->offset + whole;
	block->len = whole;
	block->partial = partial && lane->tail_len != 0;
	if (block->partial) {
		memcpy(lane->tail, block->data + whole, lane->tail_len);
		memset(block->data + lane->used, 0, BLOCK_PAGE - lane->tail_len);
		block->len += BLOCK_PAGE;
	}
	block->whole_end = lane->whole_end;
	lane->dirty = false;
	lane->block = NULL;
	block_send(lane->home, lane->writer, block);
}

static void spare_release(struct lane *lane)
{
	while (unlikely(lane->spare != NULL)) {
		struct block *block = lane->spare;

		lane->spare = block->next;
		block_untake(lane->home, block);
	}
}
