/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A watchdog for the storage: a write or a job of the storage worker that is not done after 0.7 s
 * means that the disk does not answer. That is said (log, status, metrics, events of the captures that
 * write files), who waits for such a capture is answered, and new ones are refused until it is over.
 * Control thread; asks no disk anything.
 */
#ifndef CONTROL_STALL_H
#define CONTROL_STALL_H

#include <stdbool.h>
#include <stdint.h>

#define STALL_NS        700000000ULL /* unanswered for so long: it is stalled, told within a second */
#define STALL_TEXT_SIZE 128

struct stall {
	bool stalled;
	uint64_t
		since_ns; /* wall clock, of the oldest that is not answered; 0: it is not stalled */
	char text[STALL_TEXT_SIZE]; /* a sentence; "" */
	uint64_t n;                 /* how often it was */
	uint64_t ns;                /* how long, together; what goes on is not in it */
};

/* Ten times a second: look. */
void stall_tick(void);

/* The same struct with each call. */
const struct stall *stall_get(void);

#endif
