/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The door of control: sessions. Everything here is for the control thread only, and nothing
 * blocks: what needs a disk, a device or a compiler goes to a worker and comes back through a
 * callback.
 *
 * States:  starting -> running -> stopping -> [converting] -> [uploading] -> complete
 *                 \________________\______________\____________\______> failed
 *          complete, failed -> deleted (by retention; the record stays listed)
 */
#ifndef CONTROL_SESSION_H
#define CONTROL_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "control/uuid.h"
#include "engine/engine.h"
#include "engine/ledger.h"

#define SESSION_NAME_MAX   256 /* bytes with NUL, UTF-8 */
#define SESSION_NOTES_MAX  4096
#define SESSION_VENDOR_MAX 8192
#define SESSION_PREFIX_MAX 512              /* bytes without NUL */
#define SESSION_RATE_MAX   1000000000000ULL /* packets a second */
#define SESSION_MAX        100000           /* records that are kept in memory */

#define SESSION_STATES(X) \
	X(starting)       \
	X(running)        \
	X(stopping)       \
	X(converting)     \
	X(uploading)      \
	X(complete)       \
	X(failed)         \
	X(deleted)

enum session_state {
#define X(name) SESSION_##name,
	SESSION_STATES(X)
#undef X
		SESSION_STATE_COUNT,
};

#define SESSION_DIALECTS(X) X(native) X(cloudflare) X(nsx) X(citrix) X(mist)

enum session_dialect {
#define X(name) DIALECT_##name,
	SESSION_DIALECTS(X)
#undef X
		DIALECT_COUNT,
};

enum session_output { OUTPUT_FILE, OUTPUT_NONE, OUTPUT_STREAM, OUTPUT_S3 };

/* What became of the object of a capture with output s3. */
#define SESSION_UPLOADS(X)                                                  \
	X(none)    /* there is none to be, or the file is not closed yet */ \
	X(waiting) /* for its turn, or for the next attempt */              \
	X(sending)                                                          \
	X(verified) /* the bucket holds just the bytes of the file */       \
	X(failed)   /* given up; the file stays */

enum session_upload_state {
#define X(name) UPLOAD_##name,
	SESSION_UPLOADS(X)
#undef X
		UPLOAD_STATE_COUNT,
};

struct session;

/* What a user asked for. Strings are the caller's; session_create copies what it keeps. */
struct session_spec {
	const char *name;    /* NULL or "" = none */
	const char *notes;   /* NULL or "" */
	const char *account; /* name of the account it belongs to, or "*" */
	const char *owner;   /* name of the token that asked */
	enum session_dialect dialect;
	unsigned n_ports;
	uint8_t ports[CONFIG_PORTS_MAX]; /* engine port indexes, no repeats; n_ports >= 1 */
	const char *filter;              /* NULL or "" = everything */
	enum sample_mode sample_mode;
	uint64_t sample_n;
	uint64_t rate_pps;      /* of what is sampled, no more a second are kept; 0 = all */
	uint64_t snaplen_bytes; /* 0 = whole packets */
	enum direction direction;
	uint64_t limit_packets; /* 0 = none */
	uint64_t limit_bytes;
	uint64_t limit_ns;
	uint64_t limit_file_bytes;
	uint64_t expected_bytes;   /* a second, of packets that pass the filter; 0 = not said */
	uint64_t expected_packets; /* a second; 0 = not said */
	enum session_output output;
	const char *stream_address; /* OUTPUT_STREAM: IPv4 or IPv6 */
	unsigned stream_port;       /* 0 = the encapsulation's */
	enum stream_encapsulation encapsulation;
	const char *bucket; /* OUTPUT_S3: name of a [bucket] */
	const char *prefix; /* OUTPUT_S3: of the key, behind the bucket's own; NULL or "" = none */
	const char *object; /* OUTPUT_S3: its name, "{id}" stands for the id without hyphens; NULL =
				 UUID.pcapng */
	struct uuid replaces; /* deleted once this one has a packet; all zero = none */
	/* Called when it runs, before it can take a packet: the place to watch it from. NULL: nothing. */
	void (*begins)(struct session *session);
	const char *vendor; /* the dialect's own JSON object as text, kept with the record; NULL =
			       none */
};

/* What happened to a session that its other members do not tell, oldest first. */
#define SESSION_EVENTS_MAX 32
struct session_events {
	unsigned n;
	unsigned n_left_out; /* older ones */
	struct {
		uint64_t at_ns; /* wall clock */
		char text[192];
	} event[SESSION_EVENTS_MAX];
};

/* Less is kept than was asked for, because the disk takes no more. */
struct session_degraded {
	unsigned level;    /* 0: it is not */
	uint64_t since_ns; /* wall clock: when it became so, at any level */
	uint64_t snaplen_bytes;
	enum sample_mode sample_mode;
	uint64_t sample_n;
};

struct session; /* members are read through the functions below and struct session_info */

/* A consistent view; strings belong to the session and live until the next return to the event
 * loop. */
struct session_info {
	struct uuid id;
	const char *name, *notes, *account, *owner, *filter, *vendor; /* never NULL but vendor */
	enum session_dialect dialect;
	enum session_state state;
	enum end_reason reason; /* END_none while running */
	const char *message;    /* NULL, or a sentence for the user (why it failed) */
	unsigned n_ports;
	const char *ports[CONFIG_PORTS_MAX]; /* names */
	enum filter_engine filter_engine;
	enum sample_mode sample_mode;
	uint64_t sample_n;
	uint64_t rate_pps;
	uint64_t snaplen_bytes; /* 262144 = whole */
	enum direction direction;
	uint64_t limit_packets, limit_bytes, limit_ns, limit_file_bytes;
	uint64_t expected_bytes, expected_packets;
	const struct session_degraded *degraded; /* NULL: it is not */
	const struct session_events *events;     /* NULL: there are none */
	enum session_output output;
	const char *stream_address; /* "" but for OUTPUT_STREAM */
	unsigned stream_port;
	enum stream_encapsulation encapsulation;
	const char *bucket, *prefix; /* "" but for OUTPUT_S3 */
	struct {
		enum session_upload_state state;
		const char *bucket; /* as the service calls it; "" but for OUTPUT_S3 */
		const char *key;
		uint64_t bytes, total_bytes; /* sent of the file; total 0 = not known yet */
		uint64_t attempts;
		const char *message; /* of the last failure, or NULL */
		uint64_t next_ns; /* wall clock: when it is tried again; 0 = not waiting for that */
		bool local_gone;  /* the local file was removed after its object was verified */
	} upload;
	struct uuid replaces;                      /* what it replaced or will; all zero = none */
	uint64_t created_ns, started_ns, ended_ns; /* wall clock; 0 = not yet */
	uint64_t size_bytes; /* of the file; while running: of its lanes so far */
	struct ledger ledger;
	bool queued; /* converting: the merge waits for its turn */
};
void session_info(const struct session *session, struct session_info *info);

/*
 * Check spec (bounds, names, filter), make the files, start. done is called exactly once, possibly
 * before session_create returns: session NULL and err filled (field names are the native API's:
 * "filter", "limits.packets", "ports", ...; code EINVAL bad value, EAGAIN engine full, ENOSPC no
 * storage, ENODEV port unusable, EPERM "capture.endless"), or the session, in state running (or
 * already further, if a limit ended it).
 */
typedef void session_done(struct session *session, const struct err *err, void *arg);
void session_create(const struct session_spec *spec, session_done *done, void *arg);

/*
 * Ask for the end. done comes once every packet accepted so far is in a file: state converting,
 * complete or failed; or, while the disk does not answer (stall.h), as soon as the state is stopping.
 * Idempotent. done may be NULL.
 */
void session_stop(struct session *session, enum end_reason reason, session_done *done, void *arg);

/*
 * done comes once the session is closed: merged, too, where that is to be done; at once if it is.
 * done(NULL, err or NULL, arg) if it never came to be.
 */
void session_closed_wait(struct session *session, session_done *done, void *arg);

/*
 * Stop if needed, remove the files and the record; then done(NULL, NULL, arg) or done(NULL, err, arg);
 * with EAGAIN it is under way and waits for a disk that does not answer. Of a capture with output s3 the
 * object goes, too, if its bucket says so: that is noted on disk before and tried until it is done, also
 * by the next daemon.
 */
void session_delete(struct session *session, session_done *done, void *arg);

/*
 * Other limits than it began with, of packets in all and of time since its start (0 = none), while it
 * runs; then the record is written and done called. What is reached already ends it. err: EBUSY when
 * it does not run, EINVAL "limits.packets", "limits.seconds", EPERM "limits".
 */
void session_limits_change(struct session *session, uint64_t limit_packets, uint64_t limit_ns,
	session_done *done, void *arg);

/* Change name and/or notes (NULL = leave), write the record, then done. */
void session_update(struct session *session, const char *name, const char *notes,
	session_done *done, void *arg);
/* Replace the vendor's JSON text (a stop request's time, say). */
void session_vendor_set(struct session *session, const char *vendor);

/* NULL if there is none. */
struct session *session_find(const struct uuid *id);
/* Newest first; session_next(NULL) is the newest. NULL at the end. */
struct session *session_next(const struct session *session);
/* Grows with every created session, never used twice, kept over restarts: a list cursor. */
uint64_t session_serial(const struct session *session);

/*
 * The files that hold the session's packets, in the order in which they are to be sent. A closed
 * capture has one part, whole. A running one has a part per lane, each good from its start to
 * size_bytes. fd is a new descriptor for reading (pread), owned by the caller; opening does not
 * block on the disk beyond a directory look-up, and is done on WORKER_READ by download code:
 * session_parts itself only fills path and size. Returns the number of parts, 0 when there is
 * nothing to read (output none, deleted).
 */
struct session_part {
	char path[CONFIG_TEXT_MAX + 128];
	uint64_t size_bytes;
};
#define SESSION_PARTS_MAX 256
unsigned session_parts(const struct session *session, struct session_part *parts, unsigned n_max);

/*
 * Somebody reads these files, or will: retention passes the capture over until as many have ended as
 * began. A descriptor stays good without. The capture may be gone when they end.
 */
void session_read_begin(const struct uuid *id);
void session_read_end(const struct uuid *id);

const char *session_state_name(enum session_state state);
const char *session_upload_state_name(enum session_upload_state state);
const char *session_dialect_name(enum session_dialect dialect);
bool session_state_closed(enum session_state state); /* complete, failed, deleted */
/* Its file, if it has one, is whole and stays as it is: closed, or uploading. */
static inline bool session_state_whole(enum session_state state)
{
	return state == SESSION_uploading || state == SESSION_complete || state == SESSION_failed ||
	       state == SESSION_deleted;
}

/* Packets are kept in files, for download or for a bucket. */
static inline bool session_output_is_file(enum session_output output)
{
	return output == OUTPUT_FILE || output == OUTPUT_S3;
}
/* Deleted captures whose objects are still to be removed from their buckets, when last looked at. */
unsigned session_upload_debts(void);

#endif
