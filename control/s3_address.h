/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which addresses a bucket's endpoint may have, judged when a socket is about to connect, so that no
 * name can resolve to another one later. Pure; any thread.
 */
#ifndef CONTROL_S3_ADDRESS_H
#define CONTROL_S3_ADDRESS_H

#include <sys/socket.h>

#include "config/config.h"

/*
 * NULL: it may be connected to. Else why not, for a sentence ("loopback, which [bucket] allow does not
 * name"). Link-local (the clouds' metadata), multicast, broadcast and unspecified addresses never are;
 * private ones, loopback and the like only in a network of allow. IPv4 in IPv6 is judged as what it is.
 */
const char *s3_address_refused(const struct config_list *allow, const struct sockaddr *address);

#endif
