/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The API over real sockets, with sessions that live in memory: who may what, both dialects'
 * answers, downloads, clients that misbehave. One thread: the client waits by running the server's
 * loop.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "api_fixture.h"
#include "api/console.h"
#include "api/cloudflare.h"
#include "api/download.h"
#include "api/guard.h"
#include "api/native.h"
#include "api/nsx.h"
#include "api/server.h"
#include "config/log.h"

#define ACCOUNT "023e105f4ecef8ad9ca31a8372d0c353"
#define PCAPS   "/client/v4/accounts/" ACCOUNT "/pcaps"
#define NOBODY  "00000000-0000-4000-8000-000000000000"
#define SIMPLE \
	"{\"type\":\"simple\",\"system\":\"magic-transit\",\"time_limit\":3,\"packet_limit\":7}"
#define FULL                                                                                 \
	"{\"type\":\"full\",\"system\":\"magic-transit\",\"time_limit\":3,\"colo\":\"ORD\"," \
	"\"destination_conf\":\"s3://pcaps?region=x\"}"

static char viewer[AUTH_SECRET_SIZE], other[AUTH_SECRET_SIZE];

static bool has_header(const struct answer *answer, const char *line)
{
	const char *at = strstr(answer->head, line);

	return at != NULL && at < answer->body;
}

/* The member's text in static memory. */
static const char *text_of(const json_t *json, const char *name)
{
	static char text[512];

	assert_non_null(json_string_value(json_object_get(json, name)));
	snprintf(text, sizeof(text), "%s", json_string_value(json_object_get(json, name)));
	return text;
}

/* A new capture; its path in static memory. */
static const char *create(const char *token, const char *body)
{
	static char path[128];
	json_t *json = answer_json(ask(token, "POST", "/api/v1/captures", NULL, body), 201);

	snprintf(path, sizeof(path), "/api/v1/captures/%.36s", text_of(json, "id"));
	json_decref(json);
	return path;
}

static struct session *session_of(const char *path)
{
	struct uuid id;

	assert_true(uuid_parse(strrchr(path, '/') + 1, 36, &id));
	return session_find(&id);
}

static const char *joined(const char *path, const char *rest)
{
	static char text[256];

	snprintf(text, sizeof(text), "%s%s", path, rest);
	return text;
}

/* "/accounts/{id}/pcaps" with something in each placeholder. */
static void path_fill(const char *prefix, const char *pattern, char *path)
{
	path += sprintf(path, "%s", prefix);
	while (*pattern != '\0') {
		if (*pattern == '{') {
			path += sprintf(path, NOBODY);
			pattern = strchr(pattern, '}') + 1;
		} else {
			*path++ = *pattern++;
		}
	}
	*path = '\0';
}

static void each_route(const char *token, enum role role, int status)
{
	const bool given = token != NULL;
	static const struct {
		const char *prefix;
		const struct vendor *vendor;
	} all[] = {{"", &native_vendor}, {"", &cloudflare_vendor},
		{"/client/v4", &cloudflare_vendor}, {"", &nsx_vendor_api}};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (unsigned k = 0; k < all[i].vendor->n_routes; k++) {
			const struct route *route = &all[i].vendor->routes[k];
			char path[256];

			if (route->role < role || route->role == ROLE_NONE)
				continue;
			path_fill(all[i].prefix, route->path, path);
			guard_start(); /* it has seen nothing yet */
			expect(ask(token, request_method_name(route->method), path, NULL, NULL),
				given && all[i].vendor->wrong_is_403 ? 403 : status);
		}
	}
}

static void no_route_is_open_by_mistake(void **state)
{
	struct answer answer = ask(NULL, "GET", "/api/v1/captures", NULL, NULL);

	assert_true(has_header(&answer, "WWW-Authenticate: Bearer"));
	free(answer.head);
	each_route(NULL, ROLE_VIEWER, 401);
	each_route("wrong", ROLE_VIEWER, 401);
	each_route(viewer, ROLE_OPERATOR, 403);
	expect(ask(NULL, "GET", "/healthz", NULL, NULL), 200);
}

/* All of an account, or of a capture, that is not there: whatever is asked, 404. */
static void what_is_not_there_is_404(void **state)
{
	static const struct vendor *const vendors[] = {&native_vendor, &cloudflare_vendor};

	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < vendors[i]->n_routes; k++) {
			const struct route *route = &vendors[i]->routes[k];
			char path[256];

			if (strchr(route->path, '{') == NULL)
				continue;
			path_fill("", route->path, path);
			expect(ask(admin, request_method_name(route->method), path, NULL, NULL),
				404);
		}
	}
	expect(ask(admin, "GET", PCAPS "/" ACCOUNT "/download", NULL, NULL), 404);
	expect(ask(admin, "GET", PCAPS "/ownership", NULL, NULL), 404);
}

static void the_console_is_served_to_anybody(void **state)
{
	struct answer answer = ask(NULL, "GET", "/", NULL, NULL);
	char tag[64], header[128];

	assert_int_equal(answer.status, 200);
	assert_true(has_header(&answer, "Content-Type: text/html; charset=utf-8\r\n"));
	assert_true(has_header(
		&answer, "Content-Security-Policy: default-src 'none'; script-src 'self';"));
	assert_true(has_header(&answer, "frame-ancestors 'none'"));
	assert_true(has_header(&answer, "X-Content-Type-Options: nosniff\r\n"));
	assert_true(has_header(&answer, "Cache-Control: no-cache\r\n"));
	assert_int_equal(sscanf(strstr(answer.head, "ETag: "), "ETag: %63s", tag), 1);
	free(answer.head);
	snprintf(header, sizeof(header), "If-None-Match: W/%s\r\n", tag);
	answer = ask(NULL, "GET", "/", header, NULL);
	assert_int_equal(answer.status, 304);
	assert_int_equal(answer.body_len, 0);
	free(answer.head);
	for (size_t i = 0; i < console_files_n; i++) {
		char path[128];

		snprintf(path, sizeof(path), "/console/%s", console_files[i].name);
		answer = ask(NULL, "GET", path, NULL, NULL);
		assert_int_equal(answer.status, 200);
		assert_true(has_header(&answer, console_files[i].type));
		assert_int_equal(answer.body_len, console_files[i].plain.len);
		assert_memory_equal(answer.body, console_files[i].plain.data, answer.body_len);
		assert_true(has_header(&answer, "Vary: Accept-Encoding\r\n"));
		assert_false(has_header(&answer, "Content-Encoding"));
		free(answer.head);
		answer = ask(NULL, "GET", path, "Accept-Encoding: br, gzip\r\n", NULL);
		assert_int_equal(answer.status, 200);
		assert_true(has_header(&answer, "Content-Encoding: gzip\r\n"));
		assert_true(has_header(&answer, console_files[i].packed.etag));
		assert_int_equal(answer.body_len, console_files[i].packed.len);
		assert_memory_equal(answer.body, console_files[i].packed.data, answer.body_len);
		free(answer.head);
	}
	expect(ask(NULL, "GET", "/console/none.js", NULL, NULL), 404);
	expect(ask(NULL, "POST", "/", NULL, "{}"), 405);
}

static void packed_files_go_to_whoever_takes_them(void **state)
{
	static const struct {
		const char *accept;
		bool takes;
	} rows[] = {
		{NULL, false},
		{"", false},
		{"gzip", true},
		{"gzip, deflate, br", true},
		{"deflate,GZIP;q=0.5", true},
		{"br ; q=1.0 , gzip ; q=0.001", true},
		{"gzip;q=0", false},
		{"gzip ; q=0.000, *", false},
		{"gzip;q=no", false},
		{"xgzip, gzipx, x-gzip", false},
		{"identity;gzip", false},
		{"br;q=1;gzip, deflate", false},
		{",, ,", false},
		{"*", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(console_takes_gzip(rows[i].accept), rows[i].takes);
}

static void browsers_sign_in_with_a_cookie(void **state)
{
	char body[128], cookie[160], header[320], *at;
	struct answer answer;
	json_t *json;

	expect(ask(NULL, "POST", "/api/v1/session", NULL, "{\"token\":\"wrong\"}"), 401);
	expect(ask(NULL, "POST", "/api/v1/session", NULL, "{}"), 400);
	expect(ask(NULL, "GET", "/api/v1/session", NULL, NULL), 401);
	snprintf(body, sizeof(body), "{\"token\":\"%s\"}", viewer);
	expect(ask(NULL, "POST", "/api/v1/session", "Origin: http://evil\r\n", body), 403);
	answer = ask(NULL, "POST", "/api/v1/session", "Origin: http://x\r\n", body);
	assert_int_equal(answer.status, 200);
	assert_true(has_header(&answer, "; HttpOnly; SameSite=Strict\r\n"));
	at = strstr(answer.head, "Set-Cookie: ") + strlen("Set-Cookie: ");
	snprintf(cookie, sizeof(cookie), "Cookie: a=b; %.*s\r\n", (int)strcspn(at, ";"), at);
	assert_null(strstr(answer.head, "Path="));
	json = answer_json(answer, 200);
	assert_string_equal(text_of(json, "role"), "viewer");
	json_decref(json);

	expect(ask(NULL, "GET", "/api/v1/captures", cookie, NULL), 200);
	snprintf(header, sizeof(header), "%sOrigin: http://evil\r\n", cookie);
	expect(ask(NULL, "GET", "/api/v1/captures", header, NULL), 403);
	snprintf(header, sizeof(header), "%sOrigin: http://x\r\n", cookie);
	expect(ask(NULL, "GET", "/api/v1/captures", header, NULL), 200);
	snprintf(header, sizeof(header),
		"%sOrigin: https://front:8443\r\nX-Forwarded-Host: front:8443\r\n", cookie);
	expect(ask(NULL, "GET", "/api/v1/captures", header, NULL), 200);
	/* What the token may not, the cookie may not. */
	expect(ask(NULL, "POST", "/api/v1/captures", cookie, "{}"), 403);

	answer = ask(NULL, "POST", "/api/v1/session", "X-Forwarded-Proto: https\r\n", body);
	assert_true(has_header(&answer, "; Secure\r\n"));
	free(answer.head);
	expect(ask(NULL, "DELETE", "/api/v1/session", cookie, NULL), 204);
	expect(ask(NULL, "GET", "/api/v1/captures", cookie, NULL), 401);
}

static void filters_are_judged_without_a_capture(void **state)
{
	json_t *json, *error;

	json = answer_json(
		ask(admin, "POST", "/api/v1/filters/check", NULL, "{\"filter\":\"tcp\"}"), 200);
	assert_true(json_is_true(json_object_get(json, "valid")));
	assert_true(json_is_null(json_object_get(json, "error")));
	json_decref(json);
	json = answer_json(
		ask(admin, "POST", "/api/v1/filters/check", NULL, "{\"filter\":\"tcp bad 1\"}"),
		200);
	assert_true(json_is_false(json_object_get(json, "valid")));
	error = json_object_get(json, "error");
	assert_int_equal(json_integer_value(json_object_get(error, "offset")), 4);
	assert_int_equal(json_integer_value(json_object_get(error, "length")), 3);
	json_decref(json);
	json = answer_json(
		ask(admin, "POST", "/api/v1/filters/check", NULL, "{\"filter\":\" \"}"), 200);
	assert_true(json_is_true(json_object_get(json, "valid")));
	json_decref(json);
	expect(ask(admin, "POST", "/api/v1/filters/check", NULL, "{\"filter\":3}"), 400);
	expect(ask(admin, "POST", "/api/v1/filters/check", NULL, "{}"), 400);
	expect(ask(viewer, "POST", "/api/v1/filters/check", NULL, "{\"filter\":\"tcp\"}"), 403);
}

static void packets_are_found_by_number_and_words(void **state)
{
	char path[160];
	json_t *json;

	snprintf(path, sizeof(path), "%s", create(admin, "{\"limits\":{\"packets\":9}}"));
	json = answer_json(ask(viewer, "GET", joined(path, "/packets/9"), NULL, NULL), 200);
	assert_int_equal(json_integer_value(json_object_get(json, "number")), 9);
	assert_true(json_array_size(json_object_get(json, "layers")) > 0);
	assert_true(json_string_length(json_object_get(json, "data")) > 0);
	json_decref(json);
	expect(ask(viewer, "GET", joined(path, "/packets/10"), NULL, NULL), 404);
	expect(ask(viewer, "GET", joined(path, "/packets/0"), NULL, NULL), 404);
	expect(ask(viewer, "GET", joined(path, "/packets/-1"), NULL, NULL), 404);
	expect(ask(viewer, "GET", joined(path, "/packets/1x"), NULL, NULL), 404);
	expect(ask(viewer, "GET", joined(path, "/packets/99999999999999999999"), NULL, NULL), 404);
	json = answer_json(
		ask(viewer, "GET", joined(path, "/packets?limit=4&offset=3"), NULL, NULL), 200);
	assert_int_equal(json_integer_value(json_object_get(json, "next")), 7);
	json_decref(json);
	json = answer_json(ask(viewer, "GET", joined(path, "/packets?limit=100"), NULL, NULL), 200);
	assert_true(json_is_null(json_object_get(json, "next")));
	json_decref(json);
	json = answer_json(
		ask(viewer, "GET", joined(path, "/packets?words=nothing+like+it"), NULL, NULL),
		200);
	assert_int_equal(json_array_size(json_object_get(json, "packets")), 0);
	assert_true(json_is_null(json_object_get(json, "next")));
	json_decref(json);
	expect(ask(viewer, "GET", joined(path, "/packets?words=1+2+3+4+5+6+7+8+9"), NULL, NULL),
		400);
}

static void bytes_become_layers(void **state)
{
	json_t *json = answer_json(ask(viewer, "POST", "/api/v1/packets/decode", NULL,
					   "{\"data\":\"AgAAAAABAgAAAAACCAY=\"}"),
		200);
	json_t *layers = json_object_get(json, "layers");

	assert_int_equal(json_array_size(layers), 1);
	assert_string_equal(text_of(json_array_get(layers, 0), "name"), "Ethernet");
	json_decref(json);
	expect(ask(viewer, "POST", "/api/v1/packets/decode", NULL, "{\"data\":\"A*==\"}"), 400);
	expect(ask(viewer, "POST", "/api/v1/packets/decode", NULL, "{\"data\":\"\"}"), 400);
	expect(ask(NULL, "POST", "/api/v1/packets/decode", NULL, "{\"data\":\"AAAA\"}"), 401);
}

static void captures_live_and_die(void **state)
{
	char path[128];
	struct answer answer;
	json_t *json;

	answer = ask(admin, "POST", "/api/v1/captures", NULL, "{\"name\":\"n\"}");
	assert_int_equal(answer.status, 201);
	assert_true(has_header(&answer, "Location: /api/v1/captures/"));
	json = answer_json(answer, 201);
	snprintf(path, sizeof(path), "/api/v1/captures/%.36s", text_of(json, "id"));
	json_decref(json);
	json = answer_json(ask(viewer, "GET", path, NULL, NULL), 200);
	assert_string_equal(text_of(json, "state"), "running");
	json_decref(json);
	json = answer_json(ask(admin, "PATCH", path, NULL, "{\"notes\":\"new\"}"), 200);
	assert_string_equal(text_of(json, "notes"), "new");
	assert_string_equal(text_of(json, "name"), "n");
	json_decref(json);
	for (unsigned i = 0; i < 2; i++) {
		json = answer_json(ask(admin, "POST", joined(path, "/stop"), NULL, NULL), 200);
		assert_string_equal(text_of(json, "state"), "complete");
		json_decref(json);
	}
	answer = ask(admin, "DELETE", path, NULL, NULL);
	assert_int_equal(answer.status, 204);
	assert_int_equal(answer.body_len, 0);
	free(answer.head);
	expect(ask(admin, "GET", path, NULL, NULL), 404);
	expect(ask(admin, "DELETE", path, NULL, NULL), 404);
}

static void other_accounts_captures_are_not_there(void **state)
{
	char path[128];
	json_t *json;

	snprintf(path, sizeof(path), "%s", create(admin, "{}"));
	expect(ask(other, "GET", path, NULL, NULL), 404);
	expect(ask(other, "GET", joined(path, "/download?partial=1"), NULL, NULL), 404);
	expect(ask(other, "POST", joined(path, "/stop"), NULL, NULL), 404);
	expect(ask(other, "PATCH", path, NULL, "{\"name\":\"x\"}"), 404);
	expect(ask(other, "DELETE", path, NULL, NULL), 404);
	json = answer_json(ask(other, "GET", "/api/v1/captures", NULL, NULL), 200);
	assert_int_equal(json_array_size(json_object_get(json, "captures")), 0);
	json_decref(json);
	/* What it makes itself is its account's, on its account's ports. */
	snprintf(path, sizeof(path), "%s", create(other, "{}"));
	json = answer_json(ask(admin, "GET", path, NULL, NULL), 200);
	assert_string_equal(text_of(json, "account"), "other");
	assert_int_equal(json_array_size(json_object_get(json, "ports")), 1);
	json_decref(json);
	expect(ask(other, "GET", path, NULL, NULL), 200);
	expect(ask(other, "GET", PCAPS, NULL, NULL), 404);
}

static void lists_have_pages(void **state)
{
	char path[256] = "/api/v1/captures?limit=3";
	unsigned n = 0, pages = 0;
	struct session *session;
	bool more = true;

	while ((session = session_next(NULL)) != NULL)
		session_delete(session, NULL, NULL);
	for (unsigned i = 0; i < 7; i++)
		create(admin, "{}");
	fake_state_set(session_next(NULL), SESSION_complete, END_stopped);
	while (more) {
		json_t *json = answer_json(ask(viewer, "GET", path, NULL, NULL), 200), *next;

		pages++;
		n += json_array_size(json_object_get(json, "captures"));
		next = json_object_get(json, "next");
		more = json_is_string(next);
		if (more)
			snprintf(path, sizeof(path), "/api/v1/captures?limit=3&cursor=%s",
				json_string_value(next));
		json_decref(json);
	}
	assert_int_equal(n, 7);
	assert_int_equal(pages, 3);
	for (unsigned i = 0; i < 2; i++) {
		json_t *json = answer_json(ask(admin, "GET",
						   i == 0 ? "/api/v1/captures?state=complete"
							  : "/api/v1/captures?state=running",
						   NULL, NULL),
			200);

		assert_int_equal(
			json_array_size(json_object_get(json, "captures")), i == 0 ? 1 : 6);
		json_decref(json);
	}
}

static void bad_queries_are_named(void **state)
{
	static const char *const bad[] = {"limit=0", "limit=1001", "limit=x",
		"limit=", "state=alive", "cursor=-1", "colour=red", "limit=1&limit=2"};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char path[128], name[32];
		json_t *json;

		snprintf(path, sizeof(path), "/api/v1/captures?%s", bad[i]);
		json = answer_json(ask(admin, "GET", path, NULL, NULL), 400);
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(bad[i], "="), bad[i]);
		assert_non_null(strstr(text_of(json, "detail"), name));
		json_decref(json);
	}
}

static void ranges_are_parts_of_the_whole(void **state)
{
	static const struct {
		const char *range;
		uint64_t first, len;
	} cases[] = {{"0-99", 0, 100}, {"0-0", 0, 1}, {"999-", 999, 1}, {"-100", 900, 100},
		{"5-2000", 5, 995}, {"-2000", 0, 1000}};
	struct answer whole, part;
	char path[128], headers[256], etag[128];

	snprintf(path, sizeof(path), "%s/download", create(admin, "{\"limits\":{\"packets\":10}}"));
	whole = ask(viewer, "GET", path, NULL, NULL);
	assert_int_equal(whole.status, 200);
	assert_int_equal(whole.body_len, 1000);
	assert_true(has_header(&whole, "Content-Length: 1000"));
	assert_true(has_header(&whole, "Accept-Ranges: bytes"));
	assert_true(has_header(&whole, "Cache-Control: no-store"));
	assert_int_equal(sscanf(strstr(whole.head, "ETag: ") + 6, "%127[^\r]", etag), 1);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(headers, sizeof(headers), "Range: bytes=%s\r\nIf-Range: %s\r\n",
			cases[i].range, etag);
		part = ask(viewer, "GET", path, headers, NULL);
		assert_int_equal(part.status, 206);
		assert_int_equal(part.body_len, cases[i].len);
		assert_memory_equal(part.body, whole.body + cases[i].first, cases[i].len);
		snprintf(headers, sizeof(headers), "Content-Range: bytes %d-%d/1000",
			(int)cases[i].first, (int)(cases[i].first + cases[i].len - 1));
		assert_true(has_header(&part, headers));
		free(part.head);
	}
	part = ask(viewer, "GET", path, "Range: bytes=1000-\r\n", NULL);
	assert_int_equal(part.status, 416);
	assert_true(has_header(&part, "Content-Range: bytes */1000"));
	free(part.head);
	part = ask(viewer, "GET", path, "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n", NULL);
	assert_int_equal(part.status, 200);
	assert_int_equal(part.body_len, 1000);
	free(part.head);
	part = ask(viewer, "HEAD", path, NULL, NULL);
	assert_int_equal(part.status, 200);
	assert_int_equal(part.body_len, 0);
	assert_true(has_header(&part, "Content-Length: 1000"));
	free(part.head);
	free(whole.head);
}

static void range_headers_are_understood_or_ignored(void **state)
{
	static const char *const ignored[] = {"", "bytes", "bytes=", "bytes=-", "bytes=x-",
		"bytes=9-1", "lines=1-2", "bytes=0-1,4-5", "bytes=0-1x", "bytes=--1"};
	uint64_t first, last;

	for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		assert_int_equal(download_range(ignored[i], 100, &first, &last), RANGE_NONE);
	assert_int_equal(download_range(NULL, 100, &first, &last), RANGE_NONE);
	assert_int_equal(download_range("Bytes= 1-2 ", 100, &first, &last), RANGE_PART);
	assert_int_equal(first, 1);
	assert_int_equal(last, 2);
	assert_int_equal(download_range("bytes=-0", 100, &first, &last), RANGE_UNSATISFIABLE);
	assert_int_equal(download_range("bytes=0-", 0, &first, &last), RANGE_UNSATISFIABLE);
	assert_int_equal(download_range("bytes=-1", 0, &first, &last), RANGE_UNSATISFIABLE);
	assert_int_equal(download_range("bytes=99999999999999999999-", 100, &first, &last),
		RANGE_UNSATISFIABLE);
}

/* More than one piece, so that reading ahead, sending and converting overlap. */
static void long_files_come_whole(void **state)
{
	char path[128], name[640];
	struct answer answer;
	struct session_part part;
	uint8_t *file;
	FILE *in;

	snprintf(path, sizeof(path), "%s", create(admin, "{\"limits\":{\"packets\":30000}}"));
	assert_int_equal(session_parts(session_of(path), &part, 1), 1);
	file = malloc(part.size_bytes);
	snprintf(name, sizeof(name), "%s", part.path);
	in = fopen(name, "r");
	assert_int_equal(fread(file, 1, part.size_bytes, in), part.size_bytes);
	fclose(in);
	answer = ask(admin, "GET", joined(path, "/download"), NULL, NULL);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.body_len, part.size_bytes);
	assert_memory_equal(answer.body, file, part.size_bytes);
	free(answer.head);
	/* HTTP/1.0 has no chunks: what is not sized ends with the connection. */
	{
		char text[512];

		snprintf(text, sizeof(text),
			"GET %s/download?format=pcap HTTP/1.0\r\nAuthorization: Bearer %s\r\n"
			"Connection: keep-alive\r\n\r\n",
			path, admin);
		answer = talk(text, strlen(text));
	}
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.body_len, 24 + 30000 * (16 + 60));
	free(answer.head);
	free(file);
}

static void running_captures_are_sent_in_part(void **state)
{
	char path[128];
	struct answer answer;

	snprintf(path, sizeof(path), "%s", create(admin, "{}"));
	answer = ask(admin, "GET", joined(path, "/download"), NULL, NULL);
	assert_int_equal(answer.status, 409);
	assert_true(has_header(&answer, "Retry-After: "));
	free(answer.head);
	fake_file_write(session_of(path), 1, 5);
	answer = ask(
		admin, "GET", joined(path, "/download?partial=1"), "Range: bytes=0-9\r\n", NULL);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.body_len, 1000 + 540);
	assert_false(has_header(&answer, "Accept-Ranges"));
	free(answer.head);
	expect(ask(admin, "GET", joined(path, "/download?partial=2"), NULL, NULL), 400);
	expect(ask(admin, "GET", joined(path, "/download?format=txt"), NULL, NULL), 400);
}

static void captures_without_a_file_say_so(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s", create(admin, "{\"output\":{\"type\":\"none\"}}"));
	expect(ask(admin, "GET", joined(path, "/download?partial=1"), NULL, NULL), 404);
	fake_state_set(session_of(path), SESSION_deleted, END_stopped);
	expect(ask(admin, "GET", joined(path, "/download"), NULL, NULL), 410);
}

static void a_file_that_vanished_is_no_crash(void **state)
{
	char path[128];
	struct session_part part;

	snprintf(path, sizeof(path), "%s", create(admin, "{\"limits\":{\"packets\":5}}"));
	session_parts(session_of(path), &part, 1);
	assert_int_equal(unlink(part.path), 0);
	expect(ask(admin, "GET", joined(path, "/download"), NULL, NULL), 410);
}

/* A file that is shorter than was said: the answer must be seen to be cut. */
static void a_short_file_is_cut_visibly(void **state)
{
	char path[128];
	struct session_part part;
	struct answer answer;

	snprintf(path, sizeof(path), "%s", create(admin, "{\"limits\":{\"packets\":50000}}"));
	session_parts(session_of(path), &part, 1);
	assert_int_equal(truncate(part.path, part.size_bytes - 1), 0);
	answer = ask(admin, "GET", joined(path, "/download"), NULL, NULL);
	assert_true(answer.body_len < part.size_bytes);
	free(answer.head);
}

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void clients_that_hang_up_leave_nothing(void **state)
{
	char path[128], text[512];
	unsigned before;

	snprintf(path, sizeof(path), "%s", create(admin, "{\"limits\":{\"packets\":100000}}"));
	snprintf(text, sizeof(text),
		"GET %s/download HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path,
		admin);
	before = descriptors();
	for (unsigned turns = 0; turns < 40; turns++) {
		int fd = client_connect();

		assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
		for (unsigned i = 0; i < turns; i++)
			loop_turn();
		close(fd);
	}
	for (unsigned i = 0; i < 50000 && (descriptors() != before || job_pending() > 0); i++)
		loop_turn();
	assert_int_equal(descriptors(), before);
	assert_int_equal(job_pending(), 0);
}

/* Who opens connections and says nothing pays for the places of others. */
static void strangers_make_room_for_newcomers(void **state)
{
	struct rlimit before, limit;
	static int fds[SERVER_CONNS_MAX];
	struct server_status status;
	char known[512], byte;
	int good;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = limit.rlim_max;
	if (limit.rlim_max < 2 * SERVER_CONNS_MAX + 64 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		skip();
	good = client_connect();
	snprintf(known, sizeof(known),
		"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
		viewer);
	assert_int_equal(send(good, known, strlen(known), 0), strlen(known));
	for (unsigned i = 0; i < 20; i++)
		loop_turn();
	for (unsigned i = 0; i < SERVER_CONNS_MAX; i++) {
		fds[i] = client_connect();
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	for (unsigned i = 0; i < 20; i++)
		loop_turn();
	server_status(&status);
	assert_int_equal(status.connections, SERVER_CONNS_MAX);
	assert_true(status.ended[SERVER_END_evicted] > 0);
	/* The first stranger has lost its place, the last has not, who had shown a token has not. */
	assert_int_equal(recv(fds[0], &byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(recv(fds[SERVER_CONNS_MAX - 1], &byte, 1, MSG_DONTWAIT), -1);
	expect(ask(NULL, "GET", "/healthz", NULL, NULL), 200);
	while (recv(good, &byte, 1, MSG_DONTWAIT) > 0)
		;
	assert_int_equal(send(good, known, strlen(known), 0), strlen(known));
	for (unsigned i = 0; i < 20; i++)
		loop_turn();
	assert_int_equal(recv(good, &byte, 1, MSG_DONTWAIT), 1);
	close(good);
	for (unsigned i = 0; i < SERVER_CONNS_MAX; i++)
		close(fds[i]);
	for (unsigned i = 0; i < 200; i++)
		loop_turn();
	expect(ask(NULL, "GET", "/healthz", NULL, NULL), 200);
	setrlimit(RLIMIT_NOFILE, &before);
}

static void bodies_are_bounded_and_typed(void **state)
{
	size_t size = SERVER_BODY_MAX + 1;
	char *text = malloc(size + 1024);
	static const char *const paths[] = {"/api/v1/captures", PCAPS};
	struct answer answer;
	int len;

	for (unsigned i = 0; i < 2; i++) {
		len = sprintf(text,
			"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
			"Content-Length: %zu\r\n\r\n",
			paths[i], admin, size);
		memset(text + len, 'x', size);
		answer = talk(text, len + size);
		assert_true(has_header(&answer, "Connection: close"));
		assert_non_null(strstr(answer.body, i == 0 ? "\"status\":413" : "\"code\":1413"));
		expect(answer, 413);
	}
	free(text);
	expect(ask(admin, "POST", "/api/v1/captures", "Content-Type: text/plain\r\n", "{}"), 415);
	expect(ask(admin, "POST", "/api/v1/captures",
		       "Content-Type: application/json; charset=utf-8\r\n", "{}"),
		201);
}

static void doubtful_requests_are_refused(void **state)
{
	static const char *const bad[] = {
		"GARBAGE\r\n\r\n",
		"GET /healthz HTTP/1.1\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: "
		"0\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: "
		"chunked\r\n\r\n0\r\n\r\n",
		"GET /healthz?a=% HTTP/1.1\r\nHost: x\r\n\r\n",
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct answer answer = talk(bad[i], strlen(bad[i]));

		if (answer.status != 400 || !has_header(&answer, "Connection: close"))
			fail_msg("%s -> %s", bad[i], answer.head);
		json_decref(answer_json(answer, 400));
	}
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	static const char one[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
	static const char last[] = "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	char *text = calloc(1, 200 * sizeof(one) + sizeof(last));
	struct answer answer;
	unsigned n = 0;

	for (unsigned i = 0; i < 200; i++)
		strcat(text, one);
	strcat(text, last);
	answer = talk(text, strlen(text));
	for (char *at = answer.head; (at = strstr(at, "HTTP/1.1 200 OK")) != NULL; at++)
		n++;
	assert_int_equal(n, 201);
	free(answer.head);
	free(text);
}

static void failures_keep_their_meaning(void **state)
{
	static const struct {
		int code, status;
		const char *field;
	} cases[] = {{EINVAL, 400, "filter"}, {EAGAIN, 503, "engine.block_memory"},
		{ENOSPC, 507, "output"}, {EPERM, 403, "capture.endless"}, {ENODEV, 503, "ports"},
		{EIO, 500, ""}};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct answer answer;
		json_t *json;

		fake_create_fail(cases[i].code, cases[i].field, "the reason");
		json = answer_json(
			ask(admin, "POST", "/api/v1/captures", NULL, "{}"), cases[i].status);
		assert_non_null(strstr(text_of(json, "detail"), "the reason"));
		assert_int_equal(json_object_get(json, "pointer") != NULL, cases[i].status == 400);
		json_decref(json);
		answer = ask(admin, "POST", PCAPS, NULL, SIMPLE);
		if (cases[i].status >= 500)
			assert_true(has_header(&answer, "x-should-retry: false"));
		json = answer_json(answer, cases[i].status);
		assert_true(json_is_false(json_object_get(json, "success")));
		json_decref(json);
		fake_create_fail(0, NULL, NULL);
	}
}

static const char *pcap_create(const char *body)
{
	static char path[160];
	json_t *json = answer_json(ask(admin, "POST", PCAPS, NULL, body), 200);
	json_t *result = json_object_get(json, "result");

	assert_string_equal(text_of(result, "status"), "pending");
	snprintf(path, sizeof(path), PCAPS "/%.32s", text_of(result, "id"));
	json_decref(json);
	return path;
}

static void pcaps_live_and_are_downloaded(void **state)
{
	char path[160];
	struct answer answer;
	json_t *json;

	snprintf(path, sizeof(path), "%s", pcap_create(SIMPLE));
	assert_int_equal(fake_spec()->n_ports, 2);
	assert_string_equal(fake_spec()->account, "default");
	answer = ask(admin, "GET", joined(path, "/download"), NULL, NULL);
	assert_int_equal(answer.status, 200);
	assert_true(has_header(&answer, "Content-Type: application/vnd.tcpdump.pcap"));
	assert_non_null(memmem(answer.body, 16, "\xd4\xc3\xb2\xa1", 4));
	free(answer.head);
	expect(ask(admin, "PUT", joined(path, "/stop"), NULL, NULL), 400);

	snprintf(path, sizeof(path), "%s", pcap_create(FULL));
	answer = ask(admin, "GET", joined(path, "/download"), NULL, NULL);
	assert_true(has_header(&answer, "x-should-retry: false"));
	expect(answer, 409);
	for (unsigned i = 0; i < 2; i++)
		expect(ask(admin, "PUT", joined(path, "/stop"), NULL, NULL), 204);
	json = answer_json(ask(viewer, "GET", path, NULL, NULL), 200);
	assert_string_equal(text_of(json_object_get(json, "result"), "status"), "success");
	text_of(json_object_get(json, "result"), "stop_requested");
	json_decref(json);
	expect(ask(admin, "GET", joined(path, "/download"), NULL, NULL), 200);
	json = answer_json(ask(viewer, "GET", PCAPS, NULL, NULL), 200);
	assert_string_equal(text_of(json_array_get(json_object_get(json, "result"), 0), "id"),
		strrchr(path, '/') + 1);
	json_decref(json);
}

static void keys_open_cloudflare_only(void **state)
{
	char headers[256];

	snprintf(headers, sizeof(headers), "X-Auth-Email: a@b\r\nX-Auth-Key: %s\r\n", viewer);
	expect(ask(NULL, "GET", PCAPS, headers, NULL), 200);
	expect(ask(NULL, "GET", "/api/v1/captures", headers, NULL), 401);
	snprintf(headers, sizeof(headers), "X-Auth-User-Service-Key: %s\r\n", viewer);
	expect(ask(NULL, "GET", PCAPS, headers, NULL), 200);
}

static void accounts_have_limits(void **state)
{
	config.cloudflare.full_concurrent = 1;
	config.cloudflare.simple_per_minute = 1;
	for (struct session *session = NULL; (session = session_next(session)) != NULL;) {
		fake_state_set(session, SESSION_complete, END_stopped);
		fake_created_set(session, 1);
	}
	pcap_create(FULL);
	expect(ask(admin, "POST", PCAPS, NULL, FULL), 429);
	fake_state_set(session_next(NULL), SESSION_complete, END_stopped);
	pcap_create(FULL);
	pcap_create(SIMPLE);
	expect(ask(admin, "POST", PCAPS, NULL, SIMPLE), 429);
	fake_created_set(session_next(NULL), 1);
	pcap_create(SIMPLE);
	config.cloudflare.full_concurrent = 0;
	config.cloudflare.simple_per_minute = 0;
}

static void tokens_come_and_go(void **state)
{
	char secret[AUTH_SECRET_SIZE];
	json_t *json;

	token_make("guest", "viewer", "*", NULL, secret);
	expect(ask(secret, "GET", "/api/v1/status", NULL, NULL), 200);
	json = answer_json(ask(admin, "GET", "/api/v1/tokens", NULL, NULL), 200);
	assert_int_equal(json_array_size(json_object_get(json, "tokens")), 4);
	assert_null(json_object_get(json_array_get(json_object_get(json, "tokens"), 0), "secret"));
	json_decref(json);
	expect(ask(admin, "DELETE", "/api/v1/tokens/guest", NULL, NULL), 204);
	expect(ask(secret, "GET", "/api/v1/status", NULL, NULL), 401);
	expect(ask(admin, "DELETE", "/api/v1/tokens/admin", NULL, NULL), 409);
	expect(ask(admin, "POST", "/api/v1/tokens", NULL,
		       "{\"name\":\"admin\",\"role\":\"admin\"}"),
		409);
}

static void addresses_are_judged(void **state)
{
	static const struct {
		const char *address, *word;
	} cases[] = {{"0.0.0.0:1", "insecure = yes"}, {"[::]:1", "insecure = yes"},
		{"192.0.2.1:1", "insecure = yes"}, {"localhost:1", "numbers"},
		{"127.0.0.1", "numbers"}, {"127.0.0.1:http", "numbers"},
		{"127.0.0.1:99999", "numbers"}, {"[::1:1", "numbers"}};
	static const struct server_ops ops = {0};
	static struct config bad;
	struct err err;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&bad, 0, sizeof(bad));
		bad.api.listen.n = 1;
		strcpy(bad.api.listen.item[0], cases[i].address);
		/* server_start leaves nothing behind, so a second one may be tried. */
		api_stop();
		assert_true(server_start(&bad, base, &ops, &err) < 0);
		assert_string_equal(err.field, "api.listen");
		if (strstr(err.text, cases[i].word) == NULL)
			fail_msg("%s: %s", cases[i].address, err.text);
	}
	strcpy(bad.api.listen.item[0], "127.0.0.1:1");
	strcpy(bad.api.tls_certificate, "/nowhere/x.pem");
	assert_int_equal(server_start(&bad, base, &ops, &err), -ENOENT);
	assert_string_equal(err.field, "api.tls_certificate");
	assert_int_equal(api_start(&config, base, &err), 0);
}

static int start(void **state)
{
	struct config_account *account;

	config.cloudflare.enabled = true;
	config.nsx.enabled = true;
	port_add("tap0");
	port_add("tap1");
	account = account_add("default", "*");
	strcpy(account->id, ACCOUNT);
	strcpy(account->colo, "ord02");
	account_add("other", "tap1");
	if (api_begin() < 0)
		return -1;
	token_make("eye", "viewer", "*", NULL, viewer);
	token_make("stranger", "operator", "other", NULL, other);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_route_is_open_by_mistake),
		cmocka_unit_test(what_is_not_there_is_404),
		cmocka_unit_test(the_console_is_served_to_anybody),
		cmocka_unit_test(packed_files_go_to_whoever_takes_them),
		cmocka_unit_test(browsers_sign_in_with_a_cookie),
		cmocka_unit_test(filters_are_judged_without_a_capture),
		cmocka_unit_test(packets_are_found_by_number_and_words),
		cmocka_unit_test(bytes_become_layers),
		cmocka_unit_test(captures_live_and_die),
		cmocka_unit_test(other_accounts_captures_are_not_there),
		cmocka_unit_test(lists_have_pages),
		cmocka_unit_test(bad_queries_are_named),
		cmocka_unit_test(ranges_are_parts_of_the_whole),
		cmocka_unit_test(range_headers_are_understood_or_ignored),
		cmocka_unit_test(long_files_come_whole),
		cmocka_unit_test(running_captures_are_sent_in_part),
		cmocka_unit_test(captures_without_a_file_say_so),
		cmocka_unit_test(a_file_that_vanished_is_no_crash),
		cmocka_unit_test(a_short_file_is_cut_visibly),
		cmocka_unit_test(clients_that_hang_up_leave_nothing),
		cmocka_unit_test(strangers_make_room_for_newcomers),
		cmocka_unit_test(bodies_are_bounded_and_typed),
		cmocka_unit_test(doubtful_requests_are_refused),
		cmocka_unit_test(pipelined_requests_are_answered_in_order),
		cmocka_unit_test(failures_keep_their_meaning),
		cmocka_unit_test(pcaps_live_and_are_downloaded),
		cmocka_unit_test(keys_open_cloudflare_only),
		cmocka_unit_test(accounts_have_limits),
		cmocka_unit_test(tokens_come_and_go),
		cmocka_unit_test(addresses_are_judged),
	};

	log_level_set(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, start, api_end);
}
