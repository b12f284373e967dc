/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * IP networks as text, and which lies in which. Pure; any thread.
 */
#ifndef CONFIG_NETWORK_H
#define CONFIG_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

struct network {
	int family;       /* AF_INET or AF_INET6 */
	uint8_t byte[16]; /* those behind the prefix are zero */
	unsigned bits;
};

/* "192.0.2.0/24", "2001:db8::/32", or an address, which is a network of itself. */
bool network_parse(const char *text, struct network *network);

/* All of inner lies in outer. */
bool network_has(const struct network *outer, const struct network *inner);

/* The network is one address. */
bool network_is_address(const struct network *network);

#endif
