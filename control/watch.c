/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One struct watch per watched capture, one timer for all of them, which runs while there is one.
 * Watchers and watches that go while a round runs are marked and freed at its end.
 */
#include "control/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "control/session_state.h"
#include "control/spec.h"
#include "engine/mirror.h"
#include "engine/pcapng.h"
#include "engine/port.h"

#define POLL_US 10000

struct watcher {
	struct watcher *next;
	struct watch *watch;
	const struct watch_ops *ops; /* NULL: removed */
	void *arg;
};

struct watch {
	struct watch *next;
	struct session *session; /* NULL: it has ended */
	struct tap *tap;
	struct watcher *watchers;
	uint64_t number;
	uint64_t skipped; /* not told yet: the next packet's */
};

/* What one lane shows in this round. */
struct view {
	struct mirror *mirror;
	const uint8_t *data;
	size_t len;
	size_t used;
};

static struct {
	struct event_base *base;
	struct event *timer;
	struct watch *all;
	uint64_t serial;
	unsigned round; /* depth of calls that walk the lists */
	struct watch_packet packets[WATCH_BATCH_MAX];
	struct view views[CONFIG_PORTS_MAX * PORT_QUEUES_MAX];
} watches;

static struct watch *watch_find(const struct session *session);
static struct watch *watch_new(struct session *session);
static int mirrors_open(struct watch *watch);
static bool mirrors_close(struct watch *watch);
static void timer_start(void);
static void timer_fired(evutil_socket_t fd, short what, void *arg);
static void watch_read(struct watch *watch);
static unsigned views_open(struct watch *watch);
static bool packet_next(struct watch *watch, unsigned n_views, struct watch_packet *packet);
static bool view_gaps(struct watch *watch, struct view *view);
static void batch_tell(struct watch *watch, unsigned n, uint64_t skipped);
static void watches_sweep(void);

void watch_init(struct event_base *base)
{
	watches.base = base;
}

struct watcher *watch_add(
	struct session *session, const struct watch_ops *ops, void *arg, struct err *err)
{
	struct watcher *watcher;
	struct watch *watch;

	if (session->state != SESSION_running || session->run == NULL ||
		session->run->tap == NULL || session->run->removing) {
		err_set(err, EBUSY, NULL, "the capture is %s: only a running one can be watched",
			session_state_name(session->state));
		return NULL;
	}
	watch = watch_find(session);
	if (watch == NULL)
		watch = watch_new(session);
	watcher = calloc(1, sizeof(*watcher));
	if (watch == NULL || watcher == NULL || mirrors_open(watch) < 0) {
		free(watcher);
		err_set(err, ENOMEM, NULL, "no memory to watch a capture");
		return NULL; /* a watch without watchers goes with the next round */
	}
	watcher->watch = watch;
	watcher->ops = ops;
	watcher->arg = arg;
	watcher->next = watch->watchers;
	watch->watchers = watcher;
	return watcher;
}

void watch_remove(struct watcher *watcher)
{
	if (watcher != NULL)
		watcher->ops = NULL;
}

void *watch_header(const struct session *session, size_t *len)
{
	struct session_spec spec = {.n_ports = session->n_ports,
		.filter = session->filter,
		.snaplen_bytes = session->snaplen_bytes};

	memcpy(spec.ports, session->ports, sizeof(spec.ports));
	return spec_header(&spec, len);
}

void watch_end(struct session *session)
{
	struct watch *watch = watch_find(session);

	if (watch == NULL)
		return;
	watches.round++;
	watch_read(watch);
	for (unsigned i = 0; i < tap_lanes(watch->tap); i++)
		watch->skipped += mirror_last_gap(tap_mirror(watch->tap, i));
	if (watch->skipped != 0)
		batch_tell(watch, 0, watch->skipped);
	for (struct watcher *w = watch->watchers; w != NULL; w = w->next) {
		if (w->ops != NULL)
			w->ops->ended(w->arg, session);
		w->ops = NULL;
	}
	/* The mirrors go with the tap. */
	watch->session = NULL;
	watch->tap = NULL;
	watches.round--;
	watches_sweep();
}

static struct watch *watch_find(const struct session *session)
{
	struct watch *watch = watches.all;

	while (watch != NULL && watch->session != session)
		watch = watch->next;
	return watch;
}

static struct watch *watch_new(struct session *session)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		return NULL;
	watch->session = session;
	watch->tap = session->run->tap;
	watch->next = watches.all;
	watches.all = watch;
	timer_start();
	return watch;
}

static int mirrors_open(struct watch *watch)
{
	int rc = 0;

	for (unsigned i = 0; i < tap_lanes(watch->tap) && rc == 0; i++)
		rc = mirror_open(tap_mirror(watch->tap, i));
	return rc;
}

/* False: a writer is at one just now. */
static bool mirrors_close(struct watch *watch)
{
	bool closed = true;

	for (unsigned i = 0; watch->tap != NULL && i < tap_lanes(watch->tap); i++)
		closed &= mirror_close(tap_mirror(watch->tap, i));
	return closed;
}

static void timer_start(void)
{
	const struct timeval every = {.tv_usec = POLL_US};

	if (watches.timer == NULL)
		watches.timer = event_new(watches.base, -1, EV_PERSIST, timer_fired, NULL);
	if (watches.timer != NULL)
		event_add(watches.timer, &every);
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
	watches.round++;
	for (struct watch *watch = watches.all; watch != NULL; watch = watch->next)
		if (watch->tap != NULL)
			watch_read(watch);
	watches.round--;
	watches_sweep();
	if (watches.all == NULL) {
		event_free(watches.timer);
		watches.timer = NULL;
	}
}

/* Tell what the mirrors hold at this moment; what comes meanwhile waits for the next round. */
static void watch_read(struct watch *watch)
{
	const unsigned n_views = views_open(watch);
	uint64_t skipped;
	unsigned n;

	do {
		skipped = 0;
		for (n = 0; n < WATCH_BATCH_MAX; n++) {
			if (!packet_next(watch, n_views, &watches.packets[n]))
				break;
			skipped += watches.packets[n].skipped;
		}
		if (n > 0)
			batch_tell(watch, n, skipped);
		for (unsigned i = 0; i < n_views; i++) {
			mirror_drop(watches.views[i].mirror, watches.views[i].used);
			watches.views[i].data += watches.views[i].used;
			watches.views[i].len -= watches.views[i].used;
			watches.views[i].used = 0;
		}
	} while (n == WATCH_BATCH_MAX);
}

static unsigned views_open(struct watch *watch)
{
	unsigned n = 0;

	for (unsigned i = 0; i < tap_lanes(watch->tap); i++) {
		struct view *view = &watches.views[n];

		view->mirror = tap_mirror(watch->tap, i);
		view->len = mirror_peek(view->mirror, &view->data);
		view->used = 0;
		n += view->len > 0;
	}
	return n;
}

/* The oldest packet that a view begins with; false: there is none. */
static bool packet_next(struct watch *watch, unsigned n_views, struct watch_packet *packet)
{
	struct view *oldest = NULL;
	struct pcapng_epb_head head;

	for (unsigned i = 0; i < n_views; i++) {
		struct view *view = &watches.views[i];
		uint64_t time_ns;

		if (!view_gaps(watch, view))
			continue;
		memcpy(&head, view->data + view->used, sizeof(head));
		time_ns = (uint64_t)head.ts_high << 32 | head.ts_low;
		if (oldest != NULL && time_ns >= packet->time_ns)
			continue;
		oldest = view;
		packet->time_ns = time_ns;
	}
	if (oldest == NULL)
		return false;
	packet->block = oldest->data + oldest->used;
	memcpy(&head, packet->block, sizeof(head));
	packet->interface = head.interface_id;
	packet->cap_len = head.cap_len;
	packet->orig_len = head.orig_len;
	packet->block_len = head.total_len;
	packet->data = packet->block + sizeof(head);
	packet->skipped = watch->skipped;
	packet->number = watch->number += 1 + watch->skipped;
	watch->skipped = 0;
	oldest->used += head.total_len;
	return true;
}

/* Step over what was skipped; true: a packet follows. */
static bool view_gaps(struct watch *watch, struct view *view)
{
	while (view->used < view->len) {
		struct mirror_gap gap;

		memcpy(&gap, view->data + view->used, sizeof(gap));
		if (gap.type != MIRROR_GAP)
			return true;
		watch->skipped += (uint64_t)gap.skipped_high << 32 | gap.skipped_low;
		view->used += gap.len;
	}
	return false;
}

static void batch_tell(struct watch *watch, unsigned n, uint64_t skipped)
{
	const struct watch_batch batch = {
		.serial = ++watches.serial, .n = n, .packets = watches.packets, .skipped = skipped};

	for (struct watcher *w = watch->watchers; w != NULL; w = w->next)
		if (w->ops != NULL)
			w->ops->batch(w->arg, &batch);
}

/* Free what was removed, and close the mirrors that nobody looks at. */
static void watches_sweep(void)
{
	struct watch **at = &watches.all;

	if (watches.round != 0)
		return;
	while (*at != NULL) {
		struct watch *watch = *at;

		for (struct watcher **w = &watch->watchers; *w != NULL;) {
			struct watcher *watcher = *w;

			if (watcher->ops != NULL) {
				w = &watcher->next;
				continue;
			}
			*w = watcher->next;
			free(watcher);
		}
		if (watch->watchers != NULL || !mirrors_close(watch)) {
			at = &watch->next;
			continue;
		}
		*at = watch->next;
		free(watch);
	}
}
