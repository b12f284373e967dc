/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What the storage can take, measured: bytes a second onto space that was never written and onto space
 * whose device blocks were touched before, and the write size and depth that suit it. The result is kept
 * in ROOT/ceiling with what it was measured on. Nothing is measured while captures run: the measuring, on
 * the bulk worker, gives up as soon as one begins.
 */
#ifndef CONTROL_CEILING_H
#define CONTROL_CEILING_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

struct ceiling {
	uint64_t measured_at_ns;      /* wall clock */
	uint64_t fresh_bytes_per_s;   /* space that nobody wrote before */
	uint64_t touched_bytes_per_s; /* as on a spare */
	uint64_t write_bytes;         /* of one write */
	unsigned depth;               /* writes in flight */
};

/* Main, store open, before the loop: take the kept result, if it is of this storage. */
void ceiling_init(const struct config *config);

/* Control thread, once a second: measure if that is wanted, due, and nothing else is under way. */
void ceiling_tick(bool idle);

/* Any thread: somebody needs the storage now. What is being measured is thrown away, and measured another
 * time. */
void ceiling_yield(void);

/* Control thread. NULL: not known (yet). Valid until the next turn of the event loop. */
const struct ceiling *ceiling_get(void);

/* Control thread. Space that was touched before is so much faster that it is worth keeping. */
bool ceiling_touch_pays(void);

/* How long one setting is measured. Tests make it small. */
extern uint64_t ceiling_slice_ns;

/* For tests: measure in the directory, using at most size_max bytes of it. 0; -ECANCELED after
 * ceiling_yield; -EOPNOTSUPP: not on this file system; -ENOSPC: too little; or -errno. */
int ceiling_measure(int dir, uint64_t size_max, struct ceiling *ceiling);

/* Bytes a second of each setting, as measured; the index of the one to use. The first is the default, and
 * another must be clearly better. */
unsigned ceiling_choose(const uint64_t *rates, unsigned n);

#endif
