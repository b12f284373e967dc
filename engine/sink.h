/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Where blocks go, seen by one writer: gathered writes are handed in, and come back done in any
 * order. Writer thread only. A sink never drops and never retries; a failure is the write's result.
 */
#ifndef ENGINE_SINK_H
#define ENGINE_SINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define SINK_WRITES_MAX   32  /* in flight per writer */
#define SINK_IOVS_MAX     256 /* blocks gathered into one write: 16 MiB */
#define SINK_TRIES_MAX    200 /* of a write that makes no way; each takes a writer's round */
#define SINK_IOVS_DEFAULT 64  /* 4 MiB, where nothing was measured */

struct block;
struct lane;

struct sink_file {
	int fd;
	bool direct; /* O_DIRECT */
};

struct sink_write {
	struct lane *lane;
	int fd;
	uint64_t offset;
	uint32_t len;  /* bytes asked for */
	uint32_t done; /* bytes written so far, over short writes */
	int error;     /* errno, or 0 */
	bool complete;
	bool direct;    /* O_DIRECT: goes on at a page, wherever it stopped */
	unsigned tries; /* in a row that wrote nothing */
	unsigned n_iovs;
	struct iovec iovs[SINK_IOVS_MAX];
	struct block *blocks; /* linked by next, in stream order */
	bool partial;         /* its last block is a partial one */
	uint64_t submitted_tsc;
	uint64_t flying_tsc; /* submitted_tsc while it is at the disk, else 0: read by anyone */
	struct sink_write *next;
	struct sink_write *wait_next; /* the sink's */
};

struct sink_ops {
	const char *name;
	/* NULL with errno set: not possible here (io_uring may be denied). */
	void *(*open)(void);
	void (*close)(void *sink);
	/* Takes the write; it will be reaped. At most SINK_WRITES_MAX are in flight. */
	void (*submit)(void *sink, struct sink_write *write);
	/*
	 * Done writes, at most n_max; waits up to wait_ns for the first. write->complete, error and
	 * done are set. A short write that can go on is carried on by the sink.
	 */
	unsigned (*reap)(void *sink, struct sink_write **writes, unsigned n_max, uint64_t wait_ns);
};

extern const struct sink_ops sink_uring_ops;
extern const struct sink_ops sink_pwrite_ops;
extern const struct sink_ops sink_null_ops;

/*
 * Keep one ring ready for an open that comes when the program may make none any more, and take it back
 * from a close. Where io_uring is denied nothing is kept.
 */
void sink_uring_keep(bool keep);

/* What files are written with here: io_uring where it is allowed, else plain writes. *state is what its
 * open returned. NULL with errno set: neither. */
const struct sink_ops *sink_disk_open(void **state);

/*
 * What came of a call for the rest of a write: bytes, or -errno. True: it is complete, with its error if
 * it has one. False: do the rest of it, which may be all.
 */
bool sink_write_advance(struct sink_write *write, int64_t result);

/* Skip the first n bytes of an iovec array: what a short write leaves to do. Returns the new count.
 */
unsigned sink_iovs_skip(struct iovec *iovs, unsigned n_iovs, uint64_t n);

#endif
