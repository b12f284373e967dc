/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Packets to a receiver in the network instead of a file: each leaves as one UDP datagram behind an
 * encapsulation's header. The writer takes the lane's stream of pcapng blocks apart again and sends
 * what is in it; it never waits. What the receiver, the rate or the socket does not take is counted
 * by the block it ends in, as stream_backpressure, and the rest goes on.
 *
 * All streams leave from one UDP port, so that a stream's filter can know them: what we sent must not
 * be captured and sent again.
 */
#ifndef ENGINE_SINK_STREAM_H
#define ENGINE_SINK_STREAM_H

#include <stdint.h>
#include <sys/socket.h>

#include "config/err.h"

struct sink_write;

#define STREAM_ENCAPSULATIONS(X)                              \
	X(gre, 4754, "GRE in UDP, RFC 8086, Ethernet inside") \
	X(tzsp, 37008, "TaZmen Sniffer Protocol, Ethernet inside")

enum stream_encapsulation {
#define X(name, port, help) STREAM_##name,
	STREAM_ENCAPSULATIONS(X)
#undef X
		STREAM_ENCAPSULATION_COUNT,
};

const char *sink_stream_encapsulation_name(enum stream_encapsulation encapsulation);
uint16_t sink_stream_encapsulation_port(enum stream_encapsulation encapsulation);

/* Main thread, before the engine starts: packets a second that all streams together may send. */
void sink_stream_rate_set(uint64_t pps);

#define STREAM_FILTER_MAX 1024

/*
 * Control thread. A socket from source_port to the receiver, and the pcap expression of all packets that
 * are not our own streams'. Nothing is sent. The descriptor, or -errno with err (field output.address or
 * "stream.source_port").
 */
int sink_stream_open(const struct sockaddr_storage *to, uint16_t source_port,
	char filter[STREAM_FILTER_MAX], struct err *err);

/* A lane's part: where it is in its stream. Control thread makes and frees it, the writer uses it. */
struct stream;
struct stream *sink_stream_new(int fd, enum stream_encapsulation encapsulation);
void sink_stream_free(struct stream *stream);

/* Writer thread: send the packets that end in the write's blocks. */
void sink_stream_send(struct stream *stream, struct sink_write *write);

#endif
