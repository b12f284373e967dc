/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Memory for what nobody else may see: it is left out of core dumps, not inherited by children, and
 * wiped when it is freed. A few megabytes, set aside once; credentials live here, and everything that
 * libcurl allocates, as it copies them. Any thread.
 */
#ifndef CONTROL_SECRET_H
#define CONTROL_SECRET_H

#include <stddef.h>

/* NULL (ENOMEM) when there is no room. Aligned like malloc's. */
void *secret_alloc(size_t size);
void *secret_calloc(size_t n, size_t size);
void *secret_realloc(void *memory, size_t size);
char *secret_strdup(const char *text);
/* Wipes, too. NULL: nothing. */
void secret_free(void *memory);

/* Bytes in use, with their heads: 0 when everything was freed. */
size_t secret_used(void);

#endif
