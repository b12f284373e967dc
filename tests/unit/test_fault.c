/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/fault: which calls a rule hits, what it does to them, and that its count lives as long as it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/fault.h"

/* The calls of 1..16 that fail, as bits. */
static unsigned failed(enum fault fault)
{
	unsigned mask = 0;

	for (unsigned i = 1; i <= 16; i++)
		mask |= (fault_point(fault) != 0) << i;
	return mask;
}

static void set(const char *text)
{
	struct err err = {0};

	assert_int_equal(fault_set("", NULL), 0);
	if (fault_set(text, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
}

static void when_says_which_calls(void **state)
{
	set("fsync: nth=3 -> EIO");
	assert_int_equal(failed(FAULT_fsync), 1 << 3);
	set("fsync: once -> EIO");
	assert_int_equal(failed(FAULT_fsync), 1 << 1);
	set("fsync: every=5 -> EIO");
	assert_int_equal(failed(FAULT_fsync), 1 << 5 | 1 << 10 | 1 << 15);
	set("fsync: from=14 -> EIO");
	assert_int_equal(failed(FAULT_fsync), 1 << 14 | 1 << 15 | 1 << 16);
	set("fsync: always -> EIO");
	assert_int_equal(failed(FAULT_fsync), 0x1fffe);
	assert_int_equal(failed(FAULT_open), 0);
}

static void chance_is_the_seed_s(void **state)
{
	unsigned first, n = 0;

	set("seed=5\nfsync: probability=0.5 -> EIO");
	first = failed(FAULT_fsync);
	set("seed=5\nfsync: probability=0.5 -> EIO");
	assert_int_equal(failed(FAULT_fsync), first);
	set("seed=6\nfsync: probability=0.5 -> EIO");
	assert_int_not_equal(failed(FAULT_fsync), first);
	set("seed=6\nfsync: probability=0 -> EIO");
	assert_int_equal(failed(FAULT_fsync), 0);
	set("seed=6\nfsync: probability=0.25 -> EIO");
	for (unsigned i = 0; i < 10000; i++)
		n += fault_point(FAULT_fsync) != 0;
	assert_in_range(n, 2300, 2700);
}

static void a_group_counts_its_points_together(void **state)
{
	set("alloc: nth=3 -> ENOMEM");
	assert_int_equal(fault_point(FAULT_malloc), 0);
	assert_int_equal(fault_point(FAULT_fsync), 0);
	assert_int_equal(fault_point(FAULT_json_alloc), 0);
	assert_int_equal(fault_point(FAULT_strdup), -ENOMEM);
	assert_int_equal(fault_point(FAULT_malloc), 0);
	set("disk: nth=2 -> EROFS");
	assert_int_equal(fault_point(FAULT_pwrite), 0);
	assert_int_equal(fault_point(FAULT_pread), 0);
	errno = 0;
	assert_true(fault_fails(FAULT_unlink));
	assert_int_equal(errno, EROFS);
}

static void a_work_s_rule_counts_its_calls_alone(void **state)
{
	set("close/fsync: nth=2 -> EIO");
	assert_int_equal(failed(FAULT_fsync), 0);
	fault_work(FAULT_WORK_CLOSE);
	assert_int_equal(failed(FAULT_open), 0);
	assert_int_equal(failed(FAULT_fsync), 1 << 2);
	fault_work(FAULT_WORK_TEND);
	set("close/disk: always -> EIO\ntend/fsync: once -> ENOSPC\nfsync: always -> EROFS");
	assert_int_equal(fault_point(FAULT_fsync), -ENOSPC);
	assert_int_equal(fault_point(FAULT_fsync), -EROFS);
	fault_work(FAULT_WORK_ANY);
}

static void lengths_are_cut(void **state)
{
	set("pwrite: always -> short=10");
	assert_int_equal(fault_point(FAULT_pwrite), 0);
	assert_int_equal(fault_short(FAULT_pwrite, 4096), 10);
	assert_int_equal(fault_short(FAULT_pwrite, 5), 5);
	set("pwrite: nth=2 -> short=-1");
	assert_int_equal(fault_short(FAULT_pwrite, 4096), 4096);
	assert_int_equal(fault_short(FAULT_pwrite, 4096), 4095);
	set("pwrite: always -> short=-512");
	assert_int_equal(fault_short(FAULT_pwrite, 4096), 3584);
	assert_int_equal(fault_short(FAULT_pwrite, 100), 1);
}

static void clocks_are_moved(void **state)
{
	int64_t offset_ns;

	set("clock_read: always -> offset=-3600.5");
	assert_int_equal(fault_offset_ns(FAULT_clock_read), -3600500000000);
	assert_int_equal(fault_offset_ns(FAULT_kernel_stamp), 0);
	set("clock_read: always -> rate=500000");
	for (unsigned i = 0; i < 1000 && fault_offset_ns(FAULT_clock_read) == 0; i++)
		;
	offset_ns = fault_offset_ns(FAULT_clock_read);
	assert_true(offset_ns > 0);
	assert_true(fault_offset_ns(FAULT_clock_read) >= offset_ns);
}

static void a_rule_that_stays_counts_on(void **state)
{
	set("fsync: nth=3 -> EIO");
	fault_point(FAULT_fsync);
	fault_point(FAULT_fsync);
	assert_int_equal(fault_set("open: once -> EIO\nfsync: nth=3 -> EIO\n", NULL), 0);
	assert_int_equal(fault_point(FAULT_fsync), -EIO);
	assert_int_equal(fault_set("open: once -> EIO", NULL), 0);
	assert_int_equal(fault_set("fsync: nth=3 -> EIO", NULL), 0);
	assert_int_equal(failed(FAULT_fsync), 1 << 3);
}

static void the_first_whose_turn_it_is_decides(void **state)
{
	set("fsync: nth=2 -> EIO\nfsync: always -> ENOSPC\n");
	assert_int_equal(fault_point(FAULT_fsync), -ENOSPC);
	assert_int_equal(fault_point(FAULT_fsync), -EIO);
	assert_int_equal(fault_point(FAULT_fsync), -ENOSPC);
}

static void what_is_wrong_changes_nothing(void **state)
{
	const uint64_t hits = fault_hits(FAULT_fsync);
	struct err err = {0};

	set("fsync: always -> EIO");
	assert_int_equal(
		fault_set("open: once -> EIO\n\n# remark\nfsynk: once -> EIO\n", &err), -EINVAL);
	assert_string_equal(err.field, "SLUICE_FAULTS line 4");
	assert_non_null(strstr(err.text, "\"fsynk\""));
	assert_int_equal(fault_point(FAULT_open), 0);
	assert_int_equal(fault_point(FAULT_fsync), -EIO);
	assert_int_equal(fault_hits(FAULT_fsync), hits + 1);
}

static int end(void **state)
{
	fault_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(when_says_which_calls),
		cmocka_unit_test(chance_is_the_seed_s),
		cmocka_unit_test(a_group_counts_its_points_together),
		cmocka_unit_test(a_work_s_rule_counts_its_calls_alone),
		cmocka_unit_test(lengths_are_cut),
		cmocka_unit_test(clocks_are_moved),
		cmocka_unit_test(a_rule_that_stays_counts_on),
		cmocka_unit_test(the_first_whose_turn_it_is_decides),
		cmocka_unit_test(what_is_wrong_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, end);
}
