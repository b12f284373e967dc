/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Reads an ini file and tells its sections and options in order, each with its line. What inih
 * would swallow or cut without a word (long lines, names and sections, text after a section) is an
 * error here; continuation lines arrive joined. Knows no option. Control thread, at start.
 */
#ifndef CONFIG_INI_H
#define CONFIG_INI_H

#include "config/err.h"

#define INI_NAME_LEN_MAX  49   /* of a section or key: inih keeps 49 bytes */
#define INI_VALUE_LEN_MAX 4095 /* of a value with all its continuation lines */

/* Each returns 0, or fills err and returns -errno: then reading ends. Strings live for the call. */
struct ini_events {
	int (*section)(void *arg, const char *section, unsigned line, struct err *err);
	int (*option)(
		void *arg, const char *key, const char *value, unsigned line, struct err *err);
};

/*
 * Read path. On failure *line is where (0: the file as a whole), err says what; err->field is the
 * key or empty.
 */
int ini_load(const char *path, const struct ini_events *events, void *arg, unsigned *line,
	struct err *err);

#endif
