/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which resource loses packets or is about to: named from the counters of the last seconds. Control
 * thread.
 */
#ifndef CONTROL_BOTTLENECK_H
#define CONTROL_BOTTLENECK_H

/* Once a second: take a sample of the counters. */
void bottleneck_sample(void);

/* NULL, "nic", "rx_core", "blocks" or "disk". */
const char *bottleneck_name(void);

#endif
