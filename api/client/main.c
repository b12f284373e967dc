/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/client/client.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/client/http.h"

#define URL_DEFAULT "http://127.0.0.1:8080"
#define FLAGS_MAX   24

static const struct command *const commands[] = {
	&start_command,
	&list_command,
	&show_command,
	&change_command,
	&stop_command,
	&watch_command,
	&download_command,
	&packets_command,
	&delete_command,
	&ports_command,
	&status_command,
	&balance_command,
	&token_command,
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* Allowed before the command and among its flags. */
static const struct flag global_flags[] = {
	{0, "url", "URL", FLAG_TEXT, offsetof(struct client, url),
		"where the daemon is; else SLUICE_URL, else " URL_DEFAULT},
	{0, "token-file", "FILE", FLAG_TEXT, offsetof(struct client, token_file),
		"file with the secret; else SLUICE_TOKEN, else " HTTP_TOKEN_FILE_DEFAULT},
	{0, "ca-file", "FILE", FLAG_TEXT, offsetof(struct client, ca_file),
		"PEM file with who may have signed the daemon's certificate; else SLUICE_CA, else "
		"the system's"},
	{0, "cert", "FILE", FLAG_TEXT, offsetof(struct client, certificate),
		"PEM file with a certificate and its key, for a daemon that asks for one; else "
		"SLUICE_CERT"},
	{0, "json", NULL, FLAG_YES, offsetof(struct client, json), "print what the API said"},
	{0},
};

/* getopt's tables for two tables of flags; a flag's code is its place in them. */
struct parser {
	struct option longs[FLAGS_MAX + 2];
	char shorts[2 * FLAGS_MAX + 2];
	const struct flag *flags[FLAGS_MAX];
	void *bases[FLAGS_MAX];
	unsigned n;
};

#define CODE_HELP  1000
#define CODE_FIRST 1001

static void parser_add(struct parser *parser, const struct flag *flags, void *base);
static int parser_run(struct parser *parser, int argc, char **argv);
static int flag_take(const struct flag *flag, void *base, const char *value);
static void usage_print(FILE *out);
static void command_usage_print(const struct command *command, FILE *out);
static void flags_print(const struct flag *flags, FILE *out);
static int command_run(struct client *client, const struct command *command, int argc, char **argv);

int main(int argc, char **argv)
{
	struct client client = {.url = getenv("SLUICE_URL")};
	struct parser parser = {.shorts = "+h"};
	int rc, code;

	parser_add(&parser, global_flags, &client);
	rc = parser_run(&parser, argc, argv);
	if (rc == CODE_HELP) {
		usage_print(stdout);
		return CLIENT_OK;
	}
	if (rc != CLIENT_OK)
		return rc;
	if (client.url == NULL || *client.url == '\0')
		client.url = URL_DEFAULT;
	if (optind == argc) {
		usage_print(stderr);
		return CLIENT_USAGE;
	}
	for (unsigned i = 0; i < N_COMMANDS; i++) {
		if (strcmp(argv[optind], commands[i]->name) != 0)
			continue;
		code = command_run(&client, commands[i], argc - optind, argv + optind);
		if (fflush(stdout) != 0 && code == CLIENT_OK)
			code = client_fail(CLIENT_REFUSED, "standard output: %s", strerror(errno));
		http_close();
		return code;
	}
	return client_fail(CLIENT_USAGE, "%s is no command, see sluice --help", argv[optind]);
}

int client_fail(int code, const char *fmt, ...)
{
	va_list args;

	fputs("sluice: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

int client_print_json(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	return CLIENT_OK;
}

static int command_run(struct client *client, const struct command *command, int argc, char **argv)
{
	_Alignas(max_align_t) char options[CLIENT_OPTIONS_SIZE] = {0};
	struct parser parser = {.shorts = "h"};
	unsigned n_words;
	int rc;

	client->command = command;
	parser_add(&parser, command->flags, options);
	parser_add(&parser, global_flags, client);
	optind = 0; /* start again: glibc's way to parse a second vector */
	rc = parser_run(&parser, argc, argv);
	if (rc == CODE_HELP) {
		command_usage_print(command, stdout);
		return CLIENT_OK;
	}
	if (rc != CLIENT_OK)
		return rc;
	n_words = argc - optind;
	if (n_words < command->words_min || n_words > command->words_max) {
		command_usage_print(command, stderr);
		return CLIENT_USAGE;
	}
	return command->run(client, options, n_words, argv + optind);
}

static void parser_add(struct parser *parser, const struct flag *flags, void *base)
{
	size_t len = strlen(parser->shorts);

	for (; flags->name != NULL; flags++) {
		unsigned i = parser->n++;

		parser->flags[i] = flags;
		parser->bases[i] = base;
		parser->longs[i].name = flags->name;
		parser->longs[i].has_arg =
			flags->kind != FLAG_YES ? required_argument : no_argument;
		parser->longs[i].val = CODE_FIRST + i;
		if (flags->letter == 0)
			continue;
		parser->shorts[len++] = flags->letter;
		if (flags->kind != FLAG_YES)
			parser->shorts[len++] = ':';
	}
	parser->longs[parser->n].name = "help";
	parser->longs[parser->n].val = CODE_HELP;
	memset(&parser->longs[parser->n + 1], 0, sizeof(parser->longs[0]));
}

/* CLIENT_OK with optind at the first word, CLIENT_USAGE (said why) or CODE_HELP. */
static int parser_run(struct parser *parser, int argc, char **argv)
{
	int code, rc;

	while ((code = getopt_long(argc, argv, parser->shorts, parser->longs, NULL)) != -1) {
		unsigned i = code - CODE_FIRST;

		if (code == CODE_HELP || code == 'h')
			return CODE_HELP;
		if (code == '?')
			return CLIENT_USAGE;
		if (code < CODE_FIRST)
			for (i = 0; parser->flags[i]->letter != code; i++)
				;
		rc = flag_take(parser->flags[i], parser->bases[i], optarg);
		if (rc != CLIENT_OK)
			return rc;
	}
	return CLIENT_OK;
}

static bool number_parse(const char *text, bool suffixed, uint64_t *number)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno != 0)
		return false;
	if (suffixed && *end != '\0' && (suffix = strchr(suffixes, *end)) != NULL) {
		for (long i = suffix - suffixes; i >= 0; i--)
			if (__builtin_mul_overflow(*number, 1024, number))
				return false;
		end++;
	}
	return *end == '\0';
}

/* "10" or "0.5": strtod would also take "inf", "0x1p3" and "1e400". */
static bool real_parse(const char *text, double *number)
{
	char *end;

	*number = strtod(text, &end);
	return end != text && *end == '\0' && text[strspn(text, "0123456789.")] == '\0' &&
	       isfinite(*number);
}

static int flag_take(const struct flag *flag, void *base, const char *value)
{
	void *member = (char *)base + flag->offset;
	struct client_list *list = member;

	switch (flag->kind) {
	case FLAG_YES:
		*(bool *)member = true;
		break;
	case FLAG_TEXT:
		*(const char **)member = value;
		break;
	case FLAG_NUMBER:
	case FLAG_COUNT:
	case FLAG_SIZE:
		if (number_parse(value, flag->kind == FLAG_SIZE, member) &&
			(flag->kind != FLAG_COUNT || *(uint64_t *)member > 0))
			break;
		return client_fail(CLIENT_USAGE, "--%s: %s, allowed: a number from %d%s",
			flag->name, value, flag->kind == FLAG_COUNT ? 1 : 0,
			flag->kind == FLAG_SIZE ? ", K M G T behind it" : "");
	case FLAG_REAL:
		if (real_parse(value, member))
			break;
		return client_fail(CLIENT_USAGE,
			"--%s: %s, allowed: a number from 0, such as 10 or 0.5", flag->name, value);
	case FLAG_LIST:
		if (list->n == CLIENT_LIST_MAX)
			return client_fail(CLIENT_USAGE, "--%s: allowed: at most %d times",
				flag->name, CLIENT_LIST_MAX);
		list->item[list->n++] = value;
		break;
	}
	return CLIENT_OK;
}

static void usage_print(FILE *out)
{
	fputs("usage: sluice [--url URL] [--token-file FILE] [--ca-file FILE] [--cert FILE] "
	      "[--json]\n"
	      "              COMMAND ...\n\n",
		out);
	for (unsigned i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->help);
	fputs("\nEverywhere:\n", out);
	flags_print(global_flags, out);
	fputs("\nsluice COMMAND --help says more. Exit codes: 0 good, 1 refused, 2 usage, 3 no "
	      "connection.\n",
		out);
}

static void command_usage_print(const struct command *command, FILE *out)
{
	fprintf(out, "usage: sluice %s%s%s%s\n%s\n\n", command->name,
		command->flags->name != NULL ? " [flags]" : "", *command->words != '\0' ? " " : "",
		command->words, command->help);
	flags_print(command->flags, out);
	flags_print(global_flags, out);
}

static void flags_print(const struct flag *flags, FILE *out)
{
	char left[64];

	for (; flags->name != NULL; flags++) {
		snprintf(left, sizeof(left), "%c%c%s --%s%s%s", flags->letter != 0 ? '-' : ' ',
			flags->letter != 0 ? flags->letter : ' ', flags->letter != 0 ? "," : " ",
			flags->name, flags->value != NULL ? " " : "",
			flags->value != NULL ? flags->value : "");
		fprintf(out, "  %-26s %s\n", left, flags->help);
	}
}
