/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What the storage may hold, and for how long: storage.quota, and 5 % of the file system that always
 * stays free; each account's share of it; storage.keep. At the quota spares go, then the oldest finished
 * captures, or new ones are refused; a running one is never touched while the disk has room. Nothing
 * that is in use goes, nor what is still to be uploaded. Control thread.
 */
#ifndef CONTROL_QUOTA_H
#define CONTROL_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

/* Main, once, before the loop: measures. */
void quota_init(const struct config *config);

/* Some times a second: measure the file system on a worker, then remove what is to go, one after the
 * other. */
void quota_tick(void);

/* May another capture of account ("*": nobody's) begin? -ENOSPC with err if there is no room, on the whole
 * or of its share, and none can be made. */
int quota_check(const char *account, struct err *err);

/* Nothing is left to remove and the disk is about to be full: captures that wait get no more space. */
bool quota_holds(void);

/* storage.keep is set, and nothing goes by age: the wall clock was set, or we have just begun. */
bool quota_age_paused(void);

uint64_t quota_size_bytes(void);  /* of the file system */
uint64_t quota_free_bytes(void);  /* of it, a second ago */
uint64_t quota_used_bytes(void);  /* by captures and spares */
uint64_t quota_limit_bytes(void); /* what Sluice may use */

#endif
