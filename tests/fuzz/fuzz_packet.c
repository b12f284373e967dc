/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A frame of any bytes through the decoder and into what is shown of it. The first byte is how much of
 * it was on the wire and not captured.
 */
#include "fuzz.h"

#include <string.h>

#include "api/mist_message.h"
#include "api/packet_json.h"
#include "config/json.h"
#include "control/packet.h"

static struct mist_source source = {.n_ports = 1};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fuzz_config();
	strcpy(source.ports[0].interface, "wired");
	return 0;
}

static void json_check(const char *text)
{
	struct err err = {0};
	json_t *json = json_parse(text, strlen(text), &err);

	fuzz_check(json_is_object(json));
	json_decref(json);
}

static void mist_check(const struct packet_frame *frame)
{
	char *members = mist_message(&source, &(struct mist_packet){.time_ns = frame->time_ns,
						      .cap_len = frame->cap_len,
						      .orig_len = frame->orig_len,
						      .data = frame->data});
	char *text;

	fuzz_check(members != NULL);
	text = malloc(strlen(members) + 32);
	fuzz_check(text != NULL);
	sprintf(text, "{\"data\":{\"lost_messages\":0%s", members);
	json_check(text);
	free(text);
	free(members);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[PACKET_JSON_MAX];
	struct packet_summary summary;
	struct packet_frame frame;

	if (size == 0 || size > 65536)
		return 0;
	frame = (struct packet_frame){.number = 1,
		.time_ns = 1700000000123456789,
		.data = data + 1,
		.cap_len = (uint32_t)size - 1,
		.orig_len = (uint32_t)size - 1 + data[0]};
	packet_summarize(&frame, &summary);
	fuzz_check(strlen(summary.info) < PACKET_INFO_MAX);
	for (const char *at = summary.info; *at != '\0'; at++)
		fuzz_check(*at >= 0x20 && *at < 0x7f);
	fuzz_check(strlen(summary.outer.protocol) < PACKET_PROTOCOL_MAX);
	fuzz_check(summary.outer.n_vlans <= PACKET_VLANS_MAX);
	fuzz_check(packet_json_print(&summary, NULL, text, sizeof(text)) != 0);
	/* Reading JSON takes longer than all the rest. */
	if (size % 8 == 0) {
		json_check(text);
		mist_check(&frame);
	}
	return 0;
}
