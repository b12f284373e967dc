/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Golden files: for every row of tests/golden/LIST the engine's filter, sampler, limits and lane run
 * over an input, and the file must be the expected one byte for byte. The expected files are made by
 * tests/golden/make, which shares no code with the engine and says what the JSON members mean.
 */
#include "lane_fixture.h"

#include <stdio.h>

#include "config/json.h"
#include "eal_fixture.h"
#include "engine/filter.h"
#include "engine/pcapng.h"
#include "frames_file.h"

#define FOLDER     SOURCE_DIR "/tests/golden/"
#define BLOCKS     64
#define ROWS_MAX   100
#define FRAMES_MAX 1000

struct frame {
	uint64_t stamp_ns;
	uint32_t len;
	const uint8_t *data;
};

struct input {
	uint8_t *bytes;
	unsigned n;
	struct frame frames[FRAMES_MAX];
};

/* A row: what is asked for, and what happens meanwhile. */
struct scene {
	json_t *json;
	const char *filter_text;
	struct filter *filter;
	unsigned burst;
	bool own_direction;
	unsigned no_block_from, no_block_to;
	struct input input;
};

static int pool_start(void **state)
{
	struct err err;

	if (filter_helper_start() != 0 || eal_fixture_start() != 0)
		return -1;
	return block_pool_new(BLOCKS * BLOCK_SIZE, false, 1, 1, &err);
}

static int pool_stop(void **state)
{
	block_pool_free();
	return 0;
}

static uint8_t *file_get(const char *name, const char *ending, size_t *len)
{
	char path[512];
	uint8_t *data;

	snprintf(path, sizeof(path), FOLDER "%s%s", name, ending);
	data = frames_file_get(path, len);
	if (data == NULL)
		fail_msg("no file %s", path);
	return data;
}

/* pcap with nanosecond stamps, little-endian: what tests/golden/make writes. */
static void input_read(struct input *input, const char *name)
{
	size_t len, at = 24;
	uint32_t word[4];

	input->bytes = file_get(name, "", &len);
	memcpy(word, input->bytes, 4);
	assert_int_equal(word[0], 0xa1b23c4d);
	for (input->n = 0; at < len; input->n++) {
		struct frame *frame = &input->frames[input->n];

		assert_true(input->n < FRAMES_MAX && at + 16 <= len);
		memcpy(word, input->bytes + at, 16);
		assert_true(word[2] == word[3] && at + 16 + word[2] <= len);
		frame->stamp_ns = word[0] * 1000000000ULL + word[1];
		frame->len = word[2];
		frame->data = input->bytes + at + 16;
		at += 16 + word[2];
	}
}

static uint64_t number(const json_t *object, const char *key, uint64_t otherwise)
{
	const json_t *value = json_object_get(object, key);

	return value != NULL ? (uint64_t)json_integer_value(value) : otherwise;
}

static unsigned word(const json_t *object, const char *key, const char *const *words)
{
	const char *text = json_string_value(json_object_get(object, key));
	unsigned i = 0;

	while (text != NULL && words[i] != NULL && strcmp(words[i], text) != 0)
		i++;
	assert_non_null(words[i]);
	return i;
}

static struct scene *scene_read(const char *name)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	const json_t *lost;
	struct err err;
	size_t len;
	uint8_t *text = file_get(name, ".json", &len);

	scene->json = json_parse((const char *)text, len, &err);
	free(text);
	if (scene->json == NULL)
		fail_msg("%s.json: %s", name, err.text);
	scene->burst = number(scene->json, "burst", PORT_BURST_MAX);
	scene->own_direction = json_is_true(json_object_get(scene->json, "own_direction"));
	lost = json_object_get(scene->json, "no_block");
	scene->no_block_from = json_integer_value(json_array_get(lost, 0));
	scene->no_block_to = json_integer_value(json_array_get(lost, 1));
	scene->filter_text =
		json_string_value(json_object_get(json_object_get(scene->json, "spec"), "filter"));
	if (scene->filter_text != NULL) {
		struct filter_code code;

		if (filter_compile(scene->filter_text, &code, &err) != 0)
			fail_msg("%s: %s", scene->filter_text, err.text);
		scene->filter = filter_new(&code, &err);
		assert_non_null(scene->filter);
	}
	input_read(&scene->input, json_string_value(json_object_get(scene->json, "input")));
	return scene;
}

static void scene_free(struct scene *scene)
{
	filter_put(scene->filter);
	json_decref(scene->json);
	free(scene->input.bytes);
	free(scene);
}

static void bench_set(struct bench *bench, const struct scene *scene)
{
	static const char *const modes[] = {"none", "every", NULL};
	static const char *const directions[] = {"both", "in", "out", NULL};
	static const enum sample_mode mode_of[] = {SAMPLE_NONE, SAMPLE_EVERY};
	static const enum direction direction_of[] = {DIRECTION_BOTH, DIRECTION_IN, DIRECTION_OUT};
	const json_t *spec = json_object_get(scene->json, "spec");
	const json_t *sampling = json_object_get(spec, "sampling");
	const json_t *limits = json_object_get(spec, "limits");
	struct tap_spec *tap = &bench->tap.spec;

	tap->n_ports = 1;
	tap->sample_mode = mode_of[word(sampling, "mode", modes)];
	tap->sample_n = number(sampling, "n", 1);
	tap->snaplen_bytes = number(spec, "snaplen", TAP_SNAPLEN_MAX);
	tap->direction = direction_of[word(spec, "direction", directions)];
	limit_init(&bench->tap.limit, number(limits, "packets", 0), number(limits, "bytes", 0),
		number(limits, "file_bytes", 0));
	bench_snaplen(bench, tap->snaplen_bytes);
	bench->lanes[0].direction_known = scene->own_direction;
}

static size_t header_put(uint8_t *buf, size_t size, const struct scene *scene, uint32_t snaplen)
{
	const struct pcapng_section section = {
		.hardware = "golden cpu", .os = "golden os", .application = "sluice golden"};
	const struct pcapng_interface interface = {
		.name = "golden0",
		.description = "a golden port",
		.filter = scene->filter_text,
		.snaplen = snaplen,
		.speed_bps = 10000000000,
	};
	size_t len = pcapng_section_put(buf, size, &section);

	return len + pcapng_interface_put(buf + len, size - len, &interface);
}

static bool flush_before(const struct scene *scene, unsigned at)
{
	const json_t *flush = json_object_get(scene->json, "flush");

	for (size_t i = 0; i < json_array_size(flush); i++)
		if (json_integer_value(json_array_get(flush, i)) == (json_int_t)at)
			return true;
	return false;
}

/* A burst ends at its size, and where something happens. */
static unsigned burst_end(const struct scene *scene, unsigned at)
{
	unsigned end = at + 1;

	while (end < scene->input.n && end - at < scene->burst && !flush_before(scene, end) &&
		end != scene->no_block_from && end != scene->no_block_to)
		end++;
	return end;
}

/* Every free block, so that the lane gets none. */
static struct block *blocks_hide(struct block_home *home)
{
	struct block *list = NULL, *block;

	while ((block = block_take(home, false)) != NULL) {
		block->next = list;
		list = block;
	}
	return list;
}

static void blocks_show(struct block_home *home, struct block *list)
{
	while (list != NULL) {
		struct block *block = list;

		list = block->next;
		block_untake(home, block);
	}
}

static void burst_offer(struct bench *bench, const struct scene *scene, unsigned at, unsigned end)
{
	struct block_home *home = bench->lanes[0].home;
	bool hide = at >= scene->no_block_from && at < scene->no_block_to;
	struct block *hidden = hide ? blocks_hide(home) : NULL;
	struct burst burst = {0};

	for (unsigned i = at; i < end; i++) {
		const struct frame *frame = &scene->input.frames[i];

		if (scene->own_direction && i % 3 == 0)
			burst.outbound |= 1ULL << burst.n;
		burst_add(&burst, packet_new(frame->data, frame->len, i % 2 == 0 ? 0 : 2048),
			frame->stamp_ns);
	}
	lane_offer(
		&bench->lanes[0], &burst, filter_burst(scene->filter, burst.pkts, burst.n), 0, 0);
	blocks_show(home, hidden);
	burst_clear(&burst);
}

static size_t statistics_put(
	uint8_t *buf, size_t size, const struct bench *bench, const struct input *input)
{
	const struct lane *lane = &bench->lanes[0];
	const struct pcapng_statistics statistics = {
		.stamp_ns = input->frames[input->n - 1].stamp_ns,
		.start_ns = input->frames[0].stamp_ns,
		.end_ns = input->frames[input->n - 1].stamp_ns,
		.received = input->n,
		.filter_accepted = lane->if_accepted[0],
		.os_dropped = lane->if_dropped[0],
		.delivered = bench->disks[0].packets[0],
		.tail_gap = lane->pending[0],
	};

	return pcapng_statistics_put(buf, size, &statistics);
}

static void file_compare(const char *name, const struct bytes *is)
{
	size_t len, at = 0;
	uint8_t *want = file_get(name, ".pcapng", &len);

	while (at < len && at < is->len && want[at] == is->data[at])
		at++;
	if (at != len || at != is->len)
		fail_msg("%s: %zu bytes, %zu are expected; the first difference is at %zu", name,
			is->len, len, at);
	free(want);
}

static void the_file_is_the_expected_one(void **state)
{
	const char *name = *state;
	struct scene *scene = scene_read(name);
	struct bench *bench = bench_new(1, 1);
	struct bytes *file = &bench->disks[0].file;
	uint8_t buf[4096];
	size_t len;

	bench_set(bench, scene);
	len = header_put(buf, sizeof(buf), scene, bench->tap.spec.snaplen_bytes);
	bench_header(bench, 0, buf, len);
	for (unsigned at = 0, end; at < scene->input.n; at = end) {
		end = burst_end(scene, at);
		if (flush_before(scene, at))
			lane_flush(&bench->lanes[0]);
		burst_offer(bench, scene, at, end);
		bench_write(bench, 1000);
	}
	bench_end(bench);
	bench_balances(bench);
	/* What storage does at the end: cut at the byte, append the statistics. */
	file->len = bench->disks[0].whole_end;
	bytes_put(file, buf, statistics_put(buf, sizeof(buf), bench, &scene->input));
	file_compare(name, file);
	bench_free(bench);
	scene_free(scene);
}

/* All of them, as one file of many sections: as many packets as there are, and no complaint. */
static void others_read_them(void **state)
{
	char(*const names)[64] = *state;
	char path[64], out[65536];
	unsigned n = 0, n_read = 0;
	struct bytes all = {0};
	size_t at = 0, len;

	if (!frames_reader_there()) {
		print_message("# no tshark and capinfos here\n");
		skip();
	}
	for (unsigned i = 0; names[i][0] != '\0'; i++) {
		uint8_t *file = file_get(names[i], ".pcapng", &len);

		bytes_put(&all, file, len);
		free(file);
	}
	while (at < all.len) {
		uint32_t head[2];

		memcpy(head, all.data + at, sizeof(head));
		n += head[0] == PCAPNG_EPB;
		at += head[1];
	}
	snprintf(path, sizeof(path), "/tmp/test_golden.%d", (int)getpid());
	frames_file_put(path, all.data, all.len);
	bytes_free(&all);
	assert_int_equal(
		frames_reader("tshark -n -T fields -e frame.number -r", path, out, sizeof(out)), 0);
	unlink(path);
	for (const char *p = out; *p != '\0'; p++)
		n_read += *p == '\n';
	assert_int_equal(n_read, n);
}

static unsigned rows_read(char names[][64])
{
	FILE *file = fopen(FOLDER "LIST", "r");
	char line[512];
	unsigned n = 0;

	while (file != NULL && n < ROWS_MAX && fgets(line, sizeof(line), file) != NULL)
		if (line[0] != '#' && sscanf(line, "%63s", names[n]) == 1)
			n++;
	if (file != NULL)
		fclose(file);
	return n;
}

int main(void)
{
	static char names[ROWS_MAX + 1][64];
	static struct CMUnitTest tests[ROWS_MAX + 1];
	const unsigned n = rows_read(names);

	if (n == 0)
		return 1;
	for (unsigned i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){
			names[i], the_file_is_the_expected_one, NULL, NULL, names[i]};
	tests[n] = (struct CMUnitTest){"others_read_them", others_read_them, NULL, NULL, names};
	return _cmocka_run_group_tests("golden", tests, n + 1, pool_start, pool_stop);
}
