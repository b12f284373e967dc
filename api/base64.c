/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/base64.h"

#include <stdint.h>
#include <string.h>

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_print(const void *data, size_t len, char *text)
{
	const uint8_t *bytes = data;
	char *to = text;

	for (; len >= 3; len -= 3, bytes += 3) {
		*to++ = letters[bytes[0] >> 2];
		*to++ = letters[(bytes[0] & 3) << 4 | bytes[1] >> 4];
		*to++ = letters[(bytes[1] & 15) << 2 | bytes[2] >> 6];
		*to++ = letters[bytes[2] & 63];
	}
	if (len > 0) {
		const uint8_t second = len == 2 ? bytes[1] : 0;

		*to++ = letters[bytes[0] >> 2];
		*to++ = letters[(bytes[0] & 3) << 4 | second >> 4];
		*to++ = len == 2 ? letters[(second & 15) << 2] : '=';
		*to++ = '=';
	}
	*to = '\0';
	return to - text;
}

long base64_parse(const char *text, void *data, size_t size)
{
	const size_t len = strlen(text);
	const size_t n_pads = len < 2 || text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
	const size_t n_bytes = len / 4 * 3 - n_pads;
	uint8_t *bytes = data;
	uint32_t bits = 0;

	if (len % 4 != 0 || n_bytes > size)
		return -1;
	for (size_t i = 0; i < len; i++) {
		const char *letter = memchr(letters, text[i], sizeof(letters) - 1);

		if (letter == NULL && i < len - n_pads)
			return -1;
		bits = bits << 6 | (letter != NULL ? (uint32_t)(letter - letters) : 0);
		if (i % 4 != 3)
			continue;
		for (unsigned b = 0; b < 3 && (size_t)(bytes - (uint8_t *)data) < n_bytes; b++)
			*bytes++ = (uint8_t)(bits >> (16 - 8 * b));
		bits = 0;
	}
	return (long)n_bytes;
}
