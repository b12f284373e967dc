/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Bodies of the native API: what is accepted lies within its bounds, what is refused says why, and
 * JSON that was read is JSON that can be written and read again.
 */
#include "fuzz.h"

#include <string.h>

#include "api/native_json.h"

static const struct principal who = {.name = "op", .account = "default", .role = ROLE_OPERATOR};
static struct config *config;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	config = fuzz_config();
	return 0;
}

static void spec_check(const struct session_spec *spec)
{
	fuzz_check(spec->n_ports >= 1 && spec->n_ports <= CONFIG_PORTS_MAX);
	for (unsigned i = 0; i < spec->n_ports; i++) {
		fuzz_check(spec->ports[i] < config->n_ports);
		for (unsigned k = 0; k < i; k++)
			fuzz_check(spec->ports[i] != spec->ports[k]);
	}
	fuzz_check(strcmp(spec->account, who.account) == 0);
	fuzz_check(strcmp(spec->owner, who.name) == 0);
	fuzz_check(spec->sample_n >= 1);
	fuzz_check(spec->snaplen_bytes <= 262144);
	fuzz_check(spec->name == NULL || strlen(spec->name) < SESSION_NAME_MAX);
	fuzz_check(spec->notes == NULL || strlen(spec->notes) < SESSION_NOTES_MAX);
	fuzz_check(spec->filter == NULL || strlen(spec->filter) < FILTER_EXPRESSION_MAX);
}

static void answer_check(int rc, const struct err *err)
{
	fuzz_check(rc == 0 || (rc == -err->code && err->text[0] != '\0'));
	if (rc != 0)
		json_decref(native_error(400, err));
}

static void json_check(const char *text, size_t size)
{
	struct err err = {0};
	json_t *json = json_parse(text, size, &err), *again;
	char *printed;

	if (json == NULL) {
		fuzz_check(err.code != 0 && err.text[0] != '\0');
		return;
	}
	printed = json_print(json);
	fuzz_check(printed != NULL);
	again = json_parse(printed, strlen(printed), &err);
	fuzz_check(again != NULL && json_equal(json, again));
	json_decref(again);
	json_decref(json);
	free(printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct session_spec spec = {0};
	struct native_patch patch = {0};
	struct auth_token token = {0};
	json_t *document = NULL;
	struct err err = {0};
	int rc;

	json_check(text, size);
	rc = native_spec_decode(text, size, config, &who, &spec, &document, &err);
	answer_check(rc, &err);
	if (rc == 0)
		spec_check(&spec);
	json_decref(document);
	document = NULL;
	err = (struct err){0};
	rc = native_patch_decode(text, size, &patch, &document, &err);
	answer_check(rc, &err);
	json_decref(document);
	err = (struct err){0};
	rc = native_token_decode(text, size, config, &token, &err);
	answer_check(rc, &err);
	if (rc == 0)
		fuzz_check(token.name[0] != '\0' && token.role != ROLE_NONE);
	free(text);
	return 0;
}
