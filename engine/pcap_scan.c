/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The walk over a mapped capture file. It reads lengths only and believes none of them further than
 * the end of the file.
 */
#include "engine/pcap_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_common.h>

#define PCAP_MAGIC_US      0xa1b2c3d4
#define PCAP_MAGIC_NS      0xa1b23c4d
#define PCAP_HEADER_SIZE   24
#define PCAP_RECORD_SIZE   16
#define PCAP_LINK_ETHERNET 1

#define NG_SECTION      0x0a0d0d0a
#define NG_BYTE_ORDER   0x1a2b3c4d
#define NG_INTERFACE    1
#define NG_PACKET_OLD   2
#define NG_PACKET_SHORT 3
#define NG_PACKET       6
#define NG_BLOCK_MIN    12

struct scan_bytes {
	const uint8_t *data;
	size_t size;
	bool swapped;
};

static int scan_pcap(struct scan_bytes *in, struct pcap_scan *scan, struct err *err);
static int scan_pcapng(struct scan_bytes *in, struct pcap_scan *scan, struct err *err);
static uint32_t scan_u32(const struct scan_bytes *in, size_t at);
static void scan_frame(struct pcap_scan *scan, uint32_t captured_bytes, uint32_t wire_bytes);
static int scan_link(unsigned type, struct err *err);

int pcap_scan(const char *path, struct pcap_scan *scan, struct err *err)
{
	struct scan_bytes in = {0};
	void *map = MAP_FAILED;
	struct stat st;
	uint32_t magic;
	int fd, rc;

	memset(scan, 0, sizeof(*scan));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		rc = err_set(err, errno, NULL, "%s: %s", path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < PCAP_HEADER_SIZE) {
		rc = err_set(err, EINVAL, NULL, "%s is not a capture file (pcap or pcapng)", path);
		goto out;
	}
	in.size = st.st_size;
	map = mmap(NULL, in.size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED) {
		rc = err_set(err, errno, NULL, "%s: %s", path, strerror(errno));
		goto out;
	}
	in.data = map;
	magic = scan_u32(&in, 0);
	in.swapped = magic == rte_bswap32(PCAP_MAGIC_US) || magic == rte_bswap32(PCAP_MAGIC_NS);
	if (in.swapped || magic == PCAP_MAGIC_US || magic == PCAP_MAGIC_NS)
		rc = scan_pcap(&in, scan, err);
	else if (magic == NG_SECTION)
		rc = scan_pcapng(&in, scan, err);
	else
		rc = err_set(err, EINVAL, NULL, "%s is not a capture file (pcap or pcapng)", path);
out:
	if (map != MAP_FAILED)
		munmap(map, in.size);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int scan_pcap(struct scan_bytes *in, struct pcap_scan *scan, struct err *err)
{
	size_t at = PCAP_HEADER_SIZE;
	int rc = scan_link(scan_u32(in, 20) & 0xffff, err);

	while (rc == 0 && in->size - at >= PCAP_RECORD_SIZE) {
		uint32_t captured_bytes = scan_u32(in, at + 8);

		if (captured_bytes > in->size - at - PCAP_RECORD_SIZE)
			break;
		scan_frame(scan, captured_bytes, scan_u32(in, at + 12));
		at += PCAP_RECORD_SIZE + captured_bytes;
	}
	return rc;
}

static int scan_pcapng(struct scan_bytes *in, struct pcap_scan *scan, struct err *err)
{
	size_t at = 0;
	int rc = 0;

	while (rc == 0 && in->size - at >= NG_BLOCK_MIN) {
		uint32_t type = scan_u32(in, at), size;

		/* A section may be of another byte order than the one before; its type reads alike.
		 */
		if (type == NG_SECTION)
			in->swapped = scan_u32(&(struct scan_bytes){in->data, in->size, false},
					      at + 8) != NG_BYTE_ORDER;
		size = scan_u32(in, at + 4);
		if (size < NG_BLOCK_MIN || size % 4 != 0 || size > in->size - at)
			break;
		if (type == NG_INTERFACE && size >= 20)
			rc = scan_link(in->swapped ? scan_u32(in, at + 8) >> 16
						   : scan_u32(in, at + 8) & 0xffff,
				err);
		else if ((type == NG_PACKET || type == NG_PACKET_OLD) && size >= 32)
			scan_frame(scan, scan_u32(in, at + 20), scan_u32(in, at + 24));
		else if (type == NG_PACKET_SHORT && size >= 16)
			scan_frame(scan, RTE_MIN(size - 16, scan_u32(in, at + 8)),
				scan_u32(in, at + 8));
		at += size;
	}
	return rc;
}

static uint32_t scan_u32(const struct scan_bytes *in, size_t at)
{
	uint32_t value;

	memcpy(&value, in->data + at, sizeof(value));
	return in->swapped ? rte_bswap32(value) : value;
}

static void scan_frame(struct pcap_scan *scan, uint32_t captured_bytes, uint32_t wire_bytes)
{
	scan->frames++;
	scan->cut += captured_bytes < wire_bytes;
	if (captured_bytes > scan->longest_bytes)
		scan->longest_bytes = captured_bytes;
}

static int scan_link(unsigned type, struct err *err)
{
	if (type == PCAP_LINK_ETHERNET)
		return 0;
	return err_set(err, EINVAL, NULL,
		"the file has link type %u; only Ethernet (link type 1) can be replayed", type);
}
