/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Ethernet II and 802.3, 802.1Q and 802.1ad tags, ARP, MPLS. Part of the packet decoder; any
 * thread.
 */
#include <stdio.h>
#include <string.h>

#include "control/packet_walk.h"

enum {
	ETHERNET_SIZE = 14,
	TAG_SIZE = 4, /* of which the type in front of it was read already: 2 + 2 */
	ARP_SIZE = 8,
	ARP_IPV4_SIZE = 20, /* the four addresses */
	MPLS_SIZE = 4,
	MPLS_CONTROL_WORD_SIZE = 4,
	ETHER_TYPE_MIN = 0x0600, /* less is an 802.3 length */
};

static void tag_read(struct packet_walk *walk);
static void arp_read(struct packet_walk *walk);
static void arp_operation(struct packet_walk *walk, const uint8_t *arp);
static void mpls_read(struct packet_walk *walk);
static void mpls_payload(struct packet_walk *walk);
static void control_word_read(struct packet_walk *walk);
static void llc_text(struct packet_walk *walk, uint16_t length);

static const struct {
	uint16_t type;
	const char *protocol;
	void (*step)(struct packet_walk *walk); /* NULL: named, not read */
} types[] = {
	{0x0800, "IPv4", packet_ipv4},
	{0x86dd, "IPv6", packet_ipv6},
	{0x0806, "ARP", arp_read},
	{0x8100, "VLAN", tag_read},
	{0x88a8, "VLAN", tag_read},
	{0x9100, "VLAN", tag_read},
	{0x8847, "MPLS", mpls_read},
	{0x8848, "MPLS", mpls_read},
	{0x6558, "Ethernet", packet_ethernet},
	{0x8035, "RARP", NULL},
	{0x8809, "LACP", NULL},
	{0x8863, "PPPoE-D", NULL},
	{0x8864, "PPPoE", NULL},
	{0x888e, "EAPOL", NULL},
	{0x88cc, "LLDP", NULL},
	{0x88e5, "MACsec", NULL},
	{0x88f7, "PTP", NULL},
	{0x9000, "Loopback", NULL},
};

void packet_ethernet(struct packet_walk *walk)
{
	const uint8_t *ethernet = walk_take(walk, ETHERNET_SIZE, "ether");

	if (ethernet == NULL)
		return;
	walk->flow->has_mac = true;
	memcpy(walk->flow->dst_mac, ethernet, 6);
	memcpy(walk->flow->src_mac, ethernet + 6, 6);
	packet_ether_type(walk, walk_u16(ethernet + 12));
}

void packet_ether_type(struct packet_walk *walk, uint16_t type)
{
	if (type < ETHER_TYPE_MIN) {
		llc_text(walk, type);
		return;
	}
	walk->flow->ether_type = type;
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (types[i].type != type)
			continue;
		walk_protocol(walk, types[i].protocol);
		walk->step = types[i].step;
		if (walk->step == NULL)
			walk_text(walk, "%s, length %u", types[i].protocol, walk->len);
		return;
	}
	snprintf(walk->flow->protocol, sizeof(walk->flow->protocol), "0x%04x", type);
	walk_text(walk, "ethertype Unknown (0x%04x), length %u", type, walk->len);
}

void packet_ether_type_print(uint16_t type, char text[PACKET_ETHER_TYPE_MAX])
{
	if (type < ETHER_TYPE_MIN) {
		snprintf(text, PACKET_ETHER_TYPE_MAX, "802.3, %u bytes", type);
		return;
	}
	snprintf(text, PACKET_ETHER_TYPE_MAX, "0x%04x", type);
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].type == type)
			snprintf(text, PACKET_ETHER_TYPE_MAX, "%s (0x%04x)", types[i].protocol,
				type);
}

static void tag_read(struct packet_walk *walk)
{
	struct packet_flow *flow = walk->flow;
	const uint8_t *tag = walk_take(walk, TAG_SIZE, "vlan");
	uint16_t control;

	if (tag == NULL)
		return;
	control = walk_u16(tag);
	if (flow->n_vlans < PACKET_VLANS_MAX)
		flow->vlans[flow->n_vlans++] = control & 0xfff;
	walk_text(walk, "vlan %u, p %u, ", control & 0xfff, control >> 13);
	packet_ether_type(walk, walk_u16(tag + 2));
}

static void arp_read(struct packet_walk *walk)
{
	const uint32_t length = walk->len;
	const uint8_t *arp = walk_take(walk, ARP_SIZE, "arp");

	if (arp == NULL)
		return;
	if (walk_u16(arp) == 1 && walk_u16(arp + 2) == 0x0800 && arp[4] == 6 && arp[5] == 4)
		arp_operation(walk, arp);
	else
		walk_text(walk, "ARP, Unknown Hardware (%u) protocol 0x%04x", walk_u16(arp),
			walk_u16(arp + 2));
	walk_text(walk, ", length %u", length);
}

/* Ethernet and IPv4: sender's MAC and IP, target's MAC and IP. */
static void arp_operation(struct packet_walk *walk, const uint8_t *arp)
{
	const uint8_t *addresses = walk_take(walk, ARP_IPV4_SIZE, "arp");
	char mac[PACKET_MAC_MAX];
	char sender[PACKET_IP_MAX];
	char target[PACKET_IP_MAX];

	if (addresses == NULL)
		return;
	packet_mac_print(addresses, mac);
	packet_ip_print(4, addresses + 6, sender);
	packet_ip_print(4, addresses + 16, target);
	switch (walk_u16(arp + 6)) {
	case 1:
		walk_text(walk, "ARP, Request who-has %s tell %s", target, sender);
		break;
	case 2:
		walk_text(walk, "ARP, Reply %s is-at %s", sender, mac);
		break;
	default:
		walk_text(walk, "ARP, operation %u", walk_u16(arp + 6));
	}
}

static void mpls_read(struct packet_walk *walk)
{
	const uint8_t *entry = walk_take(walk, MPLS_SIZE, "mpls");
	bool bottom;

	if (entry == NULL)
		return;
	bottom = (entry[2] & 1) != 0;
	walk_text(walk, "MPLS (label %u, tc %u%s, ttl %u) ", walk_u24(entry) >> 4,
		entry[2] >> 1 & 7, bottom ? ", [S]" : "", entry[3]);
	walk->step = bottom ? mpls_payload : mpls_read;
}

/* Labels do not say what they carry: the first four bits do, as everybody guesses. */
static void mpls_payload(struct packet_walk *walk)
{
	if (walk->left == 0)
		return;
	switch (walk->at[0] >> 4) {
	case 4:
		walk->step = packet_ipv4;
		break;
	case 6:
		walk->step = packet_ipv6;
		break;
	case 0:
		walk->step = control_word_read;
		break;
	default:
		walk_text(walk, "length %u", walk->len);
	}
}

/* RFC 4448: a control word, then the Ethernet frame of a pseudowire. */
static void control_word_read(struct packet_walk *walk)
{
	if (walk_take(walk, MPLS_CONTROL_WORD_SIZE, "pw") == NULL)
		return;
	if (walk_tunnel(walk, "MPLS", 0))
		walk->step = packet_ethernet;
}

static void llc_text(struct packet_walk *walk, uint16_t length)
{
	walk_bound(walk, length);
	walk_protocol(walk, "LLC");
	walk_text(walk, "802.3");
	if (walk->left >= 2 && walk->at[0] == 0x42 && walk->at[1] == 0x42) {
		walk_protocol(walk, "STP");
		walk_text(walk, ", STP");
	} else if (walk->left >= 2) {
		walk_text(walk, ", LLC, dsap 0x%02x, ssap 0x%02x", walk->at[0], walk->at[1]);
	}
	walk_text(walk, ", length %u", length);
}
