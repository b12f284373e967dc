/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A POST is answered when its capture has ended, seconds later. Until then it is a struct post:
 * nothing waits, the request is kept and answered by the callback that hears of the end.
 */
#include "api/citrix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/session.h"
#include "api/citrix_json.h"
#include "api/download.h"
#include "api/login.h"
#include "api/server.h"
#include "api/signin.h"
#include "api/tls.h"
#include "api/summary.h"

#define CAPTURE "packet_capture"

/* A DELETE that waits until the POST is answered, so that the packets it shows are still there. */
struct post_delete {
	struct request *request;
	struct post_delete *next;
};

struct post {
	struct request *request;
	struct uuid id;
	struct post_delete *deletes;
	struct post *next;
};

/* A GET on its way to the file and back. */
struct show {
	struct request *request;
	struct uuid id;
};

static const struct config *citrix_config;
static struct post *posts;

static void login_create(struct request *request);
static void login_delete(struct request *request);
static void capture_create(struct request *request);
static void capture_show(struct request *request);
static void capture_change(struct request *request);
static void capture_delete(struct request *request);
static void capture_download(struct request *request);
static void post_ended(struct session *session, const struct err *err, void *arg);
static void post_answer(json_t *packets, void *arg);

#define BOTH(method, path, role, ...)                 \
	{method, "/v1" path, role, __VA_ARGS__},      \
	{                                             \
		method, "/v2" path, role, __VA_ARGS__ \
	}

static const struct route routes[] = {
	BOTH(METHOD_POST, "/config/login", ROLE_NONE, login_create),
	BOTH(METHOD_DELETE, "/config/login", ROLE_VIEWER, login_delete),
	BOTH(METHOD_DELETE, "/config/login/{name}", ROLE_VIEWER, login_delete),
	BOTH(METHOD_POST, "/diag/packet_capture", ROLE_OPERATOR, capture_create),
	BOTH(METHOD_GET, "/diag/packet_capture", ROLE_VIEWER, capture_show),
	BOTH(METHOD_PUT, "/diag/packet_capture", ROLE_OPERATOR, capture_change),
	BOTH(METHOD_DELETE, "/diag/packet_capture", ROLE_OPERATOR, capture_delete),
	BOTH(METHOD_GET, "/download/pcap_download", ROLE_VIEWER, capture_download, NULL, true),
};

const struct vendor citrix_vendor = {
	.name = "citrix",
	.routes = routes,
	.n_routes = sizeof(routes) / sizeof(routes[0]),
	.credentials = AUTH_COOKIE,
	.error = citrix_error,
	.error_type = "application/json",
	.challenge = "Cookie realm=\"sluice\", cookie-name=\"" LOGIN_COOKIE "\"",
};

void citrix_start(const struct config *config)
{
	citrix_config = config;
}

bool citrix_enabled(const struct config *config)
{
	return config->citrix.enabled;
}

static void fail(struct request *request, int status, const char *field, const char *text)
{
	struct err err;

	err_set(&err, EINVAL, field, "%s", text);
	route_error(request, status, &err);
}

static void err_reply(struct request *request, const struct err *original)
{
	int status = citrix_status(original);
	struct err err = *original;

	citrix_err_rename(&err);
	if (status == 500)
		log_error("request failed code=%d field=%s text=%s", err.code, err.field, err.text);
	route_error(request, status, &err);
}

static void login_create(struct request *request)
{
	const char *name = NULL, *secret = NULL;
	char cookie[LOGIN_HEADER_MAX];
	json_t *document = NULL;
	struct err err;
	int rc;

	if (!signin_origin_good(request)) {
		fail(request, 403, NULL, "a page of another site may not log anybody in");
		return;
	}
	if (citrix_login_decode(request->body, request->body_len, &name, &secret, &document, &err) <
		0) {
		err_reply(request, &err);
		goto out;
	}
	rc = login_begin(name, secret, cookie);
	if (rc < 0) {
		log_info("login refused name=%.63s peer=%s", name, request->peer);
		if (rc == -EACCES && route_guessed(request))
			goto out;
		fail(request, rc == -EACCES ? 401 : 500, NULL,
			rc == -EACCES ? "Login Failed: username and password are no token's name "
					"and secret"
				      : "no randomness for a session");
		goto out;
	}
	auth_check(secret, &request->who);
	server_header_add(request, "Set-Cookie", "%s; Path=/; HttpOnly; SameSite=Strict%s", cookie,
		tls_enabled() ? "; Secure" : "");
	route_reply(request, 200, citrix_message("login", "Login Success: " CITRIX_ADDED));
out:
	json_decref(document);
}

static void login_delete(struct request *request)
{
	login_end(server_header(request, "Cookie"));
	route_reply(request, 200, citrix_message("login", CITRIX_DELETED));
}

/* The account's capture: the newest that was made here. NULL: there is none. */
static struct session *capture_find(const struct request *request, struct session_info *info)
{
	struct session *session = NULL;

	while ((session = session_next(session)) != NULL) {
		session_info(session, info);
		if (info->dialect == DIALECT_citrix &&
			strcmp(info->account, request->who.account) == 0)
			return session;
	}
	return NULL;
}

static struct session *capture_need(struct request *request, struct session_info *info)
{
	struct session *session = capture_find(request, info);

	if (session == NULL)
		fail(request, 400, NULL, "there is no packet capture");
	else
		route_subject(request, &info->id);
	return session;
}

/* POST says ?action=add or nothing; what else NITRO knows would not be a capture. */
static bool action_check(struct request *request)
{
	const char *action = request_param(request, "action");

	if (action == NULL || strcmp(action, "add") == 0)
		return true;
	fail(request, 400, "action", "only add is possible here");
	return false;
}

static void old_removed(struct session *session, const struct err *err, void *arg)
{
	if (err != NULL)
		log_warning("a replaced capture stays error=%s", err->text);
}

/* The account's older captures of this dialect: nobody could reach them here any more. */
static void old_remove(const struct session_info *of, struct session *session)
{
	struct session *next;

	for (session = session_next(session); session != NULL; session = next) {
		struct session_info info;

		next = session_next(session);
		session_info(session, &info);
		if (info.dialect == DIALECT_citrix && strcmp(info.account, of->account) == 0)
			session_delete(session, old_removed, NULL);
	}
}

static void post_free(struct post *post)
{
	struct post **at = &posts;

	while (*at != NULL && *at != post)
		at = &(*at)->next;
	if (*at == post)
		*at = post->next;
	free(post);
}

static void post_created(struct session *session, const struct err *err, void *arg)
{
	struct post *post = arg;
	struct session_info info;

	if (session == NULL) {
		err_reply(post->request, err);
		post_free(post);
		return;
	}
	session_info(session, &info);
	route_capture_log(post->request, &info);
	post->id = info.id;
	old_remove(&info, session);
	session_closed_wait(session, post_ended, post);
}

static void capture_create(struct request *request)
{
	struct citrix_capture capture = {0};
	struct session_spec spec = {0};
	struct session_info info;
	struct post *post;
	struct err err;

	if (!route_body_is_json(request) || !action_check(request))
		return;
	if (citrix_capture_decode(request->body, request->body_len, citrix_config,
		    request->who.account, &capture, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	post = calloc(1, sizeof(*post));
	if (capture_find(request, &info) != NULL && !session_state_closed(info.state)) {
		fail(request, 400, NULL, "a packet capture is already running");
	} else if (post == NULL) {
		fail(request, 500, NULL, "no memory");
	} else {
		citrix_spec(&capture, &spec);
		spec.account = request->who.account;
		spec.owner = request->who.name;
		post->request = request;
		post->next = posts;
		posts = post;
		session_create(&spec, post_created, post);
		post = NULL;
	}
	free(post);
	citrix_capture_release(&capture);
}

static void capture_deleted(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (err != NULL)
		err_reply(request, err);
	else
		route_reply(request, 200, citrix_message(CAPTURE, CITRIX_DELETED));
}

/* What was asked for while the POST was not answered yet. */
static void post_deletes(struct post *post, struct session *session)
{
	while (post->deletes != NULL) {
		struct post_delete *one = post->deletes;

		post->deletes = one->next;
		if (session != NULL)
			session_delete(session, capture_deleted, one->request);
		else
			capture_deleted(NULL, NULL, one->request);
		free(one);
	}
}

/* The capture is closed, or (NULL) went with the daemon. */
static void post_ended(struct session *session, const struct err *err, void *arg)
{
	struct post *post = arg;

	if (session != NULL) {
		summary_read(session, CITRIX_SUMMARY_MAX, citrix_packet, post_answer, post);
		return;
	}
	fail(post->request, 500, NULL, "the capture was cut off: the daemon is stopping");
	post_deletes(post, NULL);
	post_free(post);
}

static void post_answer(json_t *packets, void *arg)
{
	struct post *post = arg;
	struct session *session = session_find(&post->id);
	struct session_info info;

	if (session != NULL)
		session_info(session, &info);
	if (session == NULL) {
		/* Deleted through another door meanwhile; it did run. */
		json_decref(packets);
		route_reply(post->request, 200, citrix_message(CAPTURE, CITRIX_ADDED));
	} else if (info.state == SESSION_failed) {
		json_decref(packets);
		fail(post->request, 500, NULL, citrix_state_message(&info));
	} else {
		route_reply(post->request, 200,
			citrix_wrap(CAPTURE,
				citrix_capture(&info, citrix_added_message(&info), packets)));
	}
	post_deletes(post, session);
	post_free(post);
}

/* v2 documents an array, v1's clients read an object. */
static void show_reply(struct request *request, json_t *object)
{
	json_t *array;

	if (request->segments[2][1] == '1') {
		route_reply(request, 200,
			citrix_wrap(CAPTURE, object != NULL ? object : json_object()));
		return;
	}
	array = json_array();
	if (object != NULL)
		json_array_append_new(array, object);
	route_reply(request, 200, array);
}

static void show_answer(json_t *packets, void *arg)
{
	struct show *show = arg;
	struct session *session = session_find(&show->id);
	struct session_info info;

	if (session != NULL) {
		session_info(session, &info);
		show_reply(
			show->request, citrix_capture(&info, citrix_state_message(&info), packets));
	} else {
		json_decref(packets);
		show_reply(show->request, NULL);
	}
	free(show);
}

static void capture_show(struct request *request)
{
	struct session_info info;
	struct session *session = capture_find(request, &info);
	struct show *show = session != NULL ? calloc(1, sizeof(*show)) : NULL;

	if (show == NULL) {
		show_reply(request, NULL);
		return;
	}
	show->request = request;
	show->id = info.id;
	summary_read(session, CITRIX_SUMMARY_MAX, citrix_packet, show_answer, show);
}

static void capture_changed(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (session == NULL)
		err_reply(request, err);
	else
		route_reply(request, 200, citrix_message(CAPTURE, CITRIX_MODIFIED));
}

static void capture_change(struct request *request)
{
	struct session_info info;
	struct session *session;
	uint64_t limit_packets, limit_ns;
	char *echo = NULL;
	struct err err;

	if (!route_body_is_json(request))
		return;
	session = capture_need(request, &info);
	if (session == NULL)
		return;
	if (info.state != SESSION_running) {
		fail(request, 400, NULL, "the packet capture is not running");
		return;
	}
	if (citrix_change_decode(request->body, request->body_len, &info, &limit_packets, &limit_ns,
		    &echo, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	session_vendor_set(session, echo);
	session_limits_change(session, limit_packets, limit_ns, capture_changed, request);
	free(echo);
}

static struct post *post_find(const struct uuid *id)
{
	struct post *post = posts;

	while (post != NULL && memcmp(&post->id, id, sizeof(*id)) != 0)
		post = post->next;
	return post;
}

static void capture_delete(struct request *request)
{
	struct session_info info;
	struct session *session = capture_need(request, &info);
	struct post *post = session != NULL ? post_find(&info.id) : NULL;
	struct post_delete *one = post != NULL ? calloc(1, sizeof(*one)) : NULL;

	if (session == NULL)
		return;
	if (one == NULL) {
		session_delete(session, capture_deleted, request);
		return;
	}
	one->request = request;
	one->next = post->deletes;
	post->deletes = one;
	session_stop(session, END_stopped, NULL, NULL);
}

static void capture_download(struct request *request)
{
	struct session_info info;
	struct session *session = capture_need(request, &info);

	if (session == NULL)
		return;
	if (info.state == SESSION_deleted)
		fail(request, 400, NULL, citrix_state_message(&info));
	else if (!session_state_closed(info.state))
		fail(request, 400, NULL, "the packet capture is still running");
	else
		download_start(request, session, DOWNLOAD_PCAPNG);
}
