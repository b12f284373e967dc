/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What all captures together bring to the disk, against what it takes. A new capture is judged by the
 * rate that it expects, running ones by what they are measured to bring, or expected if that is more. By
 * capture.overload an overload is told, new captures are refused, or captures are degraded: less is kept
 * of each packet, or of the packets, step by step, and given back when there is room again. Control
 * thread only.
 */
#ifndef CONTROL_ADMISSION_H
#define CONTROL_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "control/session.h"

struct admission_status {
	enum config_overload overload;
	uint64_t ceiling_bytes; /* a second; 0 = not known */
	uint64_t load_bytes; /* a second, measured or expected, of captures that are not closed */
	uint64_t left_bytes; /* 0 too where the ceiling is not known */
	unsigned n_degraded;
	uint64_t overloaded_since_ns; /* wall clock; 0 = running captures do not bring too much */
};

/* main, before the loop. */
void admission_init(const struct config *config);

/* May a capture of this spec begin? 0, or -EAGAIN with err: what it would write, the ceiling, what is
 * left. Refuses only where capture.overload says so, and not where the ceiling is not known. */
int admission_check(const struct session_spec *spec, struct err *err);
/* A session that was let in, listed and not started: degrade it if it brings too much, note that. */
void admission_begin(struct session *session);

/* Once a second, after bottleneck_sample: measure, tell, degrade, give back. */
void admission_tick(void);

void admission_status(struct admission_status *status);

/*
 * Pure. Bytes a second in the file: of packets that come at this rate (one of the two may be 0), when so
 * much is kept of them.
 */
double admission_bytes(double bytes, double packets, uint64_t snaplen_bytes,
	enum sample_mode sample_mode, uint64_t sample_n);

/* Pure. What is kept at a level by a session that asked for asked; false: there is no such level, or it
 * would keep no less than the one before. */
bool admission_level(enum config_degrade degrade, unsigned level,
	const struct session_degraded *asked, struct session_degraded *kept);

#endif
