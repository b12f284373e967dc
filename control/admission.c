/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/admission.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config/log.h"
#include "control/bottleneck.h"
#include "control/ceiling.h"
#include "control/load.h"
#include "control/publish.h"
#include "control/session_state.h"
#include "control/table.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/pcapng.h"

#define PACKET_BYTES    512 /* assumed where nothing is said of packets */
#define OVER_SECONDS    3   /* of overload, before anything is done about it */
#define STEP_SECONDS    2   /* between two steps down: the last one must show first */
#define BACK_SECONDS    10  /* with room enough, before a step back */
#define BACK_PERCENT    80  /* of the limit, after the step back: room enough */
#define SAMPLING_LEVELS 10

static const uint32_t snaplens[] = {1024, 512, 256, 128, 64};
#define SNAPLEN_LEVELS (sizeof(snaplens) / sizeof(snaplens[0]))

static struct {
	const struct config *config;
	unsigned over_s; /* running captures have brought too much for so long */
	unsigned wait_s; /* until the next step down */
	unsigned room_s; /* there has been room for a step back for so long */
	uint64_t since_ns;
	double seen_bytes; /* what the disk took when it was too slow, while somebody is degraded for it */
} state;

static void step_down(void);
static void step_back(void);
static bool snaplen_lower(struct session_degraded *kept, unsigned level);
static bool sampling_lower(struct session_degraded *kept, unsigned level);
static uint64_t ceiling_bytes(bool sustained);
static double load_sum(bool measured);
static double session_bytes(const struct session *session, bool measured);
static bool session_writes(const struct session *session);
static void session_measure(struct session *session, uint64_t now_ns);
static bool overloaded(void);
static void overload_tell(void);
static void overload_end(void);
static struct session *heaviest(void);
static struct session *most_degraded(double limit_bytes);
static void session_keep(struct session *session, const struct session_degraded *kept);
static void session_kept_text(const struct session *session, char *text, size_t size);
static struct session_degraded session_asked(const struct session *session);

void admission_init(const struct config *config)
{
	memset(&state, 0, sizeof(state));
	state.config = config;
}

int admission_check(const struct session_spec *spec, struct err *err)
{
	const double ceiling = (double)ceiling_bytes(true), load = load_sum(false);
	const double left = ceiling > load ? ceiling - load : 0;
	const double want =
		admission_bytes((double)spec->expected_bytes, (double)spec->expected_packets,
			spec->snaplen_bytes, spec->sample_mode, spec->sample_n);

	if (state.config->capture.overload != CONFIG_OVERLOAD_REFUSE || ceiling == 0 ||
		!session_output_is_file(spec->output))
		return 0;
	if (want > left)
		return err_set(err, EAGAIN,
			spec->expected_bytes != 0 ? "expected.bytes_per_second"
						  : "expected.packets_per_second",
			"%llu would write %.1f MB/s; the disk takes %.1f MB/s, other captures "
			"bring %.1f, and %.1f are left (capture.overload = refuse)",
			(unsigned long long)(spec->expected_bytes != 0 ? spec->expected_bytes
								       : spec->expected_packets),
			want / 1e6, ceiling / 1e6, load / 1e6, left / 1e6);
	if (left == 0)
		return err_set(err, EAGAIN, "output",
			"the disk takes %.1f MB/s and captures bring %.1f: nothing is left for "
			"another (capture.overload = refuse)",
			ceiling / 1e6, load / 1e6);
	return 0;
}

void admission_begin(struct session *session)
{
	const double ceiling = (double)ceiling_bytes(true);
	const double others = load_sum(false) - session_bytes(session, false);
	const struct session_degraded asked = session_asked(session);
	struct session_degraded kept = asked;
	char text[96];

	if (ceiling == 0 || !session_writes(session) || session_bytes(session, false) == 0 ||
		others + session_bytes(session, false) <= ceiling)
		return;
	session_event_add(session,
		"it expects to write %.1f MB/s, and %.1f of the disk's %.1f are left",
		session_bytes(session, false) / 1e6,
		others < ceiling ? (ceiling - others) / 1e6 : 0, ceiling / 1e6);
	if (state.config->capture.overload != CONFIG_OVERLOAD_DEGRADE)
		return;
	while (others + session_bytes(session, false) > ceiling &&
		admission_level(state.config->capture.degrade, kept.level + 1, &asked, &kept))
		session->degraded = kept;
	if (session->degraded.level == 0)
		return;
	session->degraded.since_ns = clock_wall_ns();
	/* The file's header will say this snaplen: no packet in it may be longer. */
	if (state.config->capture.degrade == CONFIG_DEGRADE_SNAPLEN)
		session->run->level_min = session->degraded.level;
	session_kept_text(session, text, sizeof(text));
	session_event_add(session, "degraded from its start: %s", text);
	log_info("capture degraded id=%s %s", session_id_text(session), text);
}

void admission_tick(void)
{
	const uint64_t now_ns = clock_monotonic_ns();

	for (struct session *s = table_active(); s != NULL; s = s->active_next)
		session_measure(s, now_ns);
	if (state.wait_s > 0)
		state.wait_s--;
	if (overloaded()) {
		state.room_s = 0;
		if (++state.over_s == OVER_SECONDS)
			overload_tell();
		if (state.over_s >= OVER_SECONDS && state.wait_s == 0)
			step_down();
	} else {
		if (state.over_s >= OVER_SECONDS)
			overload_end();
		state.over_s = 0;
		step_back();
	}
}

void admission_status(struct admission_status *status)
{
	const double load = load_sum(false);

	*status = (struct admission_status){
		.overload = state.config->capture.overload,
		.ceiling_bytes = ceiling_bytes(true),
		.load_bytes = (uint64_t)load,
		.overloaded_since_ns = state.since_ns,
	};
	if (status->ceiling_bytes > status->load_bytes)
		status->left_bytes = status->ceiling_bytes - status->load_bytes;
	for (const struct session *s = table_active(); s != NULL; s = s->active_next)
		status->n_degraded += s->run != NULL && s->degraded.level != 0;
}

double admission_bytes(double bytes, double packets, uint64_t snaplen_bytes,
	enum sample_mode sample_mode, uint64_t sample_n)
{
	double len;

	if (packets == 0)
		packets = bytes / PACKET_BYTES;
	if (packets == 0)
		return 0;
	len = bytes == 0 ? PACKET_BYTES : bytes / packets;
	if (snaplen_bytes != 0 && len > (double)snaplen_bytes)
		len = (double)snaplen_bytes;
	if (sample_mode != SAMPLE_NONE && sample_n > 1)
		packets /= (double)sample_n;
	return packets * (len + PCAPNG_EPB_HEAD + PCAPNG_EPB_TAIL);
}

bool admission_level(enum config_degrade degrade, unsigned level,
	const struct session_degraded *asked, struct session_degraded *kept)
{
	struct session_degraded next = *asked;

	next.level = level;
	next.since_ns = kept->since_ns;
	if (level == 0 || !(degrade == CONFIG_DEGRADE_SNAPLEN ? snaplen_lower(&next, level)
							      : sampling_lower(&next, level)))
		return false;
	*kept = next;
	return true;
}

/* The level-th of those that are less than what it asked for. */
static bool snaplen_lower(struct session_degraded *kept, unsigned level)
{
	for (unsigned i = 0; i < SNAPLEN_LEVELS; i++)
		if (snaplens[i] < kept->snaplen_bytes && --level == 0) {
			kept->snaplen_bytes = snaplens[i];
			return true;
		}
	return false;
}

static bool sampling_lower(struct session_degraded *kept, unsigned level)
{
	if (level > SAMPLING_LEVELS || kept->sample_n << level > UINT32_MAX)
		return false;
	kept->sample_n <<= level;
	if (kept->sample_mode == SAMPLE_NONE)
		kept->sample_mode = SAMPLE_RANDOM;
	return true;
}

/* Whoever brings most keeps less; levels that its packets are too short for are passed over. */
static void step_down(void)
{
	struct session *session = heaviest();
	struct session_degraded asked, kept;

	if (session == NULL || state.config->capture.overload != CONFIG_OVERLOAD_DEGRADE)
		return;
	asked = session_asked(session);
	kept = session->degraded;
	while (admission_level(state.config->capture.degrade, kept.level + 1, &asked, &kept) &&
		state.config->capture.degrade == CONFIG_DEGRADE_SNAPLEN &&
		(double)kept.snaplen_bytes >= session->run->rate.packet_bytes)
		;
	session_keep(session, &kept);
	state.seen_bytes = load_get()->disk.bytes;
	state.wait_s = STEP_SECONDS;
}

static void step_back(void)
{
	const double ceiling = (double)ceiling_bytes(false);
	struct session_degraded asked, kept;
	struct session *session;
	double limit = state.seen_bytes;

	if (ceiling != 0 && (limit == 0 || ceiling < limit))
		limit = ceiling;
	session = most_degraded(limit);
	state.room_s = session != NULL ? state.room_s + 1 : 0;
	if (state.room_s < BACK_SECONDS)
		return;
	state.room_s = 0;
	kept = asked = session_asked(session);
	admission_level(state.config->capture.degrade, session->degraded.level - 1, &asked, &kept);
	session_keep(session, &kept);
}

/* What captures may bring. sustained: on new space, else at best (a spare is faster while it lasts). */
static uint64_t ceiling_bytes(bool sustained)
{
	const struct ceiling *ceiling = ceiling_get();

	if (state.config->capture.ceiling_bytes != 0)
		return state.config->capture.ceiling_bytes;
	if (ceiling == NULL)
		return 0;
	if (sustained || ceiling->fresh_bytes_per_s > ceiling->touched_bytes_per_s)
		return ceiling->fresh_bytes_per_s;
	return ceiling->touched_bytes_per_s;
}

static double load_sum(bool measured)
{
	double sum = 0;

	for (const struct session *s = table_active(); s != NULL; s = s->active_next)
		sum += session_bytes(s, measured);
	return sum;
}

/* What it brings: as measured, or as it expects if that is more. */
static double session_bytes(const struct session *session, bool measured)
{
	double expected;

	if (!session_writes(session))
		return 0;
	expected = admission_bytes((double)session->expected_bytes,
		(double)session->expected_packets, session->degraded.snaplen_bytes,
		session->degraded.sample_mode, session->degraded.sample_n);
	return measured || session->run->rate.bytes > expected ? session->run->rate.bytes
							       : expected;
}

static bool session_writes(const struct session *session)
{
	return session->run != NULL && session_output_is_file(session->output) &&
	       (session->state == SESSION_starting || session->state == SESSION_running);
}

static void session_measure(struct session *session, uint64_t now_ns)
{
	struct admission_rate *rate;
	struct admission_rate now = {.at_ns = now_ns};
	struct ledger ledger;
	double seconds, accepted, lost;

	if (!session_writes(session) || session->state != SESSION_running)
		return;
	rate = &session->run->rate;
	tap_ledger(session->run->tap, &ledger);
	now.accepted = ledger.accepted;
	now.no_block = ledger.dropped[DROP_no_block];
	for (unsigned i = 0; i < tap_lanes(session->run->tap); i++) {
		struct tap_lane_mark mark;

		tap_lane_mark(session->run->tap, i, &mark);
		now.submitted_bytes += mark.submitted_bytes;
	}
	seconds = (double)(now_ns - rate->at_ns) / CLOCK_NS_PER_S;
	if (rate->at_ns != 0 && seconds > 0) {
		accepted = (double)(now.accepted - rate->accepted);
		lost = (double)(now.no_block - rate->no_block);
		now.bytes = (double)(now.submitted_bytes - rate->submitted_bytes) / seconds;
		now.dropped = lost / seconds;
		now.packet_bytes = ledger.written != 0
					   ? (double)ledger.written_bytes / (double)ledger.written
					   : 0;
		if (accepted > lost)
			now.bytes *= accepted / (accepted - lost);
		else if (lost > 0)
			now.bytes = rate->bytes; /* nothing to tell it by */
	}
	*rate = now;
}

/* By rate, or because the disk is what packets are lost for. */
static bool overloaded(void)
{
	const uint64_t ceiling = ceiling_bytes(false);
	struct bottleneck now;

	if (ceiling != 0 && load_sum(true) > (double)ceiling)
		return true;
	bottleneck_judge(load_get(), &now);
	return now.losing && now.name != NULL && strcmp(now.name, "disk") == 0;
}

static void overload_tell(void)
{
	const uint64_t ceiling = ceiling_bytes(false);
	const double load = load_sum(true);
	char known[64] = "";

	state.since_ns = clock_wall_ns();
	if (ceiling != 0)
		snprintf(known, sizeof(known), ", its ceiling is %.1f", (double)ceiling / 1e6);
	log_info("captures bring more than the disk takes: %.1f MB/s, %.1f are written%s",
		load / 1e6, load_get()->disk.bytes / 1e6, known);
	for (struct session *s = table_active(); s != NULL; s = s->active_next)
		if (session_bytes(s, true) > 0)
			session_event_add(s,
				"overload: it brings %.1f MB/s of %.1f, and the disk takes %.1f%s",
				session_bytes(s, true) / 1e6, load / 1e6,
				load_get()->disk.bytes / 1e6, known);
}

static void overload_end(void)
{
	state.since_ns = 0;
	log_info("captures bring what the disk takes again: %.1f MB/s", load_sum(true) / 1e6);
	for (struct session *s = table_active(); s != NULL; s = s->active_next)
		if (session_bytes(s, true) > 0)
			session_event_add(s, "the overload is over");
}

/* The one that brings most and can still be degraded. */
static struct session *heaviest(void)
{
	struct session *most = NULL;

	for (struct session *s = table_active(); s != NULL; s = s->active_next) {
		const struct session_degraded asked = session_asked(s);
		struct session_degraded kept = s->degraded;

		if (s->state == SESSION_running && session_bytes(s, true) > 0 && !s->run->ending &&
			admission_level(state.config->capture.degrade, s->degraded.level + 1,
				&asked, &kept) &&
			(most == NULL || session_bytes(s, true) > session_bytes(most, true)))
			most = s;
	}
	return most;
}

/* The one that is degraded most, if a step back, which may double what it brings, leaves room. */
static struct session *most_degraded(double limit_bytes)
{
	struct session *most = NULL;
	bool any = false;

	for (struct session *s = table_active(); s != NULL; s = s->active_next) {
		if (s->state != SESSION_running || s->run->ending || s->degraded.level == 0)
			continue;
		any = true;
		if (s->degraded.level == s->run->level_min)
			continue;
		if (most == NULL || s->degraded.level > most->degraded.level)
			most = s;
	}
	if (!any)
		state.seen_bytes = 0;
	if (most == NULL ||
		load_sum(true) + session_bytes(most, true) > limit_bytes * BACK_PERCENT / 100)
		return NULL;
	return most;
}

static void session_keep(struct session *session, const struct session_degraded *kept)
{
	const bool less = kept->level > session->degraded.level;
	const uint64_t since_ns =
		session->degraded.level == 0 ? clock_wall_ns() : session->degraded.since_ns;
	char text[96];

	session->degraded = *kept;
	session->degraded.since_ns = kept->level != 0 ? since_ns : 0;
	engine_tap_change(session->run->tap, (uint32_t)kept->snaplen_bytes, kept->sample_mode,
		(uint32_t)kept->sample_n);
	publish_soon(NULL);
	session_kept_text(session, text, sizeof(text));
	session_event_add(session, "%s: %s", less ? "degraded" : "given back", text);
	log_info("capture %s id=%s %s", less ? "degraded" : "given back", session_id_text(session),
		text);
}

static void session_kept_text(const struct session *session, char *text, size_t size)
{
	if (session->degraded.sample_n > 1)
		snprintf(text, size, "snaplen %llu, 1 packet in %llu",
			(unsigned long long)session->degraded.snaplen_bytes,
			(unsigned long long)session->degraded.sample_n);
	else
		snprintf(text, size, "snaplen %llu, every packet",
			(unsigned long long)session->degraded.snaplen_bytes);
}

static struct session_degraded session_asked(const struct session *session)
{
	return (struct session_degraded){
		.snaplen_bytes = session->snaplen_bytes,
		.sample_mode = session->sample_mode,
		.sample_n = session->sample_n,
	};
}
