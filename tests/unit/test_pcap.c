/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * api/pcap: pcapng to classic pcap, whatever the input is cut into.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/pcap.h"
#include "engine/pcapng.h"

#define STAMP_NS 1700000000123456789ULL

struct file {
	uint8_t data[16384];
	size_t len;
};

static void section_add(struct file *file)
{
	struct pcapng_section section = {.application = "test"};

	file->len += pcapng_section_put(file->data + file->len, 4096, &section);
}

static void interface_add(struct file *file, uint32_t snaplen)
{
	struct pcapng_interface interface = {.name = "tap0", .snaplen = snaplen};

	file->len += pcapng_interface_put(file->data + file->len, 4096, &interface);
}

static void put32(struct file *file, uint32_t value)
{
	memcpy(file->data + file->len, &value, 4);
	file->len += 4;
}

/* A packet of n bytes of value n, with an option behind them. */
static void packet_add(struct file *file, uint32_t interface, uint64_t stamp, uint8_t n)
{
	uint32_t total = pcapng_epb_len(n, PCAPNG_EPB_FLAGS_SIZE);

	put32(file, PCAPNG_EPB);
	put32(file, total);
	put32(file, interface);
	put32(file, stamp >> 32);
	put32(file, (uint32_t)stamp);
	put32(file, n);
	put32(file, n + 1000);
	memset(file->data + file->len, 0, pcapng_pad(n));
	memset(file->data + file->len, n, n);
	file->len += pcapng_pad(n);
	put32(file, PCAPNG_EPB_FLAGS | 4 << 16);
	put32(file, 1);
	put32(file, PCAPNG_OPT_END);
	put32(file, total);
}

/* A block that no reader needs to know. */
static void other_add(struct file *file)
{
	put32(file, 0x00000bad);
	put32(file, 16);
	put32(file, PCAPNG_EPB);
	put32(file, 16);
}

static void sample_make(struct file *file)
{
	struct pcapng_statistics statistics = {.stamp_ns = STAMP_NS};

	memset(file, 0, sizeof(*file));
	section_add(file);
	interface_add(file, 96);
	interface_add(file, 0);
	for (unsigned i = 1; i <= 20; i++) {
		packet_add(file, i % 2, STAMP_NS + i, i);
		other_add(file);
	}
	file->len += pcapng_statistics_put(file->data + file->len, 4096, &statistics);
}

static int convert(
	const struct file *file, size_t cut, enum pcap_precision precision, struct pcap_out *out)
{
	struct pcap_converter *converter = pcap_converter_new(precision);
	int rc = 0;

	memset(out, 0, sizeof(*out));
	for (size_t at = 0; at < file->len && rc == 0; at += cut)
		rc = pcap_convert(converter, file->data + at,
			file->len - at < cut ? file->len - at : cut, out);
	if (rc == 0)
		rc = pcap_finish(converter, out);
	pcap_converter_free(converter);
	return rc;
}

static uint32_t get32(const struct pcap_out *out, size_t at)
{
	uint32_t value;

	assert_true(at + 4 <= out->len);
	memcpy(&value, out->data + at, 4);
	return value;
}

static void packets_come_out_as_they_went_in(void **state)
{
	struct file file;
	struct pcap_out out;
	size_t at = 24;

	sample_make(&file);
	assert_int_equal(convert(&file, file.len, PCAP_NANOSECONDS, &out), 0);
	assert_int_equal(get32(&out, 0), 0xa1b23c4d);
	assert_int_equal(get32(&out, 4), 2 | 4 << 16);
	assert_int_equal(get32(&out, 8), 0);
	assert_int_equal(get32(&out, 12), 0);
	assert_int_equal(get32(&out, 16), 96);
	assert_int_equal(get32(&out, 20), 1);
	for (unsigned i = 1; i <= 20; i++) {
		assert_int_equal(get32(&out, at), 1700000000);
		assert_int_equal(get32(&out, at + 4), 123456789 + i);
		assert_int_equal(get32(&out, at + 8), i);
		assert_int_equal(get32(&out, at + 12), i + 1000);
		for (unsigned k = 0; k < i; k++)
			assert_int_equal(out.data[at + 16 + k], i);
		at += 16 + i;
	}
	assert_int_equal(at, out.len);
	free(out.data);
}

static void microseconds_are_cut(void **state)
{
	struct file file;
	struct pcap_out out;

	sample_make(&file);
	assert_int_equal(convert(&file, file.len, PCAP_MICROSECONDS, &out), 0);
	assert_int_equal(get32(&out, 0), 0xa1b2c3d4);
	assert_int_equal(get32(&out, 24 + 4), 123456);
	free(out.data);
}

static void every_cut_gives_the_same(void **state)
{
	struct file file;
	struct pcap_out whole, pieces;

	sample_make(&file);
	assert_int_equal(convert(&file, file.len, PCAP_NANOSECONDS, &whole), 0);
	for (size_t cut = 1; cut < 200; cut++) {
		assert_int_equal(convert(&file, cut, PCAP_NANOSECONDS, &pieces), 0);
		assert_int_equal(pieces.len, whole.len);
		assert_memory_equal(pieces.data, whole.data, whole.len);
		free(pieces.data);
	}
	free(whole.data);
}

/* Lanes of a running capture, one after another: each is a section. */
static void sections_follow_each_other(void **state)
{
	struct file one, both;
	struct pcap_out out, single;

	sample_make(&one);
	both = one;
	memcpy(both.data + both.len, one.data, one.len);
	both.len += one.len;
	assert_int_equal(convert(&one, 100, PCAP_NANOSECONDS, &single), 0);
	assert_int_equal(convert(&both, 100, PCAP_NANOSECONDS, &out), 0);
	assert_int_equal(out.len, 2 * single.len - 24);
	assert_memory_equal(out.data + single.len, single.data + 24, single.len - 24);
	free(out.data);
	free(single.data);
}

static void an_empty_capture_is_a_header(void **state)
{
	struct file file = {0};
	struct pcap_out out;

	section_add(&file);
	assert_int_equal(convert(&file, 7, PCAP_MICROSECONDS, &out), 0);
	assert_int_equal(out.len, 24);
	assert_int_equal(get32(&out, 16), 262144);
	free(out.data);
}

static void resolutions_are_honoured(void **state)
{
	static const struct {
		uint8_t resolution;
		uint64_t stamp;
		uint32_t seconds, nanoseconds;
	} cases[] = {
		{6, 1700000000123456, 1700000000, 123456000},
		{3, 1700000000123, 1700000000, 123000000},
		{0, 1700000000, 1700000000, 0},
		{12, 1700000123456789, 1700, 123456},
		{0x80 | 10, 1700000000ULL << 10 | 512, 1700000000, 500000000},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct file file = {0};
		struct pcap_out out;

		section_add(&file);
		put32(&file, PCAPNG_IDB);
		put32(&file, 32);
		put32(&file, 1);
		put32(&file, 0);
		put32(&file, 9 | 1 << 16); /* if_tsresol */
		put32(&file, cases[i].resolution);
		put32(&file, PCAPNG_OPT_END);
		put32(&file, 32);
		packet_add(&file, 0, cases[i].stamp, 4);
		assert_int_equal(convert(&file, 3, PCAP_NANOSECONDS, &out), 0);
		assert_int_equal(get32(&out, 24), cases[i].seconds);
		assert_int_equal(get32(&out, 28), cases[i].nanoseconds);
		free(out.data);
	}
}

/* No input, however bad, is read beyond its end: run under the sanitizers this finds out. */
static void bad_input_is_an_error(void **state)
{
	struct file file, bad;
	struct pcap_out out;

	sample_make(&file);
	for (size_t at = 0; at < file.len; at++) {
		for (unsigned bit = 0; bit < 8; bit += 7) {
			bad = file;
			bad.data[at] ^= 1 << bit;
			convert(&bad, 61, PCAP_NANOSECONDS, &out);
			free(out.data);
		}
	}
	bad = file;
	bad.len -= 1;
	assert_int_equal(convert(&bad, 100, PCAP_NANOSECONDS, &out), -EPROTO);
	free(out.data);
	bad = file;
	memset(bad.data + bad.len, 0, 64);
	bad.len += 64;
	assert_int_equal(convert(&bad, 100, PCAP_NANOSECONDS, &out), -EPROTO);
	free(out.data);
	bad = file;
	bad.data[0] = 'x';
	assert_int_equal(convert(&bad, 100, PCAP_NANOSECONDS, &out), -EPROTO);
	free(out.data);
	memset(&bad, 0, sizeof(bad));
	section_add(&bad);
	interface_add(&bad, 0);
	packet_add(&bad, 1, STAMP_NS, 4); /* there is no interface 1 */
	assert_int_equal(convert(&bad, 100, PCAP_NANOSECONDS, &out), -EPROTO);
	free(out.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_come_out_as_they_went_in),
		cmocka_unit_test(microseconds_are_cut),
		cmocka_unit_test(every_cut_gives_the_same),
		cmocka_unit_test(sections_follow_each_other),
		cmocka_unit_test(an_empty_capture_is_a_header),
		cmocka_unit_test(resolutions_are_honoured),
		cmocka_unit_test(bad_input_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
