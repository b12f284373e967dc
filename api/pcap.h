/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * pcapng in, classic pcap out, as a stream: any cut of the input, bounded memory. Reads what we
 * write and every other little-endian pcapng whose interfaces share one link type; blocks that are
 * not packets are passed over. Pure; any thread, one at a time per converter.
 */
#ifndef API_PCAP_H
#define API_PCAP_H

#include <stddef.h>
#include <stdint.h>

enum pcap_precision { PCAP_MICROSECONDS, PCAP_NANOSECONDS }; /* magic a1b2c3d4, a1b23c4d */

struct pcap_out {
	uint8_t *data; /* freed by whoever holds it */
	size_t len;
	size_t size;
};

struct pcap_converter;

struct pcap_converter *pcap_converter_new(enum pcap_precision precision);
void pcap_converter_free(struct pcap_converter *converter);

/*
 * Convert the next len bytes; what comes out is appended to out. A block that is not whole yet is
 * kept. 0, or -EPROTO: not such a pcapng (after which the converter is of no more use), -ENOMEM.
 */
int pcap_convert(
	struct pcap_converter *converter, const void *data, size_t len, struct pcap_out *out);

/*
 * The input is at its end. A file without an interface still becomes a pcap header. -EPROTO when
 * the last block was cut.
 */
int pcap_finish(struct pcap_converter *converter, struct pcap_out *out);

#endif
