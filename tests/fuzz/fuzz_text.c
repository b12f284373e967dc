/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Small texts: networks, base64, UUIDs, RFC 3339 times. What is understood, written anew, is the same.
 */
#include "fuzz.h"

#include <string.h>

#include <arpa/inet.h>

#include "api/base64.h"
#include "api/rfc3339.h"
#include "config/network.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), printed[UUID_TEXT_SIZE], time[RFC3339_SIZE];
	uint64_t ns, again_ns;
	struct uuid id, again;

	network_check(text);
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
