/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/filters.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "config/json.h"
#include "engine/filter.h"
#include "api/request.h"
#include "api/route.h"

#define QUOTED_MAX 63 /* bytes of a word in a message; a longer one is cut */

struct filters_request {
	const char *filter;
};

static const struct json_field fields[] = {
	{"filter", JSON_KIND_LINES, offsetof(struct filters_request, filter),
		.max = FILTER_EXPRESSION_MAX - 1, .required = true,
		.help = "a pcap filter expression"},
};
static const struct json_shape shape = {JSON_SHAPE_FIELDS(fields)};

/* A filter that is being compiled. */
struct check {
	struct request *request;
	json_t *document; /* what filter lives in */
	const char *filter;
};

static struct event_base *filters_base;

static bool check_begin(struct check *check, struct err *err);
static void check_ready(evutil_socket_t fd, short what, void *arg);
static void check_free(struct check *check);
static json_t *verdict(const char *filter, unsigned n_instructions, const struct err *err);
static size_t quoted_len(const char *message, const char *text);
static bool is_word(char c);
static size_t word_len(const char *text);

void filters_start(struct event_base *base)
{
	filters_base = base;
}

void filters_check(struct request *request)
{
	struct filters_request wanted = {0};
	struct check *check;
	struct err err;

	if (!route_body_is_json(request))
		return;
	check = calloc(1, sizeof(*check));
	if (check == NULL) {
		err_set(&err, ENOMEM, NULL, "no memory");
		route_error(request, 503, &err);
		return;
	}
	check->request = request;
	check->document = json_parse(request->body, request->body_len, &err);
	if (check->document == NULL || json_decode(check->document, &shape, &wanted, &err) < 0) {
		route_error(request, 400, &err);
		check_free(check);
		return;
	}
	check->filter = wanted.filter;
	if (wanted.filter[strspn(wanted.filter, " \t\n")] == '\0') {
		route_reply(request, 200, verdict(wanted.filter, 0, NULL));
		check_free(check);
	} else if (!check_begin(check, &err)) {
		route_error(request, 503, &err);
		check_free(check);
	}
}

static bool check_begin(struct check *check, struct err *err)
{
	const int fd = filter_compile_start(check->filter);

	if (fd >= 0 && event_base_once(filters_base, fd, EV_READ, check_ready, check, NULL) == 0)
		return true;
	err_set(err, EAGAIN, "filter", "cannot be compiled now");
	if (fd >= 0)
		evutil_closesocket(fd);
	return false;
}

static void check_ready(evutil_socket_t fd, short what, void *arg)
{
	static struct filter_code code;
	struct check *check = arg;
	struct err err = {0};

	filter_compile_finish(fd, &code, &err);
	/* EAGAIN says nothing about the filter. */
	if (err.code != 0 && err.code != EINVAL)
		route_error(check->request, route_status(&err), &err);
	else
		route_reply(check->request, 200,
			verdict(check->filter, code.n, err.code != 0 ? &err : NULL));
	check_free(check);
}

static void check_free(struct check *check)
{
	json_decref(check->document);
	free(check);
}

static json_t *verdict(const char *filter, unsigned n_instructions, const struct err *err)
{
	size_t offset, len;
	json_t *error;

	if (err == NULL)
		return json_pack("{s:b, s:i, s:n}", "valid", 1, "instructions", (int)n_instructions,
			"error");
	error = json_pack("{s:o, s:n, s:n}", "detail", json_text(err->text), "offset", "length");
	if (filters_locate(filter, err->text, &offset, &len)) {
		json_object_set_new(error, "offset", json_integer((json_int_t)offset));
		json_object_set_new(error, "length", json_integer((json_int_t)len));
	}
	return json_pack("{s:b, s:i, s:o}", "valid", 0, "instructions", 0, "error", error);
}

bool filters_locate(const char *filter, const char *message, size_t *offset, size_t *len)
{
	static const char mark[] = ", character ";
	const char *at = NULL, *next = message;

	while ((next = strstr(next, mark)) != NULL)
		at = next++;
	if (at != NULL) {
		char *end;
		const unsigned long place = strtoul(at + sizeof(mark) - 1, &end, 10);

		if (*end != '\0' || place == 0 || place > strlen(filter))
			return false;
		*offset = place - 1;
		*len = quoted_len(message, filter + *offset);
		if (*len == 0)
			*len = word_len(filter + *offset);
		return true;
	}
	if (strstr(message, " at the end, ") == NULL)
		return false;
	*offset = strlen(filter);
	*len = 0;
	return true;
}

/* Of the word that the message quotes where text begins with it, else 0: a long one is quoted in part. */
static size_t quoted_len(const char *message, const char *text)
{
	size_t found = 0;
	const char *end;

	for (const char *start = strchr(message, '\''); start != NULL; start = end) {
		end = strchr(start + 1, '\'');
		if (end == NULL)
			break;
		const size_t len = (size_t)(end - start - 1);

		if (len > found && len < QUOTED_MAX && strncmp(start + 1, text, len) == 0)
			found = len;
	}
	return found;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || (c != '\0' && strchr("_.:\\", c) != NULL) ||
	       (c & 0x80) != 0;
}

/* As the compiler splits words: 10.0.0.1, \tcp, http-alt with a minus inside; else one character. */
static size_t word_len(const char *text)
{
	size_t len = 0;

	while (is_word(text[len]) || (len > 0 && text[len] == '-' && is_word(text[len + 1])))
		len++;
	return len > 0 ? len : 1;
}
