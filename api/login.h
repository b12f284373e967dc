/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Logins for dialects whose clients show their secret once and a cookie from then on. A login stands
 * for its token: it opens what the token opens at that moment, and nothing once the token is gone. In
 * memory only: after a restart clients log in again. Control thread only.
 */
#ifndef API_LOGIN_H
#define API_LOGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "api/auth.h"

#define LOGIN_COOKIE     "SLUICESESSION"
#define LOGIN_IDLE_S     3600 /* unused for so long it ends */
#define LOGINS_MAX       256  /* one more ends the one that was not used for longest */
#define LOGIN_HEADER_MAX (sizeof(LOGIN_COOKIE) + AUTH_SECRET_SIZE)

/* The name and secret of a token become a login: cookie is "SLUICESESSION=...". -EACCES: they are no
 * token's, or it has expired; -EIO. */
int login_begin(const char *name, const char *secret, char cookie[LOGIN_HEADER_MAX]);

/* Whose login a Cookie header shows, among whatever other cookies. */
bool login_check(const char *header, struct principal *who);

/* The login that this Cookie header shows is over. */
void login_end(const char *header);

/* All are. */
void login_stop(void);

#endif
