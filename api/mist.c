/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/mist.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/log.h"
#include "api/download.h"
#include "api/mist_json.h"
#include "api/mist_stream.h"
#include "api/native_json.h"
#include "api/rfc3339.h"
#include "api/server.h"

#define NS_PER_S 1000000000ULL
#define URL_MAX  (CONFIG_TEXT_MAX + 320)

static const struct config *mist_config;

static void self_show(struct request *request);
static void captures_list(struct request *request);
static void capture_start(struct request *request);
static void capture_show(struct request *request);
static void capture_stop(struct request *request);
static void notes_change(struct request *request);
static void link_follow(struct request *request);

/* "capture" is a sibling of ids, so its rows come first. */
#define BOTH(method, path, role, ...)                               \
	{method, "/api/v1/sites/{id}" path, role, __VA_ARGS__},     \
	{                                                           \
		method, "/api/v1/orgs/{id}" path, role, __VA_ARGS__ \
	}

static const struct route routes[] = {
	{METHOD_GET, "/api/v1/self", ROLE_VIEWER, self_show},
	BOTH(METHOD_GET, "/pcaps", ROLE_VIEWER, captures_list),
	BOTH(METHOD_POST, "/pcaps/capture", ROLE_OPERATOR, capture_start),
	BOTH(METHOD_GET, "/pcaps/capture", ROLE_VIEWER, capture_show),
	BOTH(METHOD_DELETE, "/pcaps/capture", ROLE_OPERATOR, capture_stop),
	{METHOD_PUT, "/api/v1/sites/{id}/pcaps/{pcap}", ROLE_OPERATOR, notes_change},
	{METHOD_GET, "/api-ws/v1/stream", ROLE_VIEWER, mist_stream_open, NULL, true},
	/* The signature is the credential. */
	BOTH(METHOD_GET, "/pcaps/{pcap}/download", ROLE_NONE, link_follow, NULL, true),
};

const struct vendor mist_vendor = {
	.name = "mist",
	.routes = routes,
	.n_routes = sizeof(routes) / sizeof(routes[0]),
	.credentials = AUTH_TOKEN | AUTH_BASIC,
	.error = mist_error,
	.error_type = "application/json",
	.challenge = "Token realm=\"sluice\"",
};

void mist_start(const struct config *config)
{
	mist_config = config;
	mist_stream_start(config);
}

void mist_stop(void)
{
	mist_stream_stop();
}

bool mist_enabled(const struct config *config)
{
	return config->mist.enabled;
}

const struct config_account *mist_account(
	const struct principal *who, const char *id, bool organisation)
{
	for (unsigned i = 0; i < mist_config->n_accounts; i++) {
		const struct config_account *account = &mist_config->accounts[i];
		const char *own = organisation ? account->org_id : account->site_id;

		if (own[0] != '\0' && strcasecmp(own, id) == 0 && auth_sees(who, account->name))
			return account;
	}
	return NULL;
}

bool mist_session_is(
	const struct session_info *info, const struct config_account *account, bool organisation)
{
	return info->dialect == DIALECT_mist && strcmp(info->account, account->name) == 0 &&
	       mist_organisation(info) == organisation;
}

static bool is_organisation(const struct request *request)
{
	return strcmp(request->segments[2], "orgs") == 0;
}

static void fail(struct request *request, int status, const char *field, const char *text)
{
	struct err err;

	err_set(&err, EINVAL, field, "%s", text);
	route_error(request, status, &err);
}

/* 404, with the id that is not known. */
static void unknown(struct request *request, const char *id)
{
	json_t *json = json_object();

	json_object_set_new(json, "id", json_text(id));
	json_object_set_new(json, "detail", json_string("Not found."));
	route_reply(request, 404, json);
}

static void err_reply(struct request *request, const struct err *original)
{
	int status = route_status(original);
	struct err err = *original;

	mist_err_rename(&err);
	if (status == 500)
		log_error("request failed code=%d field=%s text=%s", err.code, err.field, err.text);
	route_error(request, status, &err);
}

/* The account of the site or organisation in the path, or NULL with 404 answered. */
static const struct config_account *account_need(struct request *request)
{
	const struct config_account *account =
		mist_account(&request->who, request_arg(request, 0), is_organisation(request));

	if (account == NULL)
		unknown(request, request_arg(request, 0));
	return account;
}

/* The one that runs, or NULL. */
static struct session *capture_find(const struct request *request,
	const struct config_account *account, struct session_info *info)
{
	struct session *session = NULL;

	while ((session = session_next(session)) != NULL) {
		session_info(session, info);
		if (info->state <= SESSION_stopping &&
			mist_session_is(info, account, is_organisation(request)))
			return session;
	}
	return NULL;
}

static void capture_started(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;
	const struct config_account *account;
	struct session_info info;

	if (session == NULL) {
		err_reply(request, err);
		return;
	}
	session_info(session, &info);
	route_capture_log(request, &info);
	account = config_account_find(mist_config, info.account);
	route_reply(request, 200, mist_started(&info, account));
}

static void capture_start(struct request *request)
{
	const struct config_account *account = account_need(request);
	struct mist_capture capture;
	struct session_spec spec = {0};
	struct session_info info;
	struct err err;

	if (account == NULL || !route_body_is_json(request))
		return;
	if (mist_capture_decode(request->body, request->body_len, mist_config, account,
		    is_organisation(request), &capture, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	if (capture_find(request, account, &info) != NULL) {
		/* Clients look for these words. */
		fail(request, 400, NULL, "Recording already in progress for this target");
	} else {
		mist_spec(&capture, &spec);
		spec.account = account->name;
		spec.owner = request->who.name;
		spec.begins = mist_stream_feed;
		session_create(&spec, capture_started, request);
	}
	mist_capture_release(&capture);
}

static void capture_show(struct request *request)
{
	const struct config_account *account = account_need(request);
	struct session_info info;

	if (account == NULL)
		return;
	if (capture_find(request, account, &info) != NULL)
		route_reply(request, 200, mist_status(&info));
	else
		fail(request, 404, NULL, "No capture is in progress.");
}

static void capture_stopped(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (session == NULL && err != NULL && err->code != 0)
		err_reply(request, err);
	else
		route_reply(request, 200, json_object());
}

static void capture_stop(struct request *request)
{
	const struct config_account *account = account_need(request);
	struct session_info info;
	struct session *session;

	if (account == NULL)
		return;
	session = capture_find(request, account, &info);
	if (session != NULL)
		route_subject(request, &info.id);
	if (session != NULL)
		session_stop(session, END_stopped, capture_stopped, request);
	else
		route_reply(request, 200, json_object());
}

static void notes_changed(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (session == NULL)
		err_reply(request, err);
	else
		route_reply(request, 200, json_object());
}

static struct session *pcap_find(const struct request *request)
{
	const char *text = request_arg(request, 1);
	char lower[UUID_TEXT_SIZE];
	struct uuid id;
	size_t len = strlen(text);

	if (len != UUID_TEXT_SIZE - 1)
		return NULL;
	for (size_t i = 0; i <= len; i++)
		lower[i] = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] + 32) : text[i];
	return uuid_parse(lower, len, &id) ? session_find(&id) : NULL;
}

static void notes_change(struct request *request)
{
	const struct config_account *account = account_need(request);
	struct session *session = account != NULL ? pcap_find(request) : NULL;
	json_t *document = NULL;
	struct session_info info;
	const char *notes;
	struct err err;

	if (account == NULL)
		return;
	if (session != NULL)
		session_info(session, &info);
	if (session == NULL || !mist_session_is(&info, account, false)) {
		unknown(request, request_arg(request, 1));
		return;
	}
	if (!route_body_is_json(request))
		return;
	if (mist_notes_decode(request->body, request->body_len, &notes, &document, &err) < 0)
		err_reply(request, &err);
	else
		session_update(session, NULL, notes, notes_changed, request);
	json_decref(document);
}

/* What a link's signature stands for: this capture's file, until then. */
static void link_text(const struct uuid *id, uint64_t expires_s, char text[96])
{
	char hex[UUID_TEXT_SIZE];

	uuid_print_hex(id, hex);
	snprintf(text, 96, "mist pcap %s %" PRIu64, hex, expires_s);
}

/* An absolute link that needs no credentials; false: there is no file (yet). */
static bool link_make(const struct request *request, const struct session *session,
	const struct session_info *info, const struct config_account *account, char url[URL_MAX])
{
	const bool organisation = is_organisation(request);
	const char *base = mist_config->api.public_url, *host = server_header(request, "Host");
	const uint64_t expires_s =
		(rfc3339_now() + mist_config->mist.url_ttl_ms * 1000000ULL) / NS_PER_S;
	char id[UUID_TEXT_SIZE], text[96], signature[AUTH_SECRET_SIZE];
	struct session_part part;
	size_t len = strlen(base);

	if (info->output != OUTPUT_FILE || !session_state_closed(info->state) ||
		session_parts(session, &part, 1) == 0)
		return false;
	link_text(&info->id, expires_s, text);
	auth_sign(text, signature);
	uuid_print(&info->id, id);
	len -= len > 0 && base[len - 1] == '/';
	snprintf(url, URL_MAX,
		"%s%s%.*s/api/v1/%s/%s/pcaps/%s/download?expires=%" PRIu64 "&signature=%s",
		len > 0 ? "" : server_scheme(), len > 0 ? "" : "://", len > 0 ? (int)len : 255,
		len > 0        ? base
		: host != NULL ? host
			       : mist_config->api.listen.item[0],
		organisation ? "orgs" : "sites", organisation ? account->org_id : account->site_id,
		id, expires_s, signature);
	return true;
}

static void link_follow(struct request *request)
{
	struct session *session = pcap_find(request);
	const char *signature = request_param(request, "signature");
	char text[96] = "";
	struct session_info info;
	uint64_t expires_s;
	struct err err;

	if (request_param_number(request, "expires", 1, UINT32_MAX, 0, &expires_s, &err) < 0 ||
		signature == NULL || session == NULL || expires_s < rfc3339_now() / NS_PER_S) {
		fail(request, 403, NULL, "");
		return;
	}
	session_info(session, &info);
	link_text(&info.id, expires_s, text);
	if (!auth_sign_check(text, signature)) {
		if (!route_guessed(request))
			fail(request, 403, NULL, "");
	} else if (!session_state_closed(info.state))
		unknown(request, request_arg(request, 1));
	else
		download_start(request, session, DOWNLOAD_PCAP_MICROSECONDS);
}

/* Path and query of the page behind query's. */
static void next_print(
	const struct request *request, const struct mist_query *query, char *next, size_t size)
{
	snprintf(next, size,
		"/api/v1/%s/%s/pcaps?start=%" PRIu64 "&end=%" PRIu64 "&limit=%" PRIu64
		"&page=%" PRIu64 "%s%s",
		request->segments[2], request->segments[3], query->start_s, query->end_s,
		query->limit, query->page + 1, query->client_mac[0] != '\0' ? "&client_mac=" : "",
		query->client_mac);
}

static bool item_matches(const struct session_info *info, const struct mist_query *query)
{
	const uint64_t created_s = info->created_ns / NS_PER_S;

	return created_s >= query->start_s && created_s <= query->end_s &&
	       (query->client_mac[0] == '\0' || mist_client_is(info, query->client_mac));
}

static void captures_list(struct request *request)
{
	const struct config_account *account = account_need(request);
	const struct session *session = NULL;
	char next[256], url[URL_MAX];
	struct mist_query query;
	uint64_t total = 0, first;
	struct err err;
	json_t *results;

	if (account == NULL)
		return;
	if (mist_query_decode(request, rfc3339_now() / NS_PER_S, &query, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	results = json_array();
	first = (query.page - 1) * query.limit;
	while ((session = session_next(session)) != NULL) {
		struct session_info info;

		session_info(session, &info);
		if (!mist_session_is(&info, account, is_organisation(request)) ||
			!item_matches(&info, &query))
			continue;
		if (total >= first && total < first + query.limit)
			json_array_append_new(results,
				mist_item(&info, account,
					link_make(request, session, &info, account, url) ? url
											 : NULL));
		total++;
	}
	next_print(request, &query, next, sizeof(next));
	server_header_add(request, "X-Page-Total", "%" PRIu64, total);
	server_header_add(request, "X-Page-Limit", "%" PRIu64, query.limit);
	server_header_add(request, "X-Page-Page", "%" PRIu64, query.page);
	route_reply(request, 200,
		mist_search(&query, results, total,
			query.limit != 0 && total > first + query.limit ? next : NULL));
}

static void self_show(struct request *request)
{
	static const char *const roles[] = {
		[ROLE_VIEWER] = "read", [ROLE_OPERATOR] = "write", [ROLE_ADMIN] = "admin"};
	json_t *json = json_object(), *privileges = json_array();

	for (unsigned i = 0; i < mist_config->n_accounts; i++)
		if (auth_sees(&request->who, mist_config->accounts[i].name))
			mist_privileges_add(
				privileges, &mist_config->accounts[i], roles[request->who.role]);
	json_object_set_new(json, "first_name", json_text(request->who.name));
	json_object_set_new(json, "last_name", json_string(""));
	json_object_set_new(json, "privileges", privileges);
	route_reply(request, 200, json);
}
