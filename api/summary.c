/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/summary.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/job.h"
#include "control/memory.h"
#include "control/store.h"
#include "api/pcap.h"

#define PIECE_SIZE  (256 * 1024)
#define FILE_HEAD   24 /* of a classic pcap, which the converter makes of the file */
#define RECORD_HEAD 16
#define NS_PER_S    1000000000ULL

/* While the job is posted all but packet, done and arg are the worker's. */
struct summary {
	struct job job;
	struct session_part part; /* path "": there is no file */
	int fd;
	uint64_t offset_bytes;
	unsigned n, n_max;
	bool head_seen;
	bool finished;
	struct pcap_converter *converter;
	struct pcap_out records;
	json_t *packets;
	summary_packet *packet;
	summary_done *done;
	void *arg;
};

static void piece_work(struct job *job);
static void piece_done(struct job *job);
static void records_take(struct summary *summary);

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
	summary->converter = pcap_converter_new(PCAP_NANOSECONDS);
	summary->packet = packet;
	summary->done = done;
	summary->arg = arg;
	job_post(WORKER_READ, &summary->job);
}

/* Read and decode the next piece of the file. */
static void piece_work(struct job *job)
{
	struct summary *summary = (struct summary *)job;
	uint8_t *piece = malloc(PIECE_SIZE);
	ssize_t len = -1;

	if (summary->fd < 0 && summary->part.path[0] != '\0')
		summary->fd = store_part_open(summary->part.path);
	if (piece != NULL && summary->fd >= 0)
		len = pread(summary->fd, piece, PIECE_SIZE, (off_t)summary->offset_bytes);
	if (len > 0 && summary->converter != NULL &&
		pcap_convert(summary->converter, piece, len, &summary->records) == 0)
		summary->offset_bytes += len;
	else
		summary->finished = true;
	records_take(summary);
	free(piece);
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
	pcap_converter_free(summary->converter);
	free(summary->records.data);
	summary->done(summary->packets, summary->arg);
	free(summary);
}

/* The records of this piece; the converter gives out whole ones only. */
static void records_take(struct summary *summary)
{
	const uint8_t *at = summary->records.data;
	const uint8_t *end = at + summary->records.len;

	if (summary->records.len == 0)
		return;
	if (!summary->head_seen)
		at += FILE_HEAD;
	summary->head_seen = true;
	while (at < end && summary->n < summary->n_max) {
		uint32_t head[RECORD_HEAD / sizeof(uint32_t)]; /* seconds, ns, captured, original */
		struct packet_summary packet;

		memcpy(head, at, sizeof(head));
		packet_summarize(
			&(struct packet_frame){
				.number = ++summary->n,
				.time_ns = head[0] * NS_PER_S + head[1],
				.data = at + RECORD_HEAD,
				.cap_len = head[2],
				.orig_len = head[3],
			},
			&packet);
		json_array_append_new(summary->packets, summary->packet(&packet));
		at += RECORD_HEAD + head[2];
	}
	summary->records.len = 0;
	if (summary->n == summary->n_max)
		summary->finished = true;
}
