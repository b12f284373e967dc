/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * io_uring: gathered writes, several in flight. One ring per writer, used by that thread only; the
 * only file that knows liburing.
 */
#include "engine/sink.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "engine/fault.h"

struct sink_uring {
	struct io_uring ring;
	struct sink_write *waiting; /* found no place in the ring; linked by wait_next */
	struct sink_write **waiting_end;
};

static void write_issue(struct sink_uring *uring, struct sink_write *write);
static void write_wait(struct sink_uring *uring, struct sink_write *write);
static void waiting_issue(struct sink_uring *uring);
static void queue_submit(struct sink_uring *uring);
static int64_t cqe_result(const struct io_uring_cqe *cqe);

static void *uring_open(void)
{
	struct sink_uring *uring = calloc(1, sizeof(*uring));
	int rc;

	if (uring == NULL)
		return NULL;
	rc = fault_point(FAULT_uring_setup);
	if (rc == 0)
		rc = io_uring_queue_init(2 * SINK_WRITES_MAX, &uring->ring, 0);
	uring->waiting_end = &uring->waiting;
	if (rc == 0)
		return uring;
	free(uring);
	errno = -rc;
	return NULL;
}

static void uring_close(void *sink)
{
	struct sink_uring *uring = sink;

	io_uring_queue_exit(&uring->ring);
	free(uring);
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
