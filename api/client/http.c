/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/client/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#define SECRET_LEN_MAX     255
#define ANSWER_SIZE_MAX    (64 << 20)
#define CONNECT_TIMEOUT_S  5L
#define INTERRUPT_TWICE_MS 250

/* An answer on its way: JSON and errors to memory, a capture to fd. */
struct answer {
	CURL *curl;
	int fd; /* -1: memory */
	char *text;
	size_t len;
	uint64_t bytes; /* to fd */
	int write_error;
	void (*progress)(uint64_t bytes);
};

volatile sig_atomic_t http_interrupts;

static CURL *handle; /* one connection for all requests */

static int call(struct client *client, const char *method, const char *path, const char *body,
	json_t **out);
static int exchange(struct client *client, const char *method, const char *path, const char *body,
	struct answer *answer, long *status);
static void tls_set_up(const struct client *client);
static struct curl_slist *headers_make(struct client *client, bool body, int *rc);
static bool secret_read(struct client *client, char *secret, size_t size, int *rc);
static size_t body_take(char *data, size_t size, size_t n, void *arg);
static int progress_tick(
	void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now);
static bool pointer_is_said(const char *pointer, const char *detail);
static int problem_say(long status, const struct answer *answer);

/*
 * One Ctrl-C may arrive twice: from the terminal and from a wrapper such as timeout or sudo. The third
 * does what the first would have done without us.
 */
static void interrupt(int signal)
{
	static struct timespec last;
	struct timespec now;
	int64_t passed_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	passed_ms = (now.tv_sec - last.tv_sec) * 1000 + (now.tv_nsec - last.tv_nsec) / 1000000;
	if (last.tv_sec != 0 && passed_ms < INTERRUPT_TWICE_MS)
		return;
	last = now;
	if (++http_interrupts >= 2)
		sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

void http_interrupts_catch(void)
{
	struct sigaction action = {.sa_handler = interrupt};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

int http_call(
	struct client *client, const char *method, const char *path, json_t *body, json_t **out)
{
	char *text = NULL;
	int rc;

	if (out != NULL)
		*out = NULL;
	if (body != NULL) {
		text = json_dumps(body, JSON_COMPACT);
		json_decref(body);
		if (text == NULL)
			return client_fail(CLIENT_USAGE, "what was given is not valid UTF-8");
	}
	rc = call(client, method, path, text, out);
	free(text);
	return rc;
}

int http_download(struct client *client, const char *path, int fd, unsigned *retry_s,
	void (*progress)(uint64_t bytes))
{
	struct answer answer = {.fd = fd, .progress = progress};
	curl_off_t retry = 0;
	long status;
	int rc;

	if (retry_s != NULL)
		*retry_s = 0;
	rc = exchange(client, "GET", path, NULL, &answer, &status);
	if (answer.write_error != 0)
		rc = client_fail(
			CLIENT_REFUSED, "writing the capture: %s", strerror(answer.write_error));
	else if (rc == CLIENT_OK && status == 409 && retry_s != NULL &&
		 curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry) == CURLE_OK && retry > 0) {
		*retry_s = retry;
		rc = CLIENT_REFUSED;
	} else if (rc == CLIENT_OK && status != 200) {
		rc = problem_say(status, &answer);
	}
	free(answer.text);
	return rc;
}

char *http_escape(const char *word)
{
	char *escaped = curl_easy_escape(NULL, word, 0);
	char *copy = escaped != NULL ? strdup(escaped) : NULL;

	curl_free(escaped);
	return copy;
}

char *http_capture_path(const char *id, const char *rest)
{
	char *escaped = http_escape(id), *path = NULL;

	if (escaped == NULL || asprintf(&path, "/api/v1/captures/%s%s", escaped, rest) < 0)
		path = NULL;
	free(escaped);
	return path;
}

void http_close(void)
{
	curl_easy_cleanup(handle);
	handle = NULL;
}

/* http_call with the body as text. */
static int call(
	struct client *client, const char *method, const char *path, const char *body, json_t **out)
{
	struct answer answer = {.fd = -1};
	long status;
	int rc = exchange(client, method, path, body, &answer, &status);

	if (out != NULL)
		*out = NULL;
	if (rc == CLIENT_OK && (status < 200 || status > 299)) {
		rc = problem_say(status, &answer);
	} else if (rc == CLIENT_OK && out != NULL && answer.len > 0) {
		*out = json_loadb(answer.text, answer.len, 0, NULL);
		if (*out == NULL)
			rc = client_fail(CLIENT_REFUSED, "%s: the answer is no JSON", client->url);
	}
	free(answer.text);
	return rc;
}

/* One request and its answer, whatever its status. */
static int exchange(struct client *client, const char *method, const char *path, const char *body,
	struct answer *answer, long *status)
{
	struct curl_slist *headers = NULL;
	char why[CURL_ERROR_SIZE] = "", *url = NULL;
	int rc = CLIENT_OK;
	CURLcode code;

	*status = 0;
	if (handle == NULL)
		handle = curl_easy_init();
	if (handle == NULL || path == NULL || asprintf(&url, "%s%s", client->url, path) < 0)
		return client_fail(CLIENT_REFUSED, "no memory");
	headers = headers_make(client, body != NULL, &rc);
	if (rc != CLIENT_OK)
		goto out;
	answer->curl = handle;
	curl_easy_reset(handle);
	curl_easy_setopt(handle, CURLOPT_URL, url);
	curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
	/* The secret goes to the daemon and to nobody else. */
	curl_easy_setopt(handle, CURLOPT_PROXY, "");
	tls_set_up(client);
	curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
	curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, body_take);
	curl_easy_setopt(handle, CURLOPT_WRITEDATA, answer);
	curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, progress_tick);
	curl_easy_setopt(handle, CURLOPT_XFERINFODATA, answer);
	if (body != NULL)
		curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
	code = curl_easy_perform(handle);
	curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, status);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		rc = client_fail(CLIENT_REFUSED, "interrupted");
	else if (code != CURLE_OK && answer->write_error == 0)
		rc = client_fail(CLIENT_NO_SERVER, "%s: %s", client->url,
			*why != '\0' ? why : curl_easy_strerror(code));
out:
	curl_slist_free_all(headers);
	free(url);
	return rc;
}

static const char *given_or(const char *given, const char *variable)
{
	const char *value = given != NULL ? given : getenv(variable);

	return value != NULL && *value != '\0' ? value : NULL;
}

/* Names and chains are always checked: the secret is for the daemon alone. */
static void tls_set_up(const struct client *client)
{
	const char *ca_file = given_or(client->ca_file, "SLUICE_CA");
	const char *certificate = given_or(client->certificate, "SLUICE_CERT");

	curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (ca_file != NULL)
		curl_easy_setopt(handle, CURLOPT_CAINFO, ca_file);
	if (certificate != NULL)
		curl_easy_setopt(handle, CURLOPT_SSLCERT, certificate);
}

static struct curl_slist *headers_make(struct client *client, bool body, int *rc)
{
	char secret[SECRET_LEN_MAX + 2], line[SECRET_LEN_MAX + 32];
	struct curl_slist *headers = NULL;

	/* curl would wait a second for "100 Continue" otherwise */
	headers = curl_slist_append(headers, "Expect:");
	if (body)
		headers = curl_slist_append(headers, "Content-Type: application/json");
	if (secret_read(client, secret, sizeof(secret), rc)) {
		snprintf(line, sizeof(line), "Authorization: Bearer %s", secret);
		headers = curl_slist_append(headers, line);
	}
	return headers;
}

/* False without a token: the server will say what it thinks of that. */
static bool secret_read(struct client *client, char *secret, size_t size, int *rc)
{
	const char *given = getenv("SLUICE_TOKEN"), *path = client->token_file;
	FILE *file;

	if (path == NULL && given != NULL && *given != '\0') {
		snprintf(secret, size, "%s", given);
	} else {
		file = fopen(path != NULL ? path : HTTP_TOKEN_FILE_DEFAULT, "re");
		if (file == NULL && path != NULL)
			*rc = client_fail(
				CLIENT_USAGE, "--token-file: %s: %s", path, strerror(errno));
		if (file == NULL)
			return false;
		if (fgets(secret, size, file) == NULL)
			*secret = '\0';
		fclose(file);
	}
	secret[strcspn(secret, "\r\n")] = '\0';
	return *secret != '\0';
}

static size_t body_take(char *data, size_t size, size_t n, void *arg)
{
	struct answer *answer = arg;
	size_t len = size * n;
	long status = 0;
	char *grown;

	curl_easy_getinfo(answer->curl, CURLINFO_RESPONSE_CODE, &status);
	if (answer->fd >= 0 && status == 200) {
		for (size_t done = 0; done < len;) {
			ssize_t wrote = write(answer->fd, data + done, len - done);

			if (wrote < 0 && (errno != EINTR || http_interrupts >= 2)) {
				answer->write_error = errno;
				return 0;
			}
			if (wrote > 0)
				done += wrote;
		}
		answer->bytes += len;
		return len;
	}
	if (answer->len + len > ANSWER_SIZE_MAX)
		return 0;
	grown = realloc(answer->text, answer->len + len + 1);
	if (grown == NULL)
		return 0;
	answer->text = grown;
	memcpy(answer->text + answer->len, data, len);
	answer->len += len;
	answer->text[answer->len] = '\0';
	return len;
}

static int progress_tick(
	void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
	struct answer *answer = arg;

	if (answer->progress != NULL)
		answer->progress(answer->bytes);
	return http_interrupts >= 2;
}

/* "/limits/packets" and a sentence that begins "limits.packets" */
static bool pointer_is_said(const char *pointer, const char *detail)
{
	for (pointer++; *pointer != '\0'; pointer++, detail++)
		if (*detail != (*pointer == '/' ? '.' : *pointer))
			return false;
	return true;
}

/* RFC 9457: say what the server said, and about which member. */
static int problem_say(long status, const struct answer *answer)
{
	json_t *problem = answer->len > 0 ? json_loadb(answer->text, answer->len, 0, NULL) : NULL;
	const char *title = json_string_value(json_object_get(problem, "title"));
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	const char *pointer = json_string_value(json_object_get(problem, "pointer"));

	if (detail == NULL)
		detail = title;
	if (detail == NULL)
		detail = "the server refused";
	if (pointer == NULL || pointer_is_said(pointer, detail))
		client_fail(CLIENT_REFUSED, "%s (%ld)", detail, status);
	else
		client_fail(CLIENT_REFUSED, "%s: %s (%ld)", pointer, detail, status);
	if (status == 401)
		client_fail(CLIENT_REFUSED, "the token comes from --token-file, SLUICE_TOKEN "
					    "or " HTTP_TOKEN_FILE_DEFAULT);
	json_decref(problem);
	return CLIENT_REFUSED;
}
