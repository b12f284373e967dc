/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/packets.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/log.h"
#include "control/job.h"
#include "control/packet.h"
#include "control/scan.h"
#include "control/session.h"
#include "control/store.h"
#include "api/packet_json.h"
#include "api/route.h"
#include "api/server.h"

#define FOOT_MAX 8

struct packets {
	struct job job;
	struct request *request;
	struct uuid id;
	bool running; /* its files move when it ends */
	uint64_t offset;
	uint64_t limit;
	uint64_t total;
	unsigned n_parts;
	struct session_part *parts;

	/* the job's */
	int rc;
	uint64_t number; /* packets passed */
	unsigned n_shown;
	char *text;
	size_t len, size;
};

static void packets_free(struct packets *packets);
static void packets_read(struct job *job);
static int part_read(struct packets *packets, const struct session_part *part);
static int packet_show(struct packets *packets, const struct scan_block *block);
static void packets_done(struct job *job);
static void packets_fail(struct packets *packets, int status, const char *text);

void packets_start(
	struct request *request, const struct session *session, uint64_t offset, uint64_t limit)
{
	struct packets *packets = calloc(1, sizeof(*packets));
	struct session_info info;
	struct err err;

	if (packets != NULL) {
		packets->parts = calloc(SESSION_PARTS_MAX, sizeof(*packets->parts));
		packets->size = 64 + limit * PACKET_JSON_MAX;
		packets->text = malloc(packets->size);
	}
	if (packets == NULL || packets->parts == NULL || packets->text == NULL) {
		packets_free(packets);
		err_set(&err, ENOMEM, NULL, "no memory to list packets");
		route_error(request, 503, &err);
		return;
	}
	session_info(session, &info);
	packets->request = request;
	packets->id = info.id;
	packets->running = !session_state_whole(info.state);
	packets->offset = offset;
	packets->limit = limit;
	packets->total = info.ledger.written;
	packets->n_parts = session_parts(session, packets->parts, SESSION_PARTS_MAX);
	packets->len = snprintf(packets->text, packets->size,
		"{\"total\":%" PRIu64 ",\"packets\":[", packets->total);
	packets->job.run = packets_read;
	packets->job.done = packets_done;
	job_post(WORKER_READ, &packets->job);
}

static void packets_free(struct packets *packets)
{
	if (packets == NULL)
		return;
	free(packets->parts);
	free(packets->text);
	free(packets);
}

static void packets_read(struct job *job)
{
	struct packets *packets = (struct packets *)job;

	for (unsigned i = 0; i < packets->n_parts && packets->rc == 0; i++) {
		if (packets->n_shown == packets->limit)
			break;
		packets->rc = part_read(packets, &packets->parts[i]);
	}
}

static int part_read(struct packets *packets, const struct session_part *part)
{
	const int fd = store_part_open(part->path);
	struct scan_block block;
	struct scan scan;
	int rc;

	if (fd < 0)
		return fd;
	rc = scan_open(&scan, fd, 0, part->size_bytes, SCAN_WINDOW_MIN);
	if (rc == 0) {
		while (packets->n_shown < packets->limit && (rc = scan_next(&scan, &block)) > 0) {
			if (block.type != PCAPNG_EPB || packets->number++ < packets->offset)
				continue;
			rc = packet_show(packets, &block);
			if (rc < 0)
				break;
		}
		scan_close(&scan);
	}
	close(fd);
	return rc < 0 ? rc : 0;
}

static int packet_show(struct packets *packets, const struct scan_block *block)
{
	struct packet_summary summary;
	struct scan_packet packet;
	struct packet_frame frame;
	size_t len;

	if (!scan_packet(block, &packet))
		return -EIO;
	frame = (struct packet_frame){.number = packets->number,
		.time_ns = packet.stamp,
		.data = block->data + PCAPNG_EPB_HEAD,
		.cap_len = packet.cap_len,
		.orig_len = packet.orig_len};
	packet_summarize(&frame, &summary);
	if (packets->n_shown++ > 0)
		packets->text[packets->len++] = ',';
	len = packet_json_print(&summary, NULL, packets->text + packets->len,
		packets->size - packets->len - FOOT_MAX);
	packets->len += len;
	return len > 0 ? 0 : -EMSGSIZE;
}

static void packets_done(struct job *job)
{
	struct packets *packets = (struct packets *)job;
	const bool there = session_find(&packets->id) != NULL;

	if (packets->rc == -ENOENT && there && packets->running)
		packets_fail(packets, 409, "the capture's file is being closed; ask again");
	else if (packets->rc == -ENOENT)
		packets_fail(packets, there ? 410 : 404, "the capture's file is gone");
	else if (packets->rc < 0) {
		log_error("capture not readable error=%s", strerror(-packets->rc));
		packets_fail(packets, 500, "the capture's file cannot be read");
	} else {
		memcpy(packets->text + packets->len, "]}", 2);
		server_reply(
			packets->request, 200, "application/json", packets->text, packets->len + 2);
		packets_free(packets);
	}
}

static void packets_fail(struct packets *packets, int status, const char *text)
{
	struct err err;

	err_set(&err, status == 500 ? EIO : EBUSY, NULL, "%s", text);
	route_error(packets->request, status, &err);
	packets_free(packets);
}
