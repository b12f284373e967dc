/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/job: order per worker, who runs what, workers that do not wait for each other, stopping
 * with work queued and with work that makes work.
 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "control/job.h"

#define N_JOBS 1000

struct work {
	struct job job;
	unsigned number;
	pid_t ran_on;
	int nice;
	char name[16];
	sem_t *wait_for;
	struct work *then;
};

static struct event_base *base;
static unsigned done_order[2 * N_JOBS];
static unsigned n_done;
static unsigned n_wanted;
static pid_t control;

static void work_run(struct job *job)
{
	struct work *work = (struct work *)job;

	if (work->wait_for != NULL)
		sem_wait(work->wait_for);
	work->ran_on = gettid();
	work->nice = getpriority(PRIO_PROCESS, gettid());
	pthread_getname_np(pthread_self(), work->name, sizeof(work->name));
}

static void work_done(struct job *job)
{
	struct work *work = (struct work *)job;

	assert_int_equal(gettid(), control);
	assert_int_not_equal(work->ran_on, control);
	done_order[n_done++] = work->number;
	if (work->then != NULL)
		job_post(WORKER_BULK, &work->then->job);
	if (n_done == n_wanted)
		event_base_loopbreak(base);
}

static int start(void **state)
{
	control = gettid();
	n_done = 0;
	n_wanted = 0;
	base = event_base_new();
	return base == NULL || job_workers_start(base) != 0;
}

static int stop(void **state)
{
	event_base_free(base);
	return 0;
}

static void works_init(struct work *works, unsigned n)
{
	memset(works, 0, n * sizeof(works[0]));
	for (unsigned i = 0; i < n; i++) {
		works[i].job = (struct job){.run = work_run, .done = work_done};
		works[i].number = i;
	}
}

static void jobs_come_back_in_order(void **state)
{
	static struct work works[N_JOBS];

	works_init(works, N_JOBS);
	n_wanted = N_JOBS;
	for (unsigned i = 0; i < N_JOBS; i++)
		job_post(WORKER_STORAGE, &works[i].job);
	assert_int_equal(job_pending(), N_JOBS);
	event_base_dispatch(base);
	assert_int_equal(n_done, N_JOBS);
	assert_int_equal(job_pending(), 0);
	for (unsigned i = 0; i < N_JOBS; i++) {
		assert_int_equal(done_order[i], i);
		assert_int_equal(works[i].ran_on, works[0].ran_on);
	}
	job_workers_stop();
}

static void each_worker_has_its_thread_and_priority(void **state)
{
	static const struct {
		const char *name;
		int nice;
	} want[] = {{"storage", 0}, {"device", 0}, {"bulk", 10}, {"remove", 10}, {"read", 10},
		{"upload", 10}, {"bucket", 10}};
	int before = getpriority(PRIO_PROCESS, 0);
	struct work works[WORKER_COUNT];

	works_init(works, WORKER_COUNT);
	n_wanted = WORKER_COUNT;
	for (unsigned i = 0; i < WORKER_COUNT; i++)
		job_post(i, &works[i].job);
	event_base_dispatch(base);
	for (unsigned i = 0; i < WORKER_COUNT; i++) {
		assert_string_equal(works[i].name, want[i].name);
		assert_int_equal(works[i].nice, want[i].nice > before ? want[i].nice : before);
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(works[i].ran_on, works[k].ran_on);
	}
	job_workers_stop();
}

static void a_stuck_worker_stops_no_other(void **state)
{
	struct work works[2];
	sem_t sem;

	sem_init(&sem, 0, 0);
	works_init(works, 2);
	works[0].wait_for = &sem;
	n_wanted = 1;
	job_post(WORKER_BULK, &works[0].job);
	job_post(WORKER_STORAGE, &works[1].job);
	event_base_dispatch(base);
	assert_int_equal(n_done, 1);
	assert_int_equal(done_order[0], 1);
	assert_int_equal(job_pending(), 1);
	sem_post(&sem);
	job_workers_stop();
	assert_int_equal(n_done, 2);
}

static void stopping_runs_what_is_queued_and_what_follows(void **state)
{
	static struct work works[100], follow[100];

	works_init(works, 100);
	works_init(follow, 100);
	for (unsigned i = 0; i < 100; i++) {
		works[i].then = &follow[i];
		follow[i].number = 100 + i;
		job_post(i % 2 ? WORKER_STORAGE : WORKER_READ, &works[i].job);
	}
	job_workers_stop();
	assert_int_equal(n_done, 200);
	assert_int_equal(job_pending(), 0);
}

static void a_job_without_done_is_fine(void **state)
{
	struct work work;

	works_init(&work, 1);
	work.job.done = NULL;
	job_post(WORKER_DEVICE, &work.job);
	job_workers_stop();
	assert_string_equal(work.name, "device");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(jobs_come_back_in_order, start, stop),
		cmocka_unit_test_setup_teardown(
			each_worker_has_its_thread_and_priority, start, stop),
		cmocka_unit_test_setup_teardown(a_stuck_worker_stops_no_other, start, stop),
		cmocka_unit_test_setup_teardown(
			stopping_runs_what_is_queued_and_what_follows, start, stop),
		cmocka_unit_test_setup_teardown(a_job_without_done_is_fine, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
