/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Who asks, and what they may. Tokens are opaque secrets of 256 random bits; the token file keeps
 * their SHA-256 only, and so does the process. Control thread only; the file is written by the
 * storage worker. The only file pair that knows libcrypto.
 */
#ifndef API_AUTH_H
#define API_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

#define AUTH_SECRET_SIZE 65 /* 64 hex digits and NUL */
#define AUTH_TOKENS_MAX  1024

enum role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };

/* Where a dialect lets its clients put the secret. */
#define AUTH_BEARER      1U  /* Authorization: Bearer SECRET */
#define AUTH_KEY         2U  /* X-Auth-Key: SECRET, X-Auth-Email: anything */
#define AUTH_SERVICE_KEY 4U  /* X-Auth-User-Service-Key: SECRET */
#define AUTH_BASIC       8U  /* Authorization: Basic, of NAME:SECRET */
#define AUTH_TOKEN       16U /* Authorization: Token SECRET */
#define AUTH_COOKIE      32U /* the cookie of a login: login.h */
/* Sec-WebSocket-Protocol: sluice.v1, bearer.SECRET: all that a browser lets a page say */
#define AUTH_PROTOCOL 256U

/* What a token says about its bearer; a copy, good for as long as it is kept. */
struct principal {
	char name[CONFIG_NAME_MAX];
	char account[CONFIG_NAME_MAX]; /* "*" = all */
	enum role role;
	uint64_t serial; /* of the token; 0: nobody was asked */
};

struct auth_token {
	char name[CONFIG_NAME_MAX];
	char account[CONFIG_NAME_MAX];
	enum role role;
	uint64_t serial;     /* no other token has had it since the start, whatever its name */
	uint64_t expires_ns; /* wall clock; 0 = never */
	uint64_t created_ns;
	uint8_t hash[32];
	bool pending; /* not in the file yet: does not open anything */
};

/*
 * Before the loop (touches the disk): read the token file; without one make the token "admin",
 * whose secret goes to ROOT/admin.token and nowhere else.
 */
int auth_start(const struct config *config, struct err *err);
void auth_stop(void);

/* The bearer of this secret, if a valid token has it. Takes as long for any wrong secret. */
bool auth_check(const char *secret, struct principal *who);

/* The token that has this secret, expired or not; NULL: none. */
const struct auth_token *auth_token_of(const char *secret);
/* What a token opens now; false: nothing, for it is not in the file yet or has expired. */
bool auth_token_open(const struct auth_token *token, struct principal *who);

/*
 * Does the token that let this principal in still open something? True where nobody was asked. What
 * takes longer than an answer asks again when auth_changed says so: a token was removed or has expired
 * since the last call.
 */
bool auth_holds(const struct principal *who);
bool auth_changed(void);

/* 256 random bits as hex digits, and SHA-256. 0 or -EIO. */
int auth_random(char text[AUTH_SECRET_SIZE]);
void auth_hash(const char *text, uint8_t hash[32]);

struct request;
/* As above with the secret that the request carries where credentials allow. */
/* AUTH_FOREIGN: a cookie, shown by a page of another origin. */
enum auth_answer { AUTH_NONE_GIVEN, AUTH_WRONG, AUTH_FOREIGN, AUTH_GOOD };
enum auth_answer auth_request(
	const struct request *request, unsigned credentials, struct principal *who);

/*
 * Signatures for links that work without a token: HMAC-SHA256 with a random key that stands in
 * ROOT/links.key (0600) and nowhere else. Before the loop: read it, or make it.
 */
int auth_sign_start(const struct config *config, struct err *err);
void auth_sign(const char *text, char signature[AUTH_SECRET_SIZE]);
bool auth_sign_check(const char *text, const char *signature);

/* May this principal see what belongs to account, and act for it? */
bool auth_sees(const struct principal *who, const char *account);

/* Tokens in the order of the file; NULL behind the last. */
const struct auth_token *auth_token(unsigned index);

/*
 * Make or remove a token; done comes when the file says so, or with err: EINVAL, EEXIST, ENOENT,
 * EBUSY (the last admin), ENOSPC (AUTH_TOKENS_MAX), EIO. A removed token opens nothing from the
 * call on. secret is valid during the call of done only.
 */
typedef void auth_done(
	const struct auth_token *token, const char *secret, const struct err *err, void *arg);
void auth_token_add(const struct auth_token *wanted, auth_done *done, void *arg);
void auth_token_remove(const char *name, auth_done *done, void *arg);

/* SHA-1, which the WebSocket handshake asks for; it protects nothing. */
#define AUTH_SHA1_SIZE 20
void auth_sha1(const void *data, size_t len, uint8_t hash[AUTH_SHA1_SIZE]);

const char *auth_role_name(enum role role);
enum role auth_role_parse(const char *name); /* ROLE_NONE: no such role */

#endif
