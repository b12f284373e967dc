/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * For LD_PRELOAD: counts allocations, apart for threads that DPDK calls rte-worker and for all
 * others, in the file that ALLOCATIONS names: two 64-bit numbers. Passes every call on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *memory);

static uint64_t *counts;

__attribute__((constructor)) static void counts_map(void)
{
	const char *path = getenv("ALLOCATIONS");
	int fd = path != NULL ? open(path, O_RDWR) : -1;
	void *at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		abort();
	counts = at;
	close(fd);
}

static void count(void)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	if (counts != NULL)
		__atomic_fetch_add(
			&counts[strncmp(name, "rte-worker", 10) != 0], 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	count();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count();
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	count();
	return __libc_realloc(old, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	count();
	return __libc_memalign(align, size);
}

int posix_memalign(void **memory, size_t align, size_t size)
{
	count();
	*memory = __libc_memalign(align, size);
	return *memory != NULL ? 0 : 12;
}

void free(void *memory)
{
	count();
	__libc_free(memory);
}

/* DPDK's own. */
#define PASS_ON(name)                                                                    \
	void *name(const char *type, size_t size, unsigned align);                       \
	void *name(const char *type, size_t size, unsigned align)                        \
	{                                                                                \
		void *(*next)(const char *, size_t, unsigned) = dlsym(RTLD_NEXT, #name); \
                                                                                         \
		count();                                                                 \
		return next(type, size, align);                                          \
	}
PASS_ON(rte_malloc)
PASS_ON(rte_zmalloc)
