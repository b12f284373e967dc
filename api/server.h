/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * HTTP/1.1 over the addresses of api.listen, with TLS where there is a certificate: connections,
 * limits, deadlines, answers. What the bytes of a request mean is http.h's. Control thread only; never
 * touches a disk.
 *
 * Limits: 16 KiB of head, 1 MiB of body, 10 s for a TLS handshake and for a request to be whole, 60 s
 * idle between requests, or without the client taking SERVER_TAKE_LEAST of an answer;
 * SERVER_CONNS_MAX connections in all and SERVER_CONNS_PER_ADDRESS from one address that is not loopback
 * (an IPv6 /64 is one address). When all places are taken the newcomer gets that of the connection that
 * has made us wait longest, first of those that have not shown a good token; so whoever opens
 * connections to waste them wastes his own. A connection that has gone over to another protocol counts
 * among SERVER_SOCKETS_MAX instead.
 */
#ifndef API_SERVER_H
#define API_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "api/request.h"

#define SERVER_BODY_MAX          (1024 * 1024)
#define SERVER_BODIES_MAX        (64 * 1024 * 1024) /* of all requests on their way */
#define SERVER_REQUEST_S         10
#define SERVER_IDLE_S            60
#define SERVER_TAKE_LEAST        (16 * 1024)
#define SERVER_CONNS_MAX         2048
#define SERVER_CONNS_PER_ADDRESS 512
#define SERVER_SOCKETS_MAX       2048
#define SERVER_LENGTH_UNKNOWN    UINT64_MAX

struct bufferevent;
struct event_base;

struct server_ops {
	/* A whole request; to be answered now or later. */
	void (*handle)(struct request *request);
	/* The body for a request that is no good HTTP; target is its first line, perhaps cut. */
	char *(*refusal)(const char *target, int status, const char **content_type);
	/* The head of the answer to a request that was handled is on its way; it is still there. */
	void (*answered)(const struct request *request, int status);
};

int server_start(const struct config *config, struct event_base *base, const struct server_ops *ops,
	struct err *err);
/* Closes every connection; requests that are not answered yet stay their handlers' to end. */
void server_stop(void);

/*
 * Cut the streams and sockets whose principal does not hold any more, and what is left of streams on
 * its way out. An answer that came in one piece is let through.
 */
void server_cut(bool (*holds)(const struct principal *who));

/* Why connections were ended, or not begun, by us. */
#define SERVER_ENDS(X)                                         \
	X(full)    /* no place, and nobody to take one from */ \
	X(evicted) /* its place went to a newcomer */          \
	X(late)    /* no whole request in time */              \
	X(slow)    /* did not take its answer */               \
	X(tls)     /* no handshake */

enum server_end {
#define X(name) SERVER_END_##name,
	SERVER_ENDS(X)
#undef X
		SERVER_END_COUNT,
};

/* How the server is doing: open connections, and answers by the first digit of their status. */
struct server_status {
	unsigned connections;
	unsigned sockets;
	uint64_t accepted;
	uint64_t handshakes; /* of TLS, completed */
	uint64_t ended[SERVER_END_COUNT];
	uint64_t answers[6];
};
void server_status(struct server_status *status);

/* The standard phrase of a status: "Not Found". */
const char *server_phrase(int status);

/* "https" or "http". */
const char *server_scheme(void);

/* A request header, or NULL. Valid until the request is answered or its client has gone. */
const char *server_header(const struct request *request, const char *name);

/* Set a header of the answer, before it is sent. */
void server_header_add(struct request *request, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Answer and end the request. type NULL: no body. HEAD: body is left out, len is told. */
void server_reply(
	struct request *request, int status, const char *type, const void *body, size_t len);

/*
 * An answer in pieces. length is told as Content-Length unless it is SERVER_LENGTH_UNKNOWN. Each
 * piece is malloc'ed memory that is freed once sent; drained(arg) is called when all of it has left
 * and the next may come, never from within server_stream_send. gone(arg) is called instead of
 * drained if the client goes away; the request must still be ended. Not for HEAD.
 */
void server_stream_start(struct request *request, int status, const char *type, uint64_t length,
	void (*gone)(void *arg), void *arg);
void server_stream_send(
	struct request *request, void *piece, size_t len, void (*drained)(void *arg), void *arg);
void server_stream_end(struct request *request);
/* Cut the connection: what was promised cannot be sent. */
void server_stream_abort(struct request *request);

/*
 * The connection goes on in another protocol: 101 with the header lines in head ("Name: value\r\n")
 * is sent, the request is over, *bev is the caller's to read, write and set callbacks on, and has no
 * timeouts. gone(arg) is called when the connection is freed: by server_socket_close, never from
 * within it, or by server_stop. NULL: no more than SERVER_SOCKETS_MAX, HTTP/1.0 or the client has gone;
 * the request is still to be answered.
 */
struct conn *server_upgrade(struct request *request, const char *head, void (*gone)(void *arg),
	void *arg, struct bufferevent **bev);
void server_socket_close(struct conn *conn);

#endif
