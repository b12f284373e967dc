/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/audit.h"
#include "control/ceiling.h"
#include "control/control.h"
#include "control/ownership.h"
#include "control/session.h"
#include "control/totals.h"
#include "control/upload.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "api/guard.h"
#include "api/server.h"
#include "api/tls.h"

#define NS_PER_S 1000000000ULL

/* A family whose members are 64-bit counters of one struct. */
struct counter_row {
	const char *name;
	const char *help;
	size_t offset;
};

static void build_put(FILE *out);
static void ports_put(FILE *out);
static void mbufs_put(FILE *out);
static void lcores_put(FILE *out, const struct engine_status *engine);
static void rx_put(FILE *out, const struct engine_status *engine);
static bool lcore_receives(const struct engine_lcore *lcore);
static void sinks_put(FILE *out, const struct engine_status *engine);
static void writers_put(FILE *out, const struct engine_status *engine);
static void blocks_put(FILE *out, const struct engine_status *engine);
static void storage_put(FILE *out, const struct control_status *control);
static void clock_put(FILE *out);
static void captures_put(FILE *out);
static void ledger_put(FILE *out);
static void recovered_put(FILE *out);
static void removed_put(FILE *out, const struct control_status *control);
static void bottleneck_put(FILE *out, const struct control_status *control);
static void watchdog_put(FILE *out, const struct control_status *control);
static void uploads_put(FILE *out);
static uint64_t since_ns(uint64_t then_ns);
static void ownership_put(FILE *out);
static void http_put(FILE *out);
static void connections_put(FILE *out);
static void tls_put(FILE *out);
static void head_put(FILE *out, const char *name, const char *type, const char *help);
static void value_put(
	FILE *out, const char *name, const char *type, const char *help, uint64_t value);
static void port_label(FILE *out, const char *name, const struct port *port);
static void lcore_label(FILE *out, const char *name, const struct engine_lcore *lcore);
static uint64_t queues_sum(const struct port *port, size_t offset);
static uint64_t counter(const void *base, size_t offset);

char *metrics_text(size_t *len)
{
	struct control_status control;
	struct engine_status engine;
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (out == NULL)
		return NULL;
	control_status(&control);
	engine_status(&engine);
	build_put(out);
	value_put(out, "sluice_uptime_seconds", "gauge", "Time since the daemon started.",
		control.uptime_ns / NS_PER_S);
	ports_put(out);
	lcores_put(out, &engine);
	rx_put(out, &engine);
	blocks_put(out, &engine);
	sinks_put(out, &engine);
	writers_put(out, &engine);
	storage_put(out, &control);
	clock_put(out);
	captures_put(out);
	ledger_put(out);
	removed_put(out, &control);
	bottleneck_put(out, &control);
	watchdog_put(out, &control);
	uploads_put(out);
	ownership_put(out);
	http_put(out);
	connections_put(out);
	tls_put(out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static void build_put(FILE *out)
{
	head_put(out, "sluice_build_info", "gauge", "The daemon's version, as a label.");
	fprintf(out, "sluice_build_info{version=\"%s\"} 1\n", SLUICE_VERSION);
}

static void ports_put(FILE *out)
{
	static const struct counter_row queue_rows[] = {
		{"sluice_port_received_packets_total", "Packets taken from the port.",
			offsetof(struct port_queue, polled)},
		{"sluice_port_matched_packets_total",
			"Packets taken while a capture of the port was open.",
			offsetof(struct port_queue, matched)},
		{"sluice_port_unmatched_packets_total",
			"Packets taken while no capture of the port was open.",
			offsetof(struct port_queue, unmatched)},
	};
	static const struct counter_row drop_rows[] = {
		{"missed", "", offsetof(struct port, nic_missed)},
		{"errors", "", offsetof(struct port, nic_errors)},
		{"nombuf", "", offsetof(struct port, nic_nombuf)},
	};

	head_put(out, "sluice_port_up", "gauge", "1 if the port has link.");
	for (unsigned i = 0; i < engine_ports(); i++) {
		const struct port *port = engine_port(i);

		port_label(out, "sluice_port_up", port);
		fprintf(out, "} %d\n", port->link_up && !port->gone);
	}
	head_put(out, "sluice_port_speed_bytes_per_second", "gauge",
		"Speed of the port's link; 0 where it is not known.");
	for (unsigned i = 0; i < engine_ports(); i++) {
		port_label(out, "sluice_port_speed_bytes_per_second", engine_port(i));
		fprintf(out, "} %" PRIu64 "\n", (uint64_t)engine_port(i)->speed_mbps * 125000);
	}
	head_put(out, "sluice_port_offered_packets_total", "counter",
		"Packets that reached the port, as its driver counts them.");
	for (unsigned i = 0; i < engine_ports(); i++) {
		port_label(out, "sluice_port_offered_packets_total", engine_port(i));
		fprintf(out, "} %" PRIu64 "\n",
			counter(engine_port(i), offsetof(struct port, offered)));
	}
	head_put(out, "sluice_port_received_bytes_total", "counter",
		"Bytes of what reached the port, as its driver counts them; 0 where it does not.");
	for (unsigned i = 0; i < engine_ports(); i++) {
		port_label(out, "sluice_port_received_bytes_total", engine_port(i));
		fprintf(out, "} %" PRIu64 "\n",
			counter(engine_port(i), offsetof(struct port, rx_bytes)));
	}
	for (unsigned r = 0; r < sizeof(queue_rows) / sizeof(queue_rows[0]); r++) {
		head_put(out, queue_rows[r].name, "counter", queue_rows[r].help);
		for (unsigned i = 0; i < engine_ports(); i++) {
			port_label(out, queue_rows[r].name, engine_port(i));
			fprintf(out, "} %" PRIu64 "\n",
				queues_sum(engine_port(i), queue_rows[r].offset));
		}
	}
	head_put(out, "sluice_port_dropped_packets_total", "counter",
		"Packets lost before the daemon could take them, by what the driver calls it.");
	for (unsigned i = 0; i < engine_ports(); i++) {
		for (unsigned r = 0; r < sizeof(drop_rows) / sizeof(drop_rows[0]); r++) {
			port_label(out, "sluice_port_dropped_packets_total", engine_port(i));
			fprintf(out, ",reason=\"%s\"} %" PRIu64 "\n", drop_rows[r].name,
				counter(engine_port(i), drop_rows[r].offset));
		}
	}
	mbufs_put(out);
}

static void mbufs_put(FILE *out)
{
	head_put(out, "sluice_port_mbufs", "gauge",
		"Packet buffers of a device port; used: by its driver, or by packets on their "
		"way.");
	for (unsigned i = 0; i < engine_ports(); i++) {
		const struct port *port = engine_port(i);
		const uint32_t all = __atomic_load_n(&port->mbufs, __ATOMIC_RELAXED);
		const uint32_t left = __atomic_load_n(&port->mbufs_free, __ATOMIC_RELAXED);

		port_label(out, "sluice_port_mbufs", port);
		fprintf(out, ",state=\"free\"} %u\n", left);
		port_label(out, "sluice_port_mbufs", port);
		fprintf(out, ",state=\"used\"} %u\n", all - left);
	}
}

static void lcores_put(FILE *out, const struct engine_status *engine)
{
	static const struct counter_row rows[] = {
		{"useful", "", offsetof(struct engine_lcore, cycles_useful)},
		{"idle", "", offsetof(struct engine_lcore, cycles_idle)},
	};

	head_put(out, "sluice_lcore_cycles_total", "counter",
		"TSC cycles of a core's loop: useful when packets or blocks moved, else idle.");
	for (unsigned i = 0; i < engine->n_lcores; i++) {
		const struct engine_lcore *lcore = &engine->lcores[i];

		for (unsigned r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
			lcore_label(out, "sluice_lcore_cycles_total", lcore);
			fprintf(out, ",state=\"%s\"} %" PRIu64 "\n", rows[r].name,
				counter(lcore, rows[r].offset));
		}
	}
	head_put(out, "sluice_lcore_rounds_total", "counter", "Rounds of a core's loop.");
	for (unsigned i = 0; i < engine->n_lcores; i++) {
		lcore_label(out, "sluice_lcore_rounds_total", &engine->lcores[i]);
		fprintf(out, "} %" PRIu64 "\n", engine->lcores[i].rounds);
	}
}

/* The receive rings are the NIC's, or the kernel's: how full they were shows in what a poll finds. */
static void rx_put(FILE *out, const struct engine_status *engine)
{
	head_put(out, "sluice_rx_polls_total", "counter",
		"Polls that brought packets; more: a whole burst, the ring held more.");
	for (unsigned i = 0; i < engine->n_lcores; i++) {
		const struct engine_lcore *lcore = &engine->lcores[i];

		if (!lcore_receives(lcore))
			continue;
		lcore_label(out, "sluice_rx_polls_total", lcore);
		fprintf(out, ",ring=\"more\"} %" PRIu64 "\n", lcore->polls_full);
		lcore_label(out, "sluice_rx_polls_total", lcore);
		fprintf(out, ",ring=\"emptied\"} %" PRIu64 "\n", lcore->polls - lcore->polls_full);
	}
	head_put(out, "sluice_rx_gaps_total", "counter",
		"Pauses of an RX loop of 100 microseconds and more, in which nothing was polled.");
	for (unsigned i = 0; i < engine->n_lcores; i++) {
		if (!lcore_receives(&engine->lcores[i]))
			continue;
		lcore_label(out, "sluice_rx_gaps_total", &engine->lcores[i]);
		fprintf(out, "} %" PRIu64 "\n", engine->lcores[i].gaps);
	}
	head_put(out, "sluice_rx_gap_longest_seconds", "gauge", "The longest of them.");
	for (unsigned i = 0; i < engine->n_lcores; i++) {
		if (!lcore_receives(&engine->lcores[i]))
			continue;
		lcore_label(out, "sluice_rx_gap_longest_seconds", &engine->lcores[i]);
		fprintf(out, "} %.6f\n", (double)engine->lcores[i].gap_longest_ns / NS_PER_S);
	}
}

static bool lcore_receives(const struct engine_lcore *lcore)
{
	return strcmp(lcore->role, "rx") == 0;
}

static void blocks_put(FILE *out, const struct engine_status *engine)
{
	value_put(out, "sluice_blocks", "gauge", "Blocks between RX and writers.", engine->blocks);
	value_put(out, "sluice_blocks_free", "gauge", "Blocks that hold nothing.",
		engine->blocks_free);
	value_put(out, "sluice_block_memory_bytes", "gauge", "Size of all blocks.",
		engine->blocks * engine->block_bytes);
	value_put(out, "sluice_blocks_missed_packets_total", "counter",
		"Packets that found no free block.", engine->blocks_missed);
}

static void sinks_put(FILE *out, const struct engine_status *engine)
{
	uint64_t in_flight = 0;

	for (unsigned i = 0; i < engine->n_lcores; i++)
		in_flight += engine->lcores[i].disk_in_flight;
	head_put(out, "sluice_sink_info", "gauge", "What files are written with, as a label.");
	fprintf(out, "sluice_sink_info{sink=\"%s\"} 1\n", engine_sink_name());
	value_put(out, "sluice_sink_writes_in_flight", "gauge",
		"Writes of all writers that the disk has not answered yet.", in_flight);
	value_put(out, "sluice_sink_writes_in_flight_max", "gauge", "How many these may become.",
		engine->disk_writes_max);
}

static void writers_put(FILE *out, const struct engine_status *engine)
{
	static const struct counter_row rows[] = {
		{"sluice_sink_written_bytes_total", "Bytes that the disk has taken.",
			offsetof(struct engine_lcore, disk_bytes)},
		{"sluice_sink_writes_total", "Writes that it has taken.",
			offsetof(struct engine_lcore, disk_writes)},
		{"sluice_sink_slow_writes_total", "Of them, those that took more than 200 ms.",
			offsetof(struct engine_lcore, disk_writes_slow)},
	};

	for (unsigned r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		head_put(out, rows[r].name, "counter", rows[r].help);
		for (unsigned i = 0; i < engine->n_lcores; i++) {
			if (lcore_receives(&engine->lcores[i]))
				continue;
			lcore_label(out, rows[r].name, &engine->lcores[i]);
			fprintf(out, "} %" PRIu64 "\n",
				counter(&engine->lcores[i], rows[r].offset));
		}
	}
	head_put(out, "sluice_sink_busy_seconds_total", "counter",
		"How long a write of this writer was in flight.");
	for (unsigned i = 0; i < engine->n_lcores; i++) {
		if (lcore_receives(&engine->lcores[i]))
			continue;
		lcore_label(out, "sluice_sink_busy_seconds_total", &engine->lcores[i]);
		fprintf(out, "} %.3f\n",
			(double)engine->lcores[i].disk_cycles / (double)clock_tsc_hz());
	}
}

static void storage_put(FILE *out, const struct control_status *control)
{
	value_put(out, "sluice_storage_size_bytes", "gauge", "Size of the storage's file system.",
		control->storage_size_bytes);
	value_put(out, "sluice_storage_used_bytes", "gauge", "What captures take of it.",
		control->storage_used_bytes);
	value_put(out, "sluice_storage_quota_bytes", "gauge", "What captures may take of it.",
		control->storage_quota_bytes);
	value_put(out, "sluice_storage_free_bytes", "gauge",
		"What is free of the file system, for anybody.", control->storage_free_bytes);
	value_put(out, "sluice_storage_spare_bytes", "gauge",
		"Of what captures take: space kept for later ones.", control->storage_spare_bytes);
	value_put(out, "sluice_storage_held", "gauge",
		"1 while the disk is full and captures wait for room (storage.on_full).",
		control->storage_held);
	value_put(out, "sluice_storage_ceiling_bytes_per_second", "gauge",
		"What the storage takes on new space, as measured; 0: not measured.",
		control->ceiling != NULL ? control->ceiling->fresh_bytes_per_s : 0);
	value_put(out, "sluice_storage_stalled", "gauge",
		"1 while the storage does not answer: nothing was done for 0.7 seconds.",
		control->storage_stalled_since_ns != 0);
	value_put(out, "sluice_storage_stalls_total", "counter",
		"How often the storage did not answer.", control->storage_stalls);
	head_put(out, "sluice_storage_stalled_seconds_total", "counter",
		"How long it did not, without what goes on.");
	fprintf(out, "sluice_storage_stalled_seconds_total %.3f\n",
		(double)control->storage_stalled_ns / NS_PER_S);
	value_put(out, "sluice_at_risk_packets", "gauge",
		"Packets accepted, not lost and not yet durable: a power cut would lose them.",
		control->at_risk_packets);
	value_put(
		out, "sluice_at_risk_bytes", "gauge", "The same in bytes.", control->at_risk_bytes);
	head_put(out, "sluice_at_risk_seconds", "gauge", "How long the oldest of them has been.");
	fprintf(out, "sluice_at_risk_seconds %.3f\n", (double)control->at_risk_ns / 1e9);
	value_put(out, "sluice_sync_failures_total", "counter",
		"Captures that ended because the disk did not confirm what was written.",
		control->sync_failures);
}

static void clock_put(FILE *out)
{
	struct clock_steps steps;

	clock_steps(&steps);
	value_put(out, "sluice_clock_steps_total", "counter",
		"How often the wall clock was set to another time.", steps.n);
	head_put(out, "sluice_clock_ahead_seconds", "gauge",
		"How far packet times are ahead of the wall clock, since it was set back.");
	fprintf(out, "sluice_clock_ahead_seconds %.6f\n", (double)clock_ahead_ns() / 1e9);
}

static void captures_put(FILE *out)
{
	uint64_t n[SESSION_STATE_COUNT] = {0};

	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s)) {
		struct session_info info;

		session_info(s, &info);
		n[info.state]++;
	}
	head_put(out, "sluice_captures", "gauge", "Captures by state.");
	for (unsigned i = 0; i < SESSION_STATE_COUNT; i++)
		fprintf(out, "sluice_captures{state=\"%s\"} %" PRIu64 "\n", session_state_name(i),
			n[i]);
}

static void ledger_put(FILE *out)
{
	static const struct counter_row rows[] = {
		{"sluice_capture_offered_packets_total", "Packets offered to captures.",
			offsetof(struct ledger, offered)},
		{"sluice_capture_filtered_packets_total",
			"Packets that filter or direction kept out.",
			offsetof(struct ledger, filtered)},
		{"sluice_capture_sampled_out_packets_total", "Packets that sampling left out.",
			offsetof(struct ledger, sampled_out)},
		{"sluice_capture_over_limit_packets_total",
			"Packets beyond the limit that ended their capture.",
			offsetof(struct ledger, over_limit)},
		{"sluice_capture_accepted_packets_total", "Packets that were to be kept.",
			offsetof(struct ledger, accepted)},
		{"sluice_capture_written_packets_total", "Packets that were written.",
			offsetof(struct ledger, written)},
		{"sluice_capture_written_bytes_total", "Captured bytes of these.",
			offsetof(struct ledger, written_bytes)},
		{"sluice_capture_durable_packets_total",
			"Packets that a power cut cannot take any more.",
			offsetof(struct ledger, durable)},
		{"sluice_capture_stamps_raised_total",
			"Time stamps that went backwards and were raised.",
			offsetof(struct ledger, stamps_raised)},
	};
	struct ledger sum;

	totals_read(&sum);
	for (unsigned r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
		value_put(
			out, rows[r].name, "counter", rows[r].help, counter(&sum, rows[r].offset));
	head_put(out, "sluice_capture_dropped_packets_total", "counter",
		"Packets that were to be kept and were lost, by reason.");
	for (unsigned i = 0; i < DROP_COUNT; i++)
		fprintf(out, "sluice_capture_dropped_packets_total{reason=\"%s\"} %" PRIu64 "\n",
			drop_name(i), sum.dropped[i]);
	value_put(out, "sluice_capture_in_flight_packets", "gauge", "Packets between RX and disk.",
		sum.in_flight);
	recovered_put(out);
}

static void recovered_put(FILE *out)
{
	static const struct counter_row rows[] = {
		{"sluice_recovered_captures_total",
			"Captures of an earlier process that died, recovered by this one.",
			offsetof(struct totals_recovered, captures)},
		{"sluice_recovered_packets_total", "Packets in them.",
			offsetof(struct totals_recovered, packets)},
		{"sluice_recovered_rescued_packets_total", "Of these, behind a gap.",
			offsetof(struct totals_recovered, rescued)},
		{"sluice_recovered_gaps_total", "Places in their files where packets are missing.",
			offsetof(struct totals_recovered, gaps)},
		{"sluice_recovered_lost_packets_total", "Packets that were lost there.",
			offsetof(struct totals_recovered, gap_packets)},
		{"sluice_recovered_unknown_packets_total",
			"Packets that were accepted and whose fate is not known, at least.",
			offsetof(struct totals_recovered, unknown)},
	};
	struct totals_recovered sum;

	totals_recovered_read(&sum);
	for (unsigned r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
		value_put(
			out, rows[r].name, "counter", rows[r].help, counter(&sum, rows[r].offset));
}

static void removed_put(FILE *out, const struct control_status *control)
{
	static const char *const names[] = {
#define X(name) #name,
		TOTALS_REASONS(X)
#undef X
	};
	struct totals_removed sum;

	totals_removed_read(&sum);
	head_put(out, "sluice_retention_deleted_total", "counter",
		"Captures whose files retention removed.");
	for (unsigned i = 0; i < REMOVED_COUNT; i++)
		fprintf(out, "sluice_retention_deleted_total{reason=\"%s\"} %" PRIu64 "\n",
			names[i], sum.by[i].captures);
	head_put(out, "sluice_retention_deleted_bytes_total", "counter",
		"What these took of the storage.");
	for (unsigned i = 0; i < REMOVED_COUNT; i++)
		fprintf(out, "sluice_retention_deleted_bytes_total{reason=\"%s\"} %" PRIu64 "\n",
			names[i], sum.by[i].bytes);
	value_put(out, "sluice_retention_paused", "gauge",
		"1 while storage.keep removes nothing, since the clock may be wrong.",
		control->retention_paused);
	value_put(out, "sluice_retention_lost_captures_total", "counter",
		"Of these captures, those whose upload was given up: they are lost.",
		sum.lost_captures);
	value_put(out, "sluice_retention_lost_packets_total", "counter", "Packets in them.",
		sum.lost_packets);
}

static void bottleneck_put(FILE *out, const struct control_status *control)
{
	static const char *const names[] = {"nic", "rx_core", "blocks", "disk"};

	head_put(out, "sluice_bottleneck", "gauge",
		"1 for the resource that packets were lost for in the last seconds.");
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		fprintf(out, "sluice_bottleneck{resource=\"%s\"} %d\n", names[i],
			control->bottleneck != NULL && strcmp(control->bottleneck, names[i]) == 0);
}

static void watchdog_put(FILE *out, const struct control_status *control)
{
	value_put(out, "sluice_watchdog_fed_total", "counter",
		"How often systemd was told that every core moves.", control->watchdog_fed);
	value_put(out, "sluice_watchdog_held_total", "counter",
		"How often it was not told so, because a core did not move.",
		control->watchdog_held);
}

static void uploads_put(FILE *out)
{
	static const char *const outcomes[] = {
		[S3_RETRY] = "retry",
		[S3_CREDENTIALS] = "credentials",
		[S3_REFUSED] = "refused",
		[S3_EXISTS] = "exists",
	};
	uint64_t pending[UPLOAD_STATE_COUNT] = {0}, pending_bytes = 0, oldest_ns = 0;
	struct upload_counts counts;

	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s)) {
		struct session_info info;

		session_info(s, &info);
		pending[info.upload.state]++;
		if (info.upload.state != UPLOAD_waiting && info.upload.state != UPLOAD_sending)
			continue;
		pending_bytes += info.upload.total_bytes - info.upload.bytes;
		if (since_ns(info.ended_ns) > oldest_ns)
			oldest_ns = since_ns(info.ended_ns);
	}
	upload_counts(&counts);
	head_put(out, "sluice_uploads", "gauge", "Captures for buckets, by state of their object.");
	for (unsigned i = UPLOAD_none + 1; i < UPLOAD_STATE_COUNT; i++)
		fprintf(out, "sluice_uploads{state=\"%s\"} %" PRIu64 "\n",
			session_upload_state_name(i), pending[i]);
	value_put(out, "sluice_upload_pending_bytes", "gauge",
		"Bytes of files that are still to be uploaded.", pending_bytes);
	head_put(out, "sluice_upload_oldest_seconds", "gauge",
		"How long ago the capture ended that has waited longest for its upload.");
	fprintf(out, "sluice_upload_oldest_seconds %.3f\n", (double)oldest_ns / NS_PER_S);
	value_put(out, "sluice_upload_sent_bytes_total", "counter",
		"Bytes sent to buckets, those that had to be sent again included.",
		counts.sent_bytes);
	value_put(out, "sluice_upload_parts_total", "counter",
		"Parts, or files in one piece, that a bucket took.", counts.parts);
	value_put(out, "sluice_upload_verified_total", "counter",
		"Objects that were verified to be just their files.", counts.verified);
	value_put(out, "sluice_upload_retries_total", "counter",
		"Attempts to upload a file after a first one failed.", counts.retries);
	head_put(out, "sluice_upload_failures_total", "counter",
		"Attempts that failed: retry: not reached, overloaded or broken off.");
	for (unsigned i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
		if (outcomes[i] != NULL)
			fprintf(out, "sluice_upload_failures_total{reason=\"%s\"} %" PRIu64 "\n",
				outcomes[i], counts.failures[i]);
	value_put(out, "sluice_upload_debts", "gauge",
		"Deleted captures whose objects are still to be removed.", session_upload_debts());
}

/* 0 where it was not yet, or the wall clock has been set back since. */
static uint64_t since_ns(uint64_t then_ns)
{
	const uint64_t now_ns = clock_wall_ns();

	return then_ns != 0 && now_ns > then_ns ? now_ns - then_ns : 0;
}

static void ownership_put(FILE *out)
{
	struct ownership_counts counts;

	ownership_count(&counts);
	head_put(out, "sluice_bucket_ownership", "gauge",
		"Places in buckets that accounts have claimed, by what was proved.");
	for (unsigned i = 0; i < OWNERSHIP_STATUS_COUNT; i++)
		fprintf(out, "sluice_bucket_ownership{status=\"%s\"} %u\n",
			ownership_status_name(i), counts.entries[i]);
	value_put(out, "sluice_bucket_ownership_broken", "gauge",
		"1: what is known of them cannot be read, and no bucket can be used by account.",
		counts.broken);
	head_put(out, "sluice_bucket_validations_total", "counter",
		"Attempts to prove one: right, wrong, or failed because of the bucket or the "
		"disk.");
	fprintf(out,
		"sluice_bucket_validations_total{result=\"right\"} %" PRIu64 "\n"
		"sluice_bucket_validations_total{result=\"wrong\"} %" PRIu64 "\n"
		"sluice_bucket_validations_total{result=\"failed\"} %" PRIu64 "\n",
		counts.validations_right, counts.validations_wrong, counts.validations_failed);
}

static void http_put(FILE *out)
{
	struct server_status server;
	struct guard_status guard;
	struct audit_status audit;

	server_status(&server);
	guard_status(&guard);
	value_put(out, "sluice_http_connections", "gauge", "Open connections to the API.",
		server.connections);
	value_put(out, "sluice_http_websockets", "gauge",
		"Open WebSockets, which are not among these.", server.sockets);
	head_put(out, "sluice_http_answers_total", "counter",
		"Answers of the API by class of status.");
	for (unsigned i = 1; i < sizeof(server.answers) / sizeof(server.answers[0]); i++)
		fprintf(out, "sluice_http_answers_total{status=\"%uxx\"} %" PRIu64 "\n", i,
			server.answers[i]);
	value_put(out, "sluice_http_wrong_credentials_total", "counter",
		"Requests whose credentials were no valid token's.", guard.wrong);
	value_put(out, "sluice_http_limited_credentials_total", "counter",
		"Of them, those answered 429 because too many had come.", guard.limited);
	audit_status(&audit);
	value_put(out, "sluice_audit_lines_total", "counter", "Lines written to the audit log.",
		audit.lines);
	value_put(out, "sluice_audit_lost_lines_total", "counter",
		"Lines that could not be written to the audit log.", audit.lost);
}

static void connections_put(FILE *out)
{
	static const char *const ends[] = {
#define X(name) #name,
		SERVER_ENDS(X)
#undef X
	};
	struct server_status server;

	server_status(&server);
	value_put(out, "sluice_http_connections_accepted_total", "counter",
		"Connections to the API.", server.accepted);
	head_put(out, "sluice_http_connections_ended_total", "counter",
		"Connections that the API ended or turned away: full, evicted for a newcomer, late "
		"with a request, slow to take an answer, tls without a handshake.");
	for (unsigned i = 0; i < SERVER_END_COUNT; i++)
		fprintf(out, "sluice_http_connections_ended_total{why=\"%s\"} %" PRIu64 "\n",
			ends[i], server.ended[i]);
}

static void tls_put(FILE *out)
{
	struct server_status server;
	struct tls_status tls;

	if (!tls_enabled())
		return;
	server_status(&server);
	tls_status(&tls);
	value_put(out, "sluice_tls_handshakes_total", "counter", "TLS handshakes completed.",
		server.handshakes);
	head_put(out, "sluice_tls_reloads_total", "counter",
		"How often the TLS certificate was read again.");
	fprintf(out, "sluice_tls_reloads_total{result=\"done\"} %" PRIu64 "\n", tls.reloads);
	fprintf(out, "sluice_tls_reloads_total{result=\"failed\"} %" PRIu64 "\n",
		tls.reloads_failed);
	value_put(out, "sluice_tls_certificate_expiry_timestamp_seconds", "gauge",
		"When the TLS certificate ends.", tls.expires_s > 0 ? (uint64_t)tls.expires_s : 0);
}

static void head_put(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void value_put(
	FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
	head_put(out, name, type, help);
	fprintf(out, "%s %" PRIu64 "\n", name, value);
}

/* The labels stay open for more. A port's name needs no escapes: the configuration sees to that. */
static void port_label(FILE *out, const char *name, const struct port *port)
{
	fprintf(out, "%s{port=\"%s\"", name, port->config->name);
}

/* The labels stay open for more. */
static void lcore_label(FILE *out, const char *name, const struct engine_lcore *lcore)
{
	fprintf(out, "%s{role=\"%s\",lcore=\"%u\",cpu=\"%u\"", name, lcore->role, lcore->lcore,
		lcore->cpu);
}

static uint64_t queues_sum(const struct port *port, size_t offset)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < port->n_queues; i++)
		sum += counter(&port->queues[i], offset);
	return sum;
}

static uint64_t counter(const void *base, size_t offset)
{
	return __atomic_load_n((const uint64_t *)((const char *)base + offset), __ATOMIC_RELAXED);
}
