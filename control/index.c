/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Two notes, in turn, each within a sector of its own, between them a copy of the lanes' header, then entries
 * of 32 bytes. The space is written
 * with zeros and synced before it is used, so that a later write changes nothing but content and needs
 * no journal: once the disk has it, it has it, as it has the lanes' data.
 */
#include "control/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/file.h"

#define NOTE_MAGIC  0x65744e53U /* "SNte" */
#define NOTE_STRIDE 4096U
#define COPY_MAGIC  0x72644853U /* "SHdr" */
#define COPY_AT     512U
#define HEAD_BYTES  (2 * NOTE_STRIDE)
#define STEP_BYTES  (64U << 10)
#define NEAR_BYTES  (64U << 10) /* closer entries gain little */
#define LOAD_MAX    (1ULL << 30)

struct note {
	uint32_t magic;
	uint32_t crc; /* of the capture's id and what follows, to the end of data */
	uint64_t generation;
	uint64_t len;
	uint8_t data[INDEX_NOTE_MAX];
};
_Static_assert(sizeof(struct note) <= 512, "a note is in one sector");

struct copy {
	uint32_t magic;
	uint32_t crc; /* of the capture's id and what follows, to the end of the header */
	uint64_t len;
	uint8_t header[INDEX_HEADER_MAX];
};
_Static_assert(COPY_AT + sizeof(struct copy) <= NOTE_STRIDE, "it lies between the notes");

struct entry {
	uint32_t crc; /* of the capture's id, the entry's number and what follows */
	uint32_t lane;
	uint64_t offset; /* 0: nothing was put here */
	uint64_t packets;
	uint64_t told;
};
_Static_assert(sizeof(struct entry) == 32, "entries do not cross sectors");

static int index_grow(struct index_file *index);
static uint32_t entry_crc(const struct uuid *id, uint64_t slot, const struct entry *entry);
static uint32_t note_crc(const struct uuid *id, const struct note *note);
static uint32_t copy_crc(const struct uuid *id, const struct copy *copy);
static int copy_write(const struct index_file *index, const void *header, size_t len);
static int entry_order(const void *a, const void *b);

int index_make(struct index_file *index, int dir, const struct uuid *id, const void *header,
	size_t header_len)
{
	static const uint8_t zeros[HEAD_BYTES];
	int rc;

	*index = (struct index_file){.id = *id};
	index->fd =
		openat(dir, INDEX_NAME, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (index->fd < 0)
		return -errno;
	rc = file_write_at(index->fd, zeros, sizeof(zeros), 0);
	if (rc == 0 && header_len <= INDEX_HEADER_MAX)
		rc = copy_write(index, header, header_len);
	if (rc == 0)
		rc = index_grow(index);
	if (rc == 0 && fsync(index->fd) != 0)
		rc = -errno;
	index->grown = 0;
	if (rc != 0)
		index_close(index);
	return rc;
}

void index_close(struct index_file *index)
{
	if (index->fd >= 0)
		close(index->fd);
	index->fd = -1;
}

int index_put(struct index_file *index, const struct index_entry *put)
{
	struct entry entry = {
		.lane = put->lane,
		.offset = put->offset,
		.packets = put->packets,
		.told = put->told,
	};
	uint64_t slot = index->lanes[put->lane].slot;
	int rc;

	if (!index->lanes[put->lane].any ||
		put->offset - index->lanes[put->lane].kept >= NEAR_BYTES) {
		rc = index->n < index->n_room ? 0 : index_grow(index);
		if (rc != 0)
			return rc;
		slot = index->n++;
		index->lanes[put->lane].kept = put->offset;
		index->lanes[put->lane].any = 1;
		index->lanes[put->lane].slot = slot;
	}
	entry.crc = entry_crc(&index->id, slot, &entry);
	return file_write_at(index->fd, &entry, sizeof(entry), HEAD_BYTES + slot * sizeof(entry));
}

int index_note(struct index_file *index, const void *data, size_t len)
{
	struct note note = {.magic = NOTE_MAGIC, .generation = ++index->generation, .len = len};

	memcpy(note.data, data, len);
	note.crc = note_crc(&index->id, &note);
	return file_write_at(index->fd, &note, sizeof(note), (note.generation & 1) * NOTE_STRIDE);
}

void index_push(struct index_file *index)
{
	sync_file_range(index->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int index_sync(struct index_file *index)
{
	const unsigned all =
		SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
	int rc;

	if (!index->grown)
		return sync_file_range(index->fd, 0, 0, all) != 0 ? -errno : 0;
	rc = fdatasync(index->fd) != 0 ? -errno : 0;
	if (rc == 0)
		index->grown = 0;
	return rc;
}

int index_load(int dir, const struct uuid *id, struct index_entry **entries, size_t *n)
{
	struct index_entry *list = NULL;
	const struct entry *from;
	char *data = NULL;
	size_t len = 0, n_slots;
	int rc;

	*entries = NULL;
	*n = 0;
	rc = file_load(dir, INDEX_NAME, LOAD_MAX, &data, &len);
	if (rc != 0)
		return rc == -ENOENT || rc == -EFBIG || rc == -ELOOP ? 0 : rc;
	n_slots = len > HEAD_BYTES ? (len - HEAD_BYTES) / sizeof(*from) : 0;
	list = malloc((n_slots + 1) * sizeof(*list));
	for (size_t i = 0; list != NULL && i < n_slots; i++) {
		from = (const struct entry *)(data + HEAD_BYTES) + i;
		if (from->offset == 0 || from->lane >= INDEX_LANES ||
			from->crc != entry_crc(id, i, from))
			continue;
		list[(*n)++] = (struct index_entry){
			.offset = from->offset,
			.packets = from->packets,
			.told = from->told,
			.lane = from->lane,
		};
	}
	free(data);
	if (list == NULL)
		return -ENOMEM;
	qsort(list, *n, sizeof(*list), entry_order);
	*entries = list;
	return 0;
}

int index_note_load(int dir, const struct uuid *id, void *data, size_t len)
{
	struct note note;
	uint64_t newest = 0;
	int fd;

	fd = openat(dir, INDEX_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -ENOENT;
	for (unsigned i = 0; i < 2; i++) {
		if (file_read_at(fd, &note, sizeof(note), i * NOTE_STRIDE) != 0 ||
			note.magic != NOTE_MAGIC || note.len != len ||
			note.crc != note_crc(id, &note) || note.generation <= newest)
			continue;
		newest = note.generation;
		memcpy(data, note.data, len);
	}
	close(fd);
	return newest != 0 ? 0 : -ENOENT;
}

size_t index_header_load(int dir, const struct uuid *id, void *header)
{
	struct copy copy;
	size_t len = 0;
	int fd;

	fd = openat(dir, INDEX_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (file_read_at(fd, &copy, sizeof(copy), COPY_AT) == 0 && copy.magic == COPY_MAGIC &&
		copy.len <= INDEX_HEADER_MAX && copy.crc == copy_crc(id, &copy))
		len = copy.len;
	close(fd);
	memcpy(header, copy.header, len);
	return len;
}

static int copy_write(const struct index_file *index, const void *header, size_t len)
{
	struct copy copy = {.magic = COPY_MAGIC, .len = len};

	memcpy(copy.header, header, len);
	copy.crc = copy_crc(&index->id, &copy);
	return file_write_at(index->fd, &copy, sizeof(copy), COPY_AT);
}

/* A step more of zeros. */
static int index_grow(struct index_file *index)
{
	static const uint8_t zeros[STEP_BYTES];
	int rc = file_write_at(
		index->fd, zeros, sizeof(zeros), HEAD_BYTES + index->n_room * sizeof(struct entry));

	if (rc == 0)
		index->n_room += STEP_BYTES / sizeof(struct entry);
	index->grown = 1;
	return rc;
}

static uint32_t entry_crc(const struct uuid *id, uint64_t slot, const struct entry *entry)
{
	uint32_t crc = file_crc32c(0, id, sizeof(*id));

	crc = file_crc32c(crc, &slot, sizeof(slot));
	return file_crc32c(crc, &entry->lane, sizeof(*entry) - offsetof(struct entry, lane));
}

static uint32_t note_crc(const struct uuid *id, const struct note *note)
{
	return file_crc32c(file_crc32c(0, id, sizeof(*id)), &note->generation,
		sizeof(*note) - offsetof(struct note, generation));
}

static uint32_t copy_crc(const struct uuid *id, const struct copy *copy)
{
	return file_crc32c(
		file_crc32c(0, id, sizeof(*id)), &copy->len, sizeof(copy->len) + copy->len);
}

static int entry_order(const void *a, const void *b)
{
	const struct index_entry *x = a, *y = b;

	if (x->lane != y->lane)
		return x->lane < y->lane ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}
