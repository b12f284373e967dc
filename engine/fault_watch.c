/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The thread that keeps an eye on the file of fault rules and tells in another how often each point was
 * reached. Its own calls reach none.
 */
#include "engine/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/json.h"
#include "config/log.h"
#include "engine/fault_rule.h"

#define LOOK_NS    20000000
#define RULES_MAX  16384
#define COUNTS_MAX (FAULT_COUNT * 64 + FAULT_RULES_MAX * (FAULT_TEXT_MAX + 64) + 256)

static struct {
	const char *path; /* NULL: nobody wants faults */
	char counts_path[4096];
	struct stat seen;
	char told[COUNTS_MAX];
	pthread_t thread;
	atomic_bool stopping;
} watch;

static void *watch_main(void *arg);
static bool file_changed(void);
static int file_read(struct err *err);
static void counts_tell(void);
static void *json_alloc(size_t size);

int fault_start(struct err *err)
{
	int rc;

	log_info("this sluiced has fault points, for tests only");
	json_memory(json_alloc);
	watch.path = getenv("SLUICE_FAULTS");
	if (watch.path == NULL || watch.path[0] == '\0') {
		watch.path = NULL;
		return 0;
	}
	if (snprintf(watch.counts_path, sizeof(watch.counts_path), "%s.count", watch.path) >=
		(int)sizeof(watch.counts_path))
		return err_set(err, ENAMETOOLONG, "SLUICE_FAULTS", "the path is too long");
	fault_thread_exempt(true);
	file_changed();
	rc = file_read(err);
	if (rc == 0)
		counts_tell();
	fault_thread_exempt(false);
	if (rc != 0)
		return rc;
	rc = pthread_create(&watch.thread, NULL, watch_main, NULL);
	if (rc != 0) {
		watch.path = NULL;
		return err_set(err, rc, "SLUICE_FAULTS", "cannot start a thread: %s", strerror(rc));
	}
	pthread_setname_np(watch.thread, "fault");
	return 0;
}

void fault_stop(void)
{
	if (watch.thread != 0) {
		atomic_store(&watch.stopping, true);
		pthread_join(watch.thread, NULL);
		fault_thread_exempt(true);
		counts_tell();
		fault_thread_exempt(false);
	}
	memset(&watch, 0, sizeof(watch));
	fault_tables_free();
}

static void *watch_main(void *arg)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};

	fault_thread_exempt(true);
	while (!atomic_load(&watch.stopping)) {
		struct err err = {0};

		nanosleep(&pause, NULL);
		if (file_changed() && file_read(&err) != 0)
			log_error("%s: %s: the rules before stay in force", err.field, err.text);
		counts_tell();
	}
	return NULL;
}

/* A file that is replaced by rename has another inode, one that is written in place another time. */
static bool file_changed(void)
{
	struct stat now = {0};
	bool changed;

	if (stat(watch.path, &now) != 0)
		memset(&now, 0, sizeof(now));
	changed = now.st_ino != watch.seen.st_ino || now.st_size != watch.seen.st_size ||
		  now.st_mtim.tv_sec != watch.seen.st_mtim.tv_sec ||
		  now.st_mtim.tv_nsec != watch.seen.st_mtim.tv_nsec;
	watch.seen = now;
	return changed;
}

/* No file is no rules. */
static int file_read(struct err *err)
{
	char text[RULES_MAX];
	ssize_t n = 0;
	int fd;

	fd = open(watch.path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return err_set(err, errno, "SLUICE_FAULTS", "cannot read %s: %s", watch.path,
			strerror(errno));
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n < 0 || n == sizeof(text) - 1)
		return err_set(err, EFBIG, "SLUICE_FAULTS", "%s is longer than %d bytes",
			watch.path, RULES_MAX - 2);
	text[n] = '\0';
	return fault_set(text, err);
}

/* Written beside and renamed: who reads it reads one state. */
static void counts_tell(void)
{
	const struct fault_table *table = fault_table_now();
	static char text[COUNTS_MAX];
	char beside[sizeof(watch.counts_path) + 4];
	int len, fd;

	len = snprintf(text, sizeof(text), "tag %s\n", table != NULL ? table->tag : "");
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		len += snprintf(text + len, sizeof(text) - len,
			"point %s %" PRIu64 " %" PRIu64 "\n", fault_name(i), fault_calls(i),
			fault_hits(i));
	for (unsigned i = 0; table != NULL && i < table->n_rules; i++)
		len += snprintf(text + len, sizeof(text) - len, "rule %" PRIu64 " %" PRIu64 " %s\n",
			__atomic_load_n(&table->rules[i]->calls, __ATOMIC_RELAXED),
			__atomic_load_n(&table->rules[i]->hits, __ATOMIC_RELAXED),
			table->rules[i]->text);
	if (strcmp(text, watch.told) == 0)
		return;
	snprintf(beside, sizeof(beside), "%s.new", watch.counts_path);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (write(fd, text, len) == len && rename(beside, watch.counts_path) == 0)
		memcpy(watch.told, text, len + 1);
	close(fd);
}

static void *json_alloc(size_t size)
{
	return fault_fails(FAULT_json_alloc) ? NULL : malloc(size);
}
