/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Bodies of the native API: what is accepted lies within its bounds, what is refused says why, JSON that
 * was read is JSON that can be written and read again, and what is taken as JSON is what RFC 8259 calls so,
 * as a second reader of it says.
 */
#include "fuzz.h"

#include <string.h>

#include "api/native_json.h"

static const struct principal who = {.name = "op", .account = "default", .role = ROLE_OPERATOR};
static struct config *config;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	config = fuzz_config();
	return 0;
}

static void spec_check(const struct session_spec *spec)
{
	fuzz_check(spec->n_ports >= 1 && spec->n_ports <= CONFIG_PORTS_MAX);
	for (unsigned i = 0; i < spec->n_ports; i++) {
		fuzz_check(spec->ports[i] < config->n_ports);
		for (unsigned k = 0; k < i; k++)
			fuzz_check(spec->ports[i] != spec->ports[k]);
	}
	fuzz_check(strcmp(spec->account, who.account) == 0);
	fuzz_check(strcmp(spec->owner, who.name) == 0);
	fuzz_check(spec->sample_n >= 1);
	fuzz_check(spec->snaplen_bytes <= 262144);
	fuzz_check(spec->name == NULL || strlen(spec->name) < SESSION_NAME_MAX);
	fuzz_check(spec->notes == NULL || strlen(spec->notes) < SESSION_NOTES_MAX);
	fuzz_check(spec->filter == NULL || strlen(spec->filter) < FILTER_EXPRESSION_MAX);
}

static void answer_check(int rc, const struct err *err)
{
	fuzz_check(rc == 0 || (rc == -err->code && err->text[0] != '\0'));
	if (rc != 0)
		json_decref(native_error(400, err));
}

/* --- RFC 8259, read another time ---------------------------------------------------------------
 */

struct reader {
	const uint8_t *at, *end;
	unsigned depth;
};

static bool value_read(struct reader *r);

static bool byte_read(struct reader *r, char c)
{
	if (r->at == r->end || *r->at != (uint8_t)c)
		return false;
	r->at++;
	return true;
}

static void blanks_read(struct reader *r)
{
	while (r->at < r->end && memchr(" \t\r\n", *r->at, 4) != NULL)
		r->at++;
}

static bool digits_read(struct reader *r)
{
	const uint8_t *begin = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return r->at > begin;
}

static bool number_read(struct reader *r)
{
	byte_read(r, '-');
	if (!byte_read(r, '0') && !digits_read(r))
		return false;
	if (byte_read(r, '.') && !digits_read(r))
		return false;
	if (byte_read(r, 'e') || byte_read(r, 'E')) {
		if (!byte_read(r, '+'))
			byte_read(r, '-');
		return digits_read(r);
	}
	return true;
}

/* The code unit of an escape "\uXXXX"; 0 for none, which no text of ours may hold either. */
static uint32_t unit_read(struct reader *r)
{
	uint32_t unit = 0;

	if (!byte_read(r, '\\') || !byte_read(r, 'u') || r->end - r->at < 4)
		return 0;
	for (unsigned i = 0; i < 4; i++, r->at++) {
		static const char hex[] = "0123456789abcdef";
		const char *digit = *r->at != 0 ? strchr(hex, *r->at | 0x20) : NULL;

		if (digit == NULL || *r->at < '0')
			return 0;
		unit = unit << 4 | (uint32_t)(digit - hex);
	}
	return unit;
}

static bool escape_read(struct reader *r)
{
	uint32_t unit;

	if (r->end - r->at >= 2 && r->at[1] != 0 && strchr("\"\\/bfnrt", r->at[1]) != NULL) {
		r->at += 2;
		return true;
	}
	unit = unit_read(r);
	if (unit >> 10 == 0xd800 >> 10)
		return unit_read(r) >> 10 == 0xdc00 >> 10;
	return unit != 0 && unit >> 10 != 0xdc00 >> 10;
}

/* A character of UTF-8 beyond ASCII: the shortest form, no surrogate, at most U+10FFFF. */
static bool character_read(struct reader *r)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned len = *r->at >= 0xf0 ? 4 : *r->at >= 0xe0 ? 3 : 2;
	uint32_t code = *r->at & (0xffU >> (len + 1));

	if (*r->at < 0xc0 || *r->at >= 0xf8 || r->end - r->at < (ptrdiff_t)len)
		return false;
	for (unsigned i = 1; i < len; i++) {
		if ((r->at[i] & 0xc0) != 0x80)
			return false;
		code = code << 6 | (r->at[i] & 0x3f);
	}
	r->at += len;
	return code >= least[len] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool string_read(struct reader *r)
{
	if (!byte_read(r, '"'))
		return false;
	while (r->at < r->end && *r->at != '"') {
		if (*r->at == '\\') {
			if (!escape_read(r))
				return false;
		} else if (*r->at >= 0x80) {
			if (!character_read(r))
				return false;
		} else if (*r->at++ < 0x20) {
			return false;
		}
	}
	return byte_read(r, '"');
}

static bool list_read(struct reader *r, bool object)
{
	const char last = object ? '}' : ']';

	if (++r->depth > JSON_DEPTH_MAX)
		return false;
	r->at++;
	blanks_read(r);
	if (!byte_read(r, last)) {
		do {
			blanks_read(r);
			if (object) {
				if (!string_read(r))
					return false;
				blanks_read(r);
				if (!byte_read(r, ':'))
					return false;
			}
			if (!value_read(r))
				return false;
		} while (byte_read(r, ','));
		if (!byte_read(r, last))
			return false;
	}
	r->depth--;
	return true;
}

static bool word_read(struct reader *r)
{
	static const char *const words[] = {"true", "false", "null"};

	for (unsigned i = 0; i < 3; i++) {
		const size_t len = strlen(words[i]);

		if ((size_t)(r->end - r->at) >= len && memcmp(r->at, words[i], len) == 0) {
			r->at += len;
			return true;
		}
	}
	return false;
}

/* A value and the blanks around it. */
static bool value_read(struct reader *r)
{
	bool good;

	blanks_read(r);
	if (r->at == r->end)
		return false;
	switch (*r->at) {
	case '{':
	case '[':
		good = list_read(r, *r->at == '{');
		break;
	case '"':
		good = string_read(r);
		break;
	case 't':
	case 'f':
	case 'n':
		good = word_read(r);
		break;
	default:
		good = number_read(r);
	}
	blanks_read(r);
	return good;
}

static bool reference_accepts(const char *text, size_t size)
{
	struct reader r = {(const uint8_t *)text, (const uint8_t *)text + size, 0};

	return value_read(&r) && r.at == r.end;
}

/* What is JSON, and more than we take. */
static bool refused_for_more(const char *why)
{
	return strstr(why, "duplicate object key") != NULL || strstr(why, "too big") != NULL ||
	       strstr(why, "overflow") != NULL;
}

/* Numbers are shown shorter than they are kept, so it is what was written that must not change; next to the
 * largest one they may be rounded to what is none. */
static void json_check(const char *text, size_t size)
{
	const bool accepted = reference_accepts(text, size);
	struct err err = {0};
	json_t *json = json_parse(text, size, &err), *again;
	char *printed, *twice;

	if (json == NULL) {
		fuzz_check(err.code != 0 && err.text[0] != '\0');
		fuzz_check(!accepted || refused_for_more(err.text));
		return;
	}
	fuzz_check(accepted);
	printed = json_print(json);
	fuzz_check(printed != NULL);
	again = json_parse(printed, strlen(printed), &err);
	fuzz_check(again != NULL || refused_for_more(err.text));
	twice = again != NULL ? json_print(again) : NULL;
	fuzz_check(again == NULL || (twice != NULL && strcmp(printed, twice) == 0));
	json_decref(again);
	json_decref(json);
	free(printed);
	free(twice);
}

/* --- bodies ------------------------------------------------------------------------------------
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct session_spec spec = {0};
	struct native_patch patch = {0};
	struct auth_token token = {0};
	json_t *document = NULL;
	struct err err = {0};
	int rc;

	json_check(text, size);
	rc = native_spec_decode(text, size, config, &who, &spec, &document, &err);
	answer_check(rc, &err);
	if (rc == 0)
		spec_check(&spec);
	json_decref(document);
	document = NULL;
	err = (struct err){0};
	rc = native_patch_decode(text, size, &patch, &document, &err);
	answer_check(rc, &err);
	json_decref(document);
	err = (struct err){0};
	rc = native_token_decode(text, size, config, &token, &err);
	answer_check(rc, &err);
	if (rc == 0)
		fuzz_check(token.name[0] != '\0' && token.role != ROLE_NONE);
	free(text);
	return 0;
}
