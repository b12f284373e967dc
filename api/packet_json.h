/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A packet's summary as the native API shows it, the same in /packets and in the stream. Written by
 * hand: thousands a second are. Pure; any thread.
 */
#ifndef API_PACKET_JSON_H
#define API_PACKET_JSON_H

#include <stddef.h>

#include "control/packet.h"

#define PACKET_JSON_MAX 1280

/* One JSON object. more: further members ("\"data\":\"..\"") at its end, or NULL. Returns its length,
 * 0 when it does not fit; PACKET_JSON_MAX is enough without more. */
size_t packet_json_print(
	const struct packet_summary *summary, const char *more, char *text, size_t size);

/* "\"layers\":[{\"name\",\"offset\",\"length\",\"fields\":[{\"name\",\"value\",\"offset\",\"length\"}]}]":
 * the frame's headers. PACKET_LAYERS_JSON_MAX is enough. Returns its length. */
#define PACKET_LAYERS_JSON_MAX (64U << 10)
size_t packet_layers_print(const struct packet_frame *frame, char *text, size_t size);

#endif
