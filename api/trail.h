/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What goes into the audit log, and how it reads: one JSON object a line for every answer to a request
 * that changes something or is answered with packets, and for those that were refused for who asked.
 *
 *   {"time":"2026-01-02T03:04:05.678Z","event":"change","who":"ann","role":"operator","account":"*",
 *    "address":"192.0.2.7","dialect":"native","method":"POST","route":"/api/v1/captures",
 *    "target":"6f1c...","status":201}
 *
 * event: start, change, download, refused. Control thread only.
 */
#ifndef API_TRAIL_H
#define API_TRAIL_H

struct request;

/* Refused requests: so many lines at once, then one a second; those between are "suppressed". */
#define TRAIL_BURST 20

void trail_start(void);
void trail_stop(void);

/* The server's word that the answer to request has this status. */
void trail_answered(const struct request *request, int status);

#endif
