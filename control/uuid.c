/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Random UUIDs and their two spellings. Any thread.
 */
#include "control/uuid.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

static const char hex_digits[] = "0123456789abcdef";

static bool hyphen_before(unsigned byte);
static int hex_value(char c);

void uuid_make(struct uuid *uuid)
{
	ssize_t n;

	do
		n = getrandom(uuid->byte, sizeof(uuid->byte), 0);
	while (n < 0 && errno == EINTR);
	/* Up to 256 bytes come whole, and an id that is not random must never go out. */
	assert(n == sizeof(uuid->byte));
	uuid->byte[6] = (uuid->byte[6] & 0x0f) | 0x40; /* version 4 */
	uuid->byte[8] = (uuid->byte[8] & 0x3f) | 0x80; /* RFC 9562 variant */
}

bool uuid_is_zero(const struct uuid *uuid)
{
	static const struct uuid zero;

	return memcmp(uuid, &zero, sizeof(zero)) == 0;
}

void uuid_print(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
	for (unsigned i = 0; i < sizeof(uuid->byte); i++) {
		if (hyphen_before(i))
			*text++ = '-';
		*text++ = hex_digits[uuid->byte[i] >> 4];
		*text++ = hex_digits[uuid->byte[i] & 0xf];
	}
	*text = '\0';
}

void uuid_print_hex(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
	for (unsigned i = 0; i < sizeof(uuid->byte); i++) {
		*text++ = hex_digits[uuid->byte[i] >> 4];
		*text++ = hex_digits[uuid->byte[i] & 0xf];
	}
	*text = '\0';
}

bool uuid_parse(const char *text, uint64_t len, struct uuid *uuid)
{
	bool hyphens = len == UUID_TEXT_SIZE - 1;
	struct uuid out;
	int high, low;

	if (!hyphens && len != 2 * sizeof(out.byte))
		return false;
	for (unsigned i = 0; i < sizeof(out.byte); i++) {
		if (hyphens && hyphen_before(i) && *text++ != '-')
			return false;
		high = hex_value(*text++);
		low = hex_value(*text++);
		if (high < 0 || low < 0)
			return false;
		out.byte[i] = high << 4 | low;
	}
	*uuid = out;
	return true;
}

static bool hyphen_before(unsigned byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

static int hex_value(char c)
{
	const char *at = c != '\0' ? strchr(hex_digits, c) : NULL;

	return at != NULL ? (int)(at - hex_digits) : -1;
}
