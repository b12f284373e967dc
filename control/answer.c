/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/answer.h"

#include <stddef.h>

#include "engine/clock.h"

static __thread uint64_t *since;

void answer_watch(uint64_t *since_ns)
{
	since = since_ns;
}

void answer_note(void)
{
	if (since != NULL)
		__atomic_store_n(since, clock_monotonic_ns(), __ATOMIC_RELAXED);
}
