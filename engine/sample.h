/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Sampling: every Nth packet, exact over all lanes; one in N at random; whole flows, both
 * directions kept or dropped together whatever queue they come from. And so many a second at most.
 */
#ifndef ENGINE_SAMPLE_H
#define ENGINE_SAMPLE_H

#include <stdint.h>

#include "engine/port.h"
#include "engine/tap.h"

/* A lane's own part; the lcore's. */
struct sample_state {
	uint64_t random; /* state of the generator, never 0 */
};

/* Control thread. seed: any number, different per lane. */
void sample_init(struct sample_state *state, uint64_t seed);

/* lcore. Of the packets in mask, those that are kept. count: the tap's shared counter (every Nth).
 */
uint64_t sample_burst(enum sample_mode mode, uint32_t n, struct sample_state *state,
	uint64_t *count, const struct burst *burst, uint64_t mask);

/* Packets per second that a session keeps, over all its lanes: a bucket of a tenth of a second. */
struct sample_rate {
	double per_tsc; /* constant, like the next two; 0 = any number */
	uint64_t depth;
	uint64_t start_tsc;
	uint64_t taken __attribute__((aligned(64))); /* atomic */
};

/* Control thread. pps: 0 = any number. The bucket is full at now_tsc. */
void sample_rate_init(struct sample_rate *rate, uint64_t pps, uint64_t tsc_hz, uint64_t now_tsc);

/* lcore. Of the packets in mask, the first that there is still room for at now_tsc. */
uint64_t sample_rate_take(struct sample_rate *rate, uint64_t now_tsc, uint64_t mask);

/*
 * Any thread. Symmetric hash of a packet's flow: addresses, protocol and ports (TCP, UDP, SCTP;
 * none for fragments) of IPv4 and IPv6 under any stack of VLAN tags; MAC addresses and type of
 * others.
 */
uint64_t sample_flow_hash(const struct rte_mbuf *pkt);

#endif
