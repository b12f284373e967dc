/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * An address is one time: when all that it showed will be forgotten. Every wrong secret moves it one
 * period further; more than a burst of periods ahead is too many. A table of small sets: who finds no
 * free place takes that of the address which is forgotten first, so that a flood of addresses leaves
 * the worst ones in, and meets the bound for all.
 */
#include "api/guard.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

#define WAYS     4
#define SETS     (GUARD_ADDRESSES_MAX / WAYS)
#define NS_PER_S 1000000000ULL
#define MS       1000000ULL

struct place {
	uint64_t key;
	uint64_t until_ns;
};

static struct {
	uint64_t seed; /* so that nobody chooses who shares his set */
	uint64_t until_ns;
	struct guard_status status;
	struct place places[SETS][WAYS];
} guard;

static uint64_t key_of(const char *peer);
static struct place *place_of(uint64_t key, uint64_t now_ns);
static unsigned step(uint64_t *until_ns, uint64_t now_ns, uint64_t period_ns, unsigned burst);

void guard_start(void)
{
	memset(&guard, 0, sizeof(guard));
	if (getrandom(&guard.seed, sizeof(guard.seed), 0) != sizeof(guard.seed))
		guard.seed = 0;
	guard.seed |= 1;
}

unsigned guard_wrong(const char *peer, uint64_t now_ns)
{
	struct place *place = place_of(key_of(peer), now_ns);
	unsigned own, all;

	own = step(&place->until_ns, now_ns, GUARD_PERIOD_MS * MS, GUARD_BURST);
	/* Who is over his own bound does not use up what is there for all. */
	all = own == 0 ? step(&guard.until_ns, now_ns, GUARD_PERIOD_ALL_MS * MS, GUARD_BURST_ALL)
		       : 0;
	guard.status.wrong++;
	guard.status.limited += own > 0 || all > 0;
	return own > all ? own : all;
}

void guard_status(struct guard_status *status)
{
	*status = guard.status;
}

static uint64_t key_of(const char *peer)
{
	struct in6_addr v6;
	struct in_addr v4;
	uint64_t key = 0;

	if (inet_pton(AF_INET, peer, &v4) == 1)
		key = 1ULL << 32 | v4.s_addr;
	else if (inet_pton(AF_INET6, peer, &v6) == 1)
		memcpy(&key, &v6, sizeof(key));
	return key;
}

static struct place *place_of(uint64_t key, uint64_t now_ns)
{
	struct place *set = guard.places[(key * guard.seed >> 32) % SETS];
	struct place *first = &set[0];

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].key == key && set[i].until_ns > now_ns)
			return &set[i];
		if (set[i].until_ns < first->until_ns)
			first = &set[i];
	}
	*first = (struct place){.key = key};
	return first;
}

/* Seconds to wait, without counting this one; 0: it is counted. */
static unsigned step(uint64_t *until_ns, uint64_t now_ns, uint64_t period_ns, unsigned burst)
{
	const uint64_t base_ns = *until_ns > now_ns ? *until_ns : now_ns;
	const uint64_t most_ns = now_ns + (burst - 1) * period_ns;

	if (base_ns > most_ns)
		return (unsigned)((base_ns - most_ns + NS_PER_S - 1) / NS_PER_S);
	*until_ns = base_ns + period_ns;
	return 0;
}
