/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One packet as a message of the Mist stream: pcap_dict, what it is in a few words, and pcap_raw, a
 * whole pcap file with this one packet. Pure but for looking up ports; control thread only.
 */
#ifndef API_MIST_MESSAGE_H
#define API_MIST_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "control/session.h"

/* What the messages of one capture say about where a packet was seen. */
struct mist_source {
	bool organisation;
	unsigned n_ports;
	struct mist_source_port {
		char device[40]; /* a site's: its MAC with colons; an edge's id; "" = none known */
		char interface[CONFIG_NAME_MAX]; /* "wired", or the port's name */
		uint8_t own[6];
		bool has_own;
	} ports[CONFIG_PORTS_MAX]; /* by the packet's interface */
};

struct mist_packet {
	uint64_t time_ns;
	uint32_t interface;
	uint32_t flags; /* epb_flags, 0 = none */
	uint32_t cap_len;
	uint32_t orig_len;
	const uint8_t *data;
};

void mist_source_read(
	const struct session_info *info, const struct config *config, struct mist_source *source);

/* epb_flags of an enhanced packet block, 0 if it has none. */
uint32_t mist_block_flags(const uint8_t *block, uint32_t len);

/* The members of "data" behind lost_messages, to the message's end:
 * ,"pcap_dict":{..},"pcap_raw":".."}}  malloc'ed; NULL without memory. */
char *mist_message(const struct mist_source *source, const struct mist_packet *packet);

#endif
