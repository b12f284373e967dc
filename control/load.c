/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/load.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/ceiling.h"
#include "engine/clock.h"
#include "engine/engine.h"

/* What grows, as it stood at the end of a window. */
struct counts {
	struct engine_status engine;
	uint64_t waited_ns[ENGINE_LCORES_MAX]; /* by engine.lcores */
	struct {
		uint64_t rx, missed, no_buffers, errors;
	} ports[CONFIG_PORTS_MAX];
};

static struct {
	struct load load;
	struct counts before;
	bool begun;
} state;

static void counts_take(struct counts *counts);
static uint64_t waited_read(int tid);
static void ports_measure(const struct counts *now, const struct counts *before);
static void lcores_measure(const struct counts *now, const struct counts *before);
static void lcore_measure(struct load_lcore *load, const struct engine_lcore *now,
	const struct engine_lcore *before, uint64_t waited_ns);
static void blocks_measure(const struct counts *now, const struct counts *before);
static void disk_measure(const struct counts *now, const struct counts *before);
static double rate(uint64_t now, uint64_t before);

void load_sample(void)
{
	struct load *load = &state.load;
	struct counts now;

	counts_take(&now);
	memset(load, 0, sizeof(*load));
	if (state.begun)
		load->window_ns = (uint64_t)((double)(now.engine.tsc - state.before.engine.tsc) *
					     CLOCK_NS_PER_S / clock_tsc_hz());
	if (load->window_ns != 0) {
		ports_measure(&now, &state.before);
		lcores_measure(&now, &state.before);
		blocks_measure(&now, &state.before);
		disk_measure(&now, &state.before);
	}
	state.before = now;
	state.begun = true;
}

const struct load *load_get(void)
{
	return &state.load;
}

unsigned load_percent(double part, double whole)
{
	return whole > 0 ? (unsigned)(part * 100 / whole + 0.5) : 0;
}

static void counts_take(struct counts *counts)
{
	memset(counts, 0, sizeof(*counts));
	engine_status(&counts->engine);
	for (unsigned i = 0; i < counts->engine.n_lcores; i++)
		counts->waited_ns[i] = waited_read(counts->engine.lcores[i].tid);
	for (unsigned i = 0; i < engine_ports(); i++) {
		const struct port *port = engine_port(i);

		for (unsigned q = 0; q < port->n_queues; q++)
			counts->ports[i].rx +=
				__atomic_load_n(&port->queues[q].polled, __ATOMIC_RELAXED);
		counts->ports[i].missed = __atomic_load_n(&port->nic_missed, __ATOMIC_RELAXED);
		counts->ports[i].no_buffers = __atomic_load_n(&port->nic_nombuf, __ATOMIC_RELAXED);
		counts->ports[i].errors = __atomic_load_n(&port->nic_errors, __ATOMIC_RELAXED);
	}
}

/* How long a thread of ours was ready to run and did not: the kernel knows, and the thread has nothing
 * to do for it. 0 where the kernel does not tell. */
static uint64_t waited_read(int tid)
{
	uint64_t waited_ns = 0;
	char path[64], text[96];
	ssize_t len = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
	fd = tid != 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		len = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[len > 0 ? len : 0] = '\0';
	return sscanf(text, "%*u %" SCNu64, &waited_ns) == 1 ? waited_ns : 0;
}

static void ports_measure(const struct counts *now, const struct counts *before)
{
	struct load *load = &state.load;

	load->n_ports = engine_ports();
	for (unsigned i = 0; i < load->n_ports; i++)
		load->ports[i] = (struct load_port){
			.port = engine_port(i),
			.packets = rate(now->ports[i].rx, before->ports[i].rx),
			.missed = rate(now->ports[i].missed, before->ports[i].missed),
			.no_buffers = rate(now->ports[i].no_buffers, before->ports[i].no_buffers),
			.errors = rate(now->ports[i].errors, before->ports[i].errors),
		};
}

static void lcores_measure(const struct counts *now, const struct counts *before)
{
	struct load *load = &state.load;

	for (unsigned i = 0; i < now->engine.n_lcores; i++) {
		const struct engine_lcore *lcore = &now->engine.lcores[i];

		lcore_measure(strcmp(lcore->role, "rx") == 0 ? &load->rx[load->n_rx++]
							     : &load->writers[load->n_writers++],
			lcore, &before->engine.lcores[i], now->waited_ns[i] - before->waited_ns[i]);
	}
}

static void lcore_measure(struct load_lcore *load, const struct engine_lcore *now,
	const struct engine_lcore *before, uint64_t waited_ns)
{
	*load = (struct load_lcore){
		.lcore = now->lcore,
		.cpu = now->cpu,
		.lanes = now->lanes,
		.spins = now->spins,
		/* Of the time that passed, not of the cycles counted: asleep counts nothing. */
		.busy_percent = load_percent(
			rate(now->cycles_useful, before->cycles_useful), (double)clock_tsc_hz()),
		.full_percent = load_percent((double)(now->polls_full - before->polls_full),
			(double)(now->polls - before->polls)),
		.waited_percent = load_percent((double)waited_ns, (double)state.load.window_ns),
	};
}

static void blocks_measure(const struct counts *now, const struct counts *before)
{
	state.load.blocks.total = now->engine.blocks;
	state.load.blocks.low = engine_blocks_low();
	state.load.blocks.missed = rate(now->engine.blocks_missed, before->engine.blocks_missed);
}

static void disk_measure(const struct counts *now, const struct counts *before)
{
	const struct ceiling *ceiling = ceiling_get();
	struct load *load = &state.load;

	if (ceiling != NULL)
		load->disk.ceiling_bytes = ceiling->touched_bytes_per_s > ceiling->fresh_bytes_per_s
						   ? ceiling->touched_bytes_per_s
						   : ceiling->fresh_bytes_per_s;
	load->disk.in_flight_max = now->engine.disk_writes_max;
	for (unsigned i = 0; i < now->engine.n_lcores; i++) {
		const struct engine_lcore *lcore = &now->engine.lcores[i];
		const struct engine_lcore *earlier = &before->engine.lcores[i];
		const unsigned busy_percent = load_percent(
			rate(lcore->disk_cycles, earlier->disk_cycles), (double)clock_tsc_hz());

		load->disk.bytes += rate(lcore->disk_bytes, earlier->disk_bytes);
		load->disk.slow_writes += lcore->disk_writes_slow - earlier->disk_writes_slow;
		load->disk.in_flight += lcore->disk_in_flight;
		if (busy_percent > load->disk.busy_percent)
			load->disk.busy_percent = busy_percent;
	}
}

static double rate(uint64_t now, uint64_t before)
{
	return (double)(now - before) * CLOCK_NS_PER_S / (double)state.load.window_ns;
}
