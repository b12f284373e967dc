/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Watching for tests of the API: nothing comes but what a test tells.
 */
#include "fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pcapng.h"

struct watcher {
	struct watcher *next;
	const struct session *session;
	const struct watch_ops *ops; /* NULL: removed */
	void *arg;
};

static struct watcher *watchers;
static uint64_t serial;

struct watcher *watch_add(
	struct session *session, const struct watch_ops *ops, void *arg, struct err *err)
{
	struct watcher *watcher;
	struct session_info info;

	session_info(session, &info);
	if (info.state != SESSION_running) {
		err_set(err, EBUSY, NULL, "the capture is %s: only a running one can be watched",
			session_state_name(info.state));
		return NULL;
	}
	watcher = calloc(1, sizeof(*watcher));
	watcher->session = session;
	watcher->ops = ops;
	watcher->arg = arg;
	watcher->next = watchers;
	watchers = watcher;
	return watcher;
}

void watch_remove(struct watcher *watcher)
{
	if (watcher != NULL)
		watcher->ops = NULL;
}

void *watch_header(const struct session *session, size_t *len)
{
	uint8_t *header = malloc(1024);

	*len = pcapng_section_put(header, 1024, &(struct pcapng_section){0});
	*len += pcapng_interface_put(header + *len, 1024 - *len, &(struct pcapng_interface){0});
	return header;
}

static void sweep(void)
{
	struct watcher **at = &watchers;

	while (*at != NULL) {
		struct watcher *watcher = *at;

		if (watcher->ops != NULL) {
			at = &watcher->next;
			continue;
		}
		*at = watcher->next;
		free(watcher);
	}
}

unsigned fake_watch_tell(const struct session *session, unsigned n,
	const struct watch_packet *packets, uint64_t skipped)
{
	const struct watch_batch batch = {
		.serial = ++serial, .n = n, .packets = packets, .skipped = skipped};
	unsigned n_told = 0;

	for (struct watcher *w = watchers; w != NULL; w = w->next) {
		if (w->session != session || w->ops == NULL)
			continue;
		w->ops->batch(w->arg, &batch);
		n_told++;
	}
	sweep();
	return n_told;
}

void fake_watch_end(const struct session *session)
{
	for (struct watcher *w = watchers; w != NULL; w = w->next) {
		if (w->session != session || w->ops == NULL)
			continue;
		w->ops->ended(w->arg, session);
		w->ops = NULL;
	}
	sweep();
}
