/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A kernel interface as a port, in a network namespace of the test's own: frames go in through a
 * raw socket or the host's own stack and must come out byte for byte, with their direction, tags
 * and true length; what was not polled must be in the kernel's count. Needs root and veth; skipped
 * without.
 */
#include "engine/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_mbuf.h>

#include "engine/clock.h"

#define LEN_MAX (600 * 1024)

/* What came out of a port, kept for looking at it. */
struct seen {
	uint32_t len;
	uint32_t wire_len;
	uint64_t stamp_ns;
	unsigned segments;
	bool outbound;
	uint8_t *data;
};

struct capture {
	struct port port;
	struct config_port config;
	unsigned n;
	struct seen seen[4096];
};

static bool run(const char *command)
{
	return system(command) == 0;
}

/* Why the tests cannot run here; NULL: they can, and the process is in a namespace of its own. */
static const char *namespace_enter(void)
{
	if (geteuid() != 0)
		return "needs root";
	if (unshare(CLONE_NEWNET) != 0)
		return "no network namespaces";
	if (!run("ip link add ports0 type veth peer name ports1 2>/dev/null"))
		return "no ip(8) or no veth";
	return NULL;
}

static int group_setup(void **state)
{
	/* No IPv6, or the kernel mixes packets of its own with ours. */
	run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 "
	    "2>/dev/null");
	if (!run("ip link set lo mtu 65536 up && ip link set ports0 mtu 9000 up arp off && "
		 "ip link set ports1 mtu 9000 up arp off"))
		return -1;
	/* Packets pass some time after the carrier came. */
	for (unsigned i = 0; i < 300 && !run("test $(ip -o link | grep -c 'ports.*state UP') = 2");
		i++)
		usleep(10000);
	return clock_init();
}

static struct capture *capture_open(const char *interface, unsigned rx_queues)
{
	struct capture *capture = test_calloc(1, sizeof(*capture));
	struct err err = {0};

	capture->config.rx_queues = rx_queues;
	capture->config.snaplen_bytes = 262144;
	snprintf(capture->config.name, sizeof(capture->config.name), "tap0");
	snprintf(capture->config.interface, sizeof(capture->config.interface), "%s", interface);
	capture->port.ops = &port_afpacket_ops;
	capture->port.config = &capture->config;
	if (capture->port.ops->open(&capture->port, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
	return capture;
}

static void capture_start(struct capture *capture)
{
	struct err err = {0};

	if (capture->port.ops->start(&capture->port, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
}

static struct capture *capture_new(const char *interface, unsigned rx_queues)
{
	struct capture *capture = capture_open(interface, rx_queues);

	capture_start(capture);
	return capture;
}

static void capture_forget(struct capture *capture)
{
	for (unsigned i = 0; i < capture->n; i++)
		test_free(capture->seen[i].data);
	capture->n = 0;
}

static void capture_free(struct capture *capture)
{
	capture->port.ops->stop(&capture->port);
	capture->port.ops->close(&capture->port);
	assert_null(capture->port.priv);
	capture_forget(capture);
	test_free(capture);
}

static void keep(struct capture *capture, const struct burst *burst, unsigned i)
{
	struct rte_mbuf *pkt = burst->pkts[i];
	struct seen *seen = &capture->seen[capture->n++];
	const void *data;

	assert_true(capture->n <= RTE_DIM(capture->seen));
	seen->len = pkt->pkt_len;
	seen->wire_len = (burst->cut >> i & 1) ? burst->wire_len[i] : pkt->pkt_len;
	seen->stamp_ns = burst->stamp_ns[i];
	seen->segments = pkt->nb_segs;
	seen->outbound = burst->outbound >> i & 1;
	seen->data = test_malloc(pkt->pkt_len + 1);
	data = rte_pktmbuf_read(pkt, 0, pkt->pkt_len, seen->data);
	assert_non_null(data);
	if (data != seen->data)
		memcpy(seen->data, data, pkt->pkt_len);
}

/* Poll one queue as the RX loop does until it has been quiet for three retire times. */
static unsigned drain(struct capture *capture, unsigned index, unsigned max)
{
	struct port_queue *queue = &capture->port.queues[index];
	struct pollfd idle = {.fd = queue->wait_fd, .events = POLLIN};
	struct burst burst;
	unsigned total = 0, n;

	while (poll(&idle, 1, 50) > 0) {
		n = capture->port.ops->rx(queue, &burst, max);
		for (unsigned i = 0; i < n; i++)
			keep(capture, &burst, i);
		if (n > 0)
			capture->port.ops->release(queue, &burst);
		else if (idle.revents & POLLERR)
			break;
		total += n;
	}
	return total;
}

static void frame_make(uint8_t *data, uint32_t len, uint32_t seed)
{
	uint32_t x = seed * 2654435761U + 99;

	for (uint32_t b = 0; b < len; b++) {
		x = x * 1664525 + 1013904223;
		data[b] = x >> 24;
	}
	if (len >= 14) {
		memcpy(data, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb5", 14);
		if (len >= 18)
			memcpy(data + 14, &seed, sizeof(seed));
	}
}

static int raw_socket(const char *interface)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_ifindex = if_nametoindex(interface),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void send_frame(int fd, const void *data, size_t len)
{
	ssize_t sent;

	do
		sent = send(fd, data, len, 0);
	while (sent < 0 && errno == ENOBUFS);
	assert_int_equal(sent, len);
}

static void test_bytes_lengths_directions(void **state)
{
	static const uint32_t lens[] = {14, 15, 16, 17, 18, 20, 42, 59, 60, 61, 64, 128, 1500, 1514,
		1518, 2047, 2048, 2049, 4096, 9000, 9014};
	static uint8_t frame[16384];
	struct capture *in, *out;
	uint64_t before_ns, last_ns;
	int fd;

	in = capture_new("ports1", 1);
	out = capture_new("ports0", 1);
	assert_string_equal(in->port.driver, "af_packet");
	assert_int_equal(in->port.loss, PORT_LOSS_EXACT);
	assert_int_equal(in->port.direction, PORT_DIRECTION_EXACT);
	assert_true(in->port.own_clock && in->port.has_mac && in->port.link_up);
	assert_int_equal(in->port.mtu, 9000);
	assert_int_equal(in->port.speed_mbps, 10000);
	fd = raw_socket("ports0");
	before_ns = last_ns = clock_wall_ns();
	for (unsigned i = 0; i < RTE_DIM(lens); i++) {
		frame_make(frame, lens[i], i);
		send_frame(fd, frame, lens[i]);
	}
	assert_int_equal(drain(in, 0, 5), RTE_DIM(lens));
	assert_int_equal(drain(out, 0, PORT_BURST_MAX), RTE_DIM(lens));
	for (unsigned i = 0; i < RTE_DIM(lens); i++) {
		frame_make(frame, lens[i], i);
		assert_int_equal(in->seen[i].len, lens[i]);
		assert_int_equal(out->seen[i].len, lens[i]);
		assert_int_equal(in->seen[i].wire_len, lens[i]);
		assert_memory_equal(in->seen[i].data, frame, lens[i]);
		assert_memory_equal(out->seen[i].data, frame, lens[i]);
		assert_false(in->seen[i].outbound);
		assert_true(out->seen[i].outbound);
		assert_true(in->seen[i].stamp_ns >= last_ns);
		last_ns = in->seen[i].stamp_ns;
	}
	assert_true(last_ns > before_ns && last_ns <= clock_wall_ns());
	in->port.ops->refresh(&in->port);
	assert_int_equal(in->port.offered, RTE_DIM(lens));
	assert_int_equal(in->port.nic_missed, 0);
	close(fd);
	capture_free(in);
	capture_free(out);
}

static void test_tags_as_on_the_wire(void **state)
{
	static const struct {
		uint16_t words[4]; /* from byte 12 on */
	} tags[] = {
		{{0x8100, 0x0064, 0x0800, 0}},
		{{0x88a8, 0x0064, 0x0800, 0}},
		{{0x88a8, 0xe064, 0x8100, 0x0fff}},
		{{0x8100, 0x1001, 0x8100, 0x0002}},
		{{0x8100, 0x0000, 0x88b5, 0}},
		{{0x8100, 0xa000, 0x88b5, 0}},
		{{0x9100, 0x0005, 0x8100, 0x0006}},
	};
	static const uint32_t lens[] = {20, 60, 1518, 9014};
	const unsigned n_frames = RTE_DIM(tags) * RTE_DIM(lens);
	static uint8_t frames[RTE_DIM(tags) * RTE_DIM(lens)][9014];
	struct capture *in, *out;
	int fd;

	in = capture_new("ports1", 1);
	out = capture_new("ports0", 1);
	fd = raw_socket("ports0");
	for (unsigned i = 0; i < n_frames; i++) {
		uint32_t len = lens[i % RTE_DIM(lens)];

		frame_make(frames[i], len, i);
		for (unsigned w = 0; w < 4; w++) {
			uint16_t word = htons(tags[i / RTE_DIM(lens)].words[w]);

			memcpy(frames[i] + 12 + 2 * w, &word, sizeof(word));
		}
		send_frame(fd, frames[i], len);
	}
	/* What comes in has its outer tag taken off by the kernel and kept beside the frame; what
	 * goes out has it in the frame. */
	assert_int_equal(drain(in, 0, PORT_BURST_MAX), n_frames);
	assert_int_equal(drain(out, 0, PORT_BURST_MAX), n_frames);
	for (unsigned i = 0; i < n_frames; i++) {
		uint32_t len = lens[i % RTE_DIM(lens)];

		assert_int_equal(in->seen[i].len, len);
		assert_int_equal(in->seen[i].wire_len, len);
		assert_int_equal(out->seen[i].len, len);
		assert_memory_equal(in->seen[i].data, frames[i], len);
		assert_memory_equal(out->seen[i].data, frames[i], len);
	}
	close(fd);
	capture_free(in);
	capture_free(out);
}

/* Send datagram i of len bytes over loopback, from a port that is its own, to somebody who listens.
 */
static void send_loopback(uint32_t len, unsigned i)
{
	static uint8_t payload[65507];
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t size = sizeof(address);
	int from = socket(AF_INET, SOCK_DGRAM, 0);
	int to = socket(AF_INET, SOCK_DGRAM, 0);

	assert_int_equal(bind(to, (struct sockaddr *)&address, size), 0);
	assert_int_equal(getsockname(to, (struct sockaddr *)&address, &size), 0);
	frame_make(payload, len, i);
	assert_int_equal(sendto(from, payload, len, 0, (struct sockaddr *)&address, size), len);
	close(from);
	close(to);
}

/* Loopback carries 65,549 bytes in one frame, and like tcpdump the port shows each frame once. */
static void test_loopback_super_frames(void **state)
{
	static const uint32_t lens[] = {65507, 1, 65494, 65493, 30000, 65507};
	static uint8_t payload[65507];
	struct capture *lo;

	lo = capture_new("lo", 1);
	assert_false(lo->port.has_mac);
	for (unsigned i = 0; i < RTE_DIM(lens); i++)
		send_loopback(lens[i], i);
	assert_int_equal(drain(lo, 0, PORT_BURST_MAX), RTE_DIM(lens));
	for (unsigned i = 0; i < RTE_DIM(lens); i++) {
		frame_make(payload, lens[i], i);
		assert_int_equal(lo->seen[i].len, lens[i] + 42);
		assert_int_equal(lo->seen[i].wire_len, lens[i] + 42);
		assert_int_equal(lo->seen[i].segments, lens[i] + 42 > 65535 ? 2 : 1);
		assert_memory_equal(lo->seen[i].data + 42, payload, lens[i]);
		assert_false(lo->seen[i].outbound);
	}
	lo->port.ops->refresh(&lo->port);
	assert_int_equal(lo->port.offered, RTE_DIM(lens));
	assert_int_equal(lo->port.nic_missed, 0);
	capture_free(lo);
}

/* An unfinished TCP frame of 65,226 bytes, as a host with TSO hands it to the interface. */
static void test_segmentation_offload(void **state)
{
	static uint8_t buf[sizeof(struct virtio_net_hdr) + 65226];
	struct virtio_net_hdr *vnet = (struct virtio_net_hdr *)buf;
	uint8_t *frame = buf + sizeof(*vnet);
	const uint32_t len = sizeof(buf) - sizeof(*vnet);
	const int yes = 1;
	struct capture *in, *out;
	int fd;

	in = capture_new("ports1", 1);
	out = capture_new("ports0", 1);
	fd = raw_socket("ports0");
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)), 0);
	frame_make(frame, len, 4);
	memcpy(frame + 12,
		"\x08\x00"
		"\x45\x00\xfe\xbc\x00\x01\x40\x00\x40\x06\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02"
		"\x30\x39\x00\x50\x00\x00\x00\x01\x00\x00\x00\x01\x50\x18\x20\x00\x00\x00\x00\x00",
		42);
	*vnet = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
	};
	assert_int_equal(send(fd, buf, sizeof(buf), 0), sizeof(buf));
	assert_int_equal(drain(out, 0, PORT_BURST_MAX), 1);
	assert_int_equal(drain(in, 0, PORT_BURST_MAX), 1);
	for (struct capture *c = in; c != NULL; c = c == in ? out : NULL) {
		assert_int_equal(c->seen[0].len, len);
		assert_int_equal(c->seen[0].wire_len, len);
		assert_memory_equal(c->seen[0].data, frame, len);
	}
	close(fd);
	capture_free(in);
	capture_free(out);
}

/* Nobody polls: the ring fills, the kernel counts. Each of the frames sent is in one of the books.
 */
static void test_overload_is_counted(void **state)
{
	const unsigned n_sent = 60000, len = 1514;
	static uint8_t frame[1514];
	struct burst burst;
	struct capture *in;
	uint64_t polled = 0;
	uint32_t seed, next = 0;
	int fd;

	in = capture_new("ports1", 1);
	fd = raw_socket("ports0");
	for (unsigned i = 0; i < n_sent; i++) {
		frame_make(frame, 64, i);
		send_frame(fd, frame, len);
	}
	in->port.ops->refresh(&in->port);
	assert_int_equal(in->port.offered, n_sent);
	assert_true(in->port.nic_missed > 0);
	for (unsigned idle = 0; idle < 10;) {
		unsigned n = in->port.ops->rx(&in->port.queues[0], &burst, PORT_BURST_MAX);

		for (unsigned i = 0; i < n; i++) {
			memcpy(&seed, rte_pktmbuf_mtod(burst.pkts[i], uint8_t *) + 14,
				sizeof(seed));
			assert_true(seed >= next);
			next = seed + 1;
		}
		if (n > 0)
			in->port.ops->release(&in->port.queues[0], &burst);
		else if (++idle > 0)
			usleep(5000);
		polled += n;
	}
	in->port.ops->refresh(&in->port);
	assert_int_equal(in->port.offered, n_sent);
	assert_int_equal(polled + in->port.nic_missed, in->port.offered);
	/* What is sent when there is room again arrives. */
	for (unsigned i = 0; i < 100; i++)
		send_frame(fd, frame, len);
	assert_int_equal(drain(in, 0, PORT_BURST_MAX), 100);
	in->port.ops->refresh(&in->port);
	assert_int_equal(polled + 100 + in->port.nic_missed, in->port.offered);
	close(fd);
	capture_free(in);
}

/* Nothing from before a start, from between two, or from before a stop turns up after the next. */
static void test_start_and_stop(void **state)
{
	static uint8_t frame[100];
	struct capture *in;
	struct burst burst;
	int fd;

	in = capture_open("ports1", 1);
	fd = raw_socket("ports0");
	for (unsigned round = 0; round < 3; round++) {
		uint64_t offered = in->port.offered;

		frame_make(frame, sizeof(frame), 1000);
		for (unsigned i = 0; i < 50; i++)
			send_frame(fd, frame, sizeof(frame));
		capture_start(in);
		for (unsigned i = 0; i < 20; i++) {
			frame_make(frame, sizeof(frame), i);
			send_frame(fd, frame, sizeof(frame));
		}
		assert_int_equal(drain(in, 0, 3), 20);
		for (unsigned i = 0; i < 20; i++) {
			frame_make(frame, sizeof(frame), i);
			assert_memory_equal(in->seen[i].data, frame, sizeof(frame));
		}
		/* Of thirty more, four are polled; the rest is still in the ring at the stop. */
		for (unsigned i = 0; i < 30; i++)
			send_frame(fd, frame, sizeof(frame));
		usleep(30000);
		assert_int_equal(in->port.ops->rx(&in->port.queues[0], &burst, 4), 4);
		in->port.ops->release(&in->port.queues[0], &burst);
		in->port.ops->stop(&in->port);
		assert_int_equal(in->port.offered - offered, 50);
		assert_int_equal(in->port.nic_missed, (round + 1) * 26);
		capture_forget(in);
	}
	close(fd);
	capture_start(in);
	capture_free(in);
}

/* Several queues: each frame in one of them, all of a flow in the same. */
static void test_fanout(void **state)
{
	static uint8_t frame[100];
	struct capture *in;
	unsigned n[4], total = 0, at = 0, busy = 0;
	uint8_t home[64];
	int fd;

	in = capture_new("ports1", 4);
	fd = raw_socket("ports0");
	for (unsigned i = 0; i < 2048; i++) {
		frame_make(frame, sizeof(frame), 1);
		memcpy(frame + 12,
			"\x08\x00"
			"\x45\x00\x00\x56\x00\x01\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00"
			"\x00\x02"
			"\x30\x39\x00\x50\x00\x42\x00\x00",
			30);
		frame[35] = i % 64;
		send_frame(fd, frame, sizeof(frame));
	}
	memset(home, 0xff, sizeof(home));
	for (unsigned q = 0; q < 4; q++) {
		n[q] = drain(in, q, PORT_BURST_MAX);
		for (total += n[q]; at < total; at++) {
			uint8_t flow = in->seen[at].data[35];

			assert_true(flow < sizeof(home) && (home[flow] == 0xff || home[flow] == q));
			home[flow] = q;
		}
		busy += n[q] > 0;
	}
	assert_int_equal(total, 2048);
	assert_true(busy > 1);
	in->port.ops->refresh(&in->port);
	assert_int_equal(in->port.offered, 2048);
	assert_int_equal(in->port.nic_missed, 0);
	close(fd);
	capture_free(in);

	/* The filter that shows loopback once works behind the fanout too. */
	in = capture_new("lo", 2);
	for (unsigned i = 0; i < 10; i++)
		send_loopback(100, i);
	total = drain(in, 0, PORT_BURST_MAX) + drain(in, 1, PORT_BURST_MAX);
	assert_int_equal(total, 10);
	capture_free(in);
}

/* The kernel tells of a carrier, and lets packets pass, some time after it came: up to a second. */
static void link_becomes(struct capture *capture, bool up, const char *peer)
{
	char command[100];

	snprintf(command, sizeof(command), "ip -o link show %s | grep -q 'state %s'", peer,
		up ? "UP" : "DOWN\\|state LOWERLAYERDOWN");
	for (unsigned i = 0; i < 300; i++) {
		capture->port.ops->refresh(&capture->port);
		if (capture->port.link_up == up && run(command))
			return;
		usleep(10000);
	}
	fail_msg("the link does not become %s", up ? "up" : "down");
}

static void test_link_and_removal(void **state)
{
	struct pollfd idle = {.events = POLLIN};
	struct err err = {0};
	struct burst burst;
	struct capture *c;
	int fd;

	assert_true(run("ip link add ports2 type veth peer name ports3 && ip link set ports3 up"));
	c = capture_new("ports2", 1); /* opened while it is down */
	assert_false(c->port.link_up);
	assert_true(run("ip link set ports2 up"));
	link_becomes(c, true, "ports3");
	fd = raw_socket("ports3");
	send_frame(fd, "0123456789abcdef", 16);
	assert_int_equal(drain(c, 0, 1), 1);

	/* The other end: no carrier. Ours: an error that must not make us spin. */
	assert_true(run("ip link set ports3 down"));
	link_becomes(c, false, "ports3");
	assert_true(run("ip link set ports3 up"));
	link_becomes(c, true, "ports3");
	assert_true(run("ip link set ports2 down"));
	link_becomes(c, false, "ports3");
	assert_false(c->port.gone);
	idle.fd = c->port.queues[0].wait_fd;
	assert_int_equal(poll(&idle, 1, 0), 0);
	assert_true(run("ip link set ports2 name ports9 mtu 1400 up"));
	link_becomes(c, true, "ports3");
	assert_int_equal(c->port.mtu, 1400);
	send_frame(fd, "0123456789abcdef", 16);
	assert_int_equal(drain(c, 0, 1), 1);

	send_frame(fd, "0123456789abcdef", 16);
	usleep(30000);
	assert_true(run("ip link del ports9"));
	c->port.ops->refresh(&c->port);
	assert_true(c->port.gone);
	assert_false(c->port.link_up);
	assert_int_equal(poll(&idle, 1, 0), 1); /* the last packet can still be had */
	assert_int_equal(c->port.ops->rx(&c->port.queues[0], &burst, 8), 1);
	c->port.ops->release(&c->port.queues[0], &burst);
	assert_int_equal(poll(&idle, 1, 0), 0);
	c->port.ops->stop(&c->port);
	assert_int_equal(c->port.offered, 3);
	assert_int_equal(c->port.nic_missed, 0);
	assert_int_equal(c->port.ops->start(&c->port, &err), -ENODEV);
	assert_non_null(strstr(err.text, "was removed"));
	close(fd);
	c->port.ops->close(&c->port);
	capture_forget(c);
	test_free(c);
}

static void refused(
	const char *interface, unsigned rx_queues, int code, const char *field, const char *says)
{
	struct config_port config = {.name = "tap0", .rx_queues = rx_queues};
	struct port port = {.ops = &port_afpacket_ops, .config = &config};
	struct err err = {0};

	snprintf(config.interface, sizeof(config.interface), "%s", interface);
	assert_int_equal(port.ops->open(&port, &err), -code);
	assert_string_equal(err.field, field);
	if (strstr(err.text, says) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, says);
	port.ops->close(&port);
	assert_null(port.priv);
}

static void test_refusals(void **state)
{
	refused("nonesuch0", 1, ENODEV, "interface",
		"there is no interface nonesuch0; there are lo");
	refused("a-name-that-is-too-long-for-an-interface", 1, ENODEV, "interface", "ports0");
	refused("lo", 0, EINVAL, "rx_queues", "1 to 16");
	refused("lo", 17, EINVAL, "rx_queues", "1 to 16");
	if (run("ip tuntap add dev ports-tun mode tun 2>/dev/null")) {
		refused("ports-tun", 1, EINVAL, "interface", "no Ethernet frames");
		run("ip link del ports-tun");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_lengths_directions),
		cmocka_unit_test(test_tags_as_on_the_wire),
		cmocka_unit_test(test_loopback_super_frames),
		cmocka_unit_test(test_segmentation_offload),
		cmocka_unit_test(test_overload_is_counted),
		cmocka_unit_test(test_start_and_stop),
		cmocka_unit_test(test_fanout),
		cmocka_unit_test(test_link_and_removal),
		cmocka_unit_test(test_refusals),
	};

	const char *unavailable = namespace_enter();

	if (unavailable != NULL) {
		printf("1..0 # SKIP %s\n", unavailable);
		return 0;
	}
	return cmocka_run_group_tests(tests, group_setup, NULL);
}
