/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/sink: what a short write leaves, and that each sink writes the same bytes at the same
 * place, whatever the kernel makes of a call: short writes come from a pipe, a file-size limit and a
 * full device.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/block.h"
#include "engine/sink.h"

#define WAIT_NS 100000000

struct kind {
	const struct sink_ops *ops;
	void *sink;
};

static struct kind uring = {&sink_uring_ops, NULL}, pwrite_ = {&sink_pwrite_ops, NULL},
		   null = {&sink_null_ops, NULL};

/* io_uring may be denied here: then the daemon does without, and so do these tests. */
static bool open_or_skip(struct kind *kind)
{
	kind->sink = kind->ops->open();
	if (kind->sink != NULL)
		return true;
	assert_ptr_equal(kind->ops, &sink_uring_ops);
	assert_true(errno == EPERM || errno == ENOSYS || errno == ENOMEM);
	print_message("# no io_uring here\n");
	return false;
}

static void skip_is_what_a_short_write_leaves(void **state)
{
	static char memory[60];

	for (unsigned n = 0; n <= 60; n++) {
		struct iovec iovs[] = {{memory, 10}, {memory + 10, 0}, {memory + 10, 30},
			{memory + 40, 1}, {memory + 41, 19}};
		unsigned count = sink_iovs_skip(iovs, 5, n);
		unsigned at = n;

		for (unsigned i = 0; i < count; i++) {
			if (iovs[i].iov_len == 0)
				continue;
			assert_ptr_equal(iovs[i].iov_base, memory + at);
			at += iovs[i].iov_len;
		}
		assert_int_equal(at, 60);
		if (n == 60)
			assert_int_equal(count, 0);
	}
}

static int file_new(void)
{
	char path[] = "/tmp/test_sink.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* n pieces of len bytes in page-aligned memory, filled by their place in the file. */
static struct sink_write *write_new(int fd, uint64_t offset, unsigned n, uint32_t len)
{
	struct sink_write *write = calloc(1, sizeof(*write));

	write->fd = fd;
	write->offset = offset;
	write->n_iovs = n;
	write->len = n * len;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *data = aligned_alloc(4096, (len + 4095) / 4096 * 4096);

		for (uint32_t k = 0; k < len; k++)
			data[k] = (uint8_t)((offset + (uint64_t)i * len + k) * 2654435761U >> 13);
		write->iovs[i] = (struct iovec){data, len};
		/* Sinks move the vector on; this is to free it by. */
		write->blocks = NULL;
	}
	return write;
}

struct kept {
	void *base[SINK_IOVS_MAX];
	unsigned n;
};

static void kept_set(struct kept *kept, const struct sink_write *write)
{
	kept->n = write->n_iovs;
	for (unsigned i = 0; i < write->n_iovs; i++)
		kept->base[i] = write->iovs[i].iov_base;
}

static void kept_free(struct kept *kept)
{
	for (unsigned i = 0; i < kept->n; i++)
		free(kept->base[i]);
}

static unsigned reap_all(struct kind *kind, struct sink_write **done, unsigned n)
{
	unsigned got = 0;

	for (unsigned tries = 0; got < n && tries < 100; tries++)
		got += kind->ops->reap(kind->sink, done + got, n - got, WAIT_NS);
	return got;
}

static void file_check(int fd, uint64_t from, uint64_t to)
{
	uint8_t *data = malloc(to - from);

	assert_int_equal(pread(fd, data, to - from, (off_t)from), to - from);
	for (uint64_t at = from; at < to; at++)
		if (data[at - from] != (uint8_t)(at * 2654435761U >> 13))
			fail_msg("byte %llu is wrong", (unsigned long long)at);
	free(data);
}

/* As many writes as may be in flight, in an order of their own. */
static void writes_land_where_they_belong(void **state)
{
	struct kind *kind = *state;
	struct sink_write *writes[SINK_WRITES_MAX], *done[SINK_WRITES_MAX];
	struct kept kept[SINK_WRITES_MAX];
	const uint32_t len = 4096;
	int fd = file_new();

	if (!open_or_skip(kind))
		skip();
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < SINK_WRITES_MAX; i++) {
			unsigned place = (i * 7 + round) % SINK_WRITES_MAX;
			unsigned n = 1 + place % SINK_IOVS_MAX;

			writes[i] = write_new(fd, (uint64_t)place * 40 * len, n, len);
			kept_set(&kept[i], writes[i]);
			kind->ops->submit(kind->sink, writes[i]);
		}
		assert_int_equal(reap_all(kind, done, SINK_WRITES_MAX), SINK_WRITES_MAX);
		assert_int_equal(kind->ops->reap(kind->sink, done, 1, 0), 0);
		for (unsigned i = 0; i < SINK_WRITES_MAX; i++) {
			assert_true(writes[i]->complete);
			assert_int_equal(writes[i]->error, 0);
			assert_int_equal(writes[i]->done, writes[i]->len);
			if (kind != &null)
				file_check(
					fd, writes[i]->offset, writes[i]->offset + writes[i]->len);
			kept_free(&kept[i]);
			free(writes[i]);
		}
	}
	if (kind == &null)
		assert_int_equal(lseek(fd, 0, SEEK_END), 0);
	kind->ops->close(kind->sink);
	close(fd);
}

/* 64 blocks of 64 KiB: the largest write there is. */
static void the_largest_write_is_whole(void **state)
{
	struct kind *kind = *state;
	struct sink_write *write, *done;
	struct kept kept;
	int fd = file_new();

	if (!open_or_skip(kind))
		skip();
	write = write_new(fd, 12288, SINK_IOVS_MAX, BLOCK_SIZE);
	kept_set(&kept, write);
	kind->ops->submit(kind->sink, write);
	assert_int_equal(reap_all(kind, &done, 1), 1);
	assert_ptr_equal(done, write);
	assert_int_equal(write->error, 0);
	file_check(fd, 12288, 12288 + SINK_IOVS_MAX * BLOCK_SIZE);
	kept_free(&kept);
	free(write);
	kind->ops->close(kind->sink);
	close(fd);
}

/* A file may not grow beyond the limit: the write up to there is short, the rest of it fails. */
static void a_short_write_goes_on_and_its_error_is_told(void **state)
{
	struct kind *kind = *state;
	const struct rlimit limit = {10000, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
	struct sink_write *write, *done;
	struct kept kept;
	int fd = file_new();

	if (!open_or_skip(kind))
		skip();
	signal(SIGXFSZ, SIG_IGN);
	write = write_new(fd, 4096, 3, 4096);
	kept_set(&kept, write);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	kind->ops->submit(kind->sink, write);
	assert_int_equal(reap_all(kind, &done, 1), 1);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_true(write->complete);
	assert_int_equal(write->error, EFBIG);
	assert_int_equal(write->done, 10000 - 4096);
	file_check(fd, 4096, 10000);
	assert_int_equal(lseek(fd, 0, SEEK_END), 10000);
	kept_free(&kept);
	free(write);
	kind->ops->close(kind->sink);
	close(fd);
}

static const struct failure {
	const char *path;
	int flags;
	int error;
} failures[] = {
	{"/dev/full", O_WRONLY, ENOSPC},
	{"/dev/null", O_RDONLY, EBADF},
};

static void a_failure_is_the_result_of_its_write(void **state)
{
	struct kind *kind = *state;

	if (!open_or_skip(kind))
		skip();
	for (unsigned i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		int bad_fd = open(failures[i].path, failures[i].flags), fd = file_new();
		struct sink_write *bad = write_new(bad_fd, 0, 2, 4096);
		struct sink_write *good = write_new(fd, 0, 2, 4096);
		struct kept kept[2];
		struct sink_write *done[2];

		kept_set(&kept[0], bad);
		kept_set(&kept[1], good);
		kind->ops->submit(kind->sink, bad);
		kind->ops->submit(kind->sink, good);
		assert_int_equal(reap_all(kind, done, 2), 2);
		assert_true(bad->complete && good->complete);
		assert_int_equal(bad->error, failures[i].error);
		assert_int_equal(bad->done, 0);
		assert_int_equal(good->error, 0);
		file_check(fd, 0, 8192);
		kept_free(&kept[0]);
		kept_free(&kept[1]);
		free(bad);
		free(good);
		close(fd);
		close(bad_fd);
	}
	kind->ops->close(kind->sink);
}

static void nothing_in_flight_is_nothing_to_reap(void **state)
{
	struct kind *kind = *state;
	struct sink_write *done;

	if (!open_or_skip(kind))
		skip();
	assert_int_equal(kind->ops->reap(kind->sink, &done, 1, 0), 0);
	assert_int_equal(kind->ops->reap(kind->sink, &done, 1, 1000000), 0);
	kind->ops->close(kind->sink);
}

int main(void)
{
#define TEST(function, kind)                                        \
	{                                                           \
#function ", " #kind, function, NULL, NULL, &(kind) \
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(skip_is_what_a_short_write_leaves),
		TEST(writes_land_where_they_belong, uring),
		TEST(writes_land_where_they_belong, pwrite_),
		TEST(writes_land_where_they_belong, null),
		TEST(the_largest_write_is_whole, uring),
		TEST(the_largest_write_is_whole, pwrite_),
		TEST(a_short_write_goes_on_and_its_error_is_told, uring),
		TEST(a_short_write_goes_on_and_its_error_is_told, pwrite_),
		TEST(a_failure_is_the_result_of_its_write, uring),
		TEST(a_failure_is_the_result_of_its_write, pwrite_),
		TEST(nothing_in_flight_is_nothing_to_reap, uring),
		TEST(nothing_in_flight_is_nothing_to_reap, pwrite_),
		TEST(nothing_in_flight_is_nothing_to_reap, null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
