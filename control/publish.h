/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One publication for all changes of one turn of the control loop. Control thread only.
 */
#ifndef CONTROL_PUBLISH_H
#define CONTROL_PUBLISH_H

struct event_base;

/* Embedded in what waits; done is called once no lcore can see the state before the publication. */
struct publish_wait {
	void (*done)(struct publish_wait *wait);
	struct publish_wait *next;
};

int publish_init(struct event_base *base);
void publish_fini(void);

/* Publish at the end of this turn what engine_tap_*, engine_port_poll changed. wait may be NULL. */
void publish_soon(struct publish_wait *wait);

#endif
