/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/pcap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pcapng.h"

#define BLOCK_MIN       12U /* type, length, length */
#define BLOCK_MAX       (16U * 1024 * 1024)
#define INTERFACES_MAX  4096U
#define SNAPLEN_DEFAULT 262144U
#define NS_PER_S        1000000000ULL

#define IDB_SNAPLEN   12
#define IDB_OPTIONS   16
#define OPT_TSRESOL   9
#define TSRESOL_MICRO 6

struct file_head {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy;
	uint32_t snaplen;
	uint32_t link;
};
_Static_assert(sizeof(struct file_head) == 24, "a pcap file starts with 24 bytes");

struct record_head {
	uint32_t seconds, fraction;
	uint32_t cap_len, orig_len;
};
_Static_assert(sizeof(struct record_head) == 16, "a pcap record starts with 16 bytes");

struct pcap_converter {
	enum pcap_precision precision;
	bool head_done;
	bool in_section; /* a section header was seen */
	uint32_t link;
	unsigned n_interfaces; /* of this section */
	uint8_t *tsresol;      /* per interface */
	unsigned tsresol_size;
	uint8_t *kept; /* the start of a block whose end has not come yet */
	size_t kept_len;
	size_t kept_size;
};

static int out_put(struct pcap_out *out, const void *data, size_t len);
static int block_len(
	struct pcap_converter *converter, const uint8_t *data, size_t len, size_t *need);
static int block_convert(
	struct pcap_converter *converter, const uint8_t *block, size_t len, struct pcap_out *out);
static int head_put(struct pcap_converter *converter, uint32_t snaplen, struct pcap_out *out);
static int kept_add(struct pcap_converter *converter, const uint8_t *data, size_t len);

static uint32_t get32(const uint8_t *data)
{
	uint32_t value;

	memcpy(&value, data, sizeof(value));
	return value;
}

static uint16_t get16(const uint8_t *data)
{
	uint16_t value;

	memcpy(&value, data, sizeof(value));
	return value;
}

struct pcap_converter *pcap_converter_new(enum pcap_precision precision)
{
	struct pcap_converter *converter = calloc(1, sizeof(*converter));

	if (converter != NULL)
		converter->precision = precision;
	return converter;
}

void pcap_converter_free(struct pcap_converter *converter)
{
	if (converter == NULL)
		return;
	free(converter->tsresol);
	free(converter->kept);
	free(converter);
}

int pcap_convert(
	struct pcap_converter *converter, const void *data, size_t len, struct pcap_out *out)
{
	const uint8_t *at = data;
	size_t need, take;
	int rc;

	/* First complete the block that the last call left unfinished. */
	while (converter->kept_len > 0) {
		rc = block_len(converter, converter->kept, converter->kept_len, &need);
		if (rc < 0)
			return rc;
		take = need - converter->kept_len;
		if (take > len)
			return kept_add(converter, at, len);
		rc = kept_add(converter, at, take);
		if (rc < 0)
			return rc;
		at += take;
		len -= take;
		if (need < BLOCK_MIN)
			continue; /* only now is its length known */
		rc = block_convert(converter, converter->kept, need, out);
		if (rc < 0)
			return rc;
		converter->kept_len = 0;
	}
	while (len > 0) {
		rc = block_len(converter, at, len, &need);
		if (rc < 0)
			return rc;
		if (need > len)
			return kept_add(converter, at, len);
		rc = block_convert(converter, at, need, out);
		if (rc < 0)
			return rc;
		at += need;
		len -= need;
	}
	return 0;
}

int pcap_finish(struct pcap_converter *converter, struct pcap_out *out)
{
	if (converter->kept_len > 0)
		return -EPROTO;
	if (!converter->head_done)
		converter->link = PCAPNG_LINKTYPE_ETHERNET;
	return head_put(converter, SNAPLEN_DEFAULT, out);
}

static int out_put(struct pcap_out *out, const void *data, size_t len)
{
	if (out->size - out->len < len) {
		size_t size = (out->len + len) * 2;
		uint8_t *grown = realloc(out->data, size);

		if (grown == NULL)
			return -ENOMEM;
		out->data = grown;
		out->size = size;
	}
	memcpy(out->data + out->len, data, len);
	out->len += len;
	return 0;
}

static int kept_add(struct pcap_converter *converter, const uint8_t *data, size_t len)
{
	size_t size = converter->kept_len + len;

	if (size > converter->kept_size) {
		uint8_t *grown = realloc(converter->kept, size * 2);

		if (grown == NULL)
			return -ENOMEM;
		converter->kept = grown;
		converter->kept_size = size * 2;
	}
	if (len > 0)
		memcpy(converter->kept + converter->kept_len, data, len);
	converter->kept_len = size;
	return 0;
}

/* How many bytes the block at data needs: its length, or 8 while that cannot be read yet. */
static int block_len(
	struct pcap_converter *converter, const uint8_t *data, size_t len, size_t *need)
{
	uint32_t total;

	*need = 8;
	if (len < 8)
		return 0;
	total = get32(data + 4);
	if (!converter->in_section && get32(data) != PCAPNG_SHB)
		return -EPROTO;
	if (total < BLOCK_MIN || total % 4 != 0 || total > BLOCK_MAX)
		return -EPROTO;
	*need = total;
	return 0;
}

static int section_begin(struct pcap_converter *converter, const uint8_t *block, size_t len)
{
	if (len < 28 || get32(block + 8) != PCAPNG_BYTE_ORDER)
		return -EPROTO;
	converter->in_section = true;
	converter->n_interfaces = 0;
	return 0;
}

/* if_tsresol among an interface's options, or microseconds. */
static uint8_t tsresol_find(const uint8_t *at, const uint8_t *end)
{
	while (end - at >= 4) {
		uint16_t code = get16(at), len = get16(at + 2);

		if (code == PCAPNG_OPT_END || end - at - 4 < len)
			break;
		if (code == OPT_TSRESOL && len == 1)
			return at[4];
		at += 4 + pcapng_pad(len);
	}
	return TSRESOL_MICRO;
}

static int interface_add(
	struct pcap_converter *converter, const uint8_t *block, size_t len, struct pcap_out *out)
{
	uint32_t snaplen;

	if (len < IDB_OPTIONS + 4 || converter->n_interfaces >= INTERFACES_MAX)
		return -EPROTO;
	if (converter->n_interfaces >= converter->tsresol_size) {
		unsigned size = converter->tsresol_size * 2 + 8;
		uint8_t *grown = realloc(converter->tsresol, size);

		if (grown == NULL)
			return -ENOMEM;
		converter->tsresol = grown;
		converter->tsresol_size = size;
	}
	converter->tsresol[converter->n_interfaces++] =
		tsresol_find(block + IDB_OPTIONS, block + len - 4);
	/* A pcap file has one link type, for all its packets. */
	if (converter->head_done)
		return converter->link == get16(block + 8) ? 0 : -EPROTO;
	converter->link = get16(block + 8);
	snaplen = get32(block + IDB_SNAPLEN);
	return head_put(converter, snaplen != 0 ? snaplen : SNAPLEN_DEFAULT, out);
}

/* A block's time stamp in nanoseconds: resolution 10^-n, or 2^-n with the top bit set. */
static int stamp_ns(uint64_t stamp, uint8_t tsresol, uint64_t *ns)
{
	unsigned exponent = tsresol & 0x7f;
	unsigned __int128 scaled = stamp;

	if (tsresol & 0x80) {
		if (exponent > 63)
			return -EPROTO;
		*ns = (uint64_t)(scaled * NS_PER_S >> exponent);
		return 0;
	}
	if (exponent > 18)
		return -EPROTO;
	for (; exponent < 9; exponent++)
		scaled *= 10;
	for (; exponent > 9; exponent--)
		scaled /= 10;
	*ns = (uint64_t)scaled;
	return 0;
}

static int packet_put(
	struct pcap_converter *converter, const uint8_t *block, size_t len, struct pcap_out *out)
{
	struct pcapng_epb_head head;
	struct record_head record;
	uint64_t ns;
	int rc;

	if (len < PCAPNG_EPB_HEAD + PCAPNG_EPB_TAIL)
		return -EPROTO;
	memcpy(&head, block, sizeof(head));
	if (head.interface_id >= converter->n_interfaces ||
		head.cap_len > len - PCAPNG_EPB_HEAD - PCAPNG_EPB_TAIL)
		return -EPROTO;
	rc = stamp_ns((uint64_t)head.ts_high << 32 | head.ts_low,
		converter->tsresol[head.interface_id], &ns);
	if (rc < 0)
		return rc;
	record = (struct record_head){
		.seconds = (uint32_t)(ns / NS_PER_S),
		.fraction = (uint32_t)(ns % NS_PER_S),
		.cap_len = head.cap_len,
		.orig_len = head.orig_len,
	};
	if (converter->precision == PCAP_MICROSECONDS)
		record.fraction /= 1000;
	rc = out_put(out, &record, sizeof(record));
	return rc < 0 ? rc : out_put(out, block + PCAPNG_EPB_HEAD, head.cap_len);
}

static int block_convert(
	struct pcap_converter *converter, const uint8_t *block, size_t len, struct pcap_out *out)
{
	if (get32(block + len - 4) != len)
		return -EPROTO;
	switch (get32(block)) {
	case PCAPNG_SHB:
		return section_begin(converter, block, len);
	case PCAPNG_IDB:
		return interface_add(converter, block, len, out);
	case PCAPNG_EPB:
		return packet_put(converter, block, len, out);
	default:
		return 0;
	}
}

/* The file header, once. */
static int head_put(struct pcap_converter *converter, uint32_t snaplen, struct pcap_out *out)
{
	struct file_head head = {
		.magic = converter->precision == PCAP_NANOSECONDS ? 0xa1b23c4d : 0xa1b2c3d4,
		.major = 2,
		.minor = 4,
		.snaplen = snaplen,
		.link = converter->link,
	};

	if (converter->head_done)
		return 0;
	converter->head_done = true;
	return out_put(out, &head, sizeof(head));
}
