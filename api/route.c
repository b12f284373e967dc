/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/log.h"
#include "engine/clock.h"
#include "api/citrix.h"
#include "api/cloudflare.h"
#include "api/guard.h"
#include "api/mist.h"
#include "api/native.h"
#include "api/nsx.h"
#include "api/server.h"

#define PREFIX_MAX 3

/* Which dialect a path speaks: the first row whose prefix it has and whose dialect is enabled. */
static const struct family {
	const char *prefix[PREFIX_MAX]; /* segments */
	unsigned n_skipped;             /* of them, not repeated in the vendor's patterns */
	const struct vendor *vendor;
	bool (*enabled)(const struct config *config); /* NULL: always */
} families[] = {
	{{"client", "v4"}, 2, &cloudflare_vendor, cloudflare_enabled},
	{{"accounts"}, 0, &cloudflare_vendor, cloudflare_enabled},
	{{"api", "v1", "fabric"}, 0, &nsx_vendor_api, nsx_enabled},
	{{"api", "v1", "pktcap"}, 0, &nsx_vendor_api, nsx_enabled},
	{{"policy", "api", "v1"}, 0, &nsx_vendor_api, nsx_enabled},
	{{"sdwan", "nitro"}, 2, &citrix_vendor, citrix_enabled},
	{{"api", "v1", "sites"}, 0, &mist_vendor, mist_enabled},
	{{"api", "v1", "orgs"}, 0, &mist_vendor, mist_enabled},
	{{"api", "v1", "self"}, 0, &mist_vendor, mist_enabled},
	{{"api-ws"}, 0, &mist_vendor, mist_enabled},
	{{NULL}, 0, &native_vendor, NULL},
};

static const struct config *route_config;

static bool path_matches(const char *pattern, const char *const *segments, unsigned n);
static void method_refuse(struct request *request, unsigned allowed);
static bool principal_check(struct request *request);
static bool params_check(struct request *request);

void route_start(const struct config *config)
{
	route_config = config;
}

void route_dispatch(struct request *request)
{
	const struct err none = {0};
	unsigned allowed;

	request->vendor = route_vendor(request->segments, request->n_segments, &request->n_skipped);
	request->route = route_find(request, &allowed);
	if (request->route == NULL && allowed == 0)
		route_error(request, 404, &none);
	else if (request->route == NULL)
		method_refuse(request, allowed);
	else if ((request->route->role == ROLE_NONE || principal_check(request)) &&
		 params_check(request))
		request->route->handle(request);
}

const struct vendor *route_vendor(const char *const *segments, unsigned n, unsigned *n_skipped)
{
	const struct family *family;

	for (family = families; family->enabled != NULL; family++) {
		unsigned i = 0;

		while (i < PREFIX_MAX && family->prefix[i] != NULL && i < n &&
			strcmp(family->prefix[i], segments[i]) == 0)
			i++;
		if ((i == PREFIX_MAX || family->prefix[i] == NULL) && family->enabled(route_config))
			break;
	}
	*n_skipped = family->n_skipped;
	return family->vendor;
}

const struct route *route_find(const struct request *request, unsigned *allowed)
{
	const struct vendor *vendor = request->vendor;
	const char *const *segments = request->segments + request->n_skipped;
	unsigned n = request->n_segments - request->n_skipped;
	enum method method = request->method == METHOD_HEAD ? METHOD_GET : request->method;

	*allowed = 0;
	for (unsigned i = 0; i < vendor->n_routes; i++) {
		const struct route *route = &vendor->routes[i];

		if (!path_matches(route->path, segments, n))
			continue;
		if (route->method == method)
			return route;
		*allowed |= 1U << route->method;
		if (route->method == METHOD_GET)
			*allowed |= 1U << METHOD_HEAD;
	}
	return NULL;
}

void route_error(struct request *request, int status, const struct err *err)
{
	json_t *json = request->vendor->error(status, err);
	char *text = json_print(json);

	json_decref(json);
	/* A client that tries again at once finds the same; one that waits may not. */
	if (status == 409 || status == 503)
		server_header_add(request, "Retry-After", "1");
	if (text == NULL)
		server_stream_abort(request);
	else
		server_reply(request, status, request->vendor->error_type, text, strlen(text));
	free(text);
}

bool route_guessed(struct request *request)
{
	const unsigned wait_s = guard_wrong(request->peer, clock_monotonic_ns());
	struct err err;

	if (wait_s == 0)
		return false;
	server_header_add(request, "Retry-After", "%u", wait_s);
	err_set(&err, EAGAIN, NULL,
		"too many wrong credentials; a valid token is taken at any time, others are judged "
		"again in %u s",
		wait_s);
	route_error(request, 429, &err);
	return true;
}

bool route_body_is_json(struct request *request)
{
	static const char *const types[] = {
		"application/json", "application/x-www-form-urlencoded"};
	const char *type = server_header(request, "Content-Type");
	struct err err;
	size_t len;

	if (request->body_len == 0 || type == NULL)
		return true;
	len = strcspn(type, "; \t");
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (len == strlen(types[i]) && strncasecmp(type, types[i], len) == 0)
			return true;
	if (len > 5 && strncasecmp(type + len - 5, "+json", 5) == 0)
		return true;
	err_set(&err, EINVAL, NULL, "the body must be application/json, not \"%.*s\"",
		(int)(len < 60 ? len : 60), type);
	route_error(request, 415, &err);
	return false;
}

int route_status(const struct err *err)
{
	static const struct {
		int code, status;
	} rows[] = {
		{EINVAL, 400},
		{E2BIG, 400},
		{EACCES, 403},
		{EPERM, 403},
		{ENOENT, 404},
		{EBUSY, 409},
		{EEXIST, 409},
		{EAGAIN, 503},
		{ENODEV, 503},
		{ENOMEM, 503},
		{EDQUOT, 507},
		{ENOSPC, 507},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].code == err->code)
			return rows[i].status;
	return 500;
}

void route_reply(struct request *request, int status, json_t *json)
{
	char *text = json_print(json);

	json_decref(json);
	if (text == NULL)
		server_stream_abort(request);
	else
		server_reply(request, status, "application/json", text, strlen(text));
	free(text);
}

void route_subject(struct request *request, const struct uuid *id)
{
	uuid_print(id, request->subject);
}

void route_capture_log(struct request *request, const struct session_info *info)
{
	route_subject(request, &info->id);
	log_info("capture started id=%s owner=%s peer=%s", request->subject, info->owner,
		request->peer);
}

char *route_refusal(const char *target, int status, const char **content_type)
{
	const char *path = strchr(target, ' ');
	struct request request = {0};
	const struct err none = {0};
	const struct vendor *vendor;
	unsigned n_skipped;
	char copy[128];
	json_t *json;
	char *text;

	snprintf(copy, sizeof(copy), "%s", path != NULL ? path + 1 : "");
	copy[strcspn(copy, " ?%")] = '\0';
	request_target_parse(&request, copy, NULL);
	vendor = route_vendor(request.segments, request.n_segments, &n_skipped);
	json = vendor->error(status, &none);
	text = json_print(json);
	json_decref(json);
	free(request.text);
	*content_type = vendor->error_type;
	return text;
}

static bool path_matches(const char *pattern, const char *const *segments, unsigned n)
{
	if (n == 0)
		return strcmp(pattern, "/") == 0;
	for (unsigned i = 0; i < n; i++) {
		const char *end;
		size_t len;

		if (*pattern != '/')
			return false;
		pattern++;
		end = strchrnul(pattern, '/');
		len = end - pattern;
		if (*pattern == '{' ? segments[i][0] == '\0'
				    : strlen(segments[i]) != len ||
					      memcmp(segments[i], pattern, len) != 0)
			return false;
		pattern = end;
	}
	return *pattern == '\0';
}

static void method_refuse(struct request *request, unsigned allowed)
{
	char list[80] = "";
	size_t len = 0;
	struct err err;

	for (enum method method = METHOD_GET; method < METHOD_OTHER; method++)
		if ((allowed & 1U << method) != 0)
			len += snprintf(list + len, sizeof(list) - len, "%s%s", len > 0 ? ", " : "",
				request_method_name(method));
	server_header_add(request, "Allow", "%s", list);
	err_set(&err, EINVAL, NULL, "this path takes %s", list);
	route_error(request, 405, &err);
}

/* Fill request->who, or answer 401 or 403. */
static bool principal_check(struct request *request)
{
	const struct vendor *vendor = request->vendor;
	enum role role = request->route->role;
	enum auth_answer answer;
	struct err err;

	answer = auth_request(request, vendor->credentials, &request->who);
	if (answer == AUTH_WRONG && route_guessed(request))
		return false;
	if (answer == AUTH_WRONG && vendor->wrong_is_403) {
		err_set(&err, EPERM, NULL, "the credentials are not those of a valid token");
		route_error(request, 403, &err);
		return false;
	}
	if (answer == AUTH_FOREIGN) {
		err_set(&err, EPERM, NULL, "a page of another site may not use this sign-in");
		route_error(request, 403, &err);
		return false;
	}
	if (answer != AUTH_GOOD) {
		server_header_add(request, "WWW-Authenticate", "%s",
			vendor->challenge != NULL ? vendor->challenge : "Bearer realm=\"sluice\"");
		err_set(&err, EACCES, NULL, "a valid token is required");
		route_error(request, 401, &err);
		return false;
	}
	if (request->who.role < role) {
		err_set(&err, EPERM, NULL, "this needs the role %s; the token \"%s\" has %s",
			auth_role_name(role), request->who.name, auth_role_name(request->who.role));
		route_error(request, 403, &err);
		return false;
	}
	return true;
}

static bool params_check(struct request *request)
{
	struct err err;

	if (!request->vendor->strict ||
		request_params_check(request, request->route->params, &err) == 0)
		return true;
	route_error(request, 400, &err);
	return false;
}
