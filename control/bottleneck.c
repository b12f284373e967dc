/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/bottleneck.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/stall.h"
#include "engine/clock.h"
#include "engine/engine.h"

#define HOLD_SAMPLES      5  /* a finding is shown this long after it was last seen */
#define CORE_BUSY_PERCENT 95 /* of the time: it has no room left */
/* Of the polls that brought packets: a source that fills half of them has more than is taken. */
#define POLLS_FULL_PERCENT  50
#define CORE_WAITED_PERCENT 20 /* of the time without its CPU: losses are put down to that */
#define DISK_BUSY_PERCENT   90 /* of the time with a write in flight: it never had a pause */
#define DISK_LOAD_PERCENT   90 /* of its ceiling */
#define BLOCKS_LOW_PERCENT  5  /* of the blocks free at worst: the next burst finds none */

static struct {
	struct bottleneck shown;
	unsigned hold;
	uint64_t since_ns;
} state = {.shown = {.text = "nothing was measured yet"}};

static double lost_before_rx(const struct load *load, const struct load_port **worst);
static bool core_saturated(const struct load_lcore *lcore);
static const struct load_lcore *core_find(const struct load *load, const struct port *port,
	bool (*wrong)(const struct load_lcore *lcore));
static bool core_waited(const struct load_lcore *lcore);
static bool disk_is_the_limit(const struct load *load);
static void blocks_judge(const struct load *load, struct bottleneck *bottleneck);
static void port_judge(
	const struct load *load, const struct load_port *port, struct bottleneck *bottleneck);
static void core_judge(const struct load_lcore *lcore, struct bottleneck *bottleneck);
static void nothing_judge(const struct load *load, struct bottleneck *bottleneck);
static void disk_text(const struct load *load, char *text, size_t size);
static void say(struct bottleneck *bottleneck, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

void bottleneck_judge(const struct load *load, struct bottleneck *bottleneck)
{
	const struct load_port *port = NULL;
	const struct load_lcore *lcore = core_find(load, NULL, core_saturated);
	const double lost = lost_before_rx(load, &port);

	memset(bottleneck, 0, sizeof(*bottleneck));
	bottleneck->losing = lost > 0 || load->blocks.missed > 0;
	if (load->blocks.missed > 0 && load->blocks.missed >= lost)
		blocks_judge(load, bottleneck);
	else if (lost > 0)
		port_judge(load, port, bottleneck);
	else if (load->blocks.low < load->blocks.total * BLOCKS_LOW_PERCENT / 100)
		blocks_judge(load, bottleneck);
	else if (lcore != NULL)
		core_judge(lcore, bottleneck);
	else
		nothing_judge(load, bottleneck);
}

void bottleneck_sample(void)
{
	struct bottleneck now;

	bottleneck_judge(load_get(), &now);
	if (now.name == NULL && state.hold > 1) {
		state.hold--;
		return;
	}
	if (now.name != NULL)
		state.hold = HOLD_SAMPLES;
	if (now.name == NULL)
		state.since_ns = 0;
	else if (state.shown.name == NULL || strcmp(now.name, state.shown.name) != 0)
		state.since_ns = clock_wall_ns();
	state.shown = now;
}

const struct bottleneck *bottleneck_get(void)
{
	return &state.shown;
}

const char *bottleneck_name(void)
{
	return stall_get()->stalled ? "disk" : state.shown.name;
}

const char *bottleneck_text(void)
{
	return stall_get()->stalled ? stall_get()->text : state.shown.text;
}

uint64_t bottleneck_since_ns(void)
{
	return stall_get()->stalled ? stall_get()->since_ns : state.since_ns;
}

/* All ports' losses, and the port with most of them. */
static double lost_before_rx(const struct load *load, const struct load_port **worst)
{
	double lost = 0, most = 0;

	for (unsigned i = 0; i < load->n_ports; i++) {
		const double here = load->ports[i].missed + load->ports[i].no_buffers;

		lost += here;
		if (here > most) {
			most = here;
			*worst = &load->ports[i];
		}
	}
	return lost;
}

/* A lcore that spins is busy whenever something comes: only full bursts say that it falls behind. */
static bool core_saturated(const struct load_lcore *lcore)
{
	return lcore->lanes != 0 && lcore->busy_percent >= CORE_BUSY_PERCENT &&
	       (!lcore->spins || lcore->full_percent >= POLLS_FULL_PERCENT);
}

static bool core_waited(const struct load_lcore *lcore)
{
	return lcore->waited_percent >= CORE_WAITED_PERCENT;
}

/* The first RX lcore that is wrong; of those that poll port, or of all. */
static const struct load_lcore *core_find(const struct load *load, const struct port *port,
	bool (*wrong)(const struct load_lcore *lcore))
{
	for (unsigned i = 0; i < load->n_rx; i++) {
		bool polls = port == NULL;

		for (unsigned q = 0; port != NULL && q < port->n_queues; q++)
			polls = polls || port->queues[q].rx == i;
		if (polls && wrong(&load->rx[i]))
			return &load->rx[i];
	}
	return NULL;
}

static bool disk_is_the_limit(const struct load *load)
{
	return load->disk.busy_percent >= DISK_BUSY_PERCENT || load->disk.slow_writes != 0 ||
	       (load->disk.ceiling_bytes != 0 &&
		       load_percent(load->disk.bytes, (double)load->disk.ceiling_bytes) >=
			       DISK_LOAD_PERCENT);
}

static void blocks_judge(const struct load *load, struct bottleneck *bottleneck)
{
	char lost[96], disk[160];

	if (load->blocks.missed > 0)
		snprintf(lost, sizeof(lost), "%.0f packets a second found no free block",
			load->blocks.missed);
	else
		snprintf(lost, sizeof(lost), "only %u of %u blocks were free at worst",
			load->blocks.low, load->blocks.total);
	disk_text(load, disk, sizeof(disk));
	if (disk_is_the_limit(load)) {
		say(bottleneck, "disk", "%s, because the disk takes less than comes in: %s", lost,
			disk);
		return;
	}
	for (unsigned i = 0; i < load->n_writers; i++) {
		const struct load_lcore *writer = &load->writers[i];

		if (writer->busy_percent + writer->waited_percent < CORE_BUSY_PERCENT)
			continue;
		say(bottleneck, "blocks",
			"%s, because the writer on CPU %u has no time left: it is busy %u %% of "
			"the "
			"time and waits for its CPU %u %%",
			lost, writer->cpu, writer->busy_percent, writer->waited_percent);
		return;
	}
	say(bottleneck, "blocks",
		"%s, and the disk had time left: the block memory of %u blocks is too small for "
		"the bursts; %s",
		lost, load->blocks.total, disk);
}

static void port_judge(
	const struct load *load, const struct load_port *port, struct bottleneck *bottleneck)
{
	const char *name = port->port->config->name;
	const double lost = port->missed + port->no_buffers;
	const struct load_lcore *lcore = core_find(load, port->port, core_saturated);
	unsigned busy_percent = 0;

	if (lcore != NULL) {
		say(bottleneck, "rx_core",
			"port %s loses %.0f packets a second, because RX lcore %u on CPU %u has no "
			"time left: it is busy %u %% of the time",
			name, lost, lcore->lcore, lcore->cpu, lcore->busy_percent);
		return;
	}
	lcore = core_find(load, port->port, core_waited);
	if (lcore != NULL) {
		say(bottleneck, "rx_core",
			"port %s loses %.0f packets a second, and RX lcore %u could not run for %u "
			"%% of the time: something else has its CPU %u",
			name, lost, lcore->lcore, lcore->waited_percent, lcore->cpu);
		return;
	}
	for (unsigned i = 0; i < load->n_rx; i++)
		if (load->rx[i].busy_percent > busy_percent)
			busy_percent = load->rx[i].busy_percent;
	say(bottleneck, "nic",
		"port %s loses %.0f packets a second before an RX lcore sees them, and these have "
		"time left (busy %u %%): bursts are longer than its receive ring%s",
		name, lost, busy_percent,
		port->no_buffers > port->missed ? ", or its packet buffers too few" : "");
}

/* Nothing is lost that anybody could count. */
static void core_judge(const struct load_lcore *lcore, struct bottleneck *bottleneck)
{
	char waited[64] = "";

	if (core_waited(lcore))
		snprintf(waited, sizeof(waited), ", of which something else had its CPU %u %%",
			lcore->waited_percent);
	say(bottleneck, "rx_core",
		"RX lcore %u on CPU %u has no time left: it is busy %u %% of the time%s%s; no loss "
		"was seen",
		lcore->lcore, lcore->cpu, lcore->busy_percent, waited,
		lcore->spins ? ", and its source always has more" : "");
}

static void nothing_judge(const struct load *load, struct bottleneck *bottleneck)
{
	unsigned busy_percent = 0;
	char disk[160];

	for (unsigned i = 0; i < load->n_rx; i++)
		if (load->rx[i].busy_percent > busy_percent)
			busy_percent = load->rx[i].busy_percent;
	disk_text(load, disk, sizeof(disk));
	say(bottleneck, NULL,
		"nothing was lost: RX lcores are busy %u %% at most, %u of %u blocks were free at "
		"worst, %s",
		busy_percent, load->blocks.low, load->blocks.total, disk);
}

static void disk_text(const struct load *load, char *text, size_t size)
{
	const double ceiling = (double)load->disk.ceiling_bytes;
	char slow[64] = "", known[64] = "";

	if (load->disk.slow_writes != 0)
		snprintf(slow, sizeof(slow), ", %u writes took longer than %d ms",
			load->disk.slow_writes, ENGINE_WRITE_SLOW_MS);
	if (ceiling > 0)
		snprintf(known, sizeof(known), ", %u %% of its ceiling",
			load_percent(load->disk.bytes, ceiling));
	snprintf(text, size, "%.0f MB/s are written%s, a write is in flight %u %% of the time%s",
		load->disk.bytes / 1e6, known, load->disk.busy_percent, slow);
}

static void say(struct bottleneck *bottleneck, const char *name, const char *fmt, ...)
{
	va_list args;

	bottleneck->name = name;
	va_start(args, fmt);
	vsnprintf(bottleneck->text, sizeof(bottleneck->text), fmt, args);
	va_end(args);
}
