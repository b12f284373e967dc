/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One attempt, step by step; each step leaves an outcome, and the first that is not S3_DONE ends it:
 *
 *   plan -> [object there already] -> one piece, or create -> parts -> complete -> verify
 *
 * Created and not told, completed and not told: such answers get lost. So before a multipart upload is
 * asked for that is noted first, and what may be there of an earlier one is looked up by the key and
 * aborted; and whether a completion took place is asked of the object, never concluded.
 */
#include "control/upload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/log.h"
#include "control/store.h"
#include "control/upload_journal.h"

#define TYPE          "application/vnd.tcpdump.pcap"
#define DEBTS         "uploads"
#define DELAY_FIRST   500
#define DELAY_MAX     (300U * 1000)
#define DELAY_REFUSED (15U * 1000) /* a person has to do something first */
#define UUID_HEX_LEN  32
#define DEBT_AGE_MIN  30 /* seconds */

struct attempt {
	struct upload *upload;
	struct s3 *s3;
	int dir;
	int file;
	struct upload_journal journal;
	char sha256[HASH_HEX_SIZE];
};

static struct {
	uint64_t sent_bytes, parts, verified, retries, failures[S3_CANCELED];
} counts;

static enum s3_outcome attempt_open(struct attempt *attempt);
static void attempt_close(struct attempt *attempt);
static enum s3_outcome plan_make(struct attempt *attempt, uint64_t size_bytes);
static enum s3_outcome attempt_go(struct attempt *attempt);
static enum s3_outcome object_is_ours(struct attempt *attempt, bool *there);
static enum s3_outcome whole_send(struct attempt *attempt);
static enum s3_outcome multipart_begin(struct attempt *attempt);
static enum s3_outcome strays_abort(struct attempt *attempt);
static enum s3_outcome parts_send(struct attempt *attempt);
static enum s3_outcome part_send(struct attempt *attempt, unsigned number);
static enum s3_outcome multipart_end(struct attempt *attempt);
static enum s3_outcome object_verify(struct attempt *attempt);
static enum s3_outcome object_read_back(struct attempt *attempt, bool marked);
static enum s3_outcome start_over(struct attempt *attempt, const char *why);
static void etag_expected(const struct upload_journal *journal, char etag[S3_ETAG_MAX]);
static enum s3_outcome failed(struct attempt *attempt, enum s3_outcome outcome, const char *fmt,
	...) __attribute__((format(printf, 3, 4)));
static enum s3_outcome journal_failed(struct attempt *attempt, int rc);
static bool key_parse(const char *key, struct uuid *id);

void upload_run(struct upload *upload)
{
	struct attempt attempt = {.upload = upload, .dir = -1, .file = -1, .journal = {.fd = -1}};
	enum s3_outcome outcome;

	memset(&upload->answer, 0, sizeof(upload->answer));
	outcome = attempt_open(&attempt);
	if (outcome == S3_DONE)
		outcome = attempt_go(&attempt);
	attempt_close(&attempt);
	upload->answer.outcome = outcome;
	if (outcome == S3_DONE)
		__atomic_fetch_add(&counts.verified, 1, __ATOMIC_RELAXED);
	else if (outcome < S3_CANCELED)
		__atomic_fetch_add(&counts.failures[outcome == S3_ABSENT ? S3_RETRY : outcome], 1,
			__ATOMIC_RELAXED);
}

void upload_counts(struct upload_counts *out)
{
	out->sent_bytes = __atomic_load_n(&counts.sent_bytes, __ATOMIC_RELAXED);
	out->parts = __atomic_load_n(&counts.parts, __ATOMIC_RELAXED);
	out->verified = __atomic_load_n(&counts.verified, __ATOMIC_RELAXED);
	out->retries = __atomic_load_n(&counts.retries, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < S3_CANCELED; i++)
		out->failures[i] = __atomic_load_n(&counts.failures[i], __ATOMIC_RELAXED);
}

void upload_retry_count(void)
{
	__atomic_fetch_add(&counts.retries, 1, __ATOMIC_RELAXED);
}

uint64_t upload_delay_ms(unsigned n_failures, enum s3_outcome outcome, uint64_t random)
{
	const bool person = outcome == S3_REFUSED || outcome == S3_EXISTS;
	uint64_t delay_ms = person ? DELAY_REFUSED : DELAY_FIRST;

	for (unsigned i = 1; i < n_failures && delay_ms < DELAY_MAX; i++)
		delay_ms *= 2;
	if (delay_ms > DELAY_MAX)
		delay_ms = DELAY_MAX;
	return delay_ms / 2 + random % (delay_ms / 2 + 1);
}

static enum s3_outcome attempt_open(struct attempt *attempt)
{
	struct upload *upload = attempt->upload;
	struct err err = {0};
	struct stat st;
	int rc;

	attempt->dir = store_dir_open(&upload->id, false);
	if (attempt->dir >= 0)
		attempt->file =
			openat(attempt->dir, STORE_CAPTURE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (attempt->file < 0 || fstat(attempt->file, &st) != 0)
		return failed(attempt, S3_REFUSED, "the local file cannot be opened: %s",
			strerror(attempt->dir < 0 ? -attempt->dir : errno));
	__atomic_store_n(&upload->total_bytes, (uint64_t)st.st_size, __ATOMIC_RELAXED);
	rc = upload_journal_open(&attempt->journal, attempt->dir, UPLOAD_JOURNAL);
	if (rc != 0)
		return journal_failed(attempt, rc);
	attempt->s3 = s3_open(upload->bucket, &upload->canceled, &upload->sent_bytes, &err);
	if (attempt->s3 == NULL) {
		/* Where the file is is not for those who see the capture. */
		log_warning("bucket %s cannot be used: %s", upload->bucket->name, err.text);
		return failed(attempt, err.code == ENOMEM ? S3_RETRY : S3_CREDENTIALS,
			"the bucket's credentials cannot be read: %s", strerror(err.code));
	}
	return plan_make(attempt, (uint64_t)st.st_size);
}

static void attempt_close(struct attempt *attempt)
{
	s3_close(attempt->s3);
	upload_journal_close(&attempt->journal);
	if (attempt->file >= 0)
		close(attempt->file);
	if (attempt->dir >= 0)
		close(attempt->dir);
}

/* What is to be sent, unless an earlier attempt has said that already. */
static enum s3_outcome plan_make(struct attempt *attempt, uint64_t size_bytes)
{
	struct upload_journal *journal = &attempt->journal;
	struct s3_body whole = {.fd = attempt->file, .len = size_bytes};
	struct upload_plan plan = {.size_bytes = size_bytes,
		.part_bytes = upload_part_bytes(size_bytes, attempt->upload->bucket->part_bytes)};
	int rc = 0;

	if (size_bytes > S3_SIZE_MAX)
		return failed(attempt, S3_REFUSED, "the file is larger than an object may be");
	snprintf(plan.bucket, sizeof(plan.bucket), "%s", attempt->upload->bucket->name);
	snprintf(plan.key, sizeof(plan.key), "%s", attempt->upload->key);
	if (!journal->planned || journal->plan.size_bytes != size_bytes ||
		strcmp(journal->plan.key, plan.key) != 0 ||
		strcmp(journal->plan.bucket, plan.bucket) != 0) {
		rc = s3_body_hash(attempt->s3, &whole);
		if (rc == -ECANCELED)
			return failed(attempt, S3_CANCELED, "canceled");
		if (rc != 0)
			return failed(attempt, S3_RETRY, "the local file cannot be read: %s",
				strerror(-rc));
		memcpy(plan.sha256, whole.sha256, sizeof(plan.sha256));
		memcpy(plan.md5, whole.md5, sizeof(plan.md5));
		rc = upload_journal_plan(journal, &plan);
	}
	if (rc != 0)
		return journal_failed(attempt, rc);
	hash_hex(journal->plan.sha256, HASH_SHA256_SIZE, attempt->sha256);
	return S3_DONE;
}

static enum s3_outcome attempt_go(struct attempt *attempt)
{
	struct upload_journal *journal = &attempt->journal;
	enum s3_outcome outcome = S3_DONE;
	bool there = false;

	if (journal->upload_id[0] == '\0') {
		outcome = object_is_ours(attempt, &there);
		if (outcome == S3_DONE && !there)
			outcome = journal->n_parts == 1 ? whole_send(attempt)
							: multipart_begin(attempt);
	}
	if (outcome == S3_DONE && journal->upload_id[0] != '\0') {
		outcome = parts_send(attempt);
		if (outcome == S3_DONE)
			outcome = multipart_end(attempt);
	}
	if (outcome == S3_DONE)
		outcome = object_verify(attempt);
	/* One that was asked for and never heard of may have come to be all the same. */
	if (outcome == S3_DONE && journal->n_creates > 1)
		outcome = strays_abort(attempt);
	return outcome;
}

/* Before anything is sent. What has our key and another content is nobody's to replace. */
static enum s3_outcome object_is_ours(struct attempt *attempt, bool *there)
{
	struct s3_answer *answer = &attempt->upload->answer;
	struct s3_object object;

	*there = false;
	s3_object_head(attempt->s3, attempt->upload->key, &object, answer);
	/* Who may only write is not told whether there is an object. */
	if (answer->outcome == S3_ABSENT ||
		(answer->outcome == S3_CREDENTIALS && answer->status == 403))
		return S3_DONE;
	if (answer->outcome != S3_DONE)
		return answer->outcome;
	if (object.size_bytes != attempt->journal.plan.size_bytes ||
		(object.sha256[0] != '\0' && strcasecmp(object.sha256, attempt->sha256) != 0))
		return failed(attempt, S3_EXISTS, "another object has this key already");
	*there = true;
	return S3_DONE;
}

static enum s3_outcome whole_send(struct attempt *attempt)
{
	const struct upload_plan *plan = &attempt->journal.plan;
	struct upload *upload = attempt->upload;
	struct s3_body body = {.fd = attempt->file, .len = plan->size_bytes};
	struct s3_object object;

	__atomic_store_n(&upload->sent_bytes, 0, __ATOMIC_RELAXED);
	memcpy(body.sha256, plan->sha256, sizeof(body.sha256));
	memcpy(body.md5, plan->md5, sizeof(body.md5));
	s3_object_put(attempt->s3, upload->key, &body, TYPE, attempt->sha256, true, &object,
		&upload->answer);
	__atomic_fetch_add(&counts.sent_bytes, upload->answer.sent_bytes, __ATOMIC_RELAXED);
	/* It may be an earlier attempt of ours, of which the answer got lost: that is looked at. */
	if (upload->answer.outcome == S3_EXISTS)
		return S3_DONE;
	if (upload->answer.outcome == S3_DONE)
		__atomic_fetch_add(&counts.parts, 1, __ATOMIC_RELAXED);
	return upload->answer.outcome;
}

static enum s3_outcome multipart_begin(struct attempt *attempt)
{
	struct upload *upload = attempt->upload;
	char id[S3_UPLOAD_ID_MAX];
	int rc;

	if (attempt->journal.n_creates > 0 && strays_abort(attempt) != S3_DONE)
		return upload->answer.outcome;
	rc = upload_journal_creating(&attempt->journal);
	if (rc != 0)
		return journal_failed(attempt, rc);
	if (s3_multipart_create(attempt->s3, upload->key, TYPE, attempt->sha256, id,
		    &upload->answer) != S3_DONE)
		return upload->answer.outcome;
	rc = upload_journal_created(&attempt->journal, id);
	return rc == 0 ? S3_DONE : journal_failed(attempt, rc);
}

struct strays {
	struct attempt *attempt;
	enum s3_outcome outcome;
};

static bool stray_abort(const char *key, const char *upload_id, void *arg)
{
	struct strays *strays = arg;
	struct attempt *attempt = strays->attempt;
	struct s3_answer answer;

	if (strcmp(key, attempt->upload->key) != 0)
		return true;
	strays->outcome = s3_multipart_abort(attempt->s3, key, upload_id, &answer);
	if (strays->outcome != S3_DONE)
		attempt->upload->answer = answer;
	return strays->outcome == S3_DONE;
}

/* No multipart upload of our key is wanted: there may be some of which we never heard. */
static enum s3_outcome strays_abort(struct attempt *attempt)
{
	struct strays strays = {attempt, S3_DONE};
	struct s3_answer answer;

	s3_multipart_each(attempt->s3, attempt->upload->key, stray_abort, &strays, &answer);
	/* Who may not list them cannot leave fewer behind. */
	if (answer.outcome == S3_CREDENTIALS && answer.status == 403)
		return S3_DONE;
	if (answer.outcome != S3_DONE)
		attempt->upload->answer = answer;
	return answer.outcome != S3_DONE ? answer.outcome : strays.outcome;
}

static enum s3_outcome parts_send(struct attempt *attempt)
{
	const struct upload_journal *journal = &attempt->journal;
	uint64_t sent_bytes = 0;

	for (unsigned i = 0; i < journal->n_parts; i++)
		if (journal->parts[i].number != 0)
			sent_bytes +=
				i + 1 < journal->n_parts
					? journal->plan.part_bytes
					: journal->plan.size_bytes - i * journal->plan.part_bytes;
	__atomic_store_n(&attempt->upload->sent_bytes, sent_bytes, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < journal->n_parts; i++) {
		enum s3_outcome outcome = S3_DONE;

		if (journal->parts[i].number == 0)
			outcome = part_send(attempt, i + 1);
		if (outcome != S3_DONE)
			return outcome;
	}
	return S3_DONE;
}

static enum s3_outcome part_send(struct attempt *attempt, unsigned number)
{
	const struct upload_plan *plan = &attempt->journal.plan;
	struct upload *upload = attempt->upload;
	struct s3_part part = {.number = number};
	struct s3_body body = {.fd = attempt->file, .offset = (number - 1) * plan->part_bytes};
	int rc;

	body.len = plan->size_bytes - body.offset;
	if (body.len > plan->part_bytes)
		body.len = plan->part_bytes;
	rc = s3_body_hash(attempt->s3, &body);
	if (rc != 0)
		return failed(attempt, rc == -ECANCELED ? S3_CANCELED : S3_RETRY,
			"the local file cannot be read: %s", strerror(-rc));
	s3_part_put(attempt->s3, upload->key, attempt->journal.upload_id, &body, &part,
		&upload->answer);
	/* Read for the last time: captures that run need the page cache more. */
	posix_fadvise(attempt->file, (off_t)body.offset, (off_t)body.len, POSIX_FADV_DONTNEED);
	__atomic_fetch_add(&counts.sent_bytes, upload->answer.sent_bytes, __ATOMIC_RELAXED);
	if (upload->answer.outcome == S3_ABSENT)
		return start_over(attempt, "the multipart upload is no more");
	if (upload->answer.outcome != S3_DONE)
		return upload->answer.outcome;
	__atomic_fetch_add(&counts.parts, 1, __ATOMIC_RELAXED);
	rc = upload_journal_part(&attempt->journal, &part, body.md5);
	if (rc != 0)
		return journal_failed(attempt, rc);
	upload->progressed = true;
	return S3_DONE;
}

/* The answer alone decides nothing: only what the object then says. */
static enum s3_outcome multipart_end(struct attempt *attempt)
{
	struct upload *upload = attempt->upload;
	const struct upload_journal *journal = &attempt->journal;
	struct s3_answer said;
	bool there = false;

	s3_multipart_complete(attempt->s3, upload->key, journal->upload_id, journal->parts,
		journal->n_parts, true, &said);
	if (said.outcome == S3_DONE || said.outcome == S3_CREDENTIALS ||
		said.outcome == S3_CANCELED || said.outcome == S3_REFUSED) {
		upload->answer = said;
		return said.outcome;
	}
	if (object_is_ours(attempt, &there) != S3_DONE)
		return upload->answer.outcome;
	/* Where it was refused because the object is there, the multipart upload is, too. */
	if (there)
		return s3_multipart_abort(
			attempt->s3, upload->key, journal->upload_id, &upload->answer);
	upload->answer = said;
	if (said.part_is_wrong || said.outcome == S3_ABSENT)
		return start_over(attempt, said.text);
	return said.outcome;
}

/* The object is there. Is it the file? */
static enum s3_outcome object_verify(struct attempt *attempt)
{
	const struct upload_plan *plan = &attempt->journal.plan;
	struct s3_answer *answer = &attempt->upload->answer;
	struct s3_object object;
	char etag[S3_ETAG_MAX];

	s3_object_head(attempt->s3, attempt->upload->key, &object, answer);
	if (answer->outcome == S3_ABSENT)
		return start_over(attempt, "the object is not there after its upload");
	if (answer->outcome != S3_DONE)
		return answer->outcome;
	if (object.sha256[0] != '\0' && strcasecmp(object.sha256, attempt->sha256) != 0)
		return failed(attempt, S3_EXISTS, "another object has this key already");
	if (object.size_bytes != plan->size_bytes)
		return failed(attempt, S3_RETRY, "the object has %llu bytes, the file %llu",
			(unsigned long long)object.size_bytes,
			(unsigned long long)plan->size_bytes);
	etag_expected(&attempt->journal, etag);
	if (!object.encrypted && etag[0] != '\0' && strcasecmp(object.etag, etag) == 0)
		return S3_DONE;
	return object_read_back(attempt, object.sha256[0] != '\0');
}

static enum s3_outcome object_read_back(struct attempt *attempt, bool marked)
{
	const struct upload_plan *plan = &attempt->journal.plan;
	struct s3_answer *answer = &attempt->upload->answer;
	uint8_t sha256[HASH_SHA256_SIZE];
	uint64_t size_bytes;

	s3_object_hash(
		attempt->s3, attempt->upload->key, plan->size_bytes, &size_bytes, sha256, answer);
	if (answer->outcome != S3_DONE)
		return answer->outcome;
	if (size_bytes == plan->size_bytes && memcmp(sha256, plan->sha256, sizeof(sha256)) == 0)
		return S3_DONE;
	if (!marked)
		return failed(attempt, S3_EXISTS, "another object has this key already");
	/* It has our mark and not our bytes: it is ours, and it is broken. */
	if (s3_object_delete(attempt->s3, attempt->upload->key, answer) != S3_DONE)
		return answer->outcome;
	return start_over(attempt, "the object was not what the file is, and was removed");
}

/* The next attempt begins with a new upload. */
static enum s3_outcome start_over(struct attempt *attempt, const char *why)
{
	struct s3_answer answer;
	char text[sizeof(attempt->upload->answer.text)];
	int rc;

	snprintf(text, sizeof(text), "%s", why);
	if (attempt->journal.upload_id[0] != '\0')
		s3_multipart_abort(
			attempt->s3, attempt->upload->key, attempt->journal.upload_id, &answer);
	rc = upload_journal_restart(&attempt->journal);
	if (rc != 0)
		return journal_failed(attempt, rc);
	return failed(attempt, S3_RETRY, "%s", text);
}

/*
 * Of one piece the MD5; of parts that of their MD5s one after another, and their number. "": not known,
 * as the journal of how it was sent is gone.
 */
static void etag_expected(const struct upload_journal *journal, char etag[S3_ETAG_MAX])
{
	uint8_t md5[HASH_MD5_SIZE];
	struct hash *hash;

	etag[0] = '\0';
	if (journal->n_parts == 1)
		hash_hex(journal->plan.md5, HASH_MD5_SIZE, etag);
	if (journal->n_parts == 1 || journal->n_done != journal->n_parts ||
		(hash = hash_new(HASH_MD5)) == NULL)
		return;
	hash_add(hash, journal->md5, (size_t)journal->n_parts * HASH_MD5_SIZE);
	hash_end(hash, md5);
	hash_hex(md5, sizeof(md5), etag);
	snprintf(
		etag + 2 * HASH_MD5_SIZE, S3_ETAG_MAX - 2 * HASH_MD5_SIZE, "-%u", journal->n_parts);
}

static enum s3_outcome failed(
	struct attempt *attempt, enum s3_outcome outcome, const char *fmt, ...)
{
	struct s3_answer *answer = &attempt->upload->answer;
	va_list args;

	memset(answer, 0, sizeof(*answer));
	answer->outcome = outcome;
	va_start(args, fmt);
	vsnprintf(answer->text, sizeof(answer->text), fmt, args);
	va_end(args);
	return outcome;
}

static enum s3_outcome journal_failed(struct attempt *attempt, int rc)
{
	if (rc == -EPROTO)
		return failed(attempt, S3_REFUSED,
			"a newer version began this upload; its journal is left alone");
	return failed(
		attempt, S3_RETRY, "the upload's journal cannot be written: %s", strerror(-rc));
}

/* ---- what is owed, and what nobody remembers ---- */

static int debts_open(void)
{
	int dir;

	if (mkdirat(store_root(), DEBTS, 0700) == 0)
		fsync(store_root());
	dir = openat(store_root(), DEBTS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return dir < 0 ? -errno : dir;
}

int upload_debt_add(const struct uuid *id, const char *bucket, const char *key, bool keep_object,
	bool look_twice)
{
	struct upload_plan plan = {
		.part_bytes = 1, .keep_object = keep_object, .look_twice = look_twice};
	struct upload_journal journal = {.fd = -1};
	char name[UUID_TEXT_SIZE];
	int dir = debts_open(), rc;

	if (dir < 0)
		return dir;
	uuid_print(id, name);
	snprintf(plan.bucket, sizeof(plan.bucket), "%s", bucket);
	snprintf(plan.key, sizeof(plan.key), "%s", key);
	rc = upload_journal_open(&journal, dir, name);
	if (rc == 0)
		rc = upload_journal_plan(&journal, &plan);
	upload_journal_close(&journal);
	if (rc == 0 && fsync(dir) != 0)
		rc = -errno;
	close(dir);
	return rc;
}

static bool debt_stray_abort(const char *key, const char *upload_id, void *arg)
{
	struct attempt *attempt = arg;

	if (strcmp(key, attempt->journal.plan.key) != 0)
		return true;
	return s3_multipart_abort(attempt->s3, key, upload_id, &attempt->upload->answer) == S3_DONE;
}

/* true: all of it is paid. */
static bool debt_pay(struct attempt *attempt)
{
	const struct upload_plan *plan = &attempt->journal.plan;
	struct upload *upload = attempt->upload;
	struct s3_answer answer;
	struct err err = {0};

	attempt->s3 = s3_open(upload->bucket, NULL, NULL, &err);
	if (attempt->s3 == NULL) {
		failed(attempt, S3_CREDENTIALS, "%s", err.text);
		return false;
	}
	if (!plan->keep_object &&
		s3_object_delete(attempt->s3, plan->key, &upload->answer) != S3_DONE)
		return false;
	memset(&upload->answer, 0, sizeof(upload->answer));
	s3_multipart_each(attempt->s3, plan->key, debt_stray_abort, attempt, &answer);
	if (answer.outcome == S3_CREDENTIALS && answer.status == 403)
		return true;
	if (answer.outcome != S3_DONE)
		upload->answer = answer;
	return upload->answer.outcome == S3_DONE;
}

/* One file of ROOT/uploads; true: it is gone. */
static bool debt_take(const struct config *config, int dir, const char *name)
{
	struct upload upload = {0};
	struct attempt attempt = {.upload = &upload, .dir = -1, .file = -1, .journal = {.fd = -1}};
	struct stat st = {0};
	bool gone = false;

	if (upload_journal_open(&attempt.journal, dir, name) == 0 && attempt.journal.planned &&
		fstat(attempt.journal.fd, &st) == 0)
		upload.bucket = config_bucket_find(config, attempt.journal.plan.bucket);
	if (upload.bucket != NULL && debt_pay(&attempt))
		gone = !attempt.journal.plan.look_twice || time(NULL) - st.st_mtime >= DEBT_AGE_MIN;
	else if (upload.bucket != NULL && upload.answer.outcome != S3_CANCELED)
		log_warning("the object of deleted capture %s is still in bucket %s: %s", name,
			upload.bucket->name, upload.answer.text);
	attempt_close(&attempt);
	if (gone)
		unlinkat(dir, name, 0);
	return gone;
}

unsigned upload_debts_run(const struct config *config)
{
	struct dirent *entry;
	int fd = debts_open();
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct uuid id;
	unsigned n = 0;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((entry = readdir(dir)) != NULL)
		if (uuid_parse(entry->d_name, strlen(entry->d_name), &id))
			n += !debt_take(config, fd, entry->d_name);
	closedir(dir);
	return n;
}

struct listing {
	upload_found *found;
	void *arg;
};

static bool listed(const char *key, const char *upload_id, void *arg)
{
	const struct listing *listing = arg;
	struct uuid id;

	if (key_parse(key, &id))
		listing->found(&id, key, upload_id, listing->arg);
	return true;
}

enum s3_outcome upload_list(const struct config_bucket *bucket, upload_found *found, void *arg,
	struct s3_answer *answer)
{
	struct listing listing = {found, arg};
	char prefix[sizeof(bucket->prefix) + 1];
	struct err err = {0};
	struct s3 *s3 = s3_open(bucket, NULL, NULL, &err);

	memset(answer, 0, sizeof(*answer));
	if (s3 == NULL) {
		snprintf(answer->text, sizeof(answer->text), "%.255s", err.text);
		return answer->outcome = S3_CREDENTIALS;
	}
	snprintf(
		prefix, sizeof(prefix), "%s%s", bucket->prefix, *bucket->prefix != '\0' ? "/" : "");
	s3_multipart_each(s3, prefix, listed, &listing, answer);
	s3_close(s3);
	return answer->outcome;
}

enum s3_outcome upload_abort(const struct config_bucket *bucket, const char *key,
	const char *upload_id, struct s3_answer *answer)
{
	struct err err = {0};
	struct s3 *s3 = s3_open(bucket, NULL, NULL, &err);

	memset(answer, 0, sizeof(*answer));
	if (s3 == NULL)
		return answer->outcome = S3_CREDENTIALS;
	s3_multipart_abort(s3, key, upload_id, answer);
	s3_close(s3);
	return answer->outcome;
}

/* The id in the name of an object: ".../UUID.pcapng", or 32 digits somewhere in it. */
static bool key_parse(const char *key, struct uuid *id)
{
	const char *slash = strrchr(key, '/'), *name = slash != NULL ? slash + 1 : key;

	for (size_t left = strlen(name); left >= UUID_HEX_LEN; left--, name++)
		if (uuid_parse(name, UUID_HEX_LEN, id) ||
			(left >= UUID_TEXT_SIZE - 1 && uuid_parse(name, UUID_TEXT_SIZE - 1, id)))
			return true;
	return false;
}
