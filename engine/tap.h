/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A tap is the engine's view of one capture session: what to keep, and the lanes that carry it to
 * its sink. Made, added, ended and freed by the control thread; while published it is immutable but
 * for counters, the limit's remainders, the reason of its end, and what engine_tap_change sets.
 *
 * Life, control side:                            engine side:
 *   tap_new
 *   tap_lane_sink for every lane
 *   engine_tap_add, engine_commit                lanes take packets
 *   (a limit, a deadline, a sink error           tap_end_reason becomes non-zero, event fd fires
 *    may raise the end at any time)
 *   engine_tap_end, engine_commit                each lane hands over its last block with END
 *                                                writers settle it; tap_drained, event fd fires
 *   engine_tap_remove, engine_commit
 *   grace period: engine_commit's callback
 *   tap_free
 */
#ifndef ENGINE_TAP_H
#define ENGINE_TAP_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "config/err.h"
#include "engine/filter.h"
#include "engine/ledger.h"
#include "engine/sink_stream.h"

/* Why a session ended: one list for the enum and the JSON names. */
#define END_REASONS(X)  \
	X(none)         \
	X(stopped)      \
	X(packet_limit) \
	X(byte_limit)   \
	X(time_limit)   \
	X(file_limit)   \
	X(shutdown)     \
	X(disk_full)    \
	X(io_error)     \
	X(port_lost)    \
	X(recovered)

enum end_reason {
#define X(name) END_##name,
	END_REASONS(X)
#undef X
		END_COUNT,
};

enum sample_mode { SAMPLE_NONE, SAMPLE_EVERY, SAMPLE_RANDOM, SAMPLE_FLOW };
enum direction { DIRECTION_BOTH, DIRECTION_IN, DIRECTION_OUT };
enum sink_kind { SINK_FILE, SINK_NULL, SINK_STREAM };

#define TAP_SNAPLEN_MAX 262144

struct tap_spec {
	unsigned n_ports;
	uint8_t ports[CONFIG_PORTS_MAX]; /* engine port indexes; the position is the pcapng
					    interface id */
	struct filter *filter;           /* NULL = everything; tap_new takes its own reference */
	enum sample_mode sample_mode;
	uint32_t sample_n;
	uint64_t rate_pps;      /* of what is sampled, no more are kept; 0 = all */
	uint32_t snaplen_bytes; /* 1..TAP_SNAPLEN_MAX */
	enum direction direction;
	/* 0 = no limit */
	uint64_t limit_packets;
	uint64_t limit_bytes; /* sum of captured lengths */
	uint64_t
		limit_file_bytes; /* what is left for packet blocks: header and trailer taken off */
	uint64_t limit_ns;        /* counted on the monotonic clock from tap_start */
	enum sink_kind sink;
	bool waits; /* SINK_FILE: on a full disk it loses packets until there is space, and goes on */
	/* SINK_STREAM: of stream_open, the caller's, open until tap_free */
	int stream_fd;
	enum stream_encapsulation encapsulation;
};

/* Per interface (port position) of a tap: what the file's statistics say. */
struct tap_interface {
	uint64_t filter_accepted; /* packets that passed filter and direction */
	uint64_t dropped;         /* accepted and lost */
	uint64_t written;
	uint64_t tail_gap; /* of dropped: after the interface's last packet; valid once drained */
};

struct mirror;
struct tap;

/* Control thread. NULL with err (ENOSPC: more lanes than blocks allow, field
 * "engine.block_memory"). */
struct tap *tap_new(const struct tap_spec *spec, struct err *err);
/* Control thread, before engine_tap_add or after the grace period of engine_tap_remove. NULL is
 * fine. */
void tap_free(struct tap *tap);

unsigned tap_lanes(const struct tap *tap);
unsigned tap_interfaces(const struct tap *tap);

/*
 * Control thread, before engine_tap_add, for SINK_FILE: lane's file. Its first header_len bytes are
 * there already (durable); the lane goes on behind them. fd is opened O_DIRECT if direct (offset
 * and length of every write are then multiples of 4096 and the file's end is cut by storage at
 * close). header is the file's first header_len bytes; only its last unfinished page is kept. fd
 * stays the caller's and is open until tap_free.
 */
void tap_lane_sink(struct tap *tap, unsigned lane, int fd, bool direct, const void *header,
	uint64_t header_len);

/*
 * Control thread, for a tap that waits: the lane's file has space up to end_bytes and no further;
 * 0: nothing is known to stand in the way. What finds no place is dropped as no_space before it
 * is framed.
 */
void tap_lane_space(struct tap *tap, unsigned lane, uint64_t end_bytes);
/* Any thread: a lane's write waits for space. */
bool tap_space_missing(const struct tap *tap);

/* Control thread: where what the lane keeps can be watched; lives as long as the tap. */
struct mirror *tap_mirror(struct tap *tap, unsigned lane);

/* Any thread. END_none while nothing raised the end. */
enum end_reason tap_end_reason(const struct tap *tap);
/* errno of the first sink error, or 0. */
int tap_sink_error(const struct tap *tap);
/* Control thread. Raise the end (a user's stop, a timer, shutdown); the first reason stays. */
void tap_end_raise(struct tap *tap, enum end_reason reason);

/*
 * Control thread, while it is live: other limits than it began with, of packets in all and of time
 * since its start; 0 = none. -ENOTSUP: of packets, for a tap that began without a limit of packets
 * or bytes, and so never counted places.
 */
int tap_limits_set(struct tap *tap, uint64_t limit_packets, uint64_t limit_ns);

/* Control thread. What evaluates the filter, or did until the end: it depends on the other taps. */
enum filter_engine tap_filter_engine(const struct tap *tap);

/* Any thread. All lanes settled: nothing in flight, counters frozen, file length final. */
bool tap_drained(const struct tap *tap);

/* Any thread: sums over lanes, read downstream first so that written + dropped <= accepted <=
 * offered holds at any moment. durable and unknown are left 0. */
void tap_ledger(const struct tap *tap, struct ledger *ledger);
void tap_interface(const struct tap *tap, unsigned interface, struct tap_interface *out);

/*
 * Any thread. How far lane's file is good: bytes from its start up to the end of its last whole
 * packet, all of them written (contiguous); packets = packets in them. submitted = how far writes
 * were handed to the disk: space must be kept ahead of it.
 */
struct tap_lane_mark {
	uint64_t written_bytes; /* file offset of the end of the last whole written packet */
	uint64_t written_packets;
	uint64_t submitted_bytes;
};
void tap_lane_mark(const struct tap *tap, unsigned lane, struct tap_lane_mark *mark);

/*
 * Any thread. A place in lane's stream where a packet begins, as it was when a write up to there was
 * handed to the disk, and what is before it in the stream.
 */
struct tap_bound {
	uint64_t offset;
	uint64_t packets;
	uint64_t told; /* sum of their dropcounts */
};
#define TAP_BOUNDS_MAX 32
/* Those since *serial (0: all), oldest first, of which the last TAP_BOUNDS_MAX are still known; counts
 * *serial up. Returns how many. */
unsigned tap_lane_bounds(const struct tap *tap, unsigned lane, uint64_t *serial,
	struct tap_bound bounds[TAP_BOUNDS_MAX]);

/* Wall clock when engine_tap_add published it, and when its last lane ended (0 before). */
uint64_t tap_started_ns(const struct tap *tap);
uint64_t tap_ended_ns(const struct tap *tap);

const char *end_reason_name(enum end_reason reason);
const char *drop_name(enum drop drop);
const char *drop_help(enum drop drop);

#endif
