/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A session's limits, exact over all its lanes: one place per packet, taken by one atomic subtract
 * a burst; for bytes by compare-and-swap on the longest prefix that fits. Nothing is leased or
 * given back. Whoever finds no place, or takes the last, learns that the session is at its end.
 */
#ifndef ENGINE_LIMIT_H
#define ENGINE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/tap.h"

struct limit {
	bool on; /* constant; any of the three below is limited; packets are counted then */
	bool packets_on;
	bool bytes_on;
	bool file_on;
	int64_t packets; /* what is left; atomics */
	int64_t bytes;
	int64_t file_bytes;
};

void limit_init(struct limit *limit, uint64_t packets, uint64_t bytes, uint64_t file_bytes);

/* Control thread, while lanes take places: so many packets more, or fewer, in all. Only where on. */
void limit_packets_add(struct limit *limit, int64_t n);

/*
 * lcore. Places for n packets with these captured and framed lengths, in order: returns how many of
 * the first have one. *end is set when the session is at its end by this, else left alone.
 *
 * Packets are taken last: a byte limit may hold places back that nobody uses when the packet limit
 * ends the session in the same burst, but never the other way round, so a session ended by its
 * packet limit holds exactly that many.
 */
unsigned limit_take(struct limit *limit, const uint32_t *cap_len, const uint32_t *framed_len,
	unsigned n, enum end_reason *end);

#endif
