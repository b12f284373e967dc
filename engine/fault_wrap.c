/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The fault points that are calls of the C library. sluiced is linked with --wrap for each name here
 * (fault_wrap_names in engine/meson.build), so that every call in our code comes by, and none of any
 * library's own. Any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/statvfs.h>

#include "engine/fault.h"

#define IOVS_MAX 1024

/* type name(parameters), which gives failed at the point */
#define WRAP(point, failed, type, name, parameters, arguments)                          \
	type __real_##name parameters;                                                  \
	type __wrap_##name parameters;                                                  \
	type __wrap_##name parameters                                                   \
	{                                                                               \
		return fault_fails(FAULT_##point) ? (failed) : __real_##name arguments; \
	}

WRAP(malloc, NULL, void *, malloc, (size_t size), (size))
WRAP(calloc, NULL, void *, calloc, (size_t n, size_t size), (n, size))
WRAP(realloc, NULL, void *, realloc, (void *old, size_t size), (old, size))
WRAP(aligned_alloc, NULL, void *, aligned_alloc, (size_t align, size_t size), (align, size))
WRAP(strdup, NULL, char *, strdup, (const char *text), (text))
WRAP(open_memstream, NULL, FILE *, open_memstream, (char **text, size_t *len), (text, len))
WRAP(fopen, NULL, FILE *, fopen64, (const char *path, const char *mode), (path, mode))
WRAP(mkdir, -1, int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(mkdir, -1, int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
WRAP(rename, -1, int, rename, (const char *from, const char *to), (from, to))
WRAP(rename, -1, int, renameat, (int from_dir, const char *from, int to_dir, const char *to),
	(from_dir, from, to_dir, to))
WRAP(unlink, -1, int, unlink, (const char *path), (path))
WRAP(unlink, -1, int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(fdatasync, -1, int, fdatasync, (int fd), (fd))
WRAP(fallocate, -1, int, fallocate64, (int fd, int mode, off_t offset, off_t len),
	(fd, mode, offset, len))
WRAP(ftruncate, -1, int, ftruncate64, (int fd, off_t len), (fd, len))
WRAP(fstat, -1, int, fstat64, (int fd, struct stat64 *st), (fd, st))
WRAP(fstat, -1, int, fstatat64, (int dir, const char *path, struct stat64 *st, int flags),
	(dir, path, st, flags))
WRAP(statvfs, -1, int, fstatvfs64, (int fd, struct statvfs64 *st), (fd, st))
WRAP(eventfd, -1, int, eventfd, (unsigned value, int flags), (value, flags))
WRAP(socket, -1, int, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(memfd_create, -1, int, memfd_create, (const char *name, unsigned flags), (name, flags))
WRAP(pread, -1, ssize_t, pread64, (int fd, void *data, size_t len, off_t offset),
	(fd, data, fault_short(FAULT_pread, len), offset))
WRAP(pwrite, -1, ssize_t, pwrite64, (int fd, const void *data, size_t len, off_t offset),
	(fd, data, fault_short(FAULT_pwrite, len), offset))
WRAP(copy_file_range, -1, ssize_t, copy_file_range,
	(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags),
	(from, from_at, to, to_at, fault_short(FAULT_copy_file_range, len), flags))

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat64 st;
	bool dir = __real_fstat64(fd, &st) == 0 && S_ISDIR(st.st_mode);

	return fault_fails(dir ? FAULT_dir_fsync : FAULT_fsync) ? -1 : __real_fsync(fd);
}

ssize_t __real_pwritev64(int fd, const struct iovec *iovs, int n, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iovs, int n, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iovs, int n, off_t offset)
{
	struct iovec some[IOVS_MAX];
	size_t len = 0, left;
	int used = 0;

	if (fault_fails(FAULT_pwritev))
		return -1;
	for (int i = 0; i < n; i++)
		len += iovs[i].iov_len;
	left = fault_short(FAULT_pwritev, len);
	if (left == len || n > IOVS_MAX)
		return __real_pwritev64(fd, iovs, n, offset);
	for (; left > 0; left -= some[used++].iov_len) {
		some[used] = iovs[used];
		if (some[used].iov_len > left)
			some[used].iov_len = left;
	}
	return __real_pwritev64(fd, some, used, offset);
}

int __wrap_asprintf(char **text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *fmt, ...)
{
	va_list args;
	int len;

	if (fault_fails(FAULT_asprintf))
		return -1;
	va_start(args, fmt);
	len = vasprintf(text, fmt, args);
	va_end(args);
	return len;
}

#define WRAP_OPEN(name, parameters, ...)                                  \
	int __real_##name parameters;                                     \
	int __wrap_##name parameters;                                     \
	int __wrap_##name parameters                                      \
	{                                                                 \
		va_list args;                                             \
		mode_t mode;                                              \
                                                                          \
		if (fault_fails(FAULT_open))                              \
			return -1;                                        \
		va_start(args, flags);                                    \
		mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0; \
		va_end(args);                                             \
		return __real_##name(__VA_ARGS__, flags, mode);           \
	}

WRAP_OPEN(open64, (const char *path, int flags, ...), path)
WRAP_OPEN(openat64, (int dir, const char *path, int flags, ...), dir, path)
