/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a crash may have left of an upload's journal and of a capture's index. The first byte chooses:
 * the journal or the index, of any bytes or of records whose checksums are right. What is read holds
 * together, reading again says the same, and a journal can be gone on with.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "control/file.h"
#include "control/index.h"
#include "control/upload_journal.h"

#define FILE_MAX   16384
#define NOTE_LEN   40
#define HEAD_BYTES 8192 /* of the index: two notes, 4096 bytes apart */

static const struct uuid id = {{1}};
static int dir, fd;
static char file_path[272];

static void file_remove(void)
{
	unlink(file_path);
	rmdir(dirname(file_path));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char path[256];
	const char *parent = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/fuzz_journal.XXXXXX", parent != NULL ? parent : "/tmp");
	fuzz_check(mkdtemp(path) != NULL);
	dir = open(path, O_RDONLY | O_DIRECTORY);
	snprintf(file_path, sizeof(file_path), "%s/" INDEX_NAME, path);
	atexit(file_remove);
	fd = openat(dir, INDEX_NAME, O_RDWR | O_CREAT, 0600);
	fuzz_check(dir >= 0 && fd >= 0);
	return 0;
}

static void file_put(const uint8_t *data, size_t size)
{
	fuzz_check(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
}

/* --- the upload's journal ----------------------------------------------------------------------
 */

/* A record as upload_journal.c has it. */
struct record {
	uint32_t magic;
	uint32_t crc;
	uint16_t version;
	uint16_t kind;
	uint32_t len;
};

/* kind and length from two bytes each, then the payload: as records with right checksums. */
static size_t records_make(uint8_t *file, const uint8_t *data, size_t size)
{
	uint64_t at = 0;

	while (size >= 3) {
		struct record record = {.magic = 0x6a555353U,
			.version = 1,
			.kind = data[0] % 8,
			.len = (uint32_t)(data[1] | data[2] << 8) % 4097};
		size_t given = record.len < size - 3 ? record.len : size - 3;

		if (at + sizeof(record) + record.len > FILE_MAX)
			break;
		memset(file + at + sizeof(record), 0, record.len);
		memcpy(file + at + sizeof(record), data + 3, given);
		record.crc = file_crc32c(0, &at, sizeof(at));
		record.crc = file_crc32c(record.crc, &record.version, 8);
		record.crc = file_crc32c(record.crc, file + at + sizeof(record), record.len);
		memcpy(file + at, &record, sizeof(record));
		at += sizeof(record) + record.len;
		data += 3 + given;
		size -= 3 + given;
	}
	return at;
}

static void journal_check(const struct upload_journal *journal)
{
	unsigned n_done = 0;

	fuzz_check(memchr(journal->upload_id, '\0', sizeof(journal->upload_id)) != NULL);
	fuzz_check(journal->planned || (journal->n_parts == 0 && journal->n_creates == 0));
	fuzz_check(journal->n_parts <= S3_PARTS_MAX && journal->n_done <= journal->n_parts);
	if (!journal->planned)
		return;
	fuzz_check(journal->n_parts >= 1 && journal->plan.part_bytes != 0);
	fuzz_check(journal->plan.size_bytes <= journal->n_parts * journal->plan.part_bytes);
	fuzz_check(memchr(journal->plan.key, '\0', sizeof(journal->plan.key)) != NULL);
	fuzz_check(memchr(journal->plan.bucket, '\0', sizeof(journal->plan.bucket)) != NULL);
	for (unsigned i = 0; i < journal->n_parts; i++) {
		const struct s3_part *part = &journal->parts[i];

		fuzz_check(part->number == 0 || part->number == i + 1);
		fuzz_check(memchr(part->etag, '\0', sizeof(part->etag)) != NULL);
		n_done += part->number != 0;
	}
	fuzz_check(n_done == journal->n_done);
	fuzz_check(n_done == 0 || journal->upload_id[0] != '\0');
}

static void journal_equal(const struct upload_journal *a, const struct upload_journal *b)
{
	fuzz_check(a->end == b->end && a->planned == b->planned);
	fuzz_check(a->n_parts == b->n_parts && a->n_done == b->n_done);
	fuzz_check(a->n_creates == b->n_creates && strcmp(a->upload_id, b->upload_id) == 0);
	fuzz_check(!a->planned || memcmp(a->parts, b->parts, a->n_parts * sizeof(*a->parts)) == 0);
	fuzz_check(!a->planned || strcmp(a->plan.key, b->plan.key) == 0);
}

static void journal_try(const uint8_t *data, size_t size)
{
	struct upload_journal journal, again;
	int rc;

	file_put(data, size);
	rc = upload_journal_open(&journal, dir, INDEX_NAME);
	fuzz_check(rc == 0 || rc == -EPROTO);
	if (rc == 0) {
		fuzz_check(journal.end <= size);
		journal_check(&journal);
		if (journal.planned)
			fuzz_check(upload_journal_created(&journal, "an id") == 0);
		fuzz_check(upload_journal_open(&again, dir, INDEX_NAME) == 0);
		journal_equal(&journal, &again);
		upload_journal_close(&again);
	}
	upload_journal_close(&journal);
}

/* --- the index ---------------------------------------------------------------------------------
 */

/* Entries of 32 bytes behind two notes, each with its checksum made right where the data says so. */
static size_t index_make_right(uint8_t *file, const uint8_t *data, size_t size)
{
	const uint32_t magic = 0x65744e53U;
	const uint64_t len = NOTE_LEN;
	uint32_t crc;

	memset(file, 0, HEAD_BYTES);
	for (unsigned i = 0; i < 2 && size >= 9; i++, data += 9, size -= 9) {
		uint8_t *note = file + i * 4096;

		memcpy(note, &magic, 4);
		memcpy(note + 8, data, 8);
		memcpy(note + 16, &len, 8);
		memset(note + 24, data[8], NOTE_LEN);
		crc = file_crc32c(0, &id, sizeof(id));
		crc = file_crc32c(crc, note + 8, 16 + (data[8] & 1 ? NOTE_LEN : INDEX_NOTE_MAX));
		memcpy(note + 4, &crc, 4);
	}
	if (size > FILE_MAX - HEAD_BYTES)
		size = FILE_MAX - HEAD_BYTES;
	memcpy(file + HEAD_BYTES, data, size);
	for (uint64_t i = 0; (i + 1) * 32 <= size; i++) {
		uint8_t *entry = file + HEAD_BYTES + i * 32;

		if (entry[0] & 1)
			continue;
		crc = file_crc32c(0, &id, sizeof(id));
		crc = file_crc32c(crc, &i, sizeof(i));
		crc = file_crc32c(crc, entry + 4, 28);
		memcpy(entry, &crc, 4);
	}
	return HEAD_BYTES + size;
}

static void index_try(const uint8_t *data, size_t size)
{
	uint8_t note[NOTE_LEN], again[NOTE_LEN];
	struct index_entry *entries;
	size_t n;
	int rc;

	file_put(data, size);
	fuzz_check(index_load(dir, &id, &entries, &n) == 0);
	fuzz_check(n * 32 <= size);
	for (size_t i = 0; i < n; i++) {
		fuzz_check(entries[i].lane < INDEX_LANES && entries[i].offset != 0);
		fuzz_check(i == 0 || entries[i - 1].lane < entries[i].lane ||
			   (entries[i - 1].lane == entries[i].lane &&
				   entries[i - 1].offset <= entries[i].offset));
	}
	free(entries);
	rc = index_note_load(dir, &id, note, sizeof(note));
	fuzz_check(rc == 0 || rc == -ENOENT);
	fuzz_check(index_note_load(dir, &id, again, sizeof(again)) == rc);
	fuzz_check(rc != 0 || memcmp(note, again, sizeof(note)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[FILE_MAX];

	if (size == 0 || size > FILE_MAX - HEAD_BYTES)
		return 0;
	switch (data[0] % 4) {
	case 0:
		journal_try(data + 1, size - 1);
		break;
	case 1:
		journal_try(file, records_make(file, data + 1, size - 1));
		break;
	case 2:
		index_try(data + 1, size - 1);
		break;
	default:
		index_try(file, index_make_right(file, data + 1, size - 1));
	}
	return 0;
}
