/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The smallest EAL that a unit test can have: no hugepages, no devices, no files that another
 * process could see, so that tests run beside each other and beside a daemon.
 */
#ifndef TESTS_UNIT_EAL_FIXTURE_H
#define TESTS_UNIT_EAL_FIXTURE_H

#include <stddef.h>

#include <rte_eal.h>
#include <rte_log.h>
#include <rte_mbuf.h>

/* 0, or -1 when EAL does not start. Once a process. */
static inline int eal_fixture_start(void)
{
	static char *argv[] = {"test", "--no-huge", "-m", "64", "--no-pci", "--no-shconf",
		"--no-telemetry", "-l", "0", "--log-level=error", NULL};

	return rte_eal_init((int)(sizeof(argv) / sizeof(argv[0])) - 1, argv) < 0 ? -1 : 0;
}

/* A pool whose mbufs hold room bytes each. NULL when there is no memory. */
static inline struct rte_mempool *eal_fixture_pool(const char *name, unsigned n, uint16_t room)
{
	return rte_pktmbuf_pool_create(
		name, n, 0, 0, (uint16_t)(room + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
}

#endif
