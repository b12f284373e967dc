/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/ownership and its file: what each operation does to the list, the file and the bucket, in
 * that order, and what is left when one of the two does not go along. Workers, bucket and clock are the
 * test's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/file.h"
#include "control/job.h"
#include "control/ownership.h"
#include "control/ownership_file.h"
#include "control/s3.h"
#include "control/store.h"
#include "engine/clock.h"

#define OBJECTS 8

static struct config config;
static int root = -1;
static uint64_t clock_ns;

/* The bucket: what it holds, and how the next requests end. */
static struct {
	char key[S3_KEY_MAX];
	char text[2048];
} objects[OBJECTS];
static enum s3_outcome bucket_outcome;
static bool bucket_unusable;
static unsigned n_requests;

/* Jobs that wait to be run, and what was told. */
static struct job *queue;
static unsigned n_told;
static const struct ownership *told;
static struct err told_err;

int store_root(void)
{
	return root;
}

uint64_t clock_wall_ns(void)
{
	return ++clock_ns;
}

uint64_t clock_monotonic_ns(void)
{
	return clock_ns;
}

void job_post(enum worker worker, struct job *job)
{
	struct job **last = &queue;

	assert_true(worker == WORKER_STORAGE || worker == WORKER_BUCKET);
	while (*last != NULL)
		last = &(*last)->next;
	job->next = NULL;
	*last = job;
}

static void jobs_run(void)
{
	while (queue != NULL) {
		struct job *job = queue;

		queue = job->next;
		job->run(job);
		job->done(job);
	}
}

struct s3 *s3_open(const struct config_bucket *bucket, const bool *canceled, uint64_t *sent_bytes,
	struct err *err)
{
	assert_true(bucket->timeout_ms <= 10000);
	if (!bucket_unusable)
		return (struct s3 *)bucket;
	err_set(err, EACCES, "credentials", "/secret/place: Permission denied");
	return NULL;
}

void s3_close(struct s3 *s3)
{
}

int s3_body_hash(struct s3 *s3, struct s3_body *body)
{
	return 0;
}

static enum s3_outcome outcome(struct s3_answer *answer)
{
	n_requests++;
	answer->outcome = bucket_outcome;
	snprintf(answer->text, sizeof(answer->text), "%s",
		bucket_outcome == S3_DONE ? "" : "403 AccessDenied");
	return bucket_outcome;
}

static char *object_find(const char *key)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		if (strcmp(objects[i].key, key) == 0)
			return objects[i].text;
	return NULL;
}

enum s3_outcome s3_object_put(struct s3 *s3, const char *key, const struct s3_body *body,
	const char *type, const char *meta_sha256, bool only_new, struct s3_object *object,
	struct s3_answer *answer)
{
	unsigned i = 0;

	assert_string_equal(type, "text/plain");
	if (outcome(answer) != S3_DONE)
		return answer->outcome;
	while (objects[i].key[0] != '\0' && strcmp(objects[i].key, key) != 0)
		assert_true(++i < OBJECTS);
	snprintf(objects[i].key, sizeof(objects[i].key), "%s", key);
	snprintf(objects[i].text, sizeof(objects[i].text), "%.*s", (int)body->len,
		(const char *)body->data);
	return S3_DONE;
}

enum s3_outcome s3_object_get(struct s3 *s3, const char *key, char *data, size_t size, size_t *len,
	struct s3_answer *answer)
{
	const char *text = object_find(key);

	if (outcome(answer) != S3_DONE)
		return answer->outcome;
	if (text == NULL)
		return answer->outcome = S3_ABSENT;
	if (strlen(text) >= size)
		return answer->outcome = S3_REFUSED;
	*len = strlen(strcpy(data, text));
	return S3_DONE;
}

enum s3_outcome s3_object_delete(struct s3 *s3, const char *key, struct s3_answer *answer)
{
	char *text = object_find(key);

	if (outcome(answer) == S3_DONE && text != NULL)
		memset(text - sizeof(objects[0].key), 0, sizeof(objects[0]));
	return answer->outcome;
}

static void done(const struct ownership *owned, const struct err *err, void *arg)
{
	n_told++;
	told = owned;
	told_err = err != NULL ? *err : (struct err){0};
	assert_ptr_equal(arg, &n_told);
}

static struct ownership_place at(const char *account, const char *prefix)
{
	return (struct ownership_place){account, &config.buckets[0], prefix};
}

/* Run one operation to its end; what it told. */
static int add(const char *account, const char *prefix)
{
	struct ownership_place place = at(account, prefix);

	n_told = 0;
	ownership_add(&place, "s3://caps", done, &n_told);
	jobs_run();
	assert_int_equal(n_told, 1);
	return told_err.code;
}

static int validate(const char *account, const char *prefix, const char *challenge)
{
	struct ownership_place place = at(account, prefix);

	n_told = 0;
	ownership_validate(&place, challenge, done, &n_told);
	jobs_run();
	assert_int_equal(n_told, 1);
	return told_err.code;
}

static int delete (const char *account, const struct uuid *id)
{
	n_told = 0;
	ownership_delete(account, id, done, &n_told);
	jobs_run();
	assert_int_equal(n_told, 1);
	return told_err.code;
}

static bool proved(const char *account, const char *prefix)
{
	struct ownership_place place = at(account, prefix);

	return ownership_proved(&place);
}

static const char *object_of(const struct ownership *owned, const char *above)
{
	char name[OWNERSHIP_FILENAME_SIZE], key[S3_KEY_MAX];

	ownership_filename(owned, name);
	snprintf(key, sizeof(key), "%s%s", above, name);
	return object_find(key);
}

static unsigned count(const char *account)
{
	const struct ownership *owned = NULL;
	unsigned n = 0;

	while ((owned = ownership_next(owned, account)) != NULL)
		n++;
	return n;
}

static void restart(void)
{
	ownership_stop();
	ownership_start(&config);
}

static int setup(void **state)
{
	char dir[] = "/tmp/test_ownership.XXXXXX";

	assert_non_null(mkdtemp(dir));
	*state = strdup(dir);
	root = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(root >= 0);
	memset(&config, 0, sizeof(config));
	memset(objects, 0, sizeof(objects));
	bucket_outcome = S3_DONE;
	bucket_unusable = false;
	n_requests = 0;
	clock_ns = 1000;
	config.n_buckets = 1;
	snprintf(config.buckets[0].name, CONFIG_NAME_MAX, "caps");
	snprintf(config.buckets[0].prefix, CONFIG_NAME_MAX, "site");
	config.buckets[0].timeout_ms = 3600000;
	ownership_start(&config);
	return 0;
}

static int teardown(void **state)
{
	ownership_stop();
	unlinkat(root, OWNERSHIP_FILE, 0);
	close(root);
	assert_int_equal(rmdir(*state), 0);
	free(*state);
	return 0;
}

static void a_bucket_is_added_and_proved(void **state)
{
	char challenge[OWNERSHIP_CHALLENGE_LEN + 1];
	struct uuid id;

	assert_int_equal(add("a", "x/y"), 0);
	assert_int_equal(told->status, OWNERSHIP_pending);
	assert_true(told->submitted_ns > 0 && told->validated_ns == 0);
	assert_string_equal(object_of(told, "site/x/y/"), told->challenge);
	strcpy(challenge, told->challenge);
	id = told->id;
	assert_false(proved("a", "x/y"));
	assert_int_equal(validate("a", "x/y", challenge), 0);
	assert_int_equal(told->status, OWNERSHIP_success);
	assert_true(told->validated_ns > told->submitted_ns);
	assert_true(proved("a", "x/y"));

	restart();
	assert_true(proved("a", "x/y"));
	assert_int_equal(count("a"), 1);
	assert_memory_equal(&ownership_next(NULL, "a")->id, &id, sizeof(id));
	assert_string_equal(ownership_next(NULL, "a")->destination, "s3://caps");
}

static void it_covers_what_is_below_and_nobody_elses(void **state)
{
	assert_int_equal(add("a", "x/y"), 0);
	assert_int_equal(validate("a", "x/y", told->challenge), 0);
	assert_true(proved("a", "x/y/z"));
	assert_false(proved("a", "x"));
	assert_false(proved("a", "x/yz"));
	assert_false(proved("a", ""));
	assert_false(proved("b", "x/y"));
	assert_int_equal(add("b", ""), 0);
	assert_int_equal(validate("b", "", told->challenge), 0);
	assert_true(proved("b", "any/where"));
	assert_true(proved("b", ""));
	snprintf(config.buckets[0].name, CONFIG_NAME_MAX, "other");
	assert_false(proved("b", ""));
}

static void a_wrong_answer_fails(void **state)
{
	char right[OWNERSHIP_CHALLENGE_LEN + 1], wrong[OWNERSHIP_CHALLENGE_LEN + 1];
	char name[OWNERSHIP_FILENAME_SIZE];

	assert_int_equal(add("a", ""), 0);
	strcpy(right, told->challenge);
	ownership_filename(told, name);
	strcpy(wrong, right);
	wrong[OWNERSHIP_CHALLENGE_LEN - 1] ^= 1;
	n_requests = 0;
	for (unsigned i = 0; i < 4; i++) {
		const char *const tries[] = {wrong, "", name, "0"};

		assert_int_equal(validate("a", "", tries[i]), 0);
		assert_int_equal(told->status, OWNERSHIP_failed);
		restart();
		assert_int_equal(ownership_next(NULL, "a")->status, OWNERSHIP_failed);
	}
	assert_int_equal(n_requests, 0); /* nobody asks the bucket for that */
	assert_int_equal(validate("a", "", right), 0);
	assert_int_equal(told->status, OWNERSHIP_success);
	/* What is proved stays so. */
	assert_int_equal(validate("a", "", wrong), EINVAL);
	assert_string_equal(told_err.field, "ownership_challenge");
	assert_true(proved("a", ""));
	assert_int_equal(validate("a", "", right), 0);
	assert_int_equal(told->status, OWNERSHIP_success);
	assert_int_equal(validate("a", "other", right), EINVAL);
	assert_string_equal(told_err.field, "destination_conf");
}

static void what_came_of_it_is_counted(void **state)
{
	struct ownership_counts counts;
	char right[OWNERSHIP_CHALLENGE_LEN + 1];

	assert_int_equal(add("a", "p"), 0);
	assert_int_equal(add("a", ""), 0);
	strcpy(right, told->challenge);
	assert_int_equal(validate("a", "", "wrong"), 0);
	bucket_outcome = S3_RETRY;
	assert_int_equal(validate("a", "", right), EAGAIN);
	bucket_outcome = S3_DONE;
	ownership_count(&counts);
	assert_int_equal(counts.entries[OWNERSHIP_pending], 1);
	assert_int_equal(counts.entries[OWNERSHIP_failed], 1);
	assert_int_equal(validate("a", "", right), 0);
	assert_int_equal(validate("a", "", "wrong"), EINVAL);
	ownership_count(&counts);
	assert_false(counts.broken);
	assert_int_equal(counts.entries[OWNERSHIP_success], 1);
	assert_int_equal(counts.entries[OWNERSHIP_failed], 0);
	assert_int_equal(counts.validations_right, 1);
	assert_int_equal(counts.validations_wrong, 2);
	assert_int_equal(counts.validations_failed, 1);
}

static void added_again_it_is_the_same(void **state)
{
	char first[OWNERSHIP_CHALLENGE_LEN + 1];
	struct uuid id;

	assert_int_equal(add("a", ""), 0);
	strcpy(first, told->challenge);
	id = told->id;
	memset(objects, 0, sizeof(objects));
	assert_int_equal(add("a", ""), 0);
	assert_memory_equal(&told->id, &id, sizeof(id));
	assert_string_equal(told->challenge, first);
	assert_string_equal(object_of(told, "site/"), first);
	assert_int_equal(count("a"), 1);

	assert_int_equal(validate("a", "", "wrong"), 0);
	assert_int_equal(add("a", ""), 0);
	assert_int_equal(told->status, OWNERSHIP_pending);
	assert_memory_equal(&told->id, &id, sizeof(id));
	assert_string_not_equal(told->challenge, first);
	assert_string_equal(object_of(told, "site/"), told->challenge);

	assert_int_equal(validate("a", "", told->challenge), 0);
	n_requests = 0;
	assert_int_equal(add("a", ""), 0);
	assert_int_equal(told->status, OWNERSHIP_success);
	assert_int_equal(n_requests, 0);
}

static void a_bucket_that_refuses_leaves_nothing(void **state)
{
	static const struct {
		enum s3_outcome outcome;
		int code;
	} cases[] = {
		{S3_RETRY, EAGAIN},
		{S3_CANCELED, EAGAIN},
		{S3_CREDENTIALS, EINVAL},
		{S3_REFUSED, EINVAL},
		{S3_ABSENT, EINVAL},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bucket_outcome = cases[i].outcome;
		assert_int_equal(add("a", ""), cases[i].code);
		assert_string_equal(told_err.field, "destination_conf");
		assert_non_null(strstr(told_err.text, "AccessDenied"));
		assert_int_equal(count("a"), 0);
		restart();
		assert_int_equal(count("a"), 0);
	}
	bucket_unusable = true;
	assert_int_equal(add("a", ""), ENODEV);
	assert_null(strstr(told_err.text, "secret"));
	assert_int_equal(count("a"), 0);

	/* One that was there before stays. */
	bucket_unusable = false;
	bucket_outcome = S3_DONE;
	assert_int_equal(add("a", ""), 0);
	bucket_outcome = S3_RETRY;
	assert_int_equal(add("a", ""), EAGAIN);
	assert_int_equal(count("a"), 1);
	assert_int_equal(validate("a", "", ownership_next(NULL, "a")->challenge), EAGAIN);
	assert_int_equal(ownership_next(NULL, "a")->status, OWNERSHIP_pending);
}

static void an_object_that_is_not_ours_proves_nothing(void **state)
{
	static const char *const texts[] = {"", "other", NULL};

	for (unsigned i = 0; i < 3; i++) {
		char *object;

		assert_int_equal(add("a", ""), 0);
		object = (char *)object_of(told, "site/");
		if (texts[i] != NULL)
			strcpy(object, texts[i]);
		else
			memset(objects, 0, sizeof(objects));
		assert_int_equal(validate("a", "", told->challenge), 0);
		assert_int_equal(told->status, OWNERSHIP_failed);
		assert_false(proved("a", ""));
	}
}

static void deleted_it_is_forgotten(void **state)
{
	struct uuid id, none = {{1}};

	assert_int_equal(add("a", ""), 0);
	id = told->id;
	assert_int_equal(validate("a", "", told->challenge), 0);
	assert_int_equal(delete ("b", &id), ENOENT);
	assert_int_equal(delete ("a", &none), ENOENT);
	assert_true(proved("a", ""));
	assert_int_equal(delete ("a", &id), 0);
	assert_null(told);
	assert_false(proved("a", ""));
	assert_int_equal(objects[0].key[0], '\0');
	restart();
	assert_int_equal(count("a"), 0);
	assert_int_equal(delete ("a", &id), ENOENT);

	/* A bucket that cannot be reached, or is no longer configured, does not hold it up. */
	bucket_outcome = S3_DONE;
	assert_int_equal(add("a", ""), 0);
	id = told->id;
	bucket_outcome = S3_RETRY;
	assert_int_equal(delete ("a", &id), 0);
	bucket_outcome = S3_DONE;
	assert_int_equal(add("a", ""), 0);
	id = told->id;
	config.n_buckets = 0;
	assert_int_equal(delete ("a", &id), 0);
	assert_int_equal(count("a"), 0);
}

static void an_account_has_so_many(void **state)
{
	char prefix[16];
	struct uuid id;

	for (unsigned i = 0; i < OWNERSHIP_PER_ACCOUNT; i++) {
		snprintf(prefix, sizeof(prefix), "p%u", i);
		assert_int_equal(add("a", prefix), 0);
		id = told->id;
		memset(objects, 0, sizeof(objects));
	}
	assert_int_equal(add("a", "more"), EINVAL);
	assert_int_equal(add("b", "more"), 0);
	assert_int_equal(delete ("a", &id), 0);
	assert_int_equal(add("a", "more"), 0);
	restart();
	assert_int_equal(count("a"), OWNERSHIP_PER_ACCOUNT);
}

static void they_wait_for_each_other(void **state)
{
	struct ownership_place place = at("a", "");
	char challenge[OWNERSHIP_CHALLENGE_LEN + 1];
	unsigned posted = 0;

	assert_int_equal(add("a", ""), 0);
	strcpy(challenge, told->challenge);
	n_told = 0;
	ownership_validate(&place, "wrong", done, &n_told);
	ownership_add(&place, "s3://caps", done, &n_told);
	ownership_validate(&place, challenge, done, &n_told); /* of before it failed */
	assert_int_equal(n_told, 0);
	jobs_run();
	assert_int_equal(n_told, 3);
	assert_int_equal(told->status, OWNERSHIP_failed);

	/* And not endlessly many. */
	n_told = 0;
	while (n_told == 0 && posted++ < 100)
		ownership_add(&place, "s3://caps", done, &n_told);
	assert_int_equal(told_err.code, EAGAIN);
	jobs_run();
	assert_int_equal(n_told, posted);
	assert_int_equal(told_err.code, 0);
}

static void a_slow_bucket_is_given_up(void **state)
{
	struct ownership_place place = at("a", "");
	struct job *job;

	n_told = 0;
	ownership_add(&place, "s3://caps", done, &n_told);
	job = queue;
	queue = NULL;
	job->run(job); /* the file */
	job->done(job);
	assert_non_null(queue);
	ownership_tick();
	clock_ns += 21 * CLOCK_NS_PER_S;
	ownership_tick();
	bucket_outcome = S3_CANCELED;
	jobs_run();
	assert_int_equal(n_told, 1);
	assert_int_equal(told_err.code, EAGAIN);
	assert_non_null(strstr(told_err.text, "too long"));
}

static void what_cannot_be_written_is_not_so(void **state)
{
	int good = root;
	struct uuid id;

	assert_int_equal(add("a", ""), 0);
	id = told->id;
	root = -1;
	assert_int_equal(validate("a", "", told->challenge), EIO);
	assert_false(proved("a", ""));
	assert_int_equal(add("a", "more"), EIO);
	assert_int_equal(count("a"), 1);
	assert_int_equal(validate("a", "", "wrong"), EIO);
	assert_int_equal(ownership_next(NULL, "a")->status, OWNERSHIP_pending);
	assert_int_equal(delete ("a", &id), EIO);
	assert_int_equal(count("a"), 1);
	root = good;
	restart();
	assert_int_equal(count("a"), 1);
	assert_int_equal(delete ("a", &id), 0);
}

static void a_damaged_file_is_left_alone(void **state)
{
	static const char newer[] = "sluice-ownership 2 00000000\n{}\n";
	char *text;

	assert_int_equal(add("a", ""), 0);
	assert_int_equal(file_replace(root, OWNERSHIP_FILE, newer, sizeof(newer) - 1), 0);
	restart();
	assert_int_equal(add("a", ""), EAGAIN);
	assert_non_null(strstr(told_err.text, "version is 2"));
	assert_int_equal(count("a"), 0);
	assert_int_equal(file_load(root, OWNERSHIP_FILE, 1000, &text, NULL), 0);
	assert_string_equal(text, newer);
	free(text);
}

static void every_damage_is_seen(void **state)
{
	struct ownership *back, *owned;
	struct err err;
	size_t len;
	char *text;

	assert_int_equal(add("a", "x"), 0);
	assert_int_equal(add("b", ""), 0);
	assert_int_equal(file_load(root, OWNERSHIP_FILE, 1 << 20, &text, &len), 0);
	assert_int_equal(ownership_file_parse(text, len, &back, &err), 0);
	assert_string_equal(back->account, "a");
	assert_string_equal(back->prefix, "x");
	assert_string_equal(back->next->account, "b");
	assert_null(back->next->next);
	ownership_list_free(back);
	for (size_t i = 0; i < len; i++) {
		text[i] ^= 1;
		assert_int_equal(ownership_file_parse(text, len, &owned, &err), -EINVAL);
		assert_null(owned);
		text[i] ^= 1;
	}
	for (size_t i = 0; i < len; i++) {
		char kept = text[i];

		text[i] = '\0';
		assert_int_equal(ownership_file_parse(text, i, &owned, &err), -EINVAL);
		text[i] = kept;
	}
	free(text);
}

static void what_has_a_sum_must_make_sense_too(void **state)
{
	static const char *const bodies[] = {
		"",
		"{}",
		"[5]",
		"[{}]",
		"[{\"id\":\"00000000000000000000000000000001\",\"status\":\"success\"}]",
	};

	for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct ownership *owned;
		struct err err;
		char *text;
		int len = asprintf(&text, "sluice-ownership 1 %08x\n%s\n",
			file_crc32c(0, bodies[i], strlen(bodies[i])), bodies[i]);

		assert_int_equal(ownership_file_parse(text, len, &owned, &err), -EINVAL);
		assert_null(owned);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(a_bucket_is_added_and_proved),
		TEST(it_covers_what_is_below_and_nobody_elses),
		TEST(a_wrong_answer_fails),
		TEST(what_came_of_it_is_counted),
		TEST(added_again_it_is_the_same),
		TEST(a_bucket_that_refuses_leaves_nothing),
		TEST(an_object_that_is_not_ours_proves_nothing),
		TEST(deleted_it_is_forgotten),
		TEST(an_account_has_so_many),
		TEST(they_wait_for_each_other),
		TEST(a_slow_bucket_is_given_up),
		TEST(what_cannot_be_written_is_not_so),
		TEST(a_damaged_file_is_left_alone),
		TEST(every_damage_is_seen),
		TEST(what_has_a_sum_must_make_sense_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
