/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What is done to a session's directory: its record, merge, recovery, deletion, expiry. A job holds
 * its session: it is not freed before the last of them is done. Control thread, but for the functions
 * called *_work, which run on a worker.
 */
#include "control/session_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/memory.h"
#include "control/merge.h"
#include "control/record.h"
#include "control/store.h"
#include "control/table.h"
#include "control/totals.h"
#include "control/upload.h"
#include "engine/clock.h"

/* A record, a deletion, a merge: work on a session's directory. */
struct session_job {
	struct job job;
	struct session *session;
	struct uuid id;
	char *record;
	int rc;
	uint64_t size_bytes;
	struct merge_recovery recovery;
	struct err err;
	session_done *done;
	void *arg;
	void (*expired)(void *arg);
	char why[320];                      /* it is expired: its message from then on */
	bool owes, keep_object, look_twice; /* to a bucket, as a deletion leaves it */
	char bucket[CONFIG_NAME_MAX];
	char key[S3_KEY_MAX];
};

static void merge_work(struct job *job);
static void merge_done(struct job *job);
static void merge_again_done(struct job *job);
static void merge_failed(struct session *session, int rc);
static void recover_work(struct job *job);
static void recover_done(struct job *job);
static void recovery_take(struct session *session, const struct session_job *work);
static void count_work(struct job *job);
static void count_done(struct job *job);
static void count_take(struct session *session, const struct session_job *work);
static struct session_job *job_make(
	struct session *session, void (*run)(struct job *job), void (*done)(struct job *job));
static void job_end(struct session_job *work);
static void job_begin(struct session_job *work, enum worker worker);
static void nothing_work(struct job *job);
static void record_work(struct job *job);
static void record_done(struct job *job);
static void delete_work(struct job *job);
static void delete_done(struct job *job);
static void delete_end(struct session_job *work);
static void expire_work(struct job *job);
static void expire_done(struct job *job);
static char *expired_record(struct session *session, char *why);

static const struct err no_error;

void session_job_record(struct session *session, session_done *done, void *arg)
{
	struct session_job *work = job_make(session, record_work, record_done);

	session->record_stale =
		session->state == SESSION_converting || session->closing_again || session->expiring;
	work->record = record_print(session, session->state);
	work->done = done;
	work->arg = arg;
	job_begin(work, WORKER_STORAGE);
}

void session_expire(struct session *session, const char *why, void (*done)(void *arg), void *arg)
{
	struct session_job *work = job_make(session, expire_work, expire_done);
	const char *before = session->message;
	const bool more = before != NULL && before[0] != '\0';

	session->expiring = true;
	snprintf(work->why, sizeof(work->why), "%s%s%s", why, more ? "; before: " : "",
		more ? before : "");
	work->expired = done;
	work->arg = arg;
	work->record = expired_record(session, work->why);
	job_post(WORKER_REMOVE, &work->job);
}

/* The lanes become one file, on the bulk worker. record NULL: the one that is there says all. */
void session_job_merge(struct session *session, char *record)
{
	struct session_job *work = job_make(session, merge_work, merge_done);

	session->queued = true;
	work->record = record;
	work->job.work = FAULT_WORK_MERGE;
	job_post(WORKER_BULK, &work->job);
}

static void merge_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	__atomic_store_n(&work->session->queued, false, __ATOMIC_RELAXED);
	work->rc = merge_run(&work->id, work->record, &work->size_bytes);
}

static void merge_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;
	enum session_state state = session_closed_state(session);

	if (work->rc == -ECANCELED) {
		/* The daemon is going down; the next one goes on. */
		job_end(work);
		return;
	}
	if (work->rc == 0) {
		session->size_bytes = work->size_bytes;
	} else {
		log_error("capture %s cannot be merged: %s", session_id_text(session),
			strerror(-work->rc));
		session_message_set(session, "the lanes could not be merged");
		session->reason = work->rc == -ENOSPC ? END_disk_full : END_io_error;
		merge_failed(session, work->rc);
		state = SESSION_failed;
	}
	session_job_closed(session, state);
	job_end(work);
}

/* Its record keeps saying what the file will have. */
static void merge_failed(struct session *session, int rc)
{
	session->unmerged = rc != -EBADMSG && rc != -ENOENT;
	session->unclosed_ns = clock_monotonic_ns();
	if (session->unmerged)
		return;
	session->left_bytes = session->size_bytes;
	session->size_bytes = 0;
}

void session_job_closed(struct session *session, enum session_state state)
{
	session_state_set(session, state);
	if (session->record_stale)
		session_job_record(session, NULL, NULL);
	if (state == SESSION_uploading)
		session_upload_begin(session);
	else
		session_waiters_tell(&session->closed, session, &no_error);
}

/* What could not be merged for a disk that failed: the disk may work now. */
void session_job_merge_again(struct session *session)
{
	struct session_job *work = job_make(session, merge_work, merge_again_done);

	session->closing_again = true;
	work->record = record_print(session, session_closed_state(session));
	work->job.work = FAULT_WORK_MERGE;
	job_post(WORKER_BULK, &work->job);
}

static void merge_again_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;

	session->closing_again = false;
	if (work->rc == 0) {
		session->unmerged = false;
		session->size_bytes = work->size_bytes;
		session_event_add(session, "the lanes could be merged now");
		log_info("capture %s could be merged now", session_id_text(session));
		session_job_closed(session, session_closed_state(session));
	} else if (work->rc != -ECANCELED) {
		merge_failed(session, work->rc);
		session_job_closed(session, SESSION_failed);
	}
	job_end(work);
}

/* What a dead daemon left: count what is there, then finish it as usual. */
void session_job_recover(struct session *session)
{
	struct session_job *work = job_make(session, recover_work, recover_done);

	session->queued = true;
	job_post(WORKER_BULK, &work->job);
}

static void recover_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	work->rc = merge_recover(&work->id, &work->recovery, &work->err);
	if (work->rc == 0 && work->session->record_bad)
		work->rc = store_record_aside(&work->id);
}

void session_job_count(struct session *session)
{
	struct session_job *work = job_make(session, count_work, count_done);

	session->queued = true;
	session->state = SESSION_converting;
	job_post(WORKER_BULK, &work->job);
}

static void count_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	__atomic_store_n(&work->session->queued, false, __ATOMIC_RELAXED);
	work->rc = work->session->record_bad ? store_record_aside(&work->id) : 0;
	if (work->rc == 0 && merge_pending(&work->id) == 1)
		work->rc = merge_run(&work->id, NULL, &work->size_bytes);
	if (work->rc == 0)
		work->rc = merge_count(&work->id, &work->recovery, &work->err);
}

static void count_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;
	enum session_state state = SESSION_failed;

	if (work->rc == -ECANCELED) {
		job_end(work);
		return;
	}
	session->size_bytes = 0;
	if (work->rc == -ENOENT && !session->record_bad) {
		/* Killed while its file was removed to make room. */
		state = SESSION_deleted;
	} else if (work->rc == -ENOENT) {
		session->reason = END_recovered;
		session_message_set(session, "its record was damaged, and its file is gone");
		state = SESSION_deleted;
	} else if (work->rc != 0) {
		log_error("capture %s cannot be counted: %s", session_id_text(session),
			strerror(-work->rc));
		session->reason = END_io_error;
		session_message_set(session, "its record was damaged, and its file cannot be read");
	} else {
		count_take(session, work);
	}
	session_state_set(session, state);
	session_job_record(session, NULL, NULL);
	session_waiters_tell(&session->closed, session, &no_error);
	job_end(work);
}

/* All that is known is what the file says. */
static void count_take(struct session *session, const struct session_job *work)
{
	const struct merge_recovery *recovery = &work->recovery;

	session->reason = END_recovered;
	session->ledger = recovery->ledger;
	session->size_bytes = recovery->size_bytes;
	if (recovery->first_ns != 0) {
		session->started_ns = recovery->first_ns;
		session->ended_ns = recovery->last_ns;
	}
	if (session->n_ports == 0) {
		session->n_ports = recovery->n_ports;
		memcpy(session->port_names, recovery->port_names, sizeof(session->port_names));
	}
	session_message_set(session,
		work->err.code != 0 ? work->err.text
				    : "its record was damaged: these are the counts of its "
				      "file, all losses as no_block");
}

static void recover_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;

	if (work->rc == -ECANCELED) {
		/* The daemon is going down; the next one begins anew. */
		job_end(work);
		return;
	}
	session->reason = END_recovered;
	if (work->rc != 0) {
		log_error("capture %s of an earlier run cannot be recovered: %s",
			session_id_text(session), work->err.text);
		session_message_set(session, work->err.text);
		session_state_set(session, SESSION_failed);
		session_waiters_tell(&session->closed, session, &no_error);
	} else {
		recovery_take(session, work);
		session_job_merge(session, record_print(session, session_closed_state(session)));
	}
	job_end(work);
}

/* What is known after a crash: what the files hold and tell, and what was noted last. */
static void recovery_take(struct session *session, const struct session_job *work)
{
	const struct merge_recovery *recovery = &work->recovery;
	struct ledger *ledger = &session->ledger;

	*ledger = recovery->ledger;
	if (session->started_ns == 0)
		session->started_ns =
			recovery->first_ns != 0 ? recovery->first_ns : session->created_ns;
	session->ended_ns = recovery->last_ns != 0 ? recovery->last_ns : session->started_ns;
	session->size_bytes = recovery->size_bytes;
	if (work->err.code != 0)
		session_message_set(session, work->err.text);
	else if (session->record_bad)
		session_message_set(session, "the daemon died while this capture ran, and its "
					     "record was damaged; it was recovered to its last "
					     "whole packet");
	else
		session_message_set(session, "the daemon died while this capture ran; "
					     "it was recovered to its last whole packet");
	if (recovery->n_gaps != 0)
		session_event_add(session,
			"%" PRIu64 " gaps in its files: %" PRIu64 " packets were lost in them, "
			"%" PRIu64 " behind them were rescued",
			recovery->n_gaps, recovery->gap_packets, recovery->rescued);
	totals_recovered(recovery);
}

static struct session_job *job_make(
	struct session *session, void (*run)(struct job *job), void (*done)(struct job *job))
{
	struct session_job *work = memory_get(sizeof(*work));

	work->job = (struct job){.run = run, .done = done};
	work->session = session;
	work->id = session->id;
	session_hold(session);
	return work;
}

/* A session without files has nothing to wait for where others wait for the disk. */
static void job_begin(struct session_job *work, enum worker worker)
{
	if (session_has_files(work->session)) {
		job_post(worker, &work->job);
		return;
	}
	work->job.run = nothing_work;
	job_post(WORKER_DEVICE, &work->job);
}

static void nothing_work(struct job *job)
{
}

static void job_end(struct session_job *work)
{
	struct session *session = work->session;

	free(work->record);
	free(work);
	session_release(session);
}

void session_hold(struct session *session)
{
	session->n_jobs++;
}

void session_release(struct session *session)
{
	session->n_jobs--;
	if (session->leaving != NULL && session->n_jobs == 1)
		delete_end(session->leaving);
	else if (session->orphan && session->n_jobs == 0)
		session_free(session);
}

static void record_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	work->rc = store_record_write(&work->id, work->record);
}

static void record_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct err err = {0};

	/* A session without files (output none) has no record. */
	if (work->rc != 0 && work->rc != -ENOENT)
		err_set(&err, -work->rc, NULL, "the record cannot be written: %s",
			strerror(-work->rc));
	if (work->done != NULL)
		work->done(err.code == 0 ? work->session : NULL, &err, work->arg);
	job_end(work);
}

/* A waiter's callback, or direct: the session is closed now and its deletion can begin. */
void session_job_delete(struct session *session, struct session_waiter *waiter)
{
	struct session_job *work;

	waiter->next = session->deleters;
	session->deleters = waiter;
	if (session->deleters->next != NULL)
		return;
	work = job_make(session, delete_work, delete_done);
	work->owes = session_upload_owes(session, &work->keep_object, &work->look_twice);
	if (work->owes) {
		snprintf(work->bucket, sizeof(work->bucket), "%s", session->bucket);
		snprintf(work->key, sizeof(work->key), "%s", session->key);
	}
	job_begin(work, WORKER_REMOVE);
}

static void delete_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	/* First of all: once the record is gone nobody else knows of the object. */
	work->rc = work->owes ? upload_debt_add(&work->id, work->bucket, work->key,
					work->keep_object, work->look_twice)
			      : 0;
	if (work->rc == 0)
		work->rc = store_delete(&work->id);
}

static void delete_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;

	if (work->rc == -ENOENT)
		work->rc = 0;
	/* Where another job still points at the session, it goes when that is over. */
	if (work->rc == 0 && session->n_jobs > 1)
		session->leaving = work;
	else
		delete_end(work);
}

static void delete_end(struct session_job *work)
{
	struct session *session = work->session;
	struct session_waiter *waiter = session->deleters;
	struct err err = {0};

	if (work->rc != 0)
		err_set(&err, -work->rc, NULL, "the files cannot be removed: %s",
			strerror(-work->rc));
	if (work->owes)
		session_upload_debts_soon();
	session->deleters = NULL;
	session->leaving = NULL;
	job_end(work);
	if (err.code == 0) {
		table_remove(session);
		session_free(session);
	}
	while (waiter != NULL) {
		struct session_waiter *next = waiter->next;

		waiter->done(NULL, err.code != 0 ? &err : NULL, waiter->arg);
		free(waiter);
		waiter = next;
	}
}

static void expire_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	work->rc = store_expire(&work->id);
	if (work->rc == 0)
		work->rc = store_record_write(&work->id, work->record);
}

/* As it will be. */
static char *expired_record(struct session *session, char *why)
{
	const uint64_t size_bytes = session->size_bytes;
	char *const message = session->message;
	char *record;

	session->size_bytes = 0;
	session->message = why;
	record = record_print(session, SESSION_deleted);
	session->size_bytes = size_bytes;
	session->message = message;
	return record;
}

static void expire_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;
	void (*expired)(void *arg) = work->expired;
	void *arg = work->arg;

	session->expiring = false;
	if (work->rc != 0) {
		session->expire_failed = true;
		log_error("capture %s cannot be removed by retention: %s", session_id_text(session),
			strerror(-work->rc));
	} else {
		session->size_bytes = 0;
		session->left_bytes = 0;
		session->unmerged = false;
		capture_free(session->unclosed);
		session->unclosed = NULL;
		session_message_set(session, work->why);
		session_state_set(session, SESSION_deleted);
		if (session->record_stale)
			session_job_record(session, NULL, NULL);
	}
	job_end(work);
	expired(arg);
}
