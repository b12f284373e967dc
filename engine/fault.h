/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Fault points: places where a test makes something fail that never fails by itself. Only in builds with
 * -Dfault_points=true; in all others every function here is a constant and nothing is left of a point.
 *
 * The rules stand in the file that the environment's SLUICE_FAULTS names. It may come, change and go
 * while the daemon runs: a thread looks 50 times a second. One rule a line:
 *
 *	name: when -> what
 *
 *	name   a point or a group of fault.def; WORK/name only within that work: create/, tend/, close/ or
 *	       merge/ (a capture's files are made, looked after, closed, made one)
 *	when   nth=N (call N alone), from=N (it and all after), every=N, probability=P, once, always
 *	what   an errno (ENOSPC), short=N (N bytes; -N: N fewer than asked for), delay=MS, stall (until
 *	       the rule is gone), abort (as kill -9), offset=S and rate=PPM (of a clock)
 *
 * A rule counts the calls since it came into the file; one that stays there counts on when others
 * change. The first rule whose turn it is decides. Lines "seed=N" (for probability) and "tag=WORD" may
 * stand beside them, comments begin with #. How often each point was reached and hit is written
 * to SLUICE_FAULTS.count, behind the tag, whenever it has changed.
 */
#ifndef ENGINE_FAULT_H
#define ENGINE_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/err.h"

enum fault {
#define FAULT(name, groups, help) FAULT_##name,
#include "engine/fault.def"
#undef FAULT
	FAULT_COUNT,
};

/* What a thread is at. */
enum fault_work {
	FAULT_WORK_ANY,
	FAULT_WORK_CREATE,
	FAULT_WORK_TEND,
	FAULT_WORK_CLOSE,
	FAULT_WORK_MERGE
};

#ifdef SLUICE_FAULT_POINTS
#define FAULT_VERSION " with fault points"

/* Main, before other threads: read the rules and begin to watch them. 0, or -errno with err. */
int fault_start(struct err *err);
/* Main, after all others have ended. Without fault_start too. */
void fault_stop(void);

/* The rules of a text, in the place of those before. One thread. 0, or -EINVAL with err: the line, and
 * what is allowed there. */
int fault_set(const char *text, struct err *err);

/* Any thread: what it is at from now on. */
void fault_work(enum fault_work work);

/* Any thread. 0 or the -errno of the rule whose turn it is; waits and ends happen inside. */
int fault_point(enum fault fault);
/* The same for a call: true with errno set. */
bool fault_fails(enum fault fault);
/* Any thread, after fault_point of the same call: how many of len bytes it may do, at least 1. */
size_t fault_short(enum fault fault, size_t len);
/* Any thread: how far a clock is off now. */
int64_t fault_offset_ns(enum fault fault);

uint64_t fault_calls(enum fault fault);
uint64_t fault_hits(enum fault fault);

/* All points with what they are. */
void fault_help(FILE *out);

#else
#define FAULT_VERSION ""

static inline int fault_start(struct err *err)
{
	return 0;
}

static inline void fault_stop(void)
{
}

static inline void fault_work(enum fault_work work)
{
}

static inline int fault_point(enum fault fault)
{
	return 0;
}

static inline bool fault_fails(enum fault fault)
{
	return false;
}

static inline size_t fault_short(enum fault fault, size_t len)
{
	return len;
}

static inline int64_t fault_offset_ns(enum fault fault)
{
	return 0;
}

static inline void fault_help(FILE *out)
{
	fprintf(out, "this sluiced was built without fault points\n");
}
#endif

#endif
