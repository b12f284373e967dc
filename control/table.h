/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * All sessions: by id, and newest first. Beside them stand those that may still need tending, so that ten
 * thousand that are over cost those that run nothing. Control thread only.
 */
#ifndef CONTROL_TABLE_H
#define CONTROL_TABLE_H

#include <stdint.h>

#include "control/session_state.h"

/* A session whose serial is 0 gets the next one. */
void table_add(struct session *session);
void table_remove(struct session *session);
struct session *table_find(const struct uuid *id);
struct session *table_newest(void);
struct session *table_oldest(void);
unsigned table_count(void);

/* The newest that is tended, then active_next: every one that runs, and some that do no more. */
struct session *table_active(void);
/* It needs no more of that, for ever. */
void table_rest(struct session *session);

#endif
