/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * After a crash: what is whole in each lane, how much it is, and a merge that is prepared to make a
 * capture of it. Reads lanes and writes the plan, nothing else, so that it may be killed and called
 * again at will. Bulk worker, or main before the loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/log.h"
#include "control/file.h"
#include "control/merge.h"
#include "control/merge_plan.h"

#define WINDOW_SIZE   (4U << 20)
#define QUIET_WAIT_US 50000
#define QUIET_TRIES   1200 /* one minute */

struct count {
	uint64_t packets;
	uint64_t drops;
};

struct recover {
	int dir;
	struct merge_plan plan;
	struct merge_recovery sum;
	struct store_state state; /* n_lanes 0: there is none */
	uint32_t n_interfaces;
	bool header_found;
	bool trailer_found;
	struct count counts[STORE_LANES_MAX]; /* per interface */
};

static int recover_lanes(struct recover *recover, struct err *err);
static int lane_recover(struct recover *recover, unsigned lane, int fd, uint64_t len);
static void trailer_make(struct recover *recover);
static int recover_failed(const struct uuid *id, int rc, struct err *err);

int merge_recover(const struct uuid *id, struct merge_recovery *recovery, struct err *err)
{
	struct recover *recover;
	int rc;

	if (err != NULL)
		*err = (struct err){0};
	if (merge_canceled())
		return recover_failed(id, -ECANCELED, err);
	recover = calloc(1, sizeof(*recover));
	if (recover == NULL)
		return recover_failed(id, -ENOMEM, err);
	recover->dir = store_dir_open(id, true);
	rc = recover->dir < 0 ? recover->dir : 0;
	if (rc == 0 && merge_plan_begun(recover->dir))
		rc = -EALREADY; /* lanes may be consumed in part: merge_run alone may go on */
	if (rc == 0)
		rc = recover_lanes(recover, err);
	if (rc == 0) {
		if (!recover->trailer_found)
			trailer_make(recover);
		recover->plan.recovered = 1;
		recover->sum.size_bytes = merge_plan_size(&recover->plan);
		rc = merge_plan_save(recover->dir, &recover->plan);
	}
	*recovery = recover->sum;
	if (recover->dir >= 0)
		close(recover->dir);
	free(recover);
	return rc != 0 ? recover_failed(id, rc, err) : 0;
}

static int recover_failed(const struct uuid *id, int rc, struct err *err)
{
	char text[UUID_TEXT_SIZE];

	if (err != NULL && err->code != 0)
		return rc; /* said already, and better */
	uuid_print(id, text);
	return err_set(err, -rc, "", "cannot recover capture %s: %s", text, strerror(-rc));
}

/*
 * Writes of a process that was killed may still be on their way to the disk. A read lease is given
 * only when no open file can write, the kernel's own references for such writes among them.
 */
static int lane_quiet(int fd)
{
	for (unsigned i = 0; i < QUIET_TRIES; i++) {
		if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
			fcntl(fd, F_SETLEASE, F_UNLCK);
			return 0;
		}
		if (merge_canceled())
			return -ECANCELED;
		if (errno != EAGAIN)
			return 0; /* no leases here: nothing to wait by */
		usleep(QUIET_WAIT_US);
	}
	return -EBUSY;
}

static int recover_lanes(struct recover *recover, struct err *err)
{
	struct merge_plan *plan = &recover->plan;
	uint64_t len;
	int fd, rc = 0;

	if (store_state_read(recover->dir, &recover->state) != 0)
		recover->state.n_lanes = 0;
	for (; plan->n_lanes < STORE_LANES_MAX && rc == 0; plan->n_lanes++) {
		fd = merge_lane_open(recover->dir, plan->n_lanes, &len);
		if (fd == -ENOENT)
			break;
		if (fd < 0)
			return fd;
		rc = lane_quiet(fd);
		if (rc == 0)
			rc = lane_recover(recover, plan->n_lanes, fd, len);
		close(fd);
	}
	if (rc != 0)
		return rc;
	if (!recover->header_found)
		return err_set(err, EBADMSG, "", "none of the %u lanes has a readable header",
			plan->n_lanes);
	if (recover->sum.missing_bytes != 0)
		err_set(err, EIO, "",
			"%" PRIu64 " bytes that were on disk durably are not readable any more",
			recover->sum.missing_bytes);
	return 0;
}

static void packet_count(struct recover *recover, const struct scan_packet *packet)
{
	struct merge_recovery *sum = &recover->sum;
	struct count *count = &recover->counts[packet->interface_id];

	if (sum->packets == 0 || packet->stamp < sum->first_ns)
		sum->first_ns = packet->stamp;
	if (packet->stamp > sum->last_ns)
		sum->last_ns = packet->stamp;
	sum->packets++;
	sum->captured_bytes += packet->cap_len;
	sum->drops_recorded += packet->drops;
	count->packets++;
	count->drops += packet->drops;
}

/* Count packet blocks; *block is then the first other one. As scan_next. */
static int packets_count(struct recover *recover, struct scan *scan, struct scan_block *block)
{
	struct scan_packet packet;
	int rc;

	while ((rc = scan_next(scan, block)) == 1 && block->type == PCAPNG_EPB) {
		if (merge_canceled())
			return -ECANCELED;
		if (!scan_packet(block, &packet) || packet.interface_id >= STORE_LANES_MAX) {
			scan->offset = block->offset;
			scan->stop = SCAN_BAD;
			return 0;
		}
		packet_count(recover, &packet);
	}
	if (rc == 1)
		scan->offset = block->offset;
	return rc;
}

/* A whole trailer that ends the file was made while the session closed: it knows more than we. */
static int trailer_keep(struct recover *recover, struct scan *scan)
{
	struct merge_plan *plan = &recover->plan;
	struct scan_block block;
	uint32_t n = 0, len = 0;
	int rc;

	while ((rc = scan_next(scan, &block)) == 1 && block.type == PCAPNG_ISB) {
		if (len + block.len > sizeof(plan->trailer))
			return 0;
		memcpy(plan->trailer + len, block.data, block.len);
		len += block.len;
		n++;
	}
	if (rc == 0 && scan->stop == SCAN_END && n == recover->n_interfaces) {
		plan->trailer_len = len;
		recover->trailer_found = true;
	}
	return rc < 0 ? rc : 0;
}

static void header_take(struct recover *recover, unsigned lane, const struct scan *scan)
{
	if (recover->header_found)
		return;
	recover->header_found = true;
	recover->n_interfaces = scan->n_interfaces;
	recover->plan.header_lane = lane;
	recover->plan.header_len = scan->offset;
}

/* Cross-check with what was once known to be durable. */
static void lane_check(
	struct recover *recover, unsigned lane, const struct scan *scan, uint64_t len)
{
	uint64_t durable = 0;

	if (lane < recover->state.n_lanes)
		durable = recover->state.marks[lane].durable_bytes;
	if (scan->stop != SCAN_END)
		log_info("recovery: lane %u is good up to byte %" PRIu64 " of %" PRIu64 " (%s)",
			lane, scan->offset, len, scan_stop_name(scan->stop));
	if (scan->offset >= durable)
		return;
	recover->sum.missing_bytes += durable - scan->offset;
	log_error("recovery: lane %u was durable up to byte %" PRIu64
		  " and is readable up to %" PRIu64,
		lane, durable, scan->offset);
}

static int lane_recover(struct recover *recover, unsigned lane, int fd, uint64_t len)
{
	struct scan_block block;
	struct scan scan;
	bool header;
	int rc;

	rc = scan_open(&scan, fd, 0, len, WINDOW_SIZE);
	if (rc != 0)
		return rc;
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	rc = merge_header_skip(&scan, &block);
	header = scan.n_interfaces != 0;
	if (header)
		header_take(recover, lane, &scan);
	if (rc == 1 && block.type == PCAPNG_EPB)
		rc = packets_count(recover, &scan, &block);
	if (rc >= 0) {
		recover->plan.lane_bytes[lane] = header ? scan.offset : 0;
		lane_check(recover, lane, &scan, len);
	}
	if (rc == 1 && block.type == PCAPNG_ISB)
		rc = trailer_keep(recover, &scan);
	scan_close(&scan);
	return rc < 0 ? rc : 0;
}

/* What the packets themselves tell. Of what the port received nothing is known. */
static void trailer_make(struct recover *recover)
{
	struct merge_plan *plan = &recover->plan;
	struct pcapng_statistics statistics;
	size_t len;

	for (uint32_t i = 0; i < recover->n_interfaces && i < STORE_LANES_MAX; i++) {
		statistics = (struct pcapng_statistics){
			.interface_id = i,
			.stamp_ns = recover->sum.last_ns,
			.start_ns = recover->sum.first_ns,
			.end_ns = recover->sum.last_ns,
			.received = PCAPNG_UNKNOWN,
			.if_dropped = PCAPNG_UNKNOWN,
			.filter_accepted = recover->counts[i].packets + recover->counts[i].drops,
			.os_dropped = recover->counts[i].drops,
			.delivered = recover->counts[i].packets,
		};
		len = pcapng_statistics_put(plan->trailer + plan->trailer_len,
			sizeof(plan->trailer) - plan->trailer_len, &statistics);
		plan->trailer_len += len;
	}
}
