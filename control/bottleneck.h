/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which resource loses packets, or is about to: one of four names, and a sentence with the figures it
 * follows from. Control thread only.
 *
 *   nic      lost before an RX lcore saw them, which had time left: bursts are longer than the ring
 *   rx_core  an RX lcore has no time left, or something else takes its CPU
 *   blocks   no free block, and the disk was not the reason: too few for the bursts
 *   disk     no free block, because the disk takes less than comes in
 */
#ifndef CONTROL_BOTTLENECK_H
#define CONTROL_BOTTLENECK_H

#include <stdbool.h>
#include <stdint.h>

#include "control/load.h"

#define BOTTLENECK_TEXT_SIZE 384

struct bottleneck {
	const char *name; /* NULL: there is none */
	bool losing;      /* else it has no room left, and what it cannot take is lost next */
	char text[BOTTLENECK_TEXT_SIZE];
};

/* Pure: what follows from one window. */
void bottleneck_judge(const struct load *load, struct bottleneck *bottleneck);

/* Once a second, after load_sample: judge the window. A finding stays for some seconds after it was
 * last seen, so that who asks in between learns of it. */
void bottleneck_sample(void);

/* The same struct with each call. */
const struct bottleneck *bottleneck_get(void);
/* NULL, "nic", "rx_core", "blocks" or "disk": the last at once where the disk does not answer. */
const char *bottleneck_name(void);
/* The sentence that goes with the name. */
const char *bottleneck_text(void);
/* Wall clock: since when it has been this one, 0 if there is none. */
uint64_t bottleneck_since_ns(void);

#endif
