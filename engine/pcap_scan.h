/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a capture file holds, found by walking its headers: how many frames, how long. The replaying
 * driver wants its memory sized for the file before it reads it. pcap in all its byte orders, and
 * pcapng. Main thread, at start.
 */
#ifndef ENGINE_PCAP_SCAN_H
#define ENGINE_PCAP_SCAN_H

#include <stdint.h>

#include "config/err.h"

struct pcap_scan {
	uint64_t frames;
	uint64_t cut;           /* of these, captured shorter than they were on the wire */
	uint32_t longest_bytes; /* captured */
};

/* A file that ends in the middle of a frame counts up to the last whole one, as its readers do.
 * 0, or -errno with a sentence: cannot be read, is no capture file, is not Ethernet. */
int pcap_scan(const char *path, struct pcap_scan *scan, struct err *err);

#endif
