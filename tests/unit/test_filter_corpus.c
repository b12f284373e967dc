/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * filter_burst() against libpcap's interpreter and tcpdump: each expression of filters.txt over a
 * mixed corpus, packets in one piece and in random pieces; and random programs, which reach what
 * libpcap's compiler never writes.
 */
#include "engine/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pcap/pcap.h>

#include "eal_fixture.h"
#include "frames.h"

#define SEED      20240607
#define N_FRAMES  12800
#define BURST     64
#define N_BURSTS  (N_FRAMES / BURST)
#define ROWS_MAX  512
#define PIECE_MAX 512
#define SNAPLEN   262144

extern char **environ;

struct row {
	enum filter_engine engine;
	char select[8]; /* "some", "none", "all" */
	char expression[2048];
	struct filter_code code;
	struct filter *filter;
	uint64_t hits[N_BURSTS];
};

static struct frame *frames;
static struct row *rows;
static unsigned n_rows;
static struct rte_mempool *whole_pool, *piece_pool;
static struct filter_work *whole_work, *piece_work;

/* --- the corpus as mbufs -----------------------------------------------------------------------
 */

static struct rte_mbuf *mbuf_whole(const struct frame *frame)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(whole_pool);

	assert_non_null(m);
	memcpy(rte_pktmbuf_append(m, (uint16_t)frame->len), frame->data, frame->len);
	return m;
}

/* Small pieces first, where the headers are; now and then an empty one. */
static uint32_t piece_len(struct frames_rng *rng, uint32_t left)
{
	static const uint32_t limits[] = {1, 5, 20, 60, PIECE_MAX, PIECE_MAX + 1};
	uint32_t len = frames_below(rng, PICK(rng, limits) + 1);

	if (len > PIECE_MAX)
		len = PIECE_MAX;
	return len < left ? len : left;
}

static struct rte_mbuf *mbuf_pieces(const struct frame *frame, struct frames_rng *rng)
{
	struct rte_mbuf *head = NULL;
	uint32_t done = 0;

	while (done < frame->len) {
		uint32_t len = done > 1000 ? PIECE_MAX : piece_len(rng, frame->len - done);
		struct rte_mbuf *m = rte_pktmbuf_alloc(piece_pool);

		if (len > frame->len - done)
			len = frame->len - done;
		assert_non_null(m);
		memcpy(rte_pktmbuf_append(m, (uint16_t)len), frame->data + done, len);
		done += len;
		if (head == NULL)
			head = m;
		else
			assert_int_equal(rte_pktmbuf_chain(head, m), 0);
	}
	return head;
}

static uint64_t reference_burst(
	const struct filter_code *code, const struct frame *frame, unsigned n)
{
	uint64_t hits = 0;

	for (unsigned i = 0; i < n; i++) {
		u_int ret = bpf_filter((const struct bpf_insn *)code->insn, frame[i].data,
			frame[i].len, frame[i].len);

		hits |= (uint64_t)(ret != 0) << i;
	}
	return hits;
}

static void burst_fill(const struct frame *frame, struct frames_rng *rng,
	struct rte_mbuf *whole[BURST], struct rte_mbuf *pieces[BURST])
{
	for (unsigned i = 0; i < BURST; i++) {
		whole[i] = mbuf_whole(&frame[i]);
		pieces[i] = mbuf_pieces(&frame[i], rng);
	}
}

/* --- filters.txt -------------------------------------------------------------------------------
 */

static void row_parse(struct row *row, const char *line)
{
	char engine[16];

	if (sscanf(line, "%15s %7s %2047[^\n]", engine, row->select, row->expression) != 3)
		fail_msg("filters.txt: not engine, selection, expression: %s", line);
	row->engine = strcmp(engine, "jit") == 0 ? FILTER_ENGINE_JIT : FILTER_ENGINE_INTERPRETER;
	assert_string_equal(engine, filter_engine_name(row->engine));
}

static void rows_read(void)
{
	FILE *file = fopen(SOURCE_DIR "/tests/unit/filters.txt", "r");
	char line[2100];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		assert_true(n_rows < ROWS_MAX);
		row_parse(&rows[n_rows++], line);
	}
	fclose(file);
}

/*
 * libpcap's protochain does not come back from some packets with an authentication header (ours
 * does, see test_filter.c), which makes it useless as a judge of those: they are left out of the
 * corpus. A frame that is still the same after two ticks of a clock is one.
 */
static sigjmp_buf loop_found;
static volatile sig_atomic_t ticks;

static void loop_tick(int sig)
{
	if (++ticks == 2)
		siglongjmp(loop_found, 1);
}

static bool frame_loops(const struct frame *frame, const struct filter_code *code)
{
	ticks = 0;
	if (sigsetjmp(loop_found, 1) != 0)
		return true;
	reference_burst(code, frame, 1);
	return false;
}

static void frames_make(void)
{
	static const char *const chains[] = {
		"ip protochain 254", "ip6 protochain 254", "vlan and ip6 protochain 254"};
	static struct filter_code code[COUNT(chains)];
	const struct itimerval tick = {{0, 2000}, {0, 2000}}, none = {0};
	struct frames_rng rng = {SEED};
	bool loops;

	for (unsigned c = 0; c < COUNT(chains); c++)
		assert_int_equal(filter_compile(chains[c], &code[c], NULL), 0);
	signal(SIGVTALRM, loop_tick);
	setitimer(ITIMER_VIRTUAL, &tick, NULL);
	for (unsigned i = 0; i < N_FRAMES; i++) {
		do {
			frame_make(&frames[i], &rng);
			loops = false;
			for (unsigned c = 0; c < COUNT(chains) && !loops; c++)
				loops = frame_loops(&frames[i], &code[c]);
		} while (loops);
	}
	setitimer(ITIMER_VIRTUAL, &none, NULL);
}

static int corpus_setup(void **state)
{

	frames = calloc(N_FRAMES, sizeof(frames[0]));
	rows = calloc(ROWS_MAX, sizeof(rows[0]));
	whole_pool = eal_fixture_pool("whole", BURST, FRAME_MAX);
	piece_pool = eal_fixture_pool("piece", BURST * 200, PIECE_MAX);
	whole_work = filter_work_new();
	piece_work = filter_work_new();
	assert_non_null(whole_work);
	assert_non_null(piece_work);
	assert_non_null(frames);
	assert_non_null(rows);
	assert_non_null(whole_pool);
	assert_non_null(piece_pool);
	frames_make();
	rows_read();
	for (unsigned i = 0; i < n_rows; i++) {
		struct err err;

		if (filter_compile(rows[i].expression, &rows[i].code, &err) != 0) {
			print_error("%s: %s\n", rows[i].expression, err.text);
			return -1;
		}
		rows[i].filter = filter_new(&rows[i].code, &err);
		assert_non_null(rows[i].filter);
	}
	return 0;
}

static int corpus_teardown(void **state)
{
	for (unsigned i = 0; i < n_rows; i++)
		filter_put(rows[i].filter);
	filter_work_free(whole_work);
	filter_work_free(piece_work);
	free(frames);
	free(rows);
	return 0;
}

static void filters_txt_has_enough_rows(void **state)
{
	assert_true(n_rows >= 200);
}

static void each_filter_runs_in_its_engine(void **state)
{
	for (unsigned i = 0; i < n_rows; i++) {
		if (filter_engine(rows[i].filter) != rows[i].engine)
			fail_msg("%s: runs in the %s", rows[i].expression,
				filter_engine_name(filter_engine(rows[i].filter)));
	}
}

/* All that jump forward only and compute no value on two ways: the table has few others. */
static void most_filters_run_by_columns(void **state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_rows; i++)
		n += filter_by_columns(rows[i].filter);
	print_message("# %u of %u filters by columns\n", n, n_rows);
	assert_true(n >= n_rows * 9 / 10);
}

static void row_check_burst(struct row *row, unsigned burst, struct rte_mbuf *whole[BURST],
	struct rte_mbuf *pieces[BURST])
{
	uint64_t expected = reference_burst(&row->code, &frames[burst * BURST], BURST);
	uint64_t one = filter_burst(row->filter, whole, BURST);
	uint64_t many = filter_burst(row->filter, pieces, BURST);

	row->hits[burst] = expected;
	if (filter_run(row->filter, whole_work) != expected ||
		filter_run(row->filter, piece_work) != expected)
		fail_msg("%s: burst %u: libpcap %016lx, by columns %016lx, in pieces %016lx",
			row->expression, burst, expected, filter_run(row->filter, whole_work),
			filter_run(row->filter, piece_work));
	if (one != expected || many != expected)
		fail_msg("%s: burst %u: libpcap %016lx, in one piece %016lx, in pieces %016lx",
			row->expression, burst, expected, one, many);
}

static void engines_agree_with_libpcap(void **state)
{
	struct frames_rng rng = {SEED + 1};
	struct rte_mbuf *whole[BURST], *pieces[BURST];

	for (unsigned b = 0; b < N_BURSTS; b++) {
		burst_fill(&frames[b * BURST], &rng, whole, pieces);
		filter_work_burst(whole_work, whole, BURST);
		filter_work_burst(piece_work, pieces, BURST);
		for (unsigned i = 0; i < n_rows; i++)
			row_check_burst(&rows[i], b, whole, pieces);
		rte_pktmbuf_free_bulk(whole, BURST);
		rte_pktmbuf_free_bulk(pieces, BURST);
	}
}

static unsigned row_hits(const struct row *row)
{
	unsigned n = 0;

	for (unsigned b = 0; b < N_BURSTS; b++)
		n += (unsigned)__builtin_popcountll(row->hits[b]);
	return n;
}

/* A filter that finds nothing in the corpus would be a test of nothing. */
static void each_filter_selects_what_its_row_says(void **state)
{
	unsigned n_wrong = 0;

	for (unsigned i = 0; i < n_rows; i++) {
		unsigned n = row_hits(&rows[i]);
		const char *select = n == 0 ? "none" : n == N_FRAMES ? "all" : "some";

		if (strcmp(select, rows[i].select) == 0)
			continue;
		print_message("# %s: selects %u of %u\n", rows[i].expression, n, N_FRAMES);
		n_wrong++;
	}
	assert_int_equal(n_wrong, 0);
}

/* --- tcpdump -----------------------------------------------------------------------------------
 */

/* The corpus as a capture file; the number of a frame is its time stamp. */
static int corpus_save(const char *path)
{
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, SNAPLEN);
	pcap_dumper_t *dumper = pcap_dump_open(pcap, path);

	if (dumper == NULL)
		return -1;
	for (unsigned i = 0; i < N_FRAMES; i++) {
		struct pcap_pkthdr header = {
			.ts = {.tv_sec = i}, .caplen = frames[i].len, .len = frames[i].len};

		pcap_dump((u_char *)dumper, &header, frames[i].data);
	}
	pcap_dump_close(dumper);
	pcap_close(pcap);
	return 0;
}

/* tcpdump -r CORPUS -w - EXPRESSION, its standard output in *out. */
static pid_t tcpdump_start(const char *path, const char *expression, FILE **out)
{
	const char *argv[] = {"tcpdump", "-r", "-", "-w", "-", "--", expression, NULL};
	posix_spawn_file_actions_t actions;
	int fds[2], ret;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, path, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addclose(&actions, fds[0]);
	ret = posix_spawnp(&pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	*out = fdopen(fds[0], "r");
	assert_non_null(*out);
	return ret == 0 ? pid : -1;
}

static void tcpdump_hits(FILE *out, const char *expression, uint64_t hits[N_BURSTS])
{
	char errbuf[PCAP_ERRBUF_SIZE];
	pcap_t *pcap = pcap_fopen_offline(out, errbuf);
	struct pcap_pkthdr *header;
	const u_char *data;

	if (pcap == NULL)
		fail_msg("tcpdump '%s': %s", expression, errbuf);
	memset(hits, 0, N_BURSTS * sizeof(hits[0]));
	while (pcap_next_ex(pcap, &header, &data) == 1) {
		assert_true(header->ts.tv_sec < N_FRAMES);
		hits[header->ts.tv_sec / BURST] |= UINT64_C(1) << header->ts.tv_sec % BURST;
	}
	pcap_close(pcap);
}

static void row_check_tcpdump(const struct row *row, const char *path)
{
	uint64_t hits[N_BURSTS];
	int status;
	FILE *out;
	pid_t pid = tcpdump_start(path, row->expression, &out);

	assert_true(pid > 0);
	tcpdump_hits(out, row->expression, hits);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (unsigned b = 0; b < N_BURSTS; b++) {
		if (hits[b] != row->hits[b])
			fail_msg("%s: burst %u: tcpdump %016lx, ours %016lx", row->expression, b,
				hits[b], row->hits[b]);
	}
}

static void engines_agree_with_tcpdump(void **state)
{
	char path[] = "/tmp/sluice-corpus-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	close(fd);
	if (system("command -v tcpdump >/dev/null 2>&1") != 0) {
		unlink(path);
		skip();
	}
	assert_int_equal(corpus_save(path), 0);
	for (unsigned i = 0; i < n_rows; i++)
		row_check_tcpdump(&rows[i], path);
	unlink(path);
}

/* --- random programs ---------------------------------------------------------------------------
 */

#define PROGRAMS     3000
#define BODY_MAX     80
#define PROGRAM_INIT 4 /* M[0..1] := constants */

static uint32_t random_k(struct frames_rng *rng)
{
	static const uint32_t ks[] = {0, 1, 2, 4, 7, 8, 13, 14, 31, 32, 33, 64, 126, 127, 128, 129,
		255, 256, 0x1fff, 0xffff, 0x10000, 0x7fff0000, 0x7fffffff, 0x80000000, 0x80000001,
		0xffff0000, 0xffffffff};

	return frames_below(rng, 3) == 0 ? frames_below(rng, 100) : PICK(rng, ks);
}

/* Mostly inside a packet; sometimes far out, but never where Linux keeps its metadata. */
static uint32_t random_offset(struct frames_rng *rng)
{
	uint32_t k = random_k(rng);

	if (frames_below(rng, 4) != 0)
		return frames_below(rng, 60);
	return k >= 0xfffff000 ? k - 0x10000 : k;
}

static struct filter_insn random_insn(struct frames_rng *rng, unsigned left)
{
	static const uint16_t loads[] = {BPF_LD | BPF_ABS | BPF_B, BPF_LD | BPF_ABS | BPF_H,
		BPF_LD | BPF_ABS | BPF_W, BPF_LD | BPF_IND | BPF_B, BPF_LD | BPF_IND | BPF_H,
		BPF_LD | BPF_IND | BPF_W, BPF_LDX | BPF_MSH | BPF_B};
	static const uint16_t alu[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND, BPF_OR,
		BPF_XOR, BPF_LSH, BPF_RSH};
	static const uint16_t jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JSET};
	static const uint16_t moves[] = {BPF_LD | BPF_IMM, BPF_LDX | BPF_IMM, BPF_LD | BPF_LEN,
		BPF_LDX | BPF_LEN, BPF_MISC | BPF_TAX, BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA,
		BPF_ALU | BPF_NEG};
	static const uint16_t memory[] = {BPF_ST, BPF_STX, BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM};
	uint16_t source = frames_below(rng, 2) == 0 ? BPF_K : BPF_X;
	struct filter_insn insn = {.k = random_k(rng)};

	switch (frames_below(rng, left > 1 ? 9 : 6)) {
	case 0:
	case 1:
		insn.code = PICK(rng, loads);
		insn.k = random_offset(rng);
		break;
	case 2:
	case 3:
		insn.code = BPF_ALU | PICK(rng, alu) | source;
		if (insn.k == 0 && (BPF_OP(insn.code) == BPF_DIV || BPF_OP(insn.code) == BPF_MOD))
			insn.k = 3; /* by a constant 0 is not valid */
		if (BPF_OP(insn.code) == BPF_LSH || BPF_OP(insn.code) == BPF_RSH)
			insn.k %= 32; /* what C leaves open, libpcap leaves open */
		break;
	case 4:
		insn.code = PICK(rng, moves);
		break;
	case 5:
		insn.code = PICK(rng, memory);
		insn.k = frames_below(rng, 2);
		break;
	default:
		/* One way leads to the next instruction, so that all code can be reached. */
		insn.code = BPF_JMP | PICK(rng, jumps) | source;
		if (frames_below(rng, 2) == 0)
			insn.jt = (uint8_t)frames_below(rng, left);
		else
			insn.jf = (uint8_t)frames_below(rng, left);
	}
	if (BPF_CLASS(insn.code) >= BPF_ALU &&
		(BPF_SRC(insn.code) == BPF_X || BPF_OP(insn.code) == BPF_NEG))
		insn.k = 0; /* as libpcap has it, and rte_bpf wants it */
	return insn;
}

static void random_program(struct frames_rng *rng, struct filter_code *code)
{
	static const struct filter_insn init[PROGRAM_INIT] = {{BPF_LD | BPF_IMM, 0, 0, 0x12345678},
		{BPF_ST, 0, 0, 0}, {BPF_LDX | BPF_IMM, 0, 0, 14}, {BPF_STX, 0, 0, 1}};
	unsigned n = 1 + frames_below(rng, frames_below(rng, 2) == 0 ? 30 : BODY_MAX);

	memcpy(code->insn, init, sizeof(init));
	code->n = PROGRAM_INIT;
	for (unsigned i = 0; i < n; i++)
		code->insn[code->n++] = random_insn(rng, n - i);
	code->insn[code->n++] = (struct filter_insn){BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xff};
	code->insn[code->n++] = (struct filter_insn){BPF_RET | BPF_A, 0, 0, 0};
}

static void program_print(const struct filter_code *code)
{
	for (uint32_t i = 0; i < code->n; i++)
		print_message("# %s\n", bpf_image((const struct bpf_insn *)&code->insn[i], (int)i));
}

static unsigned n_columns; /* random programs that ran by columns, too */

/* One filter on one burst, whole and in pieces, against libpcap. The engine that ran. */
static enum filter_engine program_check(const struct filter_code *code, const struct frame *frame,
	struct rte_mbuf *whole[BURST], struct rte_mbuf *pieces[BURST])
{
	uint64_t expected = reference_burst(code, frame, BURST), one, many, columns;
	enum filter_engine engine;
	struct filter *filter;
	struct err err;

	filter = filter_new(code, &err);
	assert_non_null(filter);
	engine = filter_engine(filter);
	one = filter_burst(filter, whole, BURST);
	many = filter_burst(filter, pieces, BURST);
	filter_work_burst(whole_work, whole, BURST);
	columns = filter_run(filter, whole_work);
	n_columns += filter_by_columns(filter);
	filter_put(filter);
	if (one != expected || many != expected || columns != expected) {
		program_print(code);
		fail_msg("%s: libpcap %016lx, in one piece %016lx, in pieces %016lx, "
			 "by columns %016lx",
			filter_engine_name(engine), expected, one, many, columns);
	}
	return engine;
}

static void random_programs_agree_with_libpcap(void **state)
{
	struct frames_rng rng = {SEED + 2};
	struct rte_mbuf *whole[BURST], *pieces[BURST];
	static struct filter_code code;
	unsigned n_jit = 0, n_interpreter = 0;

	for (unsigned p = 0; p < PROGRAMS; p++) {
		const struct frame *frame = &frames[p % N_BURSTS * BURST];

		random_program(&rng, &code);
		burst_fill(frame, &rng, whole, pieces);
		n_jit += program_check(&code, frame, whole, pieces) == FILTER_ENGINE_JIT;
		/* rte_bpf refuses what cannot be reached. */
		code.insn[code.n++] = (struct filter_insn){BPF_RET | BPF_K, 0, 0, 0};
		n_interpreter +=
			program_check(&code, frame, whole, pieces) == FILTER_ENGINE_INTERPRETER;
		rte_pktmbuf_free_bulk(whole, BURST);
		rte_pktmbuf_free_bulk(pieces, BURST);
	}
	print_message("# %u of %u random programs ran as native code, %u of %u by columns\n", n_jit,
		PROGRAMS, n_columns, 2 * PROGRAMS);
	assert_true(n_columns > PROGRAMS / 10);
	assert_true(n_jit > PROGRAMS * 9 / 10);
	assert_int_equal(n_interpreter, PROGRAMS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters_txt_has_enough_rows),
		cmocka_unit_test(each_filter_runs_in_its_engine),
		cmocka_unit_test(most_filters_run_by_columns),
		cmocka_unit_test(engines_agree_with_libpcap),
		cmocka_unit_test(each_filter_selects_what_its_row_says),
		cmocka_unit_test(engines_agree_with_tcpdump),
		cmocka_unit_test(random_programs_agree_with_libpcap),
	};

	if (filter_helper_start() != 0 || eal_fixture_start() != 0)
		return 77;
	return cmocka_run_group_tests(tests, corpus_setup, corpus_teardown);
}
