/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A session as the text that stands beside its file: one line of JSON, then a line with a checksum over
 * that and the capture's id, so that a damaged or exchanged record is known for what it is. Pure; control
 * thread.
 */
#ifndef CONTROL_RECORD_H
#define CONTROL_RECORD_H

#include "config/err.h"
#include "control/session_state.h"

/* Version of the format: what a newer daemon wrote is refused, not guessed at. Version 1 had no
 * checksum and is still read. */
#define RECORD_VERSION 2

/* malloc'ed text, or NULL without memory. state and reason are what the record shall say. */
char *record_print(const struct session *session, enum session_state state);

/* A session with everything the record holds and no run. NULL with err; code ENOTSUP: of a version that
 * is newer than ours. */
struct session *record_parse(const struct uuid *id, const char *text, struct err *err);

#endif
