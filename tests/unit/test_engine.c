/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The whole engine behind engine.h, without a daemon: two queues of a generator on two RX lcores, one
 * writer, taps that come and go. Limits are exact over both lcores, files hold what the books say,
 * and afterwards every block is home.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/log.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "frames_file.h"

#define FRAME_LEN 100
#define TAPS_MANY 200

static struct config config;
static struct port *port;

/* Two CPUs of those that are ours, or one twice. */
static void cpus_choose(void)
{
	unsigned found[2] = {0}, n = 0;
	cpu_set_t mine;

	sched_getaffinity(0, sizeof(mine), &mine);
	for (unsigned i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &mine))
			found[n++] = i;
	if (n == 1)
		found[1] = found[0];
	config.engine.main_cpu = found[0];
	config.engine.rx_cpus = (struct config_cpus){.n = 2, .cpu = {found[0], found[1]}};
	config.engine.writer_cpus = (struct config_cpus){.n = 1, .cpu = {found[0]}};
}

static int group_start(void **state)
{
	struct config_port *generator = &config.ports[0];
	struct err err;

	cpus_choose();
	config.engine.hugepages = CONFIG_HUGEPAGES_NO;
	config.engine.block_memory_bytes = 64 << 20;
	config.storage.durable_every_ms = 1000;
	config.n_ports = 1;
	strcpy(generator->name, "generator");
	snprintf(generator->device, sizeof(generator->device), "net_null0,size=%d", FRAME_LEN);
	generator->rx_queues = 2;
	generator->mtu = 1500;
	generator->snaplen_bytes = TAP_SNAPLEN_MAX;
	generator->rate_pps = 500000;
	log_level_set(LOG_LEVEL_ERROR);
	if (engine_start(&config, &err) != 0) {
		print_message("# %s: %s\n", err.field, err.text);
		return -1;
	}
	port = engine_port_find("generator");
	if (port == NULL || engine_port_start(port, &err) != 0)
		return -1;
	engine_port_poll(port, true);
	return engine_commit(NULL, NULL);
}

static void flag_set(void *arg)
{
	*(bool *)arg = true;
}

static void events_wait(int ms)
{
	struct pollfd fd = {.fd = engine_event_fd(), .events = POLLIN};

	poll(&fd, 1, ms);
	engine_event_clear();
}

/* Publish, and return when no lcore can see what was before. */
static void commit(void)
{
	bool done = false;

	assert_int_equal(engine_commit(flag_set, &done), 0);
	for (unsigned i = 0; i < 500 && !done; i++)
		events_wait(10);
	assert_true(done);
}

static int group_stop(void **state)
{
	struct err err;

	engine_port_poll(port, false);
	commit();
	engine_port_stop(port);
	/* It may start again. */
	if (engine_port_start(port, &err) != 0)
		return -1;
	engine_port_stop(port);
	engine_stop();
	return 0;
}

static struct tap_spec spec_plain(void)
{
	return (struct tap_spec){
		.n_ports = 1, .sample_n = 1, .snaplen_bytes = TAP_SNAPLEN_MAX, .sink = SINK_NULL};
}

static struct tap *tap_make(const struct tap_spec *spec)
{
	struct err err;
	struct tap *tap = tap_new(spec, &err);

	if (tap == NULL)
		fail_msg("%s", err.text);
	return tap;
}

static void ended_wait(const struct tap *tap, enum end_reason reason)
{
	for (unsigned i = 0; i < 500 && tap_end_reason(tap) == END_none; i++)
		events_wait(10);
	assert_int_equal(tap_end_reason(tap), reason);
}

/* The one road out: ending, drained, gone. */
static void taps_retire(struct tap **taps, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		engine_tap_end(taps[i]);
	commit();
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 500 && !tap_drained(taps[i]); k++)
			events_wait(10);
		assert_true(tap_drained(taps[i]));
		engine_tap_remove(taps[i]);
	}
	commit();
}

static uint64_t dropped_sum(const struct ledger *ledger)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < DROP_COUNT; i++)
		sum += ledger->dropped[i];
	return sum;
}

static void books_check(const struct tap *tap)
{
	struct tap_interface interface;
	struct ledger ledger;

	tap_ledger(tap, &ledger);
	tap_interface(tap, 0, &interface);
	assert_int_equal(ledger.in_flight, 0);
	assert_int_equal(ledger.offered,
		ledger.filtered + ledger.sampled_out + ledger.over_limit + ledger.accepted);
	assert_int_equal(ledger.accepted, ledger.written + dropped_sum(&ledger));
	assert_int_equal(interface.written, ledger.written);
	assert_int_equal(interface.dropped, dropped_sum(&ledger));
	assert_int_equal(interface.filter_accepted, ledger.offered - ledger.filtered);
	assert_true(tap_started_ns(tap) != 0 && tap_ended_ns(tap) >= tap_started_ns(tap));
}

static void all_blocks_are_home(void)
{
	struct engine_status status;

	for (unsigned i = 0; i < 300; i++) {
		engine_status(&status);
		if (status.blocks_free == status.blocks)
			break;
		usleep(10000);
	}
	assert_int_equal(status.blocks_free, status.blocks);
}

static const struct limit_case {
	uint64_t packets, bytes, file_bytes;
	uint64_t written;
	enum end_reason reason;
} limit_cases[] = {
	{1, 0, 0, 1, END_packet_limit},
	{10000, 0, 0, 10000, END_packet_limit},
	{50001, 0, 0, 50001, END_packet_limit},
	{0, 10000 * FRAME_LEN + 99, 0, 10000, END_byte_limit},
	{0, 0, 10000 * (FRAME_LEN + 32), 10000, END_file_limit},
};

static void limits_are_exact_over_two_lcores(void **state)
{
	for (unsigned i = 0; i < sizeof(limit_cases) / sizeof(limit_cases[0]); i++) {
		const struct limit_case *c = &limit_cases[i];
		struct tap_spec spec = spec_plain();
		struct ledger ledger;
		struct tap *tap;

		spec.limit_packets = c->packets;
		spec.limit_bytes = c->bytes;
		spec.limit_file_bytes = c->file_bytes;
		tap = tap_make(&spec);
		assert_int_equal(tap_lanes(tap), 2);
		engine_tap_add(tap);
		commit();
		ended_wait(tap, c->reason);
		taps_retire(&tap, 1);
		tap_ledger(tap, &ledger);
		assert_int_equal(ledger.written, c->written);
		assert_int_equal(ledger.written_bytes, c->written * FRAME_LEN);
		books_check(tap);
		tap_free(tap);
	}
	all_blocks_are_home();
}

static void a_deadline_ends_it(void **state)
{
	struct tap_spec spec = spec_plain();
	uint64_t began_ns = clock_monotonic_ns(), took_ns;
	struct tap *tap;

	spec.limit_ns = 200000000;
	tap = tap_make(&spec);
	engine_tap_add(tap);
	commit();
	ended_wait(tap, END_time_limit);
	took_ns = clock_monotonic_ns() - began_ns;
	assert_in_range(took_ns, 200000000, 2000000000);
	taps_retire(&tap, 1);
	books_check(tap);
	tap_free(tap);
}

/* Each lane's file: its packets, whole, and as many as the books say. */
static uint64_t file_packets(int fd, uint64_t from, uint64_t to)
{
	uint8_t *data = malloc(to);
	uint64_t n = 0, stamp_last = 0;

	assert_int_equal(pread(fd, data, to, 0), to);
	while (from < to) {
		uint32_t head[7];
		uint64_t stamp;

		memcpy(head, data + from, sizeof(head));
		assert_int_equal(head[0], 6);
		assert_int_equal(head[1], FRAME_LEN + 32);
		assert_int_equal(head[5], FRAME_LEN);
		stamp = (uint64_t)head[3] << 32 | head[4];
		assert_true(stamp >= stamp_last);
		stamp_last = stamp;
		from += head[1];
		n++;
	}
	assert_int_equal(from, to);
	free(data);
	return n;
}

static void files_hold_what_the_books_say(void **state)
{
	struct tap_spec spec = spec_plain();
	char path[2][32];
	uint8_t header[1024];
	size_t header_len = frames_header(header, sizeof(header), 1);
	struct ledger ledger;
	struct tap *tap;
	uint64_t n = 0;
	int fds[2];

	spec.sink = SINK_FILE;
	spec.sample_mode = SAMPLE_EVERY;
	spec.sample_n = 3;
	tap = tap_make(&spec);
	for (unsigned i = 0; i < 2; i++) {
		strcpy(path[i], "/tmp/test_engine.XXXXXX");
		fds[i] = mkstemp(path[i]);
		assert_true(fds[i] >= 0);
		unlink(path[i]);
		assert_int_equal(write(fds[i], header, header_len), header_len);
		tap_lane_sink(tap, i, fds[i], false, header, header_len);
	}
	engine_tap_add(tap);
	commit();
	usleep(300000);
	tap_end_raise(tap, END_stopped);
	ended_wait(tap, END_stopped);
	taps_retire(&tap, 1);
	tap_ledger(tap, &ledger);
	for (unsigned i = 0; i < 2; i++) {
		struct tap_lane_mark mark;
		uint64_t in_file;

		tap_lane_mark(tap, i, &mark);
		in_file = file_packets(fds[i], header_len, mark.written_bytes);
		assert_int_equal(in_file, mark.written_packets);
		n += in_file;
		close(fds[i]);
	}
	assert_int_equal(n, ledger.written);
	assert_true(n > 1000);
	assert_int_equal(ledger.accepted, (ledger.offered + 2) / 3);
	books_check(tap);
	tap_free(tap);
	all_blocks_are_home();
}

static void many_taps_share_a_port(void **state)
{
	static struct tap *taps[TAPS_MANY];

	for (unsigned i = 0; i < TAPS_MANY; i++) {
		struct tap_spec spec = spec_plain();

		spec.sample_mode = i % 3 == 0 ? SAMPLE_NONE : SAMPLE_EVERY;
		spec.sample_n = 1 + i;
		spec.snaplen_bytes = 1 + i;
		spec.limit_packets = i % 5 == 0 ? 100 + i : 0;
		taps[i] = tap_make(&spec);
		engine_tap_add(taps[i]);
	}
	commit();
	usleep(300000);
	taps_retire(taps, TAPS_MANY);
	for (unsigned i = 0; i < TAPS_MANY; i++) {
		struct ledger ledger;

		books_check(taps[i]);
		tap_ledger(taps[i], &ledger);
		assert_true(ledger.offered > 0);
		if (i % 5 == 0)
			assert_true(ledger.written <= 100 + i);
		if (i % 3 != 0 && i % 5 != 0)
			assert_int_equal(ledger.accepted, (ledger.offered + i) / (1 + i));
		tap_free(taps[i]);
	}
	all_blocks_are_home();
}

static void taps_come_and_go_under_traffic(void **state)
{
	for (unsigned i = 0; i < 50; i++) {
		struct tap_spec spec = spec_plain();
		struct tap *taps[2];

		for (unsigned k = 0; k < 2; k++) {
			taps[k] = tap_make(&spec);
			engine_tap_add(taps[k]);
		}
		commit();
		taps_retire(taps, 2);
		for (unsigned k = 0; k < 2; k++) {
			books_check(taps[k]);
			tap_free(taps[k]);
		}
	}
	all_blocks_are_home();
}

static void port_books_add_up(void **state)
{
	uint64_t polled = 0, matched = 0, unmatched = 0;

	/* Nobody is told: the lcores are stopped from polling first. */
	engine_port_poll(port, false);
	commit();
	engine_refresh();
	for (unsigned q = 0; q < port->n_queues; q++) {
		polled += port->queues[q].polled;
		matched += port->queues[q].matched;
		unmatched += port->queues[q].unmatched;
		assert_true(port->queues[q].polled > 0);
	}
	assert_int_equal(polled, matched + unmatched);
	assert_int_equal(
		port->offered, polled + port->nic_missed + port->nic_errors + port->nic_nombuf);
	engine_port_poll(port, true);
	commit();
}

static void the_lcores_move(void **state)
{
	struct engine_status before, after;

	engine_status(&before);
	assert_int_equal(before.n_lcores, 4); /* one writer for files, one for all else */
	usleep(100000);
	engine_status(&after);
	for (unsigned i = 0; i < 2; i++) {
		assert_string_equal(after.lcores[i].role, "rx");
		assert_true(after.lcores[i].rounds > before.lcores[i].rounds);
		assert_int_equal(after.lcores[i].cpu, config.engine.rx_cpus.cpu[i]);
	}
	assert_string_equal(after.lcores[2].role, "writer");
	assert_true(strcmp(engine_sink_name(), "uring") == 0 ||
		    strcmp(engine_sink_name(), "pwrite") == 0);
	assert_null(engine_port_find("nobody"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_are_exact_over_two_lcores),
		cmocka_unit_test(a_deadline_ends_it),
		cmocka_unit_test(files_hold_what_the_books_say),
		cmocka_unit_test(many_taps_share_a_port),
		cmocka_unit_test(taps_come_and_go_under_traffic),
		cmocka_unit_test(port_books_add_up),
		cmocka_unit_test(the_lcores_move),
	};

	return cmocka_run_group_tests(tests, group_start, group_stop);
}
