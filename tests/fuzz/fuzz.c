/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What fuzz targets share: texts and files of the input.
 */
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	fuzz_check(text != NULL);
	if (size != 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

int fuzz_file(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	fuzz_check(fd >= 0 && ftruncate(fd, 0) == 0);
	fuzz_check(pwrite(fd, data, size, 0) == (ssize_t)size);
	return fd;
}

static uint32_t below(uint64_t *seed, uint32_t n)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return n == 0 ? 0 : (uint32_t)((*seed >> 32) % n);
}

size_t fuzz_bend(uint8_t *bent, const uint8_t *data, size_t size, uint64_t *seed)
{
	static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, '"', '\\', '/', '{', '\n', '%'};

	memcpy(bent, data, size);
	for (uint32_t n = 1 + below(seed, 4); n > 0 && size > 0; n--) {
		size_t at = below(seed, (uint32_t)size);
		size_t len = below(seed, (uint32_t)(size - at)) % 16;

		switch (below(seed, 4)) {
		case 0:
			bent[at] ^= (uint8_t)(1U << below(seed, 8));
			break;
		case 1:
			bent[at] = telling[below(seed, sizeof(telling))];
			break;
		case 2:
			memmove(bent + at, bent + at + len, size - at - len);
			size -= len;
			break;
		default:
			memmove(bent + at + len, bent + at, size - at);
			size += len;
		}
	}
	return size;
}
