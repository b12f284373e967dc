/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/quota: who is removed when room runs short, in which order and no one too many, and never a
 * running capture. File system, workers and the sessions' steps are the test's own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/quota.h"
#include "control/spare.h"
#include "control/spare_fill.h"
#include "control/store.h"
#include "control/table.h"

#define N 10

static struct session made[N];
static struct session_run runs[N];
static struct store_usage disk;
static struct config config;
static struct err err;

/* What was asked of sessions. */
static struct session *expired[N];
static unsigned n_expired;
static void (*expire_done)(void *arg);
static void *expire_arg;
static struct session *stopped[N];
static enum end_reason stop_reason;
static unsigned n_stopped;

int store_usage(struct store_usage *usage)
{
	*usage = disk;
	return 0;
}

static uint64_t spares, shrunk;

uint64_t spare_bytes(void)
{
	return spares;
}

uint64_t spare_fill_bytes(void)
{
	return 0;
}

uint64_t spare_shrink(uint64_t need_bytes)
{
	if (need_bytes > spares)
		need_bytes = spares;
	spares -= need_bytes;
	shrunk += need_bytes;
	disk.free_bytes += need_bytes;
	return need_bytes;
}

void job_post(enum worker worker, struct job *job)
{
	job->run(job);
	job->done(job);
}

void session_expire(struct session *session, void (*done)(void *arg), void *arg)
{
	assert_null(expire_done); /* one after the other */
	assert_true(n_expired < N);
	session->expiring = true;
	expired[n_expired++] = session;
	expire_done = done;
	expire_arg = arg;
}

void session_stop(struct session *session, enum end_reason reason, session_done *done, void *arg)
{
	assert_true(n_stopped < N);
	stopped[n_stopped++] = session;
	stop_reason = reason;
}

void session_message_set(struct session *session, const char *message)
{
	session->message = (char *)message;
}

/* The test's captures are pointers to their sizes. */
uint64_t capture_allocated_bytes(const struct capture *capture)
{
	return *(const uint64_t *)capture;
}

/* The files are gone. */
static void expire_finish(void)
{
	void (*done)(void *arg) = expire_done;

	assert_non_null(done);
	disk.free_bytes += expired[n_expired - 1]->size_bytes;
	expired[n_expired - 1]->size_bytes = 0;
	expired[n_expired - 1]->state = SESSION_deleted;
	expired[n_expired - 1]->expiring = false;
	expire_done = NULL;
	done(expire_arg);
}

/* Ten captures of 10 bytes, the first and the sixth running; a disk of 1000 bytes, half of it free. */
static int quota_start(void **state)
{
	static uint64_t allocated = 10;

	memset(made, 0, sizeof(made));
	memset(runs, 0, sizeof(runs));
	memset(&config, 0, sizeof(config));
	spares = 0;
	shrunk = 0;
	n_expired = 0;
	n_stopped = 0;
	expire_done = NULL;
	for (unsigned i = 0; i < N; i++) {
		made[i].id.byte[0] = (uint8_t)i;
		made[i].state = i % 2 == 0 ? SESSION_complete : SESSION_failed;
		made[i].size_bytes = 10;
		if (i % 5 == 0) {
			made[i].state = SESSION_running;
			made[i].run = &runs[i];
			runs[i].capture = (struct capture *)&allocated;
			made[i].size_bytes = 3; /* of packets so far; more is set aside */
		}
		table_add(&made[i]);
	}
	disk = (struct store_usage){.size_bytes = 1000, .free_bytes = 500};
	config.storage.quota_percent = 50;
	config.storage.when_full = CONFIG_WHEN_FULL_DELETE_OLDEST;
	quota_init(&config);
	return 0;
}

static int quota_stop(void **state)
{
	while (expire_done != NULL)
		expire_finish();
	while (table_newest() != NULL)
		table_remove(table_newest());
	return 0;
}

static void what_is_used_is_what_captures_take(void **state)
{
	assert_int_equal(quota_used_bytes(), 100);
	assert_int_equal(quota_limit_bytes(), 500);
	assert_int_equal(quota_size_bytes(), 1000);
	config.storage.quota_percent = 0;
	config.storage.quota_bytes = 77;
	assert_int_equal(quota_limit_bytes(), 77);
}

/* They count, they are the first to go, no more of them than is needed, and no capture with them. */
static void spares_go_first(void **state)
{
	spares = 500;
	assert_int_equal(quota_used_bytes(), 600);
	quota_tick();
	assert_int_equal(shrunk, 101);
	assert_int_equal(quota_used_bytes(), 499);
	quota_tick();
	assert_int_equal(shrunk, 101);

	/* The file system is short of space for other reasons: 50 stay free. */
	disk.free_bytes = 20;
	quota_tick();
	assert_int_equal(shrunk, 131);
	assert_int_equal(n_expired + n_stopped, 0);
}

static void spares_do_not_stand_in_the_way_of_a_capture(void **state)
{
	config.storage.when_full = CONFIG_WHEN_FULL_REFUSE;
	spares = 450;
	assert_int_equal(quota_check(&err), 0);
	assert_int_equal(shrunk, 51);
	config.storage.quota_percent = 7;
	spares = 0;
	assert_int_equal(quota_check(&err), -ENOSPC);
}

static void with_room_nothing_happens(void **state)
{
	assert_int_equal(quota_check(&err), 0);
	quota_tick();
	quota_tick();
	assert_int_equal(n_expired + n_stopped, 0);
}

static void the_oldest_closed_go_first_and_no_more_than_needed(void **state)
{
	config.storage.quota_percent =
		7; /* 70 of the 100 that are used: four must go to be below */
	quota_tick();
	assert_int_equal(n_expired, 1);
	/* Not again while that one is on its way. */
	quota_tick();
	assert_int_equal(quota_check(&err), 0);
	assert_int_equal(n_expired, 1);
	for (unsigned i = 0; i < 3; i++)
		expire_finish();
	assert_int_equal(n_expired, 4);
	expire_finish();
	assert_int_equal(n_expired, 4);
	assert_ptr_equal(expired[0], &made[1]);
	assert_ptr_equal(expired[1], &made[2]);
	assert_ptr_equal(expired[2], &made[3]);
	assert_ptr_equal(expired[3], &made[4]);
	assert_int_equal(n_stopped, 0);
}

static void a_running_capture_is_never_removed(void **state)
{
	config.storage.quota_percent = 1; /* 10: less than what runs */
	quota_tick();
	while (expire_done != NULL)
		expire_finish();
	assert_int_equal(n_expired, 8);
	for (unsigned i = 0; i < n_expired; i++)
		assert_null(expired[i]->run);
	/* Over the quota, with space on the disk: what runs goes on, nothing new begins. */
	quota_tick();
	assert_int_equal(n_stopped, 0);
	assert_int_equal(quota_check(&err), -ENOSPC);
	assert_non_null(strstr(err.text, "captures take 20 bytes, and the quota is 10"));
}

static void those_on_their_way_out_are_left_alone(void **state)
{
	struct session_waiter waiter = {0};

	made[1].deleters = &waiter;
	made[2].state = SESSION_converting;
	made[3].expiring = true;
	made[4].size_bytes = 0;
	config.storage.quota_percent = 9;
	quota_tick();
	assert_int_equal(n_expired, 1);
	assert_ptr_equal(expired[0], &made[6]);
}

static void refuse_removes_nothing(void **state)
{
	config.storage.when_full = CONFIG_WHEN_FULL_REFUSE;
	config.storage.quota_percent = 5;
	quota_tick();
	assert_int_equal(n_expired, 0);
	assert_int_equal(n_stopped, 0);
	assert_int_equal(quota_check(&err), -ENOSPC);
	assert_int_equal(err.code, ENOSPC);
}

/* Five of a hundred stay free whatever the quota says. */
static void a_full_disk_ends_captures_while_they_can_be_closed(void **state)
{
	config.storage.when_full = CONFIG_WHEN_FULL_REFUSE;
	config.storage.quota_percent = 100;
	made[5].output = OUTPUT_NONE;
	disk.free_bytes = 50;
	quota_tick();
	assert_int_equal(quota_check(&err), 0);
	assert_int_equal(n_stopped, 0);
	disk.free_bytes = 49;
	quota_tick();
	assert_int_equal(quota_check(&err), -ENOSPC);
	assert_non_null(strstr(err.text, "the disk has 49 bytes free"));
	assert_int_equal(n_expired, 0);
	/* Only what writes a file. */
	assert_int_equal(n_stopped, 1);
	assert_ptr_equal(stopped[0], &made[0]);
	assert_int_equal(stop_reason, END_disk_full);
}

/* Captures that wait are told so instead, until a little more than the least is free again. */
static void a_full_disk_holds_captures_that_wait(void **state)
{
	config.storage.when_full = CONFIG_WHEN_FULL_REFUSE;
	config.storage.on_full = CONFIG_ON_FULL_WAIT;
	config.storage.quota_percent = 100;
	quota_tick();
	assert_false(quota_holds());
	disk.free_bytes = 49;
	quota_tick();
	assert_true(quota_holds());
	assert_int_equal(n_stopped, 0);
	assert_int_equal(quota_check(&err), -ENOSPC);
	disk.free_bytes = 59;
	quota_tick();
	assert_true(quota_holds());
	disk.free_bytes = 60;
	quota_tick();
	assert_false(quota_holds());
	/* As long as something can be removed nobody has to wait. */
	config.storage.when_full = CONFIG_WHEN_FULL_DELETE_OLDEST;
	disk.free_bytes = 45;
	quota_tick();
	assert_false(quota_holds());
	assert_int_equal(n_expired, 1);
}

/* What could not be closed takes space, and can be removed, but not while it is being closed after all. */
static void what_could_not_be_closed_counts(void **state)
{
	made[1].size_bytes = 0;
	made[1].left_bytes = 30;
	assert_int_equal(quota_used_bytes(), 120);
	config.storage.quota_percent = 12;
	made[1].closing_again = true;
	quota_tick();
	assert_ptr_equal(expired[0], &made[2]);
	expire_finish();
	made[1].closing_again = false;
	config.storage.quota_percent = 11;
	quota_tick();
	assert_ptr_equal(expired[1], &made[1]);
}

static void a_full_disk_takes_closed_captures_first(void **state)
{
	config.storage.quota_percent = 100;
	disk.free_bytes = 35;
	quota_tick();
	while (expire_done != NULL)
		expire_finish();
	assert_int_equal(n_expired, 2); /* 35 + 2 * 10 */
	assert_int_equal(n_stopped, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, quota_start, quota_stop)
	const struct CMUnitTest tests[] = {
		TEST(what_is_used_is_what_captures_take),
		TEST(spares_go_first),
		TEST(spares_do_not_stand_in_the_way_of_a_capture),
		TEST(with_room_nothing_happens),
		TEST(the_oldest_closed_go_first_and_no_more_than_needed),
		TEST(a_running_capture_is_never_removed),
		TEST(those_on_their_way_out_are_left_alone),
		TEST(refuse_removes_nothing),
		TEST(a_full_disk_ends_captures_while_they_can_be_closed),
		TEST(a_full_disk_holds_captures_that_wait),
		TEST(what_could_not_be_closed_counts),
		TEST(a_full_disk_takes_closed_captures_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
