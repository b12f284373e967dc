/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The native dialect as text: request bodies to what they ask for, sessions and status to JSON.
 * Pure but for looking up ports; control thread only.
 */
#ifndef API_NATIVE_JSON_H
#define API_NATIVE_JSON_H

#include "config/config.h"
#include "config/json.h"
#include "control/session.h"
#include "api/auth.h"

/* Fill spec from the body of POST /captures; {} or nothing asks for everything by default. Texts in
 * spec live as long as *document, which the caller releases. 0 or -EINVAL with err. */
int native_spec_decode(const char *body, size_t len, const struct config *config,
	const struct principal *who, struct session_spec *spec, json_t **document, struct err *err);

/* PATCH: what is not given is NULL or NATIVE_LIMIT_KEPT. */
#define NATIVE_LIMIT_KEPT UINT64_MAX
struct native_patch {
	const char *name, *notes;
	uint64_t limit_packets;
	uint64_t limit_ns;
};
int native_patch_decode(const char *body, size_t len, struct native_patch *patch, json_t **document,
	struct err *err);

/* POST /tokens. */
int native_token_decode(const char *body, size_t len, const struct config *config,
	struct auth_token *token, struct err *err);

json_t *native_capture(const struct session_info *info);
json_t *native_ledger(const struct ledger *ledger);
json_t *native_token(
	const struct auth_token *token, const char *secret); /* secret: NULL or "" = none */
json_t *native_ports(const struct config *config, const struct principal *who);
json_t *native_buckets(const struct config *config, const struct principal *who);
json_t *native_status(void);

/* RFC 9457; the pointer stands for err->field where status is 400. */
json_t *native_error(int status, const struct err *err);

/* The ports that an account may use, in engine order. Returns how many. */
unsigned native_account_ports(
	const struct config *config, const char *account, uint8_t ports[CONFIG_PORTS_MAX]);

#endif
