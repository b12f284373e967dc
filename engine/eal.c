/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/eal.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "config/log.h"

#define ARGS_MAX           32
#define HUGEPAGES_MIN      64 /* of 2 MiB: 128 MiB for pools and a small arena */
#define HUGEPAGES_WAIT_MS  3000
#define HUGEPAGES_PATH_MAX 256
#define NO_HUGE_MB_BASE    64
#define NO_HUGE_MB_DEVICE \
	512 /* address space for a device's mempools; only what is used is touched */

struct args {
	int n;
	char *arg[ARGS_MAX];
	char text[ARGS_MAX][1024];
};

static bool hugepages_choose(enum config_hugepages wish);
static unsigned long hugepages_read(const char *what);
static bool hugepages_denied(char path[HUGEPAGES_PATH_MAX]);
static void args_add(struct args *args, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void args_fill(struct args *args, const struct config *config, bool huge);
static bool device_is_pci(const char *device);

int eal_start(const struct config *config, bool *huge, struct err *err)
{
	static struct args args;
	char denied[HUGEPAGES_PATH_MAX];

	*huge = hugepages_choose(config->engine.hugepages);
	if (*huge && hugepages_denied(denied)) {
		if (config->engine.hugepages == CONFIG_HUGEPAGES_YES)
			return err_set(err, EACCES, "engine.hugepages",
				"hugepages = yes, but %s, where hugetlbfs is mounted, may not be "
				"opened",
				denied);
		log_info("hugepages are there, but %s may not be opened", denied);
		*huge = false;
	}
	if (!*huge && config->engine.hugepages == CONFIG_HUGEPAGES_YES)
		return err_set(err, ENOMEM, "engine.hugepages",
			"hugepages = yes, but %lu of %lu hugepages of 2 MiB are free and at least "
			"%u are "
			"needed (sysctl vm.nr_hugepages)",
			hugepages_read("free_hugepages"), hugepages_read("nr_hugepages"),
			HUGEPAGES_MIN);
	if (!*huge)
		log_info(
			"running without hugepages: packet buffers cost more TLB misses, expect 10 "
			"to 20 %% less on device ports (engine.hugepages)");
	args_fill(&args, config, *huge);
	rte_log_set_global_level(RTE_LOG_WARNING);
	if (rte_eal_init(args.n, args.arg) < 0)
		return err_set(err, rte_errno != 0 ? rte_errno : EIO, "engine",
			"DPDK's environment does not start: %s", rte_strerror(rte_errno));
	/* Made for sockets and files that are not, it would stay for ever. */
	rmdir(rte_eal_get_runtime_dir());
	return 0;
}

void eal_stop(void)
{
	rte_eal_cleanup();
}

static bool hugepages_choose(enum config_hugepages wish)
{
	const struct timespec nap = {.tv_nsec = 100000000};

	if (wish == CONFIG_HUGEPAGES_NO || hugepages_read("nr_hugepages") < HUGEPAGES_MIN)
		return false;
	/* Pages of a process that was killed a moment ago come back a little later. */
	for (unsigned ms = 0; hugepages_read("free_hugepages") < HUGEPAGES_MIN; ms += 100) {
		if (ms >= HUGEPAGES_WAIT_MS) {
			log_info("hugepages are reserved but in use: only %lu are free",
				hugepages_read("free_hugepages"));
			return false;
		}
		nanosleep(&nap, NULL);
	}
	return true;
}

/* DPDK opens the first hugetlbfs of 2 MiB pages, though it will put nothing there, and gives up where it
 * may not. */
static bool hugepages_denied(char path[HUGEPAGES_PATH_MAX])
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	const struct mntent *mount;
	bool denied = false;

	if (mounts == NULL)
		return false;
	while ((mount = getmntent(mounts)) != NULL) {
		if (strcmp(mount->mnt_type, "hugetlbfs") != 0 ||
			strstr(mount->mnt_opts, "pagesize=1") != NULL)
			continue;
		snprintf(path, HUGEPAGES_PATH_MAX, "%s", mount->mnt_dir);
		denied = faccessat(AT_FDCWD, mount->mnt_dir, R_OK, AT_EACCESS) < 0;
		break;
	}
	endmntent(mounts);
	return denied;
}

static unsigned long hugepages_read(const char *what)
{
	unsigned long n = 0;
	char path[96];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-2048kB/%s", what);
	file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%lu", &n) != 1)
		n = 0;
	fclose(file);
	return n;
}

static void args_fill(struct args *args, const struct config *config, bool huge)
{
	const struct config_cpus *rx = &config->engine.rx_cpus;
	char lcores[512];
	int len = snprintf(lcores, sizeof(lcores), "0@%u", config->engine.main_cpu);
	unsigned n_devices = 0;
	bool pci = false;

	for (unsigned i = 0; i < rx->n; i++)
		len += snprintf(lcores + len, sizeof(lcores) - len, ",%u@%u", i + 1, rx->cpu[i]);
	for (unsigned i = 0; i < config->n_ports; i++) {
		n_devices += config->ports[i].device[0] != '\0';
		pci |= device_is_pci(config->ports[i].device);
	}
	args_add(args, "sluiced");
	args_add(args, "--lcores=%s", lcores);
	args_add(args, "--main-lcore=0");
	args_add(args, "--no-telemetry");
	args_add(args, "--no-shconf");
	args_add(args, "--file-prefix=sluice-%d", (int)getpid());
	if (huge) {
		args_add(args, "--in-memory");
	} else {
		args_add(args, "--no-huge");
		args_add(args, "-m");
		args_add(args, "%u", NO_HUGE_MB_BASE + n_devices * NO_HUGE_MB_DEVICE);
	}
	if (!pci)
		args_add(args, "--no-pci");
	for (unsigned i = 0; i < config->n_ports; i++) {
		if (!device_is_pci(config->ports[i].device))
			continue;
		args_add(args, "-a");
		args_add(args, "%s", config->ports[i].device);
	}
}

static void args_add(struct args *args, const char *fmt, ...)
{
	va_list list;

	if (args->n == ARGS_MAX - 1)
		return;
	va_start(list, fmt);
	vsnprintf(args->text[args->n], sizeof(args->text[args->n]), fmt, list);
	va_end(list);
	args->arg[args->n] = args->text[args->n];
	args->n++;
}

/* DDDD:BB:DD.F or BB:DD.F, perhaps with driver arguments behind it. */
static bool device_is_pci(const char *device)
{
	unsigned a, b, c, d;

	return sscanf(device, "%x:%x:%x.%u", &a, &b, &c, &d) == 4 ||
	       sscanf(device, "%x:%x.%u", &a, &b, &c) == 3;
}
