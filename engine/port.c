/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What both kinds of ports share: their queues and the names of what they promise.
 */
#include "engine/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int port_queues_new(struct port *port, unsigned n)
{
	size_t size = n * sizeof(*port->queues);

	port->queues = aligned_alloc(64, size);
	if (port->queues == NULL)
		return -ENOMEM;
	memset(port->queues, 0, size);
	for (unsigned i = 0; i < n; i++) {
		port->queues[i].port = port;
		port->queues[i].index = i;
		port->queues[i].wait_fd = -1;
	}
	port->n_queues = n;
	return 0;
}

void port_queues_free(struct port *port)
{
	free(port->queues);
	port->queues = NULL;
	port->n_queues = 0;
}

const char *port_loss_name(enum port_loss loss)
{
	static const char *const names[] = {
		[PORT_LOSS_EXACT] = "exact",
		[PORT_LOSS_LOWER_BOUND] = "lower_bound",
		[PORT_LOSS_NONE] = "none",
	};

	return names[loss];
}

const char *port_direction_name(enum port_direction direction)
{
	static const char *const names[] = {
		[PORT_DIRECTION_EXACT] = "exact",
		[PORT_DIRECTION_BY_MAC] = "by_mac",
		[PORT_DIRECTION_NONE] = "none",
	};

	return names[direction];
}
