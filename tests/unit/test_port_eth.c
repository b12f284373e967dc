/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * DPDK devices that need no hardware, driven as the engine drives a port: files that the test has
 * written come back byte for byte and in order; the counters agree with what was handed out.
 */
#include "engine/port.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "engine/clock.h"
#include "engine/pcap_scan.h"

#define FRAMES 5000

static char dir[] = "/tmp/test_port_eth.XXXXXX";

struct frame {
	uint32_t len;
	uint8_t data[65536];
};

/* Frame number i of a file: 60 to 9,000 bytes, all of its bytes its own. */
static void frame_make(struct frame *frame, unsigned i, unsigned len_max)
{
	uint32_t x = i * 2654435761U + 12345;

	frame->len = 60 + x % (len_max - 59);
	if (i % 100 == 7)
		frame->len = len_max;
	for (uint32_t b = 0; b < frame->len; b++) {
		x = x * 1664525 + 1013904223;
		frame->data[b] = x >> 24;
	}
	memcpy(frame->data, &i, sizeof(i));
}

static const char *file_path(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put_u32(FILE *file, uint32_t value)
{
	assert_int_equal(fwrite(&value, sizeof(value), 1, file), 1);
}

static void file_write(
	const char *name, unsigned first, unsigned n, unsigned len_max, uint32_t link)
{
	static struct frame frame;
	FILE *file = fopen(file_path(name), "wb");

	assert_non_null(file);
	put_u32(file, 0xa1b2c3d4);
	put_u32(file, 2 | 4 << 16);
	put_u32(file, 0);
	put_u32(file, 0);
	put_u32(file, 262144);
	put_u32(file, link);
	for (unsigned i = first; i < first + n; i++) {
		frame_make(&frame, i, len_max);
		put_u32(file, 1700000000);
		put_u32(file, i % 1000000);
		put_u32(file, frame.len);
		put_u32(file, frame.len);
		assert_int_equal(fwrite(frame.data, frame.len, 1, file), 1);
	}
	assert_int_equal(fclose(file), 0);
}

static struct config_port config(const char *device, unsigned rx_queues)
{
	struct config_port config = {
		.name = "tap0",
		.rx_queues = rx_queues,
		.mtu = 1500,
		.snaplen_bytes = 262144,
	};

	snprintf(config.device, sizeof(config.device), "%s", device);
	return config;
}

static void open_start(struct port *port, const struct config_port *config)
{
	struct err err = {0};

	*port = (struct port){.ops = &port_eth_ops, .config = config};
	if (port->ops->open(port, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
	if (port->ops->start(port, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
}

static void stop_close(struct port *port)
{
	port->ops->stop(port);
	port->ops->close(port);
	assert_null(port->priv);
}

static void refused(
	const char *device, unsigned rx_queues, unsigned mtu, const char *field, const char *says)
{
	struct config_port cfg = config(device, rx_queues);
	struct port port = {.ops = &port_eth_ops, .config = &cfg};
	struct err err = {0};
	int rc;

	cfg.mtu = mtu;
	rc = port.ops->open(&port, &err);
	assert_true(rc < 0);
	assert_int_equal(rc, -err.code);
	assert_string_equal(err.field, field);
	if (strstr(err.text, says) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, says);
	port.ops->close(&port);
	assert_null(port.priv);
}

static void frame_check(const struct rte_mbuf *pkt, unsigned i, unsigned len_max)
{
	static struct frame frame, copy;
	const uint8_t *data;

	frame_make(&frame, i, len_max);
	assert_int_equal(pkt->pkt_len, frame.len);
	data = rte_pktmbuf_read(pkt, 0, frame.len, copy.data);
	assert_non_null(data);
	assert_memory_equal(data, frame.data, frame.len);
}

/* Take want packets of one queue; check bytes, order and time; return how many were in chains. */
static unsigned take(
	struct port_queue *queue, unsigned first, unsigned want, unsigned wrap, unsigned len_max)
{
	static const unsigned sizes[] = {1, PORT_BURST_MAX, 7, 32};
	uint64_t before_ns = clock_tsc_to_ns(rte_rdtsc()), last_ns = 0;
	unsigned got = 0, chained = 0;
	struct burst burst;

	for (unsigned turn = 0; got < want && turn < 100000; turn++) {
		unsigned max = RTE_MIN(sizes[turn % RTE_DIM(sizes)], want - got);
		unsigned n = queue->port->ops->rx(queue, &burst, max);

		assert_int_equal(n, burst.n);
		assert_true(n <= max);
		assert_int_equal(burst.cut, 0);
		assert_int_equal(burst.outbound, 0);
		for (unsigned i = 0; i < n; i++) {
			frame_check(burst.pkts[i], first + (got + i) % wrap, len_max);
			chained += burst.pkts[i]->nb_segs > 1;
			assert_true(burst.stamp_ns[i] >= last_ns);
			last_ns = burst.stamp_ns[i];
		}
		if (n > 0)
			queue->port->ops->release(queue, &burst);
		got += n;
	}
	assert_int_equal(got, want);
	assert_true(last_ns >= before_ns);
	assert_true(last_ns <= clock_tsc_to_ns(rte_rdtsc()));
	return chained;
}

static unsigned pool_count(const char *device)
{
	char name[RTE_MEMPOOL_NAMESIZE];
	struct rte_mempool *pool;
	uint16_t id;

	assert_int_equal(rte_eth_dev_get_port_by_name(device, &id), 0);
	snprintf(name, sizeof(name), "port%u.0", id);
	pool = rte_mempool_lookup(name);
	assert_non_null(pool);
	return rte_mempool_avail_count(pool);
}

static void drained(struct port_queue *queue)
{
	struct burst burst;

	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(queue->port->ops->rx(queue, &burst, PORT_BURST_MAX), 0);
}

static void test_file_whole_in_order_and_again(void **state)
{
	char device[300];
	struct config_port cfg;
	struct port port;
	unsigned buffers;

	file_write("mixed.pcap", 0, FRAMES, 9000, 1);
	snprintf(device, sizeof(device), "net_pcap10,rx_pcap=%s", file_path("mixed.pcap"));
	cfg = config(device, 1);
	open_start(&port, &cfg);
	assert_string_equal(port.driver, "net_pcap");
	assert_int_equal(port.loss, PORT_LOSS_EXACT);
	assert_int_equal(port.direction, PORT_DIRECTION_NONE);
	assert_false(port.own_clock);
	assert_true(port.link_up);
	buffers = pool_count("net_pcap10");
	assert_true(take(&port.queues[0], 0, FRAMES, FRAMES, 9000) > FRAMES / 2);
	drained(&port.queues[0]);
	assert_int_equal(pool_count("net_pcap10"), buffers);
	port.ops->refresh(&port);
	assert_int_equal(port.offered, FRAMES);
	assert_int_equal(port.nic_missed + port.nic_errors + port.nic_nombuf, 0);

	/* A second start begins with the first packet; the counters go on. */
	for (unsigned again = 1; again <= 3; again++) {
		struct err err;

		port.ops->stop(&port);
		assert_false(port.link_up);
		assert_int_equal(port.ops->start(&port, &err), 0);
		take(&port.queues[0], 0, 1000, FRAMES, 9000);
		port.ops->refresh(&port);
		assert_int_equal(port.offered, FRAMES + again * 1000);
	}
	stop_close(&port);
	assert_int_equal(port.offered, FRAMES + 3000);

	/* The device and its memory are gone: the same can be made again. */
	open_start(&port, &cfg);
	take(&port.queues[0], 0, 10, FRAMES, 9000);
	stop_close(&port);
}

static void test_longest_frames(void **state)
{
	char device[300];
	struct config_port cfg;
	struct port port;

	file_write("long.pcap", 3, 300, 65535, 1);
	snprintf(device, sizeof(device), "net_pcap11,rx_pcap=%s", file_path("long.pcap"));
	cfg = config(device, 1);
	open_start(&port, &cfg);
	take(&port.queues[0], 3, 300, 300, 65535);
	port.ops->refresh(&port);
	assert_int_equal(port.offered, 300);
	assert_int_equal(port.nic_missed + port.nic_errors + port.nic_nombuf, 0);
	stop_close(&port);
}

static void test_endless(void **state)
{
	char device[300];
	struct config_port cfg;
	struct port port;
	unsigned buffers;

	file_write("endless.pcap", 0, 777, 9000, 1);
	snprintf(device, sizeof(device), "net_pcap12,rx_pcap=%s,infinite_rx=1",
		file_path("endless.pcap"));
	cfg = config(device, 1);
	open_start(&port, &cfg);
	buffers = pool_count("net_pcap12");
	assert_int_equal(take(&port.queues[0], 0, 20000, 777, 9000), 0);
	assert_int_equal(pool_count("net_pcap12"), buffers);
	port.ops->refresh(&port);
	assert_int_equal(port.offered, 20000);
	stop_close(&port);
}

static void test_two_queues(void **state)
{
	char device[512], one[sizeof(dir) + 16];
	struct config_port cfg;
	struct port port;

	file_write("two.pcap", 100000, 900, 1514, 1);
	snprintf(one, sizeof(one), "%s/two.pcap", dir);
	snprintf(device, sizeof(device), "net_pcap13,rx_pcap=%s,rx_pcap=%s", one,
		file_path("endless.pcap"));
	cfg = config(device, 2);
	open_start(&port, &cfg);
	assert_int_equal(port.n_queues, 2);
	take(&port.queues[1], 0, 700, 777, 9000);
	take(&port.queues[0], 100000, 900, 900, 1514);
	take(&port.queues[1], 700, 77, 777, 9000);
	drained(&port.queues[0]);
	drained(&port.queues[1]);
	port.ops->refresh(&port);
	assert_int_equal(port.offered, 1677);
	stop_close(&port);
	refused(device, 1, 1500, "rx_queues", "2 rx_pcap");
	refused(device, 3, 1500, "rx_queues", "2 rx_pcap");
}

static void test_generator(void **state)
{
	struct config_port cfg = config("net_null14,size=3000", 2);
	struct port port;
	struct burst burst;

	open_start(&port, &cfg);
	assert_int_equal(port.loss, PORT_LOSS_EXACT);
	for (unsigned i = 0; i < 5000; i++) {
		struct port_queue *queue = &port.queues[i % 2];

		assert_int_equal(port.ops->rx(queue, &burst, PORT_BURST_MAX), PORT_BURST_MAX);
		assert_int_equal(burst.pkts[i % PORT_BURST_MAX]->pkt_len, 3000);
		assert_int_equal(burst.pkts[i % PORT_BURST_MAX]->nb_segs, 1);
		assert_true(burst.pkts[i % PORT_BURST_MAX]->buf_len >= 3000 + RTE_PKTMBUF_HEADROOM);
		port.ops->release(queue, &burst);
	}
	port.ops->refresh(&port);
	assert_int_equal(port.offered, 5000 * PORT_BURST_MAX);
	stop_close(&port);
}

/* Packets that another thread of the process hands over, of many segments: net_ring. */
static void test_ring(void **state)
{
	struct config_port cfg = config("net_ring17", 1);
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create("ring-test", 255, 0, 0, RTE_PKTMBUF_HEADROOM + 64, 0);
	struct rte_mbuf *pkts[20];
	struct rte_ring *ring;
	struct port port;
	struct burst burst;
	uint8_t data[600];

	assert_non_null(pool);
	open_start(&port, &cfg);
	assert_int_equal(port.loss, PORT_LOSS_EXACT);
	ring = rte_ring_lookup("ETH_RXTX0_net_ring17");
	assert_non_null(ring);
	for (unsigned i = 0; i < RTE_DIM(pkts); i++) {
		/* 1 to 10 segments of 1 to 60 bytes, each byte the packet's number */
		pkts[i] = NULL;
		for (unsigned k = 0; k <= i % 10; k++) {
			struct rte_mbuf *segment = rte_pktmbuf_alloc(pool);

			memset(rte_pktmbuf_append(segment, 1 + i * 3), (int)i, 1 + i * 3);
			if (pkts[i] == NULL)
				pkts[i] = segment;
			else
				assert_int_equal(rte_pktmbuf_chain(pkts[i], segment), 0);
		}
	}
	assert_int_equal(
		rte_ring_enqueue_bulk(ring, (void **)pkts, RTE_DIM(pkts), NULL), RTE_DIM(pkts));
	assert_int_equal(port.ops->rx(&port.queues[0], &burst, PORT_BURST_MAX), RTE_DIM(pkts));
	for (unsigned i = 0; i < burst.n; i++) {
		const uint32_t len = (1 + i % 10) * (1 + i * 3);
		const uint8_t *bytes = rte_pktmbuf_read(burst.pkts[i], 0, len, data);

		assert_int_equal(burst.pkts[i]->pkt_len, len);
		assert_non_null(bytes);
		for (uint32_t k = 0; k < len; k++)
			assert_int_equal(bytes[k], i);
	}
	port.ops->release(&port.queues[0], &burst);
	assert_int_equal(rte_mempool_avail_count(pool), 255);
	port.ops->refresh(&port);
	assert_int_equal(port.offered, RTE_DIM(pkts));
	stop_close(&port);
	rte_mempool_free(pool);
}

/* The packets of a burst have times of their own, spread over the time since the poll before. */
static void test_stamps_are_spread(void **state)
{
	struct config_port cfg = config("net_null15", 1);
	uint64_t before_ns, after_ns;
	struct port port;
	struct burst burst;

	open_start(&port, &cfg);
	before_ns = clock_tsc_to_ns(rte_rdtsc());
	port.ops->rx(&port.queues[0], &burst, PORT_BURST_MAX);
	port.ops->release(&port.queues[0], &burst);
	usleep(6400);
	port.ops->rx(&port.queues[0], &burst, PORT_BURST_MAX);
	after_ns = clock_tsc_to_ns(rte_rdtsc());
	for (unsigned i = 1; i < PORT_BURST_MAX; i++)
		assert_in_range(burst.stamp_ns[i] - burst.stamp_ns[i - 1], 100000, 100000000);
	assert_true(burst.stamp_ns[0] > before_ns);
	assert_true(burst.stamp_ns[PORT_BURST_MAX - 1] <= after_ns);
	port.ops->release(&port.queues[0], &burst);

	/* After a silence of more than a second nothing is known of when they came: now. */
	usleep(1100000);
	port.ops->rx(&port.queues[0], &burst, 2);
	assert_int_equal(burst.stamp_ns[0], burst.stamp_ns[1]);
	port.ops->release(&port.queues[0], &burst);
	stop_close(&port);
}

static void test_refusals(void **state)
{
	char device[300];

	refused("", 1, 1500, "device", "is no device");
	refused("net_nonsense0", 1, 1500, "device", "cannot be made");
	refused("crypto_null16", 1, 1500, "device", "is no network device");
	refused("net_pcap16,rx_pcap=/nonexistent.pcap", 1, 1500, "device",
		"/nonexistent.pcap: No such file");
	refused("net_null16", 0, 1500, "rx_queues", "allows 1 to");
	refused("net_null16", PORT_QUEUES_MAX + 1, 1500, "rx_queues", "allows 1 to 16");
	refused("net_null16", 1, 40, "mtu", "allows 46 to 65535");
	refused("net_null16,size=65500", 1, 1500, "device", "do not fit into one buffer");
	file_write("raw.pcap", 0, 10, 100, 101);
	snprintf(device, sizeof(device), "net_pcap16,rx_pcap=%s", file_path("raw.pcap"));
	refused(device, 1, 1500, "device", "link type 101");
	snprintf(device, sizeof(device), "net_pcap16,rx_pcap=%s", file_path("text"));
	FILE *file = fopen(file_path("text"), "w");
	fprintf(file, "this is not a capture file\n");
	fclose(file);
	refused(device, 1, 1500, "device", "is not a capture file");
}

static void test_one_device_one_port(void **state)
{
	struct config_port cfg = config("net_null17", 1);
	struct port port;

	open_start(&port, &cfg);
	refused("net_null17", 1, 1500, "device", "another port");
	stop_close(&port);
}

static void test_removal(void **state)
{
	struct config_port cfg = config("net_null18", 1);
	struct err err = {0};
	struct port port;

	open_start(&port, &cfg);
	port.ops->stop(&port);
	port.gone = true;
	assert_int_equal(port.ops->start(&port, &err), -ENODEV);
	port.ops->refresh(&port);
	assert_false(port.link_up);
	port.ops->close(&port);
}

/* What the walk over a file finds, in pcapng of both byte orders and in a file cut anywhere. */
static void test_scan(void **state)
{
	static const uint8_t ng[] = {
		0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0,
		0,                                                            /* section, */
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 28,  /* big-endian */
		0, 0, 0, 1, 0, 0, 0, 20, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 20, /* Ethernet */
		0, 0, 0, 6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  /* 4 of 9 bytes */
		0, 0, 0, 4, 0, 0, 0, 9, 1, 2, 3, 4, 0, 0, 0, 36, 0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0,
		0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, /* little */
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0,
		0, 1, 0, 0, 0, 0, 4, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0, 1, 2,
		3, 4, 5, 6, 7, 0, 24, 0, 0, 0, /* 7 bytes */
	};
	struct pcap_scan scan;
	struct err err;
	FILE *file;

	for (unsigned cut = 0; cut <= 40; cut++) {
		file = fopen(file_path("ng"), "wb");
		assert_int_equal(fwrite(ng, 1, sizeof(ng) - cut, file), sizeof(ng) - cut);
		fclose(file);
		assert_int_equal(pcap_scan(file_path("ng"), &scan, &err), 0);
		assert_int_equal(scan.frames, cut == 0 ? 2 : 1);
		assert_int_equal(scan.longest_bytes, cut == 0 ? 7 : 4);
		assert_int_equal(scan.cut, 1);
	}
	file_write("whole.pcap", 0, 2, 60, 1);
	for (unsigned cut = 0; cut < 76 * 2; cut++) {
		assert_int_equal(truncate(file_path("whole.pcap"), 24 + 76 * 2 - cut), 0);
		assert_int_equal(pcap_scan(file_path("whole.pcap"), &scan, &err), 0);
		assert_int_equal(scan.frames, 2 - (cut + 75) / 76);
	}
}

static int group_setup(void **state)
{
	char *args[] = {"test_port_eth", "--no-huge", "-m", "256", "--no-pci", "--no-shconf",
		"--no-telemetry", "-l", "0", "--log-level", "lib.eal:error", "--log-level",
		"pmd:critical", NULL};

	if (mkdtemp(dir) == NULL || rte_eal_init(RTE_DIM(args) - 1, args) < 0)
		return -1;
	return clock_init();
}

static int group_teardown(void **state)
{
	static const char *const names[] = {"mixed.pcap", "long.pcap", "endless.pcap", "two.pcap",
		"raw.pcap", "text", "ng", "whole.pcap"};

	for (unsigned i = 0; i < RTE_DIM(names); i++)
		unlink(file_path(names[i]));
	rmdir(dir);
	return rte_eal_cleanup();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_whole_in_order_and_again),
		cmocka_unit_test(test_longest_frames),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_two_queues),
		cmocka_unit_test(test_generator),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_stamps_are_spread),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_one_device_one_port),
		cmocka_unit_test(test_removal),
		cmocka_unit_test(test_scan),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
