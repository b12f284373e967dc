/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A seccomp program is a list of comparisons, made here from tables. The kernel remembers which calls
 * are allowed whatever their arguments are, so its length costs those nothing.
 */
#include "engine/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/log.h"
#include "engine/sandbox_paths.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define PROGRAM_MAX 1024
#define X32_BIT     0x40000000U

struct program {
	unsigned n;
	struct sock_filter insn[PROGRAM_MAX];
};

/* Allowed where argument arg, masked, is one of some values; else EPERM. */
struct argument_rule {
	int call;
	unsigned arg;
	uint32_t mask;
	unsigned n;
	uint32_t values[6];
};

static void program_begin(struct program *program);
static void program_calls(struct program *program, const int *calls, unsigned n, uint32_t answer);
static void program_rule(struct program *program, const struct argument_rule *rule);
static int program_install(struct program *program, uint32_t otherwise, unsigned flags);

/* --- the daemon's system calls ------------------------------------------------------------------
 */

static const int daemon_calls[] = {
	/* bytes */
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_preadv,
	SYS_pwritev,
	SYS_preadv2,
	SYS_pwritev2,
	SYS_lseek,
	SYS_sendfile,
	SYS_copy_file_range,
	SYS_io_uring_enter,
	/* files: the storage root's, sysfs and procfs */
	SYS_openat,
	SYS_openat2,
	SYS_close,
	SYS_close_range,
	SYS_fstat,
	SYS_newfstatat,
	SYS_statx,
	SYS_statfs,
	SYS_fstatfs,
	SYS_getdents64,
	SYS_fcntl,
	SYS_flock,
	SYS_ftruncate,
	SYS_fallocate,
	SYS_fsync,
	SYS_fdatasync,
	SYS_sync_file_range,
	SYS_fadvise64,
	SYS_renameat,
	SYS_renameat2,
	SYS_unlinkat,
	SYS_mkdirat,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_utimensat,
	SYS_readlinkat,
	SYS_faccessat,
	SYS_faccessat2,
	SYS_linkat,
	SYS_dup,
	SYS_dup3,
	SYS_pipe2,
	SYS_umask,
	SYS_getcwd,
	/* waiting */
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_epoll_pwait,
	SYS_epoll_pwait2,
	SYS_ppoll,
	SYS_pselect6,
	SYS_eventfd2,
	SYS_timerfd_create,
	SYS_timerfd_settime,
	SYS_timerfd_gettime,
	SYS_nanosleep,
	SYS_clock_nanosleep,
	SYS_restart_syscall,
	SYS_futex,
	/* the API, buckets, streams, the ports */
	SYS_bind,
	SYS_listen,
	SYS_accept,
	SYS_accept4,
	SYS_connect,
	SYS_getsockname,
	SYS_getpeername,
	SYS_setsockopt,
	SYS_getsockopt,
	SYS_sendto,
	SYS_sendmsg,
	SYS_sendmmsg,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_recvmmsg,
	SYS_shutdown,
	SYS_socketpair,
	/* memory; filters become machine code, so some of it becomes executable */
	SYS_mmap,
	SYS_munmap,
	SYS_mremap,
	SYS_mprotect,
	SYS_madvise,
	SYS_brk,
	SYS_mlock,
	SYS_mlock2,
	SYS_munlock,
	SYS_mincore,
	SYS_memfd_create,
	SYS_get_mempolicy,
	SYS_set_mempolicy,
	SYS_mbind,
	/* threads */
	SYS_set_robust_list,
	SYS_get_robust_list,
	SYS_rseq,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_sched_setaffinity,
	SYS_sched_getparam,
	SYS_sched_getscheduler,
	SYS_getpriority,
	SYS_setpriority,
	SYS_membarrier,
	SYS_getcpu,
	SYS_exit,
	SYS_exit_group,
	SYS_wait4,
	SYS_set_tid_address,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_rt_sigtimedwait,
	SYS_sigaltstack,
	/* what it is told */
	SYS_clock_gettime,
	SYS_clock_getres,
	SYS_gettimeofday,
	SYS_getpid,
	SYS_gettid,
	SYS_getppid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_getrandom,
	SYS_getrusage,
	SYS_getrlimit,
	SYS_uname,
	SYS_sysinfo,
	SYS_times,
#if defined(__x86_64__)
	/* the older names of some of the above */
	SYS_open,
	SYS_stat,
	SYS_lstat,
	SYS_access,
	SYS_readlink,
	SYS_rename,
	SYS_unlink,
	SYS_mkdir,
	SYS_rmdir,
	SYS_dup2,
	SYS_pipe,
	SYS_poll,
	SYS_select,
	SYS_epoll_create,
	SYS_epoll_wait,
	SYS_eventfd,
	SYS_time,
	SYS_getdents,
#endif
};

/* No daemon makes these: who does has taken it over. */
static const int deadly_calls[] = {
	SYS_execve,
	SYS_execveat,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_kexec_load,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_setns,
	SYS_unshare,
	SYS_reboot,
	SYS_swapon,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_userfaultfd,
	SYS_open_by_handle_at,
	SYS_pidfd_getfd,
};

static const struct argument_rule daemon_rules[] = {
	/* threads, no processes */
	{SYS_clone, 0, CLONE_THREAD, 1, {CLONE_THREAD}},
	{SYS_socket, 0, ~0U, 6,
		{AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 44 /* AF_XDP */}},
	{SYS_prctl, 0, ~0U, 2, {PR_SET_NAME, PR_GET_NAME}},
	/* nothing is typed into a terminal that the daemon was started from */
	{SYS_ioctl, 1, ~0U, 0, {TIOCSTI}},
};

/* --- the filter compiler's ----------------------------------------------------------------------
 */

static const int compiler_calls[] = {
	SYS_read,
	SYS_pread64,
	SYS_write,
	SYS_writev,
	SYS_lseek,
	SYS_fstat,
	SYS_newfstatat,
	SYS_openat,
	SYS_close,
	SYS_close_range,
	SYS_fcntl,
	SYS_dup2,
	SYS_dup3,
	SYS_mmap,
	SYS_munmap,
	SYS_mremap,
	SYS_mprotect,
	SYS_madvise,
	SYS_brk,
	SYS_futex,
	SYS_getrandom,
	SYS_exit,
	SYS_exit_group,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sendmsg,
	SYS_recvmsg,
	SYS_ppoll,
	SYS_poll,
	SYS_signalfd4,
	SYS_clone,
	SYS_wait4,
	SYS_getpid,
	SYS_getppid,
	SYS_gettid,
	SYS_prctl,
	SYS_prlimit64,
	SYS_setitimer,
	SYS_setpriority,
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_getrusage,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_tgkill,
	SYS_seccomp,
	SYS_restart_syscall,
	SYS_sched_yield,
	SYS_sysinfo,
};

static const int compilation_calls[] = {
	SYS_read,
	SYS_pread64,
	SYS_lseek,
	SYS_fstat,
	SYS_newfstatat,
	SYS_close,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_brk,
	SYS_futex,
	SYS_getrandom,
	SYS_exit,
	SYS_exit_group,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_getpid,
	SYS_gettid,
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_sysinfo,
};

static const char *const compiler_files[] = {"/etc/services", "/etc/protocols",
	"/etc/nsswitch.conf", "/etc/gai.conf", "/etc/host.conf", "/etc/resolv.conf"};

/* --- capabilities -------------------------------------------------------------------------------
 */

#define BIT(cap) (1ULL << (cap))

static int capabilities_set(uint64_t effective, uint64_t permitted)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	for (unsigned i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){
			.effective = (uint32_t)(effective >> 32 * i),
			.permitted = (uint32_t)(permitted >> 32 * i),
		};
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static uint64_t capabilities_get(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	if (syscall(SYS_capget, &head, data) < 0)
		return 0;
	return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

/* A PCI device whose driver goes around the IOMMU: addresses and I/O ports are the kernel's to give. */
static bool device_needs_raw_io(const char *device)
{
	char path[128], target[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s%.*s/driver",
		strchr(device, ':') == strrchr(device, ':') ? "0000:" : "",
		(int)strcspn(device, ","), device);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return strstr(target, "/igb_uio") != NULL || strstr(target, "/uio_pci_generic") != NULL;
}

uint64_t sandbox_capabilities(const struct config *config)
{
	/* Devices that are files, memory or nothing at all. */
	static const char *const tame[] = {"net_pcap", "net_null", "net_ring", "net_memif"};
	uint64_t kept = BIT(CAP_NET_RAW) | BIT(CAP_SYS_NICE) | BIT(CAP_IPC_LOCK);

	for (unsigned i = 0; i < config->n_ports; i++) {
		const char *device = config->ports[i].device;
		bool is_tame = device[0] == '\0';

		for (unsigned k = 0; k < sizeof(tame) / sizeof(tame[0]); k++)
			is_tame |= strncmp(device, tame[k], strlen(tame[k])) == 0;
		if (!is_tame)
			kept |= BIT(CAP_NET_ADMIN);
		if (strncmp(device, "net_af_xdp", 10) == 0)
			kept |= BIT(CAP_BPF) | BIT(CAP_SYS_ADMIN);
		if (!is_tame && device_needs_raw_io(device))
			kept |= BIT(CAP_SYS_RAWIO) | BIT(CAP_SYS_ADMIN);
	}
	return kept;
}

/* What stands behind "=/" in device arguments: a replayed file, a socket. */
static bool path_of(const char **device, char path[CONFIG_TEXT_MAX])
{
	const char *at = strstr(*device, "=/");

	if (at == NULL)
		return false;
	at++;
	*device = at + strcspn(at, ",");
	snprintf(path, CONFIG_TEXT_MAX, "%.*s", (int)(*device - at), at);
	return true;
}

static bool is_denied(const char *path, int rights)
{
	return path[0] != '\0' && faccessat(AT_FDCWD, path, rights, AT_EACCESS) < 0 &&
	       errno == EACCES;
}

/*
 * A privileged user's files may be anybody's: his own rights to those that the configuration names
 * decide whether he keeps the right to pass over rights. Asked with the others gone already.
 */
static uint64_t file_capabilities(const struct config *config)
{
	uint64_t kept = 0;
	char path[CONFIG_TEXT_MAX];

	for (unsigned i = 0; i < config->n_ports; i++) {
		const char *device = config->ports[i].device;

		while (path_of(&device, path))
			kept |= is_denied(path, R_OK) ? BIT(CAP_DAC_READ_SEARCH) : 0;
	}
	for (unsigned i = 0; i < config->n_buckets; i++)
		if (is_denied(config->buckets[i].credentials, R_OK) ||
			is_denied(config->buckets[i].ca, R_OK))
			kept |= BIT(CAP_DAC_READ_SEARCH);
	if (is_denied(config->api.tls_certificate, R_OK) || is_denied(config->api.tls_key, R_OK))
		kept |= BIT(CAP_DAC_READ_SEARCH);
	snprintf(path, sizeof(path), "%s", config->api.token_file);
	if (is_denied(config->storage.root, R_OK | W_OK | X_OK) ||
		(path[0] != '\0' && is_denied(dirname(path), W_OK | X_OK)))
		kept |= BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER);
	return kept;
}

int sandbox_prepare(const struct config *config, struct err *err)
{
	const uint64_t had = capabilities_get();
	uint64_t kept = had & sandbox_capabilities(config);
	int rc;

	if (!config->engine.sandbox)
		return 0;
	rc = capabilities_set(kept, had);
	if (rc == 0) {
		kept |= had & file_capabilities(config);
		rc = capabilities_set(had, had); /* to take from the bounding set is one of them */
		for (unsigned cap = 0; cap < 64; cap++)
			if ((kept & BIT(cap)) == 0)
				(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
		if (rc == 0)
			rc = capabilities_set(kept, kept);
	}
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = -errno;
	if (rc == 0 && !SANITIZED && !sandbox_paths_write(config))
		log_info("this kernel's Landlock cannot bound where files are written");
	if (rc < 0)
		return err_set(err, -rc, "engine.sandbox", "privileges cannot be dropped: %s",
			strerror(-rc));
	return 0;
}

int sandbox_enter(struct err *err)
{
	static struct program program;
	const struct argument_rule own[] = {
		{SYS_tgkill, 0, ~0U, 1, {(uint32_t)getpid()}},
		{SYS_kill, 0, ~0U, 1, {(uint32_t)getpid()}},
		/* limits are read, and nobody else's */
		{SYS_prlimit64, 2, ~0U, 1, {0}},
	};
	const int clone3 = SYS_clone3;
	int rc;

	if (SANITIZED) /* its runtime makes calls of its own, ptrace among them */
		return 0;
	program_begin(&program);
	program_calls(&program, daemon_calls, sandbox_calls(), SECCOMP_RET_ALLOW);
	program_calls(&program, deadly_calls, sizeof(deadly_calls) / sizeof(deadly_calls[0]),
		SECCOMP_RET_KILL_PROCESS);
	/* Its flags are in memory, out of sight; the C library then takes clone. */
	program_calls(&program, &clone3, 1, SECCOMP_RET_ERRNO | ENOSYS);
	for (unsigned i = 0; i < sizeof(daemon_rules) / sizeof(daemon_rules[0]); i++)
		program_rule(&program, &daemon_rules[i]);
	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		program_rule(&program, &own[i]);
	rc = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
	if (rc == 0)
		rc = program_install(&program, SECCOMP_RET_ERRNO | EPERM,
			SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
	if (rc < 0)
		return err_set(err, -rc, "engine.sandbox",
			"system calls cannot be restricted: %s (sandbox = no goes without)",
			strerror(-rc));
	return 0;
}

unsigned sandbox_calls(void)
{
	return sizeof(daemon_calls) / sizeof(daemon_calls[0]);
}

bool sandbox_compiler(void)
{
	static struct program program;
	bool done = sandbox_paths_read(
		compiler_files, sizeof(compiler_files) / sizeof(compiler_files[0]));

	if (SANITIZED)
		return false;
	program_begin(&program);
	program_calls(&program, compiler_calls, sizeof(compiler_calls) / sizeof(compiler_calls[0]),
		SECCOMP_RET_ALLOW);
	return program_install(&program, SECCOMP_RET_ERRNO | EPERM, 0) == 0 && done;
}

bool sandbox_compilation(int fd)
{
	static struct program program;
	const struct argument_rule rules[] = {
		{SYS_sendmsg, 0, ~0U, 1, {(uint32_t)fd}},
		{SYS_openat, 2, O_ACCMODE | O_CREAT | O_TRUNC, 1, {O_RDONLY}},
		{SYS_mmap, 2, PROT_EXEC, 1, {0}},
		{SYS_mprotect, 2, PROT_EXEC, 1, {0}},
		{SYS_tgkill, 0, ~0U, 1, {(uint32_t)getpid()}},
	};

	if (SANITIZED)
		return false;
	program_begin(&program);
	program_calls(&program, compilation_calls,
		sizeof(compilation_calls) / sizeof(compilation_calls[0]), SECCOMP_RET_ALLOW);
	for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		program_rule(&program, &rules[i]);
	return program_install(&program, SECCOMP_RET_ERRNO | EPERM, 0) == 0;
}

/* --- seccomp ------------------------------------------------------------------------------------
 */

static void put(struct program *program, uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	program->insn[program->n++] =
		(struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void load(struct program *program, size_t offset)
{
	put(program, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* Another architecture's numbers mean other calls. */
static void program_begin(struct program *program)
{
	program->n = 0;
	load(program, offsetof(struct seccomp_data, arch));
	put(program, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH);
	put(program, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
	load(program, offsetof(struct seccomp_data, nr));
	put(program, BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32_BIT);
	put(program, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
}

static void program_calls(struct program *program, const int *calls, unsigned n, uint32_t answer)
{
	for (unsigned i = 0; i < n; i++) {
		put(program, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)calls[i]);
		put(program, BPF_RET | BPF_K, 0, 0, answer);
	}
}

/* n = 0: any value but the first. Little endian: the argument's low half is what these calls read. */
static void program_rule(struct program *program, const struct argument_rule *rule)
{
	const unsigned n = rule->n > 0 ? rule->n : 1;

	put(program, BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(2 * n + 3), (uint32_t)rule->call);
	load(program, offsetof(struct seccomp_data, args) + 8 * rule->arg);
	put(program, BPF_ALU | BPF_AND | BPF_K, 0, 0, rule->mask);
	for (unsigned i = 0; i < n; i++) {
		put(program, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, rule->values[i]);
		put(program, BPF_RET | BPF_K, 0, 0,
			rule->n > 0 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | EPERM);
	}
	put(program, BPF_RET | BPF_K, 0, 0,
		rule->n > 0 ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW);
}

static int program_install(struct program *program, uint32_t otherwise, unsigned flags)
{
	struct sock_fprog prog = {.filter = program->insn};
	long rc;

	put(program, BPF_RET | BPF_K, 0, 0, otherwise);
	prog.len = (unsigned short)program->n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	/* TSYNC that fails says which thread it was. */
	return rc < 0 ? -errno : rc > 0 ? -ESRCH : 0;
}
