/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Between libFuzzer and a target: what libFuzzer does for an input takes several times as long as most of
 * the parsers, so each input is tried with BENT copies of it, bent in ways that its own bytes choose, and
 * what any of them reaches counts for it. The executions are told at the end. A report has the input; run
 * on that with FUZZ_SAVE=FOLDER, the target leaves the copy that it is about there, as bent-case.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#undef LLVMFuzzerTestOneInput
#define BENT          7
#define SIZE_MAX_BENT (1U << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t n_executions;

static void executions_tell(void)
{
	fprintf(stderr, "stat::executions: %" PRIu64 "\n", n_executions);
}

/* Before it is tried: what broke a law is then the last one that was saved. */
static void case_save(const char *folder, const uint8_t *data, size_t size)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/bent-case", folder);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static void run(const uint8_t *data, size_t size)
{
	static const char *folder;

	if (n_executions++ == 0) {
		atexit(executions_tell);
		folder = getenv("FUZZ_SAVE");
	}
	if (folder != NULL)
		case_save(folder, data, size);
	fuzz_one(data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t seed = UINT64_C(0xcbf29ce484222325);

	run(data, size);
	for (size_t i = 0; i < size; i++)
		seed = (seed ^ data[i]) * UINT64_C(0x100000001b3);
	for (unsigned i = 0; i < BENT && size != 0 && seed != 0; i++) {
		static uint8_t bent[SIZE_MAX_BENT + FUZZ_BEND_MORE];
		size_t len = size <= SIZE_MAX_BENT ? fuzz_bend(bent, data, size, &seed) : 0;
		uint8_t *copy = malloc(len != 0 ? len : 1);

		fuzz_check(copy != NULL);
		memcpy(copy, bent, len);
		run(copy, len);
		free(copy);
	}
	return 0;
}
