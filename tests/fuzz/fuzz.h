/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What fuzz targets share. A target is fuzz_NAME.c with the two functions that libFuzzer calls; its
 * saved cases stand in cases/NAME/. Linked with libFuzzer and search.c (meson option fuzz) it searches,
 * linked with replay.c it is a unit test that runs the saved cases and bent copies of them.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct config;

/* The law that the input broke is what the report begins with. */
#define fuzz_check(law)                                                                   \
	do {                                                                              \
		if (!(law)) {                                                             \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #law); \
			abort();                                                          \
		}                                                                         \
	} while (0)

/* libFuzzer's name is search.c's there. */
#ifdef FUZZ_SEARCH
#define LLVMFuzzerTestOneInput fuzz_one
#endif

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* data as a text of its own size, so that a sanitizer sees the first byte read behind it. Freed with
 * free(). */
char *fuzz_text(const uint8_t *data, size_t size);

/* A file in memory with data in it, always the same. */
int fuzz_file(const uint8_t *data, size_t size);

/* A copy of data in bent, which has room for FUZZ_BEND_MORE bytes more, with bytes changed, taken out and put
 * in, as seed (not 0) says, which goes on. Its size. */
#define FUZZ_BEND_MORE 64
size_t fuzz_bend(uint8_t *bent, const uint8_t *data, size_t size, uint64_t *seed);

/* A configuration with every dialect, two ports and two accounts, on sessions and ports that live in
 * memory (tests/unit/fake.h). For targets that are linked with the fakes. */
struct config *fuzz_config(void);

#endif
