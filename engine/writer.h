/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Writers: pinned plain threads that gather a lane's blocks into large writes and give the blocks
 * back. A writer does data I/O and nothing else, and never drops: a failed write ends the session,
 * and what that leaves unwritten is counted by reason.
 */
#ifndef ENGINE_WRITER_H
#define ENGINE_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

struct engine_lcore;

/* On each writer CPU one that writes to the disk, and one for streams and for what nobody keeps: these
 * do not wait where a disk does not answer. */
#define WRITERS_PER_CPU 2
#define WRITERS_MAX     (WRITERS_PER_CPU * CONFIG_CPUS_MAX)

/* Main thread. */
int writer_start(const struct config_cpus *cpus, struct err *err);
/* Main thread: all taps drained before. */
void writer_stop(void);

/* Control thread: the writer that a new lane is bound to (round robin, of those for its sink). */
unsigned writer_choose(bool disk);
/* Control thread: a lane bound to this writer went live; it may be asleep. */
void writer_wake(unsigned index);

/* Any thread: how large a lane's writes become, and how many of that size may be in flight per
 * writer (of smaller ones more). Both are bounded by what sinks can do and by half of the blocks. */
void writer_writes_set(uint32_t write_bytes, unsigned depth);

/* Any thread: those who sleep make a round. */
void writer_kick(void);

unsigned writer_count(void);
void writer_status(unsigned index, struct engine_lcore *status);
/* "uring" or "pwrite". */
const char *writer_sink_name(void);

#endif
