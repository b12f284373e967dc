/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * /api-ws/v1/stream: the packets of running Mist captures as messages, one each, to whoever has
 * subscribed to their site or organisation. Control thread only.
 *
 * A capture's last messages are kept once for all subscribers; each has a place in them. Who reads
 * slowly falls behind, and out of them at last: what he missed is told in lost_messages of the next
 * message. So a subscriber costs its socket's buffer and a place, read or not.
 */
#ifndef API_MIST_STREAM_H
#define API_MIST_STREAM_H

#include "config/config.h"
#include "control/session.h"
#include "api/request.h"

#define MIST_REPLAY_MESSAGES 2000
#define MIST_REPLAY_S        10
#define MIST_REPLAY_BYTES    (4 * 1024 * 1024) /* of packets and messages, per capture */
#define MIST_CHANNELS_MAX    2000              /* per connection, as the vendor has it */

void mist_stream_start(const struct config *config);
/* Everything is given back; connections are closed before. */
void mist_stream_stop(void);

/* A handshake; the request is over. */
void mist_stream_open(struct request *request);

/* A capture begins: keep its messages from its first packet on. A session_spec's begins. */
void mist_stream_feed(struct session *session);

#endif
