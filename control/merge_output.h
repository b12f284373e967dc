/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A large file written from its begin to its end by O_DIRECT writes of whole buffers, while the
 * next buffer is filled. For merge.c; the bulk worker calls, and a thread of its own writes.
 */
#ifndef CONTROL_MERGE_OUTPUT_H
#define CONTROL_MERGE_OUTPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/store.h"

struct merge_output {
	uint8_t *buf; /* being filled */
	size_t len;
	uint64_t offset; /* in the file, of buf[0]: a multiple of a page */

	struct store_lane file; /* the thread's while busy */
	uint8_t *full; /* the other buffer: being written while busy, of offset full_offset */
	uint64_t full_offset;

	pthread_t thread;
	bool thread_runs;
	pthread_mutex_t lock; /* of the members below */
	pthread_cond_t change;
	bool busy;
	bool stop;
	int rc; /* first error of the thread */
};

/* Open or make dir/name, whose first done_bytes stay and go on; what is behind them goes. 0 or
 * -errno; close it in each case. */
int merge_output_open(struct merge_output *out, int dir, const char *name, uint64_t done_bytes);
void merge_output_close(struct merge_output *out);

/* Append. An error of the thread may come with a later call. 0 or -errno. */
int merge_output_put(struct merge_output *out, const uint8_t *data, size_t len);

/* Where the next byte goes. */
static inline uint64_t merge_output_bytes(const struct merge_output *out)
{
	return out->offset + out->len;
}

/* Have all that was put in the file and durable; the last page is padded with zeros. 0 or -errno.
 */
int merge_output_sync(struct merge_output *out);
/* The same, and cut to the byte. */
int merge_output_finish(struct merge_output *out);

#endif
