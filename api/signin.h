/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * How a browser signs in to the native API: it shows a token once and has a cookie from then on, which
 * scripts cannot read (HttpOnly) and other sites cannot send (SameSite=Strict). The cookie has no Path,
 * so it is good for /api/v1 behind whatever prefix a proxy adds, and for nothing else. Control thread
 * only.
 */
#ifndef API_SIGNIN_H
#define API_SIGNIN_H

#include <stdbool.h>

#include "config/config.h"

struct request;

void signin_start(const struct config *config);

/* POST, GET and DELETE /api/v1/session. */
void signin_create(struct request *request);
void signin_show(struct request *request);
void signin_delete(struct request *request);

/*
 * Whether a request that shows a cookie comes from a page of ours, by what its browser says about it
 * (Sec-Fetch-Site, else RFC 6454: Origin). What says nothing is no browser's request that could do harm.
 * SameSite=Strict alone lets in the pages of other ports of our host.
 */
bool signin_origin_good(const struct request *request);

#endif
