/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/service.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <event2/event.h>
#include <systemd/sd-daemon.h>

#include "config/log.h"
#include "control/stall.h"
#include "engine/engine.h"

#define FEEDS 4 /* in the time after which the service manager gives up on us */

static struct event *feed_event;
static struct engine_status before;
static struct service_watchdog watchdog;

static void feed(evutil_socket_t fd, short what, void *arg);
static bool all_moved(const struct engine_status *now);

int service_ready(struct event_base *base)
{
	uint64_t patience_us = 0;

	sd_notify(0, "READY=1");
	if (sd_watchdog_enabled(0, &patience_us) <= 0)
		return 0;
	feed_event = event_new(base, -1, EV_PERSIST, feed, NULL);
	if (feed_event == NULL)
		return -ENOMEM;
	patience_us /= FEEDS;
	event_add(feed_event, &(struct timeval){.tv_sec = patience_us / 1000000,
				      .tv_usec = patience_us % 1000000});
	engine_status(&before);
	engine_wake();
	return 0;
}

const struct service_watchdog *service_watchdog(void)
{
	return &watchdog;
}

void service_stopping(void)
{
	sd_notify(0, "STOPPING=1");
	if (feed_event != NULL)
		event_free(feed_event);
	feed_event = NULL;
}

/* Who slept was woken the time before, so a round that was not made since then is one that hangs. A
 * writer may hang in the kernel with a disk that does not answer, which a restart does not help. */
static void feed(evutil_socket_t fd, short what, void *arg)
{
	struct engine_status now;

	engine_status(&now);
	if (all_moved(&now)) {
		sd_notify(0, "WATCHDOG=1");
		watchdog.fed++;
	} else {
		watchdog.held++;
	}
	before = now;
	engine_wake();
}

static bool all_moved(const struct engine_status *now)
{
	bool moved = true;

	for (unsigned i = 0; i < now->n_lcores; i++) {
		if (now->lcores[i].rounds != before.lcores[i].rounds ||
			(stall_get()->stalled && strcmp(now->lcores[i].role, "writer") == 0))
			continue;
		log_error("%s %u on CPU %u does not move: the watchdog is not fed",
			now->lcores[i].role, now->lcores[i].lcore, now->lcores[i].cpu);
		moved = false;
	}
	return moved;
}
