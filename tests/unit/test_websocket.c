/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/websocket over real sockets: the handshake, frames right and wrong, a peer that does not read,
 * and every way in which a connection ends. The server here says back what it hears.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/base64.h"
#include "api/native.h"
#include "api/route.h"
#include "api/server.h"
#include "api/websocket.h"
#include "config/config.h"
#include "websocket_client.h"

#define HANDSHAKE                                                           \
	"GET /x HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n" \
	"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " CLIENT_KEY "\r\n"

static struct config config;
static struct event_base *base;
static uint16_t port;
static struct client client;
static uint8_t data[1 << 18];

/* The one socket on the server's side. */
static struct {
	struct websocket *socket;
	unsigned n_messages, n_writable, n_closed;
	bool last_text;
	bool quiet; /* hears and says nothing */
} echo;

static void echo_message(void *arg, bool text, const char *message, size_t len)
{
	assert_ptr_equal(arg, &echo);
	assert_int_equal(message[len], '\0');
	echo.n_messages++;
	echo.last_text = text;
	if (echo.quiet)
		return;
	if (text)
		assert_true(websocket_send_text(echo.socket, message, len));
	else
		assert_true(websocket_send_binary(echo.socket, message, len));
}

static void echo_writable(void *arg)
{
	echo.n_writable++;
}

static void echo_closed(void *arg)
{
	echo.n_closed++;
	echo.socket = NULL;
}

static void handle(struct request *request)
{
	static const struct websocket_ops ops = {
		.message = echo_message, .writable = echo_writable, .closed = echo_closed};

	request->vendor = &native_vendor;
	echo.socket = websocket_accept(request, "sluice.v1", &ops, &echo);
}

static void open_socket(const char *more_headers)
{
	char request[1024], head[1024];

	memset(&echo, 0, sizeof(echo));
	client_open(&client, base, port);
	snprintf(request, sizeof(request), HANDSHAKE "%s\r\n", more_headers);
	assert_int_equal(client_ask(&client, request, head, sizeof(head)), 101);
	assert_non_null(echo.socket);
}

static void expect_closed(void)
{
	size_t len;

	assert_int_equal(client_frame(&client, data, sizeof(data), &len), -1);
	client_close(&client);
	assert_int_equal(echo.n_closed, 1);
}

/* The server says goodbye with this code; we answer, and it hangs up. */
static void expect_close(unsigned code)
{
	size_t len;

	assert_int_equal(client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_CLOSE);
	assert_true(len >= 2);
	assert_int_equal(data[0] << 8 | data[1], code);
	client_send(&client, FRAME_FIN | FRAME_CLOSE, data, 2);
	expect_closed();
}

static void the_handshake_is_answered(void **state)
{
	static const char both[] = "Sec-WebSocket-Protocol: sluice.v1, bearer.abc\r\n";
	char request[1024], head[1024];

	client_open(&client, base, port);
	snprintf(request, sizeof(request), HANDSHAKE "%s\r\n", both);
	assert_int_equal(client_ask(&client, request, head, sizeof(head)), 101);
	/* The example of RFC 6455. */
	assert_non_null(strstr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	assert_non_null(strstr(head, "\r\nSec-WebSocket-Protocol: sluice.v1\r\n"));
	client_close(&client);

	client_open(&client, base, port);
	assert_int_equal(client_ask(&client, HANDSHAKE "\r\n", head, sizeof(head)), 101);
	assert_null(strstr(head, "Sec-WebSocket-Protocol"));
	client_close(&client);
}

static void other_requests_are_refused(void **state)
{
#define GET "GET /x HTTP/1.1\r\nHost: x\r\n"
#define KEY "Sec-WebSocket-Key: " CLIENT_KEY "\r\n"
	static const struct {
		const char *request;
		int status;
	} cases[] = {
		{GET "\r\n", 426},
		{GET "Connection: Upgrade\r\nUpgrade: h2c\r\n" KEY
		     "Sec-WebSocket-Version: 13\r\n\r\n",
			426},
		{GET "Connection: close\r\nUpgrade: websocket\r\n" KEY
		     "Sec-WebSocket-Version: 13\r\n\r\n",
			426},
		{GET "Connection: Upgrade\r\nUpgrade: websocket\r\n" KEY
		     "Sec-WebSocket-Version: 8\r\n\r\n",
			426},
		{GET "Connection: Upgrade\r\nUpgrade: websocket\r\n" KEY "\r\n", 426},
		{GET "Connection: Upgrade\r\nUpgrade: websocket\r\n"
		     "Sec-WebSocket-Version: 13\r\n\r\n",
			400},
		{GET "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abcd\r\n"
		     "Sec-WebSocket-Version: 13\r\n\r\n",
			400},
		{"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\n"
		 "Upgrade: websocket\r\n" KEY "Sec-WebSocket-Version: 13\r\n\r\n",
			426},
	};
	char head[1024];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		client_open(&client, base, port);
		assert_int_equal(
			client_ask(&client, cases[i].request, head, sizeof(head)), cases[i].status);
		assert_non_null(strstr(head, "application/problem+json"));
		client_close(&client);
	}
}

static void messages_come_back(void **state)
{
	static const size_t lens[] = {0, 1, 125, 126, 127, 4096, WEBSOCKET_MESSAGE_MAX};
	static char text[WEBSOCKET_MESSAGE_MAX];
	size_t len;

	memset(text, 'x', sizeof(text));
	open_socket("");
	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		client_send(&client, FRAME_FIN | FRAME_TEXT, text, lens[i]);
		assert_int_equal(
			client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_TEXT);
		assert_int_equal(len, lens[i]);
		assert_memory_equal(data, text, len);
	}
	client_send(&client, FRAME_FIN | FRAME_BINARY, "\0\1\2", 3);
	assert_int_equal(client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_BINARY);
	assert_memory_equal(data, "\0\1\2", 3);
	client_close(&client);
	assert_int_equal(echo.n_closed, 1);
}

/* Fragments, with a ping between them, which is answered at once. */
static void fragments_are_joined(void **state)
{
	size_t len;

	open_socket("");
	client_send(&client, FRAME_TEXT, "one ", 4);
	client_send(&client, FRAME_CONTINUE, "two ", 4);
	client_send(&client, FRAME_FIN | FRAME_PING, "tick", 4);
	client_send(&client, FRAME_FIN | FRAME_CONTINUE, "three", 5);
	assert_int_equal(client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_PONG);
	assert_string_equal((char *)data, "tick");
	assert_int_equal(client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_TEXT);
	assert_string_equal((char *)data, "one two three");
	assert_int_equal(echo.n_messages, 1);
	client_close(&client);
}

/* A client need not wait for the handshake's answer; and bytes come as they come. */
static void frames_may_be_cut_anywhere(void **state)
{
	char request[2048];
	uint8_t frame[64];
	size_t len = strlen(HANDSHAKE "\r\n"), n;

	memset(&echo, 0, sizeof(echo));
	memcpy(request, HANDSHAKE "\r\n", len);
	len += frame_put((uint8_t *)request + len, FRAME_FIN | FRAME_TEXT, "early", 5);
	client_open(&client, base, port);
	client_write(&client, request, len);
	n = frame_put(frame, FRAME_FIN | FRAME_TEXT, "late", 4);
	for (size_t i = 0; i < n; i++)
		client_write(&client, frame + i, 1);
	for (unsigned i = 0; i < CLIENT_TURNS && echo.n_messages < 2; i++)
		client_turn(&client);
	assert_int_equal(echo.n_messages, 2);
	client_close(&client);
}

static void wrong_frames_end_it(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		unsigned code;
	} cases[] = {
		{"\x81\x02hi", 4, WEBSOCKET_PROTOCOL},               /* not masked */
		{"\xc1\x80\1\2\3\4", 6, WEBSOCKET_PROTOCOL},         /* a reserved bit */
		{"\x83\x80\1\2\3\4", 6, WEBSOCKET_PROTOCOL},         /* a reserved opcode */
		{"\x80\x80\1\2\3\4", 6, WEBSOCKET_PROTOCOL},         /* continues nothing */
		{"\x09\x80\1\2\3\4", 6, WEBSOCKET_PROTOCOL},         /* a ping in fragments */
		{"\x81\x81\0\0\0\0\xff", 7, 1007},                   /* not UTF-8 */
		{"\x88\x82\0\0\0\0\x03\xed", 8, WEBSOCKET_PROTOCOL}, /* close 1005 */
		{"\x81\xff\0\0\0\0\0\x10\0\0\0\0\0\0x", 15, WEBSOCKET_TOO_BIG}, /* a long message */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_socket("");
		client_write(&client, cases[i].bytes, cases[i].len);
		expect_close(cases[i].code);
		assert_int_equal(echo.n_messages, 0);
	}
}

/* Fragments that are short and together too long. */
static void endless_messages_end_it(void **state)
{
	static const char part[4096];
	unsigned n;

	open_socket("");
	client_send(&client, FRAME_BINARY, part, sizeof(part));
	for (n = 1; n * sizeof(part) < WEBSOCKET_MESSAGE_MAX; n++)
		client_send(&client, FRAME_CONTINUE, part, sizeof(part));
	client_send(&client, FRAME_CONTINUE, part, 1);
	expect_close(WEBSOCKET_TOO_BIG);
}

static void a_close_is_answered(void **state)
{
	size_t len;

	open_socket("");
	client_send(&client, FRAME_FIN | FRAME_CLOSE,
		"\x03\xe8"
		"bye",
		5);
	assert_int_equal(client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_CLOSE);
	assert_int_equal(data[0] << 8 | data[1], WEBSOCKET_NORMAL);
	expect_closed();
}

static void our_close_says_why(void **state)
{
	open_socket("");
	websocket_close(echo.socket, WEBSOCKET_POLICY, "no such thing");
	assert_false(websocket_send_text(echo.socket, "x", 1));
	assert_int_equal(websocket_room(echo.socket), 0);
	websocket_close(echo.socket, WEBSOCKET_NORMAL, "twice is once");
	expect_close(WEBSOCKET_POLICY);
	assert_string_equal((char *)data + 2, "no such thing");
}

/* Nothing is queued beyond the bound, nothing is lost of what was, and the room comes back. */
static void a_peer_that_does_not_read_is_bounded(void **state)
{
	static char text[1000];
	unsigned n_sent = 0, n_refused = 0, n_writable;
	size_t len;

	memset(text, 'y', sizeof(text));
	open_socket("");
	for (unsigned i = 0; i < 20000 && n_refused < 100; i++) {
		if (websocket_send_text(echo.socket, text, sizeof(text)))
			n_sent++;
		else
			n_refused++;
		if (i % 16 == 0)
			client_turn(&client);
	}
	assert_int_equal(n_refused, 100);
	assert_true(websocket_room(echo.socket) < sizeof(text));
	n_writable = echo.n_writable;
	for (unsigned i = 0; i < n_sent; i++) {
		assert_int_equal(
			client_frame(&client, data, sizeof(data), &len), FRAME_FIN | FRAME_TEXT);
		assert_int_equal(len, sizeof(text));
	}
	for (unsigned i = 0; i < 100; i++)
		client_turn(&client);
	assert_true(echo.n_writable > n_writable);
	assert_int_equal(websocket_room(echo.socket), WEBSOCKET_BUFFER_MAX);
	client_close(&client);
}

/* Pings whose pongs nobody reads stop being read. */
static void a_flood_of_pings_is_bounded(void **state)
{
	uint8_t frames[4096];
	size_t n = 0, sent = 0;
	ssize_t rc;

	while (n + 140 < sizeof(frames))
		n += frame_put(frames + n, FRAME_FIN | FRAME_PING, data, 125);
	open_socket("");
	for (unsigned idle = 0; idle < 2000; idle++) {
		rc = send(client.fd, frames, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (rc > 0) {
			sent += rc;
			idle = 0;
			if ((size_t)rc < n)
				break;
		}
		client_turn(&client);
		assert_true(sent < 256U << 20);
	}
	assert_true(websocket_room(echo.socket) == 0);
	client_close(&client);
	assert_int_equal(echo.n_closed, 1);
}

static void a_client_that_vanishes_is_told_of(void **state)
{
	open_socket("");
	client_close(&client);
	assert_int_equal(echo.n_closed, 1);
}

static void base64_is_the_one_of_the_rfc(void **state)
{
	static const char *const rows[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {"Z", "Zg=", "Zg", "Z===", "Zm9v=", "Zm9*", "Zg==Zg=="};
	char text[16], bytes[16];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const size_t len = strlen(rows[i][0]);

		assert_int_equal(base64_print(rows[i][0], len, text), BASE64_LEN(len));
		assert_string_equal(text, rows[i][1]);
		assert_int_equal(base64_parse(text, bytes, sizeof(bytes)), len);
		assert_memory_equal(bytes, rows[i][0], len);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base64_parse(bad[i], bytes, sizeof(bytes)), -1);
	assert_int_equal(base64_parse("Zm9vYmFy", bytes, 5), -1);
}

static int start(void **state)
{
	static const struct server_ops ops = {.handle = handle, .refusal = route_refusal};
	struct err err;
	int rc = -1;

	base = event_base_new();
	config.api.listen.n = 1;
	for (port = 20000 + getpid() % 20000; rc < 0 && port < 60000; port++) {
		snprintf(config.api.listen.item[0], CONFIG_NAME_MAX, "127.0.0.1:%u", port);
		rc = server_start(&config, base, &ops, &err);
	}
	port--;
	return rc;
}

/* With a socket open: it, too, is closed. */
static int stop(void **state)
{
	open_socket("");
	server_stop();
	assert_int_equal(echo.n_closed, 1);
	close(client.fd);
	event_base_free(base);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_handshake_is_answered),
		cmocka_unit_test(other_requests_are_refused),
		cmocka_unit_test(messages_come_back),
		cmocka_unit_test(fragments_are_joined),
		cmocka_unit_test(frames_may_be_cut_anywhere),
		cmocka_unit_test(wrong_frames_end_it),
		cmocka_unit_test(endless_messages_end_it),
		cmocka_unit_test(a_close_is_answered),
		cmocka_unit_test(our_close_says_why),
		cmocka_unit_test(a_peer_that_does_not_read_is_bounded),
		cmocka_unit_test(a_flood_of_pings_is_bounded),
		cmocka_unit_test(a_client_that_vanishes_is_told_of),
		cmocka_unit_test(base64_is_the_one_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
