/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * filter_pairs N [SEED]: random filters of the grammar that pcap-filter(7) describes, and random packets,
 * until N pairs of a filter and a packet went through libpcap's pcap_offline_filter and through ours: native
 * code, interpreter, by columns, and looked up together; packets in one piece and in random pieces, each of
 * which ends where memory that may be read ends. Exit code 1 at the first difference. The same seed gives
 * the same pairs. TAP on standard output.
 */
#include "fuzz.h"

#include <inttypes.h>
#include <nss.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <pcap/pcap.h>

#include "eal_fixture.h"
#include "engine/classify.h"
#include "engine/filter.h"
#include "engine/filter_internal.h"
#include "frames.h"

#define BURST          64
#define BURSTS         2  /* each filter sees */
#define BATCH          16 /* filters of one batch of packets */
#define PIECES_MAX     40
#define SNAPLEN        262144
#define EXPRESSION_MAX 1024
#define DEPTH_MAX      3
#define INSNS_MAX      512 /* longer ones are seldom, and slow to make */
#define BY_HELPER      64  /* the first filters are compiled by the helper, too */

struct pair_filter {
	char expression[EXPRESSION_MAX];
	struct filter_code code;
	struct bpf_program reference;
	struct filter *filter;
	bool loops; /* libpcap may not come back */
	uint64_t wanted[BURSTS];
	uint64_t unknown[BURSTS]; /* libpcap did not come back */
};

static struct frames_rng rng;
static struct frame frames[BURSTS][BURST];
static struct rte_mbuf *whole[BURSTS][BURST], *pieces[BURSTS][BURST];
static struct pair_filter filters[BATCH];
static struct rte_mempool *pool;
static struct filter_work *work;
static pcap_t *pcap;

static struct {
	uint64_t pairs, accepted, loops;
	uint64_t filters, distinct, refused, long_ones, repeated;
	uint64_t jit, interpreted, columns, classified;
	uint64_t cut, changed;
} count;

/* --- random filters ----------------------------------------------------------------------------
 */

static char expression[EXPRESSION_MAX];
static size_t expression_len;

static uint32_t below(uint32_t n)
{
	return frames_below(&rng, n);
}

static bool one_in(uint32_t n)
{
	return below(n) == 0;
}

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
	const size_t room = sizeof(expression) - expression_len;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(expression + expression_len, room, fmt, args);
	va_end(args);
	expression_len += (size_t)len < room ? (size_t)len : room - 1;
}

#define ONE_OF(...) \
	(((const char *const[]){__VA_ARGS__})[below(COUNT(((const char *const[]){__VA_ARGS__})))])

static const char *direction(void)
{
	return ONE_OF("", "", "src ", "dst ", "src or dst ", "src and dst ");
}

/* What frames.h puts into packets, and some that it does not. */
static void address4(void)
{
	static const char *const known[] = {"10.0.0.1", "10.0.0.2", "10.0.1.3", "192.168.1.1",
		"192.168.1.20", "172.16.1.5", "224.0.0.5", "239.255.255.255", "255.255.255.255",
		"0.0.0.0", "8.8.8.8"};

	if (one_in(10))
		say("%u.%u.%u.%u", below(256), below(256), below(256), below(256));
	else
		say("%s", PICK(&rng, known));
}

static void address6(void)
{
	say("%s", ONE_OF("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "fe80::200:0:0:1",
			  "ff02::1", "::1", "::", "2001:db8:ffff::9"));
}

static void mac(void)
{
	say("%s", ONE_OF("00:11:22:33:44:55", "00:11:22:33:44:66", "02:00:00:00:00:01",
			  "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:05", "33:33:00:00:00:01",
			  "01:80:c2:00:00:00", "00-11-22-33-44-55", "02:00:00:00:00:99"));
}

static unsigned port(void)
{
	static const uint16_t known[] = {
		20, 22, 25, 53, 80, 123, 443, 1024, 4789, 6081, 8080, 50000, 0, 65535};

	return one_in(8) ? below(65536) : PICK(&rng, known);
}

static void host(void)
{
	const bool six = one_in(3);

	say("%s", six ? ONE_OF("", "ip6 ") : ONE_OF("", "", "ip ", "arp ", "rarp "));
	say("%shost ", direction());
	six ? address6() : address4();
}

static void net(void)
{
	static const char *const nets[] = {"10", "10.0", "192.168.1", "172.16", "10.0.0.0/8",
		"192.168.0.0/16", "10.0.0.0/30", "224.0.0.0/4", "0.0.0.0/0", "8.8.8.8/32",
		"10.0.0.0 mask 255.255.0.0", "192.168.1.0 mask 255.255.255.240",
		"172.16.0.0 mask 255.240.0.0"};
	static const char *const nets6[] = {"2001:db8::/32", "fe80::/10", "::/0", "ff00::/8",
		"2001:db8::/65", "2001:db8::2/127", "2001:db8:0:1::/64", "::1/128"};

	if (one_in(3))
		say("%s%snet %s", ONE_OF("", "ip6 "), direction(), PICK(&rng, nets6));
	else
		say("%s%snet %s", ONE_OF("", "", "ip ", "arp "), direction(), PICK(&rng, nets));
}

static void ports(void)
{
	const unsigned a = port(), b = port();

	say("%s%s", ONE_OF("", "", "tcp ", "udp ", "sctp ", "ip proto 6 and "), direction());
	if (one_in(3))
		say("portrange %u-%u", a, b); /* also the wrong way round */
	else if (one_in(8))
		say("port %s", ONE_OF("http", "domain", "ssh"));
	else
		say("port %u", a);
}

static void ethernet(void)
{
	switch (below(5)) {
	case 0:
		say("ether %s", ONE_OF("broadcast", "multicast"));
		break;
	case 1:
		say("ether proto %s",
			ONE_OF("0x0800", "0x86dd", "\\arp", "\\ip6", "0x8847", "0x8863", "1500",
				"66", "0xe0", "0x88cc", "\\stp", "\\ipx", "\\netbeui", "\\iso"));
		break;
	case 2:
		say("ether %shost ", direction());
		mac();
		break;
	default:
		say("ether %s ", ONE_OF("src", "dst", "host"));
		mac();
	}
}

static void protocol(void)
{
	switch (below(5)) {
	case 0:
		say("%s %s %s", ONE_OF("ip", "ip6"), ONE_OF("proto", "proto", "protochain"),
			ONE_OF("\\tcp", "\\udp", "\\icmp", "6", "17", "50", "51", "58", "59", "0",
				"44", "103", "132", "254", "255"));
		break;
	case 1:
		say("%s", ONE_OF("ip broadcast", "ip multicast", "ip6 multicast", "broadcast",
				  "multicast"));
		break;
	case 2:
		say("proto %s", ONE_OF("6", "17", "\\tcp", "\\udp", "132"));
		break;
	default:
		say("%s", ONE_OF("ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "igmp",
				  "pim", "vrrp", "sctp", "ah", "esp", "igrp", "atalk", "aarp",
				  "iso", "stp", "ipx", "netbeui", "lat", "moprc", "mopdl", "sca",
				  "carp", "clnp", "esis", "isis", "l1", "l2", "iih", "lsp", "snp",
				  "csnp", "psnp", "decnet", "llc", "llc i", "llc s", "llc u",
				  "llc rr", "llc ui", "llc sabme"));
	}
}

/* What follows in the expression is about what is within. */
static void shift(void)
{
	switch (below(5)) {
	case 0:
	case 1:
		say("vlan");
		if (one_in(2))
			say(" %u", (unsigned[]){0, 1, 5, 10, 100, 200, 4095, 4096}[below(8)]);
		break;
	case 2:
		say("mpls");
		if (one_in(2))
			say(" %u", (unsigned[]){16, 100, 1000, 1024, 100000, 1048576}[below(6)]);
		break;
	case 3:
		say("%s", ONE_OF("pppoed", "pppoes", "pppoes 1", "pppoes 7", "pppoes 39"));
		break;
	default:
		say("%s", ONE_OF("geneve", "geneve 1", "geneve 2"));
	}
}

static void length(void)
{
	const unsigned n = one_in(2) ? below(100) : below(1600);

	if (one_in(2))
		say("%s %u", ONE_OF("less", "greater"), n);
	else
		say("len %s %u", ONE_OF("<", ">", "<=", ">=", "=", "!="), n);
}

static void number(void)
{
	switch (below(4)) {
	case 0:
		say("%u", below(20));
		break;
	case 1:
		say("0x%x", frames_random(&rng) >> below(32));
		break;
	default:
		say("%s",
			ONE_OF("0", "1", "2", "4", "8", "0x0f", "0xff", "0x1fff", "0xffff", "255",
				"64", "0x80000000", "0xffffffff", "tcp-syn", "tcp-ack", "tcp-fin",
				"icmp-echo", "icmp-unreach", "icmptype", "tcpflags", "icmp6-echo"));
	}
}

static void arithmetic(int depth);

static void load(int depth)
{
	say("%s[", ONE_OF("ether", "ip", "ip", "ip6", "tcp", "tcp", "udp", "icmp", "icmp6", "arp",
			   "rarp", "sctp", "igmp", "pim", "vrrp", "carp", "link"));
	if (depth < DEPTH_MAX && one_in(4))
		arithmetic(depth + 1);
	else
		say("%s%u", one_in(30) ? "-" : "", one_in(6) ? below(300) : below(40));
	if (one_in(2))
		say(":%u", (unsigned[]){1, 2, 4}[below(3)]);
	say("]");
}

static void arithmetic(int depth)
{
	const uint32_t kind = depth < DEPTH_MAX ? below(8) : below(3);

	if (kind < 2) {
		load(depth);
	} else if (kind == 2) {
		one_in(5) ? say("len") : number();
	} else if (kind == 3) {
		say("-(");
		arithmetic(depth + 1);
		say(")");
	} else {
		const bool closed = one_in(2);

		say("%s", closed ? "(" : "");
		arithmetic(depth + 1);
		say(" %s ", ONE_OF("+", "-", "*", "/", "%", "&", "&", "|", "^", "<<", ">>"));
		arithmetic(depth + 1);
		say("%s", closed ? ")" : "");
	}
}

/* A byte that some packet of the batch has there, so that comparisons hold at times. */
static void comparison_of_frame(void)
{
	const struct frame *frame = &frames[below(BURSTS)][below(BURST)];
	const uint32_t at = below(frame->len < 80 ? frame->len : 80);
	const uint32_t mask = one_in(2) ? 0xff : below(256);

	say("ether[%u] & 0x%x %s %u", at, mask, ONE_OF("=", "=", "!=", ">="),
		frame->data[at] & mask);
}

static void comparison(void)
{
	if (one_in(4)) {
		comparison_of_frame();
		return;
	}
	arithmetic(0);
	say(" %s ", ONE_OF("=", "==", "!=", "<", ">", "<=", ">="));
	arithmetic(1);
}

static void primitive(void)
{
	static void (*const kinds[])(void) = {host, host, net, ports, ports, ethernet, protocol,
		protocol, protocol, shift, length, comparison, comparison, comparison};

	PICK(&rng, kinds)();
}

static void expression_make(int depth)
{
	const uint32_t kind = depth < DEPTH_MAX ? below(9) : 0;

	if (kind < 4) {
		primitive();
	} else if (kind == 4) {
		say("%s", ONE_OF("not ", "! ", "not (", "!("));
		const bool closed = expression[expression_len - 1] == '(';
		expression_make(depth + 1);
		say("%s", closed ? ")" : "");
	} else if (kind == 5) {
		say("(");
		expression_make(depth + 1);
		say(")");
	} else {
		expression_make(depth + 1);
		say(" %s ", ONE_OF("and", "and", "&&", "or", "||"));
		expression_make(depth + 1);
	}
}

/* --- packets -----------------------------------------------------------------------------------
 */

/* Places for data, each before a page that may not be read. */
#define PLACE_SIZE 16384
#define PAGE_SIZE  4096
#define N_PLACES   (BURSTS * BURST * (PIECES_MAX + 2))

static uint8_t *places;
static unsigned n_placed;
static struct rte_mbuf_ext_shared_info shared;

static void place_freed(void *address, void *opaque)
{
}

static void places_make(void)
{
	places = mmap(NULL, (size_t)N_PLACES * PLACE_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	fuzz_check(places != MAP_FAILED);
	for (unsigned i = 0; i < N_PLACES; i++)
		fuzz_check(mprotect(places + (size_t)i * PLACE_SIZE + PLACE_SIZE - PAGE_SIZE,
				   PAGE_SIZE, PROT_NONE) == 0);
	shared.free_cb = place_freed;
}

/* An mbuf whose data end where memory does. */
static struct rte_mbuf *piece_make(const uint8_t *data, uint32_t len)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint8_t *end = places + (size_t)n_placed++ * PLACE_SIZE + PLACE_SIZE - PAGE_SIZE;

	fuzz_check(m != NULL && n_placed <= N_PLACES && len <= PLACE_SIZE - PAGE_SIZE);
	memcpy(end - len, data, len);
	rte_pktmbuf_attach_extbuf(m, end - len, 0, (uint16_t)len, &shared);
	m->data_off = 0;
	m->data_len = (uint16_t)len;
	m->pkt_len = len;
	return m;
}

/* Small pieces first, where the headers are; now and then an empty one. */
static struct rte_mbuf *pieces_make(const struct frame *frame)
{
	static const uint32_t limits[] = {1, 5, 20, 60, 512};
	struct rte_mbuf *head = NULL;
	uint32_t done = 0;

	for (unsigned n = 1; done < frame->len || head == NULL; n++) {
		uint32_t len = below(PICK(&rng, limits) + 1);
		struct rte_mbuf *m;

		if (n == PIECES_MAX || len > frame->len - done)
			len = frame->len - done;
		m = piece_make(frame->data + done, len);
		done += len;
		if (head == NULL)
			head = m;
		else
			fuzz_check(rte_pktmbuf_chain(head, m) == 0);
	}
	return head;
}

/* Made by the rules, then at times some bytes of it changed, or its end cut off. */
static void frame_next(struct frame *frame)
{
	frame_make(frame, &rng);
	if (one_in(4)) {
		count.changed++;
		for (uint32_t n = 1 + below(4); n > 0; n--)
			frame->data[below(frame->len < 120 ? frame->len : 120)] =
				(uint8_t)frames_random(&rng);
	}
	if (one_in(8)) {
		count.cut++;
		frame->len = 1 + below(frame->len);
	}
}

static void packets_make(void)
{
	n_placed = 0;
	for (unsigned b = 0; b < BURSTS; b++)
		for (unsigned i = 0; i < BURST; i++) {
			frame_next(&frames[b][i]);
			whole[b][i] = piece_make(frames[b][i].data, frames[b][i].len);
			pieces[b][i] = pieces_make(&frames[b][i]);
		}
}

static void packets_free(void)
{
	rte_mbuf_ext_refcnt_set(&shared, (uint16_t)(n_placed + 1));
	for (unsigned b = 0; b < BURSTS; b++) {
		rte_pktmbuf_free_bulk(whole[b], BURST);
		rte_pktmbuf_free_bulk(pieces[b], BURST);
	}
}

/* --- libpcap -----------------------------------------------------------------------------------
 */

/* libpcap's protochain does not come back from some packets; one that takes two ticks of a clock is one. */
static sigjmp_buf loop_found;
static volatile sig_atomic_t ticks;

static void loop_tick(int sig)
{
	if (++ticks == 2)
		siglongjmp(loop_found, 1);
}

static bool reference(const struct pair_filter *filter, const struct frame *frame, bool *unknown)
{
	const struct pcap_pkthdr header = {.caplen = frame->len, .len = frame->len};

	*unknown = false;
	if (filter->loops) {
		ticks = 0;
		if (sigsetjmp(loop_found, 1) != 0) {
			*unknown = true;
			return false;
		}
	}
	return pcap_offline_filter(&filter->reference, &header, frame->data) != 0;
}

static void reference_run(struct pair_filter *filter)
{
	const struct itimerval tick = {{0, 4000}, {0, 4000}}, none = {0};
	bool unknown;

	if (filter->loops)
		setitimer(ITIMER_VIRTUAL, &tick, NULL);
	for (unsigned b = 0; b < BURSTS; b++) {
		filter->wanted[b] = filter->unknown[b] = 0;
		for (unsigned i = 0; i < BURST; i++) {
			filter->wanted[b] |= (uint64_t)reference(filter, &frames[b][i], &unknown)
					     << i;
			filter->unknown[b] |= (uint64_t)unknown << i;
		}
		count.accepted += (unsigned)__builtin_popcountll(filter->wanted[b]);
		count.loops += (unsigned)__builtin_popcountll(filter->unknown[b]);
		count.pairs += BURST - (unsigned)__builtin_popcountll(filter->unknown[b]);
	}
	if (filter->loops)
		setitimer(ITIMER_VIRTUAL, &none, NULL);
}

/* --- ours against it ---------------------------------------------------------------------------
 */

static void equal_check(
	const struct pair_filter *filter, unsigned burst, uint64_t got, const char *engine)
{
	const uint64_t known = ~filter->unknown[burst];
	const uint64_t wrong = (got ^ filter->wanted[burst]) & known;
	const struct frame *frame;

	if (wrong == 0)
		return;
	frame = &frames[burst][__builtin_ctzll(wrong)];
	printf("not ok 1 - %s\n# libpcap %s, %s does not; the packet, %u bytes:\n# ",
		filter->expression,
		(filter->wanted[burst] & wrong & -wrong) != 0 ? "accepts" : "refuses", engine,
		frame->len);
	for (uint32_t i = 0; i < frame->len; i++)
		printf("%02x", frame->data[i]);
	printf("\n1..1\n");
	exit(1);
}

static uint64_t interpret(const struct pair_filter *filter, struct rte_mbuf *const *pkts)
{
	uint64_t hits = 0;

	for (unsigned i = 0; i < BURST; i++)
		hits |= (uint64_t)filter_interpret(filter->code.insn, filter->code.n, pkts[i]) << i;
	return hits;
}

static void filters_check(void)
{
	for (unsigned b = 0; b < BURSTS; b++) {
		for (unsigned f = 0; f < BATCH; f++) {
			const struct pair_filter *filter = &filters[f];

			equal_check(filter, b, filter_burst(filter->filter, whole[b], BURST),
				"the engine on whole packets");
			equal_check(filter, b, filter_burst(filter->filter, pieces[b], BURST),
				"the engine on pieces");
			equal_check(filter, b, interpret(filter, whole[b]),
				"the interpreter on whole packets");
			equal_check(filter, b, interpret(filter, pieces[b]),
				"the interpreter on pieces");
		}
		filter_work_burst(work, whole[b], BURST);
		for (unsigned f = 0; f < BATCH; f++)
			equal_check(&filters[f], b, filter_run(filters[f].filter, work),
				"the columns on whole packets");
		filter_work_burst(work, pieces[b], BURST);
		for (unsigned f = 0; f < BATCH; f++)
			equal_check(&filters[f], b, filter_run(filters[f].filter, work),
				"the columns on pieces");
	}
}

/* Those that can be are looked up together, too. */
static void classify_check(void)
{
	struct filter *list[BATCH];
	bool taken[BATCH] = {false};
	struct classify *classify;
	unsigned n = 0;

	for (unsigned f = 0; f < BATCH; f++)
		list[f] = filters[f].filter;
	classify = classify_new(list, BATCH, taken);
	for (unsigned b = 0; b < 2 * BURSTS && classify != NULL; b++) {
		uint64_t masks[BATCH] = {0};
		uint16_t found[BATCH];

		classify_burst(
			classify, b % 2 == 0 ? whole[b / 2] : pieces[b / 2], BURST, masks, found);
		n = 0;
		for (unsigned f = 0; f < BATCH; f++)
			if (taken[f])
				equal_check(&filters[f], b / 2, masks[n++], "the classifier");
	}
	count.classified += n;
	classify_free(classify);
}

/* --- a batch -----------------------------------------------------------------------------------
 */

/* As the daemon compiles it: the same program. */
static void helper_check(const struct pair_filter *filter)
{
	static struct filter_code code;
	struct err err = {0};

	fuzz_check(filter_compile(filter->expression, &code, &err) == 0);
	fuzz_check(code.n == filter->code.n);
	fuzz_check(memcmp(code.insn, filter->code.insn, code.n * sizeof(code.insn[0])) == 0);
}

/*
 * libpcap's interpreter leaves its memory as it finds it, and behind "geneve" its compiler writes programs
 * that read what nobody wrote. Ours is zero then; so libpcap is given the program with zeros written first.
 */
static void memory_clear(struct pair_filter *filter)
{
	struct bpf_program *program = &filter->reference;
	struct bpf_insn *longer;
	bool read = false;

	for (u_int i = 0; i < program->bf_len; i++)
		read |= BPF_MODE(program->bf_insns[i].code) == BPF_MEM &&
			BPF_CLASS(program->bf_insns[i].code) <= BPF_LDX;
	if (!read)
		return;
	longer = malloc((program->bf_len + 1 + BPF_MEMWORDS) * sizeof(*longer));
	fuzz_check(longer != NULL);
	longer[0] = (struct bpf_insn){.code = BPF_LD | BPF_IMM};
	for (unsigned i = 0; i < BPF_MEMWORDS; i++)
		longer[1 + i] = (struct bpf_insn){.code = BPF_ST, .k = i};
	memcpy(longer + 1 + BPF_MEMWORDS, program->bf_insns, program->bf_len * sizeof(*longer));
	free(program->bf_insns);
	program->bf_insns = longer;
	program->bf_len += 1 + BPF_MEMWORDS;
}

/* libpcap shifts by 32 and more as the machine does it. */
static bool program_open(const struct filter_code *code)
{
	for (uint32_t i = 0; i < code->n; i++)
		if ((code->insn[i].code == (BPF_ALU | BPF_LSH | BPF_K) ||
			    code->insn[i].code == (BPF_ALU | BPF_RSH | BPF_K)) &&
			code->insn[i].k > 31)
			return true;
	return false;
}

static bool batch_has(unsigned n, const struct filter *filter)
{
	for (unsigned i = 0; i < n; i++)
		if (filters[i].filter == filter)
			return true;
	return false;
}

/* Programs seen so far, by their hashes; one that finds no place counts as seen. */
static bool program_new(const struct filter_code *code)
{
	static uint64_t seen[1 << 20];
	const uint8_t *byte = (const uint8_t *)code->insn;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < code->n * sizeof(code->insn[0]); i++)
		hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
	for (unsigned i = 0; i < COUNT(seen); i++) {
		uint64_t *place = &seen[(hash + i) % COUNT(seen)];

		if (*place == hash)
			return false;
		if (*place == 0) {
			*place = hash;
			return true;
		}
	}
	return false;
}

/* False: libpcap does not want this one, and so we must not. */
static bool filter_make(unsigned n)
{
	struct pair_filter *filter = &filters[n];
	char message[FILTER_MESSAGE_MAX];
	struct err err = {0};

	expression[expression_len = 0] = '\0';
	expression_make(0);
	strcpy(filter->expression, expression);
	if (pcap_compile(pcap, &filter->reference, expression, 1, 0) != 0) {
		fuzz_check(filter_translate(expression, true, &filter->code, message) != 0);
		count.refused++;
		return false;
	}
	fuzz_check(filter_translate(expression, true, &filter->code, message) == 0);
	fuzz_check(filter->code.n == filter->reference.bf_len);
	if (filter->code.n > INSNS_MAX || program_open(&filter->code)) {
		count.long_ones++;
		pcap_freecode(&filter->reference);
		return false;
	}
	if (count.filters < BY_HELPER)
		helper_check(filter);
	filter->filter = filter_new(&filter->code, &err);
	fuzz_check(filter->filter != NULL);
	if (batch_has(n, filter->filter)) {
		count.repeated++;
		filter_put(filter->filter);
		pcap_freecode(&filter->reference);
		return false;
	}
	memory_clear(filter);
	filter->loops = filter_engine(filter->filter) == FILTER_ENGINE_INTERPRETER;
	count.filters++;
	count.distinct += program_new(&filter->code);
	count.jit += !filter->loops;
	count.interpreted += filter->loops;
	count.columns += filter_by_columns(filter->filter);
	return true;
}

static void batch_run(void)
{
	packets_make();
	for (unsigned n = 0; n < BATCH;)
		n += filter_make(n);
	for (unsigned f = 0; f < BATCH; f++)
		reference_run(&filters[f]);
	filters_check();
	classify_check();
	for (unsigned f = 0; f < BATCH; f++) {
		filter_put(filters[f].filter);
		pcap_freecode(&filters[f].reference);
	}
	packets_free();
}

int main(int argc, char **argv)
{
	const uint64_t goal = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	fuzz_check(goal != 0);
	printf("# seed %" PRIu64 "\n", seed);
	rng.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	__nss_configure_lookup("services", "files");
	__nss_configure_lookup("protocols", "files");
	fuzz_check(filter_helper_start() == 0);
	fuzz_check(eal_fixture_start() == 0);
	pool = eal_fixture_pool("pairs", 2 * N_PLACES - 1, 0);
	work = filter_work_new();
	pcap = pcap_open_dead(DLT_EN10MB, SNAPLEN);
	fuzz_check(pool != NULL && work != NULL && pcap != NULL);
	places_make();
	signal(SIGVTALRM, loop_tick);
	while (count.pairs < goal)
		batch_run();
	filter_helper_stop();
	printf("ok 1 - %" PRIu64 " pairs, none differs\n", count.pairs);
	printf("# %" PRIu64 " filters, %" PRIu64 " distinct: %" PRIu64 " native, %" PRIu64
	       " interpreted, %" PRIu64 " by columns, %" PRIu64 " looked up together\n",
		count.filters, count.distinct, count.jit, count.interpreted, count.columns,
		count.classified);
	printf("# %" PRIu64 " refused by both, %" PRIu64 " too long or shifted too far, %" PRIu64
	       " the same as another of their batch\n",
		count.refused, count.long_ones, count.repeated);
	printf("# %" PRIu64 " pairs accepted, %" PRIu64
	       " refused; libpcap did not come back from %" PRIu64 "\n",
		count.accepted, count.pairs - count.accepted, count.loops);
	printf("# %" PRIu64 " packets with bytes changed, %" PRIu64 " cut\n1..1\n", count.changed,
		count.cut);
	return 0;
}
