/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/api.h"

#include <errno.h>
#include <sys/time.h>

#include <event2/event.h>

#include "control/audit.h"
#include "api/auth.h"
#include "api/citrix.h"
#include "api/cloudflare.h"
#include "api/filters.h"
#include "api/guard.h"
#include "api/login.h"
#include "api/mist.h"
#include "api/native.h"
#include "api/nsx.h"
#include "api/route.h"
#include "api/server.h"
#include "api/signin.h"
#include "api/stream.h"
#include "api/tls.h"
#include "api/trail.h"

#define CUT_EVERY_MS 250 /* so that what a token had opened ends within a second of it */

static struct event *cut_event;

static void tokens_cut(evutil_socket_t fd, short what, void *arg)
{
	if (auth_changed())
		server_cut(auth_holds);
}

static int cut_start(struct event_base *base, struct err *err)
{
	const struct timeval every = {.tv_usec = CUT_EVERY_MS * 1000};

	cut_event = event_new(base, -1, EV_PERSIST, tokens_cut, NULL);
	if (cut_event == NULL || event_add(cut_event, &every) < 0)
		return err_set(err, ENOMEM, NULL, "no memory for the API's timer");
	return 0;
}

int api_start(const struct config *config, struct event_base *base, struct err *err)
{
	static const struct server_ops ops = {
		.handle = route_dispatch,
		.refusal = route_refusal,
		.answered = trail_answered,
	};
	int rc = auth_start(config, err);

	if (rc == 0 && mist_enabled(config))
		rc = auth_sign_start(config, err);
	if (rc < 0)
		return rc;
	route_start(config);
	native_start(config);
	signin_start(config);
	filters_start(base);
	citrix_start(config);
	stream_start(config, base);
	cloudflare_start(config);
	nsx_start(config);
	mist_start(config);
	guard_start();
	trail_start();
	rc = cut_start(base, err);
	if (rc == 0)
		rc = server_start(config, base, &ops, err);
	if (rc < 0)
		auth_stop();
	return rc;
}

void api_reload(void)
{
	audit_reopen();
	tls_reload();
}

void api_stop(void)
{
	server_stop();
	trail_stop();
	if (cut_event != NULL)
		event_free(cut_event);
	cut_event = NULL;
	login_stop();
	mist_stop();
	stream_stop();
	auth_stop();
}
