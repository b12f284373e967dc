/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * WS /api/v1/stream: captures and the daemon's status, live, as JSON text messages.
 *
 * To us:   {"subscribe":"capture","id":UUID,"format":"summary"|"raw","rate":N,"bytes":N}
 *          {"unsubscribe":"capture","id":UUID}
 *          {"subscribe":"status"}  {"unsubscribe":"status"}
 * From us: {"event":"subscribed"|"unsubscribed",...}   the answer to each
 *          {"event":"error","status":404,"field":"id","detail":"..."}
 *          {"event":"packets","id":UUID,"skipped":n,"packets":[...]}
 *          {"event":"rates","id":UUID,...,"ledger":{...}}   once a second
 *          {"event":"status","time":T,"status":{...},"captures":[...],"ports":[...]}   once a second
 *          {"event":"end","id":UUID,"reason":"...","delivered":n,"skipped":n}
 *
 * A subscription gets at most rate packets a second, evenly chosen; those that it does not get, for
 * that reason or because its reader is slow, are in "skipped". Control thread only.
 */
#ifndef API_STREAM_H
#define API_STREAM_H

#include "config/config.h"

#define STREAM_RATE          1000  /* packets a second of a subscription that asks for no other */
#define STREAM_RATE_MAX      10000 /* of one subscription */
#define STREAM_RATE_SUM      20000 /* of all of them: they share it evenly */
#define STREAM_BYTES         2048  /* of a raw packet's data, where no other number is asked for */
#define STREAM_BYTES_MAX     16384
#define STREAM_SUBSCRIPTIONS 32 /* of one connection */
#define STREAM_PROTOCOL      "sluice.v1"

struct event_base;
struct request;

void stream_start(const struct config *config, struct event_base *base);
void stream_stop(void);

/* The route's handler. */
void stream_handle(struct request *request);

#endif
