/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/route.h"

#include <net/route.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* From linux/ipv6_route.h and net/route.h: "this destination is refused". */
#define ROUTE_REJECT 0x0200

struct route {
	char name[32];
	unsigned flags;
	unsigned metric;
	bool is_default;
};

static bool ipv4_parse(const char *line, struct route *route);
static bool ipv6_parse(const char *line, struct route *route);
static bool table_best(
	const char *path, bool (*parse)(const char *line, struct route *route), struct route *best);

void route_default(const char *ipv4_path, const char *ipv6_path, char *name, size_t size)
{
	struct route best;

	if (table_best(ipv4_path, ipv4_parse, &best) || table_best(ipv6_path, ipv6_parse, &best))
		snprintf(name, size, "%s", best.name);
	else
		snprintf(name, size, "lo");
}

static bool table_best(
	const char *path, bool (*parse)(const char *line, struct route *route), struct route *best)
{
	FILE *file = fopen(path, "re");
	struct route route;
	bool found = false;
	char line[512];

	if (file == NULL)
		return false;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (!parse(line, &route) || !route.is_default || (route.flags & RTF_UP) == 0 ||
			(route.flags & ROUTE_REJECT) != 0 || strcmp(route.name, "lo") == 0)
			continue;
		if (!found || route.metric < best->metric)
			*best = route;
		found = true;
	}
	fclose(file);
	return found;
}

/* Iface Destination Gateway Flags RefCnt Use Metric Mask ... */
static bool ipv4_parse(const char *line, struct route *route)
{
	unsigned destination, mask;

	if (sscanf(line, "%31s %x %*x %x %*d %*d %u %x", route->name, &destination, &route->flags,
		    &route->metric, &mask) != 5)
		return false;
	route->is_default = destination == 0 && mask == 0;
	return true;
}

/* Destination prefix Source prefix Next-hop Metric RefCnt Use Flags Iface */
static bool ipv6_parse(const char *line, struct route *route)
{
	unsigned prefix;

	if (sscanf(line, "%*32s %x %*32s %*x %*32s %x %*x %*x %x %31s", &prefix, &route->metric,
		    &route->flags, route->name) != 4)
		return false;
	route->is_default = prefix == 0 && strspn(line, "0") == 32;
	return true;
}
