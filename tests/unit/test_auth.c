/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/auth: the first token, the file and its rights, expiry, roles, and changes that reach the
 * disk.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "api/auth.h"
#include "api/login.h"
#include "api/rfc3339.h"
#include "config/log.h"
#include "control/job.h"

static struct config config;
static struct event_base *base;
static char tokens_path[CONFIG_TEXT_MAX + 32], admin_path[CONFIG_TEXT_MAX + 32];

struct answer {
	unsigned n;
	char secret[AUTH_SECRET_SIZE];
	struct err err;
};

static void answered(
	const struct auth_token *token, const char *secret, const struct err *err, void *arg)
{
	struct answer *answer = arg;

	answer->n++;
	snprintf(answer->secret, sizeof(answer->secret), "%s", secret != NULL ? secret : "");
	answer->err = err != NULL ? *err : (struct err){0};
}

static void wait_for(struct answer *answer)
{
	while (answer->n == 0)
		event_base_loop(base, EVLOOP_ONCE);
}

static int root_make(void **state)
{
	char root[] = "/tmp/test_auth.XXXXXX";

	assert_non_null(mkdtemp(root));
	memset(&config, 0, sizeof(config));
	strcpy(config.storage.root, root);
	snprintf(tokens_path, sizeof(tokens_path), "%s/tokens.ini", root);
	snprintf(admin_path, sizeof(admin_path), "%s/admin.token", root);
	return 0;
}

static int root_remove(void **state)
{
	auth_stop();
	unlink(tokens_path);
	unlink(admin_path);
	return rmdir(config.storage.root); /* and nothing else is in there */
}

static void text_read(const char *path, char *text, size_t size)
{
	FILE *in = fopen(path, "r");

	assert_non_null(in);
	text[fread(text, 1, size - 1, in)] = '\0';
	fclose(in);
}

static void text_write(const char *text, mode_t mode)
{
	FILE *out = fopen(tokens_path, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(tokens_path, mode), 0);
}

static void start(void)
{
	struct err err = {0};

	if (auth_start(&config, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
}

static void secret_read(char secret[AUTH_SECRET_SIZE])
{
	char text[AUTH_SECRET_SIZE + 8];

	text_read(admin_path, text, sizeof(text));
	assert_int_equal(strlen(text), AUTH_SECRET_SIZE); /* with a line feed */
	snprintf(secret, AUTH_SECRET_SIZE, "%s", text);
}

/* Every comparison of a secret's hash, or of a signature, comes by here. */
static struct {
	unsigned n;
	size_t shortest;
} compared;

int __real_CRYPTO_memcmp(const void *a, const void *b, size_t len);
int __wrap_CRYPTO_memcmp(const void *a, const void *b, size_t len);
int __wrap_CRYPTO_memcmp(const void *a, const void *b, size_t len)
{
	compared.n++;
	compared.shortest = len < compared.shortest ? len : compared.shortest;
	return __real_CRYPTO_memcmp(a, b, len);
}

/* How many comparisons a secret takes; it is good or it is not. */
static unsigned comparisons(const char *secret, bool good)
{
	struct principal who;

	compared.n = 0;
	compared.shortest = SIZE_MAX;
	assert_true(auth_check(secret, &who) == good);
	assert_int_equal(compared.shortest, 32);
	return compared.n;
}

/* Whichever token it is, or none, and however much of it is right: all are compared, whole. */
static void the_time_of_a_comparison_tells_nothing(void **state)
{
	static const char file[] = "[first]\nsha256 = %s\nrole = viewer\naccount = *\n"
				   "[second]\nsha256 = %s\nrole = viewer\naccount = *\n"
				   "[third]\nsha256 = %s\nrole = viewer\naccount = *\n";
	char hashes[3][65], secret[2] = "a", text[1024];
	uint8_t hash[32];

	for (unsigned i = 0; i < 3; i++, secret[0]++) {
		auth_hash(secret, hash);
		for (unsigned k = 0; k < sizeof(hash); k++)
			sprintf(hashes[i] + 2 * k, "%02x", hash[k]);
	}
	snprintf(text, sizeof(text), file, hashes[0], hashes[1], hashes[2]);
	text_write(text, 0600);
	start();
	assert_int_equal(comparisons("a", true), 3);
	assert_int_equal(comparisons("b", true), 3);
	assert_int_equal(comparisons("c", true), 3);
	assert_int_equal(comparisons("", false), 3);
	assert_int_equal(comparisons("aa", false), 3);
	assert_int_equal(comparisons("d", false), 3);
}

static void a_signature_is_compared_whole(void **state)
{
	char right[AUTH_SECRET_SIZE], wrong[AUTH_SECRET_SIZE];
	char path[CONFIG_TEXT_MAX + 32];
	struct err err;

	assert_int_equal(auth_sign_start(&config, &err), 0);
	auth_sign("text", right);
	for (unsigned i = 0; i < AUTH_SECRET_SIZE - 1; i += 21) {
		memcpy(wrong, right, sizeof(wrong));
		wrong[i] ^= 1;
		compared.n = 0;
		compared.shortest = SIZE_MAX;
		assert_false(auth_sign_check("text", wrong));
		assert_int_equal(compared.n, 1);
		assert_true(compared.shortest >= AUTH_SECRET_SIZE - 1);
	}
	assert_true(auth_sign_check("text", right));
	assert_false(auth_sign_check("texts", right));
	snprintf(path, sizeof(path), "%s/links.key", config.storage.root);
	assert_int_equal(unlink(path), 0);
}

static void the_first_start_makes_an_admin(void **state)
{
	char secret[AUTH_SECRET_SIZE], again[AUTH_SECRET_SIZE], file[4096];
	struct principal who;
	struct stat st;

	start();
	secret_read(secret);
	assert_true(auth_check(secret, &who));
	assert_string_equal(who.name, "admin");
	assert_string_equal(who.account, "*");
	assert_int_equal(who.role, ROLE_ADMIN);
	assert_int_equal(stat(admin_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(tokens_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* Its secret stands nowhere else. */
	text_read(tokens_path, file, sizeof(file));
	assert_null(strstr(file, secret));
	/* The second start makes none. */
	auth_stop();
	start();
	secret_read(again);
	assert_string_equal(secret, again);
	assert_true(auth_check(secret, &who));
}

static void wrong_secrets_open_nothing(void **state)
{
	char secret[AUTH_SECRET_SIZE], other[2 * AUTH_SECRET_SIZE];
	struct principal who;

	start();
	secret_read(secret);
	assert_false(auth_check("", &who));
	assert_false(auth_check("admin", &who));
	snprintf(other, sizeof(other), "%.63s", secret);
	assert_false(auth_check(other, &who));
	snprintf(other, sizeof(other), "%s0", secret);
	assert_false(auth_check(other, &who));
	snprintf(other, sizeof(other), "%s", secret);
	other[0] = other[0] == '0' ? '1' : '0';
	assert_false(auth_check(other, &who));
}

static struct answer add(const char *name, enum role role, uint64_t expires_ns)
{
	struct auth_token token = {.account = "one", .role = role, .expires_ns = expires_ns};
	struct answer answer = {0};

	snprintf(token.name, sizeof(token.name), "%s", name);
	auth_token_add(&token, answered, &answer);
	wait_for(&answer);
	assert_int_equal(answer.n, 1);
	return answer;
}

static struct answer take(const char *name)
{
	struct answer answer = {0};

	auth_token_remove(name, answered, &answer);
	wait_for(&answer);
	return answer;
}

static void tokens_outlive_a_restart(void **state)
{
	struct answer made;
	struct principal who;
	char file[4096];

	start();
	made = add("eye", ROLE_VIEWER, 0);
	assert_int_equal(made.err.code, 0);
	assert_true(auth_check(made.secret, &who));
	text_read(tokens_path, file, sizeof(file));
	assert_non_null(strstr(file, "[eye]"));
	assert_null(strstr(file, made.secret));
	auth_stop();
	assert_false(auth_check(made.secret, &who));
	start();
	assert_true(auth_check(made.secret, &who));
	assert_string_equal(who.name, "eye");
	assert_string_equal(who.account, "one");
	assert_int_equal(who.role, ROLE_VIEWER);
	assert_int_equal(take("eye").err.code, 0);
	assert_false(auth_check(made.secret, &who));
	auth_stop();
	start();
	assert_false(auth_check(made.secret, &who));
}

static void a_token_opens_only_what_is_on_the_disk(void **state)
{
	struct auth_token token = {.name = "later", .account = "*", .role = ROLE_ADMIN};
	struct answer answer = {0}, twice = {0};

	start();
	auth_token_add(&token, answered, &answer);
	assert_int_equal(answer.n, 0);
	assert_true(auth_token(1)->pending);
	auth_token_remove("later", answered, &twice);
	assert_int_equal(twice.err.code, ENOENT);
	wait_for(&answer);
	assert_false(auth_token(1)->pending);
}

static void a_token_that_cannot_be_kept_is_none(void **state)
{
	struct answer made;
	struct principal who;

	start();
	/* A directory in the place of the draft stops root too. */
	strcat(tokens_path, ".new");
	assert_int_equal(mkdir(tokens_path, 0700), 0);
	made = add("eye", ROLE_VIEWER, 0);
	assert_int_equal(rmdir(tokens_path), 0);
	tokens_path[strlen(tokens_path) - 4] = '\0';
	assert_int_equal(made.err.code, EIO);
	assert_null(auth_token(1));
	assert_false(auth_check(made.secret, &who));
}

static void expired_tokens_open_nothing(void **state)
{
	struct principal who;
	struct answer late, early;

	start();
	early = add("early", ROLE_VIEWER, rfc3339_now() - 1);
	late = add("late", ROLE_VIEWER, rfc3339_now() + 60000000000ULL);
	assert_false(auth_check(early.secret, &who));
	assert_true(auth_check(late.secret, &who));
}

static void names_are_checked(void **state)
{
	static const char *const bad[] = {"", "a b", "a]", "a:b", "a\n", "\303\244", "a/b"};

	start();
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct answer answer = add(bad[i], ROLE_VIEWER, 0);

		assert_int_equal(answer.err.code, EINVAL);
		assert_string_equal(answer.err.field, "name");
	}
	assert_int_equal(add("admin", ROLE_VIEWER, 0).err.code, EEXIST);
	assert_int_equal(add("Ops-1.2_x", ROLE_VIEWER, 0).err.code, 0);
	assert_int_equal(take("nobody").err.code, ENOENT);
}

static void the_last_admin_stays(void **state)
{
	start();
	assert_int_equal(take("admin").err.code, EBUSY);
	assert_int_equal(add("chief", ROLE_ADMIN, 0).err.code, 0);
	assert_int_equal(take("admin").err.code, 0);
	assert_int_equal(take("chief").err.code, EBUSY);
}

static void roles_and_accounts_bound_what_is_seen(void **state)
{
	struct principal who = {.account = "one", .role = ROLE_OPERATOR};

	assert_true(auth_sees(&who, "one"));
	assert_false(auth_sees(&who, "two"));
	assert_false(auth_sees(&who, "*"));
	who.role = ROLE_ADMIN;
	assert_true(auth_sees(&who, "two"));
	who = (struct principal){.account = "*", .role = ROLE_VIEWER};
	assert_true(auth_sees(&who, "two"));
	assert_int_equal(auth_role_parse("operator"), ROLE_OPERATOR);
	assert_int_equal(auth_role_parse("none"), ROLE_NONE);
	assert_int_equal(auth_role_parse("king"), ROLE_NONE);
}

#define HASH \
	"sha256 = 5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9\n" /* "0" \
											    */

static void a_login_is_as_good_as_its_token(void **state)
{
	char secret[AUTH_SECRET_SIZE], cookie[LOGIN_HEADER_MAX], header[LOGIN_HEADER_MAX + 64];
	struct principal who;
	struct answer answer = {0};
	const struct auth_token wanted = {.name = "op", .account = "a", .role = ROLE_OPERATOR};

	start();
	auth_token_add(&wanted, answered, &answer);
	wait_for(&answer);
	secret_read(secret);
	assert_int_equal(login_begin("op", secret, cookie), -EACCES); /* another one's */
	assert_int_equal(login_begin("admin", "x", cookie), -EACCES);
	assert_int_equal(login_begin("op", answer.secret, cookie), 0);
	snprintf(header, sizeof(header), "a=b; %s; c=d", cookie);
	memset(&who, 0, sizeof(who));
	assert_true(login_check(header, &who));
	assert_string_equal(who.name, "op");
	assert_string_equal(who.account, "a");
	assert_int_equal(who.role, ROLE_OPERATOR);
	assert_false(login_check("", &who));
	assert_false(login_check(LOGIN_COOKIE "=", &who));
	snprintf(header, sizeof(header), "%s0", cookie);
	assert_false(login_check(header, &who));
	snprintf(header, sizeof(header), "x%s", cookie);
	assert_false(login_check(header, &who));

	/* One login of two ends; the token's end ends the other. */
	assert_int_equal(login_begin("op", answer.secret, header), 0);
	login_end(header);
	assert_false(login_check(header, &who));
	assert_true(login_check(cookie, &who));
	answer = (struct answer){0};
	auth_token_remove("op", answered, &answer);
	wait_for(&answer);
	assert_false(login_check(cookie, &who));
	login_stop();
}

static void the_oldest_login_makes_room(void **state)
{
	char secret[AUTH_SECRET_SIZE], first[LOGIN_HEADER_MAX], second[LOGIN_HEADER_MAX],
		cookie[LOGIN_HEADER_MAX];
	struct principal who;

	start();
	secret_read(secret);
	assert_int_equal(login_begin("admin", secret, first), 0);
	assert_int_equal(login_begin("admin", secret, second), 0);
	assert_true(login_check(first, &who)); /* used after the second */
	for (unsigned i = 0; i < LOGINS_MAX - 1; i++)
		assert_int_equal(login_begin("admin", secret, cookie), 0);
	assert_true(login_check(first, &who));
	assert_false(login_check(second, &who));
	assert_true(login_check(cookie, &who));
	login_stop();
	assert_false(login_check(cookie, &who));
}

static void signatures_are_of_this_text_and_key(void **state)
{
	char first[AUTH_SECRET_SIZE], second[AUTH_SECRET_SIZE], path[CONFIG_TEXT_MAX + 32];
	struct err err = {0};
	struct stat st;

	snprintf(path, sizeof(path), "%s/links.key", config.storage.root);
	start();
	assert_int_equal(auth_sign_start(&config, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	auth_sign("a", first);
	auth_sign("b", second);
	assert_int_equal(strlen(first), AUTH_SECRET_SIZE - 1);
	assert_string_not_equal(first, second);
	assert_true(auth_sign_check("a", first));
	assert_false(auth_sign_check("a", second));
	assert_false(auth_sign_check("a", ""));
	first[0] ^= 1;
	assert_false(auth_sign_check("a", first));
	first[0] ^= 1;

	/* The key outlives a restart; another key makes other signatures. */
	auth_stop();
	start();
	assert_int_equal(auth_sign_start(&config, &err), 0);
	assert_true(auth_sign_check("a", first));
	unlink(path);
	assert_int_equal(auth_sign_start(&config, &err), 0);
	assert_false(auth_sign_check("a", first));
	assert_int_equal(truncate(path, 10), 0);
	assert_int_equal(auth_sign_start(&config, &err), -EINVAL);
	unlink(path);
}

static void files_are_read_strictly(void **state)
{
	static const char *const bad[] = {
		"x\n",
		HASH,
		"[a]\n",
		"[a]\nrole = viewer\naccount = *\n",
		"[a]\n" HASH "account = *\n",
		"[a]\n" HASH "role = viewer\n",
		"[a]\n" HASH "role = king\naccount = *\n",
		"[a]\nsha256 = 00\nrole = viewer\naccount = *\n",
		"[a]\n" HASH "role = viewer\naccount = *\nexpires = soon\n",
		"[a]\n" HASH "role = viewer\naccount = *\ncolour = red\n",
		"[a]\n" HASH "role = viewer\naccount = *\n[a]\n" HASH
		"role = viewer\naccount = *\n",
		"[]\n" HASH "role = viewer\naccount = *\n",
	};
	struct principal who;
	struct err err;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		text_write(bad[i], 0600);
		if (auth_start(&config, &err) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_string_equal(err.field, "api.token_file");
		assert_non_null(strstr(err.text, tokens_path));
		auth_stop();
	}
	text_write("; by hand\n\n[a]\r\n " HASH "role=admin\n\taccount = one \n", 0600);
	start();
	assert_true(auth_check("0", &who));
	assert_string_equal(who.account, "one");
	assert_int_equal(access(admin_path, F_OK), -1);
}

static void a_file_that_others_can_read_is_refused(void **state)
{
	struct err err;

	text_write("[a]\n" HASH "role = admin\naccount = *\n", 0640);
	assert_int_equal(auth_start(&config, &err), -EPERM);
	assert_non_null(strstr(err.text, "600"));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, root_make, root_remove)
	const struct CMUnitTest tests[] = {
		CASE(the_first_start_makes_an_admin),
		CASE(the_time_of_a_comparison_tells_nothing),
		CASE(a_signature_is_compared_whole),
		CASE(wrong_secrets_open_nothing),
		CASE(tokens_outlive_a_restart),
		CASE(a_token_opens_only_what_is_on_the_disk),
		CASE(a_token_that_cannot_be_kept_is_none),
		CASE(expired_tokens_open_nothing),
		CASE(names_are_checked),
		CASE(the_last_admin_stays),
		CASE(roles_and_accounts_bound_what_is_seen),
		CASE(a_login_is_as_good_as_its_token),
		CASE(the_oldest_login_makes_room),
		CASE(signatures_are_of_this_text_and_key),
		CASE(files_are_read_strictly),
		CASE(a_file_that_others_can_read_is_refused),
	};
	int rc;

	log_level_set(LOG_LEVEL_ERROR);
	base = event_base_new();
	job_workers_start(base);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	job_workers_stop();
	event_base_free(base);
	return rc;
}
