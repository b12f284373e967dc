/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The option table and what turns a value's text into a member of struct config. Judges one value
 * by itself; rules between values are config.c's. Control thread, at start.
 */
#ifndef CONFIG_OPTION_H
#define CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

enum option_kind {
	OPTION_TEXT,
	OPTION_LIST,
	OPTION_BOOL,
	OPTION_CHOICE,
	OPTION_NUMBER,
	OPTION_SIZE,     /* uint64_t, K M G T; "auto" = 0 where that is the default */
	OPTION_DURATION, /* uint64_t ms; where 0 is allowed it needs no unit */
	OPTION_QUOTA,    /* storage.quota_percent or storage.quota_bytes */
	OPTION_SPARE,    /* uint64_t, K M G T; "auto", "no": CONFIG_SPARE_* */
	OPTION_SHARE,    /* struct config_share */
	OPTION_RATE,     /* uint64_t per second; "max" = 0 */
	OPTION_CPU,
	OPTION_CPUS,
};

struct option {
	const char *section; /* "port", "account" and "bucket" stand with a name */
	const char *key;
	enum option_kind kind;
	size_t offset; /* of the member in struct config, config_port, config_account or config_bucket */
	size_t size;       /* of the member */
	const char *value; /* the default, as text */
	uint64_t min;
	uint64_t max;
	const char *unit;
	int (*check)(const struct option *option, const void *member, struct err *err);
	bool restart;
	const char *help;
};

extern const struct option option_table[];
extern const unsigned option_count;

/* NULL if there is none. */
const struct option *option_find(const char *section, const char *key);

/*
 * Judge value and put it into the struct at base, which is the one that the option's section fills.
 * 0, or -EINVAL with the sentence; err->field is the key.
 */
int option_set(const struct option *option, void *base, const char *value, struct err *err);

/* As option_set with the default, and CPUs that this machine lacks replaced by ones that it has. */
void option_default(const struct option *option, void *base);

/* What is allowed, as text for a person: "auto | yes | no", "68 to 16000 bytes". */
void option_allowed(const struct option *option, char *out, size_t size);

/* Letters, digits and . _ -, at least one. */
bool option_name_is_good(const char *name);

/* Sections that are given as [SECTION NAME]. */
bool option_section_named(const char *section);

#endif
