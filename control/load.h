/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * How busy each resource on a packet's way was in the last second: ports, RX lcores, block memory,
 * writers, disk. Measured from the counters that count anyway; what follows from it is bottleneck.h's
 * to say. Control thread only.
 */
#ifndef CONTROL_LOAD_H
#define CONTROL_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "engine/port.h"

/* Packets a second. */
struct load_port {
	const struct port *port;
	double packets;    /* taken by the RX lcores */
	double missed;     /* lost because nobody took them in time */
	double no_buffers; /* lost because no packet buffer was free */
	double errors;
};

struct load_lcore {
	unsigned lcore;
	unsigned cpu;
	unsigned lanes; /* of running captures; RX only */
	bool spins;     /* polls a device */
	unsigned busy_percent;
	unsigned
		full_percent; /* of the polls that brought packets, those that found more waiting */
	unsigned waited_percent; /* of the time: ready to run, and something else had the CPU */
};

struct load {
	uint64_t window_ns; /* 0: nothing was measured yet */

	unsigned n_ports;
	struct load_port ports[CONFIG_PORTS_MAX]; /* in the engine's order */
	unsigned n_rx;
	struct load_lcore rx[CONFIG_CPUS_MAX];
	unsigned n_writers;
	struct load_lcore writers[2 * CONFIG_CPUS_MAX];
	struct {
		unsigned total;
		unsigned low;  /* the fewest that were free */
		double missed; /* packets a second that found no free block */
	} blocks;
	struct {
		double bytes;           /* a second, handed to the files */
		uint64_t ceiling_bytes; /* a second; 0 = not known */
		unsigned busy_percent;  /* of the time: a write was in flight */
		unsigned in_flight;
		unsigned in_flight_max;
		unsigned slow_writes; /* took longer than ENGINE_WRITE_SLOW_MS */
	} disk;
};

/* Once a second: close the window and begin the next. */
void load_sample(void);

/* The last whole window; the same struct with each call. */
const struct load *load_get(void);

/* part of whole in percent, to the nearest; 0 where there is no whole. */
unsigned load_percent(double part, double whole);

#endif
