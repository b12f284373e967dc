/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_SHOWN_MAX 60 /* bytes of a bad value that an error repeats */
#define NAME_SHOWN_MAX  24

/* Doubles hold whole numbers exactly up to here. */
#define WHOLE_MAX 9007199254740992.0

typedef int json_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err);

static int depth_check(const char *text, size_t len, struct err *err);
static void text_clean(char *text);
static int member_decode(const json_t *object, const struct json_field *field,
	const struct json_shape *shape, void *out, struct err *err);
static int unknown_refuse(const json_t *object, const struct json_shape *shape, struct err *err);
static json_read text_read, bool_read, integer_read, number_read, word_read, texts_read,
	object_read;

/* Of this thread: a piece of a document found no memory since the last one was printed or parsed. */
static __thread bool starved;
static void *(*memory_source)(size_t size) = malloc;

static void *memory_get(size_t size)
{
	void *memory = memory_source(size);

	starved = starved || memory == NULL;
	return memory;
}

static bool starved_take(void)
{
	bool was = starved;

	starved = false;
	return was;
}

void json_memory(void *(*get)(size_t size))
{
	memory_source = get != NULL ? get : malloc;
	json_set_alloc_funcs(memory_get, free);
}

json_t *json_parse(const char *text, size_t len, struct err *err)
{
	json_error_t where;
	json_t *json;

	if (depth_check(text, len, err) < 0)
		return NULL;
	/* Behind a number or a word jansson takes it for the end. */
	if (len > 0 && memchr(text, '\0', len) != NULL) {
		err_set(err, EINVAL, NULL, "malformed JSON: holds a NUL byte");
		return NULL;
	}
	starved_take();
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	if (starved_take()) {
		json_decref(json);
		err_set(err, ENOMEM, NULL, "no memory to read the JSON");
		return NULL;
	}
	if (json == NULL) {
		text_clean(where.text);
		err_set(err, EINVAL, NULL, "malformed JSON at line %d, column %d: %s", where.line,
			where.column, where.text);
	}
	return json;
}

int json_decode(const json_t *object, const struct json_shape *shape, void *out, struct err *err)
{
	int rc;

	if (!json_is_object(object))
		return err_set(err, EINVAL, NULL, "must be a JSON object");
	if (!shape->unknown_ignored) {
		rc = unknown_refuse(object, shape, err);
		if (rc < 0)
			return rc;
	}
	for (unsigned i = 0; i < shape->n_fields; i++) {
		rc = member_decode(object, &shape->fields[i], shape, out, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static char *print(const json_t *json, size_t flags)
{
	char *text =
		json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) | flags);

	/* jansson leaves out what found no memory, and says nothing. */
	if (starved_take()) {
		free(text);
		return NULL;
	}
	return text;
}

char *json_print(const json_t *json)
{
	return print(json, 0);
}

char *json_print_ascii(const json_t *json)
{
	return print(json, JSON_ENSURE_ASCII);
}

json_t *json_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy;

	if (json != NULL)
		return json;
	copy = strdup(text);
	if (copy == NULL)
		return NULL;
	for (char *c = copy; *c != '\0'; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	json = json_string(copy);
	free(copy);
	return json;
}

json_t *json_number(double number)
{
	if (floor(number) == number && fabs(number) <= WHOLE_MAX)
		return json_integer((json_int_t)number);
	return json_real(number);
}

/* jansson's own cap is 2048 levels, each a C stack frame; ours is checked before it starts. */
static int depth_check(const char *text, size_t len, struct err *err)
{
	unsigned depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '{' || c == '['))
			depth++;
		else if (!quoted && (c == '}' || c == ']') && depth > 0)
			depth--;
		if (depth > JSON_DEPTH_MAX)
			return err_set(err, EINVAL, NULL,
				"JSON is nested deeper than %d levels at byte %zu", JSON_DEPTH_MAX,
				i);
	}
	return 0;
}

/* jansson's messages quote the input near the error, cut anywhere. */
static void text_clean(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
			*text = '?';
}

static int unknown_refuse(const json_t *object, const struct json_shape *shape, struct err *err)
{
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)object, name, value) {
		char shown[NAME_SHOWN_MAX + 1], allowed[200];
		size_t len = 0;
		unsigned i;

		for (i = 0; i < shape->n_fields; i++)
			if (strcmp(shape->fields[i].name, name) == 0)
				break;
		if (i < shape->n_fields)
			continue;
		for (i = 0; i < shape->n_fields && len < sizeof(allowed); i++)
			len += snprintf(allowed + len, sizeof(allowed) - len, "%s%s",
				i > 0 ? ", " : "", shape->fields[i].name);
		snprintf(shown, sizeof(shown), "%s", name);
		text_clean(shown);
		return err_set(err, EINVAL, shown, "is not a known member; known: %s", allowed);
	}
	return 0;
}

static int member_decode(const json_t *object, const struct json_field *field,
	const struct json_shape *shape, void *out, struct err *err)
{
	static json_read *const readers[] = {
		[JSON_KIND_TEXT] = text_read,
		[JSON_KIND_LINES] = text_read,
		[JSON_KIND_BOOL] = bool_read,
		[JSON_KIND_INTEGER] = integer_read,
		[JSON_KIND_NUMBER] = number_read,
		[JSON_KIND_WORD] = word_read,
		[JSON_KIND_TEXTS] = texts_read,
		[JSON_KIND_OBJECT] = object_read,
	};
	const json_t *value = json_object_get(object, field->name);

	if (value == NULL || (shape->null_is_absent && json_is_null(value))) {
		if (!field->required)
			return 0;
		return err_set(err, EINVAL, field->name, "is required: %s", field->help);
	}
	return readers[field->kind](value, field, shape, (char *)out + field->offset, err);
}

/* Fill err: the value is not what expected says. */
static int value_refuse(
	const json_t *value, const struct json_field *field, struct err *err, const char *expected)
{
	char *shown = json_print_ascii(value);
	bool cut = shown != NULL && strlen(shown) > VALUE_SHOWN_MAX;

	err_set(err, EINVAL, field->name, "must be %s, not %.*s%s", expected, VALUE_SHOWN_MAX,
		shown != NULL ? shown : "this", cut ? "..." : "");
	free(shown);
	return -EINVAL;
}

static int range_refuse(
	const json_t *value, const struct json_field *field, struct err *err, const char *what)
{
	char expected[120];

	snprintf(expected, sizeof(expected), "%s from %lld to %lld", what, (long long)field->min,
		(long long)field->max);
	return value_refuse(value, field, err, expected);
}

/* C0, DEL and C1 controls, and the marks that make text read otherwise than it is stored. */
static bool text_has_controls(const char *text, bool lines)
{
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		if ((*c < ' ' && !(lines && (*c == '\n' || *c == '\t'))) || *c == 0x7f)
			return true;
		if (c[0] == 0xc2 && c[1] < 0xa0)
			return true;
		if (c[0] == 0xe2 && c[1] == 0x80 && c[2] >= 0xa8 && c[2] <= 0xae)
			return true;
		if (c[0] == 0xe2 && c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9)
			return true;
	}
	return false;
}

static int text_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);
	char expected[80];

	if (text == NULL)
		return value_refuse(value, field, err, "a string");
	if (len < (size_t)field->min || len > (size_t)field->max) {
		snprintf(expected, sizeof(expected), "a string of %lld to %lld bytes",
			(long long)field->min, (long long)field->max);
		return value_refuse(value, field, err, expected);
	}
	if (text_has_controls(text, field->kind == JSON_KIND_LINES))
		return value_refuse(value, field, err, "text without control characters");
	*(const char **)to = text;
	return 0;
}

static int bool_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	if (!json_is_boolean(value))
		return value_refuse(value, field, err, "true or false");
	*(bool *)to = json_is_true(value);
	return 0;
}

static int integer_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	double real = json_real_value(value);
	json_int_t number = json_integer_value(value);

	if (shape->real_is_integer && json_is_real(value) && floor(real) == real &&
		fabs(real) <= WHOLE_MAX)
		number = (json_int_t)real;
	else if (!json_is_integer(value))
		return range_refuse(value, field, err, "an integer");
	if (number < field->min || number > field->max)
		return range_refuse(value, field, err, "an integer");
	*(uint64_t *)to = (uint64_t)number;
	return 0;
}

static int number_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	double number = json_number_value(value);

	if (!json_is_number(value) || number < (double)field->min || number > (double)field->max)
		return range_refuse(value, field, err, "a number");
	*(double *)to = number;
	return 0;
}

static int word_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	const char *text = json_string_value(value);
	char expected[160] = "one of: ";
	size_t len = strlen(expected);
	unsigned i;

	for (i = 0; field->words[i] != NULL; i++) {
		if (text != NULL && strcmp(field->words[i], text) == 0) {
			*(unsigned *)to = i;
			return 0;
		}
	}
	if (i == 1) {
		snprintf(expected, sizeof(expected), "\"%s\"", field->words[0]);
		return value_refuse(value, field, err, expected);
	}
	for (i = 0; field->words[i] != NULL && len < sizeof(expected); i++)
		len += snprintf(expected + len, sizeof(expected) - len, "%s%s", i > 0 ? ", " : "",
			field->words[i]);
	return value_refuse(value, field, err, expected);
}

static int texts_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	const struct json_field item = {.kind = JSON_KIND_TEXT, .min = 1, .max = 255};
	struct json_texts *texts = to;
	size_t n = json_array_size(value);
	char expected[80];
	int rc;

	if (!json_is_array(value) || n < (size_t)field->min || n > (size_t)field->max ||
		n > JSON_TEXTS_MAX) {
		snprintf(expected, sizeof(expected), "an array of %lld to %lld strings",
			(long long)field->min, (long long)field->max);
		return value_refuse(value, field, err, expected);
	}
	texts->n = n;
	for (size_t i = 0; i < n; i++) {
		struct json_field one = item;
		char name[64];

		snprintf(name, sizeof(name), "%s.%zu", field->name, i);
		one.name = name;
		rc = text_read(json_array_get(value, i), &one, shape, &texts->item[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int object_read(const json_t *value, const struct json_field *field,
	const struct json_shape *shape, void *to, struct err *err)
{
	if (!json_is_object(value))
		return value_refuse(value, field, err, "an object");
	if (json_decode(value, field->shape, to, err) < 0) {
		err_prefix(err, field->name);
		return -EINVAL;
	}
	return 0;
}
