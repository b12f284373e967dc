/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "config/network.h"

static const struct {
	const char *network;
	const char *name;
} kinds[] = {
	{"0.0.0.0/8", "not an address to send to"},
	{"127.0.0.0/8", "loopback"},
	{"169.254.0.0/16", "link-local"},
	{"224.0.0.0/4", "multicast"},
	{"240.0.0.0/4", "reserved or broadcast"},
	{"::/128", "not an address to send to"},
	{"::1/128", "loopback"},
	{"::ffff:0:0/96", "an IPv4 address in IPv6's clothes"},
	{"fe80::/10", "link-local"},
	{"ff00::/8", "multicast"},
};

static bool allowed(const struct config *config, const struct network *address,
	const struct network *kind, bool own);
static bool address_is_own(const struct sockaddr_storage *to);

int stream_check(const struct session_spec *spec, const struct config *config, struct err *err)
{
	const char *address = spec->stream_address != NULL ? spec->stream_address : "";
	const struct network *kind = NULL;
	const char *name = NULL;
	struct sockaddr_storage to;
	struct network one, other;
	bool own;

	if (!network_parse(address, &one) || strchr(address, '/') != NULL)
		return err_set(err, EINVAL, "output.address",
			"must be an IPv4 or IPv6 address, not \"%.60s\"", address);
	if (spec->stream_port > UINT16_MAX)
		return err_set(err, EINVAL, "output.port",
			"%u is out of range: 1 to 65535, or 0 for the usual one",
			spec->stream_port);
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && kind == NULL; i++)
		if (network_parse(kinds[i].network, &other) && network_has(&other, &one)) {
			kind = &other;
			name = kinds[i].name;
		}
	stream_target(address, spec->stream_port, spec->encapsulation, &to);
	own = address_is_own(&to);
	if (allowed(config, &one, kind, own))
		return 0;
	return err_set(err, EINVAL, "output.address",
		"%s is not among the networks that [stream] allow names%s%s", address,
		name != NULL ? ": "
		: own        ? ": "
			     : "",
		name != NULL ? name
		: own        ? "this host itself"
			     : "");
}

void stream_target(const char *address, unsigned port, enum stream_encapsulation encapsulation,
	struct sockaddr_storage *to)
{
	const uint16_t number =
		htons(port != 0 ? port : sink_stream_encapsulation_port(encapsulation));
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = number;
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = number;
	}
}

static bool allowed(const struct config *config, const struct network *address,
	const struct network *kind, bool own)
{
	const struct config_list *list = &config->stream.allow;

	for (unsigned i = 0; i < list->n; i++) {
		struct network network;

		if (!network_parse(list->item[i], &network) || !network_has(&network, address))
			continue;
		if (kind != NULL && !network_has(kind, &network))
			continue;
		/* Loopback is always this host's own, and was meant when it was allowed. */
		if (own && kind == NULL && !network_is_address(&network))
			continue;
		return true;
	}
	return false;
}

/* The kernel would send to it from itself. Nothing is sent by this. */
static bool address_is_own(const struct sockaddr_storage *to)
{
	const bool v6 = to->ss_family == AF_INET6;
	const socklen_t to_len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int fd = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
	struct sockaddr_storage from = {0};
	socklen_t len = sizeof(from);
	bool own = false;

	if (fd >= 0 && connect(fd, (const struct sockaddr *)to, to_len) == 0 &&
		getsockname(fd, (struct sockaddr *)&from, &len) == 0)
		own = v6 ? memcmp(&((struct sockaddr_in6 *)&from)->sin6_addr,
				   &((const struct sockaddr_in6 *)to)->sin6_addr, 16) == 0
			 : ((struct sockaddr_in *)&from)->sin_addr.s_addr ==
				      ((const struct sockaddr_in *)to)->sin_addr.s_addr;
	if (fd >= 0)
		close(fd);
	return own;
}
