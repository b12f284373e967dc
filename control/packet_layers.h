/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The headers of a captured frame one by one: where each lies and what its fields say. Which headers there
 * are is found by the walk of packet.h, so a packet's line and its layers never disagree; what fields a
 * header has stands in tables. Pure: bytes in, structs out; any thread. It never allocates and never reads
 * past the captured bytes.
 */
#ifndef CONTROL_PACKET_LAYERS_H
#define CONTROL_PACKET_LAYERS_H

#include <stdint.h>

#include "control/packet.h"

#define PACKET_LAYERS_MAX 32 /* what follows these belongs to the last, the payload */
#define PACKET_FIELD_MAX  96 /* text of a value, with its NUL; printable ASCII, no quotes */

struct packet_field;

struct packet_layer {
	const char *key;  /* the walk's name for the header */
	const char *name; /* "IPv4", "Payload" */
	uint32_t offset;
	uint32_t len;
	unsigned step; /* the walk's */
	unsigned n_fields;
	const struct packet_field *fields;
};

struct packet_layers {
	unsigned n;
	struct packet_layer layer[PACKET_LAYERS_MAX];
};

/* Headers in order, then "Payload" and "Padding" where there are such bytes; together they are all captured
 * bytes, once each. */
void packet_layers(const struct packet_frame *frame, struct packet_layers *layers);

/* The i-th field of a layer: its name, its value as text, and the captured bytes it is in. */
struct packet_field_value {
	const char *name;
	uint32_t offset;
	uint32_t len;
	char text[PACKET_FIELD_MAX];
};
void packet_field(const struct packet_frame *frame, const struct packet_layer *layer, unsigned i,
	struct packet_field_value *value);

#endif
