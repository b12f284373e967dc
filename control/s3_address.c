/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/s3_address.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "config/network.h"

#define NOT_ALLOWED ", which allow does not name"

static const struct {
	const char *network;
	bool ever; /* where allow names it */
	const char *why;
} kinds[] = {
	{"0.0.0.0/8", false, "not an address to connect to"},
	{"169.254.0.0/16", false, "link-local"},
	{"100.100.100.200/32", false, "a cloud's metadata"},
	{"192.0.0.192/32", false, "a cloud's metadata"},
	{"168.63.129.16/32", false, "a cloud's metadata"},
	{"224.0.0.0/4", false, "multicast"},
	{"240.0.0.0/4", false, "reserved or broadcast"},
	{"127.0.0.0/8", true, "loopback" NOT_ALLOWED},
	{"10.0.0.0/8", true, "private" NOT_ALLOWED},
	{"100.64.0.0/10", true, "private" NOT_ALLOWED},
	{"172.16.0.0/12", true, "private" NOT_ALLOWED},
	{"192.0.0.0/24", true, "reserved" NOT_ALLOWED},
	{"192.168.0.0/16", true, "private" NOT_ALLOWED},
	{"198.18.0.0/15", true, "reserved" NOT_ALLOWED},
	{"::/128", false, "not an address to connect to"},
	{"fe80::/10", false, "link-local"},
	{"fec0::/10", false, "site-local"},
	{"ff00::/8", false, "multicast"},
	{"fd00:ec2::/32", false, "a cloud's metadata"},
	{"fd20:ce::/32", false, "a cloud's metadata"},
	{"::1/128", true, "loopback" NOT_ALLOWED},
	{"fc00::/7", true, "private" NOT_ALLOWED},
};

/* IPv4 addresses that stand in IPv6 ones: those of this prefix at this byte. */
static const struct {
	const char *network;
	unsigned at;
} carriers[] = {
	{"::ffff:0:0/96", 12}, /* mapped */
	{"64:ff9b::/96", 12},  /* NAT64 */
	{"2002::/16", 2},      /* 6to4 */
	{"::/96", 12},         /* compatible; :: and ::1 are judged before */
};

static bool address_take(const struct sockaddr *address, struct network *network);
static bool carried_take(struct network *network);
static const char *refused(const struct config_list *allow, const struct network *address);

const char *s3_address_refused(const struct config_list *allow, const struct sockaddr *address)
{
	struct network network;
	const char *why;

	if (!address_take(address, &network))
		return "not an IP address";
	why = refused(allow, &network);
	if (why == NULL && carried_take(&network))
		why = refused(allow, &network);
	return why;
}

static const char *refused(const struct config_list *allow, const struct network *address)
{
	struct network network;
	const char *why = NULL;
	bool ever = true;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && ever; i++)
		if (network_parse(kinds[i].network, &network) && network_has(&network, address)) {
			why = kinds[i].why;
			ever = kinds[i].ever;
		}
	for (unsigned i = 0; i < allow->n && why != NULL && ever; i++)
		if (network_parse(allow->item[i], &network) && network_has(&network, address))
			why = NULL;
	return why;
}

static bool address_take(const struct sockaddr *address, struct network *network)
{
	memset(network, 0, sizeof(*network));
	network->family = address->sa_family;
	if (address->sa_family == AF_INET) {
		network->bits = 32;
		memcpy(network->byte, &((const struct sockaddr_in *)address)->sin_addr, 4);
	} else if (address->sa_family == AF_INET6) {
		network->bits = 128;
		memcpy(network->byte, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
	} else {
		return false;
	}
	return true;
}

static bool carried_take(struct network *network)
{
	static const uint8_t one[16] = {[15] = 1};
	struct network carrier, inner = {.family = AF_INET, .bits = 32};

	if (network->family != AF_INET6 || memcmp(network->byte, one, sizeof(one)) == 0)
		return false;
	for (unsigned i = 0; i < sizeof(carriers) / sizeof(carriers[0]); i++)
		if (network_parse(carriers[i].network, &carrier) &&
			network_has(&carrier, network)) {
			memcpy(inner.byte, network->byte + carriers[i].at, 4);
			*network = inner;
			return true;
		}
	return false;
}
