/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which code answers which path. A vendor is one dialect: a table of routes, the credentials it
 * takes and the shape of its errors; the path's prefix tells the vendor. Control thread only.
 */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "config/config.h"
#include "config/json.h"
#include "control/session.h"
#include "api/request.h"

struct route {
	enum method method; /* a GET route answers HEAD too */
	const char *path;   /* "/accounts/{}/pcaps"; behind the vendor's prefix; "{" starts a
			       placeholder */
	enum role role;     /* the least that may; ROLE_NONE: open, nobody is asked who they are */
	void (*handle)(struct request *request);
	const char *params; /* names in the query, "limit cursor"; others are refused by strict
			       vendors */
	bool packets;       /* a GET whose answer holds what was captured: audited */
	bool asks;          /* a POST that changes nothing: not audited */
};

struct vendor {
	const char *name;
	const struct route *routes;
	unsigned n_routes;
	unsigned credentials; /* AUTH_* */
	/* The body of an error that no handler of the vendor made; err may be all zero. */
	json_t *(*error)(int status, const struct err *err);
	const char *error_type; /* its Content-Type */
	const char *file_type;  /* of every download; NULL: by its format */
	const char *challenge;  /* WWW-Authenticate of a 401; NULL: Bearer */
	bool wrong_is_403;      /* 401 without credentials only, 403 with wrong ones */
	bool strict;            /* unknown and repeated query parameters are errors */
};

/* Before the server starts: config tells which vendors are there. */
void route_start(const struct config *config);

/* The server's handler: find vendor and route, check who asks, call the route's handler. */
void route_dispatch(struct request *request);

/* The vendor of a path, and in *n_skipped how many segments its prefix has. */
const struct vendor *route_vendor(const char *const *segments, unsigned n, unsigned *n_skipped);

/* The route of request->vendor for this path and method; NULL with *allowed (bits 1 << method) = 0
 * if there is no such path, else the methods there are. */
const struct route *route_find(const struct request *request, unsigned *allowed);

/* Answer with the vendor's error body. status of an err: see route_status. */
void route_error(struct request *request, int status, const struct err *err);

/*
 * The credentials that the request showed were wrong. True: too many of that kind have come, and 429 is
 * answered; false: the caller says in its own way that they are.
 */
bool route_guessed(struct request *request);

/*
 * A body that says that it is something else is not taken for JSON: false, and 415 is answered. What
 * curl -d says when nobody tells it otherwise is let through: no browser sends our credentials with a
 * form.
 */
bool route_body_is_json(struct request *request);

/* HTTP status of err->code. */
int route_status(const struct err *err);

/* Answer with JSON; json is released. */
void route_reply(struct request *request, int status, json_t *json);

/* What request is about, for the audit log. */
void route_subject(struct request *request, const struct uuid *id);

/* The line in the log that says that request began a capture, which is its subject. */
void route_capture_log(struct request *request, const struct session_info *info);

/*
 * For what the HTTP library itself refused: the body in the shape of the vendor that target
 * ("POST /accounts/1/pcaps HTTP/1.1", perhaps cut) belongs to. The caller frees it.
 */
char *route_refusal(const char *target, int status, const char **content_type);

#endif
