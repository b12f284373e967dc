/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * perf-check: counts what is in capture files (pcapng and pcap), and verifies every byte of every
 * numbered frame in them. Shares no code with the program that wrote them. A thread reads ahead, past the
 * page cache where it can; main takes apart.
 */
#include "perf/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/frame.h"
#include "perf/tally.h"

#define SHB 0x0a0d0d0aU
#define IDB 1U
#define ISB 5U
#define EPB 6U

#define PCAP_NS        0xa1b23c4dU
#define PCAP_US        0xa1b2c3d4U
#define SHB_ORDER      0x1a2b3c4dU
#define EPB_FIXED      28
#define OPT_COMMENT    1
#define OPT_TSRESOL    9
#define OPT_DROPCOUNT  4
#define INTERFACES_MAX 64
#define NS_PER_S       1000000000ULL

/* A file that is being taken apart. */
struct parse {
	struct tally *tally;
	uint64_t at; /* of the piece at hand in the file */
	uint64_t unit_ns;
	unsigned n_interfaces;
	uint64_t units_ns[INTERFACES_MAX];
	const char *wrong; /* what the format forbids */
};

/* Takes the piece apart as far as it is whole; returns how many bytes that was. */
typedef size_t (*parse_fn)(struct parse *parse, const uint8_t *data, size_t len);

static int file_check(const char *path, struct tally *tally);
static parse_fn parse_choose(struct parse *parse, const uint8_t *data, size_t len);
static size_t pcapng_parse(struct parse *parse, const uint8_t *data, size_t len);
static size_t pcap_parse(struct parse *parse, const uint8_t *data, size_t len);
static const char *block_parse(struct parse *parse, const uint8_t *block, uint32_t len);
static const char *packet_parse(struct parse *parse, const uint8_t *block, uint32_t len);
static void interface_parse(struct parse *parse, const uint8_t *block, uint32_t len);
static void statistics_parse(struct parse *parse, const uint8_t *block, uint32_t len);
static const uint8_t *option_find(
	const uint8_t *at, const uint8_t *end, uint16_t code, uint16_t *len);
static bool all_zero(const uint8_t *data, size_t len);
static uint32_t get32(const uint8_t *at);
static int usage(void);

int main(int argc, char **argv)
{
	struct tally tally;
	int i = 1, rc = 0;

	tally_init(&tally);
	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		if (strcmp(argv[i], "--cycle") == 0)
			tally.cycle = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--sparse") == 0)
			tally.sparse = strcmp(argv[i + 1], "yes") == 0;
		else if (strcmp(argv[i], "--schedule") != 0 ||
			 sscanf(argv[i + 1], "%" SCNu64 ",%lf", &tally.schedule_ns,
				 &tally.schedule_pps) != 2)
			return usage();
	}
	if (i >= argc)
		return usage();
	for (; i < argc && rc == 0; i++)
		rc = file_check(argv[i], &tally);
	tally_print(&tally);
	return rc != 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: perf-check [--cycle N] [--sparse yes] [--schedule START_NS,PPS] FILE...\n"
		"  --cycle     numbers start over after N frames\n"
		"  --sparse    not every number is expected: a filter chose\n"
		"  --schedule  frame n was sent at START_NS + n / PPS\n"
		"exit code 1: a file is not what its format says\n");
	return 2;
}

static int file_check(const char *path, struct tally *tally)
{
	struct parse parse = {.tally = tally};
	struct reader *reader = reader_open(path);
	parse_fn take_apart = NULL;
	const uint8_t *data = NULL;
	size_t len = 0, done = 0;
	int rc = reader != NULL ? 0 : -errno;

	tally_file(tally);
	while (rc == 0 && parse.wrong == NULL &&
		(rc = reader_next(reader, done, &data, &len)) > 0) {
		rc = 0;
		parse.at += done;
		if (take_apart == NULL)
			take_apart = parse_choose(&parse, data, len);
		done = parse.wrong == NULL ? take_apart(&parse, data, len) : 0;
	}
	if (rc == 0 && parse.wrong == NULL && take_apart == NULL)
		parse.wrong = "the file is empty";
	else if (rc == 0 && parse.wrong == NULL && !all_zero(data, len))
		parse.wrong = "the file ends inside a block";
	tally->file_bytes += reader_size(reader);
	reader_close(reader);
	if (rc != 0)
		fprintf(stderr, "perf-check: %s: %s\n", path, strerror(-rc));
	if (parse.wrong != NULL)
		fprintf(stderr, "perf-check: %s: at byte %" PRIu64 ": %s\n", path, parse.at + done,
			parse.wrong);
	return rc != 0 || parse.wrong != NULL;
}

static parse_fn parse_choose(struct parse *parse, const uint8_t *data, size_t len)
{
	const uint32_t magic = len >= 24 ? get32(data) : 0;

	if (magic == SHB && get32(data + 8) == SHB_ORDER)
		return pcapng_parse;
	parse->unit_ns = magic == PCAP_NS ? 1 : 1000;
	if (magic != PCAP_NS && magic != PCAP_US)
		parse->wrong = "this is neither little-endian pcapng nor pcap";
	return pcap_parse;
}

static size_t pcapng_parse(struct parse *parse, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (len - done >= 12 && parse->wrong == NULL) {
		const uint32_t block_len = get32(data + done + 4);

		if (block_len < 12 || block_len % 4 != 0 || block_len > READER_PIECE_MAX) {
			parse->wrong = "no block has such a length";
			break;
		}
		if (block_len > len - done)
			break;
		if (get32(data + done + block_len - 4) != block_len)
			parse->wrong = "a block's two lengths differ";
		else
			parse->wrong = block_parse(parse, data + done, block_len);
		if (parse->wrong == NULL)
			done += block_len;
	}
	return done;
}

static const char *block_parse(struct parse *parse, const uint8_t *block, uint32_t len)
{
	switch (get32(block)) {
	case EPB:
		return packet_parse(parse, block, len);
	case SHB:
		parse->n_interfaces = 0;
		return NULL;
	case IDB:
		if (parse->n_interfaces == INTERFACES_MAX)
			return "more interfaces than are expected";
		interface_parse(parse, block, len);
		return NULL;
	case ISB:
		statistics_parse(parse, block, len);
		return NULL;
	case 0:
		return "a hole of zeros";
	default:
		return NULL;
	}
}

static const char *packet_parse(struct parse *parse, const uint8_t *block, uint32_t len)
{
	const uint32_t interface = get32(block + 8), cap_len = get32(block + 20);
	const uint32_t padded = (cap_len + 3) & ~3U;
	const uint8_t *data = block + EPB_FIXED, *dropcount;
	uint64_t stamp, told = 0;
	uint16_t option_len;

	if (len < EPB_FIXED + 4 || cap_len > len || EPB_FIXED + padded + 4 > len)
		return "a packet is longer than its block";
	if (interface >= parse->n_interfaces)
		return "a packet of an interface that is not described";
	if (!all_zero(data + cap_len, padded - cap_len))
		return "padding that is not zero";
	if (EPB_FIXED + padded + 4 < len) {
		dropcount = option_find(data + padded, block + len - 4, OPT_DROPCOUNT, &option_len);
		if (dropcount != NULL && option_len == sizeof(told))
			memcpy(&told, dropcount, sizeof(told));
	}
	stamp = (uint64_t)get32(block + 12) << 32 | get32(block + 16);
	tally_packet(parse->tally, data, cap_len, get32(block + 24),
		stamp * parse->units_ns[interface], told);
	return NULL;
}

/* Resolutions other than nano- and microseconds are not written by anybody here. */
static void interface_parse(struct parse *parse, const uint8_t *block, uint32_t len)
{
	uint16_t option_len;
	const uint8_t *resolution =
		option_find(block + 16, block + len - 4, OPT_TSRESOL, &option_len);

	parse->units_ns[parse->n_interfaces++] = resolution != NULL && *resolution == 9 ? 1 : 1000;
}

static void statistics_parse(struct parse *parse, const uint8_t *block, uint32_t len)
{
	static const char key[] = "tail_gap=";
	uint16_t option_len;
	const uint8_t *comment = option_find(block + 20, block + len - 4, OPT_COMMENT, &option_len);
	char text[32] = "";

	if (comment == NULL || option_len >= sizeof(text))
		return;
	memcpy(text, comment, option_len);
	if (strncmp(text, key, sizeof(key) - 1) == 0)
		parse->tally->told += strtoull(text + sizeof(key) - 1, NULL, 10);
}

static const uint8_t *option_find(
	const uint8_t *at, const uint8_t *end, uint16_t code, uint16_t *len)
{
	while (end - at >= 4) {
		uint16_t here;

		memcpy(&here, at, sizeof(here));
		memcpy(len, at + 2, sizeof(*len));
		if (here == 0 || *len > end - at - 4)
			return NULL;
		if (here == code)
			return at + 4;
		at += 4 + ((*len + 3) & ~3);
	}
	return NULL;
}

/* What stands at second 0 or is all zero is what a writer of whole disk blocks fills its last with. */
static size_t pcap_parse(struct parse *parse, const uint8_t *data, size_t len)
{
	size_t done = parse->at == 0 ? 24 : 0;

	while (len - done >= 16 && parse->wrong == NULL) {
		const uint8_t *record = data + done;
		const uint32_t cap_len = get32(record + 8);
		const uint64_t seconds = get32(record);

		if (cap_len > READER_PIECE_MAX - 16) {
			parse->wrong = "no record has such a length";
			break;
		}
		if (cap_len > len - done - 16)
			break;
		if (seconds != 0)
			tally_packet(parse->tally, record + 16, cap_len, get32(record + 12),
				seconds * NS_PER_S + get32(record + 4) * parse->unit_ns, 0);
		done += 16 + cap_len;
	}
	return done;
}

static bool all_zero(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != 0)
			return false;
	return true;
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}
