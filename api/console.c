/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/console.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/err.h"
#include "api/request.h"
#include "api/route.h"
#include "api/server.h"

/*
 * Nothing but what the daemon itself serves, and no text that becomes markup or code, whatever a mistake
 * in the modules might try: trusted types without a policy refuse it.
 */
#define CONTENT_POLICY                                                                        \
	"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "       \
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " \
	"require-trusted-types-for 'script'; trusted-types 'none'"

static const struct console_file *file_find(const char *name);
static void file_send(struct request *request, const struct console_file *file);
static bool etag_listed(const char *list, const char *etag);

void console_index(struct request *request)
{
	file_send(request, file_find("index.html"));
}

void console_show(struct request *request)
{
	const struct console_file *file = file_find(request_arg(request, 0));
	const struct err none = {0};

	if (file != NULL)
		file_send(request, file);
	else
		route_error(request, 404, &none);
}

/* RFC 9110, 12.5.3: a list of codings, each with a weight maybe, of which 0 forbids. */
bool console_takes_gzip(const char *accept)
{
	while (accept != NULL && *accept != '\0') {
		const size_t skipped = strspn(accept, " \t,"),
			     len = strcspn(accept + skipped, " \t,;");
		const char *word = accept + skipped, *weight = word + len;

		weight += strspn(weight, " \t");
		if (len == 4 && strncasecmp(word, "gzip", 4) == 0) {
			if (*weight != ';')
				return true;
			weight += 1 + strspn(weight + 1, " \t");
			return strncasecmp(weight, "q=", 2) != 0 || strtod(weight + 2, NULL) > 0;
		}
		accept = word + len + strcspn(word + len, ",");
	}
	return false;
}

static const struct console_file *file_find(const char *name)
{
	for (size_t i = 0; i < console_files_n; i++)
		if (strcmp(console_files[i].name, name) == 0)
			return &console_files[i];
	return NULL;
}

/* Asked for anew each time, and not sent again while it is the same. */
static void file_send(struct request *request, const struct console_file *file)
{
	const char *known = server_header(request, "If-None-Match");
	const bool packed = console_takes_gzip(server_header(request, "Accept-Encoding"));
	const struct console_form *form = packed ? &file->packed : &file->plain;

	server_header_add(request, "Content-Security-Policy", "%s", CONTENT_POLICY);
	server_header_add(request, "Cross-Origin-Opener-Policy", "same-origin");
	server_header_add(request, "Cross-Origin-Resource-Policy", "same-origin");
	server_header_add(request, "Referrer-Policy", "no-referrer");
	server_header_add(request, "Cache-Control", "no-cache");
	server_header_add(request, "Vary", "Accept-Encoding");
	server_header_add(request, "ETag", "%s", form->etag);
	if (known != NULL && etag_listed(known, form->etag)) {
		server_reply(request, 304, NULL, NULL, 0);
		return;
	}
	if (packed)
		server_header_add(request, "Content-Encoding", "gzip");
	server_reply(request, 200, file->type, form->data, form->len);
}

/* A proxy that compressed the file may have made its tag a weak one. */
static bool etag_listed(const char *list, const char *etag)
{
	return strcmp(list, "*") == 0 || strstr(list, etag) != NULL;
}
