/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The daemon's log: one line an event on standard error, "level: lower-case sentence key=value". Any
 * thread but the lcores and writers, which count instead of talking. Text that came from outside is
 * escaped so that a line stays a line.
 */
#ifndef CONFIG_LOG_H
#define CONFIG_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Lines above this level are not written. Default LOG_LEVEL_INFO. */
void log_level_set(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
