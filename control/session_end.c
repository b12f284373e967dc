/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The end of a session, which every session takes, whatever ended it:
 *
 *   end raised -> ending published -> drained -> counters, files, ports -> complete, failed or
 *   converting
 *
 * Control thread.
 */
#include "control/session_state.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "config/log.h"
#include "control/memory.h"
#include "control/record.h"
#include "control/totals.h"
#include "control/watch.h"
#include "engine/clock.h"
#include "engine/pcapng.h"

#define CLOSE_AGAIN_NS (2 * CLOCK_NS_PER_S)

static void stop_ready(evutil_socket_t fd, short what, void *arg);
static void end_begin(struct session *session);
static void end_drained(struct session *session);
static void drained_refreshed(struct job *job);
static void drained_finish(struct session *session);
static void refresh_work(struct job *job);
static void *trailer_make(struct session *session, size_t *len);
static void files_finished(void *arg, const struct err *err);
static void files_finish_again(struct session *session, const struct err *err);
static void suspect_tell(struct session *session);
static void unclosed_keep(struct session *session);
static void closed_again(void *arg, const struct err *err);
static void tap_unplugged(struct publish_wait *wait);
static void port_released(struct device_wait *wait, const struct err *err);

static const struct err no_error;

/* What was sent before the stop may still lie in a kernel's ring: it is captured first. */
void session_end_soon(struct session *session, enum end_reason reason)
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

void session_end_push(struct session *session)
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
	session_stopping_tell(session);
}

/* Counters are frozen. The tap leaves the rx_set; meanwhile the files are closed. */
static void end_drained(struct session *session)
{
	struct session_run *run = session->run;

	tap_ledger(run->tap, &session->ledger);
	session->filter_engine = tap_filter_engine(run->tap);
	watch_end(session);
	session->ended_ns = tap_ended_ns(run->tap);
	if (tap_sink_error(run->tap) != 0) {
		char text[160];

		snprintf(text, sizeof(text), "writing failed: %s",
			strerror(tap_sink_error(run->tap)));
		session_message_set(session, text);
	} else if (run->capture != NULL && capture_trouble(run->capture) != NULL) {
		session_message_set(session, capture_trouble(run->capture));
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
		suspect_tell(session);
		session->ledger.durable = capture_suspect(run->capture) == 0
						  ? session->ledger.written
						  : capture_durable_packets(run->capture);
		session->size_bytes = capture_final_size(run->capture, run->tap, trailer_len);
		capture_finish(run->capture, run->tap, trailer, trailer_len,
			record_print(session, session_closed_state(session)), files_finished,
			session);
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
	uint8_t *trailer = memory_get(size);

	*len = 0;
	for (unsigned i = 0; i < session->n_ports; i++) {
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

	if (err->code != 0 && !run->finish_again) {
		files_finish_again(session, err);
		return;
	}
	run->finished = true;
	run->finish_rc = -err->code;
	if (err->code != 0) {
		log_error("capture %s cannot be closed: %s", session_id_text(session), err->text);
		session_message_set(session, err->text);
		session->ledger.durable = capture_durable_packets(run->capture);
	}
	session_end_check(session);
}

/* What failed for a moment must not cost a file; what a failed sync leaves is closed and never believed. */
static void files_finish_again(struct session *session, const struct err *err)
{
	struct session_run *run = session->run;

	run->finish_again = true;
	session_event_add(session, "its file could not be closed at once: %s", err->text);
	suspect_tell(session);
	session->ledger.durable = capture_durable_packets(run->capture);
	capture_finish_again(run->capture, record_print(session, session_closed_state(session)));
}

static void suspect_tell(struct session *session)
{
	const int suspect = capture_suspect(session->run->capture);
	char text[224];

	if (suspect == 0)
		return;
	if (session_end_state(session) == SESSION_complete)
		session->reason = END_io_error;
	if (session->message != NULL)
		return;
	snprintf(text, sizeof(text),
		"the disk did not confirm what was written (%s): packets behind the durable mark "
		"may be lost in a power cut, or be lost already",
		strerror(-suspect));
	session_message_set(session, text);
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
	session_end_check(run->session);
}

/* What the file takes stays counted, and closing it is tried again. */
static void unclosed_keep(struct session *session)
{
	struct session_run *run = session->run;

	session->left_bytes = capture_allocated_bytes(run->capture);
	session->size_bytes = 0;
	session->unclosed = run->capture;
	session->unclosed_ns = clock_monotonic_ns();
	run->capture = NULL;
}

/* Now and then, of a session whose file could not be closed: there may be space now, or a disk. */
void session_end_again(struct session *session)
{
	const uint64_t now_ns = clock_monotonic_ns();
	char *record;

	if ((session->unclosed == NULL && !session->unmerged) || session->closing_again ||
		session->expiring || session->deleters != NULL ||
		now_ns - session->unclosed_ns < CLOSE_AGAIN_NS)
		return;
	session->unclosed_ns = now_ns;
	if (session->unclosed == NULL) {
		session_job_merge_again(session);
		return;
	}
	record = record_print(session, session_closed_state(session));
	if (!capture_finish_later(session->unclosed, record, closed_again, session)) {
		capture_free(session->unclosed);
		session->unclosed = NULL;
		return;
	}
	session->closing_again = true;
	session_hold(session);
}

static void closed_again(void *arg, const struct err *err)
{
	struct session *session = arg;
	struct capture *capture = session->unclosed;

	session->closing_again = false;
	session->unclosed_ns = clock_monotonic_ns();
	if (err->code != 0) {
		session_job_closed(session, SESSION_failed);
		session_release(session);
		return;
	}
	session->unclosed = NULL;
	session->left_bytes = 0;
	session->size_bytes = capture_size_bytes(capture);
	session_event_add(session, "the file could be closed now");
	log_info("capture %s could be closed now", session_id_text(session));
	if (capture_merges(capture)) {
		session_state_set(session, SESSION_converting);
		session_job_merge(session, record_print(session, session_closed_state(session)));
	} else {
		session_job_closed(session, session_closed_state(session));
	}
	capture_free(capture);
	session_release(session);
}

void session_end_check(struct session *session)
{
	struct session_run *run = session->run;
	bool merges;

	if (run == NULL || !run->unplugged || !run->finished || run->start_pending)
		return;
	merges = run->capture != NULL && run->finish_rc == 0 && capture_merges(run->capture);
	if (run->finish_rc != 0) {
		unclosed_keep(session);
		if (session_end_state(session) == SESSION_complete)
			session->reason = run->finish_rc == -ENOSPC ? END_disk_full : END_io_error;
	}
	session->run = NULL;
	totals_add(&session->ledger);
	if (merges) {
		session_state_set(session, SESSION_converting);
		session_job_merge(session, record_print(session, session_closed_state(session)));
	} else if (run->finish_rc != 0) {
		session_state_set(session, SESSION_failed);
	} else {
		session_state_set(session, session_closed_state(session));
	}
	session_run_free(run);
	session_waiters_tell(&session->stopped, session, &no_error);
	if (session->state == SESSION_uploading)
		session_upload_begin(session);
	if (session_state_closed(session->state))
		session_waiters_tell(&session->closed, session, &no_error);
}

/* What a session that ended for its reason is, once its file is closed. */
enum session_state session_end_state(const struct session *session)
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

void session_run_free(struct session_run *run)
{
	if (run->time_event != NULL)
		event_free(run->time_event);
	if (run->stop_event != NULL)
		event_free(run->stop_event);
	if (run->files_event != NULL)
		event_free(run->files_event);
	tap_free(run->tap);
	if (run->stream_fd >= 0)
		close(run->stream_fd);
	filter_put(run->filter);
	capture_free(run->capture);
	free(run);
}
