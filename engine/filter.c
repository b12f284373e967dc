/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Filters: one object per distinct program, the loop that runs it, and libpcap on both sides of
 * that: its compiler in the helper's child, its interpreter for what has no native code.
 * filter_burst() runs on lcores and allocates nothing; the rest is control's. No name is ever
 * resolved here.
 */
#include "engine/filter_internal.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <rte_branch_prediction.h>

#include <pcap/pcap.h>

#define SNAPLEN    262144 /* tcpdump's: what an accepting program returns */
#define LINEAR_MAX SNAPLEN

/* Offsets at which libpcap asks a Linux socket for what is not in the packet (SKF_AD_OFF + ...). */
#define OFFSET_PKTTYPE 0xfffff004u
#define OFFSET_IFINDEX 0xfffff008u

struct filter {
	/* lcores: read only */
	uint64_t (*accept)(void *mbuf); /* native code; NULL: interpret */
	struct filter_columns *columns; /* NULL: not possible */

	/* control */
	struct rte_bpf *bpf; /* owns the native code; may be NULL */
	LIST_ENTRY(filter) link;
	unsigned refs;
	unsigned n_terms;
	struct filter_term *terms;
	uint32_t n;
	struct filter_insn insn[];
};

static_assert(sizeof(struct filter_insn) == sizeof(struct bpf_insn), "one is cast to the other");
static_assert(offsetof(struct filter_insn, jt) == offsetof(struct bpf_insn, jt), "as above");
static_assert(offsetof(struct filter_insn, k) == offsetof(struct bpf_insn, k), "as above");

/* Control thread. */
static LIST_HEAD(, filter) filters = LIST_HEAD_INITIALIZER(filters);

static struct filter *filter_find(const struct filter_code *code);
static int terms_keep(struct filter *filter);
static int code_copy(const struct bpf_program *program, struct filter_code *code,
	char message[FILTER_MESSAGE_MAX]);

struct filter *filter_new(const struct filter_code *code, struct err *err)
{
	struct filter *filter;

	if (code->n == 0 || code->n > FILTER_INSNS_MAX ||
		!bpf_validate((const struct bpf_insn *)code->insn, code->n)) {
		err_set(err, EINVAL, "filter", "not a valid program of %u instructions", code->n);
		return NULL;
	}
	filter = filter_find(code);
	if (filter != NULL)
		return filter_get(filter);

	filter = calloc(1, sizeof(*filter) + code->n * sizeof(code->insn[0]));
	if (filter != NULL) {
		filter->refs = 1;
		filter->n = code->n;
		memcpy(filter->insn, code->insn, code->n * sizeof(code->insn[0]));
	}
	if (filter == NULL || terms_keep(filter) != 0) {
		free(filter);
		err_set(err, ENOMEM, "filter", "no memory for a program of %u instructions",
			code->n);
		return NULL;
	}
	filter->bpf = filter_jit_new(filter->insn, filter->n, &filter->accept);
	filter->columns = filter_columns_new(filter->insn, filter->n);
	LIST_INSERT_HEAD(&filters, filter, link);
	return filter;
}

struct filter *filter_get(struct filter *filter)
{
	if (filter != NULL)
		filter->refs++;
	return filter;
}

void filter_put(struct filter *filter)
{
	if (filter == NULL || --filter->refs > 0)
		return;
	LIST_REMOVE(filter, link);
	filter_jit_free(filter->bpf);
	filter_columns_free(filter->columns);
	free(filter->terms);
	free(filter);
}

enum filter_engine filter_engine(const struct filter *filter)
{
	if (filter == NULL)
		return FILTER_ENGINE_NONE;
	return filter->accept != NULL ? FILTER_ENGINE_JIT : FILTER_ENGINE_INTERPRETER;
}

const char *filter_engine_name(enum filter_engine engine)
{
	static const char *const names[] = {
		[FILTER_ENGINE_NONE] = "none",
		[FILTER_ENGINE_JIT] = "jit",
		[FILTER_ENGINE_INTERPRETER] = "interpreter",
		[FILTER_ENGINE_CLASSIFIER] = "classifier",
	};

	return names[engine];
}

uint64_t filter_burst(const struct filter *filter, struct rte_mbuf *const *pkts, unsigned n)
{
	uint64_t (*accept)(void *mbuf);
	uint64_t hits = 0;

	if (filter == NULL)
		return n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
	accept = filter->accept;
	if (likely(accept != NULL)) {
		for (unsigned i = 0; i < n; i++)
			hits |= (uint64_t)(accept(pkts[i]) != 0) << i;
	} else {
		for (unsigned i = 0; i < n; i++)
			hits |= (uint64_t)filter_interpret(filter->insn, filter->n, pkts[i]) << i;
	}
	return hits;
}

uint64_t filter_run(const struct filter *filter, struct filter_work *work)
{
	struct rte_mbuf *const *pkts;
	uint64_t chained = filter_work_chained(work, &pkts);
	uint64_t hits;

	if (filter == NULL || filter->columns == NULL)
		return filter_burst(filter, pkts, filter_work_n(work));
	hits = filter_columns_run(filter->columns, work);
	for (; unlikely(chained != 0); chained &= chained - 1) {
		const unsigned i = __builtin_ctzll(chained);

		hits |= filter_burst(filter, &pkts[i], 1) << i;
	}
	return hits;
}

bool filter_by_columns(const struct filter *filter)
{
	return filter != NULL && filter->columns != NULL;
}

const struct filter_term *filter_terms(const struct filter *filter, unsigned *n)
{
	*n = filter != NULL ? filter->n_terms : 0;
	return filter != NULL ? filter->terms : NULL;
}

int filter_translate(const char *expression, bool optimise, struct filter_code *code,
	char message[FILTER_MESSAGE_MAX])
{
	struct bpf_program program;
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, SNAPLEN);
	int ret = 0;

	if (pcap == NULL) {
		snprintf(message, FILTER_MESSAGE_MAX, "out of memory");
		return -ENOMEM;
	}
	/* Netmask 0 is what tcpdump -r has: "ip broadcast" means 255.255.255.255 or 0.0.0.0. */
	if (pcap_compile(pcap, &program, expression, optimise, 0) != 0) {
		snprintf(message, FILTER_MESSAGE_MAX, "%s", pcap_geterr(pcap));
		ret = -EINVAL;
		goto out;
	}
	if (code != NULL)
		ret = code_copy(&program, code, message);
	pcap_freecode(&program);
out:
	pcap_close(pcap);
	return ret;
}

static int code_copy(const struct bpf_program *program, struct filter_code *code,
	char message[FILTER_MESSAGE_MAX])
{
	if (program->bf_len > FILTER_INSNS_MAX) {
		snprintf(message, FILTER_MESSAGE_MAX,
			"compiles to %u instructions; at most %u are allowed", program->bf_len,
			FILTER_INSNS_MAX);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < program->bf_len; i++) {
		const struct bpf_insn *insn = &program->bf_insns[i];

		if (BPF_CLASS(insn->code) == BPF_LD && BPF_MODE(insn->code) == BPF_ABS &&
			(insn->k == OFFSET_PKTTYPE || insn->k == OFFSET_IFINDEX)) {
			snprintf(message, FILTER_MESSAGE_MAX,
				"inbound, outbound and ifindex are not in the packet; use "
				"direction and ports");
			return -EINVAL;
		}
	}
	code->n = program->bf_len;
	memcpy(code->insn, program->bf_insns, program->bf_len * sizeof(code->insn[0]));
	return 0;
}

static int terms_keep(struct filter *filter)
{
	struct filter_term terms[FILTER_TERMS_MAX];
	const unsigned n = filter_terms_find(filter->insn, filter->n, terms);

	if (n == 0)
		return 0;
	filter->terms = calloc(n, sizeof(*filter->terms));
	if (filter->terms == NULL)
		return -ENOMEM;
	memcpy(filter->terms, terms, n * sizeof(*terms));
	filter->n_terms = n;
	return 0;
}

static struct filter *filter_find(const struct filter_code *code)
{
	struct filter *filter;

	LIST_FOREACH(filter, &filters, link)
	{
		if (filter->n == code->n &&
			memcmp(filter->insn, code->insn, code->n * sizeof(code->insn[0])) == 0)
			return filter;
	}
	return NULL;
}
