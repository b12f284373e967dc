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

/* Any thread. TSC ticks per second. */
uint64_t clock_tsc_hz(void);

/* Any thread, vDSO calls: CLOCK_REALTIME and CLOCK_MONOTONIC in ns. */
uint64_t clock_wall_ns(void);
uint64_t clock_monotonic_ns(void);

#endif
