/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What filters that name addresses and ports look at, in 16 bytes: a packet has a key, and a filter
 * has terms that say what the key of a packet must be like for the filter to accept it. Every term
 * is necessary; an exact one is sufficient, too, for packets that are whole. Where it is not, who
 * finds a packet by its key asks the filter itself before he believes it.
 */
#ifndef ENGINE_FILTER_KEY_H
#define ENGINE_FILTER_KEY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "engine/filter.h"

#define FILTER_TERMS_MAX 64 /* of one filter; one that would need more has none */

enum filter_kind {
	FILTER_KIND_OTHER, /* no term is about these */
	FILTER_KIND_IPV4,
	FILTER_KIND_IPV6,
	FILTER_KIND_ARP,
	FILTER_KIND_RARP,
	FILTER_KIND_TAGGED = 8, /* added to one of the above: behind one VLAN tag */
	FILTER_KINDS = 16,
};

/* Addresses and ports in network order, as they stand in the packet; IPv6 addresses folded. */
struct filter_key {
	union {
		struct {
			uint32_t src, dst;
			uint16_t sport, dport;
			uint8_t proto;
			uint8_t kind;     /* enum filter_kind */
			uint8_t fragment; /* IPv4: not the first of its datagram */
			uint8_t shape;    /* 0; the classifier's own */
		};
		uint64_t word[2];
	};
};

/*
 * The key of a packet that the filter accepts has these values at these bits. A key holds IPv6
 * addresses folded: where its mask covers one, the packet's must be compared as well.
 */
struct filter_term {
	struct filter_key value, mask;
	uint8_t src6[16], dst6[16];
	/*
	 * The filter accepts every whole packet of which that is true. Whole: in one piece the packet
	 * has the FILTER_WHOLE_MIN first bytes, for IPv4 also its header and four bytes behind it, for
	 * IPv6 its first header and four bytes behind it.
	 */
	bool exact;
};

/* Packet offsets behind the Ethernet header and its tag. */
#define FILTER_ETHERTYPE     12
#define FILTER_TAG           4
#define FILTER_NETWORK       14
#define FILTER_IPV4_PROTO    9
#define FILTER_IPV4_SRC      12
#define FILTER_IPV4_DST      16
#define FILTER_IPV6_NEXT     6
#define FILTER_IPV6_SRC      8
#define FILTER_IPV6_DST      24
#define FILTER_IPV6_PORTS    40
#define FILTER_ARP_SRC       14
#define FILTER_ARP_DST       24
#define FILTER_IPV4_FRAGMENT 6
#define FILTER_WHOLE_MIN     46 /* Ethernet, a tag, ARP */

static inline enum filter_kind filter_key_kind(uint16_t ethertype)
{
	switch (ethertype) {
	case 0x0800:
		return FILTER_KIND_IPV4;
	case 0x86dd:
		return FILTER_KIND_IPV6;
	case 0x0806:
		return FILTER_KIND_ARP;
	case 0x8035:
		return FILTER_KIND_RARP;
	}
	return FILTER_KIND_OTHER;
}

static inline int filter_key_is_tag(uint16_t ethertype)
{
	return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100;
}

static inline bool filter_key_is_ipv6(const struct filter_key *key)
{
	return (key->kind & ~FILTER_KIND_TAGGED) == FILTER_KIND_IPV6;
}

/* 16 bytes of an IPv6 address, as they stand in the packet, in four. */
static inline uint32_t filter_key_fold(const void *address)
{
	uint64_t half[2];

	memcpy(half, address, sizeof(half));
	half[0] = half[0] * UINT64_C(0x9e3779b97f4a7c15) ^ half[1] * UINT64_C(0xc2b2ae3d27d4eb4f);
	return (uint32_t)(half[0] >> 32);
}

/*
 * Control thread. The filter's terms: every packet that it accepts fulfils one of them at least.
 * *n = 0 when that can't be said of this filter in terms that name an address or a port.
 */
const struct filter_term *filter_terms(const struct filter *filter, unsigned *n);

#endif
