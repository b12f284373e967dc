/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The record of a session: refused with a reason, or taken, and then writing and reading it again
 * changes nothing.
 */
#include "fuzz.h"

#include <string.h>

#include "control/record.h"

static const struct uuid id = {{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), *first, *second;
	struct session *session, *again;
	struct err err = {0};

	session = record_parse(&id, text, &err);
	if (session == NULL) {
		fuzz_check(err.code != 0 && err.text[0] != '\0');
		free(text);
		return 0;
	}
	first = record_print(session, session->state);
	fuzz_check(first != NULL);
	again = record_parse(&id, first, &err);
	fuzz_check(again != NULL);
	second = record_print(again, again->state);
	fuzz_check(strcmp(first, second) == 0);
	session_free(session);
	session_free(again);
	free(first);
	free(second);
	free(text);
	return 0;
}
