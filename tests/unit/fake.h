/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Control and engine for tests of the API: sessions that live in memory, follow the state machine
 * at once and whose file a test writes; ports from the configuration. Nothing is captured.
 */
#ifndef TESTS_UNIT_FAKE_H
#define TESTS_UNIT_FAKE_H

#include "config/config.h"
#include "control/session.h"
#include "control/watch.h"

/* Ports as config says; files of captures go under root. */
void fake_start(const struct config *config, const char *root);
void fake_stop(void);

/* The next session_create fails like this. code 0: no more. */
void fake_create_fail(int code, const char *field, const char *text);

/* A session as a test wants it. */
void fake_state_set(struct session *session, enum session_state state, enum end_reason reason);
void fake_ledger_set(struct session *session, const struct ledger *ledger);
void fake_created_set(struct session *session, uint64_t wall_ns);

/* Write a pcapng of n_packets packets as the session's file (lane < 0: the closed one). */
void fake_file_write(struct session *session, int lane, unsigned n_packets);

/* Tell whoever watches session; returns how many there are. Then: it has ended. */
unsigned fake_watch_tell(const struct session *session, unsigned n,
	const struct watch_packet *packets, uint64_t skipped);
void fake_watch_end(const struct session *session);

/* A spec's copy as the last session_create got it. */
const struct session_spec *fake_spec(void);

#endif
