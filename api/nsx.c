/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/nsx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/session.h"
#include "api/download.h"
#include "api/native_json.h"
#include "api/nsx_inventory.h"
#include "api/nsx_json.h"
#include "api/server.h"

static const struct config *nsx_config;

static void sessions_create(struct request *request);
static void sessions_list(struct request *request);
static void sessions_action(struct request *request);
static void sessions_delete(struct request *request);
static void session_show(struct request *request);
static void session_action(struct request *request);
static void session_remove(struct request *request);
static void session_file(struct request *request);
static void machines_list(struct request *request);
static void vifs_list(struct request *request);
static void search(struct request *request);

#define MANAGER "/api/v1/pktcap"
#define POLICY  "/policy/api/v1/infra/pktcap"

/* Both spellings of the file are known in both families: NSX is strict there, its clients are not. */
static const struct route routes[] = {
	{METHOD_POST, MANAGER "/session", ROLE_OPERATOR, sessions_create},
	{METHOD_GET, MANAGER "/sessions", ROLE_VIEWER, sessions_list},
	{METHOD_POST, MANAGER "/sessions", ROLE_OPERATOR, sessions_action},
	{METHOD_GET, MANAGER "/session/{id}", ROLE_VIEWER, session_show},
	{METHOD_POST, MANAGER "/session/{id}", ROLE_OPERATOR, session_action},
	{METHOD_GET, MANAGER "/session/{id}/capturefile", ROLE_VIEWER, session_file, NULL, true},
	{METHOD_GET, MANAGER "/session/{id}/CapturedFile", ROLE_VIEWER, session_file, NULL, true},
	{METHOD_POST, POLICY "/session", ROLE_OPERATOR, sessions_create},
	{METHOD_GET, POLICY "/sessions", ROLE_VIEWER, sessions_list},
	{METHOD_DELETE, POLICY "/sessions", ROLE_OPERATOR, sessions_delete},
	{METHOD_GET, POLICY "/session/{id}", ROLE_VIEWER, session_show},
	{METHOD_POST, POLICY "/session/{id}", ROLE_OPERATOR, session_action},
	{METHOD_DELETE, POLICY "/session/{id}", ROLE_OPERATOR, session_remove},
	{METHOD_GET, POLICY "/session/{id}/CapturedFile", ROLE_VIEWER, session_file, NULL, true},
	{METHOD_GET, POLICY "/session/{id}/capturefile", ROLE_VIEWER, session_file, NULL, true},
	{METHOD_GET, "/api/v1/fabric/virtual-machines", ROLE_VIEWER, machines_list},
	{METHOD_GET, "/api/v1/fabric/vifs", ROLE_VIEWER, vifs_list},
	{METHOD_GET, "/policy/api/v1/search", ROLE_VIEWER, search},
};

const struct vendor nsx_vendor_api = {
	.name = "nsx",
	.routes = routes,
	.n_routes = sizeof(routes) / sizeof(routes[0]),
	.credentials = AUTH_BASIC | AUTH_BEARER,
	.error = nsx_error,
	.error_type = "application/json",
	.file_type = "application/octet-stream",
	.challenge = "Basic realm=\"sluice\"",
	.wrong_is_403 = true,
};

void nsx_start(const struct config *config)
{
	nsx_config = config;
}

bool nsx_enabled(const struct config *config)
{
	return config->nsx.enabled;
}

static enum nsx_family family_of(const struct request *request)
{
	return strcmp(request->segments[0], "policy") == 0 ? NSX_POLICY : NSX_MANAGER;
}

static void fail(struct request *request, int status, const char *field, const char *text)
{
	struct err err;

	err_set(&err, EINVAL, field, "%s", text);
	route_error(request, status, &err);
}

/* Of the codes that there are, NSX knows these. */
static void err_reply(struct request *request, const struct err *original)
{
	int status = route_status(original);
	struct err err = *original;

	nsx_err_rename(&err);
	if (status == 500)
		log_error("request failed code=%d field=%s text=%s", err.code, err.field, err.text);
	route_error(request, status == 409 ? 412 : status == 507 ? 503 : status, &err);
}

/* Finding sessions: several of ours may go by one id, the restarts of the first; the newest counts. */

static bool session_is_nsx(
	const struct request *request, const struct session *session, struct session_info *info)
{
	session_info(session, info);
	return info->dialect == DIALECT_nsx && auth_sees(&request->who, info->account);
}

static struct session *named_newest(
	const struct request *request, const char *id, struct session_info *info)
{
	struct session *session = NULL;

	while ((session = session_next(session)) != NULL) {
		char name[UUID_TEXT_SIZE];

		if (!session_is_nsx(request, session, info))
			continue;
		nsx_session_id(info, name);
		if (strcmp(name, id) == 0)
			return session;
	}
	return NULL;
}

/*
 * The next session that has no newer restart, going from new to old; *restarted holds the ids of those
 * that have, and is released at the end.
 */
static struct session *current_next(const struct request *request, struct session *session,
	json_t **restarted, struct session_info *info)
{
	if (session == NULL)
		*restarted = json_object();
	while ((session = session_next(session)) != NULL) {
		char id[UUID_TEXT_SIZE];

		if (!session_is_nsx(request, session, info))
			continue;
		nsx_session_id(info, id);
		if (json_object_get(*restarted, id) != NULL)
			continue;
		if (nsx_session_restarted(info))
			json_object_set_new(*restarted, id, json_true());
		return session;
	}
	json_decref(*restarted);
	return NULL;
}

/* The session that the path names, or NULL with 404 answered. */
static struct session *named_find(struct request *request, struct session_info *info)
{
	const char *id = request_arg(request, 0);
	struct session *session = named_newest(request, id, info);
	struct err err;

	if (session != NULL)
		return session;
	err_set(&err, ENOENT, NULL, "There is no packet capture session %.40s", id);
	route_error(request, 404, &err);
	return NULL;
}

/*
 * Whose file stands for session: its own, or that of the capture that it restarted, which stays until
 * this one has a packet.
 */
static struct session *file_session(struct session *session, struct session_info *info)
{
	struct session *before;

	session_info(session, info);
	if (!session_state_closed(info->state) || info->ledger.written != 0 ||
		uuid_is_zero(&info->replaces))
		return session;
	before = session_find(&info->replaces);
	if (before == NULL)
		return session;
	session_info(before, info);
	return before;
}

static json_t *session_json(const struct request *request, struct session *session)
{
	struct session_info info, file;

	session_info(session, &info);
	file_session(session, &file);
	return nsx_session(
		&info, family_of(request), nsx_file_bytes(&file, nsx_config->nsx.format));
}

static void ports_of(const struct request *request, struct nsx_ports *ports)
{
	ports->n = native_account_ports(nsx_config, request->who.account, ports->port);
}

/* Creating and restarting */

static int ports_choose(const struct request *request, const struct nsx_request *wanted,
	struct session_spec *spec, struct err *err)
{
	struct nsx_ports ports;
	int rc;

	ports_of(request, &ports);
	if (ports.n == 0)
		return err_set(err, ENODEV, "capvalue", "the account has no ports on this host");
	spec->n_ports = ports.n;
	memcpy(spec->ports, ports.port, ports.n);
	if (wanted->point[0] == '\0')
		return 0;
	rc = nsx_port_find(wanted->point, nsx_config, &ports, err);
	spec->n_ports = 1;
	spec->ports[0] = rc >= 0 ? (uint8_t)rc : 0;
	return rc < 0 ? rc : 0;
}

static void session_created(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;
	struct session_info info;

	if (session == NULL) {
		err_reply(request, err);
		return;
	}
	session_info(session, &info);
	route_capture_log(request, &info);
	route_reply(request, 200, session_json(request, session));
}

/* before: the capture that is restarted, NULL for a new one. Answers request in every case. */
static void session_begin(struct request *request, const struct nsx_request *wanted,
	const struct session_info *before)
{
	struct session_spec spec = {.account = request->who.account, .owner = request->who.name};
	char id[UUID_TEXT_SIZE];
	struct err err = {0};
	char *vendor = NULL;

	if (ports_choose(request, wanted, &spec, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	nsx_spec(wanted, &spec);
	if (before != NULL) {
		nsx_session_id(before, id);
		spec.account = before->account;
		spec.replaces = before->ledger.written != 0 || uuid_is_zero(&before->replaces)
					? before->id
					: before->replaces;
	}
	vendor = nsx_vendor(wanted, before != NULL ? id : NULL);
	spec.vendor = vendor;
	session_create(&spec, session_created, request);
	free(vendor);
}

static void sessions_create(struct request *request)
{
	struct nsx_request wanted;
	struct err err = {0};

	if (nsx_request_decode(request->body, request->body_len, family_of(request), nsx_config,
		    &wanted, &err) < 0)
		err_reply(request, &err);
	else
		session_begin(request, &wanted, NULL);
	nsx_request_free(&wanted);
}

/* The capture that is restarted is closed; somebody else may have been faster. */
static void restart_closed(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;
	struct session_info info, newest;
	struct nsx_request wanted;
	struct err bad = {0};

	if (session == NULL) {
		fail(request, 404, NULL, "The session was deleted meanwhile");
		return;
	}
	session_info(session, &info);
	if (named_newest(request, request_arg(request, 0), &newest) != session) {
		fail(request, 412, NULL, "The session is being restarted already");
		return;
	}
	if (nsx_vendor_decode(info.vendor, nsx_config, &wanted, &bad) < 0)
		err_reply(request, &bad);
	else
		session_begin(request, &wanted, &info);
	nsx_request_free(&wanted);
}

/* Ending */

static void terminate_closed(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (session == NULL)
		fail(request, 404, NULL, "The session was deleted meanwhile");
	else
		route_reply(request, 200, session_json(request, session));
}

/* Sessions on their way out, one or all; answered when the last has gone. */
struct removal {
	struct request *request;
	unsigned n_pending;
	bool list; /* all were asked for */
	json_t *results;
	struct err err; /* the first */
};

static void removal_step(struct removal *removal)
{
	json_t *results = removal->results;

	if (--removal->n_pending != 0)
		return;
	if (removal->err.code != 0) {
		err_reply(removal->request, &removal->err);
		json_decref(results);
	} else if (removal->list) {
		route_reply(removal->request, 200, nsx_list(results));
	} else if (json_array_size(results) == 0) {
		fail(removal->request, 404, NULL, "The session was deleted meanwhile");
		json_decref(results);
	} else {
		route_reply(removal->request, 200, json_incref(json_array_get(results, 0)));
		json_decref(results);
	}
	free(removal);
}

static void removal_deleted(struct session *session, const struct err *err, void *arg)
{
	struct removal *removal = arg;

	if (err != NULL && removal->err.code == 0)
		removal->err = *err;
	removal_step(removal);
}

/* What is shown is the last that there was to see. */
static void removal_closed(struct session *session, const struct err *err, void *arg)
{
	struct removal *removal = arg;

	if (session == NULL) {
		removal_step(removal);
		return;
	}
	json_array_append_new(removal->results, session_json(removal->request, session));
	session_delete(session, removal_deleted, removal);
}

static struct removal *removal_new(struct request *request, bool list)
{
	struct removal *removal = calloc(1, sizeof(*removal));

	if (removal == NULL) {
		fail(request, 503, NULL, "no memory");
		return NULL;
	}
	removal->request = request;
	removal->list = list;
	removal->results = json_array();
	removal->n_pending = 1; /* let go by the caller, after the last removal_add */
	return removal;
}

/* session, and what it restarted and was to replace. */
static void removal_add(struct removal *removal, struct session *session)
{
	struct session_info info;
	struct session *before;

	session_info(session, &info);
	before = uuid_is_zero(&info.replaces) ? NULL : session_find(&info.replaces);
	if (before != NULL) {
		removal->n_pending++;
		session_delete(before, removal_deleted, removal);
	}
	removal->n_pending++;
	session_stop(session, END_stopped, NULL, NULL);
	session_closed_wait(session, removal_closed, removal);
}

static void session_remove(struct request *request)
{
	struct session_info info;
	struct session *session = named_find(request, &info);
	struct removal *removal = session != NULL ? removal_new(request, false) : NULL;

	if (removal == NULL)
		return;
	removal_add(removal, session);
	removal_step(removal);
}

static void sessions_delete(struct request *request)
{
	struct removal *removal = removal_new(request, true);
	struct session *session = NULL;
	struct session_info info;
	json_t *restarted;

	if (removal == NULL)
		return;
	while ((session = current_next(request, session, &restarted, &info)) != NULL)
		removal_add(removal, session);
	removal_step(removal);
}

/* Actions, by the query. */

static void action_refuse(struct request *request, const char *allowed)
{
	const char *action = request_param(request, "action");
	struct err err;

	if (action == NULL)
		err_set(&err, EINVAL, "action", "is required in the query; allowed: %s", allowed);
	else
		err_set(&err, EINVAL, "action", "must be one of: %s; not \"%.40s\"", allowed,
			action);
	route_error(request, 400, &err);
}

static void session_action(struct request *request)
{
	const char *action = request_param(request, "action");
	const bool manager = family_of(request) == NSX_MANAGER;
	struct session_info info;
	struct session *session;

	if (action == NULL || (strcmp(action, "terminate") != 0 && strcmp(action, "restart") != 0 &&
				      (!manager || strcmp(action, "delete") != 0))) {
		action_refuse(
			request, manager ? "terminate, restart, delete" : "terminate, restart");
		return;
	}
	if (strcmp(action, "delete") == 0) {
		session_remove(request);
		return;
	}
	session = named_find(request, &info);
	if (session == NULL)
		return;
	session_stop(session, END_stopped, NULL, NULL);
	session_closed_wait(session,
		strcmp(action, "restart") == 0 ? restart_closed : terminate_closed, request);
}

static void sessions_action(struct request *request)
{
	const char *action = request_param(request, "action");

	if (action != NULL && strcmp(action, "delete") == 0)
		sessions_delete(request);
	else
		action_refuse(request, "delete");
}

/* Looking */

static void sessions_list(struct request *request)
{
	json_t *list = json_array(), *restarted;
	struct session *session = NULL;
	struct session_info info;

	while ((session = current_next(request, session, &restarted, &info)) != NULL)
		json_array_append_new(list, session_json(request, session));
	route_reply(request, 200, nsx_list(list));
}

static void session_show(struct request *request)
{
	struct session_info info;
	struct session *session = named_find(request, &info);

	if (session != NULL)
		route_reply(request, 200, session_json(request, session));
}

static void session_file(struct request *request)
{
	struct session_info info;
	struct session *session = named_find(request, &info);

	if (session == NULL)
		return;
	session = file_session(session, &info);
	if (info.output != OUTPUT_FILE)
		fail(request, 404, NULL, "This session has no file: it sends a stream");
	else if (info.state == SESSION_deleted)
		fail(request, 404, NULL, "The packets of this session are no longer kept");
	else if (!session_state_closed(info.state))
		fail(request, 412, "sessionstatus",
			"the session is not finished; wait for FINISHED or STOPPED");
	else
		download_start(request, session,
			nsx_config->nsx.format == CONFIG_NSX_PCAPNG ? DOWNLOAD_PCAPNG
								    : DOWNLOAD_PCAP_MICROSECONDS);
}

/* Inventory */

static void machines_list(struct request *request)
{
	struct nsx_ports ports;

	ports_of(request, &ports);
	route_reply(request, 200,
		nsx_virtual_machines(nsx_config, &ports, request_param(request, "display_name"),
			request_param(request, "external_id")));
}

static void vifs_list(struct request *request)
{
	struct nsx_ports ports;

	ports_of(request, &ports);
	route_reply(request, 200,
		nsx_vifs(nsx_config, &ports, request_param(request, "owner_vm_id"),
			request_param(request, "lport_attachment_id")));
}

static void search(struct request *request)
{
	const char *query = request_param(request, "query");
	struct nsx_ports ports;
	struct err err = {0};
	json_t *found;

	ports_of(request, &ports);
	found = nsx_search(nsx_config, &ports, query != NULL ? query : "", &err);
	if (found == NULL)
		err_reply(request, &err);
	else
		route_reply(request, 200, found);
}
