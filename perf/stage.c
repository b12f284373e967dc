/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * perf-stage: the engine's stages one by one, each with the real thing or a dummy on either side, so that
 * the ceiling of each shows. What is measured is the engine's own code (lib_engine); what drives it is one
 * thread that produces and, where the ring is real, one that consumes. There is no control side.
 *
 *   nic   real: a DPDK device by its arguments     dummy: the same burst again and again
 *   ring  real: blocks cross to another CPU        dummy: they are taken out by the thread that filled them
 *   disk  real: the sink that captures use         dummy: blocks go back at once
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pause.h>

#include "engine/block.h"
#include "engine/clock.h"
#include "engine/eal.h"
#include "engine/filter.h"
#include "engine/lane.h"
#include "engine/port.h"
#include "engine/sink.h"
#include "perf/frame.h"

#define POOL_BYTES   (256ULL << 20)
#define FRAMES_DUMMY 1024
#define FILE_MAX     (4ULL << 30) /* then from the start again */
#define FILTERS_MAX  64
#define LOOK_EVERY   64 /* bursts between looks at the clock */

struct stage {
	/* options */
	const char *name;
	const char *device; /* of the real NIC; NULL: dummy */
	const char *path;   /* of the real disk's file; NULL: dummy */
	bool ring_real;
	uint32_t frame_len;
	double seconds;
	unsigned cpus[2]; /* produces, consumes */
	unsigned n_filters;
	const char *expressions[FILTERS_MAX];

	/* the producer's */
	struct config config;
	struct port port;
	struct burst burst;
	struct rte_mbuf *frames[FRAMES_DUMMY];
	unsigned next_frame;
	struct filter *filters[FILTERS_MAX];
	struct tap tap;
	struct lane lane;
	uint64_t stream_offset;

	/* the consumer's */
	const struct sink_ops *sink;
	void *sink_state;
	int fd;
	struct sink_write writes[SINK_WRITES_MAX];
	struct sink_write *idle;
	struct sink_write *gathering;
	unsigned n_flying;
	uint64_t file_offset;
	int error;
	bool stopping;

	/* what came of it */
	uint64_t packets, kept, no_block, bytes;
	double elapsed;
};

/* One turn of the producer; how many packets (or blocks) that was. */
typedef unsigned (*produce_fn)(struct stage *stage);

static int options_read(struct stage *stage, int argc, char **argv);
static int usage(void);
static int stage_open(struct stage *stage, struct err *err);
static int nic_open(struct stage *stage, struct err *err);
static int frames_make(struct stage *stage);
static int lane_make(struct stage *stage);
static int disk_open(struct stage *stage);
static unsigned bare_produce(struct stage *stage);
static unsigned filter_produce(struct stage *stage);
static unsigned lane_produce(struct stage *stage);
static unsigned block_produce(struct stage *stage);
static unsigned burst_take(struct stage *stage);
static void burst_release(struct stage *stage);
static int stage_run(struct stage *stage, produce_fn produce);
static void *consume_main(void *arg);
static unsigned consume(struct stage *stage);
static void block_write(struct stage *stage, struct block *block);
static void write_submit(struct stage *stage);
static void writes_reap(struct stage *stage, bool wait);
static void cpu_pin(unsigned cpu);
static void stage_print(const struct stage *stage);

static const struct {
	const char *name;
	produce_fn produce;
} kinds[] = {
	{"bare", bare_produce},     /* NIC alone */
	{"filter", filter_produce}, /* NIC and filters */
	{"frame", lane_produce},    /* NIC, framing, ring, disk */
	{"block", block_produce},   /* ring and disk: whole blocks that nobody filled */
};

int main(int argc, char **argv)
{
	struct stage *stage = aligned_alloc(64, (sizeof(*stage) + 63) & ~63UL);
	struct err err = {0};
	produce_fn produce = NULL;
	int rc;

	if (stage == NULL)
		return 1;
	memset(stage, 0, sizeof(*stage));
	if (options_read(stage, argc, argv) != 0)
		return usage();
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, stage->name) == 0)
			produce = kinds[i].produce;
	if (produce == NULL)
		return usage();
	rc = filter_helper_start();
	if (rc == 0)
		rc = stage_open(stage, &err);
	if (rc == 0)
		rc = stage_run(stage, produce);
	filter_helper_stop();
	if (rc != 0) {
		fprintf(stderr, "perf-stage: %s\n", err.text[0] != '\0' ? err.text : strerror(-rc));
		return 1;
	}
	stage_print(stage);
	return 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: perf-stage [OPTION VALUE]... bare|filter|frame|block\n"
		"  --device ARGS   the real NIC, e.g. net_pcap0,rx_pcap=F,infinite_rx=1\n"
		"  --ring real     blocks cross to another CPU\n"
		"  --file PATH     the real disk\n"
		"  --size BYTES    of the dummy NIC's frames (64)\n"
		"  --filter EXPR   up to %d times\n"
		"  --seconds S     (2)\n"
		"  --cpus A,B      A produces, B consumes\n",
		FILTERS_MAX);
	return 2;
}

static int options_read(struct stage *stage, int argc, char **argv)
{
	int i = 1;

	stage->frame_len = 64;
	stage->seconds = 2;
	stage->cpus[0] = 1;
	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		const char *value = argv[i + 1];

		if (strcmp(argv[i], "--device") == 0)
			stage->device = value;
		else if (strcmp(argv[i], "--ring") == 0)
			stage->ring_real = strcmp(value, "real") == 0;
		else if (strcmp(argv[i], "--file") == 0)
			stage->path = value;
		else if (strcmp(argv[i], "--size") == 0)
			stage->frame_len = strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0)
			stage->seconds = strtod(value, NULL);
		else if (strcmp(argv[i], "--filter") == 0 && stage->n_filters < FILTERS_MAX)
			stage->expressions[stage->n_filters++] = value;
		else if (strcmp(argv[i], "--cpus") != 0 ||
			 sscanf(value, "%u,%u", &stage->cpus[0], &stage->cpus[1]) != 2)
			return -EINVAL;
	}
	if (i + 1 != argc || stage->frame_len < FRAME_MIN || stage->frame_len > FRAME_MAX)
		return -EINVAL;
	stage->name = argv[i];
	return 0;
}

static int stage_open(struct stage *stage, struct err *err)
{
	struct config *config = &stage->config;
	struct filter_code *code = malloc(sizeof(*code));
	bool huge;
	int rc;

	config->engine.main_cpu = stage->cpus[0];
	config->n_ports = stage->device != NULL;
	snprintf(config->ports[0].name, sizeof(config->ports[0].name), "perf0");
	snprintf(config->ports[0].device, sizeof(config->ports[0].device), "%s",
		stage->device != NULL ? stage->device : "");
	config->ports[0].rx_queues = 1;
	config->ports[0].mtu = 1500;
	rc = code != NULL ? eal_start(config, &huge, err) : -ENOMEM;
	if (rc == 0)
		rc = clock_init();
	if (rc == 0)
		rc = block_pool_new(POOL_BYTES, huge, 1, 1, err);
	if (rc == 0)
		rc = stage->device != NULL ? nic_open(stage, err) : frames_make(stage);
	for (unsigned i = 0; rc == 0 && i < stage->n_filters; i++) {
		rc = filter_compile(stage->expressions[i], code, err);
		if (rc == 0 && (stage->filters[i] = filter_new(code, err)) == NULL)
			rc = -EINVAL;
	}
	free(code);
	if (rc == 0)
		rc = lane_make(stage);
	return rc == 0 ? disk_open(stage) : rc;
}

static int nic_open(struct stage *stage, struct err *err)
{
	int rc;

	stage->port.ops = &port_eth_ops;
	stage->port.config = &stage->config.ports[0];
	rc = stage->port.ops->open(&stage->port, err);
	return rc == 0 ? stage->port.ops->start(&stage->port, err) : rc;
}

static int frames_make(struct stage *stage)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		"perf", FRAMES_DUMMY, 0, 0, RTE_PKTMBUF_HEADROOM + FRAME_MAX, SOCKET_ID_ANY);

	if (pool == NULL || rte_pktmbuf_alloc_bulk(pool, stage->frames, FRAMES_DUMMY) != 0)
		return -ENOMEM;
	for (unsigned i = 0; i < FRAMES_DUMMY; i++) {
		struct rte_mbuf *mbuf = stage->frames[i];

		frame_make(rte_pktmbuf_mtod(mbuf, uint8_t *), stage->frame_len, 0, i);
		mbuf->data_len = (uint16_t)stage->frame_len;
		mbuf->pkt_len = stage->frame_len;
	}
	return 0;
}

/* What control and rx_set make of a capture without filter and limits. */
static int lane_make(struct stage *stage)
{
	struct tap *tap = &stage->tap;
	struct lane *lane = &stage->lane;

	tap->spec.n_ports = 1;
	tap->spec.snaplen_bytes = TAP_SNAPLEN_MAX;
	tap->spec.sample_n = 1;
	for (unsigned i = 0; i < CONFIG_PORTS_MAX; i++)
		tap->snaplen_bytes[i] = TAP_SNAPLEN_MAX;
	tap->deadline_tsc = UINT64_MAX;
	tap->n_lanes = 1;
	tap->lanes = lane;
	lane->tap = tap;
	lane->home = block_home(0);
	lane->home->n_lanes = 1;
	lane->tail = aligned_alloc(64, BLOCK_PAGE);
	lane->file.fd = -1;
	lane->queue_end = &lane->queue;
	lane->writes_end = &lane->writes;
	sample_init(&lane->sample, 1);
	return lane->tail != NULL ? 0 : -ENOMEM;
}

static int disk_open(struct stage *stage)
{
	for (unsigned i = 0; i < SINK_WRITES_MAX; i++) {
		stage->writes[i].next = stage->idle;
		stage->idle = &stage->writes[i];
	}
	if (stage->path == NULL)
		return 0;
	stage->fd = open(stage->path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (stage->fd < 0 || posix_fallocate(stage->fd, 0, FILE_MAX) != 0)
		return -errno;
	stage->sink = sink_disk_open(&stage->sink_state);
	return stage->sink != NULL ? 0 : -errno;
}

static unsigned bare_produce(struct stage *stage)
{
	const unsigned n = burst_take(stage);

	burst_release(stage);
	return n;
}

static unsigned filter_produce(struct stage *stage)
{
	const unsigned n = burst_take(stage);

	for (unsigned i = 0; i < stage->n_filters; i++)
		stage->kept +=
			__builtin_popcountll(filter_burst(stage->filters[i], stage->burst.pkts, n));
	burst_release(stage);
	return n;
}

static unsigned lane_produce(struct stage *stage)
{
	const unsigned n = burst_take(stage);
	uint64_t mask = n == 64 ? UINT64_MAX : (1ULL << n) - 1;

	if (stage->n_filters > 0)
		mask = filter_burst(stage->filters[0], stage->burst.pkts, n);
	if (n > 0)
		lane_offer(&stage->lane, &stage->burst, mask, 0, 0);
	burst_release(stage);
	if (!stage->ring_real)
		consume(stage);
	return n;
}

static unsigned block_produce(struct stage *stage)
{
	struct block *block = block_take(stage->lane.home, false);

	if (!stage->ring_real)
		consume(stage);
	if (block == NULL) {
		block_collect(stage->lane.home);
		rte_pause();
		return 0;
	}
	block->len = BLOCK_SIZE;
	block->lane = &stage->lane;
	block->partial = false;
	block->end = false;
	block_send(stage->lane.home, 0, block);
	return 1;
}

static unsigned burst_take(struct stage *stage)
{
	struct burst *burst = &stage->burst;

	if (stage->device != NULL)
		return stage->port.ops->rx(&stage->port.queues[0], burst, PORT_BURST_MAX);
	burst->n = PORT_BURST_MAX;
	memcpy(burst->pkts, stage->frames + stage->next_frame, sizeof(burst->pkts));
	stage->next_frame = (stage->next_frame + PORT_BURST_MAX) % FRAMES_DUMMY;
	for (unsigned i = 0; i < PORT_BURST_MAX; i++)
		burst->stamp_ns[i] = stage->packets + i + 1;
	return burst->n;
}

static void burst_release(struct stage *stage)
{
	if (stage->device != NULL && stage->burst.n > 0)
		stage->port.ops->release(&stage->port.queues[0], &stage->burst);
}

static int stage_run(struct stage *stage, produce_fn produce)
{
	const uint64_t hz = rte_get_tsc_hz(), began = rte_rdtsc();
	const uint64_t end = began + (uint64_t)(stage->seconds * (double)hz);
	pthread_t consumer;

	cpu_pin(stage->cpus[0]);
	if (stage->ring_real && pthread_create(&consumer, NULL, consume_main, stage) != 0)
		return -EAGAIN;
	while (rte_rdtsc() < end)
		for (unsigned i = 0; i < LOOK_EVERY; i++)
			stage->packets += produce(stage);
	stage->elapsed = (double)(rte_rdtsc() - began) / (double)hz;
	__atomic_store_n(&stage->stopping, true, __ATOMIC_RELAXED);
	if (stage->ring_real)
		pthread_join(consumer, NULL);
	while (stage->n_flying > 0)
		writes_reap(stage, true);
	stage->no_block = stage->lane.dropped[DROP_no_block];
	if (stage->path != NULL)
		unlink(stage->path);
	return -stage->error;
}

static void *consume_main(void *arg)
{
	struct stage *stage = arg;

	cpu_pin(stage->cpus[1]);
	while (!__atomic_load_n(&stage->stopping, __ATOMIC_RELAXED))
		if (consume(stage) == 0)
			rte_pause();
	return NULL;
}

static unsigned consume(struct stage *stage)
{
	struct block *blocks[32];
	unsigned n;

	if (stage->sink != NULL)
		writes_reap(stage, stage->idle == NULL);
	if (stage->sink != NULL && stage->idle == NULL)
		return 0;
	n = block_receive(0, blocks, 32);
	for (unsigned i = 0; i < n; i++) {
		stage->bytes += blocks[i]->len;
		if (stage->sink != NULL)
			block_write(stage, blocks[i]);
		else
			block_return(0, blocks[i]);
	}
	return n;
}

/* Gathers 64 blocks into one write. More come than there are writes for at most once: 32 blocks at a
 * time are half of one. */
static void block_write(struct stage *stage, struct block *block)
{
	struct sink_write *write = stage->gathering;

	while (write == NULL && stage->idle == NULL)
		writes_reap(stage, true);
	if (write == NULL) {
		write = stage->gathering = stage->idle;
		stage->idle = write->next;
		memset(write, 0, sizeof(*write));
		write->lane = &stage->lane;
		write->fd = stage->fd;
		write->offset = stage->file_offset;
	}
	write->iovs[write->n_iovs++] = (struct iovec){block->data, block->len};
	write->len += block->len;
	block->next = write->blocks;
	write->blocks = block;
	if (write->n_iovs == SINK_IOVS_MAX)
		write_submit(stage);
}

static void write_submit(struct stage *stage)
{
	struct sink_write *write = stage->gathering;

	stage->gathering = NULL;
	stage->n_flying++;
	stage->file_offset += write->len;
	if (stage->file_offset + SINK_IOVS_MAX * BLOCK_SIZE > FILE_MAX)
		stage->file_offset = 0;
	stage->sink->submit(stage->sink_state, write);
}

static void writes_reap(struct stage *stage, bool wait)
{
	struct sink_write *done[SINK_WRITES_MAX];
	unsigned n;

	if (stage->n_flying == 0)
		return;
	n = stage->sink->reap(stage->sink_state, done, SINK_WRITES_MAX, wait ? 1000000 : 0);
	for (unsigned i = 0; i < n; i++) {
		struct block *block = done[i]->blocks;

		if (done[i]->error != 0)
			stage->error = done[i]->error;
		while (block != NULL) {
			struct block *next = block->next;

			block_return(0, block);
			block = next;
		}
		done[i]->next = stage->idle;
		stage->idle = done[i];
	}
	stage->n_flying -= n;
}

static void cpu_pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void stage_print(const struct stage *stage)
{
	const uint64_t kept = stage->packets - stage->no_block;

	printf("{\"packets\": %" PRIu64 ", \"kept\": %" PRIu64 ", \"no_block\": %" PRIu64
	       ", \"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"cycles\": %.2f}\n",
		stage->packets, stage->n_filters > 0 ? stage->kept : kept, stage->no_block,
		stage->bytes, stage->elapsed,
		stage->packets != 0
			? stage->elapsed * (double)rte_get_tsc_hz() / (double)stage->packets
			: 0.0);
}
