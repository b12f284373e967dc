/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/limit.h"

static unsigned take_bytes(int64_t *left, const uint32_t *len, unsigned n, bool *last);
static unsigned take_packets(int64_t *left, unsigned n, bool *last);

void limit_init(struct limit *limit, uint64_t packets, uint64_t bytes, uint64_t file_bytes)
{
	limit->bytes_on = bytes != 0;
	limit->file_on = file_bytes != 0;
	limit->packets_on = packets != 0 || limit->bytes_on || limit->file_on;
	limit->on = limit->packets_on;
	limit->packets = packets != 0 ? (int64_t)packets : INT64_MAX;
	limit->bytes = bytes;
	limit->file_bytes = file_bytes;
}

void limit_packets_add(struct limit *limit, int64_t n)
{
	__atomic_fetch_add(&limit->packets, n, __ATOMIC_RELAXED);
}

unsigned limit_take(struct limit *limit, const uint32_t *cap_len, const uint32_t *framed_len,
	unsigned n, enum end_reason *end)
{
	bool last = false;

	if (limit->bytes_on) {
		n = take_bytes(&limit->bytes, cap_len, n, &last);
		if (last)
			*end = END_byte_limit;
	}
	if (limit->file_on && n > 0) {
		last = false;
		n = take_bytes(&limit->file_bytes, framed_len, n, &last);
		if (last)
			*end = END_file_limit;
	}
	if (limit->packets_on && n > 0) {
		last = false;
		n = take_packets(&limit->packets, n, &last);
		if (last)
			*end = END_packet_limit;
	}
	return n;
}

static unsigned take_bytes(int64_t *left, const uint32_t *len, unsigned n, bool *last)
{
	int64_t have = __atomic_load_n(left, __ATOMIC_RELAXED);
	int64_t sum;
	unsigned fit;

	do {
		sum = 0;
		for (fit = 0; fit < n && sum + len[fit] <= have; fit++)
			sum += len[fit];
	} while (!__atomic_compare_exchange_n(
		left, &have, have - sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	*last = fit < n || have == sum;
	return fit;
}

static unsigned take_packets(int64_t *left, unsigned n, bool *last)
{
	int64_t have = __atomic_fetch_sub(left, n, __ATOMIC_RELAXED);

	*last = have <= n;
	if (have <= 0)
		return 0;
	return have < n ? (unsigned)have : n;
}
