/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static enum log_level log_level_max = LOG_LEVEL_INFO;

void log_level_set(enum log_level level)
{
	log_level_max = level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	char line[1024];
	va_list args;
	int head, len;

	if (level > log_level_max)
		return;
	head = snprintf(line, sizeof(line), "%s: ", names[level]);
	va_start(args, fmt);
	len = vsnprintf(line + head, sizeof(line) - head - 1, fmt, args);
	va_end(args);
	len = len < 0 ? head : head + len;
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	for (int i = head; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	/* One write per line keeps lines of several threads whole; a log that cannot be written has
	 * nowhere to complain to. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}
