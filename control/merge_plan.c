/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The merge's plan on disk, and the few look-ups that merging and recovery share. Bulk worker.
 */
#include "control/merge_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/file.h"
#include "control/merge.h"

#define PLAN       "merge"
#define PLAN_MAGIC 0x6e6c5053U /* "SPln" */

struct plan_file {
	uint32_t magic;
	uint32_t crc; /* of plan */
	struct merge_plan plan;
};

static bool canceled;

static bool plan_sane(const struct merge_plan *plan);
static bool exists(int dir, const char *name);

int merge_plan_load(int dir, struct merge_plan *plan)
{
	struct plan_file *file;
	char *data = NULL;
	size_t len;
	int rc;

	rc = file_load(dir, PLAN, sizeof(*file), &data, &len);
	if (rc != 0)
		return rc;
	file = (void *)data;
	if (len != sizeof(*file) || file->magic != PLAN_MAGIC ||
		file->crc != file_crc32c(0, &file->plan, sizeof(file->plan)) ||
		!plan_sane(&file->plan))
		rc = -EBADMSG;
	else
		*plan = file->plan;
	free(data);
	return rc;
}

int merge_plan_save(int dir, const struct merge_plan *plan)
{
	struct plan_file *file;
	int rc;

	file = malloc(sizeof(*file));
	if (file == NULL)
		return -ENOMEM;
	file->magic = PLAN_MAGIC;
	file->plan = *plan;
	file->crc = file_crc32c(0, &file->plan, sizeof(file->plan));
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
	uint64_t size = plan->header_len + plan->trailer_len;

	for (unsigned i = 0; i < plan->n_lanes; i++)
		if (plan->lane_bytes[i] > plan->header_len)
			size += plan->lane_bytes[i] - plan->header_len;
	return size;
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

int merge_plan_begun(int dir)
{
	struct merge_plan *plan;
	int begun;

	if (exists(dir, STORE_CAPTURE))
		return 1;
	plan = malloc(sizeof(*plan));
	if (plan == NULL)
		return 0;
	begun = merge_plan_load(dir, plan) == 0 &&
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

static bool plan_sane(const struct merge_plan *plan)
{
	return plan->n_lanes <= STORE_LANES_MAX && plan->header_lane < plan->n_lanes &&
	       plan->trailer_len <= sizeof(plan->trailer);
}

static bool exists(int dir, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
