/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/native.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/session.h"
#include "api/console.h"
#include "api/download.h"
#include "api/filters.h"
#include "api/live.h"
#include "api/metrics.h"
#include "api/native_json.h"
#include "api/openapi.h"
#include "api/packets.h"
#include "api/server.h"
#include "api/signin.h"
#include "api/stream.h"

#define LIST_LIMIT     100
#define LIST_LIMIT_MAX 1000

static const struct config *native_config;

static void captures_create(struct request *request);
static void captures_list(struct request *request);
static void capture_show(struct request *request);
static void capture_stop(struct request *request);
static void capture_change(struct request *request);
static void capture_delete(struct request *request);
static void capture_download(struct request *request);
static void capture_packets(struct request *request);
static void capture_packet(struct request *request);
static void capture_live(struct request *request);
static void ports_show(struct request *request);
static void buckets_show(struct request *request);
static void status_show(struct request *request);
static void tokens_list(struct request *request);
static bool gone_refuse(struct request *request, const struct session_info *info);
static void token_create(struct request *request);
static void token_delete(struct request *request);
static void health_show(struct request *request);
static void metrics_show(struct request *request);
static void openapi_show(struct request *request);

static const struct route routes[] = {
	{METHOD_POST, "/api/v1/captures", ROLE_OPERATOR, captures_create},
	{METHOD_GET, "/api/v1/captures", ROLE_VIEWER, captures_list, "state limit cursor"},
	{METHOD_GET, "/api/v1/captures/{id}", ROLE_VIEWER, capture_show},
	{METHOD_PATCH, "/api/v1/captures/{id}", ROLE_OPERATOR, capture_change},
	{METHOD_DELETE, "/api/v1/captures/{id}", ROLE_OPERATOR, capture_delete},
	{METHOD_POST, "/api/v1/captures/{id}/stop", ROLE_OPERATOR, capture_stop},
	{METHOD_GET, "/api/v1/captures/{id}/download", ROLE_VIEWER, capture_download,
		"format partial", true},
	{METHOD_GET, "/api/v1/captures/{id}/packets", ROLE_VIEWER, capture_packets,
		"offset limit words", true},
	{METHOD_GET, "/api/v1/captures/{id}/packets/{number}", ROLE_VIEWER, capture_packet, NULL,
		true},
	{METHOD_POST, "/api/v1/packets/decode", ROLE_VIEWER, packets_decode, .asks = true},
	{METHOD_GET, "/api/v1/captures/{id}/live", ROLE_VIEWER, capture_live, "format", true},
	{METHOD_POST, "/api/v1/filters/check", ROLE_OPERATOR, filters_check, .asks = true},
	{METHOD_GET, "/api/v1/stream", ROLE_VIEWER, stream_handle, NULL, true},
	{METHOD_GET, "/api/v1/ports", ROLE_VIEWER, ports_show},
	{METHOD_GET, "/api/v1/buckets", ROLE_OPERATOR, buckets_show},
	{METHOD_GET, "/api/v1/status", ROLE_VIEWER, status_show},
	{METHOD_GET, "/api/v1/tokens", ROLE_ADMIN, tokens_list},
	{METHOD_POST, "/api/v1/tokens", ROLE_ADMIN, token_create},
	{METHOD_DELETE, "/api/v1/tokens/{name}", ROLE_ADMIN, token_delete},
	{METHOD_POST, "/api/v1/session", ROLE_NONE, signin_create},
	{METHOD_GET, "/api/v1/session", ROLE_VIEWER, signin_show},
	{METHOD_DELETE, "/api/v1/session", ROLE_VIEWER, signin_delete},
	{METHOD_GET, "/healthz", ROLE_NONE, health_show},
	{METHOD_GET, "/metrics", ROLE_VIEWER, metrics_show},
	{METHOD_GET, "/openapi.json", ROLE_NONE, openapi_show},
	{METHOD_GET, "/", ROLE_NONE, console_index},
	{METHOD_GET, "/console/{file}", ROLE_NONE, console_show},
};

const struct vendor native_vendor = {
	.name = "native",
	.routes = routes,
	.n_routes = sizeof(routes) / sizeof(routes[0]),
	.credentials = AUTH_BEARER | AUTH_COOKIE | AUTH_PROTOCOL,
	.error = native_error,
	.error_type = "application/problem+json",
	.strict = true,
};

void native_start(const struct config *config)
{
	native_config = config;
}

static void err_reply(struct request *request, const struct err *err)
{
	int status = route_status(err);

	if (status == 500)
		log_error("request failed code=%d field=%s text=%s", err->code, err->field,
			err->text);
	route_error(request, status, err);
}

/* The capture that the path names, if its asker may see it; else 404 is answered and NULL returned.
 */
static struct session *capture_find(struct request *request)
{
	const char *text = request_arg(request, 0);
	struct session *session = NULL;
	struct session_info info;
	struct uuid id;
	struct err err;

	/* Only the hyphenated form is a native id. */
	if (strlen(text) == UUID_TEXT_SIZE - 1 && uuid_parse(text, strlen(text), &id))
		session = session_find(&id);
	if (session != NULL)
		session_info(session, &info);
	if (session != NULL && auth_sees(&request->who, info.account))
		return session;
	err_set(&err, ENOENT, NULL, "there is no capture \"%.40s\"", text);
	route_error(request, 404, &err);
	return NULL;
}

static json_t *capture_json(const struct session *session)
{
	struct session_info info;

	session_info(session, &info);
	return native_capture(&info);
}

static void capture_created(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;
	struct session_info info;
	char id[UUID_TEXT_SIZE];

	if (session == NULL) {
		err_reply(request, err);
		return;
	}
	session_info(session, &info);
	uuid_print(&info.id, id);
	route_capture_log(request, &info);
	server_header_add(request, "Location", "/api/v1/captures/%s", id);
	route_reply(request, 201, native_capture(&info));
}

static void captures_create(struct request *request)
{
	struct session_spec spec = {0};
	json_t *document = NULL;
	struct err err;

	if (!route_body_is_json(request))
		return;
	if (native_spec_decode(request->body, request->body_len, native_config, &request->who,
		    &spec, &document, &err) < 0)
		err_reply(request, &err);
	else
		session_create(&spec, capture_created, request);
	json_decref(document);
}

/* The state that a list is asked for; SESSION_STATE_COUNT: any. */
static int state_param(const struct request *request, unsigned *state, struct err *err)
{
	const char *text = request_param(request, "state");
	char known[120] = "";
	size_t len = 0;

	for (*state = 0; text != NULL && *state < SESSION_STATE_COUNT; (*state)++) {
		if (strcmp(session_state_name(*state), text) == 0)
			return 0;
		len += snprintf(known + len, sizeof(known) - len, "%s%s", *state > 0 ? ", " : "",
			session_state_name(*state));
	}
	*state = SESSION_STATE_COUNT;
	if (text == NULL)
		return 0;
	return err_set(err, EINVAL, "state", "must be one of: %s, not \"%.40s\"", known, text);
}

static void captures_list(struct request *request)
{
	const struct session *session = NULL;
	uint64_t limit, cursor, last = 0;
	json_t *json, *list;
	bool more = false;
	unsigned state;
	struct err err;

	if (request_param_number(request, "limit", 1, LIST_LIMIT_MAX, LIST_LIMIT, &limit, &err) <
			0 ||
		request_param_number(request, "cursor", 0, UINT64_MAX, UINT64_MAX, &cursor, &err) <
			0 ||
		state_param(request, &state, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	list = json_array();
	while ((session = session_next(session)) != NULL && !more) {
		struct session_info info;

		if (session_serial(session) >= cursor)
			continue;
		session_info(session, &info);
		if (!auth_sees(&request->who, info.account) ||
			(state != SESSION_STATE_COUNT && info.state != state))
			continue;
		more = json_array_size(list) == limit;
		if (more)
			break;
		json_array_append_new(list, native_capture(&info));
		last = session_serial(session);
	}
	json = json_object();
	json_object_set_new(json, "captures", list);
	json_object_set_new(json, "next", more ? json_sprintf("%" PRIu64, last) : json_null());
	route_reply(request, 200, json);
}

static void capture_show(struct request *request)
{
	struct session *session = capture_find(request);

	if (session != NULL)
		route_reply(request, 200, capture_json(session));
}

/* What changed a session ends here: with the session as it is now. */
static void capture_changed(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;
	struct err gone;

	if (session != NULL)
		route_reply(request, 200, capture_json(session));
	else if (err != NULL)
		err_reply(request, err);
	else {
		err_set(&gone, ENOENT, NULL, "the capture was deleted meanwhile");
		err_reply(request, &gone);
	}
}

static void capture_stop(struct request *request)
{
	struct session *session = capture_find(request);

	if (session != NULL)
		session_stop(session, END_stopped, capture_changed, request);
}

/* A change of limits comes first, for it may be refused; then name and notes, which may not. */
struct change {
	struct request *request;
	struct native_patch patch;
	json_t *document; /* what the patch's texts live in */
};

static void limits_changed(struct session *session, const struct err *err, void *arg)
{
	struct change *change = arg;

	if (session != NULL && (change->patch.name != NULL || change->patch.notes != NULL))
		session_update(session, change->patch.name, change->patch.notes, capture_changed,
			change->request);
	else
		capture_changed(session, err, change->request);
	json_decref(change->document);
	free(change);
}

static void limits_change(
	struct session *session, const struct native_patch *patch, struct change *change)
{
	struct session_info info;

	session_info(session, &info);
	session_limits_change(session,
		patch->limit_packets != NATIVE_LIMIT_KEPT ? patch->limit_packets
							  : info.limit_packets,
		patch->limit_ns != NATIVE_LIMIT_KEPT ? patch->limit_ns : info.limit_ns,
		limits_changed, change);
}

static void capture_change(struct request *request)
{
	struct session *session = capture_find(request);
	struct change *change;
	struct err err;

	if (session == NULL || !route_body_is_json(request))
		return;
	change = calloc(1, sizeof(*change));
	if (change == NULL) {
		err_set(&err, ENOMEM, NULL, "no memory");
		err_reply(request, &err);
		return;
	}
	change->request = request;
	if (native_patch_decode(
		    request->body, request->body_len, &change->patch, &change->document, &err) < 0)
		err_reply(request, &err);
	else if (change->patch.limit_packets != NATIVE_LIMIT_KEPT ||
		 change->patch.limit_ns != NATIVE_LIMIT_KEPT) {
		limits_change(session, &change->patch, change);
		return;
	} else
		session_update(
			session, change->patch.name, change->patch.notes, capture_changed, request);
	json_decref(change->document);
	free(change);
}

static void capture_deleted(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (err != NULL)
		err_reply(request, err);
	else
		server_reply(request, 204, NULL, NULL, 0);
}

static void capture_delete(struct request *request)
{
	struct session *session = capture_find(request);

	if (session != NULL)
		session_delete(session, capture_deleted, request);
}

static int format_param(
	const struct request *request, enum download_format *format, struct err *err)
{
	const char *text = request_param(request, "format");

	*format = DOWNLOAD_PCAPNG;
	if (text == NULL || strcmp(text, "pcapng") == 0)
		return 0;
	*format = DOWNLOAD_PCAP_NANOSECONDS;
	if (strcmp(text, "pcap") == 0)
		return 0;
	return err_set(err, EINVAL, "format", "must be pcapng or pcap, not \"%.40s\"", text);
}

static int partial_param(const struct request *request, bool *partial, struct err *err)
{
	const char *text = request_param(request, "partial");

	*partial = text != NULL && strcmp(text, "1") == 0;
	if (text == NULL || *partial || strcmp(text, "0") == 0)
		return 0;
	return err_set(err, EINVAL, "partial", "must be 0 or 1, not \"%.40s\"", text);
}

static void capture_download(struct request *request)
{
	struct session *session = capture_find(request);
	enum download_format format;
	struct session_info info;
	struct err err;
	bool partial;

	if (session == NULL)
		return;
	if (format_param(request, &format, &err) < 0 ||
		partial_param(request, &partial, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	session_info(session, &info);
	if (gone_refuse(request, &info))
		return;
	if (!session_output_is_file(info.output)) {
		err_set(&err, ENOENT, NULL, "a capture with output none has no file");
		err_reply(request, &err);
	} else if (info.state == SESSION_converting) {
		/* The merge gives back the lanes' space as it goes: there is nothing whole. */
		err_set(&err, EBUSY, NULL,
			"the capture is converting; ask again when it is complete");
		err_reply(request, &err);
	} else if (!session_state_whole(info.state) && !partial) {
		err_set(&err, EBUSY, NULL,
			"the capture is %s; ask again when it is complete, or with partial=1",
			session_state_name(info.state));
		err_reply(request, &err);
	} else {
		download_start(request, session, format);
	}
}

/* 410 for a file that was here. An uploaded one is told where it is. */
static bool gone_refuse(struct request *request, const struct session_info *info)
{
	struct err err;

	if (info->state != SESSION_deleted && !info->upload.local_gone)
		return false;
	if (info->output == OUTPUT_S3 && info->upload.state == UPLOAD_verified)
		err_set(&err, ENOENT, NULL, "the file is in the bucket: s3://%s/%s",
			info->upload.bucket, info->upload.key);
	else
		err_set(&err, ENOENT, NULL, "the files were removed by retention");
	route_error(request, 410, &err);
	return true;
}

/* 410, 404 and 409 for what has no packets to list. */
static bool packets_refuse(struct request *request, const struct session_info *info)
{
	struct err err;

	if (gone_refuse(request, info))
		return true;
	if (info->output == OUTPUT_NONE) {
		err_set(&err, ENOENT, NULL, "a capture with output none has no file");
		err_reply(request, &err);
	} else if (info->state == SESSION_converting) {
		err_set(&err, EBUSY, NULL,
			"the capture is converting; ask again when it is complete");
		err_reply(request, &err);
	} else {
		return false;
	}
	return true;
}

static void capture_packets(struct request *request)
{
	struct session *session = capture_find(request);
	struct packets_query query = {0};
	struct session_info info;
	struct err err;

	if (session == NULL)
		return;
	if (request_param_number(request, "offset", 0, UINT64_MAX, 0, &query.offset, &err) < 0 ||
		request_param_number(
			request, "limit", 1, PACKETS_MAX, PACKETS_LIMIT, &query.limit, &err) < 0 ||
		packet_words_parse(request_param(request, "words"), &query.words, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	session_info(session, &info);
	if (!packets_refuse(request, &info))
		packets_start(request, session, &query);
}

static void capture_packet(struct request *request)
{
	struct session *session = capture_find(request);
	struct packets_query query = {.limit = 1, .whole = true};
	struct session_info info;
	const char *text;
	struct err err;
	char *end;

	if (session == NULL)
		return;
	text = request_arg(request, 1);
	errno = 0;
	query.offset = strtoull(text, &end, 10) - 1;
	if (errno != 0 || text[0] < '1' || text[0] > '9' || *end != '\0') {
		err_set(&err, ENOENT, NULL, "\"%.40s\" is no packet's number: they count from 1",
			text);
		err_reply(request, &err);
		return;
	}
	session_info(session, &info);
	if (!packets_refuse(request, &info))
		packets_start(request, session, &query);
}

static void capture_live(struct request *request)
{
	const char *format = request_param(request, "format");
	struct session *session = capture_find(request);
	struct err err;

	if (session == NULL)
		return;
	if (format == NULL || strcmp(format, "pcapng") == 0) {
		live_start(request, session, LIVE_PCAPNG);
	} else if (strcmp(format, "text") == 0) {
		live_start(request, session, LIVE_TEXT);
	} else {
		err_set(&err, EINVAL, "format", "must be pcapng or text, not \"%.40s\"", format);
		err_reply(request, &err);
	}
}

static void ports_show(struct request *request)
{
	route_reply(request, 200, native_ports(native_config, &request->who));
}

static void buckets_show(struct request *request)
{
	route_reply(request, 200, native_buckets(native_config, &request->who));
}

static void status_show(struct request *request)
{
	route_reply(request, 200, native_status());
}

static void tokens_list(struct request *request)
{
	json_t *json = json_object(), *list = json_array();
	const struct auth_token *token;

	for (unsigned i = 0; (token = auth_token(i)) != NULL; i++)
		if (!token->pending)
			json_array_append_new(list, native_token(token, NULL));
	json_object_set_new(json, "tokens", list);
	route_reply(request, 200, json);
}

static void token_created(
	const struct auth_token *token, const char *secret, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (err != NULL) {
		err_reply(request, err);
		return;
	}
	log_info("token made name=%s role=%s account=%s by=%s", token->name,
		auth_role_name(token->role), token->account, request->who.name);
	snprintf(request->subject, sizeof(request->subject), "%s", token->name);
	server_header_add(request, "Location", "/api/v1/tokens/%s", token->name);
	route_reply(request, 201, native_token(token, secret));
}

static void token_create(struct request *request)
{
	struct auth_token token;
	struct err err;

	if (!route_body_is_json(request))
		return;
	if (native_token_decode(request->body, request->body_len, native_config, &token, &err) < 0)
		err_reply(request, &err);
	else
		auth_token_add(&token, token_created, request);
}

static void token_deleted(
	const struct auth_token *token, const char *secret, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (err != NULL) {
		err_reply(request, err);
		return;
	}
	log_info("token removed name=%s by=%s", token->name, request->who.name);
	server_reply(request, 204, NULL, NULL, 0);
}

static void token_delete(struct request *request)
{
	auth_token_remove(request_arg(request, 0), token_deleted, request);
}

static void health_show(struct request *request)
{
	server_reply(request, 200, "text/plain; charset=utf-8", "ok", 2);
}

static void metrics_show(struct request *request)
{
	size_t len;
	char *text = metrics_text(&len);

	if (text == NULL) {
		route_error(request, 503, &(struct err){.text = "out of memory"});
		return;
	}
	server_reply(request, 200, METRICS_TYPE, text, len);
	free(text);
}

static void openapi_show(struct request *request)
{
	server_reply(request, 200, "application/json", openapi_json, openapi_json_len);
}
