/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A rate that is kept over time: packets come in bursts, as blocks are flushed, so what was not used
 * in the last PACE_BURST_NS may be used at once. Pure; any thread.
 */
#ifndef API_PACE_H
#define API_PACE_H

#include <stdint.h>

#define PACE_BURST_NS 600000000ULL

struct pace {
	uint64_t paid_ns; /* what is due up to this time was given out; 0: nothing yet */
};

/* How many of n the rate (a second, >= 1) allows at now_ns; they are given out. */
static inline unsigned pace_take(
	struct pace *pace, uint64_t rate_per_second, uint64_t now_ns, unsigned n)
{
	const uint64_t each_ns = 1000000000ULL / rate_per_second;
	/* A rate of less than one in a burst saves up for one. */
	const uint64_t burst_ns = each_ns > PACE_BURST_NS ? each_ns : PACE_BURST_NS;
	uint64_t allowed;

	if (pace->paid_ns + burst_ns < now_ns)
		pace->paid_ns = now_ns - burst_ns;
	allowed = (now_ns - pace->paid_ns) / each_ns;
	if (allowed > n)
		allowed = n;
	pace->paid_ns += allowed * each_ns;
	return (unsigned)allowed;
}

#endif
