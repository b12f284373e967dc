/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Worker threads: a queue and a thread (or two) each, and one list of finished jobs that wakes the control
 * thread through an eventfd. Queues are short and jobs are long, so a mutex per queue is enough.
 * Workers block all signals: those belong to the control thread.
 */
#include "control/job.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>

#include "config/log.h"
#include "control/answer.h"
#include "engine/clock.h"

#define DRAIN_POLL_MS 100

struct job_list {
	struct job *head;
	struct job **tail;
};

#define THREADS_MAX 2

struct worker_thread {
	const char *name;
	int nice;
	unsigned n_threads; /* 0 = 1 */
	unsigned n_running;
	pthread_t threads[THREADS_MAX];
	pthread_mutex_t lock; /* of everything below */
	pthread_cond_t wake;
	struct job_list queue;
	bool stop;
	uint64_t began_ns; /* monotonic, of the job that it runs or of a step; 0: none; atomic */
};

static struct worker_thread workers[WORKER_COUNT] = {
	[WORKER_STORAGE] = {.name = "storage"},
	[WORKER_DEVICE] = {.name = "device"},
	[WORKER_BULK] = {.name = "bulk", .nice = 10},
	[WORKER_REMOVE] = {.name = "remove", .nice = 10},
	[WORKER_READ] = {.name = "read", .nice = 10},
	[WORKER_UPLOAD] = {.name = "upload", .nice = 10, .n_threads = 2},
	[WORKER_BUCKET] = {.name = "bucket", .nice = 10},
};

static struct {
	pthread_mutex_t lock;
	struct job_list finished; /* under lock */
	unsigned pending;         /* control thread only */
	unsigned n_started;       /* control thread only */
	int fd;
	struct event *event;
} jobs = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static void list_init(struct job_list *list);
static void list_append(struct job_list *list, struct job *job);
static int worker_start(struct worker_thread *worker);
static void worker_stop(struct worker_thread *worker);
static void finished_deliver(void);
static void finished_event(evutil_socket_t fd, short what, void *arg);

int job_workers_start(struct event_base *base)
{
	int rc = -ENOMEM;

	list_init(&jobs.finished);
	jobs.pending = 0;
	jobs.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (jobs.fd < 0)
		return -errno;
	jobs.event = event_new(base, jobs.fd, EV_READ | EV_PERSIST, finished_event, NULL);
	if (jobs.event == NULL || event_add(jobs.event, NULL) != 0)
		goto out;
	for (jobs.n_started = 0; jobs.n_started < WORKER_COUNT; jobs.n_started++) {
		rc = worker_start(&workers[jobs.n_started]);
		if (rc != 0)
			goto out;
	}
	return 0;
out:
	job_workers_stop();
	return rc;
}

bool job_drain(uint64_t deadline_ns)
{
	struct pollfd poll_fd = {.fd = jobs.fd, .events = POLLIN};

	/* A done callback may post the next step of what it is about; that is run to its end, too.
	 */
	while (jobs.pending != 0) {
		if (clock_monotonic_ns() >= deadline_ns)
			return false;
		if (poll(&poll_fd, 1, DRAIN_POLL_MS) > 0)
			finished_deliver();
	}
	return true;
}

void job_workers_stop(void)
{
	job_drain(UINT64_MAX);
	while (jobs.n_started > 0)
		worker_stop(&workers[--jobs.n_started]);
	if (jobs.event != NULL)
		event_free(jobs.event);
	jobs.event = NULL;
	if (jobs.fd >= 0)
		close(jobs.fd);
	jobs.fd = -1;
}

void job_post(enum worker worker, struct job *job)
{
	struct worker_thread *to = &workers[worker];

	assert(worker < jobs.n_started);
	jobs.pending++;
	pthread_mutex_lock(&to->lock);
	list_append(&to->queue, job);
	pthread_cond_signal(&to->wake);
	pthread_mutex_unlock(&to->lock);
}

uint64_t job_running_ns(enum worker worker)
{
	const uint64_t began_ns = __atomic_load_n(&workers[worker].began_ns, __ATOMIC_RELAXED);

	return began_ns != 0 ? clock_monotonic_ns() - began_ns : 0;
}

unsigned job_pending(void)
{
	return jobs.pending;
}

static void list_init(struct job_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static void list_append(struct job_list *list, struct job *job)
{
	job->next = NULL;
	*list->tail = job;
	list->tail = &job->next;
}

static struct job *list_take(struct job_list *list)
{
	struct job *job = list->head;

	if (job != NULL) {
		list->head = job->next;
		if (list->head == NULL)
			list->tail = &list->head;
	}
	return job;
}

/* The next job, waiting for it; NULL: the worker is to end. */
static struct job *worker_wait(struct worker_thread *worker)
{
	struct job *job;

	pthread_mutex_lock(&worker->lock);
	while ((job = list_take(&worker->queue)) == NULL && !worker->stop)
		pthread_cond_wait(&worker->wake, &worker->lock);
	pthread_mutex_unlock(&worker->lock);
	return job;
}

static void job_finish(struct job *job)
{
	uint64_t one = 1;

	pthread_mutex_lock(&jobs.lock);
	list_append(&jobs.finished, job);
	pthread_mutex_unlock(&jobs.lock);
	/* Fails only when 2^64 - 2 wake-ups are pending already. */
	if (write(jobs.fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

static void *worker_main(void *arg)
{
	struct worker_thread *worker = arg;
	struct job *job;

	pthread_setname_np(pthread_self(), worker->name);
	answer_watch(&worker->began_ns);
	if (worker->nice != 0 && setpriority(PRIO_PROCESS, gettid(), worker->nice) != 0)
		log_warning("cannot lower the priority of thread %s: %s", worker->name,
			strerror(errno));
	while ((job = worker_wait(worker)) != NULL) {
		__atomic_store_n(&worker->began_ns, clock_monotonic_ns(), __ATOMIC_RELAXED);
		fault_work(job->work);
		job->run(job);
		__atomic_store_n(&worker->began_ns, 0, __ATOMIC_RELAXED);
		job_finish(job);
	}
	return NULL;
}

static int worker_start(struct worker_thread *worker)
{
	const unsigned n_threads = worker->n_threads != 0 ? worker->n_threads : 1;
	sigset_t all, before;
	int rc = 0;

	list_init(&worker->queue);
	worker->stop = false;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (worker->n_running = 0; worker->n_running < n_threads && rc == 0; worker->n_running++)
		rc = pthread_create(&worker->threads[worker->n_running], NULL, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		worker->n_running--;
		worker_stop(worker);
	}
	return -rc;
}

static void worker_stop(struct worker_thread *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->stop = true;
	pthread_cond_broadcast(&worker->wake);
	pthread_mutex_unlock(&worker->lock);
	while (worker->n_running > 0)
		pthread_join(worker->threads[--worker->n_running], NULL);
	pthread_cond_destroy(&worker->wake);
	pthread_mutex_destroy(&worker->lock);
}

/* Take the whole list first: a done callback may post, and what finishes meanwhile comes next time.
 */
static void finished_deliver(void)
{
	struct job_list list;
	struct job *job;
	uint64_t count;

	if (read(jobs.fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&jobs.lock);
	list.head = jobs.finished.head;
	list_init(&jobs.finished);
	pthread_mutex_unlock(&jobs.lock);
	while ((job = list.head) != NULL) {
		list.head = job->next; /* done may free the job or post it again */
		jobs.pending--;
		if (job->done != NULL)
			job->done(job);
	}
}

static void finished_event(evutil_socket_t fd, short what, void *arg)
{
	finished_deliver();
}
