/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * IPv4, and IPv6 with its extension headers. Part of the packet decoder; any thread.
 */
#include <string.h>

#include "control/packet_walk.h"

enum {
	IPV4_SIZE = 20,
	IPV6_SIZE = 40,
	EXTENSION_SIZE = 8,
	PROTOCOL_HOP_BY_HOP = 0,
	PROTOCOL_ROUTING = 43,
	PROTOCOL_FRAGMENT = 44,
	PROTOCOL_AH = 51,
	PROTOCOL_NONE = 59,
	PROTOCOL_DESTINATION = 60,
	PROTOCOL_MOBILITY = 135,
	EXTENSIONS_MAX = 16,
};

struct fragment {
	uint32_t id;
	uint32_t offset; /* bytes */
	bool more;
	bool any; /* it is a fragment */
};

static void ipv4_payload(
	struct packet_walk *walk, const struct fragment *fragment, uint8_t ip_protocol);
static bool extensions_read(
	struct packet_walk *walk, uint8_t *ip_protocol, struct fragment *fragment);
static bool extension_read(
	struct packet_walk *walk, uint8_t *ip_protocol, struct fragment *fragment);
static void addresses_text(struct packet_walk *walk, const char *name);
static void ports_peek(struct packet_walk *walk, uint8_t ip_protocol);
static void fragment_text(struct packet_walk *walk, const struct fragment *fragment);

void packet_ipv4(struct packet_walk *walk)
{
	const uint8_t *ip = walk_take(walk, IPV4_SIZE, "ip");
	struct fragment fragment;
	uint32_t header_len;
	uint32_t total_len;

	if (ip == NULL)
		return;
	header_len = (uint32_t)(ip[0] & 15) * 4;
	total_len = walk_u16(ip + 2);
	if (ip[0] >> 4 != 4 || header_len < IPV4_SIZE ||
		(total_len != 0 && total_len < header_len)) {
		walk_bad(walk, "ip");
		return;
	}
	/* 0: a segmentation offload left it to the NIC; the frame's length is all there is. */
	if (total_len != 0)
		walk_bound(walk, total_len - IPV4_SIZE);
	walk->flow->ip_version = 4;
	walk->flow->ip_protocol = ip[9];
	memcpy(walk->flow->src_ip, ip + 12, 4);
	memcpy(walk->flow->dst_ip, ip + 16, 4);
	if (walk_take(walk, header_len - IPV4_SIZE, "ip") == NULL)
		return;
	fragment = (struct fragment){
		.id = walk_u16(ip + 4),
		.offset = (walk_u16(ip + 6) & 0x1fffU) * 8,
		.more = (ip[6] & 0x20) != 0,
	};
	fragment.any = fragment.more || fragment.offset != 0;
	ipv4_payload(walk, &fragment, ip[9]);
}

void packet_ipv6(struct packet_walk *walk)
{
	const uint8_t *ip = walk_take(walk, IPV6_SIZE, "ip6");
	struct fragment fragment = {0};
	uint8_t ip_protocol;

	if (ip == NULL)
		return;
	if (ip[0] >> 4 != 6) {
		walk_bad(walk, "ip6");
		return;
	}
	/* 0: a jumbogram, or a segmentation offload. */
	if (walk_u16(ip + 4) != 0)
		walk_bound(walk, walk_u16(ip + 4));
	walk->flow->ip_version = 6;
	walk->flow->ip_protocol = ip_protocol = ip[6];
	memcpy(walk->flow->src_ip, ip + 8, 16);
	memcpy(walk->flow->dst_ip, ip + 24, 16);
	if (!extensions_read(walk, &ip_protocol, &fragment))
		return;
	ports_peek(walk, fragment.offset == 0 ? ip_protocol : PROTOCOL_NONE);
	addresses_text(walk, "IP6");
	if (fragment.any)
		fragment_text(walk, &fragment);
	else
		packet_transport(walk, ip_protocol);
}

static void ipv4_payload(
	struct packet_walk *walk, const struct fragment *fragment, uint8_t ip_protocol)
{
	packet_protocol_print(ip_protocol, walk->flow->protocol);
	if (fragment->offset == 0)
		ports_peek(walk, ip_protocol);
	addresses_text(walk, "IP");
	if (fragment->any)
		fragment_text(walk, fragment);
	else
		packet_transport(walk, ip_protocol);
}

/* Up to the header that is no extension. False: the captured bytes end before. */
static bool extensions_read(
	struct packet_walk *walk, uint8_t *ip_protocol, struct fragment *fragment)
{
	for (unsigned n = 0; n < EXTENSIONS_MAX; n++) {
		walk->flow->ip_protocol = *ip_protocol;
		packet_protocol_print(*ip_protocol, walk->flow->protocol);
		switch (*ip_protocol) {
		case PROTOCOL_HOP_BY_HOP:
		case PROTOCOL_ROUTING:
		case PROTOCOL_FRAGMENT:
		case PROTOCOL_AH:
		case PROTOCOL_DESTINATION:
		case PROTOCOL_MOBILITY:
			if (fragment->offset != 0)
				return true;
			if (!extension_read(walk, ip_protocol, fragment))
				return false;
			break;
		default:
			return true;
		}
	}
	walk_bad(walk, "ip6 extension");
	return false;
}

static bool extension_read(
	struct packet_walk *walk, uint8_t *ip_protocol, struct fragment *fragment)
{
	const uint8_t kind = *ip_protocol;
	const uint8_t *extension = walk_take(walk, EXTENSION_SIZE, "ip6 extension");
	uint32_t len;

	if (extension == NULL)
		return false;
	*ip_protocol = extension[0];
	if (kind == PROTOCOL_FRAGMENT) {
		fragment->offset = walk_u16(extension + 2) & 0xfff8U;
		fragment->more = (extension[3] & 1) != 0;
		fragment->any = fragment->more || fragment->offset != 0;
		fragment->id = walk_u32(extension + 4);
		return true;
	}
	/* Units of 8 bytes beyond the first 8; AH counts in 4, from 8 too. */
	len = kind == PROTOCOL_AH ? (extension[1] + 2U) * 4 : (extension[1] + 1U) * 8;
	if (len < EXTENSION_SIZE) {
		walk_bad(walk, "ip6 extension");
		return false;
	}
	return walk_take(walk, len - EXTENSION_SIZE, "ip6 extension") != NULL;
}

/* "IP A.port > B.port: ", as tcpdump -n has it. */
static void addresses_text(struct packet_walk *walk, const char *name)
{
	const struct packet_flow *flow = walk->flow;
	char src[PACKET_IP_MAX];
	char dst[PACKET_IP_MAX];

	packet_ip_print(flow->ip_version, flow->src_ip, src);
	packet_ip_print(flow->ip_version, flow->dst_ip, dst);
	if (flow->has_ports)
		walk_text(
			walk, "%s %s.%u > %s.%u: ", name, src, flow->src_port, dst, flow->dst_port);
	else
		walk_text(walk, "%s %s > %s: ", name, src, dst);
}

/* The three protocols begin alike; the header itself is read later. */
static void ports_peek(struct packet_walk *walk, uint8_t ip_protocol)
{
	struct packet_flow *flow = walk->flow;

	if (walk->left < 4 || (ip_protocol != 6 && ip_protocol != 17 && ip_protocol != 132))
		return;
	flow->has_ports = true;
	flow->src_port = walk_u16(walk->at);
	flow->dst_port = walk_u16(walk->at + 2);
}

static void fragment_text(struct packet_walk *walk, const struct fragment *fragment)
{
	walk_text(walk, "%s fragment (id %u, offset %u%s), length %u", walk->flow->protocol,
		fragment->id, fragment->offset, fragment->more ? "+" : "", walk->len);
}
