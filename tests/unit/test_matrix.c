/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Who may what: every route of every dialect x who asks x whose capture it is, over real sockets. The
 * routes come from the routers' tables, what is right stands below in one table of our own; a route that
 * is not in it fails the test, and so does a line that no route answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <strings.h>

#include <cmocka.h>

#include "api_fixture.h"
#include "api/base64.h"
#include "api/citrix.h"
#include "api/cloudflare.h"
#include "api/guard.h"
#include "api/mist.h"
#include "api/native.h"
#include "api/nsx.h"
#include "api/rfc3339.h"
#include "api/route.h"
#include "config/log.h"

#define ACCOUNT "023e105f4ecef8ad9ca31a8372d0c353"
#define SITE    "67970e46-4e12-11e6-9188-0242ac110007"
#define ORG     "a9346fba-f920-e99a-cc51-2e8dcc57fa3c"
#define ABSENT  "00000000-0000-4000-8000-000000000000"

/* What of a route depends on whose it is. */
enum scope {
	OPEN, /* nobody is asked: the one status that it answers here stands behind it */
	ALL,  /* nothing; what is shown is what one may see */
	CAPTURE, /* the capture in its path: a stranger's asking and one that is not there look alike */
	HOLDER, /* the account, site or organisation in its path: the same */
	NATURE, /* the same, and what is there may be refused for its nature with 404 */
};

static const struct policy {
	enum method method;
	const char *path;
	enum role least;
	enum scope scope;
	int open_status;
} policies[] = {
	/* native */
	{METHOD_POST, "/api/v1/captures", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/api/v1/captures", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/captures/{id}", ROLE_VIEWER, CAPTURE},
	{METHOD_PATCH, "/api/v1/captures/{id}", ROLE_OPERATOR, CAPTURE},
	{METHOD_DELETE, "/api/v1/captures/{id}", ROLE_OPERATOR, CAPTURE},
	{METHOD_POST, "/api/v1/captures/{id}/stop", ROLE_OPERATOR, CAPTURE},
	{METHOD_GET, "/api/v1/captures/{id}/download", ROLE_VIEWER, CAPTURE},
	{METHOD_GET, "/api/v1/captures/{id}/packets", ROLE_VIEWER, CAPTURE},
	{METHOD_GET, "/api/v1/captures/{id}/packets/{number}", ROLE_VIEWER, NATURE},
	{METHOD_POST, "/api/v1/packets/decode", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/captures/{id}/live", ROLE_VIEWER, CAPTURE},
	{METHOD_POST, "/api/v1/filters/check", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/api/v1/stream", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/ports", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/buckets", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/api/v1/status", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/tokens", ROLE_ADMIN, ALL},
	{METHOD_POST, "/api/v1/tokens", ROLE_ADMIN, ALL},
	{METHOD_DELETE, "/api/v1/tokens/{name}", ROLE_ADMIN, ALL},
	{METHOD_POST, "/api/v1/session", ROLE_NONE, OPEN, 400},
	{METHOD_GET, "/api/v1/session", ROLE_VIEWER, ALL},
	{METHOD_DELETE, "/api/v1/session", ROLE_VIEWER, ALL},
	{METHOD_GET, "/healthz", ROLE_NONE, OPEN, 200},
	{METHOD_GET, "/metrics", ROLE_VIEWER, ALL},
	{METHOD_GET, "/openapi.json", ROLE_NONE, OPEN, 200},
	{METHOD_GET, "/", ROLE_NONE, OPEN, 200},
	{METHOD_GET, "/console/{file}", ROLE_NONE, OPEN, 404},
	/* Cloudflare */
	{METHOD_GET, "/accounts/{id}/pcaps/ownership", ROLE_VIEWER, NATURE},
	{METHOD_POST, "/accounts/{id}/pcaps/ownership", ROLE_OPERATOR, NATURE},
	{METHOD_POST, "/accounts/{id}/pcaps/ownership/validate", ROLE_OPERATOR, NATURE},
	{METHOD_DELETE, "/accounts/{id}/pcaps/ownership/{bucket}", ROLE_OPERATOR, NATURE},
	{METHOD_POST, "/accounts/{id}/pcaps", ROLE_OPERATOR, HOLDER},
	{METHOD_GET, "/accounts/{id}/pcaps", ROLE_VIEWER, HOLDER},
	{METHOD_GET, "/accounts/{id}/pcaps/{pcap}", ROLE_VIEWER, CAPTURE},
	{METHOD_PUT, "/accounts/{id}/pcaps/{pcap}/stop", ROLE_OPERATOR, CAPTURE},
	{METHOD_GET, "/accounts/{id}/pcaps/{pcap}/download", ROLE_VIEWER, CAPTURE},
	/* NSX */
	{METHOD_POST, "/api/v1/pktcap/session", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/api/v1/pktcap/sessions", ROLE_VIEWER, ALL},
	{METHOD_POST, "/api/v1/pktcap/sessions", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/api/v1/pktcap/session/{id}", ROLE_VIEWER, CAPTURE},
	{METHOD_POST, "/api/v1/pktcap/session/{id}", ROLE_OPERATOR, CAPTURE},
	{METHOD_GET, "/api/v1/pktcap/session/{id}/capturefile", ROLE_VIEWER, CAPTURE},
	{METHOD_GET, "/api/v1/pktcap/session/{id}/CapturedFile", ROLE_VIEWER, CAPTURE},
	{METHOD_POST, "/policy/api/v1/infra/pktcap/session", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/policy/api/v1/infra/pktcap/sessions", ROLE_VIEWER, ALL},
	{METHOD_DELETE, "/policy/api/v1/infra/pktcap/sessions", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/policy/api/v1/infra/pktcap/session/{id}", ROLE_VIEWER, CAPTURE},
	{METHOD_POST, "/policy/api/v1/infra/pktcap/session/{id}", ROLE_OPERATOR, CAPTURE},
	{METHOD_DELETE, "/policy/api/v1/infra/pktcap/session/{id}", ROLE_OPERATOR, CAPTURE},
	{METHOD_GET, "/policy/api/v1/infra/pktcap/session/{id}/capturefile", ROLE_VIEWER, CAPTURE},
	{METHOD_GET, "/policy/api/v1/infra/pktcap/session/{id}/CapturedFile", ROLE_VIEWER, CAPTURE},
	{METHOD_GET, "/api/v1/fabric/virtual-machines", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/fabric/vifs", ROLE_VIEWER, ALL},
	{METHOD_GET, "/policy/api/v1/search", ROLE_VIEWER, ALL},
	/* Citrix: an account has one capture, which no path names */
	{METHOD_POST, "/v1/config/login", ROLE_NONE, OPEN, 400},
	{METHOD_POST, "/v2/config/login", ROLE_NONE, OPEN, 400},
	{METHOD_DELETE, "/v1/config/login", ROLE_VIEWER, ALL},
	{METHOD_DELETE, "/v2/config/login", ROLE_VIEWER, ALL},
	{METHOD_DELETE, "/v1/config/login/{name}", ROLE_VIEWER, ALL},
	{METHOD_DELETE, "/v2/config/login/{name}", ROLE_VIEWER, ALL},
	{METHOD_POST, "/v1/diag/packet_capture", ROLE_OPERATOR, ALL},
	{METHOD_POST, "/v2/diag/packet_capture", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/v1/diag/packet_capture", ROLE_VIEWER, ALL},
	{METHOD_GET, "/v2/diag/packet_capture", ROLE_VIEWER, ALL},
	{METHOD_PUT, "/v1/diag/packet_capture", ROLE_OPERATOR, ALL},
	{METHOD_PUT, "/v2/diag/packet_capture", ROLE_OPERATOR, ALL},
	{METHOD_DELETE, "/v1/diag/packet_capture", ROLE_OPERATOR, ALL},
	{METHOD_DELETE, "/v2/diag/packet_capture", ROLE_OPERATOR, ALL},
	{METHOD_GET, "/v1/download/pcap_download", ROLE_VIEWER, ALL},
	{METHOD_GET, "/v2/download/pcap_download", ROLE_VIEWER, ALL},
	/* Mist */
	{METHOD_GET, "/api/v1/self", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/sites/{id}/pcaps", ROLE_VIEWER, HOLDER},
	{METHOD_GET, "/api/v1/orgs/{id}/pcaps", ROLE_VIEWER, HOLDER},
	{METHOD_POST, "/api/v1/sites/{id}/pcaps/capture", ROLE_OPERATOR, HOLDER},
	{METHOD_POST, "/api/v1/orgs/{id}/pcaps/capture", ROLE_OPERATOR, HOLDER},
	{METHOD_GET, "/api/v1/sites/{id}/pcaps/capture", ROLE_VIEWER, HOLDER},
	{METHOD_GET, "/api/v1/orgs/{id}/pcaps/capture", ROLE_VIEWER, HOLDER},
	{METHOD_DELETE, "/api/v1/sites/{id}/pcaps/capture", ROLE_OPERATOR, HOLDER},
	{METHOD_DELETE, "/api/v1/orgs/{id}/pcaps/capture", ROLE_OPERATOR, HOLDER},
	{METHOD_PUT, "/api/v1/sites/{id}/pcaps/{pcap}", ROLE_OPERATOR, CAPTURE},
	{METHOD_GET, "/api-ws/v1/stream", ROLE_VIEWER, ALL},
	{METHOD_GET, "/api/v1/sites/{id}/pcaps/{pcap}/download", ROLE_NONE, OPEN, 403},
	{METHOD_GET, "/api/v1/orgs/{id}/pcaps/{pcap}/download", ROLE_NONE, OPEN, 403},
};
#define N_POLICIES (sizeof(policies) / sizeof(policies[0]))

/* Who asks. The captures belong to the account "default". */
enum asker {
	NONE,
	GARBLED,
	EXPIRED,
	REVOKED,
	VIEWER,
	OPERATOR,
	ADMIN,
	STRANGE_VIEWER,
	STRANGE_OPERATOR,
	STRANGE_ADMIN,
	N_ASKERS,
};

static struct {
	const char *name;
	const char *role;
	const char *account;
	char secret[AUTH_SECRET_SIZE];
	char cookie[128];
} askers[N_ASKERS] = {
	[NONE] = {"nobody"},
	[GARBLED] = {"garbled"},
	[EXPIRED] = {"expired", "admin", "*"},
	[REVOKED] = {"revoked", "admin", "*"},
	[VIEWER] = {"viewer", "viewer", "default"},
	[OPERATOR] = {"operator", "operator", "default"},
	[ADMIN] = {"boss", "admin", "*"},
	[STRANGE_VIEWER] = {"strange-viewer", "viewer", "other"},
	[STRANGE_OPERATOR] = {"strange-operator", "operator", "other"},
	[STRANGE_ADMIN] = {"strange-admin", "admin", "other"},
};

static const struct dialect {
	const char *prefix;
	const struct vendor *vendor;
} dialects[] = {
	{"", &native_vendor},
	{"", &cloudflare_vendor},
	{"/client/v4", &cloudflare_vendor},
	{"", &nsx_vendor_api},
	{"/sdwan/nitro", &citrix_vendor},
	{"", &mist_vendor},
};

static unsigned n_cells;

static enum role role_of(enum asker asker)
{
	return asker < VIEWER ? ROLE_NONE : auth_role_parse(askers[asker].role);
}

static bool is_stranger(enum asker asker)
{
	return asker == STRANGE_VIEWER || asker == STRANGE_OPERATOR;
}

static const struct policy *policy_of(const struct route *route)
{
	for (unsigned i = 0; i < N_POLICIES; i++)
		if (policies[i].method == route->method &&
			strcmp(policies[i].path, route->path) == 0)
			return &policies[i];
	fail_msg("%s %s: nobody wrote down who may", request_method_name(route->method),
		route->path);
	return NULL;
}

/* --- the subject of a question ------------------------------------------------------------------
 */

static struct session *made;

static void session_made(struct session *session, const struct err *err, void *arg)
{
	if (session == NULL)
		fail_msg("%s: %s", err->field, err->text);
	made = session;
}

static const char *vendor_text(const struct vendor *vendor, bool organisation)
{
	if (vendor == &cloudflare_vendor)
		return "{\"type\":\"simple\",\"system\":\"magic-transit\",\"time_limit\":3,"
		       "\"packet_limit\":7}";
	if (vendor == &nsx_vendor_api)
		return "{\"cappoint\":\"VMNIC\",\"capsource\":\"CLI\"}";
	if (vendor == &mist_vendor && organisation)
		return "{\"type\":\"mxedge\",\"scope\":\"org\"}";
	return vendor == &mist_vendor ? "{\"type\":\"wired\",\"scope\":\"site\"}" : NULL;
}

/* A closed capture of the dialect and of the account "default", the only one there is. */
static void subject_make(const struct vendor *vendor, const char *path)
{
	struct session_spec spec = {
		.account = "default",
		.owner = "operator",
		.n_ports = 1,
		.output = OUTPUT_FILE,
		.vendor = vendor_text(vendor, strstr(path, "/orgs/") != NULL),
	};
	struct session *session;

	while ((session = session_next(NULL)) != NULL)
		session_delete(session, NULL, NULL);
	for (spec.dialect = 0; strcmp(session_dialect_name(spec.dialect), vendor->name) != 0;)
		spec.dialect++;
	session_create(&spec, session_made, NULL);
	fake_file_write(made, -1, 3);
	fake_state_set(made, SESSION_complete, END_stopped);
}

static bool subject_is_there(const struct uuid *id)
{
	struct session *session = session_find(id);
	struct session_info info;

	if (session == NULL)
		return false;
	session_info(session, &info);
	return info.state == SESSION_complete && info.name[0] == '\0' && info.notes[0] == '\0';
}

/* The route's path with what stands for its placeholders: what is there, or what is not. */
static void path_fill(
	const struct dialect *dialect, const struct route *route, bool there, char *path)
{
	const bool is_mist = dialect->vendor == &mist_vendor;
	const bool is_cloudflare = dialect->vendor == &cloudflare_vendor;
	char id[UUID_TEXT_SIZE] = ABSENT;
	struct session_info info;

	if (there) {
		session_info(made, &info);
		uuid_print(&info.id, id);
	}
	path += sprintf(path, "%s", dialect->prefix);
	for (const char *at = route->path; *at != '\0';) {
		const bool first = strncmp(at, "{id}", 4) == 0;

		if (*at != '{') {
			*path++ = *at++;
			continue;
		}
		if (strncmp(at, "{name}", 6) == 0)
			path += sprintf(path, "victim");
		else if (first && is_cloudflare)
			path += sprintf(
				path, "%s", there ? ACCOUNT : "00000000000000000000000000000000");
		else if (first && is_mist)
			path += sprintf(path, "%s",
				!there                                  ? ABSENT
				: strstr(route->path, "/orgs/") != NULL ? ORG
									: SITE);
		else if (is_cloudflare)
			for (const char *c = id; *c != '\0'; c++)
				*path = *c, path += *c != '-';
		else
			path += sprintf(path, "%s", id);
		at = strchr(at, '}') + 1;
	}
	*path = '\0';
}

/* --- asking -------------------------------------------------------------------------------------
 */

static void header_print(const struct vendor *vendor, enum asker asker, char *header, size_t size)
{
	char text[160], encoded[256];

	header[0] = '\0';
	if (asker == NONE)
		return;
	if (vendor == &citrix_vendor) {
		snprintf(header, size, "Cookie: %s\r\n", askers[asker].cookie);
	} else if (vendor == &nsx_vendor_api) {
		int len = snprintf(
			text, sizeof(text), "%s:%s", askers[asker].name, askers[asker].secret);

		base64_print(text, (size_t)len, encoded);
		snprintf(header, size, "Authorization: Basic %s\r\n", encoded);
	} else {
		snprintf(header, size, "Authorization: %s %s\r\n",
			vendor == &mist_vendor ? "Token" : "Bearer", askers[asker].secret);
	}
}

static void login(enum asker asker)
{
	char body[256], *at;
	struct answer answer;

	snprintf(body, sizeof(body), "{\"login\":{\"username\":\"%s\",\"password\":\"%s\"}}",
		askers[asker].name, askers[asker].secret);
	answer = ask(NULL, "POST", "/sdwan/nitro/v1/config/login", NULL, body);
	at = strstr(answer.head, "Set-Cookie: ");
	assert_non_null(at);
	snprintf(askers[asker].cookie, sizeof(askers[asker].cookie), "%.*s",
		(int)strcspn(at + 12, ";\r"), at + 12);
	free(answer.head);
}

static struct answer ask_as(
	const struct dialect *dialect, const struct route *route, enum asker asker, bool there)
{
	char path[256], header[512];

	path_fill(dialect, route, there, path);
	header_print(dialect->vendor, asker, header, sizeof(header));
	guard_start(); /* what was asked before is forgotten */
	/* No dialect begins anything with this. */
	return ask(NULL, request_method_name(route->method), path, header,
		route->method == METHOD_GET ? NULL : "[]");
}

/* Ids and dates may differ between two answers that are alike. */
static void text_blur(char *text)
{
	for (char *at = text; *at != '\0'; at++)
		if (strchr("0123456789abcdef", *at) != NULL)
			*at = '0';
}

static void answers_compare(struct answer one, struct answer other, const char *what)
{
	if (one.status != other.status)
		fail_msg("%s: %d where it is a stranger's, %d where it is not there", what,
			one.status, other.status);
	text_blur(one.body);
	text_blur(other.body);
	if (strcmp(one.body, other.body) != 0)
		fail_msg("%s: tells a stranger's from none:\n%s\n%s", what, one.body, other.body);
	free(one.head);
	free(other.head);
}

static bool is_one_of(int status, int a, int b, int c)
{
	return status == a || status == b || status == c;
}

static void cell_check(const struct dialect *dialect, const struct route *route, enum asker asker)
{
	const struct policy *policy = policy_of(route);
	const enum role role = role_of(asker);
	struct session_info info;
	char what[256], id[UUID_TEXT_SIZE];
	struct answer answer;
	bool untouched = true;

	subject_make(dialect->vendor, route->path);
	if (dialect->vendor == &citrix_vendor && asker >= VIEWER)
		login(asker); /* the one before may have ended his */
	session_info(made, &info);
	uuid_print(&info.id, id);
	snprintf(what, sizeof(what), "%s %s%s by %s", request_method_name(route->method),
		dialect->prefix, route->path, askers[asker].name);
	answer = ask_as(dialect, route, asker, true);
	n_cells++;
	if (policy->scope == OPEN) {
		if (answer.status != policy->open_status)
			fail_msg("%s: %d", what, answer.status);
	} else if (role == ROLE_NONE) {
		if (answer.status != 401 &&
			!(answer.status == 403 && asker != NONE && dialect->vendor->wrong_is_403))
			fail_msg("%s: %d", what, answer.status);
		if (answer.status == 401 && strstr(answer.head, "WWW-Authenticate: ") == NULL)
			fail_msg("%s: 401 that does not say how", what);
	} else if (role < policy->least) {
		if (answer.status != 403)
			fail_msg("%s: %d, not 403", what, answer.status);
	} else if (is_stranger(asker) && policy->scope != ALL) {
		answers_compare(answer, ask_as(dialect, route, asker, false), what);
		answer = (struct answer){0};
	} else {
		untouched = is_stranger(asker);
		if (is_one_of(answer.status, 401, 403, 429))
			fail_msg("%s: %d", what, answer.status);
		if (policy->scope == CAPTURE && answer.status == 404)
			fail_msg("%s: is not found: %s", what, answer.body);
	}
	if (untouched && !subject_is_there(&info.id))
		fail_msg("%s: has changed the capture", what);
	if (answer.body != NULL && untouched && strstr(answer.body, id) != NULL)
		fail_msg("%s: is told of the capture", what);
	free(answer.head);
}

static void every_cell_is_as_written(void **state)
{
	for (unsigned d = 0; d < sizeof(dialects) / sizeof(dialects[0]); d++)
		for (unsigned i = 0; i < dialects[d].vendor->n_routes; i++)
			for (enum asker asker = 0; asker < N_ASKERS; asker++)
				cell_check(&dialects[d], &dialects[d].vendor->routes[i], asker);
	print_message("# %u cells\n", n_cells);
}

/* What browsers say of requests that a page elsewhere makes; we are http://x. */
static const char *const foreign[] = {
	"Origin: http://evil.example\r\n",
	"Origin: null\r\n",
	"Origin: http://x:8081\r\n",
	"Origin: http://x.evil.example\r\n",
	"Origin: http://evil.example/http://x\r\n",
	"Sec-Fetch-Site: cross-site\r\n",
	"Sec-Fetch-Site: same-site\r\n",
	"Origin: http://x\r\nSec-Fetch-Site: cross-site\r\n",
};

/* A form that looks like JSON, sent by the browser of somebody who has signed in: status. */
static int forged(const struct dialect *dialect, const struct route *route, const char *headers)
{
	char path[256], text[512];
	struct answer answer;

	path_fill(dialect, route, true, path);
	snprintf(text, sizeof(text), "Cookie: %s\r\nContent-Type: text/plain\r\n%s",
		askers[ADMIN].cookie, headers);
	guard_start();
	answer = ask(NULL, request_method_name(route->method), path, text,
		route->method == METHOD_GET ? NULL : "{\"name\":\"forged\",\"a\":\"=\"}");
	free(answer.head);
	return answer.status;
}

static bool is_login(const struct route *route)
{
	return route->method == METHOD_POST &&
	       (strcmp(route->path, "/api/v1/session") == 0 ||
		       strstr(route->path, "/config/login") != NULL);
}

static void pages_of_other_origins_change_nothing(void **state)
{
	struct session_info info;
	unsigned n_open = 0;

	login(ADMIN);
	for (unsigned d = 0; d < sizeof(dialects) / sizeof(dialects[0]); d++) {
		const struct vendor *vendor = dialects[d].vendor;
		const int refusal = (vendor->credentials & AUTH_COOKIE) != 0 ? 403 : 401;

		for (unsigned i = 0; i < vendor->n_routes; i++) {
			const struct route *route = &vendor->routes[i];

			if (route->role == ROLE_NONE && !is_login(route))
				continue;
			subject_make(vendor, route->path);
			session_info(made, &info);
			for (unsigned k = 0; k < sizeof(foreign) / sizeof(foreign[0]); k++) {
				const int status = forged(&dialects[d], route, foreign[k]);

				if (status != refusal)
					fail_msg("%s %s%s: %d with %s",
						request_method_name(route->method),
						dialects[d].prefix, route->path, status,
						foreign[k]);
				assert_true(subject_is_there(&info.id));
			}
			n_open += is_login(route);
		}
	}
	assert_int_equal(n_open, 3);
	/* Its own pages may, and nobody has been signed out. */
	for (unsigned k = 0; k < 3; k++) {
		static const char *const own[] = {
			"Origin: http://x\r\n", "Sec-Fetch-Site: same-origin\r\n", ""};
		char text[512];

		snprintf(text, sizeof(text), "Cookie: %s\r\n%s", askers[ADMIN].cookie, own[k]);
		expect(ask(NULL, "GET", "/api/v1/session", text, NULL), 200);
		expect(ask(NULL, "POST", "/api/v1/filters/check", text, "{\"filter\":\"tcp\"}"),
			200);
	}
}

static void every_line_has_its_route(void **state)
{
	for (unsigned i = 0; i < N_POLICIES; i++) {
		unsigned n = 0;

		for (unsigned d = 0; d < sizeof(dialects) / sizeof(dialects[0]); d++)
			for (unsigned k = 0; k < dialects[d].vendor->n_routes; k++)
				n += policy_of(&dialects[d].vendor->routes[k]) == &policies[i];
		if (n == 0)
			fail_msg("%s: there is no such route", policies[i].path);
	}
}

/* --- tokens ------------------------------------------------------------------------------------
 */

static void askers_make(void)
{
	const uint64_t soon_ns = rfc3339_now() + 1000000000ULL;
	char expires[RFC3339_SIZE];

	rfc3339_print(soon_ns, 3, expires);
	memset(askers[GARBLED].secret, 'x', AUTH_SECRET_SIZE - 1);
	snprintf(askers[GARBLED].cookie, sizeof(askers[GARBLED].cookie), "SLUICESESSION=%s",
		askers[GARBLED].secret);
	for (enum asker asker = EXPIRED; asker < N_ASKERS; asker++) {
		token_make(askers[asker].name, askers[asker].role, askers[asker].account,
			asker == EXPIRED ? expires : NULL, askers[asker].secret);
		login(asker);
	}
	expect(ask(admin, "DELETE", "/api/v1/tokens/revoked", NULL, NULL), 204);
	while (rfc3339_now() < soon_ns)
		usleep(10000);
}

static int start(void **state)
{
	struct config_account *account;

	config.cloudflare.enabled = config.nsx.enabled = true;
	config.citrix.enabled = config.mist.enabled = true;
	config.mist.url_ttl_ms = 1000;
	port_add("tap0");
	account = account_add("default", "*");
	strcpy(account->id, ACCOUNT);
	strcpy(account->site_id, SITE);
	strcpy(account->org_id, ORG);
	account = account_add("other", "*");
	strcpy(account->id, "11111111111111111111111111111111");
	strcpy(account->site_id, "11111111-1111-4111-8111-111111111111");
	strcpy(account->org_id, "11111111-1111-4111-8111-111111111112");
	if (api_begin() < 0)
		return -1;
	askers_make();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_line_has_its_route),
		cmocka_unit_test(every_cell_is_as_written),
		cmocka_unit_test(pages_of_other_origins_change_nothing),
	};

	log_level_set(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, start, api_end);
}
