/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The whole API on sessions that live in memory, in a storage root of its own, and the client that talks to
 * it. Included once by a test, after cmocka; config is the test's to fill before api_begin.
 */
#ifndef TESTS_UNIT_API_FIXTURE_H
#define TESTS_UNIT_API_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "api/api.h"
#include "api/auth.h"
#include "config/config.h"
#include "config/json.h"
#include "control/job.h"
#include "fake.h"
#include "http_client.h"

static struct config config;
static char admin[AUTH_SECRET_SIZE]; /* the first token's secret */

static void port_add(const char *name)
{
	struct config_port *added = &config.ports[config.n_ports++];

	snprintf(added->name, sizeof(added->name), "%s", name);
	strcpy(added->interface, "lo");
}

/* account may capture on ports ("*": all), and is what the vendors' ids name. */
static struct config_account *account_add(const char *name, const char *ports)
{
	struct config_account *account = &config.accounts[config.n_accounts++];

	snprintf(account->name, sizeof(account->name), "%s", name);
	account->ports.n = 1;
	snprintf(account->ports.item[0], sizeof(account->ports.item[0]), "%s", ports);
	return account;
}

static int api_begin(void)
{
	char path[CONFIG_TEXT_MAX + 32], text[AUTH_SECRET_SIZE + 1] = "";
	struct err err;
	FILE *in;

	signal(SIGPIPE, SIG_IGN);
	assert_non_null(mkdtemp(strcpy(config.storage.root, "/tmp/test_api.XXXXXX")));
	port = port_free();
	config.api.listen.n = 1;
	snprintf(config.api.listen.item[0], CONFIG_NAME_MAX, "127.0.0.1:%u", port);
	config.sampling.simple = 100;
	fake_start(&config, config.storage.root);
	base = event_base_new();
	if (job_workers_start(base) < 0 || api_start(&config, base, &err) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/admin.token", config.storage.root);
	in = fopen(path, "r");
	assert_non_null(in);
	assert_non_null(fgets(text, sizeof(text), in));
	fclose(in);
	memcpy(admin, text, AUTH_SECRET_SIZE - 1);
	return 0;
}

static int api_end(void **state)
{
	char command[CONFIG_TEXT_MAX + 16];

	api_stop();
	job_workers_stop();
	fake_stop();
	event_base_free(base);
	snprintf(command, sizeof(command), "rm -r '%s'", config.storage.root);
	return system(command);
}

/* A new token; expires: NULL, or when. Its secret: AUTH_SECRET_SIZE. */
static void token_make(
	const char *name, const char *role, const char *account, const char *expires, char *secret)
{
	char body[256];
	json_t *json;

	snprintf(body, sizeof(body), "{\"name\":\"%s\",\"role\":\"%s\",\"account\":\"%s\"%s%s%s}",
		name, role, account, expires != NULL ? ",\"expires_at\":\"" : "",
		expires != NULL ? expires : "", expires != NULL ? "\"" : "");
	json = answer_json(ask(admin, "POST", "/api/v1/tokens", NULL, body), 201);
	snprintf(
		secret, AUTH_SECRET_SIZE, "%s", json_string_value(json_object_get(json, "secret")));
	json_decref(json);
}

#endif
