/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Made-up frames for tests: the same seed gives the same frames. Ethernet with tags, MPLS, PPPoE,
 * LLC, ARP, IPv4 with options and fragments, IPv6 with extension headers, TCP, UDP (Geneve, VXLAN),
 * ICMP and the rarer protocols; addresses and ports from small sets, so that filters find some and
 * not all; one in twelve cut short anywhere, one in twenty nothing but noise.
 */
#ifndef TESTS_UNIT_FRAMES_H
#define TESTS_UNIT_FRAMES_H

#include <stdint.h>
#include <string.h>

#define FRAME_MAX 9018

struct frame {
	uint32_t len;
	uint8_t data[FRAME_MAX];
};

struct frames_rng {
	uint64_t state;
};

#define COUNT(array)     (sizeof(array) / sizeof((array)[0]))
#define PICK(rng, array) ((array)[frames_below(rng, COUNT(array))])

static inline uint32_t frames_random(struct frames_rng *rng)
{
	/* xorshift64*, which never gets to 0 from a state that is not 0 */
	rng->state ^= rng->state >> 12;
	rng->state ^= rng->state << 25;
	rng->state ^= rng->state >> 27;
	return (uint32_t)((rng->state * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}

static inline uint32_t frames_below(struct frames_rng *rng, uint32_t n)
{
	return (uint32_t)(((uint64_t)frames_random(rng) * n) >> 32);
}

static inline void put(struct frame *f, const void *data, uint32_t len)
{
	if (f->len + len > FRAME_MAX)
		len = FRAME_MAX - f->len;
	memcpy(f->data + f->len, data, len);
	f->len += len;
}

static inline void put8(struct frame *f, uint32_t v)
{
	put(f, (uint8_t[]){(uint8_t)v}, 1);
}

static inline void put16(struct frame *f, uint32_t v)
{
	put(f, (uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static inline void put32(struct frame *f, uint32_t v)
{
	put16(f, v >> 16);
	put16(f, v & 0xffff);
}

static inline void put_noise(struct frame *f, struct frames_rng *rng, uint32_t len)
{
	while (len-- > 0)
		put8(f, frames_random(rng));
}

static inline void put_payload(struct frame *f, struct frames_rng *rng)
{
	static const char *const openings[] = {"GET / HTTP/1.1\r\n", "POST /x HTTP/1.1\r\n",
		"SSH-2.0-x", "\x16\x03\x01\x02", "\x12\x34\x81\x80", ""};
	const char *opening = PICK(rng, openings);
	uint32_t kind = frames_below(rng, 40);

	put(f, opening, (uint32_t)strlen(opening));
	if (kind == 0)
		put_noise(f, rng, 7000 + frames_below(rng, 1800));
	else if (kind < 6)
		put_noise(f, rng, 600 + frames_below(rng, 850));
	else
		put_noise(f, rng, frames_below(rng, 90));
}

static inline void put_mac(struct frame *f, struct frames_rng *rng)
{
	static const uint8_t macs[][6] = {
		{0x00, 0x11, 0x22, 0x33, 0x44, 0x55},
		{0x00, 0x11, 0x22, 0x33, 0x44, 0x66},
		{0x02, 0x00, 0x00, 0x00, 0x00, 0x01},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{0x01, 0x00, 0x5e, 0x00, 0x00, 0x05},
		{0x33, 0x33, 0x00, 0x00, 0x00, 0x01},
		{0x01, 0x80, 0xc2, 0x00, 0x00, 0x00},
	};

	put(f, PICK(rng, macs), 6);
}

static inline void put_port(struct frame *f, struct frames_rng *rng)
{
	static const uint16_t ports[] = {
		20, 22, 25, 53, 80, 123, 443, 1024, 4789, 6081, 8080, 50000};

	put16(f, frames_below(rng, 20) == 0 ? frames_random(rng) : PICK(rng, ports));
}

static inline void put_ethernet(struct frame *f, struct frames_rng *rng, int depth);
static inline void put_ipv4(struct frame *f, struct frames_rng *rng, int depth);
static inline void put_ipv6(struct frame *f, struct frames_rng *rng, int depth);

static inline void put_tcp(struct frame *f, struct frames_rng *rng)
{
	static const uint8_t flags[] = {0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x29, 0xc2, 0x00};
	uint32_t words = frames_below(rng, 3) == 0 ? 5 + frames_below(rng, 11) : 5;

	put_port(f, rng);
	put_port(f, rng);
	put32(f, frames_random(rng));
	put32(f, frames_random(rng));
	put8(f, words << 4);
	put8(f, PICK(rng, flags));
	put16(f, frames_below(rng, 3) * 512);
	put32(f, 0);
	put_noise(f, rng, (words - 5) * 4);
	put_payload(f, rng);
}

static inline void put_geneve(struct frame *f, struct frames_rng *rng, int depth)
{
	uint32_t words = frames_below(rng, 3);

	put8(f, words);
	put8(f, 0);
	put16(f, 0x6558);
	put32(f, (1 + frames_below(rng, 3)) << 8);
	put_noise(f, rng, words * 4);
	put_ethernet(f, rng, depth + 1);
}

static inline void put_udp(struct frame *f, struct frames_rng *rng, int depth)
{
	uint32_t tunnel = frames_below(rng, 6);

	put_port(f, rng);
	if (tunnel == 0)
		put16(f, 6081);
	else if (tunnel == 1)
		put16(f, 4789);
	else
		put_port(f, rng);
	put16(f, 8 + frames_below(rng, 100));
	put16(f, 0);
	if (tunnel == 0) {
		put_geneve(f, rng, depth);
	} else if (tunnel == 1) {
		put32(f, 0x08000000);
		put32(f, (1 + frames_below(rng, 3)) << 8);
		put_ethernet(f, rng, depth + 1);
	} else {
		put_payload(f, rng);
	}
}

static inline void put_icmp(struct frame *f, struct frames_rng *rng)
{
	static const uint8_t types[] = {0, 3, 3, 4, 5, 8, 8, 11, 12, 13, 17, 30};

	put8(f, PICK(rng, types));
	put8(f, frames_below(rng, 5));
	put_noise(f, rng, 6);
	put_payload(f, rng);
}

static inline void put_icmp6(struct frame *f, struct frames_rng *rng)
{
	static const uint8_t types[] = {1, 2, 3, 128, 129, 133, 134, 135, 136, 143};

	put8(f, PICK(rng, types));
	put8(f, frames_below(rng, 2));
	put_noise(f, rng, 6);
	put_payload(f, rng);
}

/* What an IP header announced as proto. */
static inline void put_transport(struct frame *f, struct frames_rng *rng, uint8_t proto, int depth)
{
	switch (proto) {
	case 1:
		put_icmp(f, rng);
		break;
	case 4:
		put_ipv4(f, rng, depth + 1);
		break;
	case 6:
		put_tcp(f, rng);
		break;
	case 17:
		put_udp(f, rng, depth);
		break;
	case 41:
		put_ipv6(f, rng, depth + 1);
		break;
	case 47:
		put16(f, 0);
		put16(f, 0x0800);
		put_ipv4(f, rng, depth + 1);
		break;
	case 58:
		put_icmp6(f, rng);
		break;
	case 132:
		put_port(f, rng);
		put_port(f, rng);
		put_noise(f, rng, 8);
		put_payload(f, rng);
		break;
	default:
		put_payload(f, rng);
	}
}

/* The authentication header and IPv6's extension headers, which name the next; its name at the end.
 */
static inline uint8_t put_extensions(struct frame *f, struct frames_rng *rng, uint32_t next_at,
	const uint8_t *allowed, uint32_t n_allowed)
{
	static const uint8_t last[] = {6, 6, 6, 17, 17, 17, 58, 58, 132, 50, 59, 103, 112};
	uint32_t n = frames_below(rng, 4);
	uint8_t proto;

	if (frames_below(rng, 2) == 0)
		n = 0;
	while (n-- > 0) {
		uint32_t words = frames_below(rng, 3);

		proto = allowed[frames_below(rng, n_allowed)];
		f->data[next_at] = proto;
		next_at = f->len < FRAME_MAX ? f->len : FRAME_MAX - 1;
		put8(f, 0);
		if (proto == 44) {
			put8(f, 0);
			put16(f, frames_below(rng, 2) == 0 ? 0x0001 : frames_random(rng));
			put32(f, frames_random(rng));
		} else if (proto == 51) {
			put8(f, words * 2 + 1);
			put_noise(f, rng, (words * 2 + 3) * 4 - 2);
		} else {
			put8(f, words);
			put_noise(f, rng, words * 8 + 6);
		}
	}
	proto = PICK(rng, last);
	f->data[next_at] = proto;
	return proto;
}

static inline void put_ipv4_address(struct frame *f, struct frames_rng *rng)
{
	static const uint32_t addresses[] = {0x0a000001, 0x0a000002, 0x0a000103, 0xc0a80101,
		0xc0a80114, 0xac100105, 0xe0000005, 0xefffffff, 0xffffffff, 0x00000000, 0x08080808};

	put32(f, frames_below(rng, 20) == 0 ? frames_random(rng) : PICK(rng, addresses));
}

static inline void put_ipv4(struct frame *f, struct frames_rng *rng, int depth)
{
	static const uint8_t protos[] = {
		6, 6, 6, 6, 17, 17, 17, 1, 1, 2, 4, 9, 41, 47, 50, 51, 88, 89, 103, 112, 132, 253};
	static const uint8_t ah[] = {51};
	static const uint8_t ttls[] = {1, 2, 63, 64, 128, 255};
	static const uint16_t fragments[] = {0x2000, 0x2010, 0x0010, 0x1fff, 0x8000};
	uint32_t words = frames_below(rng, 4) == 0 ? 5 + frames_below(rng, 11) : 5;
	uint8_t proto = PICK(rng, protos);
	uint32_t proto_at;

	if (depth > 3)
		proto = 6;
	put8(f, 0x40 | (frames_below(rng, 60) == 0 ? frames_below(rng, 16) : words));
	put8(f, frames_below(rng, 3) * 0x2e);
	put16(f, 20 + frames_below(rng, 1480));
	put16(f, frames_random(rng));
	put16(f, frames_below(rng, 8) == 0 ? PICK(rng, fragments) : 0x4000 * frames_below(rng, 2));
	put8(f, PICK(rng, ttls));
	proto_at = f->len < FRAME_MAX ? f->len : FRAME_MAX - 1;
	put8(f, proto);
	put16(f, frames_random(rng));
	put_ipv4_address(f, rng);
	put_ipv4_address(f, rng);
	put_noise(f, rng, (words - 5) * 4);
	if (proto == 51)
		proto = put_extensions(f, rng, proto_at, ah, 1);
	put_transport(f, rng, proto, depth);
}

static inline void put_ipv6_address(struct frame *f, struct frames_rng *rng)
{
	static const uint8_t addresses[][16] = {
		{0x20, 0x01, 0x0d, 0xb8, [15] = 1},
		{0x20, 0x01, 0x0d, 0xb8, [15] = 2},
		{0x20, 0x01, 0x0d, 0xb8, 0, 1, [15] = 1},
		{0xfe, 0x80, [8] = 2, [15] = 1},
		{0xff, 0x02, [15] = 1},
		{[15] = 1},
		{[0] = 0},
	};

	if (frames_below(rng, 20) == 0)
		put_noise(f, rng, 16);
	else
		put(f, PICK(rng, addresses), 16);
}

static inline void put_ipv6(struct frame *f, struct frames_rng *rng, int depth)
{
	static const uint8_t extensions[] = {0, 43, 44, 51, 60};
	uint32_t next_at;
	uint8_t proto;

	put32(f, 0x60000000 | (frames_random(rng) & 0x0ff0000f));
	put16(f, frames_below(rng, 1400));
	next_at = f->len < FRAME_MAX ? f->len : FRAME_MAX - 1;
	put8(f, 59);
	put8(f, frames_below(rng, 3) * 64 + 1);
	put_ipv6_address(f, rng);
	put_ipv6_address(f, rng);
	proto = put_extensions(f, rng, next_at, extensions, COUNT(extensions));
	put_transport(f, rng, depth > 3 ? 6 : proto, depth);
}

static inline void put_arp(struct frame *f, struct frames_rng *rng)
{
	put32(f, 0x00010800);
	put16(f, 0x0604);
	put16(f, 1 + frames_below(rng, 2));
	put_mac(f, rng);
	put_ipv4_address(f, rng);
	put_mac(f, rng);
	put_ipv4_address(f, rng);
	put_noise(f, rng, frames_below(rng, 20));
}

static inline void put_mpls(struct frame *f, struct frames_rng *rng, int depth)
{
	static const uint32_t labels[] = {16, 100, 1000, 1024, 100000};
	uint32_t n = 1 + frames_below(rng, 3);

	while (n-- > 0)
		put32(f, PICK(rng, labels) << 12 | (n == 0) << 8 | 64);
	if (frames_below(rng, 4) == 0)
		put_ipv6(f, rng, depth + 1);
	else
		put_ipv4(f, rng, depth + 1);
}

static inline void put_pppoe(struct frame *f, struct frames_rng *rng, int depth)
{
	static const uint16_t sessions[] = {1, 7, 39, 1024};

	put16(f, 0x1100);
	put16(f, PICK(rng, sessions));
	put16(f, frames_below(rng, 1400));
	if (frames_below(rng, 4) == 0) {
		put16(f, 0x0057);
		put_ipv6(f, rng, depth + 1);
	} else {
		put16(f, 0x0021);
		put_ipv4(f, rng, depth + 1);
	}
}

/* A length instead of a type: 802.3 with LLC. */
static inline void put_llc(struct frame *f, struct frames_rng *rng)
{
	static const uint8_t saps[][3] = {{0x42, 0x42, 0x03}, {0xe0, 0xe0, 0x03},
		{0xf0, 0xf0, 0x03}, {0xfe, 0xfe, 0x03}, {0xaa, 0xaa, 0x03}, {0xff, 0xff, 0x00},
		{0x42, 0x42, 0xe3}, {0xf0, 0xf1, 0x01}};
	const uint8_t *sap = PICK(rng, saps);

	put16(f, 3 + frames_below(rng, 80));
	put(f, sap, 3);
	if (sap[0] == 0xaa) {
		put(f, frames_below(rng, 2) == 0 ? "\x00\x00\x0c" : "\x00\x00\x00", 3);
		put16(f, frames_below(rng, 2) == 0 ? 0x2000 : 0x809b);
	}
	put_noise(f, rng, frames_below(rng, 90));
}

static inline void put_tags(struct frame *f, struct frames_rng *rng)
{
	static const uint16_t tpids[] = {0x8100, 0x8100, 0x88a8, 0x9100};
	static const uint16_t vids[] = {0, 1, 5, 10, 100, 200, 4095};
	uint32_t n = frames_below(rng, 3) == 0 ? 1 + frames_below(rng, 3) : 0;

	while (n-- > 0) {
		put16(f, PICK(rng, tpids));
		put16(f, frames_below(rng, 8) << 13 | PICK(rng, vids));
	}
}

static inline void put_other_type(struct frame *f, struct frames_rng *rng)
{
	static const uint16_t types[] = {0x0842, 0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x8035,
		0x8038, 0x809b, 0x80f3, 0x8863, 0x88cc, 0x9000, 0x8137};

	put16(f, frames_below(rng, 5) == 0 ? frames_random(rng) : PICK(rng, types));
	put_noise(f, rng, frames_below(rng, 100));
}

static inline void put_ethernet(struct frame *f, struct frames_rng *rng, int depth)
{
	uint32_t kind = frames_below(rng, 32);

	put_mac(f, rng);
	put_mac(f, rng);
	put_tags(f, rng);
	if (kind < 13 || depth > 3) {
		put16(f, 0x0800);
		put_ipv4(f, rng, depth);
	} else if (kind < 21) {
		put16(f, 0x86dd);
		put_ipv6(f, rng, depth);
	} else if (kind < 23) {
		put16(f, 0x0806);
		put_arp(f, rng);
	} else if (kind < 26) {
		put16(f, kind == 23 ? 0x8848 : 0x8847);
		put_mpls(f, rng, depth);
	} else if (kind < 28) {
		put16(f, 0x8864);
		put_pppoe(f, rng, depth);
	} else if (kind < 30) {
		put_llc(f, rng);
	} else {
		put_other_type(f, rng);
	}
}

static inline void frame_make(struct frame *f, struct frames_rng *rng)
{
	f->len = 0;
	if (frames_below(rng, 20) == 0) {
		put_noise(f, rng, 1 + frames_below(rng, 200));
		return;
	}
	put_ethernet(f, rng, 0);
	if (frames_below(rng, 12) == 0)
		f->len = 1 + frames_below(rng, f->len < 100 ? f->len : 100);
}

#endif
