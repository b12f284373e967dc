/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Commands on the host: ports, status, token.
 */
#include "api/client/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/client/http.h"
#include "api/client/resources.h"
#include "api/client/text.h"

struct token_options {
	const char *role;
	const char *account;
	const char *expires;
};

static const struct flag no_flags[] = {{0}};
static const struct flag token_flags[] = {
	{0, "role", "ROLE", FLAG_TEXT, offsetof(struct token_options, role),
		"viewer, operator or admin"},
	{0, "account", "ACCOUNT", FLAG_TEXT, offsetof(struct token_options, account),
		"whose captures; * = all"},
	{0, "expires", "TIME", FLAG_TEXT, offsetof(struct token_options, expires),
		"RFC 3339, as 2027-01-31T00:00:00Z; default: never"},
	{0},
};

static int ports_run(struct client *client, const void *options, unsigned n_words, char **words);
static int status_run(struct client *client, const void *options, unsigned n_words, char **words);
static int token_run(struct client *client, const void *options, unsigned n_words, char **words);
static void ports_print(const json_t *answer);
static void status_print(const json_t *status);
static void ceiling_print(const json_t *ceiling);
static void tokens_print(const json_t *answer);

const struct command ports_command = {
	"ports", "", 0, 0, "sources of packets, and what they lost", no_flags, ports_run};
const struct command status_command = {"status", "", 0, 0,
	"the daemon: CPUs, memory, storage; what loses packets, and why", no_flags, status_run};
const struct command token_command = {"token", "list | add NAME | delete NAME", 1, 2,
	"tokens; add prints the secret, which nothing shows again", token_flags, token_run};

/* GET path, then JSON as it is or for people. */
static int get_print(struct client *client, const char *path, void (*print)(const json_t *answer))
{
	json_t *answer;
	int rc = http_call(client, "GET", path, NULL, &answer);

	if (rc != CLIENT_OK)
		return rc;
	if (client->json)
		client_print_json(answer);
	else
		print(answer);
	json_decref(answer);
	return CLIENT_OK;
}

static int ports_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	return get_print(client, "/api/v1/ports", ports_print);
}

static void ports_print(const json_t *answer)
{
	static const char *const titles[] = {"NAME", "SOURCE", "DRIVER", "LINK", ">SPEED", ">MTU",
		">QUEUES", "LOSS", ">RX", ">MATCHED", ">MISSED", ">ERRORS"};
	struct table table;
	json_t *port;
	size_t i;

	table_begin(&table, sizeof(titles) / sizeof(titles[0]), titles);
	json_array_foreach (json_object_get(answer, "ports"), i, port) {
		const json_t *counters = json_object_get(port, "counters");
		const char *interface = text_string(port, "interface");
		uint64_t speed = text_number(port, "speed_mbps");
		char text[TEXT_SIZE];

		table_cell(&table, text_string(port, "name"));
		table_cell(&table, *interface != '\0' ? interface : text_string(port, "device"));
		table_cell(&table, text_string(port, "driver"));
		table_cell(&table, text_string(port, "link"));
		table_cell(&table, speed != 0 ? text_si(text, speed * 1e6, "b/s") : "-");
		snprintf(text, sizeof(text), "%" PRIu64, text_number(port, "mtu"));
		table_cell(&table, text);
		table_cell(&table, text_digits(text, text_number(port, "rx_queues")));
		table_cell(&table, text_string(port, "loss_visibility"));
		table_cell(&table, text_si(text, text_number(counters, "rx"), ""));
		table_cell(&table, text_si(text, text_number(counters, "matched"), ""));
		table_cell(&table, text_si(text,
					   text_number(counters, "nic_missed") +
						   text_number(counters, "nic_nombuf"),
					   ""));
		table_cell(&table, text_si(text, text_number(counters, "nic_errors"), ""));
	}
	table_print(&table);
}

static int status_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	return get_print(client, "/api/v1/status", status_print);
}

static void status_print(const json_t *status)
{
	const json_t *blocks = json_object_get(status, "blocks");
	const json_t *storage = json_object_get(status, "storage");
	const json_t *risk = json_object_get(status, "at_risk");
	char a[TEXT_SIZE], b[TEXT_SIZE], c[TEXT_SIZE], d[TEXT_SIZE];

	printf("version     %s, up %s\n", text_string(status, "version"),
		text_duration(a, text_number(status, "uptime_seconds")));
	printf("lcores      %zu\n", json_array_size(json_object_get(status, "lcores")));
	printf("blocks      %s of %s free\n", text_digits(a, text_number(blocks, "free")),
		text_digits(b, text_number(blocks, "total")));
	printf("storage     %s used (spares %s), quota %s, file system %s\n",
		text_si(a, text_number(storage, "used_bytes"), "B"),
		text_si(d, text_number(storage, "spare_bytes"), "B"),
		text_si(b, text_number(storage, "quota_bytes"), "B"),
		text_si(c, text_number(storage, "size_bytes"), "B"));
	ceiling_print(json_object_get(storage, "ceiling"));
	printf("at risk     %s packets, %s, for %.1f s\n",
		text_digits(a, text_number(risk, "packets")),
		text_si(b, text_number(risk, "bytes"), "B"),
		json_number_value(json_object_get(risk, "seconds")));
	resources_print(status);
}

static void ceiling_print(const json_t *ceiling)
{
	char a[TEXT_SIZE], b[TEXT_SIZE], c[TEXT_SIZE], d[TEXT_SIZE];

	if (!json_is_object(ceiling)) {
		printf("ceiling     not measured\n");
		return;
	}
	printf("ceiling     %s/s, %s/s on new space; writes of %s, %s in flight\n",
		text_si(a, text_number(ceiling, "touched_bytes_per_second"), "B"),
		text_si(b, text_number(ceiling, "fresh_bytes_per_second"), "B"),
		text_si(c, text_number(ceiling, "write_bytes"), "B"),
		text_digits(d, text_number(ceiling, "depth")));
}

static void tokens_print(const json_t *answer)
{
	static const char *const titles[] = {"NAME", "ROLE", "ACCOUNT", "EXPIRES"};
	char text[TEXT_SIZE];
	struct table table;
	json_t *token;
	size_t i;

	table_begin(&table, sizeof(titles) / sizeof(titles[0]), titles);
	json_array_foreach (json_object_get(answer, "tokens"), i, token) {
		table_cell(&table, text_string(token, "name"));
		table_cell(&table, text_string(token, "role"));
		table_cell(&table, text_string(token, "account"));
		table_cell(&table, text_time(text, json_object_get(token, "expires_at")));
	}
	table_print(&table);
}

static int token_add(struct client *client, const struct token_options *options, const char *name)
{
	json_t *body, *answer;
	int rc;

	if (options->role == NULL)
		return client_fail(CLIENT_USAGE, "--role is missing: viewer, operator or admin");
	if (options->account == NULL)
		return client_fail(CLIENT_USAGE, "--account is missing: the name of one, or *");
	body = json_object();
	json_object_set_new(body, "name", json_string(name));
	json_object_set_new(body, "role", json_string(options->role));
	json_object_set_new(body, "account", json_string(options->account));
	if (options->expires != NULL)
		json_object_set_new(body, "expires_at", json_string(options->expires));
	rc = http_call(client, "POST", "/api/v1/tokens", body, &answer);
	if (rc != CLIENT_OK)
		return rc;
	if (client->json)
		client_print_json(answer);
	else
		puts(text_string(answer, "secret"));
	json_decref(answer);
	return CLIENT_OK;
}

static int token_delete(struct client *client, const char *name)
{
	char *escaped = http_escape(name), *path = NULL;
	int rc = CLIENT_REFUSED;

	if (escaped != NULL && asprintf(&path, "/api/v1/tokens/%s", escaped) >= 0)
		rc = http_call(client, "DELETE", path, NULL, NULL);
	free(escaped);
	free(path);
	return rc;
}

static int token_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	if (strcmp(words[0], "list") == 0 && n_words == 1)
		return get_print(client, "/api/v1/tokens", tokens_print);
	if (strcmp(words[0], "add") == 0 && n_words == 2)
		return token_add(client, options, words[1]);
	if (strcmp(words[0], "delete") == 0 && n_words == 2)
		return token_delete(client, words[1]);
	return client_fail(
		CLIENT_USAGE, "token %s, allowed: list, add NAME, delete NAME", words[0]);
}
