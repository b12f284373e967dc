/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Where a capture may send its packets. Control thread.
 */
#ifndef CONTROL_STREAM_H
#define CONTROL_STREAM_H

#include <sys/socket.h>

#include "config/config.h"
#include "config/err.h"
#include "control/session.h"

/*
 * Judge spec's address and port by [stream] allow. What is loopback, link-local, multicast or reserved is
 * allowed only by a network that is all of that kind, this host's own addresses only one by one. 0, or
 * -EINVAL with err ("output.address", "output.port").
 */
int stream_check(const struct session_spec *spec, const struct config *config, struct err *err);

/* Address (good) and port as the kernel wants them; port 0: the encapsulation's own. */
void stream_target(const char *address, unsigned port, enum stream_encapsulation encapsulation,
	struct sockaddr_storage *to);

#endif
