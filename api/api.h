/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The door of the API: everything that comes in over HTTP. Control thread only.
 */
#ifndef API_API_H
#define API_API_H

#include "config/config.h"
#include "config/err.h"

struct event_base;

/*
 * Once control runs on base: read the tokens, listen. config must outlive the API. 0, or -errno
 * with err (field "api.listen", "api.token_file", ...), nothing left running.
 */
int api_start(const struct config *config, struct event_base *base, struct err *err);

/* What is read or opened again on SIGHUP, without anybody's noticing: the audit log's file, the TLS
 * certificate. */
void api_reload(void);

/*
 * Close every connection. Requests that wait for a session's or a job's callback end quietly when
 * it comes, so workers and sessions may be stopped before or after.
 */
void api_stop(void);

#endif
