/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/cloudflare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "control/ownership.h"
#include "control/session.h"
#include "api/cloudflare_destination.h"
#include "api/cloudflare_json.h"
#include "api/download.h"
#include "api/native_json.h"
#include "api/rfc3339.h"
#include "api/server.h"

#define LIST_MAX    50
#define NS_PER_S    1000000000ULL
#define PCAP_ID_LEN 32

static const struct config *cloudflare_config;

static void pcaps_create(struct request *request);
static void pcaps_list(struct request *request);
static void pcap_show(struct request *request);
static void pcap_stop(struct request *request);
static void pcap_download(struct request *request);
static void buckets_list(struct request *request);
static void bucket_add(struct request *request);
static void bucket_validate(struct request *request);
static void bucket_delete(struct request *request);

/* A bucket is a sibling of a capture's id in the path, so its rows come first. */
static const struct route routes[] = {
	{METHOD_GET, "/accounts/{id}/pcaps/ownership", ROLE_VIEWER, buckets_list},
	{METHOD_POST, "/accounts/{id}/pcaps/ownership", ROLE_OPERATOR, bucket_add},
	{METHOD_POST, "/accounts/{id}/pcaps/ownership/validate", ROLE_OPERATOR, bucket_validate},
	{METHOD_DELETE, "/accounts/{id}/pcaps/ownership/{bucket}", ROLE_OPERATOR, bucket_delete},
	{METHOD_POST, "/accounts/{id}/pcaps", ROLE_OPERATOR, pcaps_create},
	{METHOD_GET, "/accounts/{id}/pcaps", ROLE_VIEWER, pcaps_list},
	{METHOD_GET, "/accounts/{id}/pcaps/{pcap}", ROLE_VIEWER, pcap_show},
	{METHOD_PUT, "/accounts/{id}/pcaps/{pcap}/stop", ROLE_OPERATOR, pcap_stop},
	{METHOD_GET, "/accounts/{id}/pcaps/{pcap}/download", ROLE_VIEWER, pcap_download, NULL,
		true},
};

const struct vendor cloudflare_vendor = {
	.name = "cloudflare",
	.routes = routes,
	.n_routes = sizeof(routes) / sizeof(routes[0]),
	.credentials = AUTH_BEARER | AUTH_KEY | AUTH_SERVICE_KEY,
	.error = cloudflare_error,
	.error_type = "application/json",
};

void cloudflare_start(const struct config *config)
{
	cloudflare_config = config;
}

bool cloudflare_enabled(const struct config *config)
{
	return config->cloudflare.enabled;
}

static void fail(
	struct request *request, int status, enum cloudflare_code code, const char *message)
{
	/* Its clients repeat 408, 409, 429 and 5xx by themselves, creates too, unless told not to.
	 */
	if (status == 409 || status == 429 || status >= 500)
		server_header_add(request, "x-should-retry", "false");
	route_reply(request, status, cloudflare_failure(code, message));
}

static void err_reply(struct request *request, const struct err *original)
{
	int status = route_status(original);
	struct err err = *original;

	cloudflare_err_rename(&err);
	if (status == 500)
		log_error("request failed code=%d field=%s text=%s", err.code, err.field, err.text);
	if (status == 409 || status >= 500)
		server_header_add(request, "x-should-retry", "false");
	route_reply(request, status, cloudflare_error(status, &err));
}

/* The account in the path, if it is ours and its asker may use it; else 404 is answered. */
static const struct config_account *account_find(struct request *request)
{
	const char *id = request_arg(request, 0);

	for (unsigned i = 0; i < cloudflare_config->n_accounts; i++) {
		const struct config_account *account = &cloudflare_config->accounts[i];

		if (account->id[0] != '\0' && strcmp(account->id, id) == 0 &&
			auth_sees(&request->who, account->name))
			return account;
	}
	fail(request, 404, CLOUDFLARE_NO_ROUTE, "No route for the URI");
	return NULL;
}

/* Is it this account's, and made in this dialect? Others have no words for it here. */
static bool session_is_pcap(const struct session *session, const struct config_account *account,
	struct session_info *info)
{
	session_info(session, info);
	return info->dialect == DIALECT_cloudflare && strcmp(info->account, account->name) == 0;
}

/* The capture in the path, or NULL with 404 answered. */
static struct session *pcap_find(struct request *request, struct session_info *info)
{
	const char *text = request_arg(request, 1);
	const struct config_account *account = account_find(request);
	struct session *session = NULL;
	struct uuid id;

	if (account == NULL) /* and request is answered and gone */
		return NULL;
	if (strlen(text) == PCAP_ID_LEN && uuid_parse(text, PCAP_ID_LEN, &id))
		session = session_find(&id);
	if (session != NULL && session_is_pcap(session, account, info))
		return session;
	fail(request, 404, CLOUDFLARE_NO_PCAP, "There is no packet capture with this id");
	return NULL;
}

/* The account's settings full_concurrent and simple_per_minute. */
static bool limits_allow(
	struct request *request, const struct config_account *account, enum cloudflare_type type)
{
	unsigned full_max = cloudflare_config->cloudflare.full_concurrent;
	unsigned simple_max = cloudflare_config->cloudflare.simple_per_minute;
	uint64_t minute_ago_ns = rfc3339_now() - 60 * NS_PER_S;
	const struct session *session = NULL;
	unsigned n = 0;

	if ((type == CLOUDFLARE_FULL ? full_max : simple_max) == 0)
		return true;
	while ((session = session_next(session)) != NULL) {
		struct session_info info;

		if (!session_is_pcap(session, account, &info) || cloudflare_type(&info) != type)
			continue;
		if (type == CLOUDFLARE_FULL)
			n += info.state <= SESSION_stopping;
		else
			n += info.created_ns > minute_ago_ns;
	}
	if (n < (type == CLOUDFLARE_FULL ? full_max : simple_max))
		return true;
	if (type == CLOUDFLARE_FULL)
		fail(request, 429, CLOUDFLARE_TOO_MANY,
			"type: as many full captures as this account may have are running");
	else
		fail(request, 429, CLOUDFLARE_TOO_MANY,
			"type: this account's simple captures for this minute are used up");
	return false;
}

static void pcap_created(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;
	struct session_info info;

	if (session == NULL) {
		err_reply(request, err);
		return;
	}
	session_info(session, &info);
	route_capture_log(request, &info);
	route_reply(request, 200, cloudflare_envelope(cloudflare_pcap(&info, true)));
}

/* Where a full capture is delivered: into a bucket that the account has proved to be its own. */
static int destination_take(const struct config_account *account,
	const struct cloudflare_destination *destination, struct session_spec *spec,
	struct err *err)
{
	struct ownership_place place = {account->name, NULL, destination->directory};

	if (cloudflare_config->cloudflare.deliver == CONFIG_DELIVER_LOCAL)
		return 0;
	place.bucket =
		cloudflare_destination_bucket(cloudflare_config, account->name, destination, err);
	if (place.bucket == NULL)
		return -EINVAL;
	if (!ownership_proved(&place))
		return err_set(err, EINVAL, "destination_conf",
			"the bucket is not validated; add it with POST .../pcaps/ownership, then "
			"POST .../pcaps/ownership/validate what the challenge in it holds");
	spec->output = OUTPUT_S3;
	spec->bucket = place.bucket->name;
	spec->prefix = destination->directory;
	spec->object = "pcap_{id}.pcap";
	return 0;
}

static void pcaps_create(struct request *request)
{
	const struct config_account *account = account_find(request);
	struct cloudflare_request wanted;
	struct session_spec spec = {0};
	struct err err;

	if (account == NULL)
		return;
	if (cloudflare_create_decode(request->body, request->body_len, account,
		    cloudflare_config->cloudflare.deliver, rfc3339_now(), &wanted, &err) < 0) {
		err_reply(request, &err);
		return;
	}
	if (!limits_allow(request, account, wanted.type))
		goto out;
	if (wanted.type == CLOUDFLARE_FULL &&
		destination_take(account, &wanted.destination, &spec, &err) < 0) {
		err_reply(request, &err);
		goto out;
	}
	cloudflare_spec(&wanted, cloudflare_config->sampling.simple, &spec);
	spec.account = account->name;
	spec.owner = request->who.name;
	spec.n_ports = native_account_ports(cloudflare_config, account->name, spec.ports);
	if (spec.n_ports == 0) {
		err_set(&err, ENODEV, NULL, "the account has no ports on this host");
		err_reply(request, &err);
		goto out;
	}
	session_create(&spec, pcap_created, request);
out:
	free(wanted.echo);
}

/* The one page that there is, of total. */
static void list_reply(struct request *request, json_t *list, unsigned total)
{
	json_t *counts = json_object(), *envelope;

	json_object_set_new(counts, "page", json_integer(1));
	json_object_set_new(counts, "per_page", json_integer(LIST_MAX));
	json_object_set_new(counts, "count", json_integer((json_int_t)json_array_size(list)));
	json_object_set_new(counts, "total_count", json_integer(total));
	envelope = cloudflare_envelope(list);
	json_object_set_new(envelope, "result_info", counts);
	route_reply(request, 200, envelope);
}

static void pcaps_list(struct request *request)
{
	const struct config_account *account = account_find(request);
	const struct session *session = NULL;
	unsigned total = 0;
	json_t *list;

	if (account == NULL)
		return;
	list = json_array();
	while ((session = session_next(session)) != NULL) {
		struct session_info info;

		if (!session_is_pcap(session, account, &info))
			continue;
		if (total++ < LIST_MAX)
			json_array_append_new(list, cloudflare_pcap(&info, false));
	}
	list_reply(request, list, total);
}

static void pcap_show(struct request *request)
{
	struct session_info info;

	if (pcap_find(request, &info) != NULL)
		route_reply(request, 200, cloudflare_envelope(cloudflare_pcap(&info, false)));
}

static void pcap_stopped(struct session *session, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (session == NULL && err != NULL)
		err_reply(request, err);
	else
		server_reply(request, 204, NULL, NULL, 0);
}

static void pcap_stop(struct request *request)
{
	struct session_info info;
	struct session *session = pcap_find(request, &info);
	char *vendor;

	if (session == NULL)
		return;
	if (cloudflare_type(&info) != CLOUDFLARE_FULL) {
		fail(request, 400, CLOUDFLARE_BAD_FIELD, "type: only full captures can be stopped");
		return;
	}
	if (info.state <= SESSION_running) {
		vendor = cloudflare_stop_requested(info.vendor, rfc3339_now());
		if (vendor != NULL)
			session_vendor_set(session, vendor);
		free(vendor);
	}
	session_stop(session, END_stopped, pcap_stopped, request);
}

static void pcap_download(struct request *request)
{
	struct session_info info;
	struct session *session = pcap_find(request, &info);

	if (session == NULL)
		return;
	if (info.state == SESSION_deleted)
		fail(request, 404, CLOUDFLARE_NO_PCAP,
			"The packets of this capture are no longer kept");
	else if (info.upload.local_gone)
		fail(request, 404, CLOUDFLARE_NO_PCAP,
			"This capture is in its bucket and no longer on this host");
	else if (!session_state_closed(info.state))
		fail(request, 409, CLOUDFLARE_UNFINISHED,
			"status: the capture is not finished; wait for success");
	else
		download_start(request, session, DOWNLOAD_PCAP_MICROSECONDS);
}

/* Where full captures stay on this host there are no buckets to own. */
static const struct config_account *bucket_account(struct request *request)
{
	const struct config_account *account = account_find(request);

	if (account == NULL || cloudflare_config->cloudflare.deliver == CONFIG_DELIVER_BUCKET)
		return account;
	fail(request, 404, CLOUDFLARE_NO_ROUTE, "No route for the URI");
	return NULL;
}

static void buckets_list(struct request *request)
{
	const struct config_account *account = bucket_account(request);
	const struct ownership *owned = NULL;
	json_t *list;

	if (account == NULL)
		return;
	list = json_array();
	while ((owned = ownership_next(owned, account->name)) != NULL)
		json_array_append_new(list, cloudflare_ownership(owned));
	list_reply(request, list, (unsigned)json_array_size(list));
}

static void bucket_owned(const struct ownership *owned, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (owned == NULL) {
		err_reply(request, err);
		return;
	}
	route_subject(request, &owned->id);
	route_reply(request, 200, cloudflare_envelope(cloudflare_ownership(owned)));
}

/* The place that a request to add or to validate is about; false: it is answered. */
static bool bucket_place(struct request *request, bool validate, struct cloudflare_bucket *asked,
	struct ownership_place *place)
{
	const struct config_account *account = bucket_account(request);
	struct err err;

	if (account == NULL)
		return false;
	*place = (struct ownership_place){.account = account->name};
	if (cloudflare_bucket_decode(request->body, request->body_len, validate, asked, &err) == 0)
		place->bucket = cloudflare_destination_bucket(
			cloudflare_config, account->name, &asked->destination, &err);
	place->prefix = asked->destination.directory;
	if (place->bucket == NULL)
		err_reply(request, &err);
	return place->bucket != NULL;
}

static void bucket_add(struct request *request)
{
	struct cloudflare_bucket asked;
	struct ownership_place place;

	if (bucket_place(request, false, &asked, &place))
		ownership_add(&place, asked.conf, bucket_owned, request);
}

static void bucket_validate(struct request *request)
{
	struct cloudflare_bucket asked;
	struct ownership_place place;

	if (bucket_place(request, true, &asked, &place))
		ownership_validate(&place, asked.challenge, bucket_owned, request);
}

static void bucket_deleted(const struct ownership *owned, const struct err *err, void *arg)
{
	struct request *request = arg;

	if (err == NULL)
		server_reply(request, 204, NULL, NULL, 0);
	else if (err->code == ENOENT)
		fail(request, 404, CLOUDFLARE_NO_PCAP, err->text);
	else
		err_reply(request, err);
}

static void bucket_delete(struct request *request)
{
	const struct config_account *account = bucket_account(request);
	const struct err none = {.code = ENOENT, .text = "There is no bucket with this id"};
	const char *text;
	struct uuid id;

	if (account == NULL)
		return;
	text = request_arg(request, 1);
	if (strlen(text) == PCAP_ID_LEN && uuid_parse(text, PCAP_ID_LEN, &id))
		ownership_delete(account->name, &id, bucket_deleted, request);
	else
		bucket_deleted(NULL, &none, request);
}
