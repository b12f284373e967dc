/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/ini.h"
#include "config/option.h"
#include "config/route.h"

#define OPTIONS_MAX   128
#define INSTANCES_MAX CONFIG_ACCOUNTS_MAX
#define SECTIONS_MAX  (16 + CONFIG_PORTS_MAX + CONFIG_ACCOUNTS_MAX + CONFIG_BUCKETS_MAX)

/* A file being read: where everything stood, so that rules between values can point at a line. */
struct reading {
	struct config *config;
	const char *section; /* of the table; NULL before the first */
	void *base;          /* the struct that the section's options fill */
	unsigned instance;   /* of [port], [account] or [bucket], else 0 */
	unsigned n_seen;
	char seen[SECTIONS_MAX][INI_NAME_LEN_MAX + 1]; /* sections so far, as written */
	unsigned port_line[CONFIG_PORTS_MAX];
	unsigned account_line[CONFIG_ACCOUNTS_MAX];
	unsigned bucket_line[CONFIG_BUCKETS_MAX];
	unsigned option_line[OPTIONS_MAX][INSTANCES_MAX]; /* 0 = not in the file */
	unsigned line;                                    /* of the rule that failed */
};

static int section_begin(void *arg, const char *text, unsigned line, struct err *err);
static int option_take(
	void *arg, const char *key, const char *value, unsigned line, struct err *err);
static void section_defaults(const char *section, void *base);
static int rules_check(struct reading *r, struct err *err);
static void message_finish(const char *path, unsigned line, struct err *err);
static void option_print(FILE *out, const struct option *option);
static void *instance_new(
	struct reading *r, const char *section, const char *name, unsigned line, struct err *err);

struct config *config_load(const char *path, struct err *err)
{
	static const struct ini_events events = {section_begin, option_take};
	struct reading *r = calloc(1, sizeof(*r));
	struct config *config = calloc(1, sizeof(*config));
	unsigned line = 0;
	int rc;

	if (r == NULL || config == NULL) {
		rc = err_set(err, ENOMEM, NULL, "no memory for the configuration");
		goto out;
	}
	r->config = config;
	for (unsigned i = 0; i < option_count; i++)
		if (!option_section_named(option_table[i].section))
			option_default(&option_table[i], config);
	rc = ini_load(path, &events, r, &line, err);
	if (rc == 0) {
		rc = rules_check(r, err);
		line = r->line;
	}
out:
	if (rc != 0) {
		message_finish(path, line, err);
		free(config);
		config = NULL;
	}
	free(r);
	return config;
}

void config_free(struct config *config)
{
	free(config);
}

void config_help(FILE *out)
{
	const char *section = "";

	for (unsigned i = 0; i < option_count; i++) {
		const struct option *option = &option_table[i];

		if (strcmp(section, option->section) != 0)
			fprintf(out, "%s[%s%s]\n", *section != '\0' ? "\n" : "", option->section,
				option_section_named(option->section) ? " NAME" : "");
		section = option->section;
		option_print(out, option);
	}
}

const struct config_port *config_port_find(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_ports; i++)
		if (strcmp(config->ports[i].name, name) == 0)
			return &config->ports[i];
	return NULL;
}

const struct config_account *config_account_find(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_accounts; i++)
		if (strcmp(config->accounts[i].name, name) == 0 ||
			(*name != '\0' && strcmp(config->accounts[i].id, name) == 0))
			return &config->accounts[i];
	return NULL;
}

const struct config_bucket *config_bucket_find(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_buckets; i++)
		if (strcmp(config->buckets[i].name, name) == 0)
			return &config->buckets[i];
	return NULL;
}

bool config_bucket_allows(
	const struct config *config, const struct config_bucket *bucket, const char *account)
{
	const struct config_account *found = config_account_find(config, account);
	const struct config_list *list = &bucket->accounts;

	if (strcmp(account, "*") == 0)
		return true;
	for (unsigned i = 0; i < list->n; i++)
		if (strcmp(list->item[i], "*") == 0 ||
			(found != NULL && strcmp(list->item[i], found->name) == 0))
			return true;
	return false;
}

/* What --help-config says: "  key = default   (what is allowed; restart)" and the help below. */
static void option_print(FILE *out, const struct option *option)
{
	char left[80], allowed[160];

	snprintf(left, sizeof(left), "%s = %s", option->key, option->value);
	option_allowed(option, allowed, sizeof(allowed));
	fprintf(out, "  %-32s %s%s\n      %s\n", left, allowed, option->restart ? "; restart" : "",
		option->help);
}

/* Both the sentence of a failure and where it happened become err->text. */
static void message_finish(const char *path, unsigned line, struct err *err)
{
	char text[2 * sizeof(err->text)], where[160];
	size_t len = strlen(path);
	bool cut = len > 120;
	const char *key;

	if (err == NULL)
		return;
	key = strrchr(err->field, '.');
	key = key != NULL ? key + 1 : err->field;
	snprintf(where, sizeof(where), "%s%s", cut ? "..." : "", cut ? path + len - 117 : path);
	if (line != 0)
		snprintf(where + strlen(where), sizeof(where) - strlen(where), ":%u", line);
	snprintf(text, sizeof(text), "%s: %s%s%s", where, key, *key != '\0' ? ": " : "", err->text);
	memcpy(err->text, text, sizeof(err->text) - 1);
	err->text[sizeof(err->text) - 1] = '\0';
}

/* Levenshtein: a slip of the finger is at most two edits away. */
static unsigned word_distance(const char *a, const char *b)
{
	unsigned row[INI_NAME_LEN_MAX + 2];
	size_t n = strlen(b);

	if (n > INI_NAME_LEN_MAX)
		return UINT32_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);
			unsigned gap = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);

			diagonal = row[j];
			row[j] = change < gap ? change : gap;
		}
	}
	return row[n];
}

static int section_unknown(const char *word, struct err *err)
{
	const char *best = NULL, *last = "";
	unsigned best_distance = 3;
	char list[160] = "";
	size_t len = 0;

	for (unsigned i = 0; i < option_count; i++) {
		const char *section = option_table[i].section;
		unsigned distance = word_distance(word, section);

		if (strcmp(section, last) == 0)
			continue;
		last = section;
		len += snprintf(list + len, sizeof(list) - len, "%s[%s%s]", len > 0 ? " " : "",
			section, option_section_named(section) ? " NAME" : "");
		if (distance < best_distance) {
			best = section;
			best_distance = distance;
		}
	}
	if (best != NULL)
		return err_set(err, EINVAL, NULL, "[%s] is no section, did you mean [%s%s]?", word,
			best, option_section_named(best) ? " NAME" : "");
	return err_set(err, EINVAL, NULL, "[%s] is no section, allowed: %s", word, list);
}

static int key_unknown(const char *section, const char *key, struct err *err)
{
	const char *best = NULL;
	unsigned best_distance = 3;
	char list[160] = "";
	size_t len = 0;

	for (unsigned i = 0; i < option_count; i++) {
		const struct option *option = &option_table[i];
		unsigned distance = word_distance(key, option->key);

		if (strcmp(option->section, section) != 0)
			continue;
		len += snprintf(
			list + len, sizeof(list) - len, "%s%s", len > 0 ? ", " : "", option->key);
		if (distance < best_distance) {
			best = option->key;
			best_distance = distance;
		}
	}
	if (best != NULL)
		return err_set(
			err, EINVAL, key, "is no option of [%s], did you mean %s?", section, best);
	return err_set(err, EINVAL, key, "is no option of [%s], allowed: %s", section, list);
}

static const char *section_known(const char *word)
{
	for (unsigned i = 0; i < option_count; i++)
		if (strcmp(option_table[i].section, word) == 0)
			return option_table[i].section;
	return NULL;
}

/* ini.c's event: [SECTION] or [SECTION NAME]. */
static int section_begin(void *arg, const char *text, unsigned line, struct err *err)
{
	struct reading *r = arg;
	char word[INI_NAME_LEN_MAX + 1], name[INI_NAME_LEN_MAX + 1];
	size_t word_len = strcspn(text, " \t");

	snprintf(word, sizeof(word), "%.*s", (int)word_len, text);
	snprintf(name, sizeof(name), "%s", text + word_len + strspn(text + word_len, " \t"));
	r->section = section_known(word);
	if (r->section == NULL)
		return section_unknown(word, err);
	for (unsigned i = 0; i < r->n_seen; i++)
		if (strcmp(r->seen[i], text) == 0)
			return err_set(err, EINVAL, NULL, "[%s] stands there twice", text);
	if (r->n_seen < SECTIONS_MAX)
		snprintf(r->seen[r->n_seen++], sizeof(r->seen[0]), "%s", text);
	r->instance = 0;
	r->base = r->config;
	if (!option_section_named(r->section))
		return *name == '\0' ? 0
				     : err_set(err, EINVAL, NULL,
					       "[%s] takes no name, allowed: [%s]", text, word);
	r->base = instance_new(r, r->section, name, line, err);
	if (r->base == NULL)
		return -EINVAL;
	section_defaults(r->section, r->base);
	return 0;
}

/* The sections that stand with a name, and where their structs are. Each struct begins with the name. */
struct instances {
	const char *section;
	unsigned *n;
	unsigned n_max;
	unsigned *line;
	char *base;
	size_t size;
	const void *taken; /* who has the name already */
};

static struct instances instances_of(struct reading *r, const char *section, const char *name)
{
	struct config *c = r->config;

	if (strcmp(section, "port") == 0)
		return (struct instances){section, &c->n_ports, CONFIG_PORTS_MAX, r->port_line,
			(char *)c->ports, sizeof(c->ports[0]), config_port_find(c, name)};
	if (strcmp(section, "bucket") == 0)
		return (struct instances){section, &c->n_buckets, CONFIG_BUCKETS_MAX,
			r->bucket_line, (char *)c->buckets, sizeof(c->buckets[0]),
			config_bucket_find(c, name)};
	return (struct instances){section, &c->n_accounts, CONFIG_ACCOUNTS_MAX, r->account_line,
		(char *)c->accounts, sizeof(c->accounts[0]), config_account_find(c, name)};
}

/* The next free port, account or bucket, with its name; NULL with err. */
static void *instance_new(
	struct reading *r, const char *section, const char *name, unsigned line, struct err *err)
{
	const struct instances all = instances_of(r, section, name);
	char *base;

	if (!option_name_is_good(name)) {
		err_set(err, EINVAL, NULL,
			"[%s %s] has no good name, allowed: [%s NAME] with letters, digits and . _ "
			"-",
			section, name, section);
		return NULL;
	}
	if (*all.n == all.n_max) {
		err_set(err, EINVAL, NULL, "[%s %s] is one too many, allowed: %u", section, name,
			all.n_max);
		return NULL;
	}
	if (all.taken != NULL) {
		err_set(err, EINVAL, NULL, "[%s %s] stands there twice", section, name);
		return NULL;
	}
	r->instance = (*all.n)++;
	all.line[r->instance] = line;
	base = all.base + r->instance * all.size;
	snprintf(base, CONFIG_NAME_MAX, "%s", name);
	return base;
}

static void section_defaults(const char *section, void *base)
{
	for (unsigned i = 0; i < option_count; i++)
		if (strcmp(option_table[i].section, section) == 0)
			option_default(&option_table[i], base);
}

/* ini.c's event: key = value. */
static int option_take(
	void *arg, const char *key, const char *value, unsigned line, struct err *err)
{
	struct reading *r = arg;
	const struct option *option = option_find(r->section, key);
	unsigned *seen;
	int rc;

	if (option == NULL)
		return key_unknown(r->section, key, err);
	seen = &r->option_line[option - option_table][r->instance];
	if (*seen != 0)
		return err_set(err, EINVAL, key, "stands there twice, first in line %u", *seen);
	*seen = line;
	rc = option_set(option, r->base, value, err);
	if (rc != 0)
		err_prefix(err, r->section);
	return rc;
}

/* Rules between values. Each points r->line at the option that it finds wrong. */

static int rule_fail(struct reading *r, const char *section, const char *key, unsigned instance,
	unsigned section_line)
{
	const struct option *option = option_find(section, key);
	unsigned line = r->option_line[option - option_table][instance];

	r->line = line != 0 ? line : section_line;
	return -EINVAL;
}

static bool address_is_loopback(const char *item)
{
	return strncmp(item, "127.", 4) == 0 || strncmp(item, "[::1]", 5) == 0 ||
	       strncmp(item, "[::ffff:127.", 12) == 0;
}

static int api_check(struct reading *r, struct err *err)
{
	const struct config *config = r->config;
	bool certificate = *config->api.tls_certificate != '\0', key = *config->api.tls_key != '\0';

	if (certificate != key) {
		err_set(err, EINVAL, certificate ? "tls_certificate" : "tls_key",
			"stands alone, allowed: tls_certificate and tls_key together, or neither");
		return rule_fail(r, "api", certificate ? "tls_certificate" : "tls_key", 0, 0);
	}
	if ((*config->api.tls_client_ca != '\0') !=
		(config->api.tls_client != CONFIG_TLS_CLIENT_OFF)) {
		err_set(err, EINVAL, "tls_client",
			"goes together with tls_client_ca, allowed: wanted or required with it, or "
			"off without");
		return rule_fail(r, "api",
			*config->api.tls_client_ca != '\0' ? "tls_client_ca" : "tls_client", 0, 0);
	}
	if (config->api.tls_client != CONFIG_TLS_CLIENT_OFF && !certificate) {
		err_set(err, EINVAL, "tls_client", "needs tls_certificate and tls_key");
		return rule_fail(r, "api", "tls_client", 0, 0);
	}
	for (unsigned i = 0; i < config->api.listen.n && !config->api.insecure && !certificate;
		i++) {
		if (address_is_loopback(config->api.listen.item[i]))
			continue;
		err_set(err, EINVAL, "listen",
			"\"%s\" would send tokens over the network in clear, allowed: loopback "
			"addresses, any with tls_certificate and tls_key, or insecure = yes",
			config->api.listen.item[i]);
		return rule_fail(r, "api", "listen", 0, 0);
	}
	return 0;
}

static int dialects_check(struct reading *r, struct err *err)
{
	if (r->config->cloudflare.deliver == CONFIG_DELIVER_LOCAL || r->config->n_buckets > 0)
		return 0;
	err_set(err, EINVAL, "deliver",
		"there is no [bucket NAME] to deliver to, allowed: local, or bucket with at least "
		"one");
	return rule_fail(r, "cloudflare", "deliver", 0, 0);
}

/* A PCI address, with or without its domain. */
static bool device_is_pci(const char *device)
{
	unsigned domain, bus, slot, function;

	return sscanf(device, "%4x:%2x:%2x.%1x", &domain, &bus, &slot, &function) == 4 ||
	       sscanf(device, "%2x:%2x.%1x", &bus, &slot, &function) == 3;
}

static int port_check(struct reading *r, unsigned i, struct err *err)
{
	struct config_port *port = &r->config->ports[i];
	bool interface = *port->interface != '\0', device = *port->device != '\0';

	if (interface == device) {
		err_set(err, EINVAL, interface ? "device" : "interface",
			"[port %s] %s, allowed: one of interface and device", port->name,
			interface ? "has both" : "has no source of packets");
		return rule_fail(r, "port", interface ? "device" : "interface", i, r->port_line[i]);
	}
	for (unsigned j = 0; j < i && device; j++)
		if (strcmp(r->config->ports[j].device, port->device) == 0) {
			err_set(err, EINVAL, "device", "[port %s] has this device already",
				r->config->ports[j].name);
			return rule_fail(r, "port", "device", i, 0);
		}
	if (port->poll == CONFIG_POLL_WANTED && device_is_pci(port->device)) {
		err_set(err, EINVAL, "poll",
			"wanted is not for a NIC, which takes seconds to start, allowed: always");
		return rule_fail(r, "port", "poll", i, 0);
	}
	if (port->poll == CONFIG_POLL_AUTO)
		port->poll = strstr(port->device, "rx_pcap=") != NULL ? CONFIG_POLL_WANTED
								      : CONFIG_POLL_ALWAYS;
	if (strcmp(port->interface, "auto") == 0)
		route_default("/proc/net/route", "/proc/net/ipv6_route", port->interface,
			sizeof(port->interface));
	return 0;
}

static int account_check(struct reading *r, unsigned i, struct err *err)
{
	const struct config_account *account = &r->config->accounts[i];
	const struct config_list *ports = &account->ports;

	for (unsigned j = 0; j < ports->n; j++) {
		bool all = strcmp(ports->item[j], "*") == 0;

		if ((all && ports->n == 1) || config_port_find(r->config, ports->item[j]) != NULL)
			continue;
		err_set(err, EINVAL, "ports", "there is no [port %s], allowed: %s", ports->item[j],
			all ? "* alone, or names" : "* or names of ports");
		return rule_fail(r, "account", "ports", i, r->account_line[i]);
	}
	for (unsigned j = 0; j < i; j++) {
		const struct config_account *other = &r->config->accounts[j];
		bool same_id = *account->id != '\0' && strcmp(account->id, other->id) == 0;
		bool same_site =
			*account->site_id != '\0' && strcmp(account->site_id, other->site_id) == 0;

		if (!same_id && !same_site)
			continue;
		err_set(err, EINVAL, same_id ? "id" : "site_id",
			"[account %s] has this one already, allowed: one account each",
			other->name);
		return rule_fail(r, "account", same_id ? "id" : "site_id", i, 0);
	}
	return 0;
}

static int bucket_accounts_check(struct reading *r, unsigned i, struct err *err)
{
	const struct config_list *accounts = &r->config->buckets[i].accounts;

	for (unsigned j = 0; j < accounts->n; j++) {
		bool all = strcmp(accounts->item[j], "*") == 0;

		if ((all && accounts->n == 1) ||
			(!all && config_account_find(r->config, accounts->item[j]) != NULL))
			continue;
		err_set(err, EINVAL, "accounts", "there is no [account %s], allowed: %s",
			accounts->item[j], all ? "* alone, or names" : "* or names of accounts");
		return rule_fail(r, "bucket", "accounts", i, r->bucket_line[i]);
	}
	return 0;
}

static int bucket_check(struct reading *r, unsigned i, struct err *err)
{
	struct config_bucket *bucket = &r->config->buckets[i];
	const char *missing = *bucket->endpoint == '\0'      ? "endpoint"
			      : *bucket->credentials == '\0' ? "credentials"
							     : NULL;

	if (missing != NULL) {
		err_set(err, EINVAL, missing, "[bucket %s] has none", bucket->name);
		return rule_fail(r, "bucket", missing, i, r->bucket_line[i]);
	}
	if (strncmp(bucket->endpoint, "http://", 7) == 0 && !bucket->insecure) {
		err_set(err, EINVAL, "endpoint",
			"\"%.100s\" would send captures over the network in clear, allowed: "
			"https://, or insecure = yes",
			bucket->endpoint);
		return rule_fail(r, "bucket", "endpoint", i, r->bucket_line[i]);
	}
	if (*bucket->bucket == '\0')
		memcpy(bucket->bucket, bucket->name, sizeof(bucket->bucket));
	return bucket_accounts_check(r, i, err);
}

/* The right-hand sides of NAME=PORT are ports. */
static int pairs_check(struct reading *r, const char *section, const char *key,
	const struct config_list *pairs, struct err *err)
{
	for (unsigned i = 0; i < pairs->n; i++) {
		const char *port = strchr(pairs->item[i], '=') + 1;

		if (config_port_find(r->config, port) != NULL)
			continue;
		err_set(err, EINVAL, key, "\"%s\": there is no [port %s]", pairs->item[i], port);
		return rule_fail(r, section, key, 0, 0);
	}
	return 0;
}

/* Citrix clients join the names of ports with --. */
static int joined_check(struct reading *r, unsigned i, struct err *err)
{
	const char *name = r->config->ports[i].name;

	if (strstr(name, "--") == NULL)
		return 0;
	err_set(err, EINVAL, NULL,
		"[port %s]: with [citrix] enabled a port's name may not have -- in it", name);
	r->line = r->port_line[i];
	return -EINVAL;
}

static int rules_check(struct reading *r, struct err *err)
{
	struct config *config = r->config;
	int rc = api_check(r, err);

	if (rc == 0)
		rc = dialects_check(r, err);
	if (rc == 0 && config->n_ports == 0)
		rc = err_set(err, EINVAL, NULL,
			"there is no [port NAME], allowed: 1 to %d sources of packets",
			CONFIG_PORTS_MAX);
	for (unsigned i = 0; rc == 0 && i < config->n_ports; i++)
		rc = port_check(r, i, err);
	for (unsigned i = 0; rc == 0 && i < config->n_accounts; i++)
		rc = account_check(r, i, err);
	for (unsigned i = 0; rc == 0 && i < config->n_buckets; i++)
		rc = bucket_check(r, i, err);
	if (rc == 0)
		rc = pairs_check(r, "nsx", "points", &config->nsx.points, err);
	if (rc == 0)
		rc = pairs_check(r, "citrix", "interfaces", &config->citrix.interfaces, err);
	for (unsigned i = 0; rc == 0 && i < config->n_ports && config->citrix.enabled; i++)
		rc = joined_check(r, i, err);
	if (rc == 0)
		rc = pairs_check(r, "mist", "devices", &config->mist.devices, err);
	return rc;
}
