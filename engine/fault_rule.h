/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Fault points from the inside: rules as they are read from text. For fault*.c only.
 */
#ifndef ENGINE_FAULT_RULE_H
#define ENGINE_FAULT_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/err.h"
#include "engine/fault.h"

#define FAULT_RULES_MAX 64
#define FAULT_TEXT_MAX  128
_Static_assert(FAULT_COUNT <= 64, "a rule's points fit one word");

enum fault_when { FAULT_NTH, FAULT_FROM, FAULT_EVERY, FAULT_PROBABILITY };
enum fault_what {
	FAULT_ERRNO,
	FAULT_SHORT,
	FAULT_DELAY,
	FAULT_STALL,
	FAULT_ABORT,
	FAULT_OFFSET,
	FAULT_RATE,
};

struct fault_rule {
	/* constant */
	char text[FAULT_TEXT_MAX];
	uint64_t points; /* 1 << enum fault */
	enum fault_work work;
	enum fault_when when;
	uint64_t n; /* of when; FAULT_PROBABILITY: of 2^64 */
	enum fault_what what;
	double value; /* errno, bytes, ms, s or ppm */

	/* atomics */
	uint64_t calls;
	uint64_t hits;
	uint64_t since_ns; /* monotonic: when it came */
	bool gone;         /* in no table any more */

	struct fault_rule *made_next; /* all that were ever made */
};

struct fault_table {
	uint64_t seed;
	char tag[FAULT_TEXT_MAX];
	unsigned n_rules;
	struct fault_rule *rules[FAULT_RULES_MAX];
	struct fault_table *made_next;
};

/* One line without its end. 0 or -EINVAL with err. What is no rule fills the table's seed or tag, or
 * nothing; *is_rule tells. */
int fault_line_read(const char *line, struct fault_table *table, struct fault_rule *rule,
	bool *is_rule, struct err *err);

const char *fault_name(enum fault fault);

/* The calling thread's own calls reach no point: it is the one that makes them fail. */
void fault_thread_exempt(bool exempt);

/* The table in force; NULL: no rules. */
const struct fault_table *fault_table_now(void);
/* When no thread can stand in one any more. */
void fault_tables_free(void);

#endif
