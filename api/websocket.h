/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The WebSocket protocol (RFC 6455) on a connection that began as a request of ours: handshake,
 * messages of at most WEBSOCKET_MESSAGE_MAX bytes, pings, orderly close. What the messages say is the
 * caller's. The only file pair that knows wslay. Control thread only.
 *
 * A peer that does not read costs a bounded number of bytes, the fewer the more peers there are: then
 * websocket_send refuses, and it is the caller who counts what it skips. A peer that is not heard of
 * for 2 * WEBSOCKET_PING_S seconds is dropped.
 */
#ifndef API_WEBSOCKET_H
#define API_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/request.h"

#define WEBSOCKET_MESSAGE_MAX 16384 /* from the peer; more: close 1009 */
/* To a peer and not taken by its socket: its part of the sum, within these bounds. */
#define WEBSOCKET_BUFFER_SUM   (64U << 20)
#define WEBSOCKET_BUFFER_MAX   (1U << 20)
#define WEBSOCKET_BUFFER_LEAST (64U << 10)
#define WEBSOCKET_PING_S       30
#define WEBSOCKET_CLOSE_S      5 /* for the peer to answer a close */

/* Close codes that we send (RFC 6455, 7.4.1). */
enum websocket_code {
	WEBSOCKET_NORMAL = 1000,
	WEBSOCKET_GOING_AWAY = 1001,
	WEBSOCKET_PROTOCOL = 1002,
	WEBSOCKET_UNSUPPORTED = 1003,
	WEBSOCKET_POLICY = 1008,
	WEBSOCKET_TOO_BIG = 1009,
};

struct websocket;

struct websocket_ops {
	/* A whole message. text: it is UTF-8. data is valid during the call and followed by a NUL. */
	void (*message)(void *arg, bool text, const char *data, size_t len);
	/* What was queued has left: there is room again. May be NULL. */
	void (*writable)(void *arg);
	/* The connection is gone, for whatever reason; called once, the last call. */
	void (*closed)(void *arg);
};

/*
 * Answer request's handshake; the request is over. protocol: the subprotocol spoken here, told if the
 * peer offers it, or NULL. NULL: it was no handshake, or there are too many sockets: answered with
 * an error of the request's vendor, and no op will be called.
 */
struct websocket *websocket_accept(
	struct request *request, const char *protocol, const struct websocket_ops *ops, void *arg);

/*
 * Queue one message. False: no room, or closing; nothing was queued. A message longer than the room
 * of an empty buffer is taken when the buffer is empty.
 */
bool websocket_send_text(struct websocket *websocket, const char *text, size_t len);
bool websocket_send_binary(struct websocket *websocket, const void *data, size_t len);
/* Bytes that may be queued now. */
size_t websocket_room(const struct websocket *websocket);

/* Say goodbye with a reason (at most 120 bytes); ops->closed comes when the peer has answered or some
 * seconds have passed. Nothing can be sent after it. */
void websocket_close(struct websocket *websocket, enum websocket_code code, const char *reason);

#endif
