/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What must be true of a packet for a filter to accept it: every path through the program to an
 * acceptance, and on each the loads from the packet that were found equal to something. Only what
 * is understood becomes part of a term; leaving a condition out makes a term weaker, never wrong.
 * Whether nothing of importance was left out is found by going through the program again with what
 * the term says: if no way leads to a rejection then, the term is exact.
 * Control thread, once for each program; bounded in time, and for a program that exceeds the bounds
 * there are no terms.
 */
#include "engine/filter_internal.h"

#include <arpa/inet.h>
#include <string.h>

#include <pcap/bpf.h>

#define STEPS_MAX       16384 /* instructions, over all paths */
#define DEPTH_MAX       64
#define FACTS_MAX       24
#define FRAGMENT_OFFSET 0x1fff
#define PREFIX_BITS_MIN 16 /* of an IPv4 address; less says too little */

/* Bytes of the packet: at offset, or at the end of the IPv4 header that begins at header. */
struct load {
	uint16_t size;   /* BPF_W, BPF_H, BPF_B */
	uint16_t header; /* 0: none */
	uint32_t offset;
};

/* What a register holds. */
struct value {
	enum { VALUE_UNKNOWN, VALUE_CONST, VALUE_LOAD, VALUE_HEADER_LEN } kind;
	struct load load;
	uint32_t k; /* the constant; the mask of a load; where the header is */
};

/* load & mask == value. */
struct fact {
	struct load load;
	uint32_t mask, value;
};

struct path {
	struct value a, x;
	struct value memory[BPF_MEMWORDS];
	unsigned n_facts;
	struct fact facts[FACTS_MAX];
};

/* How much of a packet is there for certain, by what it is. */
struct bounds {
	uint32_t n;      /* bytes from its beginning */
	uint16_t header; /* of IPv4: it is there, and four bytes behind it; else 0 */
};

struct walk {
	const struct filter_insn *insn;
	uint32_t n;
	uint32_t steps_left;

	/* finding terms */
	unsigned n_terms;
	struct filter_term *terms;

	/* proving one: not NULL, and every path has to accept */
	const struct bounds *bounds;
};

enum branch { BRANCH_UNKNOWN, BRANCH_NEVER, BRANCH_ALWAYS };

static bool walk_from(struct walk *walk, uint32_t at, const struct path *before, unsigned depth);
static bool insn_return(struct walk *walk, const struct path *path, const struct filter_insn *insn);
static bool insn_load(const struct walk *walk, struct path *path, const struct filter_insn *insn);
static bool insn_alu(const struct walk *walk, struct path *path, const struct filter_insn *insn);
static enum branch branch_foresee(const struct path *path, const struct filter_insn *insn);
static void branch_learn(struct path *path, const struct filter_insn *insn, bool taken);
static bool term_add(struct walk *walk, const struct path *path);
static bool term_prove(const struct walk *walk, const struct filter_term *term);

unsigned filter_terms_find(
	const struct filter_insn *insn, uint32_t n, struct filter_term terms[FILTER_TERMS_MAX])
{
	struct walk walk = {.insn = insn, .n = n, .steps_left = STEPS_MAX, .terms = terms};
	const struct path path = {.n_facts = 0};

	if (!walk_from(&walk, 0, &path, 0))
		return 0;
	for (unsigned i = 0; i < walk.n_terms; i++)
		terms[i].exact = term_prove(&walk, &terms[i]);
	return walk.n_terms;
}

/* Every path from an instruction on. False when there can be no terms, or the term is not exact. */
static bool walk_from(struct walk *walk, uint32_t at, const struct path *before, unsigned depth)
{
	struct path path = *before;

	if (depth > DEPTH_MAX)
		return false;
	for (;;) {
		const struct filter_insn *insn;
		struct path taken;

		/* Loops jump backwards, which is beyond the end modulo 2^32. */
		if (at >= walk->n || walk->steps_left == 0)
			return false;
		walk->steps_left--;
		insn = &walk->insn[at++];
		switch (BPF_CLASS(insn->code)) {
		case BPF_LD:
		case BPF_LDX:
			if (!insn_load(walk, &path, insn))
				return false;
			break;
		case BPF_ST:
			path.memory[insn->k] = path.a;
			break;
		case BPF_STX:
			path.memory[insn->k] = path.x;
			break;
		case BPF_ALU:
			if (!insn_alu(walk, &path, insn))
				return false;
			break;
		case BPF_MISC:
			if (BPF_MISCOP(insn->code) == BPF_TAX)
				path.x = path.a;
			else
				path.a = path.x;
			break;
		case BPF_RET:
			return insn_return(walk, &path, insn);
		case BPF_JMP:
			if (BPF_OP(insn->code) == BPF_JA) {
				if (insn->k >= walk->n)
					return false;
				at += insn->k;
				break;
			}
			switch (branch_foresee(&path, insn)) {
			case BRANCH_ALWAYS:
				at += insn->jt;
				break;
			case BRANCH_UNKNOWN:
				taken = path;
				branch_learn(&taken, insn, true);
				if (!walk_from(walk, at + insn->jt, &taken, depth + 1))
					return false;
				branch_learn(&path, insn, false);
				/* fall through */
			case BRANCH_NEVER:
				at += insn->jf;
				break;
			}
			break;
		}
	}
}

static bool insn_return(struct walk *walk, const struct path *path, const struct filter_insn *insn)
{
	const bool by_constant = BPF_RVAL(insn->code) == BPF_K;

	if (walk->bounds != NULL)
		return by_constant && insn->k != 0;
	return (by_constant && insn->k == 0) || term_add(walk, path);
}

/* Every packet that the term is about has these bytes. */
static bool load_certain(const struct bounds *bounds, const struct load *load)
{
	const uint64_t size = load->size == BPF_W ? 4 : load->size == BPF_H ? 2 : 1;
	const uint64_t end = load->offset + size;

	if (load->header == 0)
		return end <= bounds->n;
	return load->header == bounds->header && end <= (uint64_t)load->header + 4;
}

/* False when the load may end the program and must not. */
static bool insn_load(const struct walk *walk, struct path *path, const struct filter_insn *insn)
{
	struct value *to = BPF_CLASS(insn->code) == BPF_LDX ? &path->x : &path->a;
	const uint16_t size = BPF_SIZE(insn->code);
	const uint32_t all = size == BPF_W ? UINT32_MAX : size == BPF_H ? 0xffff : 0xff;
	const struct value x = path->x;
	struct load load = {.size = size, .offset = insn->k};

	*to = (struct value){.kind = VALUE_UNKNOWN};
	switch (BPF_MODE(insn->code)) {
	case BPF_IMM:
	case BPF_LEN:
		return true;
	case BPF_MEM:
		*to = path->memory[insn->k];
		return true;
	case BPF_MSH:
		*to = (struct value){.kind = VALUE_HEADER_LEN, .k = insn->k};
		load.size = BPF_B;
		break;
	case BPF_ABS:
		*to = (struct value){.kind = VALUE_LOAD, .load = load, .k = all};
		break;
	case BPF_IND:
		if (x.kind != VALUE_HEADER_LEN || x.k == 0 || x.k > UINT16_MAX)
			return walk->bounds == NULL;
		load.header = (uint16_t)x.k;
		*to = (struct value){.kind = VALUE_LOAD, .load = load, .k = all};
		break;
	default:
		return walk->bounds == NULL;
	}
	return walk->bounds == NULL || load_certain(walk->bounds, &load);
}

/* Arithmetic is not followed, but for masks. False when it may end the program and must not. */
static bool insn_alu(const struct walk *walk, struct path *path, const struct filter_insn *insn)
{
	const bool divides = BPF_OP(insn->code) == BPF_DIV || BPF_OP(insn->code) == BPF_MOD;

	if (BPF_OP(insn->code) == BPF_AND && BPF_SRC(insn->code) == BPF_K &&
		path->a.kind == VALUE_LOAD)
		path->a.k &= insn->k;
	else
		path->a = (struct value){.kind = VALUE_UNKNOWN};
	return walk->bounds == NULL || !divides || BPF_SRC(insn->code) == BPF_K;
}

static bool load_equal(const struct load *a, const struct load *b)
{
	return a->size == b->size && a->header == b->header && a->offset == b->offset;
}

/* What is known of a load: the bits, and their value. */
static uint32_t load_known(const struct path *path, const struct load *load, uint32_t *value)
{
	uint32_t mask = 0;

	*value = 0;
	for (unsigned i = 0; i < path->n_facts; i++) {
		if (!load_equal(&path->facts[i].load, load))
			continue;
		mask |= path->facts[i].mask;
		*value |= path->facts[i].value;
	}
	return mask;
}

/* One too many is forgotten, which makes what is known less, not wrong. */
static void fact_add(struct path *path, struct load load, uint32_t mask, uint32_t value)
{
	if (path->n_facts < FACTS_MAX)
		path->facts[path->n_facts++] =
			(struct fact){.load = load, .mask = mask, .value = value};
}

static bool is_about_packet(const struct path *path, const struct filter_insn *insn)
{
	return BPF_SRC(insn->code) == BPF_K && path->a.kind == VALUE_LOAD;
}

/* Which way packets go that have come here. */
static enum branch branch_foresee(const struct path *path, const struct filter_insn *insn)
{
	const uint32_t bits = path->a.k;
	uint32_t known, value;

	if (!is_about_packet(path, insn))
		return BRANCH_UNKNOWN;
	known = load_known(path, &path->a.load, &value) & bits;
	value &= bits;
	if (BPF_OP(insn->code) == BPF_JEQ) {
		if ((insn->k & ~bits) != 0 || ((value ^ insn->k) & known) != 0)
			return BRANCH_NEVER;
		return known == bits ? BRANCH_ALWAYS : BRANCH_UNKNOWN;
	}
	if (BPF_OP(insn->code) == BPF_JSET) {
		if ((value & insn->k) != 0)
			return BRANCH_ALWAYS;
		return (bits & insn->k & ~known) == 0 ? BRANCH_NEVER : BRANCH_UNKNOWN;
	}
	return BRANCH_UNKNOWN;
}

static void branch_learn(struct path *path, const struct filter_insn *insn, bool taken)
{
	if (!is_about_packet(path, insn))
		return;
	if (taken && BPF_OP(insn->code) == BPF_JEQ)
		fact_add(path, path->a.load, path->a.k, insn->k);
	else if (!taken && BPF_OP(insn->code) == BPF_JSET)
		fact_add(path, path->a.load, path->a.k & insn->k, 0);
}

/* --- what a path says about the key ------------------------------------------------------------
 */

static uint32_t fact_find(
	const struct path *path, uint16_t size, uint16_t header, uint32_t offset, uint32_t *value)
{
	const struct load load = {.size = size, .header = header, .offset = offset};

	return load_known(path, &load, value);
}

/* The ethertype of the path's packets, 0 when it is not known. */
static uint16_t ethertype_find(const struct path *path, uint32_t offset)
{
	uint32_t value;

	return fact_find(path, BPF_H, 0, offset, &value) == 0xffff ? (uint16_t)value : 0;
}

static void ipv4_put(const struct path *path, uint32_t offset, uint32_t *to, uint32_t *to_mask)
{
	uint32_t value, mask = fact_find(path, BPF_W, 0, offset, &value);

	if (__builtin_popcount(mask) < PREFIX_BITS_MIN)
		return;
	*to = htonl(value);
	*to_mask = htonl(mask);
}

static void ipv6_put(const struct path *path, uint32_t offset, uint32_t *to, uint32_t *to_mask,
	uint8_t whole[16])
{
	uint32_t address[4];

	for (unsigned i = 0; i < 4; i++) {
		if (fact_find(path, BPF_W, 0, offset + 4 * i, &address[i]) != UINT32_MAX)
			return;
		address[i] = htonl(address[i]);
	}
	memcpy(whole, address, sizeof(address));
	*to = filter_key_fold(address);
	*to_mask = UINT32_MAX;
}

static void port_put(
	const struct path *path, uint16_t header, uint32_t offset, uint16_t *to, uint16_t *to_mask)
{
	uint32_t value;

	if (fact_find(path, BPF_H, header, offset, &value) != 0xffff)
		return;
	*to = htons((uint16_t)value);
	*to_mask = 0xffff;
}

static void byte_put(const struct path *path, uint32_t offset, uint8_t *to, uint8_t *to_mask)
{
	uint32_t value;

	if (fact_find(path, BPF_B, 0, offset, &value) != 0xff)
		return;
	*to = (uint8_t)value;
	*to_mask = 0xff;
}

static void fragment_put(const struct path *path, uint32_t offset, uint8_t *to, uint8_t *to_mask)
{
	uint32_t value, mask = fact_find(path, BPF_H, 0, offset, &value);

	if ((mask & FRAGMENT_OFFSET) != FRAGMENT_OFFSET || (value & FRAGMENT_OFFSET) != 0)
		return;
	*to = 0;
	*to_mask = 0xff;
}

/* False when the path doesn't say what the packet is, or names neither an address nor a port. */
static bool term_make(const struct path *path, struct filter_term *term)
{
	struct filter_key *value = &term->value, *mask = &term->mask;
	uint16_t ethertype = ethertype_find(path, FILTER_ETHERTYPE);
	uint16_t at = FILTER_NETWORK;

	memset(term, 0, sizeof(*term));
	if (filter_key_is_tag(ethertype)) {
		ethertype = ethertype_find(path, FILTER_ETHERTYPE + FILTER_TAG);
		at += FILTER_TAG;
		value->kind = FILTER_KIND_TAGGED;
	}
	value->kind |= filter_key_kind(ethertype);
	mask->kind = UINT8_MAX;
	switch (filter_key_kind(ethertype)) {
	case FILTER_KIND_IPV4:
		ipv4_put(path, at + FILTER_IPV4_SRC, &value->src, &mask->src);
		ipv4_put(path, at + FILTER_IPV4_DST, &value->dst, &mask->dst);
		port_put(path, at, at, &value->sport, &mask->sport);
		port_put(path, at, at + 2, &value->dport, &mask->dport);
		byte_put(path, at + FILTER_IPV4_PROTO, &value->proto, &mask->proto);
		fragment_put(path, at + FILTER_IPV4_FRAGMENT, &value->fragment, &mask->fragment);
		break;
	case FILTER_KIND_IPV6:
		ipv6_put(path, at + FILTER_IPV6_SRC, &value->src, &mask->src, term->src6);
		ipv6_put(path, at + FILTER_IPV6_DST, &value->dst, &mask->dst, term->dst6);
		port_put(path, 0, at + FILTER_IPV6_PORTS, &value->sport, &mask->sport);
		port_put(path, 0, at + FILTER_IPV6_PORTS + 2, &value->dport, &mask->dport);
		byte_put(path, at + FILTER_IPV6_NEXT, &value->proto, &mask->proto);
		break;
	case FILTER_KIND_ARP:
	case FILTER_KIND_RARP:
		ipv4_put(path, at + FILTER_ARP_SRC, &value->src, &mask->src);
		ipv4_put(path, at + FILTER_ARP_DST, &value->dst, &mask->dst);
		break;
	default:
		return false;
	}
	return mask->word[0] != 0 || mask->sport != 0 || mask->dport != 0;
}

/* Every packet that fulfils term fulfils other, too. */
static bool term_within(const struct filter_term *term, const struct filter_term *other)
{
	if (filter_key_is_ipv6(&other->value) &&
		((other->mask.src != 0 && memcmp(term->src6, other->src6, 16) != 0) ||
			(other->mask.dst != 0 && memcmp(term->dst6, other->dst6, 16) != 0)))
		return false;
	for (unsigned w = 0; w < 2; w++)
		if ((other->mask.word[w] & ~term->mask.word[w]) != 0 ||
			((term->value.word[w] ^ other->value.word[w]) & other->mask.word[w]) != 0)
			return false;
	return true;
}

static bool term_add(struct walk *walk, const struct path *path)
{
	struct filter_term term;
	unsigned n = 0;

	if (!term_make(path, &term))
		return false;
	for (unsigned i = 0; i < walk->n_terms; i++)
		if (term_within(&term, &walk->terms[i]))
			return true;
	for (unsigned i = 0; i < walk->n_terms; i++)
		if (!term_within(&walk->terms[i], &term))
			walk->terms[n++] = walk->terms[i];
	walk->n_terms = n;
	if (walk->n_terms == FILTER_TERMS_MAX)
		return false;
	walk->terms[walk->n_terms++] = term;
	return true;
}

static void fact_put(struct path *path, uint16_t size, uint16_t header, uint32_t offset,
	uint32_t mask, uint32_t value)
{
	const struct load load = {.size = size, .header = header, .offset = offset};

	if (mask != 0)
		fact_add(path, load, mask, value);
}

static void ipv6_facts(struct path *path, uint32_t offset, const uint8_t address[16])
{
	uint32_t word;

	for (unsigned i = 0; i < 4; i++) {
		memcpy(&word, address + 4 * i, sizeof(word));
		fact_put(path, BPF_W, 0, offset + 4 * i, UINT32_MAX, ntohl(word));
	}
}

/* What the term says, as facts about a packet whose network header is at that offset. */
static void term_facts(const struct filter_term *term, uint16_t at, struct path *path)
{
	const struct filter_key *value = &term->value, *mask = &term->mask;

	switch (value->kind & ~FILTER_KIND_TAGGED) {
	case FILTER_KIND_IPV4:
		fact_put(path, BPF_W, 0, at + FILTER_IPV4_SRC, ntohl(mask->src), ntohl(value->src));
		fact_put(path, BPF_W, 0, at + FILTER_IPV4_DST, ntohl(mask->dst), ntohl(value->dst));
		fact_put(path, BPF_B, 0, at + FILTER_IPV4_PROTO, mask->proto, value->proto);
		fact_put(path, BPF_H, 0, at + FILTER_IPV4_FRAGMENT,
			mask->fragment != 0 ? FRAGMENT_OFFSET : 0, 0);
		fact_put(path, BPF_H, at, at, mask->sport, ntohs(value->sport));
		fact_put(path, BPF_H, at, at + 2, mask->dport, ntohs(value->dport));
		break;
	case FILTER_KIND_IPV6:
		if (mask->src != 0)
			ipv6_facts(path, at + FILTER_IPV6_SRC, term->src6);
		if (mask->dst != 0)
			ipv6_facts(path, at + FILTER_IPV6_DST, term->dst6);
		fact_put(path, BPF_B, 0, at + FILTER_IPV6_NEXT, mask->proto, value->proto);
		fact_put(path, BPF_H, 0, at + FILTER_IPV6_PORTS, mask->sport, ntohs(value->sport));
		fact_put(path, BPF_H, 0, at + FILTER_IPV6_PORTS + 2, mask->dport,
			ntohs(value->dport));
		break;
	default:
		fact_put(path, BPF_W, 0, at + FILTER_ARP_SRC, ntohl(mask->src), ntohl(value->src));
		fact_put(path, BPF_W, 0, at + FILTER_ARP_DST, ntohl(mask->dst), ntohl(value->dst));
	}
}

/* Does the program accept every whole packet of this kind, behind this tag, that fulfils the term? */
static bool term_prove_behind(
	const struct walk *found, const struct filter_term *term, uint16_t tag)
{
	static const uint16_t ethertypes[] = {
		[FILTER_KIND_IPV4] = 0x0800,
		[FILTER_KIND_IPV6] = 0x86dd,
		[FILTER_KIND_ARP] = 0x0806,
		[FILTER_KIND_RARP] = 0x8035,
	};
	const unsigned kind = term->value.kind & ~FILTER_KIND_TAGGED;
	const uint16_t at = FILTER_NETWORK + (tag != 0 ? FILTER_TAG : 0);
	const struct bounds bounds = {
		.n = kind == FILTER_KIND_IPV6 ? at + FILTER_IPV6_PORTS + 4u : FILTER_WHOLE_MIN,
		.header = kind == FILTER_KIND_IPV4 ? at : 0,
	};
	struct walk walk = {
		.insn = found->insn, .n = found->n, .steps_left = STEPS_MAX, .bounds = &bounds};
	struct path path = {.n_facts = 0};

	if (tag != 0)
		fact_put(&path, BPF_H, 0, FILTER_ETHERTYPE, 0xffff, tag);
	fact_put(&path, BPF_H, 0, at - 2, 0xffff, ethertypes[kind]);
	term_facts(term, at, &path);
	return walk_from(&walk, 0, &path, 0);
}

static bool term_prove(const struct walk *found, const struct filter_term *term)
{
	if ((term->value.kind & FILTER_KIND_TAGGED) == 0)
		return term_prove_behind(found, term, 0);
	return term_prove_behind(found, term, 0x8100) && term_prove_behind(found, term, 0x88a8) &&
	       term_prove_behind(found, term, 0x9100);
}
