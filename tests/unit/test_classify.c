/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/classify and the terms it stands on: whatever filters are looked up together, for every
 * packet each gets what libpcap's interpreter says, be the packet tagged, cut, in pieces, a
 * fragment, with options or extension headers, or noise.
 */
#include "engine/classify.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pcap/pcap.h>

#include "eal_fixture.h"
#include "engine/filter_internal.h"
#include "frames.h"
#include "lane_fixture.h"

#define SEED      20261121
#define BURST     64
#define N_BURSTS  100
#define N_FRAMES  (BURST * N_BURSTS)
#define POOL      420
#define SETS      150
#define SET_MAX   200
#define MUTATIONS 3000

static struct frame *frames;
static struct rte_mbuf *whole[N_FRAMES], *pieces[N_FRAMES];

/* A filter and what libpcap says about every frame. */
struct entry {
	char expression[512];
	struct filter *filter;
	bool has_terms;
	uint64_t want[N_BURSTS];
};

static struct entry pool[POOL];

static uint64_t reference(const struct filter_code *code, unsigned burst)
{
	uint64_t hits = 0;

	for (unsigned i = 0; i < BURST; i++) {
		const struct frame *frame = &frames[burst * BURST + i];

		hits |= (uint64_t)(bpf_filter((const struct bpf_insn *)code->insn, frame->data,
					   frame->len, frame->len) != 0)
			<< i;
	}
	return hits;
}

static int frames_start(void **state)
{
	struct frames_rng rng = {.state = SEED};

	if (eal_fixture_start() != 0)
		return -1;
	frames = calloc(N_FRAMES, sizeof(*frames));
	for (unsigned i = 0; i < N_FRAMES; i++) {
		do {
			frame_make(&frames[i], &rng);
		} while (frames[i].len == 0);
		whole[i] = packet_new(frames[i].data, frames[i].len, 0);
		pieces[i] = packet_new(frames[i].data, frames[i].len, 1 + frames_below(&rng, 70));
	}
	return 0;
}

static int frames_stop(void **state)
{
	for (unsigned i = 0; i < N_FRAMES; i++) {
		packet_free(whole[i]);
		packet_free(pieces[i]);
	}
	free(frames);
	return 0;
}

/* NULL when libpcap refuses it. */
static struct filter *filter_make(const char *expression, struct filter_code *code)
{
	char message[FILTER_MESSAGE_MAX];
	struct err err;
	struct filter *filter;

	if (filter_translate(expression, true, code, message) != 0)
		return NULL;
	filter = filter_new(code, &err);
	assert_non_null(filter);
	return filter;
}

/* --- terms -------------------------------------------------------------------------------------
 */

static void filters_say_what_they_ask_for(void **state)
{
	static const struct {
		const char *expression;
		unsigned n_terms, n_exact;
	} rows[] = {
		/* IPv4, ARP and RARP; each end */
		{"src host 10.0.0.1", 3, 3},
		{"host 10.0.0.1", 6, 6},
		{"ip host 10.0.0.1", 2, 2},
		{"host 10.0.0.1 and host 10.0.0.2", 6, 6},
		{"src net 10.1.0.0/16", 3, 3},
		/* IPv4 and IPv6; TCP, UDP and SCTP */
		{"port 443", 12, 12},
		{"tcp dst port 443", 2, 2},
		{"host 10.0.0.1 and port 443", 12, 12},
		{"src host 10.0.0.1 and src port 1 and dst host 10.0.0.2 and dst port 2 and tcp", 1,
			1},
		{"src host 10.0.0.1 and (ip proto 47 or ip6 proto 47)", 1, 1},
		{"src host 2001:db8::1", 1, 1},
		{"src host 2001:db8::1 and dst port 53 and (ip proto 17 or ip6 proto 17)", 1, 1},
		/* First header or fragment header. */
		{"ip6 proto 58 and src host 2001:db8::1", 2, 1},
		/* Something is asked for that no key holds. */
		{"src host 10.0.0.1 and not port 22", 3, 2},
		{"host 10.0.0.1 and tcp[tcpflags] & tcp-syn != 0", 2, 0},
		{"host 10.0.0.1 and len > 100", 6, 0},
		{"vlan 5 and ip src host 10.0.0.1", 1, 0},
		{"vlan and ip src host 10.0.0.1", 1, 1},
		/* Neither address nor port is named, or too little of it. */
		{"tcp", 0, 0},
		{"ip proto 47", 0, 0},
		{"src net 10.0.0.0/8", 0, 0},
		{"src net 2001:db8::/32", 0, 0},
		{"not host 10.0.0.1", 0, 0},
		{"host 10.0.0.1 or icmp", 0, 0},
		{"portrange 1-1024", 0, 0},
		{"vlan and vlan and host 10.0.0.1", 0, 0},
		{"len > 100", 0, 0},
		{"ether src 02:00:00:00:00:01", 0, 0},
		{"ip6 protochain 6", 0, 0},
	};
	static struct filter_code code;

	for (unsigned i = 0; i < COUNT(rows); i++) {
		struct filter *filter = filter_make(rows[i].expression, &code);
		const struct filter_term *terms;
		unsigned n, n_exact = 0;

		assert_non_null(filter);
		terms = filter_terms(filter, &n);
		for (unsigned t = 0; t < n; t++)
			n_exact += terms[t].exact;
		if (n != rows[i].n_terms || n_exact != rows[i].n_exact)
			fail_msg("%s: %u terms, %u exact, not %u, %u", rows[i].expression, n,
				n_exact, rows[i].n_terms, rows[i].n_exact);
		filter_put(filter);
	}
}

static void a_term_has_the_values_in_network_order(void **state)
{
	static struct filter_code code;
	struct filter *filter = filter_make(
		"vlan and ip src host 1.2.3.4 and dst net 5.6.7.0/24 and udp src port 258", &code);
	const struct filter_term *terms;
	unsigned n;

	assert_non_null(filter);
	terms = filter_terms(filter, &n);
	assert_int_equal(n, 1);
	assert_memory_equal(&terms->value, "\1\2\3\4\5\6\7\0\1\2\0\0\x11\x09\0\0", 16);
	assert_memory_equal(
		&terms->mask, "\377\377\377\377\377\377\377\0\377\377\0\0\377\377\377\0", 16);
	filter_put(filter);
}

/* Too many ways to an acceptance: the filter is left alone, and quickly. */
static void a_filter_with_many_ways_has_no_terms(void **state)
{
	static struct filter_code code;
	char expression[1024] = "port 1";
	struct filter *filter;
	unsigned n;

	for (unsigned i = 2; i <= 40; i++)
		sprintf(expression + strlen(expression), " or port %u", i);
	filter = filter_make(expression, &code);
	assert_non_null(filter);
	filter_terms(filter, &n);
	assert_int_equal(n, 0);
	filter_put(filter);
}

/* --- sets of filters ---------------------------------------------------------------------------
 */

static const char *random_primitive(struct frames_rng *rng, char text[128])
{
	static const char *const sides[] = {"", "src ", "dst "};
	static const char *const v4[] = {"10.0.0.1", "10.0.0.2", "10.0.1.3", "192.168.1.1",
		"192.168.1.20", "172.16.1.5", "8.8.8.8", "255.255.255.255", "10.9.9.9"};
	static const char *const v6[] = {"2001:db8::1", "2001:db8::2", "2001:db8:0:1::1",
		"fe80::200:0:0:1", "ff02::1", "::1"};
	static const char *const nets[] = {"10.0.0.0/24", "10.0.0.0/8", "192.168.0.0/16",
		"192.168.1.16/28", "2001:db8::/32", "2001:db8::/64", "0.0.0.0/1"};
	static const uint16_t ports[] = {20, 22, 25, 53, 80, 123, 443, 1024, 8080, 50000, 7};
	static const char *const others[] = {"tcp", "udp", "ip", "ip6", "icmp", "not port 22",
		"tcp[tcpflags] & tcp-syn != 0", "greater 100", "ip[6:2] & 0x1fff = 0", "arp",
		"(ip proto 6 or ip6 proto 6)", "(ip proto 17 or ip6 proto 17)", "ip[8] > 60",
		"(ip proto 58 or ip6 proto 58)", "not host 10.0.0.1", "portrange 20-60",
		"ether src 02:00:00:00:00:01", "udp[4:2] < 60", "ip multicast", "sctp"};

	switch (frames_below(rng, 8)) {
	case 0:
	case 1:
		sprintf(text, "%shost %s", PICK(rng, sides), PICK(rng, v4));
		break;
	case 2:
		sprintf(text, "%shost %s", PICK(rng, sides), PICK(rng, v6));
		break;
	case 3:
	case 4:
		sprintf(text, "%sport %u", PICK(rng, sides), PICK(rng, ports));
		break;
	case 5:
		sprintf(text, "%snet %s", PICK(rng, sides), PICK(rng, nets));
		break;
	case 6:
		sprintf(text, "%s %sport %u", frames_below(rng, 2) == 0 ? "tcp" : "udp",
			PICK(rng, sides), PICK(rng, ports));
		break;
	default:
		sprintf(text, "%s", PICK(rng, others));
	}
	return text;
}

static void random_expression(struct frames_rng *rng, char text[512])
{
	static const char *const tags[] = {
		"vlan and ", "vlan 5 and ", "vlan and vlan and ", "mpls and "};
	unsigned n = 1 + frames_below(rng, 4);
	char primitive[128];

	sprintf(text, "%s(", frames_below(rng, 6) == 0 ? PICK(rng, tags) : "");
	for (unsigned i = 0; i < n; i++) {
		if (i > 0)
			strcat(text, frames_below(rng, 7) == 0 ? " or " : " and ");
		strcat(text, random_primitive(rng, primitive));
	}
	strcat(text, ")");
}

static bool pool_has(unsigned n, const struct filter *filter)
{
	for (unsigned i = 0; i < n; i++)
		if (pool[i].filter == filter)
			return true;
	return false;
}

static unsigned pool_fill(struct frames_rng *rng)
{
	static struct filter_code code;
	unsigned n = 0, n_with_terms = 0, n_terms;

	while (n < POOL) {
		struct entry *entry = &pool[n];

		random_expression(rng, entry->expression);
		entry->filter = filter_make(entry->expression, &code);
		if (entry->filter == NULL)
			continue;
		if (pool_has(n, entry->filter)) {
			filter_put(entry->filter);
			continue;
		}
		for (unsigned b = 0; b < N_BURSTS; b++)
			entry->want[b] = reference(&code, b);
		filter_terms(entry->filter, &n_terms);
		entry->has_terms = n_terms != 0;
		n_with_terms += entry->has_terms;
		n++;
	}
	return n_with_terms;
}

/* One burst: what the classifier says of those that it took. Returns how many packets it found. */
static unsigned burst_check(const struct classify *classify, const struct entry *const *taken,
	unsigned burst, struct rte_mbuf *const *pkts, const char *how)
{
	static uint64_t masks[SET_MAX];
	uint16_t found[SET_MAX];
	const unsigned n = classify_filters(classify);
	const unsigned n_found =
		classify_burst(classify, &pkts[burst * BURST], BURST, masks, found);
	unsigned n_hits = 0, n_reported = 0;

	for (unsigned f = 0; f < n; f++) {
		if (masks[f] != taken[f]->want[burst])
			fail_msg("%s, burst %u, %s: libpcap %016lx, classifier %016lx",
				taken[f]->expression, burst, how, taken[f]->want[burst], masks[f]);
		n_hits += (unsigned)__builtin_popcountll(masks[f]);
	}
	for (unsigned i = 0; i < n_found; i++) {
		assert_true(found[i] < n);
		n_reported += (unsigned)__builtin_popcountll(masks[found[i]]);
		masks[found[i]] = 0;
	}
	/* Each once, and none forgotten. */
	assert_int_equal(n_reported, n_hits);
	return n_hits;
}

static void sets_agree_with_libpcap(void **state)
{
	struct frames_rng rng = {.state = SEED + 1};
	unsigned long n_hits = 0, n_pairs = 0;
	unsigned n_with_terms = pool_fill(&rng);

	/* The generator makes both kinds. */
	assert_in_range(n_with_terms, POOL / 4, POOL - 50);
	for (unsigned s = 0; s < SETS; s++) {
		const unsigned n = 1 + frames_below(&rng, SET_MAX);
		struct filter *filters[SET_MAX];
		const struct entry *entries[SET_MAX], *members[SET_MAX];
		bool taken[SET_MAX];
		struct classify *classify;
		unsigned first = frames_below(&rng, POOL), n_taken = 0, n_able = 0;

		for (unsigned i = 0; i < n; i++) {
			entries[i] = &pool[(first + i) % POOL];
			filters[i] = entries[i]->filter;
			n_able += entries[i]->has_terms;
		}
		if (n > 3)
			filters[2] = NULL;
		classify = classify_new(filters, n, taken);
		for (unsigned i = 0; i < n; i++) {
			assert_true(!taken[i] || (filters[i] != NULL && entries[i]->has_terms));
			if (taken[i])
				members[n_taken++] = entries[i];
		}
		assert_int_equal(n_taken, classify_filters(classify));
		if (classify == NULL) {
			assert_in_range(n_able, 0, CLASSIFY_FILTERS_MIN);
			continue;
		}
		for (unsigned k = 0; k < 20; k++) {
			const unsigned b = frames_below(&rng, N_BURSTS);

			n_hits += burst_check(classify, members, b, whole, "in one piece");
			n_hits += burst_check(classify, members, b, pieces, "in pieces");
			n_pairs += 2 * BURST * n_taken;
		}
		classify_free(classify);
	}
	print_message("# %lu pairs of filter and packet, %lu accepted\n", n_pairs, n_hits);
	assert_in_range(n_pairs, 5000000, UINT32_MAX);
	assert_in_range(n_hits, n_pairs / 1000, n_pairs);
	for (unsigned i = 0; i < POOL; i++)
		filter_put(pool[i].filter);
}

/* Programs that libpcap's compiler never writes: terms must hold for them, too. */
static void code_mutate(struct frames_rng *rng, struct filter_code *code)
{
	static const uint16_t codes[] = {0x15, 0x25, 0x45, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1,
		0x54, 0x05, 0x07, 0x87, 0x02, 0x60, 0x61, 0x01, 0x00, 0x80};
	static const uint32_t constants[] = {0, 1, 12, 14, 16, 18, 20, 23, 26, 30, 0x800, 0x86dd,
		0x8100, 6, 17, 0xffff, 0xff00, 0x0a000001, 443, 22};
	unsigned n = 1 + frames_below(rng, 3);

	while (n-- > 0) {
		struct filter_insn *insn = &code->insn[frames_below(rng, code->n)];
		struct filter_insn *other = &code->insn[frames_below(rng, code->n)];

		switch (frames_below(rng, 5)) {
		case 0:
			insn->k = PICK(rng, constants);
			break;
		case 1:
			insn->code = PICK(rng, codes);
			break;
		case 2:
			insn->jt = (uint8_t)frames_below(rng, 8);
			break;
		case 3:
			insn->jf = (uint8_t)frames_below(rng, 8);
			break;
		default:
			*insn = *other;
		}
	}
}

static void mutated_programs_agree_with_libpcap(void **state)
{
	struct frames_rng rng = {.state = SEED + 2};
	static struct filter_code original, code;
	struct filter *ballast[CLASSIFY_FILTERS_MIN];
	unsigned n_checked = 0;

	/* A classifier wants company. */
	for (unsigned i = 0; i < CLASSIFY_FILTERS_MIN; i++) {
		char expression[64];

		sprintf(expression, "dst host 203.0.113.%u", i + 1);
		ballast[i] = filter_make(expression, &code);
	}
	for (unsigned m = 0; m < MUTATIONS; m++) {
		struct filter *filters[CLASSIFY_FILTERS_MIN + 1];
		bool taken[CLASSIFY_FILTERS_MIN + 1];
		struct classify *classify;
		uint64_t masks[CLASSIFY_FILTERS_MIN + 1] = {0};
		uint16_t found[CLASSIFY_FILTERS_MIN + 1];
		char expression[512], message[FILTER_MESSAGE_MAX];
		struct err err;

		random_expression(&rng, expression);
		if (filter_translate(expression, true, &original, message) != 0)
			continue;
		code = original;
		code_mutate(&rng, &code);
		if (!bpf_validate((const struct bpf_insn *)code.insn, (int)code.n))
			continue;
		filters[0] = filter_new(&code, &err);
		assert_non_null(filters[0]);
		memcpy(&filters[1], ballast, sizeof(ballast));
		classify = classify_new(filters, CLASSIFY_FILTERS_MIN + 1, taken);
		assert_non_null(classify);
		if (taken[0]) {
			const unsigned b = frames_below(&rng, N_BURSTS);

			classify_burst(classify, &pieces[b * BURST], BURST, masks, found);
			if (masks[0] != reference(&code, b))
				fail_msg("a mutation of %s: libpcap %016lx, classifier %016lx",
					expression, reference(&code, b), masks[0]);
			n_checked++;
		}
		classify_free(classify);
		filter_put(filters[0]);
	}
	assert_in_range(n_checked, MUTATIONS / 20, MUTATIONS);
	for (unsigned i = 0; i < CLASSIFY_FILTERS_MIN; i++)
		filter_put(ballast[i]);
}

static int fold_compare(const void *a, const void *b)
{
	const uint32_t *fold_a = a, *fold_b = b;

	return (*fold_a > *fold_b) - (*fold_a < *fold_b);
}

/* --- the table ---------------------------------------------------------------------------------
 */

static void few_filters_are_not_worth_it(void **state)
{
	static struct filter_code code;
	struct filter *filters[CLASSIFY_FILTERS_MIN + 2];
	bool taken[CLASSIFY_FILTERS_MIN + 2];
	struct classify *classify;

	filters[0] = NULL;
	filters[1] = filter_make("tcp", &code);
	for (unsigned i = 2; i < COUNT(filters); i++) {
		char expression[64];

		sprintf(expression, "host 10.0.0.%u", i);
		filters[i] = filter_make(expression, &code);
	}
	memset(taken, 1, sizeof(taken));
	assert_null(classify_new(filters, CLASSIFY_FILTERS_MIN + 1, taken));
	for (unsigned i = 0; i < CLASSIFY_FILTERS_MIN + 1; i++)
		assert_false(taken[i]);
	classify = classify_new(filters, CLASSIFY_FILTERS_MIN + 2, taken);
	assert_int_equal(classify_filters(classify), CLASSIFY_FILTERS_MIN);
	for (unsigned i = 0; i < COUNT(filters); i++) {
		assert_int_equal(taken[i], i >= 2);
		filter_put(filters[i]);
	}
	classify_free(classify);
	assert_null(classify_new(filters, 0, taken));
	assert_int_equal(classify_filters(NULL), 0);
	classify_free(NULL);
}

/* 1,000 filters that have all but one byte in common with others, and each its own packet. */
static void a_thousand_filters_each_find_their_packet(void **state)
{
	enum { N = 1000 };
	static struct filter_code code;
	static struct filter *filters[N];
	static bool taken[N];
	static uint64_t masks[N];
	static uint16_t found[N];
	struct classify *classify;

	for (unsigned i = 0; i < N; i++) {
		char expression[160];

		sprintf(expression,
			"src host 10.0.0.%u and dst host 10.0.1.1 and udp src port %u and dst port "
			"53",
			1 + i % 4, 1000 + i / 4);
		filters[i] = filter_make(expression, &code);
		assert_non_null(filters[i]);
	}
	classify = classify_new(filters, N, taken);
	assert_int_equal(classify_filters(classify), N);
	for (unsigned i = 0; i < N; i++) {
		struct frame frame = {.len = 0};
		struct rte_mbuf *pkt;

		put(&frame, "\2\0\0\0\0\1\2\0\0\0\0\2\x08\0", 14);
		put(&frame, "\x45\0\0\x2e\0\0\0\0\x40\x11\0\0", 12);
		put32(&frame, 0x0a000001 + i % 4);
		put32(&frame, 0x0a000101);
		put16(&frame, 1000 + i / 4);
		put16(&frame, 53);
		put(&frame, "\0\x1a\0\0abcdefghijklmnopqr", 22);
		pkt = packet_new(frame.data, frame.len, 0);
		assert_int_equal(classify_burst(classify, &pkt, 1, masks, found), 1);
		assert_int_equal(found[0], i);
		assert_int_equal(masks[i], 1);
		masks[i] = 0;
		packet_free(pkt);
	}
	classify_free(classify);
	for (unsigned i = 0; i < N; i++)
		filter_put(filters[i]);
}

static void address_make(uint32_t n, uint8_t address[16])
{
	const uint64_t high = n * UINT64_C(0x9e3779b97f4a7c15);

	memset(address, 0, 16);
	memcpy(address, "\x20\1\xd\xb8", 4);
	memcpy(address + 4, &high, 4);
	memcpy(address + 12, &n, 4);
}

/* 200,000 addresses, and two of them that look the same in a key. */
static void addresses_that_fold_alike_are_told_apart(void **state)
{
	enum { N = CLASSIFY_FILTERS_MIN, TRIES = 200000 };
	static struct filter_code code;
	struct filter *filters[N];
	bool taken[N];
	uint64_t masks[N] = {0};
	uint16_t found[N];
	struct fold {
		uint32_t fold, n;
	} *folds = calloc(TRIES, sizeof(*folds));
	uint32_t alike[2] = {0};
	struct classify *classify;

	for (uint32_t i = 0; i < TRIES; i++) {
		uint8_t address[16];

		address_make(i, address);
		folds[i] = (struct fold){.fold = filter_key_fold(address), .n = i};
	}
	qsort(folds, TRIES, sizeof(*folds), fold_compare);
	for (uint32_t i = 1; i < TRIES; i++)
		if (folds[i].fold == folds[i - 1].fold)
			memcpy(alike, (uint32_t[]){folds[i - 1].n, folds[i].n}, sizeof(alike));
	free(folds);
	assert_int_not_equal(alike[0], alike[1]);
	for (unsigned i = 0; i < N; i++) {
		char expression[64] = "dst host ";
		uint8_t address[16];

		address_make(i < 2 ? alike[i] : i, address);
		inet_ntop(AF_INET6, address, expression + strlen(expression), INET6_ADDRSTRLEN);
		filters[i] = filter_make(expression, &code);
	}
	classify = classify_new(filters, N, taken);
	assert_int_equal(classify_filters(classify), N);
	for (unsigned i = 0; i < N; i++) {
		struct frame frame = {.len = 0};
		struct rte_mbuf *pkt;
		uint8_t address[16];

		put(&frame, "\2\0\0\0\0\1\2\0\0\0\0\2\x86\xdd\x60\0\0\0\0\x14\x3a\x40", 22);
		put(&frame, "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\7", 16);
		address_make(i < 2 ? alike[i] : i, address);
		put(&frame, address, 16);
		put(&frame, "abcdefghijklmnopqrst", 20);
		pkt = packet_new(frame.data, frame.len, 0);
		assert_int_equal(classify_burst(classify, &pkt, 1, masks, found), 1);
		assert_int_equal(found[0], i);
		assert_int_equal(masks[i], 1);
		masks[i] = 0;
		packet_free(pkt);
	}
	classify_free(classify);
	for (unsigned i = 0; i < N; i++)
		filter_put(filters[i]);
}

/* Each length of prefix is a shape of its own; the last filters find no place any more. */
static void shapes_are_bounded(void **state)
{
	static struct filter_code code;
	struct filter *filters[17 * 17];
	bool taken[17 * 17];
	struct classify *classify;
	unsigned n = 0, n_taken = 0;

	for (unsigned src = 16; src <= 32; src++)
		for (unsigned dst = 16; dst <= 32; dst++) {
			char expression[100];

			sprintf(expression, "ip src net 10.1.0.0/%u and dst net 10.2.0.0/%u", src,
				dst);
			filters[n] = filter_make(expression, &code);
			assert_non_null(filters[n++]);
		}
	classify = classify_new(filters, n, taken);
	for (unsigned i = 0; i < n; i++)
		n_taken += taken[i];
	assert_int_equal(n_taken, CLASSIFY_SHAPES_MAX);
	assert_int_equal(classify_filters(classify), CLASSIFY_SHAPES_MAX);
	classify_free(classify);
	for (unsigned i = 0; i < n; i++)
		filter_put(filters[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters_say_what_they_ask_for),
		cmocka_unit_test(a_term_has_the_values_in_network_order),
		cmocka_unit_test(a_filter_with_many_ways_has_no_terms),
		cmocka_unit_test(sets_agree_with_libpcap),
		cmocka_unit_test(mutated_programs_agree_with_libpcap),
		cmocka_unit_test(few_filters_are_not_worth_it),
		cmocka_unit_test(a_thousand_filters_each_find_their_packet),
		cmocka_unit_test(addresses_that_fold_alike_are_told_apart),
		cmocka_unit_test(shapes_are_bounded),
	};

	return cmocka_run_group_tests(tests, frames_start, frames_stop);
}
