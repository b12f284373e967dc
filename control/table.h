/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * All sessions: by id, and newest first. Control thread only.
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

#endif
