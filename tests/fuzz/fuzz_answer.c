/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Any bytes as an S3 server's answer: an upload is complete only when the answer says so in its body, and
 * not when that says error, whatever its status.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/s3.h"

#define ANSWER_MAX 65536

static struct config_bucket bucket = {.bucket = "caps",
	.region = "us-east-1",
	.insecure = true,
	.timeout_ms = 2000,
	.allow = {.n = 1, .item = {"127.0.0.0/8"}}};
static struct s3 *s3;
static int listener;
static struct {
	pthread_mutex_t lock; /* the client may go on while the server still sends */
	uint8_t data[ANSWER_MAX];
	size_t size;
} answer = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool request_whole(const char *request, size_t len)
{
	const char *end = strstr(request, "\r\n\r\n"), *length;

	if (end == NULL)
		return false;
	length = strcasestr(request, "content-length:");
	return len >= (size_t)(end + 4 - request) +
			      (length != NULL && length < end ? strtoul(length + 15, NULL, 10) : 0);
}

/* Read a request to its end, answer with the input, hang up. */
static void *server_run(void *arg)
{
	static char request[16384];

	for (;;) {
		int fd = accept(listener, NULL, NULL);
		size_t len = 0;
		ssize_t n = 1;

		fuzz_check(fd >= 0);
		request[0] = '\0';
		while (!request_whole(request, len) && n > 0) {
			n = read(fd, request + len, sizeof(request) - 1 - len);
			len += n > 0 ? (size_t)n : 0;
			request[len] = '\0';
		}
		pthread_mutex_lock(&answer.lock);
		send(fd, answer.data, answer.size, MSG_NOSIGNAL);
		pthread_mutex_unlock(&answer.lock);
		close(fd);
	}
	return NULL;
}

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
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct err err = {0};
	pthread_t thread;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fuzz_check(bind(listener, (struct sockaddr *)&address, len) == 0);
	fuzz_check(listen(listener, 8) == 0);
	fuzz_check(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
	snprintf(bucket.endpoint, sizeof(bucket.endpoint), "http://127.0.0.1:%u",
		ntohs(address.sin_port));
	fuzz_check(pthread_create(&thread, NULL, server_run, NULL) == 0);
	fuzz_check(s3_init() == 0);
	credentials_make();
	s3 = s3_open(&bucket, NULL, NULL, &err);
	unlink(bucket.credentials);
	fuzz_check(s3 != NULL);
	return 0;
}

static bool upload_none(const char *key, const char *upload_id, void *arg)
{
	fuzz_check(strlen(key) < S3_KEY_MAX && strlen(upload_id) < S3_UPLOAD_ID_MAX);
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct s3_part part = {.number = 1, .etag = "0123456789abcdef0123456789abcdef"};
	char id[S3_UPLOAD_ID_MAX];
	struct s3_answer said = {0};
	struct s3_object object;

	if (size > ANSWER_MAX)
		return 0;
	pthread_mutex_lock(&answer.lock);
	memcpy(answer.data, data, size);
	answer.size = size;
	pthread_mutex_unlock(&answer.lock);
	if (s3_multipart_complete(s3, "k", "id", &part, 1, true, &said) == S3_DONE)
		fuzz_check(memmem(data, size, "CompleteMultipartUploadResult", 29) != NULL);
	fuzz_check(memchr(said.text, '\0', sizeof(said.text)) != NULL);
	if (size % 4 == 0) {
		if (s3_multipart_create(s3, "k", "a/b", NULL, id, &said) == S3_DONE)
			fuzz_check(id[0] != '\0');
		s3_object_head(s3, "k", &object, &said);
		s3_multipart_each(s3, "k", upload_none, NULL, &said);
	}
	return 0;
}
