/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * SHA-256 and MD5 of what comes in pieces. Any thread; one caller per struct.
 */
#ifndef CONTROL_HASH_H
#define CONTROL_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_SHA256_SIZE 32
#define HASH_MD5_SIZE    16
#define HASH_HEX_SIZE    (2 * HASH_SHA256_SIZE + 1) /* fits either as text */

enum hash_kind { HASH_SHA256, HASH_MD5 };

struct hash;
/* NULL without memory. */
struct hash *hash_new(enum hash_kind kind);
void hash_add(struct hash *hash, const void *data, size_t len);
/* Writes the kind's size bytes and frees. */
void hash_end(struct hash *hash, uint8_t *out);
void hash_free(struct hash *hash);

/* All at once. */
void hash_sha256(const void *data, size_t len, uint8_t out[HASH_SHA256_SIZE]);

/* Lower-case hex digits and a NUL: 2 * len + 1 bytes. */
void hash_hex(const uint8_t *bytes, size_t len, char *text);

#endif
