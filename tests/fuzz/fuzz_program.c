/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Programs of classic BPF from any bytes, also such as libpcap never writes: what is taken says of every
 * packet, in one piece and in many, what libpcap's interpreter says.
 */
#include "fuzz.h"

#include <string.h>

#include <pcap/pcap.h>

#include "eal_fixture.h"
#include "engine/filter.h"

#define INSNS_MAX  64
#define PACKET_MAX 256

static struct rte_mempool *pool;
static struct filter_work *work;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_check(eal_fixture_start() == 0);
	pool = eal_fixture_pool("fuzz", 1023, PACKET_MAX);
	work = filter_work_new();
	fuzz_check(pool != NULL && work != NULL);
	return 0;
}

/* What C defines: libpcap's interpreter ends the process at any other opcode, and leaves shifts by a
 * constant of 32 and more, which its compiler refuses, to the machine. */
static bool insn_known(const struct filter_insn *insn)
{
	static const uint8_t known[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14,
		0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24, 0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c,
		0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c,
		0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac, 0xb1};

	if ((insn->code == 0x64 || insn->code == 0x74) && insn->k > 31)
		return false;
	return memchr(known, insn->code, sizeof(known)) != NULL;
}

static bool program_known(const struct filter_code *code)
{
	for (uint32_t i = 0; i < code->n; i++)
		if (!insn_known(&code->insn[i]))
			return false;
	return bpf_validate((const struct bpf_insn *)code->insn, (int)code->n);
}

static struct rte_mbuf *mbuf_make(const uint8_t *data, size_t len, size_t piece)
{
	struct rte_mbuf *head = NULL;

	do {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		size_t n = len < piece ? len : piece;

		fuzz_check(m != NULL);
		memcpy(rte_pktmbuf_append(m, (uint16_t)n), data, n);
		data += n;
		len -= n;
		if (head == NULL)
			head = m;
		else
			fuzz_check(rte_pktmbuf_chain(head, m) == 0);
	} while (len > 0);
	return head;
}

/* wants: the program as libpcap's interpreter is given it. */
static void packet_check(const struct filter *filter, const struct filter_code *wants,
	const uint8_t *data, size_t len, size_t piece)
{
	bool wanted =
		bpf_filter((const struct bpf_insn *)wants->insn, data, (u_int)len, (u_int)len) != 0;
	struct rte_mbuf *m = mbuf_make(data, len, piece);

	fuzz_check(filter_burst(filter, &m, 1) == (wanted ? 1 : 0));
	filter_work_burst(work, &m, 1);
	fuzz_check(filter_run(filter, work) == (wanted ? 1 : 0));
	rte_pktmbuf_free(m);
}

/* libpcap's interpreter leaves its memory as it finds it, and ours is zero: that is written first for it. */
static const struct filter_code *memory_cleared(const struct filter_code *code)
{
	static struct filter_code cleared = {.insn = {{.code = 0x00}}};

	for (uint32_t i = 0; i < BPF_MEMWORDS; i++)
		cleared.insn[1 + i] = (struct filter_insn){.code = 0x02, .k = i};
	memcpy(cleared.insn + 1 + BPF_MEMWORDS, code->insn, code->n * sizeof(code->insn[0]));
	cleared.n = 1 + BPF_MEMWORDS + code->n;
	return &cleared;
}

/* Byte 0: how many instructions; 6 bytes each: opcode, jt, jf, k's two bytes, k's shift. The rest is the packet. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct filter_code code;
	struct err err = {0};
	struct filter *filter;

	if (size < 1)
		return 0;
	code.n = data[0] % INSNS_MAX + 1;
	data++;
	size--;
	if (size < 6 * (size_t)code.n + 1)
		return 0;
	for (uint32_t i = 0; i < code.n; i++, data += 6, size -= 6)
		code.insn[i] = (struct filter_insn){.code = data[0],
			.jt = data[1],
			.jf = data[2],
			.k = (uint32_t)(data[3] | data[4] << 8) << data[5] % 32};
	if (size > PACKET_MAX)
		size = PACKET_MAX;
	if (!program_known(&code))
		return 0;
	filter = filter_new(&code, &err);
	if (filter == NULL) {
		fuzz_check(err.code != 0 && err.text[0] != '\0');
		return 0;
	}
	packet_check(filter, memory_cleared(&code), data, size, PACKET_MAX);
	packet_check(filter, memory_cleared(&code), data, size, 1 + data[0] % 61);
	filter_put(filter);
	return 0;
}
