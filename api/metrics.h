/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Everything that is counted, as Prometheus text (exposition format 0.0.4). The number of series
 * depends on ports, lcores, states and reasons, never on how many captures there are. Control thread.
 */
#ifndef API_METRICS_H
#define API_METRICS_H

#include <stddef.h>

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* The whole page, malloc'ed; NULL without memory. */
char *metrics_text(size_t *len);

#endif
