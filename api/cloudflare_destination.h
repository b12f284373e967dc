/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * destination_conf where captures are delivered: "s3://BUCKET/DIRECTORY?region=REGION". It only picks
 * one of the configuration's buckets; where that is and who may write there never comes from a request.
 * Pure; any thread.
 */
#ifndef API_CLOUDFLARE_DESTINATION_H
#define API_CLOUDFLARE_DESTINATION_H

#include "config/config.h"
#include "config/err.h"

#define CLOUDFLARE_DIRECTORY_SIZE 513

struct cloudflare_destination {
	char bucket[CONFIG_NAME_MAX];
	char directory[CLOUDFLARE_DIRECTORY_SIZE]; /* no / at either end; "" = none */
	char region[CONFIG_NAME_MAX];              /* "" = not said */
};

/* Take uri apart. 0, or -EINVAL with err, field "destination_conf". */
int cloudflare_destination_parse(
	const char *uri, struct cloudflare_destination *destination, struct err *err);

/* The bucket that it names, if account may use it and the region is the bucket's. NULL with err. */
const struct config_bucket *cloudflare_destination_bucket(const struct config *config,
	const char *account, const struct cloudflare_destination *destination, struct err *err);

#endif
