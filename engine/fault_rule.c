/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The language of fault rules: one line in, one rule out, or a sentence about what is wrong with it. The
 * thread that watches the file, and tests.
 */
#include "engine/fault_rule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_MAX 133

enum { ALLOC = 1, DISK = 2, IO = 4, FD = 8 };

static const struct {
	const char *name;
	unsigned groups;
	const char *help;
} points[] = {
#define FAULT(name, groups, help) {#name, groups, help},
#include "engine/fault.def"
#undef FAULT
};

static const struct {
	const char *name;
	unsigned group;
} groups[] = {{"alloc", ALLOC}, {"disk", DISK}, {"io", IO}, {"fd", FD}};

static const struct {
	const char *prefix;
	enum fault_work work;
} works[] = {{"create/", FAULT_WORK_CREATE}, {"tend/", FAULT_WORK_TEND},
	{"close/", FAULT_WORK_CLOSE}, {"merge/", FAULT_WORK_MERGE}};

/* short=N and the clock's actions stand only where something asks for them. */
#define POINT(name) (1ULL << FAULT_##name)
#define SHORT_POINTS                                                              \
	(POINT(pread) | POINT(pwrite) | POINT(pwritev) | POINT(copy_file_range) | \
		POINT(uring_result))
#define CLOCK_POINTS (POINT(clock_read) | POINT(kernel_stamp))

static const char *work_read(const char *name, enum fault_work *work);
static uint64_t name_points(const char *name);
static int when_read(const char *text, struct fault_rule *rule, struct err *err);
static int what_read(const char *text, struct fault_rule *rule, struct err *err);
static bool number_read(const char *text, const char *name, double *value);
static int errno_read(const char *name);
static char *word_trim(char *text);

int fault_line_read(const char *line, struct fault_table *table, struct fault_rule *rule,
	bool *is_rule, struct err *err)
{
	char copy[FAULT_TEXT_MAX], *text, *when, *what;
	double seed;
	int rc;

	*is_rule = false;
	snprintf(copy, sizeof(copy), "%s", line);
	copy[strcspn(copy, "#")] = '\0';
	text = word_trim(copy);
	if (text == NULL || *text == '\0') /* never NULL, but gcc's ASan build thinks so */
		return 0;
	if (number_read(text, "seed", &seed) && seed >= 0 && seed < 1e15) {
		table->seed = (uint64_t)seed;
		return 0;
	}
	if (strncmp(text, "tag=", 4) == 0) {
		snprintf(table->tag, sizeof(table->tag), "%s", text + 4);
		return 0;
	}
	snprintf(rule->text, sizeof(rule->text), "%s", text);
	when = strchr(text, ':');
	what = strstr(text, "->");
	if (when == NULL || what == NULL || what < when)
		return err_set(err, EINVAL, NULL,
			"\"%s\" is not \"name: when -> what\", seed=N (below 1e15) or tag=WORD",
			text);
	*when++ = '\0';
	*what = '\0';
	what += 2;
	text = word_trim(text);
	rule->points = name_points(work_read(text, &rule->work));
	if (rule->points == 0)
		return err_set(err, EINVAL, NULL,
			"there is no fault point \"%s\"; groups are alloc, disk, io, fd, works "
			"create/, tend/, close/, merge/, and "
			"\"sluiced --help-faults\" lists the points",
			text);
	rc = when_read(word_trim(when), rule, err);
	if (rc == 0)
		rc = what_read(word_trim(what), rule, err);
	*is_rule = rc == 0;
	return rc;
}

const char *fault_name(enum fault fault)
{
	return points[fault].name;
}

void fault_help(FILE *out)
{
	for (unsigned i = 0; i < FAULT_COUNT; i++) {
		fprintf(out, "%-16s %s (", points[i].name, points[i].help);
		for (unsigned g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
			if ((points[i].groups & groups[g].group) != 0)
				fprintf(out, "%s ", groups[g].name);
		fprintf(out, "point)\n");
	}
}

/* The name without the work before it. */
static const char *work_read(const char *name, enum fault_work *work)
{
	for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		const size_t len = strlen(works[i].prefix);

		if (strncmp(name, works[i].prefix, len) != 0)
			continue;
		*work = works[i].work;
		return name + len;
	}
	return name;
}

static uint64_t name_points(const char *name)
{
	unsigned group = 0;
	uint64_t mask = 0;

	for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (strcmp(groups[i].name, name) == 0)
			group = groups[i].group;
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		if ((points[i].groups & group) != 0 || strcmp(points[i].name, name) == 0)
			mask |= 1ULL << i;
	return mask;
}

static int when_read(const char *text, struct fault_rule *rule, struct err *err)
{
	double n = 1;

	if (strcmp(text, "once") == 0 || number_read(text, "nth", &n))
		rule->when = FAULT_NTH;
	else if (strcmp(text, "always") == 0 || number_read(text, "every", &n))
		rule->when = FAULT_EVERY;
	else if (number_read(text, "from", &n))
		rule->when = FAULT_FROM;
	else if (number_read(text, "probability", &n) && n >= 0 && n <= 1)
		rule->when = FAULT_PROBABILITY;
	else
		n = 0;
	if (rule->when == FAULT_PROBABILITY) {
		rule->n = n == 1 ? UINT64_MAX : (uint64_t)(n * 18446744073709551616.0);
		return 0;
	}
	if (n < 1 || n > 1e15 || n != (double)(uint64_t)n)
		return err_set(err, EINVAL, NULL,
			"\"%s\" does not say when: nth=N, from=N, every=N (1 to 1e15), "
			"probability=P (0 to 1), once or always",
			text);
	rule->n = (uint64_t)n;
	return 0;
}

static int what_read(const char *text, struct fault_rule *rule, struct err *err)
{
	static const struct {
		const char *name;
		enum fault_what what;
		double min, max;
		uint64_t points;
	} numbers[] = {
		{"short", FAULT_SHORT, -1e9, 1e9, SHORT_POINTS},
		{"delay", FAULT_DELAY, 0, 3600e3, UINT64_MAX},
		{"offset", FAULT_OFFSET, -4e9, 4e9, CLOCK_POINTS},
		{"rate", FAULT_RATE, -1e6, 1e6, CLOCK_POINTS},
	};

	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (!number_read(text, numbers[i].name, &rule->value))
			continue;
		rule->what = numbers[i].what;
		rule->points &= numbers[i].points;
		if (rule->points == 0)
			return err_set(err, EINVAL, NULL, "%s=N has no meaning for this point",
				numbers[i].name);
		if (rule->value < numbers[i].min || rule->value > numbers[i].max)
			return err_set(err, EINVAL, NULL, "%s is not between %g and %g", text,
				numbers[i].min, numbers[i].max);
		return 0;
	}
	rule->value = errno_read(text);
	if (strcmp(text, "stall") == 0)
		rule->what = FAULT_STALL;
	else if (strcmp(text, "abort") == 0)
		rule->what = FAULT_ABORT;
	else if (rule->value != 0)
		rule->what = FAULT_ERRNO;
	else
		return err_set(err, EINVAL, NULL,
			"\"%s\" does not say what: an errno (EIO), short=N, delay=MS, stall, "
			"abort, "
			"offset=S or rate=PPM",
			text);
	return 0;
}

/* "name=NUMBER", and nothing behind it. */
static bool number_read(const char *text, const char *name, double *value)
{
	const size_t len = strlen(name);
	char *end;

	if (strncmp(text, name, len) != 0 || text[len] != '=')
		return false;
	*value = strtod(text + len + 1, &end);
	return end != text + len + 1 && *end == '\0' && *value == *value;
}

/* 0: there is no such error. */
static int errno_read(const char *name)
{
	for (int i = 1; i <= ERRNO_MAX; i++) {
		const char *known = strerrorname_np(i);

		if (known != NULL && strcmp(known, name) == 0)
			return i;
	}
	return 0;
}

static char *word_trim(char *text)
{
	char *end;

	text += strspn(text, " \t\r");
	end = text + strlen(text);
	while (end > text && strchr(" \t\r", end[-1]) != NULL)
		*--end = '\0';
	return text;
}
