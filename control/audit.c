/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Lines gather in one text while the one before is on its way to the disk: at most one job at a time,
 * and a last one after a second of quiet that makes durable what is written.
 */
#include "control/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "config/config.h"
#include "config/log.h"
#include "control/job.h"
#include "engine/clock.h"

#define SYNC_EVERY_NS CLOCK_NS_PER_S

struct text {
	char *data;
	size_t len, size;
	unsigned n_lines;
};

static struct {
	/* the control thread's */
	char root[CONFIG_TEXT_MAX];
	struct event *sync_event;
	struct text waiting;
	bool reopen_wanted;
	bool busy;
	bool warned; /* once until a line is written again */
	struct audit_status status;

	/* the job's, while busy */
	struct job job;
	int fd;
	bool reopen;
	bool dirty;
	uint64_t synced_ns;
	struct text text;
	int rc;
} audit = {.fd = -1};

static int file_open(int *rc);
static void job_start(void);
static void job_run(struct job *job);
static void job_done(struct job *job);
static void sync_due(evutil_socket_t fd, short what, void *arg);

int audit_start(const char *root, struct event_base *base, struct err *err)
{
	int rc;

	snprintf(audit.root, sizeof(audit.root), "%s", root);
	audit.fd = file_open(&rc);
	if (audit.fd < 0)
		return err_set(err, -rc, "storage.root", "%s/%s cannot be written: %s", root,
			AUDIT_FILE, strerror(-rc));
	audit.sync_event = evtimer_new(base, sync_due, NULL);
	if (audit.sync_event == NULL)
		return err_set(err, ENOMEM, NULL, "no memory for the audit log");
	audit.job.run = job_run;
	audit.job.done = job_done;
	return 0;
}

void audit_stop(void)
{
	if (audit.dirty)
		fdatasync(audit.fd);
	if (audit.fd >= 0)
		close(audit.fd);
	if (audit.sync_event != NULL)
		event_free(audit.sync_event);
	free(audit.waiting.data);
	free(audit.text.data);
	memset(&audit, 0, sizeof(audit));
	audit.fd = -1;
}

void audit_add(const char *line, size_t len)
{
	struct text *text = &audit.waiting;

	if (audit.sync_event == NULL)
		return;
	if (line == NULL) {
		audit.status.lost++;
		return;
	}
	if (text->len + len + 1 > text->size) {
		size_t size = text->size > 0 ? 2 * text->size + len : 4096 + len;
		char *data =
			text->len + len + 1 <= AUDIT_QUEUE_MAX ? realloc(text->data, size) : NULL;

		if (data == NULL) {
			audit.status.lost++;
			return;
		}
		text->data = data;
		text->size = size;
	}
	memcpy(text->data + text->len, line, len);
	text->data[text->len + len] = '\n';
	text->len += len + 1;
	text->n_lines++;
	if (!audit.busy)
		job_start();
}

void audit_reopen(void)
{
	if (audit.sync_event == NULL)
		return;
	audit.reopen_wanted = true;
	if (!audit.busy)
		job_start();
}

void audit_status(struct audit_status *status)
{
	*status = audit.status;
}

/* A line that a crash cut ends here, so that the next one begins a line. */
static int line_end(int fd)
{
	struct stat st;
	char last;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (fchmod(fd, 0600) < 0)
		return -errno;
	if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n' &&
		write(fd, "\n", 1) != 1)
		return -errno;
	return 0;
}

static int file_open(int *rc)
{
	int root = open(audit.root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

	*rc = -errno;
	if (root < 0)
		return -1;
	/* Not to wait for the reader of a pipe that somebody put there. */
	fd = openat(root, AUDIT_FILE,
		O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	*rc = fd < 0 ? -errno : line_end(fd);
	close(root);
	if (fd >= 0 && *rc < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void job_start(void)
{
	audit.text = audit.waiting;
	audit.waiting = (struct text){0};
	audit.reopen = audit.reopen_wanted;
	audit.reopen_wanted = false;
	audit.busy = true;
	job_post(WORKER_STORAGE, &audit.job);
}

/* --- the job ------------------------------------------------------------------------------------
 */

/* The new file takes the place of the old one only once it is there. */
static void file_change(void)
{
	int rc, fd;

	if (audit.dirty)
		fdatasync(audit.fd);
	fd = file_open(&rc);
	if (fd < 0) {
		log_warning("the audit log cannot be opened anew, it goes on where it was error=%s",
			strerror(-rc));
		return;
	}
	close(audit.fd);
	audit.fd = fd;
}

static void file_turn(void)
{
	int root = open(audit.root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return;
	audit.reopen |= renameat(root, AUDIT_FILE, root, AUDIT_FILE ".1") == 0;
	close(root);
}

/* All or nothing: half a line is no line. */
static int text_write(const struct text *text)
{
	struct stat st;
	size_t len = 0;

	if (fstat(audit.fd, &st) < 0)
		return -errno;
	while (len < text->len) {
		ssize_t n = write(audit.fd, text->data + len, text->len - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int rc = n < 0 ? -errno : -ENOSPC;

			if (len > 0 && ftruncate(audit.fd, st.st_size) < 0)
				log_warning("half a line is in the audit log");
			return rc;
		}
		len += n;
	}
	if (st.st_size + text->len >= AUDIT_SIZE_MAX)
		file_turn();
	return 0;
}

static void job_run(struct job *job)
{
	const uint64_t now_ns = clock_monotonic_ns();

	audit.rc = 0;
	if (audit.text.len > 0) {
		audit.rc = text_write(&audit.text);
		audit.dirty |= audit.rc == 0;
	}
	if (audit.reopen)
		file_change();
	if (audit.dirty && now_ns - audit.synced_ns >= SYNC_EVERY_NS) {
		audit.synced_ns = now_ns;
		audit.dirty = false;
		if (fdatasync(audit.fd) < 0 && audit.rc == 0)
			audit.rc = -errno;
	}
}

/* --- back on the control thread -----------------------------------------------------------------
 */

static void job_done(struct job *job)
{
	static const struct timeval second = {.tv_sec = 1};
	const unsigned n_lines = audit.text.n_lines;

	audit.busy = false;
	free(audit.text.data);
	audit.text = (struct text){0};
	if (audit.rc < 0) {
		audit.status.lost += n_lines;
		if (!audit.warned)
			log_warning("the audit log cannot be written, the service goes on error=%s",
				strerror(-audit.rc));
		audit.warned = true;
	} else {
		audit.status.lines += n_lines;
		audit.warned = audit.warned && n_lines == 0;
	}
	if (audit.waiting.len > 0 || audit.reopen_wanted)
		job_start();
	else if (audit.dirty)
		evtimer_add(audit.sync_event, &second);
}

static void sync_due(evutil_socket_t fd, short what, void *arg)
{
	if (!audit.busy)
		job_start();
}
