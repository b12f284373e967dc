/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Long work on files that nobody writes any more: join lanes into one time-ordered capture, rescue
 * what a crash left. Bulk worker; nice +10.
 *
 *   after store_finish returned 1:  merge_prepare, merge_run
 *   at start, each UUID.open:       merge_pending? merge_run(id, NULL)
 *                                   else merge_recover, merge_run(id, record made from the
 * recovery)
 */
#ifndef CONTROL_MERGE_H
#define CONTROL_MERGE_H

#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "control/uuid.h"
#include "engine/ledger.h"

/*
 * Merge UUID.open's lanes by (time, lane) into capture.pcapng: header of lane 0, packet blocks
 * verbatim, then the prepared trailer; a single lane with packets is not rewritten. Then the
 * directory is renamed. The record is written first, before anything is consumed, so that a restart
 * finds it (NULL: keep the one that is there). Restartable: a checkpoint is kept, consumed ranges
 * of the lanes are punched so that the disk need never hold both copies; a call after a kill at any
 * point goes on and ends in the same bytes; a call after the end says 0 again. 0; -EBADMSG: a lane
 * is damaged (it stays as it is); -ENOSPC; -ECANCELED; or -errno.
 */
int merge_run(const struct uuid *id, const char *record, uint64_t *size_bytes);
/* Storage or bulk worker, lanes cut to their length, before merge_run: keep what a restart needs.
 * The trailer's durable copy is in UUID.open/merge. 0 or -errno. */
int merge_prepare(const struct uuid *id, const void *trailer, uint64_t trailer_len);
/* 1: prepared and not finished: merge_run goes on. 0: no. */
int merge_pending(const struct uuid *id);

/* Any thread, once: the process ends. What runs returns -ECANCELED soon, what is called later at once;
 * the next process goes on where they stopped. */
void merge_cancel(void);

/* Output between two checkpoints; less is taken when the disk is nearly full. Tests make it small.
 */
extern uint64_t merge_checkpoint_bytes;

/*
 * After a crash: for each lane find its whole blocks up to the first zero or bad one, and what is whole
 * behind that, where UUID.open/index names the begin of a packet; cut behind the last, count, and prepare
 * a merge with a trailer made from these counts (a whole trailer that is there already is kept). A
 * packet that may be torn, in the last page and never known to be durable, is left out. Waits until no write of a dead process is in flight any more.
 * merge_run follows; until then it may be called again and says the same. 0 (err->code is EIO when
 * bytes that were durable once are missing: finish it all the same, and tell), or -errno with err:
 * -EBADMSG, no lane has a readable header; -EBUSY, somebody still writes.
 */
struct merge_recovery {
	uint64_t packets;
	uint64_t captured_bytes;
	uint64_t drops_recorded; /* sum of epb_dropcount, but for what the gaps add */
	uint64_t first_ns, last_ns;
	uint64_t size_bytes;    /* of the file that merge_run will make */
	uint64_t missing_bytes; /* durable once, by UUID.open/state, and not readable now */
	uint64_t n_gaps;
	uint64_t gap_packets; /* lost in them */
	uint64_t gap_bytes;
	uint64_t rescued; /* of packets: behind the first gap of their lane */
	/*
	 * The session's books: exact as far as they were noted before the crash or stand in the files.
	 * Of what was accepted and is not in the files, what stood in gaps is dropped[writer_stopped];
	 * the rest is unknown, at least unknown and at most unknown_max.
	 */
	struct ledger ledger;
	/* merge_count only: the interfaces' names */
	unsigned n_ports;
	char port_names[CONFIG_PORTS_MAX][CONFIG_NAME_MAX];
};
int merge_recover(const struct uuid *id, struct merge_recovery *recovery, struct err *err);

/*
 * Of a closed capture whose record is not to be believed: what its file says. -ENOENT: there is no file
 * (any more); err->code EIO: it is damaged, what is before that was counted.
 */
int merge_count(const struct uuid *id, struct merge_recovery *recovery, struct err *err);

#endif
