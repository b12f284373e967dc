/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/download.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config/log.h"
#include "control/job.h"
#include "control/store.h"
#include "api/route.h"
#include "api/server.h"

#define PIECE_SIZE (512 * 1024)
#define OPEN_TRIES 3

/*
 * One download. request and the flags are the control thread's. While reading is set, a job is on
 * the read worker and everything under "the job's" is its own.
 */
struct download {
	struct job job;
	struct request *request; /* NULL: ended, or the client has gone */
	struct uuid id;
	enum download_format format;
	bool closed; /* the file is whole and stays as it is */
	bool sized;  /* sent as it is: its length is known */
	bool opened;
	bool started; /* the head is out */
	bool reading;
	bool sending;
	bool finished; /* the last piece has been read */
	unsigned tries;
	uint64_t size_bytes; /* of all parts */

	/* the job's */
	int rc;
	unsigned n_parts;
	struct session_part *parts;
	int *fds;
	unsigned part; /* where to read on */
	uint64_t offset_bytes;
	uint64_t left_bytes;
	struct pcap_converter *converter;
	struct pcap_out piece; /* read and not sent */
};

static void download_free(struct download *download);
static int parts_take(struct download *download, const struct session *session);
static void parts_open(struct job *job);
static void parts_opened(struct job *job);
static void piece_read(struct job *job);
static void piece_done(struct job *job);
static void piece_sent(void *arg);
static void client_gone(void *arg);
static void download_begin(struct download *download);
static void download_pump(struct download *download);
static void download_fail(struct download *download, int status, const char *text);

void download_start(
	struct request *request, const struct session *session, enum download_format format)
{
	struct download *download = calloc(1, sizeof(*download));
	struct session_info info;
	struct err err;

	if (download == NULL) {
		err_set(&err, ENOMEM, NULL, "no memory for a download");
		route_error(request, 503, &err);
		return;
	}
	session_info(session, &info);
	download->request = request;
	download->id = info.id;
	download->format = format;
	download->sized = format == DOWNLOAD_PCAPNG;
	session_read_begin(&info.id);
	if (format != DOWNLOAD_PCAPNG)
		download->converter = pcap_converter_new(
			format == DOWNLOAD_PCAP_NANOSECONDS ? PCAP_NANOSECONDS : PCAP_MICROSECONDS);
	if ((format != DOWNLOAD_PCAPNG && download->converter == NULL) ||
		parts_take(download, session) < 0) {
		download_fail(download, 503, "no memory for a download");
		return;
	}
	if (download->n_parts == 0) {
		download_fail(download, 404, "the capture has no file");
		return;
	}
	download->job.run = parts_open;
	download->job.done = parts_opened;
	download->reading = true;
	job_post(WORKER_READ, &download->job);
}

enum download_range download_range(
	const char *header, uint64_t size_bytes, uint64_t *first, uint64_t *last)
{
	char *end;

	if (header == NULL || strncasecmp(header, "bytes=", 6) != 0)
		return RANGE_NONE;
	header += 6 + strspn(header + 6, " \t");
	*last = size_bytes - 1;
	if (*header == '-') { /* the last n bytes */
		uint64_t n = isdigit((unsigned char)header[1]) ? strtoull(header + 1, &end, 10) : 0;

		if (!isdigit((unsigned char)header[1]) || end[strspn(end, " \t")] != '\0')
			return RANGE_NONE;
		*first = n < size_bytes ? size_bytes - n : 0;
		return n > 0 && size_bytes > 0 ? RANGE_PART : RANGE_UNSATISFIABLE;
	}
	if (!isdigit((unsigned char)*header))
		return RANGE_NONE;
	*first = strtoull(header, &end, 10);
	if (*end++ != '-')
		return RANGE_NONE;
	if (isdigit((unsigned char)*end)) {
		uint64_t wanted = strtoull(end, &end, 10);

		if (wanted < *first)
			return RANGE_NONE;
		if (wanted < *last)
			*last = wanted;
	}
	if (end[strspn(end, " \t")] != '\0')
		return RANGE_NONE;
	return *first < size_bytes ? RANGE_PART : RANGE_UNSATISFIABLE;
}

static void parts_close(struct download *download)
{
	for (unsigned i = 0; i < download->n_parts; i++)
		if (download->fds[i] >= 0)
			close(download->fds[i]);
	free(download->parts);
	free(download->fds);
	download->parts = NULL;
	download->fds = NULL;
	download->n_parts = 0;
}

static void download_free(struct download *download)
{
	session_read_end(&download->id);
	parts_close(download);
	pcap_converter_free(download->converter);
	free(download->piece.data);
	free(download);
}

/* What is to be sent, as it is now. */
static int parts_take(struct download *download, const struct session *session)
{
	struct session_part *parts = calloc(SESSION_PARTS_MAX, sizeof(*parts));
	struct session_info info;
	unsigned n;

	if (parts == NULL)
		return -ENOMEM;
	session_info(session, &info);
	n = session_parts(session, parts, SESSION_PARTS_MAX);
	download->closed = session_state_whole(info.state);
	download->parts = parts;
	download->fds = malloc((n + 1) * sizeof(*download->fds));
	if (download->fds == NULL)
		return -ENOMEM;
	download->n_parts = n;
	download->size_bytes = 0;
	for (unsigned i = 0; i < n; i++) {
		download->fds[i] = -1;
		download->size_bytes += parts[i].size_bytes;
	}
	download->left_bytes = download->size_bytes;
	return 0;
}

static void parts_open(struct job *job)
{
	struct download *download = (struct download *)job;

	download->rc = 0;
	for (unsigned i = 0; i < download->n_parts && download->rc == 0; i++) {
		download->fds[i] = store_part_open(download->parts[i].path);
		if (download->fds[i] < 0)
			download->rc = download->fds[i];
	}
}

static void parts_opened(struct job *job)
{
	struct download *download = (struct download *)job;
	struct session *session = session_find(&download->id);

	download->reading = false;
	if (download->request == NULL) {
		download_free(download);
		return;
	}
	/* Between asking and opening, a capture that ends moves its files: ask again. */
	if (download->rc == -ENOENT && session != NULL && download->tries++ < OPEN_TRIES) {
		parts_close(download);
		if (parts_take(download, session) == 0 && download->n_parts > 0) {
			download->reading = true;
			job_post(WORKER_READ, &download->job);
			return;
		}
	}
	if (download->rc == -ENOENT && session != NULL && !download->closed) {
		download_fail(download, 409, "the capture's file is being closed; ask again");
		return;
	}
	if (download->rc == -ENOENT) { /* deleted, or removed by retention, in this moment */
		download_fail(download, session != NULL ? 410 : 404, "the capture's file is gone");
		return;
	}
	if (download->rc < 0) {
		log_error("capture not readable error=%s", strerror(-download->rc));
		download_fail(download, 500, "the capture's file cannot be opened");
		return;
	}
	download_begin(download);
}

/* Answer with an error; nothing has been sent yet. */
static void download_fail(struct download *download, int status, const char *text)
{
	struct err err;

	err_set(&err, status == 503 ? ENOMEM : EIO, NULL, "%s", text);
	route_error(download->request, status, &err);
	download_free(download);
}

static const char *download_type(const struct download *download)
{
	if (download->request->vendor->file_type != NULL)
		return download->request->vendor->file_type;
	return download->sized ? "application/x-pcapng" : "application/vnd.tcpdump.pcap";
}

/* Which bytes this answer holds; false: none of those that were asked for. */
static bool range_take(struct download *download, int *status)
{
	struct request *request = download->request;
	const char *condition = server_header(request, "If-Range");
	char etag[UUID_TEXT_SIZE + 32], id[UUID_TEXT_SIZE];
	uint64_t first, last;

	*status = 200;
	if (!download->sized || !download->closed)
		return true;
	uuid_print(&download->id, id);
	snprintf(etag, sizeof(etag), "\"%s-%" PRIu64 "\"", id, download->size_bytes);
	server_header_add(request, "ETag", "%s", etag);
	server_header_add(request, "Accept-Ranges", "bytes");
	if (condition != NULL && strcmp(condition, etag) != 0)
		return true;
	switch (download_range(
		server_header(request, "Range"), download->size_bytes, &first, &last)) {
	case RANGE_UNSATISFIABLE:
		server_header_add(
			request, "Content-Range", "bytes */%" PRIu64, download->size_bytes);
		return false;
	case RANGE_PART:
		*status = 206;
		server_header_add(request, "Content-Range",
			"bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, last,
			download->size_bytes);
		download->offset_bytes = first;
		download->left_bytes = last - first + 1;
		break;
	case RANGE_NONE:
		break;
	}
	return true;
}

/* The files are open: send the head. */
static void download_begin(struct download *download)
{
	struct request *request = download->request;
	char id[UUID_TEXT_SIZE];
	struct err err;
	int status;

	if (request->conn == NULL) { /* gone while the files were opened */
		server_stream_abort(request);
		download_free(download);
		return;
	}
	if (!range_take(download, &status)) {
		err_set(&err, EINVAL, NULL, "the file has %" PRIu64 " bytes", download->size_bytes);
		route_error(request, 416, &err);
		download_free(download);
		return;
	}
	uuid_print(&download->id, id);
	server_header_add(request, "Content-Disposition", "attachment; filename=\"%s.%s\"", id,
		download->sized ? "pcapng" : "pcap");
	if (request->method == METHOD_HEAD) {
		if (!download->sized)
			server_reply(request, status, NULL, NULL, 0);
		else
			server_reply(request, status, download_type(download), NULL,
				download->left_bytes);
		download_free(download);
		return;
	}
	server_stream_start(request, status, download_type(download),
		download->sized ? download->left_bytes : SERVER_LENGTH_UNKNOWN, client_gone,
		download);
	download->job.run = piece_read;
	download->job.done = piece_done;
	download_pump(download);
}

/* Read up to PIECE_SIZE bytes where the last call ended; *len = 0: that was all. */
static int bytes_read(struct download *download, uint8_t *data, size_t *len)
{
	*len = 0;
	while (*len < PIECE_SIZE && download->left_bytes > 0) {
		const struct session_part *part = &download->parts[download->part];
		uint64_t want = part->size_bytes - download->offset_bytes;
		ssize_t n;

		if (want == 0) {
			download->part++;
			download->offset_bytes = 0;
			continue;
		}
		if (want > PIECE_SIZE - *len)
			want = PIECE_SIZE - *len;
		if (want > download->left_bytes)
			want = download->left_bytes;
		n = pread(download->fds[download->part], data + *len, want,
			(off_t)download->offset_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO; /* shorter than was said */
		*len += n;
		download->offset_bytes += n;
		download->left_bytes -= n;
	}
	return 0;
}

static void piece_read(struct job *job)
{
	struct download *download = (struct download *)job;
	uint8_t *data = malloc(PIECE_SIZE);
	size_t len;

	if (data == NULL) {
		download->rc = -ENOMEM;
		return;
	}
	download->rc = bytes_read(download, data, &len);
	if (download->converter == NULL) {
		download->piece = (struct pcap_out){.data = data, .len = len, .size = PIECE_SIZE};
		return;
	}
	if (download->rc == 0)
		download->rc = pcap_convert(download->converter, data, len, &download->piece);
	if (download->rc == 0 && download->left_bytes == 0)
		download->rc = pcap_finish(download->converter, &download->piece);
	free(data);
}

static void piece_done(struct job *job)
{
	struct download *download = (struct download *)job;

	download->reading = false;
	download->finished = download->left_bytes == 0;
	if (download->request == NULL) {
		download_free(download);
		return;
	}
	if (download->rc < 0) {
		log_error("download cut: the capture cannot be read error=%s",
			strerror(-download->rc));
		server_stream_abort(download->request);
		download_free(download);
		return;
	}
	download_pump(download);
}

/* Send what is there, read what is next, end after the last. */
static void download_pump(struct download *download)
{
	struct pcap_out *piece = &download->piece;

	if (!download->sending && !download->reading && piece->len > 0) {
		void *data = piece->data;
		size_t len = piece->len;

		*piece = (struct pcap_out){0};
		download->sending = true;
		server_stream_send(download->request, data, len, piece_sent, download);
	}
	if (!download->reading && piece->len == 0 && !download->finished) {
		download->reading = true;
		job_post(WORKER_READ, &download->job);
	}
	if (download->finished && piece->len == 0 && !download->sending) {
		server_stream_end(download->request);
		download_free(download);
	}
}

static void piece_sent(void *arg)
{
	struct download *download = arg;

	download->sending = false;
	download_pump(download);
}

static void client_gone(void *arg)
{
	struct download *download = arg;
	struct request *request = download->request;

	download->request = NULL;
	server_stream_abort(request); /* its connection is gone already: frees it */
	if (!download->reading)
		download_free(download);
}
