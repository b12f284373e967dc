/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The dialect of Juniper Mist's packet captures: of a site, and of an organisation's edges. A site has
 * one running capture at most, an organisation another. Control thread only.
 */
#ifndef API_MIST_H
#define API_MIST_H

#include <stdbool.h>

#include "config/config.h"
#include "control/session.h"
#include "api/auth.h"
#include "api/route.h"

extern const struct vendor mist_vendor;

void mist_start(const struct config *config);
/* Connections are closed before. */
void mist_stop(void);
bool mist_enabled(const struct config *config);

/* The account that a site's (or an organisation's) id in a path stands for, if who may see it. */
const struct config_account *mist_account(
	const struct principal *who, const char *id, bool organisation);

/* Was it made in this dialect, for this account, and for the organisation or for the site? */
bool mist_session_is(
	const struct session_info *info, const struct config_account *account, bool organisation);

#endif
