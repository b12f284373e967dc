/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/bottleneck.h"

#include <stdint.h>
#include <string.h>

#include "control/session.h"
#include "engine/engine.h"

#define HOLD_SAMPLES 5  /* a finding is shown this long after it was last seen */
#define BUSY_PERCENT 95 /* of an RX lcore's cycles: it has no room left */
#define DISK_WAIT_PERCENT \
	50 /* of a writer's time idle while blocks are missing: it waits for the disk */

struct sample {
	uint64_t nic_lost;
	uint64_t no_block;
	uint64_t rx_useful, rx_idle;
	uint64_t writer_useful, writer_idle;
};

static struct sample before;
static const char *found;
static unsigned hold;

static void sample_take(struct sample *sample);
static const char *sample_judge(const struct sample *now);
static unsigned percent(uint64_t part, uint64_t rest);

void bottleneck_sample(void)
{
	struct sample now;
	const char *name;

	sample_take(&now);
	name = sample_judge(&now);
	before = now;
	if (name != NULL) {
		found = name;
		hold = HOLD_SAMPLES;
	} else if (hold != 0) {
		hold--;
	}
}

const char *bottleneck_name(void)
{
	return hold != 0 ? found : NULL;
}

static void sample_take(struct sample *sample)
{
	struct engine_status status;

	memset(sample, 0, sizeof(*sample));
	for (unsigned i = 0; i < engine_ports(); i++) {
		const struct port *port = engine_port(i);

		sample->nic_lost += __atomic_load_n(&port->nic_missed, __ATOMIC_RELAXED) +
				    __atomic_load_n(&port->nic_nombuf, __ATOMIC_RELAXED);
	}
	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s)) {
		struct session_info info;

		session_info(s, &info);
		sample->no_block += info.ledger.dropped[DROP_no_block];
	}
	engine_status(&status);
	for (unsigned i = 0; i < status.n_lcores; i++) {
		const struct engine_lcore *lcore = &status.lcores[i];
		bool rx = strcmp(lcore->role, "rx") == 0;

		*(rx ? &sample->rx_useful : &sample->writer_useful) += lcore->cycles_useful;
		*(rx ? &sample->rx_idle : &sample->writer_idle) += lcore->cycles_idle;
	}
}

/* Missing blocks: the writer was busy (blocks: too few for the burst), or waited for the disk. Packets
 * lost before us: the RX lcore had no time, or had, and the NIC's ring was too small. */
static const char *sample_judge(const struct sample *now)
{
	unsigned writer_idle = percent(
		now->writer_idle - before.writer_idle, now->writer_useful - before.writer_useful);
	unsigned rx_busy =
		percent(now->rx_useful - before.rx_useful, now->rx_idle - before.rx_idle);

	if (now->no_block > before.no_block)
		return writer_idle >= DISK_WAIT_PERCENT ? "disk" : "blocks";
	if (now->nic_lost > before.nic_lost)
		return rx_busy >= BUSY_PERCENT ? "rx_core" : "nic";
	return NULL;
}

static unsigned percent(uint64_t part, uint64_t rest)
{
	return part + rest == 0 ? 0 : (unsigned)(part * 100 / (part + rest));
}
