/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A bucket's credentials file:
 *
 *   access_key = AKIA...
 *   secret_key = ...
 *   session_token = ...
 *
 * The token may be left out. Read anew for each upload, so that replacing the file is all that a rotation takes. What was read lies
 * in secret memory. May block: worker.
 */
#ifndef CONTROL_S3_CREDENTIALS_H
#define CONTROL_S3_CREDENTIALS_H

#include "config/err.h"

struct s3_credentials {
	char *access_key, *secret_key;
	char *session_token; /* NULL: none */
};

/*
 * 0, or -errno with err (field "credentials"): -EACCES when others than its owner may read the file,
 * -EINVAL when it is not as above. err never holds any of its text. Free in each case.
 */
int s3_credentials_read(const char *path, struct s3_credentials *credentials, struct err *err);
void s3_credentials_free(struct s3_credentials *credentials);

#endif
