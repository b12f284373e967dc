/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/merge: order, bytes, restarts after a kill before every system call, little space, and
 * what a recovery finds in lanes that end anyhow.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "control/file.h"
#include "control/merge.h"
#include "control/scan.h"
#include "control/store.h"
/* In memory: thousands of fsyncs, and none of them matters here. */
#define SCRATCH "/dev/shm"
#include "disk_calls.h"
#include "frames_file.h"

#define MIB          (1ULL << 20)
#define STAMP        1700000000000000000ULL
#define N_INTERFACES 2

static char root[512];
static struct store_capture capture; /* large */
static uint8_t header[1024];
static size_t header_len;
static uint8_t trailer[2 * PCAPNG_STATISTICS_MAX];
static size_t trailer_len;
static uint64_t seed = 1;
static bool readers_always;

static struct {
	uint8_t *data;
	size_t len;
	uint64_t packets;
} lanes[STORE_LANES_MAX];
static unsigned n_lanes;

static const struct uuid id = {{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88, 0x99}};
#define ID "11223344-5566-4788-9900-000000000000"

static uint64_t random_next(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return seed >> 33;
}

static void open_root(void)
{
	struct err err = {0};

	if (store_open(root, &err) != 0)
		fail_msg("store_open: %s", err.text);
}

static int start(void **state)
{
	static unsigned n;
	char name[16];

	snprintf(name, sizeof(name), "root%u", n++);
	scratch_path(root, sizeof(root), name);
	disk_calls_kill_at = 0;
	disk_calls_fail_at = 0;
	merge_checkpoint_bytes = 256 * MIB;
	readers_always = true;
	open_root();
	return 0;
}

static int stop(void **state)
{
	store_close();
	for (unsigned i = 0; i < n_lanes; i++) {
		free(lanes[i].data);
		lanes[i].data = NULL;
	}
	n_lanes = 0;
	return 0;
}

static int make(void **state)
{
	header_len = frames_header(header, sizeof(header), N_INTERFACES);
	for (unsigned i = 0; i < N_INTERFACES; i++)
		trailer_len +=
			pcapng_statistics_put(trailer + trailer_len, sizeof(trailer) - trailer_len,
				&(struct pcapng_statistics){
					.interface_id = i, .received = 12345, .delivered = 5});
	return scratch_make(state);
}

/*
 * Make n lanes of about size bytes each in memory: random lengths, random pauses, equal stamps
 * within and between lanes, losses now and then. skip_mask: lanes without packets.
 */
static void lanes_make(unsigned n, size_t size, uint32_t cap_len_max, uint64_t skip_mask)
{
	uint64_t stamp;

	n_lanes = n;
	for (unsigned i = 0; i < n; i++) {
		lanes[i].data = malloc(size + cap_len_max + 200 + header_len);
		assert_non_null(lanes[i].data);
		memcpy(lanes[i].data, header, header_len);
		lanes[i].len = header_len;
		lanes[i].packets = 0;
		stamp = STAMP + random_next() % 100;
		while (lanes[i].len < size && !(skip_mask >> (i % 64) & 1)) {
			lanes[i].len += frames_packet(lanes[i].data + lanes[i].len,
				random_next() % N_INTERFACES, stamp,
				random_next() % (cap_len_max + 1), random_next() % 10 == 0,
				(uint64_t)i << 32 | lanes[i].packets);
			lanes[i].packets++;
			stamp += random_next() % 3 * 10;
		}
	}
}

/* The reference: the slow and plain way. */
static uint8_t *merge_plainly(const uint8_t *end, size_t end_len, size_t *len)
{
	size_t at[STORE_LANES_MAX], size = header_len + end_len;
	uint64_t best_stamp = 0, stamp;
	uint32_t high, low, block_len;
	uint8_t *out;
	int best;

	for (unsigned i = 0; i < n_lanes; i++) {
		at[i] = header_len;
		size += lanes[i].len - header_len;
	}
	out = malloc(size);
	assert_non_null(out);
	memcpy(out, header, header_len);
	*len = header_len;
	for (;;) {
		best = -1;
		for (unsigned i = 0; i < n_lanes; i++) {
			if (at[i] == lanes[i].len)
				continue;
			memcpy(&high, lanes[i].data + at[i] + 12, 4);
			memcpy(&low, lanes[i].data + at[i] + 16, 4);
			stamp = (uint64_t)high << 32 | low;
			if (best < 0 || stamp < best_stamp) {
				best = i;
				best_stamp = stamp;
			}
		}
		if (best < 0)
			break;
		memcpy(&block_len, lanes[best].data + at[best] + 4, 4);
		memcpy(out + *len, lanes[best].data + at[best], block_len);
		*len += block_len;
		at[best] += block_len;
	}
	memcpy(out + *len, end, end_len);
	*len += end_len;
	assert_int_equal(*len, size);
	return out;
}

/* Put the lanes on disk as a running capture has them: space behind, zero. */
static void lanes_save(const struct store_state *marks)
{
	char name[STORE_NAME_SIZE];
	struct store_state state;
	struct err err;
	int fd;

	assert_int_equal(store_create(&capture, &id, n_lanes, 0, header, header_len,
				 "{\"state\":\"running\"}", &err),
		0);
	for (unsigned i = 0; i < n_lanes; i++) {
		assert_int_equal(store_extend(&capture.lanes[i], lanes[i].len + 10000), 0);
		store_lane_name(i, name);
		fd = openat(capture.dir, name, O_WRONLY);
		assert_int_equal(file_write_at(fd, lanes[i].data, lanes[i].len, 0), 0);
		close(fd);
	}
	if (marks != NULL) {
		state = *marks;
		assert_int_equal(store_state_write(&capture, &state), 0);
	}
}

static void lanes_finish(void)
{
	uint64_t bytes[STORE_LANES_MAX], packets[STORE_LANES_MAX], size;

	for (unsigned i = 0; i < n_lanes; i++) {
		bytes[i] = lanes[i].len;
		packets[i] = lanes[i].packets;
	}
	lanes_save(NULL);
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len,
				 "{\"state\":\"converting\"}", &(int){0}, &size),
		1);
	assert_false(merge_pending(&id));
	assert_int_equal(merge_prepare(&id, trailer, trailer_len), 0);
	assert_true(merge_pending(&id));
}

static void capture_is(const uint8_t *want, size_t want_len, uint64_t size)
{
	char path[512];
	uint8_t *data;
	size_t len;

	store_path(&id, false, -1, path, sizeof(path));
	data = frames_file_get(path, &len);
	assert_non_null(data);
	assert_int_equal(len, want_len);
	assert_int_equal(size, want_len);
	assert_true(memcmp(data, want, want_len) == 0);
	free(data);
}

static void record_is(const char *want)
{
	char *record;
	int dir = store_dir_open(&id, false);

	assert_true(dir >= 0);
	assert_int_equal(file_load(dir, "record", 1000, &record, NULL), 0);
	assert_string_equal(record, want);
	free(record);
	close(dir);
}

static unsigned files_in(bool open)
{
	char line[1024], out[16] = "";
	FILE *pipe;

	snprintf(
		line, sizeof(line), "ls '%s/captures/" ID "%s' | wc -l", root, open ? ".open" : "");
	pipe = popen(line, "r");
	assert_non_null(fgets(out, sizeof(out), pipe));
	pclose(pipe);
	return atoi(out);
}

static void readers_agree(uint64_t packets)
{
	static unsigned n_turns;
	const unsigned turn = n_turns++;
	char path[512], out[8192], want[64];

	/* They take a second: ask them now and then where there are many files of a kind. */
	if (!readers_always && turn % 8 != 0)
		return;
	if (!frames_reader_there())
		return;
	store_path(&id, false, -1, path, sizeof(path));
	snprintf(want, sizeof(want), "Number of packets:   %llu\n", (unsigned long long)packets);
	assert_int_equal(frames_reader("capinfos -M -c -o", path, out, sizeof(out)), 0);
	assert_non_null(strstr(out, want));
	assert_non_null(strstr(out, "Strict time order:   True"));
	/* Reads files with the same library, and takes most of the second to begin: what is in the frames
	 * is no matter here. */
	if (turn % 4 == 0)
		assert_int_equal(frames_reader("tshark -n --disable-protocol eth -c 20000 -r", path,
					 out, sizeof(out)),
			0);
}

static uint64_t lanes_packets(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < n_lanes; i++)
		n += lanes[i].packets;
	return n;
}

static void merge_and_check(void)
{
	uint64_t size = 0;
	uint8_t *want;
	size_t len;

	lanes_finish();
	want = merge_plainly(trailer, trailer_len, &len);
	assert_int_equal(merge_run(&id, "{\"state\":\"complete\"}", &size), 0);
	capture_is(want, len, size);
	record_is("{\"state\":\"complete\"}");
	assert_int_equal(files_in(false), 2);
	assert_false(merge_pending(&id));
	size = 0;
	assert_int_equal(merge_run(&id, NULL, &size), 0); /* once more does no harm */
	assert_int_equal(size, len);
	free(want);
	readers_agree(lanes_packets());
	assert_int_equal(store_delete(&id), 0);
}

static void lanes_are_joined_by_time(void **state)
{
	static const struct {
		unsigned n;
		size_t size;
		uint32_t cap_len_max;
		uint64_t skip_mask;
	} cases[] = {
		{2, 100000, 100, 0},
		{2, 9 * MIB, 1500, 0},
		{3, MIB, 60, 2},
		{8, 2 * MIB, 3000, 0x81},
		{5, MIB, 65535, 0},
		{16, 300000, 0, 0},
		{256, 40000, 1500, 0x5555},
		{4, 3 * MIB, 262144, 8},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		lanes_make(cases[i].n, cases[i].size, cases[i].cap_len_max, cases[i].skip_mask);
		merge_and_check();
		for (unsigned k = 0; k < n_lanes; k++)
			free(lanes[k].data);
		n_lanes = 0;
	}
}

static void checkpoints_change_nothing(void **state)
{
	merge_checkpoint_bytes = 1;
	lanes_make(3, 8 * MIB, 1500, 0);
	merge_and_check();
}

static uint64_t capture_allocated(void)
{
	uint64_t size, allocated;

	assert_int_equal(store_size(&id, &size, &allocated), 0);
	return allocated;
}

static bool do_merge(void)
{
	uint64_t size;

	return merge_run(&id, "{\"state\":\"complete\"}", &size) == 0;
}

/* Kill it before each system call, one more each time it is run; then let it end. */
static void killed_anywhere_it_goes_on(void **state)
{
	uint64_t size = 0;
	unsigned n_kills = 0;
	uint8_t *want;
	size_t len;

	merge_checkpoint_bytes = 4 * MIB;
	lanes_make(3, 4 * MIB, 1500, 0);
	want = merge_plainly(trailer, trailer_len, &len);
	for (unsigned at = 1;; at++) {
		lanes_finish();
		if (!disk_calls_killed(at, do_merge))
			break;
		n_kills++;
		store_close();
		open_root();
		/* a restart finds out what to do: a merge that goes on, or one that had ended */
		if (merge_pending(&id))
			assert_int_equal(
				merge_run(&id, at % 2 ? "{\"state\":\"complete\"}" : NULL, &size),
				0);
		else
			assert_int_equal(merge_run(&id, NULL, &size), 0);
		capture_is(want, len, size);
		assert_int_equal(files_in(false), 2);
		assert_int_equal(store_delete(&id), 0);
	}
	capture_is(want, len, len);
	print_message("# %u kills\n", n_kills);
	assert_true(n_kills > 50);
	free(want);
}

/* Killed again and again, each run a few calls further than the checkpoint allows. */
static void killed_again_and_again_it_ends(void **state)
{
	uint64_t size = 0;
	unsigned n_kills = 0;
	uint8_t *want;
	size_t len;

	merge_checkpoint_bytes = 4 * MIB;
	lanes_make(4, 10 * MIB, 1500, 0);
	want = merge_plainly(trailer, trailer_len, &len);
	lanes_finish();
	while (disk_calls_killed(20 + random_next() % 30, do_merge))
		assert_true(++n_kills < 500);
	assert_int_equal(merge_run(&id, NULL, &size), 0);
	capture_is(want, len, size);
	assert_true(n_kills > 3);
	free(want);
}

/* Killed by the clock instead, in the middle of whatever. */
static void killed_at_any_time_it_goes_on(void **state)
{
	uint64_t size = 0;
	uint8_t *want;
	unsigned n_kills = 0;
	size_t len;

	merge_checkpoint_bytes = 2 * MIB;
	lanes_make(2, 10 * MIB, 1500, 0);
	want = merge_plainly(trailer, trailer_len, &len);
	for (unsigned i = 0; i < 10; i++) {
		lanes_finish();
		for (unsigned k = 0; k < 10; k++) {
			pid_t child = fork();
			int status;

			if (child == 0)
				_exit(do_merge() ? 0 : 1);
			usleep(random_next() % 10000);
			kill(child, SIGKILL);
			assert_int_equal(waitpid(child, &status, 0), child);
			n_kills += WIFSIGNALED(status);
			assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
		}
		assert_int_equal(merge_run(&id, NULL, &size), 0);
		capture_is(want, len, size);
		assert_int_equal(store_delete(&id), 0);
	}
	assert_true(n_kills > 10);
	free(want);
}

static void *cancel_soon(void *arg)
{
	usleep(2000);
	merge_cancel();
	return NULL;
}

static bool do_merge_canceled(void)
{
	struct merge_recovery recovery;
	pthread_t thread;
	uint64_t size;

	if (pthread_create(&thread, NULL, cancel_soon, NULL) != 0)
		return false;
	if (merge_run(&id, "{}", &size) != -ECANCELED)
		return false;
	pthread_join(thread, NULL);
	return merge_run(&id, NULL, &size) == -ECANCELED &&
	       merge_recover(&id, &recovery, NULL) == -ECANCELED;
}

static void canceled_it_goes_on_in_the_next_process(void **state)
{
	uint64_t size = 0;
	uint8_t *want;
	size_t len;

	merge_checkpoint_bytes = 4 * MIB;
	lanes_make(2, 20 * MIB, 100, 0);
	want = merge_plainly(trailer, trailer_len, &len);
	lanes_finish();
	assert_false(disk_calls_killed(0, do_merge_canceled));
	assert_true(merge_pending(&id));
	assert_int_equal(merge_run(&id, NULL, &size), 0);
	capture_is(want, len, size);
	free(want);
}

static void failed_anywhere_it_can_be_called_again(void **state)
{
	static const int errors[] = {ENOSPC, EIO};
	uint64_t size = 0;
	unsigned n_failed = 0;
	uint8_t *want;
	size_t len;
	int rc;

	merge_checkpoint_bytes = 4 * MIB;
	lanes_make(2, 5 * MIB, 1500, 0);
	want = merge_plainly(trailer, trailer_len, &len);
	for (unsigned at = 1;; at++) {
		lanes_finish();
		disk_calls = 0;
		disk_calls_errno = errors[at % 2];
		disk_calls_fail_at = at;
		rc = merge_run(&id, NULL, &size);
		disk_calls_fail_at = 0;
		if (rc != 0) {
			assert_int_equal(rc, -errors[at % 2]);
			n_failed++;
			assert_int_equal(merge_run(&id, NULL, &size), 0);
		}
		capture_is(want, len, size);
		assert_int_equal(store_delete(&id), 0);
		if (rc == 0 && disk_calls < at)
			break;
	}
	assert_true(n_failed > 20);
	free(want);
}

/* 40 MiB of lanes on a disk of 64: both copies never fit, and need not. */
static void little_space_is_enough(void **state)
{
	uint64_t size = 0;
	char mount_path[200];
	uint8_t *want;
	size_t len;

	store_close();
	scratch_path(mount_path, sizeof(mount_path), "disk");
	if (!small_disk_mount(mount_path, 64)) {
		open_root();
		print_message("# needs root and a loop device\n");
		skip();
	}
	snprintf(root, sizeof(root), "%s/root", mount_path);
	open_root();
	lanes_make(3, 13 * MIB, 1500, 0);
	want = merge_plainly(trailer, trailer_len, &len);
	lanes_finish();
	assert_int_equal(merge_run(&id, "{}", &size), 0);
	capture_is(want, len, size);
	assert_true(capture_allocated() < len + MIB);
	free(want);
	store_close();
	small_disk_unmount(mount_path);
	scratch_path(root, sizeof(root), "root");
	open_root();
}

static void a_damaged_lane_is_told_and_kept(void **state)
{
	uint64_t size;
	char path[512];
	int fd;

	lanes_make(2, MIB, 1500, 0);
	lanes_finish();
	store_path(&id, true, 1, path, sizeof(path));
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "garbage!garbage!", 16, 500000), 16);
	close(fd);
	/* the damage hits data or framing: only framing can be seen */
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "\0\0\0\0", 4, header_len), 4);
	close(fd);
	assert_int_equal(merge_run(&id, NULL, &size), -EBADMSG);
	assert_true(merge_pending(&id));
	assert_int_equal(access(path, F_OK), 0);
}

/* ---- recovery ---- */

/* The packet block's epb_dropcount, 0 if it has none. */
static uint64_t packet_drops(const uint8_t *block)
{
	uint32_t len, cap_len, at;
	uint16_t option[2];
	uint64_t drops = 0;

	memcpy(&len, block + 4, 4);
	memcpy(&cap_len, block + 20, 4);
	for (at = 28 + (cap_len + 3) / 4 * 4; at < len - 4; at += 4 + (option[1] + 3) / 4 * 4) {
		memcpy(option, block + at, 4);
		if (option[0] == 4)
			memcpy(&drops, block + at + 4, 8);
	}
	return drops;
}

/* The end that merge_recover makes of what is in the lanes. */
static size_t recovered_trailer(uint8_t *buf, size_t size, struct merge_recovery *want)
{
	uint64_t packets[N_INTERFACES] = {0}, drops[N_INTERFACES] = {0}, drop;
	uint32_t head[7];
	size_t len = 0;

	*want = (struct merge_recovery){.first_ns = UINT64_MAX};
	for (unsigned i = 0; i < n_lanes; i++) {
		for (size_t at = header_len; at < lanes[i].len; at += head[1]) {
			uint64_t stamp;

			memcpy(head, lanes[i].data + at, sizeof(head));
			stamp = (uint64_t)head[3] << 32 | head[4];
			want->first_ns = stamp < want->first_ns ? stamp : want->first_ns;
			want->last_ns = stamp > want->last_ns ? stamp : want->last_ns;
			want->packets++;
			want->captured_bytes += head[5];
			packets[head[2]]++;
			drop = packet_drops(lanes[i].data + at);
			drops[head[2]] += drop;
			want->drops_recorded += drop;
		}
	}
	if (want->packets == 0)
		want->first_ns = 0;
	for (unsigned i = 0; i < N_INTERFACES; i++)
		len += pcapng_statistics_put(buf + len, size - len,
			&(struct pcapng_statistics){
				.interface_id = i,
				.stamp_ns = want->last_ns,
				.start_ns = want->first_ns,
				.end_ns = want->last_ns,
				.received = UINT64_MAX,
				.if_dropped = UINT64_MAX,
				.filter_accepted = packets[i] + drops[i],
				.os_dropped = drops[i],
				.delivered = packets[i],
			});
	return len;
}

static void recovery_is(const struct merge_recovery *got, const struct merge_recovery *want)
{
	assert_int_equal(got->packets, want->packets);
	assert_int_equal(got->captured_bytes, want->captured_bytes);
	assert_int_equal(got->drops_recorded, want->drops_recorded);
	assert_int_equal(got->first_ns, want->first_ns);
	assert_int_equal(got->last_ns, want->last_ns);
}

/* Lanes are on disk (with something behind what lanes[] says): recover and compare. */
static void recover_and_check(uint64_t missing)
{
	struct merge_recovery got, want;
	uint8_t end[2 * PCAPNG_STATISTICS_MAX], *file;
	struct err err;
	uint64_t size = 0;
	size_t end_len, len;

	end_len = recovered_trailer(end, sizeof(end), &want);
	file = merge_plainly(end, end_len, &len);
	assert_false(merge_pending(&id));
	for (unsigned i = 0; i < 2; i++) { /* as often as one likes */
		assert_int_equal(merge_recover(&id, &got, &err), 0);
		recovery_is(&got, &want);
		assert_int_equal(got.size_bytes, len);
		assert_int_equal(got.missing_bytes, missing);
		assert_int_equal(err.code, missing != 0 ? EIO : 0);
		assert_false(merge_pending(&id));
	}
	assert_int_equal(merge_run(&id, "{\"state\":\"failed\"}", &size), 0);
	capture_is(file, len, size);
	record_is("{\"state\":\"failed\"}");
	assert_int_equal(files_in(false), 2);
	readers_agree(want.packets);
	free(file);
	assert_int_equal(store_delete(&id), 0);
}

static void a_crash_leaves_whole_packets(void **state)
{
	for (unsigned n = 1; n <= 4; n++) {
		lanes_make(n, 500000, 1500, n == 3 ? 2 : 0);
		lanes_save(NULL);
		store_release(&capture);
		recover_and_check(0);
		stop(NULL);
		open_root();
	}
}

/* A process that still has a lane open for writing is waited for. */
static void writes_in_flight_are_waited_for(void **state)
{
	struct timespec before, after;
	int status;
	pid_t child;

	lanes_make(2, 50000, 100, 0);
	lanes_save(NULL);
	child = fork();
	if (child == 0) {
		usleep(300000);
		_exit(0);
	}
	store_release(&capture); /* the child has them all the same */
	clock_gettime(CLOCK_MONOTONIC, &before);
	recover_and_check(0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_int_equal(waitpid(child, &status, WNOHANG), child);
	assert_true((after.tv_sec - before.tv_sec) * 1000 +
			    (after.tv_nsec - before.tv_nsec) / 1000000 >=
		    250);
}

static void a_crash_without_packets(void **state)
{
	lanes_make(2, 0, 100, 3);
	lanes_save(NULL);
	store_release(&capture);
	recover_and_check(0);
}

/* Overwrite lane's file from offset on. */
static void lane_damage(unsigned lane, const void *data, size_t len, uint64_t offset)
{
	char path[512];
	int fd;

	store_path(&id, true, lane, path, sizeof(path));
	fd = open(path, O_WRONLY);
	assert_int_equal(file_write_at(fd, data, len, offset), 0);
	close(fd);
}

static void a_torn_end_is_cut_at_any_byte(void **state)
{
	uint8_t packet[400];
	uint32_t len;

	readers_always = false;
	for (uint32_t cut = 1; cut < 232; cut += 7) {
		lanes_make(2, 3000, 300, 0);
		lanes_save(NULL);
		store_release(&capture);
		len = frames_packet(packet, 1, STAMP, 190, 3, 1);
		assert_true(cut < len);
		lane_damage(1, packet, cut, lanes[1].len);
		recover_and_check(0);
		stop(NULL);
		open_root();
	}
}

static void without_an_index_nothing_behind_a_hole_is_believed(void **state)
{
	static struct store_state marks;
	size_t whole;
	uint32_t block_len;
	uint64_t packets = 0;

	lanes_make(2, 200000, 1500, 0);
	marks.n_lanes = 2;
	marks.marks[0].durable_bytes = lanes[0].len;
	marks.marks[1].durable_bytes = lanes[1].len / 4;
	lanes_save(&marks);
	store_release(&capture);
	/* the first block boundary behind the middle of lane 1: a block of zeros there */
	for (whole = header_len; whole < lanes[1].len / 2; whole += block_len, packets++)
		memcpy(&block_len, lanes[1].data + whole + 4, 4);
	lane_damage(1, (uint8_t[32]){0}, 32, whole);
	lanes[1].len = whole;
	lanes[1].packets = packets;
	recover_and_check(0);
}

/* Note in the index, as the daemon would, where packets begin: each of the lane's, if it likes. */
static void lane_index(unsigned lane, const struct uuid *whose)
{
	struct index_entry entry = {.offset = header_len, .lane = lane};
	struct uuid own = capture.index.id;
	uint32_t block_len;

	capture.index.id = *whose;
	while (entry.offset < lanes[lane].len) {
		memcpy(&block_len, lanes[lane].data + entry.offset + 4, 4);
		entry.told += packet_drops(lanes[lane].data + entry.offset);
		entry.offset += block_len;
		entry.packets++;
		assert_int_equal(index_put(&capture.index, &entry), 0);
	}
	capture.index.id = own;
}

/* The first packet's begin at or behind offset; what is before it. */
static struct index_entry lane_packet_at(unsigned lane, uint64_t offset)
{
	struct index_entry entry = {.offset = header_len, .lane = lane};
	uint32_t block_len;

	while (entry.offset < offset) {
		memcpy(&block_len, lanes[lane].data + entry.offset + 4, 4);
		entry.told += packet_drops(lanes[lane].data + entry.offset);
		entry.offset += block_len;
		entry.packets++;
	}
	assert_true(entry.offset < lanes[lane].len);
	return entry;
}

/* The lane in memory as the capture shall have it: without from..to, the next packet tells of it. */
static void lane_cut_out(
	unsigned lane, const struct index_entry *from, const struct index_entry *to)
{
	uint8_t *data = malloc(lanes[lane].len + 300), *next = lanes[lane].data + to->offset;
	uint64_t drops = packet_drops(next) + to->packets - from->packets + to->told - from->told;
	uint32_t len, cap_len, at = from->offset;
	char text[200];

	memcpy(&len, next + 4, 4);
	memcpy(&cap_len, next + 20, 4);
	memset(data, 0, lanes[lane].len + 300);
	memcpy(data, lanes[lane].data, at);
	memcpy(data + at, next, 28 + cap_len);
	at += 28 + (cap_len + 3) / 4 * 4;
	snprintf(text, sizeof(text),
		"gap: %u packets were lost here with %u bytes that a crash kept from the disk",
		(unsigned)(to->packets - from->packets), (unsigned)(to->offset - from->offset));
	memcpy(data + at, (uint16_t[2]){1, strlen(text)}, 4);
	memcpy(data + at + 4, text, strlen(text));
	at += 4 + (strlen(text) + 3) / 4 * 4;
	memcpy(data + at, (uint16_t[2]){4, 8}, 4);
	memcpy(data + at + 4, &drops, 8);
	at += 16 + 4;
	memcpy(data + from->offset + 4, (uint32_t[1]){at - from->offset}, 4);
	memcpy(data + at - 4, (uint32_t[1]){at - from->offset}, 4);
	memcpy(data + at, next + len, lanes[lane].len - to->offset - len);
	lanes[lane].len += at - to->offset - len;
	lanes[lane].packets -= to->packets - from->packets;
	free(lanes[lane].data);
	lanes[lane].data = data;
}

/* What recovery says is what the file says, and adds up. */
static void books_hold(const struct merge_recovery *got)
{
	const struct ledger *ledger = &got->ledger;
	uint64_t known = ledger->written + ledger->unknown;

	for (unsigned i = 0; i < DROP_COUNT; i++)
		known += ledger->dropped[i];
	assert_int_equal(ledger->accepted, known);
	assert_int_equal(ledger->offered,
		ledger->filtered + ledger->sampled_out + ledger->over_limit + ledger->accepted);
	assert_int_equal(ledger->written, got->packets);
	assert_int_equal(ledger->dropped[DROP_writer_stopped], got->gap_packets);
	assert_true(ledger->unknown <= ledger->unknown_max);
}

/* Zero size bytes of lane from about a place on; returns what stands before and behind the hole. */
static void hole_make(
	unsigned lane, uint64_t at, uint64_t size, struct index_entry *from, struct index_entry *to)
{
	static const uint8_t zeros[300000];

	*from = lane_packet_at(lane, at);
	lane_damage(lane, zeros, size, from->offset);
	/* The index has one entry in each 64 KiB, the last. */
	*to = lane_packet_at(lane, from->offset + size);
	for (uint64_t next = to->offset; next < lanes[lane].len;) {
		struct index_entry *entries;
		size_t n;

		assert_int_equal(index_load(capture.dir, &id, &entries, &n), 0);
		for (size_t i = 0; i < n; i++)
			if (entries[i].lane == lane && entries[i].offset >= next) {
				*to = entries[i];
				break;
			}
		free(entries);
		break;
	}
}

/* Behind a hole it goes on where the index says, and tells what is missing. */
static void behind_a_hole_it_goes_on(void **state)
{
	struct merge_recovery got, want;
	uint8_t end[2 * PCAPNG_STATISTICS_MAX], *file;
	struct index_entry from[2], to[2];
	uint64_t size, gap_packets, told;
	size_t end_len, len;
	struct err err;

	for (unsigned n = 1; n <= 3; n++) {
		const unsigned lane = n - 1;

		lanes_make(n, 3 * MIB, 1500, 0);
		lanes_save(NULL);
		for (unsigned i = 0; i < n; i++)
			lane_index(i, &id);
		hole_make(lane, MIB, 4096, &from[0], &to[0]);
		hole_make(lane, 2 * MIB, 200000, &from[1], &to[1]);
		store_release(&capture);
		gap_packets = to[0].packets - from[0].packets + to[1].packets - from[1].packets;
		told = to[0].told - from[0].told + to[1].told - from[1].told;
		lane_cut_out(lane, &from[1], &to[1]);
		lane_cut_out(lane, &from[0], &to[0]);
		end_len = recovered_trailer(end, sizeof(end), &want);
		file = merge_plainly(end, end_len, &len);
		assert_int_equal(merge_recover(&id, &got, &err), 0);
		assert_int_equal(got.n_gaps, 2);
		assert_int_equal(got.gap_packets, gap_packets);
		assert_true(got.rescued > 0 && got.rescued < lanes[lane].packets);
		want.drops_recorded -= gap_packets + told;
		recovery_is(&got, &want);
		assert_int_equal(got.size_bytes, len);
		books_hold(&got);
		assert_int_equal(got.ledger.dropped[DROP_no_block], got.drops_recorded + told);
		assert_int_equal(merge_run(&id, "{\"state\":\"failed\"}", &size), 0);
		capture_is(file, len, size);
		readers_agree(want.packets);
		free(file);
		assert_int_equal(store_delete(&id), 0);
		stop(NULL);
		open_root();
	}
}

/* An index of another capture, of the same form, says nothing. */
static void another_captures_index_is_not_believed(void **state)
{
	static const struct uuid other = {{9, 9, 9}};
	struct index_entry from, to;

	lanes_make(2, 3 * MIB, 1500, 0);
	lanes_save(NULL);
	lane_index(0, &other);
	lane_index(1, &other);
	hole_make(1, MIB, 4096, &from, &to);
	store_release(&capture);
	lanes[1].len = from.offset;
	lanes[1].packets = from.packets;
	recover_and_check(0);
}

/* A place that the index names, where no packet begins: the next one is as good. */
static void torn_packets_at_an_entry_are_passed(void **state)
{
	struct merge_recovery got;
	struct index_entry from, to;
	uint64_t size;
	struct err err;

	lanes_make(2, 3 * MIB, 1500, 0);
	lanes_save(NULL);
	lane_index(0, &id);
	hole_make(0, MIB, 4096, &from, &to);
	lane_damage(0, "xxxxxxxxxx", 10, to.offset);
	store_release(&capture);
	assert_int_equal(merge_recover(&id, &got, &err), 0);
	assert_int_equal(got.n_gaps, 1);
	assert_true(got.gap_packets > to.packets - from.packets);
	assert_int_equal(got.packets + got.gap_packets, lanes[0].packets + lanes[1].packets);
	books_hold(&got);
	assert_int_equal(merge_run(&id, NULL, &size), 0);
	readers_agree(got.packets);
	assert_int_equal(store_delete(&id), 0);
}

static void lost_durable_bytes_are_told(void **state)
{
	static struct store_state marks;
	size_t before;

	lanes_make(2, 100000, 100, 0);
	marks.n_lanes = 2;
	marks.marks[0].durable_bytes = lanes[0].len;
	marks.marks[1].durable_bytes = lanes[1].len;
	lanes_save(&marks);
	store_release(&capture);
	before = lanes[1].len;
	lane_damage(1, "xxxx", 4, header_len);
	lanes[1].len = header_len;
	recover_and_check(before - header_len);
}

/* With the index goes the copy of the header. */
static void index_remove(void)
{
	assert_int_equal(unlinkat(capture.dir, INDEX_NAME, 0), 0);
}

static void a_lost_header_is_written_anew(void **state)
{
	static const uint8_t zeros[1024];

	lanes_make(3, 50000, 100, 0);
	lanes_save(NULL);
	store_release(&capture);
	lane_damage(0, zeros, header_len, 0);
	lane_damage(1, "xxxx", 4, header_len - 8);
	recover_and_check(0);
}

/* The first page of the only lane, packets too: they are told as a gap. */
static void behind_a_lost_first_page_it_goes_on(void **state)
{
	static const uint8_t zeros[4096];
	struct merge_recovery got;
	struct index_entry from, to;
	uint64_t size;
	struct err err;

	lanes_make(1, 3 * MIB, 1500, 0);
	lanes_save(NULL);
	lane_index(0, &id);
	hole_make(0, 0, 4096, &from, &to);
	lane_damage(0, zeros, 4096, 0);
	store_release(&capture);
	assert_int_equal(merge_recover(&id, &got, &err), 0);
	assert_int_equal(got.n_gaps, 1);
	assert_int_equal(got.gap_packets, to.packets);
	assert_int_equal(got.packets, lanes[0].packets - to.packets);
	books_hold(&got);
	assert_int_equal(merge_run(&id, NULL, &size), 0);
	assert_int_equal(got.size_bytes, size);
	readers_agree(got.packets);
	assert_int_equal(store_delete(&id), 0);
}

static void the_first_good_header_is_taken(void **state)
{
	lanes_make(3, 50000, 100, 0);
	lanes_save(NULL);
	index_remove();
	store_release(&capture);
	lane_damage(0, "xxxx", 4, 0);
	lanes[0].len = header_len; /* all of it is lost; lane 1 has the header, too */
	recover_and_check(0);
}

static void no_header_at_all_is_refused(void **state)
{
	struct merge_recovery got;
	struct err err;

	lanes_make(2, 50000, 100, 0);
	lanes_save(NULL);
	index_remove();
	store_release(&capture);
	lane_damage(0, "xxxx", 4, 0);
	lane_damage(1, "xxxx", 4, 0);
	assert_int_equal(merge_recover(&id, &got, &err), -EBADMSG);
	assert_int_equal(err.code, EBADMSG);
	assert_int_equal(files_in(true), 4);
}

static bool do_finish(void)
{
	uint64_t bytes[1] = {lanes[0].len}, packets[1] = {lanes[0].packets}, size;

	return store_finish(
		       &capture, bytes, packets, trailer, trailer_len, "{}", &(int){0}, &size) == 0;
}

/* A close that was killed at any point: either the trailer that it wrote, or one of our own. */
static void a_killed_close_is_finished(void **state)
{
	struct merge_recovery got;
	unsigned n_own = 0, n_kept = 0;
	uint64_t size, want_len;
	bool killed = true;
	struct err err;
	uint8_t *data;
	char path[512];
	size_t len;

	readers_always = false;
	for (unsigned at = 1; killed; at++) {
		lanes_make(1, 30000, 300, 0);
		lanes_save(NULL);
		killed = disk_calls_killed(at, do_finish);
		store_release(&capture);
		store_close();
		open_root();
		if (!merge_pending(&id) && merge_run(&id, NULL, &size) != 0)
			assert_int_equal(merge_recover(&id, &got, &err), 0);
		assert_int_equal(merge_run(&id, NULL, &size), 0);
		store_path(&id, false, -1, path, sizeof(path));
		data = frames_file_get(path, &len);
		assert_non_null(data);
		assert_true(len > lanes[0].len);
		assert_memory_equal(data, lanes[0].data, lanes[0].len);
		want_len = lanes[0].len + trailer_len;
		if (len == want_len && memcmp(data + lanes[0].len, trailer, trailer_len) == 0)
			n_kept++;
		else
			n_own++;
		free(data);
		readers_agree(lanes[0].packets);
		assert_int_equal(store_delete(&id), 0);
		free(lanes[0].data);
		n_lanes = 0;
	}
	assert_true(n_kept > 5);
	assert_true(n_own > 0);
}

static bool do_recover(void)
{
	struct merge_recovery got;
	uint64_t size;

	if (!merge_pending(&id) && merge_recover(&id, &got, NULL) != 0)
		return false;
	return merge_run(&id, "{}", &size) == 0;
}

static void a_killed_recovery_ends_in_the_same_bytes(void **state)
{
	struct merge_recovery want;
	uint8_t end[2 * PCAPNG_STATISTICS_MAX], *file;
	size_t end_len, len;
	unsigned n_kills;
	uint64_t size;
	bool killed;

	merge_checkpoint_bytes = 2 * MIB;
	for (unsigned n = 1; n <= 2; n++) {
		lanes_make(n, 7 * MIB / 4, 1500, 0);
		end_len = recovered_trailer(end, sizeof(end), &want);
		file = merge_plainly(end, end_len, &len);
		n_kills = 0;
		killed = true;
		for (unsigned at = 1; killed; at++) {
			lanes_save(NULL);
			store_release(&capture);
			killed = disk_calls_killed(at, do_recover);
			n_kills += killed;
			/* and the next start is killed, too */
			if (killed && store_dir_open(&id, true) >= 0)
				disk_calls_killed(at / 2 + 1, do_recover);
			store_close();
			open_root();
			if (merge_run(&id, NULL, &size) != 0 || size != len)
				assert_true(do_recover());
			assert_int_equal(merge_run(&id, NULL, &size), 0);
			capture_is(file, len, size);
			assert_int_equal(store_delete(&id), 0);
		}
		assert_true(n_kills > 15);
		free(file);
		stop(NULL);
		open_root();
	}
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(lanes_are_joined_by_time),
		TEST(checkpoints_change_nothing),
		TEST(killed_anywhere_it_goes_on),
		TEST(killed_again_and_again_it_ends),
		TEST(killed_at_any_time_it_goes_on),
		TEST(canceled_it_goes_on_in_the_next_process),
		TEST(failed_anywhere_it_can_be_called_again),
		TEST(little_space_is_enough),
		TEST(a_damaged_lane_is_told_and_kept),
		TEST(a_crash_leaves_whole_packets),
		TEST(writes_in_flight_are_waited_for),
		TEST(a_crash_without_packets),
		TEST(a_torn_end_is_cut_at_any_byte),
		TEST(without_an_index_nothing_behind_a_hole_is_believed),
		TEST(behind_a_hole_it_goes_on),
		TEST(another_captures_index_is_not_believed),
		TEST(torn_packets_at_an_entry_are_passed),
		TEST(lost_durable_bytes_are_told),
		TEST(a_lost_header_is_written_anew),
		TEST(behind_a_lost_first_page_it_goes_on),
		TEST(the_first_good_header_is_taken),
		TEST(no_header_at_all_is_refused),
		TEST(a_killed_close_is_finished),
		TEST(a_killed_recovery_ends_in_the_same_bytes),
	};

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	print_message("# seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, make, scratch_remove);
}
