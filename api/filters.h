/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * POST /api/v1/filters/check: whether a filter compiles, and if not, which word of it is wrong. The
 * compiler is the one that captures use, in its own process; nothing is started. Control thread only.
 */
#ifndef API_FILTERS_H
#define API_FILTERS_H

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct request;

void filters_start(struct event_base *base);

/* The route's handler. */
void filters_check(struct request *request);

/*
 * Where in filter the word is that the compiler's message is about ("..., character 5", "... at the end,
 * ..."), in bytes. False: it is about the whole.
 */
bool filters_locate(const char *filter, const char *message, size_t *offset, size_t *len);

#endif
