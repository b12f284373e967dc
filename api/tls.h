/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * TLS 1.2 and 1.3 for the server's connections: certificate, key and the authorities that sign clients'
 * certificates, read at start and again when told. Control thread; files are read before the loop, or by a
 * worker. The only file pair that knows libssl.
 *
 * What is not there: older versions, compression, renegotiation, resumption (so no ticket key outlives a
 * connection and no client skips the check of its certificate), early data, HTTP/2.
 */
#ifndef API_TLS_H
#define API_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

struct bufferevent;
struct event_base;

/* Before the loop: read the files that config names, if it names any. 0, or what is wrong with them. */
int tls_start(const struct config *config, struct err *err);
void tls_stop(void);

/* Does config name a certificate: does every address speak TLS? */
bool tls_enabled(void);

/*
 * Read the files again. Connections that begin afterwards see what is in them then; those that are there
 * go on. Files that are no good change nothing and are an error in the log.
 */
void tls_reload(void);

/*
 * A connection that waits for the client's handshake, around a socket that it owns; NULL: no memory. A high
 * watermark of its input must not be reached: libevent 2.1 would forget what libssl holds.
 */
struct bufferevent *tls_accept(struct event_base *base, int fd);

/* Say that nothing more comes, so that the peer can tell an end from a cut. */
void tls_goodbye(struct bufferevent *bev);

struct tls_status {
	uint64_t reloads, reloads_failed;
	int64_t expires_s; /* the certificate, since 1970 */
};
void tls_status(struct tls_status *status);

#endif
