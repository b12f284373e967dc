/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Why packets are lost, and where: the part of `sluice status` that answers it. Reads the API's status,
 * asks nothing itself.
 */
#ifndef API_CLIENT_RESOURCES_H
#define API_CLIENT_RESOURCES_H

#include "config/json.h"

/* The bottleneck with its explanation, then a line with the figures of each resource. */
void resources_print(const json_t *status);

#endif
