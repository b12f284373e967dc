/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What the control thread tells about the whole: storage use, risk, the bottleneck. Control thread
 * only.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "control/admission.h"

struct ceiling;
struct event_base;
struct load;

struct control_status {
	uint64_t uptime_ns;
	uint64_t storage_size_bytes;
	uint64_t storage_used_bytes;  /* by Sluice */
	uint64_t storage_spare_bytes; /* of that: spares */
	uint64_t storage_quota_bytes;
	uint64_t storage_free_bytes; /* of the file system, for anybody */
	bool storage_held;           /* it is full, and captures wait for room */
	bool retention_paused; /* storage.keep removes nothing: the clock is not believed yet */
	const struct ceiling *ceiling; /* NULL: not measured; until the loop's next turn */
	uint64_t at_risk_packets;      /* accepted, not lost, not yet durable, all sessions */
	uint64_t at_risk_bytes;
	uint64_t at_risk_ns;               /* how long the oldest of them has been */
	uint64_t sync_failures;            /* captures that were given up because of one */
	uint64_t storage_stalled_since_ns; /* wall clock: it does not answer; 0 = it does */
	uint64_t storage_stalls;           /* how often it did not */
	uint64_t storage_stalled_ns;       /* how long, together; what goes on is not in it */
	const char *bottleneck;  /* NULL, "nic", "rx_core", "blocks" or "disk": the last seconds */
	const char *explanation; /* a sentence: of the bottleneck, or that there is none */
	uint64_t bottleneck_since_ns; /* wall clock; 0 = there is none */
	uint64_t watchdog_fed;  /* how often the service manager was told that all cores move */
	uint64_t watchdog_held; /* how often it was not, because one did not */
	struct admission_status admission;
	const struct load *load; /* the figures, valid until the next turn of the event loop */
};
void control_status(struct control_status *status);

/*
 * main, engine running: open the storage root, start the workers and the ports that always run, load
 * what is on disk. 0 or -errno with err; control_stop follows in each case.
 */
int control_start(const struct config *config, struct event_base *base, struct err *err);
/* main, the loop has ended: end running captures (reason shutdown), close their files, stop the workers.
 * Unfinished merges go on at the next start. -ETIMEDOUT: the storage does not answer and it is no use
 * to wait; threads hang in it, and nothing is left to do but to end the process as it is. */
int control_stop(void);

#endif
