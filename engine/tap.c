/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Taps: made and freed on the control thread; their sums are for any thread.
 */
#include "engine/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "engine/clock.h"
#include "engine/counter.h"
#include "engine/engine.h"
#include "engine/event.h"
#include "engine/lane.h"
#include "engine/rx_set.h"
#include "engine/writer.h"

static unsigned slots_mark(const struct tap_spec *spec, bool *used);
static int lanes_make(struct tap *tap, const bool *slots);
static int lane_init(struct tap *tap, struct lane *lane, unsigned slot);
static void lane_feed(struct tap *tap, struct lane *lane);
static bool direction_known(const struct tap *tap, unsigned slot);

struct tap *tap_new(const struct tap_spec *spec, struct err *err)
{
	bool slots[RX_SLOTS_MAX] = {false};
	struct tap *tap;
	unsigned n_lanes;

	int rc = -ENOMEM;

	n_lanes = slots_mark(spec, slots);
	tap = aligned_alloc(64, (sizeof(*tap) + 63) & ~63UL);
	if (tap == NULL)
		goto fail;
	memset(tap, 0, sizeof(*tap));
	tap->spec = *spec;
	filter_get(tap->spec.filter);
	tap->n_lanes = n_lanes;
	tap->deadline_tsc = UINT64_MAX;
	sample_rate_init(&tap->rate, spec->rate_pps, clock_tsc_hz(), rte_rdtsc());
	limit_init(&tap->limit, spec->limit_packets, spec->limit_bytes, spec->limit_file_bytes);
	memset(tap->interface_of, -1, sizeof(tap->interface_of));
	for (unsigned i = 0; i < spec->n_ports; i++)
		tap->interface_of[spec->ports[i]] = i;
	tap_change(tap, spec->snaplen_bytes, spec->sample_mode, spec->sample_n);
	rc = lanes_make(tap, slots);
	if (rc == 0)
		return tap;
fail:
	tap_free(tap);
	if (rc == -EAGAIN)
		err_set(err, EAGAIN, "engine.block_memory",
			"%u lanes are live, and the block memory of %u blocks allows half as many; "
			"this capture needs %u more",
			rx_set_lanes(), block_count(), n_lanes);
	else
		err_set(err, ENOMEM, NULL, "no memory for a capture with %u lanes", n_lanes);
	return NULL;
}

void tap_free(struct tap *tap)
{
	if (tap == NULL)
		return;
	for (unsigned i = 0; tap->lanes != NULL && i < tap->n_lanes; i++) {
		free(tap->lanes[i].tail);
		mirror_fini(&tap->lanes[i].mirror);
		sink_stream_free(tap->lanes[i].stream);
		if (tap->lanes[i].home != NULL)
			block_lane_release(tap->lanes[i].home);
	}
	free(tap->lanes);
	free(tap->lane_of);
	filter_put(tap->spec.filter);
	free(tap);
}

unsigned tap_lanes(const struct tap *tap)
{
	return tap->n_lanes;
}

unsigned tap_interfaces(const struct tap *tap)
{
	return tap->spec.n_ports;
}

void tap_lane_sink(struct tap *tap, unsigned index, int fd, bool direct, const void *header,
	uint64_t header_len)
{
	struct lane *lane = &tap->lanes[index];
	const uint64_t whole = header_len & ~(uint64_t)(BLOCK_PAGE - 1);

	lane->file.fd = fd;
	lane->file.direct = direct;
	lane->next_offset = whole;
	lane->tail_len = header_len - whole;
	memcpy(lane->tail, (const uint8_t *)header + whole, lane->tail_len);
	lane->whole_end = header_len;
	lane->whole_written = header_len;
	lane->submitted_bytes = header_len;
	mirror_init(&lane->mirror, header_len);
}

void tap_lane_space(struct tap *tap, unsigned lane, uint64_t end_bytes)
{
	__atomic_store_n(&tap->lanes[lane].space_end, end_bytes, __ATOMIC_RELAXED);
}

bool tap_space_missing(const struct tap *tap)
{
	for (unsigned i = 0; i < tap->n_lanes; i++)
		if (__atomic_load_n(&tap->lanes[i].no_space, __ATOMIC_RELAXED))
			return true;
	return false;
}

struct mirror *tap_mirror(struct tap *tap, unsigned lane)
{
	return &tap->lanes[lane].mirror;
}

enum end_reason tap_end_reason(const struct tap *tap)
{
	return __atomic_load_n(&tap->end_reason, __ATOMIC_ACQUIRE);
}

int tap_sink_error(const struct tap *tap)
{
	return __atomic_load_n(&tap->sink_error, __ATOMIC_ACQUIRE);
}

void tap_end_raise(struct tap *tap, enum end_reason reason)
{
	tap_end_set(tap, reason);
}

int tap_limits_set(struct tap *tap, uint64_t limit_packets, uint64_t limit_ns)
{
	const int64_t was =
		tap->spec.limit_packets != 0 ? (int64_t)tap->spec.limit_packets : INT64_MAX;
	const int64_t is = limit_packets != 0 ? (int64_t)limit_packets : INT64_MAX;

	if (was != is && !tap->limit.on)
		return -ENOTSUP;
	tap->spec.limit_packets = limit_packets;
	tap->spec.limit_ns = limit_ns;
	if (was != is)
		limit_packets_add(&tap->limit, is - was);
	__atomic_store_n(&tap->deadline_tsc, tap_deadline(tap, limit_ns), __ATOMIC_RELAXED);
	return 0;
}

uint64_t tap_deadline(const struct tap *tap, uint64_t limit_ns)
{
	if (limit_ns == 0)
		return UINT64_MAX;
	return tap->start_tsc + (uint64_t)((double)limit_ns * clock_tsc_hz() / CLOCK_NS_PER_S);
}

void tap_end_set(struct tap *tap, enum end_reason reason)
{
	int none = END_none;

	if (__atomic_compare_exchange_n(
		    &tap->end_reason, &none, reason, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		event_raise();
}

/*
 * Lanes read each word once a burst, and any mixture of old and new is one that somebody might have
 * asked for; a mode never stands without its number, which is set first and means nothing without one.
 */
void tap_change(
	struct tap *tap, uint32_t snaplen_bytes, enum sample_mode sample_mode, uint32_t sample_n)
{
	for (unsigned i = 0; i < tap->spec.n_ports; i++)
		__atomic_store_n(&tap->snaplen_bytes[i],
			RTE_MIN(snaplen_bytes,
				engine_port(tap->spec.ports[i])->config->snaplen_bytes),
			__ATOMIC_RELAXED);
	__atomic_store_n(&tap->spec.sample_n, sample_n, __ATOMIC_RELAXED);
	__atomic_store_n(&tap->spec.sample_mode, sample_mode, __ATOMIC_RELEASE);
}

enum filter_engine tap_filter_engine(const struct tap *tap)
{
	return tap->classified ? FILTER_ENGINE_CLASSIFIER : filter_engine(tap->spec.filter);
}

bool tap_drained(const struct tap *tap)
{
	return __atomic_load_n(&tap->lanes_drained, __ATOMIC_ACQUIRE) == tap->n_lanes;
}

void tap_ledger(const struct tap *tap, struct ledger *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 0; i < tap->n_lanes; i++) {
		const struct lane *lane = &tap->lanes[i];
		/* Downstream first. */
		uint64_t settled = COUNTER_READ(lane->settled);

		sum->written += COUNTER_READ(lane->written);
		sum->written_bytes += COUNTER_READ(lane->written_bytes);
		for (unsigned r = 0; r < DROP_COUNT; r++)
			sum->dropped[r] += COUNTER_READ(lane->lost[r]);
		for (unsigned r = 0; r < DROP_COUNT; r++)
			sum->dropped[r] += COUNTER_READ(lane->dropped[r]);
		sum->in_flight += COUNTER_READ(lane->framed) - settled;
		sum->accepted += COUNTER_READ(lane->accepted);
		sum->over_limit += COUNTER_READ(lane->over_limit);
		sum->sampled_out += COUNTER_READ(lane->sampled_out);
		sum->filtered += COUNTER_READ(lane->filtered);
		sum->offered += COUNTER_READ(lane->offered);
		sum->stamps_raised += COUNTER_READ(lane->stamps_raised);
	}
}

void tap_interface(const struct tap *tap, unsigned interface, struct tap_interface *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < tap->n_lanes; i++) {
		const struct lane *lane = &tap->lanes[i];
		uint64_t lost = COUNTER_READ(lane->if_lost[interface]);

		out->written += COUNTER_READ(lane->if_written[interface]);
		out->filter_accepted += COUNTER_READ(lane->if_accepted[interface]);
		out->dropped += COUNTER_READ(lane->if_dropped[interface]) + lost;
		/* What the writer lost is behind the file's end, and so are the dropcounts in it.
		 */
		out->tail_gap += lane->pending[interface] + lost + lane->if_untold[interface];
	}
}

void tap_lane_mark(const struct tap *tap, unsigned index, struct tap_lane_mark *mark)
{
	const struct lane *lane = &tap->lanes[index];

	/* Bytes first: a packet counted here is inside them or was settled since. */
	mark->written_packets = COUNTER_READ(lane->written);
	mark->written_bytes = COUNTER_READ(lane->whole_written);
	mark->submitted_bytes = COUNTER_READ(lane->submitted_bytes);
}

/* The newest may be written just now: it stands where the oldest stood, which is left out. */
unsigned tap_lane_bounds(const struct tap *tap, unsigned index, uint64_t *serial,
	struct tap_bound bounds[TAP_BOUNDS_MAX])
{
	const struct lane *lane = &tap->lanes[index];
	const uint64_t end = __atomic_load_n(&lane->n_bounds, __ATOMIC_ACQUIRE);
	uint64_t at = *serial, first;
	unsigned n = 0;

	*serial = end;
	if (end - at >= TAP_BOUNDS_MAX)
		at = end - TAP_BOUNDS_MAX + 1;
	first = at;
	for (; at < end; at++, n++) {
		const struct tap_bound *bound = &lane->bounds[at % TAP_BOUNDS_MAX];

		bounds[n] = (struct tap_bound){
			.offset = COUNTER_READ(bound->offset),
			.packets = COUNTER_READ(bound->packets),
			.told = COUNTER_READ(bound->told),
		};
	}
	/* What the writer has reached meanwhile is a mixture. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	at = __atomic_load_n(&lane->n_bounds, __ATOMIC_RELAXED) + 1;
	if (at <= first + TAP_BOUNDS_MAX)
		return n;
	at -= first + TAP_BOUNDS_MAX;
	if (at >= n)
		return 0;
	memmove(bounds, bounds + at, (n - at) * sizeof(*bounds));
	return n - (unsigned)at;
}

uint64_t tap_started_ns(const struct tap *tap)
{
	return tap->start_ns;
}

uint64_t tap_ended_ns(const struct tap *tap)
{
	return COUNTER_READ(tap->ended_ns);
}

const char *end_reason_name(enum end_reason reason)
{
	static const char *const names[] = {
#define X(name) #name,
		END_REASONS(X)
#undef X
	};

	return names[reason];
}

const char *drop_name(enum drop drop)
{
	static const char *const names[] = {
#define X(name, help) #name,
		DROP_REASONS(X)
#undef X
	};

	return names[drop];
}

const char *drop_help(enum drop drop)
{
	static const char *const helps[] = {
#define X(name, help) help,
		DROP_REASONS(X)
#undef X
	};

	return helps[drop];
}

/* Which lane slots the tap's ports feed; returns how many. */
static unsigned slots_mark(const struct tap_spec *spec, bool *used)
{
	unsigned n = 0;

	for (unsigned i = 0; i < spec->n_ports; i++) {
		const struct port *port = engine_port(spec->ports[i]);

		for (unsigned q = 0; q < port->n_queues; q++) {
			bool *slot = &used[port->queues[q].lane_slot];

			n += !*slot;
			*slot = true;
		}
	}
	return n;
}

static int lanes_make(struct tap *tap, const bool *slots)
{
	unsigned n = 0;
	int rc = 0;

	tap->lane_of = calloc(RX_SLOTS_MAX, sizeof(*tap->lane_of));
	tap->lanes = aligned_alloc(64, tap->n_lanes * sizeof(*tap->lanes));
	if (tap->lanes != NULL)
		memset(tap->lanes, 0, tap->n_lanes * sizeof(*tap->lanes));
	if (tap->lane_of == NULL || tap->lanes == NULL)
		return -ENOMEM;
	for (unsigned slot = 0; rc == 0 && slot < RX_SLOTS_MAX; slot++) {
		if (!slots[slot])
			continue;
		tap->lane_of[slot] = &tap->lanes[n];
		rc = lane_init(tap, &tap->lanes[n++], slot);
	}
	return rc;
}

static int lane_init(struct tap *tap, struct lane *lane, unsigned slot)
{
	struct block_home *home = block_home(rx_set_slot_lcore(slot));

	if (!block_lane_reserve(home))
		return -EAGAIN;
	lane->home = home;
	lane->tap = tap;
	lane->slot = slot;
	lane->writer = writer_choose(tap->spec.sink == SINK_FILE);
	lane->direction_known = direction_known(tap, slot);
	lane_feed(tap, lane);
	lane->file.fd = -1;
	lane->queue_end = &lane->queue;
	lane->writes_end = &lane->writes;
	sample_init(&lane->sample, rte_rdtsc() + slot);
	lane->tail = aligned_alloc(64, BLOCK_PAGE);
	if (tap->spec.sink == SINK_STREAM) {
		lane->stream = sink_stream_new(tap->spec.stream_fd, tap->spec.encapsulation);
		if (lane->stream == NULL)
			return -ENOMEM;
	}
	return lane->tail != NULL ? 0 : -ENOMEM;
}

/* Where the packets are counted that the tap's ports bring for this lane. */
static void lane_feed(struct tap *tap, struct lane *lane)
{
	for (unsigned i = 0; i < tap->spec.n_ports; i++) {
		const struct port *port = engine_port(tap->spec.ports[i]);

		for (unsigned q = 0; q < port->n_queues; q++)
			if (port->queues[q].lane_slot == lane->slot)
				lane->matched[i] = port->queues[q].slot_matched;
	}
}

/* A slot has one port that tells the direction, or only ports that do not. */
static bool direction_known(const struct tap *tap, unsigned slot)
{
	for (unsigned i = 0; i < tap->spec.n_ports; i++) {
		const struct port *port = engine_port(tap->spec.ports[i]);

		for (unsigned q = 0; q < port->n_queues; q++)
			if (port->queues[q].lane_slot == slot)
				return port->direction == PORT_DIRECTION_EXACT;
	}
	return false;
}
