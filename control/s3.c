/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Each request is a struct that says all of it; request_run carries it out. libcurl signs what it is
 * told to send, with traps: the header x-amz-content-sha256 must be there, the query must be in order,
 * a header that is taken out is signed all the same, and no header's name may begin another's.
 */
#include "control/s3.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <curl/curl.h>

#include "control/file.h"
#include "control/s3_address.h"
#include "control/s3_credentials.h"
#include "control/s3_xml.h"
#include "control/secret.h"
#include "engine/fault.h"

#define CONNECT_TIMEOUT_MS 10000
#define EXPECT_TIMEOUT_MS \
	300 /* a server that does not say 100 Continue gets the body all the same */
#define COMPLETE_PATIENCE 10 /* times the timeout: the server puts the parts together meanwhile */
#define HEADER_BYTES_MAX  65536
#define HEADERS_MAX       128
#define HASH_STEP         (256U << 10)
#define BUFFER_SIZE       (128L << 10)
#define LIST_PAGES_MAX    100
#define PARTS_ENTRY_MAX   (S3_ETAG_MAX * 6 + 80)
#define XML_TYPE          "application/xml"

struct s3 {
	const struct config_bucket *bucket;
	struct s3_credentials credentials;
	const bool *canceled;
	uint64_t *sent_bytes;
	bool no_conditions; /* the server does not know If-None-Match */
	CURLSH *share;      /* connections and resolved names, which outlive a request's handle */
	CURL *curl;         /* of the present request */
	char *url;          /* S3_URL_MAX */
	const char *address_refused; /* why the last connection was not made */
};

enum method { METHOD_GET, METHOD_HEAD, METHOD_PUT, METHOD_POST, METHOD_DELETE };

struct request {
	enum method method;
	const char *key;
	const struct s3_query *query; /* or NULL */
	const struct s3_body *body;   /* METHOD_PUT */
	const char *post;             /* METHOD_POST */
	const char *type;             /* of what is sent, or NULL */
	const char *meta_sha256;      /* or NULL */
	bool md5;                     /* send the body's, too */
	bool only_new;
	unsigned patience; /* times the timeout; 0 = 1 */
	size_t answer_max;
	struct hash *hash; /* the answer's body goes there, not into memory */
};

/* What comes back. */
struct reply {
	struct s3 *s3;
	const struct request *request;
	uint64_t sent;
	char *body; /* malloc'ed, or NULL */
	size_t body_len;
	uint64_t hashed;
	bool too_much;
	size_t header_bytes;
	unsigned n_headers;
	unsigned n_etags;
	struct s3_object object;
};

static bool all_canceled;

static enum s3_outcome request_run(struct s3 *s3, const struct request *request,
	struct reply *reply, struct s3_answer *answer);
static CURLcode request_send(struct s3 *s3, const struct request *request, struct reply *reply);
static struct curl_slist *headers_make(struct s3 *s3, const struct request *request);
static void method_set(struct s3 *s3, const struct request *request, struct reply *reply);
static void answer_judge(
	struct s3 *s3, CURLcode rc, const struct reply *reply, struct s3_answer *answer);
static void code_judge(struct s3_answer *answer);
static void reply_free(struct reply *reply);
static struct s3_xml reply_xml(const struct reply *reply);
static enum s3_outcome answer_set(struct s3_answer *answer, enum s3_outcome outcome,
	const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool canceled(const struct s3 *s3);
static bool etag_is_md5(const char *etag);
static bool upload_id_is_good(const char *id);
static char *parts_print(const struct s3_part *parts, unsigned n_parts);

static size_t on_read(char *out, size_t size, size_t n, void *arg);
static int on_seek(void *arg, curl_off_t offset, int origin);
static size_t on_body(char *data, size_t size, size_t n, void *arg);
static size_t on_header(char *data, size_t size, size_t n, void *arg);
static int on_progress(
	void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul);
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);

int s3_init(void)
{
	/* Whatever libcurl copies of a key is in secret memory, and wiped when it is freed. */
	CURLcode rc = curl_global_init_mem(CURL_GLOBAL_DEFAULT, secret_alloc, secret_free,
		secret_realloc, secret_strdup, secret_calloc);

	__atomic_store_n(&all_canceled, false, __ATOMIC_RELAXED);
	return rc == CURLE_OK ? 0 : -ENOMEM;
}

void s3_fini(void)
{
	curl_global_cleanup();
}

void s3_cancel_all(void)
{
	__atomic_store_n(&all_canceled, true, __ATOMIC_RELAXED);
}

struct s3 *s3_open(const struct config_bucket *bucket, const bool *is_canceled,
	uint64_t *sent_bytes, struct err *err)
{
	struct s3 *s3 = calloc(1, sizeof(*s3));

	if (s3 == NULL) {
		err_set(err, ENOMEM, NULL, "no memory");
		return NULL;
	}
	s3->bucket = bucket;
	s3->canceled = is_canceled;
	s3->sent_bytes = sent_bytes;
	if (s3_credentials_read(bucket->credentials, &s3->credentials, err) != 0) {
		s3_close(s3);
		return NULL;
	}
	s3->share = curl_share_init();
	s3->url = malloc(S3_URL_MAX);
	if (s3->share == NULL || s3->url == NULL) {
		s3_close(s3);
		err_set(err, ENOMEM, NULL, "no memory");
		return NULL;
	}
	curl_share_setopt(s3->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT);
	curl_share_setopt(s3->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	return s3;
}

void s3_close(struct s3 *s3)
{
	if (s3 == NULL)
		return;
	if (s3->curl != NULL)
		curl_easy_cleanup(s3->curl);
	if (s3->share != NULL)
		curl_share_cleanup(s3->share);
	s3_credentials_free(&s3->credentials);
	free(s3->url);
	free(s3);
}

int s3_body_hash(struct s3 *s3, struct s3_body *body)
{
	struct hash *sha256 = hash_new(HASH_SHA256), *md5 = hash_new(HASH_MD5);
	uint8_t *step = malloc(HASH_STEP);
	int rc = sha256 != NULL && md5 != NULL && step != NULL ? 0 : -ENOMEM;

	for (uint64_t done = 0; rc == 0 && done < body->len;) {
		size_t len = body->len - done < HASH_STEP ? body->len - done : HASH_STEP;
		const uint8_t *data = step;

		if (body->fd < 0)
			data = (const uint8_t *)body->data + done;
		else
			rc = file_read_at(body->fd, step, len, body->offset + done);
		if (rc == 0 && s3 != NULL && canceled(s3))
			rc = -ECANCELED;
		if (rc == 0) {
			hash_add(sha256, data, len);
			hash_add(md5, data, len);
		}
		done += len;
	}
	free(step);
	if (rc != 0) {
		hash_free(sha256);
		hash_free(md5);
		return rc;
	}
	hash_end(sha256, body->sha256);
	hash_end(md5, body->md5);
	return 0;
}

enum s3_outcome s3_object_put(struct s3 *s3, const char *key, const struct s3_body *body,
	const char *type, const char *meta_sha256, bool only_new, struct s3_object *object,
	struct s3_answer *answer)
{
	const struct request request = {.method = METHOD_PUT,
		.key = key,
		.body = body,
		.type = type,
		.meta_sha256 = meta_sha256,
		.md5 = true,
		.only_new = only_new,
		.answer_max = S3_BODY_MAX};
	struct reply reply;

	request_run(s3, &request, &reply, answer);
	if (object != NULL)
		*object = reply.object;
	reply_free(&reply);
	return answer->outcome;
}

enum s3_outcome s3_object_head(
	struct s3 *s3, const char *key, struct s3_object *object, struct s3_answer *answer)
{
	const struct request request = {.method = METHOD_HEAD, .key = key};
	curl_off_t size = -1;
	struct reply reply;

	request_run(s3, &request, &reply, answer);
	*object = reply.object;
	if (answer->outcome == S3_DONE) {
		curl_easy_getinfo(s3->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
		if (size < 0)
			answer_set(answer, S3_RETRY, "the object's size was not told");
		else
			object->size_bytes = (uint64_t)size;
	}
	reply_free(&reply);
	return answer->outcome;
}

enum s3_outcome s3_object_get(struct s3 *s3, const char *key, char *data, size_t size, size_t *len,
	struct s3_answer *answer)
{
	const struct request request = {.method = METHOD_GET, .key = key, .answer_max = size - 1};
	struct reply reply;

	*len = 0;
	data[0] = '\0';
	if (request_run(s3, &request, &reply, answer) == S3_DONE) {
		*len = reply.body_len;
		if (reply.body_len != 0)
			memcpy(data, reply.body, reply.body_len);
		data[*len] = '\0';
	}
	reply_free(&reply);
	return answer->outcome;
}

enum s3_outcome s3_object_hash(struct s3 *s3, const char *key, uint64_t size_max,
	uint64_t *size_bytes, uint8_t sha256[HASH_SHA256_SIZE], struct s3_answer *answer)
{
	struct request request = {.method = METHOD_GET,
		.key = key,
		.answer_max = size_max,
		.hash = hash_new(HASH_SHA256)};
	struct reply reply;

	memset(answer, 0, sizeof(*answer));
	if (request.hash == NULL)
		return answer_set(answer, S3_RETRY, "no memory");
	request_run(s3, &request, &reply, answer);
	*size_bytes = reply.hashed;
	hash_end(request.hash, sha256);
	reply_free(&reply);
	return answer->outcome;
}

enum s3_outcome s3_object_delete(struct s3 *s3, const char *key, struct s3_answer *answer)
{
	const struct request request = {
		.method = METHOD_DELETE, .key = key, .answer_max = S3_BODY_MAX};
	struct reply reply;

	request_run(s3, &request, &reply, answer);
	reply_free(&reply);
	if (answer->outcome == S3_ABSENT)
		answer->outcome = S3_DONE;
	return answer->outcome;
}

enum s3_outcome s3_multipart_create(struct s3 *s3, const char *key, const char *type,
	const char *meta_sha256, char upload_id[S3_UPLOAD_ID_MAX], struct s3_answer *answer)
{
	static const struct s3_query query[] = {{"uploads", ""}, {NULL, NULL}};
	const struct request request = {.method = METHOD_POST,
		.key = key,
		.query = query,
		.post = "",
		.type = type,
		.meta_sha256 = meta_sha256,
		.answer_max = S3_BODY_MAX};
	struct reply reply;

	upload_id[0] = '\0';
	request_run(s3, &request, &reply, answer);
	if (answer->outcome == S3_DONE &&
		(!s3_xml_is(reply_xml(&reply), "InitiateMultipartUploadResult") ||
			!s3_xml_text(reply_xml(&reply), "UploadId", upload_id, S3_UPLOAD_ID_MAX) ||
			!upload_id_is_good(upload_id)))
		answer_set(answer, S3_RETRY, "the answer to a new multipart upload has no id");
	reply_free(&reply);
	return answer->outcome;
}

enum s3_outcome s3_part_put(struct s3 *s3, const char *key, const char *upload_id,
	const struct s3_body *body, struct s3_part *part, struct s3_answer *answer)
{
	char number[16], md5[2 * HASH_MD5_SIZE + 1];
	const struct s3_query query[] = {
		{"partNumber", number}, {"uploadId", upload_id}, {NULL, NULL}};
	const struct request request = {.method = METHOD_PUT,
		.key = key,
		.query = query,
		.body = body,
		.md5 = true,
		.answer_max = S3_BODY_MAX};
	struct reply reply;

	snprintf(number, sizeof(number), "%u", part->number);
	hash_hex(body->md5, HASH_MD5_SIZE, md5);
	request_run(s3, &request, &reply, answer);
	snprintf(part->etag, sizeof(part->etag), "%s", reply.object.etag);
	if (answer->outcome == S3_DONE && (reply.n_etags != 1 || part->etag[0] == '\0'))
		answer_set(answer, S3_RETRY, "part %u was answered with %s ETag", part->number,
			reply.n_etags > 1 ? "more than one" : "no");
	else if (answer->outcome == S3_DONE && !reply.object.encrypted && etag_is_md5(part->etag) &&
		 strcasecmp(part->etag, md5) != 0)
		answer_set(answer, S3_RETRY,
			"part %u arrived as something else: its ETag is not its MD5", part->number);
	reply_free(&reply);
	return answer->outcome;
}

enum s3_outcome s3_multipart_complete(struct s3 *s3, const char *key, const char *upload_id,
	const struct s3_part *parts, unsigned n_parts, bool only_new, struct s3_answer *answer)
{
	const struct s3_query query[] = {{"uploadId", upload_id}, {NULL, NULL}};
	char *list = parts_print(parts, n_parts);
	const struct request request = {.method = METHOD_POST,
		.key = key,
		.query = query,
		.post = list,
		.type = XML_TYPE,
		.only_new = only_new,
		.patience = COMPLETE_PATIENCE,
		.answer_max = S3_BODY_MAX};
	struct reply reply;

	memset(answer, 0, sizeof(*answer));
	if (list == NULL)
		return answer_set(answer, S3_RETRY, "no memory");
	request_run(s3, &request, &reply, answer);
	/* 200 is sent before the work is done; the body tells how that ended. */
	if (answer->outcome == S3_DONE &&
		!s3_xml_is(reply_xml(&reply), "CompleteMultipartUploadResult"))
		answer_set(answer, S3_RETRY,
			"the end of a multipart upload was answered with "
			"200 and no result");
	answer->part_is_wrong = strcmp(answer->code, "InvalidPart") == 0 ||
				strcmp(answer->code, "InvalidPartOrder") == 0 ||
				strcmp(answer->code, "EntityTooSmall") == 0 ||
				strcmp(answer->code, "MalformedXML") == 0;
	reply_free(&reply);
	free(list);
	return answer->outcome;
}

enum s3_outcome s3_multipart_abort(
	struct s3 *s3, const char *key, const char *upload_id, struct s3_answer *answer)
{
	const struct s3_query query[] = {{"uploadId", upload_id}, {NULL, NULL}};
	const struct request request = {
		.method = METHOD_DELETE, .key = key, .query = query, .answer_max = S3_BODY_MAX};
	struct reply reply;

	request_run(s3, &request, &reply, answer);
	reply_free(&reply);
	if (answer->outcome == S3_ABSENT)
		answer->outcome = S3_DONE;
	return answer->outcome;
}

/* One page of a list; true: there is another, from the markers on. */
struct list {
	char key_marker[S3_KEY_MAX], id_marker[S3_UPLOAD_ID_MAX];
	char key[S3_KEY_MAX], upload_id[S3_UPLOAD_ID_MAX];
};

static bool list_page(struct list *list, struct s3_xml xml, s3_multipart_fn *fn, void *arg)
{
	struct s3_xml upload, rest = xml;
	char truncated[8];

	while (s3_xml_find(rest, "Upload", &upload, &rest))
		if (s3_xml_text(upload, "Key", list->key, sizeof(list->key)) &&
			s3_xml_text(upload, "UploadId", list->upload_id, sizeof(list->upload_id)) &&
			upload_id_is_good(list->upload_id) && !fn(list->key, list->upload_id, arg))
			return false;
	if (!s3_xml_text(xml, "IsTruncated", truncated, sizeof(truncated)) ||
		strcmp(truncated, "true") != 0)
		return false;
	return s3_xml_text(xml, "NextKeyMarker", list->key_marker, sizeof(list->key_marker)) &&
	       s3_xml_text(xml, "NextUploadIdMarker", list->id_marker, sizeof(list->id_marker));
}

enum s3_outcome s3_multipart_each(
	struct s3 *s3, const char *prefix, s3_multipart_fn *fn, void *arg, struct s3_answer *answer)
{
	struct list *list = calloc(1, sizeof(*list));
	bool more = true;

	memset(answer, 0, sizeof(*answer));
	if (list == NULL)
		return answer_set(answer, S3_RETRY, "no memory");
	for (unsigned page = 0; more && page < LIST_PAGES_MAX; page++) {
		const struct s3_query query[] = {
			{"uploads", ""},
			{"prefix", prefix},
			{"max-uploads", "1000"},
			{page > 0 ? "key-marker" : NULL, list->key_marker},
			{"upload-id-marker", list->id_marker},
			{NULL, NULL},
		};
		const struct request request = {
			.method = METHOD_GET, .key = "", .query = query, .answer_max = S3_BODY_MAX};
		struct reply reply;

		more = false;
		if (request_run(s3, &request, &reply, answer) == S3_DONE) {
			if (s3_xml_is(reply_xml(&reply), "ListMultipartUploadsResult"))
				more = list_page(list, reply_xml(&reply), fn, arg);
			else
				answer_set(answer, S3_RETRY,
					"the list of multipart uploads is not one");
		}
		reply_free(&reply);
	}
	free(list);
	return answer->outcome;
}

/* Carry it out; once more without its condition where the server does not know that. */
static enum s3_outcome request_run(
	struct s3 *s3, const struct request *request, struct reply *reply, struct s3_answer *answer)
{
	CURLcode rc;

	for (;;) {
		*reply = (struct reply){.s3 = s3, .request = request};
		memset(answer, 0, sizeof(*answer));
		if (canceled(s3))
			return answer_set(answer, S3_CANCELED, "canceled");
		rc = request_send(s3, request, reply);
		answer_judge(s3, rc, reply, answer);
		answer->sent_bytes = reply->sent;
		if (answer->status != 501 || !request->only_new || s3->no_conditions)
			return answer->outcome;
		s3->no_conditions = true;
		reply_free(reply);
	}
}

static CURLcode request_send(struct s3 *s3, const struct request *request, struct reply *reply)
{
	const struct config_bucket *bucket = s3->bucket;
	struct curl_slist *headers;
	char sigv4[96];
	CURLcode rc;

	if (s3_url(bucket, request->key, request->query, s3->url, S3_URL_MAX) < 0)
		return CURLE_URL_MALFORMAT;
	/*
	 * A new handle each time: libcurl 7.88 keeps a pointer to the last header of the answer before,
	 * which is gone, and an answer that begins with a folded line makes it write there.
	 */
	if (s3->curl != NULL)
		curl_easy_cleanup(s3->curl);
	s3->curl = curl_easy_init();
	if (s3->curl == NULL)
		return CURLE_OUT_OF_MEMORY;
	curl_easy_setopt(s3->curl, CURLOPT_SHARE, s3->share);
	/*
	 * On a connection that was used before and breaks before an answer, libcurl sends the request
	 * again by itself. What makes something new each time must not be: nobody would know of the first.
	 */
	if (request->method == METHOD_POST)
		curl_easy_setopt(s3->curl, CURLOPT_FRESH_CONNECT, 1L);
	s3->address_refused = NULL;
	headers = headers_make(s3, request);
	if (headers == NULL)
		return CURLE_OUT_OF_MEMORY;
	snprintf(sigv4, sizeof(sigv4), "aws:amz:%s:s3", bucket->region);
	curl_easy_setopt(s3->curl, CURLOPT_URL, s3->url);
	curl_easy_setopt(s3->curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(
		s3->curl, CURLOPT_PROTOCOLS_STR, bucket->insecure ? "http,https" : "https");
	curl_easy_setopt(s3->curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(s3->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(s3->curl, CURLOPT_NOSIGNAL, 1L);
	/* Whoever cancels does not wait for a name server that does not answer. */
	curl_easy_setopt(s3->curl, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(s3->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(s3->curl, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
	curl_easy_setopt(s3->curl, CURLOPT_AWS_SIGV4, sigv4);
	curl_easy_setopt(s3->curl, CURLOPT_USERNAME, s3->credentials.access_key);
	curl_easy_setopt(s3->curl, CURLOPT_PASSWORD, s3->credentials.secret_key);
	curl_easy_setopt(s3->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(s3->curl, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)EXPECT_TIMEOUT_MS);
	curl_easy_setopt(s3->curl, CURLOPT_CONNECTTIMEOUT_MS,
		bucket->timeout_ms < CONNECT_TIMEOUT_MS ? (long)bucket->timeout_ms
							: (long)CONNECT_TIMEOUT_MS);
	curl_easy_setopt(s3->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(s3->curl, CURLOPT_LOW_SPEED_TIME,
		(long)(bucket->timeout_ms / 1000 *
			(request->patience != 0 ? request->patience : 1)));
	curl_easy_setopt(s3->curl, CURLOPT_BUFFERSIZE, BUFFER_SIZE);
	curl_easy_setopt(s3->curl, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_SIZE);
	curl_easy_setopt(s3->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (*bucket->ca != '\0')
		curl_easy_setopt(s3->curl, CURLOPT_CAINFO, bucket->ca);
	curl_easy_setopt(s3->curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(s3->curl, CURLOPT_OPENSOCKETDATA, s3);
	curl_easy_setopt(s3->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(s3->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(s3->curl, CURLOPT_XFERINFODATA, s3);
	curl_easy_setopt(s3->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(s3->curl, CURLOPT_WRITEDATA, reply);
	curl_easy_setopt(s3->curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(s3->curl, CURLOPT_HEADERDATA, reply);
	method_set(s3, request, reply);
	rc = curl_easy_perform(s3->curl);
	curl_slist_free_all(headers);
	return rc;
}

static bool header_add(struct curl_slist **headers, const char *name, const char *value)
{
	struct curl_slist *longer;
	size_t size = strlen(name) + strlen(value) + 3;
	char *line = secret_alloc(size);

	if (line == NULL)
		return false;
	snprintf(line, size, "%s: %s", name, value);
	longer = curl_slist_append(*headers, line);
	secret_free(line);
	if (longer != NULL)
		*headers = longer;
	return longer != NULL;
}

/* MD5 as its header wants it. */
static void md5_base64(const uint8_t md5[HASH_MD5_SIZE], char text[25])
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *at = text;

	for (unsigned i = 0; i < HASH_MD5_SIZE; i += 3) {
		uint32_t bits = (uint32_t)md5[i] << 16;

		bits |= i + 1 < HASH_MD5_SIZE ? (uint32_t)md5[i + 1] << 8 : 0;
		bits |= i + 2 < HASH_MD5_SIZE ? (uint32_t)md5[i + 2] : 0;
		*at++ = letters[bits >> 18];
		*at++ = letters[bits >> 12 & 63];
		*at++ = letters[bits >> 6 & 63];
		*at++ = letters[bits & 63];
	}
	memcpy(text + 22, "==", 3); /* 16 bytes: the last group has one */
}

static struct curl_slist *headers_make(struct s3 *s3, const struct request *request)
{
	struct curl_slist *headers = NULL;
	char sha256_hex[HASH_HEX_SIZE], md5[25];
	uint8_t sha256[HASH_SHA256_SIZE];
	bool good;

	if (request->body != NULL)
		memcpy(sha256, request->body->sha256, sizeof(sha256));
	else
		hash_sha256(
			request->post, request->post != NULL ? strlen(request->post) : 0, sha256);
	hash_hex(sha256, sizeof(sha256), sha256_hex);
	good = header_add(&headers, "x-amz-content-sha256", sha256_hex);
	if (request->type != NULL)
		good = good && header_add(&headers, "Content-Type", request->type);
	if (request->md5) {
		md5_base64(request->body->md5, md5);
		good = good && header_add(&headers, "Content-MD5", md5);
	}
	if (request->meta_sha256 != NULL)
		good = good && header_add(&headers, S3_SHA256_META, request->meta_sha256);
	if (request->only_new && !s3->no_conditions)
		good = good && header_add(&headers, "If-None-Match", "*");
	if (s3->credentials.session_token != NULL)
		good = good &&
		       header_add(&headers, "x-amz-security-token", s3->credentials.session_token);
	if (good)
		return headers;
	curl_slist_free_all(headers);
	return NULL;
}

static void method_set(struct s3 *s3, const struct request *request, struct reply *reply)
{
	switch (request->method) {
	case METHOD_GET:
		curl_easy_setopt(s3->curl, CURLOPT_HTTPGET, 1L);
		break;
	case METHOD_HEAD:
		curl_easy_setopt(s3->curl, CURLOPT_NOBODY, 1L);
		break;
	case METHOD_PUT:
		curl_easy_setopt(s3->curl, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(
			s3->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body->len);
		curl_easy_setopt(s3->curl, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(s3->curl, CURLOPT_READDATA, reply);
		curl_easy_setopt(s3->curl, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(s3->curl, CURLOPT_SEEKDATA, reply);
		break;
	case METHOD_POST:
		curl_easy_setopt(s3->curl, CURLOPT_POST, 1L);
		curl_easy_setopt(
			s3->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request->post));
		curl_easy_setopt(s3->curl, CURLOPT_POSTFIELDS, request->post);
		break;
	case METHOD_DELETE:
		curl_easy_setopt(s3->curl, CURLOPT_CUSTOMREQUEST, "DELETE");
		break;
	}
}

/* What libcurl's own errors mean; those that are not here: again later. */
static const struct {
	CURLcode rc;
	enum s3_outcome outcome;
	const char *text;
} failures[] = {
	{CURLE_ABORTED_BY_CALLBACK, S3_CANCELED, "canceled"},
	{CURLE_PEER_FAILED_VERIFICATION, S3_REFUSED, "the server's certificate is not trusted"},
	{CURLE_SSL_CACERT_BADFILE, S3_REFUSED, "the file of authorities (ca) cannot be read"},
	{CURLE_UNSUPPORTED_PROTOCOL, S3_RETRY, "the endpoint does not speak HTTP as it should"},
	{CURLE_URL_MALFORMAT, S3_REFUSED, "endpoint, bucket and key make no URL"},
	{CURLE_COULDNT_RESOLVE_HOST, S3_RETRY, "the endpoint's name cannot be resolved"},
	{CURLE_COULDNT_CONNECT, S3_RETRY, "no connection to the endpoint"},
	{CURLE_OPERATION_TIMEDOUT, S3_RETRY, "nothing came or went for too long"},
	{CURLE_SSL_CONNECT_ERROR, S3_RETRY, "no TLS connection to the endpoint"},
	{CURLE_SEND_ERROR, S3_RETRY, "the connection broke while sending"},
	{CURLE_RECV_ERROR, S3_RETRY, "the connection broke before the answer was whole"},
	{CURLE_PARTIAL_FILE, S3_RETRY, "the connection broke before the answer was whole"},
	{CURLE_GOT_NOTHING, S3_RETRY, "the connection was closed without an answer"},
	{CURLE_READ_ERROR, S3_RETRY, "the local file cannot be read"},
	{CURLE_OUT_OF_MEMORY, S3_RETRY, "no memory, or the head of the answer is too long"},
};

static void answer_judge(
	struct s3 *s3, CURLcode rc, const struct reply *reply, struct s3_answer *answer)
{
	curl_easy_getinfo(s3->curl, CURLINFO_RESPONSE_CODE, &answer->status);
	if (reply->too_much) {
		answer_set(answer, S3_REFUSED, "the answer is larger than any that is allowed");
		return;
	}
	if (s3->address_refused != NULL && rc == CURLE_COULDNT_CONNECT) {
		answer_set(answer, S3_REFUSED, "the endpoint's address is %s", s3->address_refused);
		return;
	}
	for (unsigned i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		if (rc == failures[i].rc) {
			answer_set(answer, failures[i].outcome, "%s", failures[i].text);
			return;
		}
	if (rc != CURLE_OK) {
		answer_set(answer, S3_RETRY, "%s", curl_easy_strerror(rc));
		return;
	}
	if (s3_xml_is(reply_xml(reply), "Error"))
		s3_xml_text(reply_xml(reply), "Code", answer->code, sizeof(answer->code));
	for (char *c = answer->code; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c))
			*c = '?';
	code_judge(answer);
}

/* By S3's word first, as the status alone does not tell; then by the status. */
static const struct {
	const char *code;
	long status; /* when there is no code; 0: not by the status */
	enum s3_outcome outcome;
	const char *text;
} meanings[] = {
	{"NoSuchKey", 0, S3_ABSENT, "there is no such object"},
	{"NoSuchUpload", 0, S3_ABSENT, "there is no such multipart upload"},
	{"NoSuchBucket", 0, S3_REFUSED, "there is no such bucket"},
	{"PreconditionFailed", 412, S3_EXISTS, "there is an object of that key already"},
	{"ConditionalRequestConflict", 0, S3_RETRY, "another request for that key runs"},
	{"OperationAborted", 0, S3_RETRY, "another request runs"},
	{"RequestTimeout", 408, S3_RETRY, "the server waited too long for data"},
	{"RequestTimeTooSkewed", 0, S3_CREDENTIALS, "this machine's clock is wrong"},
	{"BadDigest", 0, S3_RETRY, "what arrived is not what was sent"},
	{"XAmzContentSHA256Mismatch", 0, S3_RETRY, "what arrived is not what was sent"},
	{"IncompleteBody", 0, S3_RETRY, "not all of the data arrived"},
	{"InvalidPart", 0, S3_RETRY, "a part is not there as it was sent"},
	{"InvalidPartOrder", 0, S3_RETRY, "the list of parts was not accepted"},
	{"EntityTooSmall", 0, S3_RETRY, "a part is too small for the server"},
	{"MalformedXML", 0, S3_RETRY, "the list of parts was not accepted"},
	{"SlowDown", 429, S3_RETRY, "the server is overloaded"},
	{"ExpiredToken", 0, S3_CREDENTIALS, "the session token has expired"},
	{"TokenRefreshRequired", 0, S3_CREDENTIALS, "the session token has expired"},
	{"InvalidToken", 0, S3_CREDENTIALS, "the session token is not good"},
	{"PermanentRedirect", 301, S3_REFUSED, "the bucket is at another endpoint"},
	{"TemporaryRedirect", 307, S3_REFUSED, "the bucket is at another endpoint"},
	{"AuthorizationHeaderMalformed", 0, S3_REFUSED, "the bucket is in another region"},
	{NULL, 401, S3_CREDENTIALS, "the credentials were not accepted"},
	{NULL, 403, S3_CREDENTIALS, "the credentials were not accepted, or do not allow this"},
	{NULL, 404, S3_ABSENT, "there is no such object"},
	{NULL, 409, S3_RETRY, "another request runs"},
};

static void code_judge(struct s3_answer *answer)
{
	const char *with = answer->code[0] != '\0' ? answer->code : "no error code";

	/* An error is an error whatever the status says. */
	if (answer->status >= 200 && answer->status < 300 && answer->code[0] == '\0') {
		answer->outcome = S3_DONE;
		return;
	}
	for (unsigned i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if ((meanings[i].code != NULL && strcmp(meanings[i].code, answer->code) == 0) ||
			(meanings[i].status != 0 && meanings[i].status == answer->status)) {
			answer_set(answer, meanings[i].outcome, "%s (%ld, %s)", meanings[i].text,
				answer->status, with);
			return;
		}
	if (answer->status >= 500 || answer->status < 300)
		answer_set(answer, S3_RETRY, "the server failed (%ld, %s)", answer->status, with);
	else
		answer_set(answer, S3_REFUSED, "the server refused the request (%ld, %s)",
			answer->status, with);
}

static enum s3_outcome answer_set(
	struct s3_answer *answer, enum s3_outcome outcome, const char *fmt, ...)
{
	va_list args;

	answer->outcome = outcome;
	va_start(args, fmt);
	vsnprintf(answer->text, sizeof(answer->text), fmt, args);
	va_end(args);
	return outcome;
}

static void reply_free(struct reply *reply)
{
	free(reply->body);
	reply->body = NULL;
}

static struct s3_xml reply_xml(const struct reply *reply)
{
	return (struct s3_xml){reply->body != NULL ? reply->body : "", reply->body_len};
}

static bool canceled(const struct s3 *s3)
{
	return __atomic_load_n(&all_canceled, __ATOMIC_RELAXED) ||
	       (s3->canceled != NULL && __atomic_load_n(s3->canceled, __ATOMIC_RELAXED));
}

static bool etag_is_md5(const char *etag)
{
	return strlen(etag) == 32 && strspn(etag, "0123456789abcdefABCDEF") == 32;
}

/* It goes into a URL, a file and the log; services make them of letters, digits and a few signs. */
static bool upload_id_is_good(const char *id)
{
	for (const char *c = id; *c != '\0'; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	return *id != '\0';
}

/* An ETag is what a server said: in XML it must stay text. */
static size_t etag_print(const char *etag, char *out, size_t size)
{
	size_t len = 0;

	for (; *etag != '\0' && len < size; etag++) {
		const char *entity = *etag == '&'   ? "&amp;"
				     : *etag == '<' ? "&lt;"
				     : *etag == '>' ? "&gt;"
				     : *etag == '"' ? "&quot;"
						    : NULL;

		if (entity != NULL)
			len += (size_t)snprintf(out + len, size - len, "%s", entity);
		else
			out[len++] = *etag;
	}
	return len;
}

static char *parts_print(const struct s3_part *parts, unsigned n_parts)
{
	const size_t size = 128 + (size_t)n_parts * PARTS_ENTRY_MAX;
	char *text = malloc(size);
	size_t len;

	if (text == NULL)
		return NULL;
	len = (size_t)snprintf(text, size, "<CompleteMultipartUpload>");
	for (unsigned i = 0; i < n_parts; i++) {
		len += (size_t)snprintf(text + len, size - len,
			"<Part><PartNumber>%u</PartNumber><ETag>&quot;", parts[i].number);
		len += etag_print(parts[i].etag, text + len, size - len);
		len += (size_t)snprintf(text + len, size - len, "&quot;</ETag></Part>");
	}
	len += (size_t)snprintf(text + len, size - len, "</CompleteMultipartUpload>");
	assert(len < size);
	return text;
}

static size_t on_read(char *out, size_t size, size_t n, void *arg)
{
	struct reply *reply = arg;
	const struct s3_body *body = reply->request->body;
	const uint64_t left = body->len - reply->sent;
	size_t len = size * n < left ? size * n : (size_t)left;

	if (len == 0)
		return 0;
	if (fault_fails(FAULT_s3_send))
		return CURL_READFUNC_ABORT;
	if (body->fd < 0)
		memcpy(out, (const uint8_t *)body->data + reply->sent, len);
	else if (file_read_at(body->fd, out, len, body->offset + reply->sent) != 0)
		return CURL_READFUNC_ABORT;
	reply->sent += len;
	if (reply->s3->sent_bytes != NULL)
		__atomic_fetch_add(reply->s3->sent_bytes, len, __ATOMIC_RELAXED);
	return len;
}

/* To be sent once more from the start: a connection that was kept turned out to be closed. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct reply *reply = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > reply->request->body->len)
		return CURL_SEEKFUNC_FAIL;
	if (reply->s3->sent_bytes != NULL)
		__atomic_fetch_sub(
			reply->s3->sent_bytes, reply->sent - (uint64_t)offset, __ATOMIC_RELAXED);
	reply->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct reply *reply = arg;
	const struct request *request = reply->request;
	const size_t len = size * n;
	uint64_t have = reply->body_len + reply->hashed;
	long status = 0;
	char *longer;

	if (fault_fails(FAULT_s3_recv))
		return 0;
	curl_easy_getinfo(reply->s3->curl, CURLINFO_RESPONSE_CODE, &status);
	if (have + len > (status < 300 ? request->answer_max : S3_BODY_MAX)) {
		reply->too_much = true;
		return 0;
	}
	if (request->hash != NULL && status < 300) {
		hash_add(request->hash, data, len);
		reply->hashed += len;
		return len;
	}
	longer = realloc(reply->body, reply->body_len + len);
	if (longer == NULL)
		return 0;
	reply->body = longer;
	memcpy(reply->body + reply->body_len, data, len);
	reply->body_len += len;
	return len;
}

/* The value of a header, without blanks and, for ETags, quotes. */
static bool header_value(const char *line, size_t len, const char *name, char *out, size_t size)
{
	size_t name_len = strlen(name);

	if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
		return false;
	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && strchr(" \t\r\n\"", line[len - 1]) != NULL)
		len--;
	while (len > 0 && strchr(" \t\"", *line) != NULL) {
		line++;
		len--;
	}
	out[0] = '\0';
	for (size_t i = 0; i < len; i++)
		if (len >= size || line[i] < ' ' || line[i] >= 0x7f)
			return true; /* too long or strange: as if it were empty */
	memcpy(out, line, len);
	out[len] = '\0';
	return true;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct reply *reply = arg;
	struct s3_object *object = &reply->object;
	const size_t len = size * n;
	char text[64];

	reply->header_bytes += len;
	if (reply->header_bytes > HEADER_BYTES_MAX || ++reply->n_headers > HEADERS_MAX) {
		reply->too_much = true;
		return 0;
	}
	if (len > 5 && strncasecmp(data, "HTTP/", 5) == 0) {
		/* What went before was 100 Continue. */
		memset(object, 0, sizeof(*object));
		reply->n_etags = 0;
	}
	if (header_value(data, len, "ETag", object->etag, sizeof(object->etag)))
		reply->n_etags++;
	header_value(data, len, S3_SHA256_META, object->sha256, sizeof(object->sha256));
	if (header_value(data, len, "x-amz-server-side-encryption", text, sizeof(text)))
		object->encrypted = object->encrypted || strncmp(text, "aws:kms", 7) == 0;
	if (header_value(data, len, "x-amz-server-side-encryption-customer-algorithm", text,
		    sizeof(text)))
		object->encrypted = true;
	return len;
}

static int on_progress(
	void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	return canceled(arg);
}

/* The last word on where this goes: what is connected to is what was judged. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct s3 *s3 = arg;

	s3->address_refused = s3_address_refused(&s3->bucket->allow, &address->addr);
	if (s3->address_refused != NULL || fault_fails(FAULT_s3_connect))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}
