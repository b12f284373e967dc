/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Whole reads and writes, replaced files, and the two-slot file. Runs on the workers that may
 * block; follows no symbolic link.
 */
#include "control/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control/answer.h"

#define SLOT_MAGIC 0x744c5353U /* "SSLt" */
#define SLOT_SIZE  8192

struct slot {
	uint32_t magic;
	uint32_t crc; /* of all that follows, to the end of the slot */
	uint64_t generation;
	uint64_t len;
	uint64_t reserved;
	uint8_t data[FILE_SLOT_MAX];
};
_Static_assert(sizeof(struct slot) == SLOT_SIZE, "a slot is two pages");

static uint32_t slot_crc(const struct slot *slot);
static bool slot_load(int fd, unsigned index, size_t len, struct slot *slot);
static int sync_close(int fd);

int file_write_at(int fd, const void *data, size_t len, uint64_t offset)
{
	const uint8_t *at = data;
	ssize_t n;

	for (; len > 0; at += n, offset += n, len -= n) {
		n = pwrite(fd, at, len, offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n == 0 ? -EIO : -errno;
	}
	return 0;
}

int file_read_at(int fd, void *data, size_t len, uint64_t offset)
{
	uint8_t *at = data;
	ssize_t n;

	for (; len > 0; at += n, offset += n, len -= n) {
		n = pread(fd, at, len, offset);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n == 0 ? -ENODATA : -errno;
	}
	return 0;
}

int file_open(int dir, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
	struct stat st;
	int rc;

	if (fd < 0 && errno == ENOSYS) /* Linux before 5.6 */
		fd = openat(dir, path, (int)how.flags);
	if (fd < 0)
		return -errno;
	rc = fstat(fd, &st) != 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int file_replace(int dir, const char *name, const void *data, size_t len)
{
	char temporary[64];
	int fd, rc;

	snprintf(temporary, sizeof(temporary), "%s.new", name);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = file_write_at(fd, data, len, 0);
	if (rc == 0)
		rc = sync_close(fd);
	else
		close(fd);
	if (rc == 0 && renameat(dir, temporary, dir, name) != 0)
		rc = -errno;
	if (rc == 0 && fsync(dir) != 0)
		rc = -errno;
	if (rc != 0)
		unlinkat(dir, temporary, 0);
	return rc;
}

int file_load(int dir, const char *name, size_t size_max, char **data, size_t *len_out)
{
	struct stat st;
	char *out = NULL;
	int fd, rc;

	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fstat(fd, &st) != 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (rc == 0 && (uint64_t)st.st_size > size_max)
		rc = -EFBIG;
	if (rc == 0 && (out = malloc(st.st_size + 1)) == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		rc = file_read_at(fd, out, st.st_size, 0);
	close(fd);
	if (rc != 0) {
		free(out);
		return rc;
	}
	out[st.st_size] = '\0';
	*data = out;
	if (len_out != NULL)
		*len_out = st.st_size;
	return 0;
}

int file_slots_make(int dir, const char *name)
{
	static const uint8_t zeros[2 * SLOT_SIZE];
	int fd, rc;

	fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = file_write_at(fd, zeros, sizeof(zeros), 0);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	rc = sync_close(fd);
	return rc == 0 && fsync(dir) != 0 ? -errno : rc;
}

int file_slot_write(int dir, const char *name, uint64_t generation, const void *data, size_t len)
{
	struct slot slot = {.magic = SLOT_MAGIC, .generation = generation, .len = len};
	int fd, rc;

	if (len > FILE_SLOT_MAX)
		return -EMSGSIZE;
	memcpy(slot.data, data, len);
	slot.crc = slot_crc(&slot);
	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = file_write_at(fd, &slot, sizeof(slot), (generation & 1) * SLOT_SIZE);
	if (rc != 0) {
		close(fd);
		return rc;
	}
	return sync_close(fd);
}

int file_slot_read(int dir, const char *name, uint64_t *generation, void *data, size_t len)
{
	struct slot slots[2];
	bool good[2];
	unsigned newest;
	int fd;

	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++)
		good[i] = slot_load(fd, i, len, &slots[i]);
	close(fd);
	if (!good[0] && !good[1])
		return -ENOENT;
	newest = good[1] && (!good[0] || slots[1].generation > slots[0].generation);
	*generation = slots[newest].generation;
	memcpy(data, slots[newest].data, len);
	return 0;
}

int file_slots_fresh(int dir, const char *name)
{
	static const uint8_t zeros[SLOT_SIZE];
	char *data = NULL;
	size_t len;
	int fresh;

	fresh = file_load(dir, name, 2 * SLOT_SIZE, &data, &len);
	if (fresh != 0)
		return fresh == -ENOENT || fresh == -EFBIG ? 0 : fresh;
	fresh = len == 2 * SLOT_SIZE && memcmp(data, zeros, sizeof(zeros)) == 0;
	free(data);
	return fresh;
}

/* Four bits at a time: what is summed is a few kilobytes, a few times a second at most. */
uint32_t file_crc32c(uint32_t crc, const void *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000,
		0x105ec76f,
		0x20bd8ede,
		0x30e349b1,
		0x417b1dbc,
		0x5125dad3,
		0x61c69362,
		0x7198540d,
		0x82f63b78,
		0x92a8fc17,
		0xa24bb5a6,
		0xb21572c9,
		0xc38d26c4,
		0xd3d3e1ab,
		0xe330a81a,
		0xf36e6f75,
	};
	const uint8_t *at = data;

	crc = ~crc;
	for (; len > 0; len--, at++) {
		crc ^= *at;
		crc = crc >> 4 ^ table[crc & 0xf];
		crc = crc >> 4 ^ table[crc & 0xf];
	}
	return ~crc;
}

static uint32_t slot_crc(const struct slot *slot)
{
	return file_crc32c(0, &slot->generation, sizeof(*slot) - offsetof(struct slot, generation));
}

static bool slot_load(int fd, unsigned index, size_t len, struct slot *slot)
{
	return file_read_at(fd, slot, sizeof(*slot), index * SLOT_SIZE) == 0 &&
	       slot->magic == SLOT_MAGIC && slot->len == len && slot->crc == slot_crc(slot);
}

static int sync_close(int fd)
{
	int rc = fsync(fd) != 0 ? -errno : 0;

	answer_note();
	if (close(fd) != 0 && rc == 0)
		rc = -errno;
	return rc;
}
