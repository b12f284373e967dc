/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * config/log and config/err: a line stays a line whatever is in it, levels, and errors that are cut
 * and never overrun.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/err.h"
#include "config/log.h"

static char text[1 << 20];
static int kept = -1, file = -1;

/* Standard error goes into a file until log_end, which leaves it in text. */
static void log_begin(void)
{
	char path[] = "/tmp/test_log.XXXXXX";

	file = mkstemp(path);
	assert_true(file >= 0);
	unlink(path);
	assert_int_equal(fcntl(file, F_SETFL, O_APPEND), 0);
	kept = dup(STDERR_FILENO);
	dup2(file, STDERR_FILENO);
}

static const char *log_end(void)
{
	ssize_t len = pread(file, text, sizeof(text) - 1, 0);

	dup2(kept, STDERR_FILENO);
	close(kept);
	close(file);
	assert_true(len >= 0);
	text[len] = '\0';
	return text;
}

static void levels_are_named_and_kept(void **state)
{
	log_begin();
	log_error("a=%d", 1);
	log_warning("b");
	log_info("c");
	log_debug("not said");
	log_level_set(LOG_LEVEL_ERROR);
	log_warning("not said");
	log_error("d");
	log_level_set(LOG_LEVEL_DEBUG);
	log_debug("e");
	log_level_set(LOG_LEVEL_INFO);
	assert_string_equal(log_end(), "error: a=1\nwarning: b\ninfo: c\nerror: d\ndebug: e\n");
}

static void a_line_stays_a_line(void **state)
{
	log_begin();
	log_info("name=%s", "x\nerror: forged\r\t\x1b[2J\x7f caf\xc3\xa9");
	assert_string_equal(log_end(), "info: name=x?error: forged???[2J? caf\xc3\xa9\n");
}

static void a_long_line_is_cut(void **state)
{
	static char word[5000];
	const char *line;

	memset(word, 'w', sizeof(word) - 1);
	log_begin();
	log_info("%s", word);
	line = log_end();
	assert_in_range(strlen(line), 1000, 1024);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void *log_many(void *arg)
{
	for (unsigned i = 0; i < 500; i++)
		log_info("%s", (const char *)arg);
	return NULL;
}

static void lines_of_threads_stay_whole(void **state)
{
	static char words[2][201];
	pthread_t threads[2];
	unsigned n = 0;

	log_begin();
	for (unsigned i = 0; i < 2; i++) {
		memset(words[i], 'a' + (int)i, 200);
		assert_int_equal(pthread_create(&threads[i], NULL, log_many, words[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	log_end();
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), n++) {
		assert_memory_equal(line, "info: ", 6);
		assert_int_equal(strspn(line + 6, line[6] == 'a' ? "a" : "b"), 200);
		assert_int_equal(strlen(line), 206);
	}
	assert_int_equal(n, 1000);
}

static void an_error_says_what_and_where(void **state)
{
	struct err err;

	assert_int_equal(err_set(&err, EINVAL, "packets", "%d is too many", 7), -EINVAL);
	assert_int_equal(err.code, EINVAL);
	assert_string_equal(err.field, "packets");
	assert_string_equal(err.text, "7 is too many");
	assert_int_equal(err_prefix(&err, "limits"), -EINVAL);
	assert_string_equal(err.field, "limits.packets");
	err_set(&err, EIO, NULL, "x");
	assert_string_equal(err.field, "");
	err_prefix(&err, "body");
	assert_string_equal(err.field, "body");
}

static void nobody_need_ask_for_an_error(void **state)
{
	assert_int_equal(err_set(NULL, ENOENT, "a", "b"), -ENOENT);
	assert_true(err_prefix(NULL, "a") < 0);
}

static void long_errors_are_cut(void **state)
{
	static char word[1000];
	struct err err;

	memset(word, 'w', sizeof(word) - 1);
	err_set(&err, EINVAL, word, "%s", word);
	assert_int_equal(strlen(err.field), sizeof(err.field) - 1);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	err_prefix(&err, "limits");
	assert_int_equal(strlen(err.field), sizeof(err.field) - 1);
	assert_memory_equal(err.field, "limits.www", 10);
	err_prefix(&err, word);
	assert_int_equal(strlen(err.field), sizeof(err.field) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_are_named_and_kept),
		cmocka_unit_test(a_line_stays_a_line),
		cmocka_unit_test(a_long_line_is_cut),
		cmocka_unit_test(lines_of_threads_stay_whole),
		cmocka_unit_test(an_error_says_what_and_where),
		cmocka_unit_test(nobody_need_ask_for_an_error),
		cmocka_unit_test(long_errors_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
