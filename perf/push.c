/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * perf-push: a source that does not wait. It sends numbered frames over net_memif on a schedule; what the
 * other side has no room for is lost and counted. Frame n is due at START + n / RATE: one that was not
 * sent because this process did not run (its CPU was taken away) is skipped, its number stays free. So
 * what arrives + refused + skipped = due, to the frame, and the number tells when a frame was sent.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_pause.h>

#include "perf/frame.h"

#define BURST       32
#define TEMPLATES   256 /* a power of two */
#define DESCRIPTORS 4096
#define BEHIND_MAX_US \
	100 /* what is due longer is skipped: a wire does not send faster afterwards */
#define END_WAIT_MS  60000
#define LINK_WAIT_MS 10000
#define NS_IN_S      1000000000ULL

struct push {
	uint32_t len;
	double pps;
	double seconds;
	uint64_t frames_max; /* 0 = no limit */

	struct rte_mbuf *templates[TEMPLATES];
	uint32_t sums[TEMPLATES];
	uint64_t start_ns;
	uint64_t due, sent, refused, skipped;
	double elapsed;
};

static volatile sig_atomic_t stopping;

static int eal_begin(const char *socket, unsigned cpu);
static int port_begin(void);
static int templates_make(struct push *push);
static int link_wait(void);
static void push_run(struct push *push);
static unsigned burst_send(struct push *push, unsigned n);
static uint64_t wall_ns(void);
static void on_signal(int number);
static int fail(const char *what, int rc);

int main(int argc, char **argv)
{
	struct push push = {0};
	int rc;

	if (argc == 7) {
		push.len = strtoul(argv[3], NULL, 10);
		push.pps = strtod(argv[4], NULL);
		push.seconds = strtod(argv[5], NULL);
		push.frames_max = strtoull(argv[6], NULL, 10);
	}
	if (push.len < FRAME_MIN || push.len > 1518 || push.pps <= 0 || push.seconds <= 0) {
		fprintf(stderr,
			"usage: perf-push SOCKET CPU SIZE PPS SECONDS FRAMES\n"
			"Connects to the net_memif at SOCKET. Ends after SECONDS or FRAMES (0: no "
			"limit) or\n"
			"SIGTERM, says what was due, sent, refused and skipped, and keeps the link "
			"until\n"
			"(another) SIGTERM. SIZE is %u to "
			"1518.\n",
			FRAME_MIN);
		return 2;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	rc = eal_begin(argv[1], strtoul(argv[2], NULL, 10));
	if (rc != 0)
		return fail("EAL", rc);
	rc = port_begin();
	if (rc == 0)
		rc = templates_make(&push);
	if (rc != 0)
		return fail("net_memif", rc);
	rc = link_wait();
	if (rc != 0)
		return fail("the other side", rc);
	push_run(&push);
	stopping = 0;
	printf("{\"start_ns\": %" PRIu64 ", \"due\": %" PRIu64 ", \"sent\": %" PRIu64
	       ", \"refused\": %" PRIu64 ", \"skipped\": %" PRIu64 ", \"seconds\": %.6f}\n",
		push.start_ns, push.due, push.sent, push.refused, push.skipped, push.elapsed);
	fflush(stdout);
	/* The other side reads what is in the rings, and must not be polling them when the link goes: net_memif
	 * then takes the memory away under its reader. */
	for (unsigned ms = 0; ms < END_WAIT_MS && !stopping; ms += 10)
		usleep(10000);
	rte_eth_dev_stop(0);
	rte_eth_dev_close(0);
	rte_eal_cleanup();
	return 0;
}

static int eal_begin(const char *socket, unsigned cpu)
{
	char lcores[32], vdev[256], prefix[32];
	char *words[] = {"perf-push", lcores, "--no-huge", "-m", "128", "--no-pci", "--no-shconf",
		"--no-telemetry", prefix, vdev, "--log-level=error", NULL};

	snprintf(lcores, sizeof(lcores), "--lcores=0@%u", cpu);
	snprintf(prefix, sizeof(prefix), "--file-prefix=push%d", (int)getpid());
	snprintf(vdev, sizeof(vdev),
		"--vdev=net_memif0,role=client,id=0,socket=%s,socket-abstract=no,rsize=12,"
		"bsize=2048,zero-copy=no",
		socket);
	return rte_eal_init((int)(sizeof(words) / sizeof(words[0])) - 1, words) < 0 ? -EIO : 0;
}

/* No receiving queue: the other side has no sending one and would refuse it. */
static int port_begin(void)
{
	const struct rte_eth_conf conf = {0};
	int rc = rte_eth_dev_configure(0, 0, 1, &conf);

	if (rc == 0)
		rc = rte_eth_tx_queue_setup(0, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	return rc == 0 ? rte_eth_dev_start(0) : rc;
}

static int templates_make(struct push *push)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		"frames", TEMPLATES, 0, 0, RTE_PKTMBUF_HEADROOM + 1600, SOCKET_ID_ANY);

	if (pool == NULL || rte_pktmbuf_alloc_bulk(pool, push->templates, TEMPLATES) != 0)
		return -ENOMEM;
	for (unsigned i = 0; i < TEMPLATES; i++) {
		struct rte_mbuf *mbuf = push->templates[i];
		uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

		frame_make(frame, push->len, 1, i);
		push->sums[i] = frame_sum(frame, push->len);
		mbuf->data_len = (uint16_t)push->len;
		mbuf->pkt_len = push->len;
	}
	return 0;
}

static int link_wait(void)
{
	struct rte_eth_link link = {0};

	for (unsigned ms = 0; ms < LINK_WAIT_MS && !stopping; ms += 10) {
		if (rte_eth_link_get_nowait(0, &link) == 0 && link.link_status)
			return 0;
		usleep(10000);
	}
	return -ENOTCONN;
}

static void push_run(struct push *push)
{
	const uint64_t behind_max = (uint64_t)(push->pps * BEHIND_MAX_US / 1e6) + BURST;

	push->start_ns = wall_ns();
	while (!stopping) {
		const double seconds = (double)(wall_ns() - push->start_ns) / 1e9;
		const uint64_t due = (uint64_t)(seconds * push->pps);
		uint64_t behind = due - push->due;

		push->elapsed = seconds;
		if (seconds >= push->seconds)
			break;
		if (behind > behind_max) {
			push->skipped += behind - behind_max;
			push->due += behind - behind_max;
			behind = behind_max;
		}
		if (push->frames_max != 0 && behind > push->frames_max - push->sent - push->refused)
			behind = push->frames_max - push->sent - push->refused;
		if (behind == 0 && push->frames_max != 0 &&
			push->sent + push->refused == push->frames_max)
			break;
		if (behind == 0)
			rte_pause();
		else
			burst_send(push, behind > BURST ? BURST : behind);
	}
}

/* The driver copies, then frees: a template that is referenced twice stays ours. */
static unsigned burst_send(struct push *push, unsigned n)
{
	struct rte_mbuf *mbufs[BURST];
	unsigned sent;

	for (unsigned i = 0; i < n; i++) {
		const unsigned slot = (push->due + i) % TEMPLATES;

		mbufs[i] = push->templates[slot];
		frame_renumber(
			rte_pktmbuf_mtod(mbufs[i], uint8_t *), push->sums[slot], push->due + i);
		rte_mbuf_refcnt_set(mbufs[i], 2);
	}
	sent = rte_eth_tx_burst(0, 0, mbufs, n);
	push->due += n;
	push->sent += sent;
	push->refused += n - sent;
	return sent;
}

/* Stamps are held against it: DPDK's idea of the TSC's rate is rounded, and 2 ms a second off. */
static uint64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * NS_IN_S + now.tv_nsec;
}

static void on_signal(int number)
{
	stopping = 1;
}

static int fail(const char *what, int rc)
{
	fprintf(stderr, "perf-push: %s: %s\n", what, strerror(rc < 0 ? -rc : rc));
	return 1;
}
