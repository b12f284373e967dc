/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Captures as files beneath one held directory. Names are made of ids and numbers only, links are
 * never followed, and each step leaves a state from which a restart goes on: a capture is built in
 * trash/ and renamed into captures/ when it is durable, and leaves through trash/ again. Storage,
 * bulk and read workers, and main before the loop; the descriptors below are constant while workers
 * run.
 */
#include "control/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "config/config.h"
#include "config/log.h"
#include "control/answer.h"
#include "control/file.h"
#include "control/spare.h"
#include "engine/fault.h"

#define PAGE         4096ULL
#define STEP_MIN     (1ULL << 20)
#define STEP_MAX     (256ULL << 20)
#define STEP_LAST    (64ULL << 10) /* below this a disk is full */
#define REMOVE_TRIES 3
#define FILES_EACH   4 /* of a capture beside its lanes, the directory among them */
#define RECORD_MAX   (1U << 20)
#define COPY_MAX     (64ULL << 20) /* a capture up to here is copied off its spare */
#define COPY         "copy.pcapng"
#define RECORD       "record"
#define RECORD_BAD   "record.bad"
#define STATE        "state"
#define DIR_FLAGS    (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define DIR_NAME_MAX (UUID_TEXT_SIZE + 5) /* UUID.open */

static struct {
	char path[CONFIG_TEXT_MAX];
	int root;
	int lock;
	int captures;
	int trash;
} store = {.root = -1, .lock = -1, .captures = -1, .trash = -1};

static int root_open(const char *root, struct err *err);
static int root_lock(const char *root, struct err *err);
static int root_dirs(const char *root, struct err *err);
static void trash_empty(void);
static void dir_name(const struct uuid *id, bool open, char name[DIR_NAME_MAX]);
static bool dir_name_parse(const char *name, struct uuid *id, bool *open);
static bool inodes_gone(unsigned n_lanes);
static int dir_sync(int dir);
static int dir_each(
	int parent, const char *name, int (*fn)(int dir, const char *name, void *arg), void *arg);
static int tree_remove(int parent, const char *name);
static int capture_build(struct store_capture *capture, const char *name, uint64_t expect_bytes,
	const void *header, uint64_t header_len, const char *record);
static int capture_appear(const char *name, const char *open_name);
static int lane_grow(struct store_lane *lane, uint64_t want_bytes);
static int lane_seal(int dir, const char *name, uint64_t len_bytes, const void *trailer,
	uint64_t trailer_len, int *suspect_rc);
static int lane_cut(int dir, const char *name, uint64_t len_bytes, int *suspect_rc);
static int fd_sync(int fd, int *suspect_rc);
static int lane_copy(int dir, const char *name, uint64_t len_bytes);
static int entry_unlink(int dir, const char *name);
static int entry_expire(int dir, const char *name, void *arg);
static int entry_discard(int dir, const char *name, void *arg);
static int entry_usage(int dir, const char *name, void *arg);
static void fd_close(int *fd);

int store_open(const char *root, struct err *err)
{
	int rc;

	rc = root_open(root, err);
	if (rc == 0)
		rc = root_lock(root, err);
	if (rc == 0)
		rc = root_dirs(root, err);
	if (rc != 0) {
		store_close();
		return rc;
	}
	snprintf(store.path, sizeof(store.path), "%s", root);
	rc = spare_open(store.root);
	if (rc != 0) {
		store_close();
		return err_set(
			err, -rc, "storage.root", "cannot open %s/spare: %s", root, strerror(-rc));
	}
	trash_empty();
	return 0;
}

void store_close(void)
{
	spare_close();
	fd_close(&store.trash);
	fd_close(&store.captures);
	fd_close(&store.lock);
	fd_close(&store.root);
}

int store_create(struct store_capture *capture, const struct uuid *id, unsigned n_lanes,
	uint64_t expect_bytes, const void *header, uint64_t header_len, const char *record,
	struct err *err)
{
	char name[DIR_NAME_MAX], open_name[DIR_NAME_MAX];
	int rc;

	if (n_lanes < 1 || n_lanes > STORE_LANES_MAX)
		return err_set(err, EINVAL, "output", "%u files are needed, 1 to %d are possible",
			n_lanes, STORE_LANES_MAX);
	*capture = (struct store_capture){.id = *id, .dir = -1, .n_lanes = n_lanes};
	capture->index.fd = -1;
	for (unsigned i = 0; i < n_lanes; i++)
		capture->lanes[i].fd = -1;
	dir_name(id, false, name);
	dir_name(id, true, open_name);
	rc = capture_build(capture, name, expect_bytes, header, header_len, record);
	if (rc == 0)
		rc = capture_appear(name, open_name);
	if (rc == 0)
		return 0;
	store_release(capture);
	tree_remove(store.trash, name);
	return err_set(err, -rc, "output", "cannot make the capture's files in %s: %s", store.path,
		rc == -ENOSPC && inodes_gone(n_lanes)
			? "its file system has no inode left for another file"
			: strerror(-rc));
}

void store_release(struct store_capture *capture)
{
	for (unsigned i = 0; i < capture->n_lanes; i++)
		store_lane_close(&capture->lanes[i]);
	index_close(&capture->index);
	fd_close(&capture->dir);
}

int store_extend(struct store_lane *lane, uint64_t want_bytes)
{
	if (lane->allocated_bytes == 0)
		return 0;
	return lane_grow(lane, want_bytes);
}

int store_sync(struct store_lane *lane)
{
	int rc = fdatasync(lane->fd) != 0 ? -errno : 0;

	answer_note();
	return rc;
}

int store_sync_all(struct store_capture *capture)
{
	int rc = 0;

	for (unsigned i = 0; i < capture->n_lanes; i++) {
		int lane_rc = store_sync(&capture->lanes[i]);

		rc = rc != 0 ? rc : lane_rc;
	}
	return rc;
}

int store_record_write(const struct uuid *id, const char *record)
{
	/* One at a time: two that replace the same file would rename each other's. */
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int dir, rc;

	rc = fault_point(FAULT_record_write);
	if (rc != 0)
		return rc;
	dir = store_dir_open(id, true);
	if (dir == -ENOENT)
		dir = store_dir_open(id, false);
	if (dir < 0)
		return dir;
	pthread_mutex_lock(&lock);
	rc = file_replace(dir, RECORD, record, strlen(record));
	pthread_mutex_unlock(&lock);
	close(dir);
	return rc;
}

int store_record_aside(const struct uuid *id)
{
	int dir = store_dir_open(id, true), rc = 0;

	if (dir == -ENOENT)
		dir = store_dir_open(id, false);
	if (dir < 0)
		return dir;
	if (renameat(dir, RECORD, dir, RECORD_BAD) != 0 && errno != ENOENT)
		rc = -errno;
	if (rc == 0)
		rc = dir_sync(dir);
	close(dir);
	return rc;
}

int store_state_write(struct store_capture *capture, struct store_state *state)
{
	int rc = fault_point(FAULT_state_write);

	if (rc != 0)
		return rc;
	state->version = STORE_STATE_VERSION;
	state->id = capture->id;
	state->generation++;
	return file_slot_write(capture->dir, STATE, state->generation, state, sizeof(*state));
}

/* As version 1 has it: nothing in it says whose it is. */
struct state_v1 {
	uint64_t generation;
	uint64_t accepted;
	uint64_t dropped;
	unsigned n_lanes;
	struct store_mark marks[STORE_LANES_MAX];
};

static int state_v1_read(int dir, struct store_state *state)
{
	struct state_v1 old;
	uint64_t generation;
	int rc;

	rc = file_slot_read(dir, STATE, &generation, &old, sizeof(old));
	if (rc != 0 || old.generation != generation || old.n_lanes > STORE_LANES_MAX)
		return -ENOENT;
	memset(state, 0, sizeof(*state));
	state->version = 1;
	state->generation = generation;
	state->n_lanes = old.n_lanes;
	memcpy(state->marks, old.marks, sizeof(state->marks));
	return 0;
}

int store_state_read(int dir, const struct uuid *id, struct store_state *state)
{
	uint64_t generation;

	if (file_slot_read(dir, STATE, &generation, state, sizeof(*state)) != 0)
		return state_v1_read(dir, state);
	if (state->version != STORE_STATE_VERSION || state->generation != generation ||
		state->n_lanes > STORE_LANES_MAX || memcmp(&state->id, id, sizeof(*id)) != 0)
		return -ENOENT;
	return 0;
}

void store_books_read(int dir, const struct uuid *id, struct store_books *books)
{
	struct store_state state;
	struct store_books note;

	memset(books, 0, sizeof(*books));
	if (store_state_read(dir, id, &state) == 0)
		*books = state.books;
	/* Counters never fall: of two the larger ones are the later ones, whatever the clock did. */
	if (index_note_load(dir, id, &note, sizeof(note)) == 0 && note.offered >= books->offered &&
		note.accepted >= books->accepted)
		*books = note;
}

/* The last record. The index is of no use any more, and what it takes may be what is missing. */
static int record_close(struct store_capture *capture, const char *record)
{
	int rc = file_replace(capture->dir, RECORD, record, strlen(record));

	if (rc != -ENOSPC)
		return rc;
	index_close(&capture->index);
	if (unlinkat(capture->dir, INDEX_NAME, 0) != 0)
		return rc;
	return file_replace(capture->dir, RECORD, record, strlen(record));
}

static int finish_one(struct store_capture *capture, unsigned lane, uint64_t len_bytes,
	const void *trailer, uint64_t trailer_len, const char *record, int *suspect_rc,
	uint64_t *size_bytes)
{
	char name[STORE_NAME_SIZE];
	int rc = 0;

	/* The cut gives back what was allocated ahead: on a full disk the record needs that. */
	store_lane_name(lane, name);
	if (faccessat(capture->dir, STORE_CAPTURE, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		snprintf(name, sizeof(name), STORE_CAPTURE);
	} else {
		if (capture->lanes[lane].spare && len_bytes <= COPY_MAX &&
			lane_copy(capture->dir, name, len_bytes) == 0)
			snprintf(name, sizeof(name), COPY);
		rc = lane_seal(capture->dir, name, len_bytes, trailer, trailer_len, suspect_rc);
	}
	if (rc == 0 && record != NULL)
		rc = record_close(capture, record);
	if (rc == 0)
		rc = store_publish(&capture->id, capture->dir, name, size_bytes);
	return rc;
}

/* All was done but the last step, which has to last. */
static int finish_published(const struct uuid *id, uint64_t *size_bytes)
{
	uint64_t allocated_bytes;
	int rc = store_size(id, size_bytes, &allocated_bytes);

	return rc != 0 ? rc : dir_sync(store.captures);
}

static int finish_several(struct store_capture *capture, const uint64_t *lane_bytes,
	const char *record, int *suspect_rc)
{
	char name[STORE_NAME_SIZE];
	int rc = 0;

	for (unsigned i = 0; i < capture->n_lanes && rc == 0; i++) {
		store_lane_name(i, name);
		rc = lane_cut(capture->dir, name, lane_bytes[i], suspect_rc);
	}
	if (rc == 0 && record != NULL)
		rc = record_close(capture, record);
	return rc != 0 ? rc : 1;
}

int store_lane_check(const struct store_lane *lane)
{
	struct stat st;

	if (fstat(lane->fd, &st) != 0)
		return -errno;
	if (st.st_nlink == 0)
		return -ESTALE;
	return (uint64_t)st.st_size < lane->allocated_bytes ? -ENODATA : 0;
}

const char *store_strerror(int rc)
{
	switch (rc) {
	case -ESTALE:
		return "somebody else has removed or replaced it";
	case -ENODATA:
		return "somebody else has cut it shorter than what was written";
	default:
		return strerror(-rc);
	}
}

/* The same file under this name? */
static bool entry_is(int dir, const char *name, int fd)
{
	struct stat by_name, held;

	return fstatat(dir, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &held) == 0 &&
	       by_name.st_ino == held.st_ino && by_name.st_dev == held.st_dev;
}

/* Names are used from here on: they must mean what is held, and files must hold what was written. */
static int capture_check(const struct store_capture *capture, const uint64_t *lane_bytes)
{
	char name[DIR_NAME_MAX], lane_name[STORE_NAME_SIZE];
	struct stat st;

	dir_name(&capture->id, true, name);
	if (!entry_is(store.captures, name, capture->dir))
		return -ESTALE;
	for (unsigned i = 0; i < capture->n_lanes; i++) {
		const int fd = capture->lanes[i].fd;

		if (fd < 0)
			continue;
		store_lane_name(i, lane_name);
		if (!entry_is(capture->dir, lane_name, fd))
			return -ESTALE;
		if (fstat(fd, &st) != 0)
			return -errno;
		if ((uint64_t)st.st_size < lane_bytes[i])
			return -ENODATA;
	}
	return 0;
}

int store_finish(struct store_capture *capture, const uint64_t *lane_bytes,
	const uint64_t *lane_packets, const void *trailer, uint64_t trailer_len, const char *record,
	int *suspect_rc, uint64_t *size_bytes)
{
	unsigned n = 0, only = 0;
	int rc;

	rc = capture->dir >= 0 ? capture_check(capture, lane_bytes) : 0;
	if (rc != 0) {
		store_release(capture);
		return rc;
	}
	for (unsigned i = 0; i < capture->n_lanes; i++) {
		/* Closed, a file may become a spare. */
		store_lane_close(&capture->lanes[i]);
		if (lane_packets[i] != 0 && n++ == 0)
			only = i;
	}
	if (capture->dir < 0) {
		capture->dir = store_dir_open(&capture->id, true);
		if (capture->dir == -ENOENT)
			return finish_published(&capture->id, size_bytes);
	}
	if (capture->dir < 0)
		rc = capture->dir;
	else if (n > 1)
		rc = finish_several(capture, lane_bytes, record, suspect_rc);
	else
		rc = finish_one(capture, only, lane_bytes[only], trailer, trailer_len, record,
			suspect_rc, size_bytes);
	store_release(capture);
	return rc;
}

int store_delete(const struct uuid *id)
{
	char to[DIR_NAME_MAX], from[DIR_NAME_MAX];
	int rc = -ENOENT;

	dir_name(id, false, to);
	tree_remove(store.trash, to);
	for (unsigned open = 0; open < 2 && rc == -ENOENT; open++) {
		dir_name(id, open, from);
		rc = renameat(store.captures, from, store.trash, to) != 0 ? -errno : 0;
		/* The sandbox lets no link move, which somebody put there; it may go. */
		if (rc == -EACCES && unlinkat(store.captures, from, 0) == 0)
			rc = 0;
	}
	if (rc == 0)
		rc = dir_sync(store.captures);
	if (rc != 0)
		return rc;
	return tree_remove(store.trash, to);
}

int store_expire(const struct uuid *id)
{
	char name[DIR_NAME_MAX], closed_name[DIR_NAME_MAX];
	int rc = -ENOENT, dir;

	dir_name(id, false, closed_name);
	for (unsigned open = 0; open < 2 && rc == -ENOENT; open++) {
		dir_name(id, open, name);
		rc = dir_each(store.captures, name, entry_expire, NULL);
		if (rc == 0 && open &&
			renameat(store.captures, name, store.captures, closed_name) != 0)
			rc = -errno;
	}
	if (rc != 0)
		return rc;
	dir = store_dir_open(id, false);
	if (dir < 0)
		return dir;
	rc = dir_sync(dir);
	close(dir);
	return rc != 0 ? rc : dir_sync(store.captures);
}

struct usage {
	uint64_t size_bytes;
	uint64_t allocated_bytes;
};

int store_usage(struct store_usage *usage)
{
	struct statvfs fs;

	if (fstatvfs(store.root, &fs) != 0)
		return -errno;
	usage->size_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
	usage->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}

int store_size(const struct uuid *id, uint64_t *size_bytes, uint64_t *allocated_bytes)
{
	struct usage sum = {0};
	char name[DIR_NAME_MAX];
	int rc = -ENOENT;

	for (unsigned open = 0; open < 2 && rc == -ENOENT; open++) {
		dir_name(id, open, name);
		rc = dir_each(store.captures, name, entry_usage, &sum);
	}
	*size_bytes = sum.size_bytes;
	*allocated_bytes = sum.allocated_bytes;
	return rc;
}

struct each {
	int (*fn)(const struct uuid *id, bool open, const char *record, void *arg);
	void *arg;
};

static int each_capture(int dir, const char *name, void *arg)
{
	struct each *each = arg;
	char *record = NULL;
	struct uuid id;
	bool open;
	int fd, rc;

	if (!dir_name_parse(name, &id, &open))
		return 0;
	fd = openat(dir, name, DIR_FLAGS);
	if (fd < 0)
		return 0;
	rc = file_load(fd, RECORD, RECORD_MAX, &record, NULL);
	close(fd);
	if (rc != 0)
		log_warning("cannot read the record of capture %s: %s", name, strerror(-rc));
	rc = each->fn(&id, open, record, each->arg);
	free(record);
	return rc;
}

int store_each(
	int (*fn)(const struct uuid *id, bool open, const char *record, void *arg), void *arg)
{
	struct each each = {.fn = fn, .arg = arg};

	return dir_each(store.root, "captures", each_capture, &each);
}

void store_path(const struct uuid *id, bool open, int lane, char *path, uint64_t size)
{
	char name[DIR_NAME_MAX], file[STORE_NAME_SIZE] = STORE_CAPTURE;

	dir_name(id, open, name);
	if (lane >= 0)
		store_lane_name(lane, file);
	snprintf(path, size, "%s/captures/%s/%s", store.path, name, file);
}

int store_root(void)
{
	return store.root;
}

int store_part_open(const char *path)
{
	const size_t len = strlen(store.path);
	int fd;

	if (store.root >= 0 && strncmp(path, store.path, len) == 0 && path[len] == '/')
		return file_open(store.root, path + len + strspn(path + len, "/"));
	/* Without an open store the path is a test's. */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

const char *store_system_name(int dir)
{
	static const struct {
		long magic;
		const char *name;
	} systems[] = {{EXT4_SUPER_MAGIC, "ext4"}, {XFS_SUPER_MAGIC, "xfs"}};
	struct statfs fs;

	if (fstatfs(dir, &fs) != 0)
		return NULL;
	for (unsigned i = 0; i < sizeof(systems) / sizeof(systems[0]); i++)
		if (fs.f_type == systems[i].magic)
			return systems[i].name;
	return NULL;
}

void store_lane_name(unsigned lane, char name[STORE_NAME_SIZE])
{
	snprintf(name, STORE_NAME_SIZE, "lane%u.pcapng", lane);
}

int store_dir_open(const struct uuid *id, bool open)
{
	char name[DIR_NAME_MAX];
	int dir;

	dir_name(id, open, name);
	dir = openat(store.captures, name, DIR_FLAGS);
	return dir < 0 ? -errno : dir;
}

int store_lane_open(struct store_lane *lane, int dir, const char *name, uint64_t from_bytes,
	uint64_t want_bytes)
{
	int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	int rc;

	*lane = (struct store_lane){.direct = true, .allocated_bytes = from_bytes};
	lane->fd = openat(dir, name, flags | O_DIRECT, 0600);
	if (lane->fd < 0 && errno == EINVAL) {
		lane->direct = false;
		lane->fd = openat(dir, name, flags, 0600);
	}
	if (lane->fd < 0)
		return -errno;
	rc = lane_grow(lane, want_bytes);
	if (rc == -EOPNOTSUPP) {
		lane->allocated_bytes = 0;
		rc = 0;
	}
	if (rc != 0)
		store_lane_close(lane);
	return rc;
}

void store_lane_close(struct store_lane *lane)
{
	fd_close(&lane->fd);
}

/*
 * Lanes are written O_DIRECT and are padded to a page; the end is made by a buffered descriptor.
 * The trailer goes into space that is allocated already and the cut comes after it, so that a full
 * disk does not stop a capture from being closed.
 */
int store_seal(
	int dir, const char *name, uint64_t len_bytes, const void *trailer, uint64_t trailer_len)
{
	int suspect_rc = 0;

	return lane_seal(dir, name, len_bytes, trailer, trailer_len, &suspect_rc);
}

static int lane_seal(int dir, const char *name, uint64_t len_bytes, const void *trailer,
	uint64_t trailer_len, int *suspect_rc)
{
	int fd, rc;

	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = file_write_at(fd, trailer, trailer_len, len_bytes);
	if (rc != 0)
		trailer_len = 0; /* at least the end of the last packet is the end of the file */
	if (ftruncate(fd, len_bytes + trailer_len) != 0 && rc == 0)
		rc = -errno;
	if (rc == 0)
		rc = fd_sync(fd, suspect_rc);
	else
		fdatasync(fd);
	close(fd);
	return rc;
}

int store_publish(const struct uuid *id, int dir, const char *name, uint64_t *size_bytes)
{
	static const char *const keep[] = {RECORD, RECORD_BAD, STORE_CAPTURE, NULL};
	char open_name[DIR_NAME_MAX], closed_name[DIR_NAME_MAX];
	struct stat st;
	int rc;

	dir_name(id, true, open_name);
	dir_name(id, false, closed_name);
	if (renameat(dir, name, dir, STORE_CAPTURE) != 0 && errno != ENOENT)
		return -errno;
	rc = dir_sync(dir);
	if (rc != 0)
		return rc;
	if (fstatat(dir, STORE_CAPTURE, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	*size_bytes = st.st_size;
	rc = dir_each(store.captures, open_name, entry_discard, (void *)keep);
	if (rc == 0)
		rc = dir_sync(dir);
	if (rc == 0 && renameat(store.captures, open_name, store.captures, closed_name) != 0)
		rc = -errno;
	return rc != 0 ? rc : dir_sync(store.captures);
}

static int root_open(const char *root, struct err *err)
{
	if (strlen(root) >= sizeof(store.path))
		return err_set(err, ENAMETOOLONG, "storage.root",
			"the path is longer than %zu bytes", sizeof(store.path) - 1);
	if (mkdir(root, 0700) != 0 && errno != EEXIST)
		return err_set(
			err, errno, "storage.root", "cannot make %s: %s", root, strerror(errno));
	store.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store.root < 0)
		return err_set(
			err, errno, "storage.root", "cannot open %s: %s", root, strerror(errno));
	return 0;
}

static int root_lock(const char *root, struct err *err)
{
	char pid[32] = "";
	ssize_t n;

	store.lock = openat(store.root, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (store.lock < 0)
		return err_set(err, errno, "storage.root", "cannot open %s/lock: %s", root,
			strerror(errno));
	if (flock(store.lock, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK)
			return err_set(err, errno, "storage.root", "cannot lock %s: %s", root,
				strerror(errno));
		n = pread(store.lock, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n - 1 : 0] = '\0'; /* without the newline */
		return err_set(err, EBUSY, "storage.root",
			"%s is in use by another sluiced (process %s): one daemon per root", root,
			pid);
	}
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(store.lock, 0) != 0 || file_write_at(store.lock, pid, strlen(pid), 0) != 0)
		log_warning("cannot write the process id to %s/lock",
			root); /* the lock holds all the same */
	return 0;
}

static int root_dir(const char *root, const char *name, int *fd, struct err *err)
{
	if (mkdirat(store.root, name, 0700) != 0 && errno != EEXIST)
		return err_set(err, errno, "storage.root", "cannot make %s/%s: %s", root, name,
			strerror(errno));
	*fd = openat(store.root, name, DIR_FLAGS);
	if (*fd < 0)
		return err_set(err, errno, "storage.root", "cannot open %s/%s: %s", root, name,
			strerror(errno));
	return 0;
}

static int root_dirs(const char *root, struct err *err)
{
	int rc;

	rc = root_dir(root, "captures", &store.captures, err);
	if (rc == 0)
		rc = root_dir(root, "trash", &store.trash, err);
	if (rc == 0 && (rc = dir_sync(store.root)) != 0)
		rc = err_set(err, -rc, "storage.root", "cannot sync %s: %s", root, strerror(-rc));
	return rc;
}

static int trash_entry(int dir, const char *name, void *arg)
{
	int rc = tree_remove(dir, name);

	if (rc != 0)
		log_warning("cannot remove trash/%s: %s", name, strerror(-rc));
	return 0;
}

static void trash_empty(void)
{
	dir_each(store.root, "trash", trash_entry, NULL);
}

static void dir_name(const struct uuid *id, bool open, char name[DIR_NAME_MAX])
{
	uuid_print(id, name);
	if (open)
		memcpy(name + UUID_TEXT_SIZE - 1, ".open", sizeof(".open"));
}

static bool dir_name_parse(const char *name, struct uuid *id, bool *open)
{
	size_t len = strlen(name);

	*open = len == DIR_NAME_MAX - 1 && strcmp(name + UUID_TEXT_SIZE - 1, ".open") == 0;
	if (*open)
		len = UUID_TEXT_SIZE - 1;
	return len == UUID_TEXT_SIZE - 1 && uuid_parse(name, len, id);
}

/* Files, not bytes, are what is short for another capture. */
static bool inodes_gone(unsigned n_lanes)
{
	struct statvfs fs;

	return fstatvfs(store.root, &fs) == 0 && fs.f_files != 0 &&
	       fs.f_favail < n_lanes + FILES_EACH;
}

static int dir_sync(int dir)
{
	int rc = fsync(dir) != 0 ? -errno : 0;

	answer_note();
	return rc;
}

/* Call fn for each name in parent/name; the first result that is not 0 ends it and is returned. */
static int dir_each(
	int parent, const char *name, int (*fn)(int dir, const char *name, void *arg), void *arg)
{
	struct dirent *entry;
	DIR *stream;
	int fd, rc = 0;

	fd = openat(parent, name, DIR_FLAGS);
	if (fd < 0)
		return -errno;
	stream = fdopendir(fd);
	if (stream == NULL) {
		rc = -errno;
		close(fd);
		return rc;
	}
	while (rc == 0 && (errno = 0, entry = readdir(stream)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = fn(fd, entry->d_name, arg);
	if (rc == 0 && errno != 0 && entry == NULL)
		rc = -errno;
	closedir(stream);
	return rc;
}

static int entry_unlink(int dir, const char *name)
{
	return unlinkat(dir, name, 0) != 0 && errno != ENOENT ? -errno : 0;
}

static int entry_remove(int dir, const char *name, void *arg)
{
	return spare_keep(dir, name) ? 0 : entry_unlink(dir, name);
}

/* What expires makes room: nothing of it is kept but the record. */
static int entry_expire(int dir, const char *name, void *arg)
{
	return strcmp(name, RECORD) == 0 ? 0 : entry_unlink(dir, name);
}

/* A directory of ours is one level deep. A record that was being replaced when the directory moved to
 * trash/ may still appear in it, once. */
static int tree_remove(int parent, const char *name)
{
	int rc = -ENOTEMPTY;

	for (unsigned tries = 0; tries < REMOVE_TRIES && rc == -ENOTEMPTY; tries++) {
		rc = dir_each(parent, name, entry_remove, NULL);
		if (rc == -ENOENT)
			return 0;
		if (rc == -ENOTDIR || rc == -ELOOP)
			return entry_remove(parent, name, NULL);
		if (rc == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0)
			rc = -errno;
	}
	return rc;
}

static int lane_make(struct store_lane *lane, int dir, const char *name, uint64_t expect_bytes,
	const void *header, uint64_t header_len)
{
	const uint64_t spare_size = spare_take(dir, name, expect_bytes);
	int fd, rc;

	rc = store_lane_open(lane, dir, name, spare_size, header_len);
	if (rc != 0)
		return rc;
	lane->spare = spare_size != 0;
	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = file_write_at(fd, header, header_len, 0);
	if (rc == 0 && fsync(fd) != 0)
		rc = -errno;
	close(fd);
	answer_note();
	return rc;
}

static int capture_build(struct store_capture *capture, const char *name, uint64_t expect_bytes,
	const void *header, uint64_t header_len, const char *record)
{
	char lane_name[STORE_NAME_SIZE];
	int rc;

	rc = tree_remove(store.trash, name);
	if (rc != 0)
		return rc;
	if (mkdirat(store.trash, name, 0700) != 0)
		return -errno;
	capture->dir = openat(store.trash, name, DIR_FLAGS);
	if (capture->dir < 0)
		return -errno;
	rc = file_replace(capture->dir, RECORD, record, strlen(record));
	if (rc == 0)
		rc = file_slots_make(capture->dir, STATE);
	if (rc == 0)
		rc = index_make(&capture->index, capture->dir, &capture->id, header, header_len);
	for (unsigned i = 0; i < capture->n_lanes && rc == 0; i++) {
		store_lane_name(i, lane_name);
		rc = lane_make(&capture->lanes[i], capture->dir, lane_name, expect_bytes, header,
			header_len);
	}
	return rc != 0 ? rc : dir_sync(capture->dir);
}

/* trash/UUID, durable, becomes captures/UUID.open; on failure it is back in trash/. */
static int capture_appear(const char *name, const char *open_name)
{
	int rc;

	if (renameat(store.trash, name, store.captures, open_name) != 0)
		return -errno;
	rc = dir_sync(store.captures);
	if (rc != 0)
		renameat(store.captures, open_name, store.trash, name);
	return rc;
}

static int lane_allocate(struct store_lane *lane, uint64_t step)
{
	int rc;

	do
		rc = fallocate(lane->fd, 0, lane->allocated_bytes, step);
	while (rc != 0 && errno == EINTR);
	if (rc != 0)
		return -errno;
	answer_note();
	lane->allocated_bytes += step;
	return 0;
}

/* Double, but by no less than 1 MiB and no more than 256 MiB, unless more is asked for at once. */
static uint64_t lane_step(const struct store_lane *lane, uint64_t want_bytes)
{
	uint64_t need = (want_bytes - lane->allocated_bytes + PAGE - 1) / PAGE * PAGE;
	uint64_t step = lane->allocated_bytes;

	if (step < STEP_MIN)
		step = STEP_MIN;
	if (step > STEP_MAX)
		step = STEP_MAX;
	return need > step ? need : step;
}

static int lane_grow(struct store_lane *lane, uint64_t want_bytes)
{
	uint64_t step;
	int rc = 0;

	if (lane->allocated_bytes >= want_bytes)
		return 0;
	step = lane_step(lane, want_bytes);
	while (lane->allocated_bytes < want_bytes) {
		rc = lane_allocate(lane, step);
		if (rc == -ENOSPC && spare_shrink(step) != 0)
			continue;
		if (rc == -ENOSPC && step / 2 >= STEP_LAST)
			step = step / 2 / PAGE * PAGE;
		else if (rc != 0)
			return rc;
	}
	return 0;
}

static int lane_cut(int dir, const char *name, uint64_t len_bytes, int *suspect_rc)
{
	int fd, rc;

	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, len_bytes) != 0 ? -errno : fd_sync(fd, suspect_rc);
	close(fd);
	return rc;
}

/* The first failure is told, and none after it: then nothing is believed. */
static int fd_sync(int fd, int *suspect_rc)
{
	int rc = fdatasync(fd) != 0 ? -errno : 0;

	answer_note();
	if (rc == 0 || *suspect_rc != 0)
		return 0;
	*suspect_rc = rc;
	return rc;
}

/* The first len_bytes of dir/name as dir/COPY, not durable yet; on failure there is none. */
static int lane_copy(int dir, const char *name, uint64_t len_bytes)
{
	int from = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int to = openat(dir, COPY, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n = from < 0 || to < 0 ? -1 : 1;

	for (; len_bytes > 0 && n > 0; len_bytes -= n)
		n = copy_file_range(from, NULL, to, NULL, len_bytes, 0);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	if (n > 0)
		return 0;
	unlinkat(dir, COPY, 0);
	return -EIO;
}

static int entry_discard(int dir, const char *name, void *arg)
{
	const char *const *keep = arg;

	for (; *keep != NULL; keep++)
		if (strcmp(name, *keep) == 0)
			return 0;
	return entry_remove(dir, name, NULL);
}

static int entry_usage(int dir, const char *name, void *arg)
{
	struct usage *sum = arg;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	sum->allocated_bytes += (uint64_t)st.st_blocks * 512;
	if (strstr(name, ".pcapng") != NULL)
		sum->size_bytes += st.st_size;
	return 0;
}

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
