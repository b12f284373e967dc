/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/stall.h"

#include <stdio.h>
#include <string.h>

#include "config/log.h"
#include "control/job.h"
#include "control/session_state.h"
#include "control/table.h"
#include "engine/clock.h"
#include "engine/engine.h"

#define CALM_NS 1000000000ULL /* answered for so long: it is over */

static struct {
	struct stall stall;
	uint64_t began_ns; /* monotonic */
	uint64_t last_ns;  /* monotonic: when something was last unanswered for too long */
} state;

static uint64_t unanswered_ns(const char **what);
static void stall_begin(uint64_t age_ns, const char *what, uint64_t now_ns);
static void stall_end(void);

void stall_tick(void)
{
	const uint64_t now_ns = clock_monotonic_ns();
	const char *what;
	const uint64_t age_ns = unanswered_ns(&what);

	if (age_ns >= STALL_NS) {
		state.last_ns = now_ns;
		if (!state.stall.stalled)
			stall_begin(age_ns, what, now_ns);
	} else if (state.stall.stalled && now_ns - state.last_ns >= CALM_NS) {
		stall_end();
	}
}

const struct stall *stall_get(void)
{
	return &state.stall;
}

/* What has waited longest for the disk: of the writers' writes, and of what the storage worker does. */
static uint64_t unanswered_ns(const char **what)
{
	uint64_t longest_ns = job_running_ns(WORKER_STORAGE);
	struct engine_status engine;

	*what = "a sync or another change of a file";
	engine_status(&engine);
	for (unsigned i = 0; i < engine.n_lcores; i++) {
		const uint64_t oldest_tsc = engine.lcores[i].disk_oldest_tsc;
		uint64_t age_ns;

		if (oldest_tsc == 0 || oldest_tsc > engine.tsc)
			continue;
		age_ns = (uint64_t)((double)(engine.tsc - oldest_tsc) * CLOCK_NS_PER_S /
				    clock_tsc_hz());
		if (age_ns > longest_ns) {
			longest_ns = age_ns;
			*what = "a write";
		}
	}
	return longest_ns;
}

static void stall_begin(uint64_t age_ns, const char *what, uint64_t now_ns)
{
	struct stall *stall = &state.stall;

	state.began_ns = now_ns - age_ns;
	stall->stalled = true;
	stall->since_ns = clock_wall_ns() - age_ns;
	stall->n++;
	snprintf(stall->text, sizeof(stall->text),
		"the storage does not answer: %s has been under way for %.1f s", what,
		(double)age_ns / CLOCK_NS_PER_S);
	log_warning("%s", stall->text);
	for (struct session *s = table_newest(), *older; s != NULL; s = older) {
		older = s->older;
		session_stalled(s, stall->text);
	}
}

static void stall_end(void)
{
	struct stall *stall = &state.stall;
	const uint64_t ns = state.last_ns - state.began_ns;

	stall->stalled = false;
	stall->since_ns = 0;
	stall->ns += ns;
	stall->text[0] = '\0';
	log_info("the storage answers again after %.1f s", (double)ns / CLOCK_NS_PER_S);
	for (struct session *s = table_active(); s != NULL; s = s->active_next)
		if (s->run != NULL && s->run->capture != NULL)
			session_event_add(s, "the storage answers again after %.1f s",
				(double)ns / CLOCK_NS_PER_S);
}
