/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Why an accepted packet is not in the file: one list feeds the enum, the JSON names, the metrics,
 * the client and the file's statistics.
 */
#ifndef ENGINE_DROP_H
#define ENGINE_DROP_H

/* Their order is on disk, in UUID.open/state: a new one goes behind the last.
 *    name                 what happened */
#define DROP_REASONS(X)                                                                            \
	X(no_block, "no free block: the writer or the disk is slower than the traffic")            \
	X(oversize, "the frame could not be handed over whole: cut by its source, or longer than " \
		    "a datagram")                                                                  \
	X(encode_error, "the packet could not be framed")                                          \
	X(io_error, "the disk refused the data")                                                   \
	X(no_space, "the disk is full")                                                            \
	X(quota, "the storage quota is used up")                                                   \
	X(writer_stopped, "the writer ended before the data was written")                          \
	X(stream_backpressure, "the receiver of a stream is slower than the traffic")

enum drop {
#define X(name, help) DROP_##name,
	DROP_REASONS(X)
#undef X
		DROP_COUNT,
};

#endif
