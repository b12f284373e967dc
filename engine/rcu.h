/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * liburcu, QSBR flavour, for the program's one RCU pointer: the rx_set. Readers are the RX lcores:
 * registered by rx.c, quiescent once a round, offline around naps. The control thread is the only
 * updater; it is online only inside engine_commit, so it never holds up a grace period.
 */
#ifndef ENGINE_RCU_H
#define ENGINE_RCU_H

#define URCU_API_MAP
#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/urcu-qsbr.h>

#endif
