/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The merge's plan on disk, and the few look-ups that merging and recovery share. Bulk worker.
 */
#include "control/merge_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/file.h"
#include "control/merge.h"

#define PLAN          "merge"
#define PLAN_COPY     "merge.copy"
#define PLAN_MAGIC    0x326c5053U /* "SPl2" */
#define PLAN_MAGIC_V1 0x6e6c5053U /* "SPln" */
#define PLAN_V1_BYTES offsetof(struct merge_plan, gaps_bytes)

struct plan_file {
	uint32_t magic;
	uint32_t crc; /* of id and plan; version 1: of plan */
	struct merge_plan plan;
};

static bool canceled;

static int plan_load(int dir, const char *name, const struct uuid *id, struct merge_plan *plan);
static bool plan_sane(const struct merge_plan *plan);
static bool exists(int dir, const char *name);

int merge_plan_load(int dir, const struct uuid *id, struct merge_plan *plan)
{
	int rc = plan_load(dir, PLAN, id, plan);

	if (rc == -ENOENT || rc == -EBADMSG || rc == -EFBIG)
		if (plan_load(dir, PLAN_COPY, id, plan) == 0)
			rc = 0;
	return rc == -EFBIG ? -EBADMSG : rc;
}

int merge_plan_save(int dir, const struct uuid *id, const struct merge_plan *plan)
{
	struct plan_file *file;
	int rc;

	file = calloc(1, sizeof(*file));
	if (file == NULL)
		return -ENOMEM;
	file->magic = PLAN_MAGIC;
	file->plan = *plan;
	file->crc = file_crc32c(file_crc32c(0, id, sizeof(*id)), &file->plan, sizeof(file->plan));
	rc = file_replace(dir, PLAN_COPY, file, sizeof(*file));
	if (rc == 0)
		rc = file_replace(dir, PLAN, file, sizeof(*file));
	free(file);
	return rc;
}

unsigned merge_plan_lanes(const struct merge_plan *plan)
{
	unsigned n = 0;

	for (unsigned i = 0; i < plan->n_lanes; i++)
		n += plan->lane_bytes[i] > plan->header_len;
	return n;
}

uint64_t merge_plan_size(const struct merge_plan *plan)
{
	uint64_t size = plan->header_len + plan->trailer_len + plan->gaps_bytes;

	for (unsigned i = 0; i < plan->n_lanes; i++)
		if (plan->lane_bytes[i] > plan->header_len)
			size += plan->lane_bytes[i] - plan->header_len;
	for (unsigned i = 0; i < plan->n_gaps; i++)
		size -= plan->gaps[i].to - plan->gaps[i].from;
	return size;
}

const struct merge_gap *merge_plan_gap_before(
	const struct merge_plan *plan, unsigned lane, uint64_t offset)
{
	for (unsigned i = 0; i < plan->n_gaps; i++)
		if (plan->gaps[i].lane == lane && plan->gaps[i].to == offset)
			return &plan->gaps[i];
	return NULL;
}

const struct merge_gap *merge_plan_gap_at(
	const struct merge_plan *plan, unsigned lane, uint64_t offset)
{
	for (unsigned i = 0; i < plan->n_gaps; i++)
		if (plan->gaps[i].lane == lane && plan->gaps[i].from == offset)
			return &plan->gaps[i];
	return NULL;
}

static uint8_t *option_put(uint8_t *at, uint16_t code, const void *value, uint16_t len)
{
	const uint32_t padded = pcapng_pad(len);

	memset(at, 0, 4 + padded);
	memcpy(at, &code, sizeof(code));
	memcpy(at + 2, &len, sizeof(len));
	memcpy(at + 4, value, len);
	return at + 4 + padded;
}

/* The block's options but its dropcount, which goes into *drops. */
static uint8_t *options_copy(uint8_t *to, const uint8_t *at, const uint8_t *end, uint64_t *drops)
{
	uint16_t code, len;

	for (; at + 4 <= end; at += 4 + pcapng_pad(len)) {
		memcpy(&code, at, sizeof(code));
		memcpy(&len, at + 2, sizeof(len));
		if (code == PCAPNG_OPT_END)
			break;
		if (code == PCAPNG_EPB_DROPCOUNT && len == sizeof(*drops))
			memcpy(drops, at + 4, sizeof(*drops));
		else
			to = option_put(to, code, at + 4, len);
	}
	return to;
}

uint32_t merge_gap_put(uint8_t *out, const struct scan_block *block, const struct merge_gap *gap)
{
	struct pcapng_epb_head head;
	char text[160];
	uint64_t drops = 0;
	uint32_t data_len, len;
	uint8_t *to;

	memcpy(&head, block->data, sizeof(head));
	data_len = PCAPNG_EPB_HEAD + pcapng_pad(head.cap_len);
	memcpy(out, block->data, data_len);
	snprintf(text, sizeof(text),
		"gap: %" PRIu64 " packets were lost here with %" PRIu64
		" bytes that a crash kept from the disk",
		gap->packets, gap->to - gap->from);
	to = option_put(out + data_len, PCAPNG_OPT_COMMENT, text, (uint16_t)strlen(text));
	to = options_copy(
		to, block->data + data_len, block->data + block->len - PCAPNG_EPB_TAIL, &drops);
	drops += gap->packets + gap->told;
	if (drops != 0)
		to = option_put(to, PCAPNG_EPB_DROPCOUNT, &drops, sizeof(drops));
	memset(to, 0, PCAPNG_OPT_END_SIZE);
	to += PCAPNG_OPT_END_SIZE;
	len = (uint32_t)(to - out) + PCAPNG_EPB_TAIL;
	memcpy(to, &len, sizeof(len));
	memcpy(out + 4, &len, sizeof(len));
	return len;
}

int merge_header_skip(struct scan *scan, struct scan_block *block)
{
	int rc;

	while ((rc = scan_next(scan, block)) == 1)
		if (block->type != (block->offset == 0 ? PCAPNG_SHB : PCAPNG_IDB))
			break;
	if (rc == 1)
		scan->offset = block->offset;
	return rc;
}

int merge_lane_open(int dir, unsigned lane, uint64_t *len_bytes)
{
	char name[STORE_NAME_SIZE];
	struct stat st;
	int fd;

	store_lane_name(lane, name);
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0) {
		close(fd);
		return -EIO;
	}
	*len_bytes = st.st_size;
	return fd;
}

int merge_plan_begun(int dir, const struct uuid *id)
{
	struct merge_plan *plan;
	int begun;

	if (exists(dir, STORE_CAPTURE))
		return 1;
	plan = malloc(sizeof(*plan));
	if (plan == NULL)
		return 0;
	begun = merge_plan_load(dir, id, plan) == 0 &&
		(!plan->recovered || exists(dir, MERGE_CHECKPOINT));
	free(plan);
	return begun;
}

void merge_cancel(void)
{
	__atomic_store_n(&canceled, true, __ATOMIC_RELAXED);
}

bool merge_canceled(void)
{
	return __atomic_load_n(&canceled, __ATOMIC_RELAXED);
}

static uint32_t plan_crc(const struct plan_file *file, const struct uuid *id)
{
	if (file->magic == PLAN_MAGIC_V1)
		return file_crc32c(0, &file->plan, PLAN_V1_BYTES);
	return file_crc32c(file_crc32c(0, id, sizeof(*id)), &file->plan, sizeof(file->plan));
}

static int plan_load(int dir, const char *name, const struct uuid *id, struct merge_plan *plan)
{
	struct plan_file *file;
	char *data = NULL;
	size_t len, want;
	int rc;

	rc = file_load(dir, name, sizeof(*file), &data, &len);
	if (rc != 0)
		return rc;
	file = calloc(1, sizeof(*file));
	if (file == NULL) {
		free(data);
		return -ENOMEM;
	}
	memcpy(file, data, len);
	free(data);
	want = file->magic == PLAN_MAGIC_V1 ? offsetof(struct plan_file, plan) + PLAN_V1_BYTES
					    : sizeof(*file);
	if (len != want || (file->magic != PLAN_MAGIC && file->magic != PLAN_MAGIC_V1) ||
		file->crc != plan_crc(file, id) || !plan_sane(&file->plan))
		rc = -EBADMSG;
	else
		*plan = file->plan;
	free(file);
	return rc;
}

static bool plan_sane(const struct merge_plan *plan)
{
	return plan->n_gaps <= MERGE_GAPS_MAX && plan->n_lanes <= STORE_LANES_MAX &&
	       plan->header_lane < plan->n_lanes && plan->trailer_len <= sizeof(plan->trailer);
}

static bool exists(int dir, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
