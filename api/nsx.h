/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The dialect of VMware NSX's packet captures: the manager's API, the policy API, and the inventory
 * that scripts ask first. Control thread only.
 */
#ifndef API_NSX_H
#define API_NSX_H

#include <stdbool.h>

#include "config/config.h"
#include "api/route.h"

extern const struct vendor nsx_vendor_api;

void nsx_start(const struct config *config);
bool nsx_enabled(const struct config *config);

#endif
