/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/publish.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/time.h>

#include <event2/event.h>

#include "engine/engine.h"

static struct {
	struct event *event;
	struct publish_wait *waits; /* for the publication to come */
} publish;

static void turn_end(evutil_socket_t fd, short what, void *arg);
static void batch_done(void *arg);

int publish_init(struct event_base *base)
{
	publish.event = event_new(base, -1, 0, turn_end, NULL);
	return publish.event != NULL ? 0 : -ENOMEM;
}

void publish_fini(void)
{
	if (publish.event != NULL)
		event_free(publish.event);
	publish.event = NULL;
}

void publish_soon(struct publish_wait *wait)
{
	if (wait != NULL) {
		wait->next = publish.waits;
		publish.waits = wait;
	}
	event_active(publish.event, EV_TIMEOUT, 0);
}

static void turn_end(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval retry = {.tv_usec = 10000};
	struct publish_wait *waits = publish.waits;

	publish.waits = NULL;
	if (engine_commit(batch_done, waits) == 0)
		return;
	/* No memory for a new set: the old one stands, and we come again. */
	publish.waits = waits;
	event_add(publish.event, &retry);
}

static void batch_done(void *arg)
{
	struct publish_wait *wait = arg;

	while (wait != NULL) {
		struct publish_wait *next = wait->next;

		wait->done(wait);
		wait = next;
	}
}
