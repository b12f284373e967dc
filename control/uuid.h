/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Session ids: random UUIDs (RFC 9562, version 4). Any thread.
 */
#ifndef CONTROL_UUID_H
#define CONTROL_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37 /* 8-4-4-4-12 hex digits and NUL */

struct uuid {
	uint8_t byte[16];
};

void uuid_make(struct uuid *uuid);
bool uuid_is_zero(const struct uuid *uuid);
void uuid_print(const struct uuid *uuid, char text[UUID_TEXT_SIZE]); /* lower-case, hyphenated */
void uuid_print_hex(const struct uuid *uuid, char text[UUID_TEXT_SIZE]); /* 32 digits, no hyphens */
/* Hyphenated or 32 bare hex digits, lower-case only; len bytes. */
bool uuid_parse(const char *text, uint64_t len, struct uuid *uuid);

#endif
