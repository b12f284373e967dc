/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One struct stream per connection, one struct subscription per capture in it. A packet's text is
 * made once per batch, whoever and however many want it.
 */
#include "api/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "config/json.h"
#include "control/packet.h"
#include "control/watch.h"
#include "engine/clock.h"
#include "api/base64.h"
#include "api/native.h"
#include "api/native_json.h"
#include "api/pace.h"
#include "api/packet_json.h"
#include "api/rfc3339.h"
#include "api/route.h"
#include "api/websocket.h"

#define MESSAGE_FOOT  "]}"
#define MESSAGE_MAX   65536
#define MESSAGE_LEAST 4096 /* less room is not worth a message */

enum stream_format { STREAM_SUMMARY, STREAM_RAW };
enum stream_subject { SUBJECT_NONE, SUBJECT_CAPTURE, SUBJECT_STATUS };

static const char *const subjects[] = {"", "capture", "status", NULL};
static const char *const formats[] = {"summary", "raw", NULL};

struct subscription {
	struct subscription *next;
	struct stream *stream;
	struct uuid id;
	struct watcher *watcher;
	enum stream_format format;
	uint64_t rate; /* packets a second */
	uint64_t bytes;
	struct pace pace;
	uint64_t delivered;
	uint64_t skipped;        /* in all */
	uint64_t skipped_untold; /* of them, not in a message yet */
	struct ledger last;      /* a second ago */
};

struct stream {
	struct stream *next;
	struct websocket *websocket;
	struct principal who;
	struct subscription *subscriptions;
	unsigned n_subscriptions;
	bool status;
};

/* What a client says. */
struct command {
	unsigned subscribe;
	unsigned unsubscribe;
	const char *id;
	unsigned format;
	uint64_t rate;
	uint64_t bytes;
};

/* Texts of the batch at hand. */
struct texts {
	uint64_t serial;             /* of the batch; 0: none */
	size_t len[WATCH_BATCH_MAX]; /* 0: not made yet */
	char text[WATCH_BATCH_MAX][PACKET_JSON_MAX];
};

static struct {
	const struct config *config;
	struct event_base *base;
	struct event *second;
	struct stream *all;
	unsigned n_subscriptions;
	struct texts *texts;
	char message[MESSAGE_MAX];
} streams;

static const struct json_field command_fields[] = {
	{"subscribe", JSON_KIND_WORD, offsetof(struct command, subscribe), .words = subjects},
	{"unsubscribe", JSON_KIND_WORD, offsetof(struct command, unsubscribe), .words = subjects},
	{"id", JSON_KIND_TEXT, offsetof(struct command, id), 1, 64},
	{"format", JSON_KIND_WORD, offsetof(struct command, format), .words = formats},
	{"rate", JSON_KIND_INTEGER, offsetof(struct command, rate), 1, STREAM_RATE_MAX},
	{"bytes", JSON_KIND_INTEGER, offsetof(struct command, bytes), 14, STREAM_BYTES_MAX},
};
static const struct json_shape command_shape = {JSON_SHAPE_FIELDS(command_fields)};

static void stream_message(void *arg, bool text, const char *data, size_t len);
static void stream_closed(void *arg);
static void command_do(struct stream *stream, const struct command *command);
static void capture_subscribe(struct stream *stream, const struct command *command);
static void capture_unsubscribe(struct stream *stream, const struct command *command);
static struct session *capture_find(
	struct stream *stream, const struct command *command, struct err *err);
static void subscription_batch(void *arg, const struct watch_batch *batch);
static void subscription_ended(void *arg, const struct session *session);
static struct subscription **subscription_find(struct stream *stream, const struct uuid *id);
static void subscription_free(struct subscription **at);
static unsigned quota_take(struct subscription *sub, unsigned n);
static unsigned packets_send(
	struct subscription *sub, const struct watch_batch *batch, unsigned n_wanted);
static unsigned message_send(struct subscription *sub, const struct watch_batch *batch,
	unsigned first, unsigned n_wanted);
static size_t packet_put(struct subscription *sub, const struct watch_batch *batch, unsigned i,
	char *to, size_t size);
static const char *summary_text(const struct watch_batch *batch, unsigned i, size_t *len);
static void json_send(struct stream *stream, json_t *json);
static void error_send(struct stream *stream, int status, const struct err *err);
static void second_passed(evutil_socket_t fd, short what, void *arg);
static void rates_send(struct subscription *sub);
static json_t *status_make(const struct stream *stream);

static const struct watch_ops watch_ops = {
	.batch = subscription_batch,
	.ended = subscription_ended,
};

void stream_start(const struct config *config, struct event_base *base)
{
	streams.config = config;
	streams.base = base;
}

void stream_stop(void)
{
	if (streams.second != NULL)
		event_free(streams.second);
	free(streams.texts);
	memset(&streams, 0, sizeof(streams));
}

void stream_handle(struct request *request)
{
	static const struct websocket_ops ops = {
		.message = stream_message,
		.closed = stream_closed,
	};
	static const struct timeval every = {.tv_sec = 1};
	struct stream *stream = calloc(1, sizeof(*stream));
	struct err err;

	if (streams.second == NULL)
		streams.second = event_new(streams.base, -1, EV_PERSIST, second_passed, NULL);
	if (streams.texts == NULL)
		streams.texts = calloc(1, sizeof(*streams.texts));
	if (stream == NULL || streams.second == NULL || streams.texts == NULL) {
		free(stream);
		err_set(&err, ENOMEM, NULL, "no memory for a stream");
		route_error(request, 503, &err);
		return;
	}
	stream->who = request->who;
	stream->websocket = websocket_accept(request, STREAM_PROTOCOL, &ops, stream);
	if (stream->websocket == NULL) {
		free(stream);
		return;
	}
	if (streams.all == NULL)
		event_add(streams.second, &every);
	stream->next = streams.all;
	streams.all = stream;
}

static void stream_message(void *arg, bool text, const char *data, size_t len)
{
	struct command command = {.rate = STREAM_RATE, .bytes = STREAM_BYTES};
	struct stream *stream = arg;
	json_t *json = NULL;
	struct err err;

	if (!text) {
		websocket_close(
			stream->websocket, WEBSOCKET_UNSUPPORTED, "only text is understood");
		return;
	}
	json = json_parse(data, len, &err);
	if (json == NULL || json_decode(json, &command_shape, &command, &err) < 0)
		error_send(stream, 400, &err);
	else
		command_do(stream, &command);
	json_decref(json);
}

static void stream_closed(void *arg)
{
	struct stream *stream = arg, **at = &streams.all;

	while (stream->subscriptions != NULL) {
		watch_remove(stream->subscriptions->watcher);
		subscription_free(&stream->subscriptions);
	}
	while (*at != stream)
		at = &(*at)->next;
	*at = stream->next;
	free(stream);
	if (streams.all == NULL)
		event_del(streams.second);
}

static void command_do(struct stream *stream, const struct command *command)
{
	struct err err;

	if ((command->subscribe == SUBJECT_NONE) == (command->unsubscribe == SUBJECT_NONE)) {
		err_set(&err, EINVAL, "subscribe",
			"a message has either \"subscribe\" or \"unsubscribe\", "
			"\"capture\" or \"status\"");
		error_send(stream, 400, &err);
	} else if (command->subscribe == SUBJECT_CAPTURE) {
		capture_subscribe(stream, command);
	} else if (command->unsubscribe == SUBJECT_CAPTURE) {
		capture_unsubscribe(stream, command);
	} else {
		stream->status = command->subscribe == SUBJECT_STATUS;
		json_send(stream,
			json_pack("{s:s, s:s}", "event",
				stream->status ? "subscribed" : "unsubscribed", "to", "status"));
	}
}

static void capture_subscribe(struct stream *stream, const struct command *command)
{
	struct err err = {0};
	struct session *session = capture_find(stream, command, &err);
	struct subscription *sub = NULL;
	struct session_info info;

	if (session == NULL) {
		error_send(stream, err.code == ENOENT ? 404 : 400, &err);
		return;
	}
	session_info(session, &info);
	if (stream->n_subscriptions == STREAM_SUBSCRIPTIONS ||
		*subscription_find(stream, &info.id) != NULL) {
		err_set(&err, EBUSY, "id",
			"subscribed already, or to %u captures, which is the most",
			STREAM_SUBSCRIPTIONS);
		error_send(stream, 409, &err);
		return;
	}
	sub = calloc(1, sizeof(*sub));
	if (sub != NULL)
		sub->watcher = watch_add(session, &watch_ops, sub, &err);
	if (sub == NULL || sub->watcher == NULL) {
		free(sub);
		error_send(stream, err.code == EBUSY ? 409 : 503, &err);
		return;
	}
	sub->stream = stream;
	sub->id = info.id;
	sub->format = command->format;
	sub->rate = command->rate;
	sub->bytes = command->bytes;
	sub->last = info.ledger;
	sub->next = stream->subscriptions;
	stream->subscriptions = sub;
	stream->n_subscriptions++;
	streams.n_subscriptions++;
	json_send(stream, json_pack("{s:s, s:s, s:s, s:s, s:I}", "event", "subscribed", "to",
				  "capture", "id", command->id, "format", formats[sub->format],
				  "rate", (json_int_t)sub->rate));
}

static void capture_unsubscribe(struct stream *stream, const struct command *command)
{
	struct subscription **at;
	struct uuid id;
	struct err err;

	if (command->id == NULL || !uuid_parse(command->id, strlen(command->id), &id) ||
		*(at = subscription_find(stream, &id)) == NULL) {
		err_set(&err, ENOENT, "id", "\"%.40s\" is not subscribed to",
			command->id != NULL ? command->id : "");
		error_send(stream, 404, &err);
		return;
	}
	json_send(stream,
		json_pack("{s:s, s:s, s:s, s:I, s:I}", "event", "unsubscribed", "to", "capture",
			"id", command->id, "delivered", (json_int_t)(*at)->delivered, "skipped",
			(json_int_t)(*at)->skipped));
	watch_remove((*at)->watcher);
	subscription_free(at);
}

static struct session *capture_find(
	struct stream *stream, const struct command *command, struct err *err)
{
	struct session *session = NULL;
	struct session_info info;
	struct uuid id;

	if (command->id == NULL) {
		err_set(err, EINVAL, "id", "is missing: which capture?");
		return NULL;
	}
	if (strlen(command->id) == UUID_TEXT_SIZE - 1 &&
		uuid_parse(command->id, strlen(command->id), &id))
		session = session_find(&id);
	if (session != NULL)
		session_info(session, &info);
	if (session != NULL && auth_sees(&stream->who, info.account))
		return session;
	err_set(err, ENOENT, "id", "there is no capture \"%.40s\"", command->id);
	return NULL;
}

static void subscription_batch(void *arg, const struct watch_batch *batch)
{
	struct subscription *sub = arg;
	const unsigned n = packets_send(sub, batch, quota_take(sub, batch->n));

	sub->delivered += n;
	sub->skipped += batch->n - n + batch->skipped;
	sub->skipped_untold += batch->n - n + batch->skipped;
}

static void subscription_ended(void *arg, const struct session *session)
{
	struct subscription *sub = arg;
	struct stream *stream = sub->stream;
	char id[UUID_TEXT_SIZE];
	struct session_info info;

	session_info(session, &info);
	uuid_print(&sub->id, id);
	json_send(stream, json_pack("{s:s, s:s, s:s, s:I, s:I}", "event", "end", "id", id, "reason",
				  end_reason_name(info.reason), "delivered",
				  (json_int_t)sub->delivered, "skipped", (json_int_t)sub->skipped));
	subscription_free(subscription_find(stream, &sub->id));
}

/* Where the pointer to it stands; that points to NULL when there is none. */
static struct subscription **subscription_find(struct stream *stream, const struct uuid *id)
{
	struct subscription **at = &stream->subscriptions;

	while (*at != NULL && memcmp(&(*at)->id, id, sizeof(*id)) != 0)
		at = &(*at)->next;
	return at;
}

static void subscription_free(struct subscription **at)
{
	struct subscription *sub = *at;

	*at = sub->next;
	sub->stream->n_subscriptions--;
	streams.n_subscriptions--;
	free(sub);
}

/* How many of n packets the subscription's rate and its share of the whole allow now. */
static unsigned quota_take(struct subscription *sub, unsigned n)
{
	const uint64_t share = STREAM_RATE_SUM / streams.n_subscriptions;
	const uint64_t rate = sub->rate <= share ? sub->rate : share > 0 ? share : 1;

	return pace_take(&sub->pace, rate, clock_monotonic_ns(), n);
}

/* Send n_wanted packets of the batch, evenly chosen, as many as there is room for; how many. */
static unsigned packets_send(
	struct subscription *sub, const struct watch_batch *batch, unsigned n_wanted)
{
	unsigned n_sent = 0, n;

	do {
		n = message_send(sub, batch, n_sent, n_wanted);
		n_sent += n;
	} while (n > 0 && n_sent < n_wanted);
	return n_sent;
}

/* One message with the chosen packets from the first-th on; how many there was room for. */
static unsigned message_send(struct subscription *sub, const struct watch_batch *batch,
	unsigned first, unsigned n_wanted)
{
	const size_t room = websocket_room(sub->stream->websocket);
	const size_t size = room < MESSAGE_MAX ? room : MESSAGE_MAX;
	char *message = streams.message;
	char id[UUID_TEXT_SIZE];
	unsigned n = first;
	size_t len;

	if (n_wanted == 0 || size < MESSAGE_LEAST)
		return 0;
	uuid_print(&sub->id, id);
	len = snprintf(message, size,
		"{\"event\":\"packets\",\"id\":\"%s\",\"skipped\":%" PRIu64 ",\"packets\":[", id,
		sub->skipped_untold);
	for (; n < n_wanted; n++) {
		const unsigned i = (uint64_t)n * batch->n / n_wanted;
		const bool comma = n > first;
		size_t put = packet_put(sub, batch, i, message + len + comma,
			size - len - comma - sizeof(MESSAGE_FOOT));

		if (put == 0)
			break;
		if (comma)
			message[len] = ',';
		len += put + comma;
	}
	if (n == first)
		return 0;
	memcpy(message + len, MESSAGE_FOOT, sizeof(MESSAGE_FOOT));
	len += sizeof(MESSAGE_FOOT) - 1;
	if (!websocket_send_text(sub->stream->websocket, message, len))
		return 0;
	sub->skipped_untold = 0;
	return n - first;
}

/* The batch's i-th packet in the subscription's format; 0 when it does not fit. */
static size_t packet_put(struct subscription *sub, const struct watch_batch *batch, unsigned i,
	char *to, size_t size)
{
	static const char data[] = ",\"interface\":%" PRIu32 ",\"data\":\"";
	const struct watch_packet *packet = &batch->packets[i];
	const size_t n_bytes = packet->cap_len < sub->bytes ? packet->cap_len : sub->bytes;
	size_t len;
	const char *text = summary_text(batch, i, &len);

	if (len == 0 || size < len + 1 ||
		(sub->format == STREAM_RAW &&
			size < len + sizeof(data) + 16 + BASE64_LEN(n_bytes) + 3))
		return 0;
	memcpy(to, text, len);
	if (sub->format == STREAM_SUMMARY)
		return len;
	len--; /* the brace */
	len += snprintf(to + len, size - len, data, packet->interface);
	len += base64_print(packet->data, n_bytes, to + len);
	to[len++] = '"';
	to[len++] = '}';
	return len;
}

static const char *summary_text(const struct watch_batch *batch, unsigned i, size_t *len)
{
	const struct watch_packet *packet = &batch->packets[i];
	const struct packet_frame frame = {.number = packet->number,
		.time_ns = packet->time_ns,
		.data = packet->data,
		.cap_len = packet->cap_len,
		.orig_len = packet->orig_len};
	struct texts *texts = streams.texts; /* there since the first stream */
	struct packet_summary summary;

	if (texts->serial != batch->serial) {
		texts->serial = batch->serial;
		memset(texts->len, 0, batch->n * sizeof(texts->len[0]));
	}
	if (texts->len[i] == 0) {
		packet_summarize(&frame, &summary);
		texts->len[i] = packet_json_print(&summary, NULL, texts->text[i], PACKET_JSON_MAX);
	}
	*len = texts->len[i];
	return texts->text[i];
}

static void json_send(struct stream *stream, json_t *json)
{
	char *text = json_print(json);

	/* A client that takes no answers gets none: it is closed rather than left in doubt. */
	if (text != NULL && !websocket_send_text(stream->websocket, text, strlen(text)))
		websocket_close(stream->websocket, WEBSOCKET_POLICY, "answers are not read");
	free(text);
	json_decref(json);
}

static void error_send(struct stream *stream, int status, const struct err *err)
{
	json_send(stream,
		json_pack("{s:s, s:i, s:o, s:o}", "event", "error", "status", status, "field",
			err->field[0] != '\0' ? json_text(err->field) : json_null(), "detail",
			json_text(err->text)));
}

static void second_passed(evutil_socket_t fd, short what, void *arg)
{
	for (struct stream *stream = streams.all; stream != NULL; stream = stream->next) {
		for (struct subscription *sub = stream->subscriptions; sub != NULL; sub = sub->next)
			rates_send(sub);
		/* News of the last second are of no use to a reader that is behind. */
		if (stream->status && websocket_room(stream->websocket) >= WEBSOCKET_BUFFER_LEAST)
			json_send(stream, status_make(stream));
	}
}

static void rates_send(struct subscription *sub)
{
	const struct session *session = session_find(&sub->id);
	struct session_info info;
	char id[UUID_TEXT_SIZE];

	if (session == NULL || websocket_room(sub->stream->websocket) < MESSAGE_LEAST)
		return;
	session_info(session, &info);
	uuid_print(&sub->id, id);
	json_send(sub->stream,
		json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "event", "rates", "id", id,
			"state", session_state_name(info.state), "packets_per_second",
			(json_int_t)(info.ledger.accepted - sub->last.accepted), "bytes_per_second",
			(json_int_t)(info.ledger.written_bytes - sub->last.written_bytes),
			"delivered", (json_int_t)sub->delivered, "skipped",
			(json_int_t)sub->skipped, "ledger", native_ledger(&info.ledger)));
	sub->last = info.ledger;
}

/* The daemon, and the captures that run. */
static json_t *status_make(const struct stream *stream)
{
	json_t *json = json_object(), *captures = json_array();
	char time[RFC3339_SIZE];

	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s)) {
		struct session_info info;

		session_info(s, &info);
		if (session_state_closed(info.state) || !auth_sees(&stream->who, info.account))
			continue;
		if (json_array_size(captures) == 32)
			break;
		json_array_append_new(captures, native_capture(&info));
	}
	rfc3339_print(rfc3339_now(), 9, time);
	json_object_set_new(json, "event", json_string("status"));
	json_object_set_new(json, "time", json_string(time));
	json_object_set_new(json, "status", native_status());
	json_object_set_new(json, "captures", captures);
	json_object_update_new(json, native_ports(streams.config, &stream->who));
	return json;
}
