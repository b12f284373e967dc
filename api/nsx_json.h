/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The NSX dialect as text: a PacketCaptureRequest to a session_spec, a session to a
 * PacketCaptureSession, errors to ApiErrors. Pure; any thread.
 */
#ifndef API_NSX_JSON_H
#define API_NSX_JSON_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/json.h"
#include "control/session.h"
#include "engine/filter.h"

/* The manager's API and the policy API differ in one word and in paths. */
enum nsx_family { NSX_MANAGER, NSX_POLICY };

struct nsx_request {
	char filter[FILTER_EXPRESSION_MAX]; /* pcap expression; "" = everything */
	char point[CONFIG_TEXT_MAX];        /* capvalue; "" = every port */
	enum direction direction;
	bool stream;
	char stream_address[INET6_ADDRSTRLEN];
	unsigned stream_port;
	uint64_t seconds, packets, megabytes, rate_pps, snaplen_bytes; /* 0 = no bound */
	json_t *echo; /* the members that are shown again; nsx_request_free */
};

/*
 * Read a create request. 0, -EINVAL, or -ENOENT (another node's), with err in the dialect's names.
 * Which port point is stays the caller's to say.
 */
int nsx_request_decode(const char *body, size_t len, enum nsx_family family,
	const struct config *config, struct nsx_request *request, struct err *err);
/* The same of what nsx_vendor kept. */
int nsx_vendor_decode(const char *vendor, const struct config *config, struct nsx_request *request,
	struct err *err);
void nsx_request_free(struct nsx_request *request);

/* What a decoded request asks of a session; ports, account, owner and vendor are the caller's. */
void nsx_spec(const struct nsx_request *request, struct session_spec *spec);

/*
 * The text that is kept with the session: the request, and for a restart the id of the first session.
 * session_id: NULL = the session's own. malloc'ed; NULL without memory.
 */
char *nsx_vendor(const struct nsx_request *request, const char *session_id);

/* By what name clients know the session: its own id, or that of the first of its restarts. */
void nsx_session_id(const struct session_info *info, char id[UUID_TEXT_SIZE]);
bool nsx_session_restarted(const struct session_info *info);

/* PacketCaptureSession; file_bytes is what capturefile has. */
json_t *nsx_session(const struct session_info *info, enum nsx_family family, uint64_t file_bytes);

/* How long the session's file is in this format. */
uint64_t nsx_file_bytes(const struct session_info *info, enum config_nsx_format format);

/* {"results":list,"result_count":n}; list is taken over. */
json_t *nsx_list(json_t *list);

/* ApiError. */
json_t *nsx_error(int status, const struct err *err);

/* err of session_create with its field in this dialect's names. */
void nsx_err_rename(struct err *err);

#endif
