/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Which places in buckets an account has proved to be its own: a challenge with random contents is put
 * there, and whoever tells what it holds can read there. The state survives restarts (ROOT/ownership,
 * see ownership_file.h). Control thread only; nothing blocks: buckets are talked to on their worker,
 * one operation after another.
 */
#ifndef CONTROL_OWNERSHIP_H
#define CONTROL_OWNERSHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "control/uuid.h"

#define OWNERSHIP_PER_ACCOUNT     50
#define OWNERSHIP_PREFIX_SIZE     513
#define OWNERSHIP_DESTINATION_MAX 1024
#define OWNERSHIP_CHALLENGE_LEN   64 /* hex digits */
#define OWNERSHIP_FILENAME_SIZE   64

#define OWNERSHIP_STATUSES(X) X(pending) X(success) X(failed)

enum ownership_status {
#define X(name) OWNERSHIP_##name,
	OWNERSHIP_STATUSES(X)
#undef X
		OWNERSHIP_STATUS_COUNT,
};

/* Others read it until the next return to the event loop. */
struct ownership {
	struct uuid id;
	char account[CONFIG_NAME_MAX];
	char bucket[CONFIG_NAME_MAX];       /* [bucket NAME] */
	char prefix[OWNERSHIP_PREFIX_SIZE]; /* below the bucket's own; no / at either end */
	char destination[OWNERSHIP_DESTINATION_MAX + 1]; /* as the client wrote it */
	char challenge[OWNERSHIP_CHALLENGE_LEN + 1];     /* what the object holds; never shown */
	enum ownership_status status;
	uint64_t submitted_ns, validated_ns; /* wall clock; 0 = not yet */
	struct ownership *next;
};

/* A place in a bucket, as an account names it. Texts are the caller's; what is kept is copied. */
struct ownership_place {
	const char *account;
	const struct config_bucket *bucket;
	const char *prefix; /* at most OWNERSHIP_PREFIX_SIZE - 1 bytes, "" = all of the bucket */
};

/*
 * main, the store is open, the workers are not yet: read what is there. A file that is damaged or of
 * another version stays as it is, and every operation fails with that reason until somebody has looked.
 */
void ownership_start(const struct config *config);
/* After the workers have ended. */
void ownership_stop(void);
/* Once a second: a bucket that keeps an operation for too long is given up. */
void ownership_tick(void);

/* Those of account, oldest first; ownership_next(NULL, ..) is the first. */
const struct ownership *ownership_next(const struct ownership *before, const char *account);
/* The account has proved that this place, or one above it, is its own. */
bool ownership_proved(const struct ownership_place *place);

/* How the entries stand, and what came of validations since the start. */
struct ownership_counts {
	unsigned entries[OWNERSHIP_STATUS_COUNT];
	bool broken; /* the file was damaged or of another version: nothing can be asked */
	uint64_t validations_right;
	uint64_t validations_wrong; /* it held something else, or it was not there */
	uint64_t
		validations_failed; /* the bucket did not answer, or the file could not be written */
};
void ownership_count(struct ownership_counts *counts);

/* Called exactly once, possibly before the function returns; owned is NULL with err, or after a
 * deletion. */
typedef void ownership_done(const struct ownership *owned, const struct err *err, void *arg);

/*
 * Put the challenge into the bucket and remember that. Again for the same place: the same entry; what
 * failed gets a new challenge, what was proved stays proved. err: EAGAIN not reached or too busy, EINVAL
 * "destination_conf" the bucket takes nothing of ours, ENODEV its configuration is wrong, ENOSPC.
 */
void ownership_add(const struct ownership_place *place, const char *destination,
	ownership_done *done, void *arg);
/*
 * Somebody says what the challenge holds. Right, and it does: success. Wrong: failed, unless it was
 * proved before (EINVAL "ownership_challenge"). err besides: EINVAL "destination_conf" never added.
 */
void ownership_validate(const struct ownership_place *place, const char *challenge,
	ownership_done *done, void *arg);
/* Forget it; the challenge is removed, too, if that can be done. err: ENOENT. */
void ownership_delete(const char *account, const struct uuid *id, ownership_done *done, void *arg);

void ownership_filename(const struct ownership *owned, char name[OWNERSHIP_FILENAME_SIZE]);
const char *ownership_status_name(enum ownership_status status);

#endif
