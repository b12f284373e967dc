/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * GET /captures/{id}/packets: one page of a capture's packets as summaries, all of them or those that
 * have some words; GET /captures/{id}/packets/{number}: one with its layers and bytes; POST
 * /packets/decode: the layers of bytes that somebody has. A read worker walks the file (of a running
 * capture: its lanes, one after another, up to what is written) in short jobs, so that downloads get their
 * turn, and remembers of closed files where every MARK_EVERY-th packet stands. The control thread only asks
 * and answers.
 */
#ifndef API_PACKETS_H
#define API_PACKETS_H

#include <stdint.h>

#include "api/packet_words.h"

#define PACKETS_LIMIT 100 /* on a page, where nothing else is asked for */
#define PACKETS_MAX   1000

struct request;
struct session;

struct packets_query {
	uint64_t offset;
	uint64_t limit;
	struct packet_words words;
	bool whole; /* one packet, with layers and bytes; 404 when it is not there */
};

/* Answer with the packets offset.., at most limit. The caller has checked that there is a file. */
void packets_start(
	struct request *request, const struct session *session, const struct packets_query *query);

/* The route's handler: layers of the frame in the body. */
void packets_decode(struct request *request);

#endif
