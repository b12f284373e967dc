/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * config/: every option's default and bounds as the table has them, every class of error with its
 * line and words, the sample files, the default route.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/option.h"
#include "config/route.h"

#define PORT "[port tap0]\ninterface = lo\n"

static char dir[] = "/tmp/test_config.XXXXXX";
static char path[64];
static unsigned n_cpus = 8;

/* The machine under test has n_cpus CPUs, whatever the one that runs the test has. */
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	memset(set, 0, size);
	for (unsigned cpu = 0; cpu < n_cpus; cpu++)
		CPU_SET(cpu, set);
	return 0;
}

static void file_write(const char *text, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static struct config *load(const char *text)
{
	struct err err = {0};
	struct config *config;

	file_write(text, strlen(text));
	config = config_load(path, &err);
	if (config == NULL)
		fail_msg("refused: %s", err.text);
	return config;
}

/* text is refused in line (0: as a whole) with a sentence that begins and ends so. */
static void refused(const char *text, unsigned line, const char *begin, const char *part)
{
	struct err err = {0};
	char head[128];
	struct config *config;

	file_write(text, strlen(text));
	config = config_load(path, &err);
	if (config != NULL)
		fail_msg("accepted: %s", text);
	if (line != 0)
		snprintf(head, sizeof(head), "%s:%u: %s", path, line, begin);
	else
		snprintf(head, sizeof(head), "%s: %s", path, begin);
	if (strncmp(err.text, head, strlen(head)) != 0 || strstr(err.text, part) == NULL)
		fail_msg("said \"%s\", expected \"%s ... %s\"", err.text, head, part);
	assert_null(strchr(err.text, '\n'));
	assert_true(err.code > 0);
}

static void defaults_hold(void **state)
{
	struct config *config = load(PORT "[account a]\n");

	assert_int_equal(config->api.listen.n, 1);
	assert_string_equal(config->api.listen.item[0], "127.0.0.1:8080");
	assert_false(config->api.insecure);
	assert_string_equal(config->storage.root, "/var/lib/sluice");
	assert_int_equal(config->storage.quota_percent, 80);
	assert_int_equal(config->storage.quota_bytes, 0);
	assert_int_equal(config->storage.durable_every_ms, 1000);
	assert_int_equal(config->storage.when_full, CONFIG_WHEN_FULL_DELETE_OLDEST);
	assert_int_equal(config->storage.measure, CONFIG_MEASURE_AUTO);
	assert_true(config->storage.spare_bytes == CONFIG_SPARE_AUTO);
	assert_int_equal(config->storage.keep_ms, 0);
	assert_false(config->storage.delete_unuploaded);
	assert_int_equal(config->accounts[0].quota.percent, 100);
	assert_true(config->capture.endless);
	assert_int_equal(config->engine.hugepages, CONFIG_HUGEPAGES_AUTO);
	assert_int_equal(config->engine.main_cpu, 0);
	assert_int_equal(config->engine.rx_cpus.n, 1);
	assert_int_equal(config->engine.rx_cpus.cpu[0], 1);
	assert_int_equal(config->engine.writer_cpus.cpu[0], 0);
	assert_int_equal(config->engine.block_memory_bytes, 0);
	assert_int_equal(config->sampling.simple, 100);
	assert_false(config->cloudflare.enabled);
	assert_int_equal(config->cloudflare.full_concurrent, 0);
	assert_int_equal(config->mist.url_ttl_ms, 3600000);
	assert_int_equal(config->n_ports, 1);
	assert_string_equal(config->ports[0].name, "tap0");
	assert_int_equal(config->ports[0].rx_queues, 1);
	assert_int_equal(config->ports[0].mtu, 1500);
	assert_int_equal(config->ports[0].snaplen_bytes, 262144);
	assert_int_equal(config->ports[0].rate_pps, 0);
	assert_int_equal(config->ports[0].poll, CONFIG_POLL_ALWAYS);
	assert_string_equal(config->accounts[0].ports.item[0], "*");
	config_free(config);
}

static void defaults_fit_small_machines(void **state)
{
	struct config *config;

	n_cpus = 1;
	config = load(PORT);
	n_cpus = 8;
	assert_int_equal(config->engine.rx_cpus.n, 1);
	assert_int_equal(config->engine.rx_cpus.cpu[0], 0);
	config_free(config);
}

#define BUCKET_REST "endpoint = https://s3.example.net\ncredentials = /a\n"

/* What a [bucket] needs besides key. */
static const char *bucket_rest(const char *key)
{
	return strcmp(key, "endpoint") == 0      ? "credentials = /a\n"
	       : strcmp(key, "credentials") == 0 ? "endpoint = https://s3.example.net\n"
						 : BUCKET_REST;
}

/* A file that sets one option of the table to value; the option's line is 3. */
static void option_file(const struct option *option, const char *value, char *out, size_t size)
{
	bool port = strcmp(option->section, "port") == 0;
	bool source = strcmp(option->key, "interface") == 0 || strcmp(option->key, "device") == 0;

	if (port)
		snprintf(out, size, "[port tap0]\n%s\n%s = %s\n", source ? "" : "interface = lo",
			option->key, value);
	else
		snprintf(out, size, "[%s%s]\n\n%s = %s\n%s" PORT, option->section,
			option_section_named(option->section) ? " a" : "", option->key, value,
			strcmp(option->section, "bucket") == 0 ? bucket_rest(option->key) : "");
}

static void number_print(const struct option *option, uint64_t number, char *out, size_t size)
{
	snprintf(out, size, "%" PRIu64 "%s", number, option->kind == OPTION_DURATION ? "ms" : "");
}

/* min and max pass, one less and one more do not, nor does anything that is no number. */
static void numbers_are_bounded(void **state)
{
	static const char *const bad[] = {
		"x", "-1", "1.5", "0x10", "1 1", "18446744073709551616", "1Q"};
	char text[512], number[32], head[64];
	unsigned n = 0;

	for (unsigned i = 0; i < option_count; i++) {
		const struct option *option = &option_table[i];

		if (option->kind != OPTION_NUMBER && option->kind != OPTION_SIZE &&
			option->kind != OPTION_DURATION && option->kind != OPTION_QUOTA &&
			option->kind != OPTION_RATE && option->kind != OPTION_SPARE &&
			option->kind != OPTION_SHARE)
			continue;
		n++;
		snprintf(head, sizeof(head), "%s: ", option->key);
		for (unsigned j = 0; j < 2; j++) {
			number_print(option, j ? option->max : option->min, number, sizeof(number));
			option_file(option, number, text, sizeof(text));
			config_free(load(text));
		}
		if (option->min > 0) {
			number_print(option, option->min - 1, number, sizeof(number));
			option_file(option, number, text, sizeof(text));
			refused(text, 3, head, "allowed: ");
		}
		number_print(option, option->max + 1, number, sizeof(number));
		option_file(option, number, text, sizeof(text));
		refused(text, 3, head, "allowed: ");
		for (unsigned j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
			option_file(option, bad[j], text, sizeof(text));
			refused(text, 3, head, "allowed: ");
		}
	}
	assert_true(n >= 10);
}

static void words_are_bounded(void **state)
{
	char text[512], head[64], word[64];
	unsigned n = 0;

	for (unsigned i = 0; i < option_count; i++) {
		const struct option *option = &option_table[i];

		snprintf(head, sizeof(head), "%s: ", option->key);
		if (option->kind != OPTION_CHOICE && option->kind != OPTION_BOOL)
			continue;
		n++;
		option_file(option, "maybe", text, sizeof(text));
		refused(text, 3, head, "allowed: ");
		option_file(option, "", text, sizeof(text));
		refused(text, 3, head, "allowed: ");
		for (const char *at = option->unit;;) {
			size_t len = strcspn(at, "|");

			snprintf(word, sizeof(word), "%.*s", (int)len, at);
			option_file(option, word, text, sizeof(text));
			if (strcmp(word, "bucket") == 0)
				refused(text, 3, head, "allowed: local");
			else if (strcmp(option->key, "tls_client") == 0 && strcmp(word, "off") != 0)
				refused(text, 3, head, "with it"); /* with tls_client_ca */
			else
				config_free(load(text));
			if (at[len] == '\0')
				break;
			at += len + 1;
		}
	}
	assert_true(n >= 9);
}

/* Long texts: exactly max characters pass as far as length goes, one more does not. */
static void texts_are_bounded(void **state)
{
	char value[700], text[1500], head[64];
	unsigned n = 0;

	for (unsigned i = 0; i < option_count; i++) {
		const struct option *option = &option_table[i];
		size_t len = option->max + 1, at = 0;

		if (option->kind != OPTION_TEXT)
			continue;
		n++;
		snprintf(head, sizeof(head), "%s: has ", option->key);
		/* folded, as no line may have 200 characters; a fold behind a comma adds nothing */
		for (size_t done = 0; done < len; done++) {
			value[at++] = done % 150 == 149 ? ',' : 'a';
			if (done % 150 == 149 && done + 1 < len) {
				value[at++] = '\n';
				value[at++] = ' ';
			}
		}
		value[at] = '\0';
		option_file(option, value, text, sizeof(text));
		refused(text, 3, head, "allowed: ");
	}
	assert_true(n >= 10);
}

static void units_are_read(void **state)
{
	struct config *config = load("[storage]\nquota = 3T\ndurable_every = 45m\n"
				     "[engine]\nblock_memory = 512M\n"
				     "[mist]\nurl_ttl = 2h\n" PORT "rate = 250000\n");

	assert_int_equal(config->storage.quota_percent, 0);
	assert_true(config->storage.quota_bytes == 3ULL << 40);
	assert_int_equal(config->storage.durable_every_ms, 2700000);
	assert_int_equal(config->engine.block_memory_bytes, 512 << 20);
	assert_int_equal(config->mist.url_ttl_ms, 7200000);
	assert_int_equal(config->ports[0].rate_pps, 250000);
	config_free(config);
	config = load("[storage]\nquota = 5%\ndurable_every = 250ms\n" PORT);
	assert_int_equal(config->storage.quota_percent, 5);
	assert_int_equal(config->storage.durable_every_ms, 250);
	config_free(config);
	refused("[storage]\nquota = 0%\n" PORT, 2, "quota: ", "1% to 95%");
	refused("[storage]\nquota = 96%\n" PORT, 2, "quota: ", "1% to 95%");
	refused("[storage]\ndurable_every = 5\n" PORT, 2, "durable_every: ", "ms, s, m, h or d");
}

static void shares_and_ages_are_read(void **state)
{
	struct config *config = load("[storage]\nkeep = 30d\ndelete_unuploaded = yes\n" PORT
				     "[account a]\nquota = 7%\n[account b]\nquota = 3G\n"
				     "[account c]\n");

	assert_int_equal(config->storage.keep_ms, 30ULL * 86400000);
	assert_true(config->storage.delete_unuploaded);
	assert_int_equal(config->accounts[0].quota.percent, 7);
	assert_int_equal(config->accounts[0].quota.bytes, 0);
	assert_int_equal(config->accounts[1].quota.percent, 0);
	assert_true(config->accounts[1].quota.bytes == 3ULL << 30);
	assert_int_equal(config->accounts[2].quota.percent, 100);
	config_free(config);
	config = load("[storage]\nkeep = 0\n" PORT "[account a]\nquota = 100%\n");
	assert_int_equal(config->storage.keep_ms, 0);
	config_free(config);
	refused("[account a]\nquota = 0%\n" PORT, 2, "quota: ", "1% to 100%, or 1M to");
	refused("[account a]\nquota = 101%\n" PORT, 2, "quota: ", "1% to 100%");
	refused("[account a]\nquota = 1000\n" PORT, 2, "quota: ", "or 1M to");
	refused("[storage]\nkeep = 30\n" PORT, 2, "keep: ", "0ms to 3650d, with its unit");
	refused("[storage]\nkeep = for ever\n" PORT, 2, "keep: ", "ms, s, m, h or d");
	refused("[storage]\ndurable_every = 0\n" PORT, 2, "durable_every: ", "allowed: ");
}

static void cpus_are_checked(void **state)
{
	struct config *config =
		load("[engine]\nmain_cpu = 7\nrx_cpus = 1-3, 1,5\nwriter_cpus = 0 , 0\n" PORT);
	static const unsigned expected[] = {1, 2, 3, 1, 5};

	assert_int_equal(config->engine.main_cpu, 7);
	assert_int_equal(config->engine.rx_cpus.n, 5);
	assert_memory_equal(config->engine.rx_cpus.cpu, expected, sizeof(expected));
	assert_int_equal(config->engine.writer_cpus.n, 2);
	config_free(config);
	refused("[engine]\nrx_cpus = 1,8\n" PORT, 2, "rx_cpus: this machine has no CPU 8",
		"allowed: 0-7");
	refused("[engine]\nmain_cpu = 8\n" PORT, 2, "main_cpu: this machine has no CPU 8",
		"allowed: 0-7");
	for (const char *const *bad = (const char *const[]){"", "a", "1,", ",1", "2-1", "1-", "1;2",
		     "-1", "1 2", "12345", "+1", NULL};
		*bad != NULL; bad++) {
		char text[128];

		snprintf(text, sizeof(text), "[engine]\nwriter_cpus = %s\n" PORT, *bad);
		refused(text, 2, "writer_cpus: ", "allowed: ");
	}
	refused("[engine]\nrx_cpus = 0-7,0-7,0-7,0-7,0\n" PORT, 2, "rx_cpus: ", "more than 32");
}

static void buckets_are_checked(void **state)
{
	static const char *const bad_endpoints[] = {"s3.example.net", "https://", "ftp://a",
		"https://a/b", "https://a:0", "https://a:65536", "https://a:b", "https://u@a",
		"https://a?b", "https://a#b", "https://[::1", "https://[a]", "https://a b",
		"https://a:1/", "https://-a"};
	static const char *const good_endpoints[] = {"https://a", "https://a:443",
		"https://10.0.0.1:9", "https://[::1]:9", "https://[::1]"};
	static const char *const bad_prefixes[] = {
		"/a", "a/", "a//b", ".", "..", "a/../b", "a/./b"};
	struct config *config = load("[bucket caps]\n" BUCKET_REST PORT);
	char text[512];

	assert_int_equal(config->n_buckets, 1);
	assert_ptr_equal(config_bucket_find(config, "caps"), &config->buckets[0]);
	assert_null(config_bucket_find(config, "cap"));
	assert_string_equal(config->buckets[0].bucket, "caps");
	assert_string_equal(config->buckets[0].region, "us-east-1");
	assert_int_equal(config->buckets[0].style, CONFIG_STYLE_PATH);
	assert_int_equal(config->buckets[0].part_bytes, 0);
	assert_true(config->buckets[0].keep);
	assert_true(config_bucket_allows(config, &config->buckets[0], "anybody"));
	config_free(config);
	config = load("[bucket a]\nbucket = Real.name-1\naccounts = x\npart_size = 5M\n" BUCKET_REST
		      "[bucket b]\n" BUCKET_REST "[account x]\nid = "
		      "023e105f4ecef8ad9ca31a8372d0c353\n[account y]\n" PORT);
	assert_string_equal(config->buckets[0].bucket, "Real.name-1");
	assert_string_equal(config->buckets[1].bucket, "b");
	assert_int_equal(config->buckets[0].part_bytes, 5 << 20);
	assert_true(config_bucket_allows(config, &config->buckets[0], "x"));
	assert_true(config_bucket_allows(config, &config->buckets[0], "*"));
	assert_true(config_bucket_allows(
		config, &config->buckets[0], "023e105f4ecef8ad9ca31a8372d0c353"));
	assert_false(config_bucket_allows(config, &config->buckets[0], "y"));
	assert_false(config_bucket_allows(config, &config->buckets[0], "nobody"));
	config_free(config);
	for (unsigned i = 0; i < sizeof(bad_endpoints) / sizeof(bad_endpoints[0]); i++) {
		snprintf(text, sizeof(text), "[bucket a]\nendpoint = %s\ncredentials = /a\n" PORT,
			bad_endpoints[i]);
		refused(text, 2, "endpoint: ", "allowed: https://HOST");
	}
	for (unsigned i = 0; i < sizeof(good_endpoints) / sizeof(good_endpoints[0]); i++) {
		snprintf(text, sizeof(text), "[bucket a]\nendpoint = %s\ncredentials = /a\n" PORT,
			good_endpoints[i]);
		config_free(load(text));
	}
	for (unsigned i = 0; i < sizeof(bad_prefixes) / sizeof(bad_prefixes[0]); i++) {
		snprintf(text, sizeof(text), "[bucket a]\nprefix = %s\n" BUCKET_REST PORT,
			bad_prefixes[i]);
		refused(text, 2, "prefix: ", "allowed: as captures/site1");
	}
	refused("[bucket a]\nendpoint = http://a\ncredentials = /a\n" PORT, 2,
		"endpoint: \"http://a\" would send", "insecure = yes");
	config_free(
		load("[bucket a]\nendpoint = http://a\ninsecure = yes\ncredentials = /a\n" PORT));
	refused("[bucket a]\nendpoint = https://a\n" PORT, 1, "credentials: [bucket a] has none",
		"");
	refused("[bucket a]\ncredentials = /a\n" PORT, 1, "endpoint: [bucket a] has none", "");
	refused("[bucket a]\nbucket = a/b\n" BUCKET_REST PORT, 2, "bucket: ", "letters, digits");
	refused("[bucket a]\naccounts = b\n" BUCKET_REST PORT, 2,
		"accounts: there is no [account b]", "* or names");
	refused("[bucket a]\nallow = 10.0.0.0/33\n" BUCKET_REST PORT, 2, "allow: ", "networks");
	refused("[bucket a]\n" BUCKET_REST "[bucket a]\n" PORT, 4, "[bucket a] stands there twice",
		"");
}

static void unknown_words_are_refused(void **state)
{
	refused("[engin]\n" PORT, 1, "[engin] is no section", "did you mean [engine]?");
	refused("[prot tap0]\n", 1, "[prot] is no section", "did you mean [port NAME]?");
	refused("[whatever]\n", 1, "[whatever] is no section", "allowed: [api] [storage]");
	refused(PORT "rx_queue = 2\n", 3, "rx_queue: is no option of [port]",
		"did you mean rx_queues?");
	refused("[storage]\nbanana = 2\n" PORT, 2, "banana: is no option of [storage]",
		"allowed: root, quota, durable_every, when_full, on_full, measure, spare");
	refused("[api]\nquota = 5%\n" PORT, 2, "quota: is no option of [api]", "allowed: listen");
}

static void repeats_are_refused(void **state)
{
	refused("[api]\n[storage]\n[api]\n" PORT, 3, "[api] stands there twice", "");
	refused(PORT PORT, 3, "[port tap0] stands there twice", "");
	refused("[port  tap0]\ninterface = lo\n[port tap0]\n", 3, "[port tap0] stands there twice",
		"");
	refused("[api]\nlisten = 127.0.0.1:1\ninsecure = no\nlisten = 127.0.0.1:1\n" PORT, 4,
		"listen: stands there twice", "line 2");
	refused("[account a]\n[account a]\n" PORT, 2, "[account a] stands there twice", "");
}

static void sections_are_named(void **state)
{
	char text[2000] = "";

	refused("[port]\n", 1, "[port ] has no good name", "letters, digits");
	refused("[port a/b]\n", 1, "[port a/b] has no good name", "letters, digits");
	refused("[api x]\n" PORT, 1, "[api x] takes no name", "allowed: [api]");
	refused("[api\n" PORT, 1, "[api: the closing ] is missing", "");
	refused("[api] x\n" PORT, 1, "\"x\" stands behind the ]", "");
	for (unsigned i = 0; i <= CONFIG_PORTS_MAX; i++)
		snprintf(text + strlen(text), 64, "[port p%u]\ninterface = lo\n", i);
	refused(text, 2 * CONFIG_PORTS_MAX + 1, "[port p16] is one too many", "allowed: 16");
	snprintf(text, sizeof(text), "[port %050d]\n", 1);
	refused(text, 1, "the section's name has 55 characters", "at most 49");
}

static void what_inih_would_cut_is_refused(void **state)
{
	char text[9000];
	struct config *config;
	struct err err = {0};
	size_t len;

	snprintf(text, sizeof(text), "[storage]\nroot = /%0191d\n" PORT, 1); /* 199 characters */
	config = load(text);
	assert_int_equal(strlen(config->storage.root), 192);
	config_free(config);
	snprintf(text, sizeof(text), "[storage]\nroot = /%0192d\n" PORT, 1);
	refused(text, 2, "the line has 200 characters", "at most 199");
	snprintf(text, sizeof(text), "[storage]\nroot = /a\n  %0198d\n" PORT, 1);
	refused(text, 3, "the line has 200 characters", "at most 199");
	snprintf(text, sizeof(text), "; %0300d\n" PORT, 1);
	refused(text, 1, "the line has 302 characters", "at most 199");
	len = snprintf(text, sizeof(text), "[nsx]\npoints = a=tap0,\n");
	for (unsigned i = 0; i < 40; i++)
		len += snprintf(text + len, sizeof(text) - len, " %0150d,\n", i);
	refused(text, 30, "points: the value has more than 4095 characters", "");
	snprintf(text, sizeof(text), "[api]\n%060d = 1\n", 1);
	refused(text, 2, "the key has 60 characters", "allowed: 1 to 48");
	file_write("[api]\nlisten\0 = x\n", 18);
	assert_null(config_load(path, &err));
	assert_non_null(strstr(err.text, ":2: holds a NUL byte"));
}

static void syntax_is_checked(void **state)
{
	refused("listen = 127.0.0.1:1\n", 1, "listen: stands before the first [section]", "");
	refused("[api]\nlisten\n" PORT, 2, "not understood", "key = value");
	refused("[api]\nlisten\n[nope]\n", 2, "not understood", "key = value");
	refused("[api]\n  listen = 127.0.0.1:1\n" PORT, 2, "an indented line goes on",
		"there is none");
	refused("", 0, "there is no [port NAME]", "allowed: 1 to 16");
}

static void lines_are_joined(void **state)
{
	struct config *config = load("\xef\xbb\xbf[api]\r\n"
				     "listen = 127.0.0.1:1, ; one\n"
				     "\t; a comment between\n"
				     "\n"
				     "  [::1]:2 ; two\n"
				     "   , 127.1.2.3:4\n"
				     "[port a]\n"
				     "device = net_pcap0,\n"
				     " rx_pcap=/tmp/a;b.pcap,\n"
				     " infinite_rx=1 ; for ever\n");

	assert_int_equal(config->api.listen.n, 3);
	assert_string_equal(config->api.listen.item[1], "[::1]:2");
	assert_string_equal(config->api.listen.item[2], "127.1.2.3:4");
	assert_string_equal(
		config->ports[0].device, "net_pcap0,rx_pcap=/tmp/a;b.pcap,infinite_rx=1");
	assert_int_equal(config->ports[0].poll, CONFIG_POLL_WANTED);
	config_free(config);
	/* the line of an option is where it begins */
	refused("[api]\nlisten = 127.0.0.1:1,\n  ,\n\n" PORT, 2,
		"listen: an item of the list is empty", "ADDRESS:PORT");
}

static void addresses_are_checked(void **state)
{
	static const char *const bad[] = {"127.0.0.1", "localhost:80", "127.0.0.1:0",
		"127.0.0.1:65536", "::1:80", "[::1]80", "[::1:80", "127.0.0.1:", ":80", "1.2.3:4",
		"[]:1"};
	char text[256];

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[api]\nlisten = %s\n" PORT, bad[i]);
		refused(text, 2, "listen: ", "allowed: ADDRESS:PORT");
	}
	refused("[api]\nlisten = 127.0.0.1:1, 0.0.0.0:1\n" PORT, 2,
		"listen: \"0.0.0.0:1\" would send", "insecure = yes");
	refused("[api]\nlisten = [::]:1\n" PORT, 2, "listen: \"[::]:1\" would send",
		"insecure = yes");
	refused("[api]\nlisten = 127.0.0.1:1,127.0.0.1:1\n" PORT, 2, "listen: ", "twice");
	config_free(load("[api]\nlisten = 0.0.0.0:1\ninsecure = yes\n" PORT));
	refused("[api]\n\ntls_key = /a\n" PORT, 3, "tls_key: stands alone", "together");
	config_free(load("[api]\nlisten = 0.0.0.0:1\ntls_certificate = /a\ntls_key = /b\n" PORT));
	config_free(load("[api]\ntls_certificate = /a\ntls_key = /b\ntls_client = wanted\n"
			 "tls_client_ca = /c\n" PORT));
	refused("[api]\ntls_client = required\n" PORT, 2, "tls_client: ", "tls_client_ca");
	refused("[api]\n\ntls_client_ca = /c\n" PORT, 3, "tls_client: ", "tls_client_ca");
	refused("[api]\ntls_client = wanted\ntls_client_ca = /c\n" PORT, 2,
		"tls_client: ", "tls_certificate");
	refused("[api]\npublic_url = ftp://x\n" PORT, 2, "public_url: ", "http://HOST");
	refused("[api]\npublic_url = http://x/\n" PORT, 2, "public_url: ", "http://HOST");
	refused("[storage]\nroot = here\n" PORT, 2, "root: \"here\"", "begins with /");
}

static void ports_are_checked(void **state)
{
	struct config *config;

	refused("[port a]\n", 1, "interface: [port a] has no source of packets",
		"one of interface");
	refused("[port a]\ninterface = lo\ndevice = net_null0\n", 3, "device: [port a] has both",
		"one of interface");
	refused("[port a]\ninterface = this-name-is-too-long\n", 2, "interface: has 21 characters",
		"15");
	refused("[port a]\ninterface = a/b\n", 2, "interface: \"a/b\" is not the name", "");
	refused("[port a]\ndevice = ,x\n", 2, "device: \",x\"", "PCI address");
	refused("[port a]\ndevice = net_null0\n[port b]\ndevice = net_null0\n", 4,
		"device: [port a] has this device already", "");
	refused("[port a]\ndevice = 0000:3b:00.0\npoll = wanted\n", 3,
		"poll: wanted is not for a NIC", "allowed: always");
	config = load("[port a]\ndevice = net_null0\npoll = wanted\n"
		      "[port b]\ndevice = net_pcap0,rx_pcap=f\npoll = always\n"
		      "[port c]\ndevice = 3b:00.0\n"
		      "[port d]\ninterface = auto\n");
	assert_int_equal(config->ports[0].poll, CONFIG_POLL_WANTED);
	assert_int_equal(config->ports[1].poll, CONFIG_POLL_ALWAYS);
	assert_int_equal(config->ports[2].poll, CONFIG_POLL_ALWAYS);
	assert_string_not_equal(config->ports[3].interface, "auto");
	assert_true(strlen(config->ports[3].interface) > 0);
	assert_ptr_equal(config_port_find(config, "c"), &config->ports[2]);
	assert_null(config_port_find(config, "e"));
	config_free(config);
}

static void accounts_are_checked(void **state)
{
	static const char id[] = "023e105f4ecef8ad9ca31a8372d0c353";
	struct config *config;
	char text[512];

	refused(PORT "[account a]\nports = tap0, tap1\n", 4, "ports: there is no [port tap1]", "");
	refused(PORT "[account a]\nports = *, tap0\n", 4, "ports: ", "* alone");
	refused(PORT "[account a]\nports =\n", 4, "ports: is empty", "");
	refused(PORT "[account a]\nid = 023E\n", 4, "id: \"023E\"", "32 lower-case hex digits");
	refused(PORT "[account a]\nsite_id = 67970e46\n", 4, "site_id: ", "a UUID as");
	refused(PORT "[account a]\ncolo = o r d\n", 4, "colo: ", "letters, digits");
	snprintf(text, sizeof(text), PORT "[account a]\nid = %s\n[account b]\ncolo = x\nid = %s\n",
		id, id);
	refused(text, 7, "id: [account a] has this one already", "");
	snprintf(text, sizeof(text), PORT "[account a]\nid = %s\n", id);
	config = load(text);
	assert_ptr_equal(config_account_find(config, "a"), &config->accounts[0]);
	assert_ptr_equal(config_account_find(config, id), &config->accounts[0]);
	assert_null(config_account_find(config, ""));
	config_free(config);
}

static void pairs_are_checked(void **state)
{
	struct config *config = load(PORT "[citrix]\ninterfaces = MGMT=tap0, 1/2=tap0\n");

	assert_int_equal(config->citrix.interfaces.n, 2);
	assert_string_equal(config->citrix.interfaces.item[1], "1/2=tap0");
	config_free(config);
	refused(PORT "[nsx]\npoints = vmnic0\n", 4, "points: \"vmnic0\"", "POINT=PORT");
	refused(PORT "[nsx]\npoints = vmnic0=tap9\n", 4, "points: \"vmnic0=tap9\"",
		"there is no [port tap9]");
	refused(PORT "[nsx]\npoints = v=tap0, v=tap1\n", 4, "points: \"v\" stands there twice", "");
	refused(PORT "[mist]\ndevices = 5C5B35000010=tap0\n", 4, "devices: ", "12 lower-case hex");
}

static void missing_file_is_told(void **state)
{
	struct err err = {0};

	assert_null(config_load("/nonexistent/sluice.ini", &err));
	assert_string_equal(
		err.text, "/nonexistent/sluice.ini: cannot be read: No such file or directory");
	assert_int_equal(err.code, ENOENT);
	assert_null(config_load("/", &err));
}

static void samples_load(void **state)
{
	static const char *const names[] = {"quickstart", "colo", "bench"};
	char sample[512];

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct err err = {0};
		struct config *config;

		snprintf(sample, sizeof(sample), SOURCE_DIR "/config/%s.ini", names[i]);
		config = config_load(sample, &err);
		if (config == NULL)
			fail_msg("%s", err.text);
		config_free(config);
	}
}

static void help_names_every_option(void **state)
{
	char *text = NULL, needle[80];
	size_t size;
	FILE *out = open_memstream(&text, &size);

	config_help(out);
	assert_int_equal(fclose(out), 0);
	for (unsigned i = 0; i < option_count; i++) {
		snprintf(needle, sizeof(needle), "  %s = %s", option_table[i].key,
			option_table[i].value);
		assert_non_null(strstr(text, needle));
		assert_non_null(strstr(text, option_table[i].help));
	}
	free(text);
}

static void default_route_is_found(void **state)
{
	static const char head[] =
		"Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
	static const char v6[] =
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"fd000000000000000000000000000001 00000400 00000002 00000000 00000003     six0\n"
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"00000000000000000000000000000000 00000001 00000002 00000000 00200200       lo\n";
	char v6_path[64], name[16], text[1024];

	snprintf(v6_path, sizeof(v6_path), "%s/v6", dir);
	snprintf(text, sizeof(text),
		"%snet0\t0010000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
		"slow0\t00000000\t0100000A\t0003\t0\t0\t600\t00000000\n"
		"fast0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\n"
		"down0\t00000000\t0100000A\t0002\t0\t0\t1\t00000000\n",
		head);
	file_write(text, strlen(text));
	route_default(path, v6_path, name, sizeof(name));
	assert_string_equal(name, "fast0");
	file_write(v6, strlen(v6));
	rename(path, v6_path);
	file_write(head, strlen(head));
	route_default(path, v6_path, name, sizeof(name));
	assert_string_equal(name, "six0");
	route_default("/nonexistent", "/nonexistent", name, sizeof(name));
	assert_string_equal(name, "lo");
	unlink(v6_path);
}

static int dir_make(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/c.ini", dir);
	return 0;
}

static int dir_remove(void **state)
{
	unlink(path);
	return rmdir(dir);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_hold),
		cmocka_unit_test(defaults_fit_small_machines),
		cmocka_unit_test(numbers_are_bounded),
		cmocka_unit_test(words_are_bounded),
		cmocka_unit_test(texts_are_bounded),
		cmocka_unit_test(units_are_read),
		cmocka_unit_test(shares_and_ages_are_read),
		cmocka_unit_test(cpus_are_checked),
		cmocka_unit_test(buckets_are_checked),
		cmocka_unit_test(unknown_words_are_refused),
		cmocka_unit_test(repeats_are_refused),
		cmocka_unit_test(sections_are_named),
		cmocka_unit_test(what_inih_would_cut_is_refused),
		cmocka_unit_test(syntax_is_checked),
		cmocka_unit_test(lines_are_joined),
		cmocka_unit_test(addresses_are_checked),
		cmocka_unit_test(ports_are_checked),
		cmocka_unit_test(accounts_are_checked),
		cmocka_unit_test(pairs_are_checked),
		cmocka_unit_test(missing_file_is_told),
		cmocka_unit_test(samples_load),
		cmocka_unit_test(help_names_every_option),
		cmocka_unit_test(default_route_is_found),
	};

	return cmocka_run_group_tests(tests, dir_make, dir_remove);
}
