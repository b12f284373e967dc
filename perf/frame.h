/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The frames that are measured with: Ethernet, IPv4, UDP, then a mark with stream, number and check, then
 * random payload. The check covers every byte, and yet renumbering a frame costs a multiplication: the
 * sum over all but the number is kept. Pure; any thread.
 */
#ifndef PERF_FRAME_H
#define PERF_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_HEADERS 42 /* Ethernet, IPv4, UDP */
#define FRAME_MAGIC   0x46504c53U
#define FRAME_FLOWS   512 /* number % FRAME_FLOWS says the 5-tuple, see frame_make */
#define FRAME_MAX     9018

struct frame_mark {
	uint32_t magic;
	uint32_t stream;
	uint64_t number;
	uint32_t check;
} __attribute__((packed));

#define FRAME_MIN        ((uint32_t)(FRAME_HEADERS + sizeof(struct frame_mark)))
#define FRAME_NUMBER_AT  (FRAME_HEADERS + offsetof(struct frame_mark, number))
#define FRAME_PAYLOAD_AT FRAME_MIN

/*
 * A frame of len bytes (FRAME_MIN to FRAME_MAX) with this number. Its flow f = number % FRAME_FLOWS is
 * 10.0.(f >> 8).(f & 255) port 1024 + f to 10.1.0.1 port 5000 + f % 10.
 */
void frame_make(uint8_t *frame, uint32_t len, uint32_t stream, uint64_t number);

/* The sum over every byte but number and check. */
uint32_t frame_sum(const uint8_t *frame, uint32_t len);

static inline uint32_t frame_check(uint32_t sum, uint64_t number)
{
	return sum ^ (uint32_t)((number * 0x9e3779b97f4a7c15ULL) >> 32);
}

/* Give a frame whose sum is known another number. */
static inline void frame_renumber(uint8_t *frame, uint32_t sum, uint64_t number)
{
	const uint32_t check = frame_check(sum, number);

	memcpy(frame + FRAME_NUMBER_AT, &number, sizeof(number));
	memcpy(frame + FRAME_NUMBER_AT + sizeof(number), &check, sizeof(check));
}

enum frame_kind {
	FRAME_GOOD,
	FRAME_FOREIGN, /* carries no mark: not ours */
	FRAME_BROKEN,  /* carries one, but some byte is not what was sent */
};
enum frame_kind frame_judge(const uint8_t *frame, uint32_t len, struct frame_mark *mark);

#endif
