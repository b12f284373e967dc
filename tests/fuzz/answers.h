/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What the two targets of S3 answers share: fuzz_answer without libcurl, fuzz_curl with it.
 */
#ifndef TESTS_FUZZ_ANSWERS_H
#define TESTS_FUZZ_ANSWERS_H

#include "fuzz.h"

#define ANSWER_MAX 65536 /* fits into a socket's buffer */

/* The present one. */
extern const uint8_t *answer;
extern size_t answer_size;

#endif
