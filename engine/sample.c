/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/sample.h"

#include <string.h>

#include <rte_mbuf.h>

#define FLOW_VLANS_MAX      4
#define FLOW_EXTENSIONS_MAX 8
#define RATE_DEPTHS_PER_S   10

#define IP_PROTO_TCP  6
#define IP_PROTO_UDP  17
#define IP_PROTO_SCTP 132

/* What a flow is told by, both ends in one order. */
struct flow {
	uint64_t end[2][2]; /* address, zero-extended */
	uint16_t port[2];
	uint32_t protocol;
};

static uint64_t keep_every(uint32_t n, uint64_t *count, uint64_t mask);
static uint64_t keep_random(uint32_t n, struct sample_state *state, uint64_t mask);
static uint64_t keep_flow(uint32_t n, const struct burst *burst, uint64_t mask);
static void flow_read(const struct rte_mbuf *pkt, struct flow *flow);
static void flow_read_ip4(const struct rte_mbuf *pkt, uint32_t at, struct flow *flow);
static void flow_read_ip6(const struct rte_mbuf *pkt, uint32_t at, struct flow *flow);
static void flow_read_ports(const struct rte_mbuf *pkt, uint32_t at, struct flow *flow);
static uint64_t mix(uint64_t x);

void sample_init(struct sample_state *state, uint64_t seed)
{
	state->random = mix(seed) | 1;
}

uint64_t sample_burst(enum sample_mode mode, uint32_t n, struct sample_state *state,
	uint64_t *count, const struct burst *burst, uint64_t mask)
{
	switch (mode) {
	case SAMPLE_EVERY:
		return keep_every(n, count, mask);
	case SAMPLE_RANDOM:
		return keep_random(n, state, mask);
	case SAMPLE_FLOW:
		return keep_flow(n, burst, mask);
	case SAMPLE_NONE:
		break;
	}
	return mask;
}

void sample_rate_init(struct sample_rate *rate, uint64_t pps, uint64_t tsc_hz, uint64_t now_tsc)
{
	rate->per_tsc = (double)pps / (double)tsc_hz;
	rate->depth = pps / RATE_DEPTHS_PER_S != 0 ? pps / RATE_DEPTHS_PER_S : 1;
	rate->start_tsc = now_tsc;
	rate->taken = 0;
}

uint64_t sample_rate_take(struct sample_rate *rate, uint64_t now_tsc, uint64_t mask)
{
	/* Another lcore's clock may have been read a little before the start. */
	const uint64_t passed_tsc = now_tsc > rate->start_tsc ? now_tsc - rate->start_tsc : 0;
	const uint64_t due = rate->depth + (uint64_t)((double)passed_tsc * rate->per_tsc);
	const uint64_t n_new = __builtin_popcountll(mask);
	uint64_t taken = __atomic_load_n(&rate->taken, __ATOMIC_RELAXED);
	uint64_t from, n, kept = 0;

	do {
		/* What a quiet time left unused beyond the depth is gone. */
		from = due > taken + rate->depth ? due - rate->depth : taken;
		n = due > from ? due - from : 0;
		if (n == 0)
			return 0;
		if (n > n_new)
			n = n_new;
	} while (!__atomic_compare_exchange_n(
		&rate->taken, &taken, from + n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	for (; n != 0; n--) {
		kept |= mask & -mask;
		mask &= mask - 1;
	}
	return kept;
}

uint64_t sample_flow_hash(const struct rte_mbuf *pkt)
{
	struct flow flow = {0};
	uint64_t a, b;

	flow_read(pkt, &flow);
	a = mix(flow.end[0][0] ^ mix(flow.end[0][1] + flow.port[0]));
	b = mix(flow.end[1][0] ^ mix(flow.end[1][1] + flow.port[1]));
	/* The sum does not know which end spoke. */
	return mix((a + b) ^ flow.protocol);
}

static uint64_t keep_every(uint32_t n, uint64_t *count, uint64_t mask)
{
	unsigned n_new = __builtin_popcountll(mask);
	uint64_t kept = 0;
	uint64_t skip;

	if (n_new == 0)
		return 0;
	/* The first packet of all is kept, then every Nth after it. */
	skip = __atomic_fetch_add(count, n_new, __ATOMIC_RELAXED) % n;
	skip = skip == 0 ? 0 : n - skip;
	for (; mask != 0; mask &= mask - 1) {
		if (skip-- == 0) {
			kept |= mask & -mask;
			skip = n - 1;
		}
	}
	return kept;
}

static uint64_t keep_random(uint32_t n, struct sample_state *state, uint64_t mask)
{
	const uint64_t bound = (1ULL << 32) / n;
	uint64_t kept = 0;
	uint64_t x = state->random;

	for (; mask != 0; mask &= mask - 1) {
		/* xorshift64*: its upper half is good enough for statistics */
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		if ((x * 0x2545f4914f6cdd1dULL) >> 32 < bound)
			kept |= mask & -mask;
	}
	state->random = x;
	return kept;
}

static uint64_t keep_flow(uint32_t n, const struct burst *burst, uint64_t mask)
{
	const uint64_t bound = UINT64_MAX / n;
	uint64_t kept = 0;

	for (; mask != 0; mask &= mask - 1)
		if (sample_flow_hash(burst->pkts[__builtin_ctzll(mask)]) <= bound)
			kept |= mask & -mask;
	return kept;
}

static void flow_read(const struct rte_mbuf *pkt, struct flow *flow)
{
	uint8_t copy[14];
	const uint8_t *eth = rte_pktmbuf_read(pkt, 0, sizeof(copy), copy);
	const uint8_t *type;
	uint32_t at = 12;
	uint16_t ether_type;

	if (eth == NULL)
		return;
	for (unsigned i = 0;; i++) {
		/* Bytes: a chain may be cut so that they stand at an odd address. */
		type = rte_pktmbuf_read(pkt, at, 2, copy);
		if (type == NULL)
			return;
		ether_type = (uint16_t)(type[0] << 8 | type[1]);
		at += 2;
		if (i == FLOW_VLANS_MAX ||
			(ether_type != 0x8100 && ether_type != 0x88a8 && ether_type != 0x9100))
			break;
		at += 2;
	}
	if (ether_type == 0x0800) {
		flow_read_ip4(pkt, at, flow);
	} else if (ether_type == 0x86dd) {
		flow_read_ip6(pkt, at, flow);
	} else {
		eth = rte_pktmbuf_read(pkt, 0, 12, copy);
		memcpy(&flow->end[0][0], eth, 6);
		memcpy(&flow->end[1][0], eth + 6, 6);
		flow->protocol = (uint32_t)ether_type << 16;
	}
}

static void flow_read_ip4(const struct rte_mbuf *pkt, uint32_t at, struct flow *flow)
{
	uint8_t copy[20];
	const uint8_t *ip = rte_pktmbuf_read(pkt, at, sizeof(copy), copy);

	if (ip == NULL)
		return;
	memcpy(&flow->end[0][0], ip + 12, 4);
	memcpy(&flow->end[1][0], ip + 16, 4);
	flow->protocol = ip[9];
	/* A fragment without ports must go with its first one, which has them. */
	if (((ip[6] & 0x3f) | ip[7]) == 0)
		flow_read_ports(pkt, at + (ip[0] & 0xf) * 4, flow);
}

static void flow_read_ip6(const struct rte_mbuf *pkt, uint32_t at, struct flow *flow)
{
	uint8_t copy[40];
	const uint8_t *ip = rte_pktmbuf_read(pkt, at, sizeof(copy), copy);
	uint8_t next;

	if (ip == NULL)
		return;
	memcpy(flow->end[0], ip + 8, 16);
	memcpy(flow->end[1], ip + 24, 16);
	next = ip[6];
	at += 40;
	for (unsigned i = 0; i < FLOW_EXTENSIONS_MAX; i++) {
		/* hop-by-hop, routing, destination options; RFC 8200 section 4 */
		if (next != 0 && next != 43 && next != 60)
			break;
		ip = rte_pktmbuf_read(pkt, at, 2, copy);
		if (ip == NULL)
			return;
		next = ip[0];
		at += (ip[1] + 1) * 8;
	}
	if (next == 44) {
		/* fragment: the protocol is the flow's, ports are not looked at */
		ip = rte_pktmbuf_read(pkt, at, 1, copy);
		flow->protocol = ip != NULL ? ip[0] : next;
		return;
	}
	flow->protocol = next;
	flow_read_ports(pkt, at, flow);
}

static void flow_read_ports(const struct rte_mbuf *pkt, uint32_t at, struct flow *flow)
{
	uint8_t copy[4];
	const uint8_t *ports;

	if (flow->protocol != IP_PROTO_TCP && flow->protocol != IP_PROTO_UDP &&
		flow->protocol != IP_PROTO_SCTP)
		return;
	ports = rte_pktmbuf_read(pkt, at, sizeof(copy), copy);
	if (ports == NULL)
		return;
	memcpy(flow->port, ports, 4);
}

/* The finaliser of MurmurHash3, 64 bits. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ (x >> 33);
}
