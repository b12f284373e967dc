/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A configuration file: it is taken whole, or refused with file, line and what is wrong.
 */
#include "fuzz.h"

#include <string.h>

#include <sanitizer/asan_interface.h>

#include "config/config.h"

/*
 * In the place of libc's for our code: a configuration takes hundreds of kilobytes, and to map and unmap
 * them each time takes longer than to read one.
 */
#define LARGE     (64U << 10)
#define LARGE_MAX (1U << 20)

static struct {
	bool taken;
	uint8_t memory[LARGE_MAX] __attribute__((aligned(16)));
} places[2];

void *__real_calloc(size_t n, size_t size);
void __real_free(void *memory);
void *__wrap_calloc(size_t n, size_t size);
void __wrap_free(void *memory);

void *__wrap_calloc(size_t n, size_t size)
{
	for (unsigned i = 0; i < 2 && n == 1 && size >= LARGE && size <= LARGE_MAX; i++)
		if (!places[i].taken) {
			places[i].taken = true;
			ASAN_POISON_MEMORY_REGION(places[i].memory, LARGE_MAX);
			ASAN_UNPOISON_MEMORY_REGION(places[i].memory, size);
			return memset(places[i].memory, 0, size);
		}
	return __real_calloc(n, size);
}

void __wrap_free(void *memory)
{
	for (unsigned i = 0; i < 2; i++)
		if (memory == places[i].memory) {
			fuzz_check(places[i].taken);
			places[i].taken = false;
			ASAN_POISON_MEMORY_REGION(places[i].memory, LARGE_MAX);
			return;
		}
	__real_free(memory);
}

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
