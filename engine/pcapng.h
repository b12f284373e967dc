/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * pcapng 1.0 blocks, little-endian, as draft-ietf-opsawg-pcapng lays them out (section numbers below).
 * Pure: bytes out, no I/O. Padding bytes are zero. Any thread.
 */
#ifndef ENGINE_PCAPNG_H
#define ENGINE_PCAPNG_H

#include <stddef.h>
#include <stdint.h>

#define PCAPNG_SHB 0x0a0d0d0aU /* section header, 4.1 */
#define PCAPNG_IDB 1U          /* interface description, 4.2 */
#define PCAPNG_ISB 5U          /* interface statistics, 4.6 */
#define PCAPNG_EPB 6U          /* enhanced packet, 4.3 */

#define PCAPNG_BYTE_ORDER        0x1a2b3c4dU
#define PCAPNG_LINKTYPE_ETHERNET 1

/* EPB: fixed part before the data, and the total length at its end. */
#define PCAPNG_EPB_HEAD 28
#define PCAPNG_EPB_TAIL 4

#define PCAPNG_OPT_END            0
#define PCAPNG_OPT_COMMENT        1
#define PCAPNG_EPB_FLAGS          2 /* 4.3: bits 0-1: 1 inbound, 2 outbound */
#define PCAPNG_EPB_DROPCOUNT      4 /* packets lost on this interface since the packet before */
#define PCAPNG_OPT_END_SIZE       4
#define PCAPNG_EPB_FLAGS_SIZE     8
#define PCAPNG_EPB_DROPCOUNT_SIZE 12

struct pcapng_epb_head {
	uint32_t type;
	uint32_t total_len;
	uint32_t interface_id;
	uint32_t ts_high;
	uint32_t ts_low;
	uint32_t cap_len;
	uint32_t orig_len;
};
_Static_assert(sizeof(struct pcapng_epb_head) == PCAPNG_EPB_HEAD, "EPB head is 28 bytes on disk");

/* Text members may be NULL or "": the option is left out. */
struct pcapng_section {
	const char *hardware;
	const char *os;
	const char *application;
	const char *comment;
};

struct pcapng_interface {
	const char *name;
	const char *description;
	const char *filter; /* pcap expression */
	uint32_t snaplen;   /* 0 = no limit */
	uint64_t speed_bps; /* 0 = not known */
};

/* A counter of the statistics that nobody knows (after a crash): its option is left out. */
#define PCAPNG_UNKNOWN UINT64_MAX

struct pcapng_statistics {
	uint32_t interface_id;
	uint64_t stamp_ns;
	uint64_t start_ns;
	uint64_t end_ns;
	uint64_t received;        /* isb_ifrecv: the source's packets while the session ran */
	uint64_t if_dropped;      /* isb_ifdrop: of these, lost by NIC or kernel */
	uint64_t filter_accepted; /* isb_filteraccept */
	uint64_t os_dropped;      /* isb_osdrop: accepted and lost by us */
	uint64_t delivered;       /* isb_usrdeliv: in the file */
	uint64_t
		tail_gap; /* of os_dropped, lost after the interface's last packet: a comment "tail_gap=N" */
};

/* Write one block at buf (size bytes there). Returns its length, or 0 when it does not fit or a text is
 * longer than the 65535 bytes that an option can hold. */
size_t pcapng_section_put(void *buf, size_t size, const struct pcapng_section *section);
size_t pcapng_interface_put(void *buf, size_t size, const struct pcapng_interface *interface);
size_t pcapng_statistics_put(void *buf, size_t size, const struct pcapng_statistics *statistics);

/* The most that pcapng_statistics_put writes; what a file-size limit sets aside per interface. */
#define PCAPNG_STATISTICS_MAX 192

static inline uint32_t pcapng_pad(uint32_t len)
{
	return (len + 3) & ~3U;
}

/* Length of an EPB: captured bytes, options as asked (each already with its header), end of options. */
static inline uint32_t pcapng_epb_len(uint32_t cap_len, uint32_t options_len)
{
	return PCAPNG_EPB_HEAD + pcapng_pad(cap_len) +
	       (options_len != 0 ? options_len + PCAPNG_OPT_END_SIZE : 0) + PCAPNG_EPB_TAIL;
}

#endif
