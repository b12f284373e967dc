/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The RX lcores: poll queues in bursts, offer each burst to the lanes of the port's taps, give the
 * packets back. They read one RCU pointer a round and are told nothing else.
 */
#ifndef ENGINE_RX_H
#define ENGINE_RX_H

#include "config/config.h"
#include "config/err.h"

struct engine_lcore;

/* Main thread, after rx_set_assign: one lcore per configured CPU, EAL lcore ids 1, 2, ... */
int rx_start(const struct config_cpus *cpus, uint64_t durable_every_ms, struct err *err);
/* Main thread: returns when every lcore has left its loop. */
void rx_stop(void);

unsigned rx_count(void);
/* Any thread: end the lcores' naps, a new rx_set is there. */
void rx_wake(void);
/* Any thread. */
void rx_status(unsigned index, struct engine_lcore *status);

#endif
