/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One capture as several commands need it: waiting for its end with progress, fetching its file.
 */
#ifndef API_CLIENT_CAPTURE_H
#define API_CLIENT_CAPTURE_H

#include "api/client/client.h"

/* complete, failed or deleted: nothing will change any more. */
bool capture_closed(const json_t *capture);

/* GET it; *out is freed by the caller. enum client_exit. */
int capture_get(struct client *client, const char *id, json_t **out);

/* POST stop; comes back once every packet accepted so far is in a file. */
int capture_stop(struct client *client, const char *id, json_t **out);

/*
 * Wait for the end and return the closed capture in *out. On a terminal one line on standard error
 * shows rates and drops. The first interrupt stops the capture, the second ends the wait
 * (CLIENT_REFUSED).
 */
int capture_wait(struct client *client, const char *id, json_t **out);

/*
 * Where a capture is written to: standard output for "-", a pipe or device as it is, a regular file
 * as NAME.part until capture_output_finish gives it its name.
 */
struct capture_output {
	int fd;
	const char *path;
	char *part; /* NULL: path was opened itself */
};
int capture_output_open(struct capture_output *output, const char *path);
/* good: rename; else remove what was begun. Returns enum client_exit. */
int capture_output_finish(struct capture_output *output, bool good);

/* Fetch the file; query as "?format=pcap", or "". Waits while the server says "not yet" if wait. */
int capture_fetch(struct client *client, const char *id, const char *query, bool wait,
	struct capture_output *output);

#endif
