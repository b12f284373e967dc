/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The target of a request, as in "GET TARGET HTTP/1.1": what is taken apart is what was meant, and
 * what goes to a handler is clean text.
 */
#include "fuzz.h"

#include <string.h>

#include "api/request.h"
#include "api/route.h"
#include "config/config.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	route_start(fuzz_config());
	return 0;
}

static void text_check(const char *text)
{
	json_t *json = json_string(text); /* NULL for what is not UTF-8 */

	fuzz_check(json != NULL);
	json_decref(json);
	for (; *text != '\0'; text++)
		fuzz_check((uint8_t)*text >= 0x20 && *text != 0x7f);
}

static char *encoded_put(char *to, const char *text)
{
	for (; *text != '\0'; text++)
		to += sprintf(to, "%%%02X", (uint8_t)*text);
	return to;
}

/* What was understood, written anew, is understood the same. */
static void again_check(const struct request *request)
{
	struct request again = {0};
	size_t size = 2;
	char *path, *at;

	for (unsigned i = 0; i < request->n_segments; i++)
		size += 1 + 3 * strlen(request->segments[i]);
	path = at = malloc(size);
	fuzz_check(path != NULL);
	if (request->n_segments == 0)
		*at++ = '/';
	for (unsigned i = 0; i < request->n_segments; i++) {
		*at++ = '/';
		at = encoded_put(at, request->segments[i]);
	}
	*at = '\0';
	fuzz_check(request_target_parse(&again, path, NULL) == 0);
	fuzz_check(again.n_segments == request->n_segments);
	for (unsigned i = 0; i < again.n_segments; i++)
		fuzz_check(strcmp(again.segments[i], request->segments[i]) == 0);
	free(again.text);
	free(path);
}

static void route_check(struct request *request)
{
	for (int method = 0; method < METHOD_COUNT; method++) {
		unsigned allowed;

		request->method = method;
		request->vendor =
			route_vendor(request->segments, request->n_segments, &request->n_skipped);
		fuzz_check(request->vendor != NULL);
		request->route = route_find(request, &allowed);
		fuzz_check(request->route != NULL || (allowed & 1U << method) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *path = fuzz_text(data, size);
	char *query = strchr(path, '?');
	struct request request = {0};
	int rc;

	if (query != NULL)
		*query++ = '\0';
	rc = request_target_parse(&request, path, query);
	if (rc == 0) {
		fuzz_check(request.n_segments <= REQUEST_SEGMENTS_MAX);
		fuzz_check(request.n_params <= REQUEST_PARAMS_MAX);
		for (unsigned i = 0; i < request.n_segments; i++)
			text_check(request.segments[i]);
		for (unsigned i = 0; i < request.n_params; i++) {
			text_check(request.params[i].name);
			text_check(request.params[i].value);
		}
		again_check(&request);
		route_check(&request);
	}
	free(request.text);
	free(path);
	return 0;
}
