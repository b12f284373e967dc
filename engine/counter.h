/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Counters with one writer and any number of readers: 64 bits, never reset. Release and acquire
 * keep the order in which they were written (free on x86-64), so that a reader who reads downstream
 * first never sees more written than accepted.
 */
#ifndef ENGINE_COUNTER_H
#define ENGINE_COUNTER_H

#define COUNTER_ADD(counter, n)     __atomic_store_n(&(counter), (counter) + (n), __ATOMIC_RELEASE)
#define COUNTER_SET(counter, value) __atomic_store_n(&(counter), (value), __ATOMIC_RELEASE)
#define COUNTER_READ(counter)       __atomic_load_n(&(counter), __ATOMIC_ACQUIRE)

#endif
