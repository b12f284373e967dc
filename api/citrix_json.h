/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The Citrix dialect as text: a packet_capture request to a session_spec, a session and its packets
 * to a packet_capture object, messages and errors. Pure but for looking up ports; any thread, but
 * for citrix_capture_decode and citrix_spec: control thread.
 */
#ifndef API_CITRIX_JSON_H
#define API_CITRIX_JSON_H

#include <stdint.h>

#include "config/config.h"
#include "config/json.h"
#include "control/packet.h"
#include "control/session.h"

#define CITRIX_FILE_MAX    575000000ULL
#define CITRIX_SUMMARY_MAX 5000

/* The vendor's own spelling; clients look for it. */
#define CITRIX_ADDED    "resource added succesfully"
#define CITRIX_MODIFIED "resource modified succesfully"
#define CITRIX_DELETED  "resource deleted succesfully"

/* A packet_capture as it was asked for. What was not given has the vendor's default. */
struct citrix_capture {
	const char *interface; /* NULL: not given; texts live as long as document */
	const char *filter;
	uint64_t duration_s;
	uint64_t max_packets; /* 0 = MAX */
	unsigned n_ports;
	uint8_t ports[CONFIG_PORTS_MAX];
	char *echo;       /* the members that are shown again, as JSON */
	json_t *document; /* released with citrix_capture_release */
};

/* Read a POST's body for account. 0 or -EINVAL with err in the dialect's names. */
int citrix_capture_decode(const char *body, size_t len, const struct config *config,
	const char *account, struct citrix_capture *capture, struct err *err);
void citrix_capture_release(struct citrix_capture *capture);

/* What it asks of a session; account and owner are the caller's. */
void citrix_spec(const struct citrix_capture *capture, struct session_spec *spec);

/*
 * Read a PUT's body against the capture that runs: duration and max_packets may be others; interface
 * and filter_str may be repeated, not changed. *echo: the vendor text from now on, which the caller
 * frees. 0, -EINVAL or -ENOMEM with err.
 */
int citrix_change_decode(const char *body, size_t len, const struct session_info *info,
	uint64_t *limit_packets, uint64_t *limit_ns, char **echo, struct err *err);

/* {"login":{"username","password"}}; the texts live as long as *document, which the caller releases. */
int citrix_login_decode(const char *body, size_t len, const char **name, const char **secret,
	json_t **document, struct err *err);

/* One packet of summary: ten strings. */
json_t *citrix_packet(const struct packet_summary *packet);

/* The object: what was asked for, the message, and summary, which is taken over. */
json_t *citrix_capture(const struct session_info *info, const char *message, json_t *summary);

/* What GET says about it; POST once it has ended. */
const char *citrix_state_message(const struct session_info *info);
const char *citrix_added_message(const struct session_info *info);

/* {resource: object}; object is taken over. */
json_t *citrix_wrap(const char *resource, json_t *object);
/* {resource: {"message": message}} */
json_t *citrix_message(const char *resource, const char *message);

/* {"errorcode","errormessage"} */
json_t *citrix_error(int status, const struct err *err);

/* The status that this dialect documents for err: 400, 401, 403, 404 or 500. */
int citrix_status(const struct err *err);

/* err of session_create with its field in this dialect's names. */
void citrix_err_rename(struct err *err);

#endif
