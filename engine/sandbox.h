/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What the program may still do once it runs, whoever runs it and whoever has taken it over. In two
 * steps: capabilities go before there is a second thread, for they are a thread's own; system calls and
 * memory dumps when all is up, for all threads. The compiler of filters has a cell of its own. Seccomp by
 * hand: the only file that knows it; what is done with paths is sandbox_paths.h's.
 */
#ifndef ENGINE_SANDBOX_H
#define ENGINE_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"

/* main, before the engine starts: keep the capabilities that the ports need; no exec gives any back; files
 * are written where the configuration says and nowhere else. 0 or -errno with err. */
int sandbox_prepare(const struct config *config, struct err *err);

/*
 * main, when everything runs: from here on every thread has only the system calls of the list; others
 * fail with EPERM and stand in the kernel's log, those that a daemon never makes end the process. No
 * core file, no debugger without privilege. 0 or -errno with err.
 */
int sandbox_enter(struct err *err);

/* Capabilities as bits, 1 << CAP_...: those of sandbox_prepare for this configuration. */
uint64_t sandbox_capabilities(const struct config *config);

/*
 * For the processes that compile filters: files can be read if they are the lists of ports' and
 * protocols' names, no other path can be opened; no sockets are made, nothing is executed. The process
 * may fork and wait. False: the kernel has no such walls (not an error).
 */
bool sandbox_compiler(void);

/* For one compilation: on top of that, nothing but memory, those files and an answer to fd. */
bool sandbox_compilation(int fd);

/* How many system calls the list has. */
unsigned sandbox_calls(void);

#endif
