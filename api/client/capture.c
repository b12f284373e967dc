/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/client/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/client/http.h"
#include "api/client/text.h"

#define POLL_MS  100 /* how late the end may be noticed */
#define SHOW_MS  500
#define RETRY_MS 200

/* What the progress line was made of last, for rates. */
struct progress {
	bool shown;
	double begun_s;
	double last_s;
	uint64_t last_packets;
	uint64_t last_bytes;
};

static double now_s(void);
static void sleep_ms(unsigned ms);
static void progress_show(struct progress *progress, const json_t *capture, bool force);
static void progress_end(struct progress *progress);
static void download_show(uint64_t bytes);

bool capture_closed(const json_t *capture)
{
	const char *state = text_string(capture, "state");

	return strcmp(state, "complete") == 0 || strcmp(state, "failed") == 0 ||
	       strcmp(state, "deleted") == 0;
}

int capture_get(struct client *client, const char *id, json_t **out)
{
	char *path = http_capture_path(id, "");
	int rc = http_call(client, "GET", path, NULL, out);

	free(path);
	return rc;
}

int capture_stop(struct client *client, const char *id, json_t **out)
{
	char *path = http_capture_path(id, "/stop");
	int rc = http_call(client, "POST", path, NULL, out);

	free(path);
	return rc;
}

int capture_wait(struct client *client, const char *id, json_t **out)
{
	struct progress progress = {.begun_s = now_s()};
	bool asked = false;
	json_t *capture;
	int rc;

	for (;;) {
		*out = NULL;
		if (http_interrupts > 0 && !asked) {
			asked = true;
			rc = capture_stop(client, id, &capture);
		} else {
			rc = capture_get(client, id, &capture);
		}
		if (rc != CLIENT_OK)
			break;
		*out = capture;
		progress_show(&progress, capture, capture_closed(capture));
		if (capture_closed(capture))
			break;
		if (http_interrupts >= 2) {
			rc = client_fail(
				CLIENT_REFUSED, "interrupted; capture %s goes on closing", id);
			break;
		}
		json_decref(capture);
		if (http_interrupts == 0 || asked)
			sleep_ms(POLL_MS);
	}
	progress_end(&progress);
	return rc;
}

int capture_output_open(struct capture_output *output, const char *path)
{
	struct stat info;
	bool there = stat(path, &info) == 0;
	const char *opened = path;

	*output = (struct capture_output){.fd = -1, .path = path};
	if (strcmp(path, "-") == 0) {
		if (isatty(STDOUT_FILENO))
			return client_fail(CLIENT_USAGE, "a capture is not written to a terminal");
		output->fd = STDOUT_FILENO;
		return CLIENT_OK;
	}
	if (!there || S_ISREG(info.st_mode)) {
		if (asprintf(&output->part, "%s.part", path) < 0)
			return client_fail(CLIENT_REFUSED, "no memory");
		opened = output->part;
	}
	output->fd = open(opened, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (output->fd >= 0)
		return CLIENT_OK;
	client_fail(CLIENT_REFUSED, "%s: %s", opened, strerror(errno));
	free(output->part);
	output->part = NULL;
	return CLIENT_REFUSED;
}

int capture_output_finish(struct capture_output *output, bool good)
{
	int rc = CLIENT_OK;

	if (output->fd > STDERR_FILENO && close(output->fd) != 0 && good)
		rc = client_fail(CLIENT_REFUSED, "%s: %s", output->path, strerror(errno));
	if (output->part != NULL && good && rc == CLIENT_OK) {
		if (rename(output->part, output->path) != 0)
			rc = client_fail(CLIENT_REFUSED, "%s: %s", output->path, strerror(errno));
	} else if (output->part != NULL) {
		unlink(output->part);
	}
	free(output->part);
	*output = (struct capture_output){.fd = -1};
	return rc;
}

int capture_fetch(struct client *client, const char *id, const char *query, bool wait,
	struct capture_output *output)
{
	bool terminal = isatty(STDERR_FILENO) && output->fd != STDOUT_FILENO;
	unsigned retry_s = 0;
	char *rest, *path;
	int rc;

	if (asprintf(&rest, "/download%s", query) < 0)
		return client_fail(CLIENT_REFUSED, "no memory");
	path = http_capture_path(id, rest);
	do {
		if (retry_s > 0)
			sleep_ms(RETRY_MS);
		rc = http_download(client, path, output->fd, wait ? &retry_s : NULL,
			terminal ? download_show : NULL);
	} while (wait && retry_s > 0 && http_interrupts < 2);
	if (retry_s > 0)
		client_fail(CLIENT_REFUSED, "interrupted");
	if (terminal)
		fputs("\r\033[K", stderr);
	free(path);
	free(rest);
	return rc;
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

/* A signal cuts it short, as it should. */
static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static void progress_show(struct progress *progress, const json_t *capture, bool force)
{
	char packets[TEXT_SIZE], bytes[TEXT_SIZE], pps[TEXT_SIZE], bps[TEXT_SIZE],
		dropped[TEXT_SIZE];
	char duration[TEXT_SIZE], reasons[256];
	const json_t *ledger = json_object_get(capture, "ledger");
	uint64_t n_packets = text_number(ledger, "accepted");
	uint64_t n_bytes = text_number(capture, "size_bytes");
	double now = now_s(), passed = now - progress->last_s;

	if (!isatty(STDERR_FILENO) || (!force && passed * 1000 < SHOW_MS))
		return;
	if (!progress->shown) {
		progress->last_packets = n_packets;
		progress->last_bytes = n_bytes;
		passed = 1;
	}
	fprintf(stderr, "\r%s  %s  %s packets %s/s  %s %s/s  dropped %s%s%s\033[K",
		text_duration(duration, now - progress->begun_s), text_string(capture, "state"),
		text_si(packets, n_packets, ""),
		text_si(pps, (n_packets - progress->last_packets) / passed, ""),
		text_si(bytes, n_bytes, "B"),
		text_si(bps,
			n_bytes > progress->last_bytes ? (n_bytes - progress->last_bytes) / passed
						       : 0,
			"B"),
		text_digits(dropped, text_dropped(ledger)), text_dropped(ledger) > 0 ? ": " : "",
		text_drop_reasons(reasons, sizeof(reasons), ledger));
	fflush(stderr);
	progress->shown = true;
	progress->last_s = now;
	progress->last_packets = n_packets;
	progress->last_bytes = n_bytes;
}

static void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputc('\n', stderr);
}

static void download_show(uint64_t bytes)
{
	static double last_s;
	char text[TEXT_SIZE];
	double now = now_s();

	if (now - last_s < SHOW_MS / 1000.0)
		return;
	last_s = now;
	fprintf(stderr, "\rdownloading  %s\033[K", text_si(text, bytes, "B"));
	fflush(stderr);
}
