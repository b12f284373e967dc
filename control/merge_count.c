/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a closed capture's file says of itself, for one whose record is gone. Reads, never writes. Bulk
 * worker.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/merge.h"
#include "control/merge_plan.h"

#define WINDOW_SIZE (4U << 20)
#define IDB_HEAD    16U /* before its options */
#define IDB_NAME    2U

static int file_count(int fd, uint64_t len, struct merge_recovery *recovery, struct err *err);
static void block_count(
	const struct scan_block *block, struct merge_recovery *recovery, uint64_t *lost);

int merge_count(const struct uuid *id, struct merge_recovery *recovery, struct err *err)
{
	struct stat st;
	int dir, fd, rc;

	memset(recovery, 0, sizeof(*recovery));
	dir = store_dir_open(id, false);
	if (dir < 0)
		return dir;
	fd = openat(dir, STORE_CAPTURE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	rc = fd < 0 ? -errno : 0;
	if (rc == 0 && fstat(fd, &st) != 0)
		rc = -errno;
	if (rc == 0)
		rc = file_count(fd, (uint64_t)st.st_size, recovery, err);
	if (fd >= 0)
		close(fd);
	close(dir);
	return rc;
}

static int file_count(int fd, uint64_t len, struct merge_recovery *recovery, struct err *err)
{
	struct ledger *ledger = &recovery->ledger;
	struct scan_block block;
	struct scan scan;
	uint64_t lost = 0;
	int rc;

	recovery->size_bytes = len;
	ledger->unknown_max = LEDGER_UNBOUNDED;
	rc = scan_open(&scan, fd, 0, len, WINDOW_SIZE);
	if (rc != 0)
		return rc;
	while ((rc = scan_next(&scan, &block)) == 1 && !merge_canceled())
		block_count(&block, recovery, &lost);
	if (rc == 0 && scan.stop != SCAN_END)
		err_set(err, EIO, "",
			"its record was damaged, and so is its file from byte %" PRIu64 " on",
			scan.offset);
	scan_close(&scan);
	ledger->written = ledger->durable = recovery->packets;
	ledger->written_bytes = recovery->captured_bytes;
	/* The file tells how many were lost, not why; this is what it is as a rule. */
	ledger->dropped[DROP_no_block] =
		lost > recovery->drops_recorded ? lost : recovery->drops_recorded;
	ledger->accepted = ledger->written + ledger->dropped[DROP_no_block];
	ledger->offered = ledger->accepted;
	return rc < 0 ? rc : merge_canceled() ? -ECANCELED : 0;
}

static void packet_count(const struct scan_block *block, struct merge_recovery *recovery)
{
	struct scan_packet packet;

	if (!scan_packet(block, &packet))
		packet.drops = 0;
	if (recovery->packets == 0 || packet.stamp < recovery->first_ns)
		recovery->first_ns = packet.stamp;
	if (packet.stamp > recovery->last_ns)
		recovery->last_ns = packet.stamp;
	recovery->packets++;
	recovery->captured_bytes += packet.cap_len;
	recovery->drops_recorded += packet.drops;
}

static void interface_count(const struct scan_block *block, struct merge_recovery *recovery)
{
	const uint8_t *at = block->data + IDB_HEAD, *end = block->data + block->len - 4;
	uint16_t code, len;

	if (recovery->n_ports == CONFIG_PORTS_MAX)
		return;
	for (; at + 4 <= end; at += 4 + pcapng_pad(len)) {
		memcpy(&code, at, sizeof(code));
		memcpy(&len, at + 2, sizeof(len));
		if (code != IDB_NAME || len >= CONFIG_NAME_MAX || at + 4 + len > end)
			continue;
		memcpy(recovery->port_names[recovery->n_ports], at + 4, len);
		break;
	}
	recovery->n_ports++;
}

static void block_count(
	const struct scan_block *block, struct merge_recovery *recovery, uint64_t *lost)
{
	uint64_t received;

	if (block->type == PCAPNG_EPB) {
		packet_count(block, recovery);
	} else if (block->type == PCAPNG_IDB) {
		interface_count(block, recovery);
	} else if (block->type == PCAPNG_ISB) {
		*lost += scan_statistics(block, &received);
		/* Only a capture that was closed in its time says this: nothing of it is unknown. */
		if (received != PCAPNG_UNKNOWN)
			recovery->ledger.unknown_max = 0;
	}
}
