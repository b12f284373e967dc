/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/quota.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "control/capture.h"
#include "control/job.h"
#include "control/session_state.h"
#include "control/spare.h"
#include "control/spare_fill.h"
#include "control/store.h"
#include "control/table.h"

#define FREE_PERCENT_MIN   5
#define FREE_PERCENT_AGAIN 6 /* before what was held goes on */

static struct {
	const struct config *config;
	struct store_usage usage; /* of the file system, a second old at most */
	struct store_usage fresh; /* the measuring job's */
	struct job job;
	bool measuring;
	bool expiring;
	struct job shrink;
	uint64_t shrink_bytes;
	bool shrinking;
	bool holds;
} quota;

static void measure_work(struct job *job);
static void measure_done(struct job *job);
static void spares_shrink(void);
static void shrink_work(struct job *job);
static void shrink_done(struct job *job);
static void room_make(void);
static bool room_short(void);
static bool disk_short(void);
static uint64_t disk_reserve_bytes(void);
static struct session *oldest_closed(void);
static void oldest_expired(void *arg);
static void running_end(void);

void quota_init(const struct config *config)
{
	quota.config = config;
	quota.holds = false;
	store_usage(&quota.usage);
}

void quota_tick(void)
{
	if (quota.measuring)
		return;
	quota.measuring = true;
	quota.job = (struct job){.run = measure_work, .done = measure_done};
	job_post(WORKER_STORAGE, &quota.job);
}

int quota_check(struct err *err)
{
	if (!room_short())
		return 0;
	if (spare_bytes() != 0) {
		spares_shrink();
		return 0;
	}
	if (quota.config->storage.when_full == CONFIG_WHEN_FULL_DELETE_OLDEST &&
		oldest_closed() != NULL) {
		room_make();
		return 0;
	}
	if (disk_short())
		return err_set(err, ENOSPC, NULL,
			"no storage: the disk has %llu bytes free, and %d %% of it (%llu) stay so",
			(unsigned long long)quota.usage.free_bytes, FREE_PERCENT_MIN,
			(unsigned long long)disk_reserve_bytes());
	return err_set(err, ENOSPC, NULL,
		"no storage: captures take %llu bytes, and the quota is %llu (storage.quota)",
		(unsigned long long)quota_used_bytes(), (unsigned long long)quota_limit_bytes());
}

bool quota_holds(void)
{
	return quota.holds;
}

uint64_t quota_size_bytes(void)
{
	return quota.usage.size_bytes;
}

uint64_t quota_free_bytes(void)
{
	return quota.usage.free_bytes;
}

uint64_t quota_used_bytes(void)
{
	uint64_t used_bytes = spare_bytes() + spare_fill_bytes();

	for (struct session *s = table_newest(); s != NULL; s = s->older) {
		if (s->run != NULL && s->run->capture != NULL)
			used_bytes += capture_allocated_bytes(s->run->capture);
		else
			used_bytes += session_local_bytes(s) + s->left_bytes;
	}
	return used_bytes;
}

uint64_t quota_limit_bytes(void)
{
	const unsigned percent = quota.config->storage.quota_percent;

	return percent != 0 ? quota.usage.size_bytes / 100 * percent
			    : quota.config->storage.quota_bytes;
}

static void measure_work(struct job *job)
{
	store_usage(&quota.fresh);
}

static void measure_done(struct job *job)
{
	quota.measuring = false;
	quota.usage = quota.fresh;
	if (quota.usage.free_bytes >= quota.usage.size_bytes / 100 * FREE_PERCENT_AGAIN)
		quota.holds = false;
	if (!room_short())
		return;
	if (spare_bytes() != 0)
		spares_shrink();
	else if (quota.config->storage.when_full == CONFIG_WHEN_FULL_DELETE_OLDEST &&
		 oldest_closed() != NULL)
		room_make();
	else if (disk_short() && !quota.expiring)
		running_end();
}

/* As much as is missing; what that does not make up for is seen when it is measured again. */
static void spares_shrink(void)
{
	const uint64_t used = quota_used_bytes(), limit = quota_limit_bytes();

	if (quota.shrinking)
		return;
	quota.shrinking = true;
	quota.shrink_bytes = used >= limit ? used - limit + 1 : 1;
	if (disk_short() && disk_reserve_bytes() - quota.usage.free_bytes > quota.shrink_bytes)
		quota.shrink_bytes = disk_reserve_bytes() - quota.usage.free_bytes;
	quota.shrink = (struct job){.run = shrink_work, .done = shrink_done};
	job_post(WORKER_STORAGE, &quota.shrink);
}

static void shrink_work(struct job *job)
{
	spare_shrink(quota.shrink_bytes);
}

static void shrink_done(struct job *job)
{
	quota.shrinking = false;
}

static void room_make(void)
{
	struct session *oldest = oldest_closed();

	if (quota.expiring || oldest == NULL || !room_short())
		return;
	quota.expiring = true;
	quota.usage.free_bytes += oldest->size_bytes + oldest->left_bytes;
	session_expire(oldest, oldest_expired, NULL);
}

static bool room_short(void)
{
	return quota_used_bytes() >= quota_limit_bytes() || disk_short();
}

static bool disk_short(void)
{
	return quota.usage.free_bytes < disk_reserve_bytes();
}

static uint64_t disk_reserve_bytes(void)
{
	return quota.usage.size_bytes / 100 * FREE_PERCENT_MIN;
}

static struct session *oldest_closed(void)
{
	for (struct session *s = table_oldest(); s != NULL; s = s->newer)
		if ((s->state == SESSION_complete || s->state == SESSION_failed) &&
			session_local_bytes(s) + s->left_bytes != 0 && session_uploaded(s) &&
			!s->closing_again && !s->expiring && !s->expire_failed &&
			s->deleters == NULL)
			return s;
	return NULL;
}

static void oldest_expired(void *arg)
{
	quota.expiring = false;
	room_make();
}

/* Nothing is left to remove and the disk is about to be full: end while the files can be closed. */
static void running_end(void)
{
	if (quota.config->storage.on_full == CONFIG_ON_FULL_WAIT) {
		quota.holds = true;
		return;
	}
	for (struct session *s = table_newest(); s != NULL; s = s->older)
		if (s->state == SESSION_running && session_output_is_file(s->output)) {
			session_message_set(
				s, "the disk is about to be full: less than 5 % of it is free");
			session_stop(s, END_disk_full, NULL, NULL);
		}
}
