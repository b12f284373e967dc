/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * GET /captures/{id}/packets: one page of a capture's packets as summaries. A read worker walks the
 * file (of a running capture: its lanes, one after another, up to what is written) and decodes; the
 * control thread only asks and answers.
 */
#ifndef API_PACKETS_H
#define API_PACKETS_H

#include <stdint.h>

#define PACKETS_LIMIT 100 /* on a page, where nothing else is asked for */
#define PACKETS_MAX   1000

struct request;
struct session;

/* Answer with the packets offset.., at most limit. The caller has checked that there is a file. */
void packets_start(
	struct request *request, const struct session *session, uint64_t offset, uint64_t limit);

#endif
