/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Against guessing: how often an address, and all together, may show credentials that are wrong. It
 * never says no to right ones, so nobody is locked out by somebody else's guesses, nor by his own. The
 * memory is fixed. Control thread only.
 */
#ifndef API_GUARD_H
#define API_GUARD_H

#include <stdint.h>

/* Wrong credentials at once, and seconds until the next one is answered as such. */
#define GUARD_BURST         20
#define GUARD_PERIOD_MS     3000
#define GUARD_BURST_ALL     1000
#define GUARD_PERIOD_ALL_MS 50
#define GUARD_ADDRESSES_MAX 4096

void guard_start(void);

/*
 * peer showed wrong credentials. 0: say so; else too many have come, from there or in all, and this
 * is after how many seconds it is asked to try again. Of IPv6 the first 64 bits count as an address.
 */
unsigned guard_wrong(const char *peer, uint64_t now_ns);

struct guard_status {
	uint64_t wrong;   /* credentials that were no valid token's */
	uint64_t limited; /* of them, those that were too many */
};
void guard_status(struct guard_status *status);

#endif
