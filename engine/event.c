/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/event.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int fd = -1;

int event_open(void)
{
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fd >= 0 ? 0 : -errno;
}

void event_close(void)
{
	if (fd >= 0)
		close(fd);
	fd = -1;
}

int event_fd(void)
{
	return fd;
}

void event_raise(void)
{
	/* Fails only when it is raised already, 2^64 - 2 times. */
	eventfd_write(fd, 1);
}

void event_clear(void)
{
	eventfd_t value;

	eventfd_read(fd, &value);
}
