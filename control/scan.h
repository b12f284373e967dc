/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Walk the pcapng blocks of a file, one after the other, and stop at the first byte that is not a
 * whole, sound block. Reads by pread in large windows; never writes, never searches: what lies
 * behind the first bad block is not trusted, since a packet's payload can hold pcapng too. Bulk
 * worker.
 */
#ifndef CONTROL_SCAN_H
#define CONTROL_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/pcapng.h"

#define SCAN_BLOCK_MAX \
	(512U << 10) /* longest block that is believed; a frame is at most 256 KiB \
		      */
#define SCAN_WINDOW_MIN (1U << 20)

enum scan_stop {
	SCAN_END,  /* the last block ended where the file ends */
	SCAN_ZERO, /* space that was never written */
	SCAN_BAD,  /* torn, cut off, or not pcapng */
};

struct scan {
	int fd;          /* the caller's */
	uint64_t offset; /* of the next block; after a stop: where the good bytes end */
	uint64_t end;    /* bytes from here on are not looked at */
	enum scan_stop stop;
	uint32_t n_interfaces; /* interface blocks seen in this section; set it to go on in mid-file
				*/
	uint8_t *window;
	size_t window_size;
	size_t window_len;
	uint64_t window_offset;
};

struct scan_block {
	uint32_t type;
	uint32_t len;
	uint64_t offset;
	const uint8_t *data; /* the whole block; until the next scan_next */
};

/* An enhanced packet block, read. */
struct scan_packet {
	uint32_t interface_id;
	uint32_t cap_len;
	uint32_t orig_len;
	uint64_t stamp; /* units of the interface: ns in our files */
	uint64_t drops; /* epb_dropcount, 0 if there is none */
};

/* Scan fd from offset to end. window_size: what one pread takes, >= SCAN_WINDOW_MIN. 0 or -ENOMEM.
 */
int scan_open(struct scan *scan, int fd, uint64_t offset, uint64_t end, size_t window_size);
void scan_close(struct scan *scan);

/* 1: *block is the next one. 0: stopped, scan->stop says why, scan->offset where. -errno: read
 * error. */
int scan_next(struct scan *scan, struct scan_block *block);

/* Read a packet block that scan_next returned. False: its options are malformed. */
bool scan_packet(const struct scan_block *block, struct scan_packet *packet);

/* The same as a frame, the caller's number on it; its bytes are the block's. */
struct packet_frame;
bool scan_frame(const struct scan_block *block, uint64_t number, struct scan_packet *packet,
	struct packet_frame *frame);

/* What a statistics block says that we lost; *received: how much came in, PCAPNG_UNKNOWN if it does not
 * say. */
uint64_t scan_statistics(const struct scan_block *block, uint64_t *received);

/* The stamp alone: what a merge sorts by. */
static inline uint64_t scan_stamp(const struct scan_block *block)
{
	const struct pcapng_epb_head *head = (const void *)block->data;

	return (uint64_t)head->ts_high << 32 | head->ts_low;
}

const char *scan_stop_name(enum scan_stop stop);

#endif
