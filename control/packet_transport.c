/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * TCP, UDP, SCTP, ICMP and ICMPv6, in tcpdump's words. Part of the packet decoder; any thread.
 */
#include <stddef.h>

#include "control/packet_walk.h"

enum {
	TCP_SIZE = 20,
	UDP_SIZE = 8,
	SCTP_SIZE = 12,
	ICMP_SIZE = 4,
	UDP_PORT_VXLAN = 4789,
	UDP_PORT_GENEVE = 6081,
	UDP_PORT_GRE = 4754, /* RFC 8086 */
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_ACK = 16,
	TCP_URG = 32,
};

static void tcp_read(struct packet_walk *walk);
static void tcp_flags_text(struct packet_walk *walk, uint8_t flags);
static void tcp_options_text(struct packet_walk *walk, const uint8_t *options, uint32_t len);
static uint32_t tcp_option_text(struct packet_walk *walk, const uint8_t *option, uint32_t len);
static void udp_read(struct packet_walk *walk);
static void sctp_read(struct packet_walk *walk);
static void icmp_read(struct packet_walk *walk);
static void icmp_unreachable_text(struct packet_walk *walk, uint8_t code);
static void icmp6_read(struct packet_walk *walk);
static void echo_text(struct packet_walk *walk);
static void icmp6_target_text(struct packet_walk *walk, const char *what);
static void inner_ipv4(struct packet_walk *walk);
static void inner_ipv6(struct packet_walk *walk);
static void none_read(struct packet_walk *walk);

static const struct {
	uint8_t ip_protocol;
	void (*step)(struct packet_walk *walk);
} transports[] = {
	{1, icmp_read},
	{4, inner_ipv4},
	{6, tcp_read},
	{17, udp_read},
	{41, inner_ipv6},
	{47, packet_gre},
	{58, icmp6_read},
	{59, none_read},
	{132, sctp_read},
};

void packet_transport(struct packet_walk *walk, uint8_t ip_protocol)
{
	for (unsigned i = 0; i < sizeof(transports) / sizeof(transports[0]); i++) {
		if (transports[i].ip_protocol == ip_protocol) {
			walk->step = transports[i].step;
			return;
		}
	}
	walk_text(walk, "%s, length %u", walk->flow->protocol, walk->len);
}

static void tcp_read(struct packet_walk *walk)
{
	const uint8_t *tcp = walk_take(walk, TCP_SIZE, "tcp");
	const uint8_t *options;
	uint32_t header_len;
	uint32_t length;

	if (tcp == NULL)
		return;
	header_len = (uint32_t)(tcp[12] >> 4) * 4;
	if (header_len < TCP_SIZE || header_len - TCP_SIZE > walk->len) {
		walk_bad(walk, "tcp");
		return;
	}
	tcp_flags_text(walk, tcp[13]);
	length = walk->len - (header_len - TCP_SIZE);
	if (length != 0 || (tcp[13] & (TCP_SYN | TCP_FIN | TCP_RST)) != 0)
		walk_text(walk, ", seq %u", walk_u32(tcp + 4));
	if (length != 0)
		walk_text(walk, ":%u", walk_u32(tcp + 4) + length);
	if ((tcp[13] & TCP_ACK) != 0)
		walk_text(walk, ", ack %u", walk_u32(tcp + 8));
	walk_text(walk, ", win %u", walk_u16(tcp + 14));
	if ((tcp[13] & TCP_URG) != 0)
		walk_text(walk, ", urg %u", walk_u16(tcp + 18));
	options = walk_take(walk, header_len - TCP_SIZE, "tcp");
	if (options == NULL)
		return;
	tcp_options_text(walk, options, header_len - TCP_SIZE);
	walk_text(walk, ", length %u", length);
}

static void tcp_flags_text(struct packet_walk *walk, uint8_t flags)
{
	static const char letters[] = "FSRP.UEW";

	walk_text(walk, "Flags [");
	for (unsigned bit = 0; bit < 8; bit++)
		if ((flags >> bit & 1) != 0)
			walk_text(walk, "%c", letters[bit]);
	walk_text(walk, flags == 0 ? "none]" : "]");
}

static void tcp_options_text(struct packet_walk *walk, const uint8_t *options, uint32_t len)
{
	uint32_t n;

	if (len == 0)
		return;
	walk_text(walk, ", options [");
	for (uint32_t i = 0; i < len; i += n) {
		n = tcp_option_text(walk, options + i, len - i);
		if (n == 0)
			break;
		if (i + n < len)
			walk_text(walk, ",");
	}
	walk_text(walk, "]");
}

/* Returns the option's length, or 0 when it is the last. */
static uint32_t tcp_option_text(struct packet_walk *walk, const uint8_t *option, uint32_t len)
{
	const uint8_t kind = option[0];

	if (kind == 0 || kind == 1) {
		walk_text(walk, kind == 0 ? "eol" : "nop");
		return kind;
	}
	if (len < 2 || option[1] < 2 || option[1] > len) {
		walk_text(walk, "[bad opt]");
		return 0;
	}
	if (kind == 2 && option[1] == 4) {
		walk_text(walk, "mss %u", walk_u16(option + 2));
	} else if (kind == 3 && option[1] == 3) {
		walk_text(walk, "wscale %u", option[2]);
	} else if (kind == 4 && option[1] == 2) {
		walk_text(walk, "sackOK");
	} else if (kind == 5 && (option[1] - 2) % 8 == 0) {
		walk_text(walk, "sack %u ", (option[1] - 2) / 8);
		for (const uint8_t *edge = option + 2; edge < option + option[1]; edge += 8)
			walk_text(walk, "{%u:%u}", walk_u32(edge), walk_u32(edge + 4));
	} else if (kind == 8 && option[1] == 10) {
		walk_text(walk, "TS val %u ecr %u", walk_u32(option + 2), walk_u32(option + 6));
	} else {
		walk_text(walk, "unknown-%u", kind);
	}
	return option[1];
}

static void udp_read(struct packet_walk *walk)
{
	const uint8_t *udp = walk_take(walk, UDP_SIZE, "udp");

	if (udp == NULL)
		return;
	/* 0: longer than 65535, or left to an offload. */
	if (walk_u16(udp + 4) >= UDP_SIZE)
		walk_bound(walk, walk_u16(udp + 4) - UDP_SIZE);
	switch (walk_u16(udp + 2)) {
	case UDP_PORT_VXLAN:
		walk->step = packet_vxlan;
		break;
	case UDP_PORT_GENEVE:
		walk->step = packet_geneve;
		break;
	case UDP_PORT_GRE:
		walk->step = packet_gre;
		break;
	default:
		walk_text(walk, "UDP, length %u", walk->len);
	}
}

static void sctp_read(struct packet_walk *walk)
{
	static const char *const chunks[] = {"DATA", "INIT", "INIT ACK", "SACK", "HB REQ", "HB ACK",
		"ABORT", "SHUTDOWN", "SHUTDOWN ACK", "OP ERR", "COOKIE ECHO", "COOKIE ACK",
		"ECN ECHO", "CWR", "SHUTDOWN COMPLETE"};
	const uint32_t length = walk->len;

	if (walk_take(walk, SCTP_SIZE, "sctp") == NULL)
		return;
	walk_text(walk, "sctp");
	while (walk->left >= 4) {
		const uint32_t len = walk_u16(walk->at + 2);
		const uint8_t kind = walk->at[0];

		if (kind < sizeof(chunks) / sizeof(chunks[0]))
			walk_text(walk, " [%s]", chunks[kind]);
		else
			walk_text(walk, " [chunk %u]", kind);
		if (len < 4)
			break;
		walk_take(walk, ((len + 3) & ~3U) < walk->left ? (len + 3) & ~3U : walk->left, "");
	}
	walk_text(walk, ", length %u", length);
}

static void icmp_read(struct packet_walk *walk)
{
	const uint32_t length = walk->len;
	const uint8_t *icmp = walk_take(walk, ICMP_SIZE, "icmp");

	if (icmp == NULL)
		return;
	walk_text(walk, "ICMP ");
	switch (icmp[0]) {
	case 0:
	case 8:
		walk_text(walk, icmp[0] == 8 ? "echo request" : "echo reply");
		echo_text(walk);
		break;
	case 3:
		icmp_unreachable_text(walk, icmp[1]);
		break;
	case 5:
		walk_text(walk, "redirect");
		break;
	case 11:
		walk_text(walk,
			icmp[1] == 0 ? "time exceeded in-transit" : "ip reassembly time exceeded");
		break;
	default:
		walk_text(walk, "type-%u, code %u", icmp[0], icmp[1]);
	}
	walk_text(walk, ", length %u", length);
}

/* The packet that could not be delivered follows: whom it was for says what was not reached. */
static void icmp_unreachable_text(struct packet_walk *walk, uint8_t code)
{
	const uint8_t *ip = walk_take(walk, 4 + 20, "icmp");
	char dst[PACKET_IP_MAX];

	if (ip == NULL)
		return;
	packet_ip_print(4, ip + 4 + 16, dst);
	if (code == 3 && walk->left >= 4 && (ip[4] & 15) == 5)
		walk_text(walk, "%s %s port %u unreachable", dst, ip[4 + 9] == 17 ? "udp" : "tcp",
			walk_u16(walk->at + 2));
	else if (code < 2)
		walk_text(walk, "%s %s unreachable", code == 0 ? "net" : "host", dst);
	else
		walk_text(walk, "%s unreachable, code %u", dst, code);
}

static void icmp6_read(struct packet_walk *walk)
{
	const uint32_t length = walk->len;
	const uint8_t *icmp = walk_take(walk, ICMP_SIZE, "icmp6");

	if (icmp == NULL)
		return;
	walk_text(walk, "ICMP6, ");
	switch (icmp[0]) {
	case 1:
		walk_text(walk, "destination unreachable, code %u", icmp[1]);
		break;
	case 2:
		walk_text(walk, "packet too big");
		break;
	case 3:
		walk_text(walk, "time exceeded");
		break;
	case 128:
	case 129:
		walk_text(walk, icmp[0] == 128 ? "echo request" : "echo reply");
		echo_text(walk);
		break;
	case 133:
		walk_text(walk, "router solicitation");
		break;
	case 134:
		walk_text(walk, "router advertisement");
		break;
	case 135:
		icmp6_target_text(walk, "neighbor solicitation, who has");
		break;
	case 136:
		icmp6_target_text(walk, "neighbor advertisement, tgt is");
		break;
	case 143:
		walk_text(walk, "multicast listener report v2");
		break;
	default:
		walk_text(walk, "type-%u, code %u", icmp[0], icmp[1]);
	}
	walk_text(walk, ", length %u", length);
}

static void echo_text(struct packet_walk *walk)
{
	const uint8_t *echo = walk_take(walk, 4, "icmp");

	if (echo != NULL)
		walk_text(walk, ", id %u, seq %u", walk_u16(echo), walk_u16(echo + 2));
}

static void icmp6_target_text(struct packet_walk *walk, const char *what)
{
	const uint8_t *target = walk_take(walk, 4 + 16, "icmp6");
	char text[PACKET_IP_MAX];

	if (target == NULL)
		return;
	packet_ip_print(6, target + 4, text);
	walk_text(walk, "%s %s", what, text);
}

static void inner_ipv4(struct packet_walk *walk)
{
	if (walk_tunnel(walk, "IP-in-IP", 0))
		packet_ether_type(walk, 0x0800);
}

static void inner_ipv6(struct packet_walk *walk)
{
	if (walk_tunnel(walk, "IP-in-IP", 0))
		packet_ether_type(walk, 0x86dd);
}

static void none_read(struct packet_walk *walk)
{
	walk_text(walk, "no next header");
}
