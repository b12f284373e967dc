/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The Mist dialect as text: a capture request to a session_spec, a session to the objects of start,
 * status and search. Pure but for looking up ports; control thread only.
 */
#ifndef API_MIST_JSON_H
#define API_MIST_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/json.h"
#include "control/session.h"
#include "api/request.h"

#define MIST_MAC_SIZE 13 /* 12 lower-case hex digits and NUL */

enum mist_type { MIST_CLIENT, MIST_WIRED, MIST_SWITCH, MIST_GATEWAY, MIST_MXEDGE };
enum mist_format { MIST_PCAP, MIST_STREAM, MIST_TZSP };

/* A capture as it was asked for. */
struct mist_capture {
	enum mist_type type;
	enum mist_format format;
	uint64_t duration_s, num_packets, max_pkt_len; /* num_packets 0 = any number */
	unsigned n_ports;
	uint8_t ports[CONFIG_PORTS_MAX];
	const char *tzsp_host; /* of format tzsp; lives as long as document */
	uint64_t tzsp_port;
	char *filter; /* pcap expression */
	char *echo;   /* what the objects show again, as JSON */
	json_t *document;
};

/* Read the body of a start for account's site or organisation. 0 or -EINVAL with err in the dialect's
 * names; release in each case but failure. */
int mist_capture_decode(const char *body, size_t len, const struct config *config,
	const struct config_account *account, bool organisation, struct mist_capture *capture,
	struct err *err);
void mist_capture_release(struct mist_capture *capture);

/* What it asks of a session; account and owner are the caller's. */
void mist_spec(const struct mist_capture *capture, struct session_spec *spec);

/* {"notes"}: NULL when not given; lives as long as *document, which the caller releases. */
int mist_notes_decode(
	const char *body, size_t len, const char **notes, json_t **document, struct err *err);

/* What a list is asked for, at the time now_s. */
struct mist_query {
	uint64_t start_s, end_s; /* both included */
	uint64_t limit, page;
	char client_mac[MIST_MAC_SIZE]; /* "" = any */
};
int mist_query_decode(
	const struct request *request, uint64_t now_s, struct mist_query *query, struct err *err);

/* "AA:bb:.." with or without separators, or an id that ends with one; false: it is none. */
bool mist_mac_parse(const char *text, char mac[MIST_MAC_SIZE]);

/* The MAC that a port is known by here: by [mist] devices, or its own; "" if it has none. */
void mist_port_mac(const struct config *config, const char *port, char mac[MIST_MAC_SIZE]);

/* Members of a session's vendor text. */
bool mist_organisation(const struct session_info *info);
bool mist_format_is_pcap(const struct session_info *info);
bool mist_type_is_wired(const struct session_info *info); /* or client */
bool mist_client_is(const struct session_info *info, const char mac[MIST_MAC_SIZE]);

/* The answers. url: a signed link, NULL while there is no file. */
json_t *mist_started(const struct session_info *info, const struct config_account *account);
json_t *mist_status(const struct session_info *info);
json_t *mist_item(
	const struct session_info *info, const struct config_account *account, const char *url);
/* results is taken over; next: path of the next page, NULL on the last. */
json_t *mist_search(
	const struct mist_query *query, json_t *results, uint64_t total, const char *next);
/* account: one that who sees; call for each. */
void mist_privileges_add(
	json_t *privileges, const struct config_account *account, const char *role);

/* {"detail"} */
json_t *mist_error(int status, const struct err *err);

/* err of session_create with its field in this dialect's names. */
void mist_err_rename(struct err *err);

#endif
