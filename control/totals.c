/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/totals.h"

#include "control/merge.h"
#include "control/session_state.h"
#include "control/table.h"

static struct ledger ended;
static struct totals_recovered recovered;
static struct totals_removed removed;

static void ledger_add(struct ledger *sum, const struct ledger *ledger);

void totals_add(const struct ledger *ledger)
{
	ledger_add(&ended, ledger);
}

void totals_read(struct ledger *sum)
{
	*sum = ended;
	for (const struct session *s = table_active(); s != NULL; s = s->active_next) {
		struct session_info info;

		if (s->run == NULL)
			continue;
		session_info(s, &info);
		ledger_add(sum, &info.ledger);
	}
}

void totals_recovered(const struct merge_recovery *recovery)
{
	recovered.captures++;
	recovered.packets += recovery->packets;
	recovered.rescued += recovery->rescued;
	recovered.gaps += recovery->n_gaps;
	recovered.gap_packets += recovery->gap_packets;
	recovered.unknown += recovery->ledger.unknown;
}

void totals_recovered_read(struct totals_recovered *sum)
{
	*sum = recovered;
}

void totals_removed(enum totals_reason reason, uint64_t bytes)
{
	removed.by[reason].captures++;
	removed.by[reason].bytes += bytes;
}

void totals_lost(uint64_t packets)
{
	removed.lost_captures++;
	removed.lost_packets += packets;
}

void totals_removed_read(struct totals_removed *sum)
{
	*sum = removed;
}

static void ledger_add(struct ledger *sum, const struct ledger *ledger)
{
	sum->offered += ledger->offered;
	sum->filtered += ledger->filtered;
	sum->sampled_out += ledger->sampled_out;
	sum->over_limit += ledger->over_limit;
	sum->accepted += ledger->accepted;
	sum->written += ledger->written;
	sum->durable += ledger->durable;
	sum->in_flight += ledger->in_flight;
	sum->unknown += ledger->unknown;
	for (unsigned i = 0; i < DROP_COUNT; i++)
		sum->dropped[i] += ledger->dropped[i];
	sum->written_bytes += ledger->written_bytes;
	sum->stamps_raised += ledger->stamps_raised;
}
