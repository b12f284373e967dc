/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One HTTP request as handlers see it: what was asked, by whom, on which route. server.c makes it
 * and answers it; nothing here knows the HTTP library. Control thread only.
 */
#ifndef API_REQUEST_H
#define API_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/err.h"
#include "api/auth.h"

#define REQUEST_SEGMENTS_MAX 16
#define REQUEST_PARAMS_MAX   16
#define REQUEST_PEER_MAX     48
#define REQUEST_SUBJECT_MAX  64

#define REQUEST_METHODS(X) X(GET) X(HEAD) X(POST) X(PUT) X(PATCH) X(DELETE) X(OPTIONS) X(OTHER)

enum method {
#define X(name) METHOD_##name,
	REQUEST_METHODS(X)
#undef X
		METHOD_COUNT,
};

struct request_param {
	const char *name;
	const char *value;
};

struct route;
struct vendor;
struct conn;

/*
 * Lives until its answer is complete: exactly one call of server_reply, server_stream_end or
 * server_stream_abort, on this turn of the event loop or a later one, also when the client has
 * gone.
 */
struct request {
	/* made by the server, then constant */
	enum method method;
	unsigned n_segments; /* of the path, decoded; "/" has none */
	const char *segments[REQUEST_SEGMENTS_MAX];
	unsigned n_params; /* of the query, decoded */
	struct request_param params[REQUEST_PARAMS_MAX];
	const char *body; /* valid until the handler returns; not terminated */
	size_t body_len;
	char peer[REQUEST_PEER_MAX];

	/* made by route and auth before the handler is called, then constant */
	const struct vendor *vendor;
	const struct route *route;
	unsigned n_skipped; /* segments of the vendor's prefix */
	struct principal who;

	/* the handler's, for the audit log: an id or a name, where the path does not say it */
	char subject[REQUEST_SUBJECT_MAX];

	/* the server's own */
	struct conn *conn; /* NULL: the client has gone */
	void (*gone)(void *arg);
	void *gone_arg;
	char *text; /* what segments and params point into */
};

/*
 * Cut path and query (NULL: none) into segments and params, percent-decoded, in one allocation at
 * request->text. -ENOENT: a path that names nothing, for a bad escape, a control character, what is
 * not UTF-8, or more segments than any route has; -EINVAL: the same of the query; -ENOMEM.
 */
int request_target_parse(struct request *request, const char *path, const char *query);

/* The value of a query parameter, NULL if it was not given. */
const char *request_param(const struct request *request, const char *name);
/* Refuse parameters that are not among known ("limit cursor"; NULL: none), or given twice. */
int request_params_check(const struct request *request, const char *known, struct err *err);
/* A query parameter as an integer in min..max; fallback if it was not given. 0 or -EINVAL. */
int request_param_number(const struct request *request, const char *name, uint64_t min,
	uint64_t max, uint64_t fallback, uint64_t *number, struct err *err);

/* The path segment that stands at the route's n-th placeholder. */
const char *request_arg(const struct request *request, unsigned n);

const char *request_method_name(enum method method);

#endif
