/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/spec: every bound from both sides with the member's name, and the header that a file
 * begins with. The engine's ports are the test's own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/spec.h"
#include "engine/clock.h"
#include "engine/pcapng.h"
#include "frames_file.h"

static const struct port_ops ops = {.kind = "interface"};
static struct config_port port_configs[3] = {
	{.name = "tap0", .interface = "eth0"},
	{.name = "mirror", .device = "0000:03:00.0"},
	{.name = "gone", .interface = "eth9"},
};
static struct port ports[3];
static struct config config;

/* Stands for the engine's. */
struct port *engine_port(unsigned index)
{
	assert_true(index < 3);
	return &ports[index];
}

static struct session_spec spec;
static struct err err;

static int spec_plain(void **state)
{
	memset(&ports, 0, sizeof(ports));
	for (unsigned i = 0; i < 3; i++) {
		ports[i].ops = &ops;
		port_configs[i].snaplen_bytes = TAP_SNAPLEN_MAX;
		ports[i].config = &port_configs[i];
		ports[i].index = i;
		strcpy(ports[i].driver, i == 1 ? "mlx5_pci" : "af_packet");
	}
	ports[1].direction = PORT_DIRECTION_NONE;
	ports[1].speed_mbps = 25000;
	ports[2].gone = true;
	memset(&config, 0, sizeof(config));
	config.capture.endless = true;
	memset(&err, 0, sizeof(err));
	spec = (struct session_spec){.n_ports = 1, .account = "*", .owner = "t", .sample_n = 1};
	return 0;
}

static void taken(void)
{
	if (spec_check(&spec, &config, &err) != 0)
		fail_msg("%s: %s", err.field, err.text);
}

static void refused(const char *field, int code)
{
	memset(&err, 0, sizeof(err));
	assert_int_equal(spec_check(&spec, &config, &err), -code);
	assert_int_equal(err.code, code);
	assert_string_equal(err.field, field);
	assert_true(err.text[0] != '\0' && err.text[strlen(err.text) - 1] != '.');
}

static char *text_of(size_t len)
{
	static char text[10000];

	assert_true(len < sizeof(text));
	memset(text, 'x', len);
	text[len] = '\0';
	return text;
}

static void the_least_is_enough(void **state)
{
	taken();
	spec.name = "";
	spec.notes = "";
	spec.filter = "";
	taken();
}

static void texts_have_bounds(void **state)
{
	const struct {
		const char **member;
		const char *field;
		size_t max;
	} texts[] = {
		{&spec.name, "name", SESSION_NAME_MAX - 1},
		{&spec.notes, "notes", SESSION_NOTES_MAX - 1},
		{&spec.filter, "filter", FILTER_EXPRESSION_MAX - 1},
	};

	for (unsigned i = 0; i < 3; i++) {
		*texts[i].member = text_of(texts[i].max);
		taken();
		*texts[i].member = text_of(texts[i].max + 1);
		refused(texts[i].field, EINVAL);
		*texts[i].member = NULL;
	}
}

static void snaplen_and_sampling_have_bounds(void **state)
{
	spec.snaplen_bytes = TAP_SNAPLEN_MAX;
	taken();
	spec.snaplen_bytes = 1;
	taken();
	spec.snaplen_bytes = TAP_SNAPLEN_MAX + 1;
	refused("snaplen", EINVAL);
	assert_non_null(strstr(err.text, "262145 is out of range: 1 to 262144"));
	spec.snaplen_bytes = UINT64_MAX;
	refused("snaplen", EINVAL);
	spec.snaplen_bytes = 0;

	for (enum sample_mode mode = SAMPLE_EVERY; mode <= SAMPLE_FLOW; mode++) {
		spec.sample_mode = mode;
		spec.sample_n = 1;
		taken();
		spec.sample_n = UINT32_MAX;
		taken();
		spec.sample_n = UINT32_MAX + 1ULL;
		refused("sampling.n", EINVAL);
		spec.sample_n = 0;
		refused("sampling.n", EINVAL);
	}
	spec.sample_mode = SAMPLE_NONE;
	taken();
	spec.rate_pps = SESSION_RATE_MAX;
	taken();
	spec.rate_pps = SESSION_RATE_MAX + 1;
	refused("sampling.rate_pps", EINVAL);
}

static void ports_are_there_once_and_usable(void **state)
{
	spec.n_ports = 0;
	refused("ports", EINVAL);
	spec.n_ports = 2;
	spec.ports[1] = 1;
	taken();
	spec.ports[1] = 0;
	refused("ports", EINVAL);
	assert_non_null(strstr(err.text, "\"tap0\" is named twice"));
	spec.ports[1] = 2;
	refused("ports", ENODEV);
	assert_non_null(strstr(err.text, "\"gone\""));
}

static void a_direction_needs_a_port_that_knows_it(void **state)
{
	spec.direction = DIRECTION_IN;
	taken();
	ports[0].direction = PORT_DIRECTION_BY_MAC;
	taken();
	spec.n_ports = 2;
	spec.ports[1] = 1;
	refused("direction", EINVAL);
	assert_non_null(strstr(err.text, "\"mirror\""));
	spec.direction = DIRECTION_BOTH;
	taken();
}

static void limits_have_bounds(void **state)
{
	const uint64_t years = 10ULL * 365 * 86400 * CLOCK_NS_PER_S;
	uint64_t *const counts[] = {&spec.limit_packets, &spec.limit_bytes, &spec.limit_file_bytes};

	spec.limit_ns = years;
	taken();
	spec.limit_ns = years + 1;
	refused("limits.seconds", EINVAL);
	spec.limit_ns = 0;
	for (unsigned i = 0; i < 3; i++) {
		*counts[i] = INT64_MAX;
		taken();
		*counts[i] = 1ULL + INT64_MAX;
		refused("limits", EINVAL);
		*counts[i] = 0;
	}
}

static void a_file_limit_leaves_room_for_what_is_not_packets(void **state)
{
	uint64_t least = 0;
	size_t len;
	void *header;

	spec.n_ports = 2;
	spec.ports[1] = 1;
	spec.filter = "tcp port 443";
	spec.limit_file_bytes = 1;
	refused("limits.file_bytes", EINVAL);
	least = strtoull(strstr(err.text, "at least ") + 9, NULL, 10);
	spec.limit_file_bytes = least - 1;
	refused("limits.file_bytes", EINVAL);
	spec.limit_file_bytes = least;
	taken();
	header = spec_header(&spec, &len);
	assert_non_null(header);
	assert_true(len + 2 * PCAPNG_STATISTICS_MAX <= least);
	free(header);
}

static void a_host_may_want_a_limit(void **state)
{
	uint64_t *const limits[] = {
		&spec.limit_ns, &spec.limit_packets, &spec.limit_bytes, &spec.limit_file_bytes};

	config.capture.endless = false;
	refused("limits", EINVAL);
	assert_non_null(strstr(err.text, "capture.endless"));
	for (unsigned i = 0; i < 4; i++) {
		*limits[i] = 1000000;
		taken();
		*limits[i] = 0;
	}
}

static void others_read_the_header(void **state)
{
	char path[] = "/tmp/test_spec.XXXXXX", out[8192];
	void *header;
	size_t len;
	int fd;

	if (!frames_reader_there()) {
		print_message("# no tshark and capinfos here\n");
		skip();
	}
	spec.n_ports = 2;
	spec.ports[0] = 1;
	spec.ports[1] = 0;
	spec.filter = "tcp port 443";
	spec.snaplen_bytes = 96;
	port_configs[0].snaplen_bytes = 64;
	header = spec_header(&spec, &len);
	assert_non_null(header);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	frames_file_put(path, header, len);
	free(header);
	assert_int_equal(frames_reader("capinfos", path, out, sizeof(out)), 0);
	unlink(path);
	assert_non_null(strstr(out, "Capture application: Sluice " SLUICE_VERSION));
	assert_non_null(strstr(out, "Number of interfaces in file: 2"));
	assert_true(strstr(out, "Name = mirror") < strstr(out, "Name = tap0"));
	assert_non_null(strstr(out, "Name = mirror"));
	assert_non_null(strstr(out, "Description = interface 0000:03:00.0 (mlx5_pci)"));
	assert_non_null(strstr(out, "Description = interface eth0 (af_packet)"));
	assert_non_null(strstr(out, "Speed = 25000000000"));
	assert_non_null(strstr(out, "Capture length = 96"));
	assert_non_null(strstr(out, "Capture length = 64"));
	assert_non_null(strstr(out, "Filter string = tcp port 443"));
	assert_non_null(strstr(out, "Time precision = nanoseconds (9)"));
}

/* The longest of everything still makes a header. */
static void the_longest_texts_fit_the_header(void **state)
{
	static struct config_port longest[CONFIG_PORTS_MAX];
	size_t len = 0;
	void *header;

	memset(longest[0].name, 'n', CONFIG_NAME_MAX - 1);
	memset(longest[0].device, 'd', CONFIG_TEXT_MAX - 1);
	memset(ports[0].driver, 'v', sizeof(ports[0].driver) - 1);
	ports[0].config = &longest[0];
	spec.filter = text_of(FILTER_EXPRESSION_MAX - 1);
	header = spec_header(&spec, &len);
	assert_non_null(header);
	assert_true(len > FILTER_EXPRESSION_MAX + CONFIG_TEXT_MAX);
	assert_int_equal(len % 4, 0);
	free(header);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, spec_plain)
	const struct CMUnitTest tests[] = {
		TEST(the_least_is_enough),
		TEST(texts_have_bounds),
		TEST(snaplen_and_sampling_have_bounds),
		TEST(ports_are_there_once_and_usable),
		TEST(a_direction_needs_a_port_that_knows_it),
		TEST(limits_have_bounds),
		TEST(a_file_limit_leaves_room_for_what_is_not_packets),
		TEST(a_host_may_want_a_limit),
		TEST(others_read_the_header),
		TEST(the_longest_texts_fit_the_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
