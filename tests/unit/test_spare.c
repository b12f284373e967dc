/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/spare and spare_fill: which files become spares and which may not, that a spare reads as zero,
 * which one is taken, what goes when room is short, what a restart finds. Files are large and allocated,
 * and hardly anything is written to them. Quota, workers and the measured ceiling are the test's own.
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

#include "control/ceiling.h"
#include "control/job.h"
#include "control/quota.h"
#include "control/spare.h"
#include "control/spare_fill.h"
#include "control/store.h"

#define GIB (1ULL << 30)

static char root[64];
static struct config config;
static bool pays;
static uint64_t limit_bytes, free_bytes;
static unsigned n_jobs;

bool ceiling_touch_pays(void)
{
	return pays;
}

uint64_t quota_limit_bytes(void)
{
	return limit_bytes;
}

uint64_t quota_used_bytes(void)
{
	return spare_bytes() + spare_fill_bytes();
}

uint64_t quota_free_bytes(void)
{
	return free_bytes;
}

void job_post(enum worker worker, struct job *job)
{
	assert_int_equal(worker, WORKER_BULK);
	n_jobs++;
	job->run(job);
	job->done(job);
}

static bool supported(void)
{
	struct store_usage usage;

	assert_int_equal(store_usage(&usage), 0);
	if (spare_limit_bytes() != 0 && usage.free_bytes > 20 * GIB)
		return true;
	print_message("# %s is not large enough, ext4 or XFS\n", root);
	return false;
}

static void store_start(void)
{
	struct err err;

	spare_init(&config);
	assert_int_equal(store_open(root, &err), 0);
}

static int root_make(void **state)
{
	const char *base = getenv("SLUICE_TEST_DIR");

	snprintf(root, sizeof(root), "%s/test_spare.XXXXXX", base != NULL ? base : "/var/tmp");
	assert_non_null(mkdtemp(root));
	memset(&config, 0, sizeof(config));
	config.storage.quota_bytes = 100 * GIB;
	config.storage.spare_bytes = 8 * GIB;
	config.engine.rx_cpus.n = 1;
	pays = true;
	limit_bytes = free_bytes = 100 * GIB;
	n_jobs = 0;
	store_start();
	return 0;
}

static int root_remove(void **state)
{
	char command[128];

	store_close();
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

/* A file with all its blocks, words at its begin, in the middle and at its end. */
static void file_make(const char *name, uint64_t size)
{
	int fd = openat(store_root(), name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fallocate(fd, 0, 0, (off_t)size), 0);
	assert_int_equal(pwrite(fd, "old packets", 11, 0), 11);
	assert_int_equal(pwrite(fd, "old packets", 11, (off_t)size / 2), 11);
	assert_int_equal(pwrite(fd, "old packets", 11, (off_t)size - 11), 11);
	close(fd);
}

static uint64_t file_size(const char *name)
{
	struct stat st;

	return fstatat(store_root(), name, &st, 0) == 0 ? (uint64_t)st.st_size : 0;
}

static void file_check_zero(const char *name, uint64_t size)
{
	static const char zeros[4096];
	static char page[4096];
	const uint64_t places[] = {0, size / 2 / 4096 * 4096, (size - 11) / 4096 * 4096};
	int fd = openat(store_root(), name, O_RDONLY);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pread(fd, page, sizeof(page), (off_t)places[i]), sizeof(page));
		assert_memory_equal(page, zeros, sizeof(page));
	}
	close(fd);
}

static void a_removed_file_comes_back_zeroed(void **state)
{
	struct stat st;

	if (!supported())
		skip();
	file_make("a", GIB + 5000);
	assert_true(spare_keep(store_root(), "a"));
	assert_int_equal(file_size("a"), 0);
	assert_int_equal(spare_bytes(), GIB + 8192);
	assert_int_equal(spare_take(store_root(), "b", UINT64_MAX), GIB + 8192);
	assert_int_equal(spare_bytes(), 0);
	assert_int_equal(file_size("b"), GIB + 8192);
	file_check_zero("b", GIB + 5000);
	assert_int_equal(fstatat(store_root(), "b", &st, 0), 0);
	assert_true((uint64_t)st.st_blocks * 512 >= GIB + 8192);
	assert_int_equal(spare_take(store_root(), "c", UINT64_MAX), 0);
}

static void not_every_file_makes_a_spare(void **state)
{
	int fd;

	if (!supported())
		skip();
	file_make("small", GIB - 4096);
	assert_false(spare_keep(store_root(), "small"));

	file_make("holes", GIB);
	fd = openat(store_root(), "holes", O_WRONLY);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8 << 20), 0);
	close(fd);
	assert_false(spare_keep(store_root(), "holes"));

	file_make("read", GIB);
	fd = openat(store_root(), "read", O_RDONLY);
	assert_false(spare_keep(store_root(), "read"));
	close(fd);
	assert_true(spare_keep(store_root(), "read"));

	file_make("named", GIB);
	assert_int_equal(linkat(store_root(), "named", store_root(), "twice", 0), 0);
	assert_false(spare_keep(store_root(), "named"));

	assert_int_equal(symlinkat("named", store_root(), "link"), 0);
	assert_false(spare_keep(store_root(), "link"));
	assert_false(spare_keep(store_root(), "nothing"));

	file_make("much", 8 * GIB); /* more than the limit leaves */
	assert_false(spare_keep(store_root(), "much"));
	assert_int_equal(spare_bytes(), GIB);
}

/* What was refused is as it was. */
static void a_refused_file_keeps_its_bytes(void **state)
{
	char text[11];
	int fd;

	if (!supported())
		skip();
	file_make("read", GIB);
	fd = openat(store_root(), "read", O_RDONLY);
	assert_false(spare_keep(store_root(), "read"));
	assert_int_equal(pread(fd, text, 11, GIB / 2), 11);
	assert_memory_equal(text, "old packets", 11);
	close(fd);
}

static void the_smallest_that_suffices_is_taken(void **state)
{
	if (!supported())
		skip();
	for (unsigned i = 0; i < 3; i++) {
		file_make("a", (3 - i) * GIB);
		assert_true(spare_keep(store_root(), "a"));
	}
	assert_int_equal(spare_take(store_root(), "b", GIB / 2), 0); /* not worth one */
	assert_int_equal(spare_take(store_root(), "b", 2 * GIB - 1), 2 * GIB);
	assert_int_equal(spare_take(store_root(), "c", UINT64_MAX), 3 * GIB);
	assert_int_equal(spare_take(store_root(), "d", UINT64_MAX), GIB);
	assert_int_equal(spare_take(store_root(), "e", UINT64_MAX), 0);
}

static void the_smallest_goes_first_and_no_more_than_needed(void **state)
{
	if (!supported())
		skip();
	for (unsigned i = 0; i < 2; i++) {
		file_make("a", (3 - i) * GIB);
		assert_true(spare_keep(store_root(), "a"));
	}
	assert_int_equal(spare_shrink(5000), 8192); /* cut off */
	assert_int_equal(spare_bytes(), 5 * GIB - 8192);
	assert_int_equal(spare_shrink(GIB), 2 * GIB - 8192); /* too little would be left */
	assert_int_equal(spare_shrink(2 * GIB), 2 * GIB);
	assert_int_equal(spare_bytes(), GIB);
	assert_int_equal(spare_shrink(UINT64_MAX), GIB);
	assert_int_equal(spare_shrink(1), 0);
}

static void a_restart_finds_them(void **state)
{
	if (!supported())
		skip();
	file_make("a", GIB);
	assert_true(spare_keep(store_root(), "a"));
	file_make("a", 2 * GIB);
	assert_true(spare_keep(store_root(), "a"));
	file_make("spare/fill", GIB); /* half made when the daemon died */
	file_make("spare/7", 4096);
	store_close();
	store_start();
	assert_int_equal(spare_bytes(), 3 * GIB);
	assert_int_equal(file_size("spare/fill") + file_size("spare/7"), 0);
	file_make("a", GIB);
	assert_true(spare_keep(store_root(), "a")); /* under a new name */
	assert_int_equal(spare_bytes(), 4 * GIB);

	/* Now they are unwanted. */
	store_close();
	config.storage.spare_bytes = CONFIG_SPARE_NO;
	store_start();
	assert_int_equal(spare_bytes(), 0);
	assert_int_equal(file_size("spare/1") + file_size("spare/2") + file_size("spare/3"), 0);
	file_make("a", GIB);
	assert_false(spare_keep(store_root(), "a"));
}

static void fill(void)
{
	for (unsigned i = 0; i < 200 && spare_bytes() == 0; i++)
		spare_fill_tick(true);
}

static void spares_are_made_where_it_pays(void **state)
{
	if (!supported())
		skip();
	config.storage.spare_bytes = GIB;
	store_close();
	store_start();
	spare_fill_init(&config);
	pays = false;
	spare_fill_tick(true);
	pays = true;
	spare_fill_tick(false);
	limit_bytes = 4 * GIB - 1; /* it would take more than a quarter */
	spare_fill_tick(true);
	limit_bytes = 100 * GIB;
	free_bytes = 4 * GIB - 1;
	spare_fill_tick(true);
	assert_int_equal(n_jobs, 0);
	free_bytes = 100 * GIB;
	fill();
	assert_int_equal(spare_bytes(), GIB);
	assert_int_equal(spare_fill_bytes(), 0);
	assert_true(n_jobs > 1); /* slice by slice */
	assert_int_equal(spare_take(store_root(), "a", UINT64_MAX), GIB);
	file_check_zero("a", GIB);

	/* No more is written than captures wrote. */
	n_jobs = 0;
	spare_fill_tick(true);
	spare_fill_used(GIB - 1);
	spare_fill_tick(true);
	assert_int_equal(n_jobs, 0);
	spare_fill_used(1);
	spare_fill_tick(true);
	assert_int_equal(n_jobs, 1);
	assert_true(spare_fill_bytes() > 0);
	spare_fill_fini(); /* too little to be kept */
	assert_int_equal(spare_bytes() + spare_fill_bytes(), 0);
	assert_int_equal(file_size("spare/fill"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, root_make, root_remove)
	const struct CMUnitTest tests[] = {
		TEST(a_removed_file_comes_back_zeroed),
		TEST(not_every_file_makes_a_spare),
		TEST(a_refused_file_keeps_its_bytes),
		TEST(the_smallest_that_suffices_is_taken),
		TEST(the_smallest_goes_first_and_no_more_than_needed),
		TEST(a_restart_finds_them),
		TEST(spares_are_made_where_it_pays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
