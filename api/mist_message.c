/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/mist_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "control/packet.h"
#include "engine/engine.h"
#include "engine/pcapng.h"
#include "engine/port.h"
#include "api/base64.h"
#include "api/mist_json.h"

#define NS_PER_S       1000000000ULL
#define OPTION_FLAGS   2
#define FLAGS_WAY      3U
#define FLAGS_OUTBOUND 2U

/* A pcap file of one packet: file head, record head, the packet. */
struct raw_head {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snaplen, link;
	uint32_t seconds, microseconds, cap_len, orig_len;
};
_Static_assert(sizeof(struct raw_head) == 40, "24 bytes of file, 16 of record");

static const struct mist_source_port nowhere = {.interface = "wired"};

static json_t *dict_make(const struct mist_source *source, const struct mist_packet *packet);
static char *raw_make(const struct mist_packet *packet);

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

/* An edge's id is a UUID that ends with its MAC. */
static void device_print(bool edge, const char *mac, char device[40])
{
	if (edge)
		snprintf(device, 40, "00000000-0000-0000-1000-%s", mac);
	else
		snprintf(device, 40, "%.2s:%.2s:%.2s:%.2s:%.2s:%.2s", mac, mac + 2, mac + 4,
			mac + 6, mac + 8, mac + 10);
}

void mist_source_read(
	const struct session_info *info, const struct config *config, struct mist_source *source)
{
	*source = (struct mist_source){
		.organisation = mist_organisation(info),
		.n_ports = info->n_ports,
	};
	for (unsigned i = 0; i < info->n_ports; i++) {
		struct mist_source_port *port = &source->ports[i];
		char mac[MIST_MAC_SIZE];

		mist_port_mac(config, info->ports[i], mac);
		if (mac[0] != '\0')
			device_print(source->organisation, mac, port->device);
		snprintf(port->interface, sizeof(port->interface), "%s",
			mist_type_is_wired(info) ? "wired" : info->ports[i]);
		for (unsigned k = 0; k < engine_ports(); k++) {
			if (strcmp(engine_port(k)->config->name, info->ports[i]) != 0)
				continue;
			memcpy(port->own, engine_port(k)->mac, sizeof(port->own));
			port->has_own = engine_port(k)->has_mac;
		}
	}
}

uint32_t mist_block_flags(const uint8_t *block, uint32_t len)
{
	struct pcapng_epb_head head;
	uint32_t at, flags;
	uint16_t option[2];

	if (len < PCAPNG_EPB_HEAD + PCAPNG_EPB_TAIL)
		return 0;
	memcpy(&head, block, sizeof(head));
	for (at = PCAPNG_EPB_HEAD + pcapng_pad(head.cap_len);
		at + sizeof(option) + PCAPNG_EPB_TAIL <= len;
		at += sizeof(option) + pcapng_pad(option[1])) {
		memcpy(option, block + at, sizeof(option));
		if (option[0] == PCAPNG_OPT_END)
			break;
		if (option[0] != OPTION_FLAGS || option[1] != sizeof(flags) ||
			at + sizeof(option) + sizeof(flags) > len)
			continue;
		memcpy(&flags, block + at + sizeof(option), sizeof(flags));
		return flags;
	}
	return 0;
}

char *mist_message(const struct mist_source *source, const struct mist_packet *packet)
{
	json_t *dict = dict_make(source, packet);
	char *dict_text = json_print(dict), *raw = raw_make(packet), *text = NULL;

	json_decref(dict);
	if (dict_text != NULL && raw != NULL &&
		asprintf(&text, ",\"pcap_dict\":%s,\"pcap_raw\":\"%s\"}}", dict_text, raw) < 0)
		text = NULL;
	free(dict_text);
	free(raw);
	return text;
}

/* As its port tells, else by who sent it. */
static const char *direction(const struct mist_source_port *port, const struct mist_packet *packet)
{
	if ((packet->flags & FLAGS_WAY) != 0)
		return (packet->flags & FLAGS_WAY) == FLAGS_OUTBOUND ? "tx" : "rx";
	return port->has_own && packet->cap_len >= 12 &&
			       memcmp(packet->data + 6, port->own, sizeof(port->own)) == 0
		       ? "tx"
		       : "rx";
}

static void put_addresses(json_t *dict, const struct packet_flow *flow)
{
	char text[PACKET_IP_MAX];

	_Static_assert(PACKET_IP_MAX >= PACKET_MAC_MAX, "one buffer for both");
	packet_mac_print(flow->src_mac, text);
	put(dict, "src_mac", flow->has_mac ? json_string(text) : json_null());
	packet_mac_print(flow->dst_mac, text);
	put(dict, "dst_mac", flow->has_mac ? json_string(text) : json_null());
	put(dict, "vlan", flow->n_vlans > 0 ? json_integer(flow->vlans[0]) : json_null());
	packet_ip_print(flow->ip_version, flow->src_ip, text);
	put(dict, "src_ip", flow->ip_version != 0 ? json_string(text) : json_null());
	packet_ip_print(flow->ip_version, flow->dst_ip, text);
	put(dict, "dst_ip", flow->ip_version != 0 ? json_string(text) : json_null());
	put(dict, "src_port", flow->has_ports ? json_integer(flow->src_port) : json_null());
	put(dict, "dst_port", flow->has_ports ? json_integer(flow->dst_port) : json_null());
}

/* Every member is always there; what a packet has not is null. */
static json_t *dict_make(const struct mist_source *source, const struct mist_packet *packet)
{
	const struct mist_source_port *port =
		packet->interface < source->n_ports ? &source->ports[packet->interface] : &nowhere;
	char info[PACKET_INFO_MAX + 40];
	struct packet_summary summary;
	json_t *dict = json_object();

	packet_summarize(
		&(struct packet_frame){
			.time_ns = packet->time_ns,
			.data = packet->data,
			.cap_len = packet->cap_len,
			.orig_len = packet->orig_len,
		},
		&summary);
	snprintf(info, sizeof(info), "%llu.%06llu %s\n", packet->time_ns / NS_PER_S,
		packet->time_ns % NS_PER_S / 1000, summary.info);
	put_addresses(dict, &summary.outer);
	put(dict, source->organisation ? "protocol" : "proto", json_text(summary.outer.protocol));
	put(dict, source->organisation ? "mxedge_id" : "ap_mac",
		port->device[0] != '\0' ? json_string(port->device) : json_null());
	put(dict, "direction", json_string(direction(port, packet)));
	put(dict, "timestamp", json_integer((json_int_t)(packet->time_ns / NS_PER_S)));
	put(dict, "length", json_real(packet->orig_len));
	put(dict, "interface", json_text(port->interface));
	put(dict, "info", json_text(info));
	return dict;
}

static char *raw_make(const struct mist_packet *packet)
{
	const struct raw_head head = {
		.magic = 0xa1b2c3d4,
		.major = 2,
		.minor = 4,
		.snaplen = 65535,
		.link = PCAPNG_LINKTYPE_ETHERNET,
		.seconds = (uint32_t)(packet->time_ns / NS_PER_S),
		.microseconds = (uint32_t)(packet->time_ns % NS_PER_S / 1000),
		.cap_len = packet->cap_len,
		.orig_len = packet->orig_len,
	};
	const size_t len = sizeof(head) + packet->cap_len;
	uint8_t *file = malloc(len);
	char *text = malloc(BASE64_LEN(len) + 1);

	if (file == NULL || text == NULL) {
		free(file);
		free(text);
		return NULL;
	}
	memcpy(file, &head, sizeof(head));
	memcpy(file + sizeof(head), packet->data, packet->cap_len);
	base64_print(file, len, text);
	free(file);
	return text;
}
