/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/ceiling: what is chosen from rates, when it is measured and when not, that a result is kept
 * and used by the next daemon, and by no other storage's. Writes are real ones, of milliseconds, where
 * the scratch directory is on a file system that can be measured; workers and quota are the test's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/ceiling.h"
#include "control/file.h"
#include "control/job.h"
#include "control/quota.h"
#include "control/store.h"
#include "engine/clock.h"
#include "engine/engine.h"

#define MB 1000000ULL

static char root[64];
static struct config config;
static uint64_t quota_bytes;
static struct job *posted;
static unsigned n_posted;
static struct {
	unsigned n;
	uint32_t write_bytes;
	unsigned depth;
} set;

void job_post(enum worker worker, struct job *job)
{
	assert_null(posted);
	assert_int_equal(worker, WORKER_BULK);
	posted = job;
	n_posted++;
}

static void job_finish(void)
{
	struct job *job = posted;

	assert_non_null(job);
	posted = NULL;
	job->run(job);
	job->done(job);
}

uint64_t quota_limit_bytes(void)
{
	return quota_bytes;
}

uint64_t quota_used_bytes(void)
{
	return 0;
}

void engine_writes_set(uint32_t write_bytes, unsigned depth)
{
	set.n++;
	set.write_bytes = write_bytes;
	set.depth = depth;
}

static int root_make(void **state)
{
	const char *base = getenv("SLUICE_TEST_DIR");
	struct err err;

	snprintf(root, sizeof(root), "%s/test_ceiling.XXXXXX", base != NULL ? base : "/var/tmp");
	assert_non_null(mkdtemp(root));
	assert_int_equal(store_open(root, &err), 0);
	memset(&config, 0, sizeof(config));
	memset(&set, 0, sizeof(set));
	n_posted = 0;
	quota_bytes = 1ULL << 50;
	ceiling_slice_ns = 3000000;
	return 0;
}

static int root_remove(void **state)
{
	char command[128];

	store_close();
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

/* What is measured is a 32nd of what is free, and at least 256 MiB. */
static bool measurable(void)
{
	struct store_usage usage;

	assert_int_equal(store_usage(&usage), 0);
	if (store_system_name(store_root()) != NULL && usage.free_bytes > 9ULL << 30)
		return true;
	print_message("# %s is not large enough, ext4 or XFS\n", root);
	return false;
}

static void another_setting_must_be_clearly_better(void **state)
{
	static const struct {
		uint64_t rates[4];
		unsigned best;
	} rows[] = {
		{{1000 * MB, 1000 * MB, 1000 * MB, 1000 * MB}, 0},
		{{1000 * MB, 1090 * MB, 900 * MB, 100 * MB}, 0},
		{{1000 * MB, 1120 * MB, 900 * MB, 1110 * MB}, 1},
		{{1000 * MB, 1120 * MB, 900 * MB, 8000 * MB}, 3},
		{{100 * MB, 0, 0, 0}, 0}, /* the others were not worth measuring */
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(ceiling_choose(rows[i].rates, 4), rows[i].best);
}

static void nothing_is_known_at_first(void **state)
{
	ceiling_init(&config);
	assert_null(ceiling_get());
	assert_false(ceiling_touch_pays());
	assert_int_equal(set.n, 0);
}

static void not_while_captures_run_nor_where_unwanted(void **state)
{
	ceiling_init(&config);
	ceiling_tick(false);
	config.storage.measure = CONFIG_MEASURE_NO;
	ceiling_tick(true);
	config.storage.measure = CONFIG_MEASURE_AUTO;
	quota_bytes = 8ULL << 30; /* a 32nd of it is just enough */
	quota_bytes -= 1;
	ceiling_tick(true);
	assert_int_equal(n_posted, 0);
}

static void a_result_is_used_and_kept(void **state)
{
	struct ceiling first;

	if (!measurable())
		skip();
	ceiling_init(&config);
	ceiling_tick(true);
	ceiling_tick(true); /* under way: not twice */
	assert_int_equal(n_posted, 1);
	job_finish();
	assert_non_null(ceiling_get());
	first = *ceiling_get();
	assert_true(first.fresh_bytes_per_s > 0 && first.touched_bytes_per_s > 0);
	assert_true(clock_wall_ns() - first.measured_at_ns < 60 * CLOCK_NS_PER_S);
	assert_int_equal(set.n, 1);
	assert_int_equal(set.write_bytes, first.write_bytes);
	assert_int_equal(set.depth, first.depth);

	/* The next daemon. */
	ceiling_init(&config);
	assert_non_null(ceiling_get());
	assert_memory_equal(ceiling_get(), &first, sizeof(first));
	assert_int_equal(set.n, 2);
	ceiling_tick(true);
	assert_int_equal(n_posted, 1);
}

static void who_needs_the_storage_gets_it(void **state)
{
	if (!measurable())
		skip();
	ceiling_init(&config);
	ceiling_tick(true);
	ceiling_yield();
	job_finish();
	assert_null(ceiling_get());
	assert_int_equal(faccessat(store_root(), "ceiling", F_OK, 0), -1);
	for (unsigned i = 0; i < 10 && posted == NULL; i++)
		ceiling_tick(true);
	job_finish();
	assert_non_null(ceiling_get());
}

/* The kept file, line by line changed. */
static void kept_edit(const char *from, const char *to)
{
	char *text, *at, out[1024];

	assert_int_equal(file_load(store_root(), "ceiling", 1000, &text, NULL), 0);
	at = strstr(text, from);
	assert_non_null(at);
	snprintf(out, sizeof(out), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	free(text);
	assert_int_equal(file_replace(store_root(), "ceiling", out, strlen(out)), 0);
}

static void what_was_measured_elsewhere_or_long_ago_is_not_believed(void **state)
{
	char old[64], past[64];

	if (!measurable())
		skip();
	ceiling_init(&config);
	ceiling_tick(true);
	job_finish();
	snprintf(old, sizeof(old), "%llu", (unsigned long long)ceiling_get()->measured_at_ns);

	kept_edit("storage = ", "storage = zfs");
	ceiling_init(&config);
	assert_null(ceiling_get());
	kept_edit("storage = zfs", "storage = ");
	kept_edit("version = 1", "version = 2");
	ceiling_init(&config);
	assert_null(ceiling_get());
	kept_edit("version = 2", "version = 1");
	kept_edit("depth", "dept");
	ceiling_init(&config);
	assert_null(ceiling_get());
	kept_edit("dept", "depth");

	/* Eight days: used until there is a newer one. */
	snprintf(past, sizeof(past), "%llu",
		(unsigned long long)(clock_wall_ns() - 8 * 24 * 3600 * CLOCK_NS_PER_S));
	kept_edit(old, past);
	ceiling_init(&config);
	assert_non_null(ceiling_get());
	ceiling_tick(true);
	job_finish();
	assert_true(clock_wall_ns() - ceiling_get()->measured_at_ns < 60 * CLOCK_NS_PER_S);
}

static void touching_first_pays_from_15_percent_on(void **state)
{
	static const char text[] =
		"version = 1\nstorage = %s\nmeasured_at_ns = 1\n"
		"fresh_bytes_per_second = 1000000000\n"
		"touched_bytes_per_second = %s\nwrite_bytes = 4194304\ndepth = 8\n";
	char *kept, system[80], out[512];

	if (!measurable())
		skip();
	ceiling_init(&config);
	ceiling_tick(true);
	job_finish();
	assert_int_equal(file_load(store_root(), "ceiling", 1000, &kept, NULL), 0);
	assert_int_equal(sscanf(kept, "version = 1\nstorage = %79s", system), 1);
	free(kept);
	for (unsigned pays = 0; pays < 2; pays++) {
		snprintf(out, sizeof(out), text, system, pays ? "1160000000" : "1140000000");
		assert_int_equal(file_replace(store_root(), "ceiling", out, strlen(out)), 0);
		ceiling_init(&config);
		assert_int_equal(ceiling_touch_pays(), pays);
	}
}

static void memory_is_no_storage(void **state)
{
	struct ceiling ceiling;
	int dir = open("/dev/shm", O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		skip();
	assert_int_equal(ceiling_measure(dir, 1ULL << 30, &ceiling), -EOPNOTSUPP);
	close(dir);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, root_make, root_remove)
	const struct CMUnitTest tests[] = {
		TEST(another_setting_must_be_clearly_better),
		TEST(nothing_is_known_at_first),
		TEST(not_while_captures_run_nor_where_unwanted),
		TEST(a_result_is_used_and_kept),
		TEST(who_needs_the_storage_gets_it),
		TEST(what_was_measured_elsewhere_or_long_ago_is_not_believed),
		TEST(touching_first_pays_from_15_percent_on),
		TEST(memory_is_no_storage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
