/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Counters to wall-clock nanoseconds: the TSC for the whole process, and the conversion that NIC
 * clocks use too. Lcores read it several million times a second; the device thread measures and
 * publishes ten times a second. Nothing here waits for anybody.
 */
#include "engine/clock.h"

#include <errno.h>
#include <math.h>
#include <time.h>

#include <rte_cycles.h>

#include "engine/fault.h"

#define CLOCK_SLEW_MAX 500e-6 /* never further from the counter's own rate than this */
#define CLOCK_STEP_RATE \
	1e-3                  /* a wall clock this far off between two samples was set, not slewed \
			       */
#define CLOCK_CATCH_UP_S   60 /* an error that slewing cannot mend in this time is jumped over */
#define CLOCK_SETTLE_S     1.0  /* aim to have mended an error after this time */
#define CLOCK_LEAD_S       0.05 /* a line begins this long after its sample */
#define CLOCK_APART_S      0.01 /* samples closer together say nothing about the rate */
#define CLOCK_SAMPLES      16
#define CLOCK_STEP_MIN_NS  10e6 /* what is set by less is mended within seconds */
#define CLOCK_CALIBRATE_NS 20000000

static struct clock_conv clock_tsc;
static uint64_t clock_hz;
static uint64_t n_steps;
static int64_t step_sum_ns;

static uint64_t clock_read(clockid_t id);
static uint64_t clock_sample(clockid_t id, uint64_t *ns);
static uint64_t clock_line_at(const struct clock_line *line, uint64_t ticks);
static uint64_t clock_mult(const struct clock_conv *conv, double faster);
static void clock_publish(
	struct clock_conv *conv, const struct clock_line *before, const struct clock_line *line);

int clock_init(void)
{
	const struct timespec pause = {.tv_nsec = CLOCK_CALIBRATE_NS};
	uint64_t raw_begin, raw_end, wall, begin, end;

	begin = clock_sample(CLOCK_MONOTONIC_RAW, &raw_begin);
	while (nanosleep(&pause, NULL) != 0)
		if (errno != EINTR)
			return -errno;
	end = clock_sample(CLOCK_MONOTONIC_RAW, &raw_end);
	if (end <= begin || raw_end <= raw_begin)
		return -ENOTSUP;
	clock_hz = llround((double)(end - begin) * CLOCK_NS_PER_S / (raw_end - raw_begin));
	begin = clock_sample(CLOCK_REALTIME, &wall);
	clock_conv_init(&clock_tsc, clock_hz, begin, wall);
	return 0;
}

void clock_sync(void)
{
	const uint64_t before_ticks = clock_tsc.sample_ticks, before_ns = clock_tsc.sample_ns;
	uint64_t wall;
	uint64_t tsc = clock_sample(CLOCK_REALTIME, &wall);
	double elapsed_ns;
	int64_t step_ns;

	clock_conv_sync(&clock_tsc, tsc, wall);
	if (clock_tsc.sample_ticks == before_ticks)
		return;
	elapsed_ns = (double)(tsc - before_ticks) / clock_tsc.hz * CLOCK_NS_PER_S;
	step_ns = (int64_t)(wall - before_ns) - (int64_t)(elapsed_ns * (1 + clock_tsc.drift));
	if (fabs((double)step_ns) < CLOCK_STEP_MIN_NS + elapsed_ns * CLOCK_STEP_RATE)
		return;
	__atomic_store_n(&step_sum_ns, step_sum_ns + step_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&n_steps, n_steps + 1, __ATOMIC_RELEASE);
}

void clock_steps(struct clock_steps *steps)
{
	steps->n = __atomic_load_n(&n_steps, __ATOMIC_ACQUIRE);
	steps->sum_ns = __atomic_load_n(&step_sum_ns, __ATOMIC_RELAXED);
}

int64_t clock_ahead_ns(void)
{
	uint64_t wall;
	const uint64_t tsc = clock_sample(CLOCK_REALTIME, &wall);

	return (int64_t)(clock_tsc_to_ns(tsc) - wall);
}

uint64_t clock_tsc_to_ns(uint64_t tsc)
{
	return clock_conv_ns(&clock_tsc, tsc);
}

uint64_t clock_tsc_hz(void)
{
	return clock_hz;
}

void clock_conv_init(struct clock_conv *conv, double hz, uint64_t ticks, uint64_t wall_ns)
{
	struct clock_line line = {.ticks = ticks, .ns = wall_ns};

	*conv = (struct clock_conv){.hz = hz, .sample_ticks = ticks, .sample_ns = wall_ns};
	line.mult = clock_mult(conv, 0);
	clock_publish(conv, &line, &line);
}

void clock_conv_sync(struct clock_conv *conv, uint64_t ticks, uint64_t wall_ns)
{
	const struct clock_line *old = &conv->pairs[conv->seq % 4].line;
	const double lead = CLOCK_LEAD_S * conv->hz;
	double elapsed_s, rate, error_s, mend;
	struct clock_line line;
	uint64_t wall;

	elapsed_s = (double)(int64_t)(ticks - conv->sample_ticks) / conv->hz;
	if (elapsed_s < CLOCK_APART_S || (int64_t)(ticks - old->ticks) < 0)
		return;
	rate = (double)(int64_t)(wall_ns - conv->sample_ns) / (elapsed_s * CLOCK_NS_PER_S) - 1;
	if (fabs(rate) < CLOCK_STEP_RATE)
		conv->drift += (rate - conv->drift) / 8;
	conv->sample_ticks = ticks;
	conv->sample_ns = wall_ns;

	/* Readers never pass a tick of the future, so a line that begins in the future cannot make
	 * one who still holds the old parameters disagree with one who has the new. */
	line.ticks = ticks + (uint64_t)lead;
	line.ns = clock_line_at(old, line.ticks);
	wall = wall_ns + llround(CLOCK_LEAD_S * CLOCK_NS_PER_S * (1 + conv->drift));
	error_s = (double)(int64_t)(wall - line.ns) / CLOCK_NS_PER_S;
	mend = error_s / CLOCK_SETTLE_S;
	if (error_s > (CLOCK_SLEW_MAX - conv->drift) * CLOCK_CATCH_UP_S) {
		line.ns = wall;
		mend = 0;
	}
	line.mult =
		clock_mult(conv, fmax(-CLOCK_SLEW_MAX, fmin(CLOCK_SLEW_MAX, conv->drift + mend)));
	clock_publish(conv, old, &line);
}

uint64_t clock_conv_ns(const struct clock_conv *conv, uint64_t ticks)
{
	const struct clock_line *from;
	struct clock_line line;
	uint32_t seq;

	do {
		seq = __atomic_load_n(&conv->seq, __ATOMIC_ACQUIRE);
		from = &conv->pairs[seq % 4].line;
		line.ticks = __atomic_load_n(&from->ticks, __ATOMIC_RELAXED);
		if ((int64_t)(ticks - line.ticks) < 0) {
			from = &conv->pairs[seq % 4].before;
			line.ticks = __atomic_load_n(&from->ticks, __ATOMIC_RELAXED);
		}
		line.ns = __atomic_load_n(&from->ns, __ATOMIC_RELAXED);
		line.mult = __atomic_load_n(&from->mult, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		/* The pair is written again only after three more syncs; who was away for that
		 * long (0.3 s) between two loads reads once more. */
	} while (__atomic_load_n(&conv->seq, __ATOMIC_RELAXED) - seq >= 3);
	return clock_line_at(&line, ticks);
}

uint64_t clock_wall_ns(void)
{
	return clock_read(CLOCK_REALTIME);
}

uint64_t clock_monotonic_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

static uint64_t clock_read(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * CLOCK_NS_PER_S + ts.tv_nsec +
	       (id == CLOCK_REALTIME ? fault_offset_ns(FAULT_clock_read) : 0);
}

/* The TSC and the clock at the same moment: of some readings the one that was disturbed least. */
static uint64_t clock_sample(clockid_t id, uint64_t *ns)
{
	uint64_t best = UINT64_MAX, tsc = 0;

	*ns = 0;
	for (unsigned i = 0; i < CLOCK_SAMPLES; i++) {
		uint64_t before = rte_rdtsc_precise();
		uint64_t now = clock_read(id);
		uint64_t after = rte_rdtsc_precise();

		if (after - before >= best)
			continue;
		best = after - before;
		tsc = before + best / 2;
		*ns = now;
	}
	return tsc;
}

static uint64_t clock_line_at(const struct clock_line *line, uint64_t ticks)
{
	__int128 ns = (__int128)(int64_t)(ticks - line->ticks) * (int64_t)line->mult;

	return line->ns + (int64_t)(ns >> 32);
}

static uint64_t clock_mult(const struct clock_conv *conv, double faster)
{
	return llround(CLOCK_NS_PER_S / conv->hz * (1 + faster) * 4294967296.0);
}

/* The release pairs with the acquire in clock_conv_ns: who sees the number sees the lines. The slot
 * that is written was the current one three publications ago. */
static void clock_publish(
	struct clock_conv *conv, const struct clock_line *before, const struct clock_line *line)
{
	uint32_t seq = conv->seq + 1;
	struct clock_line *to[] = {&conv->pairs[seq % 4].before, &conv->pairs[seq % 4].line};
	const struct clock_line from[] = {*before, *line};

	__atomic_thread_fence(__ATOMIC_RELEASE);
	for (unsigned i = 0; i < 2; i++) {
		__atomic_store_n(&to[i]->ticks, from[i].ticks, __ATOMIC_RELAXED);
		__atomic_store_n(&to[i]->ns, from[i].ns, __ATOMIC_RELAXED);
		__atomic_store_n(&to[i]->mult, from[i].mult, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&conv->seq, seq, __ATOMIC_RELEASE);
}
