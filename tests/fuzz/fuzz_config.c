/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A configuration file: it is taken whole, or refused with file, line and what is wrong.
 */
#include "fuzz.h"

#include <string.h>

#include "config/config.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = fuzz_file(data, size);
	struct err err = {0};
	struct config *config;
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	config = config_load(path, &err);
	if (config != NULL) {
		fuzz_check(config->n_ports >= 1 && config->n_ports <= CONFIG_PORTS_MAX);
		fuzz_check(config->n_accounts <= CONFIG_ACCOUNTS_MAX);
		fuzz_check(config->storage.root[0] != '\0');
	} else {
		fuzz_check(err.code != 0 && strstr(err.text, path) != NULL);
	}
	config_free(config);
	return 0;
}
