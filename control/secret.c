/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One mapping, cut into pieces of powers of two; what is freed is kept in a list per size. The mapping
 * is made with the first piece and never given back: an munmap would interrupt the RX lcores.
 */
#include "control/secret.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_SIZE (32ULL << 20) /* address space; pages come with their first use */
#define SHIFT_MIN  5
#define SHIFT_MAX  23

/* Stands before each piece. */
struct head {
	uint64_t shift; /* the piece takes 1 << shift bytes, this included */
	struct head *next;
};
_Static_assert(sizeof(struct head) == 16, "what follows it is aligned like malloc's");

static struct {
	pthread_mutex_t lock;
	uint8_t *base; /* under lock, as is all below */
	size_t top;
	size_t used;
	struct head *freed[SHIFT_MAX + 1];
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int arena_open(void);
static struct head *piece_take(unsigned shift);
static size_t piece_size(const void *memory);

void *secret_alloc(size_t size)
{
	unsigned shift = SHIFT_MIN;
	struct head *head;

	while (shift <= SHIFT_MAX && (1ULL << shift) - sizeof(*head) < size)
		shift++;
	if (shift > SHIFT_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	pthread_mutex_lock(&arena.lock);
	head = arena_open() == 0 ? piece_take(shift) : NULL;
	if (head != NULL)
		arena.used += 1ULL << shift;
	pthread_mutex_unlock(&arena.lock);
	if (head == NULL)
		errno = ENOMEM;
	return head != NULL ? head + 1 : NULL;
}

void *secret_calloc(size_t n, size_t size)
{
	size_t all;
	void *memory;

	if (__builtin_mul_overflow(n, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	memory = secret_alloc(all);
	return memory != NULL ? memset(memory, 0, all) : NULL;
}

void *secret_realloc(void *memory, size_t size)
{
	void *larger;

	if (memory != NULL && size <= piece_size(memory))
		return memory;
	larger = secret_alloc(size);
	if (larger == NULL || memory == NULL)
		return larger;
	memcpy(larger, memory, piece_size(memory));
	secret_free(memory);
	return larger;
}

char *secret_strdup(const char *text)
{
	const size_t size = strlen(text) + 1;
	char *copy = secret_alloc(size);

	return copy != NULL ? memcpy(copy, text, size) : NULL;
}

void secret_free(void *memory)
{
	struct head *head = memory;

	if (memory == NULL)
		return;
	head--;
	explicit_bzero(memory, piece_size(memory));
	pthread_mutex_lock(&arena.lock);
	arena.used -= 1ULL << head->shift;
	head->next = arena.freed[head->shift];
	arena.freed[head->shift] = head;
	pthread_mutex_unlock(&arena.lock);
}

size_t secret_used(void)
{
	size_t used;

	pthread_mutex_lock(&arena.lock);
	used = arena.used;
	pthread_mutex_unlock(&arena.lock);
	return used;
}

static int arena_open(void)
{
	void *base;

	if (arena.base != NULL)
		return 0;
	base = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -errno;
	madvise(base, ARENA_SIZE, MADV_DONTDUMP);
	madvise(base, ARENA_SIZE, MADV_DONTFORK);
	arena.base = base;
	return 0;
}

static struct head *piece_take(unsigned shift)
{
	struct head *head = arena.freed[shift];

	if (head != NULL) {
		arena.freed[shift] = head->next;
		return head;
	}
	if (ARENA_SIZE - arena.top < 1ULL << shift)
		return NULL;
	head = (struct head *)(arena.base + arena.top);
	arena.top += 1ULL << shift;
	head->shift = shift;
	return head;
}

static size_t piece_size(const void *memory)
{
	return (1ULL << ((const struct head *)memory)[-1].shift) - sizeof(struct head);
}
