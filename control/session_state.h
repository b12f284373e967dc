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
struct event_base;

/* What a running session writes and loses, measured once a second; admission.c's own. */
struct admission_rate {
	uint64_t at_ns; /* of the counts; 0 = not yet */
	uint64_t submitted_bytes, accepted, no_block;
	double bytes;        /* a second, that it would write if no block were missing */
	double packet_bytes; /* captured, mean of the session */
	double dropped;      /* packets a second that found none */
};

/* Somebody waits for the end of a step. */
struct session_waiter {
	session_done *done;
	void *arg;
	struct session_waiter *next;
};

/* What a session has only from starting to the end of stopping. */
struct session_run {
	struct session *session;
	struct filter *filter;
	struct event *filter_event;
	struct event *time_event;
	uint64_t start_ns;        /* monotonic; when the limit of time began to run */
	struct event *stop_event; /* a stop waits for what the sources still hold */
	enum end_reason stop_reason;
	unsigned n_acquired; /* ports started for us so far */
	struct err start_err;
	struct device_wait device_wait;
	struct publish_wait start_wait;
	bool start_pending; /* the publication that start_wait waits for is under way */
	struct publish_wait remove_wait;
	struct job refresh;
	struct tap *tap;   /* NULL before it is made and after its grace period */
	bool ending;       /* taken out of the rx_set's live taps */
	bool full;         /* its capture waits for space */
	bool index_told;   /* that its index could not be written */
	bool removing;     /* drained, on its way out of the rx_set */
	bool unplugged;    /* out of the rx_set, ports released */
	bool finished;     /* files closed or handed to a merge */
	bool finish_again; /* closing them failed once */
	int finish_rc;
	struct capture *capture;               /* NULL but for output file */
	struct event *files_event;             /* the files are to be there by then */
	int stream_fd;                         /* -1 but for output stream */
	char stream_filter[STREAM_FILTER_MAX]; /* what is not our own stream; "" */
	struct session_waiter *started;
	void (*begins)(struct session *session);
	uint64_t port_offered[CONFIG_PORTS_MAX]; /* the ports' counters at the start */
	uint64_t port_missed[CONFIG_PORTS_MAX];
	struct admission_rate rate;
	unsigned level_min; /* of degrading: it began so, and never gets more */
};

/* A session's object in a bucket. */
struct session_upload {
	enum session_upload_state state;
	uint64_t attempts;
	unsigned n_failures; /* in a row, with nothing got through */
	uint64_t begun_ns;   /* monotonic, by this daemon */
	uint64_t next_ns;    /* wall clock; 0 = not waiting */
	uint64_t bytes, total_bytes;
	uint64_t verified_ns; /* wall clock */
	char *message;
	bool local_gone;
	bool deleting;           /* no attempt begins; it waits for one that runs */
	struct event *event;     /* the next attempt */
	struct upload_job *work; /* an attempt */
};

struct session {
	struct uuid id;
	uint64_t serial;
	char *name, *notes, *account, *owner, *filter, *vendor, *message;
	enum session_dialect dialect;
	enum session_state state;
	enum end_reason reason;
	unsigned n_ports;
	uint8_t ports[CONFIG_PORTS_MAX]; /* engine indexes; valid while run != NULL */
	char port_names[CONFIG_PORTS_MAX][CONFIG_NAME_MAX];
	enum filter_engine filter_engine;
	enum sample_mode sample_mode;
	uint64_t sample_n;
	uint64_t rate_pps;
	uint64_t snaplen_bytes;
	enum direction direction;
	uint64_t limit_packets, limit_bytes, limit_ns, limit_file_bytes;
	uint64_t expected_bytes, expected_packets;
	struct session_degraded degraded;
	struct session_events *events; /* NULL: none */
	enum session_output output;
	char *stream_address;
	uint64_t stream_port;
	enum stream_encapsulation encapsulation;
	char *bucket, *prefix, *key; /* "" but for output s3 */
	struct session_upload upload;
	struct uuid replaces; /* all zero = none */
	bool replaced;        /* and gone */
	uint64_t created_ns, started_ns, ended_ns;
	uint64_t size_bytes;
	uint64_t left_bytes;      /* on the disk, of a file that could not be closed */
	struct capture *unclosed; /* that file: closing it is tried again */
	bool unmerged;        /* its lanes could not become the file of size_bytes: tried again */
	uint64_t unclosed_ns; /* monotonic: the last try of either */
	bool closing_again;   /* such a try runs: a deletion waits for its end */
	struct ledger ledger; /* once run is gone; while it runs the tap's counters are the truth */
	bool queued;          /* converting, and the bulk worker is at something else */
	bool expiring;
	bool expire_failed; /* and is not tried again */
	bool record_bad;    /* what was there could not be believed */
	bool record_stale; /* changed while a merge, a closing or an expiry held a record of its own */
	unsigned n_jobs; /* that hold a pointer to the session; it is freed when none does */
	bool orphan;     /* its start failed: the last job frees it */
	struct session_job *leaving; /* its files are gone: so is it when no other job has it */
	unsigned n_readers;          /* of its files */
	uint64_t aged_at_ns;         /* monotonic: it was closed or loaded then; 0 = not yet */
	uint64_t aged_ns; /* its age then, by the wall clock of then; 0 if it was closed */

	struct session_run *run;
	struct session_waiter *stopped; /* told when state is past stopping */
	struct session_waiter *closed;  /* told when state is closed (deletes wait for it, too) */
	struct session_waiter *deleters;

	/* table.c's own */
	struct session *hash_next;
	struct session *newer, *older;
	struct session *active_next, **active_at; /* active_at NULL: it rests */
};

/* Nothing of it is still to be uploaded: retention may have the local file. */
static inline bool session_uploaded(const struct session *session)
{
	return session->output != OUTPUT_S3 || session->upload.state == UPLOAD_verified;
}

/* When a closed session ended, wall clock; some never began. */
static inline uint64_t session_ended_ns(const struct session *session)
{
	return session->ended_ns != 0 ? session->ended_ns : session->created_ns;
}

/* What its closed file takes here; an uploaded one may be in its bucket only. */
static inline uint64_t session_local_bytes(const struct session *session)
{
	return session->upload.local_gone ? 0 : session->size_bytes;
}

void session_state_set(struct session *session, enum session_state state);
void session_message_set(struct session *session, const char *message);
void session_free(struct session *session);

/* control.c, on every engine event: push running and stopping sessions on. */
void session_engine_event(void);
/* control.c, after a device refresh: end sessions whose ports are all gone. */
void session_ports_check(void);
/* control.c, ten times a second: keep space ahead, sync, marks; remove what is replaced. */
void session_tend(void);
/* stall.c: the disk does not answer. Whoever waits for what this session has on it is answered now. */
void session_stalled(struct session *session, const char *text);
/* control.c, ten times a second: a wall clock that was set to another time is told to who runs. */
void session_clock_check(void);
/* control.c, at start: the captures that are on disk. */
int session_load(void);
/* quota.c: remove the data of a closed session, keep the record as deleted, with why as its message. Then
 * done; the state tells whether it could be. */
void session_expire(struct session *session, const char *why, void (*done)(void *arg), void *arg);

/* What all sessions share; session.c's. */
struct sessions {
	const struct config *config;
	struct event_base *base;
};
extern struct sessions sessions;

/* session_start.c: a session with its run, not yet in the table; NULL without memory. Begin: the first
 * waiter in run->started is told how it went. */
struct session *session_start_new(const struct session_spec *spec);
void session_start_begin(struct session *session);
/* Have the session end by its limit of time, as it is now. */
void session_time_set(struct session *session);

/* session_end.c: end a running session once what its sources still hold has been taken in; push it on
 * after an engine event; finish it when nothing is outstanding any more. */
void session_end_soon(struct session *session, enum end_reason reason);
void session_end_push(struct session *session);
void session_end_check(struct session *session);
void session_end_again(struct session *session);
/* What a session that ended for its reason is, once its file is closed. */
enum session_state session_end_state(const struct session *session);
void session_run_free(struct session_run *run);

/* session_job.c: merge the lanes (record: malloc'ed, NULL keeps the one that is there), recover what a
 * dead daemon left, write the record, delete a closed session. */
void session_job_merge(struct session *session, char *record);
void session_job_merge_again(struct session *session);
void session_job_recover(struct session *session);
/* Its record is not to be believed: finish its merge, if there is one, and take the counts of its file. */
void session_job_count(struct session *session);
void session_job_record(struct session *session, session_done *done, void *arg);
void session_job_delete(struct session *session, struct session_waiter *waiter);
/* Closed, or closed at last: its record tells what changed meanwhile, its upload begins, who waits is told. */
void session_job_closed(struct session *session, enum session_state state);
/* A job holds it, and does no more: the last one may free it. */
void session_hold(struct session *session);
void session_release(struct session *session);

/* session_upload.c: the file is closed, its upload begins or goes on; a session that is not closed is to be
 * deleted: closed waiters are told once nothing is being sent; what a loaded session still wants; free. */
void session_upload_begin(struct session *session);
void session_upload_cancel(struct session *session);
void session_upload_load(struct session *session);
void session_upload_fini(struct session *session);
/* Its part of an info. */
void session_upload_info(const struct session *session, struct session_info *info);
/* What session's deletion owes its bucket; false: nothing. */
bool session_upload_owes(const struct session *session, bool *keep_object, bool *look_twice);
/* Pay it soon. */
void session_upload_debts_soon(void);
/* control.c, once a second: debts, and now and then a look for dead uploads. */
void session_upload_tick(void);

/* session.c */
/* What it is once its file is closed: uploading, or what session_end_state says. */
enum session_state session_closed_state(const struct session *session);
void session_waiter_add(struct session_waiter **list, session_done *done, void *arg);
void session_waiters_tell(
	struct session_waiter **list, struct session *session, const struct err *err);
/* A session goes that was never closed: tell those who wait for that. */
void session_closed_tell_gone(struct session *session, const struct err *err);
/* Note what happened; without memory it goes unnoted. */
void session_event_add(struct session *session, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* It is stopping, and if the disk does not answer, nobody waits for the rest. */
void session_stopping_tell(struct session *session);
/* Has or will have files: what is to be done with it may have to wait for the disk. */
bool session_has_files(const struct session *session);
int session_text_set(char **member, const char *text);
/* Its id as text, for the log; lives until the next call. */
const char *session_id_text(const struct session *session);

/* main, once: what sessions need to know. */
void session_init(const struct config *config, struct event_base *base);
/* main, at the end: free what is in the table. */
void session_fini(void);

#endif
