/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "config/json.h"
#include "control/stream.h"
#include "engine/clock.h"
#include "engine/pcapng.h"

#define LIMIT_NS_MAX     (10ULL * 365 * 86400 * CLOCK_NS_PER_S)
#define HEADER_BLOCK_MAX (FILTER_EXPRESSION_MAX + CONFIG_TEXT_MAX + 1024)

static int bucket_check(
	const struct session_spec *spec, const struct config *config, struct err *err);
static int prefix_check(const char *prefix, struct err *err);
static int ports_check(const struct session_spec *spec, struct err *err);
static size_t section_put(void *buf, size_t size);
static size_t interface_put(void *buf, size_t size, const struct session_spec *spec, unsigned i);
static void cpu_read(char *text, size_t size);

int spec_check(const struct session_spec *spec, const struct config *config, struct err *err)
{
	if (spec->name != NULL && strlen(spec->name) >= SESSION_NAME_MAX)
		return err_set(err, EINVAL, "name",
			"%zu bytes are too long, at most %d are allowed", strlen(spec->name),
			SESSION_NAME_MAX - 1);
	if (spec->notes != NULL && strlen(spec->notes) >= SESSION_NOTES_MAX)
		return err_set(err, EINVAL, "notes",
			"%zu bytes are too long, at most %d are allowed", strlen(spec->notes),
			SESSION_NOTES_MAX - 1);
	if (spec->filter != NULL && strlen(spec->filter) >= FILTER_EXPRESSION_MAX)
		return err_set(err, EINVAL, "filter",
			"%zu bytes are too long, at most %d are allowed", strlen(spec->filter),
			FILTER_EXPRESSION_MAX - 1);
	if (spec->snaplen_bytes > TAP_SNAPLEN_MAX)
		return err_set(err, EINVAL, "snaplen",
			"%llu is out of range: 1 to %d, or 0 for whole packets",
			(unsigned long long)spec->snaplen_bytes, TAP_SNAPLEN_MAX);
	if (spec->sample_mode != SAMPLE_NONE && (spec->sample_n < 1 || spec->sample_n > UINT32_MAX))
		return err_set(err, EINVAL, "sampling.n", "%llu is out of range: 1 to %u",
			(unsigned long long)spec->sample_n, UINT32_MAX);
	if (spec->rate_pps > SESSION_RATE_MAX)
		return err_set(err, EINVAL, "sampling.rate_pps",
			"%llu is out of range: 1 to %llu, or 0 for no bound",
			(unsigned long long)spec->rate_pps, SESSION_RATE_MAX);
	if (spec->expected_bytes > INT64_MAX || spec->expected_packets > INT64_MAX)
		return err_set(err, EINVAL, "expected", "at most 9223372036854775807 is allowed");
	if (spec->output == OUTPUT_STREAM && stream_check(spec, config, err) != 0)
		return -err->code;
	if (spec->output == OUTPUT_S3 && bucket_check(spec, config, err) != 0)
		return -err->code;
	if (ports_check(spec, err) != 0)
		return -err->code;
	return spec_limits_check(spec, config, err);
}

int spec_limits_check(const struct session_spec *spec, const struct config *config, struct err *err)
{
	const uint64_t least = (spec->n_ports + 1) * 512 + spec->n_ports * PCAPNG_STATISTICS_MAX +
			       (spec->filter != NULL ? strlen(spec->filter) * spec->n_ports : 0);

	if (spec->limit_ns > LIMIT_NS_MAX)
		return err_set(err, EINVAL, "limits.seconds", "%llu is out of range: at most %llu",
			(unsigned long long)(spec->limit_ns / CLOCK_NS_PER_S),
			(unsigned long long)(LIMIT_NS_MAX / CLOCK_NS_PER_S));
	if (spec->limit_packets > INT64_MAX || spec->limit_bytes > INT64_MAX ||
		spec->limit_file_bytes > INT64_MAX)
		return err_set(err, EINVAL, "limits", "at most 9223372036854775807 is allowed");
	if (spec->limit_file_bytes != 0 && spec->limit_file_bytes < least)
		return err_set(err, EINVAL, "limits.file_bytes",
			"%llu is too small: a file with its headers and statistics needs at least "
			"%llu",
			(unsigned long long)spec->limit_file_bytes, (unsigned long long)least);
	if (!config->capture.endless && spec->limit_ns == 0 && spec->limit_packets == 0 &&
		spec->limit_bytes == 0 && spec->limit_file_bytes == 0)
		return err_set(err, EINVAL, "limits",
			"this host wants a limit of packets, bytes, seconds or file_bytes "
			"(capture.endless = no)");
	return 0;
}

void *spec_header(const struct session_spec *spec, size_t *len)
{
	const size_t size = (size_t)(1 + spec->n_ports) * HEADER_BLOCK_MAX;
	uint8_t *buf = malloc(size);

	if (buf == NULL)
		return NULL;
	*len = section_put(buf, size);
	for (unsigned i = 0; i < spec->n_ports; i++)
		*len += interface_put(buf + *len, size - *len, spec, i);
	return buf;
}

/* A bucket of others is answered like one that is not there. */
static int bucket_check(
	const struct session_spec *spec, const struct config *config, struct err *err)
{
	const char *name = spec->bucket != NULL ? spec->bucket : "";
	const char *account = spec->account != NULL ? spec->account : "*";
	const struct config_bucket *bucket = config_bucket_find(config, name);
	char list[200] = "";
	size_t len = 0;

	if (bucket != NULL && config_bucket_allows(config, bucket, account))
		return prefix_check(spec->prefix != NULL ? spec->prefix : "", err);
	for (unsigned i = 0; i < config->n_buckets && len < sizeof(list); i++)
		if (config_bucket_allows(config, &config->buckets[i], account))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
				len > 0 ? ", " : "", config->buckets[i].name);
	return err_set(err, EINVAL, "output.bucket", "there is no bucket \"%.63s\"; allowed: %s",
		name,
		len > 0 ? list : "none, as the configuration has no [bucket] for this account");
}

/* Parts between slashes, none of them empty, "." or "..". */
static int prefix_check(const char *prefix, struct err *err)
{
	json_t *utf8 = json_string(prefix);
	bool good = utf8 != NULL && strlen(prefix) <= SESSION_PREFIX_MAX;

	json_decref(utf8);
	for (const char *c = prefix; *c != '\0' && good; c++)
		good = (unsigned char)*c >= 0x20 && *c != 0x7f;
	for (const char *at = prefix; *prefix != '\0' && good;) {
		const size_t len = strcspn(at, "/");

		good = len != 0 && (len != 1 || *at != '.') &&
		       (len != 2 || strncmp(at, "..", 2) != 0);
		if (at[len] == '\0')
			break;
		at += len + 1;
	}
	if (good)
		return 0;
	return err_set(err, EINVAL, "output.prefix",
		"allowed: at most %d bytes of UTF-8 as a/b, without control characters, . and .., "
		"and no / at either end",
		SESSION_PREFIX_MAX);
}

static int ports_check(const struct session_spec *spec, struct err *err)
{
	if (spec->n_ports == 0)
		return err_set(err, EINVAL, "ports", "at least one port is needed");
	for (unsigned i = 0; i < spec->n_ports; i++) {
		const struct port *port = engine_port(spec->ports[i]);

		for (unsigned k = 0; k < i; k++)
			if (spec->ports[k] == spec->ports[i])
				return err_set(err, EINVAL, "ports", "\"%s\" is named twice",
					port->config->name);
		if (spec->direction != DIRECTION_BOTH && port->direction == PORT_DIRECTION_NONE)
			return err_set(err, EINVAL, "direction",
				"port \"%s\" does not tell which way packets go, only \"both\" is "
				"possible "
				"there",
				port->config->name);
		if (__atomic_load_n(&port->gone, __ATOMIC_RELAXED))
			return err_set(err, ENODEV, "ports",
				"port \"%s\" is gone: its device was removed; "
				"restart the daemon when it is back",
				port->config->name);
	}
	return 0;
}

static size_t section_put(void *buf, size_t size)
{
	struct utsname os;
	char cpu[128], os_text[256];

	cpu_read(cpu, sizeof(cpu));
	uname(&os);
	snprintf(os_text, sizeof(os_text), "%.60s %.120s", os.sysname, os.release);
	return pcapng_section_put(buf, size,
		&(struct pcapng_section){
			.hardware = cpu,
			.os = os_text,
			.application = "Sluice " SLUICE_VERSION,
		});
}

static size_t interface_put(void *buf, size_t size, const struct session_spec *spec, unsigned i)
{
	const struct port *port = engine_port(spec->ports[i]);
	const struct config_port *config = port->config;
	const uint32_t wanted =
		spec->snaplen_bytes != 0 ? (uint32_t)spec->snaplen_bytes : TAP_SNAPLEN_MAX;
	char description[CONFIG_TEXT_MAX + 64];

	snprintf(description, sizeof(description), "%s %s (%s)", port->ops->kind,
		config->device[0] != '\0' ? config->device : config->interface, port->driver);
	return pcapng_interface_put(buf, size,
		&(struct pcapng_interface){
			.name = config->name,
			.description = description,
			.filter = spec->filter,
			.snaplen = wanted < config->snaplen_bytes ? wanted : config->snaplen_bytes,
			.speed_bps = (uint64_t)port->speed_mbps * 1000000,
		});
}

static void cpu_read(char *text, size_t size)
{
	static const char key[] = "model name";
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "re");

	text[0] = '\0';
	while (file != NULL && text[0] == '\0' && fgets(line, sizeof(line), file) != NULL) {
		const char *colon = strchr(line, ':');

		if (colon == NULL || strncmp(line, key, sizeof(key) - 1) != 0)
			continue;
		snprintf(text, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
	}
	if (file != NULL)
		fclose(file);
}
