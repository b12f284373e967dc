/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Plain pwritev: where io_uring is denied. Each write is finished before submit returns. Writer
 * thread.
 */
#include "engine/sink.h"

#include <errno.h>
#include <stdlib.h>

struct sink_pwrite {
	unsigned n_done;
	struct sink_write *done[SINK_WRITES_MAX];
};

static void *pwrite_open(void)
{
	return calloc(1, sizeof(struct sink_pwrite));
}

static void pwrite_close(void *sink)
{
	free(sink);
}

static void pwrite_submit(void *sink, struct sink_write *write)
{
	struct sink_pwrite *state = sink;

	while (write->done < write->len && write->error == 0) {
		ssize_t n = pwritev(write->fd, write->iovs, (int)write->n_iovs,
			(off_t)(write->offset + write->done));

		if (n > 0) {
			write->done += n;
			write->n_iovs = sink_iovs_skip(write->iovs, write->n_iovs, n);
		} else if (n == 0) {
			write->error = EIO;
		} else if (errno != EINTR) {
			write->error = errno;
		}
	}
	write->complete = true;
	state->done[state->n_done++] = write;
}

static unsigned pwrite_reap(
	void *sink, struct sink_write **writes, unsigned n_max, uint64_t wait_ns)
{
	struct sink_pwrite *state = sink;
	unsigned n = 0;

	while (state->n_done != 0 && n < n_max)
		writes[n++] = state->done[--state->n_done];
	return n;
}

const struct sink_ops sink_pwrite_ops = {
	.name = "pwrite",
	.open = pwrite_open,
	.close = pwrite_close,
	.submit = pwrite_submit,
	.reap = pwrite_reap,
};
