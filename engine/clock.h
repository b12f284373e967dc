/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * TSC to wall-clock nanoseconds. One conversion for all lcores, calibrated against CLOCK_REALTIME and
 * slewed by at most 500 ppm so that time never runs backwards; when the wall clock is stepped forward
 * by more than slewing can catch up within a minute the conversion jumps forward, when it is stepped
 * back it is slewed. Also the monotonic clock that limits and timers use.
 */
#ifndef ENGINE_CLOCK_H
#define ENGINE_CLOCK_H

#include <stdint.h>

#define CLOCK_NS_PER_S 1000000000ULL

/* Main thread, before the lcores start. Takes about 20 ms to calibrate. 0 or -errno. */
int clock_init(void);

/* Device thread, about ten times a second: measure the error and publish new parameters. */
void clock_sync(void);

/* Any thread, wait-free for the caller's purposes: wall-clock ns since 1970 of a TSC value near now.
 * Not decreasing in tsc for one caller, across any number of clock_sync calls in between. */
uint64_t clock_tsc_to_ns(uint64_t tsc);

/* How often the wall clock was set to another time, which slewing never does, and by how much in all. Any
 * thread. */
struct clock_steps {
	uint64_t n;
	int64_t sum_ns;
};
void clock_steps(struct clock_steps *steps);
/* Any thread: how far the time of packets is ahead of the wall clock, which was set back. */
int64_t clock_ahead_ns(void);

/* Any thread. TSC ticks per second. */
uint64_t clock_tsc_hz(void);

/*
 * The conversion behind it, for any free-running counter: the TSC has one, so has every NIC clock.
 * It is a chain of straight lines. Each sync appends a line that begins a little after now, where
 * the one before has got to, so that readers who hold the old parameters a moment longer see the
 * same time.
 */
struct clock_line {
	uint64_t ticks; /* begins here */
	uint64_t ns;    /* wall clock there */
	uint64_t mult;  /* ns per tick, 32 fractional bits */
};

struct clock_conv {
	/* written by the syncing thread, read by anyone: the last four pairs of lines, newest at
	 * seq % 4 */
	uint32_t seq;
	struct {
		struct clock_line before;
		struct clock_line line;
	} pairs[4];

	/* syncing thread only */
	double hz;    /* the counter's nominal rate */
	double drift; /* how much faster than nominal the wall clock runs, as a fraction of it */
	uint64_t sample_ticks;
	uint64_t sample_ns;
};

/* Before others see conv. ticks and wall_ns were measured at the same moment. */
void clock_conv_init(struct clock_conv *conv, double hz, uint64_t ticks, uint64_t wall_ns);
/* One thread: the counter and the wall clock, measured at the same moment. Calls that come sooner
 * than 10 ms after the one before, or before the last line has begun, change nothing. */
void clock_conv_sync(struct clock_conv *conv, uint64_t ticks, uint64_t wall_ns);
/* Any thread, as clock_tsc_to_ns. */
uint64_t clock_conv_ns(const struct clock_conv *conv, uint64_t ticks);

/* Any thread, vDSO calls: CLOCK_REALTIME and CLOCK_MONOTONIC in ns. */
uint64_t clock_wall_ns(void);
uint64_t clock_monotonic_ns(void);

#endif
