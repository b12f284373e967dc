/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * wslay frames and unframes between the two buffers of the connection. It always may write to the
 * output buffer, so its own queue is empty between events; the bound is kept by websocket_room,
 * and for what wslay answers by itself (pongs) by reading no more.
 */
#include "api/websocket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <wslay/wslay.h>

#include "api/auth.h"
#include "api/base64.h"
#include "api/route.h"
#include "api/server.h"

#define KEY_BYTES    16
#define ACCEPT_GUID  "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define REASON_MAX   120
#define INPUT_MAX    (2 * WEBSOCKET_MESSAGE_MAX)
#define HEAD_MAX     512
#define PROTOCOL_MAX 64

struct websocket {
	struct conn *conn;
	struct bufferevent *bev;
	wslay_event_context_ptr wslay;
	struct event *timer; /* pings; once closing, the end */
	const struct websocket_ops *ops;
	void *arg;
	bool heard;     /* since the last ping */
	bool receiving; /* inside wslay_event_recv: what is queued leaves after it */
	bool closing;   /* a close was queued or received */
	bool failed;    /* wslay must not be called any more */
	bool dead;      /* the connection is about to be freed */
};

static unsigned n_websockets;

static int handshake_check(struct request *request, int *status, struct err *err);
static void handshake_head(
	const struct request *request, const char *protocol, char head[HEAD_MAX]);
static bool token_listed(const char *list, const char *token);
static struct websocket *websocket_new(const struct websocket_ops *ops, void *arg);
static void websocket_free(struct websocket *websocket);
static void websocket_gone(void *arg);
static void websocket_drop(struct websocket *websocket);
static size_t buffer_limit(void);
static bool message_queue(
	struct websocket *websocket, uint8_t opcode, const void *data, size_t len);
static void queue_flush(struct websocket *websocket);
static void input_ready(struct bufferevent *bev, void *arg);
static void output_drained(struct bufferevent *bev, void *arg);
static void frame_refuse(struct websocket *websocket);
static void finish_check(struct websocket *websocket);
static void connection_event(struct bufferevent *bev, short what, void *arg);
static void timer_fired(evutil_socket_t fd, short what, void *arg);
static void timer_set(struct websocket *websocket, unsigned seconds);
static ssize_t wslay_read(
	wslay_event_context_ptr wslay, uint8_t *data, size_t len, int flags, void *arg);
static ssize_t wslay_write(
	wslay_event_context_ptr wslay, const uint8_t *data, size_t len, int flags, void *arg);
static void wslay_message(
	wslay_event_context_ptr wslay, const struct wslay_event_on_msg_recv_arg *msg, void *arg);

struct websocket *websocket_accept(
	struct request *request, const char *protocol, const struct websocket_ops *ops, void *arg)
{
	struct websocket *websocket;
	char head[HEAD_MAX];
	struct err err;
	int status;

	if (handshake_check(request, &status, &err) < 0) {
		route_error(request, status, &err);
		return NULL;
	}
	websocket = websocket_new(ops, arg);
	if (websocket == NULL) {
		err_set(&err, ENOMEM, NULL, "no memory for a WebSocket");
		route_error(request, 503, &err);
		return NULL;
	}
	handshake_head(request, protocol, head);
	websocket->conn = server_upgrade(request, head, websocket_gone, websocket, &websocket->bev);
	if (websocket->conn == NULL) {
		websocket_free(websocket);
		err_set(&err, EAGAIN, NULL,
			"the connection is HTTP/1.0, or there are %u WebSockets already",
			SERVER_SOCKETS_MAX);
		route_error(request, 503, &err);
		return NULL;
	}
	websocket->timer =
		evtimer_new(bufferevent_get_base(websocket->bev), timer_fired, websocket);
	if (websocket->timer == NULL) {
		websocket_drop(websocket);
		return websocket;
	}
	bufferevent_setwatermark(websocket->bev, EV_READ, 0, INPUT_MAX);
	bufferevent_setcb(websocket->bev, input_ready, output_drained, connection_event, websocket);
	bufferevent_enable(websocket->bev, EV_READ | EV_WRITE);
	timer_set(websocket, WEBSOCKET_PING_S);
	/* What came right behind the handshake is in the buffer, and no event tells of it. */
	bufferevent_trigger(websocket->bev, EV_READ, BEV_OPT_DEFER_CALLBACKS);
	return websocket;
}

bool websocket_send_text(struct websocket *websocket, const char *text, size_t len)
{
	return message_queue(websocket, WSLAY_TEXT_FRAME, text, len);
}

bool websocket_send_binary(struct websocket *websocket, const void *data, size_t len)
{
	return message_queue(websocket, WSLAY_BINARY_FRAME, data, len);
}

size_t websocket_room(const struct websocket *websocket)
{
	const size_t used = evbuffer_get_length(bufferevent_get_output(websocket->bev)) +
			    wslay_event_get_queued_msg_length(websocket->wslay);

	if (websocket->closing || websocket->dead || used >= buffer_limit())
		return 0;
	return buffer_limit() - used;
}

void websocket_close(struct websocket *websocket, enum websocket_code code, const char *reason)
{
	const size_t len = strnlen(reason, REASON_MAX);

	if (websocket->closing || websocket->dead)
		return;
	websocket->closing = true;
	if (wslay_event_queue_close(websocket->wslay, code, (const uint8_t *)reason, len) != 0) {
		websocket_drop(websocket);
		return;
	}
	timer_set(websocket, WEBSOCKET_CLOSE_S);
	queue_flush(websocket);
}

/* RFC 6455, 4.2.1. */
static int handshake_check(struct request *request, int *status, struct err *err)
{
	const char *key = server_header(request, "Sec-WebSocket-Key");
	const char *version = server_header(request, "Sec-WebSocket-Version");
	uint8_t bytes[KEY_BYTES];

	*status = 400;
	if (request->method != METHOD_GET ||
		!token_listed(server_header(request, "Connection"), "upgrade") ||
		!token_listed(server_header(request, "Upgrade"), "websocket")) {
		*status = 426;
		server_header_add(request, "Upgrade", "websocket");
		server_header_add(request, "Connection", "Upgrade");
		return err_set(err, EINVAL, NULL, "this path speaks WebSocket only");
	}
	if (version == NULL || strcmp(version, "13") != 0) {
		*status = 426;
		server_header_add(request, "Sec-WebSocket-Version", "13");
		return err_set(err, EINVAL, "Sec-WebSocket-Version", "must be 13, not \"%.20s\"",
			version != NULL ? version : "");
	}
	if (key == NULL || base64_parse(key, bytes, sizeof(bytes)) != KEY_BYTES)
		return err_set(err, EINVAL, "Sec-WebSocket-Key", "must be 16 bytes in base64");
	return 0;
}

static void handshake_head(const struct request *request, const char *protocol, char head[HEAD_MAX])
{
	const char *key = server_header(request, "Sec-WebSocket-Key");
	const bool offered =
		protocol != NULL &&
		token_listed(server_header(request, "Sec-WebSocket-Protocol"), protocol);
	char accept[BASE64_LEN(AUTH_SHA1_SIZE) + 1];
	uint8_t hash[AUTH_SHA1_SIZE];
	char text[BASE64_LEN(KEY_BYTES) + sizeof(ACCEPT_GUID)];

	snprintf(text, sizeof(text), "%s%s", key, ACCEPT_GUID);
	auth_sha1(text, strlen(text), hash);
	base64_print(hash, sizeof(hash), accept);
	snprintf(head, HEAD_MAX,
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%.*s%s",
		accept, offered ? "Sec-WebSocket-Protocol: " : "", offered ? PROTOCOL_MAX : 0,
		offered ? protocol : "", offered ? "\r\n" : "");
}

/* In a list like "keep-alive, Upgrade"; case does not matter. */
static bool token_listed(const char *list, const char *token)
{
	const size_t len = strlen(token);

	for (const char *at = list; at != NULL && *at != '\0'; at += strcspn(at, ",")) {
		at += strspn(at, ", \t");
		if (strcspn(at, ", \t") == len && strncasecmp(at, token, len) == 0)
			return true;
	}
	return false;
}

static struct websocket *websocket_new(const struct websocket_ops *ops, void *arg)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = wslay_read,
		.send_callback = wslay_write,
		.on_msg_recv_callback = wslay_message,
	};
	struct websocket *websocket = calloc(1, sizeof(*websocket));

	if (websocket == NULL)
		return NULL;
	if (wslay_event_context_server_init(&websocket->wslay, &callbacks, websocket) != 0) {
		free(websocket);
		return NULL;
	}
	wslay_event_config_set_max_recv_msg_length(websocket->wslay, WEBSOCKET_MESSAGE_MAX);
	websocket->ops = ops;
	websocket->arg = arg;
	websocket->heard = true;
	n_websockets++;
	return websocket;
}

static void websocket_free(struct websocket *websocket)
{
	n_websockets--;
	wslay_event_context_free(websocket->wslay);
	if (websocket->timer != NULL)
		event_free(websocket->timer);
	free(websocket);
}

/* server.c: the connection has been freed. */
static void websocket_gone(void *arg)
{
	struct websocket *websocket = arg;

	websocket->ops->closed(websocket->arg);
	websocket_free(websocket);
}

/* End it without another word, but not in the middle of a call. */
static void websocket_drop(struct websocket *websocket)
{
	if (websocket->dead)
		return;
	websocket->dead = true;
	bufferevent_disable(websocket->bev, EV_READ);
	server_socket_close(websocket->conn);
}

static size_t buffer_limit(void)
{
	const size_t share = WEBSOCKET_BUFFER_SUM / n_websockets;

	if (share > WEBSOCKET_BUFFER_MAX)
		return WEBSOCKET_BUFFER_MAX;
	return share > WEBSOCKET_BUFFER_LEAST ? share : WEBSOCKET_BUFFER_LEAST;
}

static bool message_queue(struct websocket *websocket, uint8_t opcode, const void *data, size_t len)
{
	const struct wslay_event_msg message = {.opcode = opcode, .msg = data, .msg_length = len};
	const size_t room = websocket_room(websocket);

	if (len > room && room != buffer_limit())
		return false;
	if (room == 0 || wslay_event_queue_msg(websocket->wslay, &message) != 0)
		return false;
	queue_flush(websocket);
	return true;
}

static void queue_flush(struct websocket *websocket)
{
	if (websocket->receiving || websocket->dead)
		return;
	if (wslay_event_send(websocket->wslay) != 0)
		websocket_drop(websocket);
}

static void input_ready(struct bufferevent *bev, void *arg)
{
	struct websocket *websocket = arg;
	int rc;

	if (websocket->dead)
		return;
	websocket->heard = true;
	websocket->receiving = true;
	rc = wslay_event_recv(websocket->wslay);
	websocket->receiving = false;
	if (rc != 0) {
		frame_refuse(websocket);
		return;
	}
	/* wslay has queued a close: its answer to the peer's, or because of a bad frame. */
	if (!websocket->closing && (wslay_event_get_close_received(websocket->wslay) ||
					   !wslay_event_want_read(websocket->wslay))) {
		websocket->closing = true;
		timer_set(websocket, WEBSOCKET_CLOSE_S);
	}
	queue_flush(websocket);
	finish_check(websocket);
	if (!websocket->dead &&
		evbuffer_get_length(bufferevent_get_output(bev)) > 2 * buffer_limit())
		bufferevent_disable(bev, EV_READ);
}

static void output_drained(struct bufferevent *bev, void *arg)
{
	struct websocket *websocket = arg;

	if (websocket->dead)
		return;
	if (!websocket->failed)
		bufferevent_enable(bev, EV_READ);
	if (websocket->closing)
		finish_check(websocket);
	else if (websocket->ops->writable != NULL)
		websocket->ops->writable(websocket->arg);
}

/* A header that is no header: wslay gives up without a word, and the peer is owed one. */
static void frame_refuse(struct websocket *websocket)
{
	static const uint8_t close_frame[] = {
		0x88, 2, WEBSOCKET_PROTOCOL >> 8, WEBSOCKET_PROTOCOL & 255};

	websocket->failed = true;
	websocket->closing = true;
	bufferevent_disable(websocket->bev, EV_READ);
	timer_set(websocket, WEBSOCKET_CLOSE_S);
	if (evbuffer_add(bufferevent_get_output(websocket->bev), close_frame, sizeof(close_frame)) <
		0)
		websocket_drop(websocket);
}

/* Both have said goodbye, or nothing can be understood any more, and all of ours has left. */
static void finish_check(struct websocket *websocket)
{
	if (!websocket->closing || evbuffer_get_length(bufferevent_get_output(websocket->bev)) > 0)
		return;
	if (websocket->failed || (wslay_event_get_close_sent(websocket->wslay) &&
					 !wslay_event_want_read(websocket->wslay)))
		websocket_drop(websocket);
}

static void connection_event(struct bufferevent *bev, short what, void *arg)
{
	if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) != 0)
		websocket_drop(arg);
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
	const struct wslay_event_msg ping = {.opcode = WSLAY_PING};
	struct websocket *websocket = arg;

	if (websocket->closing || !websocket->heard) {
		websocket_drop(websocket);
		return;
	}
	websocket->heard = false;
	if (wslay_event_queue_msg(websocket->wslay, &ping) != 0) {
		websocket_drop(websocket);
		return;
	}
	queue_flush(websocket);
	timer_set(websocket, WEBSOCKET_PING_S);
}

static void timer_set(struct websocket *websocket, unsigned seconds)
{
	const struct timeval time = {.tv_sec = seconds};

	evtimer_add(websocket->timer, &time);
}

static ssize_t wslay_read(
	wslay_event_context_ptr wslay, uint8_t *data, size_t len, int flags, void *arg)
{
	const struct websocket *websocket = arg;
	const int n = evbuffer_remove(bufferevent_get_input(websocket->bev), data, len);

	if (n > 0)
		return n;
	wslay_event_set_error(wslay, n == 0 ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t wslay_write(
	wslay_event_context_ptr wslay, const uint8_t *data, size_t len, int flags, void *arg)
{
	const struct websocket *websocket = arg;

	if (evbuffer_add(bufferevent_get_output(websocket->bev), data, len) == 0)
		return (ssize_t)len;
	wslay_event_set_error(wslay, WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static void wslay_message(
	wslay_event_context_ptr wslay, const struct wslay_event_on_msg_recv_arg *msg, void *arg)
{
	const struct websocket *websocket = arg;
	char *text;

	if (wslay_is_ctrl_frame(msg->opcode) || websocket->closing || websocket->dead)
		return;
	text = malloc(msg->msg_length + 1);
	if (text == NULL) {
		wslay_event_set_error(wslay, WSLAY_ERR_NOMEM);
		return;
	}
	if (msg->msg_length > 0)
		memcpy(text, msg->msg, msg->msg_length);
	text[msg->msg_length] = '\0';
	websocket->ops->message(
		websocket->arg, msg->opcode == WSLAY_TEXT_FRAME, text, msg->msg_length);
	free(text);
}
