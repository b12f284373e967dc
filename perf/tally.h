/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What perf-check finds out about the packets of some files. One thread.
 */
#ifndef PERF_TALLY_H
#define PERF_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#define TALLY_ERROR_BUCKETS 64

struct tally {
	/* what to expect, set before */
	uint64_t cycle; /* numbers start over after so many; 0 = never */
	bool sparse;    /* not every number is there */
	uint64_t
		schedule_ns; /* frame n was sent at schedule_ns + n / schedule_pps; pps 0 = not known */
	double schedule_pps;

	uint64_t packets;
	uint64_t bytes; /* captured lengths */
	uint64_t file_bytes;
	uint64_t numbered; /* packets with all bytes right */
	uint64_t foreign;
	uint64_t broken;
	uint64_t cut;         /* shorter than they were on the wire: their bytes are not judged */
	uint64_t missing;     /* numbers that are not there; with a cycle: modulo it */
	uint64_t told;        /* losses that the file owns up to: epb_dropcounts and tail gaps */
	uint64_t unexplained; /* places where a number is missing and not as many are told */
	uint64_t out_of_order;

	uint64_t first_ns, last_ns;
	uint64_t steps; /* from packet to packet of a file */
	uint64_t zero_steps;
	uint64_t backward_steps;
	uint64_t smallest_step_ns; /* not zero */
	uint64_t largest_step_ns;
	uint64_t early;                       /* stamped before they were sent */
	uint64_t errors[TALLY_ERROR_BUCKETS]; /* stamped later than sent, by log2 of ns */
	uint64_t error_max_ns;

	/* of the file at hand */
	bool begun;
	uint64_t number;
	uint64_t stamp_ns;
};

void tally_init(struct tally *tally);
/* A file begins: the next packet has none before it. */
void tally_file(struct tally *tally);
void tally_packet(struct tally *tally, const uint8_t *data, uint32_t cap_len, uint32_t orig_len,
	uint64_t stamp_ns, uint64_t told);
/* As JSON on standard output. */
void tally_print(const struct tally *tally);

#endif
