/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * config/network: networks as text. engine/sink_stream: packets out of blocks, over their borders, to a
 * socket; what is lost is counted by the block it ends in.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/network.h"
#include "engine/block.h"
#include "engine/clock.h"
#include "engine/pcapng.h"
#include "engine/sink.h"
#include "engine/sink_stream.h"

static void networks_are_read(void **state)
{
	static const char *const good[] = {
		"10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "2001:db8::1/64", "::1"};
	static const char *const bad[] = {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8",
		"::/129", "10.0.0.0/8x", "10.0.0.0/-1", "x", "10.0.0.0/0008", "fe80::1%eth0"};
	struct network network;

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(network_parse(good[i], &network));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (network_parse(bad[i], &network))
			fail_msg("%s", bad[i]);
}

static bool has(const char *outer, const char *inner)
{
	struct network a, b;

	assert_true(network_parse(outer, &a) && network_parse(inner, &b));
	return network_has(&a, &b);
}

static void networks_lie_in_each_other(void **state)
{
	assert_true(has("10.0.0.0/8", "10.255.0.1"));
	assert_true(has("10.0.0.0/8", "10.1.0.0/16"));
	assert_true(has("10.0.0.0/9", "10.127.255.255"));
	assert_false(has("10.0.0.0/9", "10.128.0.0"));
	assert_false(has("10.1.0.0/16", "10.0.0.0/8"));
	assert_true(has("0.0.0.0/0", "1.2.3.4"));
	assert_false(has("0.0.0.0/0", "::1"));
	assert_true(has("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(has("2001:db8::/33", "2001:db8:8000::1"));
}

#define N_PACKETS 700

/* The stream of a lane: packets of 1 to N_PACKETS bytes, each of its length's value. */
static uint8_t lane_bytes[N_PACKETS * (N_PACKETS / 2 + 48)];
static unsigned ends[N_PACKETS];

static size_t lane_make(void)
{
	size_t len = 0;

	for (unsigned i = 0; i < N_PACKETS; i++) {
		struct pcapng_epb_head head = {.type = PCAPNG_EPB,
			.total_len = pcapng_epb_len(i + 1, 0),
			.interface_id = i % 2,
			.cap_len = i + 1,
			.orig_len = i + 1};

		memcpy(lane_bytes + len, &head, sizeof(head));
		memset(lane_bytes + len + sizeof(head), (int)i, i + 1);
		len += head.total_len;
		memcpy(lane_bytes + len - 4, &head.total_len, 4);
		ends[i] = len;
	}
	return len;
}

/* Cut as a lane does it: whole blocks, the last one partial. */
static unsigned blocks_make(struct block *blocks, size_t len)
{
	unsigned n = 0, packet = 0;

	for (size_t at = 0; at < len; at += BLOCK_SIZE, n++) {
		const size_t piece = len - at < BLOCK_SIZE ? len - at : BLOCK_SIZE;

		blocks[n] = (struct block){.data = lane_bytes + at,
			.offset = at,
			.len = BLOCK_SIZE,
			.partial = piece < BLOCK_SIZE,
			.whole_end = at + piece};
		for (; packet < N_PACKETS && ends[packet] <= at + piece; packet++)
			blocks[n].packets[packet % 2]++;
		if (n > 0)
			blocks[n - 1].next = &blocks[n];
	}
	return n;
}

static int receiver_open(struct sockaddr_storage *to)
{
	struct sockaddr_in *address = (struct sockaddr_in *)to;
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 8 << 20;

	memset(to, 0, sizeof(*to));
	address->sin_family = AF_INET;
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
	return fd;
}

/* Send the lane; returns how many arrived, and checks each. lost: what the blocks say. */
static unsigned lane_send(uint64_t rate_pps, enum stream_encapsulation encapsulation,
	size_t head_len, uint64_t *lost, bool listening)
{
	struct block blocks[8] = {0};
	struct sink_write write = {.blocks = blocks};
	struct sockaddr_storage to;
	char filter[STREAM_FILTER_MAX];
	int receiver = receiver_open(&to), fd;
	struct stream *stream;
	uint8_t data[2048];
	unsigned n = 0, n_blocks, last = 0;
	struct err err;

	n_blocks = blocks_make(blocks, lane_make());
	assert_true(n_blocks > 2);
	sink_stream_rate_set(rate_pps);
	fd = sink_stream_open(&to, 61799, filter, &err);
	assert_true(fd >= 0);
	assert_non_null(strstr(filter, "61799"));
	stream = sink_stream_new(fd, encapsulation);
	if (!listening)
		close(receiver);
	sink_stream_send(stream, &write);
	while (listening) {
		ssize_t len = recv(receiver, data, sizeof(data), MSG_DONTWAIT);

		if (len < 0)
			break;
		len -= (ssize_t)head_len;
		assert_true(len > (ssize_t)last);
		last = len;
		for (ssize_t i = 0; i < len; i++)
			assert_int_equal(data[head_len + i], (uint8_t)(len - 1));
		n++;
	}
	*lost = 0;
	for (unsigned i = 0; i < n_blocks; i++) {
		assert_in_range(blocks[i].unsent[0], 0, blocks[i].packets[0]);
		assert_in_range(blocks[i].unsent[1], 0, blocks[i].packets[1]);
		*lost += blocks[i].unsent[0] + blocks[i].unsent[1];
	}
	sink_stream_free(stream);
	close(fd);
	if (listening)
		close(receiver);
	return n;
}

static void packets_leave_one_by_one(void **state)
{
	uint64_t lost;

	assert_int_equal(lane_send(1000000000, STREAM_gre, 4, &lost, true), N_PACKETS);
	assert_int_equal(lost, 0);
	assert_int_equal(lane_send(1000000000, STREAM_tzsp, 5, &lost, true), N_PACKETS);
	assert_int_equal(lost, 0);
}

static void the_rate_is_counted(void **state)
{
	uint64_t lost;
	unsigned n = lane_send(1000, STREAM_gre, 4, &lost, true);

	assert_in_range(n, 100, 300);
	assert_int_equal(n + lost, N_PACKETS);
}

static void nobody_there_is_counted(void **state)
{
	uint64_t lost;

	lane_send(1000000000, STREAM_gre, 4, &lost, false);
	assert_in_range(lost, N_PACKETS - 64, N_PACKETS - 1);
}

static int start(void **state)
{
	return clock_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(networks_are_read),
		cmocka_unit_test(networks_lie_in_each_other),
		cmocka_unit_test(packets_leave_one_by_one),
		cmocka_unit_test(the_rate_is_counted),
		cmocka_unit_test(nobody_there_is_counted),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
