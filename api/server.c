/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A connection is a struct conn that goes through phases; one timer per connection keeps its
 * deadline, and frees it when nobody is in the middle of it. While it makes us wait it stands in one of
 * two queues, longest first, from which places are taken when there are no more.
 */
#include "api/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/tcp.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "config/log.h"
#include "engine/fault.h"
#include "api/http.h"
#include "api/tls.h"

#define BACKLOG         1024
#define ACCEPT_BURST    32 /* then the others have a turn */
#define ACCEPT_PAUSE_MS 100
#define LINE_KEPT       160 /* of a request's first line, for errors */
#define LINGER_S        2   /* for the client to read our last words before the socket is closed */
#define TAKE_S          30  /* how often we look whether it takes its answer; two looks end it */
#define PEERS           256 /* buckets */
#define EVICT_LOOK      64  /* so many of those who wait longest are looked at */
#define FDS_WANTED      16384
#define HEADERS_SIZE    2048 /* of an answer, beside those that every answer has */

/* Pipelined behind a request that is being answered; more is not read until it is. */
#define INPUT_MAX (2 * HTTP_HEAD_MAX)
/* One TLS record a piece: progress shows by pieces, and a write that is tried again is the same. */
#define TLS_PIECE (16 * 1024)
#define HEAD_SIZE 512 /* what every answer has of headers, about */

enum phase {
	PHASE_NEW,
	PHASE_SHAKING,   /* TLS handshake */
	PHASE_IDLE,      /* between requests */
	PHASE_HEAD,      /* a request has begun */
	PHASE_BODY,      /* its head is whole */
	PHASE_HANDLING,  /* it is whole; the answer is not out yet */
	PHASE_SENDING,   /* the answer is: it waits for the client to take it */
	PHASE_LINGERING, /* all is said; what still comes is not read */
	PHASE_UPGRADED,  /* no HTTP any more */
	PHASE_DEAD,
};

/* All connections of one address. */
struct peer {
	LIST_ENTRY(peer) entry;
	uint8_t key[16];
	unsigned n;
	bool loopback;
};

/* One request's head and what its answer adds. */
struct exchange {
	struct http_head head;
	size_t headers_len;
	char headers[HEADERS_SIZE]; /* of the answer: lines with their CR LF */
	char text[];
};

struct conn {
	LIST_ENTRY(conn) entry;
	TAILQ_ENTRY(conn) waiting;
	enum phase phase;
	unsigned queue; /* of those who wait, plus one; 0: in none */
	bool known;     /* has shown a good token */
	bool streaming; /* the answer goes out in pieces, or as another protocol: to who */
	struct principal who;
	bool eof;     /* the client sends no more */
	bool keep;    /* after this answer comes the next request */
	bool endless; /* the answer's length is not known: who hangs up has gone */
	bool chunked;
	bool broken;  /* the answer cannot be sent whole */
	bool pending; /* something waited for the client when we last looked */
	bool clean;   /* it ends as it should */
	uint64_t acked_bytes;
	struct bufferevent *bev;
	struct event *wake; /* deadlines, and what cannot be done where it is noticed */
	struct peer *peer;
	char address[REQUEST_PEER_MAX];
	char line[LINE_KEPT + 1];
	struct http_scan scan;
	struct http_chunks chunks;
	uint64_t body_left; /* HTTP_LENGTH */
	struct evbuffer *body;
	struct exchange *exchange; /* from whole head to sent answer */
	struct request *request;   /* from whole request to its handler's answer */
	void (*drained)(void *arg);
	void *drained_arg;
	void (*gone)(void *arg); /* once upgraded */
	void *gone_arg;
};

LIST_HEAD(conns, conn);
TAILQ_HEAD(queue, conn);
LIST_HEAD(peers, peer);

static struct {
	struct event_base *base;
	struct event *accept_again;
	const struct server_ops *ops;
	struct conns live, sockets, dead;
	struct queue waiting[2]; /* strangers; those who have shown a token */
	struct peers peers[PEERS];
	unsigned n_live, n_sockets;
	size_t bodies_len;
	struct server_status status;
	unsigned n_listeners;
	struct event *listeners[CONFIG_LIST_MAX];
} server;

static int listen_add(const char *address, bool insecure, struct err *err);
static void fds_raise(void);
static void accept_ready(evutil_socket_t fd, short what, void *arg);
static void accept_again(evutil_socket_t fd, short what, void *arg);
static struct peer *peer_take(const struct sockaddr *address);
static void peer_give(struct peer *peer);
static void conn_wake(evutil_socket_t fd, short what, void *arg);
static void conn_phase(struct conn *conn, enum phase phase, unsigned seconds);
static void conn_read(struct bufferevent *bev, void *arg);
static void conn_written(struct bufferevent *bev, void *arg);
static void conn_event(struct bufferevent *bev, short what, void *arg);
static void conn_end(struct conn *conn);
static void conn_bury(struct conn *conn);
static void conn_refuse(struct conn *conn, int status);
static void head_read(struct conn *conn);
static void body_begin(struct conn *conn);
static void body_read(struct conn *conn);
static void request_begin(struct conn *conn);
static void event_log(int severity, const char *text);

int server_start(const struct config *config, struct event_base *base, const struct server_ops *ops,
	struct err *err)
{
	int rc = 0;

	event_set_log_callback(event_log);
	server.base = base;
	server.ops = ops;
	TAILQ_INIT(&server.waiting[0]);
	TAILQ_INIT(&server.waiting[1]);
	if (config->api.listen.n == 0)
		return err_set(err, EINVAL, "api.listen", "needs at least one ADDRESS:PORT");
	rc = tls_start(config, err);
	if (rc < 0)
		return rc;
	fds_raise();
	server.accept_again = evtimer_new(base, accept_again, NULL);
	if (server.accept_again == NULL)
		rc = err_set(err, ENOMEM, NULL, "no memory for the HTTP server");
	for (unsigned i = 0; i < config->api.listen.n && rc == 0; i++)
		rc = listen_add(config->api.listen.item[i], config->api.insecure, err);
	if (rc < 0)
		server_stop();
	return rc;
}

static void listeners_close(void)
{
	for (unsigned i = 0; i < server.n_listeners; i++) {
		close(event_get_fd(server.listeners[i]));
		event_free(server.listeners[i]);
	}
	server.n_listeners = 0;
}

void server_stop(void)
{
	struct conn *conn;

	listeners_close();
	while ((conn = LIST_FIRST(&server.live)) != NULL)
		conn_end(conn);
	while ((conn = LIST_FIRST(&server.sockets)) != NULL)
		conn_end(conn);
	while ((conn = LIST_FIRST(&server.dead)) != NULL)
		conn_bury(conn);
	if (server.accept_again != NULL)
		event_free(server.accept_again);
	tls_stop();
	memset(&server, 0, sizeof(server));
}

void server_status(struct server_status *status)
{
	*status = server.status;
	status->connections = server.n_live;
	status->sockets = server.n_sockets;
}

const char *server_scheme(void)
{
	return tls_enabled() ? "https" : "http";
}

const char *server_header(const struct request *request, const char *name)
{
	if (request->conn == NULL)
		return NULL;
	return http_head_find(&request->conn->exchange->head, name);
}

static const char *answer_header(const struct exchange *exchange, const char *name)
{
	const size_t len = strlen(name);
	const char *at = exchange->headers;

	while (*at != '\0' && !(strncasecmp(at, name, len) == 0 && at[len] == ':'))
		at = strchr(at, '\n') + 1;
	return *at != '\0' ? at : NULL;
}

static void answer_header_remove(struct exchange *exchange, const char *name)
{
	char *at = (char *)answer_header(exchange, name), *next;

	if (at == NULL)
		return;
	next = strchr(at, '\n') + 1;
	memmove(at, next, strlen(next) + 1);
	exchange->headers_len -= next - at;
}

void server_header_add(struct request *request, const char *name, const char *fmt, ...)
{
	struct exchange *exchange;
	char line[640];
	va_list args;
	size_t len;

	if (request->conn == NULL)
		return;
	exchange = request->conn->exchange;
	len = snprintf(line, sizeof(line), "%s: ", name);
	va_start(args, fmt);
	vsnprintf(line + len, sizeof(line) - len - 2, fmt, args);
	va_end(args);
	answer_header_remove(exchange, name);
	/* What a client had a part in must not begin a line of its own. */
	if (line[strcspn(line, "\r\n")] != '\0')
		return;
	len = strlen(line);
	memcpy(line + len, "\r\n", 3);
	if (exchange->headers_len + len + 2 >= sizeof(exchange->headers)) {
		log_error("no room for header=%s of an answer", name);
		return;
	}
	memcpy(exchange->headers + exchange->headers_len, line, len + 3);
	exchange->headers_len += len + 2;
}

static void answer_begin(struct request *request, int status, bool streaming)
{
	server.status.answers[status / 100]++;
	/* Handlers may answer after the end, to nobody. */
	if (server.ops != NULL && server.ops->answered != NULL)
		server.ops->answered(request, status);
	if (request->conn == NULL)
		return;
	request->conn->streaming = streaming;
	request->conn->who = request->who;
	request->conn->known |= request->who.role != ROLE_NONE;
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

static const char *date_text(void)
{
	static char text[40];
	static time_t made;
	time_t now = time(NULL);
	struct tm tm;

	if (now != made) {
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
		made = now;
	}
	return text;
}

/* The answer's status line and headers; "Connection" of a handler stands beside ours. */
static void head_send(
	struct conn *conn, int status, const char *type, uint64_t length, size_t body_len)
{
	struct evbuffer *output = bufferevent_get_output(conn->bev);
	const struct exchange *exchange = conn->exchange;

	/* In one piece with a short body: one TLS record, one segment. */
	evbuffer_expand(
		output, HEAD_SIZE + exchange->headers_len + (body_len < TLS_PIECE ? body_len : 0));
	evbuffer_add_printf(output, "HTTP/1.1 %d %s\r\nDate: %s\r\n%s", status,
		server_phrase(status), date_text(), exchange->headers);
	if (answer_header(exchange, "Cache-Control") == NULL)
		evbuffer_add_printf(output, "Cache-Control: no-store\r\n");
	evbuffer_add_printf(output, "X-Content-Type-Options: nosniff\r\n");
	if (type != NULL)
		evbuffer_add_printf(output, "Content-Type: %s\r\n", type);
	if (conn->chunked)
		evbuffer_add_printf(output, "Transfer-Encoding: chunked\r\n");
	else if (length != SERVER_LENGTH_UNKNOWN)
		evbuffer_add_printf(output, "Content-Length: %llu\r\n", (unsigned long long)length);
	if (!conn->keep)
		evbuffer_add_printf(output, "Connection: close\r\n");
	else if (exchange->head.minor == 0)
		evbuffer_add_printf(output, "Connection: keep-alive\r\n");
	evbuffer_add(output, "\r\n", 2);
}

/* All of the answer is in the buffer: conn_written sees it leave. */
static void conn_sent(struct conn *conn)
{
	conn_phase(conn, PHASE_SENDING, TAKE_S);
	if (evbuffer_get_length(bufferevent_get_output(conn->bev)) == 0)
		bufferevent_trigger(conn->bev, EV_WRITE, BEV_OPT_DEFER_CALLBACKS);
}

void server_reply(
	struct request *request, int status, const char *type, const void *body, size_t len)
{
	const bool head = request->method == METHOD_HEAD;
	const size_t body_len = type != NULL && body != NULL && !head ? len : 0;
	uint64_t told = type != NULL ? len : 0;
	struct conn *conn;

	/* HEAD without a type: how long the answer to GET would be is not known. */
	if (status == 204 || status == 304 || (head && type == NULL))
		told = SERVER_LENGTH_UNKNOWN;

	answer_begin(request, status, false);
	conn = request_detach(request);
	if (conn == NULL)
		return;
	head_send(conn, status, type, told, body_len);
	if (body_len > 0 &&
		(fault_point(FAULT_http_write) != 0 ||
			evbuffer_add(bufferevent_get_output(conn->bev), body, body_len) < 0)) {
		conn_end(conn);
		return;
	}
	conn_sent(conn);
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
	conn->endless = length == SERVER_LENGTH_UNKNOWN;
	conn->chunked = conn->endless && conn->exchange->head.minor > 0;
	/* HTTP/1.0 has no chunks: the end of such a body is the end of the connection. */
	if (conn->endless && !conn->chunked)
		conn->keep = false;
	head_send(conn, status, type, length, 0);
	if (conn->endless && conn->eof)
		event_active(conn->wake, EV_TIMEOUT, 0);
}

static void piece_free(const void *piece, size_t len, void *arg)
{
	free(arg);
}

/* The parts leave in their order, so the last one takes the memory with it. */
static int piece_add(struct evbuffer *buffer, void *piece, size_t len)
{
	const size_t step = tls_enabled() ? TLS_PIECE : len;

	for (size_t at = 0; at < len; at += step) {
		const bool last = len - at <= step;

		if (evbuffer_add_reference(buffer, (char *)piece + at, last ? len - at : step,
			    last ? piece_free : NULL, piece) < 0)
			return -ENOMEM;
	}
	return 0;
}

void server_stream_send(
	struct request *request, void *piece, size_t len, void (*drained)(void *arg), void *arg)
{
	struct conn *conn = request->conn;
	struct evbuffer *buffer = conn != NULL && len > 0 ? evbuffer_new() : NULL;
	struct evbuffer *output;

	if (buffer == NULL || fault_point(FAULT_http_write) != 0 ||
		piece_add(buffer, piece, len) < 0) {
		if (buffer != NULL)
			evbuffer_free(buffer);
		free(piece);
		if (conn == NULL)
			return;
		/* The piece would be missing in the middle: end it where it can be seen. */
		conn->broken = true;
		event_active(conn->wake, EV_TIMEOUT, 0);
		return;
	}
	conn->drained = drained;
	conn->drained_arg = arg;
	output = bufferevent_get_output(conn->bev);
	if (conn->chunked)
		evbuffer_add_printf(output, "%zx\r\n", len);
	evbuffer_add_buffer(output, buffer);
	if (conn->chunked)
		evbuffer_add(output, "\r\n", 2);
	evbuffer_free(buffer);
}

void server_stream_end(struct request *request)
{
	struct conn *conn = request_detach(request);

	if (conn == NULL)
		return;
	if (conn->chunked)
		evbuffer_add(bufferevent_get_output(conn->bev), "0\r\n\r\n", 5);
	conn_sent(conn);
}

void server_stream_abort(struct request *request)
{
	struct conn *conn = request_detach(request);

	if (conn != NULL)
		conn_end(conn);
}

static void exchange_end(struct conn *conn)
{
	if (conn->body != NULL) {
		server.bodies_len -= evbuffer_get_length(conn->body);
		evbuffer_free(conn->body);
	}
	conn->body = NULL;
	free(conn->exchange);
	conn->exchange = NULL;
}

struct conn *server_upgrade(struct request *request, const char *head, void (*gone)(void *arg),
	void *arg, struct bufferevent **bev)
{
	struct conn *conn = request->conn;

	if (conn == NULL || conn->eof || conn->exchange->head.minor == 0 ||
		server.n_sockets == SERVER_SOCKETS_MAX)
		return NULL;
	answer_begin(request, 101, true);
	request_detach(request);
	exchange_end(conn);
	LIST_REMOVE(conn, entry);
	server.n_live--;
	LIST_INSERT_HEAD(&server.sockets, conn, entry);
	server.n_sockets++;
	conn_phase(conn, PHASE_UPGRADED, 0);
	conn->gone = gone;
	conn->gone_arg = arg;
	conn->clean = true;
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
			conn_end(conn);
	}
}

void server_cut(bool (*holds)(const struct principal *who))
{
	conns_cut(&server.live, holds);
	conns_cut(&server.sockets, holds);
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
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{426, "Upgrade Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{503, "Service Unavailable"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};

	for (unsigned i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Error";
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
	struct event *listener;
	int fd;

	if (info == NULL)
		return err_set(err, EINVAL, "api.listen",
			"\"%s\" is not ADDRESS:PORT or [V6ADDRESS]:PORT in numbers", address);
	if (!address_is_loopback(info->ai_addr) && !insecure && !tls_enabled()) {
		freeaddrinfo(info);
		return err_set(err, EPERM, "api.listen",
			"%s is not a loopback address and would carry tokens and packets in the "
			"clear; set tls_certificate and tls_key, listen on 127.0.0.1 or [::1], or "
			"set insecure = yes",
			address);
	}
	fd = socket_listen(info);
	freeaddrinfo(info);
	if (fd < 0)
		return err_set(err, -fd, "api.listen", "%s: %s", address, strerror(-fd));
	listener = event_new(server.base, fd, EV_READ | EV_PERSIST, accept_ready, NULL);
	if (listener == NULL) {
		close(fd);
		return err_set(err, ENOMEM, "api.listen", "%s: no memory", address);
	}
	event_add(listener, NULL);
	server.listeners[server.n_listeners++] = listener;
	log_info("listening url=%s://%s", server_scheme(), address);
	return 0;
}

/* A shell's 1,024 descriptors are fewer than the connections that we are ready to have. */
static void fds_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= FDS_WANTED)
		return;
	limit.rlim_cur = limit.rlim_max < FDS_WANTED ? limit.rlim_max : FDS_WANTED;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void accept_again(evutil_socket_t fd, short what, void *arg)
{
	for (unsigned i = 0; i < server.n_listeners; i++)
		event_add(server.listeners[i], NULL);
}

/* Most likely no descriptor is free: the connection would be offered again and again at once. */
static void accept_pause(void)
{
	static const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

	if (!evtimer_pending(server.accept_again, NULL))
		log_warning("connection not accepted error=%s", strerror(errno));
	for (unsigned i = 0; i < server.n_listeners; i++)
		event_del(server.listeners[i]);
	evtimer_add(server.accept_again, &pause);
}

static void address_print(const struct sockaddr *address, char text[REQUEST_PEER_MAX])
{
	if (address->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text,
			REQUEST_PEER_MAX);
	else
		inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text,
			REQUEST_PEER_MAX);
}

/* Whose place a newcomer gets: of those who wait longest the one whose address has most. */
static struct conn *victim_find(const struct peer *peer)
{
	struct conn *conn, *victim = NULL;
	unsigned n = 0;

	for (unsigned known = 0; known < 2 && victim == NULL; known++) {
		TAILQ_FOREACH(conn, &server.waiting[known], waiting)
		{
			if (peer != NULL && conn->peer != peer)
				continue;
			if (n++ == EVICT_LOOK)
				break;
			if (victim == NULL || conn->peer->n > victim->peer->n)
				victim = conn;
		}
	}
	return victim;
}

/* Is there a place for one more of this address, or can there be? */
static bool place_make(const struct peer *peer)
{
	const bool crowded = !peer->loopback && peer->n > SERVER_CONNS_PER_ADDRESS;
	struct conn *victim;

	if (!crowded && server.n_live < SERVER_CONNS_MAX)
		return true;
	victim = victim_find(crowded ? peer : NULL);
	server.status.ended[victim != NULL ? SERVER_END_evicted : SERVER_END_full]++;
	if (victim == NULL)
		return false;
	conn_end(victim);
	return true;
}

static struct conn *conn_new(int fd, struct peer *peer)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	conn->wake = evtimer_new(server.base, conn_wake, conn);
	if (conn->wake != NULL)
		conn->bev = tls_enabled() ? tls_accept(server.base, fd)
					  : bufferevent_socket_new(
						    server.base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (conn->bev == NULL) {
		if (conn->wake != NULL)
			event_free(conn->wake);
		free(conn);
		return NULL;
	}
	conn->peer = peer;
	bufferevent_setcb(conn->bev, conn_read, conn_written, conn_event, conn);
	LIST_INSERT_HEAD(&server.live, conn, entry);
	server.n_live++;
	return conn;
}

static void conn_accept(int fd, const struct sockaddr *address)
{
	struct peer *peer = peer_take(address);
	struct conn *conn = NULL;

	server.status.accepted++;
	if (peer != NULL && fault_point(FAULT_http_accept) == 0 && place_make(peer))
		conn = conn_new(fd, peer);
	if (conn == NULL) {
		if (peer != NULL)
			peer_give(peer);
		close(fd);
		return;
	}
	address_print(address, conn->address);
	conn_phase(conn, tls_enabled() ? PHASE_SHAKING : PHASE_IDLE, SERVER_REQUEST_S);
	bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
}

static void accept_ready(evutil_socket_t listener, short what, void *arg)
{
	for (unsigned i = 0; i < ACCEPT_BURST; i++) {
		struct sockaddr_storage address;
		socklen_t len = sizeof(address);
		int fd = accept4(
			listener, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			conn_accept(fd, (const struct sockaddr *)&address);
			continue;
		}
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			accept_pause();
		return;
	}
}

/* The entry of an address, which counts one connection more; NULL: no memory. */
static struct peer *peer_take(const struct sockaddr *address)
{
	struct peer *peer, wanted = {.n = 1, .loopback = address_is_loopback(address)};
	unsigned bucket = 0;

	if (address->sa_family == AF_INET6) /* who has one has 2^64 */
		memcpy(wanted.key, &((const struct sockaddr_in6 *)address)->sin6_addr,
			wanted.loopback ? 16 : 8);
	else
		memcpy(wanted.key + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
	for (unsigned i = 0; i < sizeof(wanted.key); i++)
		bucket = (bucket * 31 + wanted.key[i]) % PEERS;
	LIST_FOREACH(peer, &server.peers[bucket], entry)
	{
		if (memcmp(peer->key, wanted.key, sizeof(wanted.key)) == 0) {
			peer->n++;
			return peer;
		}
	}
	peer = malloc(sizeof(*peer));
	if (peer == NULL)
		return NULL;
	*peer = wanted;
	LIST_INSERT_HEAD(&server.peers[bucket], peer, entry);
	return peer;
}

static void peer_give(struct peer *peer)
{
	if (--peer->n > 0)
		return;
	LIST_REMOVE(peer, entry);
	free(peer);
}

/* Does a connection in this phase make us wait, for what nobody is promised? */
static bool phase_waits(const struct conn *conn)
{
	switch (conn->phase) {
	case PHASE_SHAKING:
	case PHASE_IDLE:
	case PHASE_HEAD:
	case PHASE_BODY:
	case PHASE_LINGERING:
		return true;
	case PHASE_SENDING:
		return !conn->known;
	default:
		return false;
	}
}

/* seconds: the deadline of the new phase, 0: none. */
static void conn_phase(struct conn *conn, enum phase phase, unsigned seconds)
{
	const struct timeval time = {.tv_sec = seconds};

	if (conn->queue > 0)
		TAILQ_REMOVE(&server.waiting[conn->queue - 1], conn, waiting);
	conn->phase = phase;
	conn->queue = phase_waits(conn) ? 1 + conn->known : 0;
	if (conn->queue > 0)
		TAILQ_INSERT_TAIL(&server.waiting[conn->queue - 1], conn, waiting);
	conn->pending = false;
	if (seconds > 0)
		evtimer_add(conn->wake, &time);
	else
		evtimer_del(conn->wake);
}

/* Bytes that the client's host has acknowledged: what has left our buffer may wait in the kernel's. */
static uint64_t acked_bytes(const struct conn *conn)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (getsockopt(bufferevent_getfd(conn->bev), IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return 0;
	return info.tcpi_bytes_acked;
}

/* An answer is under way: is the client taking it? */
static void conn_look(struct conn *conn)
{
	const struct timeval time = {.tv_sec = TAKE_S};
	const bool pending = evbuffer_get_length(bufferevent_get_output(conn->bev)) > 0;
	const uint64_t acked = acked_bytes(conn);

	if (conn->pending && pending && acked - conn->acked_bytes < SERVER_TAKE_LEAST) {
		server.status.ended[SERVER_END_slow]++;
		conn_end(conn);
		return;
	}
	conn->pending = pending;
	conn->acked_bytes = acked;
	evtimer_add(conn->wake, &time);
}

static void conn_wake(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	switch (conn->phase) {
	case PHASE_HEAD:
	case PHASE_BODY:
		server.status.ended[SERVER_END_late]++;
		conn_refuse(conn, 408);
		break;
	case PHASE_HANDLING:
	case PHASE_SENDING:
		if (conn->broken || (conn->endless && conn->eof))
			conn_end(conn);
		else
			conn_look(conn);
		break;
	case PHASE_DEAD:
		conn_bury(conn);
		break;
	case PHASE_SHAKING:
		server.status.ended[SERVER_END_tls]++;
		conn_end(conn);
		break;
	default: /* idle for long, nothing more to say, or a socket is done */
		conn_end(conn);
		break;
	}
}

/* All is said: wait a little for the client to read it, for what it still sends would reset it. */
static void conn_linger(struct conn *conn)
{
	conn->clean = true;
	if (conn->eof) {
		conn_end(conn);
		return;
	}
	if (tls_enabled())
		tls_goodbye(conn->bev);
	shutdown(bufferevent_getfd(conn->bev), SHUT_WR);
	conn_phase(conn, PHASE_LINGERING, LINGER_S);
	bufferevent_enable(conn->bev, EV_READ);
	evbuffer_drain(bufferevent_get_input(conn->bev), SIZE_MAX);
}

/* The answer has left. */
static void conn_answered(struct conn *conn)
{
	struct evbuffer *input = bufferevent_get_input(conn->bev);

	exchange_end(conn);
	memset(&conn->scan, 0, sizeof(conn->scan));
	memset(&conn->chunks, 0, sizeof(conn->chunks));
	conn->streaming = conn->endless = conn->chunked = false;
	if (!conn->keep || (conn->eof && evbuffer_get_length(input) == 0)) {
		conn_linger(conn);
		return;
	}
	conn_phase(conn, PHASE_IDLE, SERVER_IDLE_S);
	if (!conn->eof)
		bufferevent_enable(conn->bev, EV_READ);
	if (evbuffer_get_length(input) > 0)
		conn_read(conn->bev, conn);
}

static void conn_read(struct bufferevent *bev, void *arg)
{
	struct conn *conn = arg;

	if (fault_point(FAULT_http_read) != 0) {
		conn_end(conn);
		return;
	}
	switch (conn->phase) {
	case PHASE_IDLE:
		conn_phase(conn, PHASE_HEAD, SERVER_REQUEST_S);
		head_read(conn);
		break;
	case PHASE_HEAD:
		head_read(conn);
		break;
	case PHASE_BODY:
		body_read(conn);
		break;
	case PHASE_LINGERING:
		evbuffer_drain(bufferevent_get_input(bev), SIZE_MAX);
		break;
	default: /* pipelined: its turn comes when this answer has left */
		if (evbuffer_get_length(bufferevent_get_input(bev)) > INPUT_MAX)
			bufferevent_disable(bev, EV_READ);
		break;
	}
}

static void conn_written(struct bufferevent *bev, void *arg)
{
	struct conn *conn = arg;
	void (*drained)(void *) = conn->drained;

	conn->drained = NULL;
	if (drained != NULL)
		drained(conn->drained_arg);
	else if (conn->phase == PHASE_SENDING)
		conn_answered(conn);
}

/*
 * With TLS 1.3 the client speaks last in the handshake and then asks: Nagle's algorithm holds its request
 * until what it said is acknowledged, which we would put off for 40 ms, having nothing to say.
 */
static void conn_shaken(struct conn *conn)
{
	int on = 1;

	setsockopt(bufferevent_getfd(conn->bev), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
	server.status.handshakes++;
	conn_phase(conn, PHASE_IDLE, SERVER_REQUEST_S);
}

static void conn_event(struct bufferevent *bev, short what, void *arg)
{
	struct conn *conn = arg;

	if ((what & BEV_EVENT_CONNECTED) != 0) {
		conn_shaken(conn);
		return;
	}
	conn->eof = true;
	if (conn->phase == PHASE_SHAKING)
		server.status.ended[SERVER_END_tls]++;
	/* Who has asked and sends no more may still read; TLS knows no half of a connection. */
	if ((what & BEV_EVENT_EOF) == 0 || tls_enabled() || conn->endless ||
		(conn->phase != PHASE_HANDLING && conn->phase != PHASE_SENDING))
		conn_end(conn);
}

/* The first line, for an error in the shape of the dialect that it belongs to. */
static void line_keep(struct conn *conn)
{
	struct evbuffer *input = bufferevent_get_input(conn->bev);
	ssize_t n = evbuffer_copyout(input, conn->line, LINE_KEPT);
	size_t blank;

	conn->line[n > 0 ? n : 0] = '\0';
	blank = strspn(conn->line, "\r\n");
	memmove(conn->line, conn->line + blank, strlen(conn->line + blank) + 1);
	conn->line[strcspn(conn->line, "\r\n")] = '\0';
}

/* A request that is no good, or does not come: say so, and that is all. */
static void conn_refuse(struct conn *conn, int status)
{
	struct evbuffer *output = bufferevent_get_output(conn->bev);
	const char *type = "";
	char *body;

	if (conn->exchange == NULL)
		line_keep(conn);
	exchange_end(conn);
	conn->keep = false;
	server.status.answers[status / 100]++;
	body = server.ops->refusal(conn->line, status, &type);
	if (body == NULL) {
		conn_end(conn);
		return;
	}
	evbuffer_add_printf(output,
		"HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
		"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
		"Connection: close\r\n\r\n%s",
		status, server_phrase(status), date_text(), type, strlen(body),
		strncmp(conn->line, "HEAD ", 5) == 0 ? "" : body);
	free(body);
	conn_sent(conn);
}

static void head_read(struct conn *conn)
{
	struct evbuffer *input = bufferevent_get_input(conn->bev);
	size_t len = evbuffer_get_length(input);
	struct exchange *exchange;
	const char *text;
	ssize_t end;

	if (len > HTTP_HEAD_MAX)
		len = HTTP_HEAD_MAX;
	text = (const char *)evbuffer_pullup(input, (ssize_t)len);
	end = text != NULL ? http_head_scan(&conn->scan, text, len) : -503;
	if (end == 0 && conn->eof) {
		conn_end(conn);
		return;
	}
	exchange = end > 0 ? malloc(sizeof(*exchange) + end + 1) : NULL;
	if (end > 0 && exchange == NULL)
		end = -503;
	if (end < 0)
		conn_refuse(conn, (int)-end);
	if (end <= 0)
		return;
	line_keep(conn);
	conn->exchange = exchange;
	exchange->headers[0] = '\0';
	exchange->headers_len = 0;
	evbuffer_remove(input, exchange->text, end);
	exchange->text[end] = '\0';
	end = http_head_parse(&exchange->head, exchange->text, end);
	if (end < 0)
		conn_refuse(conn, (int)-end);
	else
		body_begin(conn);
}

static void body_begin(struct conn *conn)
{
	const struct http_head *head = &conn->exchange->head;
	const char *encoding = http_head_find(head, "Content-Encoding");

	conn->keep = head->keep;
	conn->body_left = head->length;
	if (head->framing == HTTP_LENGTH && head->length > SERVER_BODY_MAX) {
		conn_refuse(conn, 413);
		return;
	}
	/* Nothing is unpacked here: a small body stays a small body. */
	if (head->framing != HTTP_NO_BODY && encoding != NULL &&
		strcasecmp(encoding, "identity") != 0) {
		conn_refuse(conn, 415);
		return;
	}
	conn->body = evbuffer_new();
	if (conn->body == NULL) {
		conn_refuse(conn, 503);
		return;
	}
	conn->phase = PHASE_BODY; /* with the head's deadline and place in the queue */
	if (head->framing != HTTP_NO_BODY && head->expects_continue &&
		evbuffer_get_length(bufferevent_get_input(conn->bev)) == 0)
		evbuffer_add_printf(
			bufferevent_get_output(conn->bev), "HTTP/1.1 100 Continue\r\n\r\n");
	body_read(conn);
}

/* All bodies together have a bound: who has made us wait longest with one goes. False: it was conn. */
static bool bodies_bound(struct conn *conn)
{
	struct conn *other;

	while (server.bodies_len > SERVER_BODIES_MAX) {
		TAILQ_FOREACH(other, &server.waiting[0], waiting)
		if (other->body != NULL && evbuffer_get_length(other->body) > 0)
			break;
		if (other == NULL)
			other = conn;
		server.status.ended[SERVER_END_evicted]++;
		conn_end(other);
		exchange_end(other);
		if (other == conn)
			return false;
	}
	return true;
}

/* Move what is there of a chunked body; 1: all of it, 0: more must come, or a refusal. */
static int chunks_move(struct conn *conn, struct evbuffer *input)
{
	struct evbuffer_iovec part;

	while (evbuffer_peek(input, -1, NULL, &part, 1) > 0) {
		size_t used, len;
		int rc = http_chunks_read(&conn->chunks, part.iov_base, part.iov_len, &used, &len);

		if (rc < 0)
			return rc;
		if (evbuffer_get_length(conn->body) + len > SERVER_BODY_MAX)
			return -413;
		evbuffer_drain(input, used - len);
		if (len > 0 && evbuffer_remove_buffer(input, conn->body, len) != (int)len)
			return -503;
		server.bodies_len += len;
		if (rc > 0)
			return rc;
	}
	return 0;
}

static int length_move(struct conn *conn, struct evbuffer *input)
{
	const size_t have = evbuffer_get_length(input);
	const size_t len = have < conn->body_left ? have : conn->body_left;

	if (len > 0 && evbuffer_remove_buffer(input, conn->body, len) != (int)len)
		return -503;
	server.bodies_len += len;
	conn->body_left -= len;
	return conn->body_left == 0;
}

static void body_read(struct conn *conn)
{
	struct evbuffer *input = bufferevent_get_input(conn->bev);
	int rc = 1;

	if (conn->exchange->head.framing == HTTP_CHUNKED)
		rc = chunks_move(conn, input);
	else if (conn->exchange->head.framing == HTTP_LENGTH)
		rc = length_move(conn, input);
	if (!bodies_bound(conn))
		return;
	if (rc == 0 && conn->eof)
		conn_end(conn);
	else if (rc < 0)
		conn_refuse(conn, -rc);
	else if (rc > 0)
		request_begin(conn);
}

static enum method method_of(const char *name)
{
	enum method method = METHOD_GET;

	while (method < METHOD_OTHER && strcmp(request_method_name(method), name) != 0)
		method++;
	return method;
}

static struct request *request_new(struct conn *conn, int *rc)
{
	const struct http_head *head = &conn->exchange->head;
	struct request *request = calloc(1, sizeof(*request));

	*rc = -ENOMEM;
	if (request == NULL)
		return NULL;
	request->method = method_of(head->method);
	request->conn = conn;
	request->body_len = evbuffer_get_length(conn->body);
	request->body = request->body_len > 0 ? (const char *)evbuffer_pullup(conn->body, -1) : "";
	memcpy(request->peer, conn->address, sizeof(request->peer));
	if (request->body != NULL)
		*rc = request_target_parse(request, head->path, head->query);
	if (*rc == 0)
		return request;
	free(request->text);
	free(request);
	return NULL;
}

/* OPTIONS *: what the server as a whole can. */
static void options_answer(struct conn *conn)
{
	struct exchange *exchange = conn->exchange;

	exchange->headers_len = snprintf(exchange->headers, sizeof(exchange->headers),
		"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
	server.status.answers[2]++;
	head_send(conn, 204, NULL, SERVER_LENGTH_UNKNOWN, 0);
	conn_sent(conn);
}

/* The request is whole. */
static void request_begin(struct conn *conn)
{
	struct request *request;
	int rc;

	if (method_of(conn->exchange->head.method) == METHOD_OTHER) { /* TRACE and CONNECT too */
		conn_refuse(conn, 501);
		return;
	}
	if (conn->exchange->head.path[0] == '*') {
		options_answer(conn);
		return;
	}
	request = request_new(conn, &rc);
	if (request == NULL) {
		conn_refuse(conn, rc == -ENOENT ? 404 : rc == -EINVAL ? 400 : 503);
		return;
	}
	conn_phase(conn, PHASE_HANDLING, TAKE_S);
	conn->request = request;
	server.ops->handle(request);
}

/* It is over, for whatever reason; what may be in the middle of it frees it later. */
static void conn_end(struct conn *conn)
{
	struct request *request = conn->request;
	const bool upgraded = conn->phase == PHASE_UPGRADED;

	bufferevent_setcb(conn->bev, NULL, NULL, NULL, NULL);
	bufferevent_disable(conn->bev, EV_READ | EV_WRITE);
	conn_phase(conn, PHASE_DEAD, 0);
	*(upgraded ? &server.n_sockets : &server.n_live) -= 1;
	LIST_REMOVE(conn, entry);
	LIST_INSERT_HEAD(&server.dead, conn, entry);
	event_active(conn->wake, 0, 0);
	peer_give(conn->peer);
	conn->request = NULL;
	conn->drained = NULL;
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
	exchange_end(conn);
	if (conn->clean && tls_enabled())
		tls_goodbye(conn->bev);
	event_free(conn->wake);
	bufferevent_free(conn->bev);
	free(conn);
}

static void event_log(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_warning("libevent: %s", text);
}
