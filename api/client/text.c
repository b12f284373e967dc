/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/client/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *text_si(char out[TEXT_SIZE], double number, const char *unit)
{
	static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
	unsigned i = 0;

	/* what would round to four digits already belongs to the next prefix */
	while (number >= 999.5 && i < sizeof(prefixes) / sizeof(prefixes[0]) - 1) {
		number /= 1000;
		i++;
	}
	snprintf(out, TEXT_SIZE, "%.*f%s%s%s",
		i == 0 || number >= 99.95 ? 0
		: number >= 9.995         ? 1
					  : 2,
		number, i > 0 || *unit != '\0' ? " " : "", prefixes[i], unit);
	return out;
}

const char *text_digits(char out[TEXT_SIZE], int64_t number)
{
	char plain[32];
	size_t len, at = 0;

	snprintf(plain, sizeof(plain), "%" PRIu64,
		number < 0 ? -(uint64_t)number : (uint64_t)number);
	len = strlen(plain);
	if (number < 0)
		out[at++] = '-';
	for (size_t i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = plain[i];
	}
	out[at] = '\0';
	return out;
}

const char *text_time(char out[TEXT_SIZE], const json_t *json)
{
	const char *text = json_string_value(json);
	struct tm tm = {0};
	time_t when;

	if (text == NULL || strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) == NULL)
		return "-";
	when = timegm(&tm);
	strftime(out, TEXT_SIZE, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
	return out;
}

const char *text_duration(char out[TEXT_SIZE], double seconds)
{
	uint64_t whole = seconds > 0 ? (uint64_t)seconds : 0;

	if (whole >= 3600)
		snprintf(out, TEXT_SIZE, "%" PRIu64 ":%02u:%02u", whole / 3600,
			(unsigned)(whole / 60 % 60), (unsigned)(whole % 60));
	else
		snprintf(out, TEXT_SIZE, "%u:%02u", (unsigned)(whole / 60), (unsigned)(whole % 60));
	return out;
}

uint64_t text_number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_real(value) ? (uint64_t)json_real_value(value)
				   : (uint64_t)json_integer_value(value);
}

const char *text_string(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

const char *text_joined(char *out, size_t size, const json_t *array)
{
	const json_t *item;
	size_t i, len = 0;

	*out = '\0';
	json_array_foreach (array, i, item) {
		if (len < size && json_is_string(item))
			len += snprintf(out + len, size - len, "%s%s", len > 0 ? ", " : "",
				json_string_value(item));
	}
	return out;
}

uint64_t text_dropped(const json_t *ledger)
{
	json_t *dropped = json_object_get(ledger, "dropped"), *value;
	uint64_t sum = 0;
	const char *name;

	json_object_foreach (dropped, name, value) {
		sum += json_integer_value(value);
	}
	return sum;
}

const char *text_drop_reasons(char *out, size_t size, const json_t *ledger)
{
	json_t *dropped = json_object_get(ledger, "dropped"), *value;
	char digits[TEXT_SIZE];
	const char *name;
	size_t len = 0;

	*out = '\0';
	json_object_foreach (dropped, name, value) {
		if (json_integer_value(value) != 0 && len < size)
			len += snprintf(out + len, size - len, "%s%s %s", len > 0 ? ", " : "", name,
				text_digits(digits, json_integer_value(value)));
	}
	return out;
}

void table_begin(struct table *table, unsigned n_columns, const char *const *titles)
{
	*table = (struct table){.n_columns = n_columns};
	for (unsigned i = 0; i < n_columns; i++)
		table_cell(table, titles[i]);
}

void table_cell(struct table *table, const char *text)
{
	char *copy = strdup(text), **grown;

	if (copy != NULL && table->n_cells == table->size) {
		table->size = table->size * 2 + 64;
		grown = realloc(table->cells, table->size * sizeof(*grown));
		if (grown == NULL) {
			free(copy);
			copy = NULL;
		} else {
			table->cells = grown;
		}
	}
	/* without memory the table ends early */
	if (copy != NULL)
		table->cells[table->n_cells++] = copy;
}

/* Columns on a terminal, not bytes: continuation bytes of UTF-8 take no room. */
static unsigned width_of(const char *text)
{
	unsigned width = 0;

	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

void table_print(struct table *table)
{
	unsigned widths[TABLE_COLUMNS_MAX] = {0}, n = table->n_columns;

	for (unsigned i = 0; i < table->n_cells; i++) {
		unsigned width = width_of(table->cells[i]) - (i < n && *table->cells[i] == '>');

		if (width > widths[i % n])
			widths[i % n] = width;
	}
	for (unsigned i = 0; i < table->n_cells; i++) {
		const char *text = table->cells[i];
		unsigned column = i % n, pad;
		bool right = *table->cells[column] == '>';

		text += i < n && right;
		pad = widths[column] - width_of(text);
		printf("%*s%s", right ? (int)pad : 0, "", text);
		if (column == n - 1)
			putchar('\n');
		else
			printf("%*s", (right ? 0 : (int)pad) + 2, "");
	}
	table_free(table);
}

void table_free(struct table *table)
{
	for (unsigned i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){0};
}
