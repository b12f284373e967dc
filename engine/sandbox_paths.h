/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Landlock: which paths may be opened for what, from here on, by this thread and those that it makes,
 * whoever they run as. Called while there is one thread. Landlock by hand: the only file pair that knows it.
 */
#ifndef ENGINE_SANDBOX_PATHS_H
#define ENGINE_SANDBOX_PATHS_H

#include <stdbool.h>

#include "config/config.h"

/* These can be read, if they are there; no other path can be opened, made or executed. False: the kernel
 * has no such wall. */
bool sandbox_paths_read(const char *const *paths, unsigned n);

/*
 * Files are read as the user may, and written, made, renamed and removed beneath the storage root (which is
 * made if its parent is there), beside the token file and where the ports' devices need it, and nowhere
 * else; none is executed. False: the kernel has no such wall, or one that knows no renaming between
 * directories (before Linux 5.19).
 */
bool sandbox_paths_write(const struct config *config);

#endif
