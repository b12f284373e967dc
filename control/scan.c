/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The block walker. A window slides over the file; a block is handed out only when all of it is in
 * the window and everything that can be checked about it was. Bulk worker.
 */
#include "control/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "control/packet.h"

#define PAGE      4096U
#define BLOCK_MIN 12U /* type, length, length */
#define BLOCK_NRB 4U
#define BLOCK_SPB 3U

#define STATISTICS_HEAD 20U /* of a statistics block, before its options */
#define ISB_IFRECV      4U
#define ISB_OSDROP      7U

/* Shortest length of the block types that may stand in a file of ours, or that an editor leaves
 * there. */
static const struct {
	uint32_t type;
	uint32_t len_min;
} block_types[] = {
	{PCAPNG_EPB, PCAPNG_EPB_HEAD + PCAPNG_EPB_TAIL}, {PCAPNG_ISB, 24}, {PCAPNG_IDB, 20},
	{PCAPNG_SHB, 28}, {BLOCK_SPB, 16}, {BLOCK_NRB, 16}, {0x00000bad, 16}, /* custom, copyable */
	{0x40000bad, 16}, /* custom, not copyable */
};

static bool window_fill(struct scan *scan, size_t want, int *rc);
static bool length_plausible(uint32_t type, uint32_t len);
static bool content_sound(struct scan *scan, const uint8_t *data, uint32_t type, uint32_t len);
static int stop_at(struct scan *scan, const uint8_t *data, size_t left);

int scan_open(struct scan *scan, int fd, uint64_t offset, uint64_t end, size_t window_size)
{
	*scan = (struct scan){
		.fd = fd,
		.offset = offset,
		.end = end,
		.window_size = window_size,
		.window_offset = offset / PAGE * PAGE,
	};
	if (posix_memalign((void **)&scan->window, PAGE, window_size) != 0) {
		scan->window = NULL;
		return -ENOMEM;
	}
	return 0;
}

void scan_close(struct scan *scan)
{
	free(scan->window);
	scan->window = NULL;
}

int scan_next(struct scan *scan, struct scan_block *block)
{
	uint64_t left = scan->end - scan->offset;
	uint32_t type, len, again;
	const uint8_t *data;
	int rc = 0;

	if (left == 0) {
		scan->stop = SCAN_END;
		return 0;
	}
	if (!window_fill(scan, left < BLOCK_MIN ? left : BLOCK_MIN, &rc))
		return rc;
	data = scan->window + (scan->offset - scan->window_offset);
	if (left < BLOCK_MIN)
		return stop_at(scan, data, left);
	memcpy(&type, data, sizeof(type));
	memcpy(&len, data + 4, sizeof(len));
	if (!length_plausible(type, len) || len > left)
		return stop_at(scan, data, BLOCK_MIN);
	if (!window_fill(scan, len, &rc))
		return rc;
	data = scan->window + (scan->offset - scan->window_offset);
	memcpy(&again, data + len - sizeof(again), sizeof(again));
	if (again != len || !content_sound(scan, data, type, len))
		return stop_at(scan, data, BLOCK_MIN);
	*block =
		(struct scan_block){.type = type, .len = len, .offset = scan->offset, .data = data};
	scan->offset += len;
	return 1;
}

static bool options_drops(const uint8_t *at, const uint8_t *end, uint64_t *drops)
{
	uint16_t code, len;

	while (at < end) {
		if (end - at < PCAPNG_OPT_END_SIZE)
			return false;
		memcpy(&code, at, sizeof(code));
		memcpy(&len, at + 2, sizeof(len));
		at += 4;
		if (code == PCAPNG_OPT_END)
			return len == 0 && at == end;
		if (pcapng_pad(len) > end - at)
			return false;
		if (code == PCAPNG_EPB_DROPCOUNT) {
			if (len != sizeof(*drops))
				return false;
			memcpy(drops, at, sizeof(*drops));
		}
		at += pcapng_pad(len);
	}
	return true;
}

bool scan_packet(const struct scan_block *block, struct scan_packet *packet)
{
	struct pcapng_epb_head head;

	memcpy(&head, block->data, sizeof(head));
	*packet = (struct scan_packet){
		.interface_id = head.interface_id,
		.cap_len = head.cap_len,
		.orig_len = head.orig_len,
		.stamp = (uint64_t)head.ts_high << 32 | head.ts_low,
	};
	return options_drops(block->data + PCAPNG_EPB_HEAD + pcapng_pad(head.cap_len),
		block->data + block->len - PCAPNG_EPB_TAIL, &packet->drops);
}

bool scan_frame(const struct scan_block *block, uint64_t number, struct scan_packet *packet,
	struct packet_frame *frame)
{
	if (!scan_packet(block, packet))
		return false;
	*frame = (struct packet_frame){
		.number = number,
		.time_ns = packet->stamp,
		.data = block->data + PCAPNG_EPB_HEAD,
		.cap_len = packet->cap_len,
		.orig_len = packet->orig_len,
	};
	return true;
}

uint64_t scan_statistics(const struct scan_block *block, uint64_t *received)
{
	const uint8_t *at = block->data + STATISTICS_HEAD, *end = block->data + block->len - 4;
	uint64_t value, dropped = 0;
	uint16_t code, len;

	*received = PCAPNG_UNKNOWN;
	for (; at + 4 <= end; at += 4 + pcapng_pad(len)) {
		memcpy(&code, at, sizeof(code));
		memcpy(&len, at + 2, sizeof(len));
		if (len != sizeof(value) || at + 4 + len > end)
			continue;
		memcpy(&value, at + 4, sizeof(value));
		if (code == ISB_IFRECV)
			*received = value;
		else if (code == ISB_OSDROP)
			dropped = value;
	}
	return dropped;
}

const char *scan_stop_name(enum scan_stop stop)
{
	static const char *const names[] = {
		[SCAN_END] = "end",
		[SCAN_ZERO] = "zero",
		[SCAN_BAD] = "bad",
	};

	return names[stop];
}

/* Let the window begin with the page of scan->offset, keeping what it has of it. */
static void window_slide(struct scan *scan)
{
	uint64_t offset = scan->offset / PAGE * PAGE;
	size_t gone = offset - scan->window_offset;

	if (gone >= scan->window_len) {
		scan->window_len = 0;
	} else {
		scan->window_len -= gone;
		memmove(scan->window, scan->window + gone, scan->window_len);
	}
	scan->window_offset = offset;
}

/*
 * Have want bytes from scan->offset on in the window. False: *rc says why (0: the file is shorter).
 * File offset, address and length of a read are whole pages, so that the file may be open O_DIRECT.
 */
static bool window_fill(struct scan *scan, size_t want, int *rc)
{
	size_t need = scan->offset - scan->window_offset + want;
	ssize_t n;

	if (need <= scan->window_len)
		return true;
	window_slide(scan);
	need = scan->offset - scan->window_offset + want;
	while (scan->window_len < need) {
		n = 0; /* a read that ended within a page has met the end of the file */
		if (scan->window_len % PAGE == 0)
			n = pread(scan->fd, scan->window + scan->window_len,
				scan->window_size - scan->window_len,
				scan->window_offset + scan->window_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*rc = n < 0 ? -errno : 0;
			scan->stop = SCAN_BAD; /* end promised more than the file holds */
			return false;
		}
		scan->window_len += n;
	}
	return true;
}

static bool length_plausible(uint32_t type, uint32_t len)
{
	if (len % 4 != 0 || len > SCAN_BLOCK_MAX)
		return false;
	for (unsigned i = 0; i < sizeof(block_types) / sizeof(block_types[0]); i++)
		if (block_types[i].type == type)
			return len >= block_types[i].len_min;
	return false;
}

static bool section_sound(const uint8_t *data)
{
	uint32_t order;
	uint16_t major;

	memcpy(&order, data + 8, sizeof(order));
	memcpy(&major, data + 12, sizeof(major));
	return order == PCAPNG_BYTE_ORDER && major == 1;
}

static bool packet_sound(const struct scan *scan, const uint8_t *data, uint32_t len)
{
	struct pcapng_epb_head head;

	memcpy(&head, data, sizeof(head));
	return head.interface_id < scan->n_interfaces && head.cap_len <= len &&
	       head.orig_len >= head.cap_len &&
	       pcapng_pad(head.cap_len) <= len - PCAPNG_EPB_HEAD - PCAPNG_EPB_TAIL;
}

/* What the block says about itself and the section, apart from packet options. */
static bool content_sound(struct scan *scan, const uint8_t *data, uint32_t type, uint32_t len)
{
	uint32_t interface_id;

	switch (type) {
	case PCAPNG_EPB:
		return packet_sound(scan, data, len);
	case PCAPNG_ISB:
		memcpy(&interface_id, data + 8, sizeof(interface_id));
		return interface_id < scan->n_interfaces;
	case PCAPNG_IDB:
		scan->n_interfaces++;
		return true;
	case PCAPNG_SHB:
		scan->n_interfaces = 0;
		return section_sound(data);
	default:
		return true;
	}
}

/* Stop here. Space that nobody wrote is zero; a torn block seldom begins with this many zeros. */
static int stop_at(struct scan *scan, const uint8_t *data, size_t left)
{
	scan->stop = SCAN_ZERO;
	for (size_t i = 0; i < left; i++)
		if (data[i] != 0)
			scan->stop = SCAN_BAD;
	return 0;
}
