/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/sink.h"

#include <string.h>

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
