/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/login.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/clock.h"

struct login {
	uint64_t used_ns; /* monotonic; 0 = free */
	uint8_t hash
		[32]; /* of the cookie's value: what is found by hash gives nothing away by time */
	uint8_t token[32];
};

static struct login logins[LOGINS_MAX];

static struct login *login_find(const char *header);
static struct login *login_place(void);
static const struct auth_token *token_of(const struct login *login);

int login_begin(const char *name, const char *secret, char cookie[LOGIN_HEADER_MAX])
{
	const struct auth_token *token = auth_token_of(secret);
	struct login *login = login_place();
	char value[AUTH_SECRET_SIZE];
	struct principal who;

	if (token == NULL || strcmp(token->name, name) != 0 || !auth_token_open(token, &who))
		return -EACCES;
	if (auth_random(value) < 0)
		return -EIO;
	memcpy(login->token, token->hash, sizeof(login->token));
	auth_hash(value, login->hash);
	login->used_ns = clock_monotonic_ns();
	snprintf(cookie, LOGIN_HEADER_MAX, "%s=%s", LOGIN_COOKIE, value);
	return 0;
}

bool login_check(const char *header, struct principal *who)
{
	struct login *login = login_find(header);
	const struct auth_token *token = login != NULL ? token_of(login) : NULL;

	if (token == NULL || !auth_token_open(token, who))
		return false;
	login->used_ns = clock_monotonic_ns();
	return true;
}

void login_end(const char *header)
{
	struct login *login = login_find(header);

	if (login != NULL)
		login->used_ns = 0;
}

void login_stop(void)
{
	memset(logins, 0, sizeof(logins));
}

/* The value of our cookie in "a=1; SLUICESESSION=...; b=2". */
static bool value_find(const char *header, char value[AUTH_SECRET_SIZE])
{
	const size_t name_len = strlen(LOGIN_COOKIE);

	for (const char *at = header; at != NULL; at = strchr(at, ';')) {
		size_t len;

		at += strspn(at, "; ");
		if (strncmp(at, LOGIN_COOKIE, name_len) != 0 || at[name_len] != '=')
			continue;
		at += name_len + 1;
		len = strcspn(at, "; ");
		if (len != AUTH_SECRET_SIZE - 1)
			return false;
		snprintf(value, AUTH_SECRET_SIZE, "%s", at);
		return true;
	}
	return false;
}

static struct login *login_find(const char *header)
{
	const uint64_t now_ns = clock_monotonic_ns();
	char value[AUTH_SECRET_SIZE];
	uint8_t hash[32];

	if (!value_find(header, value))
		return NULL;
	auth_hash(value, hash);
	for (unsigned i = 0; i < LOGINS_MAX; i++) {
		struct login *login = &logins[i];

		if (login->used_ns != 0 && memcmp(login->hash, hash, sizeof(hash)) == 0)
			return now_ns - login->used_ns < LOGIN_IDLE_S * CLOCK_NS_PER_S ? login
										       : NULL;
	}
	return NULL;
}

/* A free one, else the one that was not used for longest. */
static struct login *login_place(void)
{
	struct login *place = &logins[0];

	for (unsigned i = 1; i < LOGINS_MAX; i++)
		if (logins[i].used_ns < place->used_ns)
			place = &logins[i];
	return place;
}

static const struct auth_token *token_of(const struct login *login)
{
	const struct auth_token *token;

	for (unsigned i = 0; (token = auth_token(i)) != NULL; i++)
		if (memcmp(token->hash, login->token, sizeof(login->token)) == 0)
			return token;
	return NULL;
}
