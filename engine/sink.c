/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/sink.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "engine/block.h"

const struct sink_ops *sink_disk_open(void **state)
{
	static const struct sink_ops *const candidates[] = {&sink_uring_ops, &sink_pwrite_ops};

	for (unsigned i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
		*state = candidates[i]->open();
		if (*state != NULL)
			return candidates[i];
	}
	return NULL;
}

bool sink_write_advance(struct sink_write *write, int64_t result)
{
	const uint32_t before = write->done;

	if (result > 0) {
		write->done += result;
		if (write->direct && write->done < write->len)
			write->done -= write->done % BLOCK_PAGE;
		write->n_iovs = sink_iovs_skip(write->iovs, write->n_iovs, write->done - before);
	} else if (result != -EINTR && result != -EAGAIN) {
		write->error = result < 0 ? (int)-result : EIO;
	}
	write->tries = write->done != before ? 0 : write->tries + 1;
	if (write->tries == SINK_TRIES_MAX && write->error == 0)
		write->error = result < 0 ? (int)-result : EIO;
	write->complete = write->done == write->len || write->error != 0;
	return write->complete;
}

unsigned sink_iovs_skip(struct iovec *iovs, unsigned n_iovs, uint64_t n)
{
	unsigned first = 0;

	while (first < n_iovs && n >= iovs[first].iov_len)
		n -= iovs[first++].iov_len;
	memmove(iovs, iovs + first, (n_iovs - first) * sizeof(*iovs));
	n_iovs -= first;
	if (n_iovs != 0) {
		iovs[0].iov_base = (char *)iovs[0].iov_base + n;
		iovs[0].iov_len -= n;
	}
	return n_iovs;
}
