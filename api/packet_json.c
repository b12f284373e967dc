/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Nothing here needs escaping: names and the info line are printable ASCII without quotes or
 * backslashes, which the decoder's tests hold it to.
 */
#include "api/packet_json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "control/packet_layers.h"
#include "api/rfc3339.h"

struct out {
	char *text;
	size_t size;
	size_t len;
	bool full;
};

static void put(struct out *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void flow_put(struct out *out, const struct packet_flow *flow);
static void tunnel_put(struct out *out, const struct packet_summary *summary);
static void layer_put(struct out *out, const struct packet_frame *frame,
	const struct packet_layer *layer, bool comma);

size_t packet_json_print(
	const struct packet_summary *summary, const char *more, char *text, size_t size)
{
	struct out out = {.text = text, .size = size};
	char time[RFC3339_SIZE];

	rfc3339_print(summary->time_ns, 9, time);
	put(&out, "{\"number\":%" PRIu64 ",\"time\":\"%s\",", summary->number, time);
	flow_put(&out, &summary->outer);
	put(&out, ",\"length\":%" PRIu32 ",\"captured_length\":%" PRIu32, summary->orig_len,
		summary->cap_len);
	tunnel_put(&out, summary);
	put(&out, ",\"info\":\"%s\"%s%s}", summary->info, more != NULL ? "," : "",
		more != NULL ? more : "");
	return out.full ? 0 : out.len;
}

size_t packet_layers_print(const struct packet_frame *frame, char *text, size_t size)
{
	struct out out = {.text = text, .size = size};
	struct packet_layers layers;

	packet_layers(frame, &layers);
	put(&out, "\"layers\":[");
	for (unsigned i = 0; i < layers.n; i++)
		layer_put(&out, frame, &layers.layer[i], i > 0);
	put(&out, "]");
	return out.full ? 0 : out.len;
}

static void layer_put(struct out *out, const struct packet_frame *frame,
	const struct packet_layer *layer, bool comma)
{
	struct packet_field_value value;

	put(out, "%s{\"name\":\"%s\",\"offset\":%" PRIu32 ",\"length\":%" PRIu32 ",\"fields\":[",
		comma ? "," : "", layer->name, layer->offset, layer->len);
	for (unsigned i = 0; i < layer->n_fields; i++) {
		packet_field(frame, layer, i, &value);
		put(out,
			"%s{\"name\":\"%s\",\"value\":\"%s\",\"offset\":%" PRIu32
			",\"length\":%" PRIu32 "}",
			i > 0 ? "," : "", value.name, value.text, value.offset, value.len);
	}
	put(out, "]}");
}

static void put(struct out *out, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(out->text + out->len, out->size - out->len, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= out->size - out->len)
		out->full = true;
	else
		out->len += n;
}

static void flow_put(struct out *out, const struct packet_flow *flow)
{
	char src_mac[PACKET_MAC_MAX], dst_mac[PACKET_MAC_MAX];
	char src_ip[PACKET_IP_MAX], dst_ip[PACKET_IP_MAX];

	packet_mac_print(flow->src_mac, src_mac);
	packet_mac_print(flow->dst_mac, dst_mac);
	packet_ip_print(flow->ip_version, flow->src_ip, src_ip);
	packet_ip_print(flow->ip_version, flow->dst_ip, dst_ip);
	if (flow->has_mac)
		put(out, "\"src_mac\":\"%s\",\"dst_mac\":\"%s\"", src_mac, dst_mac);
	else
		put(out, "\"src_mac\":null,\"dst_mac\":null");
	put(out, ",\"vlans\":[");
	for (unsigned i = 0; i < flow->n_vlans; i++)
		put(out, "%s%u", i > 0 ? "," : "", flow->vlans[i]);
	if (flow->ip_version != 0)
		put(out, "],\"src_ip\":\"%s\",\"dst_ip\":\"%s\"", src_ip, dst_ip);
	else
		put(out, "],\"src_ip\":null,\"dst_ip\":null");
	if (flow->has_ports)
		put(out, ",\"src_port\":%u,\"dst_port\":%u", flow->src_port, flow->dst_port);
	else
		put(out, ",\"src_port\":null,\"dst_port\":null");
	put(out, ",\"protocol\":\"%s\"", flow->protocol);
}

static void tunnel_put(struct out *out, const struct packet_summary *summary)
{
	if (summary->tunnel == NULL) {
		put(out, ",\"tunnel\":null");
		return;
	}
	put(out, ",\"tunnel\":{\"type\":\"%s\",\"vni\":%" PRIu32 ",", summary->tunnel,
		summary->vni);
	flow_put(out, &summary->inner);
	put(out, "}");
}
