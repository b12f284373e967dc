/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Classic BPF, interpreted: for what rte_bpf refuses, which is protochain with its loops. Runs on
 * lcores, reads packets where they lie, chained or not, and allocates nothing.
 *
 * Not libpcap's bpf_filter(), because that need not come back: protochain moves on over an
 * authentication header to an offset that the packet chooses, and a packet that chooses its own
 * place keeps it there for ever. Here a program gets so many steps, and a packet that uses them up
 * is not accepted. Results are otherwise the same.
 */
#include "engine/filter_internal.h"

#include <rte_mbuf.h>

#include <pcap/bpf.h>

/* Besides one for each instruction, which is all that a program without loops can use: 80 headers.
 */
#define LOOP_STEPS_MAX 1024

struct machine {
	uint32_t a, x;
	uint32_t memory[BPF_MEMWORDS];
};

/* False when the bytes are not all in the packet. */
static bool packet_load(const struct rte_mbuf *m, uint64_t offset, uint16_t code, uint32_t *value)
{
	static const uint8_t sizes[] = {[BPF_W >> 3] = 4, [BPF_H >> 3] = 2, [BPF_B >> 3] = 1};
	uint32_t size = sizes[BPF_SIZE(code) >> 3], pkt_len = rte_pktmbuf_pkt_len(m);
	uint8_t scratch[sizeof(uint32_t)];
	const uint8_t *data;

	if (size > pkt_len || offset > pkt_len - size)
		return false;
	data = rte_pktmbuf_read(m, (uint32_t)offset, size, scratch);
	*value = 0;
	for (uint32_t i = 0; i < size; i++)
		*value = *value << 8 | data[i];
	return true;
}

/* False when the program ends here: a load outside the packet. */
static bool insn_load(
	struct machine *machine, const struct filter_insn *insn, const struct rte_mbuf *m)
{
	bool to_x = BPF_CLASS(insn->code) == BPF_LDX;
	uint32_t *to = to_x ? &machine->x : &machine->a;

	switch (BPF_MODE(insn->code)) {
	case BPF_ABS:
		return packet_load(m, insn->k, insn->code, to);
	case BPF_IND:
		return packet_load(m, (uint64_t)machine->x + insn->k, insn->code, to);
	case BPF_MSH:
		if (!packet_load(m, insn->k, BPF_B, to))
			return false;
		*to = (*to & 0xf) << 2;
		break;
	case BPF_IMM:
		*to = insn->k;
		break;
	case BPF_MEM:
		*to = machine->memory[insn->k];
		break;
	case BPF_LEN:
		*to = rte_pktmbuf_pkt_len(m);
		break;
	}
	return true;
}

/* False when the program ends here: a division by zero. */
static bool insn_alu(struct machine *machine, const struct filter_insn *insn)
{
	uint32_t operand = BPF_SRC(insn->code) == BPF_X ? machine->x : insn->k, *a = &machine->a;

	switch (BPF_OP(insn->code)) {
	case BPF_ADD:
		*a += operand;
		break;
	case BPF_SUB:
		*a -= operand;
		break;
	case BPF_MUL:
		*a *= operand;
		break;
	case BPF_DIV:
		if (operand == 0)
			return false;
		*a /= operand;
		break;
	case BPF_MOD:
		if (operand == 0)
			return false;
		*a %= operand;
		break;
	case BPF_AND:
		*a &= operand;
		break;
	case BPF_OR:
		*a |= operand;
		break;
	case BPF_XOR:
		*a ^= operand;
		break;
	case BPF_LSH:
		*a = operand < 32 ? *a << operand : 0;
		break;
	case BPF_RSH:
		*a = operand < 32 ? *a >> operand : 0;
		break;
	case BPF_NEG:
		*a = -*a;
		break;
	}
	return true;
}

/* How many instructions to go on by, besides the one to the next. */
static uint32_t insn_jump(const struct machine *machine, const struct filter_insn *insn)
{
	uint32_t operand = BPF_SRC(insn->code) == BPF_X ? machine->x : insn->k, a = machine->a;
	bool taken = false;

	switch (BPF_OP(insn->code)) {
	case BPF_JA:
		return insn->k;
	case BPF_JEQ:
		taken = a == operand;
		break;
	case BPF_JGT:
		taken = a > operand;
		break;
	case BPF_JGE:
		taken = a >= operand;
		break;
	case BPF_JSET:
		taken = (a & operand) != 0;
		break;
	}
	return taken ? insn->jt : insn->jf;
}

bool filter_interpret(const struct filter_insn *insn, uint32_t n, const struct rte_mbuf *m)
{
	struct machine machine = {0};
	uint32_t at = 0;

	for (uint32_t steps = n + LOOP_STEPS_MAX; steps > 0; steps--) {
		const struct filter_insn *now = &insn[at++];

		switch (BPF_CLASS(now->code)) {
		case BPF_LD:
		case BPF_LDX:
			if (!insn_load(&machine, now, m))
				return false;
			break;
		case BPF_ST:
			machine.memory[now->k] = machine.a;
			break;
		case BPF_STX:
			machine.memory[now->k] = machine.x;
			break;
		case BPF_ALU:
			if (!insn_alu(&machine, now))
				return false;
			break;
		case BPF_JMP:
			at += insn_jump(&machine, now); /* backwards is modulo 2^32 */
			break;
		case BPF_RET:
			return (BPF_RVAL(now->code) == BPF_A ? machine.a : now->k) != 0;
		case BPF_MISC:
			if (BPF_MISCOP(now->code) == BPF_TAX)
				machine.x = machine.a;
			else
				machine.a = machine.x;
			break;
		}
	}
	return false;
}
