/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/file: CRC-32C by its published check values, replaced files, and the slot file under
 * every torn or flipped byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/file.h"

static char path[] = "/tmp/test_file.XXXXXX";
static int dir;

static int make(void **state)
{
	if (mkdtemp(path) == NULL)
		return 1;
	dir = open(path, O_RDONLY | O_DIRECTORY);
	return dir < 0;
}

static int clean(void **state)
{
	static const char *const names[] = {"a", "a.new", "slots", "link", "target"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(dir, names[i], 0);
	close(dir);
	return rmdir(path);
}

static void crc_has_the_published_values(void **state)
{
	uint8_t zeros[32] = {0}, up[32];

	for (unsigned i = 0; i < 32; i++)
		up[i] = i;
	/* RFC 3720 B.4, and the check value of the catalogue of CRCs. */
	assert_int_equal(file_crc32c(0, zeros, 32), 0x8a9136aa);
	assert_int_equal(file_crc32c(0, up, 32), 0x46dd794e);
	assert_int_equal(file_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(file_crc32c(file_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void a_replaced_file_is_whole_and_private(void **state)
{
	struct stat st;
	char *data;
	size_t len;

	assert_int_equal(file_load(dir, "a", 100, &data, &len), -ENOENT);
	assert_int_equal(file_replace(dir, "a", "one", 3), 0);
	assert_int_equal(file_replace(dir, "a", "second", 6), 0);
	assert_int_equal(file_load(dir, "a", 100, &data, &len), 0);
	assert_int_equal(len, 6);
	assert_string_equal(data, "second");
	free(data);
	assert_int_equal(file_load(dir, "a", 5, &data, &len), -EFBIG);
	assert_int_equal(fstatat(dir, "a", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fstatat(dir, "a.new", &st, 0), -1);
}

static void links_are_not_followed(void **state)
{
	char *data;

	assert_int_equal(file_replace(dir, "target", "x", 1), 0);
	assert_int_equal(symlinkat("target", dir, "link"), 0);
	assert_int_equal(file_load(dir, "link", 100, &data, NULL), -ELOOP);
	assert_int_equal(file_slots_make(dir, "link"), -ELOOP);
}

static void the_newest_slot_is_read(void **state)
{
	uint64_t generation, value;

	assert_int_equal(file_slot_read(dir, "slots", &generation, &value, 8), -ENOENT);
	assert_int_equal(file_slots_make(dir, "slots"), 0);
	assert_int_equal(file_slot_read(dir, "slots", &generation, &value, 8), -ENOENT);
	for (uint64_t i = 1; i < 10; i++) {
		value = i * 1000;
		assert_int_equal(file_slot_write(dir, "slots", i, &value, 8), 0);
		assert_int_equal(file_slot_read(dir, "slots", &generation, &value, 8), 0);
		assert_int_equal(generation, i);
		assert_int_equal(value, i * 1000);
	}
	assert_int_equal(file_slot_write(dir, "slots", 10, &value, FILE_SLOT_MAX + 1), -EMSGSIZE);
	assert_int_equal(file_slot_read(dir, "slots", &generation, &value, 4), -ENOENT);
}

/* Whatever happens to one slot, what comes out is one of the two values, whole; never a third. */
static void a_damaged_slot_leaves_the_other(void **state)
{
	uint64_t generation, value[3];
	unsigned older = 0;
	uint8_t byte;
	int fd;

	assert_int_equal(file_slots_make(dir, "slots"), 0);
	assert_int_equal(file_slot_write(dir, "slots", 6, (uint64_t[3]){60, 61, 62}, 24), 0);
	assert_int_equal(file_slot_write(dir, "slots", 7, (uint64_t[3]){70, 71, 72}, 24), 0);
	fd = openat(dir, "slots", O_RDWR);
	assert_true(fd >= 0);
	for (unsigned at = 0; at < 2 * 8192; at++) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		assert_int_equal(file_slot_read(dir, "slots", &generation, value, 24), 0);
		assert_int_equal(generation, at < 8192 ? 7 : 6);
		assert_int_equal(value[0], generation * 10);
		assert_int_equal(value[2], generation * 10 + 2);
		older += generation == 6;
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(older, 8192);
	assert_int_equal(ftruncate(fd, 8192 + 100), 0);
	assert_int_equal(file_slot_read(dir, "slots", &generation, value, 24), 0);
	assert_int_equal(generation, 6);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(file_slot_read(dir, "slots", &generation, value, 24), -ENOENT);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_has_the_published_values),
		cmocka_unit_test(a_replaced_file_is_whole_and_private),
		cmocka_unit_test(links_are_not_followed),
		cmocka_unit_test(the_newest_slot_is_read),
		cmocka_unit_test(a_damaged_slot_leaves_the_other),
	};

	return cmocka_run_group_tests(tests, make, clean);
}
