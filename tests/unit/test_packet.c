/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/packet: known frames against what tcpdump 4.99 prints for them (-n -t -S; where the line
 * differs on purpose - tags, labels, fragments, extension headers, SCTP - the one here is meant),
 * every field of some, and frames that are cut, bent or nothing but noise: each lies in memory of
 * its own size, so that a sanitizer sees the first byte read past it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/packet.h"

#include "frames.h"

#define NOISE_ROUNDS 100000

static const struct {
	const char *hex;
	const char *info;
	const char *protocol;
	const char *tunnel;
	const char *inner;
} cases[] = {
	{"02000000000202000000000108004500003c00010000400666b90a0000010a0000029c400050"
	 "0000006400000000a002faf09c110000020405b40402080a000000070000000001030307",
		"IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 100, win 64240, options [mss"
		" 1460,sackOK,TS val 7 ecr 0,nop,wscale 7], length 0",
		"TCP", NULL, ""},
	{"02000000000202000000000108004500008100010000400666740a0000010a0000029c401fa3"
	 "000000640000000750180200b06d000078787878787878787878787878787878787878787878"
	 "7878787878787878787878787878787878787878787878787878787878787878787878787878"
	 "7878787878787878787878787878787878787878787878787878787878",
		"IP 10.0.0.1.40000 > 10.0.0.2.8099: Flags [P.], seq 100:189, ack 7, win 512, "
		"length 89",
		"TCP", NULL, ""},
	{"02000000000202000000000108004500003400010000400666c10a0000010a0000029c400050"
	 "000000640000000780100200c6b100000101050a0000000500000009",
		"IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack 7, win 512, options [nop,nop"
		",sack 1 {5:9}], length 0",
		"TCP", NULL, ""},
	{"02000000000202000000000186dd6000000000140640fd000000000000000000000000000001"
	 "fd00000000000000000000000000000200010002000000050000000050440000b5940000",
		"IP6 fd00::1.1 > fd00::2.2: Flags [RE], seq 5, win 0, length 0", "TCP", NULL, ""},
	{"02000000000202000000000108004500002d00010000400666c80a0000010a0000029c400050"
	 "000000010000000250300200d34e00046162636465",
		"IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.U], seq 1:6, ack 2, win 512, urg 4,"
		" length 5",
		"TCP", NULL, ""},
	{"02000000000202000000000108004500002800010000400666cd0a0000010a0000029c400050"
	 "000000010000000050000200fd500000",
		"IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [none], win 512, length 0", "TCP", NULL,
		""},
	{"02000000000202000000000108004500002800010000401166c20a0000010a0000029c41270f"
	 "00144f9a797979797979797979797979",
		"IP 10.0.0.1.40001 > 10.0.0.2.9999: UDP, length 12", "UDP", NULL, ""},
	{"02000000000202000000000186dd6000000000141140fd000000000000000000000000000001"
	 "fd0000000000000000000000000000029c41270f00146998797979797979797979797979",
		"IP6 fd00::1.40001 > fd00::2.9999: UDP, length 12", "UDP", NULL, ""},
	{"02000000000202000000000108004500005400010000400166a60a0000010a00000208009293"
	 "000300047a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a"
	 "7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a",
		"IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 3, seq 4, length 64", "ICMP", NULL,
		""},
	{"02000000000202000000000108004500005400010000400166a60a0000010a00000200009a93"
	 "000300047a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a"
	 "7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a",
		"IP 10.0.0.1 > 10.0.0.2: ICMP echo reply, id 3, seq 4, length 64", "ICMP", NULL,
		""},
	{"02000000000202000000000108004500003900010000400166c10a0000010a0000020303111a"
	 "000000004500001d00010000401166cd0a0000020a0000010005003500097a9f71",
		"IP 10.0.0.1 > 10.0.0.2: ICMP 10.0.0.1 udp port 53 unreachable, length 37", "ICMP",
		NULL, ""},
	{"02000000000202000000000108004500003900010000400166c10a0000010a0000020301111c"
	 "000000004500001d00010000401166cd0a0000020a0000010005003500097a9f71",
		"IP 10.0.0.1 > 10.0.0.2: ICMP host 10.0.0.1 unreachable, length 37", "ICMP", NULL,
		""},
	{"02000000000202000000000108004500003900010000400166c10a0000010a0000020b00091d"
	 "000000004500001d00010000401166cd0a0000020a0000010005003500097a9f71",
		"IP 10.0.0.1 > 10.0.0.2: ICMP time exceeded in-transit, length 37", "ICMP", NULL,
		""},
	{"020000000002020000000001080600010800060400010200000000010a000001000000000000"
	 "0a000002",
		"ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28", "ARP", NULL, ""},
	{"020000000002020000000001080600010800060400020200000000010a000001000000000000"
	 "0a000002",
		"ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:01, length 28", "ARP", NULL, ""},
	{"02000000000202000000000186dd6000000000183afffd000000000000000000000000000001"
	 "fd000000000000000000000000000002870081a500000000fd00000000000000000000000000"
	 "0002",
		"IP6 fd00::1 > fd00::2: ICMP6, neighbor solicitation, who has fd00::2, length"
		" 24",
		"ICMPv6", NULL, ""},
	{"02000000000202000000000186dd6000000000183afffd000000000000000000000000000001"
	 "fd0000000000000000000000000000028800e0a4a0000000fd00000000000000000000000000"
	 "0002",
		"IP6 fd00::1 > fd00::2: ICMP6, neighbor advertisement, tgt is fd00::2, length"
		" 24",
		"ICMPv6", NULL, ""},
	{"02000000000202000000000186dd60000000000b3a40fd000000000000000000000000000001"
	 "fd0000000000000000000000000000028000c14f00010002616263",
		"IP6 fd00::1 > fd00::2: ICMP6, echo request, id 1, seq 2, length 11", "ICMPv6",
		NULL, ""},
	{"020000000002020000000001080045000038000100004084663f0a0000010a00000200070008"
	 "00000000117bc9300000001500000000000000000000000068656c6c6f000000",
		"IP 10.0.0.1.7 > 10.0.0.2.8: sctp [DATA], length 36", "SCTP", NULL, ""},
	{"0200000000020200000000018100000508004500001f00010000401166cb0a0000010a000002"
	 "9c41270f000b6422616263",
		"vlan 5, p 0, IP 10.0.0.1.40001 > 10.0.0.2.9999: UDP, length 3", "UDP", NULL, ""},
	{"02000000000202000000000188a800648100600508004500001f00010000401166cb0a000001"
	 "0a0000029c41270f000b6422616263",
		"vlan 100, p 0, vlan 5, p 3, IP 10.0.0.1.40001 > 10.0.0.2.9999: UDP, length 3",
		"UDP", NULL, ""},
	{"0200000000020200000000018847000100400001113f4500001f00010000401166cb0a000001"
	 "0a0000029c41270f000b6422616263",
		"MPLS (label 16, tc 0, ttl 64) MPLS (label 17, tc 0, [S], ttl 63) IP 10.0.0.1"
		".40001 > 10.0.0.2.9999: UDP, length 3",
		"UDP", NULL, ""},
	{"02000000000202000000000186dd60000000001b0040fd000000000000000000000000000001"
	 "fd0000000000000000000000000000023c0001040000000011000104000000009c41270f000b"
	 "7e20616263",
		"IP6 fd00::1.40001 > fd00::2.9999: UDP, length 3", "UDP", NULL, ""},
	{"02000000000202000000000108004500002c004d2000401146720a0000010a0000029c41270f"
	 "00631d1561616161616161616161616161616161",
		"IP 10.0.0.1.40001 > 10.0.0.2.9999: UDP fragment (id 77, offset 0+), length 2"
		"4",
		"UDP", NULL, ""},
	{"020000000002020000000001080045000024004d0003401166770a0000010a00000261616161"
	 "616161616161616161616161",
		"IP 10.0.0.1 > 10.0.0.2: UDP fragment (id 77, offset 24), length 16", "UDP", NULL,
		""},
	{"02000000000202000000000186dd6000000000182c40fd000000000000000000000000000001"
	 "fd00000000000000000000000000000211000018000000096161616161616161616161616161"
	 "6161",
		"IP6 fd00::1 > fd00::2: UDP fragment (id 9, offset 24), length 16", "UDP", NULL,
		""},
	{"02000000000202000000000108004500003b00010000402f66910a0000010a00000220000800"
	 "000000424500001f00010000401174c801010101020202029c41270f000b721f616263",
		"IP 10.0.0.1 > 10.0.0.2: GREv0, key=0x42, length 39: IP 1.1.1.1.40001 > 2.2.2"
		".2.9999: UDP, length 3",
		"GRE", "GRE", "UDP"},
	{"02000000000202000000000108004500005a00010000401166900a0000010a0000029c4112b5"
	 "004600710c00000300002a0002000000000b02000000000a08004500002800010000400674ca"
	 "01010101020202020005000600000001000000005002200089d10000",
		"IP 10.0.0.1.40001 > 10.0.0.2.4789: VXLAN, flags [I] (0x0c), vni 42: IP 1.1.1"
		".1.5 > 2.2.2.2.6: Flags [S], seq 1, win 8192, length 0",
		"UDP", "VXLAN", "TCP"},
	{"02000000000202000000000108004500006300010000401166870a0000010a0000029c4117c1"
	 "004fabd00000655800002a0002000000000b02000000000a86dd6000000000091140fd000000"
	 "00000000000000000000000afd00000000000000000000000000000b0005000600098dba78",
		"IP 10.0.0.1.40001 > 10.0.0.2.6081: Geneve, Flags [none], vni 0x2a: IP6 fd00:"
		":a.5 > fd00::b.6: UDP, length 1",
		"UDP", "Geneve", "UDP"},
	{"02000000000202000000000108004500003300010000400466c40a0000010a0000024500001f"
	 "00010000401174c801010101020202029c41270f000b721f616263",
		"IP 10.0.0.1 > 10.0.0.2: IP 1.1.1.1.40001 > 2.2.2.2.9999: UDP, length 3", "IPIP",
		"IP-in-IP", "UDP"},
	{"02000000000202000000000108004500001c0001000040fd65e20a0000010a00000231323334"
	 "35363738",
		"IP 10.0.0.1 > 10.0.0.2: IP-253, length 8", "IP-253", NULL, ""},
	{"0180c200000e02000000000188cc000000000000000000000000000000000000000000000000"
	 "00000000000000000000000000000000000000000000",
		"LLDP, length 46", "LLDP", NULL, ""},
	{"02000000000202000000000188b5000000000000000000000000000000000000000000000000"
	 "00000000000000000000000000000000000000000000",
		"ethertype Unknown (0x88b5), length 46", "0x88b5", NULL, ""},
};

static uint32_t hex_read(const char *hex, uint8_t *bytes)
{
	const uint32_t len = strlen(hex) / 2;

	for (uint32_t i = 0; i < len; i++) {
		unsigned byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		bytes[i] = byte;
	}
	return len;
}

/* Summarize from memory that ends where the captured bytes do. */
static void summarize(
	const uint8_t *bytes, uint32_t cap_len, uint32_t orig_len, struct packet_summary *summary)
{
	uint8_t *data = malloc(cap_len != 0 ? cap_len : 1);
	const struct packet_frame frame = {.number = 7,
		.time_ns = 1700000000123456789ULL,
		.data = cap_len != 0 ? data : NULL,
		.cap_len = cap_len,
		.orig_len = orig_len};

	assert_non_null(data);
	memcpy(data, bytes, cap_len);
	memset(summary, 0x5a, sizeof(*summary));
	packet_summarize(&frame, summary);
	free(data);
}

/* What holds for any bytes at all. */
static void sound(const struct packet_summary *summary)
{
	const size_t info_len = strnlen(summary->info, PACKET_INFO_MAX);

	assert_true(info_len > 0 && info_len < PACKET_INFO_MAX);
	for (size_t i = 0; i < info_len; i++)
		assert_true(summary->info[i] >= ' ' && summary->info[i] <= '~');
	/* JSON is made of it as it is. */
	assert_null(strpbrk(summary->info, "\"\\"));
	assert_true(strnlen(summary->outer.protocol, PACKET_PROTOCOL_MAX) < PACKET_PROTOCOL_MAX);
	assert_true(strnlen(summary->inner.protocol, PACKET_PROTOCOL_MAX) < PACKET_PROTOCOL_MAX);
	assert_true(summary->outer.n_vlans <= PACKET_VLANS_MAX);
	assert_true(summary->tunnel != NULL || summary->inner.protocol[0] == '\0');
}

static void known_frames_read_like_tcpdump(void **state)
{
	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct packet_summary summary;
		uint8_t bytes[FRAME_MAX];
		const uint32_t len = hex_read(cases[i].hex, bytes);

		summarize(bytes, len, len, &summary);
		sound(&summary);
		assert_string_equal(summary.info, cases[i].info);
		assert_string_equal(summary.outer.protocol, cases[i].protocol);
		assert_string_equal(summary.inner.protocol, cases[i].inner);
		assert_int_equal(summary.tunnel == NULL, cases[i].tunnel == NULL);
		if (summary.tunnel != NULL)
			assert_string_equal(summary.tunnel, cases[i].tunnel);
		assert_false(summary.truncated);
		assert_true(summary.number == 7 && summary.time_ns == 1700000000123456789ULL);
		assert_true(summary.cap_len == len && summary.orig_len == len);
	}
}

/* The row whose line begins so. */
static void row_summarize(const char *begin, struct packet_summary *summary)
{
	for (unsigned i = 0; i < COUNT(cases); i++) {
		uint8_t bytes[FRAME_MAX];
		uint32_t len;

		if (strncmp(cases[i].info, begin, strlen(begin)) != 0)
			continue;
		len = hex_read(cases[i].hex, bytes);
		summarize(bytes, len, len, summary);
		return;
	}
	fail_msg("no row \"%s\"", begin);
}

static void flow_equal(const struct packet_flow *flow, const char *src_mac, const char *dst_mac,
	const char *src_ip, const char *dst_ip)
{
	char mac[PACKET_MAC_MAX];
	char ip[PACKET_IP_MAX];

	assert_true(flow->has_mac);
	packet_mac_print(flow->src_mac, mac);
	assert_string_equal(mac, src_mac);
	packet_mac_print(flow->dst_mac, mac);
	assert_string_equal(mac, dst_mac);
	packet_ip_print(flow->ip_version, flow->src_ip, ip);
	assert_string_equal(ip, src_ip);
	packet_ip_print(flow->ip_version, flow->dst_ip, ip);
	assert_string_equal(ip, dst_ip);
}

static void every_field_is_filled_in(void **state)
{
	struct packet_summary summary;

	row_summarize("vlan 100, p 0, vlan 5, p 3", &summary);
	flow_equal(
		&summary.outer, "02:00:00:00:00:01", "02:00:00:00:00:02", "10.0.0.1", "10.0.0.2");
	assert_int_equal(summary.outer.n_vlans, 2);
	assert_int_equal(summary.outer.vlans[0], 100);
	assert_int_equal(summary.outer.vlans[1], 5);
	assert_int_equal(summary.outer.ether_type, 0x0800);
	assert_int_equal(summary.outer.ip_protocol, 17);
	assert_true(summary.outer.has_ports);
	assert_int_equal(summary.outer.src_port, 40001);
	assert_int_equal(summary.outer.dst_port, 9999);

	row_summarize("ARP, Request", &summary);
	flow_equal(&summary.outer, "02:00:00:00:00:01", "02:00:00:00:00:02", "", "");
	assert_false(summary.outer.has_ports);

	row_summarize("IP6 fd00::1 > fd00::2: UDP fragment", &summary);
	assert_int_equal(summary.outer.ip_protocol, 17);
	assert_false(summary.outer.has_ports);
}

static void tunnels_show_both_flows(void **state)
{
	struct packet_summary summary;

	row_summarize("IP 10.0.0.1.40001 > 10.0.0.2.4789: VXLAN", &summary);
	flow_equal(
		&summary.outer, "02:00:00:00:00:01", "02:00:00:00:00:02", "10.0.0.1", "10.0.0.2");
	flow_equal(&summary.inner, "02:00:00:00:00:0a", "02:00:00:00:00:0b", "1.1.1.1", "2.2.2.2");
	assert_int_equal(summary.vni, 42);
	assert_int_equal(summary.outer.dst_port, 4789);
	assert_int_equal(summary.inner.dst_port, 6);

	row_summarize("IP 10.0.0.1 > 10.0.0.2: GREv0", &summary);
	assert_int_equal(summary.vni, 0x42);
	assert_false(summary.inner.has_mac);
	assert_int_equal(summary.inner.src_port, 40001);
}

static void cut_frames_say_so(void **state)
{
	struct packet_summary summary;
	uint8_t bytes[FRAME_MAX];

	for (unsigned i = 0; i < COUNT(cases); i++) {
		const uint32_t len = hex_read(cases[i].hex, bytes);

		for (uint32_t cut = 0; cut < len; cut++) {
			summarize(bytes, cut, len, &summary);
			sound(&summary);
			assert_true(cut >= 14 || summary.truncated);
		}
	}
	hex_read(cases[0].hex, bytes);
	summarize(bytes, 14 + 20 + 4, 74, &summary);
	assert_true(summary.truncated);
	assert_string_equal(summary.info, "IP 10.0.0.1.40000 > 10.0.0.2.80: [|tcp]");
	assert_int_equal(summary.outer.dst_port, 80);
	summarize(bytes, 14 + 20, 74, &summary);
	assert_string_equal(summary.info, "IP 10.0.0.1 > 10.0.0.2: [|tcp]");
	assert_false(summary.outer.has_ports);
}

/* Lengths come from the wire, not from what a snaplen left. */
static void lengths_are_those_of_the_wire(void **state)
{
	struct packet_summary summary;
	uint8_t bytes[FRAME_MAX];

	hex_read(cases[1].hex, bytes);
	summarize(bytes, 60, 14 + 20 + 20 + 89, &summary);
	assert_non_null(strstr(summary.info, "seq 100:189, ack 7, win 512, length 89"));
	assert_false(summary.truncated);
}

static void headers_that_lie_end_the_walk(void **state)
{
	struct packet_summary summary;
	uint8_t bytes[FRAME_MAX];
	uint32_t len = hex_read(cases[0].hex, bytes);

	bytes[14] = 0x44; /* an IPv4 header of 16 bytes */
	summarize(bytes, len, len, &summary);
	assert_true(summary.truncated);
	bytes[14] = 0x45;
	bytes[14 + 20 + 12] = 0x40; /* a TCP header of 16 */
	summarize(bytes, len, len, &summary);
	assert_string_equal(summary.info, "IP 10.0.0.1.40000 > 10.0.0.2.80: [|tcp]");
	bytes[14 + 20 + 12] = 0xf0; /* of 60, where 40 are left */
	summarize(bytes, len, len, &summary);
	assert_true(summary.truncated);
}

/* Each header may be sound and the whole still without end. */
static void endless_headers_end(void **state)
{
	static const uint8_t tag[4] = {0, 1, 0x81, 0};
	static const uint8_t ipip[20] = {0x45, [9] = 4};
	struct packet_summary summary;
	uint8_t bytes[FRAME_MAX] = {[12] = 0x81};
	uint32_t len = 14;

	while (len + sizeof(tag) <= FRAME_MAX) {
		memcpy(bytes + len, tag, sizeof(tag));
		len += sizeof(tag);
	}
	summarize(bytes, len, len, &summary);
	sound(&summary);
	assert_int_equal(summary.outer.n_vlans, 2);

	bytes[12] = 0x08;
	for (len = 14; len + sizeof(ipip) <= FRAME_MAX; len += sizeof(ipip))
		memcpy(bytes + len, ipip, sizeof(ipip));
	summarize(bytes, len, len, &summary);
	sound(&summary);
	assert_true(summary.truncated);
	assert_string_equal(summary.tunnel, "IP-in-IP");
}

static void protocols_have_names(void **state)
{
	char text[PACKET_PROTOCOL_MAX];

	packet_protocol_print(6, text);
	assert_string_equal(text, "TCP");
	packet_protocol_print(58, text);
	assert_string_equal(text, "ICMPv6");
	packet_protocol_print(253, text);
	assert_string_equal(text, "IP-253");
}

/* Made-up frames, a few bytes of each bent, cut anywhere; and plain noise. */
static void no_bytes_break_it(void **state)
{
	struct frames_rng rng = {.state = 0x51ce};
	static struct frame frame;
	struct packet_summary summary;

	for (unsigned round = 0; round < NOISE_ROUNDS; round++) {
		frame.len = 0;
		frame_make(&frame, &rng);
		for (unsigned n = frames_below(&rng, 4); n > 0 && frame.len > 0; n--)
			frame.data[frames_below(&rng, frame.len < 80 ? frame.len : 80)] =
				(uint8_t)frames_random(&rng);
		if (frames_below(&rng, 8) == 0)
			for (uint32_t i = 12; i < frame.len; i++)
				frame.data[i] = (uint8_t)frames_random(&rng);
		summarize(frame.data, frames_below(&rng, frame.len + 1), frame.len, &summary);
		sound(&summary);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_frames_read_like_tcpdump),
		cmocka_unit_test(every_field_is_filled_in),
		cmocka_unit_test(tunnels_show_both_flows),
		cmocka_unit_test(cut_frames_say_so),
		cmocka_unit_test(lengths_are_those_of_the_wire),
		cmocka_unit_test(headers_that_lie_end_the_walk),
		cmocka_unit_test(endless_headers_end),
		cmocka_unit_test(protocols_have_names),
		cmocka_unit_test(no_bytes_break_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
