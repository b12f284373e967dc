/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * From classic BPF to native code with rte_bpf, and around six things that DPDK 22.11 does
 * wrongly.
 *
 * Four are repaired between rte_bpf_convert() and rte_bpf_load():
 * - an indexed load of a byte or word reads r0 instead of the index: tcp[tcpflags], udp[8:4];
 * - a load below zero reads in front of the packet, one near 2^32 walks off the end of a chain, and
 * the packet can choose: ether[ether[0] - 1]; libpcap rejects such a packet;
 * - for JSET|K with K <= 127 the x86 JIT emits an operand of one byte where four are due: a crash;
 * - x86 takes a shift by 32 or more modulo 32; libpcap's result is 0.
 *
 * The fifth: the x86 JIT fits short and long jumps until the size of the code stays the same, and
 * so stops too early when one jump grows as another shrinks. Jumps then land some bytes beside
 * their target. Its passes are gone through here first, and a program on which it would go wrong is
 * laid out a little differently.
 *
 * The sixth: the validator walks the ways through a program, whose number can be exponential. See
 * "what the validator can walk" below.
 *
 * Control thread only; the lcores run what comes out.
 */
#include "engine/filter_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_bpf.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#include <pcap/bpf.h>

/* Registers as rte_bpf_convert() uses them; r9 is one that it never touches. */
#define REG_A       EBPF_REG_0
#define REG_X       EBPF_REG_7
#define REG_PACKET  EBPF_REG_6
#define REG_SAVED_A EBPF_REG_8 /* between two instructions of one conversion only */
#define REG_SCRATCH EBPF_REG_9

/* No packet is this long, and adding the size of a load stays below 2^31. */
#define OFFSET_MAX 0x7fff0000u
/* With an index of at most INDEX_SMALL, offset and index cannot pass OFFSET_MAX. */
#define INDEX_SMALL 0xffffu

/* Instructions that the validator may look at one after another: some milliseconds of work. */
#define WALK_MAX 20000

#define PROLOGUE_LEN 3  /* of what rte_bpf_convert() makes */
#define REPAIRED_MAX 14 /* instructions that one can become, a filler included */
#define LAYOUTS_MAX  16

/* Whose value may still be used. */
enum {
	LIVE_A = 1,
	LIVE_X = 2,
	LIVE_SAVED_A = 4,
};

struct repair {
	const struct ebpf_insn *in;
	uint32_t n_in;
	struct ebpf_insn *out;
	uint32_t n_out;
	uint32_t *at;     /* out[at[i]] is where the repaired in[i] starts */
	int32_t *native;  /* native[i] is where the code of out[i] starts, and its end at last */
	uint8_t *live;    /* LIVE_ bits at the start of in[i] */
	bool index_small; /* X never exceeds INDEX_SMALL */
	bool plain;       /* the validator can walk it as it is */
	bool uses_x;
	uint16_t slots;  /* of M[] that are stored to */
	unsigned layout; /* 0: as it is; else fillers are put in, elsewhere for each number */
};

static struct bpf_insn *memory_cleared(const struct filter_insn *insn, uint32_t *n);
static bool index_is_small(const struct filter_insn *insn, uint32_t n);
static bool walk_is_short(const struct ebpf_insn *in, uint32_t n);
static void live_find(struct repair *repair);
static int repair_program(struct repair *repair);
static int native_foresee(struct repair *repair);
static bool native_is_foreseen(const struct repair *repair, const struct rte_bpf_jit *jit);

/* Load what was repaired, or NULL. */
static struct rte_bpf *repair_load_bpf(
	const struct repair *repair, struct rte_bpf_prm *prm, uint64_t (**accept)(void *mbuf))
{
	struct rte_bpf_jit jit;
	struct rte_bpf *bpf;

	prm->ins = repair->out;
	prm->nb_ins = repair->n_out;
	bpf = rte_bpf_load(prm);
	if (bpf == NULL)
		return NULL;
	if (rte_bpf_get_jit(bpf, &jit) == 0 && jit.func != NULL &&
		native_is_foreseen(repair, &jit)) {
		*accept = jit.func;
		return bpf;
	}
	rte_bpf_destroy(bpf);
	return NULL;
}

static int repair_and_foresee(struct repair *repair)
{
	int ret = -EAGAIN;

	for (repair->layout = 0; ret == -EAGAIN && repair->layout < LAYOUTS_MAX; repair->layout++) {
		ret = repair_program(repair);
		if (ret == 0)
			ret = native_foresee(repair);
	}
	return ret;
}

static bool repair_alloc(struct repair *repair)
{
	repair->at = calloc(repair->n_in, sizeof(repair->at[0]));
	repair->live = calloc(repair->n_in + 1, sizeof(repair->live[0]));
	repair->out = calloc(repair->n_in + 2, REPAIRED_MAX * sizeof(repair->out[0]));
	repair->native = calloc((repair->n_in + 2) * REPAIRED_MAX, sizeof(repair->native[0]));
	return repair->at != NULL && repair->live != NULL && repair->out != NULL &&
	       repair->native != NULL;
}

static void repair_free(struct repair *repair)
{
	free(repair->native);
	free(repair->out);
	free(repair->live);
	free(repair->at);
}

struct rte_bpf *filter_jit_new(
	const struct filter_insn *insn, uint32_t n, uint64_t (**accept)(void *mbuf))
{
	struct repair repair = {.index_small = index_is_small(insn, n)};
	struct bpf_program program = {.bf_insns = memory_cleared(insn, &n)};
	struct rte_bpf *bpf = NULL;
	struct rte_bpf_prm *prm;

	*accept = NULL;
	if (program.bf_insns == NULL)
		return NULL;
	program.bf_len = n;
	/* A refusal is an answer here, not an error for the log. */
	rte_log_set_level_pattern("lib.bpf", RTE_LOG_CRIT);
	prm = rte_bpf_convert(&program);
	free(program.bf_insns);
	if (prm == NULL)
		return NULL;
	repair.in = prm->ins;
	repair.n_in = prm->nb_ins;
	repair.plain = walk_is_short(repair.in, repair.n_in);
	if (repair_alloc(&repair)) {
		live_find(&repair);
		if (repair_and_foresee(&repair) == 0)
			bpf = repair_load_bpf(&repair, prm, accept);
	}
	repair_free(&repair);
	rte_free(prm);
	return bpf;
}

void filter_jit_free(struct rte_bpf *bpf)
{
	rte_bpf_destroy(bpf);
}

/* --- repairs --------------------------------------------------------------------------------- */

/* The slots of M[] that some way through the program reads before it writes them. */
static uint16_t slots_read_first(const struct filter_insn *insn, uint32_t n, uint16_t *written)
{
	uint16_t first = 0;

	memset(written, 0xff, n * sizeof(written[0]));
	written[0] = 0;
	for (uint32_t i = 0; i < n; i++) {
		const uint16_t class = BPF_CLASS(insn[i].code);
		uint64_t ways[] = {i + 1, i + 1};
		uint16_t after = written[i];

		if (class == BPF_ST || class == BPF_STX)
			after |= 1u << insn[i].k;
		else if ((class == BPF_LD || class == BPF_LDX) && BPF_MODE(insn[i].code) == BPF_MEM)
			first |= ~after & 1u << insn[i].k;
		else if (class == BPF_JMP && BPF_OP(insn[i].code) == BPF_JA)
			ways[0] = ways[1] += insn[i].k;
		else if (class == BPF_JMP) {
			ways[0] += insn[i].jt;
			ways[1] += insn[i].jf;
		}
		for (unsigned way = 0; way < 2 && class != BPF_RET; way++)
			if (ways[way] < n)
				written[ways[way]] &= after;
	}
	return first;
}

/*
 * A copy of the program, *n long, that reads zeros where nobody wrote, as everywhere else, and not what
 * the stack holds: behind "geneve" libpcap's compiler writes programs that do. NULL without memory.
 */
static struct bpf_insn *memory_cleared(const struct filter_insn *insn, uint32_t *n)
{
	struct bpf_insn *copy = calloc(*n + 1 + BPF_MEMWORDS, sizeof(*copy));
	uint16_t *written = calloc(*n, sizeof(*written));
	uint16_t first;
	uint32_t at = 0;

	if (copy == NULL || written == NULL) {
		free(copy);
		free(written);
		return NULL;
	}
	first = slots_read_first(insn, *n, written);
	free(written);
	if (first != 0)
		copy[at++] = (struct bpf_insn){.code = BPF_LD | BPF_IMM};
	for (unsigned slot = 0; slot < BPF_MEMWORDS; slot++)
		if ((first & 1u << slot) != 0)
			copy[at++] = (struct bpf_insn){.code = BPF_ST, .k = slot};
	memcpy(copy + at, insn, *n * sizeof(*copy));
	*n += at;
	return copy;
}

/*
 * Most programs only ever put an IPv4 header length into the index. Those need no guard on each
 * indexed load, which would cost about a nanosecond.
 */
static bool index_is_small(const struct filter_insn *insn, uint32_t n)
{
	for (const struct filter_insn *end = insn + n; insn < end; insn++) {
		switch (BPF_CLASS(insn->code)) {
		case BPF_LDX:
			if (BPF_MODE(insn->code) == BPF_MSH ||
				(BPF_MODE(insn->code) == BPF_IMM && insn->k <= INDEX_SMALL))
				break;
			return false;
		case BPF_MISC:
			if (BPF_MISCOP(insn->code) == BPF_TAX)
				return false;
			break;
		}
	}
	return true;
}

static bool ebpf_is_jump(const struct ebpf_insn *insn)
{
	return BPF_CLASS(insn->code) == BPF_JMP && BPF_OP(insn->code) != EBPF_EXIT &&
	       BPF_OP(insn->code) != EBPF_CALL;
}

static struct ebpf_insn ebpf_alu(uint8_t code, uint8_t dst, uint8_t src)
{
	return (struct ebpf_insn){.code = code | BPF_X, .dst_reg = dst, .src_reg = src};
}

static struct ebpf_insn ebpf_alu_k(uint8_t code, uint8_t dst, int32_t k)
{
	return (struct ebpf_insn){.code = code | BPF_K, .dst_reg = dst, .imm = k};
}

static bool ebpf_is_exit(const struct ebpf_insn *insn)
{
	return insn->code == (BPF_JMP | EBPF_EXIT);
}

static struct ebpf_insn ebpf_exit(void)
{
	return (struct ebpf_insn){.code = BPF_JMP | EBPF_EXIT};
}

static struct ebpf_insn ebpf_jump_always(int16_t off)
{
	return (struct ebpf_insn){.code = BPF_JMP | BPF_JA, .off = off};
}

static struct ebpf_insn ebpf_mov_k(uint8_t reg, uint32_t k)
{
	return (struct ebpf_insn){
		.code = BPF_ALU | EBPF_MOV | BPF_K, .dst_reg = reg, .imm = (int32_t)k};
}

static struct ebpf_insn ebpf_jump_k(uint8_t op, uint8_t reg, uint32_t k, int16_t off)
{
	return (struct ebpf_insn){
		.code = BPF_JMP | op | BPF_K, .dst_reg = reg, .off = off, .imm = (int32_t)k};
}

/*
 * A load whose offset is worked out here, in 64 bits so that it cannot wrap, and looked at before
 * use: what lies behind any packet ends the program with 0.
 */
static unsigned repair_load_guarded(const struct ebpf_insn *in, struct ebpf_insn *out)
{
	unsigned n = 0;

	out[n++] = ebpf_mov_k(REG_SCRATCH, (uint32_t)in->imm);
	if (BPF_MODE(in->code) == BPF_IND)
		out[n++] = (struct ebpf_insn){.code = EBPF_ALU64 | BPF_ADD | BPF_X,
			.dst_reg = REG_SCRATCH,
			.src_reg = REG_X};
	out[n++] = ebpf_jump_k(EBPF_JLE, REG_SCRATCH, OFFSET_MAX, 2);
	out[n++] = ebpf_mov_k(REG_A, 0);
	out[n++] = ebpf_exit();
	out[n++] = (struct ebpf_insn){
		.code = BPF_LD | BPF_IND | BPF_SIZE(in->code), .src_reg = REG_SCRATCH};
	return n;
}

static unsigned repair_load(
	const struct repair *repair, const struct ebpf_insn *in, struct ebpf_insn *out)
{
	bool indexed = BPF_MODE(in->code) == BPF_IND;

	if ((uint32_t)in->imm > OFFSET_MAX - INDEX_SMALL || (indexed && !repair->index_small))
		return repair_load_guarded(in, out);
	*out = *in;
	if (indexed)
		out->src_reg = REG_X;
	return 1;
}

static unsigned repair_jset(const struct ebpf_insn *in, struct ebpf_insn *out)
{
	out[0] = ebpf_mov_k(REG_SCRATCH, (uint32_t)in->imm);
	out[1] = *in;
	out[1].code = BPF_JMP | BPF_JSET | BPF_X;
	out[1].src_reg = REG_SCRATCH;
	out[1].imm = 0;
	return 2;
}

static unsigned repair_shift(const struct ebpf_insn *in, struct ebpf_insn *out)
{
	if (BPF_SRC(in->code) == BPF_K) {
		out[0] = (uint32_t)in->imm < 32 ? *in : ebpf_mov_k(REG_A, 0);
		return 1;
	}
	out[0] = ebpf_jump_k(EBPF_JLE, REG_X, 31, 2);
	out[1] = ebpf_mov_k(REG_A, 0);
	out[2] = ebpf_jump_always(1);
	out[3] = *in;
	return 4;
}

/* --- what the validator can walk ------------------------------------------------------------- */

/*
 * rte_bpf_load() follows all ways through a program, but for those on which a jump finds the
 * registers as another way left them, for two such states a jump. With twenty times "(host A and
 * tcp port B)" that takes 80 ms, with forty for ever, in the control thread. Programs with few ways
 * are left alone. In the others a conditional jump leaves nothing behind that depends on the way
 * there: its condition is worked out in the scratch register and mixed with a 0 of which the
 * validator does not know that it is one, and registers whose value is not used again are all set
 * to the same.
 */

#define REG_ZERO REG_SAVED_A /* in such programs, where nothing else is in it */

/* Would walking all ways look at few enough instructions? Jumps only go forward. */
static bool walk_is_short(const struct ebpf_insn *in, uint32_t n)
{
	uint32_t *walk = calloc(n + 1, sizeof(walk[0])), first;

	if (walk == NULL)
		return false;
	for (uint32_t i = n; i-- > 0;) {
		uint32_t target = i + 1 + (uint32_t)in[i].off;
		uint64_t sum = 1;

		if (!ebpf_is_exit(&in[i]) && in[i].code != (BPF_JMP | BPF_JA))
			sum += walk[i + 1];
		if (ebpf_is_jump(&in[i]) && target <= n)
			sum += walk[target];
		walk[i] = (uint32_t)RTE_MIN(sum, (uint64_t)WALK_MAX + 1);
	}
	first = walk[0];
	free(walk);
	return first <= WALK_MAX;
}

static uint8_t live_bit(uint8_t reg)
{
	return reg == REG_A         ? LIVE_A
	       : reg == REG_X       ? LIVE_X
	       : reg == REG_SAVED_A ? LIVE_SAVED_A
				    : 0;
}

/* What is live before the instruction, from what is live after it. */
static uint8_t live_before(const struct ebpf_insn *insn, uint8_t after)
{
	uint8_t dst = live_bit(insn->dst_reg);
	uint8_t src = BPF_SRC(insn->code) == BPF_X ? live_bit(insn->src_reg) : 0;

	switch (BPF_CLASS(insn->code)) {
	case BPF_LD:
		return (uint8_t)(after & ~LIVE_A) | (BPF_MODE(insn->code) == BPF_IND ? LIVE_X : 0);
	case BPF_LDX:
		return (uint8_t)(after & ~dst);
	case BPF_STX:
		return after | live_bit(insn->src_reg);
	case BPF_ALU:
	case EBPF_ALU64:
		if (BPF_OP(insn->code) == EBPF_MOV)
			return (uint8_t)(after & ~dst) | ((after & dst) != 0 ? src : 0);
		return after | dst | src;
	default:
		if (ebpf_is_exit(insn))
			return LIVE_A;
		return BPF_OP(insn->code) == BPF_JA ? after : after | dst | src;
	}
}

static void live_find(struct repair *repair)
{
	for (uint32_t i = repair->n_in; i-- > 0;) {
		const struct ebpf_insn *insn = &repair->in[i];
		uint32_t target = i + 1 + (uint32_t)insn->off;
		uint8_t after = repair->live[i + 1];

		if (ebpf_is_jump(insn) && target < repair->n_in)
			after = repair->live[target] | (BPF_OP(insn->code) != BPF_JA ? after : 0);
		repair->live[i] = live_before(insn, after);
		repair->uses_x |= (after & LIVE_X) != 0;
		if (BPF_CLASS(insn->code) == BPF_STX)
			repair->slots |= 1u << (BPF_MEMWORDS + insn->off / 4);
	}
}

/* REG_SCRATCH := the register, or 0 for REG_ZERO, and as for the validator anything at all. */
static unsigned walk_obscure(uint8_t reg, struct ebpf_insn *out)
{
	unsigned n = 0;

	out[n++] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_SCRATCH, REG_ZERO);
	if (reg != REG_ZERO)
		out[n++] = ebpf_alu(BPF_ALU | BPF_XOR, REG_SCRATCH, reg);
	out[n++] = ebpf_alu(BPF_ALU | BPF_RSH, REG_SCRATCH, REG_ZERO);
	return n;
}

static struct ebpf_insn ebpf_length(uint8_t reg)
{
	return (struct ebpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,
		.dst_reg = reg,
		.src_reg = REG_PACKET,
		.off = offsetof(struct rte_mbuf, pkt_len)};
}

/* Behind the converter's own first instructions. */
static unsigned walk_prologue(const struct repair *repair, struct ebpf_insn *out)
{
	unsigned n = 0;

	out[n++] = ebpf_length(REG_ZERO);
	out[n++] = ebpf_length(REG_SCRATCH);
	out[n++] = ebpf_alu(BPF_ALU | BPF_XOR, REG_ZERO, REG_SCRATCH);
	n += walk_obscure(REG_ZERO, out + n);
	for (int slot = 0; slot < BPF_MEMWORDS; slot++) {
		if ((repair->slots & 1u << slot) != 0)
			out[n++] = (struct ebpf_insn){.code = BPF_STX | BPF_MEM | BPF_W,
				.dst_reg = EBPF_REG_10,
				.src_reg = REG_SCRATCH,
				.off = (int16_t)((slot - BPF_MEMWORDS) * 4)};
	}
	if ((repair->live[PROLOGUE_LEN] & LIVE_X) == 0)
		out[n++] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_X, REG_PACKET);
	return n;
}

static unsigned walk_store(const struct ebpf_insn *in, struct ebpf_insn *out)
{
	unsigned n = walk_obscure(in->src_reg, out);

	out[n] = *in;
	out[n++].src_reg = REG_SCRATCH;
	return n;
}

/* REG_SCRATCH := the constant or register that a jump compares A with. */
static unsigned walk_operand(const struct ebpf_insn *in, struct ebpf_insn *out)
{
	/* Constants from 2^31 the converter puts into a register first. */
	if (BPF_SRC(in->code) == BPF_K || in->src_reg == REG_SAVED_A) {
		out[0] = ebpf_mov_k(
			REG_SCRATCH, (uint32_t)(BPF_SRC(in->code) == BPF_K ? in->imm : in[-1].imm));
		return 1;
	}
	out[0] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_SCRATCH, REG_ZERO);
	out[1] = ebpf_alu(BPF_ALU | BPF_XOR, REG_SCRATCH, in->src_reg);
	return 2;
}

/* REG_SCRATCH := not zero when the jump is to be taken, or for JEQ when it is not. */
static unsigned walk_condition(const struct ebpf_insn *in, struct ebpf_insn *out)
{
	unsigned n = walk_operand(in, out);

	switch (BPF_OP(in->code)) {
	case BPF_JEQ:
	case EBPF_JNE:
		out[n++] = ebpf_alu(BPF_ALU | BPF_XOR, REG_SCRATCH, REG_A);
		break;
	case BPF_JSET:
		out[n++] = ebpf_alu(BPF_ALU | BPF_AND, REG_SCRATCH, REG_A);
		break;
	default: /* the sign of operand - A, or of operand - A - 1 */
		out[n++] = ebpf_alu(EBPF_ALU64 | BPF_SUB, REG_SCRATCH, REG_A);
		if (BPF_OP(in->code) == BPF_JGE)
			out[n++] = ebpf_alu_k(EBPF_ALU64 | BPF_SUB, REG_SCRATCH, 1);
		out[n++] = ebpf_alu_k(EBPF_ALU64 | BPF_RSH, REG_SCRATCH, 63);
	}
	out[n++] = ebpf_alu(BPF_ALU | BPF_XOR, REG_SCRATCH, REG_ZERO);
	return n;
}

static unsigned walk_branch(
	const struct repair *repair, const struct ebpf_insn *in, struct ebpf_insn *out)
{
	uint32_t next = (uint32_t)(in - repair->in) + 1;
	uint8_t live = repair->live[next] | repair->live[next + (uint32_t)in->off];
	unsigned n = walk_condition(in, out);

	if ((live & LIVE_A) == 0)
		out[n++] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_A, REG_PACKET);
	if ((live & LIVE_X) == 0 && repair->uses_x)
		out[n++] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_X, REG_PACKET);
	out[n++] = ebpf_alu(BPF_JMP | BPF_JSET, REG_SCRATCH, REG_SCRATCH);
	if (BPF_OP(in->code) == BPF_JEQ) {
		out[n - 1].off = 1;
		out[n++] = ebpf_jump_always(0);
	}
	return n;
}

/* A is saved and restored around the load of X; a large constant is loaded for the jump behind. */
static unsigned walk_saved(
	const struct repair *repair, const struct ebpf_insn *in, struct ebpf_insn *out)
{
	uint8_t live = repair->live[in - repair->in + 1];

	if (BPF_SRC(in->code) == BPF_K || (live & live_bit(in->dst_reg)) == 0)
		return 0;
	if (in->dst_reg == REG_A) {
		out[0] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_A, REG_SCRATCH);
		return 1;
	}
	out[0] = ebpf_alu(EBPF_ALU64 | EBPF_MOV, REG_SCRATCH, REG_ZERO);
	out[1] = ebpf_alu(BPF_ALU | BPF_XOR, REG_SCRATCH, REG_A);
	return 2;
}

static bool is_saved_move(const struct ebpf_insn *in)
{
	return BPF_CLASS(in->code) != BPF_JMP && BPF_OP(in->code) == EBPF_MOV &&
	       (in->dst_reg == REG_SAVED_A ||
		       (BPF_SRC(in->code) == BPF_X && in->src_reg == REG_SAVED_A));
}

/* --- the program as a whole ------------------------------------------------------------------ */

/* Write what in has to be to out; how many instructions that is. Jumps of in are aimed later. */
static unsigned repair_insn(
	const struct repair *repair, const struct ebpf_insn *in, struct ebpf_insn *out)
{
	if (!repair->plain && ebpf_is_jump(in) && BPF_OP(in->code) != BPF_JA &&
		in->dst_reg == REG_A)
		return walk_branch(repair, in, out);
	if (!repair->plain && BPF_CLASS(in->code) == BPF_STX)
		return walk_store(in, out);
	if (!repair->plain && is_saved_move(in))
		return walk_saved(repair, in, out);
	switch (in->code) {
	case BPF_LD | BPF_ABS | BPF_B:
	case BPF_LD | BPF_ABS | BPF_H:
	case BPF_LD | BPF_ABS | BPF_W:
	case BPF_LD | BPF_IND | BPF_B:
	case BPF_LD | BPF_IND | BPF_H:
	case BPF_LD | BPF_IND | BPF_W:
		return repair_load(repair, in, out);
	case BPF_ALU | BPF_LSH | BPF_K:
	case BPF_ALU | BPF_LSH | BPF_X:
	case BPF_ALU | BPF_RSH | BPF_K:
	case BPF_ALU | BPF_RSH | BPF_X:
		return repair_shift(in, out);
	case BPF_JMP | BPF_JSET | BPF_K:
		if (in->imm <= INT8_MAX)
			return repair_jset(in, out);
		break;
	}
	*out = *in;
	return 1;
}

/* A jump is always the last instruction of what it became. */
static int repair_jumps(const struct repair *repair)
{
	for (uint32_t i = 0; i < repair->n_in; i++) {
		uint32_t end = i + 1 < repair->n_in ? repair->at[i + 1] : repair->n_out;
		int32_t target = (int32_t)i + 1 + repair->in[i].off;

		if (!ebpf_is_jump(&repair->in[i]))
			continue;
		repair->out[end - 1].off = (int16_t)(repair->at[target] - end);
	}
	return 0;
}

/* One exit, at the end, whose code all others jump to: the JIT does as much, but less orderly. */
static int repair_exits(const struct repair *repair)
{
	uint32_t last = repair->n_out - 1;

	if (!ebpf_is_exit(&repair->out[last]))
		return -EINVAL;
	for (uint32_t i = 0; i < last; i++) {
		if (ebpf_is_exit(&repair->out[i]))
			repair->out[i] = ebpf_jump_always((int16_t)(last - i - 1));
	}
	return 0;
}

static int repair_program(struct repair *repair)
{
	int ret;

	repair->n_out = 0;
	for (uint32_t i = 0; i < repair->n_in; i++) {
		const struct ebpf_insn *in = &repair->in[i];

		/* A converter that uses our scratch register is one that we do not know. */
		if (in->dst_reg == REG_SCRATCH || in->src_reg == REG_SCRATCH)
			return -ENOTSUP;
		if (ebpf_is_jump(in) && (in->off < 0 || i + 1 + (uint32_t)in->off >= repair->n_in))
			return -ENOTSUP;
		repair->at[i] = repair->n_out;
		if (!repair->plain && i == PROLOGUE_LEN)
			repair->n_out += walk_prologue(repair, &repair->out[repair->n_out]);
		if (repair->layout > 0 && i % (repair->layout + 3) == 3 &&
			(repair->live[i] & LIVE_SAVED_A) == 0)
			repair->out[repair->n_out++] = ebpf_mov_k(REG_SCRATCH, 0);
		repair->n_out += repair_insn(repair, in, &repair->out[repair->n_out]);
	}
	if (repair->n_out > INT16_MAX)
		return -E2BIG;
	ret = repair_jumps(repair);
	return ret != 0 ? ret : repair_exits(repair);
}

#ifdef RTE_ARCH_X86_64

/* --- what the x86 JIT of DPDK 22.11 will do ----------------------------------------------------
 */

/* The code of one instruction: bytes, at most one jump that is short or long, more bytes. */
struct shape {
	uint8_t before, after;
	enum {
		JUMP_NONE,
		JUMP_ALWAYS, /* eb, e9 */
		JUMP_IF,     /* 7x, 0f 8x */
	} jump;
	bool to_exit; /* else to where the instruction's offset says */
};

/* r7, r8 and r9 live in r13, r14 and r15, which need a prefix. */
static unsigned rex_len(unsigned reg)
{
	return reg == EBPF_REG_7 || reg == EBPF_REG_8 || reg == EBPF_REG_9;
}

static unsigned imm_len(int32_t imm)
{
	return imm == (int8_t)imm ? 1 : 4;
}

static unsigned mov_k_len(unsigned prefix_len, int32_t imm)
{
	return prefix_len + (imm == 0 ? 2 : 6);
}

static struct shape shape_load(const struct ebpf_insn *insn)
{
	const unsigned address_len = (uint64_t)(uintptr_t)__rte_pktmbuf_read >> 32 != 0 ? 10 : 5;
	const unsigned index_len = BPF_MODE(insn->code) == BPF_IND ? 3 : 0;
	/* Before: the offset, is it in the first segment, its address, else __rte_pktmbuf_read().
	 */
	struct shape shape = {
		.before =
			(uint8_t)(mov_k_len(1, insn->imm) + index_len + 31 + 17 + address_len + 5),
		.jump = JUMP_IF,
		.to_exit = true,
	};

	/* After: the load itself, into host byte order. */
	shape.after = BPF_SIZE(insn->code) == BPF_H ? 12 : 5;
	return shape;
}

static struct shape shape_alu(const struct ebpf_insn *insn)
{
	unsigned rex = rex_len(insn->dst_reg), rex_x = rex | rex_len(insn->src_reg), len = 0;
	bool x = BPF_SRC(insn->code) == BPF_X;

	switch (BPF_OP(insn->code)) {
	case EBPF_MOV:
		len = x ? rex_x + 2 : mov_k_len(rex, insn->imm);
		break;
	case BPF_NEG:
		len = rex + 2;
		break;
	case BPF_LSH:
	case BPF_RSH:
		len = x ? 3 + rex + 2 + 3 : rex + 3;
		break;
	case BPF_MUL:
		len = 11 + (x ? 3 : mov_k_len(1, insn->imm));
		break;
	case BPF_DIV:
	case BPF_MOD:
		len = 12 + (BPF_OP(insn->code) == BPF_MOD ? 3 : 0);
		if (x)
			return (struct shape){7, (uint8_t)len, JUMP_IF, true};
		len += 7;
		break;
	default:
		len = x ? rex_x + 2 : rex + 2 + imm_len(insn->imm);
	}
	return (struct shape){.before = (uint8_t)len};
}

static struct shape shape_jump(const struct ebpf_insn *insn)
{
	if (BPF_OP(insn->code) == BPF_JA)
		return (struct shape){.jump = JUMP_ALWAYS};
	return (struct shape){
		.before = (uint8_t)(BPF_SRC(insn->code) == BPF_X ? 3 : 3 + imm_len(insn->imm)),
		.jump = JUMP_IF,
	};
}

static struct shape shape_of(const struct ebpf_insn *insn)
{
	switch (BPF_CLASS(insn->code)) {
	case BPF_LD:
		return shape_load(insn);
	case BPF_LDX:
		return (struct shape){.before = (uint8_t)(rex_len(insn->dst_reg) + 3)};
	case BPF_STX:
		return (struct shape){.before = (uint8_t)(rex_len(insn->src_reg) + 3)};
	case EBPF_ALU64:
		return (struct shape){.before = BPF_SRC(insn->code) == BPF_X ? 3 : 4};
	case BPF_ALU:
		return shape_alu(insn);
	default:
		return shape_jump(insn);
	}
}

static unsigned jump_len(const struct shape *shape, bool is_long)
{
	static const uint8_t lens[][2] = {
		[JUMP_NONE] = {0, 0}, [JUMP_ALWAYS] = {2, 5}, [JUMP_IF] = {2, 6}};

	return lens[shape->jump][is_long];
}

static uint32_t jump_target(const struct repair *repair, const struct shape *shape, uint32_t i)
{
	return shape->to_exit ? repair->n_out - 1 : i + 1 + (uint32_t)repair->out[i].off;
}

/* Registers that the code has to save: rbx and r13 in any program; r14, r15 and rbp in some. */
static unsigned saved_count(const struct repair *repair, bool *frame)
{
	bool used[EBPF_REG_10 + 1] = {[EBPF_REG_6] = true, [EBPF_REG_7] = true};
	unsigned n = 0;

	for (uint32_t i = 0; i < repair->n_out; i++) {
		const struct ebpf_insn *insn = &repair->out[i];

		used[insn->dst_reg] = used[insn->src_reg] = true;
		if (BPF_CLASS(insn->code) == BPF_LD)
			used[EBPF_REG_10] = true;
	}
	for (unsigned reg = EBPF_REG_6; reg <= EBPF_REG_10; reg++)
		n += used[reg];
	*frame = used[EBPF_REG_10];
	return n;
}

/* The JIT's choice for a jump that would begin at pos. */
static bool jump_is_long(const struct shape *shape, int32_t target, int32_t pos)
{
	int64_t ahead = (int64_t)target - pos, beyond = ahead + jump_len(shape, true);

	return ahead != (int8_t)ahead || beyond != (int8_t)beyond;
}

/* One pass of the JIT: jumps ahead are measured by the pass before. Where the exit starts. */
static int32_t native_pass(struct repair *repair, int32_t pos)
{
	int32_t *native = repair->native;

	for (uint32_t i = 0; i < repair->n_out - 1; i++) {
		struct shape shape = shape_of(&repair->out[i]);

		native[i] = pos;
		pos += shape.before;
		if (shape.jump != JUMP_NONE) {
			int32_t target = native[jump_target(repair, &shape, i)];

			pos += (int32_t)jump_len(&shape, jump_is_long(&shape, target, pos));
		}
		pos += shape.after;
	}
	native[repair->n_out - 1] = pos;
	return pos;
}

/* 0 with repair->native filled, or -EAGAIN when the JIT would stop before its jumps are right. */
static int native_foresee(struct repair *repair)
{
	bool frame;
	int32_t n_saved = (int32_t)saved_count(repair, &frame);
	int32_t prologue = 4 + 5 * n_saved + (frame ? 7 : 0);
	int32_t epilogue = 4 + 5 * n_saved + (frame ? 3 : 0) + 1;
	int32_t size, before, *settled;
	bool same;

	for (uint32_t i = 0; i < repair->n_out; i++)
		repair->native[i] = INT32_MAX;
	/* The first pass does not know yet which registers there are to save. */
	size = native_pass(repair, 0);
	do {
		before = size;
		size = native_pass(repair, prologue);
	} while (size != before);

	settled = malloc(repair->n_out * sizeof(settled[0]));
	if (settled == NULL)
		return -ENOMEM;
	memcpy(settled, repair->native, repair->n_out * sizeof(settled[0]));
	native_pass(repair, prologue);
	same = memcmp(settled, repair->native, repair->n_out * sizeof(settled[0])) == 0;
	free(settled);
	repair->native[repair->n_out] = size + epilogue;
	return same ? 0 : -EAGAIN;
}

/* Where the jump at code + pos goes to, or -1 when there is none of this kind. */
static int32_t jump_decode(const uint8_t *code, int32_t pos, const struct shape *shape)
{
	int32_t ahead;

	code += pos;
	if (code[0] == 0xeb || (code[0] & 0xf0) == 0x70)
		return (code[0] == 0xeb) == (shape->jump == JUMP_ALWAYS) ? pos + 2 + (int8_t)code[1]
									 : -1;
	if (shape->jump == JUMP_ALWAYS ? code[0] != 0xe9
				       : code[0] != 0x0f || (code[1] & 0xf0) != 0x80)
		return -1;
	code += shape->jump == JUMP_ALWAYS ? 1 : 2;
	memcpy(&ahead, code, sizeof(ahead));
	return pos + (int32_t)jump_len(shape, true) + ahead;
}

/*
 * The code is as long as foreseen and each of its jumps lies where it should and goes where it
 * should. A JIT that works in another way fails this, and its code is not run.
 */
static bool native_is_foreseen(const struct repair *repair, const struct rte_bpf_jit *jit)
{
	const uint8_t *code = (const uint8_t *)(uintptr_t)jit->func;

	if (jit->sz != (size_t)repair->native[repair->n_out])
		return false;
	for (uint32_t i = 0; i < repair->n_out - 1; i++) {
		struct shape shape = shape_of(&repair->out[i]);

		if (shape.jump != JUMP_NONE &&
			jump_decode(code, repair->native[i] + shape.before, &shape) !=
				repair->native[jump_target(repair, &shape, i)])
			return false;
	}
	return true;
}

#else

/* Instructions of one size: nothing to fit. */
static int native_foresee(struct repair *repair)
{
	return 0;
}

static bool native_is_foreseen(const struct repair *repair, const struct rte_bpf_jit *jit)
{
	return true;
}

#endif
