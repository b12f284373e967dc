/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Requests to the daemon, with the token, errors said to the user in the server's own words. Also
 * what Ctrl-C means: http_interrupts counts it, and the second one ends whatever waits.
 */
#ifndef API_CLIENT_HTTP_H
#define API_CLIENT_HTTP_H

#include <signal.h>

#include "api/client/client.h"

#define HTTP_TOKEN_FILE_DEFAULT "/var/lib/sluice/admin.token"

/* How often SIGINT or SIGTERM came since http_interrupts_catch. */
extern volatile sig_atomic_t http_interrupts;
void http_interrupts_catch(void);

/*
 * method path with body (NULL: none; stolen). The answer's JSON goes to *out if there is one (out
 * may be NULL; the caller frees with json_decref). CLIENT_OK, or another code and the reason was
 * said.
 */
int http_call(
	struct client *client, const char *method, const char *path, json_t *body, json_t **out);

/*
 * The same for a GET whose body goes to fd. *retry_s (may be NULL): when the server says "not yet"
 * (409 with Retry-After) nothing is said, *retry_s is how long to wait, and the code is
 * CLIENT_REFUSED; otherwise *retry_s is 0. progress (may be NULL) is called now and then with the
 * bytes so far.
 */
int http_download(struct client *client, const char *path, int fd, unsigned *retry_s,
	void (*progress)(uint64_t bytes));

/* "/api/v1/captures/ID" + rest with the id escaped; free it. NULL without memory. */
char *http_capture_path(const char *id, const char *rest);
/* word escaped for a path or query; free it. */
char *http_escape(const char *word);

void http_close(void);

#endif
