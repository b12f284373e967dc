/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The daemon as a service: tell the service manager that it is ready or stopping, and feed its
 * watchdog for as long as every lcore and writer moves. Nothing happens where nobody asked
 * (NOTIFY_SOCKET, WATCHDOG_USEC). Control thread only.
 */
#ifndef CONTROL_SERVICE_H
#define CONTROL_SERVICE_H

#include <stdint.h>

struct event_base;

/* Everything is up: captures can be asked for. Starts feeding the watchdog. 0 or -ENOMEM. */
int service_ready(struct event_base *base);

/* How often the service manager's watchdog was fed, and how often it was not because a core did not move.
 * The same struct with each call. */
struct service_watchdog {
	uint64_t fed;
	uint64_t held;
};
const struct service_watchdog *service_watchdog(void);

/* The loop has ended; captures are being closed. */
void service_stopping(void);

#endif
