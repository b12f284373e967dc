/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A session from the inside: for the files of control/ only. The API sees session.h.
 */
#ifndef CONTROL_SESSION_STATE_H
#define CONTROL_SESSION_STATE_H

#include "control/capture.h"
#include "control/device.h"
#include "control/job.h"
#include "control/publish.h"
#include "control/session.h"

struct event;

/* Somebody waits for the end of a step. */
struct session_waiter {
	session_done *done;
	void *arg;
	struct session_waiter *next;
};

struct session_watch {
	struct session *session;
	void (*fn)(struct session *session, enum session_state state, void *arg);
	void *arg;
	struct session_watch *next;
};

/* What a session has only from starting to the end of stopping. */
struct session_run {
	struct session *session;
	struct filter *filter;
	struct event *filter_event;
	struct event *time_event;
	struct event *stop_event; /* a stop waits for what the sources still hold */
	enum end_reason stop_reason;
	unsigned n_acquired; /* ports started for us so far */
	struct err start_err;
	struct device_wait device_wait;
	struct publish_wait start_wait;
	bool start_pending; /* the publication that start_wait waits for is under way */
	struct publish_wait remove_wait;
	struct job refresh;
	struct tap *tap; /* NULL before it is made and after its grace period */
	bool ending;	 /* taken out of the rx_set's live taps */
	bool removing;	 /* drained, on its way out of the rx_set */
	bool unplugged;	 /* out of the rx_set, ports released */
	bool finished;	 /* files closed or handed to a merge */
	int finish_rc;
	struct capture *capture; /* NULL for output none */
	struct session_waiter *started;
	uint64_t port_offered[CONFIG_PORTS_MAX]; /* the ports' counters at the start */
	uint64_t port_missed[CONFIG_PORTS_MAX];
};

struct session {
	struct uuid id;
	uint64_t serial;
	char *name, *notes, *account, *owner, *filter, *vendor, *message;
	enum session_dialect dialect;
	enum session_state state;
	enum end_reason reason;
	unsigned n_ports;
	uint8_t ports[CONFIG_PORTS_MAX];	      /* engine indexes; valid while run != NULL */
	char port_names[CONFIG_PORTS_MAX][CONFIG_NAME_MAX];
	enum filter_engine filter_engine;
	enum sample_mode sample_mode;
	uint64_t sample_n;
	uint64_t snaplen_bytes;
	enum direction direction;
	uint64_t limit_packets, limit_bytes, limit_ns, limit_file_bytes;
	enum session_output output;
	uint64_t created_ns, started_ns, ended_ns;
	uint64_t size_bytes;
	struct ledger ledger; /* once run is gone; while it runs the tap's counters are the truth */
	bool queued;	      /* converting, and the bulk worker is at something else */
	bool expiring;
	unsigned n_jobs; /* that hold a pointer to the session; it is freed when none does */

	struct session_run *run;
	struct session_waiter *stopped; /* told when state is past stopping */
	struct session_waiter *closed;	/* told when state is closed (a delete waits for it) */
	struct session_waiter *deleters;
	struct session_watch *watches;

	/* table.c's own */
	struct session *hash_next;
	struct session *newer, *older;
};

/* Change the state, tell watches. */
void session_state_set(struct session *session, enum session_state state);
void session_message_set(struct session *session, const char *message);
void session_free(struct session *session);

/* control.c, on every engine event: push running and stopping sessions on. */
void session_engine_event(void);
/* control.c, after a device refresh: end sessions whose ports are all gone. */
void session_ports_check(void);
/* control.c, ten times a second: keep space ahead, sync, marks. */
void session_tend(void);
/* control.c, at start: the captures that are on disk. */
int session_load(void);
/* Sessions that are not closed. */
unsigned session_open_count(void);
/* quota.c: remove the data of a closed session, keep the record as deleted. */
void session_expire(struct session *session, void (*done)(void *arg), void *arg);

/* main, once: what sessions need to know. */
struct event_base;
void session_init(const struct config *config, struct event_base *base);
/* main, at the end: free what is in the table. */
void session_fini(void);

#endif
