/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Reads a file from front to end, ahead of who takes it apart, in a thread of its own and with O_DIRECT
 * where that is possible: what is measured next shall find the page cache as it was. One user thread.
 */
#ifndef PERF_READER_H
#define PERF_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READER_PIECE_MAX (1U << 20) /* no block or record is longer */

struct reader;

/* NULL with errno. */
struct reader *reader_open(const char *path);
/* NULL is fine. */
void reader_close(struct reader *reader);
uint64_t reader_size(const struct reader *reader);

/*
 * The next bytes: those that are left of the last piece behind its first `done`, and new ones after
 * them. 1, or 0 at the end of the file (*data and *len then are what was left), or -errno.
 */
int reader_next(struct reader *reader, size_t done, const uint8_t **data, size_t *len);

#endif
