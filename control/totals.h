/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What all captures of this process came to, also of those that are deleted by now: counters that
 * never fall, for whoever watches rates. Captures that an earlier process made are not in it.
 * Control thread only.
 */
#ifndef CONTROL_TOTALS_H
#define CONTROL_TOTALS_H

#include "engine/ledger.h"

/* A session's counters are frozen and its run is over: once for each. */
void totals_add(const struct ledger *ledger);

/* Ended and running sessions together. */
void totals_read(struct ledger *sum);

/* What this process recovered of what earlier ones left. */
struct totals_recovered {
	uint64_t captures;
	uint64_t packets;
	uint64_t rescued; /* of packets: behind a gap */
	uint64_t gaps;
	uint64_t gap_packets; /* lost in gaps */
	uint64_t unknown;
};
struct merge_recovery;
void totals_recovered(const struct merge_recovery *recovery);
void totals_recovered_read(struct totals_recovered *sum);

/* What retention removed, and why. */
#define TOTALS_REASONS(X) X(age) X(quota) X(account)

enum totals_reason {
#define X(name) REMOVED_##name,
	TOTALS_REASONS(X)
#undef X
		REMOVED_COUNT,
};

struct totals_removed {
	struct {
		uint64_t captures;
		uint64_t bytes;
	} by[REMOVED_COUNT];
	uint64_t lost_captures; /* of them: whose upload was given up */
	uint64_t lost_packets;
};
void totals_removed(enum totals_reason reason, uint64_t bytes);
void totals_lost(uint64_t packets);
void totals_removed_read(struct totals_removed *sum);

#endif
