/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The compiler process: what it says about wrong expressions, its limits, what it leaves behind.
 * And the filter objects. That filters select the right packets is test_filter_corpus.c's.
 */
#include "engine/filter.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "eal_fixture.h"
#include "frames.h"

static struct filter_code code;

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* "port 1 or port 2 or ... port n": libpcap's time grows with the cube of n. */
static const char *bomb(unsigned n)
{
	static char text[FILTER_EXPRESSION_MAX];
	unsigned len = 0;

	for (unsigned i = 1; i <= n; i++)
		len += (unsigned)snprintf(
			text + len, sizeof(text) - len, "%sport %u", i > 1 ? " or " : "", i);
	return text;
}

/* --- /proc -------------------------------------------------------------------------------------
 */

/* Children of parent, zombies too; the first one's id in *first. */
static unsigned children_count(pid_t parent, pid_t *first)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[300];
		int pid, ppid;
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		file = fopen(path, "r");
		if (file == NULL)
			continue;
		if (fscanf(file, "%d (%*[^)]) %*c %d", &pid, &ppid) == 2 && ppid == parent &&
			n++ == 0 && first != NULL)
			*first = pid;
		fclose(file);
	}
	closedir(dir);
	return n;
}

static pid_t keeper_pid(void)
{
	pid_t pid = 0;

	assert_int_equal(children_count(getpid(), &pid), 1);
	return pid;
}

/* The keeper forks it soon after its own start, not before, and reaps what a killed one leaves. */
static pid_t helper_await(pid_t keeper)
{
	pid_t pid = 0;

	for (unsigned i = 0; i < 500 && children_count(keeper, &pid) != 1; i++)
		usleep(10000);
	return pid;
}

static pid_t helper_pid(void)
{
	pid_t keeper = keeper_pid(), pid = helper_await(keeper);

	assert_int_equal(children_count(keeper, NULL), 1);
	return pid;
}

static unsigned fds_count(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* The helper reaps soon after its child answered, not before; on a busy machine a child that an earlier
 * test left at work may need its whole wall-clock limit. */
static void helper_settles(void)
{
	pid_t helper = helper_pid();

	for (unsigned i = 0; i < 1500 && children_count(helper, NULL) > 0; i++)
		usleep(10000);
	assert_int_equal(children_count(helper, NULL), 0);
}

/* --- what is said ------------------------------------------------------------------------------
 */

static const struct {
	const char *expression, *text;
} complaints[] = {
	{"tcp prot 80", "can't parse filter expression: syntax error at 'prot', character 5"},
	{"foo", "can't parse filter expression: syntax error at 'foo', character 1"},
	{"tcp port", "can't parse filter expression: syntax error at the end, after 'port'"},
	{"tcp and", "can't parse filter expression: syntax error at the end, after 'and'"},
	{"tcp and and udp", "can't parse filter expression: syntax error at 'and', character 9"},
	{"(tcp or udp", "can't parse filter expression: syntax error at the end, after 'udp'"},
	{"tcp or udp)", "can't parse filter expression: syntax error at ')', character 11"},
	{"ip[0 = 5", "can't parse filter expression: syntax error at '=', character 6"},
	{"ip[0]", "can't parse filter expression: syntax error at the end, after ']'"},
	{"ip[0] = ", "can't parse filter expression: syntax error at the end, after '='"},
	{"(ip[0] + tcp[", "can't parse filter expression: syntax error at the end, after '['"},
	{"host 10.0.0.1 or or port 80 and tcp",
		"can't parse filter expression: syntax error at 'or', character 18"},
	{"tcp port 80 and (udp or icmp) arp[[0] = 1",
		"can't parse filter expression: syntax error at 'arp', character 31"},
	{"port foo", "unknown port 'foo', character 6"},
	{"tcp port 80 or udp port nosuch", "unknown port 'nosuch', character 25"},
	{"port 80 or port 70000", "illegal port number 70000 > 65535 at '70000', character 17"},
	{"ip proto nosuch", "unknown ip proto 'nosuch', character 10"},
	{"host 1.2.3.400", "invalid IPv4 address '1.2.3.400', character 6"},
	{"net 1.2.3.4/8", "non-network bits set in \"1.2.3.4/8\", character 5"},
	{"tcp[0:3] = 1", "data size must be 1, 2, or 4 at ']', character 8"},
	{"ip and ip6", "expression rejects all packets"},
	{"host www.example.com", "host names are not resolved; write an address instead of "
				 "'www.example.com', character 6"},
	{"tcp and src host localhost", "host names are not resolved; write an address instead of "
				       "'localhost', character 18"},
	{"ip6 host www.example.com and port 80", "host names are not resolved; write an address "
						 "instead of 'www.example.com', character 10"},
	{"host memory",
		"host names are not resolved; write an address instead of 'memory', character 6"},
	{"net loopback",
		"host names are not resolved; write an address instead of 'loopback', character 5"},
	{"ether host nosuch",
		"host names are not resolved; write an address instead of 'nosuch', character 12"},
	{"inbound", "inbound, outbound and ifindex are not in the packet; use direction and ports"},
	{"ifindex 2",
		"inbound, outbound and ifindex are not in the packet; use direction and ports"},
};

static void complaints_name_the_word_and_its_place(void **state)
{
	unsigned n_wrong = 0;

	for (unsigned i = 0; i < COUNT(complaints); i++) {
		struct err err = {0};

		assert_int_equal(filter_compile(complaints[i].expression, &code, &err), -EINVAL);
		assert_int_equal(err.code, EINVAL);
		assert_string_equal(err.field, "filter");
		if (strcmp(err.text, complaints[i].text) != 0) {
			print_message("# %s: %s\n", complaints[i].expression, err.text);
			n_wrong++;
		}
	}
	assert_int_equal(n_wrong, 0);
}

static void names_of_ports_and_protocols_are_known(void **state)
{
	static const char *const expressions[] = {"port http", "udp port domain", "ip proto \\tcp",
		"ip6 proto \\udp", "proto \\ospf", "ether proto \\arp", "portrange ssh-http", ""};

	for (unsigned i = 0; i < COUNT(expressions); i++) {
		struct err err;

		if (filter_compile(expressions[i], &code, &err) != 0)
			fail_msg("%s: %s", expressions[i], err.text);
		assert_true(code.n > 0);
	}
}

/* A name that /etc/hosts knows is refused above, so files are not asked; nor is anything beyond. */
static void the_helper_has_no_network(void **state)
{
	struct stat ours, theirs;
	char path[64];

	if (geteuid() != 0)
		skip();
	snprintf(path, sizeof(path), "/proc/%d/ns/net", helper_pid());
	assert_int_equal(stat("/proc/self/ns/net", &ours), 0);
	assert_int_equal(stat(path, &theirs), 0);
	assert_int_not_equal(ours.st_ino, theirs.st_ino);
}

static void the_longest_expression_is_8191_bytes(void **state)
{
	static char expression[FILTER_EXPRESSION_MAX + 1];
	struct err err;

	memset(expression, ' ', FILTER_EXPRESSION_MAX - 1);
	memcpy(expression, "tcp", 3);
	assert_int_equal(filter_compile(expression, &code, &err), 0);
	expression[FILTER_EXPRESSION_MAX - 1] = ' ';
	assert_int_equal(filter_compile(expression, &code, &err), -EINVAL);
	assert_string_equal(err.text, "longer than 8191 bytes");
}

static void garbage_gets_a_printable_answer(void **state)
{
	static const char *const words[] = {"ip", "tcp", "[", "]", "(", ")", "and", "or", "not",
		"port", "host", "0", "99999999999", "1.2.3.4", "::1", "=", "<<", "&", "\x01",
		"\xff\xfe", "'", "\"", "%s", "\\", "/", "-", "net", "vlan", "proto", "\n"};
	struct frames_rng rng = {1};

	for (unsigned i = 0; i < 300; i++) {
		char expression[300] = "";
		unsigned n = 1 + frames_below(&rng, 12);
		struct err err = {0};

		while (n-- > 0) {
			strcat(expression, PICK(&rng, words));
			if (frames_below(&rng, 3) != 0)
				strcat(expression, " ");
		}
		if (filter_compile(expression, &code, &err) == 0)
			continue;
		assert_int_equal(err.code, EINVAL);
		assert_true(strlen(err.text) > 0);
		for (const char *c = err.text; *c != '\0'; c++)
			assert_true(isprint((unsigned char)*c));
	}
}

static void deep_nesting_is_answered(void **state)
{
	static char expression[FILTER_EXPRESSION_MAX];
	struct err err;
	int ret;

	memset(expression, '(', 4000);
	memcpy(expression + 4000, "tcp", 3);
	memset(expression + 4003, ')', 4000);
	ret = filter_compile(expression, &code, &err);
	assert_true(ret == 0 || err.code == EINVAL);
	expression[4003] = '\0';
	assert_int_equal(filter_compile(expression, &code, &err), -EINVAL);
}

/* --- limits ------------------------------------------------------------------------------------
 */

static bool is_about_limits(const struct err *err)
{
	/* The last when a sanitizer's allocator ends the process. */
	return strstr(err->text, "needs more memory to compile than is allowed") != NULL ||
	       strstr(err->text, "the compiler failed on it (status") != NULL ||
	       strstr(err->text, "more than 500 ms of processor time") != NULL ||
	       strstr(err->text, "more than 1500 ms to compile") != NULL;
}

/* Whether another one is compiled while the bomb at pfd->fd is still busy. */
static bool bomb_is_overtaken(struct pollfd *pfd)
{
	struct err err;

	pfd->fd = filter_compile_start(bomb(400));
	assert_true(pfd->fd >= 0);
	assert_int_equal(filter_compile("tcp port 443", &code, &err), 0);
	return poll(pfd, 1, 0) == 0;
}

static void a_bomb_is_stopped_and_blocks_nobody(void **state)
{
	double start = now_s();
	struct pollfd pfd = {.events = POLLIN};
	struct err err;

	/* A machine that does something else meanwhile may let the bomb win, but not each time. */
	for (unsigned i = 0; !bomb_is_overtaken(&pfd); i++) {
		assert_true(i < 5);
		assert_true(filter_compile_finish(pfd.fd, &code, &err) < 0);
		start = now_s();
	}
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_true(filter_compile_finish(pfd.fd, &code, &err) < 0);
	if (!is_about_limits(&err))
		fail_msg("%s", err.text);
	assert_true(now_s() - start < 2.5);
}

/* Not libpcap's way, but a wrong word far behind in a long expression must not cost the message. */
static void a_long_wrong_expression_is_explained_or_stopped(void **state)
{
	static char expression[FILTER_EXPRESSION_MAX];
	struct err err;

	strcat(strcpy(expression, bomb(90)), " or tcp prot 5");
	assert_int_equal(filter_compile(expression, &code, &err), -EINVAL);
	if (strstr(err.text, "syntax error") == NULL && !is_about_limits(&err))
		fail_msg("%s", err.text);
}

static void fifty_requests_at_once(void **state)
{
	static const char *const expressions[] = {"tcp", "udp port 53", "host 10.0.0.1", "prot"};
	int fds[50];

	for (unsigned i = 0; i < COUNT(fds); i++) {
		fds[i] = filter_compile_start(expressions[i % COUNT(expressions)]);
		assert_true(fds[i] >= 0);
	}
	for (unsigned i = 0; i < COUNT(fds); i++) {
		struct pollfd pfd = {.fd = fds[i], .events = POLLIN};
		struct err err;
		int ret;

		assert_int_equal(poll(&pfd, 1, 5000), 1);
		ret = filter_compile_finish(fds[i], &code, &err);
		assert_int_equal(ret, i % COUNT(expressions) == 3 ? -EINVAL : 0);
	}
}

static void too_many_requests_are_refused_in_words(void **state)
{
	int fds[300];
	unsigned n_refused = 0;

	for (unsigned i = 0; i < COUNT(fds); i++) {
		fds[i] = filter_compile_start(i < 8 ? bomb(300) : "tcp");
		assert_true(fds[i] >= 0);
	}
	for (unsigned i = 0; i < COUNT(fds); i++) {
		struct pollfd pfd = {.fd = fds[i], .events = POLLIN};
		struct err err = {0};

		assert_int_equal(poll(&pfd, 1, 10000), 1);
		filter_compile_finish(fds[i], &code, &err);
		if (strstr(err.text, "waiting") != NULL) {
			assert_int_equal(err.code, EAGAIN);
			n_refused++;
		}
	}
	assert_in_range(n_refused, 1, COUNT(fds) - 8);
}

static void nothing_is_left_behind(void **state)
{
	unsigned ours, theirs;

	helper_settles();
	ours = fds_count(getpid());
	theirs = fds_count(helper_pid());
	for (unsigned i = 0; i < 100; i++) {
		filter_compile(i % 2 == 0 ? "tcp" : "tcp prot", &code, NULL);
		close(filter_compile_start("udp")); /* asked, and gone before the answer */
	}
	helper_settles();
	assert_int_equal(filter_compile("tcp", &code, NULL), 0);
	helper_settles();
	assert_int_equal(fds_count(getpid()), ours);
	assert_int_equal(fds_count(helper_pid()), theirs);
}

/* --- the life of the helper --------------------------------------------------------------------
 */

static void a_stopped_helper_can_be_started_again(void **state)
{
	struct err err;

	assert_int_equal(filter_helper_start(), -EALREADY);
	filter_helper_stop();
	assert_int_equal(children_count(getpid(), NULL), 0);
	assert_int_equal(filter_compile("tcp", &code, &err), -EAGAIN);
	assert_string_equal(err.text, "the filter compiler is not running");
	assert_int_equal(filter_helper_start(), 0);
	assert_int_equal(filter_compile("tcp", &code, &err), 0);
}

/* Nobody may be there to reap it. */
static bool is_running(pid_t pid)
{
	char path[64], state = 'Z';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return false;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 'Z';
	fclose(file);
	return state != 'Z' && state != 'X';
}

/* Starts the helper anew with a log that can be read at the descriptor that is returned. */
static int helper_restart_logged(void)
{
	int fds[2], saved = dup(STDERR_FILENO);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	filter_helper_stop();
	dup2(fds[1], STDERR_FILENO);
	assert_int_equal(filter_helper_start(), 0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	return fds[0];
}

static void log_expect(int fd, const char *line)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	char text[200];
	ssize_t len;

	assert_int_equal(poll(&pfd, 1, 5000), 1);
	len = read(fd, text, sizeof(text) - 1);
	assert_true(len > 0);
	text[len] = '\0';
	assert_string_equal(text, line);
}

/* CPU time that a process has used, in clock ticks; 0 when it is gone. */
static unsigned long cpu_ticks(pid_t pid)
{
	unsigned long user = 0, system = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
		    &system) != 2)
		user = system = 0;
	fclose(file);
	return user + system;
}

/* A child of the helper that is stopped while it compiles (one that has used CPU time is past its
 * start); 0 when none can be caught. It answers on *fd, if ever. */
static pid_t child_hold(pid_t helper, int *fd)
{
	for (unsigned i = 0; i < 100; i++) {
		struct pollfd pfd = {.fd = filter_compile_start(bomb(300)), .events = POLLIN};
		pid_t child = 0;

		while (poll(&pfd, 1, 0) == 0 &&
			(children_count(helper, &child) == 0 || cpu_ticks(child) < 2))
			usleep(1000);
		if (child > 0 && kill(child, SIGSTOP) == 0 && poll(&pfd, 1, 20) == 0) {
			*fd = pfd.fd;
			return child;
		}
		close(pfd.fd); /* too late */
	}
	return 0;
}

/* Kills it at work: what it works on fails, the next request is answered. */
static void helper_kill(pid_t helper)
{
	struct pollfd pfd = {.events = POLLIN};
	struct err err;
	double start;

	assert_true(child_hold(helper, &pfd.fd) > 0);
	start = now_s();
	kill(helper, SIGKILL);
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_int_equal(filter_compile_finish(pfd.fd, &code, &err), -EAGAIN);
	assert_string_equal(err.text, "the filter compiler is not running");
	if (filter_compile("tcp", &code, &err) != 0)
		fail_msg("%s", err.text);
	assert_true(now_s() - start < 2.0);
}

static void a_killed_helper_comes_back(void **state)
{
	int log = helper_restart_logged();
	pid_t keeper = keeper_pid(), helper = helper_pid();
	unsigned ours, keepers, helpers;

	assert_int_equal(filter_compile("tcp", &code, NULL), 0);
	helper_settles();
	ours = fds_count(getpid());
	keepers = fds_count(keeper);
	helpers = fds_count(helper);
	for (unsigned i = 0; i < 3; i++) {
		pid_t old = helper;

		helper_kill(old);
		log_expect(
			log, "warning: the filter compiler died and was started again signal=9\n");
		helper = helper_pid(); /* zombies would be counted with it */
		assert_int_not_equal(helper, old);
	}
	helper_settles();
	assert_int_equal(keeper_pid(), keeper);
	assert_int_equal(fds_count(getpid()), ours);
	assert_int_equal(fds_count(keeper), keepers);
	assert_int_equal(fds_count(helper), helpers);

	filter_helper_stop();
	assert_int_equal(children_count(getpid(), NULL), 0);
	assert_false(is_running(keeper));
	assert_false(is_running(helper));
	close(log);
	assert_int_equal(filter_helper_start(), 0);
}

/* The keeper is not there to be killed, but when it is nothing stays behind nor hangs. */
static void a_killed_keeper_is_reported(void **state)
{
	pid_t helper = helper_pid();
	struct err err;

	kill(keeper_pid(), SIGKILL);
	for (unsigned i = 0; i < 100 && is_running(helper); i++)
		usleep(10000);
	assert_false(is_running(helper));
	assert_int_equal(filter_compile("tcp", &code, &err), -EAGAIN);
	assert_string_equal(err.text, "the filter compiler is not running");
	filter_helper_stop();
	assert_int_equal(children_count(getpid(), NULL), 0);
	assert_int_equal(filter_helper_start(), 0);
	assert_int_equal(filter_compile("tcp", &code, &err), 0);
}

/* Also in the pause before it comes back. */
static void a_killed_helper_can_be_stopped(void **state)
{
	kill(helper_pid(), SIGKILL);
	filter_helper_stop();
	assert_int_equal(children_count(getpid(), NULL), 0);
	assert_int_equal(filter_helper_start(), 0);
	assert_int_equal(filter_compile("tcp", &code, NULL), 0);
}

static bool any_is_running(const pid_t *ids, unsigned n)
{
	bool any = false;

	for (unsigned i = 0; i < n; i++)
		any |= is_running(ids[i]);
	return any;
}

/* A daemon that is killed takes the keeper, its helper and the helper's children along. */
static void the_helper_dies_with_its_parent(void **state)
{
	pid_t daemon, ids[3] = {0};
	int fds[2], fd;

	assert_int_equal(pipe(fds), 0);
	daemon = fork();
	if (daemon == 0) {
		filter_helper_stop();
		filter_helper_start();
		children_count(getpid(), &ids[0]);
		ids[1] = helper_await(ids[0]);
		ids[2] = child_hold(ids[1], &fd);
		(void)!write(fds[1], ids, sizeof(ids));
		raise(SIGKILL);
	}
	assert_int_equal(read(fds[0], ids, sizeof(ids)), sizeof(ids));
	assert_int_equal(waitpid(daemon, NULL, 0), daemon);
	assert_true(ids[0] > 0 && ids[1] > 0 && ids[2] > 0);
	for (unsigned i = 0; i < 100 && any_is_running(ids, COUNT(ids)); i++)
		usleep(10000);
	assert_false(any_is_running(ids, COUNT(ids)));
	close(fds[0]);
	close(fds[1]);
}

/* --- filters -----------------------------------------------------------------------------------
 */

static void equal_programs_are_one_filter(void **state)
{
	static struct filter_code other;
	struct filter *a, *b, *c;

	assert_int_equal(filter_compile("tcp port 80", &code, NULL), 0);
	assert_int_equal(filter_compile("port 80 and tcp", &other, NULL), 0);
	a = filter_new(&code, NULL);
	b = filter_new(&code, NULL);
	assert_non_null(a);
	assert_ptr_equal(a, b);
	c = filter_new(&other, NULL);
	assert_non_null(c);
	assert_int_equal(a == c, code.n == other.n && memcmp(&code, &other, sizeof(code)) == 0);
	filter_put(c);
	filter_put(b);
	assert_int_equal(filter_engine(a), FILTER_ENGINE_JIT);
	assert_ptr_equal(filter_get(a), a);
	filter_put(a);
	filter_put(a);
	filter_put(NULL);
}

static void invalid_programs_are_refused(void **state)
{
	static struct filter_code bad[] = {
		{.n = 0}, {.n = FILTER_INSNS_MAX + 1},
		{.n = 1, .insn = {{0x15, 0, 0, 1}}},                    /* does not end */
		{.n = 2, .insn = {{0x15, 9, 0, 1}, {0x06, 0, 0, 1}}},   /* jumps out */
		{.n = 2, .insn = {{0x34, 0, 0, 0}, {0x06, 0, 0, 1}}},   /* divides by 0 */
		{.n = 2, .insn = {{0x60, 0, 0, 16}, {0x06, 0, 0, 1}}},  /* no such memory */
		{.n = 2, .insn = {{0x00e0, 0, 0, 0}, {0x06, 0, 0, 1}}}, /* no such load */
	};

	for (unsigned i = 0; i < COUNT(bad); i++) {
		struct err err = {0};

		if (filter_new(&bad[i], &err) != NULL)
			fail_msg("program %u", i);
		assert_int_equal(err.code, EINVAL);
		assert_string_equal(err.field, "filter");
	}
}

static void no_filter_accepts_all(void **state)
{
	struct rte_mbuf *pkts[64] = {NULL};

	assert_int_equal(filter_engine(NULL), FILTER_ENGINE_NONE);
	assert_true(filter_burst(NULL, pkts, 0) == 0);
	assert_true(filter_burst(NULL, pkts, 1) == 1);
	assert_true(filter_burst(NULL, pkts, 63) == UINT64_MAX >> 1);
	assert_true(filter_burst(NULL, pkts, 64) == UINT64_MAX);
}

static void accept_everything_is_a_filter(void **state)
{
	struct rte_mempool *pool = eal_fixture_pool("everything", 8, 2048);
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	struct filter *filter;

	assert_int_equal(filter_compile("", &code, NULL), 0);
	filter = filter_new(&code, NULL);
	assert_non_null(filter);
	assert_int_equal(filter_engine(filter), FILTER_ENGINE_JIT);
	assert_true(filter_burst(filter, &m, 1) == 1); /* of no length, too */
	filter_put(filter);
	rte_pktmbuf_free(m);
	rte_mempool_free(pool);
}

/* rte_bpf_load() walks all ways through this as it is, which are more than it could in a year. */
static void many_ways_through_are_no_obstacle(void **state)
{
	static char expression[FILTER_EXPRESSION_MAX];
	struct filter *filter;
	struct err err;
	unsigned len = 0;
	double start;

	for (unsigned i = 1; i <= 60; i++)
		len += (unsigned)snprintf(expression + len, sizeof(expression) - len,
			"%s(host 10.0.0.%u and tcp port %u)", i > 1 ? " or " : "", i, i);
	if (filter_compile(expression, &code, &err) != 0)
		fail_msg("%s", err.text);
	start = now_s();
	filter = filter_new(&code, &err);
	assert_non_null(filter);
	assert_true(now_s() - start < 1.0);
	assert_int_equal(filter_engine(filter), FILTER_ENGINE_JIT);
	filter_put(filter);
}

/*
 * An authentication header whose length field leads back to itself: libpcap's interpreter, and so
 * tcpdump, stays with this packet for ever.
 */
static void a_chain_that_loops_ends(void **state)
{
	struct rte_mempool *pool = eal_fixture_pool("loop", 8, 2048);
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	struct filter *filter;
	uint8_t *data = (uint8_t *)rte_pktmbuf_append(m, 60);

	memset(data, 0, 60);
	data[12] = 0x08;
	data[14] = 0x45;
	data[23] = 51; /* protocol: AH */
	data[34] = 51; /* at 20 of the packet, whose next header is */
	data[35] = 3;  /* at (3 + 2) * 4 = 20 */
	assert_int_equal(filter_compile("ip protochain 6", &code, NULL), 0);
	filter = filter_new(&code, NULL);
	assert_non_null(filter);
	assert_int_equal(filter_engine(filter), FILTER_ENGINE_INTERPRETER);
	alarm(10);
	assert_true(filter_burst(filter, &m, 1) == 0);
	alarm(0);
	data[23] = 6;
	assert_true(filter_burst(filter, &m, 1) == 1);
	filter_put(filter);
	rte_pktmbuf_free(m);
	rte_mempool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(complaints_name_the_word_and_its_place),
		cmocka_unit_test(names_of_ports_and_protocols_are_known),
		cmocka_unit_test(the_helper_has_no_network),
		cmocka_unit_test(the_longest_expression_is_8191_bytes),
		cmocka_unit_test(garbage_gets_a_printable_answer),
		cmocka_unit_test(deep_nesting_is_answered),
		cmocka_unit_test(a_bomb_is_stopped_and_blocks_nobody),
		cmocka_unit_test(a_long_wrong_expression_is_explained_or_stopped),
		cmocka_unit_test(fifty_requests_at_once),
		cmocka_unit_test(too_many_requests_are_refused_in_words),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(a_stopped_helper_can_be_started_again),
		cmocka_unit_test(a_killed_helper_comes_back),
		cmocka_unit_test(a_killed_helper_can_be_stopped),
		cmocka_unit_test(a_killed_keeper_is_reported),
		cmocka_unit_test(the_helper_dies_with_its_parent),
		cmocka_unit_test(equal_programs_are_one_filter),
		cmocka_unit_test(invalid_programs_are_refused),
		cmocka_unit_test(no_filter_accepts_all),
		cmocka_unit_test(accept_everything_is_a_filter),
		cmocka_unit_test(many_ways_through_are_no_obstacle),
		cmocka_unit_test(a_chain_that_loops_ends),
	};

	if (filter_helper_start() != 0 || eal_fixture_start() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
