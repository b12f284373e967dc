/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/s3*.c: URLs as they must be signed, tags in hostile text, addresses, credentials, and the
 * client against a server in a thread that says what the test tells it to.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/s3.h"
#include "control/s3_address.h"
#include "control/s3_credentials.h"
#include "control/s3_url.h"
#include "control/s3_xml.h"
#include "control/secret.h"

static char dir[] = "/tmp/test_s3.XXXXXX";
static char credentials_path[64];

/* ---- URLs ---- */

static void url_is(const struct config_bucket *bucket, const char *key,
	const struct s3_query *query, const char *expected)
{
	char url[S3_URL_MAX];

	assert_int_equal(s3_url(bucket, key, query, url, sizeof(url)), strlen(expected));
	assert_string_equal(url, expected);
}

static void urls_are_canonical(void **state)
{
	const struct config_bucket path = {
		.endpoint = "https://s3.example.net:9000", .bucket = "caps"};
	const struct config_bucket host = {
		.endpoint = "https://s3.example.net", .bucket = "caps", .style = CONFIG_STYLE_HOST};
	const struct s3_query uploads[] = {{"uploads", NULL}, {NULL, NULL}};
	const struct s3_query list[] = {{"prefix", "a/b c"}, {"uploads", ""},
		{"max-uploads", "1000"}, {"upload-id-marker", "x+y"}, {"key-marker", "k="},
		{NULL, NULL}};
	char url[64], key[S3_KEY_MAX], long_prefix[1100];

	url_is(&path, "", NULL, "https://s3.example.net:9000/caps");
	url_is(&path, "", uploads, "https://s3.example.net:9000/caps?uploads=");
	url_is(&path, "a/b.pcapng", NULL, "https://s3.example.net:9000/caps/a/b.pcapng");
	url_is(&host, "a/b.pcapng", uploads, "https://caps.s3.example.net/a/b.pcapng?uploads=");
	url_is(&host, "", NULL, "https://caps.s3.example.net/");
	url_is(&path, "a=b:c+d@e f%~_-.\xc3\xa4?#&", NULL,
		"https://s3.example.net:9000/caps/"
		"a%3Db%3Ac%2Bd%40e%20f%25~_-.%C3%A4%3F%23%26");
	/* In order of the keys, - before s; values are encoded, / too. */
	url_is(&path, "", list,
		"https://s3.example.net:9000/caps?key-marker=k%3D&max-uploads=1000&prefix=a%2Fb%20c"
		"&upload-id-marker=x%2By&uploads=");
	assert_int_equal(
		s3_url(&path, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, url, 64), -ENAMETOOLONG);
	assert_int_equal(s3_key(&path, NULL, "n", key), 0);
	assert_string_equal(key, "n");
	assert_int_equal(s3_key(&(struct config_bucket){.prefix = "p/q"}, "r/s", "n", key), 0);
	assert_string_equal(key, "p/q/r/s/n");
	memset(long_prefix, 'a', sizeof(long_prefix));
	long_prefix[1022] = '\0';
	assert_int_equal(s3_key(&path, long_prefix, "n", key), 0);
	long_prefix[1022] = 'a';
	long_prefix[1023] = '\0';
	assert_int_equal(s3_key(&path, long_prefix, "n", key), -ENAMETOOLONG);
}

/* ---- XML ---- */

static struct s3_xml xml_of(const char *text)
{
	return (struct s3_xml){text, strlen(text)};
}

static void text_is(const char *xml, const char *tag, const char *expected)
{
	char out[32] = "before";

	if (s3_xml_text(xml_of(xml), tag, out, sizeof(out)) != (expected != NULL))
		fail_msg("%s of %s: \"%s\"", tag, xml, out);
	assert_string_equal(out, expected != NULL ? expected : "");
}

static void tags_are_found(void **state)
{
	struct s3_xml content, rest;

	text_is("<a><b>text</b></a>", "b", "text");
	text_is("<a><b x=\"1\">text</b ></a>", "b", "text");
	text_is("<a><bb>no</bb><b>yes</b></a>", "b", "yes");
	text_is("<a><b/></a>", "b", "");
	text_is("<a><b></b></a>", "b", "");
	text_is("<b>a&amp;b&lt;&gt;&quot;&apos;&#65;&#x42;&#xe4;&#x20ac;</b>", "b",
		"a&b<>\"'AB\xc3\xa4\xe2\x82\xac");
	text_is("<b>1234567890123456789012345678901</b>", "b", "1234567890123456789012345678901");
	text_is("<b>12345678901234567890123456789012</b>", "b", NULL);
	text_is("<b>&nbsp;</b>", "b", NULL);
	text_is("<b>&lol;</b>", "b", NULL);
	text_is("<b>&</b>", "b", NULL);
	text_is("<b>&#;</b>", "b", NULL);
	text_is("<b>&#0;</b>", "b", NULL);
	text_is("<b>&#xd800;</b>", "b", NULL);
	text_is("<b>&#x110000;</b>", "b", NULL);
	text_is("<b>&#99999999;</b>", "b", NULL);
	text_is("<b>&#10;</b>", "b", NULL);
	text_is("<b>a\nb</b>", "b", NULL);
	text_is("<b><c>x</c></b>", "b", NULL);
	text_is("<b>text", "b", NULL);
	text_is("<b>text</b", "b", NULL);
	text_is("<b", "b", NULL);
	text_is("<", "b", NULL);
	text_is("", "b", NULL);
	text_is("<b>&#x4", "b", NULL);
	text_is("<b>&am", "b", NULL);
	assert_true(s3_xml_find(xml_of("<u><k>1</k></u><u><k>2</k></u>"), "u", &content, &rest));
	assert_int_equal(content.len, 8);
	assert_true(s3_xml_find(rest, "u", &content, &rest));
	assert_memory_equal(content.at, "<k>2</k>", 8);
	assert_false(s3_xml_find(rest, "u", &content, &rest));
	assert_true(s3_xml_is(
		xml_of("<?xml version=\"1.0\"?>\n <Error><Code>x</Code></Error>"), "Error"));
	assert_true(s3_xml_is(xml_of("   \n\n<Error/>"), "Error"));
	assert_false(s3_xml_is(xml_of("<R><Error></Error></R>"), "Error"));
	assert_false(
		s3_xml_is(xml_of("<!DOCTYPE Error [<!ENTITY a \"b\">]><Error></Error>"), "Error"));
	assert_false(s3_xml_is(xml_of("x<Error></Error>"), "Error"));
	assert_false(s3_xml_is(xml_of("<?xml"), "Error"));
	assert_false(s3_xml_is(xml_of("<Errors></Errors>"), "Error"));
	assert_false(s3_xml_is(xml_of(""), "Error"));
}

/* Every prefix and every changed byte of an answer, in memory of just its size: nothing is read behind. */
static void torn_xml_is_harmless(void **state)
{
	static const char whole[] = "<?xml version=\"1.0\"?><L><Upload><Key>a&amp;&#x41;</Key>"
				    "<UploadId>u</UploadId></Upload></L>";
	static const char bytes[] = {'<', '>', '&', ';', '/', '#', 'x', 0, (char)0xff};
	const size_t len = sizeof(whole) - 1;
	char out[16];

	for (size_t cut = 0; cut <= len; cut++)
		for (size_t i = 0; i < sizeof(bytes); i++) {
			char *copy = malloc(cut + 1);
			struct s3_xml content, xml = {copy + 1, cut};

			memcpy(copy + 1, whole, cut);
			if (cut > 0)
				copy[1 + (cut * 7 + i) % cut] = bytes[i];
			s3_xml_is(xml, "L");
			s3_xml_text(xml, "Key", out, sizeof(out));
			if (s3_xml_find(xml, "Upload", &content, NULL))
				assert_true(content.at >= xml.at &&
					    content.at + content.len <= xml.at + xml.len);
			free(copy);
		}
}

/* ---- addresses ---- */

static bool connects(const char *text, const char *allowed)
{
	struct config_list allow = {.n = *allowed != '\0'};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in v4 = {.sin_family = AF_INET};

	snprintf(allow.item[0], sizeof(allow.item[0]), "%s", allowed);
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return s3_address_refused(&allow, (struct sockaddr *)&v4) == NULL;
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return s3_address_refused(&allow, (struct sockaddr *)&v6) == NULL;
}

static void addresses_are_judged(void **state)
{
	static const char *const public[] = {"1.1.1.1", "52.216.1.1", "172.15.0.1", "172.32.0.1",
		"192.167.1.1", "2606:4700::1", "::ffff:1.1.1.1", "2002:0101:0101::1"};
	static const char *const never[] = {"0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1",
		"239.1.1.1", "255.255.255.255", "240.0.0.1", "100.100.100.200", "::", "fe80::1",
		"ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
		"64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"};
	static const char *const asked[][2] = {{"127.0.0.1", "127.0.0.0/8"},
		{"127.9.9.9", "127.9.9.9"}, {"::1", "::1"}, {"10.1.2.3", "10.0.0.0/8"},
		{"192.168.1.1", "192.168.1.1/32"}, {"172.16.9.9", "172.16.0.0/12"},
		{"100.64.1.1", "100.64.0.0/10"}, {"fd12::1", "fd12::/16"},
		{"::ffff:127.0.0.1", "127.0.0.0/8"}, {"64:ff9b::7f00:1", "127.0.0.1"},
		{"2002:7f00:1::1", "127.0.0.1"}};

	for (unsigned i = 0; i < sizeof(public) / sizeof(public[0]); i++)
		if (!connects(public[i], ""))
			fail_msg("%s", public[i]);
	for (unsigned i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (connects(never[i], "") || connects(never[i], "0.0.0.0/0") ||
			connects(never[i], "::/0") || connects(never[i], never[i]))
			fail_msg("%s", never[i]);
	for (unsigned i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		if (connects(asked[i][0], "") || connects(asked[i][0], "203.0.113.0/24") ||
			!connects(asked[i][0], asked[i][1]))
			fail_msg("%s", asked[i][0]);
}

/* ---- secrets ---- */

static void credentials_write(const char *text, mode_t mode)
{
	FILE *file = fopen(credentials_path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(credentials_path, mode), 0);
}

static void credentials_refused(const char *text, mode_t mode, int rc, const char *part)
{
	const size_t used = secret_used();
	struct s3_credentials credentials;
	struct err err = {0};

	credentials_write(text, mode);
	assert_int_equal(s3_credentials_read(credentials_path, &credentials, &err), rc);
	assert_string_equal(err.field, "credentials");
	if (strstr(err.text, part) == NULL || strstr(err.text, "SECRET") != NULL)
		fail_msg("said \"%s\"", err.text);
	s3_credentials_free(&credentials);
	assert_int_equal(secret_used(), used);
}

#define GOOD "access_key = AK\nsecret_key = SECRET\n"

static void credentials_are_read(void **state)
{
	const size_t used = secret_used();
	struct s3_credentials credentials;
	struct err err;

	credentials_write("; mine\n[default]\r\n  access_key=AK:1\t\r\n\nsecret_key = a=b/c+d\n"
			  "session_token = tok\n# end",
		0400);
	assert_int_equal(s3_credentials_read(credentials_path, &credentials, &err), 0);
	assert_string_equal(credentials.access_key, "AK:1");
	assert_string_equal(credentials.secret_key, "a=b/c+d");
	assert_string_equal(credentials.session_token, "tok");
	s3_credentials_free(&credentials);
	credentials_write(GOOD "session_token =\n", 0600);
	assert_int_equal(s3_credentials_read(credentials_path, &credentials, &err), 0);
	assert_null(credentials.session_token);
	s3_credentials_free(&credentials);
	assert_int_equal(secret_used(), used);
	credentials_refused(GOOD, 0640, -EACCES, "mode 640");
	credentials_refused(GOOD, 0604, -EACCES, "mode 604");
	credentials_refused("access_key = a\n", 0600, -EINVAL, "no secret_key");
	credentials_refused("secret_key = SECRET\n", 0600, -EINVAL, "no access_key");
	credentials_refused(GOOD "secret_key = SECRET\n", 0600, -EINVAL, ":3: secret_key stands");
	credentials_refused(
		"access_key = a\nsecret_key =\n", 0600, -EINVAL, ":2: secret_key is empty");
	credentials_refused(GOOD "secret = SECRET\n", 0600, -EINVAL, ":3: not understood");
	credentials_refused("SECRET\n", 0600, -EINVAL, ":1: not understood");
	credentials_refused(
		"access_key = a SECRET\n", 0600, -EINVAL, ":1: the value holds a blank");
	credentials_refused("", 0600, -EINVAL, "no access_key");
	assert_int_equal(s3_credentials_read("/nonexistent", &credentials, &err), -ENOENT);
	assert_int_equal(s3_credentials_read("/dev/zero", &credentials, &err), -EINVAL);
}

static void secrets_are_wiped(void **state)
{
	const size_t used = secret_used();
	char *a = secret_strdup("the secret"), *b;
	char before[16];

	assert_int_equal((uintptr_t)a % 16, 0);
	b = secret_realloc(a, 5000);
	memcpy(before, a, sizeof(before)); /* where it was */
	assert_null(memmem(before, sizeof(before), "secret", 6));
	assert_string_equal(b, "the secret");
	secret_free(b);
	assert_null(memmem(b, 5000, "secret", 6));
	a = secret_calloc(100, 41);
	for (unsigned i = 0; i < 4100; i++)
		assert_int_equal(a[i], 0);
	secret_free(a);
	assert_null(secret_alloc(64 << 20));
	assert_null(secret_calloc(SIZE_MAX / 2, 3));
	secret_free(NULL);
	assert_int_equal(secret_used(), used);
}

/* ---- the client against a server that says what it is told to ---- */

#define CONNECTIONS_MAX 16

static struct server {
	int fd;
	unsigned port;
	pthread_t thread;
	const char *answers[CONNECTIONS_MAX]; /* one a connection; NULL: none, closed */
	unsigned n_answers;
	bool endless;                    /* the last answer goes on for ever */
	char got[CONNECTIONS_MAX][4096]; /* the heads of what was asked */
	unsigned n_got;
} server;

static struct config_bucket bucket;

/* Read a request: its head, and as much body as that says. */
static void request_take(int fd, char *head, size_t size)
{
	size_t len = 0, body = 0, have = 0;
	char *end = NULL, *length, scratch[65536];
	ssize_t n;

	while (end == NULL && len < size - 1 && (n = recv(fd, head + len, size - 1 - len, 0)) > 0) {
		len += (size_t)n;
		head[len] = '\0';
		end = strstr(head, "\r\n\r\n");
	}
	if (end == NULL)
		return;
	have = len - (size_t)(end + 4 - head);
	length = strcasestr(head, "\r\ncontent-length:");
	if (length != NULL)
		body = strtoul(length + 17, NULL, 10);
	end[4] = '\0';
	while (have < body && (n = recv(fd, scratch, sizeof(scratch), 0)) > 0)
		have += (size_t)n;
}

static void answer_give(int fd, const char *answer, bool endless)
{
	static const char more[65536] = {[0 ... 65535] = 'A'};

	if (answer == NULL)
		return;
	send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	while (endless && send(fd, more, sizeof(more), MSG_NOSIGNAL) > 0)
		;
}

static void *server_main(void *arg)
{
	for (unsigned i = 0; i < server.n_answers; i++) {
		int fd = accept(server.fd, NULL, NULL);

		if (fd < 0)
			break;
		request_take(fd, server.got[i], sizeof(server.got[i]));
		__atomic_store_n(&server.n_got, i + 1, __ATOMIC_RELEASE);
		answer_give(fd, server.answers[i], server.endless && i + 1 == server.n_answers);
		shutdown(fd, SHUT_RDWR);
		close(fd);
	}
	return NULL;
}

static struct s3 *serve(bool endless, unsigned n, ...)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct err err = {0};
	struct s3 *s3;
	va_list args;

	memset(&server, 0, sizeof(server));
	va_start(args, n);
	for (unsigned i = 0; i < n; i++)
		server.answers[i] = va_arg(args, const char *);
	va_end(args);
	server.n_answers = n;
	server.endless = endless;
	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server.fd, 8), 0);
	getsockname(server.fd, (struct sockaddr *)&address, &len);
	bucket = (struct config_bucket){.bucket = "caps",
		.region = "us-east-1",
		.insecure = true,
		.timeout_ms = 5000,
		.allow = {.n = 1, .item = {"127.0.0.0/8"}}};
	snprintf(bucket.endpoint, sizeof(bucket.endpoint), "http://127.0.0.1:%u",
		ntohs(address.sin_port));
	snprintf(bucket.credentials, sizeof(bucket.credentials), "%s", credentials_path);
	credentials_write(
		"access_key = AKTEST\nsecret_key = SECRET\nsession_token = TOKEN\n", 0600);
	assert_int_equal(pthread_create(&server.thread, NULL, server_main, NULL), 0);
	s3 = s3_open(&bucket, NULL, NULL, &err);
	if (s3 == NULL)
		fail_msg("%s", err.text);
	return s3;
}

static void served(struct s3 *s3, unsigned n)
{
	s3_close(s3);
	shutdown(server.fd, SHUT_RDWR);
	close(server.fd);
	pthread_join(server.thread, NULL);
	assert_int_equal(server.n_got, n);
}

#define OK(headers, body) "HTTP/1.1 200 OK\r\nConnection: close\r\n" headers "\r\n" body
#define FAIL(status, code)                                   \
	"HTTP/1.1 " status " x\r\nConnection: close\r\n\r\n" \
	"<?xml version=\"1.0\"?>\n<Error><Code>" code "</Code><Message>SECRET</Message></Error>"
#define MD5_OF_ABC "900150983cd24fb0d6963f7d28e17f72"

static struct s3_body body_abc(void)
{
	struct s3_body body = {.fd = -1, .data = "abc", .len = 3};

	assert_int_equal(s3_body_hash(NULL, &body), 0);
	return body;
}

static void part_put_is(const char *answer, enum s3_outcome expected)
{
	struct s3 *s3 = serve(false, 1, answer);
	const struct s3_body body = body_abc();
	struct s3_part part = {.number = 7};
	struct s3_answer said;

	if (s3_part_put(s3, "k", "id", &body, &part, &said) != expected)
		fail_msg("%s: %d %s", answer, said.outcome, said.text);
	assert_null(strstr(said.text, "SECRET"));
	served(s3, 1);
}

static void parts_are_believed_by_their_etag(void **state)
{
	const struct s3_body body = body_abc();
	struct s3_part part = {.number = 7};
	struct s3_answer answer;
	struct s3 *s3 = serve(false, 1, OK("ETag: \"" MD5_OF_ABC "\"\r\n", ""));

	assert_int_equal(s3_part_put(s3, "a b/c", "i+d", &body, &part, &answer), S3_DONE);
	assert_string_equal(part.etag, MD5_OF_ABC);
	served(s3, 1);
	/* What was asked, and that all of it was signed. */
	assert_memory_equal(
		server.got[0], "PUT /caps/a%20b/c?partNumber=7&uploadId=i%2Bd HTTP/1.1\r\n", 53);
	assert_non_null(strstr(server.got[0], "\r\nContent-MD5: kAFQmDzST7DWlj99KOF/cg==\r\n"));
	assert_non_null(strstr(server.got[0],
		"\r\nx-amz-content-sha256: "
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\r\n"));
	assert_non_null(strstr(server.got[0], "\r\nx-amz-security-token: TOKEN\r\n"));
	assert_non_null(strcasestr(server.got[0], "SignedHeaders=content-md5;host;x-amz-content-"
						  "sha256;x-amz-date;x-amz-security-token,"));
	assert_null(strstr(server.got[0], "SECRET"));
	part_put_is(OK("ETag: \"0123\"\r\n", ""), S3_DONE); /* another kind of ETag */
	part_put_is(OK("", ""), S3_RETRY);
	part_put_is(OK("ETag: \"\"\r\n", ""), S3_RETRY);
	part_put_is(OK("ETag: \"00000000000000000000000000000000\"\r\n", ""), S3_RETRY);
	part_put_is(OK("ETag: \"00000000000000000000000000000000\"\r\n"
		       "x-amz-server-side-encryption: aws:kms\r\n",
			    ""),
		S3_DONE);
	part_put_is(OK("ETag: \"" MD5_OF_ABC "\"\r\nETag: \"" MD5_OF_ABC "\"\r\n", ""), S3_RETRY);
	part_put_is(NULL, S3_RETRY);
	part_put_is(FAIL("503", "SlowDown"), S3_RETRY);
	part_put_is(FAIL("400", "BadDigest"), S3_RETRY);
	part_put_is(FAIL("403", "AccessDenied"), S3_CREDENTIALS);
	part_put_is(FAIL("400", "ExpiredToken"), S3_CREDENTIALS);
	part_put_is(FAIL("404", "NoSuchUpload"), S3_ABSENT);
	part_put_is(FAIL("404", "NoSuchBucket"), S3_REFUSED);
	part_put_is(FAIL("418", "Teapot"), S3_REFUSED);
	part_put_is("HTTP/1.1 307 x\r\nConnection: close\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
		S3_REFUSED);
	part_put_is("nonsense\r\n\r\n", S3_RETRY);
}

static void complete_is(const char *answer_text, enum s3_outcome expected, bool part_is_wrong)
{
	struct s3 *s3 = serve(false, 1, answer_text);
	const struct s3_part parts[] = {{1, "a"}, {2, "b\"<&"}};
	struct s3_answer answer;

	if (s3_multipart_complete(s3, "k", "id", parts, 2, true, &answer) != expected)
		fail_msg("%s: %d %s", answer_text, answer.outcome, answer.text);
	assert_int_equal(answer.part_is_wrong, part_is_wrong);
	served(s3, 1);
	assert_non_null(strstr(server.got[0], "\r\nIf-None-Match: *\r\n"));
}

static void completion_is_what_the_body_says(void **state)
{
	complete_is(OK("", "<CompleteMultipartUploadResult><ETag></ETag>"
			   "</CompleteMultipartUploadResult>"),
		S3_DONE, false);
	complete_is(
		OK("", "\n\n   <?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>"),
		S3_RETRY, false);
	complete_is(OK("", "<Error><Code>InvalidPart</Code></Error>"), S3_RETRY, true);
	complete_is(OK("", "<Error><Code>NoSuchUpload</Code></Error>"), S3_ABSENT, false);
	complete_is(OK("", ""), S3_RETRY, false);
	complete_is(OK("", "<html>proxy</html>"), S3_RETRY, false);
	complete_is(
		OK("Content-Length: 500\r\n", "<CompleteMultipartUploadResult>"), S3_RETRY, false);
	complete_is(FAIL("400", "InvalidPartOrder"), S3_RETRY, true);
	complete_is(FAIL("412", "PreconditionFailed"), S3_EXISTS, false);
	complete_is(FAIL("409", "ConditionalRequestConflict"), S3_RETRY, false);
	complete_is(NULL, S3_RETRY, false);
}

static void conditions_are_given_up(void **state)
{
	struct s3 *s3 = serve(false, 2, FAIL("501", "NotImplemented"), OK("ETag: \"x\"\r\n", ""));
	const struct s3_body body = body_abc();
	struct s3_object object;
	struct s3_answer answer;

	assert_int_equal(
		s3_object_put(s3, "k", &body, "text/plain", "00ff", true, &object, &answer),
		S3_DONE);
	assert_string_equal(object.etag, "x");
	served(s3, 2);
	assert_non_null(strstr(server.got[0], "\r\nIf-None-Match: *\r\n"));
	assert_null(strstr(server.got[1], "If-None-Match"));
	assert_non_null(strstr(server.got[1], "\r\nx-amz-meta-sha256: 00ff\r\n"));
}

static void objects_are_asked_for(void **state)
{
	struct s3 *s3 = serve(false, 1,
		OK("Content-Length: 5000000000\r\nETag: \"e-2\"\r\nX-Amz-Meta-Sha256: ab12\r\n",
			""));
	struct s3_object object;
	struct s3_answer answer;
	uint8_t sha256[HASH_SHA256_SIZE];
	char data[8], hex[HASH_HEX_SIZE];
	uint64_t size;
	size_t len;

	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_DONE);
	assert_true(object.size_bytes == 5000000000);
	assert_string_equal(object.etag, "e-2");
	assert_string_equal(object.sha256, "ab12");
	served(s3, 1);
	s3 = serve(false, 1, "HTTP/1.1 404 x\r\nConnection: close\r\n\r\n");
	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_ABSENT);
	served(s3, 1);
	s3 = serve(false, 1, OK("", ""));
	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_RETRY); /* no size */
	served(s3, 1);
	s3 = serve(false, 3, OK("", "1234567"), OK("", "12345678"), OK("", "abc"));
	assert_int_equal(s3_object_get(s3, "k", data, sizeof(data), &len, &answer), S3_DONE);
	assert_string_equal(data, "1234567");
	assert_int_equal(s3_object_get(s3, "k", data, sizeof(data), &len, &answer), S3_REFUSED);
	assert_int_equal(s3_object_hash(s3, "k", 3, &size, sha256, &answer), S3_DONE);
	assert_int_equal(size, 3);
	hash_hex(sha256, sizeof(sha256), hex);
	assert_string_equal(
		hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	served(s3, 3);
	s3 = serve(
		false, 2, "HTTP/1.1 204 x\r\nConnection: close\r\n\r\n", FAIL("404", "NoSuchKey"));
	assert_int_equal(s3_object_delete(s3, "k", &answer), S3_DONE);
	assert_int_equal(s3_object_delete(s3, "k", &answer), S3_DONE);
	served(s3, 2);
}

static bool listed(const char *key, const char *upload_id, void *arg)
{
	char *text = arg;

	snprintf(text + strlen(text), 64, "%s=%s;", key, upload_id);
	return true;
}

static void uploads_are_listed_page_by_page(void **state)
{
	static const char first[] = OK("",
		"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>"
		"<NextKeyMarker>m&amp;</NextKeyMarker><NextUploadIdMarker>i</NextUploadIdMarker>"
		"<Upload><Key>a&amp;b</Key><UploadId>1</UploadId></Upload>"
		"<Upload><Key>bad</Key><UploadId>x y</UploadId></Upload>"
		"</ListMultipartUploadsResult>");
	static const char second[] = OK("",
		"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
		"<Upload><UploadId>2</UploadId><Key>c</Key></Upload></ListMultipartUploadsResult>");
	struct s3 *s3 = serve(false, 2, first, second);
	struct s3_answer answer;
	char text[256] = "";

	assert_int_equal(s3_multipart_each(s3, "p/", listed, text, &answer), S3_DONE);
	assert_string_equal(text, "a&b=1;c=2;");
	served(s3, 2);
	assert_non_null(strstr(server.got[0], "GET /caps?max-uploads=1000&prefix=p%2F&uploads= "));
	assert_non_null(strstr(server.got[1], "?key-marker=m%26&max-uploads=1000&prefix=p%2F&"
					      "upload-id-marker=i&uploads= "));
	s3 = serve(false, 1, OK("", "<html/>"));
	assert_int_equal(s3_multipart_each(s3, "p/", listed, text, &answer), S3_RETRY);
	served(s3, 1);
}

static void ids_are_taken_from_the_answer(void **state)
{
	struct s3 *s3 = serve(false, 3,
		OK("", "<InitiateMultipartUploadResult><UploadId>2~x</UploadId>"
		       "</InitiateMultipartUploadResult>"),
		OK("", "<InitiateMultipartUploadResult><UploadId>a\tb</UploadId>"
		       "</InitiateMultipartUploadResult>"),
		OK("", "<Error><Code>AccessDenied</Code></Error>"));
	char id[S3_UPLOAD_ID_MAX];
	struct s3_answer answer;

	assert_int_equal(s3_multipart_create(s3, "k", "t/x", "00", id, &answer), S3_DONE);
	assert_string_equal(id, "2~x");
	assert_int_equal(s3_multipart_create(s3, "k", "t/x", "00", id, &answer), S3_RETRY);
	assert_string_equal(id, "");
	assert_int_equal(s3_multipart_create(s3, "k", "t/x", "00", id, &answer), S3_RETRY);
	served(s3, 3);
	assert_non_null(strstr(server.got[0], "POST /caps/k?uploads= HTTP/1.1"));
	assert_non_null(strstr(server.got[0], "\r\nContent-Type: t/x\r\n"));
}

static void floods_are_bounded(void **state)
{
	static char many[80000] = "HTTP/1.1 200 OK\r\n";
	struct s3_answer answer;
	struct s3_object object;
	struct s3 *s3;
	char id[S3_UPLOAD_ID_MAX];

	s3 = serve(true, 1, OK("", "<InitiateMultipartUploadResult>"));
	assert_int_equal(s3_multipart_create(s3, "k", "t/x", "00", id, &answer), S3_REFUSED);
	served(s3, 1);
	s3 = serve(true, 1, FAIL("500", "x"));
	assert_int_equal(s3_multipart_create(s3, "k", "t/x", "00", id, &answer), S3_REFUSED);
	served(s3, 1);
	for (size_t at = strlen(many); at < sizeof(many) - 10; at += 6)
		memcpy(many + at, "A: b\r\n", 7);
	s3 = serve(false, 1, many);
	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_REFUSED);
	served(s3, 1);
	s3 = serve(true, 1, "HTTP/1.1 200 OK\r\nETag: \"");
	assert_int_not_equal(s3_object_head(s3, "k", &object, &answer), S3_DONE);
	served(s3, 1);
}

static void addresses_are_checked_at_the_socket(void **state)
{
	struct s3 *s3 = serve(false, 1, OK("Content-Length: 1\r\n", ""));
	char *port = strrchr(bucket.endpoint, ':');
	struct s3_answer answer;
	struct s3_object object;
	char named[32];

	bucket.allow.n = 0;
	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_REFUSED);
	assert_string_equal(
		answer.text, "the endpoint's address is loopback, which allow does not name");
	snprintf(named, sizeof(named), "http://localhost%s", port);
	snprintf(bucket.endpoint, sizeof(bucket.endpoint), "%s", named);
	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_REFUSED);
	bucket.insecure = false;
	assert_int_not_equal(s3_object_head(s3, "k", &object, &answer), S3_DONE);
	served(s3, 0);
}

static void requests_end_when_canceled(void **state)
{
	struct s3 *s3 = serve(false, 1, OK("Content-Length: 1\r\n", ""));
	struct s3_answer answer;
	struct s3_object object;

	s3_cancel_all();
	assert_int_equal(s3_object_head(s3, "k", &object, &answer), S3_CANCELED);
	s3_fini();
	s3_init();
	served(s3, 0);
}

static int setup(void **state)
{
	assert_non_null(mkdtemp(dir));
	snprintf(credentials_path, sizeof(credentials_path), "%s/credentials", dir);
	return s3_init();
}

static int teardown(void **state)
{
	unlink(credentials_path);
	rmdir(dir);
	s3_fini();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_are_canonical),
		cmocka_unit_test(tags_are_found),
		cmocka_unit_test(torn_xml_is_harmless),
		cmocka_unit_test(addresses_are_judged),
		cmocka_unit_test(credentials_are_read),
		cmocka_unit_test(secrets_are_wiped),
		cmocka_unit_test(parts_are_believed_by_their_etag),
		cmocka_unit_test(completion_is_what_the_body_says),
		cmocka_unit_test(conditions_are_given_up),
		cmocka_unit_test(objects_are_asked_for),
		cmocka_unit_test(uploads_are_listed_page_by_page),
		cmocka_unit_test(ids_are_taken_from_the_answer),
		cmocka_unit_test(floods_are_bounded),
		cmocka_unit_test(addresses_are_checked_at_the_socket),
		cmocka_unit_test(requests_end_when_canceled),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
