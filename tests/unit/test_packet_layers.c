/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/packet_layers: every captured byte of any frame is in exactly one layer, and fields say what the
 * bytes are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/packet_layers.h"

#include "frames.h"

#define FRAMES 20000

static void layers_of(const void *data, uint32_t len, struct packet_layers *layers)
{
	packet_layers(
		&(struct packet_frame){.data = data, .cap_len = len, .orig_len = len}, layers);
}

static void any_frame_is_covered_once(void **state)
{
	struct frames_rng rng = {.state = 0x51};
	static struct frame frame;

	for (unsigned i = 0; i < FRAMES; i++) {
		struct packet_frame captured = {.data = frame.data};
		struct packet_field_value value;
		struct packet_layers layers;
		uint32_t at = 0;

		frame.len = 0;
		frame_make(&frame, &rng);
		for (unsigned k = 0; frame.len > 0 && k < i % 4; k++)
			frame.data[frames_below(&rng, frame.len)] = (uint8_t)frames_random(&rng);
		captured.cap_len = captured.orig_len = frame.len;
		if (i % 3 == 0 && frame.len > 0)
			captured.cap_len = (uint32_t)frames_below(&rng, frame.len);
		packet_layers(&captured, &layers);
		for (unsigned k = 0; k < layers.n; k++) {
			const struct packet_layer *layer = &layers.layer[k];

			assert_int_equal(layer->offset, at);
			assert_true(layer->len > 0);
			at += layer->len;
			for (unsigned f = 0; f < layer->n_fields; f++) {
				packet_field(&captured, layer, f, &value);
				assert_true(value.offset >= layer->offset);
				assert_true(value.len == 0 || value.offset + value.len <= at);
				assert_null(strpbrk(value.text, "\"\\"));
			}
		}
		assert_int_equal(at, captured.cap_len);
	}
}

static const char *value_of(const void *data, uint32_t len, const char *layer, const char *field)
{
	static struct packet_field_value value;
	struct packet_frame frame = {.data = data, .cap_len = len, .orig_len = len};
	struct packet_layers layers;

	packet_layers(&frame, &layers);
	for (unsigned i = 0; i < layers.n; i++)
		for (unsigned f = 0;
			strcmp(layers.layer[i].name, layer) == 0 && f < layers.layer[i].n_fields;
			f++) {
			packet_field(&frame, &layers.layer[i], f, &value);
			if (strcmp(value.name, field) == 0)
				return value.text;
		}
	return "";
}

static void fields_say_what_the_bytes_are(void **state)
{
	/* VLAN 100, IPv4 10.0.0.1 > 10.0.0.2, TCP 443 > 50000, SYN ACK, four bytes of payload, two of padding */
	static const uint8_t frame[] =
		"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x81\x00\x20\x64\x08\x00"
		"\x45\xb8\0\x2c\x12\x34\x40\0\x40\x06\xab\xcd\x0a\0\0\x01\x0a\0\0\x02"
		"\x01\xbb\xc3\x50\0\0\0\x07\0\0\0\x08\x50\x12\xff\xff\x11\x22\0\0abcd..";
	const uint32_t len = sizeof(frame) - 1;
	static const char *const expected[][3] = {
		{"Ethernet", "Source", "02:00:00:00:00:02"},
		{"VLAN tag", "VLAN", "100"},
		{"VLAN tag", "Priority", "1"},
		{"VLAN tag", "Type", "IPv4 (0x0800)"},
		{"IPv4", "Header length", "20 bytes"},
		{"IPv4", "DSCP", "46"},
		{"IPv4", "Flags", "do not fragment"},
		{"IPv4", "Protocol", "TCP (6)"},
		{"IPv4", "Destination", "10.0.0.2"},
		{"TCP", "Destination port", "50000"},
		{"TCP", "Sequence number", "7"},
		{"TCP", "Flags", "SYN, ACK"},
		{"TCP", "Checksum", "0x1122"},
	};
	struct packet_layers layers;

	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_string_equal(
			value_of(frame, len, expected[i][0], expected[i][1]), expected[i][2]);
	layers_of(frame, len, &layers);
	assert_int_equal(layers.n, 6);
	assert_string_equal(layers.layer[4].name, "Payload");
	assert_int_equal(layers.layer[4].len, 4);
	assert_string_equal(layers.layer[5].name, "Padding");
	assert_int_equal(layers.layer[5].len, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_frame_is_covered_once),
		cmocka_unit_test(fields_say_what_the_bytes_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
