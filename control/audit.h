/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * ROOT/audit.log: lines that are only ever added, by the storage worker, in the order in which the
 * control thread gave them; it never waits for them. Written at once and made durable within a second.
 * What cannot be written (a full disk) is counted and said; the service goes on. Text that comes here
 * is one line already.
 */
#ifndef CONTROL_AUDIT_H
#define CONTROL_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "config/err.h"

#define AUDIT_FILE      "audit.log"
#define AUDIT_QUEUE_MAX (1U << 20)     /* bytes not written yet; more is lost, and counted */
#define AUDIT_SIZE_MAX  (256ULL << 20) /* then it is renamed to audit.log.1, which goes */

struct event_base;

/* main, before the loop: open the file beneath root, or make it. 0 or -errno with err. */
int audit_start(const char *root, struct event_base *base, struct err *err);
/* main, after the workers have ended: all that was added is in the file. */
void audit_stop(void);

/* Control thread. Without the line feed; NULL: there was no memory for a line, which is lost. Nothing happens
 * before audit_start. */
void audit_add(const char *line, size_t len);

/* Control thread: the file was moved away; go on in a new one. */
void audit_reopen(void);

struct audit_status {
	uint64_t lines; /* written */
	uint64_t lost;
};
void audit_status(struct audit_status *status);

#endif
