/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * An operation goes from step to step: change the list in memory, write the file (storage worker), talk
 * to the bucket (its worker), tell. They run one after another, so no step finds anything changed since
 * the one before. What is on disk comes first: a crash leaves at worst an entry without its object,
 * which the next add puts there, never an object that nobody knows of.
 */
#include "control/ownership.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config/log.h"
#include "control/file.h"
#include "control/job.h"
#include "control/memory.h"
#include "control/ownership_file.h"
#include "control/s3.h"
#include "control/store.h"
#include "engine/clock.h"

#define WAITING_MAX 32
#define TIMEOUT_MS  10000 /* in which nothing moves; a person waits for the answer */
#define PATIENCE_NS (20 * CLOCK_NS_PER_S)
#define HELD_MAX    1024 /* that an object of ours may have grown to */

struct operation;
typedef void operation_step(struct operation *op);

struct operation {
	struct job job;
	struct operation *later;
	operation_step *begin;

	char account[CONFIG_NAME_MAX];
	char prefix[OWNERSHIP_PREFIX_SIZE];
	char destination[OWNERSHIP_DESTINATION_MAX + 1];
	char challenge[OWNERSHIP_CHALLENGE_LEN + 1]; /* as somebody says */
	struct uuid id;
	struct config_bucket bucket; /* a copy, with our timeout */
	ownership_done *done;        /* NULL once called */
	void *arg;

	struct ownership *owned;
	struct ownership before; /* what to go back to when the file cannot be written */
	bool fresh;              /* the entry came with this operation */

	operation_step *written; /* the next step, after the file */
	char *text;
	int rc;

	operation_step *work; /* the bucket's worker */
	operation_step *worked;
	uint64_t talk_since_ns; /* monotonic; 0: it does not talk */
	bool canceled;          /* set by the control thread, read by the worker */
	char key[S3_KEY_MAX];
	char content[OWNERSHIP_CHALLENGE_LEN + 1];
	bool holds; /* the object held what was put there */
	struct err err;
	struct s3_answer answer;
};

static struct {
	const struct config *config;
	struct ownership *first;
	struct operation *running, *waiting;
	struct err broken; /* the file is not to be touched */
	struct ownership_counts counts;
} ownership;

static int load(struct err *err);
static struct ownership *entry_find(const char *account, const char *bucket, const char *prefix);
static struct operation *operation_make(operation_step *begin, const char *account,
	const struct ownership_place *place, ownership_done *done, void *arg);
static void operation_post(struct operation *op);
static void validation_count(const struct ownership *owned, const struct err *err);
static operation_step add_begin, add_written, add_work, add_worked, add_withdrawn;
static operation_step validate_begin, validate_work, validate_worked, validate_written;
static operation_step delete_begin, delete_written, delete_work, delete_worked;

void ownership_start(const struct config *config)
{
	memset(&ownership, 0, sizeof(ownership));
	ownership.config = config;
	if (load(&ownership.broken) != 0)
		log_error("%s/%s stays untouched, and no bucket can be used by account: %s",
			config->storage.root, OWNERSHIP_FILE, ownership.broken.text);
}

void ownership_stop(void)
{
	ownership_list_free(ownership.first);
	ownership.first = NULL;
}

void ownership_tick(void)
{
	struct operation *op = ownership.running;

	if (op != NULL && op->talk_since_ns != 0 &&
		clock_monotonic_ns() > op->talk_since_ns + PATIENCE_NS)
		__atomic_store_n(&op->canceled, true, __ATOMIC_RELAXED);
}

static int load(struct err *err)
{
	char *text;
	size_t len;
	int rc = file_load(store_root(), OWNERSHIP_FILE, OWNERSHIP_FILE_MAX, &text, &len);

	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return err_set(err, -rc, NULL, "it cannot be read: %s", strerror(-rc));
	rc = ownership_file_parse(text, len, &ownership.first, err);
	free(text);
	return rc;
}

void ownership_count(struct ownership_counts *counts)
{
	*counts = ownership.counts;
	counts->broken = ownership.broken.code != 0;
	for (const struct ownership *owned = ownership.first; owned != NULL; owned = owned->next)
		counts->entries[owned->status]++;
}

const struct ownership *ownership_next(const struct ownership *before, const char *account)
{
	const struct ownership *owned = before != NULL ? before->next : ownership.first;

	while (owned != NULL && strcmp(owned->account, account) != 0)
		owned = owned->next;
	return owned;
}

/* above is prefix, or stands before a / of it. */
static bool prefix_covers(const char *above, const char *prefix)
{
	size_t len = strlen(above);

	return len == 0 ||
	       (strncmp(above, prefix, len) == 0 && (prefix[len] == '\0' || prefix[len] == '/'));
}

bool ownership_proved(const struct ownership_place *place)
{
	const struct ownership *owned = NULL;

	while ((owned = ownership_next(owned, place->account)) != NULL)
		if (owned->status == OWNERSHIP_success &&
			strcmp(owned->bucket, place->bucket->name) == 0 &&
			prefix_covers(owned->prefix, place->prefix))
			return true;
	return false;
}

void ownership_filename(const struct ownership *owned, char name[OWNERSHIP_FILENAME_SIZE])
{
	char id[UUID_TEXT_SIZE];

	uuid_print_hex(&owned->id, id);
	snprintf(name, OWNERSHIP_FILENAME_SIZE, "ownership-challenge-%s.txt", id);
}

const char *ownership_status_name(enum ownership_status status)
{
	static const char *const names[] = {
#define X(name) #name,
		OWNERSHIP_STATUSES(X)
#undef X
	};

	return names[status];
}

void ownership_add(const struct ownership_place *place, const char *destination,
	ownership_done *done, void *arg)
{
	struct operation *op = operation_make(add_begin, place->account, place, done, arg);

	snprintf(op->destination, sizeof(op->destination), "%s", destination);
	operation_post(op);
}

void ownership_validate(
	const struct ownership_place *place, const char *challenge, ownership_done *done, void *arg)
{
	struct operation *op = operation_make(validate_begin, place->account, place, done, arg);

	/* Too long is wrong like anything else. */
	if (strlen(challenge) == OWNERSHIP_CHALLENGE_LEN)
		memcpy(op->challenge, challenge, OWNERSHIP_CHALLENGE_LEN);
	operation_post(op);
}

void ownership_delete(const char *account, const struct uuid *id, ownership_done *done, void *arg)
{
	struct operation *op = operation_make(delete_begin, account, NULL, done, arg);

	op->id = *id;
	operation_post(op);
}

static struct ownership *entry_find(const char *account, const char *bucket, const char *prefix)
{
	for (struct ownership *owned = ownership.first; owned != NULL; owned = owned->next)
		if (strcmp(owned->account, account) == 0 && strcmp(owned->bucket, bucket) == 0 &&
			strcmp(owned->prefix, prefix) == 0)
			return owned;
	return NULL;
}

static unsigned entry_count(const char *account)
{
	const struct ownership *owned = NULL;
	unsigned n = 0;

	while ((owned = ownership_next(owned, account)) != NULL)
		n++;
	return n;
}

/* Where the list points at owned, or would. */
static struct ownership **entry_link(const struct ownership *owned)
{
	struct ownership **link = &ownership.first;

	while (*link != NULL && *link != owned)
		link = &(*link)->next;
	return link;
}

static void entry_append(struct ownership *owned)
{
	owned->next = NULL;
	*entry_link(NULL) = owned;
}

static void entry_unlink(struct ownership *owned)
{
	*entry_link(owned) = owned->next;
	owned->next = NULL;
}

static void challenge_make(char challenge[OWNERSHIP_CHALLENGE_LEN + 1])
{
	uint8_t bytes[OWNERSHIP_CHALLENGE_LEN / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		abort();
	for (unsigned i = 0; i < sizeof(bytes); i++)
		sprintf(challenge + 2 * i, "%02x", bytes[i]);
}

/* Takes as long whatever differs. */
static bool challenge_same(const char *a, const char *b)
{
	volatile unsigned char differs = 0;

	for (unsigned i = 0; i < OWNERSHIP_CHALLENGE_LEN; i++)
		differs |= (unsigned char)a[i] ^ (unsigned char)b[i];
	return differs == 0;
}

static struct operation *operation_make(operation_step *begin, const char *account,
	const struct ownership_place *place, ownership_done *done, void *arg)
{
	struct operation *op = memory_get(sizeof(*op));

	op->begin = begin;
	op->done = done;
	op->arg = arg;
	snprintf(op->account, sizeof(op->account), "%s", account);
	if (place == NULL)
		return op;
	op->bucket = *place->bucket;
	snprintf(op->prefix, sizeof(op->prefix), "%s", place->prefix);
	return op;
}

static void operation_next(void)
{
	ownership.running = ownership.waiting;
	if (ownership.running == NULL)
		return;
	ownership.waiting = ownership.running->later;
	ownership.running->begin(ownership.running);
}

static void operation_tell(
	struct operation *op, const struct ownership *owned, const struct err *err)
{
	ownership_done *done = op->done;

	op->done = NULL;
	if (op->begin == validate_begin)
		validation_count(owned, err);
	if (done != NULL)
		done(owned, err, op->arg);
}

static void operation_end(struct operation *op)
{
	free(op->text);
	free(op);
	operation_next();
}

static void operation_succeed(struct operation *op)
{
	operation_tell(op, op->owned, NULL);
	operation_end(op);
}

static void operation_fail(struct operation *op, const struct err *err)
{
	operation_tell(op, NULL, err);
	operation_end(op);
}

/* Begin it, or let it wait for those before. */
static void operation_post(struct operation *op)
{
	struct operation **last = &ownership.waiting;
	struct err err = {0};
	unsigned n = 0;

	for (; *last != NULL; last = &(*last)->later)
		n++;
	if (ownership.broken.code != 0)
		err_set(&err, EAGAIN, NULL, "what is known of buckets cannot be used: %s",
			ownership.broken.text);
	else if (n >= WAITING_MAX)
		err_set(&err, EAGAIN, NULL, "%u operations on buckets are waiting already", n);
	if (err.code != 0) {
		operation_tell(op, NULL, &err);
		free(op);
		return;
	}
	*last = op;
	if (ownership.running == NULL)
		operation_next();
}

static void write_work(struct job *job)
{
	struct operation *op = (struct operation *)job;

	op->rc = op->text == NULL
			 ? -ENOMEM
			 : file_replace(store_root(), OWNERSHIP_FILE, op->text, strlen(op->text));
}

static void write_done(struct job *job)
{
	struct operation *op = (struct operation *)job;

	free(op->text);
	op->text = NULL;
	if (op->rc != 0)
		err_set(&op->err, op->rc == -ENOSPC ? ENOSPC : EIO, NULL,
			"what is known of buckets cannot be written: %s", strerror(-op->rc));
	op->written(op);
}

/* Write the file as the list is now, then go on with written; op->rc says how it went. */
static void list_write(struct operation *op, operation_step *written)
{
	op->written = written;
	op->text = ownership_file_print(ownership.first);
	op->job = (struct job){.run = write_work, .done = write_done};
	job_post(WORKER_STORAGE, &op->job);
}

/* On the bucket's worker, with a client that is ready. */
static void bucket_work(struct job *job)
{
	struct operation *op = (struct operation *)job;

	op->work(op);
}

static void bucket_done(struct job *job)
{
	struct operation *op = (struct operation *)job;

	op->talk_since_ns = 0;
	op->worked(op);
}

static void bucket_talk(struct operation *op, operation_step *work, operation_step *worked)
{
	char name[OWNERSHIP_FILENAME_SIZE];

	ownership_filename(op->owned, name);
	memcpy(op->content, op->owned->challenge, sizeof(op->content));
	if (op->bucket.timeout_ms > TIMEOUT_MS)
		op->bucket.timeout_ms = TIMEOUT_MS;
	op->work = work;
	op->worked = worked;
	if (s3_key(&op->bucket, op->owned->prefix, name, op->key) != 0) {
		err_set(&op->err, EINVAL, "destination_conf",
			"the directory is too long for this bucket");
		worked(op);
		return;
	}
	op->talk_since_ns = clock_monotonic_ns();
	op->job = (struct job){.run = bucket_work, .done = bucket_done};
	job_post(WORKER_BUCKET, &op->job);
}

/* NULL: op->err says why. */
static struct s3 *client_open(struct operation *op)
{
	struct err err = {0};
	struct s3 *s3 = s3_open(&op->bucket, &op->canceled, NULL, &err);

	if (s3 != NULL)
		return s3;
	log_error("bucket %s cannot be used: %s", op->bucket.name, err.text);
	err_set(&op->err, ENODEV, "destination_conf",
		"bucket \"%s\" is not configured right on this host", op->bucket.name);
	return NULL;
}

/* What an answer means to one who asked us to do that. */
static void answer_judge(struct operation *op, const char *what)
{
	const struct s3_answer *answer = &op->answer;

	if (answer->outcome == S3_DONE)
		return;
	log_warning(
		"bucket %s: the challenge cannot be %s: %s", op->bucket.name, what, answer->text);
	err_set(&op->err,
		answer->outcome == S3_RETRY || answer->outcome == S3_CANCELED ? EAGAIN : EINVAL,
		"destination_conf", "the challenge cannot be %s in bucket \"%s\": %s", what,
		op->bucket.name, op->canceled ? "it took too long" : answer->text);
}

/* ---- add ---- */

/* The entry as it is to be: new, or the one that is there, with a challenge of its own. NULL with err. */
static struct ownership *add_entry(struct operation *op)
{
	struct ownership *owned = entry_find(op->account, op->bucket.name, op->prefix);

	op->fresh = owned == NULL;
	if (owned != NULL) {
		op->before = *owned;
		if (owned->status == OWNERSHIP_failed)
			challenge_make(owned->challenge);
		return owned;
	}
	if (entry_count(op->account) >= OWNERSHIP_PER_ACCOUNT) {
		err_set(&op->err, EINVAL, "destination_conf",
			"one more than %u buckets, which is what an account may have",
			OWNERSHIP_PER_ACCOUNT);
		return NULL;
	}
	owned = memory_get(sizeof(*owned));
	uuid_make(&owned->id);
	challenge_make(owned->challenge);
	snprintf(owned->account, sizeof(owned->account), "%s", op->account);
	snprintf(owned->bucket, sizeof(owned->bucket), "%s", op->bucket.name);
	memcpy(owned->prefix, op->prefix, sizeof(owned->prefix));
	owned->submitted_ns = clock_wall_ns();
	entry_append(owned);
	return owned;
}

static void add_begin(struct operation *op)
{
	struct ownership *owned = add_entry(op);

	op->owned = owned;
	if (owned == NULL) {
		operation_fail(op, &op->err);
		return;
	}
	if (owned->status == OWNERSHIP_success) {
		operation_succeed(op);
		return;
	}
	memcpy(owned->destination, op->destination, sizeof(owned->destination));
	owned->status = OWNERSHIP_pending;
	list_write(op, add_written);
}

/* The entry was not there before, so it is not there now. */
static void entry_drop(struct operation *op)
{
	entry_unlink(op->owned);
	free(op->owned);
	op->owned = NULL;
}

/* Everything but its place in the list as it was. */
static void entry_restore(struct operation *op)
{
	struct ownership *next = op->owned->next;

	*op->owned = op->before;
	op->owned->next = next;
}

static void add_written(struct operation *op)
{
	if (op->rc == 0) {
		bucket_talk(op, add_work, add_worked);
		return;
	}
	if (op->fresh)
		entry_drop(op);
	else
		entry_restore(op);
	operation_fail(op, &op->err);
}

static void add_work(struct operation *op)
{
	struct s3_body body = {.fd = -1, .data = op->content, .len = strlen(op->content)};
	struct s3 *s3 = client_open(op);
	struct s3_object object;

	if (s3 == NULL)
		return;
	if (s3_body_hash(s3, &body) == 0)
		s3_object_put(s3, op->key, &body, "text/plain", NULL, false, &object, &op->answer);
	else
		op->answer.outcome = S3_CANCELED;
	answer_judge(op, "written");
	s3_close(s3);
}

static void add_worked(struct operation *op)
{
	struct err err = op->err;

	if (err.code == 0) {
		operation_succeed(op);
	} else if (op->fresh) {
		entry_drop(op);
		list_write(op, add_withdrawn);
	} else {
		operation_fail(op, &err);
	}
}

/* Written or not, the operation failed before; a pending entry that comes back does no harm. */
static void add_withdrawn(struct operation *op)
{
	operation_fail(op, &op->err);
}

/* ---- validate ---- */

static void validate_begin(struct operation *op)
{
	struct ownership *owned = entry_find(op->account, op->bucket.name, op->prefix);
	bool right;

	op->owned = owned;
	if (owned == NULL) {
		err_set(&op->err, EINVAL, "destination_conf",
			"this bucket was not added; add it first and read the challenge in it");
		operation_fail(op, &op->err);
		return;
	}
	op->before = *owned;
	right = challenge_same(owned->challenge, op->challenge);
	if (right && owned->status == OWNERSHIP_success) {
		operation_succeed(op);
	} else if (right) {
		bucket_talk(op, validate_work, validate_worked);
	} else if (owned->status == OWNERSHIP_success) {
		err_set(&op->err, EINVAL, "ownership_challenge",
			"is not what the challenge holds; the bucket stays validated");
		operation_fail(op, &op->err);
	} else {
		owned->status = OWNERSHIP_failed;
		list_write(op, validate_written);
	}
}

static void validation_count(const struct ownership *owned, const struct err *err)
{
	if (owned != NULL && owned->status == OWNERSHIP_success)
		ownership.counts.validations_right++;
	else if (err == NULL || strcmp(err->field, "ownership_challenge") == 0)
		ownership.counts.validations_wrong++;
	else
		ownership.counts.validations_failed++;
}

/* Is it there, and as it was put there? */
static void validate_work(struct operation *op)
{
	struct s3 *s3 = client_open(op);
	char held[HELD_MAX];
	size_t len = 0;

	if (s3 == NULL)
		return;
	if (s3_object_get(s3, op->key, held, sizeof(held), &len, &op->answer) == S3_DONE)
		op->holds = len == OWNERSHIP_CHALLENGE_LEN && challenge_same(held, op->content);
	else if (op->answer.outcome != S3_ABSENT)
		answer_judge(op, "read");
	s3_close(s3);
}

static void validate_worked(struct operation *op)
{
	if (op->err.code != 0) {
		operation_fail(op, &op->err);
		return;
	}
	op->owned->status = op->holds ? OWNERSHIP_success : OWNERSHIP_failed;
	if (op->holds)
		op->owned->validated_ns = clock_wall_ns();
	list_write(op, validate_written);
}

static void validate_written(struct operation *op)
{
	if (op->rc == 0) {
		operation_succeed(op);
		return;
	}
	entry_restore(op);
	operation_fail(op, &op->err);
}

/* ---- delete ---- */

static void delete_begin(struct operation *op)
{
	struct ownership *owned = ownership.first;

	while (owned != NULL && (memcmp(&owned->id, &op->id, sizeof(op->id)) != 0 ||
					strcmp(owned->account, op->account) != 0))
		owned = owned->next;
	op->owned = owned;
	if (owned == NULL) {
		err_set(&op->err, ENOENT, NULL, "There is no bucket with this id");
		operation_fail(op, &op->err);
		return;
	}
	entry_unlink(owned);
	list_write(op, delete_written);
}

/* Nobody waits for the object to go. */
static void delete_written(struct operation *op)
{
	const struct config_bucket *bucket;

	if (op->rc != 0) {
		entry_append(op->owned);
		operation_fail(op, &op->err);
		return;
	}
	operation_tell(op, NULL, NULL);
	bucket = config_bucket_find(ownership.config, op->owned->bucket);
	if (bucket != NULL) {
		op->bucket = *bucket;
		bucket_talk(op, delete_work, delete_worked);
		return;
	}
	delete_worked(op);
}

static void delete_work(struct operation *op)
{
	struct s3 *s3 = client_open(op);

	if (s3 == NULL)
		return;
	s3_object_delete(s3, op->key, &op->answer);
	answer_judge(op, "removed");
	s3_close(s3);
}

static void delete_worked(struct operation *op)
{
	free(op->owned);
	operation_end(op);
}
