/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/pcapng: every byte of the three blocks, what does not fit, and what other readers say.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/pcapng.h"
#include "frames_file.h"

static void section_has_these_bytes(void **state)
{
	/* clang-format off */
	static const uint8_t want[] = {
		0x0a, 0x0d, 0x0d, 0x0a, 84, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, /* head */
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* length */
		1, 0, 2, 0, 'h', 'i', 0, 0, /* comment */
		2, 0, 3, 0, 'c', 'p', 'u', 0, /* hardware */
		3, 0, 5, 0, 'L', 'i', 'n', 'u', 'x', 0, 0, 0, /* os */
		4, 0, 20, 0, 's', 'l', 'u', 'i', 'c', 'e', ' ', '0', '.', '1', ' ', '-', ' ',
		0xc3, 0xa9, 't', 0xc3, 0xa9, '.', '.', /* application, UTF-8 */
		0, 0, 0, 0, /* end of options */
		84, 0, 0, 0,
	};
	/* clang-format on */
	const struct pcapng_section section = {
		.comment = "hi",
		.hardware = "cpu",
		.os = "Linux",
		.application = "sluice 0.1 - \xc3\xa9t\xc3\xa9..",
	};
	uint8_t buf[200];

	assert_int_equal(pcapng_section_put(buf, sizeof(buf), &section), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));
}

static void section_without_texts_has_no_options(void **state)
{
	const struct pcapng_section section = {.os = ""};
	uint8_t buf[100];

	assert_int_equal(pcapng_section_put(buf, sizeof(buf), &section), 28);
	assert_int_equal(buf[4], 28);
	assert_int_equal(buf[24], 28);
}

static void interface_has_these_bytes(void **state)
{
	/* clang-format off */
	static const uint8_t want[] = {
		1, 0, 0, 0, 84, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, /* head, snaplen 262144 */
		2, 0, 4, 0, 't', 'a', 'p', '0', /* name */
		3, 0, 1, 0, 'x', 0, 0, 0, /* description */
		8, 0, 8, 0, 0x00, 0xe4, 0x0b, 0x54, 2, 0, 0, 0, /* speed 10^10 */
		9, 0, 1, 0, 9, 0, 0, 0, /* tsresol */
		11, 0, 20, 0, 0, 't', 'c', 'p', ' ', 'p', 'o', 'r', 't', ' ', '4', '4', '3',
		' ', 'o', 'r', ' ', 'i', 'p', '6', /* filter: a zero, then the expression */
		0, 0, 0, 0, 84, 0, 0, 0,
	};
	/* clang-format on */
	const struct pcapng_interface interface = {
		.name = "tap0",
		.description = "x",
		.speed_bps = 10000000000,
		.snaplen = 262144,
		.filter = "tcp port 443 or ip6",
	};
	uint8_t buf[200];

	assert_int_equal(pcapng_interface_put(buf, sizeof(buf), &interface), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));
}

static void unknown_speed_and_no_filter_are_left_out(void **state)
{
	const struct pcapng_interface interface = {.name = ""};
	uint8_t buf[64];

	assert_int_equal(pcapng_interface_put(buf, sizeof(buf), &interface), 16 + 8 + 4 + 4);
	assert_int_equal(buf[16], 9);
}

static const struct pcapng_statistics statistics = {
	.interface_id = 1,
	.stamp_ns = 0x0102030405060708,
	.start_ns = 0x1112131415161718,
	.end_ns = 0x2122232425262728,
	.received = 0x31,
	.if_dropped = 0x41,
	.filter_accepted = 0x51,
	.os_dropped = 0x61,
	.delivered = 0x7172737475767778,
};

static void statistics_have_these_bytes(void **state)
{
	/* clang-format off */
	static const uint8_t want[] = {
		5, 0, 0, 0, 112, 0, 0, 0, 1, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6,
		5, /* high half first */
		2, 0, 8, 0, 0x14, 0x13, 0x12, 0x11, 0x18, 0x17, 0x16, 0x15, /* start */
		3, 0, 8, 0, 0x24, 0x23, 0x22, 0x21, 0x28, 0x27, 0x26, 0x25, /* end */
		4, 0, 8, 0, 0x31, 0, 0, 0, 0, 0, 0, 0, 5, 0, 8, 0, 0x41, 0, 0, 0, 0, 0, 0, 0,
		6, 0, 8, 0, 0x51, 0, 0, 0, 0, 0, 0, 0, 7, 0, 8, 0, 0x61, 0, 0, 0, 0, 0, 0, 0,
		8, 0, 8, 0, 0x78, 0x77, 0x76, 0x75, 0x74, 0x73, 0x72, 0x71, 0, 0, 0, 0, 112, 0,
		0, 0,
	};
	/* clang-format on */
	uint8_t buf[PCAPNG_STATISTICS_MAX];

	assert_int_equal(pcapng_statistics_put(buf, sizeof(buf), &statistics), sizeof(want));
	assert_memory_equal(buf, want, sizeof(want));
}

static void tail_gap_is_a_comment(void **state)
{
	struct pcapng_statistics gap = statistics;
	uint8_t buf[PCAPNG_STATISTICS_MAX];

	gap.tail_gap = 17;
	assert_int_equal(pcapng_statistics_put(buf, sizeof(buf), &gap), 112 + 16);
	assert_memory_equal(buf + 20, "\1\0\13\0tail_gap=17\0", 16);
	gap.tail_gap = UINT64_MAX;
	assert_true(pcapng_statistics_put(buf, sizeof(buf), &gap) > 0);
}

static void unknown_counters_are_left_out(void **state)
{
	struct pcapng_statistics unknown = statistics;
	uint8_t buf[PCAPNG_STATISTICS_MAX];

	unknown.received = PCAPNG_UNKNOWN;
	unknown.if_dropped = PCAPNG_UNKNOWN;
	assert_int_equal(pcapng_statistics_put(buf, sizeof(buf), &unknown), 112 - 24);
	assert_int_equal(buf[44], 6);
}

static void nothing_is_written_past_the_buffer(void **state)
{
	uint8_t buf[PCAPNG_STATISTICS_MAX];

	for (size_t size = 0; size < 112; size++) {
		memset(buf, 0xaa, sizeof(buf));
		assert_int_equal(pcapng_statistics_put(buf, size, &statistics), 0);
		for (size_t i = size; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xaa);
	}
	assert_int_equal(pcapng_statistics_put(buf, 112, &statistics), 112);
}

static void a_text_longer_than_an_option_does_not_fit(void **state)
{
	static char text[65537];
	static uint8_t buf[200000];
	struct pcapng_interface interface = {.filter = text};

	memset(text, 'a', sizeof(text) - 1);
	text[65534] = '\0';
	assert_int_equal(
		pcapng_interface_put(buf, sizeof(buf), &interface), 16 + 8 + 4 + 65536 + 8);
	text[65534] = 'a';
	text[65535] = '\0';
	assert_int_equal(pcapng_interface_put(buf, sizeof(buf), &interface), 0);
}

static size_t whole_file(uint8_t *buf, size_t size)
{
	const struct pcapng_section section = {"hw", "os 1", "sluice 9", "note"};
	const struct pcapng_interface interface = {"tap0", "first", "tcp", 65535, 10000000000};
	struct pcapng_statistics end = {
		.stamp_ns = 1700000001000000000,
		.start_ns = 1700000000000000000,
		.end_ns = 1700000001000000000,
		.received = 5,
		.filter_accepted = 5,
		.os_dropped = 2,
		.delivered = 3,
		.tail_gap = 1,
	};
	size_t len = pcapng_section_put(buf, size, &section);

	len += pcapng_interface_put(buf + len, size - len, &interface);
	for (unsigned i = 0; i < 3; i++)
		len += frames_packet(buf + len, 0, 1700000000123456789 + i, 61 + i, i == 2, i);
	len += pcapng_statistics_put(buf + len, size - len, &end);
	return len;
}

static void others_read_it(void **state)
{
	char path[] = "/tmp/test_pcapng.XXXXXX", out[4096];
	uint8_t buf[4096];
	size_t len;
	int fd;

	if (!frames_reader_there()) {
		print_message("# no tshark and capinfos here\n");
		skip();
	}
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	len = whole_file(buf, sizeof(buf));
	frames_file_put(path, buf, len);
	assert_int_equal(frames_reader("capinfos", path, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "sluice 9"));
	assert_non_null(strstr(out, "Name = tap0"));
	assert_non_null(strstr(out, "Filter string = tcp"));
	assert_non_null(strstr(out, "Speed = 10000000000"));
	assert_non_null(strstr(out, "Time precision = nanoseconds (9)"));
	assert_non_null(strstr(out, "Number of stat entries = 1"));
	assert_int_equal(
		frames_reader("tshark -n -T fields -e frame.time_epoch -r", path, out, sizeof(out)),
		0);
	assert_string_equal(
		out, "1700000000.123456789\n1700000000.123456790\n1700000000.123456791\n");
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(section_has_these_bytes),
		cmocka_unit_test(section_without_texts_has_no_options),
		cmocka_unit_test(interface_has_these_bytes),
		cmocka_unit_test(unknown_speed_and_no_filter_are_left_out),
		cmocka_unit_test(statistics_have_these_bytes),
		cmocka_unit_test(tail_gap_is_a_comment),
		cmocka_unit_test(unknown_counters_are_left_out),
		cmocka_unit_test(nothing_is_written_past_the_buffer),
		cmocka_unit_test(a_text_longer_than_an_option_does_not_fit),
		cmocka_unit_test(others_read_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
