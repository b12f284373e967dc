/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The process that compiles filters. control sends it (expression, answer socket) pairs; it forks a
 * child for each, a few at a time, and the child writes one answer. The child is bounded in
 * processor time, wall clock and memory, has no network and no names but those of ports and
 * protocols; when a bound kills it, the helper answers in its place. The control half never blocks.
 *
 *   control ── expression + fd ──► helper ── fork ──► child ── answer ──► fd ──► control
 *                                  helper ◄── SIGCHLD ──┘ (killed? answer for it)
 *
 * Above the helper stands its keeper, the process that is forked in main. It holds the request
 * socket too, does nothing but wait, and forks the next helper when one dies: requests that nobody
 * had taken wait in the socket, those that were taken end as the dead one's descriptors close.
 */
#include "engine/filter_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config/log.h"
#include "engine/sandbox.h"

#define CHILD_CPU_MS       500
#define CHILD_WALL_MS      1500
#define CHILD_MEMORY_BYTES (64u << 20) /* more than the process had when it was forked */
#define CHILD_NICE         5
#define CHILDREN_MAX       4
#define WAITING_MAX        256

/* A pause before each new helper, twice as long each time until one has lived for a while. */
#define RESTART_FIRST_MS 50
#define RESTART_MAX_MS   2000
#define RESTART_CALM_MS  10000

#define NOBODY 65534

struct answer {
	int32_t code; /* 0, or errno value */
	uint32_t n;   /* instructions that follow */
	char text[sizeof(((struct err *)0)->text)];
};

struct request {
	int fd;
	STAILQ_ENTRY(request) link;
	char expression[];
};

struct child {
	pid_t pid; /* 0: free */
	int fd;    /* to answer on when the child cannot */
};

/* In the helper. */
struct helper {
	int fd;        /* requests */
	int signal_fd; /* SIGCHLD */
	unsigned n_waiting;
	struct child child[CHILDREN_MAX];
	STAILQ_HEAD(, request) waiting;
};

/* Control thread: our end. */
static int helper_fd = -1;
static pid_t keeper_pid;

static void keeper_run(int fd, pid_t parent) __attribute__((noreturn));
static int request_send(const char *expression, size_t size, int fd);
static void answer_send(int fd, const struct answer *answer, const struct filter_code *code);
static void answer_refuse(int fd, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* --- control's half ----------------------------------------------------------------------------
 */

int filter_helper_start(void)
{
	pid_t parent = getpid();
	int pair[2];

	if (helper_fd >= 0)
		return -EALREADY;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	keeper_pid = fork();
	if (keeper_pid < 0) {
		int saved = errno;

		close(pair[0]);
		close(pair[1]);
		return -saved;
	}
	if (keeper_pid == 0)
		keeper_run(pair[1], parent);
	close(pair[1]);
	helper_fd = pair[0];
	return 0;
}

void filter_helper_stop(void)
{
	if (helper_fd < 0)
		return;
	close(helper_fd); /* the helper ends when it reads this, and its keeper with it */
	helper_fd = -1;
	while (waitpid(keeper_pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int filter_compile_start(const char *expression)
{
	size_t size = strnlen(expression, FILTER_EXPRESSION_MAX) + 1;
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	if (size > FILTER_EXPRESSION_MAX) {
		answer_refuse(pair[1], EINVAL, "longer than %u bytes", FILTER_EXPRESSION_MAX - 1);
	} else {
		ret = request_send(expression, size, pair[1]);
		if (ret == -EAGAIN)
			answer_refuse(
				pair[1], EAGAIN, "too many filters are waiting to be compiled");
		else if (ret < 0)
			answer_refuse(pair[1], EAGAIN, "the filter compiler is not running");
	}
	close(pair[1]);
	return pair[0];
}

int filter_compile_finish(int fd, struct filter_code *code, struct err *err)
{
	struct answer answer;
	struct iovec iov[] = {{&answer, sizeof(answer)}, {code->insn, sizeof(code->insn)}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t len = recvmsg(fd, &msg, MSG_DONTWAIT);

	close(fd);
	code->n = 0;
	if (len <= 0)
		return err_set(err, EAGAIN, "filter", "the filter compiler is not running");
	if ((size_t)len < sizeof(answer) || answer.n > FILTER_INSNS_MAX ||
		(size_t)len != sizeof(answer) + answer.n * sizeof(code->insn[0]))
		return err_set(err, EINVAL, "filter", "the filter compiler sent a broken answer");
	answer.text[sizeof(answer.text) - 1] = '\0';
	if (answer.code != 0)
		return err_set(err, answer.code, "filter", "%s", answer.text);
	code->n = answer.n;
	return 0;
}

int filter_compile(const char *expression, struct filter_code *code, struct err *err)
{
	struct pollfd pfd = {.events = POLLIN};

	pfd.fd = filter_compile_start(expression);
	if (pfd.fd < 0)
		return err_set(
			err, -pfd.fd, "filter", "cannot be compiled now: %s", strerror(-pfd.fd));
	while (poll(&pfd, 1, -1) < 0 && errno == EINTR)
		;
	return filter_compile_finish(pfd.fd, code, err);
}

/* --- the protocol: one message each way --------------------------------------------------------
 */

union fd_control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static int request_send(const char *expression, size_t size, int fd)
{
	union fd_control control = {0};
	struct iovec iov = {(void *)(uintptr_t)expression, size};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(helper_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* -errno when control has gone. *request is NULL for a message that is not a request. */
static int request_receive(int helper, struct request **request)
{
	static char expression[FILTER_EXPRESSION_MAX];
	union fd_control control;
	struct iovec iov = {expression, sizeof(expression)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t len = recvmsg(helper, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg;
	int fd;

	*request = NULL;
	if (len <= 0)
		return len == 0 ? -EPIPE : -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg == NULL || cmsg->cmsg_type != SCM_RIGHTS)
		return 0;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	expression[sizeof(expression) - 1] = '\0';
	*request = malloc(sizeof(**request) + (size_t)len);
	if (*request == NULL) {
		answer_refuse(fd, EAGAIN, "no memory to compile it");
		close(fd);
		return 0;
	}
	(*request)->fd = fd;
	memcpy((*request)->expression, expression, (size_t)len);
	return 0;
}

/* A reader that has gone away is no reason to do anything. */
static void answer_send(int fd, const struct answer *answer, const struct filter_code *code)
{
	struct iovec iov[] = {
		{(void *)(uintptr_t)answer, sizeof(*answer)},
		{(void *)(uintptr_t)(code != NULL ? code->insn : NULL),
			answer->n * sizeof(struct filter_insn)},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	(void)!sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static void answer_refuse(int fd, int code, const char *fmt, ...)
{
	struct answer answer = {.code = code};
	va_list args;

	va_start(args, fmt);
	vsnprintf(answer.text, sizeof(answer.text), fmt, args);
	va_end(args);
	answer_send(fd, &answer, NULL);
}

/* --- the keeper --------------------------------------------------------------------------------
 */

/* As statm has it, which needs no parsing of names: pages that are mapped now. */
static rlim_t memory_mapped_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL)
		return RLIM_INFINITY;
	if (fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages > 0 ? (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) : RLIM_INFINITY;
}

static void limit_set(int resource, rlim_t value)
{
	setrlimit(resource, &(struct rlimit){value, value});
}

static void timer_set(int which, unsigned ms)
{
	setitimer(which, &(struct itimerval){.it_value = {ms / 1000, (ms % 1000) * 1000}}, NULL);
}

static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
}

/* fd becomes number 3 and the only one besides the standard three. */
static int keep_only(int fd)
{
	if (fd != 3)
		fd = dup2(fd, 3);
	close_range(4, ~0u, 0);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/*
 * Names of ports and protocols come from files; those of hosts, networks and Ethernet addresses
 * from a source that does not exist, so that neither DNS nor a local daemon nor a file is asked.
 * The empty network namespace and the lost privileges are a second wall: failing to build it is no
 * error.
 */
static void keeper_confine(void)
{
	__nss_configure_lookup("hosts", "none");
	__nss_configure_lookup("networks", "none");
	__nss_configure_lookup("ethers", "none");
	__nss_configure_lookup("services", "files");
	__nss_configure_lookup("protocols", "files");
	if (geteuid() == 0) {
		(void)!unshare(CLONE_NEWNET);
		(void)!setgroups(0, NULL);
		(void)!setresgid(NOBODY, NOBODY, NOBODY);
		(void)!setresuid(NOBODY, NOBODY, NOBODY);
	} else {
		(void)!unshare(CLONE_NEWUSER | CLONE_NEWNET);
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	limit_set(RLIMIT_CORE, 0);
	(void)sandbox_compiler();
}

/* Signals for the daemon's group or control group are not for us: we end when it does. */
static void keeper_signals(void)
{
	static const int ours[] = {
		SIGPROF, SIGALRM, SIGXCPU, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
	sigset_t set;

	for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_DFL);
	for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* How the helper ended. What its children leave when it is killed comes to us as well. */
static int helper_wait(pid_t helper)
{
	int status = 0;
	pid_t pid;

	do {
		pid = waitpid(-1, &status, 0);
	} while (pid != helper && (pid > 0 || errno == EINTR));
	return status;
}

/* Requests that wait do not end the pause, which is what poll() without events is for. */
static bool control_gone(int fd, unsigned pause_ms)
{
	struct pollfd pfd = {.fd = fd};

	return poll(&pfd, 1, (int)pause_ms) > 0;
}

static void restart_log(int status)
{
	bool killed = WIFSIGNALED(status);

	log_warning("the filter compiler died and was started again %s=%d",
		killed ? "signal" : "status", killed ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void helper_run(int fd, rlim_t memory_bytes, pid_t keeper) __attribute__((noreturn));

/* What is set up here holds for every helper: each is a fork of this. */
static void keeper_run(int fd, pid_t parent)
{
	unsigned pause_ms = RESTART_FIRST_MS;
	rlim_t memory_bytes = memory_mapped_bytes();
	pid_t keeper = getpid();
	bool again = false;
	int status = 0;

	if (memory_bytes != RLIM_INFINITY)
		memory_bytes += CHILD_MEMORY_BYTES;
	prctl(PR_SET_NAME, "sluice-keeper");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fd = keep_only(fd);
	keeper_signals();
	keeper_confine();
	die_with(parent); /* last: a change of user forgets it */

	for (;;) {
		int64_t start_ms = now_ms();
		pid_t helper = fork();

		if (helper == 0)
			helper_run(fd, memory_bytes, keeper);
		if (helper < 0) {
			log_warning("the filter compiler does not start: %s", strerror(errno));
		} else {
			if (again)
				restart_log(status);
			status = helper_wait(helper);
			again = true;
		}
		if (now_ms() - start_ms >= RESTART_CALM_MS)
			pause_ms = RESTART_FIRST_MS;
		if (control_gone(fd, pause_ms))
			_exit(0);
		pause_ms = pause_ms < RESTART_MAX_MS / 2 ? 2 * pause_ms : RESTART_MAX_MS;
	}
}

/* --- the helper --------------------------------------------------------------------------------
 */

static int sigchld_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void child_run(const struct request *request, rlim_t memory_bytes, pid_t helper)
	__attribute__((noreturn));
static void children_start(struct helper *helper, rlim_t memory_bytes);
static void children_reap(struct helper *helper);
static void request_queue(struct helper *helper, struct request *request);

static void helper_run(int fd, rlim_t memory_bytes, pid_t keeper)
{
	struct helper helper = {.waiting = STAILQ_HEAD_INITIALIZER(helper.waiting), .fd = fd};
	struct request *request;

	die_with(keeper);
	prctl(PR_SET_NAME, "sluice-filter");
	limit_set(RLIMIT_FSIZE, 0); /* not the keeper's: its log may be a file */
	helper.signal_fd = sigchld_fd();

	for (;;) {
		struct pollfd pfd[] = {
			{.fd = helper.fd, .events = POLLIN},
			{.fd = helper.signal_fd, .events = POLLIN},
		};

		if (poll(pfd, 2, -1) < 0)
			continue;
		if (pfd[1].revents != 0)
			children_reap(&helper);
		if (pfd[0].revents != 0) {
			if (request_receive(helper.fd, &request) != 0)
				_exit(0);
			if (request != NULL)
				request_queue(&helper, request);
		}
		children_start(&helper, memory_bytes);
	}
}

static void request_queue(struct helper *helper, struct request *request)
{
	if (helper->n_waiting == WAITING_MAX) {
		answer_refuse(request->fd, EAGAIN, "%u filters are waiting to be compiled already",
			WAITING_MAX);
		close(request->fd);
		free(request);
		return;
	}
	STAILQ_INSERT_TAIL(&helper->waiting, request, link);
	helper->n_waiting++;
}

static struct child *child_free(struct helper *helper)
{
	for (unsigned i = 0; i < CHILDREN_MAX; i++) {
		if (helper->child[i].pid == 0)
			return &helper->child[i];
	}
	return NULL;
}

static void child_start(struct child *child, struct request *request, rlim_t memory_bytes)
{
	pid_t helper = getpid();

	child->pid = fork();
	if (child->pid == 0)
		child_run(request, memory_bytes, helper);
	if (child->pid < 0) {
		child->pid = 0;
		answer_refuse(request->fd, EAGAIN, "no process to compile it: %s", strerror(errno));
		close(request->fd);
	} else {
		child->fd = request->fd;
	}
	free(request);
}

static void children_start(struct helper *helper, rlim_t memory_bytes)
{
	struct child *child;

	while (!STAILQ_EMPTY(&helper->waiting) && (child = child_free(helper)) != NULL) {
		struct request *request = STAILQ_FIRST(&helper->waiting);

		STAILQ_REMOVE_HEAD(&helper->waiting, link);
		helper->n_waiting--;
		child_start(child, request, memory_bytes);
	}
}

/* What to say for a child that could not. */
static void child_explain(int fd, int status)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	if (sig == SIGPROF || sig == SIGXCPU || sig == SIGKILL)
		answer_refuse(fd, EINVAL,
			"takes more than %u ms of processor time to compile; use fewer terms, "
			"such as a portrange or a net",
			CHILD_CPU_MS);
	else if (sig == SIGALRM)
		answer_refuse(fd, EAGAIN, "took more than %u ms to compile on a busy machine",
			CHILD_WALL_MS);
	else
		answer_refuse(fd, EINVAL, "the compiler failed on it (%s %d)",
			sig != 0 ? "signal" : "status", sig != 0 ? sig : WEXITSTATUS(status));
}

static void children_reap(struct helper *helper)
{
	struct signalfd_siginfo info;
	pid_t pid;
	int status;

	(void)!read(helper->signal_fd, &info, sizeof(info));
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < CHILDREN_MAX; i++) {
			struct child *child = &helper->child[i];

			if (child->pid != pid)
				continue;
			child_explain(child->fd, status);
			close(child->fd);
			child->pid = 0;
		}
	}
}

/* --- the child ---------------------------------------------------------------------------------
 */

static void child_run(const struct request *request, rlim_t memory_bytes, pid_t helper)
{
	static struct filter_code code;
	struct answer answer = {0};
	struct err err;
	sigset_t none;
	int fd = keep_only(request->fd);

	die_with(helper);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpriority(PRIO_PROCESS, 0, CHILD_NICE);
	limit_set(RLIMIT_NPROC, 0);
	limit_set(RLIMIT_CPU, CHILD_CPU_MS / 1000 + 1); /* should the timer fail */
	limit_set(RLIMIT_AS, memory_bytes);
	timer_set(ITIMER_PROF, CHILD_CPU_MS);
	timer_set(ITIMER_REAL, CHILD_WALL_MS);
	(void)sandbox_compilation(fd);

	if (filter_text_compile(request->expression, &code, &err) == 0) {
		answer.n = code.n;
	} else {
		answer.code = err.code;
		snprintf(answer.text, sizeof(answer.text), "%s", err.text);
	}
	answer_send(fd, &answer, &code);
	_exit(0);
}
