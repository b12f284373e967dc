/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * evhttp parses and frames; what it leaves open is done here per connection (struct conn): counting
 * by address, deadlines for whole requests instead of single reads, noticing that a client has gone
 * while its answer is prepared elsewhere, and errors in our shape where evhttp would send a page of
 * HTML.
 */
#include "api/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "config/log.h"
#include "engine/fault.h"

#define BACKLOG         128
#define TARGET_MAX      160 /* of a request's first line, kept for errors */
#define ACCEPT_PAUSE_MS 100

/* What one connection may have unread in memory: a body, headers, and what is pipelined behind. */
#define INPUT_MAX (SERVER_BODY_MAX + 4 * SERVER_HEADERS_MAX)

enum phase {
	PHASE_NEW,      /* accepted, not looked at yet */
	PHASE_IDLE,     /* between requests */
	PHASE_READING,  /* a request has begun */
	PHASE_HANDLING, /* it is whole; the answer is not out yet */
	PHASE_REFUSING, /* evhttp answers by itself */
	PHASE_UPGRADED, /* no HTTP any more */
	PHASE_DEAD,
};

struct conn {
	LIST_ENTRY(conn) entry;
	enum phase phase;
	struct bufferevent *bev;
	struct evhttp_connection *evcon;
	struct evhttp_request *evreq; /* from whole request to sent answer */
	struct request *request;      /* from whole request to its handler's answer */
	struct event *wake;           /* deadlines, and what cannot be done where it is noticed */
	bool streaming; /* the answer goes out in pieces, or as another protocol: to */
	struct principal who;
	char peer[REQUEST_PEER_MAX];
	char target[TARGET_MAX + 1];
	unsigned target_len;
	void (*drained)(void *arg);
	void *drained_arg;
	void (*gone)(void *arg); /* once upgraded */
	void *gone_arg;
};

LIST_HEAD(conns, conn);

static struct {
	struct event_base *base;
	struct evhttp *http;
	struct event *accept_again;
	const struct server_ops *ops;
	struct conns live, sockets, dead;
	unsigned n_live;
	unsigned n_sockets;
	uint64_t answers[6];
	unsigned n_listeners;
	struct evconnlistener *listeners[CONFIG_LIST_MAX];
} server;

static int listen_check(const struct config *config, struct err *err);
static int listen_add(const char *address, bool insecure, struct err *err);
static struct bufferevent *conn_new(struct event_base *base, void *arg);
static void conn_wake(evutil_socket_t fd, short what, void *arg);
static void conn_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg);
static void conn_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg);
static void conn_request(struct evhttp_request *evreq, void *arg);
static void conn_complete(struct evhttp_request *evreq, void *arg);
static void conn_closed(struct evhttp_connection *evcon, void *arg);
static void conn_bury(struct conn *conn);
static void conn_refuse(struct conn *conn);
static void accept_failed(struct evconnlistener *listener, void *arg);
static void accept_again(evutil_socket_t fd, short what, void *arg);
static void event_log(int severity, const char *text);

int server_start(const struct config *config, struct event_base *base, const struct server_ops *ops,
	struct err *err)
{
	int rc = listen_check(config, err);

	if (rc < 0)
		return rc;
	event_set_log_callback(event_log);
	server.base = base;
	server.ops = ops;
	LIST_INIT(&server.live);
	LIST_INIT(&server.sockets);
	LIST_INIT(&server.dead);
	server.http = evhttp_new(base);
	server.accept_again = evtimer_new(base, accept_again, NULL);
	if (server.http == NULL || server.accept_again == NULL) {
		server_stop();
		return err_set(err, ENOMEM, NULL, "no memory for the HTTP server");
	}
	evhttp_set_max_headers_size(server.http, SERVER_HEADERS_MAX);
	evhttp_set_max_body_size(server.http, SERVER_BODY_MAX);
	evhttp_set_flags(server.http, EVHTTP_SERVER_LINGERING_CLOSE);
	/* All that it knows: the router says what is not allowed, in its own words. */
	evhttp_set_allowed_methods(server.http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
							EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
							EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
							EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_default_content_type(server.http, NULL);
	evhttp_set_bevcb(server.http, conn_new, NULL);
	evhttp_set_gencb(server.http, conn_request, NULL);
	for (unsigned i = 0; i < config->api.listen.n && rc == 0; i++)
		rc = listen_add(config->api.listen.item[i], config->api.insecure, err);
	if (rc < 0)
		server_stop();
	return rc;
}

void server_stop(void)
{
	struct conn *conn;

	if (server.http != NULL)
		evhttp_free(server.http); /* listeners and connections too */
	while ((conn = LIST_FIRST(&server.dead)) != NULL)
		conn_bury(conn);
	if (server.accept_again != NULL)
		event_free(server.accept_again);
	memset(&server, 0, sizeof(server));
}

const char *server_header(const struct request *request, const char *name)
{
	if (request->conn == NULL)
		return NULL;
	return evhttp_find_header(evhttp_request_get_input_headers(request->conn->evreq), name);
}

void server_header_add(struct request *request, const char *name, const char *fmt, ...)
{
	struct evkeyvalq *headers;
	char value[512];
	va_list args;

	if (request->conn == NULL)
		return;
	headers = evhttp_request_get_output_headers(request->conn->evreq);
	va_start(args, fmt);
	vsnprintf(value, sizeof(value), fmt, args);
	va_end(args);
	evhttp_remove_header(headers, name);
	evhttp_add_header(headers, name, value); /* refuses line breaks */
}

static void answer_begin(struct request *request, int status, bool streaming)
{
	server.answers[status / 100]++;
	if (server.ops->answered != NULL)
		server.ops->answered(request, status);
	if (request->conn == NULL)
		return;
	request->conn->streaming = streaming;
	request->conn->who = request->who;
}

/* The handler is done with the request; the connection goes on without it. */
static struct conn *request_detach(struct request *request)
{
	struct conn *conn = request->conn;

	if (conn != NULL)
		conn->request = NULL;
	free(request->text);
	free(request);
	return conn;
}

static void head_make(struct request *request, const char *type, uint64_t length)
{
	server_header_add(request, "Cache-Control", "no-store");
	server_header_add(request, "X-Content-Type-Options", "nosniff");
	if (type != NULL)
		server_header_add(request, "Content-Type", "%s", type);
	if (type != NULL && length != SERVER_LENGTH_UNKNOWN)
		server_header_add(request, "Content-Length", "%llu", (unsigned long long)length);
}

void server_reply(
	struct request *request, int status, const char *type, const void *body, size_t len)
{
	struct evbuffer *buffer = NULL;
	struct conn *conn;

	head_make(request, type, len);
	if (type != NULL && body != NULL && request->method != METHOD_HEAD) {
		buffer = evbuffer_new();
		if (buffer == NULL || fault_point(FAULT_http_write) != 0 ||
			evbuffer_add(buffer, body, len) < 0) {
			if (buffer != NULL)
				evbuffer_free(buffer);
			server_stream_abort(request);
			return;
		}
	}
	answer_begin(request, status, false);
	conn = request_detach(request);
	if (conn != NULL)
		evhttp_send_reply(conn->evreq, status, server_phrase(status), buffer);
	if (buffer != NULL)
		evbuffer_free(buffer);
}

void server_stream_start(struct request *request, int status, const char *type, uint64_t length,
	void (*gone)(void *arg), void *arg)
{
	struct conn *conn = request->conn;

	request->gone = gone;
	request->gone_arg = arg;
	answer_begin(request, status, true);
	if (conn == NULL)
		return;
	head_make(request, type, length);
	/* HTTP/1.0 has no chunks: the end of such a body is the end of the connection. */
	if (length == SERVER_LENGTH_UNKNOWN && conn->evreq->minor == 0)
		evhttp_remove_header(evhttp_request_get_input_headers(conn->evreq), "Connection");
	evhttp_send_reply_start(conn->evreq, status, server_phrase(status));
}

static void piece_free(const void *piece, size_t len, void *arg)
{
	free(arg);
}

static void piece_drained(struct evhttp_connection *evcon, void *arg)
{
	struct conn *conn = arg;
	void (*drained)(void *) = conn->drained;

	conn->drained = NULL;
	if (drained != NULL)
		drained(conn->drained_arg);
}

void server_stream_send(
	struct request *request, void *piece, size_t len, void (*drained)(void *arg), void *arg)
{
	struct conn *conn = request->conn;
	struct evbuffer *buffer = conn != NULL ? evbuffer_new() : NULL;

	if (buffer == NULL || fault_point(FAULT_http_write) != 0 ||
		evbuffer_add_reference(buffer, piece, len, piece_free, piece) < 0) {
		free(piece);
		if (buffer != NULL)
			evbuffer_free(buffer);
		/* The piece would be missing in the middle: end it where it can be seen. */
		if (conn != NULL)
			event_active(conn->wake, EV_TIMEOUT, 0);
		return;
	}
	conn->drained = drained;
	conn->drained_arg = arg;
	evhttp_send_reply_chunk_with_cb(conn->evreq, buffer, piece_drained, conn);
	evbuffer_free(buffer);
}

void server_stream_end(struct request *request)
{
	struct conn *conn = request_detach(request);

	if (conn != NULL)
		evhttp_send_reply_end(conn->evreq);
}

void server_stream_abort(struct request *request)
{
	struct conn *conn = request_detach(request);

	if (conn != NULL)
		evhttp_connection_free(conn->evcon);
}

struct conn *server_upgrade(struct request *request, const char *head, void (*gone)(void *arg),
	void *arg, struct bufferevent **bev)
{
	struct conn *conn = request->conn;

	if (conn == NULL || conn->evreq->minor == 0 || server.n_sockets == SERVER_SOCKETS_MAX)
		return NULL;
	answer_begin(request, 101, true);
	request_detach(request);
	LIST_REMOVE(conn, entry);
	server.n_live--;
	LIST_INSERT_HEAD(&server.sockets, conn, entry);
	server.n_sockets++;
	conn->phase = PHASE_UPGRADED;
	conn->gone = gone;
	conn->gone_arg = arg;
	bufferevent_set_timeouts(conn->bev, NULL, NULL);
	evbuffer_add_printf(bufferevent_get_output(conn->bev),
		"HTTP/1.1 101 Switching Protocols\r\n%s\r\n", head);
	*bev = conn->bev;
	return conn;
}

void server_socket_close(struct conn *conn)
{
	event_active(conn->wake, EV_TIMEOUT, 0);
}

static void conns_cut(struct conns *conns, bool (*holds)(const struct principal *who))
{
	struct conn *conn, *next;

	for (conn = LIST_FIRST(conns); conn != NULL; conn = next) {
		next = LIST_NEXT(conn, entry);
		if (conn->streaming && !holds(&conn->who))
			evhttp_connection_free(conn->evcon);
	}
}

void server_cut(bool (*holds)(const struct principal *who))
{
	conns_cut(&server.live, holds);
	conns_cut(&server.sockets, holds);
}

void server_status(struct server_status *status)
{
	status->connections = server.n_live;
	status->sockets = server.n_sockets;
	memcpy(status->answers, server.answers, sizeof(status->answers));
}

const char *server_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{101, "Switching Protocols"},
		{200, "OK"},
		{201, "Created"},
		{204, "No Content"},
		{206, "Partial Content"},
		{304, "Not Modified"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{409, "Conflict"},
		{410, "Gone"},
		{413, "Content Too Large"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{426, "Upgrade Required"},
		{429, "Too Many Requests"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{503, "Service Unavailable"},
		{507, "Insufficient Storage"},
	};

	for (unsigned i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Error";
}

static int listen_check(const struct config *config, struct err *err)
{
	if (config->api.tls_certificate[0] != '\0' || config->api.tls_key[0] != '\0')
		return err_set(err, EINVAL, "api.tls_certificate",
			"TLS is not supported yet; leave tls_certificate and tls_key empty, and "
			"let a "
			"TLS proxy on this machine speak for a loopback address");
	if (config->api.listen.n == 0)
		return err_set(err, EINVAL, "api.listen", "needs at least one ADDRESS:PORT");
	return 0;
}

/* "127.0.0.1:8080" or "[::1]:8080": numbers only, so that nothing waits for a name server. */
static struct addrinfo *address_parse(const char *address)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	const char *colon = strrchr(address, ':');
	char host[CONFIG_NAME_MAX];
	struct addrinfo *info = NULL;
	size_t len;

	/* getaddrinfo would take 99999 modulo 65536. */
	if (colon == NULL || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
		strlen(colon + 1) > 5 || atoi(colon + 1) > UINT16_MAX)
		return NULL;
	len = colon - address;
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
		hints.ai_family = AF_INET6;
	} else {
		hints.ai_family = AF_INET;
	}
	snprintf(host, sizeof(host), "%.*s", (int)len, address);
	return getaddrinfo(host, colon + 1, &hints, &info) == 0 ? info : NULL;
}

static bool address_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
	return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

/* A bound, listening socket; TCP_NODELAY is inherited by what it accepts. */
static int socket_listen(const struct addrinfo *info)
{
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1, rc;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int listen_add(const char *address, bool insecure, struct err *err)
{
	struct addrinfo *info = address_parse(address);
	struct evhttp_bound_socket *bound;
	struct evconnlistener *listener;
	int fd;

	if (info == NULL)
		return err_set(err, EINVAL, "api.listen",
			"\"%s\" is not ADDRESS:PORT or [V6ADDRESS]:PORT in numbers", address);
	if (!address_is_loopback(info->ai_addr) && !insecure) {
		freeaddrinfo(info);
		return err_set(err, EPERM, "api.listen",
			"%s is not a loopback address and would carry tokens and packets in the "
			"clear; "
			"listen on 127.0.0.1 or [::1], or set insecure = yes",
			address);
	}
	fd = socket_listen(info);
	freeaddrinfo(info);
	if (fd < 0)
		return err_set(err, -fd, "api.listen", "%s: %s", address, strerror(-fd));
	bound = evhttp_accept_socket_with_handle(server.http, fd);
	if (bound == NULL) {
		close(fd);
		return err_set(err, ENOMEM, "api.listen", "%s: no memory", address);
	}
	listener = evhttp_bound_socket_get_listener(bound);
	evconnlistener_set_error_cb(listener, accept_failed);
	server.listeners[server.n_listeners++] = listener;
	log_info("listening address=%s", address);
	return 0;
}

/* Most likely no descriptor is free: the connection would be offered again and again at once. */
static void accept_failed(struct evconnlistener *listener, void *arg)
{
	static const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

	if (!evtimer_pending(server.accept_again, NULL))
		log_warning("connection not accepted error=%s", strerror(errno));
	evconnlistener_disable(listener);
	evtimer_add(server.accept_again, &pause);
}

static void accept_again(evutil_socket_t fd, short what, void *arg)
{
	for (unsigned i = 0; i < server.n_listeners; i++)
		evconnlistener_enable(server.listeners[i]);
}

/*
 * evhttp has accepted a socket and asks for its bufferevent; whose it is, it tells afterwards, so
 * the rest is done by conn_admit, which runs before anything is read.
 */
static struct bufferevent *conn_new(struct event_base *base, void *arg)
{
	static const struct timeval idle = {.tv_sec = SERVER_IDLE_S};
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct conn *conn = calloc(1, sizeof(*conn));

	if (bev == NULL || conn == NULL)
		goto fail;
	conn->wake = evtimer_new(base, conn_wake, conn);
	if (conn->wake == NULL)
		goto fail;
	conn->bev = bev;
	bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX);
	bufferevent_set_timeouts(bev, NULL, &idle);
	evbuffer_add_cb(bufferevent_get_input(bev), conn_input, conn);
	evbuffer_add_cb(bufferevent_get_output(bev), conn_output, conn);
	LIST_INSERT_HEAD(&server.live, conn, entry);
	server.n_live++;
	event_active(conn->wake, 0, 0);
	return bev;
fail:
	/* evhttp then makes one of its own, whose requests conn_request turns away. */
	free(conn);
	if (bev != NULL)
		bufferevent_free(bev);
	return NULL;
}

static void conn_deadline(struct conn *conn, unsigned seconds)
{
	struct timeval time = {.tv_sec = seconds};

	evtimer_add(conn->wake, &time);
}

static void peer_print(const struct sockaddr *address, char peer[REQUEST_PEER_MAX])
{
	if (address->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, peer,
			REQUEST_PEER_MAX);
	else
		inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, peer,
			REQUEST_PEER_MAX);
}

static bool conn_is_too_many(const struct conn *conn)
{
	const struct conn *other;
	unsigned n = 0;

	if (server.n_live > SERVER_CONNS_MAX)
		return true;
	/* All clients of a proxy on this machine come from one address. */
	if (address_is_loopback(evhttp_connection_get_addr(conn->evcon)))
		return false;
	LIST_FOREACH(other, &server.live, entry)
	n += strcmp(other->peer, conn->peer) == 0;
	return n > SERVER_CONNS_PER_ADDRESS;
}

static void conn_admit(struct conn *conn)
{
	void *evcon;

	bufferevent_getcb(conn->bev, NULL, NULL, NULL, &evcon);
	conn->evcon = evcon;
	evhttp_connection_set_closecb(conn->evcon, conn_closed, conn);
	peer_print(evhttp_connection_get_addr(conn->evcon), conn->peer);
	if (conn_is_too_many(conn) || fault_point(FAULT_http_accept) != 0) {
		evhttp_connection_free(conn->evcon);
		return;
	}
	conn->phase = PHASE_IDLE;
	conn_deadline(conn, SERVER_REQUEST_S);
}

static void conn_wake(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	switch (conn->phase) {
	case PHASE_NEW:
		conn_admit(conn);
		break;
	case PHASE_REFUSING:
		conn_refuse(conn);
		break;
	case PHASE_DEAD:
		conn_bury(conn);
		break;
	default: /* a deadline has passed, an answer cannot be sent whole, or a socket is done */
		evhttp_connection_free(conn->evcon);
		break;
	}
}

/* Begin to keep a new request's first line, for the case that evhttp refuses it. */
static void conn_begin(struct conn *conn)
{
	conn->phase = PHASE_READING;
	conn->target_len = 0;
	conn_deadline(conn, SERVER_REQUEST_S);
}

static void conn_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *conn = arg;
	struct evbuffer_ptr at;
	ssize_t n;

	if (info->n_added == 0)
		return;
	if (conn->phase != PHASE_NEW && fault_point(FAULT_http_read) != 0)
		event_active(conn->wake, EV_TIMEOUT, 0);
	if (conn->phase == PHASE_IDLE)
		conn_begin(conn);
	if (conn->phase != PHASE_READING || conn->target_len == TARGET_MAX)
		return;
	if (evbuffer_ptr_set(
		    input, &at, evbuffer_get_length(input) - info->n_added, EVBUFFER_PTR_SET) < 0)
		return;
	n = evbuffer_copyout_from(
		input, &at, conn->target + conn->target_len, TARGET_MAX - conn->target_len);
	if (n > 0)
		conn->target_len += n;
}

/* evhttp writes though no handler was called: it sends an error page, or 100 Continue. */
static void conn_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg)
{
	struct conn *conn = arg;
	char status[12];

	if (info->n_added == 0 || conn->phase != PHASE_READING)
		return;
	if (evbuffer_copyout(output, status, sizeof(status)) == sizeof(status) &&
		strncmp(status + 8, " 100", 4) == 0)
		return;
	/* A buffer must not be changed in its own callback. */
	conn->phase = PHASE_REFUSING;
	event_active(conn->wake, 0, 0);
}

/* Put our answer in the place of evhttp's page, of which nothing has left yet. */
static void conn_refuse(struct conn *conn)
{
	struct evbuffer *output = bufferevent_get_output(conn->bev);
	const char *type = "";
	char head[16] = "", *body;
	int status;

	evbuffer_copyout(output, head, sizeof(head) - 1);
	status = atoi(head + strcspn(head, " "));
	conn->target[conn->target_len] = '\0';
	conn->target[strcspn(conn->target, "\r\n")] = '\0';
	conn->phase = PHASE_HANDLING;
	evtimer_del(conn->wake);
	body = server.ops->refusal(conn->target, status, &type);
	if (body == NULL)
		return;
	evbuffer_drain(output, evbuffer_get_length(output));
	evbuffer_add_printf(output,
		"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
		"Cache-Control: no-store\r\nConnection: close\r\n\r\n%s",
		status, server_phrase(status), type, strlen(body),
		strncmp(conn->target, "HEAD ", 5) == 0 ? "" : body);
	free(body);
}

static enum method method_of(struct evhttp_request *evreq)
{
	switch (evhttp_request_get_command(evreq)) {
	case EVHTTP_REQ_GET:
		return METHOD_GET;
	case EVHTTP_REQ_HEAD:
		return METHOD_HEAD;
	case EVHTTP_REQ_POST:
		return METHOD_POST;
	case EVHTTP_REQ_PUT:
		return METHOD_PUT;
	case EVHTTP_REQ_PATCH:
		return METHOD_PATCH;
	case EVHTTP_REQ_DELETE:
		return METHOD_DELETE;
	case EVHTTP_REQ_OPTIONS:
		return METHOD_OPTIONS;
	default:
		return METHOD_OTHER;
	}
}

/*
 * Headers on whose meaning another HTTP implementation in front of us could disagree, so that one
 * request could hide in another's body (RFC 9112, 11.2).
 */
static bool headers_bad(struct evhttp_request *evreq)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	unsigned n_hosts = 0, n_lengths = 0, n_codings = 0;
	const struct evkeyval *header;

	TAILQ_FOREACH(header, evhttp_request_get_input_headers(evreq), next)
	{
		size_t len = strlen(header->key);

		if (len == 0 || strspn(header->key, token) != len)
			return true;
		n_hosts += strcasecmp(header->key, "Host") == 0;
		if (strcasecmp(header->key, "Content-Length") == 0) {
			n_lengths++;
			if (header->value[strspn(header->value, "0123456789")] != '\0')
				return true;
		}
		if (strcasecmp(header->key, "Transfer-Encoding") == 0) {
			n_codings++;
			if (strcasecmp(header->value, "chunked") != 0)
				return true;
		}
	}
	return n_hosts > 1 || (n_hosts == 0 && evreq->minor > 0) || n_lengths + n_codings > 1;
}

/* A body where evhttp expects none would be read as the next request. */
static bool body_unread(struct evhttp_request *evreq)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(evreq);
	const char *length = evhttp_find_header(headers, "Content-Length");

	return (evreq->type == EVHTTP_REQ_HEAD || evreq->type == EVHTTP_REQ_TRACE) &&
	       (evhttp_find_header(headers, "Transfer-Encoding") != NULL ||
		       (length != NULL && strcmp(length, "0") != 0));
}

static void request_refuse(struct evhttp_request *evreq, struct conn *conn, int status)
{
	struct evbuffer *buffer = evbuffer_new();
	const char *type = NULL;
	char *body;

	conn->target[conn->target_len] = '\0';
	conn->target[strcspn(conn->target, "\r\n")] = '\0';
	body = server.ops->refusal(conn->target, status, &type);
	if (buffer != NULL && body != NULL)
		evbuffer_add(buffer, body, strlen(body));
	free(body);
	if (type != NULL)
		evhttp_add_header(evhttp_request_get_output_headers(evreq), "Content-Type", type);
	evhttp_add_header(evhttp_request_get_output_headers(evreq), "Connection", "close");
	evhttp_send_reply(evreq, status, server_phrase(status), buffer);
	if (buffer != NULL)
		evbuffer_free(buffer);
}

/* Keep an eye on the socket while the answer is prepared: evhttp looks only when it reads or
 * writes. */
static void conn_watch(struct conn *conn)
{
	bufferevent_data_cb written;
	bufferevent_event_cb event;
	void *arg;

	/* Without a read callback what is pipelined waits in the buffer, up to its watermark. */
	bufferevent_getcb(conn->bev, NULL, &written, &event, &arg);
	bufferevent_setcb(conn->bev, NULL, written, event, arg);
	bufferevent_enable(conn->bev, EV_READ);
}

static struct conn *conn_find(struct evhttp_connection *evcon)
{
	struct conn *conn;

	LIST_FOREACH(conn, &server.live, entry)
	if (conn->evcon == evcon)
		break;
	return conn;
}

static struct request *request_new(struct conn *conn, int *rc)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(conn->evreq);
	struct evbuffer *body = evhttp_request_get_input_buffer(conn->evreq);
	struct request *request = calloc(1, sizeof(*request));
	const char *path = evhttp_uri_get_path(uri);

	*rc = -ENOMEM;
	if (request == NULL)
		return NULL;
	request->method = method_of(conn->evreq);
	request->conn = conn;
	request->body_len = evbuffer_get_length(body);
	request->body = request->body_len > 0 ? (const char *)evbuffer_pullup(body, -1) : "";
	memcpy(request->peer, conn->peer, sizeof(request->peer));
	if (request->body != NULL)
		*rc = request_target_parse(
			request, path != NULL ? path : "", evhttp_uri_get_query(uri));
	if (*rc == 0)
		return request;
	free(request->text);
	free(request);
	return NULL;
}

static void conn_request(struct evhttp_request *evreq, void *arg)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(evreq);
	struct conn *conn = conn_find(evcon);
	struct request *request;
	int rc;

	if (conn == NULL) {
		evhttp_send_error(evreq, 503, NULL);
		return;
	}
	conn->phase = PHASE_HANDLING;
	evtimer_del(conn->wake);
	conn->evreq = evreq;
	evhttp_request_own(evreq);
	evhttp_request_set_on_complete_cb(evreq, conn_complete, conn);
	if (headers_bad(evreq)) {
		request_refuse(evreq, conn, 400);
		return;
	}
	request = request_new(conn, &rc);
	if (request == NULL) {
		request_refuse(evreq, conn, rc == -ENOENT ? 404 : rc == -EINVAL ? 400 : 503);
		return;
	}
	if (body_unread(evreq))
		evhttp_add_header(evhttp_request_get_output_headers(evreq), "Connection", "close");
	conn->request = request;
	conn_watch(conn);
	server.ops->handle(request);
}

/* The answer has left; evhttp frees its request and reads on, or closes. */
static void conn_complete(struct evhttp_request *evreq, void *arg)
{
	struct conn *conn = arg;
	struct evbuffer *input = bufferevent_get_input(conn->bev);
	ssize_t n;

	conn->evreq = NULL;
	conn->streaming = false;
	conn->phase = PHASE_IDLE;
	conn_deadline(conn, SERVER_IDLE_S);
	if (evbuffer_get_length(input) == 0)
		return;
	conn_begin(conn);
	n = evbuffer_copyout(input, conn->target, TARGET_MAX);
	conn->target_len = n > 0 ? n : 0;
}

/* The connection is about to be freed, for whatever reason. */
static void conn_closed(struct evhttp_connection *evcon, void *arg)
{
	struct conn *conn = arg;
	struct request *request = conn->request;

	if (conn->phase == PHASE_UPGRADED)
		server.n_sockets--;
	else
		server.n_live--;
	conn->phase = PHASE_DEAD;
	conn->request = NULL;
	conn->drained = NULL;
	LIST_REMOVE(conn, entry);
	LIST_INSERT_HEAD(&server.dead, conn, entry);
	/* evhttp still walks over the request: it and the rest are freed when that is over. */
	event_active(conn->wake, 0, 0);
	if (conn->gone != NULL)
		conn->gone(conn->gone_arg);
	if (request == NULL)
		return;
	request->conn = NULL;
	if (request->gone != NULL)
		request->gone(request->gone_arg);
}

static void conn_bury(struct conn *conn)
{
	LIST_REMOVE(conn, entry);
	event_free(conn->wake);
	if (conn->evreq != NULL)
		evhttp_request_free(conn->evreq);
	free(conn);
}

static void event_log(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_warning("libevent: %s", text);
}
