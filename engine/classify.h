/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Many filters at once. Filters that name addresses or ports (a packet that they accept has one of
 * a few keys: filter_key.h) stand in one hash table. A packet is looked up once for each shape of
 * key that occurs (source and destination port; source address alone; ...), however many filters
 * share it. What is found is the answer where the filter was proven to ask for nothing else and the
 * packet is whole; else that filter is asked about that packet. So the result is always that of
 * every filter, for every packet.
 *
 * Built by control for a port when an rx_set is, immutable, freed with the set; lcores share it.
 */
#ifndef ENGINE_CLASSIFY_H
#define ENGINE_CLASSIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/filter.h"

/* With fewer filters it costs less to run them by columns: they ask for several shapes as a rule. */
#define CLASSIFY_FILTERS_MIN 8
#define CLASSIFY_FILTERS_MAX UINT16_MAX
/* Filters that would need another shape are left to themselves. */
#define CLASSIFY_SHAPES_MAX 64

struct classify;

/*
 * Control thread. A classifier for those of n distinct filters (NULL allowed) that have terms;
 * taken[i] says whether filters[i] is in it. They are numbered in their order. The filters must
 * outlive it. NULL, with nothing taken, when there are fewer than CLASSIFY_FILTERS_MIN or there is
 * no memory: nothing is wrong then, each is to be asked by itself.
 */
struct classify *classify_new(struct filter *const *filters, unsigned n, bool *taken);
/* NULL is fine. */
void classify_free(struct classify *classify);

/* How many filters are in it. NULL: none. */
unsigned classify_filters(const struct classify *classify);

/*
 * lcore. Which filters accept which of n <= 64 packets: bit i of masks[f] is set when filter f
 * accepts pkts[i]. masks has a word for each filter, all 0 before the call. Returns how many
 * filters accepted something; their numbers stand in found, which has room for all.
 */
unsigned classify_burst(const struct classify *classify, struct rte_mbuf *const *pkts, unsigned n,
	uint64_t *masks, uint16_t *found);

#endif
