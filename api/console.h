/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The web console: the files of api/console/ inside the program, served as they are or packed. They ask the
 * native API for everything and name nothing but by relative URLs, so that any prefix of a proxy will
 * do. Open without a token; what they show is not. Control thread only.
 */
#ifndef API_CONSOLE_H
#define API_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

struct console_form {
	const char *etag; /* with its quotes; of the bytes */
	const unsigned char *data;
	size_t len;
};

struct console_file {
	const char *name; /* "app.js" */
	const char *type; /* Content-Type */
	struct console_form plain;
	struct console_form packed; /* by gzip, for whoever says that it takes that */
};

extern const struct console_file console_files[]; /* made by scripts/embed */
extern const size_t console_files_n;

struct request;

/* Whether an Accept-Encoding (NULL: there is none) takes gzip. */
bool console_takes_gzip(const char *accept);

/* GET / and GET /console/{file}. */
void console_index(struct request *request);
void console_show(struct request *request);

#endif
