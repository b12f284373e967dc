/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/packet_layers.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "control/packet_walk.h"

enum kind {
	KIND_NUMBER,
	KIND_HEX,
	KIND_WORDS,  /* a number of units of 4 bytes, shown in bytes */
	KIND_BLOCKS, /* the same of 8 bytes */
	KIND_MAC,
	KIND_IPV4,
	KIND_IPV6,
	KIND_ETHER_TYPE,
	KIND_PROTOCOL,
	KIND_TCP_FLAGS,
	KIND_IP_FLAGS,
};

struct packet_field {
	const char *name;
	uint16_t bit; /* from the header's begin */
	uint16_t bits;
	enum kind kind;
};

static const struct packet_field ethernet_fields[] = {
	{"Destination", 0, 48, KIND_MAC},
	{"Source", 48, 48, KIND_MAC},
	{"Type", 96, 16, KIND_ETHER_TYPE},
};
static const struct packet_field vlan_fields[] = {
	{"Priority", 0, 3, KIND_NUMBER},
	{"Drop eligible", 3, 1, KIND_NUMBER},
	{"VLAN", 4, 12, KIND_NUMBER},
	{"Type", 16, 16, KIND_ETHER_TYPE},
};
static const struct packet_field mpls_fields[] = {
	{"Label", 0, 20, KIND_NUMBER},
	{"Traffic class", 20, 3, KIND_NUMBER},
	{"Bottom of stack", 23, 1, KIND_NUMBER},
	{"TTL", 24, 8, KIND_NUMBER},
};
static const struct packet_field arp_fields[] = {
	{"Hardware type", 0, 16, KIND_NUMBER},
	{"Protocol type", 16, 16, KIND_ETHER_TYPE},
	{"Hardware size", 32, 8, KIND_NUMBER},
	{"Protocol size", 40, 8, KIND_NUMBER},
	{"Operation", 48, 16, KIND_NUMBER},
	{"Sender MAC", 64, 48, KIND_MAC},
	{"Sender IP", 112, 32, KIND_IPV4},
	{"Target MAC", 144, 48, KIND_MAC},
	{"Target IP", 192, 32, KIND_IPV4},
};
static const struct packet_field ipv4_fields[] = {
	{"Version", 0, 4, KIND_NUMBER},
	{"Header length", 4, 4, KIND_WORDS},
	{"DSCP", 8, 6, KIND_NUMBER},
	{"ECN", 14, 2, KIND_NUMBER},
	{"Total length", 16, 16, KIND_NUMBER},
	{"Identification", 32, 16, KIND_HEX},
	{"Flags", 48, 3, KIND_IP_FLAGS},
	{"Fragment offset", 51, 13, KIND_BLOCKS},
	{"TTL", 64, 8, KIND_NUMBER},
	{"Protocol", 72, 8, KIND_PROTOCOL},
	{"Header checksum", 80, 16, KIND_HEX},
	{"Source", 96, 32, KIND_IPV4},
	{"Destination", 128, 32, KIND_IPV4},
};
static const struct packet_field ipv6_fields[] = {
	{"Version", 0, 4, KIND_NUMBER},
	{"Traffic class", 4, 8, KIND_HEX},
	{"Flow label", 12, 20, KIND_HEX},
	{"Payload length", 32, 16, KIND_NUMBER},
	{"Next header", 48, 8, KIND_PROTOCOL},
	{"Hop limit", 56, 8, KIND_NUMBER},
	{"Source", 64, 128, KIND_IPV6},
	{"Destination", 192, 128, KIND_IPV6},
};
static const struct packet_field extension_fields[] = {
	{"Next header", 0, 8, KIND_PROTOCOL},
};
static const struct packet_field tcp_fields[] = {
	{"Source port", 0, 16, KIND_NUMBER},
	{"Destination port", 16, 16, KIND_NUMBER},
	{"Sequence number", 32, 32, KIND_NUMBER},
	{"Acknowledgment", 64, 32, KIND_NUMBER},
	{"Header length", 96, 4, KIND_WORDS},
	{"Flags", 104, 8, KIND_TCP_FLAGS},
	{"Window", 112, 16, KIND_NUMBER},
	{"Checksum", 128, 16, KIND_HEX},
	{"Urgent pointer", 144, 16, KIND_NUMBER},
};
static const struct packet_field udp_fields[] = {
	{"Source port", 0, 16, KIND_NUMBER},
	{"Destination port", 16, 16, KIND_NUMBER},
	{"Length", 32, 16, KIND_NUMBER},
	{"Checksum", 48, 16, KIND_HEX},
};
static const struct packet_field sctp_fields[] = {
	{"Source port", 0, 16, KIND_NUMBER},
	{"Destination port", 16, 16, KIND_NUMBER},
	{"Verification tag", 32, 32, KIND_HEX},
	{"Checksum", 64, 32, KIND_HEX},
};
static const struct packet_field icmp_fields[] = {
	{"Type", 0, 8, KIND_NUMBER},
	{"Code", 8, 8, KIND_NUMBER},
	{"Checksum", 16, 16, KIND_HEX},
};
static const struct packet_field gre_fields[] = {
	{"Flags", 0, 13, KIND_HEX},
	{"Version", 13, 3, KIND_NUMBER},
	{"Protocol", 16, 16, KIND_ETHER_TYPE},
};
static const struct packet_field vxlan_fields[] = {
	{"Flags", 0, 8, KIND_HEX},
	{"VNI", 32, 24, KIND_NUMBER},
};
static const struct packet_field geneve_fields[] = {
	{"Version", 0, 2, KIND_NUMBER},
	{"Options length", 2, 6, KIND_WORDS},
	{"Flags", 8, 8, KIND_HEX},
	{"Protocol", 16, 16, KIND_ETHER_TYPE},
	{"VNI", 32, 24, KIND_NUMBER},
};

#define FIELDS(table) sizeof(table) / sizeof((table)[0]), table

/* By the names that the steps of the walk give to walk_take. */
static const struct {
	const char *key;
	const char *name;
	unsigned n_fields;
	const struct packet_field *fields;
} headers[] = {
	{"ether", "Ethernet", FIELDS(ethernet_fields)},
	{"vlan", "VLAN tag", FIELDS(vlan_fields)},
	{"mpls", "MPLS", FIELDS(mpls_fields)},
	{"pw", "Pseudowire control word", 0, NULL},
	{"arp", "ARP", FIELDS(arp_fields)},
	{"ip", "IPv4", FIELDS(ipv4_fields)},
	{"ip6", "IPv6", FIELDS(ipv6_fields)},
	{"ip6 extension", "IPv6 extension", FIELDS(extension_fields)},
	{"tcp", "TCP", FIELDS(tcp_fields)},
	{"udp", "UDP", FIELDS(udp_fields)},
	{"sctp", "SCTP", FIELDS(sctp_fields)},
	{"icmp", "ICMP", FIELDS(icmp_fields)},
	{"icmp6", "ICMPv6", FIELDS(icmp_fields)},
	{"gre", "GRE", FIELDS(gre_fields)},
	{"erspan", "ERSPAN", 0, NULL},
	{"vxlan", "VXLAN", FIELDS(vxlan_fields)},
	{"geneve", "Geneve", FIELDS(geneve_fields)},
};

static void rest_add(struct packet_layers *layers, const char *name, uint32_t offset, uint32_t len);
static uint64_t bits_read(const uint8_t *bytes, uint32_t bit, uint32_t bits);
static void flags_print(uint64_t flags, const char *const names[], unsigned n, char *text);

void packet_layers(const struct packet_frame *frame, struct packet_layers *layers)
{
	struct packet_summary summary;
	struct packet_walk walk = {.summary = &summary, .layers = layers};
	uint32_t read;

	layers->n = 0;
	walk_run(&walk, frame);
	read = layers->n > 0
		       ? layers->layer[layers->n - 1].offset + layers->layer[layers->n - 1].len
		       : 0;
	/* What a header's length leaves out was put behind it by Ethernet. */
	rest_add(layers, "Payload", read, (uint32_t)(walk.at - walk.frame) + walk.left - read);
	read = (uint32_t)(walk.at - walk.frame) + walk.left;
	rest_add(layers, "Padding", read, frame->cap_len - read);
}

/* What one step takes is one header, but for the extensions behind IPv6's own. */
void walk_layer(struct packet_walk *walk, uint32_t len, const char *name)
{
	struct packet_layers *layers = walk->layers;
	struct packet_layer *last = layers->n > 0 ? &layers->layer[layers->n - 1] : NULL;

	if (last != NULL && last->step == walk->n_steps &&
		(strcmp(name, "ip6 extension") != 0 || strcmp(last->key, name) == 0)) {
		last->len += len;
		return;
	}
	/* Two places stay for what is behind the headers. */
	if (len == 0 || layers->n >= PACKET_LAYERS_MAX - 2)
		return;
	for (unsigned i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		if (strcmp(headers[i].key, name) != 0)
			continue;
		layers->layer[layers->n++] = (struct packet_layer){
			.key = headers[i].key,
			.name = headers[i].name,
			.offset = (uint32_t)(walk->at - walk->frame),
			.len = len,
			.step = walk->n_steps,
			.n_fields = headers[i].n_fields,
			.fields = headers[i].fields,
		};
		return;
	}
}

static void rest_add(struct packet_layers *layers, const char *name, uint32_t offset, uint32_t len)
{
	if (len > 0)
		layers->layer[layers->n++] = (struct packet_layer){
			.key = "", .name = name, .offset = offset, .len = len};
}

void packet_field(const struct packet_frame *frame, const struct packet_layer *layer, unsigned i,
	struct packet_field_value *value)
{
	static const char *const tcp_flags[] = {
		"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"};
	static const char *const ip_flags[] = {"more fragments", "do not fragment", "reserved"};
	const struct packet_field *field = &layer->fields[i];
	const uint8_t *bytes = (const uint8_t *)frame->data + layer->offset;
	const uint8_t *at = bytes + field->bit / 8;
	const uint32_t end = (field->bit + field->bits + 7U) / 8;
	char *text = value->text;
	uint64_t number;

	value->name = field->name;
	value->offset = layer->offset + field->bit / 8;
	value->len = end - field->bit / 8;
	if (end > layer->len) { /* ARP of other addresses is shorter */
		value->len = 0;
		snprintf(text, PACKET_FIELD_MAX, "(not there)");
		return;
	}
	number = field->bits <= 64 ? bits_read(bytes, field->bit, field->bits) : 0;
	switch (field->kind) {
	case KIND_NUMBER:
		snprintf(text, PACKET_FIELD_MAX, "%llu", (unsigned long long)number);
		break;
	case KIND_HEX:
		snprintf(text, PACKET_FIELD_MAX, "0x%0*llx", (field->bits + 3) / 4,
			(unsigned long long)number);
		break;
	case KIND_WORDS:
	case KIND_BLOCKS:
		snprintf(text, PACKET_FIELD_MAX, "%llu bytes",
			(unsigned long long)number * (field->kind == KIND_WORDS ? 4 : 8));
		break;
	case KIND_MAC:
		packet_mac_print(at, text);
		break;
	case KIND_IPV4:
		packet_ip_print(4, at, text);
		break;
	case KIND_IPV6:
		packet_ip_print(6, at, text);
		break;
	case KIND_ETHER_TYPE:
		packet_ether_type_print((uint16_t)number, text);
		break;
	case KIND_PROTOCOL:
		packet_protocol_print((uint8_t)number, text);
		snprintf(text + strlen(text), PACKET_FIELD_MAX - strlen(text), " (%u)",
			(unsigned)number);
		break;
	case KIND_TCP_FLAGS:
		flags_print(number, tcp_flags, 8, text);
		break;
	case KIND_IP_FLAGS:
		flags_print(number, ip_flags, 3, text);
		break;
	}
}

static uint64_t bits_read(const uint8_t *bytes, uint32_t bit, uint32_t bits)
{
	uint64_t number = 0;

	for (uint32_t i = bit; i < bit + bits; i++)
		number = number << 1 | (bytes[i / 8] >> (7 - i % 8) & 1);
	return number;
}

/* names from the lowest bit up. */
static void flags_print(uint64_t flags, const char *const names[], unsigned n, char *text)
{
	size_t len = (size_t)snprintf(text, PACKET_FIELD_MAX, "%s", flags == 0 ? "none" : "");

	for (unsigned bit = 0; bit < n; bit++)
		if ((flags >> bit & 1) != 0)
			len += (size_t)snprintf(text + len, PACKET_FIELD_MAX - len, "%s%s",
				len > 0 ? ", " : "", names[bit]);
}
