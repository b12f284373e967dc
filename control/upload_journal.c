/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/upload_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/file.h"

#define MAGIC       0x6a555353U /* "SSUj" */
#define VERSION     1
#define PAYLOAD_MAX 4096
#define PART_BYTES  (16ULL << 20)
#define PART_UNIT   (1ULL << 20)

enum record_kind { RECORD_PLAN = 1, RECORD_CREATING, RECORD_CREATED, RECORD_PART, RECORD_RESTART };

struct record {
	uint32_t magic;
	uint32_t crc; /* of where it stands and all that follows, payload included */
	uint16_t version;
	uint16_t kind;
	uint32_t len; /* of the payload */
};
_Static_assert(sizeof(struct record) == 16, "the same on each machine");

struct plan_payload {
	uint64_t size_bytes;
	uint64_t part_bytes;
	uint8_t sha256[HASH_SHA256_SIZE];
	uint8_t md5[HASH_MD5_SIZE];
	uint32_t keep_object;
	uint32_t look_twice;
	char bucket[CONFIG_NAME_MAX];
	char key[S3_KEY_MAX];
};

struct part_payload {
	uint32_t number;
	uint8_t md5[HASH_MD5_SIZE];
	char etag[S3_ETAG_MAX];
};

static int records_read(struct upload_journal *journal);
static int record_read(struct upload_journal *journal, uint64_t size, void *payload);
static uint32_t record_crc(const struct record *record, const void *payload, uint64_t at);
static int record_append(
	struct upload_journal *journal, enum record_kind kind, const void *payload, size_t len);
static int record_apply(
	struct upload_journal *journal, unsigned kind, const void *payload, size_t len);
static int plan_apply(struct upload_journal *journal, const struct plan_payload *payload);
static int part_apply(struct upload_journal *journal, const struct part_payload *payload);
static void multipart_forget(struct upload_journal *journal);

int upload_journal_open(struct upload_journal *journal, int dir, const char *name)
{
	int rc;

	*journal = (struct upload_journal){.fd = -1};
	journal->fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (journal->fd < 0)
		return -errno;
	rc = records_read(journal);
	/* What is torn goes before something is put in its place. */
	if (rc == 0 && ftruncate(journal->fd, (off_t)journal->end) != 0)
		rc = -errno;
	if (rc == 0 && journal->end == 0 && fsync(dir) != 0)
		rc = -errno;
	return rc;
}

void upload_journal_close(struct upload_journal *journal)
{
	if (journal->fd >= 0)
		close(journal->fd);
	free(journal->parts);
	free(journal->md5);
	*journal = (struct upload_journal){.fd = -1};
}

int upload_journal_plan(struct upload_journal *journal, const struct upload_plan *plan)
{
	struct plan_payload payload = {
		.size_bytes = plan->size_bytes,
		.part_bytes = plan->part_bytes,
		.keep_object = plan->keep_object,
		.look_twice = plan->look_twice,
	};

	memcpy(payload.sha256, plan->sha256, sizeof(payload.sha256));
	memcpy(payload.md5, plan->md5, sizeof(payload.md5));
	snprintf(payload.bucket, sizeof(payload.bucket), "%s", plan->bucket);
	snprintf(payload.key, sizeof(payload.key), "%s", plan->key);
	return record_append(journal, RECORD_PLAN, &payload, sizeof(payload));
}

int upload_journal_creating(struct upload_journal *journal)
{
	return record_append(journal, RECORD_CREATING, "", 0);
}

int upload_journal_created(struct upload_journal *journal, const char *upload_id)
{
	return record_append(journal, RECORD_CREATED, upload_id, strlen(upload_id) + 1);
}

int upload_journal_part(struct upload_journal *journal, const struct s3_part *part,
	const uint8_t md5[HASH_MD5_SIZE])
{
	struct part_payload payload = {.number = part->number};

	memcpy(payload.md5, md5, sizeof(payload.md5));
	snprintf(payload.etag, sizeof(payload.etag), "%s", part->etag);
	return record_append(journal, RECORD_PART, &payload, sizeof(payload));
}

int upload_journal_restart(struct upload_journal *journal)
{
	return record_append(journal, RECORD_RESTART, "", 0);
}

uint64_t upload_part_bytes(uint64_t size_bytes, uint64_t wanted_bytes)
{
	const uint64_t least = (size_bytes + S3_PARTS_MAX - 1) / S3_PARTS_MAX;

	if (wanted_bytes == 0)
		wanted_bytes = PART_BYTES;
	return least <= wanted_bytes ? wanted_bytes
				     : (least + PART_UNIT - 1) / PART_UNIT * PART_UNIT;
}

static int records_read(struct upload_journal *journal)
{
	char *payload = malloc(PAYLOAD_MAX);
	struct stat st;
	int rc = 0;

	if (payload == NULL || fstat(journal->fd, &st) != 0) {
		rc = payload == NULL ? -ENOMEM : -errno;
		free(payload);
		return rc;
	}
	while (rc == 0)
		rc = record_read(journal, (uint64_t)st.st_size, payload);
	free(payload);
	return rc == -ENODATA ? 0 : rc;
}

/* The one at journal->end. -ENODATA: there is none that is whole and makes sense. */
static int record_read(struct upload_journal *journal, uint64_t size, void *payload)
{
	struct record record;
	int rc;

	if (size - journal->end < sizeof(record))
		return -ENODATA;
	rc = file_read_at(journal->fd, &record, sizeof(record), journal->end);
	if (rc != 0)
		return rc;
	if (record.magic != MAGIC || record.len > PAYLOAD_MAX ||
		size - journal->end - sizeof(record) < record.len)
		return -ENODATA;
	rc = file_read_at(journal->fd, payload, record.len, journal->end + sizeof(record));
	if (rc != 0)
		return rc;
	if (record.crc != record_crc(&record, payload, journal->end))
		return -ENODATA;
	if (record.version != VERSION)
		return -EPROTO;
	rc = record_apply(journal, record.kind, payload, record.len);
	if (rc == 0)
		journal->end += sizeof(record) + record.len;
	return rc;
}

static uint32_t record_crc(const struct record *record, const void *payload, uint64_t at)
{
	uint32_t crc = file_crc32c(0, &at, sizeof(at));

	crc = file_crc32c(
		crc, &record->version, sizeof(*record) - offsetof(struct record, version));
	return file_crc32c(crc, payload, record->len);
}

static int record_append(
	struct upload_journal *journal, enum record_kind kind, const void *payload, size_t len)
{
	struct record record = {
		.magic = MAGIC, .version = VERSION, .kind = kind, .len = (uint32_t)len};
	uint8_t bytes[sizeof(record) + PAYLOAD_MAX];
	int rc;

	record.crc = record_crc(&record, payload, journal->end);
	memcpy(bytes, &record, sizeof(record));
	memcpy(bytes + sizeof(record), payload, len);
	rc = file_write_at(journal->fd, bytes, sizeof(record) + len, journal->end);
	if (rc == 0 && fdatasync(journal->fd) != 0)
		rc = -errno;
	if (rc == 0)
		rc = record_apply(journal, kind, payload, len);
	if (rc == 0)
		journal->end += sizeof(record) + len;
	return rc;
}

static int record_apply(
	struct upload_journal *journal, unsigned kind, const void *payload, size_t len)
{
	if (kind == RECORD_PLAN && len == sizeof(struct plan_payload))
		return plan_apply(journal, payload);
	if (!journal->planned)
		return -ENODATA;
	switch (kind) {
	case RECORD_CREATING:
		journal->n_creates++;
		multipart_forget(journal);
		return 0;
	case RECORD_CREATED:
		if (len == 0 || len > S3_UPLOAD_ID_MAX || ((const char *)payload)[len - 1] != '\0')
			return -ENODATA;
		multipart_forget(journal);
		memcpy(journal->upload_id, payload, len);
		return 0;
	case RECORD_PART:
		return len == sizeof(struct part_payload) ? part_apply(journal, payload) : -ENODATA;
	case RECORD_RESTART:
		multipart_forget(journal);
		return 0;
	default:
		return -EPROTO;
	}
}

static int plan_apply(struct upload_journal *journal, const struct plan_payload *payload)
{
	const uint64_t size = payload->size_bytes, part = payload->part_bytes;

	if (part == 0 || part > S3_SIZE_MAX || size > S3_SIZE_MAX ||
		(size + part - 1) / part > S3_PARTS_MAX ||
		payload->bucket[CONFIG_NAME_MAX - 1] != '\0' ||
		payload->key[S3_KEY_MAX - 1] != '\0')
		return -ENODATA;
	free(journal->parts);
	free(journal->md5);
	journal->plan = (struct upload_plan){.size_bytes = size,
		.part_bytes = part,
		.keep_object = payload->keep_object != 0,
		.look_twice = payload->look_twice != 0};
	memcpy(journal->plan.sha256, payload->sha256, sizeof(payload->sha256));
	memcpy(journal->plan.md5, payload->md5, sizeof(payload->md5));
	memcpy(journal->plan.bucket, payload->bucket, sizeof(payload->bucket));
	memcpy(journal->plan.key, payload->key, sizeof(payload->key));
	journal->n_parts = size != 0 ? (unsigned)((size + part - 1) / part) : 1;
	journal->parts = calloc(journal->n_parts, sizeof(journal->parts[0]));
	journal->md5 = calloc(journal->n_parts, sizeof(journal->md5[0]));
	if (journal->parts == NULL || journal->md5 == NULL)
		return -ENOMEM;
	journal->planned = true;
	multipart_forget(journal);
	return 0;
}

static int part_apply(struct upload_journal *journal, const struct part_payload *payload)
{
	const unsigned i = payload->number - 1;

	if (i >= journal->n_parts || journal->upload_id[0] == '\0' ||
		payload->etag[S3_ETAG_MAX - 1] != '\0')
		return -ENODATA;
	journal->n_done += journal->parts[i].number == 0;
	journal->parts[i].number = payload->number;
	memcpy(journal->parts[i].etag, payload->etag, sizeof(payload->etag));
	memcpy(journal->md5[i], payload->md5, sizeof(payload->md5));
	return 0;
}

static void multipart_forget(struct upload_journal *journal)
{
	journal->upload_id[0] = '\0';
	journal->n_done = 0;
	memset(journal->parts, 0, journal->n_parts * sizeof(journal->parts[0]));
}
