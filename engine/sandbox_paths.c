/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A rule is a descriptor of a file or a directory and the rights to it and what is beneath. Reading is not
 * bound for the daemon: which files a resolver or a driver reads is theirs to change, and they are replaced
 * while it runs. What it must never do as user 0 is write: core_pattern, a crontab, somebody's keys.
 */
#include "engine/sandbox_paths.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <mntent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define REFER_ABI    2
#define TRUNCATE_ABI 3

#define EVERYTHING_ONCE ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1) /* of the first version */
#define READING         (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

/* What files and directories of ours are for; no devices, links or programs among them. */
#define KEEPING                                                                \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |       \
		LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | \
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REFER |       \
		LANDLOCK_ACCESS_FS_TRUNCATE)
#define WRITING (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
/* Of these the kernel wants none said of what is no directory. */
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE | WRITING)

struct ruleset {
	int fd;
	uint64_t handled;
};

static bool ruleset_begin(struct ruleset *rules, uint64_t handled);
static void ruleset_allow(const struct ruleset *rules, const char *path, uint64_t rights);
static bool ruleset_enter(struct ruleset *rules);
static int version(void);
static void mounts_allow(const struct ruleset *rules);
static void runtime_allow(const struct ruleset *rules);
static void device_allow(const struct ruleset *rules, const char *device);
static void faults_allow(const struct ruleset *rules);

bool sandbox_paths_read(const char *const *paths, unsigned n)
{
	struct ruleset rules;

	if (!ruleset_begin(&rules, EVERYTHING_ONCE))
		return false;
	for (unsigned i = 0; i < n; i++)
		ruleset_allow(&rules, paths[i], LANDLOCK_ACCESS_FS_READ_FILE);
	return ruleset_enter(&rules);
}

bool sandbox_paths_write(const struct config *config)
{
	/* What drivers open, and what the C library writes names of threads to. */
	static const char *const written[] = {"/proc/self", "/dev/null", "/dev/zero", "/dev/vfio",
		"/dev/infiniband", "/dev/net/tun"};
	uint64_t handled = EVERYTHING_ONCE & ~READING;
	char path[CONFIG_TEXT_MAX];
	struct ruleset rules;

	if (version() < REFER_ABI)
		return false;
	handled |= LANDLOCK_ACCESS_FS_REFER;
	if (version() >= TRUNCATE_ABI)
		handled |= LANDLOCK_ACCESS_FS_TRUNCATE;
	if (!ruleset_begin(&rules, handled))
		return false;
	(void)mkdir(config->storage.root, 0700); /* what is wrong with it the store says */
	ruleset_allow(&rules, config->storage.root, KEEPING);
	snprintf(path, sizeof(path), "%s", config->api.token_file);
	if (path[0] != '\0')
		ruleset_allow(&rules, dirname(path), KEEPING);
	for (unsigned i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		ruleset_allow(&rules, written[i], WRITING);
	mounts_allow(&rules);
	runtime_allow(&rules);
	for (unsigned i = 0; i < config->n_ports; i++)
		device_allow(&rules, config->ports[i].device);
	faults_allow(&rules);
	return ruleset_enter(&rules);
}

/* Hugepages are files that DPDK makes. */
static void mounts_allow(const struct ruleset *rules)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	const struct mntent *mount;

	if (mounts == NULL)
		return;
	while ((mount = getmntent(mounts)) != NULL)
		if (strcmp(mount->mnt_type, "hugetlbfs") == 0)
			ruleset_allow(rules, mount->mnt_dir, KEEPING);
	endmntent(mounts);
}

/* DPDK makes a directory for sockets and files that are never made, and complains where it may not: eal.c
 * removes it (DPDK 22.11, eal_create_runtime_dir()). */
static void runtime_allow(const struct ruleset *rules)
{
	const char *base = getuid() == 0 ? "/var/run" : getenv("XDG_RUNTIME_DIR");
	char path[CONFIG_TEXT_MAX];

	snprintf(path, sizeof(path), "%s/dpdk", base != NULL ? base : "/tmp");
	(void)mkdir(path, 0700);
	ruleset_allow(rules, path, LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR);
}

/* Registers of a PCI device are files beneath its own directory; a socket of memif is made. */
static void device_allow(const struct ruleset *rules, const char *device)
{
	char path[CONFIG_TEXT_MAX];
	const char *at = strstr(device, "socket=/");

	if (strchr(device, ':') != NULL && strstr(device, "=/") == NULL) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s%.*s",
			strchr(device, ':') == strrchr(device, ':') ? "0000:" : "",
			(int)strcspn(device, ","), device);
		ruleset_allow(rules, path, WRITING);
		for (unsigned i = 0; i < 16; i++) { /* a driver that is not vfio's */
			snprintf(path, sizeof(path), "/dev/uio%u", i);
			ruleset_allow(rules, path, WRITING);
		}
	}
	if (at == NULL)
		return;
	at += strlen("socket=");
	snprintf(path, sizeof(path), "%.*s", (int)strcspn(at, ","), at);
	ruleset_allow(rules, dirname(path),
		LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE |
			LANDLOCK_ACCESS_FS_WRITE_FILE);
}

/* What happened at fault points is written beside their rules. */
static void faults_allow(const struct ruleset *rules)
{
#ifdef SLUICE_FAULT_POINTS
	const char *file = getenv("SLUICE_FAULTS");
	char path[CONFIG_TEXT_MAX];

	snprintf(path, sizeof(path), "%s", file != NULL ? file : "");
	if (path[0] != '\0')
		ruleset_allow(rules, dirname(path), KEEPING);
#endif
}

static int version(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static bool ruleset_begin(struct ruleset *rules, uint64_t handled)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = handled};

	rules->handled = handled;
	rules->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	return rules->fd >= 0;
}

/* What is not there needs no rule. */
static void ruleset_allow(const struct ruleset *rules, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = {.parent_fd = open(path, O_PATH | O_CLOEXEC)};
	struct stat st;

	if (rule.parent_fd < 0)
		return;
	if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rights &= OF_FILES;
	rule.allowed_access = rights & rules->handled;
	(void)syscall(SYS_landlock_add_rule, rules->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

static bool ruleset_enter(struct ruleset *rules)
{
	bool done = syscall(SYS_landlock_restrict_self, rules->fd, 0) == 0;

	close(rules->fd);
	return done;
}
