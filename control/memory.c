/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/memory.h"

#include <stdlib.h>
#include <unistd.h>

#include "config/log.h"

void *memory_get(size_t size)
{
	for (unsigned i = 0; i < MEMORY_TRIES; i++) {
		void *memory = calloc(1, size);

		if (memory != NULL)
			return memory;
		usleep(MEMORY_WAIT_US);
	}
	log_error("there is no memory even for %zu bytes", size);
	abort();
}
