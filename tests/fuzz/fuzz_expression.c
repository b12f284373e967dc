/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Filter expressions of any bytes, as the helper's child compiles them: taken and refused as libpcap
 * does, a program that is taken is valid and runs, and a refusal is a sentence whose position lies in the
 * expression.
 */
#include "fuzz.h"

#include <ctype.h>
#include <nss.h>
#include <string.h>

#include <pcap/pcap.h>

#include "eal_fixture.h"
#include "engine/filter.h"
#include "engine/filter_internal.h"

#define SNAPLEN 262144

static pcap_t *pcap;
static struct filter_work *work;
static struct rte_mempool *pool;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	/* As in the helper: no name is looked up outside. */
	__nss_configure_lookup("hosts", "none");
	__nss_configure_lookup("networks", "none");
	__nss_configure_lookup("ethers", "none");
	__nss_configure_lookup("services", "files");
	__nss_configure_lookup("protocols", "files");
	fuzz_check(eal_fixture_start() == 0);
	pool = eal_fixture_pool("fuzz", 15, 256);
	work = filter_work_new();
	pcap = pcap_open_dead(DLT_EN10MB, SNAPLEN);
	fuzz_check(pool != NULL && work != NULL && pcap != NULL);
	return 0;
}

static void refusal_check(const char *expression, const struct err *err)
{
	const char *at = strrchr(err->text, ',');
	unsigned position, end = 0;

	fuzz_check(err->code != 0 && strcmp(err->field, "filter") == 0 && err->text[0] != '\0');
	for (const char *c = err->text; *c != '\0'; c++)
		fuzz_check(isprint((unsigned char)*c));
	if (at != NULL && sscanf(at, ", character %u%n", &position, &end) == 1 && at[end] == '\0')
		fuzz_check(position >= 1 && position <= strlen(expression));
}

/* A frame of zeros and one that looks like TCP, each in one piece. */
static void program_run(const struct filter_code *code, const struct bpf_program *program)
{
	static const uint8_t frames[2][64] = {{0}, {[12] = 8,
							   [14] = 0x45,
							   [17] = 50,
							   [22] = 64,
							   [23] = 6,
							   [26] = 10,
							   [30] = 10,
							   [35] = 80,
							   [37] = 80,
							   [46] = 0x50}};
	struct err err = {0};
	struct filter *filter = filter_new(code, &err);

	fuzz_check(filter != NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		const bool wanted = bpf_filter(program->bf_insns, frames[i], 64, 64) != 0;

		fuzz_check(m != NULL);
		memcpy(rte_pktmbuf_append(m, 64), frames[i], 64);
		fuzz_check(filter_burst(filter, &m, 1) == wanted);
		filter_work_burst(work, &m, 1);
		fuzz_check(filter_run(filter, work) == wanted);
		rte_pktmbuf_free(m);
	}
	filter_put(filter);
}

/* Linux' metadata are not in the packet; who asks for them gets a sentence of ours. */
static bool metadata_asked(const struct err *err)
{
	return strstr(err->text, "not in the packet") != NULL ||
	       strstr(err->text, "instructions") != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct filter_code code;
	struct bpf_program program;
	struct err err = {0};
	char *expression;
	bool good;
	int rc;

	if (size >= FILTER_EXPRESSION_MAX)
		return 0;
	expression = fuzz_text(data, size);
	rc = filter_text_compile(expression, &code, &err);
	good = pcap_compile(pcap, &program, expression, 1, 0) == 0;
	if (rc == 0) {
		fuzz_check(good && code.n == program.bf_len);
		fuzz_check(memcmp(code.insn, program.bf_insns, code.n * sizeof(*code.insn)) == 0);
		program_run(&code, &program);
	} else {
		fuzz_check(!good || metadata_asked(&err));
		refusal_check(expression, &err);
	}
	if (good)
		pcap_freecode(&program);
	free(expression);
	return 0;
}
