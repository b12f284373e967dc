/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * How the engine wakes control: one eventfd. Raised when a tap's end is raised, when a tap has
 * drained and when a grace period is over; never per packet or per block.
 */
#ifndef ENGINE_EVENT_H
#define ENGINE_EVENT_H

int event_open(void); /* main thread; 0 or -errno */
void event_close(void);
int event_fd(void);
void event_raise(void); /* any thread */
void event_clear(void); /* control thread */

#endif
