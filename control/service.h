/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The daemon as a service: tell the service manager that it is ready or stopping, and feed its
 * watchdog for as long as every lcore and writer moves. Nothing happens where nobody asked
 * (NOTIFY_SOCKET, WATCHDOG_USEC). Control thread only.
 */
#ifndef CONTROL_SERVICE_H
#define CONTROL_SERVICE_H

struct event_base;

/* Everything is up: captures can be asked for. Starts feeding the watchdog. 0 or -ENOMEM. */
int service_ready(struct event_base *base);

/* The loop has ended; captures are being closed. */
void service_stopping(void);

#endif
