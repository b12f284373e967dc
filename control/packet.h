/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a captured frame is, in a few fields and one line of text like tcpdump's: the one decoder
 * behind /packets, the live streams and the vendors' summaries. Pure: bytes in, a struct out; any
 * thread. It never allocates, never reads past the captured bytes and never trusts a length in
 * them.
 */
#ifndef CONTROL_PACKET_H
#define CONTROL_PACKET_H

#include <stdbool.h>
#include <stdint.h>

#define PACKET_INFO_MAX     320
#define PACKET_PROTOCOL_MAX 16
#define PACKET_VLANS_MAX    2
#define PACKET_IP_MAX       46 /* text of an address, with its NUL */
#define PACKET_MAC_MAX      18

/* A frame as it was captured. */
struct packet_frame {
	uint64_t number; /* the caller's; only copied */
	uint64_t time_ns;
	const void *data;
	uint32_t cap_len;
	uint32_t orig_len; /* on the wire, >= cap_len */
};

/* One stack of headers, from Ethernet to ports. What a frame does not have is zero. */
struct packet_flow {
	bool has_mac;
	bool has_ports; /* TCP, UDP and SCTP, first fragments only */
	uint8_t src_mac[6];
	uint8_t dst_mac[6];
	uint16_t ether_type; /* behind all tags; 0 for 802.3 frames */
	uint8_t n_vlans;
	uint16_t vlans[PACKET_VLANS_MAX]; /* ids, the outermost first */
	uint8_t ip_version;               /* 4, 6 or 0 */
	uint8_t src_ip[16];               /* the first 4 bytes for version 4 */
	uint8_t dst_ip[16];
	uint8_t ip_protocol; /* behind IPv6 extension headers */
	uint16_t src_port;
	uint16_t dst_port;
	char protocol[PACKET_PROTOCOL_MAX]; /* "TCP", "ARP", "0x88b5": the last header understood */
};

struct packet_summary {
	uint64_t number;
	uint64_t time_ns;
	uint32_t cap_len;
	uint32_t orig_len;
	bool truncated; /* captured bytes end inside a header, or a header lies */
	struct packet_flow outer;
	const char *tunnel;       /* "GRE", "ERSPAN", "VXLAN", "Geneve", "MPLS" (a pseudowire's) or
			       "IP-in-IP" around inner; NULL: no tunnel */
	uint32_t vni;             /* of VXLAN and Geneve, the key of GRE */
	struct packet_flow inner; /* what the outermost tunnel carries */
	char info[PACKET_INFO_MAX]; /* no line end, printable ASCII */
};

void packet_summarize(const struct packet_frame *frame, struct packet_summary *summary);

/* The name of an IP protocol number: "TCP", "ICMPv6", "IP-253". */
void packet_protocol_print(uint8_t ip_protocol, char text[PACKET_PROTOCOL_MAX]);
/* "IPv4 (0x0800)", "0x88b5", or an 802.3 length. */
#define PACKET_ETHER_TYPE_MAX 32
void packet_ether_type_print(uint16_t type, char text[PACKET_ETHER_TYPE_MAX]);
/* "" for version 0. */
void packet_ip_print(uint8_t ip_version, const uint8_t ip[16], char text[PACKET_IP_MAX]);
void packet_mac_print(const uint8_t mac[6], char text[PACKET_MAC_MAX]);

#endif
