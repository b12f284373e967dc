/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * sluiced: start the parts in order, run the event loop, stop them in reverse. The only place that
 * decides about the process: exit 0 clean stop, 1 runtime failure, 2 bad usage or configuration.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "api/api.h"
#include "config/config.h"
#include "config/json.h"
#include "config/log.h"
#include "control/control.h"
#include "control/service.h"
#include "engine/engine.h"
#include "engine/fault.h"
#include "engine/filter.h"
#include "engine/sandbox.h"

#define LARGE_BYTES (128 * 1024) /* the C library's own first choice */

enum exit_code { EXIT_OK = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

struct options {
	const char *config_path;
	bool check;
};

static void memory_plan(void);
static int options_parse(int argc, char **argv, struct options *options);
static void usage_print(FILE *out);
static int config_check(const struct options *options, struct config **config);
static int privileges_drop(const struct config *config);
static int faults_begin(void);
static int daemon_run(const struct config *config);
static void error_log(const struct err *err);
static void signal_end(evutil_socket_t fd, short what, void *arg);
static void signal_reload(evutil_socket_t fd, short what, void *arg);

int main(int argc, char **argv)
{
	struct options options = {.config_path = "/etc/sluice/sluice.ini"};
	struct config *config = NULL;
	int rc;

	memory_plan();
	json_memory(NULL);
	rc = filter_helper_start();
	if (rc != 0) {
		log_error("the filter helper does not start: %s", strerror(-rc));
		return EXIT_RUNTIME;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN); /* sent to who holds a lease on a file that somebody opens */
	rc = options_parse(argc, argv, &options);
	if (rc < 0)
		rc = config_check(&options, &config);
	if (rc < 0)
		rc = privileges_drop(config);
	if (rc < 0)
		rc = faults_begin();
	if (rc < 0)
		rc = daemon_run(config);
	fault_stop();
	config_free(config);
	filter_helper_stop();
	return rc;
}

/*
 * What captures take when they come is given back when they go. No packet passes malloc, so threads need no
 * heaps of their own, in which what one allocates and another frees leaves holes: with them, and with
 * thresholds that rise by themselves, memory grew by 10 bytes with each request for ever.
 */
static void memory_plan(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
	mallopt(M_TRIM_THRESHOLD, LARGE_BYTES);
}

/* Each step returns an exit code, or -1: go on. */
static int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'},
		{"help-config", no_argument, NULL, 'o'},
		{"help-faults", no_argument, NULL, 'f'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:h", table, NULL)) != -1) {
		switch (option) {
		case 'c':
			options->config_path = optarg;
			break;
		case 'k':
			options->check = true;
			break;
		case 'o':
			config_help(stdout);
			return EXIT_OK;
		case 'f':
			fault_help(stdout);
			return EXIT_OK;
		case 'v':
			printf("sluiced %s%s\n", SLUICE_VERSION, FAULT_VERSION);
			return EXIT_OK;
		case 'h':
			usage_print(stdout);
			return EXIT_OK;
		default:
			usage_print(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "sluiced: \"%s\" is not an option\n", argv[optind]);
	usage_print(stderr);
	return EXIT_USAGE;
}

static void usage_print(FILE *out)
{
	fprintf(out,
		"usage: sluiced [--config FILE] [--check]\n"
		"\n"
		"  --config FILE   configuration (default /etc/sluice/sluice.ini)\n"
		"  --check         read and judge the configuration, then exit\n"
		"  --help-config   list every option with its default and range\n"
		"  --version       print the version\n"
		"%s"
		"\n"
		"SIGTERM and SIGINT end running captures cleanly and stop the daemon. SIGHUP\n"
		"opens the audit log anew and reads the TLS certificate again.\n",
		FAULT_VERSION[0] == '\0'
			? ""
			: "  --help-faults   list the fault points of this test build\n");
}

static int config_check(const struct options *options, struct config **config)
{
	struct err err = {0};

	*config = config_load(options->config_path, &err);
	if (*config == NULL) {
		fprintf(stderr, "%s\n", err.text);
		return EXIT_USAGE;
	}
	if (!options->check)
		return -1;
	printf("%s: ok, %u ports\n", options->config_path, (*config)->n_ports);
	return EXIT_OK;
}

static int faults_begin(void)
{
	struct err err = {0};

	if (FAULT_VERSION[0] == '\0' && getenv("SLUICE_FAULTS") != NULL)
		err_set(&err, ENOTSUP, "SLUICE_FAULTS",
			"is set, but this sluiced was built without fault points");
	else if (fault_start(&err) == 0)
		return -1;
	fprintf(stderr, "%s: %s\n", err.field, err.text);
	return EXIT_USAGE;
}

/* While there is one thread: a capability is a thread's own. */
static int privileges_drop(const struct config *config)
{
	struct err err = {0};

	if (sandbox_prepare(config, &err) == 0)
		return -1;
	error_log(&err);
	return EXIT_RUNTIME;
}

static int daemon_run(const struct config *config)
{
	struct event_base *base = event_base_new();
	struct event *on_term = NULL, *on_int = NULL, *on_hup = NULL;
	struct err err = {0};
	int rc;

	if (base == NULL)
		return EXIT_RUNTIME;
	/* First of all: a signal that comes during the start is obeyed when it is over. */
	on_term = evsignal_new(base, SIGTERM, signal_end, base);
	on_int = evsignal_new(base, SIGINT, signal_end, base);
	on_hup = evsignal_new(base, SIGHUP, signal_reload, NULL);
	event_add(on_term, NULL);
	event_add(on_int, NULL);
	event_add(on_hup, NULL);
	if (engine_start(config, &err) != 0) {
		error_log(&err);
		return EXIT_RUNTIME;
	}
	rc = control_start(config, base, &err);
	if (rc == 0)
		rc = api_start(config, base, &err);
	if (rc == 0 && config->engine.sandbox)
		rc = sandbox_enter(&err);
	if (rc == 0 && service_ready(base) != 0)
		rc = err_set(&err, ENOMEM, NULL, "no memory for the watchdog");
	if (rc == 0) {
		log_info("ready: files are written with %s", engine_sink_name());
		event_base_dispatch(base);
		service_stopping();
		log_info("stopping");
	} else {
		error_log(&err);
	}
	api_stop();
	if (control_stop() != 0) {
		log_error("the storage does not answer: what is open stays as it is, and the next "
			  "start recovers it");
		_exit(EXIT_RUNTIME);
	}
	event_free(on_term);
	event_free(on_int);
	event_free(on_hup);
	engine_stop();
	event_base_free(base);
	return rc == 0 ? EXIT_OK : EXIT_RUNTIME;
}

static void error_log(const struct err *err)
{
	log_error("%s%s%s", err->field, err->field[0] != '\0' ? ": " : "", err->text);
}

static void signal_end(evutil_socket_t fd, short what, void *arg)
{
	event_base_loopbreak(arg);
}

static void signal_reload(evutil_socket_t fd, short what, void *arg)
{
	api_reload();
}
