/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/sample: every Nth is exact whoever offers the packets, random keeps one in N, and flows
 * are kept or dropped as wholes: both directions, whatever stands around the addresses.
 */
#include "lane_fixture.h"

#include <math.h>
#include <pthread.h>

#include "engine/sample.h"
#include "frames.h"

static unsigned popcount(uint64_t mask)
{
	return (unsigned)__builtin_popcountll(mask);
}

static void none_keeps_all(void **state)
{
	struct sample_state s;
	uint64_t count = 0;

	sample_init(&s, 1);
	assert_true(sample_burst(SAMPLE_NONE, 10, &s, &count, NULL, 0xdeadbeef) == 0xdeadbeef);
	assert_int_equal(count, 0);
}

/* Bursts of any size and mask, over several lanes in turn: packets 0, N, 2N ... of all are kept. */
static void every_nth_is_exact(void **state)
{
	static const uint32_t ns[] = {1, 2, 3, 7, 10, 64, 65, 1000, UINT32_MAX};
	struct frames_rng rng = {3};

	for (unsigned k = 0; k < COUNT(ns); k++) {
		struct sample_state lanes[3];
		uint64_t count = 0, seen = 0;

		for (unsigned i = 0; i < 3; i++)
			sample_init(&lanes[i], i);
		for (unsigned round = 0; round < 3000; round++) {
			uint64_t mask = (uint64_t)frames_random(&rng) << 32 | frames_random(&rng);
			uint64_t want = 0, kept;

			if (round % 5 == 0)
				mask = round % 10 == 0 ? UINT64_MAX : 0;
			for (unsigned i = 0; i < 64; i++)
				if ((mask >> i & 1) != 0 && seen++ % ns[k] == 0)
					want |= 1ULL << i;
			kept = sample_burst(SAMPLE_EVERY, ns[k], &lanes[frames_below(&rng, 3)],
				&count, NULL, mask);
			assert_true(kept == want);
		}
		assert_int_equal(count, seen);
	}
}

struct counter {
	pthread_t thread;
	uint64_t *count;
	uint64_t offered, kept;
};

static void *counter_run(void *arg)
{
	struct counter *counter = arg;
	struct sample_state s = {1};

	for (unsigned i = 0; i < 200000; i++) {
		uint64_t mask = UINT64_MAX >> (i % 64);

		counter->offered += popcount(mask);
		counter->kept +=
			popcount(sample_burst(SAMPLE_EVERY, 7, &s, counter->count, NULL, mask));
	}
	return NULL;
}

static void every_nth_is_exact_over_threads(void **state)
{
	uint64_t count = 0, offered = 0, kept = 0;
	struct counter counters[2];

	for (unsigned i = 0; i < 2; i++) {
		counters[i] = (struct counter){.count = &count};
		assert_int_equal(
			pthread_create(&counters[i].thread, NULL, counter_run, &counters[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(counters[i].thread, NULL);
		offered += counters[i].offered;
		kept += counters[i].kept;
	}
	assert_int_equal(count, offered);
	assert_int_equal(kept, (offered + 6) / 7);
}

#define HZ 1000000ULL

/* Bursts of 10 packets each 1/1000 s, for so many of them, from one thread. */
static uint64_t rate_run(struct sample_rate *rate, uint64_t from_tsc, unsigned n_bursts)
{
	uint64_t kept = 0;

	for (unsigned i = 0; i < n_bursts; i++)
		kept += popcount(sample_rate_take(rate, from_tsc + i * (HZ / 1000), 0x3ff));
	return kept;
}

static void a_rate_bounds_what_is_kept(void **state)
{
	static const uint64_t rates[] = {1, 9, 10, 1000, 3333, 9999};
	static struct sample_rate rate; /* aligned even where ASan moves the stack */

	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		const uint64_t depth = rates[i] >= 10 ? rates[i] / 10 : 1;

		sample_rate_init(&rate, rates[i], HZ, 77);
		/* 10 s of 10,000 a second: ten times the rate, and the bucket that was full. */
		assert_in_range(
			rate_run(&rate, 77, 10000), rates[i] * 10 - 10, rates[i] * 10 + depth);
		/* A quiet hour does not save up more than the bucket holds. */
		assert_in_range(rate_run(&rate, 77 + 3600 * HZ, 10), depth < 100 ? depth : 100,
			depth + rates[i] / 100 + 1);
	}
	sample_rate_init(&rate, 20000, HZ, 0);
	assert_int_equal(rate_run(&rate, 0, 10000), 100000); /* there were not more */
}

static void a_rate_keeps_the_first_of_a_burst(void **state)
{
	static struct sample_rate rate;

	sample_rate_init(&rate, 30, HZ, 1000);
	assert_int_equal(sample_rate_take(&rate, 1000, 0), 0);
	assert_int_equal(sample_rate_take(&rate, 1000, 0xf00f0), 0x70);
	assert_int_equal(sample_rate_take(&rate, 1000, UINT64_MAX), 0);
	/* Another lcore's clock, read a little before. */
	assert_int_equal(sample_rate_take(&rate, 999, UINT64_MAX), 0);
	assert_int_equal(sample_rate_take(&rate, 1000 + HZ / 30 + 1, UINT64_MAX), 1);
}

struct rater {
	pthread_t thread;
	struct sample_rate *rate;
	uint64_t kept;
};

static void *rater_run(void *arg)
{
	struct rater *rater = arg;

	for (uint64_t tsc = 0; tsc < 10 * HZ; tsc += 100)
		rater->kept += popcount(sample_rate_take(rater->rate, tsc, UINT64_MAX));
	return NULL;
}

static void a_rate_is_one_over_threads(void **state)
{
	static struct sample_rate rate;
	struct rater raters[2];

	sample_rate_init(&rate, 12345, HZ, 0);
	for (unsigned i = 0; i < 2; i++) {
		raters[i] = (struct rater){.rate = &rate};
		assert_int_equal(pthread_create(&raters[i].thread, NULL, rater_run, &raters[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(raters[i].thread, NULL);
	assert_in_range(raters[0].kept + raters[1].kept, 123450, 123450 + 1234);
}

static void within_4_sigma(uint64_t kept, uint64_t n, double p)
{
	const double mean = (double)n * p, sigma = sqrt((double)n * p * (1 - p));

	if (fabs((double)kept - mean) > 4 * sigma)
		fail_msg("%llu of %llu kept, 1 in %.1f asked: %.1f sigma off",
			(unsigned long long)kept, (unsigned long long)n, 1 / p,
			((double)kept - mean) / sigma);
}

static void random_keeps_one_in_n(void **state)
{
	static const uint32_t ns[] = {1, 2, 3, 10, 100, 1000};

	for (unsigned k = 0; k < COUNT(ns); k++) {
		for (uint64_t seed = 0; seed < 5; seed++) {
			struct sample_state s;
			uint64_t kept = 0, at[64] = {0}, runs = 0;
			const uint64_t rounds = 20000;
			uint64_t before = 0;

			sample_init(&s, seed);
			for (uint64_t i = 0; i < rounds; i++) {
				uint64_t mask = sample_burst(
					SAMPLE_RANDOM, ns[k], &s, NULL, NULL, UINT64_MAX);

				kept += popcount(mask);
				/* a packet is kept no likelier because the one before was */
				runs += popcount(mask & (mask << 1 | before >> 63));
				before = mask;
				for (unsigned b = 0; b < 64; b++)
					at[b] += mask >> b & 1;
			}
			within_4_sigma(kept, rounds * 64, 1.0 / ns[k]);
			if (ns[k] > 1)
				within_4_sigma(runs, rounds * 64, 1.0 / ns[k] / ns[k]);
			/* every place of the burst alike: 64 places, so a wider bound */
			for (unsigned b = 0; b < 64 && ns[k] <= 100 && ns[k] > 1; b++)
				assert_true(fabs((double)at[b] - (double)rounds / ns[k]) <
					    6 * sqrt((double)rounds / ns[k]));
		}
	}
}

static void random_keeps_only_what_was_asked_for(void **state)
{
	struct sample_state s;

	sample_init(&s, 9);
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t mask = 0x00ff00ff00ff00ff;

		assert_true((sample_burst(SAMPLE_RANDOM, 2, &s, NULL, NULL, mask) & ~mask) == 0);
		assert_true(sample_burst(SAMPLE_RANDOM, 2, &s, NULL, NULL, 0) == 0);
	}
}

static void lanes_draw_different_numbers(void **state)
{
	uint64_t same = 0;

	for (uint64_t seed = 0; seed < 100; seed++) {
		struct sample_state a, b;

		sample_init(&a, seed);
		sample_init(&b, seed + 1);
		same += sample_burst(SAMPLE_RANDOM, 2, &a, NULL, NULL, UINT64_MAX) ==
			sample_burst(SAMPLE_RANDOM, 2, &b, NULL, NULL, UINT64_MAX);
	}
	assert_int_equal(same, 0);
}

/* What a packet of a flow may look like. */
struct shape {
	const char *name;
	unsigned n_tags;
	bool v6;
	uint8_t protocol;
	unsigned n_extensions; /* v6 */
	uint32_t options_len;  /* v4 */
	uint16_t fragment;     /* v4: the flags and offset word; v6: != 0 adds the header */
	bool same_as_plain;    /* tags, options and extensions do not make another flow */
};

static const struct shape shapes[] = {
	{"tcp4", 0, false, 6, 0, 0, 0, true},
	{"tcp4, don't fragment", 0, false, 6, 0, 0, 0x4000, true},
	{"tcp4, tagged", 1, false, 6, 0, 0, 0, true},
	{"tcp4, two tags", 2, false, 6, 0, 0, 0, true},
	{"tcp4, four tags", 4, false, 6, 0, 0, 0, true},
	{"tcp4, options", 0, false, 6, 0, 40, 0, true},
	{"udp4, tag and options", 1, false, 17, 0, 12, 0, true},
	{"sctp4", 0, false, 132, 0, 0, 0, true},
	{"udp4, first fragment", 0, false, 17, 0, 0, 0x2000, false},
	{"udp4, last fragment", 0, false, 17, 0, 0, 0x00b9, false},
	{"icmp4", 0, false, 1, 0, 0, 0, true},
	{"tcp6", 0, true, 6, 0, 0, 0, true},
	{"tcp6, extensions", 0, true, 6, 3, 0, 0, true},
	{"udp6, tags and extensions", 3, true, 17, 2, 0, 0, true},
	{"sctp6", 0, true, 132, 1, 0, 0, true},
	{"udp6, fragment", 0, true, 17, 1, 0, 1, false},
	{"esp6", 0, true, 50, 0, 0, 0, true},
};

struct ends {
	uint8_t address[2][16];
	uint16_t port[2];
};

static void ends_make(struct ends *ends, struct frames_rng *rng)
{
	for (unsigned e = 0; e < 2; e++) {
		for (unsigned i = 0; i < 16; i++)
			ends->address[e][i] = (uint8_t)frames_random(rng);
		ends->port[e] = (uint16_t)frames_random(rng);
	}
}

static void frame_ip4(struct frame *f, const struct shape *shape, const struct ends *ends, int from)
{
	const uint32_t words = 5 + shape->options_len / 4;

	put8(f, 0x40 | words);
	put8(f, 0);
	put16(f, words * 4 + 20);
	put16(f, 4711);
	put16(f, shape->fragment);
	put8(f, 64);
	put8(f, shape->protocol);
	put16(f, 0);
	put(f, ends->address[from], 4);
	put(f, ends->address[!from], 4);
	for (uint32_t i = 0; i < shape->options_len; i++)
		put8(f, 1);
}

static void frame_ip6(struct frame *f, const struct shape *shape, const struct ends *ends, int from)
{
	static const uint8_t kinds[] = {0, 43, 60};
	const uint8_t last = shape->fragment != 0 ? 44 : shape->protocol;

	put32(f, 0x60000000);
	put16(f, 100);
	put8(f, shape->n_extensions != 0 ? kinds[0] : last);
	put8(f, 64);
	put(f, ends->address[from], 16);
	put(f, ends->address[!from], 16);
	for (unsigned i = 0; i < shape->n_extensions; i++) {
		/* 8, 16, 24 bytes long */
		put8(f, i + 1 < shape->n_extensions ? kinds[i + 1] : last);
		put8(f, i);
		for (unsigned k = 0; k < 6 + i * 8; k++)
			put8(f, 0);
	}
	if (shape->fragment != 0) {
		put8(f, shape->protocol);
		put8(f, 0);
		put16(f, 1);
		put32(f, 99);
	}
}

/* from: which end speaks. salt changes what does not belong to the flow. */
static void flow_frame(struct frame *f, const struct shape *shape, const struct ends *ends,
	int from, uint32_t salt)
{
	static const uint16_t tags[] = {0x88a8, 0x8100, 0x9100, 0x8100};

	f->len = 0;
	put32(f, salt);
	put32(f, salt * 7);
	put32(f, salt * 31);
	for (unsigned i = 0; i < shape->n_tags; i++) {
		put16(f, tags[i]);
		put16(f, salt + i);
	}
	put16(f, shape->v6 ? 0x86dd : 0x0800);
	if (shape->v6)
		frame_ip6(f, shape, ends, from);
	else
		frame_ip4(f, shape, ends, from);
	put16(f, ends->port[from]);
	put16(f, ends->port[!from]);
	put32(f, salt);
	put32(f, salt + 1);
}

static uint64_t hash_of(const struct frame *f, uint32_t piece)
{
	struct rte_mbuf *mbuf = packet_new(f->data, f->len, piece);
	uint64_t hash = sample_flow_hash(mbuf);

	packet_free(mbuf);
	return hash;
}

static void both_directions_are_one_flow(void **state)
{
	struct frames_rng rng = {17};
	static struct frame f;

	for (unsigned i = 0; i < COUNT(shapes); i++) {
		for (unsigned round = 0; round < 100; round++) {
			struct ends ends;
			uint64_t hash;

			ends_make(&ends, &rng);
			flow_frame(&f, &shapes[i], &ends, 0, frames_random(&rng));
			hash = hash_of(&f, 0);
			flow_frame(&f, &shapes[i], &ends, 1, frames_random(&rng));
			if (hash_of(&f, 0) != hash)
				fail_msg("%s: the answer hashes otherwise", shapes[i].name);
			/* Wherever the chain is cut. */
			for (uint32_t piece = 1; piece < 70; piece += 3)
				if (hash_of(&f, piece) != hash)
					fail_msg("%s: in pieces of %u it hashes otherwise",
						shapes[i].name, piece);
		}
	}
}

static void other_ends_are_other_flows(void **state)
{
	struct frames_rng rng = {19};
	static struct frame f;

	for (unsigned i = 0; i < COUNT(shapes); i++) {
		const bool ports = shapes[i].fragment % 0x4000 == 0 && shapes[i].protocol != 1 &&
				   shapes[i].protocol != 50;
		struct ends ends, other;
		uint64_t hash;

		ends_make(&ends, &rng);
		flow_frame(&f, &shapes[i], &ends, 0, 1);
		hash = hash_of(&f, 0);
		for (unsigned e = 0; e < 2; e++) {
			for (unsigned b = 0; b < (shapes[i].v6 ? 16 : 4); b++) {
				other = ends;
				other.address[e][b] ^= 1;
				flow_frame(&f, &shapes[i], &other, 0, 1);
				if (hash_of(&f, 0) == hash)
					fail_msg("%s: byte %u of an address does not count",
						shapes[i].name, b);
			}
			other = ends;
			other.port[e] ^= 0x100;
			flow_frame(&f, &shapes[i], &other, 0, 1);
			if ((hash_of(&f, 0) != hash) != ports)
				fail_msg("%s: ports count, or do not, and should not, or should",
					shapes[i].name);
		}
		/* The same addresses with the ports exchanged are somebody else. */
		other = ends;
		other.port[0] = ends.port[1];
		other.port[1] = ends.port[0];
		flow_frame(&f, &shapes[i], &other, 0, 1);
		assert_int_equal(hash_of(&f, 0) != hash, ports);
	}
}

static void what_stands_around_a_flow_does_not_change_it(void **state)
{
	struct frames_rng rng = {23};
	static struct frame f;

	for (unsigned i = 0; i < COUNT(shapes); i++) {
		struct shape plain = {.v6 = shapes[i].v6, .protocol = shapes[i].protocol};
		struct ends ends;
		uint64_t hash;

		ends_make(&ends, &rng);
		flow_frame(&f, &plain, &ends, 0, 5);
		hash = hash_of(&f, 0);
		flow_frame(&f, &shapes[i], &ends, 0, 6);
		assert_int_equal(hash_of(&f, 0) == hash, shapes[i].same_as_plain);
	}
}

/* All fragments of a datagram go together, the first one too. */
static void fragments_stay_together(void **state)
{
	struct frames_rng rng = {29};
	static struct frame f;
	struct shape first = {.protocol = 17, .fragment = 0x2000};
	struct shape next = {.protocol = 17, .fragment = 0x20b9};
	struct shape last = {.protocol = 17, .fragment = 0x0172};
	struct ends ends;
	uint64_t hash;

	ends_make(&ends, &rng);
	flow_frame(&f, &first, &ends, 0, 1);
	hash = hash_of(&f, 0);
	ends.port[0] = 0; /* where ports would be there is payload */
	flow_frame(&f, &next, &ends, 0, 1);
	assert_true(hash_of(&f, 0) == hash);
	flow_frame(&f, &last, &ends, 1, 1);
	assert_true(hash_of(&f, 0) == hash);
}

static void others_go_by_mac_and_type(void **state)
{
	static const uint16_t types[] = {0x0806, 0x88cc, 0x8847, 0xffff, 0x0026};

	for (unsigned i = 0; i < COUNT(types); i++) {
		uint8_t there[60] = {0, 1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 21}, back[60];
		struct frame f = {.len = 60};
		uint64_t hash;

		there[12] = (uint8_t)(types[i] >> 8);
		there[13] = (uint8_t)types[i];
		memcpy(f.data, there, 60);
		hash = hash_of(&f, 0);
		memcpy(back, there, 60);
		memcpy(back, there + 6, 6);
		memcpy(back + 6, there, 6);
		back[40] = 7;
		memcpy(f.data, back, 60);
		assert_true(hash_of(&f, 0) == hash);
		assert_true(hash_of(&f, 5) == hash);
		f.data[3] ^= 1;
		assert_true(hash_of(&f, 0) != hash);
		f.data[3] ^= 1;
		f.data[13] ^= 1;
		assert_true(hash_of(&f, 0) != hash);
	}
}

/* Frames cut anywhere: nothing is read behind their end (the sanitizer build sees that), and a hash
 * comes out that does not depend on how the frame is chained. */
static void runts_are_hashed_too(void **state)
{
	struct frames_rng rng = {31};
	static struct frame f;

	for (unsigned i = 0; i < COUNT(shapes); i++) {
		struct ends ends;
		uint32_t whole;

		ends_make(&ends, &rng);
		flow_frame(&f, &shapes[i], &ends, 0, 1);
		whole = f.len;
		for (f.len = 0; f.len < whole; f.len++)
			assert_true(hash_of(&f, 0) == hash_of(&f, 7));
	}
	for (unsigned i = 0; i < 20000; i++) {
		frame_make(&f, &rng);
		assert_true(hash_of(&f, 0) == hash_of(&f, 1 + frames_below(&rng, 80)));
	}
}

static void flows_are_kept_whole_and_one_in_n(void **state)
{
	static const uint32_t ns[] = {1, 2, 3, 10, 50};
	const unsigned n_flows = 10000;

	for (unsigned k = 0; k < COUNT(ns); k++) {
		struct frames_rng rng = {101 + k};
		unsigned kept = 0;

		for (unsigned i = 0; i < n_flows; i += 16) {
			struct burst burst = {0};
			static struct frame f;
			uint64_t mask;

			/* 16 flows, 4 packets of each: two of either end */
			for (unsigned flow = 0; flow < 16; flow++) {
				const struct shape *shape = &shapes[frames_below(&rng, 8)];
				struct ends ends;

				ends_make(&ends, &rng);
				/* As in a real network: few servers, ports that count up. */
				ends.address[1][0] = 10;
				memset(ends.address[1] + 1, 0, 14);
				ends.port[1] = 443;
				ends.port[0] = (uint16_t)(32768 + i + flow);
				for (unsigned p = 0; p < 4; p++) {
					flow_frame(&f, shape, &ends, p & 1, frames_random(&rng));
					burst_add(&burst, packet_new(f.data, f.len, 0), 0);
				}
			}
			mask = sample_burst(SAMPLE_FLOW, ns[k], NULL, NULL, &burst, UINT64_MAX);
			for (unsigned flow = 0; flow < 16; flow++) {
				unsigned of_flow = mask >> (4 * flow) & 15;

				assert_true(of_flow == 0 || of_flow == 15);
				kept += of_flow == 15;
			}
			burst_clear(&burst);
		}
		within_4_sigma(kept, n_flows, 1.0 / ns[k]);
	}
}

/* Neighbours: ports and addresses that count up must not be kept or dropped in clusters. */
static void flows_that_count_up_are_spread(void **state)
{
	for (unsigned kind = 0; kind < 2; kind++) {
		const struct shape *shape = &shapes[kind == 0 ? 0 : 11];
		unsigned kept = 0;

		for (unsigned i = 0; i < 10000; i++) {
			struct ends ends = {{{10, 0, 0, 1}, {10, 0, 0, 2}}, {443, 443}};
			struct burst burst = {0};
			static struct frame f;

			if (i < 5000) {
				ends.port[0] = (uint16_t)(1024 + i);
			} else {
				ends.address[0][2] = (uint8_t)(i >> 8);
				ends.address[0][3] = (uint8_t)i;
			}
			flow_frame(&f, shape, &ends, 0, 0);
			burst_add(&burst, packet_new(f.data, f.len, 0), 0);
			kept += sample_burst(SAMPLE_FLOW, 10, NULL, NULL, &burst, 1) != 0;
			burst_clear(&burst);
		}
		within_4_sigma(kept, 10000, 0.1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_keeps_all),
		cmocka_unit_test(every_nth_is_exact),
		cmocka_unit_test(a_rate_bounds_what_is_kept),
		cmocka_unit_test(a_rate_is_one_over_threads),
		cmocka_unit_test(a_rate_keeps_the_first_of_a_burst),
		cmocka_unit_test(every_nth_is_exact_over_threads),
		cmocka_unit_test(random_keeps_one_in_n),
		cmocka_unit_test(random_keeps_only_what_was_asked_for),
		cmocka_unit_test(lanes_draw_different_numbers),
		cmocka_unit_test(both_directions_are_one_flow),
		cmocka_unit_test(other_ends_are_other_flows),
		cmocka_unit_test(what_stands_around_a_flow_does_not_change_it),
		cmocka_unit_test(fragments_stay_together),
		cmocka_unit_test(others_go_by_mac_and_type),
		cmocka_unit_test(runts_are_hashed_too),
		cmocka_unit_test(flows_are_kept_whole_and_one_in_n),
		cmocka_unit_test(flows_that_count_up_are_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
