/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Any bytes as an S3 server's answer: an upload is complete only when the answer says so in its body, and
 * not when that says error, whatever its status; what is kept of an answer stood in it. How the answer gets
 * to s3.c is the business of the target that this is linked with.
 */
#include "answers.h"

#include <string.h>
#include <unistd.h>

#include "control/s3.h"

const uint8_t *answer;
size_t answer_size;

static struct config_bucket bucket = {.bucket = "caps",
	.region = "us-east-1",
	.endpoint = "http://127.0.0.1:9",
	.insecure = true,
	.timeout_ms = 2000,
	.allow = {.n = 1, .item = {"127.0.0.0/8"}}};
static struct s3 *s3;
static struct s3_body body = {.fd = -1, .data = "0123456789", .len = 10};

static void credentials_make(void)
{
	const char *parent = getenv("TMPDIR");
	int fd;

	snprintf(bucket.credentials, sizeof(bucket.credentials), "%s/fuzz_answer.XXXXXX",
		parent != NULL ? parent : "/tmp");
	fd = mkstemp(bucket.credentials);
	fuzz_check(fd >= 0 && dprintf(fd, "access_key = A\nsecret_key = S\n") > 0);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct err err = {0};

	fuzz_check(s3_init() == 0);
	credentials_make();
	s3 = s3_open(&bucket, NULL, NULL, &err);
	unlink(bucket.credentials);
	fuzz_check(s3 != NULL);
	fuzz_check(s3_body_hash(s3, &body) == 0);
	return 0;
}

/* Whatever its letters' case. */
static bool answer_has(const char *word)
{
	const size_t len = strlen(word);

	for (size_t at = 0; at + len <= answer_size; at++)
		if (strncasecmp((const char *)answer + at, word, len) == 0)
			return true;
	return false;
}

/* Said somewhere, or in chunks, which may lie in the middle of a word. */
static bool answer_says(const char *word)
{
	return answer_has(word) || answer_has("chunked");
}

static void said_check(const struct s3_answer *said)
{
	fuzz_check(memchr(said->text, '\0', sizeof(said->text)) != NULL);
	fuzz_check(memchr(said->code, '\0', sizeof(said->code)) != NULL);
	fuzz_check(said->outcome != S3_DONE || (said->status >= 200 && said->status < 300));
	fuzz_check(said->outcome == S3_DONE || said->text[0] != '\0');
}

static bool upload_one(const char *key, const char *upload_id, void *arg)
{
	fuzz_check(strlen(key) < S3_KEY_MAX && strlen(upload_id) < S3_UPLOAD_ID_MAX);
	fuzz_check(upload_id[0] != '\0');
	return true;
}

static void part_check(void)
{
	struct s3_part part = {.number = 1};
	struct s3_answer said;
	char md5[2 * HASH_MD5_SIZE + 1];

	hash_hex(body.md5, HASH_MD5_SIZE, md5);
	if (s3_part_put(s3, "k", "id", &body, &part, &said) == S3_DONE)
		fuzz_check(part.etag[0] != '\0' &&
			   (strlen(part.etag) != 32 || strcasecmp(part.etag, md5) == 0 ||
				   strspn(part.etag, "0123456789abcdefABCDEF") != 32 ||
				   answer_has("server-side-encryption")));
	said_check(&said);
}

static void object_check(bool hash)
{
	static char text[256];
	uint8_t sha256[HASH_SHA256_SIZE];
	struct s3_answer said;
	uint64_t size_bytes;
	size_t len;

	if (hash) {
		s3_object_hash(s3, "k", sizeof(text), &size_bytes, sha256, &said);
		fuzz_check(size_bytes <= sizeof(text) && size_bytes <= answer_size);
	} else {
		s3_object_get(s3, "k", text, sizeof(text), &len, &said);
		fuzz_check(len < sizeof(text) && len <= answer_size && text[len] == '\0');
	}
	said_check(&said);
}

static void complete_check(void)
{
	const struct s3_part part = {.number = 1, .etag = "0123456789abcdef0123456789abcdef"};
	struct s3_answer said;

	if (s3_multipart_complete(s3, "k", "id", &part, 1, true, &said) == S3_DONE)
		fuzz_check(answer_says("CompleteMultipartUploadResult"));
	said_check(&said);
}

static void create_check(void)
{
	struct s3_answer said;
	char id[S3_UPLOAD_ID_MAX];

	if (s3_multipart_create(s3, "k", "a/b", NULL, id, &said) == S3_DONE)
		fuzz_check(id[0] != '\0' && answer_says("InitiateMultipartUploadResult"));
	said_check(&said);
}

static void head_check(void)
{
	struct s3_object object;
	struct s3_answer said;

	s3_object_head(s3, "k", &object, &said);
	said_check(&said);
}

static void list_check(void)
{
	struct s3_answer said;

	s3_multipart_each(s3, "k", upload_one, NULL, &said);
	said_check(&said);
}

static void request_try(unsigned which)
{
	switch (which) {
	case 0:
		create_check();
		break;
	case 1:
		head_check();
		break;
	case 2:
		list_check();
		break;
	case 3:
		part_check();
		break;
	case 4:
	case 5:
		object_check(which == 4);
		break;
	default:
		complete_check();
	}
}

/* The answer's length chooses what it answers; what is saved answers a completion, too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > ANSWER_MAX)
		return 0;
	answer = data;
	answer_size = size;
#ifndef FUZZ_SEARCH
	complete_check();
#endif
	request_try(size % 8);
	return 0;
}
