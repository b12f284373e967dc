/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A ring of buffers between the threads that read and the one that asks: each of them reads every
 * THREADS-th chunk, because a disk is not busy with one read at a time.
 */
#include "perf/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFERS   8
#define THREADS   4 /* divides BUFFERS */
#define CHUNK     (4ULL << 20)
#define HEAD      READER_PIECE_MAX /* before each chunk: room for what was left of the one before */
#define ALIGNMENT 4096

struct buffer {
	uint8_t *data; /* HEAD + CHUNK bytes */
	ssize_t len;   /* of the chunk, 0 at the end, or -errno */
	sem_t empty, full;
};

struct ahead {
	struct reader *reader;
	unsigned index;
	pthread_t thread;
};

struct reader {
	int fd;
	uint64_t size_bytes;
	bool stopping;
	unsigned n_threads;
	struct ahead ahead[THREADS];
	struct buffer buffers[BUFFERS];

	/* the user's own */
	unsigned index;
	bool holds; /* buffers[index] is being taken apart */
	const uint8_t *data;
	size_t len;
};

static int file_open(const char *path);
static void *read_ahead(void *arg);

struct reader *reader_open(const char *path)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	struct stat stat;
	int rc = 0;

	if (reader == NULL)
		return NULL;
	for (unsigned i = 0; i < BUFFERS; i++) {
		sem_init(&reader->buffers[i].empty, 0, 1);
		sem_init(&reader->buffers[i].full, 0, 0);
	}
	reader->fd = file_open(path);
	if (reader->fd < 0 || fstat(reader->fd, &stat) != 0)
		rc = errno;
	for (unsigned i = 0; rc == 0 && i < BUFFERS; i++)
		rc = posix_memalign((void **)&reader->buffers[i].data, ALIGNMENT, HEAD + CHUNK);
	for (unsigned i = 0; rc == 0 && i < THREADS; i++) {
		reader->ahead[i] = (struct ahead){.reader = reader, .index = i};
		rc = pthread_create(&reader->ahead[i].thread, NULL, read_ahead, &reader->ahead[i]);
		reader->n_threads += rc == 0;
	}
	if (rc != 0) {
		reader_close(reader);
		errno = rc;
		return NULL;
	}
	reader->size_bytes = stat.st_size;
	return reader;
}

void reader_close(struct reader *reader)
{
	if (reader == NULL)
		return;
	__atomic_store_n(&reader->stopping, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < BUFFERS; i++)
		sem_post(&reader->buffers[i].empty);
	for (unsigned i = 0; i < reader->n_threads; i++)
		pthread_join(reader->ahead[i].thread, NULL);
	for (unsigned i = 0; i < BUFFERS; i++) {
		free(reader->buffers[i].data);
		sem_destroy(&reader->buffers[i].empty);
		sem_destroy(&reader->buffers[i].full);
	}
	if (reader->fd >= 0)
		close(reader->fd);
	free(reader);
}

uint64_t reader_size(const struct reader *reader)
{
	return reader != NULL ? reader->size_bytes : 0;
}

int reader_next(struct reader *reader, size_t done, const uint8_t **data, size_t *len)
{
	const size_t left = reader->len - done;
	struct buffer *next;
	unsigned index = reader->holds ? (reader->index + 1) % BUFFERS : 0;

	*data = reader->data + done;
	*len = left;
	if (left > HEAD)
		return -EFBIG;
	next = &reader->buffers[index];
	while (sem_wait(&next->full) != 0)
		;
	if (next->len <= 0)
		return (int)next->len;
	memcpy(next->data + HEAD - left, *data, left);
	if (reader->holds)
		sem_post(&reader->buffers[reader->index].empty);
	reader->index = index;
	reader->holds = true;
	reader->data = *data = next->data + HEAD - left;
	reader->len = *len = left + next->len;
	return 1;
}

static int file_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);

	return fd >= 0 || errno != EINVAL ? fd : open(path, O_RDONLY | O_CLOEXEC);
}

static void *read_ahead(void *arg)
{
	const struct ahead *ahead = arg;
	struct reader *reader = ahead->reader;
	ssize_t n = 1;

	for (uint64_t chunk = ahead->index; n > 0; chunk += THREADS) {
		struct buffer *buffer = &reader->buffers[chunk % BUFFERS];

		while (sem_wait(&buffer->empty) != 0)
			;
		if (__atomic_load_n(&reader->stopping, __ATOMIC_RELAXED))
			break;
		n = pread(reader->fd, buffer->data + HEAD, CHUNK, chunk * CHUNK);
		buffer->len = n >= 0 ? n : -errno;
		sem_post(&buffer->full);
	}
	return NULL;
}
