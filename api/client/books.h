/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The laws of the books, judged on what the API says. Pure.
 */
#ifndef API_CLIENT_BOOKS_H
#define API_CLIENT_BOOKS_H

#include <stdint.h>

#include "config/json.h"

#define BOOKS_LAWS_MAX 5

/* One law: left = right, residual = left - right. */
struct books_law {
	const char *text;
	uint64_t left;
	uint64_t right;
	int64_t residual;
	bool holds;
};

/*
 * The laws of a capture. While it runs its counters move between two looks, and only downstream
 * counts that exceed upstream ones break a law. Returns how many laws there are.
 */
unsigned books_capture(const json_t *capture, struct books_law laws[BOOKS_LAWS_MAX]);

/*
 * The laws of a port, seen twice (before may be the same as now): traffic moves the counters
 * between reading one and the next, so a law holds when what one side was before is not more than
 * the other is now. What the driver does not see ("loss_visibility" not exact) cannot balance: that
 * law is left out.
 */
unsigned books_port(const json_t *before, const json_t *now, struct books_law laws[BOOKS_LAWS_MAX]);

#endif
