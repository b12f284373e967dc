/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * After a crash: what is whole in each lane, how much it is, and a merge that is prepared to make a
 * capture of it. Reads lanes, mends their headers and writes the plan, nothing else, so that it may be
 * killed and called again at will. Bulk worker, or main before the loop.
 *
 * Behind a hole nothing is searched for: a payload may hold pcapng, or whatever somebody put there. Where
 * a packet begins is known from the index, or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/log.h"
#include "control/file.h"
#include "control/memory.h"
#include "control/merge.h"
#include "control/merge_plan.h"
#include "engine/clock.h"

#define WINDOW_SIZE   (4U << 20)
#define QUIET_WAIT_US 50000
#define QUIET_TRIES   1200 /* one minute */
#define PAGE          4096U
#define SECTOR        512U

struct count {
	uint64_t packets;
	uint64_t drops; /* told in the file, or of packets in gaps */
	uint64_t gaps;  /* packets in gaps, told of by the next packet of this interface */
};

/* The counts before a packet that may be torn. */
struct suspect {
	bool any;
	uint64_t offset;
	uint64_t page; /* where it ends */
	uint64_t seen, told;
	struct merge_recovery sum;
	struct count counts[STORE_LANES_MAX];
};

/* The lane at hand. */
struct lane {
	unsigned number;
	uint64_t durable_bytes;
	uint64_t seen; /* packets of the stream so far, those in gaps too */
	uint64_t told;
	const struct index_entry *begin; /* its entries in the index */
	const struct index_entry *next;  /* not passed yet */
	const struct index_entry *end;
	struct suspect suspect;
};

struct recover {
	int dir;
	struct merge_plan plan;
	struct merge_recovery sum;
	struct store_state state; /* n_lanes 0: there is none */
	struct store_books books;
	struct index_entry *entries;
	size_t n_entries;
	uint8_t header[INDEX_HEADER_MAX]; /* that each lane began with */
	size_t header_len;                /* 0: it is not known */
	uint64_t framed;                  /* packets known to have been framed, all lanes */
	uint32_t n_interfaces;
	bool header_found;
	bool trailer_found;
	uint64_t trailer_lost;                /* all losses, by the trailer that was found */
	struct count counts[STORE_LANES_MAX]; /* per interface */
	uint64_t tail_gaps[STORE_LANES_MAX];  /* per interface: lost behind its last packet */
	struct lane lane;
};

static int recover_read(struct recover *recover, const struct uuid *id);
static int recover_lanes(struct recover *recover, struct err *err);
static int lane_recover(struct recover *recover, unsigned lane, int fd, uint64_t len);
static void books_make(struct recover *recover);
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
	if (rc == 0 && merge_plan_begun(recover->dir, id))
		rc = -EALREADY; /* lanes may be consumed in part: merge_run alone may go on */
	if (rc == 0)
		rc = recover_read(recover, id);
	if (rc == 0)
		rc = recover_lanes(recover, err);
	if (rc == 0) {
		books_make(recover);
		if (!recover->trailer_found)
			trailer_make(recover);
		recover->plan.recovered = 1;
		recover->sum.size_bytes = merge_plan_size(&recover->plan);
		rc = merge_plan_save(recover->dir, id, &recover->plan);
	}
	*recovery = recover->sum;
	if (recover->dir >= 0)
		close(recover->dir);
	free(recover->entries);
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

/* What was noted while it ran. */
static int recover_read(struct recover *recover, const struct uuid *id)
{
	if (store_state_read(recover->dir, id, &recover->state) != 0)
		recover->state.n_lanes = 0;
	store_books_read(recover->dir, id, &recover->books);
	recover->header_len = index_header_load(recover->dir, id, recover->header);
	return index_load(recover->dir, id, &recover->entries, &recover->n_entries);
}

/* A lane that does not begin as it was made gets its header again: what is behind it can be rescued then. */
static int header_mend(struct recover *recover, unsigned lane, int fd, uint64_t len)
{
	uint8_t found[INDEX_HEADER_MAX];
	char name[STORE_NAME_SIZE];
	int to, rc;

	if (recover->header_len == 0 || len < recover->header_len)
		return 0;
	rc = file_read_at(fd, found, recover->header_len, 0);
	if (rc == 0 && memcmp(found, recover->header, recover->header_len) == 0)
		return 0;
	store_lane_name(lane, name);
	to = openat(recover->dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return -errno;
	rc = file_write_at(to, recover->header, recover->header_len, 0);
	if (rc == 0 && fdatasync(to) != 0)
		rc = -errno;
	close(to);
	if (rc == 0)
		log_warning("recovery: the header of lane %u was lost, and written anew", lane);
	return rc;
}

static int recover_lanes(struct recover *recover, struct err *err)
{
	struct merge_plan *plan = &recover->plan;
	uint64_t len;
	int fd, rc = 0;

	for (; plan->n_lanes < STORE_LANES_MAX && rc == 0; plan->n_lanes++) {
		fd = merge_lane_open(recover->dir, plan->n_lanes, &len);
		if (fd == -ENOENT)
			break;
		if (fd < 0)
			return fd;
		rc = lane_quiet(fd);
		if (rc == 0)
			rc = header_mend(recover, plan->n_lanes, fd, len);
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
	recover->lane.seen++;
	recover->lane.told += packet->drops;
}

/* A whole sector of zeros in it. */
static bool has_zero_sector(const struct scan_block *block)
{
	static const uint8_t zeros[SECTOR];
	uint64_t at = (block->offset + SECTOR - 1) / SECTOR * SECTOR;

	for (; at + SECTOR <= block->offset + block->len; at += SECTOR)
		if (memcmp(block->data + (at - block->offset), zeros, SECTOR) == 0)
			return true;
	return false;
}

/*
 * The last page of a lane is written again as it fills up, and a power cut may leave any of its sectors
 * as they were: zero. A packet there that has such a sector, and was never known to be durable, is not
 * believed, unless more pages follow: they were written after it was whole.
 */
static void suspect_look(struct recover *recover, const struct scan_block *block)
{
	struct suspect *suspect = &recover->lane.suspect;
	const uint64_t end = block->offset + block->len;

	if (suspect->any && (end - 1) / PAGE != suspect->page)
		suspect->any = false;
	if (suspect->any || end <= recover->lane.durable_bytes || !has_zero_sector(block))
		return;
	suspect->any = true;
	suspect->offset = block->offset;
	suspect->page = (end - 1) / PAGE;
	suspect->seen = recover->lane.seen;
	suspect->told = recover->lane.told;
	suspect->sum = recover->sum;
	memcpy(suspect->counts, recover->counts, sizeof(suspect->counts));
}

static void suspect_drop(struct recover *recover, struct scan *scan)
{
	struct suspect *suspect = &recover->lane.suspect;

	if (!suspect->any || scan->stop == SCAN_END)
		return;
	scan->offset = suspect->offset;
	scan->stop = SCAN_BAD;
	recover->lane.seen = suspect->seen;
	recover->lane.told = suspect->told;
	recover->sum = suspect->sum;
	memcpy(recover->counts, suspect->counts, sizeof(recover->counts));
	suspect->any = false;
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
			rc = 0;
			break;
		}
		suspect_look(recover, block);
		packet_count(recover, &packet);
	}
	if (rc == 1)
		scan->offset = block->offset;
	if (rc == 0)
		suspect_drop(recover, scan);
	return rc;
}

static void gap_add(struct recover *recover, const struct merge_gap *gap,
	const struct scan_block *block, const struct scan_packet *packet)
{
	struct merge_plan *plan = &recover->plan;
	struct count *count = &recover->counts[packet->interface_id];
	uint8_t *marked = memory_get(block->len + MERGE_GAP_TEXT_MAX);

	plan->gaps_bytes += merge_gap_put(marked, block, gap) - block->len;
	free(marked);
	plan->gaps[plan->n_gaps++] = *gap;
	recover->sum.n_gaps++;
	recover->sum.gap_packets += gap->packets;
	recover->sum.gap_bytes += gap->to - gap->from;
	count->gaps += gap->packets;
	count->drops += gap->told;
	recover->lane.seen += gap->packets;
	recover->lane.told += gap->told;
	log_info("recovery: lane %u goes on at byte %" PRIu64 ": %" PRIu64 " packets in %" PRIu64
		 " bytes before that are lost",
		recover->lane.number, gap->to, gap->packets, gap->to - gap->from);
}

/*
 * The scan stopped at a hole: go on at the next place where the index says that a packet begins, and
 * one does. 1: the gap is noted, the scan stands before it; 0: there is none, the scan stands where it
 * stopped; -errno.
 */
static int lane_resume(struct recover *recover, struct scan *scan)
{
	struct lane *lane = &recover->lane;
	const struct scan was = *scan;
	struct scan_packet packet;
	struct scan_block block;
	int rc = 0;

	for (; lane->next < lane->end && recover->plan.n_gaps < MERGE_GAPS_MAX; lane->next++) {
		const struct index_entry *entry = lane->next;
		const struct merge_gap gap = {
			.from = was.offset,
			.to = entry->offset,
			.packets = entry->packets - lane->seen,
			.told = entry->told - lane->told,
			.lane = lane->number,
		};

		if (entry->offset <= was.offset || entry->offset >= scan->end ||
			entry->packets < lane->seen || entry->told < lane->told)
			continue;
		scan->offset = entry->offset;
		rc = scan_next(scan, &block);
		if (rc < 0)
			return rc;
		if (rc == 0 || block.type != PCAPNG_EPB || !scan_packet(&block, &packet) ||
			packet.interface_id >= STORE_LANES_MAX ||
			(block.offset + block.len > lane->durable_bytes && has_zero_sector(&block)))
			continue;
		gap_add(recover, &gap, &block, &packet);
		scan->offset = entry->offset;
		return 1;
	}
	scan->offset = was.offset;
	scan->stop = was.stop;
	scan->n_interfaces = was.n_interfaces;
	return 0;
}

/* All that can be read of the lane, which has a header. As scan_next: 1, *block is no packet. */
static int lane_packets(struct recover *recover, struct scan *scan, struct scan_block *block)
{
	const uint32_t n_interfaces = scan->n_interfaces;
	uint64_t before = UINT64_MAX;
	int rc, more;

	do {
		rc = packets_count(recover, scan, block);
		if (before != UINT64_MAX)
			recover->sum.rescued += recover->sum.packets - before;
		if (rc == 1 && block->type != PCAPNG_ISB) {
			/* No block of ours: what is here was not written by us. */
			scan->stop = SCAN_BAD;
			scan->n_interfaces = n_interfaces;
			rc = 0;
		}
		before = recover->sum.packets;
		more = rc == 0 && scan->stop != SCAN_END ? lane_resume(recover, scan) : 0;
	} while (more == 1);
	return more < 0 ? more : rc;
}

/* A whole trailer that ends the file was made while the session closed: it knows more than we. */
static int trailer_keep(struct recover *recover, struct scan *scan)
{
	struct merge_plan *plan = &recover->plan;
	struct scan_block block;
	uint32_t n = 0, len = 0;
	uint64_t lost = 0, received;
	int rc;

	if (plan->n_gaps != 0)
		return 0; /* what it says is not what is left */
	while ((rc = scan_next(scan, &block)) == 1 && block.type == PCAPNG_ISB) {
		if (len + block.len > sizeof(plan->trailer))
			return 0;
		lost += scan_statistics(&block, &received);
		memcpy(plan->trailer + len, block.data, block.len);
		len += block.len;
		n++;
	}
	if (rc == 0 && scan->stop == SCAN_END && n == recover->n_interfaces) {
		plan->trailer_len = len;
		recover->trailer_found = true;
		recover->trailer_lost = lost;
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
	const uint64_t durable = recover->lane.durable_bytes;

	for (unsigned i = 0; i < recover->plan.n_gaps; i++)
		if (recover->plan.gaps[i].lane == lane && recover->plan.gaps[i].from < durable)
			recover->sum.missing_bytes +=
				(recover->plan.gaps[i].to < durable ? recover->plan.gaps[i].to
								    : durable) -
				recover->plan.gaps[i].from;
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

/* What is known of the lane before it is read. */
static void lane_begin(struct recover *recover, unsigned number)
{
	struct lane *lane = &recover->lane;

	memset(lane, 0, sizeof(*lane));
	lane->number = number;
	if (number < recover->state.n_lanes)
		lane->durable_bytes = recover->state.marks[number].durable_bytes;
	lane->next = recover->entries;
	while (lane->next < recover->entries + recover->n_entries && lane->next->lane < number)
		lane->next++;
	lane->begin = lane->end = lane->next;
	while (lane->end < recover->entries + recover->n_entries && lane->end->lane == number)
		lane->end++;
}

/* Packets that were on their way to the disk, be they there or not. */
static void lane_framed(struct recover *recover)
{
	const struct lane *lane = &recover->lane;
	uint64_t framed = lane->seen;

	if (lane->number < recover->state.n_lanes &&
		recover->state.marks[lane->number].durable_packets > framed)
		framed = recover->state.marks[lane->number].durable_packets;
	if (lane->begin < lane->end && lane->end[-1].packets > framed)
		framed = lane->end[-1].packets;
	recover->framed += framed;
}

static int lane_recover(struct recover *recover, unsigned lane, int fd, uint64_t len)
{
	struct scan_block block;
	struct scan scan;
	bool header;
	int rc;

	lane_begin(recover, lane);
	rc = scan_open(&scan, fd, 0, len, WINDOW_SIZE);
	if (rc != 0)
		return rc;
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	rc = merge_header_skip(&scan, &block);
	header = scan.n_interfaces != 0;
	if (header)
		header_take(recover, lane, &scan);
	if (rc >= 0 && header && !(rc == 1 && block.type == PCAPNG_ISB))
		rc = lane_packets(recover, &scan, &block);
	lane_framed(recover);
	if (rc >= 0) {
		recover->plan.lane_bytes[lane] = header ? scan.offset : 0;
		lane_check(recover, lane, &scan, len);
	}
	if (rc == 1 && block.type == PCAPNG_ISB)
		rc = trailer_keep(recover, &scan);
	scan_close(&scan);
	return rc < 0 ? rc : 0;
}

static uint64_t boot_age_ns(void)
{
	struct timespec age;

	clock_gettime(CLOCK_BOOTTIME, &age);
	return (uint64_t)age.tv_sec * CLOCK_NS_PER_S + (uint64_t)age.tv_nsec;
}

/*
 * The most that may have been accepted after the books were noted; LEDGER_UNBOUNDED: nobody knows. A disk that
 * hangs takes no notes, however long that is: what is sure is that who noted was gone by now, and when this
 * machine was started.
 */
static uint64_t later_max(const struct recover *recover)
{
	const struct store_books *books = &recover->books;
	const uint64_t now_ns = clock_wall_ns();
	const uint64_t boot_ns = now_ns - boot_age_ns();
	const uint64_t gone_ns = boot_ns > books->noted_ns ? boot_ns : now_ns;

	if (books->noted_ns == 0 || books->rate_max_pps == 0 || gone_ns < books->noted_ns)
		return LEDGER_UNBOUNDED;
	return (uint64_t)((double)(gone_ns - books->noted_ns) * (double)books->rate_max_pps /
			  CLOCK_NS_PER_S) +
	       1;
}

/* Losses that were counted and stand in no packet: behind the last one of their interface. */
static uint64_t tail_gaps_make(struct recover *recover)
{
	uint64_t noted = 0, told = 0, left;

	for (uint32_t i = 0; i < recover->n_interfaces; i++) {
		noted += i < CONFIG_PORTS_MAX ? recover->books.if_dropped[i] : 0;
		told += recover->counts[i].drops;
	}
	left = noted > told ? noted - told : 0;
	for (uint32_t i = 0; i < recover->n_interfaces && i < CONFIG_PORTS_MAX; i++) {
		uint64_t own = recover->books.if_dropped[i];

		own = own > recover->counts[i].drops ? own - recover->counts[i].drops : 0;
		recover->tail_gaps[i] = own < left ? own : left;
		left -= recover->tail_gaps[i];
	}
	return noted > told ? noted : told;
}

static void books_make(struct recover *recover)
{
	const struct store_books *books = &recover->books;
	struct ledger *ledger = &recover->sum.ledger;
	uint64_t lost, counted = 0, known;

	lost = recover->trailer_found ? recover->trailer_lost : tail_gaps_make(recover);
	for (unsigned i = 0; i < DROP_COUNT; i++) {
		ledger->dropped[i] = books->dropped[i];
		counted += books->dropped[i];
	}
	/* What was lost later and is told of in the file found no block: there is no other way. */
	if (lost > counted)
		ledger->dropped[DROP_no_block] += lost - counted;
	ledger->dropped[DROP_writer_stopped] += recover->sum.gap_packets;
	ledger->written = ledger->durable = recover->sum.packets;
	ledger->written_bytes = recover->sum.captured_bytes;
	ledger->stamps_raised = books->stamps_raised;
	known = ledger->written;
	for (unsigned i = 0; i < DROP_COUNT; i++)
		known += ledger->dropped[i];
	ledger->accepted = recover->framed + known - ledger->written - recover->sum.gap_packets;
	if (recover->trailer_found) {
		/* Its counters had come to rest before it was written. */
		ledger->accepted = known;
	} else {
		if (ledger->accepted < books->accepted)
			ledger->accepted = books->accepted;
		ledger->unknown = ledger->accepted - known;
		ledger->unknown_max = later_max(recover);
		if (ledger->unknown_max != LEDGER_UNBOUNDED)
			ledger->unknown_max += ledger->unknown;
	}
	ledger->filtered = books->filtered;
	ledger->sampled_out = books->sampled_out;
	ledger->over_limit = books->over_limit;
	ledger->offered =
		ledger->filtered + ledger->sampled_out + ledger->over_limit + ledger->accepted;
}

/* What the packets themselves tell. Of what the port received nothing is known. */
static void trailer_make(struct recover *recover)
{
	struct merge_plan *plan = &recover->plan;
	struct pcapng_statistics statistics;
	size_t len;

	for (uint32_t i = 0; i < recover->n_interfaces && i < STORE_LANES_MAX; i++) {
		const uint64_t dropped =
			recover->counts[i].drops + recover->counts[i].gaps + recover->tail_gaps[i];

		statistics = (struct pcapng_statistics){
			.interface_id = i,
			.stamp_ns = recover->sum.last_ns,
			.start_ns = recover->sum.first_ns,
			.end_ns = recover->sum.last_ns,
			.received = PCAPNG_UNKNOWN,
			.if_dropped = PCAPNG_UNKNOWN,
			.filter_accepted = recover->counts[i].packets + dropped,
			.os_dropped = dropped,
			.delivered = recover->counts[i].packets,
			.tail_gap = recover->tail_gaps[i],
		};
		len = pcapng_statistics_put(plan->trailer + plan->trailer_len,
			sizeof(plan->trailer) - plan->trailer_len, &statistics);
		plan->trailer_len += len;
	}
}
