/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Inside packet*.c only: the walk over a frame's headers. Each step reads one header, says what it
 * saw and sets the step that reads the next; the walk ends when none is set. Any thread.
 */
#ifndef CONTROL_PACKET_WALK_H
#define CONTROL_PACKET_WALK_H

#include "control/packet.h"

struct packet_walk {
	const uint8_t *at; /* not read yet */
	uint32_t left;     /* captured bytes at at */
	uint32_t len;      /* bytes on the wire from at, by the headers read so far; >= left */
	void (*step)(struct packet_walk *walk); /* reads the next header */
	unsigned n_tunnels;

	unsigned n_steps;
	const uint8_t *frame;
	struct packet_layers *layers; /* NULL: nobody wants them */

	struct packet_summary *summary;
	struct packet_flow *flow; /* what is being filled in: outer, inner or deeper */
	struct packet_flow deeper;
	uint32_t text_len;
};

/* Read all headers. */
void walk_run(struct packet_walk *walk, const struct packet_frame *frame);
/* packet_layers.c: the walk took len bytes at its place, of the header name. */
void walk_layer(struct packet_walk *walk, uint32_t len, const char *name);
/* The next len bytes, which the walk moves past; NULL (and "[|name]" in the text) when not there. */
const uint8_t *walk_take(struct packet_walk *walk, uint32_t len, const char *name);
/* Bytes behind the next len ones belong to no header of this stack (Ethernet's padding). */
void walk_bound(struct packet_walk *walk, uint32_t len);
/* A header that cannot be true ends the walk. */
void walk_bad(struct packet_walk *walk, const char *name);
/* Append to the line of text; what does not fit is cut. */
void walk_text(struct packet_walk *walk, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* From here on headers belong to what a tunnel carries. False: too many of them, the walk ends. */
bool walk_tunnel(struct packet_walk *walk, const char *name, uint32_t vni);
void walk_protocol(struct packet_walk *walk, const char *name);

static inline uint16_t walk_u16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline uint32_t walk_u24(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 16 | walk_u16(bytes + 1);
}

static inline uint32_t walk_u32(const uint8_t *bytes)
{
	return (uint32_t)walk_u16(bytes) << 16 | walk_u16(bytes + 2);
}

/* packet_link.c: Ethernet, tags, ARP, MPLS. */
void packet_ethernet(struct packet_walk *walk);
void packet_ether_type(struct packet_walk *walk, uint16_t type);

/* packet_ip.c */
void packet_ipv4(struct packet_walk *walk);
void packet_ipv6(struct packet_walk *walk);

/* packet_transport.c: what stands on IP; the header's text follows "A > B: ". */
void packet_transport(struct packet_walk *walk, uint8_t ip_protocol);

/* packet_tunnel.c */
void packet_gre(struct packet_walk *walk);
void packet_vxlan(struct packet_walk *walk);
void packet_geneve(struct packet_walk *walk);

#endif
