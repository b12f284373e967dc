/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The Cloudflare dialect as text: a create request to a session_spec, a session to a PCAP object,
 * the envelope. Pure; any thread.
 */
#ifndef API_CLOUDFLARE_JSON_H
#define API_CLOUDFLARE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/json.h"
#include "control/ownership.h"
#include "control/session.h"
#include "api/cloudflare_destination.h"

#define CLOUDFLARE_FILTER_MAX     256
#define CLOUDFLARE_SIMPLE_SNAPLEN 160

enum cloudflare_type { CLOUDFLARE_SIMPLE, CLOUDFLARE_FULL };

enum cloudflare_code {
	CLOUDFLARE_BAD_FIELD = 1400,
	CLOUDFLARE_NO_PCAP = 1404,
	CLOUDFLARE_UNFINISHED = 1409,
	CLOUDFLARE_TOO_LARGE = 1413,
	CLOUDFLARE_TOO_MANY = 1429,
	CLOUDFLARE_INTERNAL = 1500,
	CLOUDFLARE_FULL_UP = 1503,
	CLOUDFLARE_NO_STORAGE = 1507,
	CLOUDFLARE_NO_ROUTE = 7003,
	CLOUDFLARE_NO_RIGHT = 10000,
	CLOUDFLARE_NO_METHOD = 10405,
};

struct cloudflare_request {
	enum cloudflare_type type;
	char filter[CLOUDFLARE_FILTER_MAX]; /* pcap expression; "" = everything */
	double time_limit_s;
	uint64_t packet_limit; /* 0 = none */
	uint64_t byte_limit;
	struct cloudflare_destination destination; /* of full, where captures are delivered */
	char *echo; /* the members that are shown again, as JSON; the caller frees it */
};

/* Read a create request of account at the time now_ns; where full captures go says what their
 * destination_conf may be. 0 or -EINVAL with err in the dialect's names. */
int cloudflare_create_decode(const char *body, size_t len, const struct config_account *account,
	enum config_deliver deliver, uint64_t now_ns, struct cloudflare_request *request,
	struct err *err);

/* What a decoded request asks of a session; ports, account and owner are the caller's. */
void cloudflare_spec(
	const struct cloudflare_request *request, unsigned sample_n, struct session_spec *spec);

/* The PCAP object. created: as the answer to create shows it, "pending" whatever it is by now. */
json_t *cloudflare_pcap(const struct session_info *info, bool created);

/* A request to add a bucket (challenge NULL) or to validate one. */
struct cloudflare_bucket {
	char conf[OWNERSHIP_DESTINATION_MAX + 1]; /* as it came */
	char challenge[OWNERSHIP_CHALLENGE_LEN +
		       2]; /* without white space behind it; longer: cut */
	struct cloudflare_destination destination;
};
int cloudflare_bucket_decode(const char *body, size_t len, bool validate,
	struct cloudflare_bucket *bucket, struct err *err);

json_t *cloudflare_ownership(const struct ownership *owned);

/* simple or full: by what the session's vendor text says. */
enum cloudflare_type cloudflare_type(const struct session_info *info);

/* The vendor text with stop_requested set; NULL: it was there already, or no memory. Caller frees.
 */
char *cloudflare_stop_requested(const char *vendor, uint64_t now_ns);

/* {"success":true,...,"result":result}; result is taken over. */
json_t *cloudflare_envelope(json_t *result);
json_t *cloudflare_failure(enum cloudflare_code code, const char *message);

/* For errors found before a handler: by HTTP status. */
json_t *cloudflare_error(int status, const struct err *err);

/* err of session_create with its field in this dialect's names. */
void cloudflare_err_rename(struct err *err);

#endif
