/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * An HTTP client in the thread of the server that it talks to: it waits by running the loop. Included
 * once by a test, after cmocka, json.h and auth.h; base and port are the test's to fill.
 */
#ifndef TESTS_UNIT_HTTP_CLIENT_H
#define TESTS_UNIT_HTTP_CLIENT_H

static struct event_base *base;
static uint16_t port;

struct answer {
	int status;
	char *head; /* the whole answer */
	char *body;
	size_t body_len;
};

static int client_connect(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void loop_turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	usleep(200);
}

/* Send len bytes and read until the server closes. */
static struct answer talk(const char *text, size_t len)
{
	struct answer answer = {0};
	size_t size = 1 << 16, at = 0, sent = 0;
	int fd = client_connect();

	answer.head = calloc(1, size);
	for (unsigned turn = 0; turn < 100000; turn++) {
		ssize_t n = sent < len
				    ? send(fd, text + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL)
				    : 0;

		sent += n > 0 ? n : 0;
		loop_turn();
		n = recv(fd, answer.head + at, size - at - 1, MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		at += n > 0 ? n : 0;
		if (size - at < 2) {
			answer.head = realloc(answer.head, size *= 2);
			assert_non_null(answer.head);
		}
	}
	close(fd);
	loop_turn();
	answer.head[at] = '\0';
	sscanf(answer.head, "HTTP/1.%*d %d", &answer.status);
	answer.body = strstr(answer.head, "\r\n\r\n");
	answer.body = answer.body != NULL ? answer.body + 4 : answer.head + at;
	answer.body_len = answer.head + at - answer.body;
	return answer;
}

static struct answer ask(const char *token, const char *method, const char *path,
	const char *headers, const char *body)
{
	char text[4096];

	snprintf(text, sizeof(text),
		"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s%s%sContent-Length: %zu\r\n"
		"\r\n%s",
		method, path, token != NULL ? "Authorization: Bearer " : "",
		token != NULL ? token : "", token != NULL ? "\r\n" : "",
		headers != NULL ? headers : "", body != NULL ? strlen(body) : 0,
		body != NULL ? body : "");
	return talk(text, strlen(text));
}

static json_t *answer_json(struct answer answer, int status)
{
	struct err err;
	json_t *json;

	if (answer.status != status)
		fail_msg("not %d: %s", status, answer.head);
	json = json_parse(answer.body, answer.body_len, &err);
	if (json == NULL)
		fail_msg("%s: %s", err.text, answer.head);
	free(answer.head);
	return json;
}

static void expect(struct answer answer, int status)
{
	if (answer.status != status)
		fail_msg("not %d: %s", status, answer.head);
	free(answer.head);
}

/* A port that nobody listens on now. */
static uint16_t port_free(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&address, len) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		abort();
	close(fd);
	return ntohs(address.sin_port);
}

#endif
