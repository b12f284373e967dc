/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/store: the life of captures on disk, each of its steps killed and failed at every system
 * call, and full disks.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/file.h"
#include "control/store.h"
#include "disk_calls.h"
#include "frames_file.h"

#define MIB (1ULL << 20)

static char root[256];
static struct store_capture capture; /* large */
static uint8_t header[1024];
static size_t header_len;
static uint8_t trailer[PCAPNG_STATISTICS_MAX];
static size_t trailer_len;

static const struct uuid id = {{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88, 0x99}};
#define ID "11223344-5566-4788-9900-000000000000"

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
	open_root();
	return 0;
}

static int stop(void **state)
{
	store_close();
	return 0;
}

static int make(void **state)
{
	const struct pcapng_statistics statistics = {.delivered = 3, .received = 3};

	header_len = frames_header(header, sizeof(header), 1);
	trailer_len = pcapng_statistics_put(trailer, sizeof(trailer), &statistics);
	return scratch_make(state);
}

static bool there(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	return access(path, F_OK) == 0;
}

static unsigned entries(const char *name)
{
	char path[512];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static mode_t mode_of(const char *name)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 0777;
}

static uint8_t *get(bool open, int lane, size_t *len)
{
	char path[512];

	store_path(&id, open, lane, path, sizeof(path));
	return frames_file_get(path, len);
}

static bool create_lanes(unsigned n)
{
	struct err err = {0};

	if (store_create(
		    &capture, &id, n, 0, header, header_len, "{\"state\":\"running\"}", &err) == 0)
		return true;
	fprintf(stderr, "# store_create: %s\n", err.text);
	return false;
}

/* What a writer does: whole pages by O_DIRECT, the last one padded. Returns the end of the packets.
 */
static uint64_t write_packets(unsigned lane, unsigned n, uint64_t stamp, uint64_t step)
{
	size_t len = header_len, size = (header_len + n * 200ULL + 8191) / 4096 * 4096;
	uint8_t *buf = NULL;

	assert_int_equal(posix_memalign((void **)&buf, 4096, size), 0);
	memset(buf, 0, size);
	memcpy(buf, header, header_len);
	for (unsigned i = 0; i < n; i++)
		len += frames_packet(buf + len, 0, stamp + i * step, 60 + i % 90, 0, i);
	assert_int_equal(store_extend(&capture.lanes[lane], len + 4096), 0);
	assert_int_equal(
		file_write_at(capture.lanes[lane].fd, buf, (len + 4095) / 4096 * 4096, 0), 0);
	free(buf);
	return len;
}

static void the_root_is_private_and_locked(void **state)
{
	struct err err = {0};
	pid_t child;
	int status;

	assert_int_equal(mode_of(""), 0700);
	assert_int_equal(mode_of("captures"), 0700);
	assert_int_equal(mode_of("trash"), 0700);
	assert_int_equal(mode_of("lock"), 0600);
	child = fork();
	if (child == 0) {
		store_close(); /* the parent's lock stays */
		if (store_open(root, &err) != -EBUSY || err.code != EBUSY ||
			strstr(err.text, root) == NULL || strcmp(err.field, "storage.root") != 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	store_close();
	open_root();
}

static void a_root_without_parent_is_refused(void **state)
{
	struct err err = {0};
	char path[512];

	store_close();
	scratch_path(path, sizeof(path), "no/such");
	assert_int_equal(store_open(path, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	scratch_path(path, sizeof(path), "plain");
	frames_file_put(path, "x", 1);
	assert_int_equal(store_open(path, &err), -ENOTDIR);
	open_root();
}

static void a_new_capture_has_all_its_files(void **state)
{
	uint8_t *data;
	size_t len;

	assert_true(create_lanes(3));
	assert_int_equal(entries("trash"), 0);
	assert_int_equal(entries("captures/" ID ".open"), 6);
	assert_int_equal(mode_of("captures/" ID ".open"), 0700);
	assert_int_equal(mode_of("captures/" ID ".open/lane2.pcapng"), 0600);
	assert_int_equal(mode_of("captures/" ID ".open/record"), 0600);
	for (int lane = 0; lane < 3; lane++) {
		data = get(true, lane, &len);
		assert_int_equal(len, MIB);
		assert_int_equal(capture.lanes[lane].allocated_bytes, MIB);
		assert_memory_equal(data, header, header_len);
		for (size_t i = header_len; i < len; i++)
			assert_int_equal(data[i], 0);
		free(data);
	}
	store_release(&capture);
	store_release(&capture);
}

static void space_is_taken_ahead(void **state)
{
	struct store_lane *lane = &capture.lanes[0];
	uint64_t want = MIB + 1, expect = 2 * MIB;
	struct stat st;

	assert_true(create_lanes(1));
	assert_int_equal(store_extend(lane, MIB), 0);
	assert_int_equal(lane->allocated_bytes, MIB);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(store_extend(lane, want), 0);
		assert_int_equal(lane->allocated_bytes, expect);
		want = expect + 1;
		expect += expect < 256 * MIB ? expect : 256 * MIB;
	}
	assert_int_equal(lane->allocated_bytes, 768 * MIB);
	assert_int_equal(store_extend(lane, 1536 * MIB + 5), 0);
	assert_int_equal(lane->allocated_bytes, 1536 * MIB + 4096);
	assert_int_equal(fstat(lane->fd, &st), 0);
	assert_int_equal(st.st_size, lane->allocated_bytes);
	assert_true((uint64_t)st.st_blocks * 512 >= lane->allocated_bytes);
	lane->allocated_bytes = 0; /* as where fallocate is not supported */
	assert_int_equal(store_extend(lane, 2000 * MIB), 0);
	assert_int_equal(lane->allocated_bytes, 0);
	store_release(&capture);
}

static void no_fallocate_is_no_failure(void **state)
{
	disk_calls = 0;
	disk_calls_errno = EOPNOTSUPP;
	for (disk_calls_fail_at = 1;; disk_calls_fail_at++) {
		struct err err = {0};
		int rc;

		disk_calls = 0;
		rc = store_create(&capture, &id, 1, 0, header, header_len, "{}", &err);
		if (rc == 0 && capture.lanes[0].allocated_bytes == 0)
			break; /* that was it */
		assert_true(disk_calls_fail_at < 50);
		store_release(&capture);
		store_delete(&id);
	}
	disk_calls_fail_at = 0;
	store_release(&capture);
}

static void one_lane_is_closed_without_rewriting(void **state)
{
	uint64_t bytes[3] = {header_len, 0, header_len}, packets[3] = {0, 1000, 0}, size = 0;
	uint8_t *data;
	char *record, out[8192], path[300];
	size_t len;
	int dir;

	assert_true(create_lanes(3));
	bytes[1] = write_packets(1, 1000, 1700000000000000000, 1000);
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len,
				 "{\"state\":\"complete\"}", &(int){0}, &size),
		0);
	assert_int_equal(size, bytes[1] + trailer_len);
	assert_int_equal(capture.dir, -1);
	assert_false(there("captures/" ID ".open"));
	assert_int_equal(entries("captures/" ID), 2);
	data = get(false, -1, &len);
	assert_int_equal(len, size);
	assert_memory_equal(data + bytes[1], trailer, trailer_len);
	free(data);
	dir = store_dir_open(&id, false);
	assert_int_equal(file_load(dir, "record", 1000, &record, NULL), 0);
	assert_string_equal(record, "{\"state\":\"complete\"}");
	free(record);
	close(dir);
	if (!frames_reader_there())
		return;
	store_path(&id, false, -1, path, sizeof(path));
	assert_int_equal(frames_reader("capinfos -M -c", path, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "1000"));
	assert_int_equal(frames_reader("tshark -n -r", path, out, sizeof(out)), 0);
}

static void no_packets_make_an_empty_capture(void **state)
{
	uint64_t bytes[2] = {header_len, header_len}, packets[2] = {0, 0}, size = 0;

	assert_true(create_lanes(2));
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len, NULL,
				 &(int){0}, &size),
		0);
	assert_int_equal(size, header_len + trailer_len);
	assert_int_equal(entries("captures/" ID), 2);
}

static void several_lanes_wait_for_a_merge(void **state)
{
	uint64_t bytes[2], packets[2] = {10, 20}, size = 0;
	size_t len;

	assert_true(create_lanes(2));
	bytes[0] = write_packets(0, 10, 1000, 2);
	bytes[1] = write_packets(1, 20, 1001, 2);
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len, "{}",
				 &(int){0}, &size),
		1);
	free(get(true, 0, &len));
	assert_int_equal(len, bytes[0]);
	free(get(true, 1, &len));
	assert_int_equal(len, bytes[1]);
	assert_false(there("captures/" ID));
}

static void marks_are_kept(void **state)
{
	static struct store_state state_out, state_in;
	int dir;

	assert_true(create_lanes(2));
	assert_int_equal(store_state_read(capture.dir, &id, &state_in), -ENOENT);
	state_out.n_lanes = 2;
	for (unsigned i = 1; i < 6; i++) {
		state_out.books.accepted = i * 10;
		state_out.marks[1].durable_bytes = i * 4096;
		assert_int_equal(store_state_write(&capture, &state_out), 0);
		assert_int_equal(state_out.generation, i);
	}
	store_release(&capture);
	dir = store_dir_open(&id, true);
	assert_int_equal(store_state_read(dir, &id, &state_in), 0);
	assert_int_equal(state_in.generation, 5);
	assert_int_equal(state_in.books.accepted, 50);
	assert_int_equal(state_in.marks[1].durable_bytes, 5 * 4096);
	close(dir);
}

static void delete_and_expire(void **state)
{
	uint64_t bytes[1], packets[1] = {100}, size, allocated;
	struct uuid other = {{1}};

	assert_int_equal(store_delete(&id), -ENOENT);
	assert_int_equal(store_expire(&id), -ENOENT);
	assert_int_equal(store_record_write(&id, "x"), -ENOENT);
	assert_int_equal(store_size(&other, &size, &allocated), -ENOENT);
	assert_true(create_lanes(1));
	bytes[0] = write_packets(0, 100, 1, 1);
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len, "{}",
				 &(int){0}, &size),
		0);
	assert_int_equal(store_expire(&id), 0);
	assert_int_equal(entries("captures/" ID), 1);
	assert_true(there("captures/" ID "/record"));
	assert_int_equal(store_record_write(&id, "{\"state\":\"deleted\"}"), 0);
	assert_int_equal(store_delete(&id), 0);
	assert_int_equal(entries("captures"), 0);
	assert_int_equal(entries("trash"), 0);
	assert_true(create_lanes(2)); /* a failed one that is still open */
	store_release(&capture);
	assert_int_equal(store_expire(&id), 0);
	assert_int_equal(entries("captures/" ID), 1);
	assert_int_equal(store_delete(&id), 0);
	assert_true(create_lanes(2));
	store_release(&capture);
	assert_int_equal(store_delete(&id), 0);
	assert_int_equal(entries("captures"), 0);
}

struct seen {
	unsigned n;
	unsigned n_open;
	unsigned n_records;
};

static int see(const struct uuid *uuid, bool open, const char *record, void *arg)
{
	struct seen *seen = arg;

	seen->n++;
	seen->n_open += open;
	seen->n_records += record != NULL && strcmp(record, "{\"state\":\"running\"}") == 0;
	if (memcmp(uuid, &id, sizeof(id)) == 0 && !open)
		return 7;
	return 0;
}

static void all_captures_are_listed(void **state)
{
	uint64_t bytes[1] = {0}, packets[1] = {0}, size;
	struct uuid others[3] = {{{2}}, {{3}}, {{4}}};
	struct seen seen = {0};
	char line[1024];

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(store_create(&capture, &others[i], 1, 0, header, header_len,
					 "{\"state\":\"running\"}", NULL),
			0);
		store_release(&capture);
	}
	snprintf(line, sizeof(line),
		"cd '%s/captures' && mkdir strange.open .hidden && touch 11223344-5566 && "
		"rm 02000000-0000-0000-0000-000000000000.open/record",
		root);
	assert_int_equal(system(line), 0);
	assert_int_equal(store_each(see, &seen), 0);
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.n_open, 3);
	assert_int_equal(seen.n_records, 2);
	assert_true(create_lanes(1));
	bytes[0] = header_len;
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len, NULL,
				 &(int){0}, &size),
		0);
	assert_int_equal(store_each(see, &seen), 7);
}

static void size_counts_what_is_allocated(void **state)
{
	struct store_usage before, after;
	uint64_t size, allocated;

	assert_int_equal(store_usage(&before), 0);
	assert_true(create_lanes(1));
	assert_int_equal(store_extend(&capture.lanes[0], 64 * MIB), 0);
	assert_int_equal(store_usage(&after), 0);
	assert_int_equal(after.size_bytes, before.size_bytes);
	assert_true(after.free_bytes <= after.size_bytes);
	assert_int_equal(store_size(&id, &size, &allocated), 0);
	assert_int_equal(size, 64 * MIB);
	assert_in_range(allocated, 64 * MIB, 65 * MIB);
	store_release(&capture);
}

static void links_lead_nowhere(void **state)
{
	uint64_t bytes[1] = {header_len}, packets[1] = {0}, size;
	char line[1024];

	assert_true(create_lanes(1));
	snprintf(line, sizeof(line),
		"echo precious > '%s/precious' && cd '%s/captures/" ID
		".open' && rm lane0.pcapng && "
		"ln -s ../../../precious lane0.pcapng",
		scratch, root);
	assert_int_equal(system(line), 0);
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len, NULL,
				 &(int){0}, &size),
		-ESTALE);
	snprintf(line, sizeof(line), "grep -qx precious '%s/precious'", scratch);
	assert_int_equal(system(line), 0);
}

/* ---- every step, killed and failed ---- */

static bool do_create(void)
{
	return create_lanes(2);
}

static void create_killed_anywhere_leaves_all_or_nothing(void **state)
{
	unsigned n_whole = 0, n_none = 0;
	uint8_t *data;
	size_t len;

	for (unsigned at = 1; disk_calls_killed(at, do_create); at++) {
		store_close();
		open_root();
		assert_int_equal(entries("trash"), 0);
		if (entries("captures") == 0) {
			n_none++;
			continue;
		}
		n_whole++;
		assert_int_equal(entries("captures/" ID ".open"), 5);
		data = get(true, 1, &len);
		assert_memory_equal(data, header, header_len);
		free(data);
		assert_int_equal(store_delete(&id), 0);
	}
	assert_true(n_none > 10);
	assert_true(n_whole >= 1);
}

static unsigned fds_open(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void create_failed_anywhere_leaves_nothing(void **state)
{
	static const int errors[] = {ENOSPC, EIO, EMFILE};
	unsigned before = fds_open();
	struct err err;
	int rc;

	for (unsigned i = 0; i < 3; i++) {
		for (unsigned at = 1;; at++) {
			disk_calls = 0;
			disk_calls_fail_at = at;
			disk_calls_errno = errors[i];
			rc = store_create(&capture, &id, 2, 0, header, header_len, "{}", &err);
			disk_calls_fail_at = 0;
			if (disk_calls < at)
				break; /* all were tried */
			if (rc == 0) {
				/* a smaller allocation took its place, or the failure was no matter
				 */
				store_release(&capture);
				assert_int_equal(store_delete(&id), 0);
				continue;
			}
			assert_int_equal(rc, -errors[i]);
			assert_int_equal(err.code, errors[i]);
			assert_string_equal(err.field, "output");
			assert_int_equal(entries("captures"), 0);
			assert_int_equal(entries("trash"), 0);
			assert_int_equal(fds_open(), before);
		}
		store_release(&capture);
		assert_int_equal(store_delete(&id), 0);
	}
}

static uint64_t finish_bytes[2];

static bool do_finish(void)
{
	uint64_t packets[2] = {500, 0}, size;

	return store_finish(&capture, finish_bytes, packets, trailer, trailer_len, "done",
		       &(int){0}, &size) == 0;
}

static void finish_killed_anywhere_loses_no_packet(void **state)
{
	unsigned n_open = 0, n_closed = 0;
	uint8_t *data, *want = NULL;
	size_t len, want_len = 0;
	bool killed = true, open;

	for (unsigned at = 100; killed; at = at == 100 ? 1 : at + 1) {
		assert_true(create_lanes(2));
		finish_bytes[0] = write_packets(0, 500, 1000, 1);
		finish_bytes[1] = header_len;
		killed = disk_calls_killed(at, do_finish);
		store_release(&capture);
		if (at == 100) {
			assert_false(killed); /* what it looks like when nothing goes wrong */
			want = get(false, -1, &want_len);
			killed = true;
		}
		open = there("captures/" ID ".open");
		data = get(
			open, open && !there("captures/" ID ".open/capture.pcapng") ? 0 : -1, &len);
		assert_non_null(data);
		assert_true(len >= want_len - trailer_len);
		assert_memory_equal(data, want, want_len - trailer_len);
		if (!open) {
			assert_int_equal(len, want_len);
			assert_memory_equal(data, want, want_len);
		}
		n_open += open;
		n_closed += !open;
		free(data);
		assert_int_equal(store_delete(&id), 0);
	}
	assert_true(n_open > 5);
	assert_true(n_closed >= 2);
	free(want);
}

static bool do_delete(void)
{
	return store_delete(&id) == 0;
}

static void delete_killed_anywhere_never_comes_back(void **state)
{
	unsigned n_gone = 0;
	bool killed = true;

	for (unsigned at = 1; killed; at++) {
		assert_true(create_lanes(2));
		store_release(&capture);
		killed = disk_calls_killed(at, do_delete);
		store_close();
		open_root();
		assert_int_equal(entries("trash"), 0);
		n_gone += entries("captures") == 0;
		if (entries("captures") == 0)
			continue;
		assert_int_equal(entries("captures/" ID ".open"), 5); /* nothing of it is gone */
		assert_int_equal(store_delete(&id), 0);
	}
	assert_true(n_gone > 4);
}

/* ---- full disks ---- */

static void a_full_disk(void **state)
{
	uint64_t bytes[1], packets[1] = {1000}, size, got;
	char mount_path[200], out[4096], path[300];
	struct store_usage usage;
	struct uuid second = {{9}};
	struct err err = {0};
	int fd;

	store_close();
	scratch_path(mount_path, sizeof(mount_path), "disk");
	if (!small_disk_mount(mount_path, 64)) {
		open_root();
		print_message("# needs root and a loop device\n");
		skip();
	}
	snprintf(root, sizeof(root), "%s/root", mount_path);
	open_root();
	assert_true(create_lanes(1));
	bytes[0] = write_packets(0, 1000, 1700000000000000000, 10);
	assert_int_equal(store_extend(&capture.lanes[0], 1024 * MIB), -ENOSPC);
	got = capture.lanes[0].allocated_bytes;
	assert_in_range(got, 40 * MIB, 64 * MIB);
	assert_int_equal(store_usage(&usage), 0);
	assert_true(usage.free_bytes < MIB);
	assert_int_equal(store_extend(&capture.lanes[0], got), 0);
	/* the last bytes, too */
	snprintf(path, sizeof(path), "%s/fill", mount_path);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	while (write(fd, header, sizeof(header)) > 0)
		;
	close(fd);
	assert_int_equal(store_create(&(struct store_capture){0}, &second, 2, 0, header, header_len,
				 "{}", &err),
		-ENOSPC);
	assert_int_equal(err.code, ENOSPC);
	assert_int_equal(entries("captures"), 1);
	assert_int_equal(entries("trash"), 0);
	/* and still the capture is closed whole, with trailer and record */
	assert_int_equal(store_finish(&capture, bytes, packets, trailer, trailer_len, "{}",
				 &(int){0}, &size),
		0);
	assert_int_equal(size, bytes[0] + trailer_len);
	store_path(&id, false, -1, path, sizeof(path));
	if (frames_reader_there())
		assert_int_equal(frames_reader("capinfos -M -c", path, out, sizeof(out)), 0);
	store_close();
	small_disk_unmount(mount_path);
	scratch_path(root, sizeof(root), "root");
	open_root();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(the_root_is_private_and_locked),
		TEST(a_root_without_parent_is_refused),
		TEST(a_new_capture_has_all_its_files),
		TEST(space_is_taken_ahead),
		TEST(no_fallocate_is_no_failure),
		TEST(one_lane_is_closed_without_rewriting),
		TEST(no_packets_make_an_empty_capture),
		TEST(several_lanes_wait_for_a_merge),
		TEST(marks_are_kept),
		TEST(delete_and_expire),
		TEST(all_captures_are_listed),
		TEST(size_counts_what_is_allocated),
		TEST(links_lead_nowhere),
		TEST(create_killed_anywhere_leaves_all_or_nothing),
		TEST(create_failed_anywhere_leaves_nothing),
		TEST(finish_killed_anywhere_loses_no_packet),
		TEST(delete_killed_anywhere_never_comes_back),
		TEST(a_full_disk),
	};

	return cmocka_run_group_tests(tests, make, scratch_remove);
}
