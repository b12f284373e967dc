/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Send a capture's file. The read worker opens and reads it piece by piece, converting on the way
 * where asked; the control thread hands the pieces to the server, two in flight, as fast as the
 * client takes them.
 */
#ifndef API_DOWNLOAD_H
#define API_DOWNLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "control/session.h"
#include "api/pcap.h"
#include "api/request.h"

enum download_format { DOWNLOAD_PCAPNG, DOWNLOAD_PCAP_MICROSECONDS, DOWNLOAD_PCAP_NANOSECONDS };

/*
 * Answer request with session's packets: its file once closed (with Range, If-Range and ETag where
 * it goes out as it is), else what its lanes hold now, one after another. The caller has checked
 * that the session may be read; a session without a file is the vendor's 404.
 */
void download_start(
	struct request *request, const struct session *session, enum download_format format);

/* A Range header against a file of size bytes (RFC 9110, 14.1): */
enum download_range { RANGE_NONE, RANGE_PART, RANGE_UNSATISFIABLE };
/* RANGE_NONE: none, several, or not understood: the whole file is sent. RANGE_PART: *first..*last.
 */
enum download_range download_range(
	const char *header, uint64_t size_bytes, uint64_t *first, uint64_t *last);

#endif
