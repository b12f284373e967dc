/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/openapi.json against the table of native routes: each describes all of the other, with the same
 * roles and query parameters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "config/json.h"
#include "api/native.h"
#include "api/openapi.h"
#include "api/route.h"

static json_t *document;

static int document_load(void **state)
{
	document = json_loadb((const char *)openapi_json, openapi_json_len, 0, NULL);
	return document != NULL ? 0 : -1;
}

static int document_free(void **state)
{
	json_decref(document);
	return 0;
}

static json_t *operation_of(const struct route *route)
{
	const char *name = request_method_name(route->method);
	json_t *path = json_object_get(json_object_get(document, "paths"), route->path);
	const char *method;
	json_t *operation;

	json_object_foreach (path, method, operation)
		if (strcasecmp(method, name) == 0)
			return operation;
	return NULL;
}

static const struct route *route_of(const char *path, const char *method)
{
	for (unsigned i = 0; i < native_vendor.n_routes; i++) {
		const struct route *route = &native_vendor.routes[i];

		if (strcmp(route->path, path) == 0 &&
			strcasecmp(request_method_name(route->method), method) == 0)
			return route;
	}
	return NULL;
}

/* The operation's query parameters as a route has them: "state limit cursor". */
static void params_print(json_t *operation, char *text, size_t size)
{
	size_t i, len = 0;
	json_t *param;

	text[0] = '\0';
	json_array_foreach (json_object_get(operation, "parameters"), i, param)
		if (strcmp(json_string_value(json_object_get(param, "in")), "query") == 0)
			len += snprintf(text + len, size - len, "%s%s", len != 0 ? " " : "",
				json_string_value(json_object_get(param, "name")));
}

static void every_route_is_described(void **state)
{
	for (unsigned i = 0; i < native_vendor.n_routes; i++) {
		const struct route *route = &native_vendor.routes[i];
		json_t *operation = operation_of(route);
		const char *role;
		char params[256];

		if (operation == NULL)
			fail_msg("%s %s is not described", request_method_name(route->method),
				route->path);
		role = json_string_value(json_object_get(operation, "x-role"));
		assert_non_null(role);
		assert_string_equal(
			role, route->role == ROLE_NONE ? "none" : auth_role_name(route->role));
		params_print(operation, params, sizeof(params));
		assert_string_equal(params, route->params != NULL ? route->params : "");
	}
}

static void every_description_is_routed(void **state)
{
	const char *path, *method;
	json_t *item, *operation;

	json_object_foreach (json_object_get(document, "paths"), path, item) {
		json_object_foreach (item, method, operation) {
			if (strcmp(method, "parameters") != 0 && route_of(path, method) == NULL)
				fail_msg("there is no route for %s %s", method, path);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_route_is_described),
		cmocka_unit_test(every_description_is_routed),
	};

	return cmocka_run_group_tests(tests, document_load, document_free);
}
