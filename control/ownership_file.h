/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Whose buckets are whose, as the text of ROOT/ownership: a line with version and checksum, then JSON.
 * What it does not understand it refuses whole. Pure; any thread.
 */
#ifndef CONTROL_OWNERSHIP_FILE_H
#define CONTROL_OWNERSHIP_FILE_H

#include <stddef.h>

#include "config/err.h"
#include "control/ownership.h"

#define OWNERSHIP_FILE     "ownership"
#define OWNERSHIP_FILE_MAX (16U << 20)

/* All from first on, by next; the caller frees it. NULL: no memory. */
char *ownership_file_print(const struct ownership *first);

/* The entries of text, in its order, at *first. 0, or -EINVAL or -ENOMEM with err and nothing at
 * *first. */
int ownership_file_parse(const char *text, size_t len, struct ownership **first, struct err *err);

/* The whole list. */
void ownership_list_free(struct ownership *first);

#endif
