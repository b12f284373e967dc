/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Work that may block, done by a thread that is not the control thread. A job is run once on its
 * worker and comes back: done is called on the control thread, in the event loop. The caller embeds
 * the job in what it is about and owns it all the time; between job_post and done only run may touch
 * what run touches.
 */
#ifndef CONTROL_JOB_H
#define CONTROL_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/fault.h"

struct event_base;

struct job {
	void (*run)(struct job *job);  /* worker thread; may block */
	void (*done)(struct job *job); /* control thread; may free the job; NULL: nothing */
	enum fault_work work;          /* what it is, for fault rules */
	struct job *next;              /* job.c's own */
};

enum worker {
	WORKER_STORAGE, /* files of running captures: create, extend, sync, close, rename, records */
	WORKER_DEVICE,  /* rte_eth_* control, statistics, link watching */
	WORKER_BULK,    /* closed files: merge, recovery; long jobs, one after another */
	WORKER_REMOVE, /* how much room there is, deletion, retention: waits for no running capture's sync */
	WORKER_READ,   /* download reads: short jobs */
	WORKER_UPLOAD, /* what talks to buckets: two threads, so that a slow one does not stop all */
	WORKER_BUCKET, /* small requests to buckets that somebody waits for */
	WORKER_COUNT,
};

/* Control thread. Start the worker threads; done callbacks come through base. 0 or -errno. */
int job_workers_start(struct event_base *base);
/* Control thread. Runs what is queued to its end, delivers its done callbacks. False: that is not over at
 * deadline_ns (monotonic), something hangs. */
bool job_drain(uint64_t deadline_ns);
/* Control thread. The same for as long as it takes, then joins the threads. */
void job_workers_stop(void);

/* Control thread (or a done callback). First come, first served per worker. */
void job_post(enum worker worker, struct job *job);

/* Control thread: how long the worker has been at its job, or waits for the disk in it (control/answer.h); 0: it
 * runs none. */
uint64_t job_running_ns(enum worker worker);

/* Jobs posted whose done has not been called yet, over all workers. Control thread. */
unsigned job_pending(void);

#endif
