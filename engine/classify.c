/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The table is open addressing over keys of 16 bytes, at most a quarter full, so that a packet that
 * nobody wants (most of them) meets an empty slot at once; a byte for each slot says so without a
 * look at the keys. All shapes share it; the number of the shape is part of the key.
 */
#include "engine/classify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>
#include <rte_mbuf.h>

#include "engine/filter_key.h"

#define HEAD_MAX 96 /* a key never looks further: tag, IPv4 header with all options, ports */
#define FILL_MAX 4  /* one slot in so many is used */

struct shape {
	struct filter_key mask;
	struct filter_key is; /* 0 but for kind and shape */
};

/* A filter that a key leads to. */
struct member {
	uint16_t filter;
	bool exact; /* a whole packet with that key is accepted; else the filter is to be asked */
};

/* What is behind a slot: members[first ... first + n - 1]. */
struct users {
	uint32_t first, n;
};

/* What a key holds folded. Those not in the shape's mask are 0. */
struct addresses {
	uint8_t src6[16], dst6[16];
};

struct classify {
	/* lcores: read only */
	unsigned n_shapes;
	struct shape shapes[CLASSIFY_SHAPES_MAX];
	uint32_t slot_mask;
	uint8_t *tags; /* of the hash of the slot's key; 0: free */
	struct filter_key *keys;
	struct users *users;
	struct member *members;
	struct addresses *addresses; /* beside members */
	unsigned n_filters;
	struct filter **filters;
};

/* One term of one filter, on its way into the table. */
struct rule {
	struct filter_key key;
	struct addresses addresses;
	struct member member;
};

/* One call of classify_burst. */
struct search {
	const struct classify *classify;
	struct rte_mbuf *const *pkts;
	uint64_t *masks;
	uint16_t *found;
	unsigned n_found;
	uint64_t whole; /* packets that are: filter_key.h */
	uint64_t of_kind[FILTER_KINDS];
	struct filter_key keys[64];
};

static bool shapes_add(struct classify *classify, const struct filter *filter);
static unsigned filters_take(
	struct classify *classify, struct filter *const *filters, unsigned n, bool *taken);
static int table_make(struct classify *classify, unsigned n_rules);
static void packets_key(struct search *search, unsigned n);
static void shape_find(struct search *search, const struct shape *shape);

struct classify *classify_new(struct filter *const *filters, unsigned n, bool *taken)
{
	struct classify *classify = calloc(1, sizeof(*classify));
	unsigned n_rules;

	memset(taken, 0, n * sizeof(*taken));
	if (classify == NULL)
		return NULL;
	classify->filters = calloc(n + 1, sizeof(*classify->filters));
	if (classify->filters == NULL)
		goto fail;
	n_rules = filters_take(classify, filters, n, taken);
	if (classify->n_filters < CLASSIFY_FILTERS_MIN || table_make(classify, n_rules) != 0)
		goto fail;
	return classify;
fail:
	memset(taken, 0, n * sizeof(*taken));
	classify_free(classify);
	return NULL;
}

void classify_free(struct classify *classify)
{
	if (classify == NULL)
		return;
	free(classify->tags);
	free(classify->keys);
	free(classify->users);
	free(classify->members);
	free(classify->addresses);
	free(classify->filters);
	free(classify);
}

unsigned classify_filters(const struct classify *classify)
{
	return classify != NULL ? classify->n_filters : 0;
}

unsigned classify_burst(const struct classify *classify, struct rte_mbuf *const *pkts, unsigned n,
	uint64_t *masks, uint16_t *found)
{
	struct search search;

	search.classify = classify;
	search.pkts = pkts;
	search.masks = masks;
	search.found = found;
	search.n_found = 0;
	packets_key(&search, n);
	for (unsigned s = 0; s < classify->n_shapes; s++)
		shape_find(&search, &classify->shapes[s]);
	return search.n_found;
}

/* --- building, on the control thread -----------------------------------------------------------
 */

static unsigned shape_index(const struct classify *classify, const struct filter_term *term)
{
	unsigned i = 0;

	while (i < classify->n_shapes &&
		(memcmp(&classify->shapes[i].mask, &term->mask, sizeof(term->mask)) != 0 ||
			classify->shapes[i].is.kind != term->value.kind))
		i++;
	return i;
}

/* All of a filter's shapes, or none. */
static bool shapes_add(struct classify *classify, const struct filter *filter)
{
	const unsigned n_before = classify->n_shapes;
	unsigned n_terms;
	const struct filter_term *terms = filter_terms(filter, &n_terms);

	for (unsigned t = 0; t < n_terms; t++) {
		const unsigned i = shape_index(classify, &terms[t]);
		struct shape *shape = &classify->shapes[i];

		if (i == CLASSIFY_SHAPES_MAX) {
			classify->n_shapes = n_before;
			return false;
		}
		if (i < classify->n_shapes)
			continue;
		*shape = (struct shape){.mask = terms[t].mask};
		shape->is.kind = terms[t].value.kind;
		shape->is.shape = (uint8_t)(i + 1);
		classify->n_shapes++;
	}
	return n_terms != 0;
}

/* Returns how many terms they have in all. */
static unsigned filters_take(
	struct classify *classify, struct filter *const *filters, unsigned n, bool *taken)
{
	unsigned n_rules = 0, n_terms;

	for (unsigned i = 0; i < n && classify->n_filters < CLASSIFY_FILTERS_MAX; i++) {
		taken[i] = shapes_add(classify, filters[i]);
		if (!taken[i])
			continue;
		classify->filters[classify->n_filters++] = filters[i];
		filter_terms(filters[i], &n_terms);
		n_rules += n_terms;
	}
	return n_rules;
}

static int rule_compare(const void *a, const void *b)
{
	return memcmp(a, b, offsetof(struct rule, member));
}

/* Sorted by key: the users of one key are neighbours. */
static void rules_make(const struct classify *classify, struct rule *rules, unsigned n_rules)
{
	unsigned n = 0;

	for (unsigned f = 0; f < classify->n_filters; f++) {
		unsigned n_terms;
		const struct filter_term *terms = filter_terms(classify->filters[f], &n_terms);

		for (unsigned t = 0; t < n_terms; t++) {
			struct rule *rule = &rules[n++];

			rule->key = terms[t].value;
			rule->key.shape = (uint8_t)(shape_index(classify, &terms[t]) + 1);
			memcpy(rule->addresses.src6, terms[t].src6, sizeof(terms[t].src6));
			memcpy(rule->addresses.dst6, terms[t].dst6, sizeof(terms[t].dst6));
			rule->member =
				(struct member){.filter = (uint16_t)f, .exact = terms[t].exact};
		}
	}
	qsort(rules, n_rules, sizeof(*rules), rule_compare);
}

static inline uint64_t key_hash(uint64_t low, uint64_t high)
{
	const __uint128_t product = (__uint128_t)(low ^ UINT64_C(0x9e3779b97f4a7c15)) *
				    (high ^ UINT64_C(0xc2b2ae3d27d4eb4f));

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint8_t hash_tag(uint64_t hash)
{
	return (uint8_t)(hash >> 56 | 1);
}

static void table_put(
	struct classify *classify, const struct rule *rules, uint32_t first, uint32_t n)
{
	const struct filter_key *key = &rules[first].key;
	const uint64_t hash = key_hash(key->word[0], key->word[1]);
	uint32_t at = (uint32_t)hash & classify->slot_mask;

	while (classify->tags[at] != 0)
		at = (at + 1) & classify->slot_mask;
	classify->tags[at] = hash_tag(hash);
	classify->keys[at] = *key;
	classify->users[at] = (struct users){.first = first, .n = n};
}

static int table_make(struct classify *classify, unsigned n_rules)
{
	struct rule *rules = calloc(n_rules, sizeof(*rules));
	const uint32_t n_slots = rte_align32pow2(FILL_MAX * n_rules);
	int rc = -ENOMEM;

	classify->slot_mask = n_slots - 1;
	classify->tags = calloc(n_slots, sizeof(*classify->tags));
	classify->keys = calloc(n_slots, sizeof(*classify->keys));
	classify->users = calloc(n_slots, sizeof(*classify->users));
	classify->members = calloc(n_rules, sizeof(*classify->members));
	classify->addresses = calloc(n_rules, sizeof(*classify->addresses));
	if (rules == NULL || classify->tags == NULL || classify->keys == NULL ||
		classify->users == NULL || classify->members == NULL || classify->addresses == NULL)
		goto out;
	rules_make(classify, rules, n_rules);
	for (unsigned first = 0, end; first < n_rules; first = end) {
		for (end = first; end < n_rules && rule_compare(&rules[first], &rules[end]) == 0;
			end++) {
			classify->members[end] = rules[end].member;
			classify->addresses[end] = rules[end].addresses;
		}
		table_put(classify, rules, first, end - first);
	}
	rc = 0;
out:
	free(rules);
	return rc;
}

/* --- looking up, on lcores ---------------------------------------------------------------------
 */

static inline uint16_t load16(const uint8_t *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static inline uint32_t load32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

/*
 * The key of the packet that begins with head, of which len bytes are here. False when it needs
 * more of them, which cannot be with HEAD_MAX.
 */
static inline bool key_read(const uint8_t *head, uint32_t len, struct filter_key *key)
{
	uint16_t ethertype;
	uint32_t ports;
	unsigned at = FILTER_NETWORK;

	memset(key, 0, sizeof(*key));
	if (unlikely(len < FILTER_WHOLE_MIN))
		return false;
	ethertype = rte_be_to_cpu_16(load16(head + FILTER_ETHERTYPE));
	if (filter_key_is_tag(ethertype)) {
		ethertype = rte_be_to_cpu_16(load16(head + FILTER_ETHERTYPE + FILTER_TAG));
		key->kind = FILTER_KIND_TAGGED;
		at += FILTER_TAG;
	}
	key->kind |= filter_key_kind(ethertype);
	switch (filter_key_kind(ethertype)) {
	case FILTER_KIND_IPV4:
		ports = at + 4 * (head[at] & 0xf);
		if (unlikely(ports + 4 > len))
			return false;
		key->proto = head[at + FILTER_IPV4_PROTO];
		key->fragment = (load16(head + at + FILTER_IPV4_FRAGMENT) & RTE_BE16(0x1fff)) != 0;
		key->src = load32(head + at + FILTER_IPV4_SRC);
		key->dst = load32(head + at + FILTER_IPV4_DST);
		key->sport = load16(head + ports);
		key->dport = load16(head + ports + 2);
		break;
	case FILTER_KIND_IPV6:
		ports = at + FILTER_IPV6_PORTS;
		if (unlikely(ports + 4 > len))
			return false;
		key->proto = head[at + FILTER_IPV6_NEXT];
		key->src = filter_key_fold(head + at + FILTER_IPV6_SRC);
		key->dst = filter_key_fold(head + at + FILTER_IPV6_DST);
		key->sport = load16(head + ports);
		key->dport = load16(head + ports + 2);
		break;
	case FILTER_KIND_ARP:
	case FILTER_KIND_RARP:
		key->src = load32(head + at + FILTER_ARP_SRC);
		key->dst = load32(head + at + FILTER_ARP_DST);
		break;
	default:
		break;
	}
	return true;
}

/*
 * Packets that are short or in pieces. What is not there counts as 0: a filter that looks at it
 * does not accept the packet, and one that does not look has no term about it.
 */
static void key_gather(const struct rte_mbuf *pkt, struct filter_key *key)
{
	uint8_t head[HEAD_MAX] = {0};
	uint8_t *to = head;

	for (; pkt != NULL && to < head + HEAD_MAX; pkt = pkt->next) {
		const size_t len = RTE_MIN((size_t)pkt->data_len, (size_t)(head + HEAD_MAX - to));

		memcpy(to, rte_pktmbuf_mtod(pkt, const uint8_t *), len);
		to += len;
	}
	key_read(head, HEAD_MAX, key);
}

/* The keys of a burst, and which of its packets are of which kind. */
static void packets_key(struct search *search, unsigned n)
{
	memset(search->of_kind, 0, sizeof(search->of_kind));
	search->whole = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct rte_mbuf *pkt = search->pkts[i];
		struct filter_key *key = &search->keys[i];

		if (likely(key_read(rte_pktmbuf_mtod(pkt, const uint8_t *), pkt->data_len, key)))
			search->whole |= UINT64_C(1) << i;
		else
			key_gather(pkt, key);
		search->of_kind[key->kind] |= UINT64_C(1) << i;
	}
}

/*
 * Equal keys of IPv6 mean equal addresses hardly ever not, but somebody may see to it that they do
 * not. Where a packet isn't whole its filters will be asked anyway.
 */
static bool addresses_differ(
	const struct search *search, const struct shape *shape, uint32_t slot, unsigned i)
{
	const struct classify *classify = search->classify;
	const struct addresses *want = &classify->addresses[classify->users[slot].first];
	const uint8_t *network =
		rte_pktmbuf_mtod(search->pkts[i], const uint8_t *) + FILTER_NETWORK;

	if (!filter_key_is_ipv6(&shape->is) || (search->whole >> i & 1) == 0)
		return false;
	if ((shape->is.kind & FILTER_KIND_TAGGED) != 0)
		network += FILTER_TAG;
	return (shape->mask.src != 0 && memcmp(network + FILTER_IPV6_SRC, want->src6, 16) != 0) ||
	       (shape->mask.dst != 0 && memcmp(network + FILTER_IPV6_DST, want->dst6, 16) != 0);
}

/* Packet i has the key of a slot. */
static void users_mark(struct search *search, uint32_t slot, unsigned i)
{
	const struct users *users = &search->classify->users[slot];
	const struct member *members = &search->classify->members[users->first];
	const uint64_t bit = UINT64_C(1) << i;

	for (uint32_t u = 0; u < users->n; u++) {
		const uint16_t filter = members[u].filter;
		const uint64_t mask = search->masks[filter];

		if ((mask & bit) != 0)
			continue;
		if (unlikely(!members[u].exact || (search->whole & bit) == 0) &&
			filter_burst(search->classify->filters[filter], &search->pkts[i], 1) == 0)
			continue;
		if (mask == 0)
			search->found[search->n_found++] = filter;
		search->masks[filter] = mask | bit;
	}
}

/* Look packets up by one shape of key. */
static void shape_find(struct search *search, const struct shape *shape)
{
	const struct classify *classify = search->classify;

	for (uint64_t left = search->of_kind[shape->is.kind]; left != 0; left &= left - 1) {
		const unsigned i = __builtin_ctzll(left);
		const uint64_t low = search->keys[i].word[0] & shape->mask.word[0];
		const uint64_t high =
			(search->keys[i].word[1] & shape->mask.word[1]) | shape->is.word[1];
		const uint64_t hash = key_hash(low, high);
		uint32_t slot = (uint32_t)hash & classify->slot_mask;

		for (; classify->tags[slot] != 0; slot = (slot + 1) & classify->slot_mask) {
			const struct filter_key *key = &classify->keys[slot];

			if (classify->tags[slot] == hash_tag(hash) && key->word[0] == low &&
				key->word[1] == high && !addresses_differ(search, shape, slot, i))
				users_mark(search, slot, i);
		}
	}
}
