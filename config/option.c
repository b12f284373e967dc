/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "config/option.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "config/network.h"

struct suffix {
	const char *text;
	uint64_t factor;
};

typedef int option_check(const struct option *option, const void *member, struct err *err);
static option_check check_address, check_listen, check_path, check_url, check_interface,
	check_device, check_hex32, check_uuid, check_word, check_networks, check_pairs,
	check_joined, check_devices, check_endpoint, check_bucket, check_prefix;

const struct option option_table[] = {
#define OPTION(section, base, member, key, kind, value, min, max, unit, check, restart, help) \
	{#section, #key, OPTION_##kind, offsetof(struct base, member),                        \
		sizeof(((struct base *)NULL)->member), value, min, max, unit, check, restart, \
		help},
#include "config/options.def"
#undef OPTION
};
const unsigned option_count = sizeof(option_table) / sizeof(option_table[0]);

static const struct suffix sizes[] = {{"", 1}, {"K", 1ULL << 10}, {"M", 1ULL << 20},
	{"G", 1ULL << 30}, {"T", 1ULL << 40}, {NULL, 0}};
static const struct suffix durations[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000},
	{"h", 60 * 60 * 1000}, {"d", 24 * 60 * 60 * 1000}, {NULL, 0}};
static const struct suffix numbers[] = {{"", 1}, {NULL, 0}};
static const struct suffix percents[] = {{"%", 1}, {NULL, 0}};

#define QUOTA_PERCENT_MAX 95 /* the rest of the file system always stays free */

/* Sets the member at its place or says why not; the table below has one per kind. */
typedef int option_setter(
	const struct option *option, void *member, const char *value, struct err *err);
static option_setter set_text, set_list, set_bool, set_choice, set_number, set_size, set_duration,
	set_quota, set_spare, set_share, set_rate, set_cpu, set_cpus;
static bool number_parse(const char *text, const struct suffix *suffixes, uint64_t *number);
static void bound_print(const struct option *option, uint64_t bound, char *out, size_t size);
static int refuse(const struct option *option, const char *value, struct err *err);
static bool cpu_online(unsigned cpu);
static int cpu_refuse(const struct option *option, unsigned cpu, struct err *err);
static unsigned cpu_edge(bool last);

static option_setter *const setters[] = {
	[OPTION_TEXT] = set_text,
	[OPTION_LIST] = set_list,
	[OPTION_BOOL] = set_bool,
	[OPTION_CHOICE] = set_choice,
	[OPTION_NUMBER] = set_number,
	[OPTION_SIZE] = set_size,
	[OPTION_DURATION] = set_duration,
	[OPTION_QUOTA] = set_quota,
	[OPTION_SPARE] = set_spare,
	[OPTION_SHARE] = set_share,
	[OPTION_RATE] = set_rate,
	[OPTION_CPU] = set_cpu,
	[OPTION_CPUS] = set_cpus,
};

const struct option *option_find(const char *section, const char *key)
{
	for (unsigned i = 0; i < option_count; i++)
		if (strcmp(option_table[i].section, section) == 0 &&
			strcmp(option_table[i].key, key) == 0)
			return &option_table[i];
	return NULL;
}

int option_set(const struct option *option, void *base, const char *value, struct err *err)
{
	void *member = (char *)base + option->offset;
	int rc = setters[option->kind](option, member, value, err);

	if (rc == 0 && option->check != NULL)
		rc = option->check(option, member, err);
	return rc;
}

void option_default(const struct option *option, void *base)
{
	void *member = (char *)base + option->offset;
	struct config_cpus *cpus = member;
	struct err err;
	int rc = option_set(option, base, option->value, &err);

	if (option->kind == OPTION_CPU && rc != 0) {
		*(unsigned *)member = cpu_edge(false);
	} else if (option->kind == OPTION_CPUS && rc != 0) {
		cpus->n = 1;
		cpus->cpu[0] = cpu_edge(strcmp(option->key, "rx_cpus") == 0);
	} else {
		assert(rc == 0);
	}
}

void option_allowed(const struct option *option, char *out, size_t size)
{
	static const char *const words[] = {
		[OPTION_SIZE] = "auto, or ",
		[OPTION_RATE] = "max, or ",
		[OPTION_QUOTA] = "1% to 95%, or ",
		[OPTION_SPARE] = "auto, no, or ",
		[OPTION_SHARE] = "1% to 100%, or ",
		[OPTION_CPUS] = NULL,
	};
	char min[32], max[32];

	bound_print(option, option->min, min, sizeof(min));
	bound_print(option, option->max, max, sizeof(max));
	switch (option->kind) {
	case OPTION_BOOL:
	case OPTION_CHOICE:
	case OPTION_CPU:
	case OPTION_CPUS:
		snprintf(out, size, "%s", option->unit);
		break;
	case OPTION_TEXT:
		snprintf(out, size, "%s, %s to %s characters", option->unit, min, max);
		break;
	case OPTION_LIST:
		snprintf(out, size, "%s to %s of %s", min, max, option->unit);
		break;
	case OPTION_DURATION:
		snprintf(out, size, "%s to %s, with its unit: ms, s, m, h or d", min, max);
		break;
	default:
		snprintf(out, size, "%s%s to %s %s",
			words[option->kind] != NULL ? words[option->kind] : "", min, max,
			option->unit);
	}
}

bool option_name_is_good(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && strchr("._-", name[i]) == NULL)
			return false;
	return len > 0;
}

bool option_section_named(const char *section)
{
	return strcmp(section, "port") == 0 || strcmp(section, "account") == 0 ||
	       strcmp(section, "bucket") == 0;
}

static int set_text(const struct option *option, void *member, const char *value, struct err *err)
{
	size_t len = strlen(value);

	assert(option->max < option->size);
	if (len < option->min || len > option->max)
		return err_set(err, EINVAL, option->key,
			"has %zu characters, allowed: %" PRIu64 " to %" PRIu64, len, option->min,
			option->max);
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)value[i]))
			return err_set(err, EINVAL, option->key,
				"holds a control character, allowed: printable text");
	memcpy(member, value, len + 1);
	return 0;
}

static int list_add(const struct option *option, struct config_list *list, const char *item,
	size_t len, struct err *err)
{
	if (len == 0)
		return err_set(err, EINVAL, option->key,
			"an item of the list is empty, allowed: %s", option->unit);
	if (len >= CONFIG_NAME_MAX)
		return err_set(err, EINVAL, option->key,
			"\"%.20s...\" has %zu characters, allowed: at most %d", item, len,
			CONFIG_NAME_MAX - 1);
	if (list->n == option->max)
		return err_set(err, EINVAL, option->key,
			"has more than %" PRIu64 " items, allowed: %" PRIu64 " to %" PRIu64,
			option->max, option->min, option->max);
	memcpy(list->item[list->n], item, len);
	list->item[list->n][len] = '\0';
	for (unsigned i = 0; i < list->n; i++)
		if (strcmp(list->item[i], list->item[list->n]) == 0)
			return err_set(err, EINVAL, option->key, "\"%s\" stands there twice",
				list->item[i]);
	list->n++;
	return 0;
}

static int set_list(const struct option *option, void *member, const char *value, struct err *err)
{
	struct config_list *list = member;
	size_t len;
	int rc;

	memset(list, 0, sizeof(*list));
	while (*value != '\0') {
		const char *comma = strchrnul(value, ',');

		value += strspn(value, " \t");
		len = comma > value ? comma - value : 0;
		while (len > 0 && isspace((unsigned char)value[len - 1]))
			len--;
		rc = list_add(option, list, value, len, err);
		if (rc != 0)
			return rc;
		value = comma;
		if (*value == ',' && *++value == '\0')
			return list_add(option, list, value, 0, err);
	}
	if (list->n < option->min)
		return err_set(err, EINVAL, option->key, "is empty, allowed: %s", option->unit);
	return 0;
}

static int set_bool(const struct option *option, void *member, const char *value, struct err *err)
{
	bool yes = strcmp(value, "yes") == 0;

	if (!yes && strcmp(value, "no") != 0)
		return refuse(option, value, err);
	*(bool *)member = yes;
	return 0;
}

static int set_choice(const struct option *option, void *member, const char *value, struct err *err)
{
	const char *word = option->unit;
	size_t len = strlen(value);
	unsigned index = 0;

	assert(option->size == sizeof(unsigned));
	for (;;) {
		size_t word_len = strcspn(word, "|");

		if (word_len == len && strncmp(word, value, len) == 0)
			break;
		if (word[word_len] == '\0')
			return refuse(option, value, err);
		word += word_len + 1;
		index++;
	}
	memcpy(member, &index, sizeof(index));
	return 0;
}

static int set_number(const struct option *option, void *member, const char *value, struct err *err)
{
	uint64_t number;

	if (!number_parse(value, numbers, &number) || number < option->min || number > option->max)
		return refuse(option, value, err);
	*(unsigned *)member = number;
	return 0;
}

static int set_size(const struct option *option, void *member, const char *value, struct err *err)
{
	uint64_t number = 0;

	if (strcmp(value, "auto") != 0 && (!number_parse(value, sizes, &number) ||
						  number < option->min || number > option->max))
		return refuse(option, value, err);
	*(uint64_t *)member = number;
	return 0;
}

static int set_duration(
	const struct option *option, void *member, const char *value, struct err *err)
{
	uint64_t number;

	if (option->min == 0 && strcmp(value, "0") == 0)
		number = 0;
	else if (!number_parse(value, durations, &number) || number < option->min ||
		 number > option->max)
		return refuse(option, value, err);
	*(uint64_t *)member = number;
	return 0;
}

/* An option with two members: percent, or bytes when percent is 0. */
static int set_quota(const struct option *option, void *member, const char *value, struct err *err)
{
	struct config *config = (struct config *)((char *)member - option->offset);
	bool in_percent = strchr(value, '%') != NULL;
	uint64_t number;

	if (!number_parse(value, in_percent ? percents : sizes, &number))
		return refuse(option, value, err);
	if (in_percent ? number < 1 || number > QUOTA_PERCENT_MAX
		       : number < option->min || number > option->max)
		return refuse(option, value, err);
	config->storage.quota_percent = in_percent ? number : 0;
	config->storage.quota_bytes = in_percent ? 0 : number;
	return 0;
}

static int set_spare(const struct option *option, void *member, const char *value, struct err *err)
{
	uint64_t number;

	if (strcmp(value, "auto") == 0)
		number = CONFIG_SPARE_AUTO;
	else if (strcmp(value, "no") == 0)
		number = CONFIG_SPARE_NO;
	else if (!number_parse(value, sizes, &number) || number < option->min ||
		 number > option->max)
		return refuse(option, value, err);
	*(uint64_t *)member = number;
	return 0;
}

static int set_share(const struct option *option, void *member, const char *value, struct err *err)
{
	struct config_share *share = member;
	const bool in_percent = strchr(value, '%') != NULL;
	uint64_t number;

	if (!number_parse(value, in_percent ? percents : sizes, &number))
		return refuse(option, value, err);
	if (in_percent ? number < 1 || number > 100 : number < option->min || number > option->max)
		return refuse(option, value, err);
	share->percent = in_percent ? (unsigned)number : 0;
	share->bytes = in_percent ? 0 : number;
	return 0;
}

static int set_rate(const struct option *option, void *member, const char *value, struct err *err)
{
	uint64_t number = 0;

	if (strcmp(value, "max") != 0 && (!number_parse(value, numbers, &number) ||
						 number < option->min || number > option->max))
		return refuse(option, value, err);
	*(uint64_t *)member = number;
	return 0;
}

static int set_cpu(const struct option *option, void *member, const char *value, struct err *err)
{
	uint64_t cpu;

	if (!number_parse(value, numbers, &cpu) || cpu > option->max)
		return refuse(option, value, err);
	if (!cpu_online(cpu))
		return cpu_refuse(option, cpu, err);
	*(unsigned *)member = cpu;
	return 0;
}

static int cpus_add(
	const struct option *option, struct config_cpus *cpus, unsigned cpu, struct err *err)
{
	if (!cpu_online(cpu))
		return cpu_refuse(option, cpu, err);
	if (cpus->n == option->max)
		return err_set(
			err, EINVAL, option->key, "names more than %" PRIu64 " CPUs", option->max);
	cpus->cpu[cpus->n++] = cpu;
	return 0;
}

static int set_cpus(const struct option *option, void *member, const char *value, struct err *err)
{
	struct config_cpus *cpus = member;
	unsigned first, last;
	int rc, len;

	memset(cpus, 0, sizeof(*cpus));
	for (const char *at = value;; at++) {
		len = 0;
		if (!isdigit((unsigned char)at[strspn(at, " ")]) ||
			sscanf(at, " %4u %n", &first, &len) != 1)
			goto bad;
		at += len;
		last = first;
		if (*at == '-') {
			len = 0;
			at++;
			if (!isdigit((unsigned char)at[strspn(at, " ")]) ||
				sscanf(at, " %4u %n", &last, &len) != 1 || last < first)
				goto bad;
			at += len;
		}
		for (unsigned cpu = first; cpu <= last; cpu++)
			if ((rc = cpus_add(option, cpus, cpu, err)) != 0)
				return rc;
		if (*at == '\0')
			return 0;
		if (*at != ',')
			goto bad;
	}
bad:
	return refuse(option, value, err);
}

/* Digits and one of the suffixes; false on anything else and on overflow. */
static bool number_parse(const char *text, const struct suffix *suffixes, uint64_t *number)
{
	uint64_t n = 0;

	if (!isdigit((unsigned char)*text))
		return false;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *text - '0', &n))
			return false;
	while (*text == ' ')
		text++;
	for (; suffixes->text != NULL; suffixes++)
		if (strcmp(text, suffixes->text) == 0)
			return !__builtin_mul_overflow(n, suffixes->factor, number);
	return false;
}

/* Numbers as a person would write them in the file. */
static void bound_print(const struct option *option, uint64_t bound, char *out, size_t size)
{
	const struct suffix *table = numbers, *best = &numbers[0];

	if (option->kind == OPTION_SIZE || option->kind == OPTION_QUOTA ||
		option->kind == OPTION_SPARE || option->kind == OPTION_SHARE)
		table = sizes;
	else if (option->kind == OPTION_DURATION)
		table = durations;
	best = table;
	for (; table->text != NULL; table++)
		if (bound != 0 && bound % table->factor == 0)
			best = table;
	snprintf(out, size, "%" PRIu64 "%s", bound / best->factor, best->text);
}

static int refuse(const struct option *option, const char *value, struct err *err)
{
	char allowed[200];

	option_allowed(option, allowed, sizeof(allowed));
	return err_set(err, EINVAL, option->key, "\"%.60s\", allowed: %s", value, allowed);
}

/* The CPUs that this process may use are what counts in a container. */
static bool cpu_online(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	return sched_getaffinity(0, sizeof(set), &set) == 0 && cpu < CPU_SETSIZE &&
	       CPU_ISSET(cpu, &set);
}

static unsigned cpu_edge(bool last)
{
	unsigned edge = 0;

	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!cpu_online(cpu))
			continue;
		edge = cpu;
		if (!last)
			break;
	}
	return edge;
}

static int cpu_refuse(const struct option *option, unsigned cpu, struct err *err)
{
	char list[120] = "";
	size_t len = 0;

	for (unsigned i = 0, end; i < CPU_SETSIZE && len < sizeof(list) - 16; i = end + 1) {
		end = i;
		if (!cpu_online(i))
			continue;
		while (cpu_online(end + 1))
			end++;
		len += snprintf(list + len, sizeof(list) - len, len > 0 ? ",%u" : "%u", i);
		if (end > i)
			len += snprintf(list + len, sizeof(list) - len, "-%u", end);
	}
	return err_set(
		err, EINVAL, option->key, "this machine has no CPU %u, allowed: %s", cpu, list);
}

/* ADDRESS:PORT or [V6]:PORT, addresses as numbers. */
static int check_listen(const struct option *option, const void *member, struct err *err)
{
	const struct config_list *list = member;

	for (unsigned i = 0; i < list->n; i++) {
		const char *item = list->item[i], *colon = strrchr(item, ':');
		char address[CONFIG_NAME_MAX];
		struct in6_addr parsed;
		uint64_t port;
		bool v6 = item[0] == '[';

		if (colon == NULL || !number_parse(colon + 1, numbers, &port) || port < 1 ||
			port > 65535 || (v6 && (colon == item || colon[-1] != ']')))
			goto bad;
		snprintf(address, sizeof(address), "%.*s", (int)(colon - item) - (v6 ? 2 : 0),
			item + v6);
		if (inet_pton(v6 ? AF_INET6 : AF_INET, address, &parsed) != 1)
			goto bad;
		continue;
	bad:
		return err_set(err, EINVAL, option->key,
			"\"%s\", allowed: ADDRESS:PORT or [V6]:PORT with numbers, port 1 to 65535",
			item);
	}
	return 0;
}

static int check_path(const struct option *option, const void *member, struct err *err)
{
	const char *path = member;

	if (*path == '\0' || *path == '/')
		return 0;
	return err_set(
		err, EINVAL, option->key, "\"%.100s\", allowed: a path that begins with /", path);
}

static int check_url(const struct option *option, const void *member, struct err *err)
{
	const char *url = member, *host = strstr(url, "://");

	if (*url == '\0')
		return 0;
	if (host == NULL || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
		host[3] == '\0' || strpbrk(url, " \t\"<>?#") != NULL || url[strlen(url) - 1] == '/')
		return err_set(err, EINVAL, option->key,
			"\"%.100s\", allowed: http://HOST or https://HOST, perhaps with a port and "
			"a "
			"path, without a / at the end",
			url);
	return 0;
}

static int check_interface(const struct option *option, const void *member, struct err *err)
{
	const char *name = member;

	if (strpbrk(name, "/: \t") == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		return 0;
	return err_set(err, EINVAL, option->key, "\"%s\" is not the name of an interface", name);
}

static int check_device(const struct option *option, const void *member, struct err *err)
{
	const char *device = member;

	if (*device == '\0' || isalnum((unsigned char)*device))
		return 0;
	return err_set(err, EINVAL, option->key,
		"\"%.60s\", allowed: a PCI address as 0000:3b:00.0, or device arguments as "
		"net_pcap0,rx_pcap=FILE",
		device);
}

static int check_hex32(const struct option *option, const void *member, struct err *err)
{
	const char *id = member;

	if (*id == '\0' || (strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32))
		return 0;
	return err_set(err, EINVAL, option->key, "\"%s\", allowed: 32 lower-case hex digits", id);
}

static int check_uuid(const struct option *option, const void *member, struct err *err)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	const char *id = member;
	bool good = strlen(id) == sizeof(form) - 1;

	for (size_t i = 0; good && i < sizeof(form) - 1; i++)
		good = form[i] == '-' ? id[i] == '-' : strchr("0123456789abcdef", id[i]) != NULL;
	if (good || *id == '\0')
		return 0;
	return err_set(err, EINVAL, option->key,
		"\"%s\", allowed: a UUID as 67970e46-4e12-11e6-9188-0242ac110007", id);
}

static int check_word(const struct option *option, const void *member, struct err *err)
{
	const char *word = member;

	if (*word == '\0' || option_name_is_good(word))
		return 0;
	return err_set(
		err, EINVAL, option->key, "\"%s\", allowed: letters, digits and . _ -", word);
}

/* NAME=PORT; that the port is there is checked when all ports are known. */
static int check_address(const struct option *option, const void *member, struct err *err)
{
	const char *text = member;
	struct in6_addr address;

	if (*text == '\0' || inet_pton(AF_INET, text, &address) == 1 ||
		inet_pton(AF_INET6, text, &address) == 1)
		return 0;
	return err_set(err, EINVAL, option->key, "\"%s\", allowed: an IPv4 or IPv6 address", text);
}

static int check_networks(const struct option *option, const void *member, struct err *err)
{
	const struct config_list *list = member;
	struct network network;

	for (unsigned i = 0; i < list->n; i++)
		if (!network_parse(list->item[i], &network))
			return err_set(err, EINVAL, option->key,
				"\"%s\", allowed: networks such as 192.0.2.0/24 or 2001:db8::/32",
				list->item[i]);
	return 0;
}

static int check_pairs(const struct option *option, const void *member, struct err *err)
{
	const struct config_list *list = member;

	for (unsigned i = 0; i < list->n; i++) {
		const char *item = list->item[i], *equals = strchr(item, '=');

		if (equals == NULL || equals == item || !option_name_is_good(equals + 1))
			return err_set(err, EINVAL, option->key, "\"%s\", allowed: %s", item,
				option->unit);
		for (unsigned j = 0; j < i; j++)
			if (strncmp(list->item[j], item, equals - item + 1) == 0)
				return err_set(err, EINVAL, option->key,
					"\"%.*s\" stands there twice", (int)(equals - item), item);
	}
	return 0;
}

/* Pairs whose names clients join with --. */
static int check_joined(const struct option *option, const void *member, struct err *err)
{
	const struct config_list *list = member;

	for (unsigned i = 0; i < list->n; i++)
		if (strstr(list->item[i], "--") != NULL)
			return err_set(err, EINVAL, option->key, "\"%s\", allowed: %s",
				list->item[i], option->unit);
	return check_pairs(option, member, err);
}

static int check_devices(const struct option *option, const void *member, struct err *err)
{
	const struct config_list *list = member;

	for (unsigned i = 0; i < list->n; i++)
		if (strspn(list->item[i], "0123456789abcdef") != 12 ||
			strchr("=/", list->item[i][12]) == NULL)
			return err_set(err, EINVAL, option->key,
				"\"%s\", allowed: %s, the MAC as 12 lower-case hex digits",
				list->item[i], option->unit);
	return check_pairs(option, member, err);
}

/* SCHEME://HOST or SCHEME://HOST:PORT and nothing else: the rest of a URL is made from other options. */
static int check_endpoint(const struct option *option, const void *member, struct err *err)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	const char *url = member, *at;
	struct in6_addr address;
	char text[CONFIG_NAME_MAX];
	uint64_t port = 1;
	bool good;

	if (*url == '\0')
		return 0;
	at = strncmp(url, "https://", 8) == 0  ? url + 8
	     : strncmp(url, "http://", 7) == 0 ? url + 7
					       : url;
	good = at != url;
	if (*at == '[') {
		const char *end = strchr(at, ']');

		snprintf(text, sizeof(text), "%.*s", end != NULL ? (int)(end - at - 1) : 0, at + 1);
		good = good && inet_pton(AF_INET6, text, &address) == 1;
		at = end != NULL ? end + 1 : at;
	} else {
		good = good && isalnum((unsigned char)*at);
		at += strspn(at, letters);
	}
	if (*at == ':')
		good = good && number_parse(at + 1, numbers, &port) && port >= 1 && port <= 65535;
	else
		good = good && *at == '\0';
	if (good)
		return 0;
	return err_set(err, EINVAL, option->key,
		"\"%.100s\", allowed: https://HOST or https://HOST:PORT, without a path", url);
}

static int check_bucket(const struct option *option, const void *member, struct err *err)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const char *name = member;

	if (name[strspn(name, letters)] == '\0' && strstr(name, "..") == NULL && *name != '.')
		return 0;
	return err_set(
		err, EINVAL, option->key, "\"%s\", allowed: letters, digits and . _ -", name);
}

/* The beginning of keys: parts between slashes, none of them empty, "." or "..". */
static int check_prefix(const struct option *option, const void *member, struct err *err)
{
	const char *prefix = member;

	for (const char *at = prefix; *prefix != '\0'; at++) {
		size_t len = strcspn(at, "/");

		if (len == 0 || (len == 1 && *at == '.') || (len == 2 && strncmp(at, "..", 2) == 0))
			return err_set(err, EINVAL, option->key,
				"\"%.100s\", allowed: as captures/site1, without . and .. and a / "
				"at either end",
				prefix);
		at += len;
		if (*at == '\0')
			break;
	}
	return 0;
}
