/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Between lane.c, which knows every case, and lane_plain.c, which knows the common one.
 */
#ifndef ENGINE_LANE_INTERNAL_H
#define ENGINE_LANE_INTERNAL_H

#include "engine/lane.h"

/* lcore. The general way of the packets in mask into the stream; no limit is asked. */
void lane_frame(struct lane *lane, const struct burst *burst, uint64_t mask, unsigned interface);

/* lcore. Hand over the lane's block, which is full. */
void lane_block_full(struct lane *lane);

/* lane_offer for lanes without options, limits, samples or directions, best first; the last works anywhere. */
struct lane_way {
	const char *name;
	bool (*works)(void); /* on this CPU */
	lane_offer_fn *offer;
};
extern const struct lane_way lane_plain_ways[];

/* Any thread. */
lane_offer_fn *lane_plain_choose(void);

#endif
