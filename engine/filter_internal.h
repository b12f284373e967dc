/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What the filter files say to each other: filter.c is the one that calls libpcap, filter_jit.c
 * the one that calls rte_bpf, filter_interpret.c runs what rte_bpf refuses, filter_terms.c finds what
 * a program asks of a packet's addresses and ports, filter_text.c turns libpcap's complaints into
 * sentences with a position, filter_helper.c runs its compiler in a process of its own. Nobody else
 * includes this.
 */
#ifndef ENGINE_FILTER_INTERNAL_H
#define ENGINE_FILTER_INTERNAL_H

#include <stdbool.h>

#include "engine/filter.h"
#include "engine/filter_key.h"

#define FILTER_MESSAGE_MAX 256 /* PCAP_ERRBUF_SIZE */

/*
 * The helper's child. libpcap's compiler as tcpdump -r uses it on an Ethernet file. 0 with *code
 * filled (code may be NULL), else -errno with libpcap's message. May take for ever, and may crash.
 */
int filter_translate(const char *expression, bool optimise, struct filter_code *code,
	char message[FILTER_MESSAGE_MAX]);

/* The helper's child. As filter_translate(), with the message made into a sentence with a position.
 */
int filter_text_compile(const char *expression, struct filter_code *code, struct err *err);

/*
 * Control thread. Native code for a valid program, *accept being its entry, or NULL (and *accept
 * NULL) where rte_bpf refuses the program or its code is not what it should be.
 */
struct rte_bpf;
struct rte_bpf *filter_jit_new(
	const struct filter_insn *insn, uint32_t n, uint64_t (**accept)(void *mbuf));
void filter_jit_free(struct rte_bpf *bpf);

/* Control thread. The program by columns (filter_columns.c), or NULL where it cannot be. */
struct filter_columns;
struct filter_columns *filter_columns_new(const struct filter_insn *insn, uint32_t n);
void filter_columns_free(struct filter_columns *program);
/* lcore. The packets of work's burst that are in one piece and accepted. */
uint64_t filter_columns_run(const struct filter_columns *program, struct filter_work *work);
/* lcore. The burst's packets, and which of them are chained. */
unsigned filter_work_n(const struct filter_work *work);
uint64_t filter_work_chained(const struct filter_work *work, struct rte_mbuf *const **pkts);

/* lcore. Run a valid program on a packet, chained or not, in a bounded number of steps. */
struct rte_mbuf;
bool filter_interpret(const struct filter_insn *insn, uint32_t n, const struct rte_mbuf *m);

/* Control thread. The terms of a valid program: how many there are, 0 for none (filter_key.h). */
unsigned filter_terms_find(
	const struct filter_insn *insn, uint32_t n, struct filter_term terms[FILTER_TERMS_MAX]);

#endif
