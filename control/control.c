/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The control thread's clockwork: the engine's events, the timers, start and stop in order.
 */
#include "control/control.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "config/log.h"
#include "control/admission.h"
#include "control/audit.h"
#include "control/bottleneck.h"
#include "control/ceiling.h"
#include "control/device.h"
#include "control/job.h"
#include "control/load.h"
#include "control/merge.h"
#include "control/ownership.h"
#include "control/publish.h"
#include "control/quota.h"
#include "control/s3.h"
#include "control/service.h"
#include "control/session_state.h"
#include "control/spare.h"
#include "control/spare_fill.h"
#include "control/stall.h"
#include "control/store.h"
#include "control/table.h"
#include "control/watch.h"
#include "engine/clock.h"
#include "engine/engine.h"

#define CONTROL_NICE (-10) /* like writers: heard even where an RX lcore spins on the same CPU */
#define TICK_MS      100
#define STOP_WAIT_NS (40 * CLOCK_NS_PER_S) /* for a disk that does not answer; of the unit's 60 s */
#define TICKS_QUOTA  3                     /* a disk that fills up is seen in time */
#define TICKS_SLOW   10 /* ticks between the things that are done once a second */
#define TICKS_TRIM   100
#define TEND_MS_MIN  5
#define TEND_SHARE   10 /* of the time in which what is accepted is to be durable */

static struct {
	struct event_base *base;
	struct event *engine_event;
	struct event *tick_event;
	struct event *tend_event;
	unsigned n_ticks;
	uint64_t started_ns;
	bool stopping;
} control;

static uint64_t max(uint64_t a, uint64_t b);
static void risk_add(struct control_status *status, const struct ledger *ledger);
static void engine_ready(evutil_socket_t fd, short what, void *arg);
static void tick(evutil_socket_t fd, short what, void *arg);
static void tend(evutil_socket_t fd, short what, void *arg);
static unsigned tend_ms(const struct config *config);
static void sessions_stop_all(void);
static bool sessions_stopped(void);
static bool sessions_idle(void);

int control_start(const struct config *config, struct event_base *base, struct err *err)
{
	const struct timeval every = {.tv_usec = TICK_MS * 1000};
	const struct timeval tend_every = {.tv_usec = tend_ms(config) * 1000};
	int rc;

	control.base = base;
	control.started_ns = clock_monotonic_ns();
	/* Not ours to have without the privilege; the workers inherit it, bulk work gives it back. */
	setpriority(PRIO_PROCESS, gettid(), CONTROL_NICE);
	session_init(config, base);
	spare_init(config);
	admission_init(config);
	watch_init(base);
	rc = store_open(config->storage.root, err);
	if (rc != 0)
		return rc;
	ownership_start(config);
	rc = publish_init(base);
	if (rc == 0)
		rc = s3_init();
	if (rc == 0)
		rc = job_workers_start(base);
	if (rc != 0)
		return err_set(err, -rc, NULL, "cannot start the workers: %s", strerror(-rc));
	rc = device_start(err);
	if (rc != 0)
		return rc;
	rc = audit_start(config->storage.root, base, err);
	if (rc != 0)
		return rc;
	control.engine_event =
		event_new(base, engine_event_fd(), EV_READ | EV_PERSIST, engine_ready, NULL);
	control.tick_event = event_new(base, -1, EV_PERSIST, tick, NULL);
	control.tend_event = event_new(base, -1, EV_PERSIST, tend, NULL);
	if (control.engine_event == NULL || control.tick_event == NULL ||
		control.tend_event == NULL)
		return err_set(err, ENOMEM, NULL, "no memory for the event loop");
	event_add(control.engine_event, NULL);
	event_add(control.tick_event, &every);
	event_add(control.tend_event, &tend_every);
	rc = session_load();
	if (rc != 0)
		return err_set(err, -rc, "storage.root", "cannot read %s: %s", config->storage.root,
			strerror(-rc));
	quota_init(config);
	ceiling_init(config);
	spare_fill_init(config);
	return 0;
}

int control_stop(void)
{
	const uint64_t deadline_ns = clock_monotonic_ns() + STOP_WAIT_NS;

	control.stopping = true;
	ceiling_yield();
	spare_fill_yield();
	s3_cancel_all();
	if (control.engine_event != NULL) {
		merge_cancel();
		sessions_stop_all();
		while (!sessions_stopped()) {
			if (stall_get()->stalled && clock_monotonic_ns() >= deadline_ns)
				return -ETIMEDOUT;
			event_base_loop(control.base, EVLOOP_ONCE);
		}
		event_free(control.tick_event);
		event_free(control.tend_event);
		event_del(control.engine_event);
	}
	if (!job_drain(deadline_ns))
		return -ETIMEDOUT;
	job_workers_stop();
	audit_stop();
	ownership_stop();
	if (control.engine_event != NULL)
		event_free(control.engine_event);
	publish_fini();
	session_fini();
	s3_fini();
	spare_fill_fini();
	store_close();
	memset(&control, 0, sizeof(control));
	return 0;
}

void control_status(struct control_status *status)
{
	*status = (struct control_status){
		.uptime_ns = clock_monotonic_ns() - control.started_ns,
		.storage_size_bytes = quota_size_bytes(),
		.storage_used_bytes = quota_used_bytes(),
		.storage_quota_bytes = quota_limit_bytes(),
		.storage_free_bytes = quota_free_bytes(),
		.storage_held = quota_holds(),
		.retention_paused = quota_age_paused(),
		.storage_spare_bytes = spare_bytes(),
		.storage_stalled_since_ns = stall_get()->since_ns,
		.storage_stalls = stall_get()->n,
		.storage_stalled_ns = stall_get()->ns,
		.ceiling = ceiling_get(),
		.bottleneck = bottleneck_name(),
		.explanation = bottleneck_text(),
		.bottleneck_since_ns = bottleneck_since_ns(),
		.load = load_get(),
		.sync_failures = capture_sync_failures(),
		.watchdog_fed = service_watchdog()->fed,
		.watchdog_held = service_watchdog()->held,
	};
	admission_status(&status->admission);
	for (const struct session *s = table_active(); s != NULL; s = s->active_next) {
		struct session_info info;

		if (session_state_closed(s->state))
			continue;
		session_info(s, &info);
		if (!session_output_is_file(info.output))
			continue;
		risk_add(status, &info.ledger);
		if (s->run != NULL && s->run->capture != NULL)
			status->at_risk_ns =
				max(status->at_risk_ns, capture_risk_ns(s->run->capture));
	}
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Accepted and not yet behind a sync: written, or still in memory. Bytes are packets of mean length. */
static void risk_add(struct control_status *status, const struct ledger *ledger)
{
	const uint64_t held = ledger->written + ledger->in_flight;
	const uint64_t packets = held > ledger->durable ? held - ledger->durable : 0;

	status->at_risk_packets += packets;
	if (ledger->written != 0)
		status->at_risk_bytes +=
			(uint64_t)((double)ledger->written_bytes * packets / ledger->written);
}

static void engine_ready(evutil_socket_t fd, short what, void *arg)
{
	engine_event_clear();
	session_engine_event();
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	stall_tick();
	device_refresh(session_ports_check);
	session_clock_check();
	if (++control.n_ticks % TICKS_QUOTA == 0)
		quota_tick();
	if (control.n_ticks % TICKS_SLOW != 0)
		return;
	load_sample();
	bottleneck_sample();
	admission_tick();
	session_upload_tick();
	ownership_tick();
	if (control.n_ticks % TICKS_TRIM == 0)
		malloc_trim(0); /* holes between what stays */
	ceiling_tick(sessions_idle());
	spare_fill_tick(sessions_idle());
}

static void tend(evutil_socket_t fd, short what, void *arg)
{
	session_tend();
}

static unsigned tend_ms(const struct config *config)
{
	const uint64_t share_ms = config->storage.durable_every_ms / TEND_SHARE;

	return share_ms < TEND_MS_MIN ? TEND_MS_MIN : share_ms < TICK_MS ? share_ms : TICK_MS;
}

/* Nothing writes, and nothing is about to. An upload may wait for its bucket for days. */
static bool sessions_idle(void)
{
	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s))
		if (!session_state_closed(s->state) &&
			(s->state != SESSION_uploading || s->upload.work != NULL))
			return false;
	return true;
}

static void sessions_stop_all(void)
{
	for (struct session *s = session_next(NULL); s != NULL; s = session_next(s))
		session_stop(s, END_shutdown, NULL, NULL);
}

/* Merges and uploads may wait for the next start; everything else is brought to its end. */
static bool sessions_stopped(void)
{
	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s))
		if (s->state != SESSION_converting && s->state != SESSION_uploading &&
			!session_state_closed(s->state))
			return false;
	return true;
}
