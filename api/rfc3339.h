/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Times as every dialect writes them: RFC 3339 in UTC. Pure; any thread.
 */
#ifndef API_RFC3339_H
#define API_RFC3339_H

#include <stdbool.h>
#include <stdint.h>

#define RFC3339_SIZE 36

/* "2026-01-02T03:04:05.000000006Z" with decimals (0..9) digits, cut and not rounded. */
void rfc3339_print(uint64_t wall_ns, unsigned decimals, char text[RFC3339_SIZE]);

/* Any offset, any number of decimals (those behind the ninth are ignored); years 1970 to 2553. */
bool rfc3339_parse(const char *text, uint64_t *wall_ns);

/* Now, by the wall clock. */
uint64_t rfc3339_now(void);

#endif
