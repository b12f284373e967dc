/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * `sluice`, the command line client: a thin skin over the native API. A command is a row: its
 * words, its flags, what it does. One thread; it talks HTTP and reads nothing of the daemon's files
 * but the first token.
 */
#ifndef API_CLIENT_CLIENT_H
#define API_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/json.h"

#define CLIENT_LIST_MAX 32

enum client_exit {
	CLIENT_OK = 0,
	CLIENT_REFUSED = 1, /* the server said no, or a file here cannot be written */
	CLIENT_USAGE = 2,
	CLIENT_NO_SERVER = 3,
};

/* What every command may use. */
struct client {
	const char *url;
	const char *ca_file; /* NULL: SLUICE_CA, else the system's */
	const char *
		certificate; /* of this client, with its key behind it; NULL: SLUICE_CERT, else none */
	const char *token_file; /* NULL: SLUICE_TOKEN, else the default root's */
	bool json;
	const struct command *command;
};

struct client_list {
	unsigned n;
	const char *item[CLIENT_LIST_MAX];
};

enum flag_kind {
	FLAG_YES,    /* bool, takes no value */
	FLAG_TEXT,   /* const char * */
	FLAG_NUMBER, /* uint64_t */
	FLAG_COUNT,  /* uint64_t, at least 1 */
	FLAG_SIZE,   /* uint64_t, K M G T allowed */
	FLAG_REAL,   /* double, at least 0 */
	FLAG_LIST,   /* struct client_list, may be repeated */
};

struct flag {
	char letter; /* 0: long only */
	const char *name;
	const char *value; /* what the help calls it; NULL for FLAG_YES */
	enum flag_kind kind;
	size_t offset; /* in the command's options */
	const char *help;
};

struct command {
	const char *name;
	const char *words; /* for the usage line */
	unsigned words_min, words_max;
	const char *help;
	const struct flag *flags; /* the last has no name */
	/* options: a zeroed struct of the command's own, filled by its flags. Returns enum
	 * client_exit. */
	int (*run)(struct client *client, const void *options, unsigned n_words, char **words);
};

#define CLIENT_OPTIONS_SIZE 512 /* the largest struct of options */
#define CLIENT_WORDS_MAX    1024

extern const struct command start_command, list_command, show_command, change_command, stop_command,
	watch_command, download_command, packets_command, delete_command, ports_command,
	status_command, balance_command, token_command;

/* Say "sluice: ..." on standard error; returns code. */
int client_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Print the API's answer as it is; returns CLIENT_OK. */
int client_print_json(const json_t *json);

#endif
