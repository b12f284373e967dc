/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The output of a merge: two buffers and a thread. The thread owns the full buffer and the file
 * while busy, the caller owns everything else. Bulk worker.
 */
#include "control/merge_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/file.h"
#include "engine/fault.h"

#define PAGE        4096ULL
#define BUFFER_SIZE (4ULL << 20)

static int output_resume(struct merge_output *out, int dir, const char *name, uint64_t done_bytes);
static void *output_main(void *arg);
static int output_swap(struct merge_output *out);
static int output_flush(struct merge_output *out);

int merge_output_open(struct merge_output *out, int dir, const char *name, uint64_t done_bytes)
{
	int rc;

	*out = (struct merge_output){.file.fd = -1};
	pthread_mutex_init(&out->lock, NULL);
	pthread_cond_init(&out->change, NULL);
	out->buf = aligned_alloc(PAGE, BUFFER_SIZE);
	out->full = aligned_alloc(PAGE, BUFFER_SIZE);
	if (out->buf == NULL || out->full == NULL)
		return -ENOMEM;
	rc = output_resume(out, dir, name, done_bytes);
	if (rc == 0)
		rc = -pthread_create(&out->thread, NULL, output_main, out);
	out->thread_runs = rc == 0;
	return rc;
}

void merge_output_close(struct merge_output *out)
{
	if (out->thread_runs) {
		pthread_mutex_lock(&out->lock);
		out->stop = true;
		pthread_cond_signal(&out->change);
		pthread_mutex_unlock(&out->lock);
		pthread_join(out->thread, NULL);
	}
	free(out->buf);
	free(out->full);
	store_lane_close(&out->file);
	pthread_cond_destroy(&out->change);
	pthread_mutex_destroy(&out->lock);
}

int merge_output_put(struct merge_output *out, const uint8_t *data, size_t len)
{
	size_t n;
	int rc;

	while (len > 0) {
		n = BUFFER_SIZE - out->len;
		if (n > len)
			n = len;
		memcpy(out->buf + out->len, data, n);
		out->len += n;
		data += n;
		len -= n;
		if (out->len == BUFFER_SIZE && (rc = output_swap(out)) != 0)
			return rc;
	}
	return 0;
}

int merge_output_sync(struct merge_output *out)
{
	int rc = output_flush(out);

	return rc != 0 ? rc : store_sync(&out->file);
}

int merge_output_finish(struct merge_output *out)
{
	uint64_t size_bytes = merge_output_bytes(out);
	int rc;

	rc = output_flush(out);
	if (rc == 0 && ftruncate(out->file.fd, size_bytes) != 0)
		rc = -errno;
	return rc != 0 ? rc : store_sync(&out->file);
}

/* The file as the checkpoint has it, and its last, unfinished page in the buffer. What is behind, a
 * killed run wrote: without it all begins again as it was. */
static int output_resume(struct merge_output *out, int dir, const char *name, uint64_t done_bytes)
{
	int fd, rc;

	out->offset = done_bytes / PAGE * PAGE;
	out->len = done_bytes % PAGE;
	fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, done_bytes) != 0 ? -errno : 0;
	if (rc == 0)
		rc = file_read_at(fd, out->buf, out->len, out->offset);
	close(fd);
	if (rc == 0)
		rc = store_lane_open(&out->file, dir, name, out->offset, out->offset + PAGE);
	return rc;
}

static int output_write(struct merge_output *out, const uint8_t *buf, size_t len, uint64_t offset)
{
	/* A full disk shows up in the write; space ahead is for speed only. */
	store_extend(&out->file, offset + len);
	return file_write_at(out->file.fd, buf, len, offset);
}

static void *output_main(void *arg)
{
	struct merge_output *out = arg;
	int rc;

	fault_work(FAULT_WORK_MERGE);
	pthread_mutex_lock(&out->lock);
	for (;;) {
		while (!out->busy && !out->stop)
			pthread_cond_wait(&out->change, &out->lock);
		if (!out->busy)
			break;
		pthread_mutex_unlock(&out->lock);
		rc = output_write(out, out->full, BUFFER_SIZE, out->full_offset);
		pthread_mutex_lock(&out->lock);
		if (out->rc == 0)
			out->rc = rc;
		out->busy = false;
		pthread_cond_signal(&out->change);
	}
	pthread_mutex_unlock(&out->lock);
	return NULL;
}

/* Wait for the thread; then its buffer and the file are ours. Its first error, or 0. */
static int output_wait(struct merge_output *out)
{
	int rc;

	pthread_mutex_lock(&out->lock);
	while (out->busy)
		pthread_cond_wait(&out->change, &out->lock);
	rc = out->rc;
	pthread_mutex_unlock(&out->lock);
	return rc;
}

/* Hand the full buffer over and go on in the other. */
static int output_swap(struct merge_output *out)
{
	uint8_t *full = out->buf;
	int rc;

	rc = output_wait(out);
	if (rc != 0)
		return rc;
	out->buf = out->full;
	out->len = 0;
	pthread_mutex_lock(&out->lock);
	out->full = full;
	out->full_offset = out->offset;
	out->busy = true;
	pthread_cond_signal(&out->change);
	pthread_mutex_unlock(&out->lock);
	out->offset += BUFFER_SIZE;
	return 0;
}

static int output_flush(struct merge_output *out)
{
	size_t whole = out->len / PAGE * PAGE;
	size_t padded = (out->len + PAGE - 1) / PAGE * PAGE;
	int rc;

	rc = output_wait(out);
	if (rc != 0 || padded == 0)
		return rc;
	memset(out->buf + out->len, 0, padded - out->len);
	rc = output_write(out, out->buf, padded, out->offset);
	if (rc != 0)
		return rc;
	out->offset += whole;
	out->len -= whole;
	memcpy(out->buf, out->buf + whole, out->len);
	return 0;
}
