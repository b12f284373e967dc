/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/console.h"

#include <stdbool.h>
#include <string.h>

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

	server_header_add(request, "Content-Security-Policy", "%s", CONTENT_POLICY);
	server_header_add(request, "Cross-Origin-Opener-Policy", "same-origin");
	server_header_add(request, "Cross-Origin-Resource-Policy", "same-origin");
	server_header_add(request, "Referrer-Policy", "no-referrer");
	server_header_add(request, "Cache-Control", "no-cache");
	server_header_add(request, "ETag", "%s", file->etag);
	if (known != NULL && etag_listed(known, file->etag))
		server_reply(request, 304, NULL, NULL, 0);
	else
		server_reply(request, 200, file->type, file->data, file->len);
}

/* A proxy that compressed the file may have made its tag a weak one. */
static bool etag_listed(const char *list, const char *etag)
{
	return strcmp(list, "*") == 0 || strstr(list, etag) != NULL;
}
