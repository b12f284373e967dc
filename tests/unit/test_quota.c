/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/quota: who is removed when room runs short, an account has more than its share or captures
 * get old, in which order and no one too many, and never what is in use. File system, clocks, workers
 * and the sessions' steps are the test's own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/quota.h"
#include "control/spare.h"
#include "control/spare_fill.h"
#include "control/store.h"
#include "control/table.h"
#include "control/totals.h"
#include "engine/clock.h"

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
static char why[N][200];

/* What was told of it. */
static struct totals_removed removed;
static unsigned n_events, n_records;

/* The clocks go when the test says so. */
static uint64_t wall_ns, monotonic_ns;
static struct clock_steps steps;
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

uint64_t clock_wall_ns(void)
{
	return wall_ns;
}

uint64_t clock_monotonic_ns(void)
{
	return monotonic_ns;
}

void clock_steps(struct clock_steps *now)
{
	*now = steps;
}

void totals_removed(enum totals_reason reason, uint64_t bytes)
{
	removed.by[reason].captures++;
	removed.by[reason].bytes += bytes;
}

void totals_lost(uint64_t packets)
{
	removed.lost_captures++;
	removed.lost_packets += packets;
}

const char *session_id_text(const struct session *session)
{
	return "the-id";
}

void session_event_add(struct session *session, const char *fmt, ...)
{
	n_events++;
}

void session_job_record(struct session *session, session_done *done, void *arg)
{
	n_records++;
}

void session_expire(struct session *session, const char *text, void (*done)(void *arg), void *arg)
{
	assert_null(expire_done); /* one after the other */
	assert_true(n_expired < N);
	session->expiring = true;
	snprintf(why[n_expired], sizeof(why[0]), "%s", text);
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
	n_events = 0;
	n_records = 0;
	expire_done = NULL;
	memset(&removed, 0, sizeof(removed));
	memset(&steps, 0, sizeof(steps));
	wall_ns = 1000 * CLOCK_NS_PER_S;
	monotonic_ns = 100 * CLOCK_NS_PER_S;
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
		made[i].ended_ns = wall_ns;
		made[i].aged_at_ns = monotonic_ns;
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
	assert_int_equal(quota_check("*", &err), 0);
	assert_int_equal(shrunk, 51);
	config.storage.quota_percent = 7;
	spares = 0;
	assert_int_equal(quota_check("*", &err), -ENOSPC);
}

static void with_room_nothing_happens(void **state)
{
	assert_int_equal(quota_check("*", &err), 0);
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
	assert_int_equal(quota_check("*", &err), 0);
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
	assert_int_equal(quota_check("*", &err), -ENOSPC);
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
	assert_int_equal(quota_check("*", &err), -ENOSPC);
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
	assert_int_equal(quota_check("*", &err), 0);
	assert_int_equal(n_stopped, 0);
	disk.free_bytes = 49;
	quota_tick();
	assert_int_equal(quota_check("*", &err), -ENOSPC);
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
	assert_int_equal(quota_check("*", &err), -ENOSPC);
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
	for (unsigned i = 0; i < n_expired; i++)
		assert_string_equal(
			why[i], "removed by retention: less than 5 % of the disk were free");
	assert_int_equal(n_stopped, 0);
}

/* Both clocks, as they go. */
static void pass_s(uint64_t seconds)
{
	wall_ns += seconds * CLOCK_NS_PER_S;
	monotonic_ns += seconds * CLOCK_NS_PER_S;
}

/* The wall clock is set, and that is seen. */
static void step_s(int64_t seconds)
{
	wall_ns += (uint64_t)seconds * CLOCK_NS_PER_S;
	steps.n++;
	steps.sum_ns += seconds * (int64_t)CLOCK_NS_PER_S;
}

/* Captures are kept for keep_s; the quota is far. */
static void keep_start(uint64_t keep_s)
{
	config.storage.quota_percent = 90;
	config.storage.keep_ms = keep_s * 1000;
	quota_init(&config);
}

static unsigned all_expired(void)
{
	quota_tick();
	while (expire_done != NULL)
		expire_finish();
	return n_expired;
}

/* Whoever does not own them is "*"; the rest is dealt out: mine are 1, 3, 7, 9 of the closed ones. */
static void accounts_start(unsigned percent, uint64_t bytes)
{
	config.n_accounts = 2;
	strcpy(config.accounts[0].name, "theirs");
	config.accounts[0].quota.percent = 100;
	strcpy(config.accounts[1].name, "mine");
	config.accounts[1].quota = (struct config_share){.percent = percent, .bytes = bytes};
	for (unsigned i = 0; i < N; i++)
		made[i].account = (char *)(i % 2 == 1 ? "mine" : i % 4 == 0 ? "theirs" : "*");
}

static void kept_for_ever_unless_told(void **state)
{
	keep_start(0);
	pass_s(1000000000);
	assert_int_equal(all_expired(), 0);
}

static void the_aged_go_oldest_first(void **state)
{
	keep_start(86400);
	made[3].ended_ns += 10 * CLOCK_NS_PER_S;
	made[3].aged_at_ns += 10 * CLOCK_NS_PER_S;
	pass_s(86399);
	assert_int_equal(all_expired(), 0);
	pass_s(1);
	quota_tick();
	assert_int_equal(n_expired, 1); /* one after the other */
	quota_tick();
	assert_int_equal(n_expired, 1);
	assert_int_equal(all_expired(), 7);
	for (unsigned i = 0, at = 1; i < 7; i++, at++) {
		while (at == 3 || at == 5)
			at++;
		assert_ptr_equal(expired[i], &made[at]);
		assert_string_equal(why[i], "removed by retention: older than 1 d");
	}
	assert_int_equal(removed.by[REMOVED_age].captures, 7);
	assert_int_equal(removed.by[REMOVED_age].bytes, 70);
	pass_s(9);
	assert_int_equal(all_expired(), 7);
	pass_s(1);
	assert_int_equal(all_expired(), 8);
	/* What runs does not get old, and what is gone is not removed again. */
	pass_s(1000000);
	assert_int_equal(all_expired(), 8);
	assert_int_equal(n_stopped + n_events, 0);
	assert_int_equal(
		removed.by[REMOVED_quota].captures + removed.by[REMOVED_account].captures, 0);
}

/* Who wants nothing removed at the quota may want it when it is old. */
static void age_counts_where_the_quota_refuses(void **state)
{
	config.storage.when_full = CONFIG_WHEN_FULL_REFUSE;
	keep_start(90);
	pass_s(91);
	assert_int_equal(all_expired(), 8);
	assert_string_equal(why[0], "removed by retention: older than 90 s");
}

static void it_is_looked_for_once_a_second(void **state)
{
	keep_start(10);
	pass_s(10);
	made[1].state = SESSION_converting;
	made[2].n_jobs = made[3].n_jobs = made[4].n_jobs = 1;
	for (unsigned i = 6; i < N; i++)
		made[i].n_jobs = 1;
	assert_int_equal(all_expired(), 0);
	made[1].state = SESSION_complete;
	assert_int_equal(all_expired(), 0);
	pass_s(1);
	assert_int_equal(all_expired(), 1);
}

static void a_clock_set_forward_makes_nothing_old(void **state)
{
	keep_start(86400);
	pass_s(3600);
	/* Not even before the step is seen, nor after the pause. */
	wall_ns += 365 * 86400 * CLOCK_NS_PER_S;
	assert_int_equal(all_expired(), 0);
	steps.n = 1;
	assert_int_equal(all_expired(), 0);
	pass_s(601);
	assert_int_equal(all_expired(), 0);
	pass_s(86400 - 3600 - 602);
	assert_int_equal(all_expired(), 0);
	pass_s(1);
	assert_int_equal(all_expired(), 8);
}

static void a_clock_set_back_makes_nothing_young_for_ever(void **state)
{
	keep_start(86400);
	step_s(-900);
	pass_s(86400);
	assert_int_equal(all_expired(), 0);
	pass_s(900);
	assert_int_equal(all_expired(), 8);
}

/* Captures of an earlier daemon have only the wall clock; when it is set there is time to set it right. */
static void nothing_gets_old_soon_after_a_step(void **state)
{
	keep_start(86400);
	for (unsigned i = 0; i < N; i++)
		made[i].aged_ns = 400 * 86400 * CLOCK_NS_PER_S; /* a wrong clock at the start */
	step_s(400 * 86400);
	assert_int_equal(all_expired(), 0);
	pass_s(599);
	assert_int_equal(all_expired(), 0);
	step_s(-400 * 86400);
	pass_s(1000);
	assert_int_equal(all_expired(), 0);
	step_s(400 * 86400);
	assert_int_equal(all_expired(), 0);
	pass_s(599);
	assert_int_equal(all_expired(), 0);
	pass_s(1);
	assert_int_equal(all_expired(), 8);
}

/* Nor soon after the start, where the pause is no longer than what is kept. */
static void nothing_gets_old_soon_after_the_start(void **state)
{
	for (unsigned i = 0; i < N; i++) {
		made[i].aged_ns = 900 * CLOCK_NS_PER_S;
		made[i].ended_ns -= 900 * CLOCK_NS_PER_S;
	}
	keep_start(30);
	pass_s(29);
	assert_int_equal(all_expired(), 0);
	pass_s(1);
	assert_int_equal(all_expired(), 8);
}

static void what_never_ended_is_as_old_as_its_making(void **state)
{
	keep_start(5);
	made[1].ended_ns = 0;
	made[1].created_ns = wall_ns + 2 * CLOCK_NS_PER_S;
	pass_s(6);
	assert_int_equal(all_expired(), 7);
	pass_s(1);
	assert_int_equal(all_expired(), 8);
	assert_ptr_equal(expired[7], &made[1]);
}

static void what_is_in_use_stays(void **state)
{
	struct session_waiter waiter = {0};

	keep_start(5);
	config.storage.quota_percent = 1;
	made[1].n_readers = 1;
	made[2].n_jobs = 1;
	made[3].state = SESSION_converting;
	made[4].state = SESSION_uploading;
	made[6].state = SESSION_stopping;
	made[7].deleters = &waiter;
	made[8].expire_failed = true;
	made[9].closing_again = true;
	pass_s(1000);
	assert_int_equal(all_expired(), 0);
	/* A job is soon over: room will be made. */
	assert_int_equal(quota_check("*", &err), 0);
	made[2].state = SESSION_starting;
	assert_int_equal(quota_check("*", &err), -ENOSPC);
	made[1].n_readers = 0;
	made[2].n_jobs = 0;
	made[2].state = SESSION_complete;
	assert_int_equal(all_expired(), 2);
}

/* A full disk ends no capture while a closed one is only waiting for its record to be written. */
static void a_full_disk_waits_for_a_job(void **state)
{
	config.storage.quota_percent = 100;
	for (unsigned i = 0; i < N; i++)
		made[i].n_jobs = 1;
	disk.free_bytes = 45;
	assert_int_equal(all_expired(), 0);
	assert_int_equal(n_stopped, 0);
	for (unsigned i = 0; i < N; i++)
		made[i].n_readers = 1;
	assert_int_equal(all_expired(), 0);
	assert_int_equal(n_stopped, 2);
}

static void what_is_not_uploaded_stays(void **state)
{
	keep_start(5);
	config.storage.quota_percent = 1;
	for (unsigned i = 0; i < N; i++)
		made[i].output = OUTPUT_S3;
	made[1].upload.state = UPLOAD_failed;
	made[2].upload.state = UPLOAD_verified;
	made[3].upload.state = UPLOAD_waiting;
	made[4].upload.state = UPLOAD_verified;
	made[4].upload.local_gone = true;
	pass_s(1000);
	assert_int_equal(all_expired(), 1);
	assert_ptr_equal(expired[0], &made[2]);
	assert_int_equal(removed.lost_captures + n_events + n_records, 0);
}

static void the_policy_may_give_up_what_is_not_uploaded(void **state)
{
	config.storage.delete_unuploaded = true;
	config.storage.quota_percent = 9;
	made[1].output = OUTPUT_S3;
	made[1].upload.state = UPLOAD_failed;
	made[1].ledger.written = 77;
	made[2].output = OUTPUT_S3;
	made[2].upload.state = UPLOAD_verified;
	assert_int_equal(all_expired(), 2);
	assert_ptr_equal(expired[0], &made[1]);
	assert_ptr_equal(expired[1], &made[2]);
	assert_int_equal(removed.lost_captures, 1);
	assert_int_equal(removed.lost_packets, 77);
	assert_int_equal(n_events, 1);
	assert_int_equal(n_records, 1);
	assert_int_equal(removed.by[REMOVED_quota].captures, 2);
	assert_string_equal(why[0], "removed by retention: the quota of 90 bytes was reached");
}

static void an_account_loses_its_own(void **state)
{
	accounts_start(0, 41);
	assert_int_equal(all_expired(), 1); /* of 50, ten of them running */
	assert_ptr_equal(expired[0], &made[1]);
	assert_string_equal(
		why[0], "removed by retention: account mine had reached its quota of 41 bytes");
	assert_int_equal(removed.by[REMOVED_account].captures, 1);
	assert_int_equal(removed.by[REMOVED_account].bytes, 10);
	config.accounts[1].quota.bytes = 25;
	assert_int_equal(all_expired(), 3);
	assert_ptr_equal(expired[1], &made[3]);
	assert_ptr_equal(expired[2], &made[7]);
	/* What runs stays, and where that is all there is nothing new begins. */
	config.accounts[1].quota.bytes = 10;
	assert_int_equal(quota_check("mine", &err), 0);
	assert_int_equal(all_expired(), 4);
	assert_ptr_equal(expired[3], &made[9]);
	assert_int_equal(quota_check("mine", &err), -ENOSPC);
	assert_non_null(
		strstr(err.text, "captures of account mine take 10 bytes, and its quota is 10 "
				 "([account mine] quota)"));
	assert_int_equal(quota_check("theirs", &err), 0);
	assert_int_equal(quota_check("*", &err), 0);
	assert_int_equal(quota_check("somebody", &err), 0);
	assert_int_equal(n_stopped, 0);
}

/* Whatever its record says. */
static void what_is_deleted_takes_nothing(void **state)
{
	accounts_start(0, 41);
	made[1].state = SESSION_deleted;
	assert_int_equal(quota_used_bytes(), 90);
	assert_int_equal(all_expired(), 0);
	assert_int_equal(quota_check("mine", &err), 0);
}

static void a_share_is_of_the_quota(void **state)
{
	config.storage.quota_percent = 0;
	config.storage.quota_bytes = 200;
	accounts_start(25, 0); /* 50 of 200, and it has 50 */
	assert_int_equal(all_expired(), 1);
	config.storage.quota_bytes = 1000;
	accounts_start(100, 0);
	assert_int_equal(all_expired(), 1);
}

/* When both are short, the room is made by who has too much. */
static void an_account_above_its_share_goes_before_others(void **state)
{
	config.storage.quota_percent = 8; /* 80: three must go to be below */
	accounts_start(0, 31);
	assert_int_equal(all_expired(), 3);
	assert_ptr_equal(expired[0], &made[1]);
	assert_ptr_equal(expired[1], &made[3]);
	assert_ptr_equal(expired[2], &made[2]); /* within its share now: the oldest of all */
	assert_int_equal(removed.by[REMOVED_account].captures, 2);
	assert_int_equal(removed.by[REMOVED_quota].captures, 1);
}

static void an_account_is_refused_where_nothing_is_removed(void **state)
{
	config.storage.when_full = CONFIG_WHEN_FULL_REFUSE;
	accounts_start(0, 50);
	assert_int_equal(all_expired(), 0);
	assert_int_equal(quota_check("mine", &err), -ENOSPC);
	assert_int_equal(err.code, ENOSPC);
	assert_non_null(strstr(err.text, "account mine take 50 bytes"));
	assert_int_equal(quota_check("theirs", &err), 0);
	config.accounts[1].quota.bytes = 51;
	assert_int_equal(quota_check("mine", &err), 0);
}

/* Nobody is told that it was removed, and it is not tried for ever. */
static void what_cannot_be_removed_is_not_counted(void **state)
{
	void (*done)(void *arg);

	config.storage.quota_percent = 10;
	quota_tick();
	assert_int_equal(n_expired, 1);
	expired[0]->expiring = false;
	expired[0]->expire_failed = true;
	done = expire_done;
	expire_done = NULL;
	done(expire_arg);
	assert_int_equal(n_expired, 2);
	assert_ptr_equal(expired[1], &made[2]);
	assert_int_equal(removed.by[REMOVED_quota].captures, 0);
	expire_finish();
	assert_int_equal(removed.by[REMOVED_quota].captures, 1);
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
		TEST(kept_for_ever_unless_told),
		TEST(the_aged_go_oldest_first),
		TEST(age_counts_where_the_quota_refuses),
		TEST(it_is_looked_for_once_a_second),
		TEST(a_clock_set_forward_makes_nothing_old),
		TEST(a_clock_set_back_makes_nothing_young_for_ever),
		TEST(nothing_gets_old_soon_after_a_step),
		TEST(nothing_gets_old_soon_after_the_start),
		TEST(what_never_ended_is_as_old_as_its_making),
		TEST(what_is_in_use_stays),
		TEST(a_full_disk_waits_for_a_job),
		TEST(what_is_not_uploaded_stays),
		TEST(the_policy_may_give_up_what_is_not_uploaded),
		TEST(an_account_loses_its_own),
		TEST(what_is_deleted_takes_nothing),
		TEST(a_share_is_of_the_quota),
		TEST(an_account_above_its_share_goes_before_others),
		TEST(an_account_is_refused_where_nothing_is_removed),
		TEST(what_cannot_be_removed_is_not_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
