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

struct sink_uring {
	struct io_uring ring;
};

static void write_issue(struct sink_uring *uring, struct sink_write *write);
static bool write_finish(struct sink_write *write, int result);

static void *uring_open(void)
{
	struct sink_uring *uring = calloc(1, sizeof(*uring));
	int rc;

	if (uring == NULL)
		return NULL;
	rc = io_uring_queue_init(2 * SINK_WRITES_MAX, &uring->ring, 0);
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

	/* What a submit could not take (no memory for the moment) is still in the queue. */
	if (io_uring_sq_ready(&uring->ring) != 0)
		io_uring_submit(&uring->ring);
	while (n < n_max) {
		int rc = n == 0 && wait_ns != 0
				 ? io_uring_wait_cqe_timeout(&uring->ring, &cqe, &timeout)
				 : io_uring_peek_cqe(&uring->ring, &cqe);
		struct sink_write *write;
		int result;

		if (rc != 0)
			break;
		write = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&uring->ring, cqe);
		if (write_finish(write, result))
			writes[n++] = write;
		else
			write_issue(uring, write);
	}
	return n;
}

/* The ring has twice as many places as writes can be in flight, so there is always one. */
static void write_issue(struct sink_uring *uring, struct sink_write *write)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	io_uring_prep_writev(
		sqe, write->fd, write->iovs, write->n_iovs, write->offset + write->done);
	io_uring_sqe_set_data(sqe, write);
	io_uring_submit(&uring->ring);
}

/* False: there is more to write. */
static bool write_finish(struct sink_write *write, int result)
{
	if (result == -EINTR || result == -EAGAIN)
		return false;
	if (result > 0) {
		write->done += result;
		if (write->done < write->len) {
			write->n_iovs = sink_iovs_skip(write->iovs, write->n_iovs, result);
			return false;
		}
	} else {
		write->error = result < 0 ? -result : EIO;
	}
	write->complete = true;
	return true;
}

const struct sink_ops sink_uring_ops = {
	.name = "uring",
	.open = uring_open,
	.close = uring_close,
	.submit = uring_submit,
	.reap = uring_reap,
};
