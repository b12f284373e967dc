/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A spare's name is a number; its order with others is its size. ZERO_RANGE turns a file's extents into
 * unwritten ones: it costs milliseconds, and once it is synced no crash can bring the old content back.
 * So the order is: alone with the file, zero, sync, rename.
 */
#include "control/spare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "config/log.h"
#include "control/store.h"
#include "engine/fault.h"

#define PAGE         4096ULL
#define HOLES_MAX    (1ULL << 20) /* a file with more is not worth keeping */
#define SPARES_MAX   1024
#define NAME_SIZE    24
#define LEASE_TRIES  5 /* a write that is done may hold its file a moment longer */
#define LEASE_US     10000
#define AUTO_PERCENT 50 /* of the quota */

struct spare {
	uint64_t number; /* its name */
	uint64_t size_bytes;
};

static struct {
	const struct config *config;
	int dir;
	atomic_ullong bytes;
	atomic_ullong limit_bytes; /* 0: none are kept */
	pthread_mutex_t lock;      /* of the members below */
	uint64_t next;             /* number */
	unsigned n;
	struct spare spares[SPARES_MAX]; /* in order of size, the smallest first */
} state = {.dir = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t limit_find(int root);
static int spares_load(void);
static void spare_name(uint64_t number, char name[NAME_SIZE]);
static void spare_add(uint64_t number, uint64_t size_bytes);
static void spare_drop(unsigned index);
static bool file_suits(int fd, uint64_t *size_bytes);
static bool file_alone(int fd);
static int file_zero(int fd, uint64_t size_bytes);
static unsigned spare_best(uint64_t expect_bytes);
static uint64_t spare_cut(unsigned index, uint64_t need_bytes);

void spare_init(const struct config *config)
{
	state.config = config;
}

int spare_open(int root)
{
	state.n = 0;
	state.next = 1;
	atomic_store(&state.bytes, 0);
	atomic_store(&state.limit_bytes, 0);
	if (state.config == NULL)
		return 0;
	if (mkdirat(root, "spare", 0700) != 0 && errno != EEXIST)
		return -errno;
	state.dir = openat(root, "spare", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (state.dir < 0)
		return -errno;
	atomic_store(&state.limit_bytes, limit_find(root));
	return spares_load();
}

void spare_close(void)
{
	if (state.dir >= 0)
		close(state.dir);
	state.dir = -1;
	atomic_store(&state.limit_bytes, 0);
}

uint64_t spare_bytes(void)
{
	return atomic_load(&state.bytes);
}

uint64_t spare_limit_bytes(void)
{
	return atomic_load(&state.limit_bytes);
}

int spare_dir(void)
{
	return spare_limit_bytes() != 0 ? state.dir : -1;
}

bool spare_keep(int dir, const char *name)
{
	char kept_name[NAME_SIZE];
	uint64_t size_bytes;
	bool kept = false;
	int fd;

	if (spare_limit_bytes() == 0)
		return false;
	fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	if (!file_suits(fd, &size_bytes) || !file_alone(fd) || file_zero(fd, size_bytes) != 0)
		goto out;
	pthread_mutex_lock(&state.lock);
	spare_name(state.next, kept_name);
	kept = state.n < SPARES_MAX && renameat(dir, name, state.dir, kept_name) == 0;
	if (kept)
		spare_add(state.next++, size_bytes);
	pthread_mutex_unlock(&state.lock);
	fsync(state.dir);
out:
	close(fd);
	return kept;
}

uint64_t spare_take(int dir, const char *name, uint64_t expect_bytes)
{
	uint64_t size_bytes = 0;
	char kept_name[NAME_SIZE];
	unsigned best;

	if (expect_bytes < SPARE_MIN)
		return 0;
	pthread_mutex_lock(&state.lock);
	if (state.n != 0) {
		best = spare_best(expect_bytes);
		spare_name(state.spares[best].number, kept_name);
		if (renameat(state.dir, kept_name, dir, name) == 0)
			size_bytes = state.spares[best].size_bytes;
		spare_drop(best); /* one that cannot be taken is none */
	}
	pthread_mutex_unlock(&state.lock);
	return size_bytes;
}

uint64_t spare_shrink(uint64_t need_bytes)
{
	uint64_t freed = 0;

	pthread_mutex_lock(&state.lock);
	while (state.n != 0 && freed < need_bytes)
		freed += spare_cut(0, need_bytes - freed);
	pthread_mutex_unlock(&state.lock);
	return freed;
}

/* How much of the file system spares may hold. */
static uint64_t limit_find(int root)
{
	const uint64_t wanted = state.config->storage.spare_bytes;
	const unsigned percent = state.config->storage.quota_percent;
	uint64_t quota = state.config->storage.quota_bytes;
	struct statvfs fs;

	if (wanted == CONFIG_SPARE_NO || store_system_name(root) == NULL)
		return 0;
	if (percent != 0) {
		if (fstatvfs(root, &fs) != 0)
			return 0;
		quota = (uint64_t)fs.f_blocks * fs.f_frsize / 100 * percent;
	}
	if (wanted == CONFIG_SPARE_AUTO)
		return quota / 100 * AUTO_PERCENT;
	return wanted < quota ? wanted : quota;
}

/* One name in ROOT/spare: ours and to be kept, or rubbish. */
static void spare_load(const char *name)
{
	struct stat st;
	uint64_t number;
	char *end;

	number = strtoull(name, &end, 10);
	if (*end == '\0' && number != 0 &&
		fstatat(state.dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		(uint64_t)st.st_size >= SPARE_MIN && state.n < SPARES_MAX &&
		spare_bytes() + (uint64_t)st.st_size <= spare_limit_bytes()) {
		if (number >= state.next)
			state.next = number + 1;
		spare_add(number, (uint64_t)st.st_size);
	} else {
		unlinkat(state.dir, name, 0);
	}
}

static int spares_load(void)
{
	int fd = openat(state.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *stream;

	stream = fd >= 0 ? fdopendir(fd) : NULL;
	if (stream == NULL) {
		if (fd >= 0)
			close(fd);
		return -errno;
	}
	while ((entry = readdir(stream)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			spare_load(entry->d_name);
	closedir(stream);
	return 0;
}

static void spare_name(uint64_t number, char name[NAME_SIZE])
{
	snprintf(name, NAME_SIZE, "%llu", (unsigned long long)number);
}

static void spare_add(uint64_t number, uint64_t size_bytes)
{
	unsigned at = state.n++;

	for (; at > 0 && state.spares[at - 1].size_bytes > size_bytes; at--)
		state.spares[at] = state.spares[at - 1];
	state.spares[at] = (struct spare){number, size_bytes};
	atomic_fetch_add(&state.bytes, size_bytes);
}

static void spare_drop(unsigned index)
{
	atomic_fetch_sub(&state.bytes, state.spares[index].size_bytes);
	state.n--;
	memmove(&state.spares[index], &state.spares[index + 1],
		(state.n - index) * sizeof(state.spares[0]));
}

/* Large, dense, ours alone by name, and within the limit. */
static bool file_suits(int fd, uint64_t *size_bytes)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return false;
	*size_bytes = ((uint64_t)st.st_size + PAGE - 1) / PAGE * PAGE;
	return *size_bytes >= SPARE_MIN &&
	       (uint64_t)st.st_blocks * 512 + HOLES_MAX >= *size_bytes &&
	       spare_bytes() + *size_bytes <= spare_limit_bytes();
}

/* A write lease is given only to whoever alone has the file open: not while somebody downloads it, nor
 * while a write of a dead process is under way. */
static bool file_alone(int fd)
{
	for (unsigned i = 0; i < LEASE_TRIES; i++) {
		if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
			fcntl(fd, F_SETLEASE, F_UNLCK);
			return true;
		}
		if (errno != EAGAIN)
			return false;
		usleep(LEASE_US);
	}
	return false;
}

static int file_zero(int fd, uint64_t size_bytes)
{
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, (off_t)size_bytes) != 0 ||
		fault_fails(FAULT_spare_zeroed) || fsync(fd) != 0) {
		log_warning("cannot keep a removed file's space as a spare: %s", strerror(errno));
		return -errno;
	}
	return 0;
}

static unsigned spare_best(uint64_t expect_bytes)
{
	unsigned i = 0;

	while (i < state.n - 1 && state.spares[i].size_bytes < expect_bytes)
		i++;
	return i;
}

/* Cut need_bytes off, or remove it where too little would be left. Returns how many it were. */
static uint64_t spare_cut(unsigned index, uint64_t need_bytes)
{
	const struct spare spare = state.spares[index];
	uint64_t left = 0, step;
	char name[NAME_SIZE];
	int fd;

	spare_name(spare.number, name);
	spare_drop(index);
	if (need_bytes > spare.size_bytes)
		need_bytes = spare.size_bytes;
	step = (need_bytes + PAGE - 1) / PAGE * PAGE;
	if (spare.size_bytes - step >= SPARE_MIN) {
		fd = openat(state.dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && ftruncate(fd, (off_t)(spare.size_bytes - step)) == 0)
			left = spare.size_bytes - step;
		if (fd >= 0)
			close(fd);
	}
	if (left != 0)
		spare_add(spare.number, left);
	else
		unlinkat(state.dir, name, 0);
	return spare.size_bytes - left;
}
