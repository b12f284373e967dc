/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Many filters on one burst, by columns. What a classic BPF program reads and computes is known
 * before any packet is seen: "the half-word at 12", "the byte at 23", "the half-word at 14 behind
 * the IP header". Each such value is a node, made once and shared by all programs; on an lcore it is
 * a column, its values for the 64 packets of a burst, computed when the first program asks for it.
 * A program then is comparisons of whole columns: a set of packets goes in, two come out.
 *
 * Programs whose values depend on the way through them, that divide by what they read, or that jump
 * back have no columns; neither have chained packets. Both go through native code as before.
 *
 * Nodes and programs are made and freed by control, freed only after a grace period; lcores run
 * them, and allocate nothing.
 */
#include "engine/filter_internal.h"

#include <stdlib.h>
#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>
#include <rte_mbuf.h>
#include <rte_vect.h>

#include <pcap/bpf.h>

#define NODES_MAX 1024
#define STEPS_MAX 512
#define WIDTH     64
#define NONE      UINT16_MAX /* no such value, or another one on each way here */

enum kind {
	NODE_FREE,
	NODE_K,
	NODE_LENGTH,
	NODE_LOAD,
	NODE_MSH,
	NODE_LOAD_X,
	NODE_ALU,
	NODE_ALU_X
};

struct node {
	uint8_t kind;
	uint8_t op;    /* of ALU: BPF_OP; of loads: bytes */
	uint16_t a, b; /* operands */
	uint32_t k;
	unsigned refs; /* control's own */
};

enum act { STEP_VALUE, STEP_LOAD, STEP_IF, STEP_IF_X, STEP_GO, STEP_RETURN, STEP_RETURN_A };

/* One instruction. Those that only move values about do nothing. */
struct step {
	uint8_t act;
	uint8_t op; /* of jumps: BPF_OP */
	uint16_t node, other;
	uint16_t yes, no; /* where to; always forward */
	uint32_t k;
};

struct filter_columns {
	unsigned n_steps;
	unsigned n_nodes;
	uint16_t *nodes; /* references to drop */
	struct step steps[];
};

/* The values that an instruction finds. */
struct values {
	bool reached;
	uint16_t a, x;
	uint16_t memory[BPF_MEMWORDS];
};

/* What one lcore knows of the burst at hand. */
struct filter_work {
	uint64_t burst; /* number of this one; a column with another is of an older burst */
	unsigned n;
	uint64_t all;     /* the burst's packets */
	uint64_t chained; /* of these, in more than one piece */
	uint32_t len_min;
	struct rte_mbuf *const *pkts;
	const uint8_t *data[WIDTH];
	uint32_t len[WIDTH];
	struct column {
		uint64_t burst;
		uint64_t valid; /* whose packet was long enough */
		uint32_t value[WIDTH];
	} __attribute__((aligned(64))) columns[NODES_MAX];
};

static struct node nodes[NODES_MAX];

static int program_trace(
	const struct filter_insn *insn, uint32_t n, struct filter_columns *program);
static int values_step(const struct filter_insn *insn, struct values *now, struct step *step,
	struct filter_columns *program);
static uint16_t node_get(struct filter_columns *program, struct node wanted);
static void values_merge(struct values *to, const struct values *from);
static void column_make(struct filter_work *work, const struct node *node, struct column *column);
static uint64_t column_compare(
	unsigned op, const uint32_t *value, const uint32_t *other, uint32_t k);

struct filter_columns *filter_columns_new(const struct filter_insn *insn, uint32_t n)
{
	struct filter_columns *program;

	if (n > STEPS_MAX)
		return NULL;
	program = calloc(1, sizeof(*program) + n * sizeof(program->steps[0]));
	if (program == NULL)
		return NULL;
	/* An instruction makes two nodes at most. */
	program->nodes = calloc(2 * n + 1, sizeof(program->nodes[0]));
	program->n_steps = n;
	if (program->nodes != NULL && program_trace(insn, n, program) == 0)
		return program;
	filter_columns_free(program);
	return NULL;
}

void filter_columns_free(struct filter_columns *program)
{
	if (program == NULL)
		return;
	for (unsigned i = 0; i < program->n_nodes; i++) {
		struct node *node = &nodes[program->nodes[i]];

		if (--node->refs == 0)
			node->kind = NODE_FREE;
	}
	free(program->nodes);
	free(program);
}

struct filter_work *filter_work_new(void)
{
	struct filter_work *work = aligned_alloc(64, sizeof(*work));

	if (work != NULL)
		memset(work, 0, sizeof(*work));
	return work;
}

void filter_work_free(struct filter_work *work)
{
	free(work);
}

void filter_work_burst(struct filter_work *work, struct rte_mbuf *const *pkts, unsigned n)
{
	uint32_t len_min = UINT32_MAX;
	uint64_t chained = 0;

	for (unsigned i = 0; i < n; i++) {
		const uint32_t len = pkts[i]->data_len;

		work->data[i] = rte_pktmbuf_mtod(pkts[i], const uint8_t *);
		work->len[i] = len;
		len_min = RTE_MIN(len_min, len);
		chained |= (uint64_t)(len != pkts[i]->pkt_len) << i;
	}
	work->burst++;
	work->n = n;
	work->all = n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
	work->chained = chained;
	work->len_min = len_min;
	work->pkts = pkts;
}

static inline const struct column *work_column(struct filter_work *work, uint16_t node)
{
	struct column *column = &work->columns[node];

	if (column->burst != work->burst) {
		column->burst = work->burst;
		column_make(work, &nodes[node], column);
	}
	return column;
}

uint64_t filter_columns_run(const struct filter_columns *program, struct filter_work *work)
{
	uint64_t here[STEPS_MAX]; /* the packets that have come to each step */
	uint64_t kept = 0, yes;

	memset(here, 0, program->n_steps * sizeof(here[0]));
	here[0] = work->all & ~work->chained;
	for (unsigned i = 0; i < program->n_steps; i++) {
		const struct step *step = &program->steps[i];
		const struct column *column;

		if (here[i] == 0)
			continue;
		switch (step->act) {
		case STEP_VALUE:
			if (step->node != NONE)
				work_column(work, step->node);
			here[i + 1] |= here[i];
			break;
		case STEP_LOAD:
			here[i + 1] |= here[i] & work_column(work, step->node)->valid;
			break;
		case STEP_IF:
		case STEP_IF_X:
			column = work_column(work, step->node);
			yes = here[i] &
			      column_compare(step->op, column->value,
				      step->act == STEP_IF ? NULL
							   : work_column(work, step->other)->value,
				      step->k);
			here[step->yes] |= yes;
			here[step->no] |= here[i] ^ yes;
			break;
		case STEP_GO:
			here[step->yes] |= here[i];
			break;
		case STEP_RETURN:
			kept |= step->k != 0 ? here[i] : 0;
			break;
		case STEP_RETURN_A:
			kept |= here[i] & ~column_compare(BPF_JEQ,
						  work_column(work, step->node)->value, NULL, 0);
			break;
		}
	}
	return kept;
}

unsigned filter_work_n(const struct filter_work *work)
{
	return work->n;
}

uint64_t filter_work_chained(const struct filter_work *work, struct rte_mbuf *const **pkts)
{
	*pkts = work->pkts;
	return work->chained;
}

/* --- control: a program's values ---------------------------------------------------------------- */

static int program_trace(const struct filter_insn *insn, uint32_t n, struct filter_columns *program)
{
	struct values *values = calloc(n + 1, sizeof(*values));
	int rc = values != NULL ? 0 : -1;

	if (rc == 0) {
		memset(values[0].memory, 0xff, sizeof(values[0].memory));
		values[0].reached = true;
		values[0].a = values[0].x = node_get(program, (struct node){.kind = NODE_K});
	}
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		struct step *step = &program->steps[i];
		struct values now = values[i];

		if (!now.reached)
			continue;
		step->node = step->other = NONE;
		step->yes = step->no = i + 1;
		if (BPF_CLASS(insn[i].code) == BPF_JMP) {
			const bool always = BPF_OP(insn[i].code) == BPF_JA;

			/* Control has validated that these are inside, unless it jumps back. */
			if (always && insn[i].k >= n - i - 1)
				rc = -1;
			step->yes += always ? insn[i].k : insn[i].jt;
			step->no += always ? insn[i].k : insn[i].jf;
		}
		if (rc == 0)
			rc = values_step(&insn[i], &now, step, program);
		if (rc == 0 && BPF_CLASS(insn[i].code) != BPF_RET) {
			values_merge(&values[step->yes], &now);
			values_merge(&values[step->no], &now);
		}
	}
	free(values);
	return rc;
}

static void values_merge(struct values *to, const struct values *from)
{
	if (!to->reached) {
		*to = *from;
		return;
	}
	if (to->a != from->a)
		to->a = NONE;
	if (to->x != from->x)
		to->x = NONE;
	for (unsigned i = 0; i < BPF_MEMWORDS; i++)
		if (to->memory[i] != from->memory[i])
			to->memory[i] = NONE;
}

static uint16_t node_get(struct filter_columns *program, struct node wanted)
{
	unsigned place = NODES_MAX;

	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &nodes[i];

		if (node->kind == NODE_FREE && place == NODES_MAX)
			place = i;
		if (node->kind == wanted.kind && node->op == wanted.op && node->a == wanted.a &&
			node->b == wanted.b && node->k == wanted.k) {
			place = i;
			break;
		}
	}
	if (place == NODES_MAX)
		return NONE;
	wanted.refs = nodes[place].kind == NODE_FREE ? 1 : nodes[place].refs + 1;
	nodes[place] = wanted;
	program->nodes[program->n_nodes++] = place;
	return place;
}

static unsigned load_bytes(uint16_t code)
{
	return BPF_SIZE(code) == BPF_W ? 4 : BPF_SIZE(code) == BPF_H ? 2 : 1;
}

static int load_step(const struct filter_insn *insn, struct values *now, struct step *step,
	struct filter_columns *program)
{
	const bool to_x = BPF_CLASS(insn->code) == BPF_LDX;
	struct node node = {.k = insn->k};
	uint16_t got;

	step->act = STEP_VALUE;
	switch (BPF_MODE(insn->code)) {
	case BPF_IMM:
		node.kind = NODE_K;
		break;
	case BPF_LEN:
		node.kind = NODE_LENGTH;
		node.k = 0;
		break;
	case BPF_ABS:
		node.kind = NODE_LOAD;
		node.op = load_bytes(insn->code);
		step->act = STEP_LOAD;
		break;
	case BPF_IND:
		node.kind = NODE_LOAD_X;
		node.op = load_bytes(insn->code);
		node.a = now->x;
		step->act = STEP_LOAD;
		break;
	case BPF_MSH:
		node.kind = NODE_MSH;
		node.op = 1;
		step->act = STEP_LOAD;
		break;
	case BPF_MEM:
		break;
	default:
		return -1;
	}
	if (node.kind == NODE_LOAD_X && now->x == NONE)
		return -1;
	got = BPF_MODE(insn->code) == BPF_MEM ? now->memory[insn->k] : node_get(program, node);
	if (got == NONE)
		return -1;
	step->node = got;
	*(to_x ? &now->x : &now->a) = got;
	return 0;
}

static int alu_step(const struct filter_insn *insn, struct values *now, struct step *step,
	struct filter_columns *program)
{
	struct node node = {.kind = NODE_ALU, .op = BPF_OP(insn->code), .a = now->a};
	const bool divides = node.op == BPF_DIV || node.op == BPF_MOD;

	if (node.op != BPF_NEG && BPF_SRC(insn->code) == BPF_X) {
		node.kind = NODE_ALU_X;
		node.b = now->x;
	} else if (node.op != BPF_NEG) {
		node.k = insn->k;
	}
	if (now->a == NONE || node.b == NONE || (divides && node.k == 0))
		return -1;
	now->a = step->node = node_get(program, node);
	step->act = STEP_VALUE;
	return now->a != NONE ? 0 : -1;
}

static int jump_step(const struct filter_insn *insn, const struct values *now, struct step *step)
{
	step->op = BPF_OP(insn->code);
	step->k = insn->k;
	step->act = STEP_GO;
	if (step->op == BPF_JA)
		return 0;
	step->act = BPF_SRC(insn->code) == BPF_X ? STEP_IF_X : STEP_IF;
	step->node = now->a;
	step->other = now->x;
	return now->a == NONE || (step->act == STEP_IF_X && now->x == NONE) ? -1 : 0;
}

static int values_step(const struct filter_insn *insn, struct values *now, struct step *step,
	struct filter_columns *program)
{
	step->act = STEP_VALUE;
	switch (BPF_CLASS(insn->code)) {
	case BPF_LD:
	case BPF_LDX:
		return load_step(insn, now, step, program);
	case BPF_ST:
		now->memory[insn->k] = now->a;
		return 0;
	case BPF_STX:
		now->memory[insn->k] = now->x;
		return 0;
	case BPF_ALU:
		return alu_step(insn, now, step, program);
	case BPF_JMP:
		return jump_step(insn, now, step);
	case BPF_RET:
		step->act = BPF_RVAL(insn->code) == BPF_A ? STEP_RETURN_A : STEP_RETURN;
		step->k = insn->k;
		step->node = now->a;
		return step->act == STEP_RETURN_A && now->a == NONE ? -1 : 0;
	case BPF_MISC:
		if (BPF_MISCOP(insn->code) == BPF_TAX)
			now->x = now->a;
		else
			now->a = now->x;
		return 0;
	}
	return -1;
}

/* --- lcore: columns ----------------------------------------------------------------------------- */

static const uint8_t zeros[4];

static inline uint32_t load(const uint8_t *from, unsigned bytes)
{
	uint32_t word;
	uint16_t half;

	if (bytes == 1)
		return *from;
	if (bytes == 2) {
		memcpy(&half, from, sizeof(half));
		return rte_be_to_cpu_16(half);
	}
	memcpy(&word, from, sizeof(word));
	return rte_be_to_cpu_32(word);
}

static inline __attribute__((always_inline)) void load_column(
	const struct filter_work *work, uint32_t at, unsigned bytes, struct column *column)
{
	const uint64_t end = (uint64_t)at + bytes;
	uint64_t valid = 0;

	if (likely(end <= work->len_min)) {
		for (unsigned i = 0; i < work->n; i++)
			column->value[i] = load(work->data[i] + at, bytes);
		column->valid = UINT64_MAX;
		return;
	}
	for (unsigned i = 0; i < work->n; i++) {
		const bool there = end <= work->len[i];

		column->value[i] = load(there ? work->data[i] + at : zeros, bytes);
		valid |= (uint64_t)there << i;
	}
	column->valid = valid;
}

static inline __attribute__((always_inline)) void load_x_column(const struct filter_work *work,
	const uint32_t *x, uint32_t k, unsigned bytes, struct column *column)
{
	uint64_t valid = 0;

	for (unsigned i = 0; i < work->n; i++) {
		const uint64_t at = (uint64_t)x[i] + k;
		const bool there = at + bytes <= work->len[i];

		column->value[i] = load(there ? work->data[i] + at : zeros, bytes);
		valid |= (uint64_t)there << i;
	}
	column->valid = valid;
}

static inline uint32_t alu(unsigned op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		return a / b;
	case BPF_MOD:
		return a % b;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return b < 32 ? a << b : 0;
	case BPF_RSH:
		return b < 32 ? a >> b : 0;
	default:
		return -a;
	}
}

static void alu_column(const struct node *node, const uint32_t *a, const uint32_t *b, uint32_t *to)
{
	/* What addresses are masked with. */
	if (node->op == BPF_AND && b == NULL) {
		for (unsigned i = 0; i < WIDTH; i++)
			to[i] = a[i] & node->k;
		return;
	}
	for (unsigned i = 0; i < WIDTH; i++)
		to[i] = alu(node->op, a[i], b != NULL ? b[i] : node->k);
}

static void column_make(struct filter_work *work, const struct node *node, struct column *column)
{
	const uint32_t *a = work->columns[node->a].value, *b = work->columns[node->b].value;

	switch (node->kind) {
	case NODE_K:
		for (unsigned i = 0; i < WIDTH; i++)
			column->value[i] = node->k;
		break;
	case NODE_LENGTH:
		for (unsigned i = 0; i < work->n; i++)
			column->value[i] = work->len[i];
		break;
	case NODE_LOAD:
		if (node->op == 1)
			load_column(work, node->k, 1, column);
		else if (node->op == 2)
			load_column(work, node->k, 2, column);
		else
			load_column(work, node->k, 4, column);
		break;
	case NODE_MSH:
		load_column(work, node->k, 1, column);
		for (unsigned i = 0; i < WIDTH; i++)
			column->value[i] = (column->value[i] & 0xf) << 2;
		break;
	case NODE_LOAD_X:
		if (node->op == 1)
			load_x_column(work, a, node->k, 1, column);
		else if (node->op == 2)
			load_x_column(work, a, node->k, 2, column);
		else
			load_x_column(work, a, node->k, 4, column);
		break;
	case NODE_ALU:
		alu_column(node, a, NULL, column->value);
		break;
	case NODE_ALU_X:
		alu_column(node, a, b, column->value);
		break;
	}
}

typedef uint32_t v4 __attribute__((vector_size(16)));
typedef int32_t v4s __attribute__((vector_size(16)));

/* Sixteen comparisons, each all ones or zero, as sixteen bits. */
static inline uint64_t mask16(v4s a, v4s b, v4s c, v4s d)
{
	const __m128i ab = _mm_packs_epi32((__m128i)a, (__m128i)b);
	const __m128i cd = _mm_packs_epi32((__m128i)c, (__m128i)d);

	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(ab, cd));
}

#define COMPARE_ALL(expression)                                                         \
	do {                                                                            \
		for (unsigned i = 0; i < WIDTH / 4; i += 4) {                           \
			v4s is[4];                                                      \
                                                                                        \
			for (unsigned j = 0; j < 4; j++) {                              \
				const v4 x = ((const v4 *)value)[i + j];                \
				const v4 y = other != NULL ? ((const v4 *)other)[i + j] \
							   : (v4){k, k, k, k};          \
                                                                                        \
				is[j] = (v4s)(expression);                              \
			}                                                               \
			mask |= mask16(is[0], is[1], is[2], is[3]) << (4 * i);          \
		}                                                                       \
	} while (0)

/* Bit i: value[i] op other[i], or op k. */
static uint64_t column_compare(
	unsigned op, const uint32_t *value, const uint32_t *other, uint32_t k)
{
	uint64_t mask = 0;

	switch (op) {
	case BPF_JEQ:
		COMPARE_ALL(x == y);
		return mask;
	case BPF_JGT:
		COMPARE_ALL(x > y);
		return mask;
	case BPF_JGE:
		COMPARE_ALL(x >= y);
		return mask;
	default: /* JSET */
		COMPARE_ALL((x & y) == 0);
		return ~mask;
	}
}
