/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * sluice balance: do the books balance? One line a law, with both sides and what is left over.
 */
#include "api/client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/client/books.h"
#include "api/client/capture.h"
#include "api/client/http.h"
#include "api/client/text.h"

#define LOOK_AGAIN_MS 300 /* counters of devices are read ten times a second */

struct balance {
	struct table table;
	json_t *json; /* list of laws, for --json */
	bool broken;
};

static const struct flag no_flags[] = {{0}};

static int balance_run(struct client *client, const void *options, unsigned n_words, char **words);
static int captures_judge(
	struct client *client, struct balance *balance, unsigned n_words, char **words);
static int ports_judge(struct client *client, struct balance *balance);
static void laws_add(
	struct balance *balance, const char *what, const struct books_law *laws, unsigned n);

const struct command balance_command = {"balance", "[ID...]", 0, CLIENT_WORDS_MAX,
	"the books of these captures, or of all captures and ports; exit code 1 if a law fails",
	no_flags, balance_run};

static int balance_run(struct client *client, const void *options, unsigned n_words, char **words)
{
	static const char *const titles[] = {"BOOK", "LAW", ">LEFT", ">RIGHT", ">RESIDUAL", ""};
	struct balance balance = {.json = json_array()};
	int rc;

	table_begin(&balance.table, sizeof(titles) / sizeof(titles[0]), titles);
	rc = captures_judge(client, &balance, n_words, words);
	if (rc == CLIENT_OK && n_words == 0)
		rc = ports_judge(client, &balance);
	if (rc == CLIENT_OK && client->json)
		client_print_json(balance.json);
	if (rc == CLIENT_OK && !client->json)
		table_print(&balance.table);
	else
		table_free(&balance.table);
	json_decref(balance.json);
	if (rc == CLIENT_OK && balance.broken)
		rc = client_fail(CLIENT_REFUSED, "a law of the books fails");
	return rc;
}

static void capture_judge(struct balance *balance, const json_t *capture)
{
	struct books_law laws[BOOKS_LAWS_MAX];
	char what[80];

	snprintf(what, sizeof(what), "capture %s", text_string(capture, "id"));
	laws_add(balance, what, laws, books_capture(capture, laws));
}

static int all_judge(struct client *client, struct balance *balance)
{
	char cursor[256] = "", path[400];
	json_t *page, *capture;
	size_t i;
	int rc;

	do {
		char *after = http_escape(cursor);

		snprintf(path, sizeof(path), "/api/v1/captures?limit=1000%s%s",
			*cursor != '\0' ? "&cursor=" : "", after != NULL ? after : "");
		free(after);
		rc = http_call(client, "GET", path, NULL, &page);
		if (rc != CLIENT_OK)
			return rc;
		json_array_foreach (json_object_get(page, "captures"), i, capture) {
			capture_judge(balance, capture);
		}
		snprintf(cursor, sizeof(cursor), "%s", text_string(page, "next"));
		json_decref(page);
	} while (*cursor != '\0');
	return CLIENT_OK;
}

static int captures_judge(
	struct client *client, struct balance *balance, unsigned n_words, char **words)
{
	json_t *capture;
	int rc = CLIENT_OK;

	if (n_words == 0)
		return all_judge(client, balance);
	for (unsigned i = 0; i < n_words && rc == CLIENT_OK; i++) {
		rc = capture_get(client, words[i], &capture);
		if (rc != CLIENT_OK)
			break;
		capture_judge(balance, capture);
		json_decref(capture);
	}
	return rc;
}

/* Twice: a port under traffic is judged by what it was and what it is. */
static int ports_judge(struct client *client, struct balance *balance)
{
	const struct timespec pause = {.tv_nsec = LOOK_AGAIN_MS * 1000000L};
	struct books_law laws[BOOKS_LAWS_MAX];
	json_t *before, *now = NULL, *port;
	char what[128];
	size_t i;
	int rc = http_call(client, "GET", "/api/v1/ports", NULL, &before);

	if (rc != CLIENT_OK)
		return rc;
	nanosleep(&pause, NULL);
	rc = http_call(client, "GET", "/api/v1/ports", NULL, &now);
	json_array_foreach (json_object_get(now, "ports"), i, port) {
		const json_t *old = json_array_get(json_object_get(before, "ports"), i);

		snprintf(what, sizeof(what), "port %s", text_string(port, "name"));
		laws_add(balance, what, laws, books_port(old, port, laws));
	}
	json_decref(before);
	json_decref(now);
	return rc;
}

static void laws_add(
	struct balance *balance, const char *what, const struct books_law *laws, unsigned n)
{
	char text[TEXT_SIZE];

	for (unsigned i = 0; i < n; i++) {
		table_cell(&balance->table, what);
		table_cell(&balance->table, laws[i].text);
		table_cell(&balance->table, text_digits(text, laws[i].left));
		table_cell(&balance->table, text_digits(text, laws[i].right));
		table_cell(&balance->table, text_digits(text, laws[i].residual));
		table_cell(&balance->table, laws[i].holds ? "ok" : "BROKEN");
		balance->broken |= !laws[i].holds;
		json_array_append_new(balance->json,
			json_pack("{s:s s:s s:I s:I s:I s:b}", "book", what, "law", laws[i].text,
				"left", (json_int_t)laws[i].left, "right",
				(json_int_t)laws[i].right, "residual", (json_int_t)laws[i].residual,
				"holds", laws[i].holds));
	}
}
