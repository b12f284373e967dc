/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * For tests of files: header and packet blocks made without the code that the daemon writes packets
 * with, and the readers that others use.
 */
#ifndef TESTS_UNIT_FRAMES_FILE_H
#define TESTS_UNIT_FRAMES_FILE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/pcapng.h"

/* Section and n interface blocks "port0", "port1" ... Returns the length. */
static inline size_t frames_header(uint8_t *buf, size_t size, unsigned n_interfaces)
{
	const struct pcapng_section section = {.application = "sluice", .os = "test"};
	size_t len = pcapng_section_put(buf, size, &section);

	for (unsigned i = 0; i < n_interfaces; i++) {
		char name[16];
		struct pcapng_interface interface = {.name = name, .snaplen = 262144};

		snprintf(name, sizeof(name), "port%u", i);
		len += pcapng_interface_put(buf + len, size - len, &interface);
	}
	return len;
}

/* A packet block; its data are cap_len bytes that begin with seq. drops 0: no options. */
static inline size_t frames_packet(uint8_t *buf, uint32_t interface, uint64_t stamp,
	uint32_t cap_len, uint64_t drops, uint64_t seq)
{
	uint32_t options = drops != 0 ? 16 : 0;
	uint32_t padded = (cap_len + 3) / 4 * 4, total = 28 + padded + options + 4;
	uint32_t head[7] = {6, total, interface, stamp >> 32, (uint32_t)stamp, cap_len, cap_len};

	memset(buf, 0, total);
	memcpy(buf, head, sizeof(head));
	for (uint32_t i = 0; i < cap_len; i++)
		buf[28 + i] = (uint8_t)(seq * 31 + i);
	memcpy(buf + 28, &seq, cap_len < 8 ? cap_len : 8);
	if (drops != 0) {
		memcpy(buf + 28 + padded, (uint16_t[2]){4, 8}, 4);
		memcpy(buf + 28 + padded + 4, &drops, 8);
	}
	memcpy(buf + total - 4, &total, 4);
	return total;
}

static inline void frames_file_put(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "w");

	if (file == NULL || fwrite(data, 1, len, file) != len || fclose(file) != 0)
		abort();
}

/* The whole file in malloc'd memory; NULL if there is none. */
static inline uint8_t *frames_file_get(const char *path, size_t *len)
{
	FILE *file = fopen(path, "r");
	struct stat st;
	uint8_t *data;

	if (file == NULL)
		return NULL;
	if (fstat(fileno(file), &st) != 0 || (data = malloc(st.st_size + 1)) == NULL)
		abort();
	*len = fread(data, 1, st.st_size, file);
	fclose(file);
	return data;
}

/* Run a reader on a file: its output in out; its wait status, or 99 when it complained about
 * anything but being run as root. */
static inline int frames_reader(const char *command, const char *path, char *out, size_t size)
{
	char line[2048];
	FILE *pipe;
	size_t len;
	int rc;

	snprintf(line, sizeof(line), "%s '%s' 2>'%s.err'", command, path, path);
	pipe = popen(line, "r");
	if (pipe == NULL)
		abort();
	len = fread(out, 1, size - 1, pipe);
	out[len] = '\0';
	while (fread(line, 1, sizeof(line), pipe) > 0)
		;
	rc = pclose(pipe);
	snprintf(line, sizeof(line), "grep -v 'Running as user' '%s.err'; rm '%s.err'", path, path);
	pipe = popen(line, "r");
	if (pipe == NULL)
		abort();
	if (fread(line, 1, sizeof(line), pipe) > 0)
		rc = 99;
	pclose(pipe);
	return rc;
}

static inline int frames_reader_there(void)
{
	return system("command -v tshark capinfos >/dev/null 2>&1") == 0;
}

#endif
