/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The door of the engine: everything that control may call, and which of its threads may.
 *
 *  port queue --rx--> rx lcore --lanes--> block --ring--> writer --sink--> file
 *                        ^                  ^               |
 *                        | rx_set (RCU)     +---- ring -----+
 *  control: tap_new, engine_tap_add, engine_commit     event fd: limits reached, taps drained
 *
 * There is one engine in a process.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "engine/port.h"
#include "engine/tap.h"

/*
 * Main thread: EAL, clock, arena, ports opened, RX lcores and writers running. config must outlive
 * the engine. After a failure nothing is left running; EAL cannot be started twice in a process.
 */
int engine_start(const struct config *config, struct err *err);
/* Main thread. All taps freed before. */
void engine_stop(void);

/* Control thread. Readable when some tap raised its end or drained; engine_event_clear re-arms. */
int engine_event_fd(void);
void engine_event_clear(void);

/* Any thread. Ports in configuration order; the array is constant. */
unsigned engine_ports(void);
struct port *engine_port(unsigned index);
struct port *engine_port_find(const char *name);

/* Device thread: start or stop a device, refresh all ports' counters, link state and the clock. */
int engine_port_start(struct port *port, struct err *err);
void engine_port_stop(struct port *port);
void engine_refresh(void);

/*
 * Control thread. These change the next rx_set; engine_commit publishes it. done(arg) is called on
 * the control thread (from engine_event_clear) once no lcore can see the set before it any more.
 * engine_port_poll puts a started port into the poll lists or takes it out.
 */
void engine_port_poll(struct port *port, bool on);
void engine_tap_add(struct tap *tap);
/* What the tap keeps from the publication on; lanes may see the parts of it one by one before. */
void engine_tap_change(
	struct tap *tap, uint32_t snaplen_bytes, enum sample_mode sample_mode, uint32_t sample_n);
void engine_tap_end(struct tap *tap);
void engine_tap_remove(struct tap *tap);
int engine_commit(void (*done)(void *arg), void *arg);

/* Any thread: how the engine is doing. */
#define ENGINE_GAPS_MAX   16
#define ENGINE_LCORES_MAX (3 * CONFIG_CPUS_MAX) /* two writers to a CPU, see writer.h */
struct engine_lcore {
	unsigned lcore;
	unsigned cpu;
	const char *role; /* "rx" or "writer" */
	int tid;          /* of its thread, for /proc; 0 = not yet known */
	uint64_t cycles_useful;
	uint64_t cycles_idle;
	uint64_t rounds; /* grows while it moves */

	/* rx only */
	unsigned lanes;      /* of running captures */
	bool spins;          /* it polls a device: full bursts say more than cycles */
	uint64_t polls;      /* that brought packets */
	uint64_t polls_full; /* that brought a whole burst: the source had more */
	/* Rounds that took so long that nothing was polled for ENGINE_GAP_MIN_US, and the last of them,
	 * newest first. */
	uint64_t gaps;
	uint64_t gap_longest_ns;
	struct {
		uint64_t at_ns; /* wall clock */
		uint64_t ns;
	} gap_last[ENGINE_GAPS_MAX];

	/* writer only */
	uint64_t disk_bytes;       /* written */
	uint64_t disk_writes;      /* done */
	uint64_t disk_writes_slow; /* of these, took longer than ENGINE_WRITE_SLOW_MS */
	uint64_t disk_cycles;      /* with a write in flight */
	unsigned disk_in_flight;
	uint64_t disk_oldest_tsc; /* when the oldest write in flight was submitted; 0: none is */
};
#define ENGINE_WRITE_SLOW_MS 200
#define ENGINE_GAP_MIN_US    100

struct engine_status {
	uint64_t tsc; /* when this was read; what cycles are counted in */
	unsigned blocks;
	unsigned blocks_free;
	uint64_t blocks_missed;   /* packets that found none */
	unsigned disk_writes_max; /* that may be in flight, all writers */
	uint64_t block_bytes;
	bool hugepages; /* the arena stands on explicit hugepages */
	unsigned n_lcores;
	struct engine_lcore lcores[ENGINE_LCORES_MAX];
};
void engine_status(struct engine_status *status);

/* Any thread: how large writes become when there is enough to write, and how many are in flight per
 * writer: what suits the storage. */
void engine_writes_set(uint32_t write_bytes, unsigned depth);

/* Any thread: whoever sleeps makes a round, and rounds grow. */
void engine_wake(void);

/* Control thread: the fewest blocks that were free since the last call. */
unsigned engine_blocks_low(void);

/* Any thread: "uring" or "pwrite", what files are written with. */
const char *engine_sink_name(void);

#endif
