/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/route, api/request: from a target to vendor, route and arguments, and the shape of errors.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/route.h"
#include "config/json.h"

static struct config config;

/* What the target of a request leads to. */
static const struct route *find(struct request *request, enum method method, const char *path,
	const char *query, unsigned *allowed)
{
	memset(request, 0, sizeof(*request));
	request->method = method;
	if (request_target_parse(request, path, query) < 0)
		return NULL;
	request->vendor = route_vendor(request->segments, request->n_segments, &request->n_skipped);
	request->route = route_find(request, allowed);
	return request->route;
}

static void paths_find_their_vendor_and_route(void **state)
{
	static const struct {
		enum method method;
		const char *path, *vendor, *route, *args[2];
	} cases[] = {
		{METHOD_GET, "/healthz", "native", "/healthz"},
		{METHOD_POST, "/api/v1/captures", "native", "/api/v1/captures"},
		{METHOD_HEAD, "/api/v1/captures", "native", "/api/v1/captures"},
		{METHOD_GET, "/api/v1/captures/a%2Fb/download", "native",
			"/api/v1/captures/{id}/download", {"a/b"}},
		{METHOD_DELETE, "/api/v1/tokens/x", "native", "/api/v1/tokens/{name}", {"x"}},
		{METHOD_GET, "/accounts/7/pcaps", "cloudflare", "/accounts/{id}/pcaps", {"7"}},
		{METHOD_GET, "/client/v4/accounts/7/pcaps/8", "cloudflare",
			"/accounts/{id}/pcaps/{pcap}", {"7", "8"}},
		{METHOD_PUT, "/client/v4/accounts/7/pcaps/8/stop", "cloudflare",
			"/accounts/{id}/pcaps/{pcap}/stop", {"7", "8"}},
		{METHOD_GET, "/accounts/7/pcaps/ownership", "cloudflare",
			"/accounts/{id}/pcaps/ownership", {"7"}},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct request request;
		unsigned allowed;

		assert_non_null(find(&request, cases[i].method, cases[i].path, NULL, &allowed));
		assert_string_equal(request.vendor->name, cases[i].vendor);
		assert_string_equal(request.route->path, cases[i].route);
		for (unsigned k = 0; k < 2 && cases[i].args[k] != NULL; k++)
			assert_string_equal(request_arg(&request, k), cases[i].args[k]);
		free(request.text);
	}
}

static void other_paths_find_nothing(void **state)
{
	static const char *const paths[] = {
		"/console",
		"/console/",
		"/api",
		"/api/v1",
		"/api/v1/captures/",
		"/api/v1/captures//stop",
		"//api/v1/captures",
		"/api/v1/captures/../ports",
		"/API/v1/captures",
		"/api/v1/capturesx",
		"/api/v2/captures",
		"/client/v4",
		"/client/v4/api/v1/captures",
		"/client/accounts/7/pcaps",
		"/accounts",
		"/accounts/7/pcaps/8/9",
	};

	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct request request;
		unsigned allowed;

		if (find(&request, METHOD_GET, paths[i], NULL, &allowed) != NULL || allowed != 0)
			fail_msg("found: %s", paths[i]);
		free(request.text);
	}
}

static void wrong_methods_tell_the_right_ones(void **state)
{
	struct request request;
	unsigned allowed;

	assert_null(find(&request, METHOD_PUT, "/api/v1/captures/1", NULL, &allowed));
	assert_int_equal(allowed,
		1U << METHOD_GET | 1U << METHOD_HEAD | 1U << METHOD_PATCH | 1U << METHOD_DELETE);
	free(request.text);
	assert_null(find(&request, METHOD_HEAD, "/api/v1/captures/1/stop", NULL, &allowed));
	assert_int_equal(allowed, 1U << METHOD_POST);
	free(request.text);
}

static void a_dialect_that_is_off_is_not_there(void **state)
{
	struct request request;
	unsigned allowed;

	config.cloudflare.enabled = false;
	assert_null(find(&request, METHOD_GET, "/accounts/7/pcaps", NULL, &allowed));
	assert_string_equal(request.vendor->name, "native");
	assert_int_equal(allowed, 0);
	config.cloudflare.enabled = true;
	free(request.text);
}

static void targets_that_are_not_text_are_refused(void **state)
{
	static const char *const paths[] = {"/a%", "/a%4", "/a%zz", "/a%00", "/%ff", "/%c0%af",
		"/%ed%a0%80", "/%0a", "/%7f", "/%f8%88%80%80%80",
		"/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7"};
	static const char *const queries[] = {
		"a=%", "a=%00", "%ff=1", "a=%0d%0a", "1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17"};

	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct request request = {0};

		assert_int_equal(request_target_parse(&request, paths[i], NULL), -ENOENT);
		free(request.text);
	}
	for (unsigned i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
		struct request request = {0};

		assert_int_equal(request_target_parse(&request, "/", queries[i]), -EINVAL);
		free(request.text);
	}
}

static void queries_are_decoded_and_checked(void **state)
{
	struct request request = {0};
	struct err err;
	uint64_t number;

	assert_int_equal(
		request_target_parse(&request, "/x", "limit=7&a+b=%C3%A4%26&&flag&big=1e3"), 0);
	assert_string_equal(request_param(&request, "limit"), "7");
	assert_string_equal(request_param(&request, "a b"), "\303\244&");
	assert_string_equal(request_param(&request, "flag"), "");
	assert_null(request_param(&request, "b"));
	assert_int_equal(request_param_number(&request, "limit", 1, 9, 5, &number, &err), 0);
	assert_int_equal(number, 7);
	assert_int_equal(request_param_number(&request, "none", 1, 9, 5, &number, &err), 0);
	assert_int_equal(number, 5);
	assert_int_equal(request_param_number(&request, "limit", 8, 9, 5, &number, &err), -EINVAL);
	assert_string_equal(err.field, "limit");
	assert_non_null(strstr(err.text, "from 8 to 9, not \"7\""));
	assert_int_equal(request_param_number(&request, "big", 0, 9999, 5, &number, &err), -EINVAL);
	assert_int_equal(request_params_check(&request, "limit flag big", &err), -EINVAL);
	assert_string_equal(err.field, "a b");
	free(request.text);

	memset(&request, 0, sizeof(request));
	assert_int_equal(request_target_parse(&request, "/x", "a=1&b=2&a=1"), 0);
	assert_int_equal(request_params_check(&request, "a b", &err), -EINVAL);
	assert_non_null(strstr(err.text, "twice"));
	assert_int_equal(request_params_check(&request, "ab", &err), -EINVAL);
	free(request.text);
}

static void refusals_have_the_shape_of_their_dialect(void **state)
{
	static const struct {
		const char *target, *type, *member;
	} cases[] = {
		{"POST /api/v1/captures HTTP/1.1", "application/problem+json", "detail"},
		{"", "application/problem+json", "detail"},
		{"\x16\x03\x01", "application/problem+json", "detail"},
		{"POST /client/v4/accounts/7/pcaps?x=%", "application/json", "errors"},
		{"PUT /accounts/%ff", "application/json", "errors"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *type;
		char *text = route_refusal(cases[i].target, 413, &type);
		struct err err;
		json_t *json = json_parse(text, strlen(text), &err);

		assert_string_equal(type, cases[i].type);
		assert_non_null(json_object_get(json, cases[i].member));
		assert_non_null(strstr(text, "413"));
		json_decref(json);
		free(text);
	}
}

static void codes_have_a_status(void **state)
{
	static const int rows[][2] = {{EINVAL, 400}, {EPERM, 403}, {ENOENT, 404}, {EBUSY, 409},
		{EAGAIN, 503}, {ENODEV, 503}, {ENOSPC, 507}, {EIO, 500}};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = {.code = rows[i][0]};

		assert_int_equal(route_status(&err), rows[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_find_their_vendor_and_route),
		cmocka_unit_test(other_paths_find_nothing),
		cmocka_unit_test(wrong_methods_tell_the_right_ones),
		cmocka_unit_test(a_dialect_that_is_off_is_not_there),
		cmocka_unit_test(targets_that_are_not_text_are_refused),
		cmocka_unit_test(queries_are_decoded_and_checked),
		cmocka_unit_test(refusals_have_the_shape_of_their_dialect),
		cmocka_unit_test(codes_have_a_status),
	};

	config.cloudflare.enabled = true;
	route_start(&config);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
