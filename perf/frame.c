/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Makes and judges measuring frames. Pure; any thread.
 */
#include "perf/frame.h"

#include <arpa/inet.h>

#include <nmmintrin.h>

static void headers_make(uint8_t *frame, uint32_t len, uint64_t number);
static uint16_t ipv4_sum(const uint8_t *header);
static uint32_t sum_over(uint32_t sum, const uint8_t *data, uint32_t len);
static void put16(uint8_t *at, uint16_t value);

void frame_make(uint8_t *frame, uint32_t len, uint32_t stream, uint64_t number)
{
	const struct frame_mark mark = {.magic = FRAME_MAGIC, .stream = stream};
	uint64_t dice = (number + 1) * 0x2545f4914f6cdd1dULL;

	headers_make(frame, len, number);
	memcpy(frame + FRAME_HEADERS, &mark, sizeof(mark));
	for (uint32_t i = FRAME_PAYLOAD_AT; i < len; i++) {
		dice ^= dice << 13;
		dice ^= dice >> 7;
		dice ^= dice << 17;
		frame[i] = (uint8_t)(dice >> 32);
	}
	frame_renumber(frame, frame_sum(frame, len), number);
}

uint32_t frame_sum(const uint8_t *frame, uint32_t len)
{
	const uint32_t sum = sum_over(UINT32_MAX, frame, FRAME_NUMBER_AT);

	return sum_over(sum, frame + FRAME_PAYLOAD_AT, len - FRAME_PAYLOAD_AT);
}

enum frame_kind frame_judge(const uint8_t *frame, uint32_t len, struct frame_mark *mark)
{
	if (len < FRAME_MIN)
		return FRAME_FOREIGN;
	memcpy(mark, frame + FRAME_HEADERS, sizeof(*mark));
	if (mark->magic != FRAME_MAGIC)
		return FRAME_FOREIGN;
	return frame_check(frame_sum(frame, len), mark->number) == mark->check ? FRAME_GOOD
									       : FRAME_BROKEN;
}

static void headers_make(uint8_t *frame, uint32_t len, uint64_t number)
{
	static const uint8_t ethernet[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
	const unsigned flow = number % FRAME_FLOWS;
	const uint8_t addresses[8] = {10, 0, flow >> 8, flow & 255, 10, 1, 0, 1};
	uint8_t *ip = frame + sizeof(ethernet), *udp = ip + 20;

	memset(frame, 0, FRAME_HEADERS);
	memcpy(frame, ethernet, sizeof(ethernet));
	ip[0] = 0x45;
	put16(ip + 2, len - sizeof(ethernet));
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, addresses, sizeof(addresses));
	put16(ip + 10, ipv4_sum(ip));
	put16(udp, 1024 + flow);
	put16(udp + 2, 5000 + flow % 10);
	put16(udp + 4, len - sizeof(ethernet) - 20);
}

static uint16_t ipv4_sum(const uint8_t *header)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* CRC-32C, by the instruction for it. */
static uint32_t sum_over(uint32_t sum, const uint8_t *data, uint32_t len)
{
	uint64_t wide = sum;

	for (; len >= 8; data += 8, len -= 8) {
		uint64_t word;

		memcpy(&word, data, sizeof(word));
		wide = _mm_crc32_u64(wide, word);
	}
	sum = (uint32_t)wide;
	for (; len > 0; data++, len--)
		sum = _mm_crc32_u8(sum, *data);
	return sum;
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value & 255;
}
