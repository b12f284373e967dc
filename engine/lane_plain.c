/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The common lane: no sampling, limits, direction or options. Planning and framing are one pass
 * over the burst. Whatever is out of the ordinary in a burst - a loss to tell of, a frame that came
 * cut, the end of a block - takes lane.c's way, which gives the same bytes. lcore only; no
 * allocation, log, lock or system call.
 */
#include "engine/lane_internal.h"

#include <rte_branch_prediction.h>
#include <rte_mbuf.h>

#include "engine/counter.h"
#include "engine/epb.h"

/*
 * Frame packets of mask, in order, as long as they fit into the block and are not chained; returns
 * those that are left.
 */
EPB_INLINE uint64_t run_put(
	struct lane *lane, const struct burst *burst, uint64_t mask, unsigned interface)
{
	const uint32_t snaplen_bytes =
		__atomic_load_n(&lane->tap->snaplen_bytes[interface], __ATOMIC_RELAXED);
	struct block *block = lane->block;
	uint8_t *const begin = block->data + lane->used;
	uint8_t *const end = block->data + BLOCK_SIZE;
	uint64_t stamp_ns = lane->stamp_last_ns;
	uint64_t raised = 0, captured_bytes = 0;
	uint64_t left = mask;
	uint8_t *to = begin;
	unsigned n;

	while (left != 0) {
		const unsigned i = __builtin_ctzll(left);
		const struct rte_mbuf *pkt = burst->pkts[i];
		const uint32_t cap_len = RTE_MIN(pkt->pkt_len, snaplen_bytes);
		const uint32_t total_len = pcapng_epb_len(cap_len, 0);

		if (unlikely(to + total_len > end || cap_len > pkt->data_len))
			break;
		raised += burst->stamp_ns[i] < stamp_ns;
		stamp_ns = RTE_MAX(stamp_ns, burst->stamp_ns[i]);
		epb_head_put(to, interface, stamp_ns, total_len, cap_len, pkt->pkt_len);
		epb_copy(to + PCAPNG_EPB_HEAD, rte_pktmbuf_mtod(pkt, const uint8_t *), cap_len);
		epb_foot_put(to, cap_len, total_len);
		to += total_len;
		captured_bytes += cap_len;
		left &= left - 1;
	}
	n = __builtin_popcountll(mask ^ left);
	if (unlikely(raised != 0))
		COUNTER_ADD(lane->stamps_raised, raised);
	COUNTER_ADD(lane->accepted, n);
	COUNTER_ADD(lane->framed, n);
	lane->stamp_last_ns = stamp_ns;
	lane->used = to - block->data;
	lane->dirty = true;
	block->packets[interface] += n;
	block->captured_bytes += captured_bytes;
	if (n != 0)
		lane->whole_end = block->offset + lane->used;
	return left;
}

EPB_INLINE void plain_offer(struct lane *lane, const struct burst *burst, uint64_t mask,
	unsigned interface, uint64_t now_tsc)
{
	const uint64_t all = burst->n == 64 ? UINT64_MAX : (1ULL << burst->n) - 1;
	unsigned n_passed;

	if (unlikely(lane->closed || !lane->begun || burst->cut != 0 ||
		     now_tsc >= lane->tap->deadline_tsc)) {
		lane_offer(lane, burst, mask, interface, now_tsc);
		return;
	}
	mask &= all;
	n_passed = __builtin_popcountll(mask);
	COUNTER_ADD(lane->offered, burst->n);
	if (n_passed != burst->n)
		COUNTER_ADD(lane->filtered, burst->n - n_passed);
	if (n_passed == 0)
		return;
	COUNTER_ADD(lane->if_accepted[interface], n_passed);
	while (mask != 0 && lane->pending[interface] == 0) {
		if (likely(lane->block != NULL))
			mask = run_put(lane, burst, mask, interface);
		if (likely(mask == 0))
			break;
		/* At a block's beginning or end, or in a chain. */
		lane_frame(lane, burst, mask & -mask, interface);
		mask &= mask - 1;
	}
	if (unlikely(mask != 0))
		lane_frame(lane, burst, mask, interface);
	if (unlikely(lane->used == BLOCK_SIZE && lane->block != NULL))
		lane_block_full(lane);
}

/* With no more than the whole program is built for. */
static void offer_base(struct lane *lane, const struct burst *burst, uint64_t mask,
	unsigned interface, uint64_t now_tsc)
{
	plain_offer(lane, burst, mask, interface, now_tsc);
}

static bool works_base(void)
{
	return true;
}

#ifdef __x86_64__
__attribute__((target("avx2,bmi,tune=haswell"))) static void offer_avx2(struct lane *lane,
	const struct burst *burst, uint64_t mask, unsigned interface, uint64_t now_tsc)
{
	plain_offer(lane, burst, mask, interface, now_tsc);
}

static bool works_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
}
#endif

const struct lane_way lane_plain_ways[] = {
#ifdef __x86_64__
	{"avx2", works_avx2, offer_avx2},
#endif
	{"base", works_base, offer_base},
};

lane_offer_fn *lane_plain_choose(void)
{
	const struct lane_way *way = lane_plain_ways;

	while (!way->works())
		way++;
	return way->offer;
}
