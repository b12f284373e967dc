/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * An enhanced packet block put into memory: its head as words, its data by copies that overlap
 * instead of branching on every length, and never touch a byte outside. RX lcores, once per packet:
 * everything here is inlined, into code for the instruction set of the function around it.
 */
#ifndef ENGINE_EPB_H
#define ENGINE_EPB_H

#include <stdint.h>
#include <string.h>

#include "engine/pcapng.h"

/* From here on the C library's own choice for the CPU is the fastest. */
#define EPB_COPY_MAX 256

#define EPB_INLINE static inline __attribute__((always_inline))

/* Registers of 16 and 32 bytes; the compiler makes two of the small one where there is no large. */
typedef uint8_t epb_v16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint8_t epb_v32 __attribute__((vector_size(32), aligned(1), may_alias));

EPB_INLINE void epb_head_put(uint8_t *to, uint32_t interface, uint64_t stamp_ns, uint32_t total_len,
	uint32_t cap_len, uint32_t orig_len)
{
	const uint64_t words[3] = {
		PCAPNG_EPB | (uint64_t)total_len << 32,
		interface | (stamp_ns & 0xffffffff00000000),
		(uint32_t)stamp_ns | (uint64_t)cap_len << 32,
	};

	memcpy(to, &words[0], 8);
	memcpy(to + 8, &words[1], 8);
	memcpy(to + 16, &words[2], 8);
	memcpy(to + 24, &orig_len, 4);
}

EPB_INLINE void epb_move16(uint8_t *to, const uint8_t *from)
{
	*(epb_v16 *)to = *(const epb_v16 *)from;
}

EPB_INLINE void epb_move32(uint8_t *to, const uint8_t *from)
{
	*(epb_v32 *)to = *(const epb_v32 *)from;
}

EPB_INLINE void epb_move64(uint8_t *to, const uint8_t *from)
{
	const epb_v32 a = *(const epb_v32 *)from, b = *(const epb_v32 *)(from + 32);

	*(epb_v32 *)to = a;
	*(epb_v32 *)(to + 32) = b;
}

/* Exactly len bytes. The order of the questions is that of how many packets ask them. */
EPB_INLINE void epb_copy(uint8_t *to, const uint8_t *from, uint32_t len)
{
	if (len > EPB_COPY_MAX) {
		memcpy(to, from, len);
	} else if (len > 64) {
		uint8_t *const last = to + len - 64;

		from += len - 64;
		for (int64_t at = 64 - (int64_t)len; at < 0; at += 64)
			epb_move64(last + at, from + at);
		epb_move64(last, from);
	} else if (len >= 32) {
		const epb_v32 a = *(const epb_v32 *)from, b = *(const epb_v32 *)(from + len - 32);

		*(epb_v32 *)to = a;
		*(epb_v32 *)(to + len - 32) = b;
	} else if (len >= 16) {
		epb_move16(to, from);
		epb_move16(to + len - 16, from + len - 16);
	} else if (len >= 8) {
		memcpy(to, from, 8);
		memcpy(to + len - 8, from + len - 8, 8);
	} else if (len >= 4) {
		memcpy(to, from, 4);
		memcpy(to + len - 4, from + len - 4, 4);
	} else {
		for (uint32_t i = 0; i < len; i++)
			to[i] = from[i];
	}
}

/* Zeros up to the length, and the length: the end of a block without options. */
EPB_INLINE void epb_foot_put(uint8_t *to, uint32_t cap_len, uint32_t total_len)
{
	const uint32_t zero = 0;

	/* Padding, and part of the length that is written over it. */
	memcpy(to + PCAPNG_EPB_HEAD + cap_len, &zero, sizeof(zero));
	memcpy(to + total_len - PCAPNG_EPB_TAIL, &total_len, PCAPNG_EPB_TAIL);
}

#endif
