/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/admission: what a capture will write, what is kept at which level, who is refused, and how
 * captures are degraded and get back what was taken, second by second. Taps, figures and time are the
 * test's own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/admission.h"
#include "control/bottleneck.h"
#include "control/ceiling.h"
#include "control/session_state.h"
#include "control/table.h"
#include "engine/clock.h"

#define MB 1000000ULL

static struct config config;
static struct session session;
static struct session_run run;
static struct ceiling ceiling;
static struct load load;
static bool disk_loses;
static uint64_t now_ns, submitted_bytes, accepted;
static unsigned n_events, n_changes;

const struct ceiling *ceiling_get(void)
{
	return ceiling.fresh_bytes_per_s != 0 ? &ceiling : NULL;
}

const struct load *load_get(void)
{
	return &load;
}

void bottleneck_judge(const struct load *figures, struct bottleneck *bottleneck)
{
	memset(bottleneck, 0, sizeof(*bottleneck));
	bottleneck->losing = disk_loses;
	bottleneck->name = disk_loses ? "disk" : NULL;
}

uint64_t clock_monotonic_ns(void)
{
	return now_ns;
}

uint64_t clock_wall_ns(void)
{
	return now_ns + 1;
}

void publish_soon(struct publish_wait *wait)
{
}

const char *session_id_text(const struct session *s)
{
	return "id";
}

void session_event_add(struct session *s, const char *fmt, ...)
{
	n_events++;
}

void engine_tap_change(
	struct tap *tap, uint32_t snaplen_bytes, enum sample_mode sample_mode, uint32_t sample_n)
{
	n_changes++;
}

unsigned tap_lanes(const struct tap *tap)
{
	return 1;
}

void tap_lane_mark(const struct tap *tap, unsigned lane, struct tap_lane_mark *mark)
{
	mark->submitted_bytes = submitted_bytes;
}

void tap_ledger(const struct tap *tap, struct ledger *ledger)
{
	memset(ledger, 0, sizeof(*ledger));
	ledger->accepted = accepted;
	ledger->written = accepted;
	ledger->written_bytes = accepted * 800;
}

static int begin(void **state)
{
	memset(&session, 0, sizeof(session));
	memset(&run, 0, sizeof(run));
	memset(&config, 0, sizeof(config));
	memset(&ceiling, 0, sizeof(ceiling));
	disk_loses = false;
	now_ns = 1000 * CLOCK_NS_PER_S;
	submitted_bytes = 0;
	accepted = 0;
	n_events = 0;
	n_changes = 0;
	session.state = SESSION_running;
	session.snaplen_bytes = session.degraded.snaplen_bytes = 262144;
	session.sample_n = session.degraded.sample_n = 1;
	session.output = OUTPUT_FILE;
	session.run = &run;
	run.session = &session;
	config.capture.ceiling_bytes = 100 * MB;
	table_add(&session);
	admission_init(&config);
	admission_tick();
	return 0;
}

static int end(void **state)
{
	table_remove(&session);
	return 0;
}

/* So much is written in each of these seconds. */
static void seconds_pass(unsigned n, uint64_t bytes)
{
	for (unsigned i = 0; i < n; i++) {
		now_ns += CLOCK_NS_PER_S;
		submitted_bytes += bytes;
		accepted += bytes / 832;
		admission_tick();
	}
}

static void what_will_be_written(void **state)
{
	/* 100 packets of 1000 bytes */
	assert_int_equal(admission_bytes(100000, 100, 0, SAMPLE_NONE, 1), 103200);
	assert_int_equal(admission_bytes(100000, 100, 2000, SAMPLE_NONE, 1), 103200);
	assert_int_equal(admission_bytes(100000, 100, 64, SAMPLE_NONE, 1), 9600);
	assert_int_equal(admission_bytes(100000, 100, 64, SAMPLE_FLOW, 10), 960);
	/* half of it said: packets of 512 bytes */
	assert_int_equal(admission_bytes(51200, 0, 0, SAMPLE_NONE, 1), 54400);
	assert_int_equal(admission_bytes(0, 100, 0, SAMPLE_NONE, 1), 54400);
	assert_int_equal(admission_bytes(0, 0, 0, SAMPLE_NONE, 1), 0);
}

static void levels_keep_less_and_less(void **state)
{
	struct session_degraded asked = {.snaplen_bytes = 262144, .sample_n = 1}, kept = asked;

	assert_true(admission_level(CONFIG_DEGRADE_SNAPLEN, 1, &asked, &kept));
	assert_int_equal(kept.snaplen_bytes, 1024);
	assert_true(admission_level(CONFIG_DEGRADE_SNAPLEN, 5, &asked, &kept));
	assert_int_equal(kept.snaplen_bytes, 64);
	assert_int_equal(kept.level, 5);
	assert_int_equal(kept.sample_mode, SAMPLE_NONE);
	assert_false(admission_level(CONFIG_DEGRADE_SNAPLEN, 6, &asked, &kept));
	assert_int_equal(kept.level, 5);
	/* never more than was asked for */
	asked.snaplen_bytes = 256;
	assert_true(admission_level(CONFIG_DEGRADE_SNAPLEN, 1, &asked, &kept));
	assert_int_equal(kept.snaplen_bytes, 128);
	assert_true(admission_level(CONFIG_DEGRADE_SAMPLING, 3, &asked, &kept));
	assert_int_equal(kept.sample_mode, SAMPLE_RANDOM);
	assert_int_equal(kept.sample_n, 8);
	assert_int_equal(kept.snaplen_bytes, 256);
	/* the mode that was asked for stays */
	asked.sample_mode = SAMPLE_FLOW;
	asked.sample_n = 100;
	assert_true(admission_level(CONFIG_DEGRADE_SAMPLING, 1, &asked, &kept));
	assert_int_equal(kept.sample_mode, SAMPLE_FLOW);
	assert_int_equal(kept.sample_n, 200);
	asked.sample_n = UINT32_MAX;
	assert_false(admission_level(CONFIG_DEGRADE_SAMPLING, 1, &asked, &kept));
}

static void only_what_fits_is_let_in(void **state)
{
	struct session_spec spec = {.expected_bytes = 60 * MB, .expected_packets = 60000};
	struct err err = {0};

	session.expected_bytes = 40 * MB;
	session.expected_packets = 40000;
	assert_int_equal(admission_check(&spec, &err), 0); /* reported, not refused */
	config.capture.overload = CONFIG_OVERLOAD_REFUSE;
	assert_int_equal(admission_check(&spec, &err), -EAGAIN);
	assert_string_equal(err.field, "expected.bytes_per_second");
	assert_string_equal(err.text,
		"60000000 would write 61.9 MB/s; the disk takes 100.0 MB/s, other captures bring "
		"41.3, and 58.7 are left (capture.overload = refuse)");
	spec.snaplen_bytes = 500;
	assert_int_equal(admission_check(&spec, &err), 0);
	spec.snaplen_bytes = 0;
	spec.output = OUTPUT_NONE;
	assert_int_equal(admission_check(&spec, &err), 0);
	spec.output = OUTPUT_FILE;
	/* what it brings counts, not only what it said */
	seconds_pass(1, 100 * MB);
	spec.expected_bytes = spec.expected_packets = 0;
	assert_int_equal(admission_check(&spec, &err), -EAGAIN);
	assert_string_equal(err.field, "output");
	session.state = SESSION_complete;
	assert_int_equal(admission_check(&spec, &err), 0);
	/* nobody knows what the disk takes: nobody is refused; then it is measured */
	spec.expected_bytes = 900 * MB;
	config.capture.ceiling_bytes = 0;
	assert_int_equal(admission_check(&spec, &err), 0);
	ceiling.fresh_bytes_per_s = 800 * MB;
	ceiling.touched_bytes_per_s = 2000 * MB;
	assert_int_equal(admission_check(&spec, &err), -EAGAIN);
}

static void an_overload_is_told_after_a_while(void **state)
{
	struct admission_status status;

	seconds_pass(2, 150 * MB);
	admission_status(&status);
	assert_int_equal(status.overloaded_since_ns, 0);
	assert_int_equal(status.load_bytes, 150 * MB);
	assert_int_equal(status.left_bytes, 0);
	seconds_pass(1, 150 * MB);
	admission_status(&status);
	assert_int_not_equal(status.overloaded_since_ns, 0);
	assert_int_equal(n_events, 1);
	seconds_pass(5, 150 * MB);
	assert_int_equal(n_events, 1);
	assert_int_equal(n_changes, 0);
	seconds_pass(1, 50 * MB);
	admission_status(&status);
	assert_int_equal(status.overloaded_since_ns, 0);
	assert_int_equal(status.left_bytes, 50 * MB);
	assert_int_equal(n_events, 2);
}

static void step_by_step_down_and_slowly_back(void **state)
{
	config.capture.overload = CONFIG_OVERLOAD_DEGRADE;
	config.capture.degrade = CONFIG_DEGRADE_SAMPLING;
	seconds_pass(2, 300 * MB);
	assert_int_equal(session.degraded.level, 0);
	seconds_pass(1, 300 * MB);
	assert_int_equal(session.degraded.level, 1);
	assert_int_equal(session.degraded.sample_n, 2);
	assert_int_equal(session.degraded.since_ns, clock_wall_ns());
	/* the step shows before the next one is taken */
	seconds_pass(1, 150 * MB);
	assert_int_equal(session.degraded.level, 1);
	seconds_pass(1, 150 * MB);
	assert_int_equal(session.degraded.level, 2);
	assert_int_equal(n_changes, 2);
	/* a step back would be 150 again */
	seconds_pass(60, 75 * MB);
	assert_int_equal(session.degraded.level, 2);
	/* 39 twice is less than 80 % of the ceiling, and that for ten seconds */
	seconds_pass(9, 39 * MB);
	assert_int_equal(session.degraded.level, 2);
	seconds_pass(1, 39 * MB);
	assert_int_equal(session.degraded.level, 1);
	seconds_pass(10, 39 * MB);
	assert_int_equal(session.degraded.level, 0);
	assert_int_equal(session.degraded.sample_mode, SAMPLE_NONE);
	assert_int_equal(session.degraded.since_ns, 0);
	assert_int_equal(n_changes, 4);
}

/* The disk is slower than it was measured to be: what it took while it lost is the measure then. */
static void losses_count_whatever_the_ceiling(void **state)
{
	config.capture.overload = CONFIG_OVERLOAD_DEGRADE;
	config.capture.degrade = CONFIG_DEGRADE_SAMPLING;
	load.disk.bytes = 20e6;
	disk_loses = true;
	seconds_pass(3, 20 * MB);
	assert_int_equal(session.degraded.level, 1);
	disk_loses = false;
	seconds_pass(60, 10 * MB);
	assert_int_equal(session.degraded.level, 1);
	seconds_pass(10, 7 * MB);
	assert_int_equal(session.degraded.level, 0);
}

/* A snaplen that no packet reaches would take nothing away. */
static void levels_without_effect_are_passed_over(void **state)
{
	config.capture.overload = CONFIG_OVERLOAD_DEGRADE;
	seconds_pass(3, 300 * MB);
	assert_int_equal(session.degraded.snaplen_bytes, 512); /* packets have 800 bytes */
	assert_int_equal(session.degraded.level, 2);
}

static void the_start_is_degraded_to_what_fits(void **state)
{
	config.capture.overload = CONFIG_OVERLOAD_DEGRADE;
	session.state = SESSION_starting;
	session.expected_bytes = 400 * MB;
	session.expected_packets = 400000;
	admission_begin(&session);
	assert_int_equal(session.degraded.snaplen_bytes, 128);
	assert_int_equal(n_events, 2);
	assert_int_equal(n_changes, 0); /* there is no tap yet */
	/* The file's header says so: more is not given back, what was taken later is. */
	session.state = SESSION_running;
	seconds_pass(60, 1 * MB);
	assert_int_equal(session.degraded.snaplen_bytes, 128);
	seconds_pass(3, 200 * MB);
	assert_int_equal(session.degraded.snaplen_bytes, 64);
	seconds_pass(60, 1 * MB);
	assert_int_equal(session.degraded.snaplen_bytes, 128);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(what_will_be_written),
		TEST(levels_keep_less_and_less),
		TEST(only_what_fits_is_let_in),
		TEST(an_overload_is_told_after_a_while),
		TEST(step_by_step_down_and_slowly_back),
		TEST(losses_count_whatever_the_ceiling),
		TEST(levels_without_effect_are_passed_over),
		TEST(the_start_is_degraded_to_what_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
