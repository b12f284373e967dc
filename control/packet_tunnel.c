/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * GRE (RFC 2784, 2890; over UDP: RFC 8086), VXLAN (RFC 7348) and Geneve (RFC 8926): what they carry
 * goes on as the inner flow. Part of the packet decoder; any thread.
 */
#include <stddef.h>

#include "control/packet_walk.h"

enum {
	GRE_SIZE = 4,
	GRE_CHECKSUM = 0x8000,
	GRE_KEY = 0x2000,
	GRE_SEQUENCE = 0x1000,
	GRE_VERSION = 7,
	VXLAN_SIZE = 8,
	GENEVE_SIZE = 8,
	TYPE_ERSPAN = 0x88be,
	ERSPAN_SIZE = 8,
};

static void carry(struct packet_walk *walk, const char *name, uint32_t vni, uint16_t ether_type);

void packet_gre(struct packet_walk *walk)
{
	const uint32_t length = walk->len;
	const uint8_t *gre = walk_take(walk, GRE_SIZE, "gre");
	uint32_t key = 0;
	uint16_t flags;
	const uint8_t *field;

	if (gre == NULL)
		return;
	flags = walk_u16(gre);
	walk_text(walk, "GREv%u", flags & GRE_VERSION);
	if ((flags & GRE_VERSION) != 0) {
		walk_text(walk, ", length %u", length);
		return;
	}
	if ((flags & GRE_CHECKSUM) != 0 && walk_take(walk, 4, "gre") == NULL)
		return;
	if ((flags & GRE_KEY) != 0) {
		field = walk_take(walk, 4, "gre");
		if (field == NULL)
			return;
		key = walk_u32(field);
		walk_text(walk, ", key=0x%x", key);
	}
	if ((flags & GRE_SEQUENCE) != 0) {
		field = walk_take(walk, 4, "gre");
		if (field == NULL)
			return;
		walk_text(walk, ", seq %u", walk_u32(field));
	}
	walk_text(walk, ", length %u: ", length);
	/* ERSPAN type I has neither a sequence number nor a header of its own. */
	if (walk_u16(gre + 2) == TYPE_ERSPAN) {
		if ((flags & GRE_SEQUENCE) != 0 && walk_take(walk, ERSPAN_SIZE, "erspan") == NULL)
			return;
		carry(walk, "ERSPAN", key, 0x6558);
		return;
	}
	carry(walk, "GRE", key, walk_u16(gre + 2));
}

void packet_vxlan(struct packet_walk *walk)
{
	const uint8_t *vxlan = walk_take(walk, VXLAN_SIZE, "vxlan");

	if (vxlan == NULL)
		return;
	walk_text(walk, "VXLAN, flags [%s] (0x%02x), vni %u: ", (vxlan[0] & 8) != 0 ? "I" : ".",
		vxlan[0], walk_u24(vxlan + 4));
	carry(walk, "VXLAN", walk_u24(vxlan + 4), 0x6558);
}

void packet_geneve(struct packet_walk *walk)
{
	static const char *const flags[] = {"none", "C", "O", "OC"};
	const uint8_t *geneve = walk_take(walk, GENEVE_SIZE, "geneve");

	if (geneve == NULL)
		return;
	if (geneve[0] >> 6 != 0) {
		walk_text(walk, "Geneve, version %u, length %u", geneve[0] >> 6, walk->len);
		return;
	}
	walk_text(walk, "Geneve, Flags [%s], vni 0x%x: ", flags[geneve[1] >> 6],
		walk_u24(geneve + 4));
	if (walk_take(walk, (geneve[0] & 0x3fU) * 4, "geneve") == NULL)
		return;
	carry(walk, "Geneve", walk_u24(geneve + 4), walk_u16(geneve + 2));
}

static void carry(struct packet_walk *walk, const char *name, uint32_t vni, uint16_t ether_type)
{
	if (walk_tunnel(walk, name, vni))
		packet_ether_type(walk, ether_type);
}
