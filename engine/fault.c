/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Fault points: rules in force and their evaluation, without locks and without allocation: any thread,
 * RX lcores too. What a table was replaced by does not free it, since somebody may stand in it; all go at
 * the end.
 */
#include "engine/fault.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/fault_rule.h"

#define STALL_LOOK_NS 5000000

static struct {
	const struct fault_table *now;
	struct fault_table *tables; /* all, ever */
	struct fault_rule *rules;
	uint64_t calls[FAULT_COUNT];
	uint64_t hits[FAULT_COUNT];
} faults;

static __thread bool exempt;
static __thread enum fault_work thread_work;

static int rules_read(const char *text, struct fault_table *table, struct err *err);
static int rule_add(struct fault_table *table, const struct fault_rule *rule, struct err *err);
static bool rule_stands(const struct fault_table *table, const struct fault_rule *rule);
static bool rule_due(const struct fault_table *table, struct fault_rule *rule, enum fault fault);
static int rule_do(struct fault_rule *rule);
static void rest(uint64_t ns);
static uint64_t mixed(uint64_t seed, uint64_t n);
static uint64_t now_ns(void);

int fault_set(const char *text, struct err *err)
{
	struct fault_table *table = calloc(1, sizeof(*table));
	int rc;

	if (table == NULL)
		return err_set(err, ENOMEM, "SLUICE_FAULTS", "no memory for the rules");
	table->made_next = faults.tables;
	faults.tables = table;
	rc = rules_read(text, table, err);
	if (rc != 0)
		return rc;
	__atomic_store_n(&faults.now, table, __ATOMIC_RELEASE);
	for (struct fault_rule *rule = faults.rules; rule != NULL; rule = rule->made_next)
		__atomic_store_n(&rule->gone, !rule_stands(table, rule), __ATOMIC_RELEASE);
	return 0;
}

void fault_work(enum fault_work work)
{
	thread_work = work;
}

int fault_point(enum fault fault)
{
	const struct fault_table *table = fault_table_now();

	if (exempt)
		return 0;
	__atomic_fetch_add(&faults.calls[fault], 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; table != NULL && i < table->n_rules; i++) {
		struct fault_rule *rule = table->rules[i];

		if (rule->what == FAULT_SHORT || rule->what >= FAULT_OFFSET ||
			!rule_due(table, rule, fault))
			continue;
		__atomic_fetch_add(&faults.hits[fault], 1, __ATOMIC_RELAXED);
		return rule_do(rule);
	}
	return 0;
}

bool fault_fails(enum fault fault)
{
	int rc = fault_point(fault);

	if (rc != 0)
		errno = -rc;
	return rc != 0;
}

size_t fault_short(enum fault fault, size_t len)
{
	const struct fault_table *table = fault_table_now();

	for (unsigned i = 0; !exempt && table != NULL && i < table->n_rules; i++) {
		struct fault_rule *rule = table->rules[i];
		int64_t n;

		if (rule->what != FAULT_SHORT || !rule_due(table, rule, fault))
			continue;
		n = (int64_t)rule->value;
		n = n < 0 ? (int64_t)len + n : n;
		if (n < 1)
			n = 1;
		if (n >= (int64_t)len)
			return len;
		__atomic_fetch_add(&faults.hits[fault], 1, __ATOMIC_RELAXED);
		return n;
	}
	return len;
}

int64_t fault_offset_ns(enum fault fault)
{
	const struct fault_table *table = fault_table_now();
	int64_t offset_ns = 0;

	for (unsigned i = 0; table != NULL && i < table->n_rules; i++) {
		struct fault_rule *rule = table->rules[i];

		if (rule->what < FAULT_OFFSET || !rule_due(table, rule, fault))
			continue;
		__atomic_fetch_add(&faults.hits[fault], 1, __ATOMIC_RELAXED);
		if (rule->what == FAULT_OFFSET)
			offset_ns += llround(rule->value * 1e9);
		else
			offset_ns +=
				llround((double)(now_ns() - rule->since_ns) * rule->value / 1e6);
	}
	return offset_ns;
}

uint64_t fault_calls(enum fault fault)
{
	return __atomic_load_n(&faults.calls[fault], __ATOMIC_RELAXED);
}

uint64_t fault_hits(enum fault fault)
{
	return __atomic_load_n(&faults.hits[fault], __ATOMIC_RELAXED);
}

void fault_thread_exempt(bool is_exempt)
{
	exempt = is_exempt;
}

const struct fault_table *fault_table_now(void)
{
	return __atomic_load_n(&faults.now, __ATOMIC_ACQUIRE);
}

void fault_tables_free(void)
{
	struct fault_table *table;
	struct fault_rule *rule;

	__atomic_store_n(&faults.now, NULL, __ATOMIC_RELEASE);
	while ((table = faults.tables) != NULL) {
		faults.tables = table->made_next;
		free(table);
	}
	while ((rule = faults.rules) != NULL) {
		faults.rules = rule->made_next;
		free(rule);
	}
}

static int rules_read(const char *text, struct fault_table *table, struct err *err)
{
	unsigned number = 0;
	int rc = 0;

	while (rc == 0 && *text != '\0') {
		const size_t len = strcspn(text, "\n");
		char line[FAULT_TEXT_MAX] = "", where[32];
		struct fault_rule rule = {0};
		bool is_rule = false;

		number++;
		if (len >= sizeof(line))
			rc = err_set(
				err, EINVAL, NULL, "longer than %zu characters", sizeof(line) - 1);
		memcpy(line, text, rc == 0 ? len : 0);
		if (rc == 0)
			rc = fault_line_read(line, table, &rule, &is_rule, err);
		if (rc == 0 && is_rule)
			rc = rule_add(table, &rule, err);
		snprintf(where, sizeof(where), "SLUICE_FAULTS line %u", number);
		if (rc != 0 && err != NULL)
			snprintf(err->field, sizeof(err->field), "%s", where);
		text += len + (text[len] == '\n');
	}
	return rc;
}

/* A rule that stood there before is the same one, and counts on. */
static int rule_add(struct fault_table *table, const struct fault_rule *rule, struct err *err)
{
	const struct fault_table *before = fault_table_now();
	struct fault_rule *made = NULL;

	if (table->n_rules == FAULT_RULES_MAX)
		return err_set(err, EINVAL, NULL, "more than %d rules", FAULT_RULES_MAX);
	for (unsigned i = 0; before != NULL && i < before->n_rules && made == NULL; i++)
		if (strcmp(before->rules[i]->text, rule->text) == 0 &&
			!rule_stands(table, before->rules[i]))
			made = before->rules[i];
	if (made == NULL) {
		made = malloc(sizeof(*made));
		if (made == NULL)
			return err_set(err, ENOMEM, NULL, "no memory for a rule");
		*made = *rule;
		made->since_ns = now_ns();
		made->made_next = faults.rules;
		faults.rules = made;
	}
	table->rules[table->n_rules++] = made;
	return 0;
}

static bool rule_stands(const struct fault_table *table, const struct fault_rule *rule)
{
	for (unsigned i = 0; i < table->n_rules; i++)
		if (table->rules[i] == rule)
			return true;
	return false;
}

static bool rule_due(const struct fault_table *table, struct fault_rule *rule, enum fault fault)
{
	bool due = false;
	uint64_t n;

	if ((rule->points >> fault & 1) == 0 ||
		(rule->work != FAULT_WORK_ANY && rule->work != thread_work))
		return false;
	n = __atomic_add_fetch(&rule->calls, 1, __ATOMIC_RELAXED);
	switch (rule->when) {
	case FAULT_NTH:
		due = n == rule->n;
		break;
	case FAULT_FROM:
		due = n >= rule->n;
		break;
	case FAULT_EVERY:
		due = n % rule->n == 0;
		break;
	case FAULT_PROBABILITY:
		due = mixed(table->seed + rule->points, n) <= rule->n;
		break;
	}
	if (due)
		__atomic_fetch_add(&rule->hits, 1, __ATOMIC_RELAXED);
	return due;
}

static int rule_do(struct fault_rule *rule)
{
	switch (rule->what) {
	case FAULT_DELAY:
		rest((uint64_t)(rule->value * 1e6));
		return 0;
	case FAULT_STALL:
		while (!__atomic_load_n(&rule->gone, __ATOMIC_ACQUIRE))
			rest(STALL_LOOK_NS);
		return 0;
	case FAULT_ABORT:
		kill(getpid(), SIGKILL);
		return 0;
	default:
		return -(int)rule->value;
	}
}

static void rest(uint64_t ns)
{
	struct timespec left = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* splitmix64: the same call of the same rule is decided the same way with the same seed. */
static uint64_t mixed(uint64_t seed, uint64_t n)
{
	uint64_t z = seed + n * 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}
