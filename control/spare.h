/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Spares: files in ROOT/spare that read as zero and keep device blocks which were written before, because
 * many devices take longer where they were never written. A large file that is to be removed becomes one,
 * a large capture begins on one, and they are the first to go when room is short. On ext4 and XFS; on
 * others there are none. Everything blocks (storage, bulk and remove workers, and main before the loop),
 * except where said; a mutex orders the workers.
 */
#ifndef CONTROL_SPARE_H
#define CONTROL_SPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

#define SPARE_MIN (1ULL << 30) /* smaller files are not worth it */

/* Main, before store_open: what the configuration allows. Without it no spare is ever kept. */
void spare_init(const struct config *config);
/* store.c, with the root: make ROOT/spare, see what is there, remove what may not be kept. 0 or -errno. */
int spare_open(int root);
void spare_close(void);

/* Any thread, no blocking: what the spares take, and the most that they may. */
uint64_t spare_bytes(void);
uint64_t spare_limit_bytes(void);
/* ROOT/spare, for the file that spare_fill.c makes; -1 where spares are not kept. */
int spare_dir(void);

/*
 * dir/name is to be removed. True: it has become a spare and is gone from there. False: it is not
 * touched, since it is small or has holes, somebody has it open, or there are enough spares.
 */
bool spare_keep(int dir, const char *name);

/* A file that will hold about expect_bytes (UINT64_MAX: nobody knows) is to be made: dir/name, from the
 * smallest spare that suffices, else from the largest. Returns its size, all of it allocated and zero; 0:
 * there is no file, make one. */
uint64_t spare_take(int dir, const char *name, uint64_t expect_bytes);

/* Give back at least need_bytes to the file system, the smallest spares first. Returns how many it were. */
uint64_t spare_shrink(uint64_t need_bytes);

#endif
