/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/upload*.c: the journal, cut and flipped at every byte; sizes of parts; how long a retry waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/file.h"
#include "control/upload.h"
#include "control/upload_journal.h"

static char dir_path[] = "/dev/shm/test_upload.XXXXXX";
static int dir;

static const struct upload_plan plan = {
	.size_bytes = 12 << 20,
	.part_bytes = 5 << 20,
	.sha256 = {1, 2, 3},
	.md5 = {4, 5, 6},
	.bucket = "evidence",
	.key = "a/b.pcapng",
};

static void part_add(struct upload_journal *journal, unsigned number)
{
	struct s3_part part = {.number = number};
	uint8_t md5[HASH_MD5_SIZE] = {(uint8_t)number, 9};

	snprintf(part.etag, sizeof(part.etag), "etag-%u", number);
	assert_int_equal(upload_journal_part(journal, &part, md5), 0);
}

/* A journal with all that there is in one, two parts of three sent; its length. */
static uint64_t journal_make(const char *name)
{
	struct upload_journal journal;
	uint64_t end;

	unlinkat(dir, name, 0);
	assert_int_equal(upload_journal_open(&journal, dir, name), 0);
	assert_false(journal.planned);
	assert_int_equal(upload_journal_plan(&journal, &plan), 0);
	assert_int_equal(upload_journal_creating(&journal), 0);
	assert_int_equal(upload_journal_created(&journal, "first"), 0);
	part_add(&journal, 1);
	assert_int_equal(upload_journal_restart(&journal), 0);
	assert_int_equal(upload_journal_creating(&journal), 0);
	assert_int_equal(upload_journal_created(&journal, "second"), 0);
	part_add(&journal, 3);
	part_add(&journal, 1);
	end = journal.end;
	upload_journal_close(&journal);
	return end;
}

static void journals_say_what_was_written(void **state)
{
	struct upload_journal journal;

	journal_make("whole");
	assert_int_equal(upload_journal_open(&journal, dir, "whole"), 0);
	assert_true(journal.planned);
	assert_int_equal(journal.plan.size_bytes, plan.size_bytes);
	assert_int_equal(journal.plan.part_bytes, plan.part_bytes);
	assert_memory_equal(journal.plan.sha256, plan.sha256, sizeof(plan.sha256));
	assert_memory_equal(journal.plan.md5, plan.md5, sizeof(plan.md5));
	assert_string_equal(journal.plan.bucket, "evidence");
	assert_string_equal(journal.plan.key, "a/b.pcapng");
	assert_int_equal(journal.n_creates, 2);
	assert_string_equal(journal.upload_id, "second");
	assert_int_equal(journal.n_parts, 3);
	assert_int_equal(journal.n_done, 2);
	assert_string_equal(journal.parts[0].etag, "etag-1");
	assert_int_equal(journal.parts[1].number, 0);
	assert_int_equal(journal.parts[2].number, 3);
	assert_int_equal(journal.md5[2][0], 3);
	/* It goes on where it ended. */
	part_add(&journal, 2);
	upload_journal_close(&journal);
	assert_int_equal(upload_journal_open(&journal, dir, "whole"), 0);
	assert_int_equal(journal.n_done, 3);
	upload_journal_close(&journal);
}

/* Never more than was written before, and it can be gone on with. */
static void subset_check(const char *name)
{
	struct upload_journal journal;

	assert_int_equal(upload_journal_open(&journal, dir, name), 0);
	for (unsigned i = 0; i < journal.n_parts; i++) {
		char etag[16];

		snprintf(etag, sizeof(etag), "etag-%u", i + 1);
		if (journal.parts[i].number != 0) {
			assert_int_equal(journal.parts[i].number, i + 1);
			assert_string_equal(journal.parts[i].etag, etag);
			assert_int_not_equal(i, 1);
		}
	}
	if (journal.upload_id[0] != '\0')
		assert_true(strcmp(journal.upload_id, "first") == 0 ||
			    strcmp(journal.upload_id, "second") == 0);
	if (!journal.planned)
		assert_int_equal(upload_journal_plan(&journal, &plan), 0);
	assert_int_equal(upload_journal_created(&journal, "third"), 0);
	part_add(&journal, 2);
	upload_journal_close(&journal);
	assert_int_equal(upload_journal_open(&journal, dir, name), 0);
	assert_string_equal(journal.upload_id, "third");
	assert_int_equal(journal.n_done, 1);
	upload_journal_close(&journal);
}

static void torn_journals_end_where_they_are_torn(void **state)
{
	const uint64_t size = journal_make("whole");
	uint8_t *bytes = malloc(size);
	int fd = openat(dir, "whole", O_RDONLY);

	assert_int_equal(file_read_at(fd, bytes, size, 0), 0);
	close(fd);
	for (uint64_t cut = 0; cut < size; cut += cut < 64 || size - cut < 64 ? 1 : 7) {
		assert_int_equal(file_replace(dir, "torn", bytes, cut), 0);
		subset_check("torn");
	}
	free(bytes);
}

static void flipped_journals_are_not_believed(void **state)
{
	const uint64_t size = journal_make("whole");
	uint8_t *bytes = malloc(size);
	int fd = openat(dir, "whole", O_RDONLY);

	assert_int_equal(file_read_at(fd, bytes, size, 0), 0);
	close(fd);
	for (uint64_t i = 0; i < size; i += 3) {
		bytes[i] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(file_replace(dir, "flipped", bytes, size), 0);
		subset_check("flipped");
		bytes[i] ^= (uint8_t)(1 << i % 8);
	}
	free(bytes);
}

/* What a newer version wrote is refused whole, and stays as it is. */
static void newer_journals_are_left_alone(void **state)
{
	struct {
		uint32_t magic, crc;
		uint16_t version, kind;
		uint32_t len;
		uint64_t payload;
	} record = {.magic = 0x6a555353, .version = 2, .kind = 1, .len = 8};
	struct upload_journal journal;
	uint64_t at = journal_make("newer");
	int fd = openat(dir, "newer", O_RDWR);
	struct stat st;

	record.crc = file_crc32c(file_crc32c(0, &at, sizeof(at)), &record.version, 16);
	assert_int_equal(file_write_at(fd, &record, 24, at), 0);
	assert_int_equal(upload_journal_open(&journal, dir, "newer"), -EPROTO);
	upload_journal_close(&journal);
	fstat(fd, &st);
	assert_int_equal(st.st_size, at + 24);
	close(fd);
}

static void parts_fit_the_file(void **state)
{
	const uint64_t mib = 1 << 20;

	assert_int_equal(upload_part_bytes(0, 0), 16 * mib);
	assert_int_equal(upload_part_bytes(1, 5 * mib), 5 * mib);
	assert_int_equal(upload_part_bytes(50000 * mib, 5 * mib), 5 * mib);
	assert_int_equal(upload_part_bytes(50000 * mib + 1, 5 * mib), 6 * mib);
	assert_int_equal(upload_part_bytes(160000 * mib + 1, 0), 17 * mib);
	assert_true((S3_SIZE_MAX + upload_part_bytes(S3_SIZE_MAX, 0) - 1) /
			    upload_part_bytes(S3_SIZE_MAX, 0) <=
		    S3_PARTS_MAX);
}

static void retries_wait_longer_each_time(void **state)
{
	for (unsigned n = 1; n < 100; n++)
		for (uint64_t random = 0; random < 100000; random += 7777) {
			const uint64_t whole = n > 10 ? 300000 : 500ULL << (n - 1);
			const uint64_t bound = whole < 300000 ? whole : 300000;
			const uint64_t delay = upload_delay_ms(n, S3_RETRY, random);

			assert_in_range(delay, bound / 2, bound);
		}
	assert_in_range(upload_delay_ms(1, S3_REFUSED, 1), 7500, 15000);
	assert_in_range(upload_delay_ms(1, S3_CREDENTIALS, 1), 250, 500);
	assert_int_not_equal(upload_delay_ms(5, S3_RETRY, 1), upload_delay_ms(5, S3_RETRY, 2));
}

static int setup(void **state)
{
	assert_non_null(mkdtemp(dir_path));
	dir = open(dir_path, O_RDONLY | O_DIRECTORY);
	return dir < 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"whole", "torn", "flipped", "newer"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(dir, names[i], 0);
	close(dir);
	return rmdir(dir_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(journals_say_what_was_written),
		cmocka_unit_test(torn_journals_end_where_they_are_torn),
		cmocka_unit_test(flipped_journals_are_not_believed),
		cmocka_unit_test(newer_journals_are_left_alone),
		cmocka_unit_test(parts_fit_the_file),
		cmocka_unit_test(retries_wait_longer_each_time),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
