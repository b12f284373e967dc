/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/sandbox: a process that stands in for one that was taken over goes into the cell and tries to
 * leave it. Each attempt is a process of its own, for some of them are the last thing that it does.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/sandbox.h"
#include "engine/sink.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_UNDEFINED__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

enum outcome { DENIED, KILLED, DONE };
static const char *const outcome_names[] = {"denied", "killed", "done"};

/* 0 or -errno, as the attempt ended. */
typedef int attempt_fn(void);

static int result(long rc)
{
	return rc < 0 ? -errno : 0;
}

/* What came of it in a process that went through enter first. */
static enum outcome outcome_of(bool (*enter)(void), attempt_fn *attempt)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		int rc;

		if (!enter())
			_exit(100);
		rc = attempt();
		_exit(rc == 0 ? 0 : rc == -EPERM || rc == -EACCES ? 1 : 2);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGSYS);
		return KILLED;
	}
	if (WEXITSTATUS(status) > 1)
		fail_msg("status %d", WEXITSTATUS(status));
	return WEXITSTATUS(status) == 1 ? DENIED : DONE;
}

static bool daemon_enter(void)
{
	struct err err;

	return sandbox_enter(&err) == 0;
}

static bool compiler_enter(void)
{
	return sandbox_compiler();
}

static bool compilation_enter(void)
{
	return sandbox_compiler() && sandbox_compilation(3);
}

static int program_run(void)
{
	char *const args[] = {"true", NULL};

	return result(execve("/bin/true", args, NULL));
}

static int descriptor_run(void)
{
	char *const args[] = {"true", NULL};

	return result(syscall(SYS_execveat, AT_FDCWD, "/bin/true", args, NULL, 0));
}

static int parent_trace(void)
{
	return result(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int parent_read(void)
{
	char byte;
	struct iovec to = {&byte, 1}, from = {(void *)(uintptr_t)outcome_names, 1};

	return result(process_vm_readv(getppid(), &to, 1, &from, 1, 0));
}

static int process_fork(void)
{
	return result(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
}

static int parent_kill(void)
{
	return result(kill(getppid(), 0));
}

static int root_mount(void)
{
	return result(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int space_unshare(void)
{
	return result(unshare(CLONE_NEWUSER));
}

static int filter_load(void)
{
	return result(syscall(SYS_bpf, 0, NULL, 0));
}

static int ring_make(void)
{
	struct io_uring_params params = {0};

	return result(syscall(SYS_io_uring_setup, 8, &params));
}

static int key_type(void)
{
	return result(ioctl(0, TIOCSTI, "x"));
}

static int limit_raise(void)
{
	return result(setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}));
}

static int vsock_open(void)
{
	return result(socket(AF_VSOCK, SOCK_STREAM, 0));
}

static int user_change(void)
{
	return result(syscall(SYS_setresuid, 1, 1, 1));
}

static int link_make(void)
{
	return result(symlink("/etc/shadow", "/tmp/sluice-test-link"));
}

static int node_make(void)
{
	return result(mknod("/tmp/sluice-test-node", S_IFIFO | 0600, 0));
}

static int dump_allow(void)
{
	return result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int wide_call(void)
{
	return result(syscall(0x40000000 | SYS_getpid));
}

static int shadow_read(void)
{
	return result(open("/etc/shadow", O_RDONLY));
}

static int self_read(void)
{
	return result(open("/proc/self/maps", O_RDONLY));
}

static int file_write(void)
{
	return result(open("/tmp/sluice-test-file", O_WRONLY | O_CREAT, 0600));
}

static int services_read(void)
{
	return result(open("/etc/services", O_RDONLY));
}

static int socket_open(void)
{
	return result(socket(AF_INET, SOCK_STREAM, 0));
}

static int unix_open(void)
{
	return result(socket(AF_UNIX, SOCK_DGRAM, 0));
}

static int code_make(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			       MAP_FAILED
		       ? -errno
		       : 0;
}

static int answer_elsewhere(void)
{
	struct msghdr msg = {0};

	return result(sendmsg(4, &msg, 0));
}

static void *thread_run(void *arg)
{
	*(int *)arg = program_run();
	return NULL;
}

static int thread_do(void)
{
	pthread_t thread;
	int rc = 0;

	if (pthread_create(&thread, NULL, thread_run, &rc) != 0)
		return -EINVAL;
	pthread_join(thread, NULL);
	return rc;
}

static void *thread_wait(void *arg)
{
	int *fds = arg;
	char byte;

	if (read(fds[0], &byte, 1) == 1)
		program_run();
	return NULL;
}

/* A thread that was there before. */
static bool daemon_enter_with_thread(void)
{
	static int fds[2];
	pthread_t thread;

	if (pipe(fds) < 0 || pthread_create(&thread, NULL, thread_wait, fds) != 0 ||
		!daemon_enter())
		return false;
	if (write(fds[1], "x", 1) != 1)
		return false;
	pthread_join(thread, NULL);
	return false; /* it came back */
}

static int nothing(void)
{
	return 0;
}

static int file_use(void)
{
	char path[] = "/tmp/test_sandbox.XXXXXX";
	int fd = mkstemp(path);
	int rc = result(fd);

	if (rc == 0 && (pwrite(fd, "x", 1, 0) != 1 || fdatasync(fd) < 0 || ftruncate(fd, 0) < 0))
		rc = -errno;
	unlink(path);
	return rc;
}

static int loopback_use(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return result(listen(fd, 1));
}

struct attempt {
	const char *name;
	attempt_fn *try;
	enum outcome outcome;
};

static void attempts_check(bool (*enter)(void), const struct attempt *attempts, unsigned n)
{
#ifdef SANITIZED
	n = 0; /* the runtime's own calls would be in the way: there is no cell in such a build */
#endif
	for (unsigned i = 0; i < n; i++) {
		enum outcome outcome = outcome_of(enter, attempts[i].try);

		if (outcome != attempts[i].outcome)
			fail_msg("%s: %s, not %s", attempts[i].name, outcome_names[outcome],
				outcome_names[attempts[i].outcome]);
	}
}

#define ATTEMPT(function, outcome)           \
	{                                    \
#function, function, outcome \
	}

static void the_daemon_stays_in_its_cell(void **state)
{
	static const struct attempt attempts[] = {
		ATTEMPT(program_run, KILLED),
		ATTEMPT(descriptor_run, KILLED),
		ATTEMPT(thread_do, KILLED),
		ATTEMPT(parent_trace, KILLED),
		ATTEMPT(parent_read, KILLED),
		ATTEMPT(root_mount, KILLED),
		ATTEMPT(space_unshare, KILLED),
		ATTEMPT(wide_call, KILLED),
		ATTEMPT(process_fork, DENIED),
		ATTEMPT(parent_kill, DENIED),
		ATTEMPT(filter_load, DENIED),
		ATTEMPT(ring_make, DENIED),
		ATTEMPT(key_type, DENIED),
		ATTEMPT(limit_raise, DENIED),
		ATTEMPT(vsock_open, DENIED),
		ATTEMPT(user_change, DENIED),
		ATTEMPT(link_make, DENIED),
		ATTEMPT(node_make, DENIED),
		ATTEMPT(dump_allow, DENIED),
		ATTEMPT(file_use, DONE),
		ATTEMPT(loopback_use, DONE),
		ATTEMPT(code_make, DONE),
	};

	attempts_check(daemon_enter, attempts, sizeof(attempts) / sizeof(attempts[0]));
}

/* --- where files are written ---------------------------------------------------------------------
 */

static char outside[64], inside[64]; /* two directories; inside is the storage root */

static bool files_enter(void)
{
	static struct config config = {.engine.sandbox = true};
	struct err err;

	snprintf(config.storage.root, sizeof(config.storage.root), "%s", inside);
	return sandbox_prepare(&config, &err) == 0;
}

/* Make, write, cut, rename and remove directory/name. */
static int file_keep(const char *directory, const char *name)
{
	char path[128], other[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	snprintf(other, sizeof(other), "%s/other", directory);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, "x", 1) != 1 || ftruncate(fd, 0) != 0 || mkdir(other, 0700) != 0)
		return -errno;
	close(fd);
	strcat(other, "/moved");
	if (rename(path, other) != 0 || unlink(other) != 0)
		return -errno;
	*strrchr(other, '/') = '\0';
	return result(rmdir(other));
}

static int root_use(void)
{
	return file_keep(inside, "new");
}

static int outside_use(void)
{
	return file_keep(outside, "new");
}

static int outside_remove(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/there", outside);
	return result(unlink(path));
}

static int outside_move(void)
{
	char from[128], to[128];
	int rc;

	snprintf(from, sizeof(from), "%s/there", outside);
	snprintf(to, sizeof(to), "%s/there", inside);
	rc = result(rename(from, to));
	return rc == -EXDEV ? -EACCES : rc;
}

static int outside_write(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/there", outside);
	return result(open(path, O_WRONLY | O_CLOEXEC));
}

static int outside_cut(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/there", outside);
	return result(truncate(path, 0));
}

static int outside_read(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/there", outside);
	return result(open(path, O_RDONLY | O_CLOEXEC));
}

/* Where the kernel would start a program of our choice, as root. */
static int core_pattern_write(void)
{
	return result(open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC));
}

static void files_are_written_beneath_the_root_only(void **state)
{
	static const struct attempt attempts[] = {
		ATTEMPT(root_use, DONE),
		ATTEMPT(outside_read, DONE),
		ATTEMPT(outside_use, DENIED),
		ATTEMPT(outside_write, DENIED),
		ATTEMPT(outside_cut, DENIED),
		ATTEMPT(outside_remove, DENIED),
		ATTEMPT(outside_move, DENIED),
		ATTEMPT(core_pattern_write, DENIED),
		ATTEMPT(program_run, DENIED),
	};
	char path[128];
	int fd;

	assert_non_null(mkdtemp(strcpy(outside, "/tmp/test_sandbox.XXXXXX")));
	snprintf(inside, sizeof(inside), "%s/root", outside); /* made by who enters */
	snprintf(path, sizeof(path), "%s/there", outside);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	attempts_check(files_enter, attempts, sizeof(attempts) / sizeof(attempts[0]));
	assert_int_equal(unlink(path), 0);
	(void)rmdir(inside);
	assert_int_equal(rmdir(outside), 0);
}

static void threads_that_were_there_are_in_it_too(void **state)
{
	static const struct attempt attempts[] = {{"a thread from before", nothing, KILLED}};

	attempts_check(daemon_enter_with_thread, attempts, 1);
}

static void the_compiler_stays_in_its_cell(void **state)
{
	static const struct attempt attempts[] = {
		ATTEMPT(program_run, DENIED),
		ATTEMPT(parent_trace, DENIED),
		ATTEMPT(shadow_read, DENIED),
		ATTEMPT(self_read, DENIED),
		ATTEMPT(file_write, DENIED),
		ATTEMPT(socket_open, DENIED),
		ATTEMPT(unix_open, DENIED),
		ATTEMPT(ring_make, DENIED),
		ATTEMPT(parent_kill, DENIED),
		ATTEMPT(services_read, DONE),
		ATTEMPT(process_fork, DONE),
	};

	attempts_check(compiler_enter, attempts, sizeof(attempts) / sizeof(attempts[0]));
}

static void a_compilation_stays_in_its_own(void **state)
{
	static const struct attempt attempts[] = {
		ATTEMPT(program_run, DENIED),
		ATTEMPT(process_fork, DENIED),
		ATTEMPT(shadow_read, DENIED),
		ATTEMPT(file_write, DENIED),
		ATTEMPT(socket_open, DENIED),
		ATTEMPT(unix_open, DENIED),
		ATTEMPT(ring_make, DENIED),
		ATTEMPT(code_make, DENIED),
		ATTEMPT(answer_elsewhere, DENIED),
		ATTEMPT(limit_raise, DENIED),
		ATTEMPT(services_read, DONE),
	};

	attempts_check(compilation_enter, attempts, sizeof(attempts) / sizeof(attempts[0]));
}

/* What a ring of ours refuses by itself, without any cell. */
static void rings_write_and_nothing_else(void **state)
{
	static const uint8_t codes[] = {IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_READ,
		IORING_OP_READV, IORING_OP_WRITE, IORING_OP_CONNECT, IORING_OP_SEND,
		IORING_OP_UNLINKAT, IORING_OP_RENAMEAT, IORING_OP_FSYNC, IORING_OP_NOP};
	/* It begins with the ring, which is private to it. */
	struct io_uring *ring = sink_uring_ops.open();
	struct io_uring_cqe *cqe;
	int fds[2];
	struct iovec iov = {"x", 1};

	if (ring == NULL)
		skip();
	for (unsigned i = 0; i < sizeof(codes); i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

		assert_non_null(sqe);
		io_uring_prep_rw(codes[i], sqe, AT_FDCWD, "/etc/shadow", 0, 0);
		io_uring_submit(ring);
		assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
		if (cqe->res != -EACCES)
			fail_msg("operation %u: %d", codes[i], cqe->res);
		io_uring_cqe_seen(ring, cqe);
	}
	assert_int_equal(pipe(fds), 0);
	io_uring_prep_writev(io_uring_get_sqe(ring), fds[1], &iov, 1, 0);
	io_uring_submit(ring);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	assert_int_equal(cqe->res, 1);
	io_uring_cqe_seen(ring, cqe);
	close(fds[0]);
	close(fds[1]);
	sink_uring_ops.close(ring);
}

static void a_ring_is_kept_for_later(void **state)
{
	void *ring, *other;

	sink_uring_keep(true);
	ring = sink_uring_ops.open();
	if (ring == NULL)
		skip();
	sink_uring_ops.close(ring);
	assert_ptr_equal(sink_uring_ops.open(), ring);
	other = sink_uring_ops.open();
	assert_ptr_not_equal(other, ring);
	sink_uring_ops.close(other);
	sink_uring_ops.close(ring);
	sink_uring_keep(false);
}

static void ports_decide_about_capabilities(void **state)
{
	static const uint64_t least =
		1ULL << CAP_NET_RAW | 1ULL << CAP_SYS_NICE | 1ULL << CAP_IPC_LOCK;
	static const struct {
		const char *device;
		uint64_t more;
	} cases[] = {
		{"", 0},
		{"net_pcap0,rx_pcap=/x.pcap", 0},
		{"net_null0,size=64", 0},
		{"net_memif0,socket=/run/x", 0},
		{"net_tap0", 1ULL << CAP_NET_ADMIN},
		{"0000:3b:00.0", 1ULL << CAP_NET_ADMIN},
		{"net_af_xdp0,iface=eth0",
			1ULL << CAP_NET_ADMIN | 1ULL << CAP_BPF | 1ULL << CAP_SYS_ADMIN},
	};
	static struct config config;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		config.n_ports = 1;
		strcpy(config.ports[0].device, cases[i].device);
		assert_true(sandbox_capabilities(&config) == (least | cases[i].more));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_daemon_stays_in_its_cell),
		cmocka_unit_test(threads_that_were_there_are_in_it_too),
		cmocka_unit_test(files_are_written_beneath_the_root_only),
		cmocka_unit_test(the_compiler_stays_in_its_cell),
		cmocka_unit_test(a_compilation_stays_in_its_own),
		cmocka_unit_test(rings_write_and_nothing_else),
		cmocka_unit_test(a_ring_is_kept_for_later),
		cmocka_unit_test(ports_decide_about_capabilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
