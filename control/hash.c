/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * OpenSSL's digests. A digest that cannot be had (no memory) ends the process: a wrong one would be
 * believed.
 */
#include "control/hash.h"

#include <stdlib.h>

#include <openssl/evp.h>

struct hash {
	EVP_MD_CTX *context;
};

struct hash *hash_new(enum hash_kind kind)
{
	struct hash *hash = calloc(1, sizeof(*hash));

	if (hash == NULL)
		return NULL;
	hash->context = EVP_MD_CTX_new();
	if (hash->context == NULL ||
		EVP_DigestInit_ex(
			hash->context, kind == HASH_MD5 ? EVP_md5() : EVP_sha256(), NULL) != 1) {
		hash_free(hash);
		return NULL;
	}
	return hash;
}

void hash_add(struct hash *hash, const void *data, size_t len)
{
	if (EVP_DigestUpdate(hash->context, data, len) != 1)
		abort();
}

void hash_end(struct hash *hash, uint8_t *out)
{
	if (EVP_DigestFinal_ex(hash->context, out, NULL) != 1)
		abort();
	hash_free(hash);
}

void hash_free(struct hash *hash)
{
	if (hash == NULL)
		return;
	EVP_MD_CTX_free(hash->context);
	free(hash);
}

void hash_sha256(const void *data, size_t len, uint8_t out[HASH_SHA256_SIZE])
{
	if (EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) != 1)
		abort();
}

void hash_hex(const uint8_t *bytes, size_t len, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * len] = '\0';
}
