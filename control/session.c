/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The session state machine, on the control thread. Each step that may block is a job on a worker; its
 * callback is the next step, so the way of a session reads downwards in this file:
 *
 *   session_create: check -> filter -> ports -> tap and files -> publication -> running
 *   session_engine_event: end raised -> ending published -> drained -> counters, files, ports
 *                         -> stopping is over: complete, failed or converting
 */
#include "control/session.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "config/log.h"
#include "control/job.h"
#include "control/merge.h"
#include "control/quota.h"
#include "control/record.h"
#include "control/session_state.h"
#include "control/spec.h"
#include "control/store.h"
#include "control/table.h"
#include "engine/clock.h"

static struct {
	const struct config *config;
	struct event_base *base;
	unsigned n_open; /* not closed */
} sessions;

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
};

static struct session *session_make(const struct session_spec *spec);
static void start_filter(struct session *session);
static void filter_ready(evutil_socket_t fd, short what, void *arg);
static void start_ports(struct session *session);
static void port_acquired(struct device_wait *wait, const struct err *err);
static void start_tap(struct session *session);
static int tap_make(struct session *session, size_t header_len, struct err *err);
static void files_created(void *arg, const struct err *err);
static void start_publish(struct session *session);
static void start_published(struct publish_wait *wait);
static void time_over(evutil_socket_t fd, short what, void *arg);
static void stop_begin(struct session *session, enum end_reason reason);
static void stop_ready(evutil_socket_t fd, short what, void *arg);
static void start_fail(struct session *session, const struct err *err);
static void fail_released(struct device_wait *wait, const struct err *err);
static void fail_free(struct session *session);

static void session_event(struct session *session);
static void end_begin(struct session *session);
static void end_drained(struct session *session);
static void refresh_work(struct job *job);
static void drained_refreshed(struct job *job);
static void drained_finish(struct session *session);
static void *trailer_make(struct session *session, size_t *len);
static void files_finished(void *arg, const struct err *err);
static void tap_unplugged(struct publish_wait *wait);
static void port_released(struct device_wait *wait, const struct err *err);
static void end_check(struct session *session);
static enum session_state end_state(const struct session *session);
static void run_free(struct session_run *run);

static void merge_post(struct session *session, char *record);
static void merge_work(struct job *job);
static void merge_done(struct job *job);
static void recover_post(struct session *session);
static void recover_work(struct job *job);
static void recover_done(struct job *job);
static void recovery_take(struct session *session, const struct session_job *work);

static struct session_job *job_make(struct session *session, void (*run)(struct job *job),
	void (*done)(struct job *job));
static void job_end(struct session_job *work);
static void record_work(struct job *job);
static void record_done(struct job *job);
static void delete_post(struct session *session, struct session_waiter *waiter);
static void delete_closed(struct session *session, const struct err *err, void *arg);
static void delete_work(struct job *job);
static void delete_done(struct job *job);
static void expire_work(struct job *job);
static void expire_done(struct job *job);

static int load_one(const struct uuid *id, bool open, const char *record, void *arg);
static void waiter_add(struct session_waiter **list, session_done *done, void *arg);
static void waiters_tell(struct session_waiter **list, struct session *session, const struct err *err);
static int text_set(char **member, const char *text);

static const struct err no_error;

/* --- the door ----------------------------------------------------------------------------------- */

void session_init(const struct config *config, struct event_base *base)
{
	sessions.config = config;
	sessions.base = base;
}

void session_fini(void)
{
	struct session *session;

	while ((session = table_newest()) != NULL) {
		table_remove(session);
		session_free(session);
	}
}

void session_create(const struct session_spec *spec, session_done *done, void *arg)
{
	struct err err = {0};
	struct session *session = NULL;

	if (spec_check(spec, sessions.config, &err) == 0 && quota_check(&err) == 0) {
		if (table_count() >= SESSION_MAX)
			err_set(&err, EAGAIN, NULL, "%d captures are listed already: delete some",
				SESSION_MAX);
		else if ((session = session_make(spec)) == NULL)
			err_set(&err, EAGAIN, NULL, "no memory for another capture");
	}
	if (session == NULL) {
		done(NULL, &err, arg);
		return;
	}
	waiter_add(&session->run->started, done, arg);
	table_add(session);
	sessions.n_open++;
	start_filter(session);
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
		waiter_add(&session->stopped, done, arg);
	if (session->run->tap == NULL || session->state == SESSION_starting) {
		if (session->reason == END_none)
			session->reason = reason;
	} else if (session->state == SESSION_running && session->run->stop_event == NULL) {
		stop_begin(session, reason);
	}
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
		waiter_add(&session->closed, delete_closed, waiter);
		return;
	}
	delete_post(session, waiter);
}

void session_update(struct session *session, const char *name, const char *notes, session_done *done,
	void *arg)
{
	struct session_job *work;

	if ((name != NULL && text_set(&session->name, name) != 0) ||
		(notes != NULL && text_set(&session->notes, notes) != 0)) {
		done(NULL, &(struct err){.code = EAGAIN, .text = "no memory"}, arg);
		return;
	}
	work = job_make(session, record_work, record_done);
	work->record = record_print(session, session->state);
	work->done = done;
	work->arg = arg;
	job_post(WORKER_STORAGE, &work->job);
}

void session_vendor_set(struct session *session, const char *vendor)
{
	struct session_job *work;

	if (text_set(&session->vendor, vendor) != 0)
		return;
	work = job_make(session, record_work, record_done);
	work->record = record_print(session, session->state);
	job_post(WORKER_STORAGE, &work->job);
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
		.snaplen_bytes = session->snaplen_bytes,
		.direction = session->direction,
		.limit_packets = session->limit_packets,
		.limit_bytes = session->limit_bytes,
		.limit_ns = session->limit_ns,
		.limit_file_bytes = session->limit_file_bytes,
		.output = session->output,
		.created_ns = session->created_ns,
		.started_ns = session->started_ns,
		.ended_ns = session->ended_ns,
		.size_bytes = session->size_bytes,
		.ledger = session->ledger,
		.queued = session->queued,
	};
	for (unsigned i = 0; i < session->n_ports; i++)
		info->ports[i] = session->port_names[i];
	if (run == NULL || run->tap == NULL || run->removing)
		return;
	tap_ledger(run->tap, &info->ledger);
	if (run->capture == NULL)
		return;
	info->ledger.durable = capture_durable_packets(run->capture);
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

struct session_watch *session_watch(struct session *session,
	void (*fn)(struct session *session, enum session_state state, void *arg), void *arg)
{
	struct session_watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		return NULL;
	*watch = (struct session_watch){
		.session = session,
		.fn = fn,
		.arg = arg,
		.next = session->watches,
	};
	session->watches = watch;
	return watch;
}

void session_unwatch(struct session_watch *watch)
{
	struct session_watch **at;

	if (watch == NULL)
		return;
	at = &watch->session->watches;
	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
	free(watch);
}

unsigned session_parts(const struct session *session, struct session_part *parts, unsigned n_max)
{
	const struct session_run *run = session->run;
	unsigned n = 0;

	if (session->output == OUTPUT_NONE || n_max == 0)
		return 0;
	if (session->state == SESSION_complete ||
		(session->state == SESSION_failed && session->size_bytes != 0)) {
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

const char *session_state_name(enum session_state state)
{
	static const char *const names[] = {
#define X(name) #name,
		SESSION_STATES(X)
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

/* --- for the rest of control -------------------------------------------------------------------- */

void session_state_set(struct session *session, enum session_state state)
{
	struct session_watch *watch = session->watches;

	if (session_state_closed(state) && !session_state_closed(session->state))
		sessions.n_open--;
	session->state = state;
	while (watch != NULL) {
		struct session_watch *next = watch->next;

		watch->fn(session, state, watch->arg);
		watch = next;
	}
}

void session_message_set(struct session *session, const char *message)
{
	text_set(&session->message, message);
}

void session_free(struct session *session)
{
	while (session->watches != NULL) {
		struct session_watch *watch = session->watches;

		watch->fn(session, SESSION_deleted, watch->arg);
		if (session->watches == watch)
			session_unwatch(watch);
	}
	free(session->name);
	free(session->notes);
	free(session->account);
	free(session->owner);
	free(session->filter);
	free(session->vendor);
	free(session->message);
	free(session);
}

void session_engine_event(void)
{
	struct session *next;

	for (struct session *session = table_newest(); session != NULL; session = next) {
		next = session->older;
		if (session->run != NULL && session->run->tap != NULL)
			session_event(session);
	}
}

void session_ports_check(void)
{
	for (struct session *session = table_newest(); session != NULL; session = session->older) {
		unsigned n_gone = 0;

		if (session->run == NULL || session->run->tap == NULL)
			continue;
		for (unsigned i = 0; i < session->n_ports; i++)
			n_gone += __atomic_load_n(
				&engine_port(session->ports[i])->gone, __ATOMIC_RELAXED);
		if (n_gone == session->n_ports)
			tap_end_raise(session->run->tap, END_port_lost);
	}
}

void session_tend(void)
{
	const uint64_t sync_every_ns = sessions.config->storage.durable_every_ms * 1000000;

	for (struct session *session = table_newest(); session != NULL; session = session->older) {
		struct session_run *run = session->run;

		if (run != NULL && run->capture != NULL && run->tap != NULL && !run->removing &&
			session->state != SESSION_starting)
			capture_tend(run->capture, run->tap, sync_every_ns);
	}
}

int session_load(void)
{
	return store_each(load_one, NULL);
}

unsigned session_open_count(void)
{
	return sessions.n_open;
}

void session_expire(struct session *session, void (*done)(void *arg), void *arg)
{
	struct session_job *work = job_make(session, expire_work, expire_done);

	session->expiring = true;
	work->expired = done;
	work->arg = arg;
	work->record = record_print(session, SESSION_deleted);
	job_post(WORKER_BULK, &work->job);
}

/* --- starting ----------------------------------------------------------------------------------- */

static struct session *session_make(const struct session_spec *spec)
{
	struct session *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->run = calloc(1, sizeof(*session->run));
	if (session->run != NULL)
		session->run->session = session;
	uuid_make(&session->id);
	if (session->run == NULL || text_set(&session->name, spec->name) != 0 ||
		text_set(&session->notes, spec->notes) != 0 ||
		text_set(&session->account, spec->account) != 0 ||
		text_set(&session->owner, spec->owner) != 0 ||
		text_set(&session->filter, spec->filter) != 0 ||
		text_set(&session->vendor, spec->vendor) != 0) {
		free(session->run);
		session_free(session);
		return NULL;
	}
	session->dialect = spec->dialect;
	session->n_ports = spec->n_ports;
	for (unsigned i = 0; i < spec->n_ports; i++) {
		session->ports[i] = spec->ports[i];
		snprintf(session->port_names[i], CONFIG_NAME_MAX, "%s",
			engine_port(spec->ports[i])->config->name);
	}
	session->sample_mode = spec->sample_mode;
	session->sample_n = spec->sample_mode == SAMPLE_NONE ? 1 : spec->sample_n;
	session->snaplen_bytes = spec->snaplen_bytes != 0 ? spec->snaplen_bytes : TAP_SNAPLEN_MAX;
	session->direction = spec->direction;
	session->limit_packets = spec->limit_packets;
	session->limit_bytes = spec->limit_bytes;
	session->limit_ns = spec->limit_ns;
	session->limit_file_bytes = spec->limit_file_bytes;
	session->output = spec->output;
	session->created_ns = clock_wall_ns();
	return session;
}

static void start_filter(struct session *session)
{
	struct session_run *run = session->run;
	struct err err = {0};
	int fd;

	if (session->filter == NULL || session->filter[0] == '\0') {
		start_ports(session);
		return;
	}
	fd = filter_compile_start(session->filter);
	if (fd < 0) {
		err_set(&err, EAGAIN, "filter", "the filter compiler is not there: %s", strerror(-fd));
		start_fail(session, &err);
		return;
	}
	run->filter_event = event_new(sessions.base, fd, EV_READ, filter_ready, session);
	event_add(run->filter_event, NULL);
}

static void filter_ready(evutil_socket_t fd, short what, void *arg)
{
	static struct filter_code code;
	struct session *session = arg;
	struct session_run *run = session->run;
	struct err err = {0};

	event_free(run->filter_event);
	run->filter_event = NULL;
	if (filter_compile_finish(fd, &code, &err) == 0)
		run->filter = filter_new(&code, &err);
	if (run->filter == NULL) {
		start_fail(session, &err);
		return;
	}
	session->filter_engine = filter_engine(run->filter);
	start_ports(session);
}

/* One port after the other. */
static void start_ports(struct session *session)
{
	struct session_run *run = session->run;

	if (run->n_acquired == session->n_ports) {
		start_tap(session);
		return;
	}
	run->device_wait.done = port_acquired;
	device_acquire(engine_port(session->ports[run->n_acquired]), &run->device_wait);
}

static void port_acquired(struct device_wait *wait, const struct err *err)
{
	struct session_run *run =
		(struct session_run *)((char *)wait - offsetof(struct session_run, device_wait));
	struct session *session = run->session;

	if (err->code != 0) {
		struct err named = *err;

		named.code = ENODEV;
		snprintf(named.field, sizeof(named.field), "ports");
		start_fail(session, &named);
		return;
	}
	run->n_acquired++;
	start_ports(session);
}

static void start_tap(struct session *session)
{
	struct session_run *run = session->run;
	struct session_spec spec = {.n_ports = session->n_ports,
		.filter = session->filter,
		.snaplen_bytes = session->snaplen_bytes};
	struct err err = {0};
	size_t header_len;
	void *header;
	char *record;

	memcpy(spec.ports, session->ports, sizeof(spec.ports));
	header = spec_header(&spec, &header_len);
	if (header == NULL || tap_make(session, header_len, &err) != 0) {
		free(header);
		start_fail(session, &err);
		return;
	}
	for (unsigned i = 0; i < session->n_ports; i++) {
		const struct port *port = engine_port(session->ports[i]);

		run->port_offered[i] = __atomic_load_n(&port->offered, __ATOMIC_RELAXED);
		run->port_missed[i] = __atomic_load_n(&port->nic_missed, __ATOMIC_RELAXED) +
				      __atomic_load_n(&port->nic_nombuf, __ATOMIC_RELAXED) +
				      __atomic_load_n(&port->nic_errors, __ATOMIC_RELAXED);
	}
	if (session->output == OUTPUT_NONE) {
		free(header);
		start_publish(session);
		return;
	}
	run->capture = capture_new(&session->id, tap_lanes(run->tap), header, header_len);
	record = record_print(session, SESSION_running);
	if (run->capture == NULL || record == NULL) {
		free(record);
		err_set(&err, EAGAIN, NULL, "no memory for another capture");
		start_fail(session, &err);
		return;
	}
	capture_create(run->capture, record, files_created, session);
}

static int tap_make(struct session *session, size_t header_len, struct err *err)
{
	const uint64_t fixed = header_len + (uint64_t)session->n_ports * PCAPNG_STATISTICS_MAX;
	struct tap_spec spec = {
		.n_ports = session->n_ports,
		.filter = session->run->filter,
		.sample_mode = session->sample_mode,
		.sample_n = (uint32_t)session->sample_n,
		.snaplen_bytes = (uint32_t)session->snaplen_bytes,
		.direction = session->direction,
		.limit_packets = session->limit_packets,
		.limit_bytes = session->limit_bytes,
		.limit_ns = session->limit_ns,
		.sink = session->output == OUTPUT_NONE ? SINK_NULL : SINK_FILE,
	};

	memcpy(spec.ports, session->ports, sizeof(spec.ports));
	if (session->limit_file_bytes != 0) {
		if (session->limit_file_bytes <= fixed)
			return err_set(err, EINVAL, "limits.file_bytes",
				"%llu is too small: headers and statistics alone take %llu",
				(unsigned long long)session->limit_file_bytes,
				(unsigned long long)fixed);
		spec.limit_file_bytes = session->limit_file_bytes - fixed;
	}
	session->run->tap = tap_new(&spec, err);
	return session->run->tap != NULL ? 0 : -err->code;
}

static void files_created(void *arg, const struct err *err)
{
	struct session *session = arg;

	if (err->code != 0) {
		start_fail(session, err);
		return;
	}
	capture_connect(session->run->capture, session->run->tap);
	start_publish(session);
}

static void start_publish(struct session *session)
{
	struct session_run *run = session->run;

	for (unsigned i = 0; i < session->n_ports; i++)
		engine_port_poll(engine_port(session->ports[i]), true);
	engine_tap_add(run->tap);
	session->started_ns = tap_started_ns(run->tap);
	run->start_wait.done = start_published;
	run->start_pending = true;
	publish_soon(&run->start_wait);
	if (session->limit_ns != 0) {
		const struct timeval limit = {
			.tv_sec = (time_t)(session->limit_ns / CLOCK_NS_PER_S),
			.tv_usec = (suseconds_t)(session->limit_ns % CLOCK_NS_PER_S / 1000),
		};

		run->time_event = event_new(sessions.base, -1, 0, time_over, session);
		event_add(run->time_event, &limit);
	}
	session_state_set(session, SESSION_running);
}

/* Every lcore polls for it now: what is sent after the answer is captured. */
static void start_published(struct publish_wait *wait)
{
	struct session_run *run =
		(struct session_run *)((char *)wait - offsetof(struct session_run, start_wait));
	struct session *session = run->session;

	run->start_pending = false;
	if (session->reason != END_none && !run->ending) {
		/* A stop that came while we were starting. */
		tap_end_raise(run->tap, session->reason);
		session->reason = END_none;
	}
	waiters_tell(&run->started, session, &no_error);
	end_check(session);
}

static void time_over(evutil_socket_t fd, short what, void *arg)
{
	struct session *session = arg;

	if (session->run->tap != NULL)
		tap_end_raise(session->run->tap, END_time_limit);
}

/* Nothing was published: undo, then tell whoever asked. */
static void start_fail(struct session *session, const struct err *err)
{
	session->run->start_err = *err;
	session->run->device_wait.done = fail_released;
	fail_released(&session->run->device_wait, &no_error);
}

static void fail_released(struct device_wait *wait, const struct err *err)
{
	struct session_run *run =
		(struct session_run *)((char *)wait - offsetof(struct session_run, device_wait));

	if (run->n_acquired == 0)
		fail_free(run->session);
	else
		device_release(engine_port(run->session->ports[--run->n_acquired]), wait);
}

static void fail_free(struct session *session)
{
	struct session_run *run = session->run;
	const struct err err = run->start_err;

	session->run = NULL;
	table_remove(session);
	sessions.n_open--;
	waiters_tell(&run->started, NULL, &err);
	waiters_tell(&session->stopped, NULL, &err);
	while (session->closed != NULL) {
		/* A delete: what is to be deleted never came to be. */
		struct session_waiter *closed = session->closed;
		struct session_waiter *waiter = closed->arg;

		session->closed = closed->next;
		waiter->done(NULL, NULL, waiter->arg);
		free(waiter);
		free(closed);
	}
	run_free(run);
	session_free(session);
}

/* What was sent before the stop may still lie in a kernel's ring: it is captured first. */
static void stop_begin(struct session *session, enum end_reason reason)
{
	struct session_run *run = session->run;
	uint32_t latency_ms = 0;

	for (unsigned i = 0; i < session->n_ports; i++)
		if (engine_port(session->ports[i])->latency_ms > latency_ms)
			latency_ms = engine_port(session->ports[i])->latency_ms;
	run->stop_reason = reason;
	run->stop_event = event_new(sessions.base, -1, 0, stop_ready, session);
	event_add(run->stop_event, &(struct timeval){.tv_usec = latency_ms * 1000});
}

static void stop_ready(evutil_socket_t fd, short what, void *arg)
{
	struct session *session = arg;

	if (session->run->tap != NULL)
		tap_end_raise(session->run->tap, session->run->stop_reason);
}

/* --- ending ------------------------------------------------------------------------------------- */

static void session_event(struct session *session)
{
	struct session_run *run = session->run;

	if (session->state == SESSION_starting)
		return;
	if (!run->ending && tap_end_reason(run->tap) != END_none)
		end_begin(session);
	if (run->ending && !run->removing && tap_drained(run->tap))
		end_drained(session);
}

static void end_begin(struct session *session)
{
	struct session_run *run = session->run;

	run->ending = true;
	session->reason = tap_end_reason(run->tap);
	engine_tap_end(run->tap);
	publish_soon(NULL);
	session_state_set(session, SESSION_stopping);
}

/* Counters are frozen. The tap leaves the rx_set; meanwhile the files are closed. */
static void end_drained(struct session *session)
{
	struct session_run *run = session->run;

	tap_ledger(run->tap, &session->ledger);
	session->ended_ns = tap_ended_ns(run->tap);
	if (tap_sink_error(run->tap) != 0) {
		char text[160];

		snprintf(text, sizeof(text), "writing failed: %s", strerror(tap_sink_error(run->tap)));
		session_message_set(session, text);
	}
	run->removing = true;
	/* The statistics at the file's end want the ports' last counts. */
	run->refresh = (struct job){.run = refresh_work, .done = drained_refreshed};
	job_post(WORKER_DEVICE, &run->refresh);
}

static void drained_refreshed(struct job *job)
{
	struct session_run *run =
		(struct session_run *)((char *)job - offsetof(struct session_run, refresh));

	drained_finish(run->session);
}

static void drained_finish(struct session *session)
{
	struct session_run *run = session->run;
	size_t trailer_len;
	void *trailer;

	if (run->capture == NULL) {
		run->finished = true;
	} else {
		trailer = trailer_make(session, &trailer_len);
		session->ledger.durable = session->ledger.written;
		session->size_bytes = capture_final_size(run->capture, run->tap, trailer_len);
		capture_finish(run->capture, run->tap, trailer, trailer_len,
			record_print(session, end_state(session)), files_finished, session);
	}
	engine_tap_remove(run->tap);
	run->remove_wait.done = tap_unplugged;
	publish_soon(&run->remove_wait);
}

static void refresh_work(struct job *job)
{
	engine_refresh();
}

static void *trailer_make(struct session *session, size_t *len)
{
	struct session_run *run = session->run;
	const size_t size = (size_t)session->n_ports * PCAPNG_STATISTICS_MAX;
	uint8_t *trailer = malloc(size);

	*len = 0;
	for (unsigned i = 0; trailer != NULL && i < session->n_ports; i++) {
		const struct port *port = engine_port(session->ports[i]);
		struct tap_interface stats;

		tap_interface(run->tap, i, &stats);
		*len += pcapng_statistics_put(trailer + *len, size - *len,
			&(struct pcapng_statistics){
				.interface_id = i,
				.stamp_ns = session->ended_ns,
				.start_ns = session->started_ns,
				.end_ns = session->ended_ns,
				.received = __atomic_load_n(&port->offered, __ATOMIC_RELAXED) -
					    run->port_offered[i],
				.if_dropped = __atomic_load_n(&port->nic_missed, __ATOMIC_RELAXED) +
					      __atomic_load_n(&port->nic_nombuf, __ATOMIC_RELAXED) +
					      __atomic_load_n(&port->nic_errors, __ATOMIC_RELAXED) -
					      run->port_missed[i],
				.filter_accepted = stats.filter_accepted,
				.os_dropped = stats.dropped,
				.delivered = stats.written,
				.tail_gap = stats.tail_gap,
			});
	}
	return trailer;
}

static void files_finished(void *arg, const struct err *err)
{
	struct session *session = arg;
	struct session_run *run = session->run;

	run->finished = true;
	run->finish_rc = -err->code;
	if (err->code != 0) {
		log_error("capture cannot be closed: %s", err->text);
		session_message_set(session, err->text);
		session->ledger.durable = capture_durable_packets(run->capture);
	}
	end_check(session);
}

/* No lcore can see the tap any more. */
static void tap_unplugged(struct publish_wait *wait)
{
	struct session_run *run =
		(struct session_run *)((char *)wait - offsetof(struct session_run, remove_wait));

	run->device_wait.done = port_released;
	port_released(&run->device_wait, &no_error);
}

static void port_released(struct device_wait *wait, const struct err *err)
{
	struct session_run *run =
		(struct session_run *)((char *)wait - offsetof(struct session_run, device_wait));

	if (run->n_acquired != 0) {
		device_release(engine_port(run->session->ports[--run->n_acquired]), wait);
		return;
	}
	run->unplugged = true;
	end_check(run->session);
}

static void end_check(struct session *session)
{
	struct session_run *run = session->run;
	bool merges;

	if (run == NULL || !run->unplugged || !run->finished || run->start_pending)
		return;
	merges = run->capture != NULL && run->finish_rc == 0 && capture_merges(run->capture);
	if (run->finish_rc != 0) {
		session->size_bytes = 0;
		if (session->reason == END_stopped || session->reason == END_none)
			session->reason = END_io_error;
	}
	session->run = NULL;
	session_state_set(session, merges ? SESSION_converting :
			run->finish_rc != 0 ? SESSION_failed :
					      end_state(session));
	if (merges)
		merge_post(session, record_print(session, end_state(session)));
	run_free(run);
	waiters_tell(&session->stopped, session, &no_error);
	if (session_state_closed(session->state))
		waiters_tell(&session->closed, session, &no_error);
}

/* What a session that ended for its reason is, once its file is closed. */
static enum session_state end_state(const struct session *session)
{
	switch (session->reason) {
	case END_disk_full:
	case END_io_error:
	case END_port_lost:
	case END_recovered:
		return SESSION_failed;
	default:
		return SESSION_complete;
	}
}

static void run_free(struct session_run *run)
{
	if (run->time_event != NULL)
		event_free(run->time_event);
	if (run->stop_event != NULL)
		event_free(run->stop_event);
	tap_free(run->tap);
	filter_put(run->filter);
	capture_free(run->capture);
	free(run);
}

/* --- merges and recoveries ---------------------------------------------------------------------- */

/* The lanes become one file, on the bulk worker. record NULL: the one that is there says all. */
static void merge_post(struct session *session, char *record)
{
	struct session_job *work = job_make(session, merge_work, merge_done);

	session->queued = true;
	work->record = record;
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
	enum session_state state = end_state(session);

	if (work->rc == -ECANCELED) {
		/* The daemon is going down; the next one goes on. */
		job_end(work);
		return;
	}
	if (work->rc == 0) {
		session->size_bytes = work->size_bytes;
	} else {
		log_error("merge failed: %s", strerror(-work->rc));
		session_message_set(session, "the lanes could not be merged");
		session->reason = work->rc == -ENOSPC ? END_disk_full : END_io_error;
		session->size_bytes = 0;
		state = SESSION_failed;
	}
	session_state_set(session, state);
	waiters_tell(&session->closed, session, &no_error);
	job_end(work);
}

/* What a dead daemon left: count what is there, then finish it as usual. */
static void recover_post(struct session *session)
{
	struct session_job *work = job_make(session, recover_work, recover_done);

	session->queued = true;
	job_post(WORKER_BULK, &work->job);
}

static void recover_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	work->rc = merge_recover(&work->id, &work->recovery, &work->err);
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
		log_error("a capture of an earlier run cannot be recovered: %s", work->err.text);
		session_message_set(session, work->err.text);
		session_state_set(session, SESSION_failed);
		waiters_tell(&session->closed, session, &no_error);
	} else {
		recovery_take(session, work);
		merge_post(session, record_print(session, SESSION_failed));
	}
	job_end(work);
}

/* What is known after a crash: what the files hold and tell. The rest of the books died with it. */
static void recovery_take(struct session *session, const struct session_job *work)
{
	const struct merge_recovery *recovery = &work->recovery;
	struct ledger *ledger = &session->ledger;

	memset(ledger, 0, sizeof(*ledger));
	ledger->written = recovery->packets;
	ledger->durable = recovery->packets;
	ledger->written_bytes = recovery->captured_bytes;
	ledger->dropped[DROP_no_block] = recovery->drops_recorded;
	ledger->accepted = recovery->packets + recovery->drops_recorded;
	ledger->offered = ledger->accepted;
	session->ended_ns = recovery->last_ns != 0 ? recovery->last_ns : session->started_ns;
	session->size_bytes = recovery->size_bytes;
	if (work->err.code != 0)
		session_message_set(session, work->err.text);
	else
		session_message_set(session, "the daemon died while this capture ran; "
					     "it was recovered to its last whole packet");
}

/* --- records, deletion, expiry ------------------------------------------------------------------ */

static struct session_job *job_make(struct session *session, void (*run)(struct job *job),
	void (*done)(struct job *job))
{
	struct session_job *work = calloc(1, sizeof(*work));

	if (work == NULL)
		abort();
	work->job = (struct job){.run = run, .done = done};
	work->session = session;
	work->id = session->id;
	session->n_jobs++;
	return work;
}

static void job_end(struct session_job *work)
{
	work->session->n_jobs--;
	free(work->record);
	free(work);
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
		err_set(&err, -work->rc, NULL, "the record cannot be written: %s", strerror(-work->rc));
	if (work->done != NULL)
		work->done(err.code == 0 ? work->session : NULL, &err, work->arg);
	job_end(work);
}

/* A waiter's callback, or direct: the session is closed now and its deletion can begin. */
static void delete_post(struct session *session, struct session_waiter *waiter)
{
	struct session_job *work;

	waiter->next = session->deleters;
	session->deleters = waiter;
	if (session->deleters->next != NULL)
		return;
	work = job_make(session, delete_work, delete_done);
	job_post(WORKER_BULK, &work->job);
}

static void delete_closed(struct session *session, const struct err *err, void *arg)
{
	delete_post(session, arg);
}

static void delete_work(struct job *job)
{
	struct session_job *work = (struct session_job *)job;

	work->rc = store_delete(&work->id);
}

static void delete_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;
	struct session_waiter *waiter = session->deleters;
	struct err err = {0};

	if (work->rc != 0 && work->rc != -ENOENT) {
		err_set(&err, -work->rc, NULL, "the files cannot be removed: %s", strerror(-work->rc));
	} else if (session->n_jobs > 1) {
		/* Another job still points at the session; it goes when that is over. */
		job_post(WORKER_STORAGE, job);
		return;
	}
	session->deleters = NULL;
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

static void expire_done(struct job *job)
{
	struct session_job *work = (struct session_job *)job;
	struct session *session = work->session;
	void (*expired)(void *arg) = work->expired;
	void *arg = work->arg;

	session->expiring = false;
	if (work->rc != 0) {
		log_error("cannot remove an old capture: %s", strerror(-work->rc));
	} else {
		session->size_bytes = 0;
		session_state_set(session, SESSION_deleted);
	}
	job_end(work);
	expired(arg);
}

/* --- helpers ------------------------------------------------------------------------------------ */

static int load_one(const struct uuid *id, bool open, const char *record, void *arg)
{
	char text[UUID_TEXT_SIZE];
	struct err err = {.text = "there is no record"};
	struct session *session = NULL;

	if (record != NULL)
		session = record_parse(id, record, &err);
	if (session == NULL) {
		uuid_print(id, text);
		log_warning("capture %s is left alone: %s", text, err.text);
		return 0;
	}
	table_add(session);
	if (!open) {
		if (!session_state_closed(session->state))
			session->state = end_state(session);
		return 0;
	}
	sessions.n_open++;
	session->state = SESSION_converting;
	if (merge_pending(id) == 1)
		merge_post(session, NULL);
	else
		recover_post(session);
	return 0;
}

static void waiter_add(struct session_waiter **list, session_done *done, void *arg)
{
	struct session_waiter *waiter = calloc(1, sizeof(*waiter));

	if (waiter == NULL)
		abort();
	*waiter = (struct session_waiter){.done = done, .arg = arg, .next = *list};
	*list = waiter;
}

static void waiters_tell(struct session_waiter **list, struct session *session, const struct err *err)
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

static int text_set(char **member, const char *text)
{
	char *copy = strdup(text != NULL ? text : "");

	if (copy == NULL)
		return -ENOMEM;
	free(*member);
	*member = copy;
	return 0;
}
