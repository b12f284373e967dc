/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/signin.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "config/json.h"
#include "config/log.h"
#include "api/auth.h"
#include "api/login.h"
#include "api/route.h"
#include "api/server.h"
#include "api/tls.h"

struct signin_request {
	const char *token;
};

static const struct json_field fields[] = {
	{"token", JSON_KIND_TEXT, offsetof(struct signin_request, token), .min = 1, .max = 128,
		.required = true, .help = "the secret of a token"},
};
static const struct json_shape shape = {JSON_SHAPE_FIELDS(fields)};

static const struct config *signin_config;

static json_t *principal_json(const struct principal *who);
static bool same_host(const char *url, const char *host);

void signin_start(const struct config *config)
{
	signin_config = config;
}

void signin_create(struct request *request)
{
	struct signin_request wanted = {0};
	const struct auth_token *token;
	const char *protocol = server_header(request, "X-Forwarded-Proto");
	char cookie[LOGIN_HEADER_MAX];
	struct principal who;
	struct err err;
	json_t *json;

	if (!signin_origin_good(request)) {
		err_set(&err, EPERM, NULL, "a page of another site may not sign anybody in");
		route_error(request, 403, &err);
		return;
	}
	if (!route_body_is_json(request))
		return;
	json = json_parse(request->body, request->body_len, &err);
	if (json == NULL || json_decode(json, &shape, &wanted, &err) < 0) {
		route_error(request, 400, &err);
		json_decref(json);
		return;
	}
	token = auth_token_of(wanted.token);
	if (token == NULL || !auth_token_open(token, &who) ||
		login_begin(token->name, wanted.token, cookie) < 0) {
		log_info("sign-in refused peer=%s", request->peer);
		if (route_guessed(request))
			goto out;
		err_set(&err, EACCES, "token", "this is not the secret of a valid token");
		server_header_add(request, "WWW-Authenticate", "Bearer realm=\"sluice\"");
		route_error(request, 401, &err);
	} else {
		request->who = who; /* for the audit log */
		server_header_add(request, "Set-Cookie", "%s; HttpOnly; SameSite=Strict%s", cookie,
			tls_enabled() || (protocol != NULL && strcasecmp(protocol, "https") == 0)
				? "; Secure"
				: "");
		route_reply(request, 200, principal_json(&who));
	}
out:
	json_decref(json);
}

void signin_show(struct request *request)
{
	route_reply(request, 200, principal_json(&request->who));
}

void signin_delete(struct request *request)
{
	const char *cookie = server_header(request, "Cookie");

	if (cookie != NULL)
		login_end(cookie);
	server_header_add(
		request, "Set-Cookie", "%s=; HttpOnly; SameSite=Strict; Max-Age=0", LOGIN_COOKIE);
	server_reply(request, 204, NULL, NULL, 0);
}

bool signin_origin_good(const struct request *request)
{
	const char *origin = server_header(request, "Origin");
	const char *site = server_header(request, "Sec-Fetch-Site");
	const char *public_url = signin_config->api.public_url;
	const char *end = strstr(public_url, "://");
	size_t len;

	/* What the browser itself judges stands above our comparing; "none" is a user's own doing. */
	if (site != NULL)
		return strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
	if (origin == NULL || same_host(origin, server_header(request, "Host")) ||
		same_host(origin, server_header(request, "X-Forwarded-Host")))
		return true;
	if (end == NULL)
		return false;
	len = end + 3 - public_url + strcspn(end + 3, "/");
	return strlen(origin) == len && strncasecmp(origin, public_url, len) == 0;
}

/* "http://host:port" is on "host:port". */
static bool same_host(const char *url, const char *host)
{
	const char *at = strstr(url, "://");

	return at != NULL && host != NULL && strcasecmp(at + 3, host) == 0;
}

static json_t *principal_json(const struct principal *who)
{
	return json_pack("{s:o, s:o, s:s}", "name", json_text(who->name), "account",
		json_text(who->account), "role", auth_role_name(who->role));
}
