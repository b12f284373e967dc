/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Takes everything and keeps nothing: what the engine can do without a disk. Writer thread.
 */
#include "engine/sink.h"

#include <stdlib.h>

struct sink_null {
	unsigned n_done;
	struct sink_write *done[SINK_WRITES_MAX];
};

static void *null_open(void)
{
	return calloc(1, sizeof(struct sink_null));
}

static void null_close(void *sink)
{
	free(sink);
}

static void null_submit(void *sink, struct sink_write *write)
{
	struct sink_null *null = sink;

	write->done = write->len;
	write->complete = true;
	null->done[null->n_done++] = write;
}

static unsigned null_reap(void *sink, struct sink_write **writes, unsigned n_max, uint64_t wait_ns)
{
	struct sink_null *null = sink;
	unsigned n = 0;

	while (null->n_done != 0 && n < n_max)
		writes[n++] = null->done[--null->n_done];
	return n;
}

const struct sink_ops sink_null_ops = {
	.name = "null",
	.open = null_open,
	.close = null_close,
	.submit = null_submit,
	.reap = null_reap,
};
