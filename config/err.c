/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *field, const char *fmt, ...)
{
	va_list args;

	if (err == NULL)
		return -code;
	err->code = code;
	snprintf(err->field, sizeof(err->field), "%s", field != NULL ? field : "");
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return -code;
}

int err_prefix(struct err *err, const char *prefix)
{
	char field[sizeof(err->field)];

	if (err == NULL)
		return -1;
	snprintf(field, sizeof(field), "%s%s%.*s", prefix, err->field[0] != '\0' ? "." : "",
		(int)(sizeof(field) - strlen(prefix) - 2), err->field);
	memcpy(err->field, field, sizeof(field));
	return -err->code;
}
