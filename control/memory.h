/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Memory for what cannot be refused: the end of a capture, its record, those who wait for it. Small
 * pieces, not for packets. Any thread of control; it may wait.
 */
#ifndef CONTROL_MEMORY_H
#define CONTROL_MEMORY_H

#include <stddef.h>

/* So often, with so much time between. */
#define MEMORY_TRIES   100
#define MEMORY_WAIT_US 10000

/*
 * size zeroed bytes, for free(). Where there are none now it asks again for up to a second; then the
 * process ends, and the next one recovers what ran. Never NULL.
 */
void *memory_get(size_t size);

#endif
