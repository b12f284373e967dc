/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * GET /captures/{id}/live: a running capture as pcapng without end, from now on: section and
 * interface blocks, then packet blocks as they come, until the capture ends. Packets that were
 * skipped, because the client takes them too slowly or too many came at once, stand in the
 * epb_dropcount of the next packet, whose interface they need not be of; those after the last in the
 * isb_osdrop of statistics at the end.
 *
 * As text it is a line per packet, as tcpdump prints it, behind the time in UTC; at most
 * LIVE_LINES_MAX a second, and a line that says how many packets were left out. Control thread only.
 */
#ifndef API_LIVE_H
#define API_LIVE_H

#define LIVE_MAX        32        /* at one time; one more is answered 503 */
#define LIVE_BUFFER_MAX (4 << 20) /* bytes held for a client */

#define LIVE_LINES_MAX 10000 /* a second, as text */

enum live_format { LIVE_PCAPNG, LIVE_TEXT };

struct request;
struct session;

/* The caller has checked that the session may be read. */
void live_start(struct request *request, struct session *session, enum live_format format);

#endif
