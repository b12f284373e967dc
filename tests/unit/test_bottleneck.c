/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/load and control/bottleneck: figures from counters, and the resource that they name. Engine
 * and clock's rate are the test's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "control/bottleneck.h"
#include "control/ceiling.h"
#include "control/stall.h"
#include "engine/clock.h"
#include "engine/engine.h"

#define HZ 1000000000ULL /* a cycle is a nanosecond */

static struct config_port config = {.name = "wire0"};
static struct port_queue queue;
static struct port port = {.config = &config, .n_queues = 1, .queues = &queue};
static struct engine_status engine;
static unsigned blocks_low;

unsigned engine_ports(void)
{
	return 1;
}

struct port *engine_port(unsigned index)
{
	return &port;
}

void engine_status(struct engine_status *status)
{
	*status = engine;
}

unsigned engine_blocks_low(void)
{
	return blocks_low;
}

static struct ceiling ceiling = {.fresh_bytes_per_s = 500000000, .touched_bytes_per_s = 1000000000};

const struct ceiling *ceiling_get(void)
{
	return &ceiling;
}

static struct stall stall;

const struct stall *stall_get(void)
{
	return &stall;
}

uint64_t clock_tsc_hz(void)
{
	return HZ;
}

uint64_t clock_wall_ns(void)
{
	return 1700000000 * CLOCK_NS_PER_S;
}

/* A second passes in which this happens. */
struct second {
	unsigned nic_missed, nic_nombuf, no_block;
	unsigned rx_busy_ms, polls, full;
	bool spins;
	unsigned writer_busy_ms, disk_ms, megabytes, slow;
	unsigned low;
	const char *name;
	const char *text; /* stands in the explanation */
};

static void second_pass(const struct second *s)
{
	struct engine_lcore *rx = &engine.lcores[0], *writer = &engine.lcores[1];

	engine.tsc += HZ;
	engine.blocks = 1000;
	engine.blocks_missed += s->no_block;
	engine.n_lcores = 2;
	rx->role = "rx";
	rx->lcore = 1;
	rx->cpu = 3;
	rx->lanes = 1;
	rx->spins = s->spins;
	rx->cycles_useful += s->rx_busy_ms * 1000000ULL;
	rx->polls += s->polls;
	rx->polls_full += s->full;
	writer->role = "writer";
	writer->cpu = 5;
	writer->cycles_useful += s->writer_busy_ms * 1000000ULL;
	writer->disk_cycles += s->disk_ms * 1000000ULL;
	writer->disk_bytes += s->megabytes * 1000000ULL;
	writer->disk_writes_slow += s->slow;
	port.nic_missed += s->nic_missed;
	port.nic_nombuf += s->nic_nombuf;
	blocks_low = s->low;
	load_sample();
}

static const struct second idle = {.low = 1000};

static void the_slowest_is_named(void **state)
{
	static const struct second cases[] = {
		/* no free block */
		{.no_block = 7,
			.disk_ms = 990,
			.name = "disk",
			.text = "7 packets a second found no free block"},
		{.no_block = 7,
			.disk_ms = 300,
			.slow = 2,
			.name = "disk",
			.text = "2 writes took longer than 200 ms"},
		{.no_block = 7,
			.disk_ms = 500,
			.megabytes = 900,
			.name = "disk",
			.text = "900 MB/s are written, 90 % of its ceiling"},
		{.no_block = 7,
			.disk_ms = 300,
			.name = "blocks",
			.text = "1000 blocks is too small for the bursts"},
		{.no_block = 7,
			.disk_ms = 300,
			.writer_busy_ms = 970,
			.name = "blocks",
			.text = "the writer on CPU 5 has no time left"},
		/* lost before the lcore, which is busy or not */
		{.nic_missed = 9,
			.rx_busy_ms = 970,
			.name = "rx_core",
			.text = "port wire0 loses 9 packets a second, because RX lcore 1 on CPU 3"},
		{.nic_missed = 9,
			.rx_busy_ms = 500,
			.name = "nic",
			.text = "busy 50 %): bursts are longer than its receive ring"},
		{.nic_nombuf = 9,
			.rx_busy_ms = 500,
			.name = "nic",
			.text = "or its packet buffers too few"},
		/* a lcore that spins is busy with every packet: what it leaves behind tells */
		{.nic_missed = 9,
			.spins = true,
			.rx_busy_ms = 1000,
			.polls = 100,
			.full = 90,
			.name = "rx_core",
			.text = "has no time left"},
		{.nic_missed = 9,
			.spins = true,
			.rx_busy_ms = 1000,
			.polls = 100,
			.full = 10,
			.name = "nic",
			.text = "before an RX lcore sees them"},
		/* both: where more is lost */
		{.nic_missed = 9,
			.no_block = 10,
			.rx_busy_ms = 970,
			.disk_ms = 1000,
			.name = "disk",
			.text = "because the disk takes less than comes in"},
		{.nic_missed = 10,
			.no_block = 9,
			.rx_busy_ms = 970,
			.disk_ms = 1000,
			.name = "rx_core",
			.text = "loses 10 packets a second"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bottleneck found;

		second_pass(&idle);
		second_pass(&cases[i]);
		bottleneck_judge(load_get(), &found);
		assert_non_null(found.name);
		assert_string_equal(found.name, cases[i].name);
		assert_true(found.losing);
		if (strstr(found.text, cases[i].text) == NULL)
			fail_msg("case %u: \"%s\" is not in \"%s\"", i, cases[i].text, found.text);
	}
}

static void no_room_left_is_told_before_a_loss(void **state)
{
	static const struct second cases[] = {
		{.spins = true,
			.rx_busy_ms = 1000,
			.polls = 100,
			.full = 100,
			.low = 900,
			.name = "rx_core",
			.text = "and its source always has more; no loss was seen"},
		{.rx_busy_ms = 960, .low = 900, .name = "rx_core", .text = "busy 96 %"},
		{.low = 40,
			.disk_ms = 1000,
			.name = "disk",
			.text = "only 40 of 1000 blocks were free"},
		{.low = 40,
			.disk_ms = 100,
			.name = "blocks",
			.text = "only 40 of 1000 blocks were free"},
		{.spins = true,
			.rx_busy_ms = 1000,
			.polls = 100,
			.full = 10,
			.low = 900,
			.megabytes = 250,
			.text = "nothing was lost: RX lcores are busy 100 %"},
		{.rx_busy_ms = 940,
			.low = 50,
			.megabytes = 250,
			.disk_ms = 400,
			.text = "250 MB/s are written, 25 % of its ceiling, a write is in flight "
				"40 %"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bottleneck found;

		second_pass(&idle);
		second_pass(&cases[i]);
		bottleneck_judge(load_get(), &found);
		assert_false(found.losing);
		if (cases[i].name != NULL)
			assert_string_equal(found.name, cases[i].name);
		else
			assert_null(found.name);
		if (strstr(found.text, cases[i].text) == NULL)
			fail_msg("case %u: \"%s\" is not in \"%s\"", i, cases[i].text, found.text);
	}
}

/* An lcore without captures spins through its source as fast as it can: nobody lacks anything. */
static void an_idle_lcore_is_no_bottleneck(void **state)
{
	struct bottleneck found;

	second_pass(&(struct second){
		.spins = true, .rx_busy_ms = 1000, .polls = 9, .full = 9, .low = 1000});
	engine.lcores[0].lanes = 0;
	load_sample();
	engine.lcores[0].lanes = 0;
	engine.tsc += HZ;
	engine.lcores[0].cycles_useful += HZ;
	engine.lcores[0].polls += 9;
	engine.lcores[0].polls_full += 9;
	load_sample();
	bottleneck_judge(load_get(), &found);
	assert_null(found.name);
}

static void figures_are_per_second(void **state)
{
	const struct load *load = load_get();

	second_pass(&idle);
	engine.tsc += HZ; /* two seconds pass */
	queue.polled += 5000;
	second_pass(&(struct second){.nic_missed = 30,
		.rx_busy_ms = 500,
		.megabytes = 400,
		.disk_ms = 1000,
		.low = 17,
		.no_block = 8,
		.polls = 10,
		.full = 4});
	assert_int_equal(load->window_ns, 2 * CLOCK_NS_PER_S);
	assert_int_equal(load->ports[0].packets, 2500);
	assert_int_equal(load->ports[0].missed, 15);
	assert_int_equal(load->rx[0].busy_percent, 25);
	assert_int_equal(load->rx[0].full_percent, 40);
	assert_int_equal(load->blocks.low, 17);
	assert_int_equal(load->blocks.missed, 4);
	assert_int_equal(load->disk.bytes, 200000000);
	assert_int_equal(load->disk.busy_percent, 50);
	assert_int_equal(load->n_writers, 1);
	assert_int_equal(load->writers[0].cpu, 5);
}

static void a_finding_is_shown_for_a_while(void **state)
{
	second_pass(&idle);
	bottleneck_sample();
	assert_null(bottleneck_name());
	assert_int_equal(bottleneck_since_ns(), 0);
	second_pass(&(struct second){.no_block = 1, .disk_ms = 1000});
	bottleneck_sample();
	for (unsigned i = 0; i < 5; i++) {
		assert_string_equal(bottleneck_name(), "disk");
		assert_int_equal(bottleneck_since_ns(), clock_wall_ns());
		second_pass(&idle);
		bottleneck_sample();
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_null(bottleneck_name());
		assert_int_equal(bottleneck_since_ns(), 0);
		assert_non_null(strstr(bottleneck_get()->text, "nothing was lost"));
		second_pass(&idle);
		bottleneck_sample();
	}
}

/* Nobody has to wait for the next sample to learn of it. */
static void a_disk_that_does_not_answer_is_named_at_once(void **state)
{
	second_pass(&idle);
	bottleneck_sample();
	stall = (struct stall){.stalled = true, .since_ns = 7, .text = "no answer"};
	assert_string_equal(bottleneck_name(), "disk");
	assert_string_equal(bottleneck_text(), "no answer");
	assert_int_equal(bottleneck_since_ns(), 7);
	stall = (struct stall){.n = 1};
	assert_null(bottleneck_name());
	assert_string_equal(bottleneck_text(), bottleneck_get()->text);
	assert_int_equal(bottleneck_since_ns(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_slowest_is_named),
		cmocka_unit_test(no_room_left_is_told_before_a_loss),
		cmocka_unit_test(an_idle_lcore_is_no_bottleneck),
		cmocka_unit_test(figures_are_per_second),
		cmocka_unit_test(a_finding_is_shown_for_a_while),
		cmocka_unit_test(a_disk_that_does_not_answer_is_named_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
