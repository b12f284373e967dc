/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/audit: lines come out in order and whole, whatever happens to the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "config/log.h"
#include "control/audit.h"
#include "control/job.h"

static struct event_base *base;
static char root[64], path[96], old_path[128];

static int setup(void **state)
{
	strcpy(root, "/tmp/test_audit.XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/" AUDIT_FILE, root);
	snprintf(old_path, sizeof(old_path), "%s.1", path);
	base = event_base_new();
	return job_workers_start(base);
}

static int teardown(void **state)
{
	job_workers_stop();
	audit_stop();
	event_base_free(base);
	unlink(path);
	unlink(old_path);
	return rmdir(root);
}

static void begin(void)
{
	struct err err = {0};

	if (audit_start(root, base, &err) != 0)
		fail_msg("%s", err.text);
}

static void add(const char *line)
{
	audit_add(line, strlen(line));
}

/* Until all that was added is written, or lost. */
static void settle(uint64_t n)
{
	struct audit_status status;

	do {
		event_base_loop(base, EVLOOP_ONCE);
		audit_status(&status);
	} while (status.lines + status.lost < n);
}

static char *text_of(const char *file)
{
	static char text[1 << 20];
	FILE *in = fopen(file, "r");

	assert_non_null(in);
	text[fread(text, 1, sizeof(text) - 1, in)] = '\0';
	fclose(in);
	return text;
}

static void put(const char *text, mode_t mode)
{
	FILE *out = fopen(path, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(path, mode), 0);
}

static void nothing_is_added_before_the_start(void **state)
{
	struct audit_status status;

	add("too early");
	audit_reopen();
	audit_status(&status);
	assert_int_equal(status.lines + status.lost, 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void lines_come_out_in_order(void **state)
{
	char line[64], *at;
	struct stat st;

	begin();
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(line, sizeof(line), "{\"n\":%u}", i);
		add(line);
		if (i % 100 == 0)
			event_base_loop(base, EVLOOP_NONBLOCK);
	}
	settle(5000);
	at = text_of(path);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(line, sizeof(line), "{\"n\":%u}\n", i);
		assert_memory_equal(at, line, strlen(line));
		at += strlen(line);
	}
	assert_string_equal(at, "");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void what_was_there_stays(void **state)
{
	struct stat st;

	put("old\nhalf a li", 0644);
	begin();
	add("new");
	settle(1);
	assert_string_equal(text_of(path), "old\nhalf a li\nnew\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void other_files_are_not_written_to(void **state)
{
	struct err err = {0};

	assert_int_equal(symlink("elsewhere", path), 0);
	assert_int_equal(audit_start(root, base, &err), -ELOOP);
	assert_non_null(strstr(err.text, AUDIT_FILE));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(audit_start(root, base, &err), -EINVAL);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(audit_start(root, base, &err), -EISDIR);
	rmdir(path);
}

static void a_file_that_was_moved_is_made_anew(void **state)
{
	begin();
	add("one");
	settle(1);
	assert_int_equal(rename(path, old_path), 0);
	add("two");
	settle(2);
	audit_reopen();
	add("three");
	settle(3);
	add("four");
	settle(4);
	/* What came with the change is in one of the two, and only there. */
	if (strcmp(text_of(old_path), "one\ntwo\nthree\n") != 0) {
		assert_string_equal(text_of(old_path), "one\ntwo\n");
		assert_string_equal(text_of(path), "three\nfour\n");
	} else {
		assert_string_equal(text_of(path), "four\n");
	}
}

static void a_reopen_that_fails_changes_nothing(void **state)
{
	begin();
	assert_int_equal(rename(path, old_path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	audit_reopen();
	add("one");
	settle(1);
	add("two");
	settle(2);
	assert_string_equal(text_of(old_path), "one\ntwo\n");
	rmdir(path);
}

/* A file that may not grow stands for a disk that is full. */
static void a_full_disk_costs_lines_and_no_more(void **state)
{
	struct rlimit limit, before;
	struct audit_status status;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	begin();
	add("before");
	settle(1);
	limit = (struct rlimit){.rlim_cur = 10, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	add("does not fit");
	settle(2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_string_equal(text_of(path), "before\n");
	add("after");
	settle(3);
	assert_string_equal(text_of(path), "before\nafter\n");
	audit_status(&status);
	assert_int_equal(status.lines, 2);
	assert_int_equal(status.lost, 1);
}

static void memory_is_bounded_while_the_disk_hangs(void **state)
{
	static char line[1000];
	struct audit_status status;

	memset(line, 'x', sizeof(line) - 1);
	begin();
	add("first"); /* its job is not back before the loop turns */
	for (unsigned i = 0; i < 2 * AUDIT_QUEUE_MAX / sizeof(line); i++)
		add(line);
	audit_status(&status);
	assert_in_range(status.lost, 1, AUDIT_QUEUE_MAX / sizeof(line) * 3 / 2);
	settle(1 + 2 * AUDIT_QUEUE_MAX / sizeof(line));
}

static void a_huge_file_makes_room(void **state)
{
	struct stat st;

	put("", 0600);
	assert_int_equal(truncate(path, AUDIT_SIZE_MAX - 4), 0);
	begin();
	add("last");
	settle(1);
	add("first");
	settle(2);
	assert_string_equal(text_of(path), "first\n");
	assert_int_equal(stat(old_path, &st), 0);
	assert_true(st.st_size >= (off_t)AUDIT_SIZE_MAX);
}

static void the_end_waits_for_what_was_added(void **state)
{
	begin();
	for (unsigned i = 0; i < 100; i++)
		add("x");
	job_workers_stop();
	audit_stop();
	assert_int_equal(strlen(text_of(path)), 200);
	assert_int_equal(job_workers_start(base), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_added_before_the_start, setup, teardown),
		cmocka_unit_test_setup_teardown(lines_come_out_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_there_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(other_files_are_not_written_to, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_file_that_was_moved_is_made_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_reopen_that_fails_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_full_disk_costs_lines_and_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(
			memory_is_bounded_while_the_disk_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(a_huge_file_makes_room, setup, teardown),
		cmocka_unit_test_setup_teardown(the_end_waits_for_what_was_added, setup, teardown),
	};

	log_level_set(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
