/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The door of control, and what all sessions share. How a session begins and ends, and what is done
 * to its files, is in session_start.c, session_end.c and session_job.c.
 */
#include "control/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/admission.h"
#include "control/memory.h"
#include "control/merge.h"
#include "control/quota.h"
#include "control/record.h"
#include "control/session_state.h"
#include "control/spec.h"
#include "control/stall.h"
#include "control/store.h"
#include "control/table.h"
#include "engine/clock.h"

struct sessions sessions;

static int load_one(const struct uuid *id, bool open, const char *record, void *arg);
static void delete_closed(struct session *session, const struct err *err, void *arg);
static void delete_told(struct session *session, const struct err *err, void *arg);
static void deleters_tell(struct session *session, const struct err *err);
static int storage_check(const struct session_spec *spec, struct err *err);
static void index_tend(struct session *session);
static void space_tend(struct session *session, uint64_t sync_every_ns);
static void replaced_remove(struct session *session);
static void replaced_removed(struct session *session, const struct err *err, void *arg);
static void closed_log(const struct session *session, enum session_state state);

static const struct err no_error;

void session_init(const struct config *config, struct event_base *base)
{
	sessions.config = config;
	sessions.base = base;
}

void session_fini(void)
{
	struct session *session;

	while ((session = table_newest()) != NULL) {
		session_closed_tell_gone(
			session, &(struct err){.code = EAGAIN, .text = "stopping"});
		table_remove(session);
		session_free(session);
	}
}

void session_create(const struct session_spec *spec, session_done *done, void *arg)
{
	struct err err = {0};
	struct session *session = NULL;

	if (spec_check(spec, sessions.config, &err) == 0 && storage_check(spec, &err) == 0 &&
		admission_check(spec, &err) == 0) {
		if (table_count() >= SESSION_MAX)
			err_set(&err, EAGAIN, NULL, "%d captures are listed already: delete some",
				SESSION_MAX);
		else if ((session = session_start_new(spec)) == NULL)
			err_set(&err, EAGAIN, NULL, "no memory for another capture");
	}
	if (session == NULL) {
		done(NULL, &err, arg);
		return;
	}
	session_waiter_add(&session->run->started, done, arg);
	table_add(session);
	admission_begin(session);
	session_start_begin(session);
}

void session_stop(struct session *session, enum end_reason reason, session_done *done, void *arg)
{
	if (session->state != SESSION_starting && session->state != SESSION_running &&
		session->state != SESSION_stopping) {
		if (done != NULL)
			done(session, &no_error, arg);
		return;
	}
	if (done != NULL)
		session_waiter_add(&session->stopped, done, arg);
	if (session->run->tap == NULL || session->state == SESSION_starting) {
		if (session->reason == END_none)
			session->reason = reason;
	} else if (session->state == SESSION_running && session->run->stop_event == NULL) {
		session_end_soon(session, reason);
	}
	session_stopping_tell(session);
}

void session_closed_wait(struct session *session, session_done *done, void *arg)
{
	if (session_state_closed(session->state))
		done(session, &no_error, arg);
	else
		session_waiter_add(&session->closed, done, arg);
}

void session_delete(struct session *session, session_done *done, void *arg)
{
	struct session_waiter *waiter = calloc(1, sizeof(*waiter));

	if (waiter == NULL) {
		done(NULL, &(struct err){.code = EAGAIN, .text = "no memory"}, arg);
		return;
	}
	*waiter = (struct session_waiter){.done = done, .arg = arg};
	if (!session_state_closed(session->state)) {
		session_stop(session, END_stopped, NULL, NULL);
		session_waiter_add(&session->closed, delete_closed, waiter);
		session_upload_cancel(session);
	} else if (session->closing_again) {
		session_waiter_add(&session->closed, delete_closed, waiter);
	} else {
		session_job_delete(session, waiter);
	}
	if (stall_get()->stalled && session_has_files(session))
		deleters_tell(session,
			&(struct err){.code = EAGAIN,
				.text = "the storage does not answer: the capture is removed as "
					"soon as it does"});
}

void session_limits_change(struct session *session, uint64_t limit_packets, uint64_t limit_ns,
	session_done *done, void *arg)
{
	const struct session_spec spec = {
		.n_ports = session->n_ports,
		.filter = session->filter,
		.limit_packets = limit_packets,
		.limit_ns = limit_ns,
		.limit_bytes = session->limit_bytes,
		.limit_file_bytes = session->limit_file_bytes,
	};
	struct err err = {0};
	struct ledger ledger;

	if (session->state != SESSION_running)
		err_set(&err, EBUSY, NULL, "the capture is %s: limits change only while it runs",
			session_state_name(session->state));
	else if (spec_limits_check(&spec, sessions.config, &err) == 0 &&
		 tap_limits_set(session->run->tap, limit_packets, limit_ns) != 0)
		err_set(&err, EINVAL, "limits.packets",
			"cannot be set now: this capture began without a limit of packets or "
			"bytes");
	if (err.code != 0) {
		done(NULL, &err, arg);
		return;
	}
	session->limit_packets = limit_packets;
	session->limit_ns = limit_ns;
	session_time_set(session);
	tap_ledger(session->run->tap, &ledger);
	if (limit_packets != 0 && ledger.accepted >= limit_packets)
		tap_end_raise(session->run->tap, END_packet_limit);
	session_job_record(session, done, arg);
}

void session_update(
	struct session *session, const char *name, const char *notes, session_done *done, void *arg)
{
	if ((name != NULL && session_text_set(&session->name, name) != 0) ||
		(notes != NULL && session_text_set(&session->notes, notes) != 0)) {
		done(NULL, &(struct err){.code = EAGAIN, .text = "no memory"}, arg);
		return;
	}
	session_job_record(session, done, arg);
}

void session_vendor_set(struct session *session, const char *vendor)
{
	if (session_text_set(&session->vendor, vendor) != 0)
		return;
	session_job_record(session, NULL, NULL);
}

void session_info(const struct session *session, struct session_info *info)
{
	const struct session_run *run = session->run;

	*info = (struct session_info){
		.id = session->id,
		.name = session->name != NULL ? session->name : "",
		.notes = session->notes != NULL ? session->notes : "",
		.account = session->account != NULL ? session->account : "",
		.owner = session->owner != NULL ? session->owner : "",
		.filter = session->filter != NULL ? session->filter : "",
		.vendor = session->vendor,
		.dialect = session->dialect,
		.state = session->state,
		.reason = session->reason,
		.message = session->message,
		.n_ports = session->n_ports,
		.filter_engine = session->filter_engine,
		.sample_mode = session->sample_mode,
		.sample_n = session->sample_n,
		.rate_pps = session->rate_pps,
		.snaplen_bytes = session->snaplen_bytes,
		.direction = session->direction,
		.limit_packets = session->limit_packets,
		.limit_bytes = session->limit_bytes,
		.limit_ns = session->limit_ns,
		.limit_file_bytes = session->limit_file_bytes,
		.expected_bytes = session->expected_bytes,
		.expected_packets = session->expected_packets,
		.degraded = session->degraded.level != 0 ? &session->degraded : NULL,
		.events = session->events,
		.output = session->output,
		.stream_address = session->stream_address != NULL ? session->stream_address : "",
		.stream_port = (unsigned)session->stream_port,
		.encapsulation = session->encapsulation,
		.bucket = session->bucket != NULL ? session->bucket : "",
		.prefix = session->prefix != NULL ? session->prefix : "",
		.replaces = session->replaces,
		.created_ns = session->created_ns,
		.started_ns = session->started_ns,
		.ended_ns = session->ended_ns,
		.size_bytes = session->unmerged ? 0 : session->size_bytes,
		.ledger = session->ledger,
		.queued = session->queued,
	};
	for (unsigned i = 0; i < session->n_ports; i++)
		info->ports[i] = session->port_names[i];
	session_upload_info(session, info);
	if (run == NULL || session->state == SESSION_starting)
		return;
	if (!run->removing) {
		tap_ledger(run->tap, &info->ledger);
		info->filter_engine = tap_filter_engine(run->tap);
	}
	if (run->capture == NULL || run->finished)
		return;
	/* Frozen counters are not on the disk yet. */
	info->ledger.durable = capture_durable_packets(run->capture);
	if (info->size_bytes == 0)
		info->size_bytes = capture_final_size(run->capture, run->tap, 0);
}

struct session *session_find(const struct uuid *id)
{
	return table_find(id);
}

struct session *session_next(const struct session *session)
{
	return session == NULL ? table_newest() : session->older;
}

uint64_t session_serial(const struct session *session)
{
	return session->serial;
}

unsigned session_parts(const struct session *session, struct session_part *parts, unsigned n_max)
{
	const struct session_run *run = session->run;
	unsigned n = 0;

	if (!session_output_is_file(session->output) || session->upload.local_gone || n_max == 0)
		return 0;
	if (session->state == SESSION_complete || session->state == SESSION_uploading ||
		(session->state == SESSION_failed && session->size_bytes != 0 &&
			!session->unmerged)) {
		store_path(&session->id, false, -1, parts[0].path, sizeof(parts[0].path));
		parts[0].size_bytes = session->size_bytes;
		return 1;
	}
	if (run == NULL || run->tap == NULL || run->capture == NULL)
		return 0;
	for (n = 0; n < tap_lanes(run->tap) && n < n_max; n++) {
		struct tap_lane_mark mark;

		tap_lane_mark(run->tap, n, &mark);
		store_path(&session->id, true, (int)n, parts[n].path, sizeof(parts[n].path));
		parts[n].size_bytes = mark.written_bytes;
	}
	return n;
}

void session_read_begin(const struct uuid *id)
{
	struct session *session = table_find(id);

	if (session != NULL)
		session->n_readers++;
}

void session_read_end(const struct uuid *id)
{
	struct session *session = table_find(id);

	if (session != NULL)
		session->n_readers--;
}

const char *session_state_name(enum session_state state)
{
	static const char *const names[] = {
#define X(name) #name,
		SESSION_STATES(X)
#undef X
	};

	return names[state];
}

const char *session_upload_state_name(enum session_upload_state state)
{
	static const char *const names[] = {
#define X(name) #name,
		SESSION_UPLOADS(X)
#undef X
	};

	return names[state];
}

const char *session_dialect_name(enum session_dialect dialect)
{
	static const char *const names[] = {
#define X(name) #name,
		SESSION_DIALECTS(X)
#undef X
	};

	return names[dialect];
}

bool session_state_closed(enum session_state state)
{
	return state == SESSION_complete || state == SESSION_failed || state == SESSION_deleted;
}

enum session_state session_closed_state(const struct session *session)
{
	return session->output == OUTPUT_S3 ? SESSION_uploading : session_end_state(session);
}

void session_state_set(struct session *session, enum session_state state)
{
	if (session_state_closed(state) && !session_state_closed(session->state))
		closed_log(session, state);
	if (session_state_closed(state) && session->aged_at_ns == 0)
		session->aged_at_ns = clock_monotonic_ns();
	session->state = state;
}

static void closed_log(const struct session *session, enum session_state state)
{
	log_info("capture ended id=%s state=%s reason=%s packets=%llu bytes=%llu",
		session_id_text(session), session_state_name(state),
		end_reason_name(session->reason), (unsigned long long)session->ledger.written,
		(unsigned long long)session->size_bytes);
}

void session_message_set(struct session *session, const char *message)
{
	session_text_set(&session->message, message);
}

void session_free(struct session *session)
{
	free(session->name);
	free(session->notes);
	free(session->account);
	free(session->owner);
	free(session->filter);
	free(session->vendor);
	free(session->stream_address);
	free(session->bucket);
	free(session->prefix);
	free(session->key);
	session_upload_fini(session);
	free(session->message);
	free(session->events);
	capture_free(session->unclosed);
	free(session);
}

void session_engine_event(void)
{
	struct session *next;

	for (struct session *session = table_active(); session != NULL; session = next) {
		next = session->active_next;
		if (session->run != NULL && session->run->tap != NULL)
			session_end_push(session);
	}
}

void session_ports_check(void)
{
	for (struct session *session = table_active(); session != NULL;
		session = session->active_next) {
		unsigned n_gone = 0;

		if (session->run == NULL || session->run->tap == NULL)
			continue;
		for (unsigned i = 0; i < session->n_ports; i++)
			n_gone += __atomic_load_n(
				&engine_port(session->ports[i])->gone, __ATOMIC_RELAXED);
		if (n_gone != session->n_ports || tap_end_reason(session->run->tap) != END_none)
			continue;
		session_message_set(session, "every port of this capture is gone: "
					     "its device was removed");
		tap_end_raise(session->run->tap, END_port_lost);
	}
}

void session_tend(void)
{
	/* Half of it: what comes in while a sync runs is at risk, too. */
	const uint64_t sync_every_ns = sessions.config->storage.durable_every_ms * 500000;
	struct session *next;

	for (struct session *session = table_active(); session != NULL; session = next) {
		struct session_run *run = session->run;

		replaced_remove(session);
		session_end_again(session);
		if (run != NULL && run->capture != NULL && run->tap != NULL && !run->removing &&
			session->state != SESSION_starting) {
			index_tend(session);
			space_tend(session, sync_every_ns);
		}
		next = session->active_next;
		if (run == NULL && session->unclosed == NULL && !session->unmerged &&
			session->state != SESSION_converting &&
			(session->replaced || uuid_is_zero(&session->replaces)))
			table_rest(session);
	}
}

/* What is written is safe all the same, so this is told once and ends nothing. */
static void index_tend(struct session *session)
{
	const int rc = capture_index_error(session->run->capture);

	if (rc == 0 || session->run->index_told)
		return;
	session->run->index_told = true;
	session_event_add(session,
		"its index could not be written (%s): after a crash less could be rescued",
		strerror(-rc));
	log_warning("capture %s: its index could not be written: %s", session_id_text(session),
		strerror(-rc));
}

/* Keep space ahead; where there is none, and the capture waits for some, say so. */
static void space_tend(struct session *session, uint64_t sync_every_ns)
{
	struct session_run *run = session->run;
	const bool full = capture_full(run->capture);
	struct ledger ledger;

	capture_hold(run->capture, quota_holds());
	capture_tend(run->capture, run->tap, sync_every_ns);
	if (full == run->full)
		return;
	run->full = full;
	tap_ledger(run->tap, &ledger);
	if (full) {
		session_message_set(session, "the disk is full: packets are dropped as no_space "
					     "until there is room");
		session_event_add(session, "%s", session->message);
		log_warning("capture %s: %s", session_id_text(session), session->message);
		return;
	}
	free(session->message);
	session->message = NULL;
	session_event_add(session, "there is room again: %llu packets were dropped as no_space",
		(unsigned long long)ledger.dropped[DROP_no_space]);
	log_info("capture %s: there is room again, dropped as no_space=%llu",
		session_id_text(session), (unsigned long long)ledger.dropped[DROP_no_space]);
}

/* The capture that session replaces goes once there is a packet instead of it. */
static void replaced_remove(struct session *session)
{
	struct session *old;
	struct session_info info;

	if (session->replaced || uuid_is_zero(&session->replaces))
		return;
	session_info(session, &info);
	if (info.ledger.written == 0)
		return;
	session->replaced = true;
	old = table_find(&session->replaces);
	if (old != NULL && old != session)
		session_delete(old, replaced_removed, NULL);
}

static void replaced_removed(struct session *session, const struct err *err, void *arg)
{
	if (err != NULL)
		log_warning("a replaced capture stays: %s", err->text);
}

void session_stalled(struct session *session, const char *text)
{
	struct err err = {0};

	if (!session_has_files(session))
		return;
	err_set(&err, EAGAIN, NULL, "%s; the capture is removed as soon as it does", text);
	if (session->run != NULL && session->run->capture != NULL)
		session_event_add(session, "%s", text);
	session_stopping_tell(session);
	deleters_tell(session, &err);
}

void session_stopping_tell(struct session *session)
{
	if (session->state == SESSION_stopping && session_has_files(session) &&
		stall_get()->stalled)
		session_waiters_tell(&session->stopped, session, &no_error);
}

bool session_has_files(const struct session *session)
{
	return session_output_is_file(session->output);
}

/* The deletions go on, with nobody waiting for them. */
static void deleters_tell(struct session *session, const struct err *err)
{
	for (struct session_waiter *closed = session->closed; closed != NULL;
		closed = closed->next) {
		struct session_waiter *waiter = closed->arg;

		if (closed->done != delete_closed || waiter->done == delete_told)
			continue;
		waiter->done(NULL, err, waiter->arg);
		waiter->done = delete_told;
	}
	for (struct session_waiter *waiter = session->deleters; waiter != NULL;
		waiter = waiter->next) {
		if (waiter->done == delete_told)
			continue;
		waiter->done(NULL, err, waiter->arg);
		waiter->done = delete_told;
	}
}

static void delete_told(struct session *session, const struct err *err, void *arg)
{
}

/* Is there room for another capture, and a disk that would take it? */
static int storage_check(const struct session_spec *spec, struct err *err)
{
	if (!session_output_is_file(spec->output))
		return 0;
	if (stall_get()->stalled)
		return err_set(err, EAGAIN, NULL, "%s", stall_get()->text);
	return quota_check(spec->account != NULL ? spec->account : "*", err);
}

void session_clock_check(void)
{
	static struct clock_steps known;
	struct clock_steps steps;
	char text[160];
	double step_s;

	clock_steps(&steps);
	if (steps.n == known.n)
		return;
	step_s = (double)(steps.sum_ns - known.sum_ns) / 1e9;
	known = steps;
	snprintf(text, sizeof(text), "the wall clock was set %s by %.3f s: packet times %s",
		step_s < 0 ? "back" : "forward", step_s < 0 ? -step_s : step_s,
		step_s < 0 ? "never go back and are ahead of it" : "follow it");
	log_warning("%s", text);
	for (struct session *session = table_active(); session != NULL;
		session = session->active_next)
		if (session->run != NULL)
			session_event_add(session, "%s", text);
}

int session_load(void)
{
	return store_each(load_one, NULL);
}

static void delete_closed(struct session *session, const struct err *err, void *arg)
{
	session_job_delete(session, arg);
}

/* A closed capture's record was written for the file as it is. */
static bool record_fits(const struct session *session)
{
	uint64_t size_bytes = 0, allocated_bytes;

	if (session->output != OUTPUT_FILE || session->state == SESSION_deleted)
		return true;
	return store_size(&session->id, &size_bytes, &allocated_bytes) == 0 &&
	       size_bytes == session->size_bytes;
}

/* A capture of which only the files are known. It is nobody's but the administrator's. */
static void load_damaged(const struct uuid *id, bool open)
{
	struct session *session = memory_get(sizeof(*session));

	session->account = memory_get(2);
	session->account[0] = '*';
	session->id = *id;
	session->record_bad = true;
	session->sample_n = 1;
	session->degraded.sample_n = 1;
	session->snaplen_bytes = session->degraded.snaplen_bytes = TAP_SNAPLEN_MAX;
	session->output = OUTPUT_FILE;
	session->created_ns = clock_wall_ns();
	table_add(session);
	if (open && merge_pending(id) != 1) {
		session->state = SESSION_converting;
		session_job_recover(session);
	} else {
		session_job_count(session);
	}
}

/* It was closed by an earlier daemon: how long ago only the wall clock can tell. */
static void load_age(struct session *session)
{
	const uint64_t now_ns = clock_wall_ns();

	session->aged_at_ns = clock_monotonic_ns();
	if (now_ns > session_ended_ns(session))
		session->aged_ns = now_ns - session_ended_ns(session);
}

static int load_one(const struct uuid *id, bool open, const char *record, void *arg)
{
	struct err err = {.text = "there is no record"};
	struct session *session = NULL;
	char text[UUID_TEXT_SIZE];

	if (record != NULL)
		session = record_parse(id, record, &err);
	uuid_print(id, text);
	if (session == NULL && err.code == ENOTSUP) {
		log_warning("capture %s is left alone: %s", text, err.text);
		return 0;
	}
	if (session == NULL) {
		log_warning("capture %s is counted anew: %s", text, err.text);
		load_damaged(id, open);
		return 0;
	}
	table_add(session);
	if (!open) {
		if (!record_fits(session)) {
			log_warning(
				"capture %s is counted anew: its record is not that of its file",
				text);
			session_job_count(session);
			return 0;
		}
		if (!session_state_closed(session->state))
			session->state = session_closed_state(session);
		session_upload_load(session);
		if (session_state_closed(session->state))
			load_age(session);
		return 0;
	}
	session->state = SESSION_converting;
	if (merge_pending(id) == 1)
		session_job_merge(session, NULL);
	else
		session_job_recover(session);
	return 0;
}

void session_waiter_add(struct session_waiter **list, session_done *done, void *arg)
{
	struct session_waiter *waiter = memory_get(sizeof(*waiter));

	*waiter = (struct session_waiter){.done = done, .arg = arg, .next = *list};
	*list = waiter;
}

void session_waiters_tell(
	struct session_waiter **list, struct session *session, const struct err *err)
{
	struct session_waiter *waiter = *list;

	*list = NULL;
	while (waiter != NULL) {
		struct session_waiter *next = waiter->next;

		waiter->done(session, err, waiter->arg);
		free(waiter);
		waiter = next;
	}
}

void session_closed_tell_gone(struct session *session, const struct err *err)
{
	while (session->closed != NULL) {
		struct session_waiter *closed = session->closed;
		struct session_waiter *waiter =
			closed->done == delete_closed ? closed->arg : closed;

		session->closed = closed->next;
		waiter->done(NULL, err, waiter->arg);
		if (waiter != closed)
			free(waiter);
		free(closed);
	}
}

const char *session_id_text(const struct session *session)
{
	static char text[UUID_TEXT_SIZE];

	uuid_print(&session->id, text);
	return text;
}

void session_event_add(struct session *session, const char *fmt, ...)
{
	struct session_events *events = session->events;
	va_list args;

	if (events == NULL)
		events = session->events = calloc(1, sizeof(*events));
	if (events == NULL)
		return;
	if (events->n == SESSION_EVENTS_MAX) {
		memmove(&events->event[0], &events->event[1],
			(SESSION_EVENTS_MAX - 1) * sizeof(events->event[0]));
		events->n--;
		events->n_left_out++;
	}
	events->event[events->n].at_ns = clock_wall_ns();
	va_start(args, fmt);
	vsnprintf(events->event[events->n].text, sizeof(events->event[0].text), fmt, args);
	va_end(args);
	events->n++;
}

int session_text_set(char **member, const char *text)
{
	char *copy = strdup(text != NULL ? text : "");

	if (copy == NULL)
		return -ENOMEM;
	free(*member);
	*member = copy;
	return 0;
}
