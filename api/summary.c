/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/summary.h"

#include <stdlib.h>
#include <unistd.h>

#include "control/job.h"
#include "control/memory.h"
#include "control/scan.h"
#include "control/store.h"

#define PIECE_PACKETS 500

/* While the job is posted all but done and arg are the worker's. */
struct summary {
	struct job job;
	struct session_part part; /* path "": there is no file */
	int fd;
	uint64_t offset; /* where the next piece begins */
	uint32_t n_interfaces;
	unsigned n, n_max;
	bool finished;
	json_t *packets;
	summary_packet *packet;
	summary_done *done;
	void *arg;
};

static void piece_work(struct job *job);
static unsigned piece_read(struct summary *summary, struct scan *scan);
static bool packet_add(struct summary *summary, const struct scan_block *block);
static void piece_done(struct job *job);

void summary_read(const struct session *session, unsigned n_max, summary_packet *packet,
	summary_done *done, void *arg)
{
	struct summary *summary = memory_get(sizeof(*summary));
	struct session_info info;

	session_info(session, &info);
	if (!session_state_whole(info.state) || session_parts(session, &summary->part, 1) == 0)
		summary->part.path[0] = '\0';
	summary->job = (struct job){.run = piece_work, .done = piece_done};
	summary->fd = -1;
	summary->n_max = n_max;
	summary->packets = json_array();
	summary->packet = packet;
	summary->done = done;
	summary->arg = arg;
	job_post(WORKER_READ, &summary->job);
}

/* Read and decode the next piece of the file. */
static void piece_work(struct job *job)
{
	struct summary *summary = (struct summary *)job;
	struct scan scan;

	summary->finished = true;
	if (summary->fd < 0 && summary->part.path[0] != '\0')
		summary->fd = store_part_open(summary->part.path);
	if (summary->fd < 0 || scan_open(&scan, summary->fd, summary->offset,
				       summary->part.size_bytes, SCAN_WINDOW_MIN) < 0)
		return;
	scan.n_interfaces = summary->n_interfaces;
	summary->finished =
		piece_read(summary, &scan) < PIECE_PACKETS || summary->n == summary->n_max;
	summary->offset = scan.offset;
	summary->n_interfaces = scan.n_interfaces;
	scan_close(&scan);
}

/* How many packets it brought. */
static unsigned piece_read(struct summary *summary, struct scan *scan)
{
	struct scan_block block;
	unsigned n = 0;

	while (n < PIECE_PACKETS && summary->n < summary->n_max && scan_next(scan, &block) > 0) {
		if (block.type != PCAPNG_EPB)
			continue;
		if (!packet_add(summary, &block))
			break;
		n++;
	}
	return n;
}

static bool packet_add(struct summary *summary, const struct scan_block *block)
{
	struct packet_summary packet;
	struct packet_frame frame;
	struct scan_packet read;

	if (!scan_frame(block, summary->n + 1, &read, &frame))
		return false;
	packet_summarize(&frame, &packet);
	json_array_append_new(summary->packets, summary->packet(&packet));
	summary->n++;
	return true;
}

static void piece_done(struct job *job)
{
	struct summary *summary = (struct summary *)job;

	if (!summary->finished) {
		job_post(WORKER_READ, job);
		return;
	}
	if (summary->fd >= 0)
		close(summary->fd);
	summary->done(summary->packets, summary->arg);
	free(summary);
}
