/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A target without libFuzzer: replay FOLDER runs the target on each file there, on each of its
 * beginnings where it is short, and on copies with bytes changed, taken out and put in. The same each
 * time. TAP on standard output.
 */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>

#define CASE_MAX  (1U << 16)
#define BENT      150
#define SHORT_MAX 400

static uint8_t bytes[CASE_MAX], bent[CASE_MAX + FUZZ_BEND_MORE];
static uint64_t seed = 88172645463325252U;

static void run(const uint8_t *data, size_t size)
{
	/* In memory of its own size: the first byte read behind it is seen. */
	uint8_t *copy = malloc(size != 0 ? size : 1);

	fuzz_check(copy != NULL);
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void replay(FILE *file)
{
	size_t size = fread(bytes, 1, sizeof(bytes), file);

	run(bytes, size);
	for (size_t len = 0; len < size && size <= SHORT_MAX; len++)
		run(bytes, len);
	for (unsigned i = 0; i < BENT && size != 0; i++)
		run(bent, fuzz_bend(bent, bytes, size, &seed));
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	int n = argc == 2 ? scandir(argv[1], &entries, NULL, alphasort) : -1;
	unsigned n_cases = 0;

	fuzz_check(n >= 0);
	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 0; i < n; i++) {
		char path[4096];
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s", argv[1], entries[i]->d_name);
		file = entries[i]->d_name[0] != '.' ? fopen(path, "r") : NULL;
		if (file != NULL) {
			replay(file);
			fclose(file);
			printf("ok %u - %s\n", ++n_cases, entries[i]->d_name);
		}
		free(entries[i]);
	}
	free(entries);
	fuzz_check(n_cases != 0);
	printf("1..%u\n", n_cases);
	return 0;
}
