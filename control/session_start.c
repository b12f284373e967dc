/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The beginning of a session. Each step that may block is a job on a worker and its callback is the
 * next step, so the way reads downwards:
 *
 *   filter -> ports -> tap and files -> publication -> running, or undone and told
 *
 * Control thread.
 */
#include "control/session_state.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "control/ceiling.h"
#include "control/record.h"
#include "control/s3_url.h"
#include "control/spec.h"
#include "control/stream.h"
#include "control/table.h"
#include "control/upload.h"
#include "engine/clock.h"
#include "engine/pcapng.h"

#define FRAME_LEN_USUAL 1518
#define WIRE_BITS_MIN   (84 * 8) /* that the shortest frame takes on a wire */
#define FILES_WAIT_S    5        /* a disk that has not made a few files by then does not answer */

static int key_set(struct session *session, const char *object);
static int start_stream(struct session *session, struct err *err);
static bool filter_is_closed(const char *filter);
static int filter_compile_all(struct session *session);
static void filter_ready(evutil_socket_t fd, short what, void *arg);
static void start_ports(struct session *session);
static void port_acquired(struct device_wait *wait, const struct err *err);
static void start_tap(struct session *session);
static uint64_t rate_max_pps(const struct session *session);
static uint64_t expected_bytes(const struct session *session);
static int tap_make(struct session *session, size_t header_len, struct err *err);
static void files_late(evutil_socket_t fd, short what, void *arg);
static void files_created(void *arg, const struct err *err);
static void start_publish(struct session *session);
static void start_published(struct publish_wait *wait);
static void time_over(evutil_socket_t fd, short what, void *arg);
static void start_fail(struct session *session, const struct err *err);
static void fail_released(struct device_wait *wait, const struct err *err);
static void fail_free(struct session *session);

static const struct err no_error;

struct session *session_start_new(const struct session_spec *spec)
{
	struct session *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->run = calloc(1, sizeof(*session->run));
	if (session->run != NULL)
		*session->run = (struct session_run){.session = session, .stream_fd = -1};
	uuid_make(&session->id);
	if (session->run == NULL || session_text_set(&session->name, spec->name) != 0 ||
		session_text_set(&session->notes, spec->notes) != 0 ||
		session_text_set(&session->account, spec->account) != 0 ||
		session_text_set(&session->owner, spec->owner) != 0 ||
		session_text_set(&session->filter, spec->filter) != 0 ||
		session_text_set(&session->stream_address, spec->stream_address) != 0 ||
		session_text_set(&session->bucket, spec->bucket) != 0 ||
		session_text_set(&session->prefix, spec->prefix) != 0 ||
		key_set(session, spec->object) != 0 ||
		session_text_set(&session->vendor, spec->vendor) != 0) {
		free(session->run);
		session_free(session);
		return NULL;
	}
	session->run->begins = spec->begins;
	session->dialect = spec->dialect;
	session->n_ports = spec->n_ports;
	for (unsigned i = 0; i < spec->n_ports; i++) {
		session->ports[i] = spec->ports[i];
		snprintf(session->port_names[i], CONFIG_NAME_MAX, "%s",
			engine_port(spec->ports[i])->config->name);
	}
	session->sample_mode = spec->sample_mode;
	session->sample_n = spec->sample_mode == SAMPLE_NONE ? 1 : spec->sample_n;
	session->rate_pps = spec->rate_pps;
	session->snaplen_bytes = spec->snaplen_bytes != 0 ? spec->snaplen_bytes : TAP_SNAPLEN_MAX;
	session->direction = spec->direction;
	session->limit_packets = spec->limit_packets;
	session->limit_bytes = spec->limit_bytes;
	session->limit_ns = spec->limit_ns;
	session->limit_file_bytes = spec->limit_file_bytes;
	session->expected_bytes = spec->expected_bytes;
	session->expected_packets = spec->expected_packets;
	session->degraded = (struct session_degraded){
		.snaplen_bytes = session->snaplen_bytes,
		.sample_mode = session->sample_mode,
		.sample_n = session->sample_n,
	};
	session->output = spec->output;
	session->encapsulation = spec->encapsulation;
	session->stream_port = spec->stream_port != 0 || spec->output != OUTPUT_STREAM
				       ? spec->stream_port
				       : sink_stream_encapsulation_port(spec->encapsulation);
	session->replaces = spec->replaces;
	session->created_ns = clock_wall_ns();
	return session;
}

void session_start_begin(struct session *session)
{
	struct session_run *run = session->run;
	struct err err = {0};
	int fd;

	if (session->output == OUTPUT_STREAM && !filter_is_closed(session->filter)) {
		err_set(&err, EINVAL, "filter", "has parentheses that do not match");
		start_fail(session, &err);
		return;
	}
	if (session->output == OUTPUT_STREAM && start_stream(session, &err) < 0) {
		start_fail(session, &err);
		return;
	}
	if (session->filter[0] == '\0' && run->stream_filter[0] == '\0') {
		start_ports(session);
		return;
	}
	fd = filter_compile_all(session);
	if (fd < 0) {
		err_set(&err, EAGAIN, "filter", "the filter compiler is not there: %s",
			strerror(-fd));
		start_fail(session, &err);
		return;
	}
	run->filter_event = event_new(sessions.base, fd, EV_READ, filter_ready, session);
	event_add(run->filter_event, NULL);
}

/* The object's, which the id makes the only one of its name. */
static int key_set(struct session *session, const char *object)
{
	const struct config_bucket *bucket = config_bucket_find(sessions.config, session->bucket);
	const char *id_at = object != NULL ? strstr(object, "{id}") : NULL;
	char id[UUID_TEXT_SIZE], name[SESSION_NAME_MAX], key[S3_KEY_MAX] = "";

	if (id_at != NULL) {
		uuid_print_hex(&session->id, id);
		snprintf(name, sizeof(name), "%.*s%s%s", (int)(id_at - object), object, id,
			id_at + strlen("{id}"));
	} else {
		uuid_print(&session->id, id);
		snprintf(name, sizeof(name), "%s" UPLOAD_SUFFIX, id);
	}
	if (bucket != NULL && s3_key(bucket, session->prefix, name, key) != 0)
		return -ENAMETOOLONG;
	return session_text_set(&session->key, key);
}

/* The socket, and what its own packets look like. */
static int start_stream(struct session *session, struct err *err)
{
	struct session_run *run = session->run;
	struct sockaddr_storage to;

	stream_target(session->stream_address, (unsigned)session->stream_port,
		session->encapsulation, &to);
	run->stream_fd =
		sink_stream_open(&to, sessions.config->stream.source_port, run->stream_filter, err);
	return run->stream_fd >= 0 ? 0 : -err->code;
}

/* ") or (" would be a way around the parentheses that a filter is put into. */
static bool filter_is_closed(const char *filter)
{
	int depth = 0;

	for (; *filter != '\0' && depth >= 0; filter++)
		depth += (*filter == '(') - (*filter == ')');
	return depth == 0;
}

/* What the user asked for, of what is not our own stream; in this order, see sink_stream_open. */
static int filter_compile_all(struct session *session)
{
	const char *own = session->run->stream_filter;
	char *text;
	int fd;

	if (own[0] == '\0')
		return filter_compile_start(session->filter);
	if (session->filter[0] == '\0')
		return filter_compile_start(own);
	if (asprintf(&text, "%s and (%s)", own, session->filter) < 0)
		return -ENOMEM;
	fd = filter_compile_start(text);
	free(text);
	return fd;
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
		.snaplen_bytes = session->degraded.snaplen_bytes};
	struct err err = {0};
	size_t header_len;
	void *header;
	char *record;

	memcpy(spec.ports, session->ports, sizeof(spec.ports));
	header = spec_header(&spec, &header_len);
	if (header == NULL)
		err_set(&err, ENOMEM, NULL, "no memory for another capture");
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
	if (!session_output_is_file(session->output)) {
		free(header);
		start_publish(session);
		return;
	}
	run->capture = capture_new(
		&session->id, tap_lanes(run->tap), expected_bytes(session), header, header_len);
	record = record_print(session, SESSION_running);
	if (run->capture == NULL || record == NULL) {
		free(record);
		err_set(&err, EAGAIN, NULL, "no memory for another capture");
		start_fail(session, &err);
		return;
	}
	capture_bounds(run->capture, rate_max_pps(session));
	if (sessions.config->storage.on_full == CONFIG_ON_FULL_WAIT)
		capture_wait(run->capture);
	run->files_event = event_new(sessions.base, -1, 0, files_late, session);
	event_add(run->files_event, &(struct timeval){.tv_sec = FILES_WAIT_S});
	capture_create(run->capture, record, files_created, session);
}

/* More packets a second than that cannot be accepted; 0: nobody knows. */
static uint64_t rate_max_pps(const struct session *session)
{
	uint64_t sum = 0;

	if (session->rate_pps != 0)
		return session->rate_pps;
	for (unsigned i = 0; i < session->n_ports; i++) {
		const struct port *port = engine_port(session->ports[i]);
		uint64_t pps = port->config->rate_pps;

		if (pps == 0)
			pps = __atomic_load_n(&port->speed_mbps, __ATOMIC_RELAXED) * 1000000ULL /
			      WIRE_BITS_MIN * 2; /* in and out */
		if (pps == 0)
			return 0;
		sum += pps;
	}
	return sum;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* About how large the file will be at most, by the limits; UINT64_MAX without any. */
static uint64_t expected_bytes(const struct session *session)
{
	const struct ceiling *ceiling = ceiling_get();
	uint64_t bytes = UINT64_MAX;

	if (session->limit_file_bytes != 0)
		bytes = session->limit_file_bytes;
	if (session->limit_bytes != 0)
		bytes = least(bytes, session->limit_bytes);
	if (session->limit_packets != 0)
		bytes = least(bytes, least(session->limit_packets, UINT32_MAX) *
					     least(session->snaplen_bytes, FRAME_LEN_USUAL));
	if (session->limit_ns != 0 && ceiling != NULL)
		bytes = least(
			bytes, session->limit_ns / 1000 * (ceiling->touched_bytes_per_s / 1000000));
	return bytes;
}

static int tap_make(struct session *session, size_t header_len, struct err *err)
{
	static const enum sink_kind sinks[] = {[OUTPUT_FILE] = SINK_FILE,
		[OUTPUT_NONE] = SINK_NULL,
		[OUTPUT_STREAM] = SINK_STREAM,
		[OUTPUT_S3] = SINK_FILE};
	const uint64_t fixed = header_len + (uint64_t)session->n_ports * PCAPNG_STATISTICS_MAX;
	struct tap_spec spec = {
		.n_ports = session->n_ports,
		.filter = session->run->filter,
		.sample_mode = session->degraded.sample_mode,
		.sample_n = (uint32_t)session->degraded.sample_n,
		.rate_pps = session->rate_pps,
		.snaplen_bytes = (uint32_t)session->degraded.snaplen_bytes,
		.direction = session->direction,
		.limit_packets = session->limit_packets,
		.limit_bytes = session->limit_bytes,
		.limit_ns = session->limit_ns,
		.sink = sinks[session->output],
		.waits = sessions.config->storage.on_full == CONFIG_ON_FULL_WAIT,
		.stream_fd = session->run->stream_fd,
		.encapsulation = session->encapsulation,
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

	event_del(session->run->files_event);
	if (err->code != 0) {
		start_fail(session, err);
		return;
	}
	capture_connect(session->run->capture, session->run->tap);
	start_publish(session);
}

/* Whoever asked is answered; what the disk makes of it later is removed. */
static void files_late(evutil_socket_t fd, short what, void *arg)
{
	struct session *session = arg;
	struct err err = {0};

	capture_abandon(session->run->capture);
	session->run->capture = NULL;
	err_set(&err, EAGAIN, NULL,
		"the storage does not answer: the capture's files are not made after %d s",
		FILES_WAIT_S);
	start_fail(session, &err);
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
	run->start_ns = clock_monotonic_ns();
	session_time_set(session);
	session_state_set(session, SESSION_running);
	if (run->begins != NULL)
		run->begins(session);
}

void session_time_set(struct session *session)
{
	struct session_run *run = session->run;
	const uint64_t gone_ns = clock_monotonic_ns() - run->start_ns;
	const uint64_t left_ns = session->limit_ns > gone_ns ? session->limit_ns - gone_ns : 0;
	const struct timeval left = {
		.tv_sec = (time_t)(left_ns / CLOCK_NS_PER_S),
		.tv_usec = (suseconds_t)(left_ns % CLOCK_NS_PER_S / 1000),
	};

	if (run->time_event == NULL)
		run->time_event = event_new(sessions.base, -1, 0, time_over, session);
	if (session->limit_ns != 0)
		event_add(run->time_event, &left);
	else
		event_del(run->time_event);
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
	session_waiters_tell(&run->started, session, &no_error);
	session_end_check(session);
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
	session_waiters_tell(&run->started, NULL, &err);
	session_waiters_tell(&session->stopped, NULL, &err);
	session_closed_tell_gone(session, NULL); /* what is to be deleted never came to be */
	session_run_free(run);
	session->orphan = true;
	if (session->n_jobs == 0)
		session_free(session);
}
