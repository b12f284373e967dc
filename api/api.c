/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/api.h"

#include "api/auth.h"
#include "api/citrix.h"
#include "api/cloudflare.h"
#include "api/login.h"
#include "api/mist.h"
#include "api/native.h"
#include "api/nsx.h"
#include "api/route.h"
#include "api/server.h"
#include "api/stream.h"

int api_start(const struct config *config, struct event_base *base, struct err *err)
{
	static const struct server_ops ops = {
		.handle = route_dispatch,
		.refusal = route_refusal,
	};
	int rc = auth_start(config, err);

	if (rc == 0 && mist_enabled(config))
		rc = auth_sign_start(config, err);
	if (rc < 0)
		return rc;
	route_start(config);
	native_start(config);
	citrix_start(config);
	stream_start(config, base);
	cloudflare_start(config);
	nsx_start(config);
	mist_start(config);
	rc = server_start(config, base, &ops, err);
	if (rc < 0)
		auth_stop();
	return rc;
}

void api_stop(void)
{
	server_stop();
	login_stop();
	mist_stop();
	stream_stop();
	auth_stop();
}
