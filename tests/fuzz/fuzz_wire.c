/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a peer sends over a connection: HTTP where the first byte is even, WebSocket behind a handshake
 * where it is odd. The server answers with HTTP, says back what was a message, hangs up when it is
 * over, and is there for the next peer. There is no network: what the server accepts is one end of a pair.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "api/native.h"
#include "api/route.h"
#include "api/server.h"
#include "api/websocket.h"
#include "config/config.h"

#define TURNS_MAX 20000

static const char handshake[] =
	"GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static struct event_base *base;
static struct websocket *websocket;
static int bell = -1;     /* rings where the server listens */
static int accepted = -1; /* the server's end of the next connection */

/* In the place of libc's for server.c: it listens to the bell, and accepts what is there when it rings. */
int bind(int fd, const struct sockaddr *address, socklen_t len)
{
	return 0;
}

int listen(int fd, int backlog)
{
	bell = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
	return dup2(bell, fd) == fd ? 0 : -1;
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	static const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {0x0100007f}};
	uint64_t rings;

	if (read(fd, &rings, sizeof(rings)) != sizeof(rings))
		return -1;
	memcpy(address, &from, sizeof(from));
	*len = sizeof(from);
	return accepted;
}

static int server_connect(void)
{
	const uint64_t once = 1;
	int pair[2];

	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	accepted = pair[1];
	fuzz_check(write(bell, &once, sizeof(once)) == sizeof(once));
	return pair[0];
}

static void message_echo(void *arg, bool text, const char *data, size_t len)
{
	fuzz_check(len <= WEBSOCKET_MESSAGE_MAX && data[len] == '\0');
	if (text) {
		json_t *json = json_stringn(data, len); /* NULL for what is not UTF-8 */

		fuzz_check(json != NULL);
		json_decref(json);
		websocket_send_text(websocket, data, len);
	} else {
		websocket_send_binary(websocket, data, len);
	}
}

static void websocket_gone(void *arg)
{
	websocket = NULL;
}

static void handle(struct request *request)
{
	static const struct websocket_ops ops = {.message = message_echo, .closed = websocket_gone};

	fuzz_check(request->body_len <= SERVER_BODY_MAX);
	request->vendor = &native_vendor;
	if (request->n_segments == 1 && strcmp(request->segments[0], "x") == 0) {
		websocket = websocket_accept(request, "sluice.v1", &ops, NULL);
		return;
	}
	server_reply(request, 200, "text/plain", request->body, request->body_len);
}

static char *refusal(const char *target, int status, const char **content_type)
{
	*content_type = "text/plain";
	return strdup("no");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const struct server_ops ops = {.handle = handle, .refusal = refusal};
	struct config *config = fuzz_config();
	struct err err = {0};

	base = event_base_new();
	route_start(config);
	config->api.listen.n = 1;
	strcpy(config->api.listen.item[0], "127.0.0.1:1");
	fuzz_check(server_start(config, base, &ops, &err) == 0 && bell >= 0);
	return 0;
}

static void send_all(int fd, const void *data, size_t len)
{
	size_t sent = 0;

	while (sent < len) {
		ssize_t n = send(
			fd, (const char *)data + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (errno != EAGAIN)
			return; /* the server has hung up, as it may */
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
}

/* All that the server says until it hangs up, which it does. */
static size_t answer_read(int fd, char *text, size_t size)
{
	static char more[65536];
	size_t len = 0;

	for (unsigned i = 0; i < TURNS_MAX; i++) {
		ssize_t n = recv(fd, more, sizeof(more), MSG_DONTWAIT);

		if (n > 0 && len < size) {
			size_t fits = (size_t)n < size - len ? (size_t)n : size - len;

			memcpy(text + len, more, fits);
			len += fits;
		}
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return len;
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	fuzz_check(!"the server does not hang up");
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[64] = "";
	size_t len;
	int fd;

	if (size == 0)
		return 0;
	fd = server_connect();
	if (data[0] & 1)
		send_all(fd, handshake, sizeof(handshake) - 1);
	send_all(fd, data + 1, size - 1);
	shutdown(fd, SHUT_WR);
	len = answer_read(fd, text, sizeof(text) - 1);
	fuzz_check(len == 0 || strncmp(text, "HTTP/1.", len < 7 ? len : 7) == 0);
	close(fd);
	return 0;
}
