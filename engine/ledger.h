/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The books of one session, added up over its lanes. Each member is a sum of counters that are
 * incremented where their event happens; none is computed from the others, so that
 *   offered  = filtered + sampled_out + over_limit + accepted
 *   accepted = written + sum(dropped) + in_flight + unknown
 * can fail, and tests and `sluice balance` can see it. Bursts that a filter rejects as a whole may
 * be missing from offered and filtered for a quarter of a second, from both alike; never at the end
 * (lane.h, lane_catch_up).
 */
#ifndef ENGINE_LEDGER_H
#define ENGINE_LEDGER_H

#include <stdint.h>

#include "engine/drop.h"

#define LEDGER_UNBOUNDED UINT64_MAX

struct ledger {
	uint64_t offered;
	uint64_t filtered;
	uint64_t sampled_out;
	uint64_t over_limit;
	uint64_t accepted;
	uint64_t written;     /* in the file, or handed to the sink that was asked for */
	uint64_t durable;     /* of these, behind a successful fdatasync */
	uint64_t in_flight;   /* framed into blocks and not yet settled by a writer */
	uint64_t unknown;     /* after a recovery: accepted, fate not known; at least so many */
	uint64_t unknown_max; /* and at most; LEDGER_UNBOUNDED: nobody knows */
	uint64_t dropped[DROP_COUNT];
	uint64_t written_bytes; /* captured lengths of the written packets */
	uint64_t stamps_raised; /* time stamps that were older than the one before and were raised
				   to it */
};

#endif
