/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The walk itself, and the text of addresses and protocols. Any thread.
 */
#include "control/packet.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/packet_walk.h"

#define HEADERS_MAX 64 /* a frame of nothing but tags is no reason to spend a millisecond */
#define TUNNELS_MAX 4

void packet_summarize(const struct packet_frame *frame, struct packet_summary *summary)
{
	struct packet_walk walk = {.summary = summary};

	walk_run(&walk, frame);
}

void packet_protocol_print(uint8_t ip_protocol, char text[PACKET_PROTOCOL_MAX])
{
	static const char *const names[256] = {
		[0] = "HOPOPT",
		[1] = "ICMP",
		[2] = "IGMP",
		[4] = "IPIP",
		[6] = "TCP",
		[8] = "EGP",
		[17] = "UDP",
		[33] = "DCCP",
		[41] = "IPv6",
		[46] = "RSVP",
		[47] = "GRE",
		[50] = "ESP",
		[51] = "AH",
		[58] = "ICMPv6",
		[88] = "EIGRP",
		[89] = "OSPF",
		[97] = "ETHERIP",
		[103] = "PIM",
		[108] = "IPCOMP",
		[112] = "VRRP",
		[115] = "L2TP",
		[132] = "SCTP",
		[136] = "UDPLITE",
		[137] = "MPLS",
	};

	if (names[ip_protocol] != NULL)
		snprintf(text, PACKET_PROTOCOL_MAX, "%s", names[ip_protocol]);
	else
		snprintf(text, PACKET_PROTOCOL_MAX, "IP-%u", ip_protocol);
}

void packet_ip_print(uint8_t ip_version, const uint8_t ip[16], char text[PACKET_IP_MAX])
{
	if (ip_version == 0 ||
		inet_ntop(ip_version == 4 ? AF_INET : AF_INET6, ip, text, PACKET_IP_MAX) == NULL)
		text[0] = '\0';
}

void packet_mac_print(const uint8_t mac[6], char text[PACKET_MAC_MAX])
{
	snprintf(text, PACKET_MAC_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		mac[3], mac[4], mac[5]);
}

void walk_run(struct packet_walk *walk, const struct packet_frame *frame)
{
	struct packet_summary *summary = walk->summary;

	memset(summary, 0, sizeof(*summary));
	summary->number = frame->number;
	summary->time_ns = frame->time_ns;
	summary->cap_len = frame->cap_len;
	summary->orig_len = frame->orig_len;
	walk->frame = frame->data;
	walk->at = frame->data;
	walk->left = frame->cap_len;
	walk->len = frame->orig_len > frame->cap_len ? frame->orig_len : frame->cap_len;
	walk->flow = &summary->outer;
	walk->step = packet_ethernet;
	for (; walk->step != NULL && walk->n_steps < HEADERS_MAX; walk->n_steps++) {
		void (*const step)(struct packet_walk *) = walk->step;

		walk->step = NULL;
		step(walk);
	}
}

const uint8_t *walk_take(struct packet_walk *walk, uint32_t len, const char *name)
{
	const uint8_t *bytes = walk->at;

	if (len > walk->left) {
		walk_bad(walk, name);
		return NULL;
	}
	if (walk->layers != NULL)
		walk_layer(walk, len, name);
	walk->at += len;
	walk->left -= len;
	walk->len -= len;
	return bytes;
}

void walk_bound(struct packet_walk *walk, uint32_t len)
{
	if (len < walk->len)
		walk->len = len;
	if (len < walk->left)
		walk->left = len;
}

void walk_bad(struct packet_walk *walk, const char *name)
{
	walk->summary->truncated = true;
	walk->step = NULL;
	walk_text(walk, "[|%s]", name);
}

void walk_text(struct packet_walk *walk, const char *format, ...)
{
	const uint32_t room = PACKET_INFO_MAX - walk->text_len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(walk->summary->info + walk->text_len, room, format, args);
	va_end(args);
	if (n > 0)
		walk->text_len += (uint32_t)n < room ? (uint32_t)n : room - 1;
}

bool walk_tunnel(struct packet_walk *walk, const char *name, uint32_t vni)
{
	struct packet_summary *summary = walk->summary;

	if (walk->flow == &summary->outer) {
		summary->tunnel = name;
		summary->vni = vni;
		walk->flow = &summary->inner;
		return true;
	}
	walk->flow = &walk->deeper;
	memset(walk->flow, 0, sizeof(*walk->flow));
	if (++walk->n_tunnels < TUNNELS_MAX)
		return true;
	walk_bad(walk, "tunnels");
	return false;
}

void walk_protocol(struct packet_walk *walk, const char *name)
{
	snprintf(walk->flow->protocol, sizeof(walk->flow->protocol), "%s", name);
}
