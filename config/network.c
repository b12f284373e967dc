/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/network.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned family_bits(int family)
{
	return family == AF_INET ? 32 : 128;
}

static void bytes_mask(uint8_t *byte, unsigned n_bits, unsigned bits)
{
	for (unsigned i = 0; i < n_bits / 8; i++)
		if (i * 8 + 8 > bits)
			byte[i] &= i * 8 >= bits ? 0 : (uint8_t)(0xff00 >> (bits % 8));
}

bool network_parse(const char *text, struct network *network)
{
	const char *slash = strchr(text, '/');
	char address[INET6_ADDRSTRLEN];
	unsigned n_bits;
	char *end;

	memset(network, 0, sizeof(*network));
	if (snprintf(address, sizeof(address), "%.*s", (int)strcspn(text, "/"), text) >=
		(int)sizeof(address))
		return false;
	network->family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
	n_bits = family_bits(network->family);
	network->bits = n_bits;
	if (inet_pton(network->family, address, network->byte) != 1)
		return false;
	if (slash == NULL)
		return true;
	if (!isdigit((unsigned char)slash[1]) || strlen(slash) > 4)
		return false;
	network->bits = (unsigned)strtoul(slash + 1, &end, 10);
	if (*end != '\0' || network->bits > n_bits)
		return false;
	bytes_mask(network->byte, n_bits, network->bits);
	return true;
}

bool network_has(const struct network *outer, const struct network *inner)
{
	struct network masked = *inner;

	if (outer->family != inner->family || outer->bits > inner->bits)
		return false;
	bytes_mask(masked.byte, family_bits(inner->family), outer->bits);
	return memcmp(masked.byte, outer->byte, sizeof(masked.byte)) == 0;
}

bool network_is_address(const struct network *network)
{
	return network->bits == family_bits(network->family);
}
