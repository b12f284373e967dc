/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The first packets of a closed capture as a JSON array. The read worker reads and decodes piece by
 * piece, so that downloads get their turn in between; the control thread never touches the file.
 */
#ifndef API_SUMMARY_H
#define API_SUMMARY_H

#include "config/json.h"
#include "control/packet.h"
#include "control/session.h"

/* Read worker: one packet as JSON, in the words of a dialect. */
typedef json_t *summary_packet(const struct packet_summary *packet);
/* Control thread: the array, which is the receiver's. */
typedef void summary_done(json_t *packets, void *arg);

/*
 * At most n_max packets, numbered from 1. A session without a file, or whose file goes meanwhile, has
 * none; what cannot be read ends the array. done is never called before this returns.
 */
void summary_read(const struct session *session, unsigned n_max, summary_packet *packet,
	summary_done *done, void *arg);

#endif
