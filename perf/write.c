/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * perf-write: what the disk takes when there are no packets, with the file strategy of the daemon: large
 * O_DIRECT writes by io_uring with many in flight, space made ahead and synced every second by a second
 * thread. Its own code down to the ring, so that it is a ceiling and not a copy of our faults.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>

#include "perf/frame.h"

#define DEPTH_MAX 64
#define GROW_STEP (256ULL << 20)
#define GROW_NEAR (8 * GROW_STEP) /* space is kept so far ahead */
#define NS_PER_S  1000000000ULL
#define NAP_NS    5000000
#define EPB_BYTES 32
#define FRAMES    1024 /* different ones */
#define HUGE_PAGE (2ULL << 20)
#define PAGE      4096

struct writer {
	const char *path;
	bool spare;
	double seconds;
	uint64_t max_bytes;
	uint64_t piece_bytes;
	unsigned depth;
	uint32_t frame_len;

	int fd;
	struct io_uring ring;
	uint8_t *buffers[DEPTH_MAX];
	uint64_t submitted; /* writer, read by the keeper */
	uint64_t space;     /* keeper, read by the writer */
	bool done;          /* writer, read by the keeper */
	int keeper_rc;      /* keeper, after its end */
	uint64_t written;
	uint64_t stall_max_ns; /* longest time without a completion */
	double elapsed;
	double cpu_seconds;
};

static int options_read(struct writer *writer, int argc, char **argv);
static int usage(void);
static int spare_make(struct writer *writer);
static int writer_run(struct writer *writer);
static int pieces_write(struct writer *writer, uint64_t began_ns);
static bool piece_submit(struct writer *writer, unsigned slot);
static void *space_keep(void *arg);
static int buffers_make(struct writer *writer);
static uint8_t *memory_map(uint64_t size_bytes);
static uint64_t now_ns(void);
static double cpu_seconds(void);

int main(int argc, char **argv)
{
	struct writer writer = {.seconds = 3,
		.max_bytes = UINT64_MAX,
		.piece_bytes = 4 << 20,
		.depth = 32,
		.frame_len = 64,
		.fd = -1};
	int rc;

	if (options_read(&writer, argc, argv) != 0)
		return usage();
	rc = buffers_make(&writer);
	if (rc == 0 && writer.spare)
		rc = spare_make(&writer);
	if (rc == 0)
		rc = writer_run(&writer);
	if (rc != 0) {
		fprintf(stderr, "perf-write: %s: %s\n", writer.path, strerror(-rc));
		return 1;
	}
	printf("{\"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_seconds\": %.3f, "
	       "\"stall_max_ms\": %.1f}\n",
		writer.written, writer.elapsed, writer.cpu_seconds,
		(double)writer.stall_max_ns / 1e6);
	return 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: perf-write [--strategy fresh|spare] [--seconds S] [--max BYTES] [--piece "
		"BYTES]\n"
		"                  [--depth N] [--frame BYTES] FILE\n"
		"  spare: every block of FILE is written once before, then the file is made to "
		"read\n"
		"         as zero; a FILE that is --max long is taken for such a one. Needs "
		"--max.\n"
		"  --depth 1 to %d, --piece a multiple of %d, --frame bytes of the frames (64)\n"
		"  FILE stays\n",
		DEPTH_MAX, PAGE);
	return 2;
}

static int options_read(struct writer *writer, int argc, char **argv)
{
	int i = 1;

	for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
		const char *value = argv[i + 1];

		if (strcmp(argv[i], "--strategy") == 0)
			writer->spare = strcmp(value, "spare") == 0;
		else if (strcmp(argv[i], "--seconds") == 0)
			writer->seconds = strtod(value, NULL);
		else if (strcmp(argv[i], "--max") == 0)
			writer->max_bytes = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--piece") == 0)
			writer->piece_bytes = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--frame") == 0)
			writer->frame_len = strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--depth") == 0)
			writer->depth = strtoul(value, NULL, 10);
		else
			return -EINVAL;
	}
	if (i + 1 != argc || writer->depth == 0 || writer->depth > DEPTH_MAX ||
		writer->piece_bytes == 0 || writer->piece_bytes % PAGE != 0 ||
		writer->frame_len < FRAME_MIN || writer->frame_len > FRAME_MAX ||
		writer->seconds <= 0 || (writer->spare && writer->max_bytes == UINT64_MAX))
		return -EINVAL;
	writer->path = argv[i];
	return 0;
}

/* What captures write, because there are disks that look at it: numbered frames in packet blocks. */
static int buffers_make(struct writer *writer)
{
	const uint32_t block_len = EPB_BYTES + (writer->frame_len + 3) / 4 * 4;
	uint8_t *memory = memory_map(writer->depth * writer->piece_bytes);
	uint64_t number = 0;

	if (memory == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < writer->depth; i++) {
		uint8_t *at = memory + i * writer->piece_bytes, *end = at + writer->piece_bytes;

		writer->buffers[i] = at;
		for (; at + block_len <= end; at += block_len, number++) {
			const uint32_t head[7] = {6, block_len, 0, 0x18000000, number * 27,
				writer->frame_len, writer->frame_len};

			memcpy(at, head, sizeof(head));
			frame_make(at + sizeof(head), writer->frame_len, 0, number % FRAMES);
			memcpy(at + block_len - sizeof(block_len), &block_len, sizeof(block_len));
		}
	}
	return 0;
}

/* On hugepages, as blocks are: from small pages a large write is a long list of pieces for the device. */
static uint8_t *memory_map(uint64_t size_bytes)
{
	const uint64_t size = (size_bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	const int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uint8_t *memory = mmap(NULL, size, protection, flags | MAP_HUGETLB, -1, 0);

	if (memory != MAP_FAILED)
		return memory;
	if (posix_memalign((void **)&memory, HUGE_PAGE, size) != 0)
		return NULL;
	madvise(memory, size, MADV_HUGEPAGE);
	memset(memory, 0, size);
	return memory;
}

static int spare_make(struct writer *writer)
{
	int fd = open(writer->path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	struct stat stat;
	uint64_t at = 0;

	writer->max_bytes -= writer->max_bytes % writer->piece_bytes;
	if (fd < 0 || fstat(fd, &stat) != 0)
		return -errno;
	if ((uint64_t)stat.st_size != writer->max_bytes) {
		if (ftruncate(fd, 0) != 0 || posix_fallocate(fd, 0, writer->max_bytes) != 0)
			return -ENOSPC;
		for (; at < writer->max_bytes; at += writer->piece_bytes)
			if (pwrite(fd, writer->buffers[0], writer->piece_bytes, at) !=
				(ssize_t)writer->piece_bytes)
				return -EIO;
	}
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, writer->max_bytes) != 0 || fsync(fd) != 0)
		return -errno;
	return close(fd);
}

static int writer_run(struct writer *writer)
{
	const uint64_t began_ns = now_ns();
	const double cpu_began = cpu_seconds();
	pthread_t keeper;
	int rc;

	writer->fd = open(writer->path,
		O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC | (writer->spare ? 0 : O_TRUNC), 0600);
	if (writer->fd < 0)
		return -errno;
	rc = io_uring_queue_init(2 * DEPTH_MAX, &writer->ring, 0);
	if (rc != 0)
		return rc;
	writer->space = writer->spare ? writer->max_bytes : 0;
	rc = -pthread_create(&keeper, NULL, space_keep, writer);
	if (rc != 0)
		return rc;
	rc = pieces_write(writer, began_ns);
	__atomic_store_n(&writer->done, true, __ATOMIC_RELAXED);
	pthread_join(keeper, NULL);
	if (rc == 0)
		rc = writer->keeper_rc;
	if (rc == 0 && !writer->spare && ftruncate(writer->fd, writer->written) != 0)
		rc = -errno;
	if (rc == 0 && fdatasync(writer->fd) != 0)
		rc = -errno;
	writer->cpu_seconds = cpu_seconds() - cpu_began;
	writer->elapsed = (double)(now_ns() - began_ns) / 1e9;
	io_uring_queue_exit(&writer->ring);
	close(writer->fd);
	return rc;
}

static int pieces_write(struct writer *writer, uint64_t began_ns)
{
	const uint64_t end_ns = began_ns + (uint64_t)(writer->seconds * 1e9);
	uint64_t last_ns = now_ns();
	unsigned flying = 0, idle[DEPTH_MAX], n_idle = 0;

	for (unsigned i = 0; i < writer->depth; i++)
		idle[n_idle++] = i;
	while (true) {
		struct io_uring_cqe *cqe;
		int rc;

		while (n_idle > 0 && now_ns() < end_ns && piece_submit(writer, idle[n_idle - 1])) {
			n_idle--;
			flying++;
		}
		if (flying == 0 && (now_ns() >= end_ns || writer->submitted + writer->piece_bytes >
								  writer->max_bytes))
			return 0;
		if (__atomic_load_n(&writer->keeper_rc, __ATOMIC_RELAXED) != 0 && flying == 0)
			return writer->keeper_rc;
		if (flying == 0) {
			usleep(100);
			continue;
		}
		rc = io_uring_wait_cqe(&writer->ring, &cqe);
		if (rc != 0)
			return rc;
		if (cqe->res != (int)writer->piece_bytes)
			return cqe->res < 0 ? cqe->res : -EIO;
		if (now_ns() - last_ns > writer->stall_max_ns)
			writer->stall_max_ns = now_ns() - last_ns;
		last_ns = now_ns();
		writer->written += writer->piece_bytes;
		idle[n_idle++] = (unsigned)cqe->user_data;
		io_uring_cqe_seen(&writer->ring, cqe);
		flying--;
	}
}

static bool piece_submit(struct writer *writer, unsigned slot)
{
	const uint64_t end = writer->submitted + writer->piece_bytes;
	struct io_uring_sqe *sqe;

	if (end > writer->max_bytes || end > __atomic_load_n(&writer->space, __ATOMIC_ACQUIRE))
		return false;
	sqe = io_uring_get_sqe(&writer->ring);
	io_uring_prep_write(
		sqe, writer->fd, writer->buffers[slot], writer->piece_bytes, writer->submitted);
	sqe->user_data = slot;
	io_uring_submit(&writer->ring);
	__atomic_store_n(&writer->submitted, end, __ATOMIC_RELAXED);
	return true;
}

/* What the storage thread does for a running capture. */
static void *space_keep(void *arg)
{
	const struct timespec nap = {.tv_nsec = NAP_NS};
	struct writer *writer = arg;
	uint64_t sync_ns = now_ns() + NS_PER_S;
	int rc = 0;

	while (rc == 0 && !__atomic_load_n(&writer->done, __ATOMIC_RELAXED)) {
		const uint64_t submitted = __atomic_load_n(&writer->submitted, __ATOMIC_RELAXED);

		if (!writer->spare && writer->space < submitted + GROW_NEAR) {
			if (fallocate(writer->fd, 0, writer->space, GROW_STEP) != 0)
				rc = -errno;
			else
				__atomic_store_n(&writer->space, writer->space + GROW_STEP,
					__ATOMIC_RELEASE);
			continue;
		}
		if (now_ns() >= sync_ns) {
			rc = fdatasync(writer->fd) != 0 ? -errno : 0;
			sync_ns = now_ns() + NS_PER_S;
		}
		nanosleep(&nap, NULL);
	}
	__atomic_store_n(&writer->keeper_rc, rc, __ATOMIC_RELAXED);
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
