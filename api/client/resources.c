/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/client/resources.h"

#include <inttypes.h>
#include <stdio.h>

#include "api/client/text.h"

static void bottleneck_print(const json_t *status);
static void admission_print(const json_t *admission);
static void nic_print(const json_t *nic);
static void rx_print(const json_t *rx);
static void blocks_print(const json_t *blocks);
static void disk_print(const json_t *disk);

void resources_print(const json_t *status)
{
	const json_t *resources = json_object_get(status, "resources");

	bottleneck_print(status);
	admission_print(json_object_get(status, "admission"));
	if (!json_is_object(resources))
		return;
	nic_print(json_object_get(resources, "nic"));
	rx_print(json_object_get(resources, "rx_core"));
	blocks_print(json_object_get(resources, "blocks"));
	disk_print(json_object_get(resources, "disk"));
}

static void bottleneck_print(const json_t *status)
{
	const char *name = text_string(status, "bottleneck");
	const char *explanation = text_string(status, "explanation");
	char since[TEXT_SIZE];

	if (*name == '\0')
		printf("bottleneck  none\n");
	else
		printf("bottleneck  %s, since %s\n", name,
			text_time(since, json_object_get(status, "bottleneck_since")));
	if (*explanation != '\0')
		printf("because     %s\n", explanation);
}

static void admission_print(const json_t *admission)
{
	const uint64_t ceiling = text_number(admission, "ceiling_bytes_per_second");
	const uint64_t n_degraded = text_number(admission, "degraded_captures");
	const json_t *since = json_object_get(admission, "overloaded_since");
	char load[TEXT_SIZE], most[TEXT_SIZE], left[TEXT_SIZE], text[TEXT_SIZE];

	if (!json_is_object(admission))
		return;
	printf("captures    bring %s/s",
		text_si(load, text_number(admission, "load_bytes_per_second"), "B"));
	if (ceiling != 0)
		printf(" of %s/s, %s/s left", text_si(most, ceiling, "B"),
			text_si(left, text_number(admission, "left_bytes_per_second"), "B"));
	if (json_is_string(since))
		printf("; overload since %s", text_time(text, since));
	if (n_degraded != 0)
		printf("; %" PRIu64 " degraded", n_degraded);
	printf(" (on overload: %s)\n", text_string(admission, "overload"));
}

static void nic_print(const json_t *nic)
{
	json_t *port;
	size_t i;

	json_array_foreach (json_object_get(nic, "ports"), i, port) {
		char rx[TEXT_SIZE], missed[TEXT_SIZE], nombuf[TEXT_SIZE], errors[TEXT_SIZE];

		printf("%-11s %s: %s packets/s; lost: missed %s/s, no buffer %s/s, errors %s/s "
		       "(visible: %s)\n",
			i == 0 ? "nic" : "", text_string(port, "name"),
			text_si(rx, text_number(port, "packets_per_second"), ""),
			text_si(missed, text_number(port, "missed_per_second"), ""),
			text_si(nombuf, text_number(port, "nombuf_per_second"), ""),
			text_si(errors, text_number(port, "errors_per_second"), ""),
			text_string(port, "loss_visibility"));
	}
}

static void rx_print(const json_t *rx)
{
	json_t *lcore;
	size_t i;

	json_array_foreach (json_object_get(rx, "lcores"), i, lcore) {
		printf("%-11s lcore %" PRIu64 " on CPU %" PRIu64 ": busy %" PRIu64
		       " %%, without its CPU %" PRIu64 " %%, full polls %" PRIu64 " %%\n",
			i == 0 ? "rx_core" : "", text_number(lcore, "lcore"),
			text_number(lcore, "cpu"), text_number(lcore, "busy_percent"),
			text_number(lcore, "waited_percent"),
			text_number(lcore, "full_polls_percent"));
	}
}

static void blocks_print(const json_t *blocks)
{
	char low[TEXT_SIZE], total[TEXT_SIZE], missed[TEXT_SIZE];
	json_t *writer;
	size_t i;

	printf("blocks      %s of %s free at worst; packets that found none %s/s\n",
		text_digits(low, text_number(blocks, "low")),
		text_digits(total, text_number(blocks, "total")),
		text_si(missed, text_number(blocks, "missed_per_second"), ""));
	json_array_foreach (json_object_get(blocks, "writers"), i, writer) {
		printf("            writer on CPU %" PRIu64 ": busy %" PRIu64
		       " %%, without its CPU %" PRIu64 " %%\n",
			text_number(writer, "cpu"), text_number(writer, "busy_percent"),
			text_number(writer, "waited_percent"));
	}
}

static void disk_print(const json_t *disk)
{
	const uint64_t rate = text_number(disk, "bytes_per_second");
	const uint64_t ceiling = text_number(disk, "ceiling_bytes_per_second");
	char now[TEXT_SIZE], most[TEXT_SIZE], share[TEXT_SIZE + 64] = "its ceiling is not known";

	if (ceiling != 0)
		snprintf(share, sizeof(share), "%.0f %% of its ceiling, %s/s",
			(double)rate * 100 / (double)ceiling, text_si(most, ceiling, "B"));
	printf("disk        %s/s, %s; a write in flight %" PRIu64 " %% of the time, %" PRIu64
	       " of at most %" PRIu64 " now, %" PRIu64 " slow\n",
		text_si(now, rate, "B"), share, text_number(disk, "busy_percent"),
		text_number(disk, "in_flight"), text_number(disk, "in_flight_max"),
		text_number(disk, "slow_writes"));
}
