/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Small texts: networks, base64, UUIDs, RFC 3339 times. What is understood, written anew, is the same. And
 * addresses: those that nobody may make us connect to are refused, however they are wrapped.
 */
#include "fuzz.h"

#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "api/base64.h"
#include "api/rfc3339.h"
#include "config/network.h"
#include "control/s3_address.h"
#include "control/uuid.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	return 0;
}

static void network_check(const char *text)
{
	struct network network, again;
	char address[INET6_ADDRSTRLEN], printed[INET6_ADDRSTRLEN + 8];

	if (!network_parse(text, &network))
		return;
	fuzz_check(network.family == AF_INET || network.family == AF_INET6);
	fuzz_check(network.bits <= (network.family == AF_INET ? 32 : 128));
	fuzz_check(inet_ntop(network.family, network.byte, address, sizeof(address)) != NULL);
	snprintf(printed, sizeof(printed), "%s/%u", address, network.bits);
	fuzz_check(network_parse(printed, &again));
	fuzz_check(network_has(&network, &again) && network_has(&again, &network));
}

static void base64_check(const char *text, const uint8_t *data, size_t size)
{
	char *printed = malloc(BASE64_LEN(size) + 1);
	uint8_t *read = malloc(size + 1);

	fuzz_check(printed != NULL && read != NULL);
	base64_print(data, size, printed);
	fuzz_check(base64_parse(printed, read, size) == (long)size);
	fuzz_check(size == 0 || memcmp(read, data, size) == 0);
	fuzz_check(base64_parse(text, read, size) <= (long)size);
	free(printed);
	free(read);
}

static bool refused(const uint8_t *address, size_t size, bool allow_all)
{
	static const struct config_list none, all = {.n = 2, .item = {"0.0.0.0/0", "::/0"}};
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (size == 4)
		memcpy(&v4.sin_addr, address, 4);
	else
		memcpy(&v6.sin6_addr, address, 16);
	return s3_address_refused(allow_all ? &all : &none,
		       size == 4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6) != NULL;
}

static bool never4(uint32_t a)
{
	return a >> 24 == 0 || a >> 28 >= 14 || a >> 16 == 0xa9fe;
}

static bool private4(uint32_t a)
{
	return a >> 24 == 10 || a >> 24 == 127 || a >> 20 == 0xac1 || a >> 16 == 0xc0a8 ||
	       a >> 22 == 0x6440 >> 6;
}

static void address4_check(const uint8_t *address)
{
	static const struct {
		uint8_t before[12];
		unsigned at;
	} wraps[] = {{{[10] = 0xff, [11] = 0xff}, 12}, {{0, 0x64, 0xff, 0x9b}, 12}, {{0x20, 2}, 2}};
	uint8_t wrapped[16];
	uint32_t a;

	memcpy(&a, address, sizeof(a));
	a = ntohl(a);
	fuzz_check(refused(address, 4, false) || (!never4(a) && !private4(a)));
	fuzz_check(refused(address, 4, true) || !never4(a));
	for (unsigned i = 0; i < sizeof(wraps) / sizeof(wraps[0]); i++) {
		memset(wrapped, 0, sizeof(wrapped));
		memcpy(wrapped, wraps[i].before, sizeof(wraps[i].before));
		memcpy(wrapped + wraps[i].at, address, 4);
		fuzz_check(refused(wrapped, 16, false) == refused(address, 4, false));
		fuzz_check(refused(wrapped, 16, true) == refused(address, 4, true));
	}
}

static void address6_check(const uint8_t *address)
{
	const bool local = (address[0] == 0xfe && address[1] >= 0x80) || address[0] == 0xff;
	const bool private = (address[0] & 0xfe) == 0xfc;

	fuzz_check(refused(address, 16, false) || (!local && !private));
	fuzz_check(refused(address, 16, true) || !local);
	/* What is allowed by nobody's leave is allowed by everybody's, too. */
	fuzz_check(refused(address, 16, false) || !refused(address, 16, true));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), printed[UUID_TEXT_SIZE], time[RFC3339_SIZE];
	uint64_t ns, again_ns;
	struct uuid id, again;

	network_check(text);
	if (size == 4)
		address4_check(data);
	if (size == 16)
		address6_check(data);
	base64_check(text, data, size);
	if (uuid_parse(text, size, &id)) {
		uuid_print(&id, printed);
		fuzz_check(uuid_parse(printed, strlen(printed), &again));
		fuzz_check(memcmp(&id, &again, sizeof(id)) == 0);
	}
	if (rfc3339_parse(text, &ns)) {
		rfc3339_print(ns, 9, time);
		fuzz_check(rfc3339_parse(time, &again_ns) && again_ns == ns);
	}
	free(text);
	return 0;
}
