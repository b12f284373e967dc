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

struct control_status {
	uint64_t uptime_ns;
	uint64_t storage_size_bytes;
	uint64_t storage_used_bytes; /* by Sluice */
	uint64_t storage_quota_bytes;
	uint64_t at_risk_packets; /* written and not yet durable, all sessions */
	uint64_t at_risk_bytes;
	const char
		*bottleneck; /* NULL, "nic", "rx_core", "blocks" or "disk": over the last seconds */
};
void control_status(struct control_status *status);

#endif
