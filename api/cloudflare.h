/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The dialect of Cloudflare's Magic Transit packet captures, with and without /client/v4 in front.
 * Control thread only.
 */
#ifndef API_CLOUDFLARE_H
#define API_CLOUDFLARE_H

#include <stdbool.h>

#include "config/config.h"
#include "api/route.h"

extern const struct vendor cloudflare_vendor;

void cloudflare_start(const struct config *config);
bool cloudflare_enabled(const struct config *config);

#endif
