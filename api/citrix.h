/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The dialect of Citrix SD-WAN's NITRO packet_capture, v1 and v2: log in, POST and wait, download.
 * There are no ids: an account has one capture, the last that was made here, and a new one replaces
 * it. Control thread only.
 */
#ifndef API_CITRIX_H
#define API_CITRIX_H

#include <stdbool.h>

#include "config/config.h"
#include "api/route.h"

extern const struct vendor citrix_vendor;

void citrix_start(const struct config *config);
bool citrix_enabled(const struct config *config);

#endif
