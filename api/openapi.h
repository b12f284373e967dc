/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * openapi.json, the description of the native API, inside the program. It is written by hand beside
 * the routes of native.c; tests hold each against the other, and both against the daemon's answers.
 */
#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include <stddef.h>

extern const unsigned char openapi_json[];
extern const size_t openapi_json_len;

#endif
