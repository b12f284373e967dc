/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * From classic BPF to native code with rte_bpf, and around five things that DPDK 22.11 does
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
#define REG_SCRATCH EBPF_REG_9

/* No packet is this long, and adding the size of a load stays below 2^31. */
#define OFFSET_MAX 0x7fff0000u
/* With an index of at most INDEX_SMALL, offset and index cannot pass OFFSET_MAX. */
#define INDEX_SMALL 0xffffu

#define REPAIRED_MAX 7 /* instructions that one can become, a filler included */
#define LAYOUTS_MAX  16

struct repair {
	const struct ebpf_insn *in;
	uint32_t n_in;
	struct ebpf_insn *out;
	uint32_t n_out;
	uint32_t *at;     /* out[at[i]] is where the repaired in[i] starts */
	int32_t *native;  /* native[i] is where the code of out[i] starts, and its end at last */
	bool index_small; /* X never exceeds INDEX_SMALL */
	unsigned layout;  /* 0: as it is; else fillers are put in, elsewhere for each number */
};

static bool index_is_small(const struct filter_insn *insn, uint32_t n);
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

struct rte_bpf *filter_jit_new(
	const struct filter_insn *insn, uint32_t n, uint64_t (**accept)(void *mbuf))
{
	struct bpf_program program = {n, (struct bpf_insn *)(uintptr_t)insn};
	struct repair repair = {.index_small = index_is_small(insn, n)};
	struct rte_bpf *bpf = NULL;
	struct rte_bpf_prm *prm;

	*accept = NULL;
	/* A refusal is an answer here, not an error for the log. */
	rte_log_set_level_pattern("lib.bpf", RTE_LOG_CRIT);
	prm = rte_bpf_convert(&program);
	if (prm == NULL)
		return NULL;
	repair.in = prm->ins;
	repair.n_in = prm->nb_ins;
	repair.at = calloc(prm->nb_ins, sizeof(repair.at[0]));
	repair.out = calloc(prm->nb_ins, REPAIRED_MAX * sizeof(repair.out[0]));
	repair.native = calloc(prm->nb_ins * REPAIRED_MAX + 1, sizeof(repair.native[0]));
	if (repair.at != NULL && repair.out != NULL && repair.native != NULL &&
		repair_and_foresee(&repair) == 0)
		bpf = repair_load_bpf(&repair, prm, accept);
	free(repair.native);
	free(repair.out);
	free(repair.at);
	rte_free(prm);
	return bpf;
}

void filter_jit_free(struct rte_bpf *bpf)
{
	rte_bpf_destroy(bpf);
}

/* --- repairs --------------------------------------------------------------------------------- */

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

/* Write what in has to be to out; how many instructions that is. Jumps of in are aimed later. */
static unsigned repair_insn(
	const struct repair *repair, const struct ebpf_insn *in, struct ebpf_insn *out)
{
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
		if (target < 0 || target >= (int32_t)repair->n_in)
			return -EINVAL;
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
		repair->at[i] = repair->n_out;
		if (repair->layout > 0 && i % (repair->layout + 3) == 3)
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
		return (struct shape){.before = 3};
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
