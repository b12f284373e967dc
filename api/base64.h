/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Base64 (RFC 4648, section 4: with padding). Pure; any thread.
 */
#ifndef API_BASE64_H
#define API_BASE64_H

#include <stddef.h>

/* Characters for len bytes, without the NUL. */
#define BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Write BASE64_LEN(len) characters and a NUL. Returns the characters' number. */
size_t base64_print(const void *data, size_t len, char *text);

/* Bytes that text stands for, if it is whole base64 and they are at most size; else -1. */
long base64_parse(const char *text, void *data, size_t size);

#endif
