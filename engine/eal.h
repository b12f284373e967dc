/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * DPDK's environment layer: its arguments are made from the configuration, nothing else is passed.
 */
#ifndef ENGINE_EAL_H
#define ENGINE_EAL_H

#include <stdbool.h>

#include "config/config.h"
#include "config/err.h"

/*
 * Main thread. The calling thread becomes lcore 0 on engine.main_cpu; RX lcores are 1, 2, ... on
 * engine.rx_cpus. *huge says whether memory stands on hugepages: auto takes them when enough are
 * free, and waits up to 3 s for those of a process that just ended.
 */
int eal_start(const struct config *config, bool *huge, struct err *err);
void eal_stop(void);

#endif
