/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "config/log.h"
#include "control/job.h"
#include "api/login.h"
#include "api/request.h"
#include "api/rfc3339.h"
#include "api/server.h"
#include "api/signin.h"

#define PATH_SIZE      (CONFIG_TEXT_MAX + 32)
#define FILE_SIZE_MAX  (1024 * 1024)
#define HASH_HEX_SIZE  65
#define BASIC_TEXT_MAX 256

static const char file_head[] = "; Sluice's tokens: SHA-256 hashes only. Written by the daemon.\n";

static struct {
	unsigned n;
	struct auth_token tokens[AUTH_TOKENS_MAX];
	char path[PATH_SIZE];
	char link_key[AUTH_SECRET_SIZE];
	uint64_t serial; /* the last one given away */
	bool removed;    /* since auth_changed was asked last, which was then: */
	uint64_t asked_ns;
} auth;

/* A change of the table on its way to the disk. */
struct auth_write {
	struct job job;
	char path[PATH_SIZE];
	char *text;
	int rc;
	struct auth_token token;
	char secret[AUTH_SECRET_SIZE]; /* "" when a token was removed */
	auth_done *done;
	void *arg;
};

static int file_read(const char *path, char **text, struct err *err);
static int file_write(const char *path, const char *text);
static int tokens_parse(char *text, struct err *err);
static char *tokens_print(void);
static int admin_make(const char *root, struct err *err);
static void hex_print(const uint8_t *bytes, unsigned n, char *text);
static int write_post(
	const struct auth_token *token, const char *secret, auth_done *done, void *arg);
static struct auth_token *token_find(const char *name);
static bool token_expired(const struct auth_token *token, uint64_t now_ns);
static bool basic_check(const char *value, struct principal *who);
static bool protocol_check(const char *list, struct principal *who);
static int token_check(const struct auth_token *token, struct err *err);

int auth_start(const struct config *config, struct err *err)
{
	char *text = NULL;
	int rc;

	auth.n = 0;
	if (config->api.token_file[0] != '\0')
		snprintf(auth.path, sizeof(auth.path), "%s", config->api.token_file);
	else
		snprintf(auth.path, sizeof(auth.path), "%s/tokens.ini", config->storage.root);
	rc = file_read(auth.path, &text, err);
	if (rc == -ENOENT)
		return admin_make(config->storage.root, err);
	if (rc == 0)
		rc = tokens_parse(text, err);
	free(text);
	return rc;
}

void auth_stop(void)
{
	OPENSSL_cleanse(auth.tokens, sizeof(auth.tokens));
	OPENSSL_cleanse(auth.link_key, sizeof(auth.link_key));
	auth.n = 0;
}

bool auth_check(const char *secret, struct principal *who)
{
	const struct auth_token *found = auth_token_of(secret);

	return found != NULL && auth_token_open(found, who);
}

const struct auth_token *auth_token_of(const char *secret)
{
	const struct auth_token *found = NULL;
	uint8_t hash[32];

	auth_hash(secret, hash);
	/* Every token is looked at, whichever matches. */
	for (unsigned i = 0; i < auth.n; i++)
		if (CRYPTO_memcmp(auth.tokens[i].hash, hash, sizeof(hash)) == 0)
			found = &auth.tokens[i];
	return found;
}

bool auth_token_open(const struct auth_token *token, struct principal *who)
{
	if (token->pending || token_expired(token, rfc3339_now()))
		return false;
	memset(who, 0, sizeof(*who));
	snprintf(who->name, sizeof(who->name), "%s", token->name);
	snprintf(who->account, sizeof(who->account), "%s", token->account);
	who->role = token->role;
	who->serial = token->serial;
	return true;
}

bool auth_holds(const struct principal *who)
{
	const uint64_t now_ns = rfc3339_now();

	if (who->serial == 0)
		return true;
	for (unsigned i = 0; i < auth.n; i++)
		if (auth.tokens[i].serial == who->serial)
			return !token_expired(&auth.tokens[i], now_ns);
	return false;
}

bool auth_changed(void)
{
	const uint64_t now_ns = rfc3339_now();
	/* A clock that was set may have let any token expire. */
	bool changed = auth.removed || now_ns < auth.asked_ns;

	for (unsigned i = 0; i < auth.n && !changed; i++)
		changed = token_expired(&auth.tokens[i], now_ns) &&
			  !token_expired(&auth.tokens[i], auth.asked_ns);
	auth.removed = false;
	auth.asked_ns = now_ns;
	return changed;
}

int auth_random(char text[AUTH_SECRET_SIZE])
{
	uint8_t bytes[(AUTH_SECRET_SIZE - 1) / 2];

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -EIO;
	hex_print(bytes, sizeof(bytes), text);
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return 0;
}

void auth_hash(const char *text, uint8_t hash[32])
{
	unsigned len = 32;

	/* Without memory for a digest no secret is right: the zero hash is no token's. */
	if (EVP_Digest(text, strlen(text), hash, &len, EVP_sha256(), NULL) != 1)
		memset(hash, 0, 32);
}

enum auth_answer auth_request(
	const struct request *request, unsigned credentials, struct principal *who)
{
	/* The first that is there counts. */
	static const struct {
		unsigned credential;
		const char *header;
		const char *scheme; /* NULL: the whole value is the secret */
		bool (*check)(const char *value, struct principal *who);
	} rows[] = {
		{AUTH_BEARER, "Authorization", "Bearer", auth_check},
		{AUTH_BASIC, "Authorization", "Basic", basic_check},
		{AUTH_TOKEN, "Authorization", "Token", auth_check},
		{AUTH_KEY, "X-Auth-Key", NULL, auth_check},
		{AUTH_SERVICE_KEY, "X-Auth-User-Service-Key", NULL, auth_check},
		{AUTH_COOKIE, "Cookie", NULL, login_check},
		{AUTH_PROTOCOL, "Sec-WebSocket-Protocol", NULL, protocol_check},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *value = server_header(request, rows[i].header);
		size_t len = rows[i].scheme != NULL ? strlen(rows[i].scheme) : 0;

		if ((credentials & rows[i].credential) == 0 || value == NULL ||
			(len > 0 && (strncasecmp(value, rows[i].scheme, len) != 0 ||
					    value[len] != ' ')))
			continue;
		value += len;
		value += len > 0 ? strspn(value, " ") : 0;
		if (!rows[i].check(value, who))
			return AUTH_WRONG;
		return rows[i].credential == AUTH_COOKIE && !signin_origin_good(request)
			       ? AUTH_FOREIGN
			       : AUTH_GOOD;
	}
	return AUTH_NONE_GIVEN;
}

void auth_sha1(const void *data, size_t len, uint8_t hash[AUTH_SHA1_SIZE])
{
	if (EVP_Digest(data, len, hash, NULL, EVP_sha1(), NULL) != 1)
		memset(hash, 0, AUTH_SHA1_SIZE);
}

int auth_sign_start(const struct config *config, struct err *err)
{
	char path[PATH_SIZE], key[AUTH_SECRET_SIZE + 1];
	char *text = NULL;
	int rc;

	snprintf(path, sizeof(path), "%s/links.key", config->storage.root);
	rc = file_read(path, &text, err);
	if (rc == -ENOENT) {
		rc = auth_random(key);
		strcat(key, "\n");
		rc = rc < 0 ? rc : file_write(path, key);
		if (rc < 0)
			err_set(err, -rc, "storage.root", "%s cannot be written: %s", path,
				strerror(-rc));
	} else if (rc == 0 && snprintf(key, sizeof(key), "%s", text) != AUTH_SECRET_SIZE) {
		rc = err_set(err, EINVAL, "storage.root",
			"%s is not a key of 64 hex digits; remove it to have a new one made", path);
	}
	if (rc == 0)
		snprintf(auth.link_key, sizeof(auth.link_key), "%s", key);
	OPENSSL_cleanse(key, sizeof(key));
	free(text);
	return rc;
}

void auth_sign(const char *text, char signature[AUTH_SECRET_SIZE])
{
	uint8_t mac[32];
	unsigned len = sizeof(mac);

	if (HMAC(EVP_sha256(), auth.link_key, AUTH_SECRET_SIZE - 1, (const unsigned char *)text,
		    strlen(text), mac, &len) == NULL)
		abort(); /* a signature that anybody could guess is none */
	hex_print(mac, sizeof(mac), signature);
}

bool auth_sign_check(const char *text, const char *signature)
{
	char right[AUTH_SECRET_SIZE];

	auth_sign(text, right);
	return strlen(signature) == sizeof(right) - 1 &&
	       CRYPTO_memcmp(right, signature, sizeof(right)) == 0;
}

bool auth_sees(const struct principal *who, const char *account)
{
	return who->role == ROLE_ADMIN || strcmp(who->account, "*") == 0 ||
	       strcmp(who->account, account) == 0;
}

const struct auth_token *auth_token(unsigned index)
{
	return index < auth.n ? &auth.tokens[index] : NULL;
}

void auth_token_add(const struct auth_token *wanted, auth_done *done, void *arg)
{
	struct auth_token *token = &auth.tokens[auth.n];
	char secret[AUTH_SECRET_SIZE];
	struct err err = {0};
	int rc;

	if (token_check(wanted, &err) < 0) {
		done(NULL, NULL, &err, arg);
		return;
	}
	rc = auth_random(secret);
	if (rc == 0) {
		*token = *wanted;
		token->serial = ++auth.serial;
		token->created_ns = rfc3339_now();
		token->pending = true;
		auth_hash(secret, token->hash);
		auth.n++;
		rc = write_post(token, secret, done, arg);
		if (rc < 0)
			auth.n--;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc < 0) {
		err_set(&err, -rc, NULL, "the token could not be made: %s", strerror(-rc));
		done(NULL, NULL, &err, arg);
	}
}

void auth_token_remove(const char *name, auth_done *done, void *arg)
{
	struct auth_token *token = token_find(name), removed;
	struct err err = {0};
	unsigned admins = 0;
	int rc;

	for (unsigned i = 0; i < auth.n; i++)
		admins += auth.tokens[i].role == ROLE_ADMIN && auth.tokens[i].expires_ns == 0;
	if (token == NULL || token->pending) {
		err_set(&err, ENOENT, NULL, "there is no token \"%.63s\"", name);
		done(NULL, NULL, &err, arg);
		return;
	}
	if (token->role == ROLE_ADMIN && token->expires_ns == 0 && admins == 1) {
		err_set(&err, EBUSY, NULL,
			"\"%s\" is the last admin token without an expiry; make another one first",
			token->name);
		done(NULL, NULL, &err, arg);
		return;
	}
	removed = *token;
	memmove(token, token + 1, (auth.tokens + auth.n - (token + 1)) * sizeof(*token));
	auth.n--;
	auth.removed = true;
	rc = write_post(&removed, "", done, arg);
	if (rc < 0) {
		err_set(&err, -rc, NULL, "the token file could not be written: %s", strerror(-rc));
		done(NULL, NULL, &err, arg);
	}
}

static const char *const role_names[] = {"none", "viewer", "operator", "admin"};

const char *auth_role_name(enum role role)
{
	return role_names[role];
}

enum role auth_role_parse(const char *name)
{
	for (enum role role = ROLE_VIEWER; role <= ROLE_ADMIN; role++)
		if (strcmp(role_names[role], name) == 0)
			return role;
	return ROLE_NONE;
}

/* RFC 7617: the name is the token's, so that one secret does not work under many names. */
static bool basic_check(const char *value, struct principal *who)
{
	char text[BASIC_TEXT_MAX];
	size_t len = strlen(value);
	bool good = false;
	char *secret;
	int n;

	/* EVP_DecodeBlock wants whole groups of four, writes three bytes for each and counts the
	 * padding's zeros, too. */
	if (len == 0 || len % 4 != 0 || len / 4 * 3 >= sizeof(text))
		return false;
	n = EVP_DecodeBlock((unsigned char *)text, (const unsigned char *)value, (int)len);
	if (n < 0)
		return false;
	text[n] = '\0';
	secret = strchr(text, ':');
	if (secret != NULL) {
		*secret++ = '\0';
		good = auth_check(secret, who) && strcmp(who->name, text) == 0;
	}
	OPENSSL_cleanse(text, sizeof(text));
	return good;
}

/* "sluice.v1, bearer.SECRET" */
static bool protocol_check(const char *list, struct principal *who)
{
	static const char prefix[] = "bearer.";
	const char *at = strstr(list, prefix);
	char secret[AUTH_SECRET_SIZE];
	size_t len;

	if (at == NULL)
		return false;
	at += sizeof(prefix) - 1;
	len = strcspn(at, ", \t");
	if (len >= sizeof(secret))
		return false;
	memcpy(secret, at, len);
	secret[len] = '\0';
	return auth_check(secret, who);
}

static struct auth_token *token_find(const char *name)
{
	for (unsigned i = 0; i < auth.n; i++)
		if (strcmp(auth.tokens[i].name, name) == 0)
			return &auth.tokens[i];
	return NULL;
}

static bool token_expired(const struct auth_token *token, uint64_t now_ns)
{
	return token->expires_ns != 0 && token->expires_ns <= now_ns;
}

/* A name that can stand in a section header and, later, as a user name before a colon. */
static bool name_valid(const char *name)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strlen(name);

	return len > 0 && len < CONFIG_NAME_MAX && strspn(name, allowed) == len;
}

static int token_check(const struct auth_token *token, struct err *err)
{
	if (!name_valid(token->name))
		return err_set(err, EINVAL, "name",
			"must be 1 to %d letters, digits, dots, hyphens or underscores, not "
			"\"%.63s\"",
			CONFIG_NAME_MAX - 1, token->name);
	if (token_find(token->name) != NULL)
		return err_set(err, EEXIST, "name", "a token \"%s\" is there already", token->name);
	if (auth.n == AUTH_TOKENS_MAX)
		return err_set(err, ENOSPC, NULL, "there are %d tokens already; remove one first",
			AUTH_TOKENS_MAX);
	return 0;
}

static void hex_print(const uint8_t *bytes, unsigned n, char *text)
{
	for (unsigned i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
}

static bool hex_parse(const char *text, uint8_t *bytes, unsigned n)
{
	if (strlen(text) != 2 * n || strspn(text, "0123456789abcdef") != 2 * n)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (sscanf(text + 2 * i, "%2hhx", &bytes[i]) != 1)
			return false;
	return true;
}

/* First start: a token for whoever can read the storage root. */
static int admin_make(const char *root, struct err *err)
{
	struct auth_token *token = &auth.tokens[0];
	char path[PATH_SIZE], secret[AUTH_SECRET_SIZE + 1];
	char *text;
	int rc = auth_random(secret);

	*token = (struct auth_token){
		.name = "admin",
		.account = "*",
		.role = ROLE_ADMIN,
		.serial = ++auth.serial,
		.created_ns = rfc3339_now(),
	};
	auth_hash(secret, token->hash);
	auth.n = 1;
	strcat(secret, "\n");
	/* The secret goes first: killed between the two, the next start makes both anew. */
	snprintf(path, sizeof(path), "%s/admin.token", root);
	rc = rc < 0 ? rc : file_write(path, secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (rc < 0)
		return err_set(
			err, -rc, "storage.root", "%s cannot be written: %s", path, strerror(-rc));
	text = tokens_print();
	rc = text != NULL ? file_write(auth.path, text) : -ENOMEM;
	free(text);
	if (rc < 0)
		return err_set(err, -rc, "api.token_file", "%s cannot be written: %s", auth.path,
			strerror(-rc));
	log_info("made the first token name=admin file=%s", path);
	return 0;
}

static void write_run(struct job *job)
{
	struct auth_write *write = (struct auth_write *)job;

	write->rc = file_write(write->path, write->text);
}

static void write_done(struct job *job)
{
	struct auth_write *write = (struct auth_write *)job;
	struct auth_token *token = token_find(write->token.name);
	bool added = write->secret[0] != '\0';
	struct err err = {0};

	if (write->rc < 0) {
		err_set(&err, -write->rc == ENOSPC ? ENOSPC : EIO, NULL,
			"the token file could not be written: %s", strerror(-write->rc));
		log_error("token file not written path=%s error=%s", write->path,
			strerror(-write->rc));
		if (added && token != NULL) {
			memmove(token, token + 1,
				(auth.tokens + auth.n - (token + 1)) * sizeof(*token));
			auth.n--;
		}
		write->done(NULL, NULL, &err, write->arg);
	} else {
		if (added && token != NULL)
			token->pending = false;
		write->done(&write->token, write->secret, NULL, write->arg);
	}
	OPENSSL_cleanse(write->secret, sizeof(write->secret));
	free(write->text);
	free(write);
}

/* The table as it is, on its way to the disk; changes come out in the order in which they were
 * made. */
static int write_post(
	const struct auth_token *token, const char *secret, auth_done *done, void *arg)
{
	struct auth_write *write = calloc(1, sizeof(*write));

	if (write == NULL)
		return -ENOMEM;
	write->text = tokens_print();
	if (write->text == NULL) {
		free(write);
		return -ENOMEM;
	}
	write->job.run = write_run;
	write->job.done = write_done;
	memcpy(write->path, auth.path, sizeof(write->path));
	write->token = *token;
	snprintf(write->secret, sizeof(write->secret), "%s", secret);
	write->done = done;
	write->arg = arg;
	job_post(WORKER_STORAGE, &write->job);
	return 0;
}

static char *tokens_print(void)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	fputs(file_head, out);
	for (unsigned i = 0; i < auth.n; i++) {
		const struct auth_token *token = &auth.tokens[i];
		char hash[HASH_HEX_SIZE], time[RFC3339_SIZE];

		hex_print(token->hash, sizeof(token->hash), hash);
		rfc3339_print(token->created_ns, 0, time);
		fprintf(out, "\n[%s]\nsha256 = %s\nrole = %s\naccount = %s\ncreated = %s\n",
			token->name, hash, auth_role_name(token->role), token->account, time);
		if (token->expires_ns != 0) {
			rfc3339_print(token->expires_ns, 0, time);
			fprintf(out, "expires = %s\n", time);
		}
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* One "key = value" of a token. */
static bool token_set(struct auth_token *token, const char *key, const char *value)
{
	if (strcmp(key, "sha256") == 0)
		return hex_parse(value, token->hash, sizeof(token->hash));
	if (strcmp(key, "role") == 0)
		return (token->role = auth_role_parse(value)) != ROLE_NONE;
	if (strcmp(key, "created") == 0)
		return rfc3339_parse(value, &token->created_ns);
	if (strcmp(key, "expires") == 0)
		return rfc3339_parse(value, &token->expires_ns);
	if (strcmp(key, "account") == 0)
		return snprintf(token->account, sizeof(token->account), "%s", value) <
		       (int)sizeof(token->account);
	return false;
}

static int token_finish(const struct auth_token *token)
{
	static const uint8_t none[32];

	return token->role != ROLE_NONE && token->account[0] != '\0' &&
			       memcmp(token->hash, none, sizeof(none)) != 0
		       ? 0
		       : -EINVAL;
}

static char *line_trim(char *line)
{
	size_t len;

	line += strspn(line, " \t\r");
	for (len = strlen(line); len > 0 && strchr(" \t\r", line[len - 1]) != NULL; len--)
		line[len - 1] = '\0';
	return line;
}

/* What tokens_print writes, and what a careful hand makes of it. */
static int tokens_parse(char *text, struct err *err)
{
	struct auth_token *token = NULL;
	unsigned number = 0;
	char *next;

	for (char *line = text; line != NULL; line = next) {
		char *end, *value;

		number++;
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		line = line_trim(line);
		if (*line == '\0' || *line == ';' || *line == '#')
			continue;
		end = line + strlen(line) - 1;
		if (*line == '[' && *end == ']') {
			*end = '\0';
			if ((token != NULL && token_finish(token) < 0) ||
				auth.n == AUTH_TOKENS_MAX || !name_valid(line + 1) ||
				token_find(line + 1) != NULL)
				goto bad;
			token = &auth.tokens[auth.n++];
			memset(token, 0, sizeof(*token));
			token->serial = ++auth.serial;
			snprintf(token->name, sizeof(token->name), "%s", line + 1);
			continue;
		}
		value = strchr(line, '=');
		if (token == NULL || value == NULL)
			goto bad;
		*value++ = '\0';
		if (!token_set(token, line_trim(line), line_trim(value)))
			goto bad;
	}
	if (token != NULL && token_finish(token) < 0)
		goto bad;
	return 0;
bad:
	return err_set(err, EINVAL, "api.token_file",
		"%s:%u: not a token file's line, or the token above it lacks sha256, role or "
		"account",
		auth.path, number);
}

static int file_read(const char *path, char **text, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	ssize_t len;
	int rc = 0;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = err_set(err, errno, "api.token_file", "%s cannot be read: %s", path,
			strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0 || st.st_size > FILE_SIZE_MAX) {
		rc = err_set(err, EPERM, "api.token_file",
			"%s must be a file that only its owner can read (chmod 600)", path);
		goto out;
	}
	*text = calloc(1, st.st_size + 1);
	len = *text != NULL ? pread(fd, *text, st.st_size, 0) : -1;
	if (len != st.st_size)
		rc = err_set(err, EIO, "api.token_file", "%s cannot be read", path);
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

static int directory_sync(const char *path)
{
	char copy[PATH_SIZE];
	int fd, rc;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/* Replace path by text as a whole, readable by its owner only, and on the disk when this returns.
 */
static int file_write(const char *path, const char *text)
{
	char draft[PATH_SIZE + 8];
	size_t len = strlen(text);
	int fd, rc = 0;

	snprintf(draft, sizeof(draft), "%s.new", path);
	fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0)
		rc = -errno;
	while (rc == 0 && len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			rc = -errno;
		if (n > 0) {
			text += n;
			len -= n;
		}
	}
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	close(fd);
	if (rc == 0 && rename(draft, path) < 0)
		rc = -errno;
	if (rc < 0) {
		unlink(draft);
		return rc;
	}
	return directory_sync(path);
}
