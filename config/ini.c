/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/ini.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <ini.h>

struct ini_reading {
	FILE *file;
	const struct ini_events *events;
	void *arg;
	char *raw; /* getline's */
	size_t raw_size;
	unsigned line;        /* that inih is looking at */
	bool in_section;      /* there was a section before this line */
	bool continuing;      /* this line goes on with the option above it */
	unsigned option_line; /* where the pending option began; 0 = none is pending */
	char key[INI_NAME_LEN_MAX + 1];
	char value[INI_VALUE_LEN_MAX + 1];
	int failed; /* 0 or -errno */
	unsigned failed_line;
	struct err *err;
};

static char *line_next(char *buf, int size, void *stream);
static int line_check(struct ini_reading *r, char *buf, int size, size_t len);
static int section_line(struct ini_reading *r, char *text);
static int option_take(void *arg, const char *section, const char *key, const char *value);
static int option_begin(struct ini_reading *r, const char *key, const char *value);
static int option_continue(struct ini_reading *r, const char *value);
static size_t comment_cut(const char *text);
static int option_flush(struct ini_reading *r);
static int fail(struct ini_reading *r, unsigned line, int code);

int ini_load(const char *path, const struct ini_events *events, void *arg, unsigned *line,
	struct err *err)
{
	struct ini_reading *r = calloc(1, sizeof(*r));
	int first_bad, rc;

	*line = 0;
	if (r == NULL)
		return err_set(err, ENOMEM, NULL, "no memory to read it");
	r->events = events;
	r->arg = arg;
	r->err = err;
	r->file = fopen(path, "re");
	if (r->file == NULL) {
		rc = err_set(err, errno, NULL, "cannot be read: %s", strerror(errno));
		goto out;
	}
	first_bad = ini_parse_stream(line_next, r, option_take, r);
	if (r->failed == 0 && ferror(r->file))
		r->failed = err_set(err, EIO, NULL, "cannot be read: %s", strerror(errno));
	if (r->failed == 0)
		option_flush(r);
	/* inih goes on behind a line that it does not understand, we fail at the first. */
	if (first_bad > 0 && (r->failed == 0 || (unsigned)first_bad < r->failed_line)) {
		r->failed_line = first_bad;
		r->failed = err_set(err, EINVAL, NULL,
			"not understood, allowed: [section], key = value, or a comment after ;");
	}
	*line = r->failed_line;
	rc = r->failed;
out:
	if (r->file != NULL)
		fclose(r->file);
	free(r->raw);
	free(r);
	return rc;
}

/* inih's reader: one line, or NULL at the end and after an error. */
static char *line_next(char *buf, int size, void *stream)
{
	struct ini_reading *r = stream;
	ssize_t len;

	if (r->failed != 0)
		return NULL;
	len = getline(&r->raw, &r->raw_size, r->file);
	if (len < 0)
		return NULL;
	r->line++;
	if (line_check(r, buf, size, len) != 0)
		return NULL;
	return buf;
}

/* Copy the line to buf for inih, unless inih would lose a part of it. */
static int line_check(struct ini_reading *r, char *buf, int size, size_t len)
{
	char *text = r->raw;
	bool indented;

	if (strlen(text) != len)
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL, "holds a NUL byte, allowed: text"));
	if (r->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	len = strlen(text);
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	if (len >= (size_t)size)
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL,
				"the line has %zu characters, allowed: at most %d; an indented "
				"line goes on with the one above it",
				len, size - 1));
	memcpy(buf, text, len + 1);
	indented = isspace((unsigned char)text[0]);
	while (isspace((unsigned char)*text))
		text++;
	r->continuing = false;
	if (*text == '\0' || *text == ';' || *text == '#')
		return 0;
	if (indented && r->option_line == 0)
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL,
				"an indented line goes on with the option above it, and there is "
				"none"));
	r->continuing = indented;
	if (*text == '[' && !indented)
		return section_line(r, text);
	return 0;
}

/* inih tells no section without options and ignores what stands behind the ]. */
static int section_line(struct ini_reading *r, char *text)
{
	char *end = strchr(text, ']'), *rest;
	int rc;

	if (option_flush(r) != 0)
		return r->failed;
	if (end == NULL)
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL, "%s: the closing ] is missing", text));
	rest = end + 1 + strspn(end + 1, " \t");
	if (*rest != '\0' && *rest != ';')
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL,
				"\"%s\" stands behind the ], allowed: a comment", rest));
	*end = '\0';
	if (end - text - 1 > INI_NAME_LEN_MAX)
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL,
				"the section's name has %zu characters, allowed: at most %d",
				(size_t)(end - text - 1), INI_NAME_LEN_MAX));
	r->in_section = true;
	rc = r->events->section(r->arg, text + 1, r->line, r->err);
	return rc != 0 ? fail(r, r->line, rc) : 0;
}

/* inih's handler: 1 is good. A continuation line comes with the key of the option above it. */
static int option_take(void *arg, const char *section, const char *key, const char *value)
{
	struct ini_reading *r = arg;

	if (r->failed != 0)
		return 0;
	if (r->continuing)
		return option_continue(r, value) == 0;
	return option_flush(r) == 0 && option_begin(r, key, value) == 0;
}

static int option_begin(struct ini_reading *r, const char *key, const char *value)
{
	if (!r->in_section)
		return fail(r, r->line,
			err_set(r->err, EINVAL, key, "stands before the first [section]"));
	if (strlen(key) >= INI_NAME_LEN_MAX || *key == '\0')
		return fail(r, r->line,
			err_set(r->err, EINVAL, NULL,
				"the key has %zu characters, allowed: 1 to %d", strlen(key),
				INI_NAME_LEN_MAX - 1));
	snprintf(r->key, sizeof(r->key), "%s", key);
	snprintf(r->value, sizeof(r->value), "%s", value);
	r->option_line = r->line;
	return 0;
}

/* Behind a comma nothing is put between the parts, so that lists and devargs may both be folded. */
static int option_continue(struct ini_reading *r, const char *value)
{
	size_t len = strlen(r->value), more = comment_cut(value);
	bool space = len > 0 && r->value[len - 1] != ',';

	if (len + space + more > INI_VALUE_LEN_MAX)
		return fail(r, r->line,
			err_set(r->err, EINVAL, r->key,
				"the value has more than %d characters with this line",
				INI_VALUE_LEN_MAX));
	snprintf(r->value + len, sizeof(r->value) - len, "%s%.*s", space ? " " : "", (int)more,
		value);
	return 0;
}

/* Length of text before a comment: inih leaves the comments of continuation lines in. */
static size_t comment_cut(const char *text)
{
	size_t len = 0;

	while (text[len] != '\0' &&
		!(text[len] == ';' && len > 0 && isspace((unsigned char)text[len - 1])))
		len++;
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	return len;
}

/* An option is told when it cannot go on any more. */
static int option_flush(struct ini_reading *r)
{
	unsigned line = r->option_line;
	int rc;

	if (line == 0)
		return 0;
	r->option_line = 0;
	rc = r->events->option(r->arg, r->key, r->value, line, r->err);
	return rc != 0 ? fail(r, line, rc) : 0;
}

static int fail(struct ini_reading *r, unsigned line, int code)
{
	r->failed = code;
	r->failed_line = line;
	return code;
}
