/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/quota.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config/log.h"
#include "control/capture.h"
#include "control/job.h"
#include "control/session_state.h"
#include "control/spare.h"
#include "control/spare_fill.h"
#include "control/store.h"
#include "control/table.h"
#include "control/totals.h"
#include "engine/clock.h"

#define FREE_PERCENT_MIN   5
#define FREE_PERCENT_AGAIN 6 /* before what was held goes on */

#define AGE_LOOK_NS  CLOCK_NS_PER_S         /* between two looks for what is too old */
#define AGE_PAUSE_NS (600 * CLOCK_NS_PER_S) /* the wall clock is not believed for so long */

/* Who goes next, and why. */
struct choice {
	struct session *session;
	enum totals_reason reason;
	const struct config_account *account; /* whose share is exceeded */
};

static struct {
	const struct config *config;
	struct store_usage usage; /* of the file system, a second old at most */
	struct store_usage fresh; /* the measuring job's */
	struct job job;
	bool measuring;
	bool expiring;
	enum totals_reason reason; /* of the one that is expiring */
	uint64_t expiring_bytes;
	struct clock_steps steps;
	uint64_t age_pause_ns; /* monotonic: the end of it */
	uint64_t age_look_ns;  /* monotonic: the next look */
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
static bool deletes_oldest(void);
static void expire_next(void);
static bool expire_choose(struct choice *choice);
static void expire_text(const struct choice *choice, char *text, size_t size);
static void expired(void *arg);
static void lost_tell(struct session *session);
static bool share_exceeded(struct choice *choice);
static int share_check(const char *account, struct err *err);
static void accounts_measure(uint64_t *used_bytes);
static unsigned account_index(const char *name);
static bool account_limited(const struct config_account *account);
static uint64_t account_limit_bytes(const struct config_account *account);
static uint64_t session_used_bytes(const struct session *session);
static struct session *oldest_aged(void);
static void age_pause(void);
static uint64_t keep_ns(void);
static bool room_short(void);
static bool disk_short(void);
static uint64_t disk_reserve_bytes(void);
static bool removable(const struct session *session);
static bool belongs(const struct session *session, const char *account);
static struct session *oldest_closed(const char *account);
static bool some_closed(const char *account);
static void running_end(void);

void quota_init(const struct config *config)
{
	quota.config = config;
	quota.holds = false;
	store_usage(&quota.usage);
	quota.age_look_ns = 0;
	clock_steps(&quota.steps);
	age_pause();
}

void quota_tick(void)
{
	if (quota.measuring)
		return;
	quota.measuring = true;
	quota.job = (struct job){.run = measure_work, .done = measure_done};
	job_post(WORKER_REMOVE, &quota.job);
}

int quota_check(const char *account, struct err *err)
{
	if (share_check(account, err) != 0)
		return -ENOSPC;
	if (!room_short())
		return 0;
	if (spare_bytes() != 0) {
		spares_shrink();
		return 0;
	}
	if (deletes_oldest() && some_closed(NULL)) {
		expire_next();
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

bool quota_age_paused(void)
{
	return keep_ns() != 0 && clock_monotonic_ns() < quota.age_pause_ns;
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

	for (struct session *s = table_newest(); s != NULL; s = s->older)
		used_bytes += session_used_bytes(s);
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
	if (room_short() && spare_bytes() != 0) {
		spares_shrink();
		return;
	}
	expire_next();
	if (disk_short() && !quota.expiring && !(deletes_oldest() && some_closed(NULL)))
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

static bool deletes_oldest(void)
{
	return quota.config->storage.when_full == CONFIG_WHEN_FULL_DELETE_OLDEST;
}

static void expire_next(void)
{
	struct choice choice = {0};
	char why[160];

	if (quota.expiring || !expire_choose(&choice))
		return;
	quota.expiring = true;
	quota.reason = choice.reason;
	quota.expiring_bytes = session_used_bytes(choice.session);
	expire_text(&choice, why, sizeof(why));
	quota.usage.free_bytes += quota.expiring_bytes;
	session_expire(choice.session, why, expired, choice.session);
}

/* Room first, and where an account has more than its share, the room is its own. */
static bool expire_choose(struct choice *choice)
{
	if (deletes_oldest() && share_exceeded(choice))
		return true;
	if (deletes_oldest() && room_short() && spare_bytes() == 0) {
		choice->reason = REMOVED_quota;
		choice->session = oldest_closed(NULL);
	}
	if (choice->session == NULL) {
		choice->reason = REMOVED_age;
		choice->session = oldest_aged();
	}
	return choice->session != NULL;
}

static void expire_text(const struct choice *choice, char *text, size_t size)
{
	static const struct {
		uint64_t ms;
		const char *name;
	} units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "min"}, {1000, "s"}, {1, "ms"}};
	const uint64_t keep_ms = quota.config->storage.keep_ms;
	unsigned u = 0;

	if (choice->reason == REMOVED_age) {
		while (keep_ms % units[u].ms != 0)
			u++;
		snprintf(text, size, "removed by retention: older than %" PRIu64 " %s",
			keep_ms / units[u].ms, units[u].name);
	} else if (choice->reason == REMOVED_account) {
		snprintf(text, size,
			"removed by retention: account %s had reached its quota of %" PRIu64
			" bytes",
			choice->account->name, account_limit_bytes(choice->account));
	} else if (disk_short()) {
		snprintf(text, size, "removed by retention: less than %d %% of the disk were free",
			FREE_PERCENT_MIN);
	} else {
		snprintf(text, size,
			"removed by retention: the quota of %" PRIu64 " bytes was reached",
			quota_limit_bytes());
	}
}

static void expired(void *arg)
{
	struct session *session = arg;

	quota.expiring = false;
	if (session->state == SESSION_deleted) {
		totals_removed(quota.reason, quota.expiring_bytes);
		log_info("retention removed capture %s: %s", session_id_text(session),
			session->message != NULL ? session->message : "");
		if (!session_uploaded(session))
			lost_tell(session);
	}
	expire_next();
}

/* It was to be uploaded, and never will be. */
static void lost_tell(struct session *session)
{
	totals_lost(session->ledger.written);
	log_warning("capture %s was removed by retention and is in no bucket: %" PRIu64
		    " packets are lost",
		session_id_text(session), session->ledger.written);
	session_event_add(session,
		"removed by retention before it was uploaded: %" PRIu64 " packets are lost",
		session->ledger.written);
	session_job_record(session, NULL, NULL);
}

/* The oldest of an account that has more than its share. */
static bool share_exceeded(struct choice *choice)
{
	uint64_t used_bytes[CONFIG_ACCOUNTS_MAX] = {0};
	bool measured = false;

	for (unsigned i = 0; i < quota.config->n_accounts; i++) {
		const struct config_account *account = &quota.config->accounts[i];

		if (!account_limited(account))
			continue;
		if (!measured)
			accounts_measure(used_bytes);
		measured = true;
		if (used_bytes[i] < account_limit_bytes(account))
			continue;
		choice->session = oldest_closed(account->name);
		choice->reason = REMOVED_account;
		choice->account = account;
		if (choice->session != NULL)
			return true;
	}
	return false;
}

static int share_check(const char *account, struct err *err)
{
	const unsigned i = account_index(account);
	uint64_t used_bytes[CONFIG_ACCOUNTS_MAX], limit_bytes;

	if (i == quota.config->n_accounts || !account_limited(&quota.config->accounts[i]))
		return 0;
	accounts_measure(used_bytes);
	limit_bytes = account_limit_bytes(&quota.config->accounts[i]);
	if (used_bytes[i] < limit_bytes)
		return 0;
	if (deletes_oldest() && some_closed(account)) {
		expire_next();
		return 0;
	}
	return err_set(err, ENOSPC, NULL,
		"no storage: captures of account %s take %" PRIu64
		" bytes, and its quota is %" PRIu64 " ([account %s] quota)",
		account, used_bytes[i], limit_bytes, account);
}

/* What each takes, in one go over all captures. */
static void accounts_measure(uint64_t *used_bytes)
{
	memset(used_bytes, 0, CONFIG_ACCOUNTS_MAX * sizeof(*used_bytes));
	for (const struct session *s = table_newest(); s != NULL; s = s->older) {
		const uint64_t bytes = session_used_bytes(s);
		const unsigned i = bytes != 0 && s->account != NULL ? account_index(s->account)
								    : quota.config->n_accounts;

		if (i < quota.config->n_accounts)
			used_bytes[i] += bytes;
	}
}

/* n_accounts: it is none of the configuration's, as "*". */
static unsigned account_index(const char *name)
{
	unsigned i = 0;

	while (i < quota.config->n_accounts && strcmp(quota.config->accounts[i].name, name) != 0)
		i++;
	return i;
}

/* Nobody has more than all of it. */
static bool account_limited(const struct config_account *account)
{
	return account->quota.percent != 100;
}

static uint64_t account_limit_bytes(const struct config_account *account)
{
	return account->quota.percent != 0 ? quota_limit_bytes() / 100 * account->quota.percent
					   : account->quota.bytes;
}

static uint64_t session_used_bytes(const struct session *session)
{
	if (session->run != NULL && session->run->capture != NULL)
		return capture_allocated_bytes(session->run->capture);
	if (session->state == SESSION_deleted) /* records of some tell how large it was */
		return 0;
	return session_local_bytes(session) + session->left_bytes;
}

/*
 * By the wall clock, and by the monotonic one, whichever says less: so a wall clock that is set forward
 * makes nothing old, and one that was wrong when captures were loaded has a while to be put right.
 */
static struct session *oldest_aged(void)
{
	const uint64_t now_ns = clock_monotonic_ns(), wall_ns = clock_wall_ns();
	struct clock_steps steps;

	clock_steps(&steps);
	if (steps.n != quota.steps.n)
		age_pause();
	quota.steps = steps;
	if (keep_ns() == 0 || now_ns < quota.age_pause_ns || now_ns < quota.age_look_ns)
		return NULL;
	for (struct session *s = table_oldest(); s != NULL; s = s->newer) {
		const uint64_t ended_ns = session_ended_ns(s);

		if (removable(s) && s->n_jobs == 0 && wall_ns > ended_ns &&
			wall_ns - ended_ns >= keep_ns() &&
			now_ns - s->aged_at_ns + s->aged_ns >= keep_ns())
			return s;
	}
	quota.age_look_ns = now_ns + AGE_LOOK_NS;
	return NULL;
}

static void age_pause(void)
{
	quota.age_pause_ns =
		clock_monotonic_ns() + (keep_ns() < AGE_PAUSE_NS ? keep_ns() : AGE_PAUSE_NS);
}

static uint64_t keep_ns(void)
{
	return quota.config->storage.keep_ms * 1000000;
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

/* Closed, not in use for long, and not still to be uploaded unless that was given up. Who reads it keeps
 * the space, even of a file that is gone. */
static bool removable(const struct session *session)
{
	return (session->state == SESSION_complete || session->state == SESSION_failed) &&
	       session_used_bytes(session) != 0 && !session->closing_again && !session->expiring &&
	       !session->expire_failed && session->deleters == NULL && session->n_readers == 0 &&
	       (session_uploaded(session) || quota.config->storage.delete_unuploaded);
}

static bool belongs(const struct session *session, const char *account)
{
	return account == NULL ||
	       (session->account != NULL && strcmp(session->account, account) == 0);
}

/* Which can go now, no job being at work on it. account NULL: of all. */
static struct session *oldest_closed(const char *account)
{
	for (struct session *s = table_oldest(); s != NULL; s = s->newer)
		if (removable(s) && s->n_jobs == 0 && belongs(s, account))
			return s;
	return NULL;
}

/* Now or in a moment. */
static bool some_closed(const char *account)
{
	for (const struct session *s = table_oldest(); s != NULL; s = s->newer)
		if (removable(s) && belongs(s, account))
			return true;
	return false;
}

/* Nothing is left to remove and the disk is about to be full: end while the files can be closed. */
static void running_end(void)
{
	if (quota.config->storage.on_full == CONFIG_ON_FULL_WAIT) {
		quota.holds = true;
		return;
	}
	for (struct session *s = table_active(); s != NULL; s = s->active_next)
		if (s->state == SESSION_running && session_output_is_file(s->output)) {
			session_message_set(
				s, "the disk is about to be full: less than 5 % of it is free");
			session_stop(s, END_disk_full, NULL, NULL);
		}
}
