/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"
#include "control/ceiling.h"
#include "control/control.h"
#include "control/load.h"
#include "control/session.h"
#include "control/totals.h"
#include "engine/engine.h"
#include "engine/pcapng.h"

#define LANES_MAX    4
#define PACKET_BYTES 60

struct fake_wait {
	session_done *done;
	void *arg;
	struct fake_wait *next;
};

struct session {
	struct session *newer, *older;
	struct fake_wait *waits;
	bool gone; /* deleted; as with the real one, who walks over the sessions may still stand on it */
	uint64_t serial;
	struct session_info info;
	uint64_t lane_bytes[LANES_MAX];
	uint64_t file_bytes;
	char *strings[6];
	unsigned n_strings;
};

static struct {
	char root[CONFIG_TEXT_MAX];
	struct session *newest;
	uint64_t serial;
	struct err err;
	struct session_spec spec;
} fake;

void fake_engine_start(const struct config *config);
void fake_engine_stop(void);

static void waits_tell(struct session *session, struct session *told);

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void fake_start(const struct config *config, const char *root)
{
	memset(&fake, 0, sizeof(fake));
	snprintf(fake.root, sizeof(fake.root), "%s", root);
	fake_engine_start(config);
}

static void session_free(struct session *session)
{
	if (session->newer != NULL)
		session->newer->older = session->older;
	else
		fake.newest = session->older;
	if (session->older != NULL)
		session->older->newer = session->newer;
	waits_tell(session, NULL);
	for (unsigned i = 0; i < session->n_strings; i++)
		free(session->strings[i]);
	free(session);
}

void fake_stop(void)
{
	while (fake.newest != NULL)
		session_free(fake.newest);
	fake_engine_stop();
}

void fake_create_fail(int code, const char *field, const char *text)
{
	memset(&fake.err, 0, sizeof(fake.err));
	if (code != 0)
		err_set(&fake.err, code, field, "%s", text);
}

const struct session_spec *fake_spec(void)
{
	return &fake.spec;
}

void fake_state_set(struct session *session, enum session_state state, enum end_reason reason)
{
	session->info.state = state;
	session->info.reason = reason;
	if (session_state_closed(state) && session->info.ended_ns == 0)
		session->info.ended_ns = now_ns();
}

void fake_ledger_set(struct session *session, const struct ledger *ledger)
{
	session->info.ledger = *ledger;
}

void fake_created_set(struct session *session, uint64_t wall_ns)
{
	session->info.created_ns = wall_ns;
}

static void path_print(const struct session *session, int lane, char *path, size_t size)
{
	char id[UUID_TEXT_SIZE];

	uuid_print(&session->info.id, id);
	if (lane < 0)
		snprintf(path, size, "%s/%s.pcapng", fake.root, id);
	else
		snprintf(path, size, "%s/%s.lane%d", fake.root, id, lane);
}

static size_t packet_put(uint8_t *at, unsigned number)
{
	uint64_t stamp = 1700000000123456789ULL + number;
	struct pcapng_epb_head head = {
		.type = PCAPNG_EPB,
		.total_len = pcapng_epb_len(PACKET_BYTES, 0),
		.ts_high = stamp >> 32,
		.ts_low = (uint32_t)stamp,
		.cap_len = PACKET_BYTES,
		.orig_len = PACKET_BYTES,
	};

	memcpy(at, &head, sizeof(head));
	memset(at + sizeof(head), number, PACKET_BYTES);
	memcpy(at + head.total_len - 4, &head.total_len, 4);
	return head.total_len;
}

void fake_file_write(struct session *session, int lane, unsigned n_packets)
{
	uint8_t *file = calloc(1, 4096 + (size_t)n_packets * 100);
	struct pcapng_section section = {.application = "fake"};
	struct pcapng_interface interface = {.name = "tap0"};
	char path[CONFIG_TEXT_MAX + 64];
	size_t len = 0;
	int fd;

	len += pcapng_section_put(file, 4096, &section);
	len += pcapng_interface_put(file + len, 4096 - len, &interface);
	for (unsigned i = 0; i < n_packets; i++)
		len += packet_put(file + len, i);
	path_print(session, lane, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, file, len) != (ssize_t)len)
		abort();
	close(fd);
	free(file);
	session->info.size_bytes = len;
	if (lane < 0)
		session->file_bytes = len;
	else
		session->lane_bytes[lane] = len;
}

static const char *keep(struct session *session, const char *text)
{
	return session->strings[session->n_strings++] = strdup(text != NULL ? text : "");
}

void session_create(const struct session_spec *spec, session_done *done, void *arg)
{
	struct session *session;
	struct session_info *info;
	unsigned n;

	fake.spec = *spec;
	if (fake.err.code != 0) {
		done(NULL, &fake.err, arg);
		return;
	}
	/* What libpcap would say to this one. */
	if (spec->filter != NULL && strstr(spec->filter, "prot 80") != NULL) {
		struct err err;

		err_set(&err, EINVAL, "filter", "syntax error at position 5: \"prot\"");
		done(NULL, &err, arg);
		return;
	}
	session = calloc(1, sizeof(*session));
	info = &session->info;
	uuid_make(&info->id);
	info->name = keep(session, spec->name);
	info->notes = keep(session, spec->notes);
	info->account = keep(session, spec->account);
	info->owner = keep(session, spec->owner);
	info->filter = keep(session, spec->filter);
	info->vendor = spec->vendor != NULL ? keep(session, spec->vendor) : NULL;
	info->dialect = spec->dialect;
	info->state = SESSION_running;
	info->n_ports = spec->n_ports;
	for (unsigned i = 0; i < spec->n_ports; i++)
		info->ports[i] = engine_port(spec->ports[i])->config->name;
	info->filter_engine = spec->filter != NULL && *spec->filter != '\0' ? FILTER_ENGINE_JIT
									    : FILTER_ENGINE_NONE;
	info->sample_mode = spec->sample_mode;
	info->sample_n = spec->sample_n;
	info->rate_pps = spec->rate_pps;
	info->replaces = spec->replaces;
	info->snaplen_bytes = spec->snaplen_bytes != 0 ? spec->snaplen_bytes : 262144;
	info->direction = spec->direction;
	info->limit_packets = spec->limit_packets;
	info->limit_bytes = spec->limit_bytes;
	info->limit_ns = spec->limit_ns;
	info->limit_file_bytes = spec->limit_file_bytes;
	info->output = spec->output;
	info->created_ns = info->started_ns = now_ns();
	session->serial = ++fake.serial;
	session->older = fake.newest;
	if (fake.newest != NULL)
		fake.newest->newer = session;
	fake.newest = session;
	/* As many packets as its limit, at once: large files for tests of downloads. */
	n = spec->limit_packets != 0 ? (unsigned)spec->limit_packets : 10;
	if (info->output == OUTPUT_FILE)
		fake_file_write(session, 0, n);
	info->ledger.offered = info->ledger.accepted = info->ledger.written = n;
	if (spec->limit_packets != 0)
		session_stop(session, END_packet_limit, NULL, NULL);
	done(session, NULL, arg);
}

void session_stop(struct session *session, enum end_reason reason, session_done *done, void *arg)
{
	if (!session_state_closed(session->info.state)) {
		if (session->info.output == OUTPUT_FILE)
			fake_file_write(session, -1, (unsigned)session->info.ledger.written);
		fake_state_set(session, SESSION_complete, reason);
		waits_tell(session, session);
	}
	if (done != NULL)
		done(session, NULL, arg);
}

void session_closed_wait(struct session *session, session_done *done, void *arg)
{
	struct fake_wait *wait;

	if (session_state_closed(session->info.state)) {
		done(session, NULL, arg);
		return;
	}
	wait = calloc(1, sizeof(*wait));
	*wait = (struct fake_wait){.done = done, .arg = arg, .next = session->waits};
	session->waits = wait;
}

static void waits_tell(struct session *session, struct session *told)
{
	while (session->waits != NULL) {
		struct fake_wait *wait = session->waits;

		session->waits = wait->next;
		wait->done(told, NULL, wait->arg);
		free(wait);
	}
}

void session_limits_change(struct session *session, uint64_t limit_packets, uint64_t limit_ns,
	session_done *done, void *arg)
{
	struct err err;

	if (session->info.state != SESSION_running) {
		err_set(&err, EBUSY, NULL, "the capture does not run");
		done(NULL, &err, arg);
		return;
	}
	session->info.limit_packets = limit_packets;
	session->info.limit_ns = limit_ns;
	done(session, NULL, arg);
}

void session_delete(struct session *session, session_done *done, void *arg)
{
	waits_tell(session, NULL);
	session->gone = true;
	if (done != NULL)
		done(NULL, NULL, arg);
}

void session_update(
	struct session *session, const char *name, const char *notes, session_done *done, void *arg)
{
	if (name != NULL) {
		free(session->strings[0]);
		session->info.name = session->strings[0] = strdup(name);
	}
	if (notes != NULL) {
		free(session->strings[1]);
		session->info.notes = session->strings[1] = strdup(notes);
	}
	done(session, NULL, arg);
}

void session_vendor_set(struct session *session, const char *vendor)
{
	free(session->strings[5]);
	session->info.vendor = session->strings[5] = strdup(vendor);
}

void session_info(const struct session *session, struct session_info *info)
{
	*info = session->info;
}

struct session *session_find(const struct uuid *id)
{
	struct session *session = fake.newest;

	while (session != NULL &&
		(session->gone || memcmp(&session->info.id, id, sizeof(*id)) != 0))
		session = session->older;
	return session;
}

struct session *session_next(const struct session *session)
{
	struct session *next = session == NULL ? fake.newest : session->older;

	while (next != NULL && next->gone)
		next = next->older;
	return next;
}

uint64_t session_serial(const struct session *session)
{
	return session->serial;
}

unsigned session_parts(const struct session *session, struct session_part *parts, unsigned n_max)
{
	unsigned n = 0;

	if (session->info.output == OUTPUT_NONE || session->info.state == SESSION_deleted)
		return 0;
	if (session_state_closed(session->info.state)) {
		if (session->file_bytes == 0)
			return 0;
		path_print(session, -1, parts[0].path, sizeof(parts[0].path));
		parts[0].size_bytes = session->file_bytes;
		return 1;
	}
	for (int lane = 0; lane < LANES_MAX && n < n_max; lane++) {
		if (session->lane_bytes[lane] == 0)
			continue;
		path_print(session, lane, parts[n].path, sizeof(parts[n].path));
		parts[n++].size_bytes = session->lane_bytes[lane];
	}
	return n;
}

/* Retention is not here. */
void session_read_begin(const struct uuid *id)
{
}

void session_read_end(const struct uuid *id)
{
}

const char *session_state_name(enum session_state state)
{
	static const char *const names[] = {
#define X(name) #name,
		SESSION_STATES(X)
#undef X
	};

	return names[state];
}

const char *session_dialect_name(enum session_dialect dialect)
{
	static const char *const names[] = {
#define X(name) #name,
		SESSION_DIALECTS(X)
#undef X
	};

	return names[dialect];
}

const char *session_upload_state_name(enum session_upload_state state)
{
	static const char *const names[] = {"none", "waiting", "sending", "verified", "failed"};

	return names[state];
}

unsigned session_upload_debts(void)
{
	return 0;
}

bool session_state_closed(enum session_state state)
{
	return state == SESSION_complete || state == SESSION_failed || state == SESSION_deleted;
}

void control_status(struct control_status *status)
{
	static const struct ceiling ceiling = {
		.measured_at_ns = 1700000000000000000ULL,
		.fresh_bytes_per_s = 1000000000,
		.touched_bytes_per_s = 2000000000,
		.write_bytes = 4 << 20,
		.depth = 8,
	};
	static struct load load;

	load = (struct load){
		.window_ns = 1000000000,
		.n_ports = 1,
		.ports[0] = {.port = engine_port(0), .packets = 1000, .missed = 2.6, .errors = 1},
		.n_rx = 1,
		.rx[0] = {.lcore = 1, .cpu = 3, .busy_percent = 97, .full_percent = 80},
		.n_writers = 1,
		.writers[0] = {.cpu = 5, .busy_percent = 10, .waited_percent = 20},
		.blocks = {.total = 1024, .low = 7, .missed = 12},
		.disk = {.bytes = 9e8, .busy_percent = 99, .in_flight = 31, .in_flight_max = 32},
	};
	*status = (struct control_status){
		.uptime_ns = 5000000000ULL,
		.storage_size_bytes = 1000,
		.storage_used_bytes = 10,
		.storage_quota_bytes = 800,
		.ceiling = &ceiling,
		.bottleneck = "disk",
		.explanation = "it is the disk",
		.bottleneck_since_ns = 1700000000123456789ULL,
		.load = &load,
	};
}

void totals_recovered_read(struct totals_recovered *sum)
{
	*sum = (struct totals_recovered){0};
}

void totals_removed_read(struct totals_removed *sum)
{
	*sum = (struct totals_removed){0};
}

void totals_read(struct ledger *sum)
{
	*sum = (struct ledger){0};
	for (const struct session *s = session_next(NULL); s != NULL; s = session_next(s)) {
		struct session_info info;

		session_info(s, &info);
		sum->accepted += info.ledger.accepted;
		sum->written += info.ledger.written;
	}
}
