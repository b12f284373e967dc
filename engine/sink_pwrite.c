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

	ssize_t n;

	do
		n = pwritev(write->fd, write->iovs, (int)write->n_iovs,
			(off_t)(write->offset + write->done));
	while (!sink_write_advance(write, n < 0 ? -errno : n));
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
