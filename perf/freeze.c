/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * perf-freeze: stops one thread of a process for some milliseconds, and no other: what a disk that hangs
 * does to a writer. Through ptrace, so that the program under test needs to know nothing of it. Says
 * "frozen" once the thread stands still.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>

static pid_t thread_find(const char *pid, const char *name);
static int thread_freeze(pid_t tid, long ms);

int main(int argc, char **argv)
{
	const long ms = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
	pid_t tid;
	int rc;

	if (ms <= 0) {
		fprintf(stderr, "usage: perf-freeze PID THREAD-NAME MILLISECONDS\n");
		return 2;
	}
	tid = thread_find(argv[1], argv[2]);
	rc = tid > 0 ? thread_freeze(tid, ms) : -ESRCH;
	if (rc != 0)
		fprintf(stderr, "perf-freeze: thread %s of %s: %s\n", argv[2], argv[1],
			strerror(-rc));
	return rc != 0;
}

/* The first thread of that name. */
static pid_t thread_find(const char *pid, const char *name)
{
	char path[320], found[32];
	struct dirent *entry;
	pid_t tid = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	tasks = opendir(path);
	while (tasks != NULL && tid == 0 && (entry = readdir(tasks)) != NULL) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", pid, entry->d_name);
		file = entry->d_name[0] != '.' ? fopen(path, "re") : NULL;
		if (file == NULL)
			continue;
		if (fscanf(file, "%31s", found) == 1 && strcmp(found, name) == 0)
			tid = (pid_t)strtol(entry->d_name, NULL, 10);
		fclose(file);
	}
	if (tasks != NULL)
		closedir(tasks);
	return tid;
}

static int thread_freeze(pid_t tid, long ms)
{
	const struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	int status;

	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0 ||
		ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0)
		return -errno;
	if (waitpid(tid, &status, __WALL) != tid)
		return -errno;
	printf("frozen\n");
	fflush(stdout);
	nanosleep(&wait, NULL);
	return ptrace(PTRACE_DETACH, tid, NULL, NULL) == 0 ? 0 : -errno;
}
