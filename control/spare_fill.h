/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Makes spares where there are too few: while nothing else runs and the storage was measured to be slow
 * on new space, writes a fifth of the time at idle priority, on the bulk worker. In a daemon's life it
 * writes the spares once, and after that no more than captures wrote onto them.
 */
#ifndef CONTROL_SPARE_FILL_H
#define CONTROL_SPARE_FILL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

/* Main, store open, before the loop. */
void spare_fill_init(const struct config *config);
/* Main, workers stopped, before store_close: what is large enough already becomes a spare. */
void spare_fill_fini(void);

/* Control thread, once a second. */
void spare_fill_tick(bool idle);
/* Any thread: the storage is needed now. */
void spare_fill_yield(void);
/* Any thread: a capture wrote so much onto a spare. */
void spare_fill_used(uint64_t bytes);
/* Any thread: what the spare that is being made takes. */
uint64_t spare_fill_bytes(void);

#endif
