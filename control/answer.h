/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Since when a worker has been waiting for one answer of the disk: a job of many steps is no hang. The
 * worker's thread writes, the control thread reads; a thread without a watch tells nobody.
 */
#ifndef CONTROL_ANSWER_H
#define CONTROL_ANSWER_H

#include <stdint.h>

/* The calling thread, once: it keeps *since_ns (monotonic, atomic). */
void answer_watch(uint64_t *since_ns);
/* The disk has answered; what the thread does next begins now. */
void answer_note(void);

#endif
