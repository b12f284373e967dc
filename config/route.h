/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which interface a port with "interface = auto" watches: the one of the default route. Reads the
 * kernel's text tables and changes nothing. Control thread, at start.
 */
#ifndef CONFIG_ROUTE_H
#define CONFIG_ROUTE_H

#include <stddef.h>

/*
 * Put the interface of the default route into name: IPv4's of the lowest metric, else IPv6's, else
 * "lo". The paths are those of /proc/net/route and /proc/net/ipv6_route; a table that is not there
 * is empty.
 */
void route_default(const char *ipv4_path, const char *ipv6_path, char *name, size_t size);

#endif
