/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/request.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/route.h"

static int segments_cut(struct request *request, char *path);
static int params_cut(struct request *request, char *query);
static int text_decode(char *text, bool plus_is_space);
static bool text_valid(const char *text);

int request_target_parse(struct request *request, const char *path, const char *query)
{
	size_t path_size = strlen(path) + 1;
	size_t query_size = query != NULL ? strlen(query) + 1 : 0;
	int rc;

	request->text = malloc(path_size + query_size);
	if (request->text == NULL)
		return -ENOMEM;
	memcpy(request->text, path, path_size);
	rc = segments_cut(request, request->text);
	if (rc < 0 || query == NULL)
		return rc;
	memcpy(request->text + path_size, query, query_size);
	return params_cut(request, request->text + path_size);
}

const char *request_param(const struct request *request, const char *name)
{
	for (unsigned i = 0; i < request->n_params; i++)
		if (strcmp(request->params[i].name, name) == 0)
			return request->params[i].value;
	return NULL;
}

static bool word_in(const char *word, const char *words)
{
	size_t len = strlen(word);

	for (const char *at = words; at != NULL && *at != '\0'; at += strspn(at, " ")) {
		size_t n = strcspn(at, " ");

		if (n == len && memcmp(at, word, n) == 0)
			return true;
		at += n;
	}
	return false;
}

int request_params_check(const struct request *request, const char *known, struct err *err)
{
	for (unsigned i = 0; i < request->n_params; i++) {
		const char *name = request->params[i].name;
		char shown[32];

		snprintf(shown, sizeof(shown), "%.30s", name);
		if (!word_in(name, known))
			return err_set(err, EINVAL, shown, "is not a known parameter; known: %s",
				known != NULL ? known : "none");
		if (request_param(request, name) != request->params[i].value)
			return err_set(err, EINVAL, shown, "is given twice");
	}
	return 0;
}

int request_param_number(const struct request *request, const char *name, uint64_t min,
	uint64_t max, uint64_t fallback, uint64_t *number, struct err *err)
{
	const char *text = request_param(request, name);
	char *end;

	*number = fallback;
	if (text == NULL)
		return 0;
	errno = 0;
	*number = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0 || *number < min ||
		*number > max)
		return err_set(err, EINVAL, name,
			"must be an integer from %" PRIu64 " to %" PRIu64 ", not \"%.40s\"", min,
			max, text);
	return 0;
}

const char *request_arg(const struct request *request, unsigned n)
{
	const char *at = request->route->path;

	/* Segment i of the path stands against the i-th part of the pattern, "/accounts/{}/pcaps".
	 */
	for (unsigned i = request->n_skipped; i < request->n_segments; i++) {
		at = strchr(at, '/') + 1;
		if (*at == '{' && n-- == 0)
			return request->segments[i];
	}
	return "";
}

const char *request_method_name(enum method method)
{
	static const char *const names[] = {
#define X(name) #name,
		REQUEST_METHODS(X)
#undef X
	};

	return names[method];
}

static int segments_cut(struct request *request, char *path)
{
	char *save, *next;

	if (*path != '/')
		return *path == '\0' ? 0 : -ENOENT;
	if (path[1] == '\0')
		return 0;
	for (save = path + 1; save != NULL; save = next) {
		next = strchr(save, '/');
		if (next != NULL)
			*next++ = '\0';
		if (request->n_segments == REQUEST_SEGMENTS_MAX || text_decode(save, false) < 0)
			return -ENOENT;
		request->segments[request->n_segments++] = save;
	}
	return 0;
}

static int params_cut(struct request *request, char *query)
{
	char *next, *value;

	for (; query != NULL; query = next) {
		next = strchr(query, '&');
		if (next != NULL)
			*next++ = '\0';
		if (*query == '\0')
			continue;
		value = strchr(query, '=');
		if (value != NULL)
			*value++ = '\0';
		if (request->n_params == REQUEST_PARAMS_MAX || text_decode(query, true) < 0 ||
			(value != NULL && text_decode(value, true) < 0))
			return -EINVAL;
		request->params[request->n_params].name = query;
		request->params[request->n_params++].value = value != NULL ? value : "";
	}
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decode in place. */
static int text_decode(char *text, bool plus_is_space)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		if (*from == '%') {
			int high = hex_value(from[1]);
			int low = high < 0 ? -1 : hex_value(from[2]);

			if (low < 0)
				return -EINVAL;
			*to++ = (char)(high << 4 | low);
			from += 2;
		} else {
			*to++ = *from == '+' && plus_is_space ? ' ' : *from;
		}
		if (to[-1] == '\0')
			return -EINVAL;
	}
	*to = '\0';
	return text_valid(text) ? 0 : -EINVAL;
}

/* UTF-8 without control characters; overlong forms and surrogates are none. */
static bool text_valid(const char *text)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		unsigned more = *c < 0x80 ? 0 : *c >= 0xf0 ? 3 : *c >= 0xe0 ? 2 : 1;
		uint32_t point = more == 0 ? *c : *c & (0x3fU >> more);

		if (*c < ' ' || *c == 0x7f || (*c >= 0x80 && *c < 0xc2) || *c > 0xf4)
			return false;
		for (unsigned i = 0; i < more; i++) {
			if ((*++c & 0xc0) != 0x80)
				return false;
			point = point << 6 | (*c & 0x3f);
		}
		if (point < least[more] || (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
			return false;
	}
	return true;
}
