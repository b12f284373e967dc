/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Watching running captures: what their mirrors show is read a hundred times a second, put in order
 * of time and told to all watchers of a capture at once. Who watches costs the capture nothing; what
 * the mirrors had no room for is told as a number. Control thread only; nothing blocks.
 */
#ifndef CONTROL_WATCH_H
#define CONTROL_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/err.h"

#define WATCH_BATCH_MAX 1024

struct event_base;
struct session;
struct watcher;

struct watch_packet {
	uint64_t
		number; /* among the capture's packets since it is watched, 1 first; skipped count */
	uint64_t time_ns;
	uint64_t skipped; /* packets that were not shown directly before this one */
	uint32_t interface;
	uint32_t cap_len;
	uint32_t orig_len;
	uint32_t block_len;
	const uint8_t *block; /* the whole enhanced packet block */
	const uint8_t *data;
};

struct watch_batch {
	uint64_t serial; /* no two batches have the same, and none 0 */
	unsigned n;
	const struct watch_packet *packets; /* valid during the call */
	uint64_t
		skipped; /* the sum over packets; and behind the last one, once the capture has ended */
};

struct watch_ops {
	/* Packets came, or skipped ones are known. The same batch goes to every watcher of the capture. */
	void (*batch)(void *arg, const struct watch_batch *batch);
	/* The capture has ended and all its packets were told: the watcher is freed after the call. */
	void (*ended)(void *arg, const struct session *session);
};

/* Before the first watcher. */
void watch_init(struct event_base *base);

/*
 * Tell arg of session's packets from now on. NULL with err: EBUSY, the capture is not running;
 * ENOMEM. No op is called from within.
 */
struct watcher *watch_add(
	struct session *session, const struct watch_ops *ops, void *arg, struct err *err);
/* Not after ended. May be called from within any op. NULL is fine. */
void watch_remove(struct watcher *watcher);

/* The section and interface blocks that belong before the packets; malloc'ed. NULL without memory. */
void *watch_header(const struct session *session, size_t *len);

/* session_end.c: the capture's tap has drained and will be freed. */
void watch_end(struct session *session);

#endif
