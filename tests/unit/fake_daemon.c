/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The API as a process, with sessions that capture nothing: fake_daemon CONFIG. For HTTP clients.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include <event2/event.h>

#include "config/config.h"
#include "config/log.h"
#include "control/audit.h"
#include "control/job.h"
#include "api/api.h"
#include "fake.h"

static void stop(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(arg);
}

int main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	struct event *on_term = evsignal_new(base, SIGTERM, stop, base);
	struct err err = {0};
	struct config *config = config_load(argc > 1 ? argv[1] : "", &err);
	int rc;

	signal(SIGPIPE, SIG_IGN);
	if (config == NULL) {
		fprintf(stderr, "%s\n", err.text);
		return 2;
	}
	mkdir(config->storage.root, 0700);
	fake_start(config, config->storage.root);
	job_workers_start(base);
	rc = audit_start(config->storage.root, base, &err);
	if (rc == 0)
		rc = api_start(config, base, &err);
	if (rc < 0) {
		log_error("%s: %s", err.field, err.text);
	} else {
		event_add(on_term, NULL);
		event_base_dispatch(base);
		api_stop();
	}
	job_workers_stop();
	audit_stop();
	fake_stop();
	event_free(on_term);
	event_base_free(base);
	config_free(config);
	return rc < 0 ? 1 : 0;
}
