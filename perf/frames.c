/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * perf-frames: writes a pcap file of numbered frames, which net_pcap replays without end and tcpreplay
 * sends. One thread, no libraries.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/frame.h"

#define GAP_NS 1000

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, sigfigs, snaplen, linktype;
};

struct record_header {
	uint32_t seconds, nanoseconds, cap_len, orig_len;
};

static uint32_t size_of(const char *size, uint64_t number);
static int frames_write(FILE *file, const char *size, uint64_t n);

int main(int argc, char **argv)
{
	const uint64_t n = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
	const uint32_t first = argc == 4 ? size_of(argv[1], 0) : 0;
	FILE *file;
	int rc;

	if (n == 0 || first < FRAME_MIN || first > FRAME_MAX) {
		fprintf(stderr,
			"usage: perf-frames SIZE|imix COUNT FILE\n"
			"SIZE is %u to %u bytes, COUNT at least 1\n",
			FRAME_MIN, FRAME_MAX);
		return 2;
	}
	file = fopen(argv[3], "wb");
	rc = file != NULL ? frames_write(file, argv[1], n) : -errno;
	if (file != NULL && fclose(file) != 0 && rc == 0)
		rc = -errno;
	if (rc != 0)
		fprintf(stderr, "perf-frames: %s: %s\n", argv[3], strerror(-rc));
	return rc != 0;
}

/* imix: of twelve, seven of 64, four of 594, one of 1518 bytes, mixed. */
static uint32_t size_of(const char *size, uint64_t number)
{
	static const uint16_t imix[12] = {64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 594, 64};

	return strcmp(size, "imix") == 0 ? imix[number % 12] : strtoul(size, NULL, 10);
}

static int frames_write(FILE *file, const char *size, uint64_t n)
{
	const struct file_header header = {0xa1b23c4d, 2, 4, 0, 0, 262144, 1};
	uint8_t frame[FRAME_MAX];

	fwrite(&header, sizeof(header), 1, file);
	for (uint64_t i = 0; i < n; i++) {
		const uint32_t len = size_of(size, i);
		const struct record_header record = {1600000000, i * GAP_NS % 1000000000, len, len};

		frame_make(frame, len, 0, i);
		fwrite(&record, sizeof(record), 1, file);
		fwrite(frame, len, 1, file);
	}
	return ferror(file) ? -EIO : 0;
}
