/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * From a closed file to a verified object: attempts on the upload worker, one after another with a
 * growing pause, until one succeeds, the session is deleted or its bucket's give_up is over. Then the
 * record, and only behind it, where the bucket says so, the local file. Deleted captures' debts to
 * buckets are paid here, too. Control thread, but for the functions called *_work.
 */
#include "control/session_state.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "config/log.h"
#include "control/memory.h"
#include "control/record.h"
#include "control/store.h"
#include "control/table.h"
#include "control/upload.h"
#include "engine/clock.h"

#define NS_PER_MS       1000000ULL
#define DEBTS_FIRST_NS  (5 * CLOCK_NS_PER_S)
#define DEBTS_MAX_NS    (300 * CLOCK_NS_PER_S)
#define SWEEP_EVERY_NS  (86400 * CLOCK_NS_PER_S)
#define SWEEP_FOUND_MAX 4096 /* of a bucket; the rest next time */

/* An attempt. */
struct upload_job {
	struct job job;
	struct session *session;
	bool begun; /* atomic: its turn has come */
	struct upload upload;
};

/* The local file goes, or what is left of an upload that was given up. */
struct remove_job {
	struct job job;
	struct session *session;
	struct uuid id;
	char *record;
	char bucket[CONFIG_NAME_MAX];
	char key[S3_KEY_MAX];
	int rc;
};

/* A look for dead uploads in one bucket. */
struct sweep_found {
	struct uuid id;
	char *key, *upload_id;
};
struct sweep_job {
	struct job job;
	const struct config_bucket *bucket;
	struct sweep_found *found;
	unsigned n_found;
	unsigned n_aborted;
	struct s3_answer answer;
};

static struct {
	struct job debts;
	bool debts_running;
	unsigned n_debts;     /* left by the last run */
	uint64_t debts_at_ns; /* monotonic; 0 = none are known */
	uint64_t debts_after_ns;
	uint64_t sweep_at_ns;
	unsigned n_sweeps; /* running */
	bool begun;
} state;

static void attempt_post(struct session *session);
static void attempt_work(struct job *job);
static void attempt_done(struct job *job);
static void attempt_failed(struct session *session, const struct upload *upload);
static void attempt_event(evutil_socket_t fd, short what, void *arg);
static void verified(struct session *session);
static void verified_recorded(struct session *session, const struct err *err, void *arg);
static void local_remove(struct session *session);
static void local_remove_work(struct job *job);
static void local_remove_done(struct job *job);
static void given_up(struct session *session);
static void given_up_work(struct job *job);
static void given_up_done(struct job *job);
static void remove_job_end(struct remove_job *work);
static void closed(struct session *session, enum session_state closed_state);
static const struct config_bucket *bucket_of(const struct session *session);
static void debts_work(struct job *job);
static void debts_done(struct job *job);
static void sweep_begin(void);
static void sweep_work(struct job *job);
static void sweep_listed(struct job *job);
static void sweep_abort_work(struct job *job);
static void sweep_done(struct job *job);

static const struct err no_error;

void session_upload_begin(struct session *session)
{
	session->upload.state = UPLOAD_waiting;
	session->upload.total_bytes = session->size_bytes;
	session->upload.begun_ns = clock_monotonic_ns();
	if (session->upload.deleting)
		session_upload_cancel(session);
	else
		attempt_post(session);
}

void session_upload_load(struct session *session)
{
	const struct config_bucket *bucket = bucket_of(session);

	if (session->output != OUTPUT_S3)
		return;
	if (session->upload.state == UPLOAD_verified)
		session->upload.bytes = session->upload.total_bytes;
	if (session->state == SESSION_uploading)
		session_upload_begin(session);
	else if (session->upload.state == UPLOAD_verified && !session->upload.local_gone &&
		 session->state != SESSION_deleted && bucket != NULL && !bucket->keep)
		local_remove(session);
}

void session_upload_cancel(struct session *session)
{
	struct session_upload *upload = &session->upload;

	upload->deleting = true;
	if (session->state != SESSION_uploading)
		return;
	if (upload->work != NULL) {
		__atomic_store_n(&upload->work->upload.canceled, true, __ATOMIC_RELAXED);
		return;
	}
	if (upload->event != NULL)
		event_del(upload->event);
	upload->state = UPLOAD_failed;
	session_text_set(&upload->message, "the capture is being deleted");
	closed(session, SESSION_failed);
}

void session_upload_fini(struct session *session)
{
	if (session->upload.event != NULL)
		event_free(session->upload.event);
	free(session->upload.message);
}

void session_upload_info(const struct session *session, struct session_info *info)
{
	const struct session_upload *upload = &session->upload;
	const struct config_bucket *bucket = bucket_of(session);

	info->upload.bucket = "";
	info->upload.key = "";
	if (session->output != OUTPUT_S3)
		return;
	info->upload.state = upload->state;
	info->upload.bucket = bucket != NULL ? bucket->bucket : session->bucket;
	info->upload.key = session->key;
	info->upload.bytes = upload->bytes;
	info->upload.total_bytes = upload->total_bytes;
	info->upload.attempts = upload->attempts;
	info->upload.message =
		upload->message != NULL && upload->message[0] != '\0' ? upload->message : NULL;
	info->upload.next_ns = upload->next_ns;
	info->upload.local_gone = upload->local_gone;
	if (upload->work != NULL && __atomic_load_n(&upload->work->begun, __ATOMIC_RELAXED)) {
		info->upload.state = UPLOAD_sending;
		info->upload.bytes =
			__atomic_load_n(&upload->work->upload.sent_bytes, __ATOMIC_RELAXED);
	}
}

bool session_upload_owes(const struct session *session, bool *keep_object, bool *look_twice)
{
	const struct config_bucket *bucket = bucket_of(session);

	*keep_object = bucket != NULL && !bucket->remove;
	*look_twice = session->upload.state != UPLOAD_verified;
	if (session->output != OUTPUT_S3 || session->upload.state == UPLOAD_none)
		return false;
	return !*keep_object || session->upload.state != UPLOAD_verified;
}

static void attempt_post(struct session *session)
{
	const struct config_bucket *bucket = bucket_of(session);
	struct session_upload *upload = &session->upload;
	struct upload_job *work;

	upload->next_ns = 0;
	if (bucket == NULL || session->key[0] == '\0') {
		/* Until a daemon is started that knows it, or somebody deletes the capture. */
		session_text_set(&upload->message, "the configuration has no bucket of this name");
		log_warning("capture %s waits for bucket %s, which the configuration has not",
			session_id_text(session), session->bucket);
		return;
	}
	work = memory_get(sizeof(*work));
	work->job = (struct job){.run = attempt_work, .done = attempt_done};
	work->session = session;
	work->upload.bucket = bucket;
	work->upload.id = session->id;
	snprintf(work->upload.key, sizeof(work->upload.key), "%s", session->key);
	if (upload->attempts++ > 0)
		upload_retry_count();
	upload->work = work;
	session_hold(session);
	job_post(WORKER_UPLOAD, &work->job);
}

static void attempt_work(struct job *job)
{
	struct upload_job *work = (struct upload_job *)job;

	__atomic_store_n(&work->begun, true, __ATOMIC_RELAXED);
	upload_run(&work->upload);
}

static void attempt_done(struct job *job)
{
	struct upload_job *work = (struct upload_job *)job;
	struct session *session = work->session;
	struct session_upload *upload = &session->upload;

	upload->work = NULL;
	upload->bytes = work->upload.sent_bytes;
	if (work->upload.answer.outcome == S3_DONE)
		verified(session);
	else if (upload->deleting)
		session_upload_cancel(session);
	else if (work->upload.answer.outcome != S3_CANCELED)
		attempt_failed(session, &work->upload);
	/* Else the daemon is going down; the next one goes on. */
	session_release(session);
	free(work);
}

static void attempt_failed(struct session *session, const struct upload *done)
{
	const struct config_bucket *bucket = bucket_of(session);
	const uint64_t gone_ns = clock_monotonic_ns() - session->upload.begun_ns;
	struct session_upload *upload = &session->upload;
	uint64_t delay_ms;
	struct timeval delay;
	struct uuid random;

	upload->n_failures = done->progressed ? 1 : upload->n_failures + 1;
	/* Once for each thing that goes wrong: an endpoint that is down for days fills no log. */
	if (upload->message == NULL || strcmp(upload->message, done->answer.text) != 0)
		log_warning("capture %s is not uploaded yet: %s attempt=%llu",
			session_id_text(session), done->answer.text,
			(unsigned long long)upload->attempts);
	session_text_set(&upload->message, done->answer.text);
	if (bucket->give_up_ms != 0 && gone_ns >= bucket->give_up_ms * NS_PER_MS) {
		given_up(session);
		return;
	}
	uuid_make(&random);
	delay_ms = upload_delay_ms(
		upload->n_failures, done->answer.outcome, random.byte[0] << 8 | random.byte[1]);
	delay = (struct timeval){.tv_sec = (time_t)(delay_ms / 1000),
		.tv_usec = (suseconds_t)(delay_ms % 1000 * 1000)};
	upload->next_ns = clock_wall_ns() + delay_ms * NS_PER_MS;
	if (upload->event == NULL)
		upload->event = event_new(sessions.base, -1, 0, attempt_event, session);
	event_add(upload->event, &delay);
	session_job_record(session, NULL, NULL);
}

static void attempt_event(evutil_socket_t fd, short what, void *arg)
{
	attempt_post(arg);
}

static void verified(struct session *session)
{
	struct session_upload *upload = &session->upload;

	upload->state = UPLOAD_verified;
	upload->verified_ns = clock_wall_ns();
	upload->bytes = upload->total_bytes;
	session_text_set(&upload->message, "");
	log_info("upload verified id=%s bucket=%s bytes=%llu attempts=%llu",
		session_id_text(session), session->bucket, (unsigned long long)upload->total_bytes,
		(unsigned long long)upload->attempts);
	closed(session, session_end_state(session));
}

/* Whoever waits is told when the record says so, too. */
static void closed(struct session *session, enum session_state closed_state)
{
	session_state_set(session, closed_state);
	session_hold(session);
	session_job_record(session, verified_recorded, session);
}

static void verified_recorded(struct session *unused, const struct err *err, void *arg)
{
	struct session *session = arg;
	const struct config_bucket *bucket = bucket_of(session);

	if (err->code != 0)
		log_error("capture %s: %s", session_id_text(session), err->text);
	else if (session->upload.state == UPLOAD_verified && bucket != NULL && !bucket->keep &&
		 !session->upload.deleting && session->deleters == NULL)
		local_remove(session);
	session_waiters_tell(&session->closed, session, &no_error);
	session_release(session);
}

/* Of an object that is verified and a record that says so: nothing else removes a file that was to be
 * uploaded. */
static void local_remove(struct session *session)
{
	struct remove_job *work = memory_get(sizeof(*work));

	work->job = (struct job){.run = local_remove_work, .done = local_remove_done};
	work->session = session;
	work->id = session->id;
	session->upload.local_gone = true;
	work->record = record_print(session, session->state);
	session->expiring = true;
	session_hold(session);
	job_post(WORKER_REMOVE, &work->job);
}

static void local_remove_work(struct job *job)
{
	struct remove_job *work = (struct remove_job *)job;

	work->rc = store_expire(&work->id);
	if (work->rc == 0)
		work->rc = store_record_write(&work->id, work->record);
}

static void local_remove_done(struct job *job)
{
	struct remove_job *work = (struct remove_job *)job;
	struct session *session = work->session;

	session->expiring = false;
	if (work->rc != 0)
		log_error("the local file of capture %s cannot be removed: %s",
			session_id_text(session), strerror(-work->rc));
	else if (session->record_stale)
		session_job_record(session, NULL, NULL);
	remove_job_end(work);
}

/* The file stays, and is not uploaded any more. What was begun in the bucket is owed to it. */
static void given_up(struct session *session)
{
	struct remove_job *work = memory_get(sizeof(*work));
	char text[320];

	session->upload.state = UPLOAD_failed;
	snprintf(text, sizeof(text), "upload_failed: %s", session->upload.message);
	session_message_set(session, text);
	log_error("capture %s is given up: %s", session_id_text(session), text);
	work->job = (struct job){.run = given_up_work, .done = given_up_done};
	work->session = session;
	work->id = session->id;
	snprintf(work->bucket, sizeof(work->bucket), "%s", session->bucket);
	snprintf(work->key, sizeof(work->key), "%s", session->key);
	session_hold(session);
	job_post(WORKER_UPLOAD, &work->job);
	closed(session, SESSION_failed);
}

static void given_up_work(struct job *job)
{
	struct remove_job *work = (struct remove_job *)job;

	work->rc = upload_debt_add(&work->id, work->bucket, work->key, true, true);
}

static void given_up_done(struct job *job)
{
	struct remove_job *work = (struct remove_job *)job;

	if (work->rc == 0)
		session_upload_debts_soon();
	else
		log_error("what capture %s has begun in bucket %s stays there for up to a day: %s",
			session_id_text(work->session), work->bucket, strerror(-work->rc));
	remove_job_end(work);
}

static void remove_job_end(struct remove_job *work)
{
	session_release(work->session);
	free(work->record);
	free(work);
}

static const struct config_bucket *bucket_of(const struct session *session)
{
	return session->output == OUTPUT_S3 ? config_bucket_find(sessions.config, session->bucket)
					    : NULL;
}

/* ---- what is owed, and what is dead ---- */

void session_upload_debts_soon(void)
{
	state.debts_at_ns = clock_monotonic_ns();
	state.debts_after_ns = DEBTS_FIRST_NS;
}

void session_upload_tick(void)
{
	const uint64_t now_ns = clock_monotonic_ns();

	if (sessions.config->n_buckets == 0)
		return;
	if (!state.begun) {
		state.begun = true;
		state.sweep_at_ns = now_ns;
		session_upload_debts_soon();
	}
	if (!state.debts_running && state.debts_at_ns != 0 && now_ns >= state.debts_at_ns) {
		state.debts_running = true;
		state.debts_at_ns = 0;
		state.debts = (struct job){.run = debts_work, .done = debts_done};
		job_post(WORKER_UPLOAD, &state.debts);
	}
	if (now_ns >= state.sweep_at_ns && state.n_sweeps == 0) {
		state.sweep_at_ns = now_ns + SWEEP_EVERY_NS;
		sweep_begin();
	}
}

unsigned session_upload_debts(void)
{
	return state.n_debts;
}

static void debts_work(struct job *job)
{
	__atomic_store_n(&state.n_debts, upload_debts_run(sessions.config), __ATOMIC_RELAXED);
}

static void debts_done(struct job *job)
{
	state.debts_running = false;
	/* Some were added meanwhile, or some are left. */
	if (state.debts_at_ns != 0 || state.n_debts == 0)
		return;
	state.debts_at_ns = clock_monotonic_ns() + state.debts_after_ns;
	state.debts_after_ns *= 2;
	if (state.debts_after_ns > DEBTS_MAX_NS)
		state.debts_after_ns = DEBTS_MAX_NS;
}

static void sweep_begin(void)
{
	for (unsigned i = 0; i < sessions.config->n_buckets; i++) {
		struct sweep_job *work = memory_get(sizeof(*work));

		work->job = (struct job){.run = sweep_work, .done = sweep_listed};
		work->bucket = &sessions.config->buckets[i];
		state.n_sweeps++;
		job_post(WORKER_UPLOAD, &work->job);
	}
}

static void sweep_found(const struct uuid *id, const char *key, const char *upload_id, void *arg)
{
	struct sweep_job *work = arg;
	struct sweep_found *longer, *found;

	if (work->n_found == SWEEP_FOUND_MAX)
		return;
	longer = realloc(work->found, (work->n_found + 1) * sizeof(*work->found));
	if (longer == NULL)
		return;
	work->found = longer;
	found = &work->found[work->n_found];
	*found = (struct sweep_found){*id, strdup(key), strdup(upload_id)};
	if (found->key != NULL && found->upload_id != NULL) {
		work->n_found++;
		return;
	}
	free(found->key);
	free(found->upload_id);
}

static void sweep_work(struct job *job)
{
	struct sweep_job *work = (struct sweep_job *)job;

	upload_list(work->bucket, sweep_found, work, &work->answer);
}

/*
 * Ours and dead: of a session that is known here, under the key it has, and that uploads no more. What
 * belongs to none may be another host's, with the same bucket; what belongs to one that uploads is
 * looked at by its attempts.
 */
static bool sweep_is_dead(const struct sweep_job *work, const struct sweep_found *found)
{
	const struct session *session = table_find(&found->id);

	return session != NULL && session->output == OUTPUT_S3 &&
	       session_state_closed(session->state) &&
	       strcmp(session->bucket, work->bucket->name) == 0 &&
	       strcmp(session->key, found->key) == 0;
}

static void sweep_listed(struct job *job)
{
	struct sweep_job *work = (struct sweep_job *)job;
	unsigned n = 0;

	if (work->answer.outcome != S3_DONE && work->answer.outcome != S3_CANCELED)
		log_warning("unfinished uploads in bucket %s cannot be listed: %s",
			work->bucket->name, work->answer.text);
	for (unsigned i = 0; i < work->n_found; i++) {
		if (sweep_is_dead(work, &work->found[i])) {
			work->found[n++] = work->found[i];
		} else {
			free(work->found[i].key);
			free(work->found[i].upload_id);
		}
	}
	work->n_found = n;
	work->job = (struct job){.run = sweep_abort_work, .done = sweep_done};
	job_post(WORKER_UPLOAD, &work->job);
}

static void sweep_abort_work(struct job *job)
{
	struct sweep_job *work = (struct sweep_job *)job;

	for (unsigned i = 0; i < work->n_found; i++)
		work->n_aborted += upload_abort(work->bucket, work->found[i].key,
					   work->found[i].upload_id, &work->answer) == S3_DONE;
}

static void sweep_done(struct job *job)
{
	struct sweep_job *work = (struct sweep_job *)job;

	if (work->n_aborted != 0)
		log_info("dead uploads removed bucket=%s uploads=%u", work->bucket->name,
			work->n_aborted);
	for (unsigned i = 0; i < work->n_found; i++) {
		free(work->found[i].key);
		free(work->found[i].upload_id);
	}
	free(work->found);
	free(work);
	state.n_sweeps--;
}
