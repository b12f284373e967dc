/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The client side of a WebSocket for tests that run the server's loop themselves: frames by hand, so
 * that wrong ones can be sent too.
 */
#ifndef TESTS_UNIT_WEBSOCKET_CLIENT_H
#define TESTS_UNIT_WEBSOCKET_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#define CLIENT_TURNS 20000
#define CLIENT_KEY   "dGhlIHNhbXBsZSBub25jZQ=="

enum {
	FRAME_CONTINUE = 0,
	FRAME_TEXT = 1,
	FRAME_BINARY = 2,
	FRAME_CLOSE = 8,
	FRAME_PING = 9,
	FRAME_PONG = 10
};
enum { FRAME_FIN = 0x80 };

struct client {
	struct event_base *base;
	int fd;
	size_t len;
	uint8_t input[1 << 18];
};

static inline void client_turn(struct client *client)
{
	event_base_loop(client->base, EVLOOP_NONBLOCK);
	usleep(100);
}

static inline void client_open(struct client *client, struct event_base *base, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client->base = base;
	client->len = 0;
	client->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void client_close(struct client *client)
{
	close(client->fd);
	for (unsigned i = 0; i < 20; i++)
		client_turn(client);
}

static inline void client_write(struct client *client, const void *data, size_t len)
{
	for (size_t sent = 0; sent < len;) {
		ssize_t n = send(client->fd, (const char *)data + sent, len - sent,
			MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += n > 0 ? n : 0;
		client_turn(client);
	}
}

/* More bytes into input; false: the server has closed. */
static inline bool client_read(struct client *client)
{
	ssize_t n;

	client_turn(client);
	assert_true(client->len < sizeof(client->input));
	n = recv(client->fd, client->input + client->len, sizeof(client->input) - client->len,
		MSG_DONTWAIT);
	client->len += n > 0 ? n : 0;
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static inline void client_drop(struct client *client, size_t len)
{
	client->len -= len;
	memmove(client->input, client->input + len, client->len);
}

/* Send a request's head and read the answer's; returns the status. head: where the answer's goes. */
static inline int client_ask(struct client *client, const char *request, char *head, size_t size)
{
	int status = 0;
	char *end = NULL;

	client_write(client, request, strlen(request));
	for (unsigned i = 0; i < CLIENT_TURNS && end == NULL; i++) {
		const bool open = client_read(client);

		end = memmem(client->input, client->len, "\r\n\r\n", 4);
		if (!open)
			break;
	}
	assert_non_null(end);
	snprintf(head, size, "%.*s", (int)(end + 2 - (char *)client->input), client->input);
	client_drop(client, end + 4 - (char *)client->input);
	assert_int_equal(sscanf(head, "HTTP/1.1 %d", &status), 1);
	return status;
}

/* A frame as a client sends it: masked. first: opcode, FRAME_FIN and reserved bits. */
static inline size_t frame_put(uint8_t *out, uint8_t first, const void *data, size_t len)
{
	static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
	size_t at = 0;

	out[at++] = first;
	if (len < 126) {
		out[at++] = 0x80 | len;
	} else {
		out[at++] = 0x80 | 126;
		out[at++] = len >> 8;
		out[at++] = len & 255;
	}
	memcpy(out + at, mask, 4);
	at += 4;
	for (size_t i = 0; i < len; i++)
		out[at++] = ((const uint8_t *)data)[i] ^ mask[i % 4];
	return at;
}

static inline void client_send(struct client *client, uint8_t first, const void *data, size_t len)
{
	static uint8_t frame[1 << 16];

	client_write(client, frame, frame_put(frame, first, data, len));
}

/* The next frame from the server: its first byte, or -1 when the connection is closed instead. */
static inline int client_frame(struct client *client, uint8_t *data, size_t size, size_t *len)
{
	for (unsigned i = 0; i < CLIENT_TURNS; i++) {
		const bool open = client_read(client);
		const uint8_t *in = client->input;
		size_t head = 2;

		if (client->len >= 4) {
			int first = in[0];

			assert_int_equal(in[1] & 0x80, 0); /* a server does not mask */
			*len = in[1];
			if (in[1] == 126) {
				*len = (size_t)in[2] << 8 | in[3];
				head = 4;
			} else if (in[1] == 127) {
				*len = (size_t)in[7] << 16 | (size_t)in[8] << 8 | in[9];
				head = 10;
			}
			if (client->len >= head + *len) {
				assert_true(*len < size);
				memcpy(data, in + head, *len);
				data[*len] = '\0';
				client_drop(client, head + *len);
				return first;
			}
		} else if (client->len >= 2 && (in[1] & 0x7f) < 126 && client->len >= 2U + in[1]) {
			int first = in[0];

			*len = in[1];
			memcpy(data, in + 2, *len);
			data[*len] = '\0';
			client_drop(client, 2 + *len);
			return first;
		}
		if (!open)
			return -1;
	}
	fail_msg("no frame came");
	return -1;
}

#endif
