/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * For tests of files, linked with --wrap: kill the process before its nth call that changes the
 * disk, or let that call fail. Also a scratch directory, and a small disk that fills up.
 */
#ifndef TESTS_UNIT_DISK_CALLS_H
#define TESTS_UNIT_DISK_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned disk_calls;         /* so far */
static unsigned disk_calls_kill_at; /* 0 = never */
static unsigned disk_calls_fail_at;
static int disk_calls_errno;

/* True: the call is to fail. */
static inline bool disk_call(void)
{
	unsigned n = __atomic_add_fetch(&disk_calls, 1, __ATOMIC_RELAXED);

	if (n == disk_calls_kill_at)
		kill(getpid(), SIGKILL);
	if (n == disk_calls_fail_at)
		errno = disk_calls_errno;
	return n == disk_calls_fail_at;
}

#define DISK_CALL(type, name, parameters, arguments)               \
	type __real_##name parameters;                             \
	type __wrap_##name parameters;                             \
	type __wrap_##name parameters                              \
	{                                                          \
		return disk_call() ? -1 : __real_##name arguments; \
	}

DISK_CALL(int, fallocate64, (int fd, int mode, off_t offset, off_t len), (fd, mode, offset, len))
DISK_CALL(int, fdatasync, (int fd), (fd))
DISK_CALL(int, fsync, (int fd), (fd))
DISK_CALL(int, ftruncate64, (int fd, off_t len), (fd, len))
DISK_CALL(ssize_t, pwrite64, (int fd, const void *buf, size_t len, off_t offset),
	(fd, buf, len, offset))
DISK_CALL(int, renameat, (int from_dir, const char *from, int to_dir, const char *to),
	(from_dir, from, to_dir, to))
DISK_CALL(int, unlinkat, (int dir, const char *name, int flags), (dir, name, flags))

int __real_openat64(int dir, const char *name, int flags, ...);
int __wrap_openat64(int dir, const char *name, int flags, ...);
int __wrap_openat64(int dir, const char *name, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
	va_end(args);
	return disk_call() ? -1 : __real_openat64(dir, name, flags, mode);
}

/* Run fn in a child that is killed before its nth call (0: not). True: it was killed; false: it
 * ended by itself, and fn returned true. */
static inline bool disk_calls_killed(unsigned at, bool (*fn)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		disk_calls = 0;
		disk_calls_kill_at = at;
		_exit(fn() ? 0 : 1);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		abort();
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "# the child that was to be killed at call %u failed, status %#x\n",
			at, status);
		abort();
	}
	return false;
}

#ifndef SCRATCH
#define SCRATCH "/tmp"
#endif
static char scratch[] = SCRATCH "/test_disk.XXXXXX";

static inline int scratch_make(void **state)
{
	return mkdtemp(scratch) == NULL;
}

static inline int scratch_remove(void **state)
{
	char line[256];

	snprintf(line, sizeof(line), "rm -rf '%s'", scratch);
	return system(line);
}

static inline void scratch_path(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", scratch, name);
}

/*
 * A disk of its own of so many MiB, ext4 where loop devices are, mounted at path in a mount
 * namespace that only this process sees. False where that cannot be done.
 */
static inline bool small_disk_mount(const char *path, unsigned size_mib)
{
	char line[2048];

	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return false;
	snprintf(line, sizeof(line),
		"mkdir -p '%s' && truncate -s %uM '%s.img' && mkfs.ext4 -q -m 0 -F '%s.img' && "
		"mount -o loop '%s.img' '%s' 2>/dev/null",
		path, size_mib, path, path, path, path);
	return system(line) == 0;
}

static inline void small_disk_unmount(const char *path)
{
	char line[1024];

	snprintf(line, sizeof(line), "umount '%s' && rm -f '%s.img'", path, path);
	if (system(line) != 0)
		fprintf(stderr, "# cannot unmount %s\n", path);
}

#endif
