/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Packet filters: pcap expressions as native code. The filter*.c files are the only ones that
 * know libpcap and rte_bpf.
 *
 * Compiling an expression can take seconds and crash, so it happens in a child of a small helper
 * process that is started first thing in main, before EAL, threads and sockets. The child has CPU,
 * memory and wall-clock limits, no network, and refuses host names. What comes back is classic BPF,
 * which the daemon validates, converts to eBPF, repairs (six faults of DPDK 22.11, see filter_jit.c),
 * loads and JIT-compiles. What rte_bpf refuses (loops: protochain) is interpreted where it lies, in a
 * bounded number of steps.
 */
#ifndef ENGINE_FILTER_H
#define ENGINE_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "config/err.h"

#define FILTER_EXPRESSION_MAX 8192 /* bytes, with the final NUL */
#define FILTER_INSNS_MAX      4096 /* BPF_MAXINSNS: what the kernel and rte_bpf take */

struct rte_mbuf;
struct filter;

enum filter_engine {
	FILTER_ENGINE_NONE, /* no filter at all: NULL */
	FILTER_ENGINE_JIT,
	FILTER_ENGINE_INTERPRETER,
	FILTER_ENGINE_CLASSIFIER, /* one of many that are looked up together (classify.h) */
	FILTER_ENGINES,
};

/* A classic BPF instruction, laid out as struct bpf_insn and struct sock_filter. */
struct filter_insn {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};

struct filter_code {
	uint32_t n;
	struct filter_insn insn[FILTER_INSNS_MAX];
};

/*
 * main(), first of all; before any thread. 0 or -errno. The helper dies with its parent. One that is
 * killed is replaced after a short pause, with a warning in the log, by a keeper that is forked here
 * and stands between both: what was being compiled then fails with EAGAIN, what is asked for
 * meanwhile waits. Only a killed keeper leaves every filter at "not running". Stop ends both.
 */
int filter_helper_start(void);
void filter_helper_stop(void);

/*
 * Control thread. Ask the helper to compile; does not block. Returns a descriptor that becomes readable
 * when the answer is there (or the child was killed by its limits), or -errno.
 */
int filter_compile_start(const char *expression);

/*
 * Control thread, once fd is readable: read the answer and close fd. Code 0 with *code filled, else
 * -errno with err: field "filter", text = libpcap's message with the position and word it is about
 * where that can be told, or which limit was hit.
 */
int filter_compile_finish(int fd, struct filter_code *code, struct err *err);

/* As both of the above, waiting. For --check, tests and start-up recovery; not for the control loop. */
int filter_compile(const char *expression, struct filter_code *code, struct err *err);

/*
 * Control thread. The filter for this program: an existing one when the same program is in use already
 * (identical filters are evaluated once per burst), else a new one. One reference is the caller's.
 * NULL with err when the program is not valid. A program that accepts everything is a filter too.
 */
struct filter *filter_new(const struct filter_code *code, struct err *err);
/* One more reference; NULL, which accepts all, stays NULL. */
struct filter *filter_get(struct filter *filter);
/* Drops a reference; the last one frees. NULL is fine. No lcore may still see it: after grace period. */
void filter_put(struct filter *filter);

/* By itself: NULL is FILTER_ENGINE_NONE, and none is FILTER_ENGINE_CLASSIFIER (tap_filter_engine). */
enum filter_engine filter_engine(const struct filter *filter);
/* "none", "jit", "interpreter", "classifier" */
const char *filter_engine_name(enum filter_engine engine);

/*
 * lcore. Bit i of the result is set when the filter accepts pkts[i]; n <= 64. Packets may be chained
 * and are filtered on what pkt_len says is there. NULL accepts all.
 */
uint64_t filter_burst(const struct filter *filter, struct rte_mbuf *const *pkts, unsigned n);

/*
 * Several filters on one burst: what they read of the packets is read once for all of them. One work per
 * lcore, made before it starts; filter_work_burst names the burst, filter_run is filter_burst for it.
 */
struct filter_work;
struct filter_work *filter_work_new(void); /* NULL: no memory */
void filter_work_free(struct filter_work *work);
void filter_work_burst(struct filter_work *work, struct rte_mbuf *const *pkts, unsigned n);
uint64_t filter_run(const struct filter *filter, struct filter_work *work);
/* Any thread. Whether filter_run has more to offer than filter_burst. */
bool filter_by_columns(const struct filter *filter);

#endif
