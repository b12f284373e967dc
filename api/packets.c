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

#include "config/json.h"
#include "config/log.h"
#include "control/job.h"
#include "control/packet.h"
#include "control/scan.h"
#include "control/session.h"
#include "control/store.h"
#include "engine/clock.h"
#include "api/base64.h"
#include "api/packet_json.h"
#include "api/route.h"
#include "api/server.h"

#define FOOT_MAX   40           /* ],"next":18446744073709551615} */
#define SLICE_NS   50000000ULL  /* a job; then others have their turn */
#define SEARCH_NS  300000000ULL /* for words; then the page is what was found */
#define LOOK_EVERY 256          /* packets between two looks at the clock */
#define MARK_EVERY 4096
#define MARKED_MAX 8 /* captures */
#define FRAME_MAX  (256U << 10)
#define WHOLE_MORE 64

struct packets {
	struct job job;
	struct request *request;
	struct uuid id;
	bool running; /* its files move when it ends */
	struct packets_query query;
	unsigned n_parts;
	struct session_part *parts;

	/* the job's */
	int rc;
	bool again;             /* the slice is over, the work is not */
	uint64_t search_end_ns; /* 0: not begun */
	uint64_t slice_end_ns;
	unsigned part;
	uint64_t part_offset; /* where to go on in it */
	uint32_t n_interfaces;
	uint64_t number; /* packets passed */
	unsigned n_shown;
	char *text;
	size_t len, size;
};

/* Where packets stand in a closed capture's file. The read worker's only. */
struct marks {
	struct uuid id;
	uint64_t size_bytes; /* of the file; 0: free */
	uint64_t used;       /* when, in uses */
	uint32_t n_interfaces;
	unsigned n, size;
	uint64_t *offsets; /* of packet number i * MARK_EVERY, counted from 0 */
};

static struct marks marked[MARKED_MAX];
static uint64_t marked_uses;

static void packets_free(struct packets *packets);
static void packets_read(struct job *job);
static bool enough(const struct packets *packets);
static int part_read(struct packets *packets, struct marks *marks);
static int packet_show(struct packets *packets, const struct scan_block *block);
static int whole_put(struct packets *packets, const struct packet_summary *summary,
	const struct packet_frame *frame, uint32_t interface_id);
static bool text_grow(struct packets *packets, size_t len);
static void packets_done(struct job *job);
static void packets_reply(struct packets *packets);
static void packets_fail(struct packets *packets, int status, const char *text);
static struct marks *marks_of(const struct packets *packets);
static void marks_seek(const struct marks *marks, struct packets *packets);
static void marks_add(struct marks *marks, uint64_t number, uint64_t offset, uint32_t n_interfaces);

void packets_start(
	struct request *request, const struct session *session, const struct packets_query *query)
{
	struct packets *packets = calloc(1, sizeof(*packets));
	struct session_info info;
	struct err err;

	if (packets != NULL)
		packets->parts = calloc(SESSION_PARTS_MAX, sizeof(*packets->parts));
	if (packets == NULL || packets->parts == NULL || !text_grow(packets, PACKET_JSON_MAX)) {
		packets_free(packets);
		err_set(&err, ENOMEM, NULL, "no memory to list packets");
		route_error(request, 503, &err);
		return;
	}
	session_info(session, &info);
	session_read_begin(&info.id);
	packets->request = request;
	packets->id = info.id;
	packets->running = !session_state_whole(info.state);
	packets->query = *query;
	packets->n_parts = session_parts(session, packets->parts, SESSION_PARTS_MAX);
	if (!query->whole)
		packets->len = (size_t)snprintf(packets->text, packets->size,
			"{\"total\":%" PRIu64 ",\"packets\":[", info.ledger.written);
	packets->job.run = packets_read;
	packets->job.done = packets_done;
	job_post(WORKER_READ, &packets->job);
}

static void packets_free(struct packets *packets)
{
	if (packets == NULL)
		return;
	if (packets->request != NULL)
		session_read_end(&packets->id);
	free(packets->parts);
	free(packets->text);
	free(packets);
}

static void packets_read(struct job *job)
{
	struct packets *packets = (struct packets *)job;
	const uint64_t now_ns = clock_monotonic_ns();
	struct marks *marks = marks_of(packets);

	packets->slice_end_ns = now_ns + SLICE_NS;
	if (packets->search_end_ns == 0 && packets->number >= packets->query.offset)
		packets->search_end_ns = now_ns + SEARCH_NS;
	packets->again = false;
	if (marks != NULL && packets->number < packets->query.offset)
		marks_seek(marks, packets);
	while (packets->part < packets->n_parts && packets->rc == 0 && !packets->again &&
		!enough(packets))
		packets->rc = part_read(packets, marks);
}

static bool enough(const struct packets *packets)
{
	return packets->n_shown == packets->query.limit ||
	       (packets->query.words.n > 0 && packets->search_end_ns != 0 &&
		       clock_monotonic_ns() >= packets->search_end_ns);
}

static int part_read(struct packets *packets, struct marks *marks)
{
	const struct session_part *part = &packets->parts[packets->part];
	const int fd = store_part_open(part->path);
	struct scan_block block;
	struct scan scan;
	unsigned n = 0;
	int rc, shown = 0;

	if (fd < 0)
		return fd;
	rc = scan_open(&scan, fd, packets->part_offset, part->size_bytes, SCAN_WINDOW_MIN);
	if (rc < 0)
		goto out;
	scan.n_interfaces = packets->n_interfaces;
	while (packets->n_shown < packets->query.limit && (rc = scan_next(&scan, &block)) > 0) {
		if (block.type != PCAPNG_EPB)
			continue;
		if (marks != NULL)
			marks_add(marks, packets->number, block.offset, scan.n_interfaces);
		if (packets->number++ >= packets->query.offset)
			shown = packet_show(packets, &block);
		if (shown < 0)
			break;
		if (++n % LOOK_EVERY == 0 && clock_monotonic_ns() >= packets->slice_end_ns) {
			packets->again = true;
			break;
		}
	}
	packets->part_offset = scan.offset;
	packets->n_interfaces = scan.n_interfaces;
	if (rc == 0) {
		packets->part++;
		packets->part_offset = 0;
		packets->n_interfaces = 0;
	}
	scan_close(&scan);
out:
	close(fd);
	return rc < 0 ? rc : shown;
}

static int packet_show(struct packets *packets, const struct scan_block *block)
{
	struct packet_summary summary;
	struct scan_packet packet;
	struct packet_frame frame;
	size_t len;

	if (!scan_frame(block, packets->number, &packet, &frame))
		return -EIO;
	packet_summarize(&frame, &summary);
	if (packets->query.whole)
		return whole_put(packets, &summary, &frame, packet.interface_id);
	if (!packet_words_match(&packets->query.words, &summary))
		return 0;
	if (!text_grow(packets, PACKET_JSON_MAX + 1))
		return -ENOMEM;
	if (packets->n_shown++ > 0)
		packets->text[packets->len++] = ',';
	len = packet_json_print(&summary, NULL, packets->text + packets->len,
		packets->size - packets->len - FOOT_MAX);
	packets->len += len;
	return len > 0 ? 0 : -EMSGSIZE;
}

/* {"number",...,"interface":n,"layers":[...],"data":"..."} */
static int whole_put(struct packets *packets, const struct packet_summary *summary,
	const struct packet_frame *frame, uint32_t interface_id)
{
	const size_t size =
		PACKET_LAYERS_JSON_MAX + BASE64_LEN((size_t)frame->cap_len) + WHOLE_MORE;
	char *more = malloc(size);
	size_t len;

	if (more == NULL || !text_grow(packets, PACKET_JSON_MAX + size)) {
		free(more);
		return -ENOMEM;
	}
	len = (size_t)snprintf(more, size, "\"interface\":%" PRIu32 ",", interface_id);
	len += packet_layers_print(frame, more + len, PACKET_LAYERS_JSON_MAX);
	len += (size_t)snprintf(more + len, size - len, ",\"data\":\"");
	len += base64_print(frame->data, frame->cap_len, more + len);
	memcpy(more + len, "\"", 2);
	packets->len = packet_json_print(summary, more, packets->text, packets->size);
	packets->n_shown++;
	free(more);
	return packets->len > 0 ? 0 : -EMSGSIZE;
}

/* Room for len more and the foot. */
static bool text_grow(struct packets *packets, size_t len)
{
	size_t size = packets->size > 0 ? packets->size : 4096;
	char *text;

	while (size < packets->len + len + FOOT_MAX)
		size *= 2;
	if (size == packets->size)
		return true;
	text = realloc(packets->text, size);
	if (text == NULL)
		return false;
	packets->text = text;
	packets->size = size;
	return true;
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
	} else if (packets->again && !enough(packets) && packets->request->conn != NULL) {
		job_post(WORKER_READ, &packets->job);
	} else {
		packets_reply(packets);
	}
}

static void packets_reply(struct packets *packets)
{
	const bool ended = packets->part == packets->n_parts;

	if (packets->query.whole && packets->n_shown == 0) {
		packets_fail(packets, 404, "the capture has no packet of this number");
		return;
	}
	if (!packets->query.whole && ended)
		packets->len += (size_t)sprintf(packets->text + packets->len, "],\"next\":null}");
	else if (!packets->query.whole)
		packets->len += (size_t)sprintf(
			packets->text + packets->len, "],\"next\":%" PRIu64 "}", packets->number);
	server_reply(packets->request, 200, "application/json", packets->text, packets->len);
	packets_free(packets);
}

static void packets_fail(struct packets *packets, int status, const char *text)
{
	struct err err;

	err_set(&err, status == 500 ? EIO : EBUSY, NULL, "%s", text);
	route_error(packets->request, status, &err);
	packets_free(packets);
}

/* Of the one file of a closed capture; NULL: there is nothing to remember. */
static struct marks *marks_of(const struct packets *packets)
{
	struct marks *oldest = &marked[0];

	if (packets->running || packets->n_parts != 1 || packets->parts[0].size_bytes == 0)
		return NULL;
	for (unsigned i = 0; i < MARKED_MAX; i++) {
		struct marks *marks = &marked[i];

		if (marks->size_bytes == packets->parts[0].size_bytes &&
			memcmp(&marks->id, &packets->id, sizeof(marks->id)) == 0) {
			marks->used = ++marked_uses;
			return marks;
		}
		if (marks->used < oldest->used)
			oldest = marks;
	}
	free(oldest->offsets);
	*oldest = (struct marks){.id = packets->id,
		.size_bytes = packets->parts[0].size_bytes,
		.used = ++marked_uses};
	return oldest;
}

/* Go to the last mark that is not behind what is wanted, if that is further than here. */
static void marks_seek(const struct marks *marks, struct packets *packets)
{
	uint64_t i = packets->query.offset / MARK_EVERY;

	if (marks->n == 0)
		return;
	i = i < marks->n ? i : marks->n - 1;
	if (i * MARK_EVERY <= packets->number)
		return;
	packets->number = i * MARK_EVERY;
	packets->part_offset = marks->offsets[i];
	packets->n_interfaces = marks->n_interfaces;
}

/* Marks are made in order; without memory for one there are no more. */
static void marks_add(struct marks *marks, uint64_t number, uint64_t offset, uint32_t n_interfaces)
{
	if (number != (uint64_t)marks->n * MARK_EVERY)
		return;
	if (marks->n == marks->size) {
		const unsigned size = marks->size > 0 ? marks->size * 2 : 64;
		uint64_t *offsets = realloc(marks->offsets, size * sizeof(*offsets));

		if (offsets == NULL)
			return;
		marks->offsets = offsets;
		marks->size = size;
	}
	marks->n_interfaces = n_interfaces;
	marks->offsets[marks->n++] = offset;
}

/* --- bytes that somebody has ------------------------------------------------------------------- */

struct decode_request {
	const char *data;
};

static const struct json_field decode_fields[] = {
	{"data", JSON_KIND_TEXT, offsetof(struct decode_request, data), .min = 1,
		.max = BASE64_LEN(FRAME_MAX), .required = true, .help = "a frame in base64"},
};
static const struct json_shape decode_shape = {JSON_SHAPE_FIELDS(decode_fields)};

void packets_decode(struct request *request)
{
	struct decode_request wanted = {0};
	struct packet_frame frame = {0};
	json_t *document;
	char *text, *data = NULL;
	struct err err;
	size_t len;
	long n = -1;

	if (!route_body_is_json(request))
		return;
	document = json_parse(request->body, request->body_len, &err);
	text = malloc(PACKET_LAYERS_JSON_MAX + 4);
	if (document != NULL && json_decode(document, &decode_shape, &wanted, &err) == 0) {
		data = malloc(FRAME_MAX);
		n = data != NULL ? base64_parse(wanted.data, data, FRAME_MAX) : 0;
		if (n < 0)
			err_set(&err, EINVAL, "data", "is not base64");
	}
	if (text == NULL || (data == NULL && n == 0)) {
		err_set(&err, ENOMEM, NULL, "no memory to decode");
		route_error(request, 503, &err);
	} else if (n < 0) {
		route_error(request, 400, &err);
	} else {
		frame.data = data;
		frame.cap_len = frame.orig_len = (uint32_t)n;
		text[0] = '{';
		len = packet_layers_print(&frame, text + 1, PACKET_LAYERS_JSON_MAX);
		text[len + 1] = '}';
		server_reply(request, 200, "application/json", text, len + 2);
	}
	free(data);
	free(text);
	json_decref(document);
}
