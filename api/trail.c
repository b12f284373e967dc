/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/trail.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "control/audit.h"
#include "engine/clock.h"
#include "api/rfc3339.h"
#include "api/route.h"

#define TARGET_MAX 256

static struct {
	uint64_t until_ns; /* refusals up to now are paid for until then */
	uint64_t suppressed;
} trail;

static bool is_refusal(const struct request *request, int status);
static bool refusal_is_shown(void);
static void line_add(json_t *line);
static json_t *line_new(const char *event);
static void asker_put(json_t *line, const struct request *request);
static void target_put(json_t *line, const struct request *request);
static void suppressed_put(json_t *line);

void trail_start(void)
{
	json_t *line = line_new("start");

	memset(&trail, 0, sizeof(trail));
	json_object_set_new(line, "version", json_string(SLUICE_VERSION));
	line_add(line);
}

void trail_stop(void)
{
	json_t *line;

	if (trail.suppressed == 0)
		return;
	line = line_new("refused");
	suppressed_put(line);
	line_add(line);
}

void trail_answered(const struct request *request, int status)
{
	const struct route *route = request->route;
	const bool refused = is_refusal(request, status);
	const char *event;
	json_t *line;

	if (route == NULL)
		return;
	if (refused)
		event = "refused";
	else if (request->method != METHOD_GET && request->method != METHOD_HEAD && !route->asks)
		event = "change";
	else if (route->packets)
		event = "download";
	else
		return;
	if (refused && !refusal_is_shown())
		return;
	line = line_new(event);
	asker_put(line, request);
	target_put(line, request);
	json_object_set_new(line, "status", json_integer(status));
	if (refused)
		suppressed_put(line);
	line_add(line);
}

/* For who asked, or who did not say: not for what was asked. */
static bool is_refusal(const struct request *request, int status)
{
	return status == 401 || status == 403 || (status == 429 && request->who.serial == 0);
}

static bool refusal_is_shown(void)
{
	const uint64_t now_ns = clock_monotonic_ns();

	if (trail.until_ns < now_ns)
		trail.until_ns = now_ns;
	if (trail.until_ns >= now_ns + TRAIL_BURST * CLOCK_NS_PER_S) {
		trail.suppressed++;
		return false;
	}
	trail.until_ns += CLOCK_NS_PER_S;
	return true;
}

/* Everything beyond printable ASCII leaves as an escape: a line stays a line, and reads as it is. */
static void line_add(json_t *line)
{
	char *text = json_print_ascii(line);

	audit_add(text, text != NULL ? strlen(text) : 0);
	free(text);
	json_decref(line);
}

static json_t *line_new(const char *event)
{
	json_t *line = json_object();
	char time[RFC3339_SIZE];

	rfc3339_print(rfc3339_now(), 3, time);
	json_object_set_new(line, "time", json_string(time));
	json_object_set_new(line, "event", json_string(event));
	return line;
}

static void asker_put(json_t *line, const struct request *request)
{
	const struct principal *who = &request->who;

	if (who->serial != 0) {
		json_object_set_new(line, "who", json_string(who->name));
		json_object_set_new(line, "role", json_string(auth_role_name(who->role)));
		json_object_set_new(line, "account", json_string(who->account));
	}
	json_object_set_new(line, "address", json_string(request->peer));
	json_object_set_new(line, "dialect", json_string(request->vendor->name));
}

/* What the handler says that it is about, else what stands in the path. */
static void target_put(json_t *line, const struct request *request)
{
	const char *action = request_param(request, "action");
	char target[TARGET_MAX];
	size_t len = 0;

	json_object_set_new(line, "method", json_string(request_method_name(request->method)));
	json_object_set_new(line, "route", json_string(request->route->path));
	if (action != NULL)
		json_object_set_new(line, "action", json_stringn(action, strnlen(action, 64)));
	if (request->subject[0] != '\0') {
		json_object_set_new(line, "target", json_string(request->subject));
		return;
	}
	for (unsigned i = 0; i < REQUEST_SEGMENTS_MAX && len < sizeof(target); i++) {
		const char *arg = request_arg(request, i);

		if (arg[0] == '\0')
			break;
		len += snprintf(target + len, sizeof(target) - len, "%s%s", i > 0 ? "/" : "", arg);
	}
	/* A cut within a character would be no text. */
	if (len > 0 && len < sizeof(target))
		json_object_set_new(line, "target", json_string(target));
	else if (len > 0)
		json_object_set_new(line, "target", json_string("(too long)"));
}

static void suppressed_put(json_t *line)
{
	if (trail.suppressed > 0)
		json_object_set_new(line, "suppressed", json_integer(trail.suppressed));
	trail.suppressed = 0;
}
