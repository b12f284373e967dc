/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * io_uring: gathered writes, several in flight. One ring per writer, used by that thread only; the
 * only file that knows liburing.
 */
#include "engine/sink.h"

#include <errno.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/fault.h"

struct sink_uring {
	struct io_uring ring;
	struct sink_write *waiting; /* found no place in the ring; linked by wait_next */
	struct sink_write **waiting_end;
};

/* A ring for who comes when none can be made any more. */
static _Atomic(struct sink_uring *) kept;
static atomic_bool keeping;

static int ring_make(struct io_uring *ring);
static void write_issue(struct sink_uring *uring, struct sink_write *write);
static void write_wait(struct sink_uring *uring, struct sink_write *write);
static void waiting_issue(struct sink_uring *uring);
static void queue_submit(struct sink_uring *uring);
static int64_t cqe_result(const struct io_uring_cqe *cqe);

static void *uring_open(void)
{
	struct sink_uring *uring;
	int rc = fault_point(FAULT_uring_setup);

	uring = rc == 0 ? atomic_exchange(&kept, NULL) : NULL;
	if (uring != NULL)
		return uring;
	uring = calloc(1, sizeof(*uring));
	if (uring == NULL)
		return NULL;
	if (rc == 0)
		rc = ring_make(&uring->ring);
	uring->waiting_end = &uring->waiting;
	if (rc == 0)
		return uring;
	free(uring);
	errno = -rc;
	return NULL;
}

static void uring_close(void *sink)
{
	struct sink_uring *uring = sink, *none = NULL;

	if (atomic_load(&keeping) && atomic_compare_exchange_strong(&kept, &none, uring))
		return;
	io_uring_queue_exit(&uring->ring);
	free(uring);
}

void sink_uring_keep(bool keep)
{
	struct sink_uring *uring = keep ? uring_open() : NULL;

	atomic_store(&keeping, uring != NULL);
	uring = atomic_exchange(&kept, uring);
	if (uring != NULL)
		uring_close(uring);
}

static int ring_register(struct io_uring *ring, unsigned opcode, void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, opcode, arg, n) < 0 ? -errno : 0;
}

/*
 * A ring that can write and wait and nothing else, whoever gets at it: it passes by the list of system
 * calls. Linux before 5.10 has no such rings.
 */
static int ring_make(struct io_uring *ring)
{
	struct io_uring_restriction only[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_TIMEOUT},
	};
	int rc = io_uring_queue_init(2 * SINK_WRITES_MAX, ring, IORING_SETUP_R_DISABLED);

	if (rc == -EINVAL)
		return io_uring_queue_init(2 * SINK_WRITES_MAX, ring, 0);
	if (rc < 0)
		return rc;
	/* liburing 2.3 declares functions for these two and does not export them. */
	rc = ring_register(
		ring, IORING_REGISTER_RESTRICTIONS, only, sizeof(only) / sizeof(only[0]));
	if (rc == 0)
		rc = ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (rc < 0)
		io_uring_queue_exit(ring);
	return rc;
}

static void uring_submit(void *sink, struct sink_write *write)
{
	write_issue(sink, write);
}

static unsigned uring_reap(void *sink, struct sink_write **writes, unsigned n_max, uint64_t wait_ns)
{
	struct __kernel_timespec timeout = {.tv_nsec = (long long)wait_ns};
	struct sink_uring *uring = sink;
	struct io_uring_cqe *cqe;
	unsigned n = 0;

	waiting_issue(uring);
	/* What a submit could not take (no memory for the moment) is still in the queue. */
	if (io_uring_sq_ready(&uring->ring) != 0)
		queue_submit(uring);
	while (n < n_max) {
		int rc = n == 0 && wait_ns != 0
				 ? io_uring_wait_cqe_timeout(&uring->ring, &cqe, &timeout)
				 : io_uring_peek_cqe(&uring->ring, &cqe);
		struct sink_write *write;
		int64_t result;

		if (rc != 0)
			break;
		write = io_uring_cqe_get_data(cqe);
		result = cqe_result(cqe);
		io_uring_cqe_seen(&uring->ring, cqe);
		if (sink_write_advance(write, result))
			writes[n++] = write;
		else if (write->tries == 0)
			write_issue(uring, write);
		else
			write_wait(uring, write);
	}
	return n;
}

/* The ring has twice as many places as writes can be in flight; should there be none all the same, the
 * write waits for the next reap. */
static void write_issue(struct sink_uring *uring, struct sink_write *write)
{
	struct io_uring_sqe *sqe =
		fault_point(FAULT_uring_sqe) == 0 ? io_uring_get_sqe(&uring->ring) : NULL;

	if (sqe == NULL) {
		write_wait(uring, write);
		return;
	}
	io_uring_prep_writev(
		sqe, write->fd, write->iovs, write->n_iovs, write->offset + write->done);
	io_uring_sqe_set_data(sqe, write);
	queue_submit(uring);
}

static void write_wait(struct sink_uring *uring, struct sink_write *write)
{
	write->wait_next = NULL;
	*uring->waiting_end = write;
	uring->waiting_end = &write->wait_next;
}

static void waiting_issue(struct sink_uring *uring)
{
	struct sink_write *write = uring->waiting;

	uring->waiting = NULL;
	uring->waiting_end = &uring->waiting;
	while (write != NULL) {
		struct sink_write *next = write->wait_next;

		write_issue(uring, write);
		write = next;
	}
}

static void queue_submit(struct sink_uring *uring)
{
	if (fault_point(FAULT_uring_submit) == 0)
		io_uring_submit(&uring->ring);
}

static int64_t cqe_result(const struct io_uring_cqe *cqe)
{
	const int rc = fault_point(FAULT_uring_result);

	if (rc != 0)
		return rc;
	return cqe->res > 0 ? (int64_t)fault_short(FAULT_uring_result, cqe->res) : cqe->res;
}

const struct sink_ops sink_uring_ops = {
	.name = "uring",
	.open = uring_open,
	.close = uring_close,
	.submit = uring_submit,
	.reap = uring_reap,
};
