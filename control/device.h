/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which ports run: those with poll = always from start to end, the others from the first session that
 * wants them to the last. Starting and stopping happens on the device worker. Control thread only.
 */
#ifndef CONTROL_DEVICE_H
#define CONTROL_DEVICE_H

#include "config/err.h"
#include "engine/port.h"

/* Embedded in what waits for a port. */
struct device_wait {
	/* err->code is 0 when the port runs (or, for a release, when that is over) */
	void (*done)(struct device_wait *wait, const struct err *err);
	struct device_wait *next;
};

/* Main thread, before the workers: start the ports that always run. 0 or -errno with err. */
int device_start(struct err *err);

/*
 * One more session wants the port. done comes at once or after the device has started; the caller then
 * puts its tap and the port's poll entry (engine_port_poll) into the same publication.
 */
void device_acquire(struct port *port, struct device_wait *wait);

/*
 * One less. The last one stops a port that runs only when wanted: its poll entry leaves the rx_set,
 * grace period, device stop, then done. Other ports: done at once.
 */
void device_release(struct port *port, struct device_wait *wait);

/* Ten times a second: refresh counters, links and the clock on the device worker. */
void device_refresh(void (*done)(void));

#endif
