/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Blocks are collected in one buffer while the one before is on its way: at most two of
 * LIVE_BUFFER_MAX per client.
 */
#include "api/live.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/packet.h"
#include "control/watch.h"
#include "engine/clock.h"
#include "engine/pcapng.h"
#include "api/pace.h"
#include "api/rfc3339.h"
#include "api/route.h"
#include "api/server.h"

#define BUFFER_LEAST 65536

struct live {
	struct request *request; /* NULL: the client has gone */
	struct watcher *watcher; /* NULL: the capture has ended */
	enum live_format format;
	uint8_t *buffer;
	size_t len, size;
	bool sending;
	struct pace pace; /* of lines */
	uint64_t started_ns;
	uint64_t received; /* packets of the capture that were shown or skipped */
	uint64_t delivered;
	uint64_t skipped;
	uint64_t skipped_untold;
};

static unsigned n_lives;

static const char *const types[] = {
	[LIVE_PCAPNG] = "application/x-pcapng",
	[LIVE_TEXT] = "text/plain; charset=utf-8",
};

static void live_fail(struct request *request, const struct err *err);
static void live_free(struct live *live);
static void packets_came(void *arg, const struct watch_batch *batch);
static void packet_take(struct live *live, const struct watch_packet *packet);
static void packet_skip(struct live *live);
static void capture_ended(void *arg, const struct session *session);
static bool block_put(struct live *live, const void *block, size_t len);
static bool gap_block_put(struct live *live, const struct watch_packet *packet);
static bool line_put(struct live *live, const struct watch_packet *packet);
static bool skipped_put(struct live *live);
static bool buffer_grow(struct live *live, size_t len);
static void buffer_send(struct live *live);
static void buffer_sent(void *arg);
static void client_gone(void *arg);

void live_start(struct request *request, struct session *session, enum live_format format)
{
	static const struct watch_ops ops = {.batch = packets_came, .ended = capture_ended};
	struct live *live = calloc(1, sizeof(*live));
	struct err err = {0};

	if (live == NULL || n_lives == LIVE_MAX) {
		err_set(&err, EAGAIN, NULL, "there are %u live downloads already", LIVE_MAX);
		free(live);
		route_error(request, 503, &err);
		return;
	}
	if (request->method == METHOD_HEAD) {
		free(live);
		server_reply(request, 200, NULL, NULL, 0);
		return;
	}
	n_lives++;
	live->started_ns = clock_wall_ns();
	live->format = format;
	if (format == LIVE_PCAPNG)
		live->buffer = watch_header(session, &live->len);
	live->size = live->len;
	if (format != LIVE_PCAPNG || live->buffer != NULL)
		live->watcher = watch_add(session, &ops, live, &err);
	else
		err_set(&err, ENOMEM, NULL, "no memory for a live download");
	if (live->watcher == NULL) {
		live_free(live);
		live_fail(request, &err);
		return;
	}
	live->request = request;
	server_stream_start(request, 200, types[format], SERVER_LENGTH_UNKNOWN, client_gone, live);
	buffer_send(live);
}

static void live_fail(struct request *request, const struct err *err)
{
	if (err->code == EBUSY)
		server_header_add(request, "Retry-After", "1");
	route_error(request, route_status(err), err);
}

static void live_free(struct live *live)
{
	n_lives--;
	free(live->buffer);
	free(live);
}

static void packets_came(void *arg, const struct watch_batch *batch)
{
	struct live *live = arg;
	uint64_t told = 0;
	unsigned n_lines = batch->n;

	if (live->format == LIVE_TEXT)
		n_lines = pace_take(&live->pace, LIVE_LINES_MAX, clock_monotonic_ns(), batch->n);
	for (unsigned i = 0; i < batch->n; i++) {
		live->skipped += batch->packets[i].skipped;
		live->skipped_untold += batch->packets[i].skipped;
		told += batch->packets[i].skipped;
		if (i >= n_lines)
			packet_skip(live);
		else
			packet_take(live, &batch->packets[i]);
	}
	live->skipped += batch->skipped - told;
	live->skipped_untold += batch->skipped - told;
	live->received += batch->n + batch->skipped;
	buffer_send(live);
}

static void packet_take(struct live *live, const struct watch_packet *packet)
{
	const bool taken = live->format == LIVE_TEXT ? line_put(live, packet)
			   : live->skipped_untold == 0
				   ? block_put(live, packet->block, packet->block_len)
				   : gap_block_put(live, packet);

	if (taken) {
		live->delivered++;
		live->skipped_untold = 0;
	} else {
		packet_skip(live);
	}
}

static void packet_skip(struct live *live)
{
	live->skipped++;
	live->skipped_untold++;
}

/* The last word: what this file holds and what it does not. */
static void capture_ended(void *arg, const struct session *session)
{
	struct live *live = arg;
	uint8_t block[PCAPNG_STATISTICS_MAX];
	const uint64_t now_ns = clock_wall_ns();

	live->watcher = NULL;
	if (live->format == LIVE_TEXT && live->skipped_untold != 0)
		skipped_put(live);
	if (live->format == LIVE_PCAPNG && buffer_grow(live, sizeof(block)))
		live->len += pcapng_statistics_put(live->buffer + live->len, sizeof(block),
			&(struct pcapng_statistics){
				.stamp_ns = now_ns,
				.start_ns = live->started_ns,
				.end_ns = now_ns,
				.received = live->received,
				.if_dropped = PCAPNG_UNKNOWN,
				.filter_accepted = live->received,
				.os_dropped = live->skipped,
				.delivered = live->delivered,
				.tail_gap = live->skipped_untold,
			});
	buffer_send(live);
}

static bool block_put(struct live *live, const void *block, size_t len)
{
	if (live->len + len > LIVE_BUFFER_MAX || !buffer_grow(live, len))
		return false;
	memcpy(live->buffer + live->len, block, len);
	live->len += len;
	return true;
}

/*
 * The packet's block made anew with an epb_dropcount that counts what was skipped too. Its flags, if
 * it has any, are the first option.
 */
static bool gap_block_put(struct live *live, const struct watch_packet *packet)
{
	const size_t head_len = PCAPNG_EPB_HEAD + pcapng_pad(packet->cap_len);
	const uint8_t *at = packet->block + head_len;
	const uint8_t *end = packet->block + packet->block_len - PCAPNG_EPB_TAIL;
	uint64_t dropcount = live->skipped_untold;
	uint8_t options[PCAPNG_EPB_FLAGS_SIZE + PCAPNG_EPB_DROPCOUNT_SIZE + PCAPNG_OPT_END_SIZE] = {
		0};
	uint32_t len = 0, total_len;
	uint8_t *block;

	while (at + 4 <= end) {
		uint16_t option[2];
		uint64_t own;

		memcpy(option, at, sizeof(option));
		if (option[0] == PCAPNG_OPT_END)
			break;
		if (option[0] == PCAPNG_EPB_FLAGS && len == 0) {
			memcpy(options, at, PCAPNG_EPB_FLAGS_SIZE);
			len = PCAPNG_EPB_FLAGS_SIZE;
		} else if (option[0] == PCAPNG_EPB_DROPCOUNT) {
			memcpy(&own, at + 4, sizeof(own));
			dropcount += own;
		}
		at += 4 + pcapng_pad(option[1]);
	}
	memcpy(options + len, (uint16_t[]){PCAPNG_EPB_DROPCOUNT, sizeof(dropcount)}, 4);
	memcpy(options + len + 4, &dropcount, sizeof(dropcount));
	len += PCAPNG_EPB_DROPCOUNT_SIZE;
	total_len = pcapng_epb_len(packet->cap_len, len);
	if (live->len + total_len > LIVE_BUFFER_MAX || !buffer_grow(live, total_len))
		return false;
	block = live->buffer + live->len;
	memcpy(block, packet->block, head_len);
	memcpy(block + 4, &total_len, sizeof(total_len));
	memcpy(block + head_len, options, len + PCAPNG_OPT_END_SIZE);
	memcpy(block + total_len - PCAPNG_EPB_TAIL, &total_len, sizeof(total_len));
	live->len += total_len;
	return true;
}

static bool line_put(struct live *live, const struct watch_packet *packet)
{
	const struct packet_frame frame = {.number = packet->number,
		.time_ns = packet->time_ns,
		.data = packet->data,
		.cap_len = packet->cap_len,
		.orig_len = packet->orig_len};
	struct packet_summary summary;
	char time[RFC3339_SIZE], line[PACKET_INFO_MAX + RFC3339_SIZE + 2];
	int len;

	if (live->skipped_untold != 0 && !skipped_put(live))
		return false;
	packet_summarize(&frame, &summary);
	rfc3339_print(packet->time_ns, 9, time);
	len = snprintf(line, sizeof(line), "%s %s\n", time, summary.info);
	return block_put(live, line, len);
}

static bool skipped_put(struct live *live)
{
	char line[64];
	const int len = snprintf(
		line, sizeof(line), "(%" PRIu64 " packets skipped)\n", live->skipped_untold);

	return block_put(live, line, len);
}

static bool buffer_grow(struct live *live, size_t len)
{
	size_t size = live->size > BUFFER_LEAST ? live->size : BUFFER_LEAST;
	uint8_t *buffer;

	while (size < live->len + len)
		size *= 2;
	if (size == live->size)
		return true;
	buffer = realloc(live->buffer, size);
	if (buffer == NULL)
		return false;
	live->buffer = buffer;
	live->size = size;
	return true;
}

/* What has gathered goes, if nothing is on its way; after the last of it the answer is over. */
static void buffer_send(struct live *live)
{
	void *piece = live->buffer;
	const size_t len = live->len;

	if (live->sending)
		return;
	if (len > 0) {
		live->buffer = NULL;
		live->len = 0;
		live->size = 0;
		live->sending = true;
		server_stream_send(live->request, piece, len, buffer_sent, live);
	} else if (live->watcher == NULL) {
		server_stream_end(live->request);
		live_free(live);
	}
}

static void buffer_sent(void *arg)
{
	struct live *live = arg;

	live->sending = false;
	buffer_send(live);
}

static void client_gone(void *arg)
{
	struct live *live = arg;

	watch_remove(live->watcher);
	server_stream_abort(live->request);
	live_free(live);
}
