/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/rfc3339.h"

#include <ctype.h>
#include <stdio.h>
#include <time.h>

#define NS_PER_S 1000000000ULL

static const char *digits_take(
	const char *text, unsigned n, unsigned min, unsigned max, int *value);
static const char *fraction_take(const char *text, uint64_t *ns);
static const char *offset_take(const char *text, int *seconds);

void rfc3339_print(uint64_t wall_ns, unsigned decimals, char text[RFC3339_SIZE])
{
	time_t seconds = wall_ns / NS_PER_S;
	unsigned fraction = wall_ns % NS_PER_S;
	struct tm tm;
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(text, RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	if (decimals > 0) {
		for (unsigned i = decimals; i < 9; i++)
			fraction /= 10;
		len += snprintf(text + len, RFC3339_SIZE - len, ".%0*u", (int)decimals, fraction);
	}
	snprintf(text + len, RFC3339_SIZE - len, "Z");
}

bool rfc3339_parse(const char *text, uint64_t *wall_ns)
{
	struct tm date = {0};
	uint64_t fraction = 0;
	int year, month, day, hour, minute, second, offset_s;
	time_t midnight_s, seconds;

	text = digits_take(text, 4, 1970, 2553, &year);
	text = text != NULL && *text == '-' ? digits_take(text + 1, 2, 1, 12, &month) : NULL;
	text = text != NULL && *text == '-' ? digits_take(text + 1, 2, 1, 31, &day) : NULL;
	if (text == NULL || (*text != 'T' && *text != 't'))
		return false;
	text = digits_take(text + 1, 2, 0, 23, &hour);
	text = text != NULL && *text == ':' ? digits_take(text + 1, 2, 0, 59, &minute) : NULL;
	/* 60 is a leap second, which the clock counts as the next minute's first. */
	text = text != NULL && *text == ':' ? digits_take(text + 1, 2, 0, 60, &second) : NULL;
	text = text != NULL ? fraction_take(text, &fraction) : NULL;
	text = text != NULL ? offset_take(text, &offset_s) : NULL;
	if (text == NULL || *text != '\0')
		return false;

	date.tm_year = year - 1900;
	date.tm_mon = month - 1;
	date.tm_mday = day;
	midnight_s = timegm(&date);
	/* timegm turns 30 February into 2 March: a date that does not exist. */
	if (date.tm_mday != day)
		return false;
	seconds = midnight_s + hour * 3600 + minute * 60 + second - offset_s;
	if (seconds < 0)
		return false;
	*wall_ns = (uint64_t)seconds * NS_PER_S + fraction;
	return true;
}

uint64_t rfc3339_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Exactly n digits whose number is in min..max. Returns what is behind them, or NULL. */
static const char *digits_take(const char *text, unsigned n, unsigned min, unsigned max, int *value)
{
	unsigned number = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!isdigit((unsigned char)text[i]))
			return NULL;
		number = number * 10 + (text[i] - '0');
	}
	*value = (int)number;
	return number >= min && number <= max ? text + n : NULL;
}

static const char *fraction_take(const char *text, uint64_t *ns)
{
	uint64_t unit = NS_PER_S / 10;

	if (*text != '.')
		return text;
	if (!isdigit((unsigned char)*++text))
		return NULL;
	for (; isdigit((unsigned char)*text); text++, unit /= 10)
		*ns += unit * (*text - '0');
	return text;
}

static const char *offset_take(const char *text, int *seconds)
{
	int sign = *text == '-' ? -1 : 1;
	int hours, minutes;

	*seconds = 0;
	if (*text == 'Z' || *text == 'z')
		return text + 1;
	if (*text != '+' && *text != '-')
		return NULL;
	text = digits_take(text + 1, 2, 0, 23, &hours);
	text = text != NULL && *text == ':' ? digits_take(text + 1, 2, 0, 59, &minutes) : NULL;
	if (text != NULL)
		*seconds = sign * (hours * 3600 + minutes * 60);
	return text;
}
