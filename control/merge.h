/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Long work on files that nobody writes any more: join lanes into one time-ordered capture, rescue
 * what a crash left, rewrite pcapng as classic pcap. Bulk worker; nice +10.
 */
#ifndef CONTROL_MERGE_H
#define CONTROL_MERGE_H

#include <stdint.h>

#include "config/err.h"
#include "control/uuid.h"

/*
 * Merge UUID.open's lanes by (time, lane) into capture.pcapng: header of lane 0, packet blocks
 * verbatim, then trailer. Then the record is written and the directory renamed. Restartable: a
 * checkpoint is kept, consumed ranges of the lanes are punched so that the disk need never hold both
 * copies; a call after a kill at any point goes on and ends in the same bytes. The trailer is kept in
 * UUID.open/trailer, so that a restart needs only the id. 0 or -errno.
 */
int merge_run(const struct uuid *id, const char *record, uint64_t *size_bytes);
/* Storage worker, before merge_run: keep what a restart needs. */
int merge_prepare(const struct uuid *id, const void *trailer, uint64_t trailer_len);
/* A merge that was prepared and not finished is there. */
int merge_pending(const struct uuid *id);

/*
 * After a crash: for each lane find the end of its last whole block before the first zero or bad one,
 * cut there, count packets and captured bytes, and per interface. Then finish or merge as usual with
 * trailer made from these counts.
 */
struct merge_recovery {
	uint64_t packets;
	uint64_t captured_bytes;
	uint64_t drops_recorded; /* sum of epb_dropcount */
	uint64_t first_ns, last_ns;
	uint64_t size_bytes;
};
int merge_recover(const struct uuid *id, struct merge_recovery *recovery, struct err *err);

#endif
