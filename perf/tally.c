/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Judges packets one by one: bytes, numbers, stamps. One thread.
 */
#include "perf/tally.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "perf/frame.h"

static void number_judge(struct tally *tally, uint64_t number, uint64_t told);
static void stamp_judge(struct tally *tally, uint64_t stamp_ns);
static void schedule_judge(struct tally *tally, uint64_t number, uint64_t stamp_ns);
static uint64_t error_percentile(const struct tally *tally, double part);

void tally_init(struct tally *tally)
{
	memset(tally, 0, sizeof(*tally));
	tally->first_ns = UINT64_MAX;
	tally->smallest_step_ns = UINT64_MAX;
}

void tally_file(struct tally *tally)
{
	tally->begun = false;
	tally->stamp_ns = 0;
}

void tally_packet(struct tally *tally, const uint8_t *data, uint32_t cap_len, uint32_t orig_len,
	uint64_t stamp_ns, uint64_t told)
{
	struct frame_mark mark;

	tally->packets++;
	tally->bytes += cap_len;
	tally->told += told;
	stamp_judge(tally, stamp_ns);
	if (cap_len < orig_len) {
		tally->cut++;
		return;
	}
	switch (frame_judge(data, cap_len, &mark)) {
	case FRAME_FOREIGN:
		tally->foreign++;
		return;
	case FRAME_BROKEN:
		tally->broken++;
		return;
	case FRAME_GOOD:
		break;
	}
	tally->numbered++;
	if (!tally->sparse)
		number_judge(tally, mark.number, told);
	if (tally->schedule_pps > 0)
		schedule_judge(tally, mark.number, stamp_ns);
}

/* A loss before the first packet of a file shows nowhere but in what is told. */
static void number_judge(struct tally *tally, uint64_t number, uint64_t told)
{
	uint64_t gap;

	if (tally->begun) {
		gap = number - tally->number - 1;
		if (tally->cycle != 0) {
			gap = (number + tally->cycle - (tally->number + 1) % tally->cycle) %
			      tally->cycle;
			told %= tally->cycle;
		} else if (number <= tally->number) {
			tally->out_of_order++;
			return;
		}
		tally->missing += gap;
		tally->unexplained += gap != told;
	}
	tally->begun = true;
	tally->number = number;
}

static void stamp_judge(struct tally *tally, uint64_t stamp_ns)
{
	if (tally->stamp_ns != 0) {
		const uint64_t step_ns = stamp_ns - tally->stamp_ns;

		tally->steps++;
		if (stamp_ns < tally->stamp_ns) {
			tally->backward_steps++;
		} else if (step_ns == 0) {
			tally->zero_steps++;
		} else {
			if (step_ns < tally->smallest_step_ns)
				tally->smallest_step_ns = step_ns;
			if (step_ns > tally->largest_step_ns)
				tally->largest_step_ns = step_ns;
		}
	}
	tally->stamp_ns = stamp_ns;
	if (stamp_ns < tally->first_ns)
		tally->first_ns = stamp_ns;
	if (stamp_ns > tally->last_ns)
		tally->last_ns = stamp_ns;
}

static void schedule_judge(struct tally *tally, uint64_t number, uint64_t stamp_ns)
{
	const uint64_t sent_ns =
		tally->schedule_ns + (uint64_t)((double)number * 1e9 / tally->schedule_pps);
	uint64_t error_ns;

	if (stamp_ns < sent_ns) {
		tally->early++;
		return;
	}
	error_ns = stamp_ns - sent_ns;
	tally->errors[error_ns == 0 ? 0 : 64 - __builtin_clzll(error_ns) - 1]++;
	if (error_ns > tally->error_max_ns)
		tally->error_max_ns = error_ns;
}

/* The upper end of the bucket that holds it. */
static uint64_t error_percentile(const struct tally *tally, double part)
{
	uint64_t n = 0, below = 0;

	for (unsigned i = 0; i < TALLY_ERROR_BUCKETS; i++)
		n += tally->errors[i];
	for (unsigned i = 0; i < TALLY_ERROR_BUCKETS - 1; i++) {
		below += tally->errors[i];
		if ((double)below >= part * (double)n)
			return 2ULL << i;
	}
	return tally->error_max_ns;
}

void tally_print(const struct tally *tally)
{
	const bool stamped = tally->packets != 0;
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{"packets", tally->packets},
		{"bytes", tally->bytes},
		{"file_bytes", tally->file_bytes},
		{"numbered", tally->numbered},
		{"foreign", tally->foreign},
		{"broken", tally->broken},
		{"cut", tally->cut},
		{"missing", tally->missing},
		{"told", tally->told},
		{"unexplained", tally->unexplained},
		{"out_of_order", tally->out_of_order},
		{"first_ns", stamped ? tally->first_ns : 0},
		{"last_ns", tally->last_ns},
		{"steps", tally->steps},
		{"zero_steps", tally->zero_steps},
		{"backward_steps", tally->backward_steps},
		{"smallest_step_ns", tally->largest_step_ns != 0 ? tally->smallest_step_ns : 0},
		{"largest_step_ns", tally->largest_step_ns},
		{"early", tally->early},
		{"error_p50_ns", tally->schedule_pps > 0 ? error_percentile(tally, 0.5) : 0},
		{"error_p99_ns", tally->schedule_pps > 0 ? error_percentile(tally, 0.99) : 0},
		{"error_max_ns", tally->error_max_ns},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("%s\"%s\": %" PRIu64, i == 0 ? "{" : ", ", rows[i].name, rows[i].value);
	printf("}\n");
}
