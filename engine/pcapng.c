/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The blocks around the packets: section header, interface description, interface statistics.
 * Packet blocks are framed by the lane itself. Pure, any thread; never allocates.
 */
#include "engine/pcapng.h"

#include <endian.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "blocks are laid out in host order");

enum {
	SHB_HARDWARE = 2,
	SHB_OS = 3,
	SHB_USERAPPL = 4,
	IDB_NAME = 2,
	IDB_DESCRIPTION = 3,
	IDB_SPEED = 8,
	IDB_TSRESOL = 9,
	IDB_FILTER = 11,
	ISB_STARTTIME = 2,
	ISB_ENDTIME = 3,
	ISB_IFRECV = 4,
	ISB_IFDROP = 5,
	ISB_FILTERACCEPT = 6,
	ISB_OSDROP = 7,
	ISB_USRDELIV = 8,
};

#define TSRESOL_NS  9 /* 10^-9 s */
#define FILTER_PCAP 0 /* first byte of if_filter: a pcap expression follows */

struct out {
	uint8_t *buf;
	size_t size;
	size_t len;
	bool full;
	bool options;
};

static void out_begin(struct out *out, void *buf, size_t size, uint32_t type);
static size_t out_end(struct out *out);
static void out_u16(struct out *out, uint16_t value);
static void out_u32(struct out *out, uint32_t value);
static void out_u64(struct out *out, uint64_t value);
static void out_stamp(struct out *out, uint64_t ns);
static void option_bytes(struct out *out, uint16_t code, const void *data, size_t len);
static void option_text(struct out *out, uint16_t code, const char *text);
static void option_filter(struct out *out, const char *filter);
static void option_count(struct out *out, uint16_t code, uint64_t value);
static void option_stamp(struct out *out, uint16_t code, uint64_t ns);

size_t pcapng_section_put(void *buf, size_t size, const struct pcapng_section *section)
{
	struct out out;

	out_begin(&out, buf, size, PCAPNG_SHB);
	out_u32(&out, PCAPNG_BYTE_ORDER);
	out_u16(&out, 1);
	out_u16(&out, 0);
	out_u64(&out, UINT64_MAX); /* section length: not known */
	option_text(&out, PCAPNG_OPT_COMMENT, section->comment);
	option_text(&out, SHB_HARDWARE, section->hardware);
	option_text(&out, SHB_OS, section->os);
	option_text(&out, SHB_USERAPPL, section->application);
	return out_end(&out);
}

size_t pcapng_interface_put(void *buf, size_t size, const struct pcapng_interface *interface)
{
	struct out out;

	out_begin(&out, buf, size, PCAPNG_IDB);
	out_u16(&out, PCAPNG_LINKTYPE_ETHERNET);
	out_u16(&out, 0);
	out_u32(&out, interface->snaplen);
	option_text(&out, IDB_NAME, interface->name);
	option_text(&out, IDB_DESCRIPTION, interface->description);
	if (interface->speed_bps != 0)
		option_count(&out, IDB_SPEED, interface->speed_bps);
	option_bytes(&out, IDB_TSRESOL, &(uint8_t){TSRESOL_NS}, 1);
	option_filter(&out, interface->filter);
	return out_end(&out);
}

size_t pcapng_statistics_put(void *buf, size_t size, const struct pcapng_statistics *statistics)
{
	char comment[40];
	struct out out;

	out_begin(&out, buf, size, PCAPNG_ISB);
	out_u32(&out, statistics->interface_id);
	out_stamp(&out, statistics->stamp_ns);
	if (statistics->tail_gap != 0) {
		snprintf(comment, sizeof(comment), "tail_gap=%" PRIu64, statistics->tail_gap);
		option_text(&out, PCAPNG_OPT_COMMENT, comment);
	}
	option_stamp(&out, ISB_STARTTIME, statistics->start_ns);
	option_stamp(&out, ISB_ENDTIME, statistics->end_ns);
	option_count(&out, ISB_IFRECV, statistics->received);
	option_count(&out, ISB_IFDROP, statistics->if_dropped);
	option_count(&out, ISB_FILTERACCEPT, statistics->filter_accepted);
	option_count(&out, ISB_OSDROP, statistics->os_dropped);
	option_count(&out, ISB_USRDELIV, statistics->delivered);
	return out_end(&out);
}

static void out_bytes(struct out *out, const void *data, size_t len)
{
	if (out->full || len > out->size - out->len) {
		out->full = true;
		return;
	}
	memcpy(out->buf + out->len, data, len);
	out->len += len;
}

static void out_begin(struct out *out, void *buf, size_t size, uint32_t type)
{
	*out = (struct out){.buf = buf, .size = size};
	out_u32(out, type);
	out_u32(out, 0); /* total length: out_end knows */
}

static size_t out_end(struct out *out)
{
	uint32_t total;

	if (out->options)
		out_u32(out, PCAPNG_OPT_END);
	total = out->len + sizeof(total);
	out_u32(out, total);
	if (out->full)
		return 0;
	memcpy(out->buf + sizeof(uint32_t), &total, sizeof(total));
	return total;
}

static void out_u16(struct out *out, uint16_t value)
{
	out_bytes(out, &value, sizeof(value));
}

static void out_u32(struct out *out, uint32_t value)
{
	out_bytes(out, &value, sizeof(value));
}

static void out_u64(struct out *out, uint64_t value)
{
	out_bytes(out, &value, sizeof(value));
}

/* Two 32-bit numbers, the high one first: not what a little-endian 64-bit number looks like. */
static void out_stamp(struct out *out, uint64_t ns)
{
	out_u32(out, ns >> 32);
	out_u32(out, (uint32_t)ns);
}

static void option_head(struct out *out, uint16_t code, size_t len)
{
	if (len > UINT16_MAX)
		out->full = true;
	out->options = true;
	out_u16(out, code);
	out_u16(out, len);
}

static void option_pad(struct out *out, size_t len)
{
	static const uint8_t zeros[3];

	out_bytes(out, zeros, pcapng_pad(len) - len);
}

static void option_bytes(struct out *out, uint16_t code, const void *data, size_t len)
{
	option_head(out, code, len);
	out_bytes(out, data, len);
	option_pad(out, len);
}

static void option_text(struct out *out, uint16_t code, const char *text)
{
	if (text != NULL && text[0] != '\0')
		option_bytes(out, code, text, strlen(text));
}

static void option_filter(struct out *out, const char *filter)
{
	size_t len;

	if (filter == NULL || filter[0] == '\0')
		return;
	len = 1 + strlen(filter);
	option_head(out, IDB_FILTER, len);
	out_bytes(out, &(uint8_t){FILTER_PCAP}, 1);
	out_bytes(out, filter, len - 1);
	option_pad(out, len);
}

static void option_count(struct out *out, uint16_t code, uint64_t value)
{
	if (value != PCAPNG_UNKNOWN)
		option_bytes(out, code, &value, sizeof(value));
}

static void option_stamp(struct out *out, uint16_t code, uint64_t ns)
{
	option_head(out, code, sizeof(ns));
	out_stamp(out, ns);
}
