/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The native API: sessions one to one, for the command line client, the console and scripts.
 * Control thread only.
 */
#ifndef API_NATIVE_H
#define API_NATIVE_H

#include "config/config.h"
#include "api/route.h"

extern const struct vendor native_vendor;

void native_start(const struct config *config);

#endif
