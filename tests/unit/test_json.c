/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * config/json: what parses, what a table accepts, and what its errors say.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/json.h"

struct inner {
	uint64_t count;
	double share;
};

struct outer {
	const char *name;
	bool on;
	unsigned colour;
	struct json_texts list;
	struct inner inner;
};

static const char *const colours[] = {"red", "green", NULL};
static const char *const only[] = {"this", NULL};

static const struct json_field inner_fields[] = {
	{"count", JSON_KIND_INTEGER, offsetof(struct inner, count), .min = 1, .max = INT64_MAX,
		.help = "how many"},
	{"share", JSON_KIND_NUMBER, offsetof(struct inner, share), .min = 0, .max = 1,
		.help = "a part"},
};
static const struct json_shape inner_shape = {JSON_SHAPE_FIELDS(inner_fields)};

static const struct json_field outer_fields[] = {
	{"name", JSON_KIND_TEXT, offsetof(struct outer, name), .min = 1, .max = 8, .required = true,
		.help = "a name"},
	{"on", JSON_KIND_BOOL, offsetof(struct outer, on), .help = "on or off"},
	{"colour", JSON_KIND_WORD, offsetof(struct outer, colour), .words = colours,
		.help = "a colour"},
	{"list", JSON_KIND_TEXTS, offsetof(struct outer, list), .min = 1, .max = 3,
		.help = "some texts"},
	{"inner", JSON_KIND_OBJECT, offsetof(struct outer, inner), .shape = &inner_shape,
		.help = "an object"},
};
static const struct json_shape strict = {JSON_SHAPE_FIELDS(outer_fields)};
static const struct json_shape lenient = {JSON_SHAPE_FIELDS(outer_fields), .unknown_ignored = true,
	.null_is_absent = true, .real_is_integer = true};

static int decode(const char *text, const struct json_shape *shape, struct outer *out,
	json_t **document, struct err *err)
{
	memset(err, 0, sizeof(*err));
	*document = json_parse(text, strlen(text), err);
	assert_non_null(*document);
	return json_decode(*document, shape, out, err);
}

static void values_reach_their_members(void **state)
{
	struct outer out = {.colour = 7};
	json_t *document;
	struct err err;

	assert_int_equal(decode("{\"name\":\"n\\u00e4me\",\"on\":true,\"colour\":\"green\","
				"\"list\":[\"a\",\"b\"],\"inner\":{\"count\":9223372036854775807,"
				"\"share\":0.25}}",
				 &strict, &out, &document, &err),
		0);
	assert_string_equal(out.name, "n\303\244me");
	assert_true(out.on);
	assert_int_equal(out.colour, 1);
	assert_int_equal(out.list.n, 2);
	assert_string_equal(out.list.item[1], "b");
	assert_true(out.inner.count == INT64_MAX);
	assert_true(out.inner.share == 0.25);
	json_decref(document);
}

static void absent_members_keep_their_default(void **state)
{
	struct outer out = {.colour = 7, .inner.count = 3};
	json_t *document;
	struct err err;

	assert_int_equal(decode("{\"name\":\"n\"}", &strict, &out, &document, &err), 0);
	assert_int_equal(out.colour, 7);
	assert_int_equal(out.inner.count, 3);
	json_decref(document);
}

/* The path of the member, and what of the value and of what is allowed the sentence must hold. */
static void errors_name_field_value_and_what_is_allowed(void **state)
{
	static const struct {
		const char *text, *field, *words[3];
	} cases[] = {
		{"{}", "name", {"required", "a name"}},
		{"{\"name\":null}", "name", {"string", "null"}},
		{"{\"name\":\"\"}", "name", {"1 to 8 bytes"}},
		{"{\"name\":\"123456789\"}", "name", {"1 to 8 bytes", "123456789"}},
		{"{\"name\":\"a\\nb\"}", "name", {"control"}},
		{"{\"name\":\"a\\u202eb\"}", "name", {"control"}},
		{"{\"name\":\"a\\u0085b\"}", "name", {"control"}},
		{"{\"name\":5}", "name", {"string", "5"}},
		{"{\"name\":\"n\",\"on\":1}", "on", {"true or false", "1"}},
		{"{\"name\":\"n\",\"colour\":\"blue\"}", "colour", {"red, green", "blue"}},
		{"{\"name\":\"n\",\"colour\":1}", "colour", {"red, green", "1"}},
		{"{\"name\":\"n\",\"list\":\"a\"}", "list", {"array of 1 to 3", "\"a\""}},
		{"{\"name\":\"n\",\"list\":[]}", "list", {"1 to 3"}},
		{"{\"name\":\"n\",\"list\":[\"a\",\"a\",\"a\",\"a\"]}", "list", {"1 to 3"}},
		{"{\"name\":\"n\",\"list\":[\"a\",2]}", "list.1", {"string", "2"}},
		{"{\"name\":\"n\",\"inner\":[]}", "inner", {"object", "[]"}},
		{"{\"name\":\"n\",\"inner\":{\"count\":0}}", "inner.count",
			{"integer from 1 to 9223372036854775807", "0"}},
		{"{\"name\":\"n\",\"inner\":{\"count\":1.5}}", "inner.count", {"integer", "1.5"}},
		{"{\"name\":\"n\",\"inner\":{\"count\":3.0}}", "inner.count", {"integer", "3.0"}},
		{"{\"name\":\"n\",\"inner\":{\"count\":\"3\"}}", "inner.count",
			{"integer", "\"3\""}},
		{"{\"name\":\"n\",\"inner\":{\"share\":1.1}}", "inner.share",
			{"number from 0 to 1"}},
		{"{\"name\":\"n\",\"inner\":{\"shares\":1}}", "inner.shares",
			{"not a known member", "count, share"}},
		{"{\"name\":\"n\",\"x\":1}", "x", {"not a known member", "colour"}},
		{"[]", "", {"object"}},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct outer out = {0};
		json_t *document;
		struct err err;

		assert_int_equal(decode(cases[i].text, &strict, &out, &document, &err), -EINVAL);
		assert_int_equal(err.code, EINVAL);
		assert_string_equal(err.field, cases[i].field);
		for (unsigned k = 0; k < 3 && cases[i].words[k] != NULL; k++)
			if (strstr(err.text, cases[i].words[k]) == NULL)
				fail_msg("%s: \"%s\" lacks \"%s\"", cases[i].text, err.text,
					cases[i].words[k]);
		json_decref(document);
	}
}

static void one_word_is_told_as_such(void **state)
{
	static const struct json_field fields[] = {
		{"colour", JSON_KIND_WORD, 0, .words = only, .help = "this"},
	};
	static const struct json_shape shape = {JSON_SHAPE_FIELDS(fields)};
	json_t *document = json_pack("{s:s}", "colour", "that");
	unsigned word;
	struct err err;

	assert_int_equal(json_decode(document, &shape, &word, &err), -EINVAL);
	assert_string_equal(err.text, "must be \"this\", not \"that\"");
	json_decref(document);
}

static void a_lenient_shape_forgives(void **state)
{
	struct outer out = {.colour = 7};
	struct json_shape inner = inner_shape;
	json_t *document;
	struct err err;
	uint64_t count = 0;
	const struct json_field fields[] = {
		{"count", JSON_KIND_INTEGER, 0, .max = 10000, .help = "how many"}};

	assert_int_equal(decode("{\"name\":\"n\",\"x\":{},\"colour\":null}", &lenient, &out,
				 &document, &err),
		0);
	assert_int_equal(out.colour, 7);
	json_decref(document);

	inner.fields = fields;
	inner.n_fields = 1;
	inner.real_is_integer = true;
	document = json_pack("{s:f}", "count", 300.0);
	assert_int_equal(json_decode(document, &inner, &count, &err), 0);
	assert_int_equal(count, 300);
	json_decref(document);
	document = json_pack("{s:f}", "count", 300.5);
	assert_int_equal(json_decode(document, &inner, &count, &err), -EINVAL);
	json_decref(document);
}

static void what_is_not_json_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"{}x",
		"{} {}",
		"{\"a\":1,\"a\":2}",
		"{\"a\":1,}",
		"{'a':1}",
		"{a:1}",
		"[1,]",
		"// no\n{}",
		"{\"a\":NaN}",
		"{\"a\":1e400}",
		"{\"a\":99999999999999999999}",
		"{\"a\":01}",
		"{\"a\":\"\\ud800\"}",
		"{\"a\":\"\\u0000\"}",
		"{\"a\":\"\xff\"}",
		"{\"a\":\"\xc0\xaf\"}",
		"{\"a\":\"tab\there\"}",
		"\xef\xbb\xbf{}",
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = {0};

		if (json_parse(bad[i], strlen(bad[i]), &err) != NULL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(err.code, EINVAL);
		assert_non_null(strstr(err.text, "JSON"));
		for (const char *c = err.text; *c != '\0'; c++)
			assert_in_range(*c, ' ', '~');
	}
}

static void depth_ends_at_32(void **state)
{
	static const char quoted[] = "\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"";
	char text[2 * (JSON_DEPTH_MAX + 1) + 1] = "";
	struct err err;
	json_t *document;

	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	document = json_parse(text, strlen(text), &err);
	assert_non_null(document);
	json_decref(document);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	assert_null(json_parse(text, strlen(text), &err));
	assert_non_null(strstr(err.text, "32"));
	/* Brackets in a string are text. */
	document = json_parse(quoted, strlen(quoted), &err);
	assert_non_null(document);
	json_decref(document);
}

static void cut_text_becomes_a_string(void **state)
{
	json_t *json = json_text("a\303");

	assert_string_equal(json_string_value(json), "a?");
	json_decref(json);
}

static void numbers_print_as_short_as_they_are(void **state)
{
	static const struct {
		double number;
		const char *text;
	} cases[] = {{300, "300"}, {0.5, "0.5"}, {0.1, "0.1"}, {0, "0"}};

	for (unsigned i = 0; i < 4; i++) {
		json_t *json = json_number(cases[i].number);
		char *text = json_print(json);

		assert_string_equal(text, cases[i].text);
		free(text);
		json_decref(json);
	}
}

static unsigned fails_at, n_asked;

static void *memory_with_a_hole(size_t size)
{
	return ++n_asked == fails_at ? NULL : malloc(size);
}

/* Whatever piece found no memory: that document is not printed, and the next one is. */
static void what_found_no_memory_is_told_once(void **state)
{
	json_memory(memory_with_a_hole);
	for (fails_at = 1;; fails_at++) {
		json_t *json, *next;
		char *text, *ascii;

		n_asked = 0;
		json = json_object();
		json_object_set_new(json, "one", json_real(0.1));
		text = json_print_ascii(json);
		next = json_string("\u00fc");
		ascii = json_print_ascii(next);
		if (n_asked < fails_at)
			assert_string_equal(text, "{\"one\":0.1}");
		else if (text != NULL) /* it came later */
			assert_null(ascii);
		if (text == NULL)
			assert_string_equal(ascii, "\"\\u00FC\"");
		free(text);
		free(ascii);
		json_decref(json);
		json_decref(next);
		if (n_asked < fails_at)
			break;
	}
	assert_true(fails_at > 5);
	json_memory(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_reach_their_members),
		cmocka_unit_test(absent_members_keep_their_default),
		cmocka_unit_test(errors_name_field_value_and_what_is_allowed),
		cmocka_unit_test(one_word_is_told_as_such),
		cmocka_unit_test(a_lenient_shape_forgives),
		cmocka_unit_test(what_is_not_json_is_refused),
		cmocka_unit_test(depth_ends_at_32),
		cmocka_unit_test(cut_text_becomes_a_string),
		cmocka_unit_test(numbers_print_as_short_as_they_are),
		cmocka_unit_test(what_found_no_memory_is_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
