/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/nsx_filter.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ETHERTYPE_IP4 0x0800
#define ETHERTYPE_IP6 0x86dd
#define VNI_MAX       0xffffff
#define SHOWN_MAX     40

enum kind { KIND_NUMBER, KIND_MAC, KIND_IP4, KIND_IP6 };
enum side { SIDE_ANY, SIDE_SRC, SIDE_DST };
enum what {
	WHAT_ETHTYPE,
	WHAT_MAC,
	WHAT_VLAN,
	WHAT_IP4,
	WHAT_IP6,
	WHAT_PROTO4,
	WHAT_PROTO6,
	WHAT_PORT,
	WHAT_VNI
};

static const struct row {
	const char *name;
	enum what what;
	enum kind kind;
	enum side side;
	uint32_t max; /* of a number */
	const char *allowed;
} rows[] = {
	{"ETHTYPE", WHAT_ETHTYPE, KIND_NUMBER, SIDE_ANY, 0xffff, "0x0000 to 0xffff"},
	{"MAC", WHAT_MAC, KIND_MAC, SIDE_ANY, 0, "a MAC address such as 00:50:56:01:02:03"},
	{"SRCMAC", WHAT_MAC, KIND_MAC, SIDE_SRC, 0, "a MAC address such as 00:50:56:01:02:03"},
	{"DSTMAC", WHAT_MAC, KIND_MAC, SIDE_DST, 0, "a MAC address such as 00:50:56:01:02:03"},
	{"VLAN", WHAT_VLAN, KIND_NUMBER, SIDE_ANY, 4095, "0 to 4095"},
	{"IP", WHAT_IP4, KIND_IP4, SIDE_ANY, 0, "an IPv4 address, or ADDRESS/BITS"},
	{"SRCIP", WHAT_IP4, KIND_IP4, SIDE_SRC, 0, "an IPv4 address, or ADDRESS/BITS"},
	{"DSTIP", WHAT_IP4, KIND_IP4, SIDE_DST, 0, "an IPv4 address, or ADDRESS/BITS"},
	{"IPPROTO", WHAT_PROTO4, KIND_NUMBER, SIDE_ANY, 255, "0x00 to 0xff"},
	{"PORT", WHAT_PORT, KIND_NUMBER, SIDE_ANY, 65535, "0 to 65535"},
	{"SRCPORT", WHAT_PORT, KIND_NUMBER, SIDE_SRC, 65535, "0 to 65535"},
	{"DSTPORT", WHAT_PORT, KIND_NUMBER, SIDE_DST, 65535, "0 to 65535"},
	{"VNI", WHAT_VNI, KIND_NUMBER, SIDE_ANY, VNI_MAX, "0 to 16777215"},
	{"IPPROTO6", WHAT_PROTO6, KIND_NUMBER, SIDE_ANY, 255, "0x00 to 0xff"},
	{"IP6", WHAT_IP6, KIND_IP6, SIDE_ANY, 0, "an IPv6 address, or ADDRESS/BITS"},
	{"SRCIP6", WHAT_IP6, KIND_IP6, SIDE_SRC, 0, "an IPv6 address, or ADDRESS/BITS"},
	{"DSTIP6", WHAT_IP6, KIND_IP6, SIDE_DST, 0, "an IPv6 address, or ADDRESS/BITS"},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

/* An option, judged. */
struct term {
	const struct row *row;
	uint32_t number;
	uint8_t byte[16]; /* MAC or address, bits behind the prefix zero */
	unsigned bits;    /* of the address that count */
};

struct terms {
	unsigned n;
	struct term term[NSX_OPTIONS_MAX];
	const struct term *vni; /* NULL: none */
};

/* An expression being written; what does not fit is seen at the end. */
struct text {
	char *at;
	size_t size;
	size_t len;
};

static int terms_parse(const json_t *options, struct terms *terms, struct err *err);
static int term_parse(const json_t *option, unsigned index, struct term *term, struct err *err);
static bool value_parse(const char *value, struct term *term);
static void plain_put(struct text *text, const struct terms *terms);
static void vxlan_put(struct text *text, const struct terms *terms, bool v6);
static void put(struct text *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int nsx_filter(const json_t *options, char *out, size_t size, struct err *err)
{
	struct text text = {.at = out, .size = size};
	struct terms terms = {0};

	out[0] = '\0';
	if (options == NULL || json_is_null(options))
		return 0;
	if (terms_parse(options, &terms, err) < 0)
		return -EINVAL;
	if (terms.vni != NULL) {
		/* Geneve last: behind its keyword everything speaks of the inner packet. */
		put(&text, "(");
		vxlan_put(&text, &terms, false);
		put(&text, ") or (");
		vxlan_put(&text, &terms, true);
		put(&text, ") or (geneve %" PRIu32, terms.vni->number);
		if (terms.n > 1)
			put(&text, " and ");
		plain_put(&text, &terms);
		put(&text, ")");
	} else {
		plain_put(&text, &terms);
	}
	if (text.len >= size)
		return err_set(err, EINVAL, "options",
			"make a filter of %zu bytes, at most %zu are allowed", text.len, size - 1);
	return 0;
}

static int terms_parse(const json_t *options, struct terms *terms, struct err *err)
{
	const json_t *values = json_object_get(options, "values");
	int rc;

	if (!json_is_object(options))
		return err_set(err, EINVAL, "options", "must be an object with \"values\"");
	if (values == NULL || json_is_null(values))
		return 0;
	if (!json_is_array(values) || json_array_size(values) > NSX_OPTIONS_MAX)
		return err_set(err, EINVAL, "options.values",
			"must be an array of at most %d objects with \"name\" and \"value\"",
			NSX_OPTIONS_MAX);
	for (; terms->n < json_array_size(values); terms->n++) {
		struct term *term = &terms->term[terms->n];

		rc = term_parse(json_array_get(values, terms->n), terms->n, term, err);
		if (rc < 0)
			return rc;
		if (term->row->what != WHAT_VNI)
			continue;
		if (terms->vni != NULL)
			return err_set(err, EINVAL, "options.values", "VNI is given twice");
		terms->vni = term;
	}
	return 0;
}

/* "VLAN, IP, .." */
static int name_refuse(const char *field, const char *name, struct err *err)
{
	char known[160] = "";
	size_t len = 0;

	for (unsigned i = 0; i < N_ROWS; i++)
		len += snprintf(
			known + len, sizeof(known) - len, "%s%s", i > 0 ? ", " : "", rows[i].name);
	return err_set(err, EINVAL, field, "must be one of: %s; not \"%.*s\"", known, SHOWN_MAX,
		name != NULL ? name : "");
}

static int term_parse(const json_t *option, unsigned index, struct term *term, struct err *err)
{
	const char *name = json_string_value(json_object_get(option, "name"));
	const char *value = json_string_value(json_object_get(option, "value"));
	char field[64];

	memset(term, 0, sizeof(*term));
	for (unsigned i = 0; name != NULL && i < N_ROWS && term->row == NULL; i++)
		if (strcmp(rows[i].name, name) == 0)
			term->row = &rows[i];
	snprintf(field, sizeof(field), "options.values.%u.name", index);
	if (term->row == NULL)
		return name_refuse(field, name, err);
	snprintf(field, sizeof(field), "options.values.%u.value (%s)", index, term->row->name);
	if (value == NULL)
		return err_set(err, EINVAL, field, "must be a string: %s", term->row->allowed);
	if (!value_parse(value, term))
		return err_set(err, EINVAL, field, "must be %s, not \"%.*s\"", term->row->allowed,
			SHOWN_MAX, value);
	return 0;
}

/* Hexadecimal with 0x, else decimal; never octal. */
static bool number_parse(const char *value, uint32_t max, uint32_t *number)
{
	bool hex = value[0] == '0' && (value[1] == 'x' || value[1] == 'X');
	unsigned long long n;
	char *end;

	value += hex ? 2 : 0;
	if (hex ? !isxdigit((unsigned char)*value) : !isdigit((unsigned char)*value))
		return false;
	errno = 0;
	n = strtoull(value, &end, hex ? 16 : 10);
	*number = (uint32_t)n;
	return errno == 0 && *end == '\0' && n <= max;
}

/* Six pairs of hex digits with colons or hyphens between. */
static bool mac_parse(const char *value, uint8_t *byte)
{
	if (strlen(value) != 17)
		return false;
	for (unsigned i = 0; i < 6; i++, value += 3) {
		char pair[3] = {value[0], value[1]};

		if (!isxdigit((unsigned char)pair[0]) || !isxdigit((unsigned char)pair[1]) ||
			(i < 5 && value[2] != ':' && value[2] != '-'))
			return false;
		byte[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

static bool address_parse(const char *value, int family, struct term *term)
{
	const unsigned n_bits = family == AF_INET ? 32 : 128;
	const char *slash = strchr(value, '/');
	char address[INET6_ADDRSTRLEN];
	uint32_t bits = n_bits;

	if (slash != NULL && !number_parse(slash + 1, n_bits, &bits))
		return false;
	if (snprintf(address, sizeof(address), "%.*s", (int)strcspn(value, "/"), value) >=
			(int)sizeof(address) ||
		inet_pton(family, address, term->byte) != 1)
		return false;
	term->bits = bits;
	for (unsigned i = 0; i < n_bits / 8; i++)
		if (i * 8 + 8 > bits)
			term->byte[i] &= i * 8 >= bits ? 0 : (uint8_t)(0xff00 >> (bits % 8));
	return true;
}

static bool value_parse(const char *value, struct term *term)
{
	switch (term->row->kind) {
	case KIND_NUMBER:
		return number_parse(value, term->row->max, &term->number);
	case KIND_MAC:
		return mac_parse(value, term->byte);
	case KIND_IP4:
		return address_parse(value, AF_INET, term);
	case KIND_IP6:
		return address_parse(value, AF_INET6, term);
	}
	return false;
}

static void put(struct text *text, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	text->len += vsnprintf(text->len < text->size ? text->at + text->len : NULL,
		text->len < text->size ? text->size - text->len : 0, fmt, args);
	va_end(args);
}

/* In pcap's own words. */
static void term_put(struct text *text, const struct term *term)
{
	static const char *const sides[] = {"", "src ", "dst "};
	const char *side = sides[term->row->side];
	const uint8_t *b = term->byte;
	char address[INET6_ADDRSTRLEN];

	switch (term->row->what) {
	case WHAT_ETHTYPE:
		put(text, "ether proto 0x%04" PRIx32, term->number);
		break;
	case WHAT_MAC:
		put(text, "ether %s%02x:%02x:%02x:%02x:%02x:%02x",
			term->row->side == SIDE_ANY ? "host " : side, b[0], b[1], b[2], b[3], b[4],
			b[5]);
		break;
	case WHAT_VLAN:
		put(text, "vlan %" PRIu32, term->number);
		break;
	case WHAT_IP4:
	case WHAT_IP6:
		inet_ntop(term->row->what == WHAT_IP4 ? AF_INET : AF_INET6, b, address,
			sizeof(address));
		put(text, "%s %s", term->row->what == WHAT_IP4 ? "ip" : "ip6", side);
		if (term->bits == (term->row->what == WHAT_IP4 ? 32 : 128))
			put(text, "host %s", address);
		else
			put(text, "net %s/%u", address, term->bits);
		break;
	case WHAT_PROTO4:
		put(text, "ip proto %" PRIu32, term->number);
		break;
	case WHAT_PROTO6:
		put(text, "ip6 proto %" PRIu32, term->number);
		break;
	case WHAT_PORT:
		put(text, "%sport %" PRIu32, side, term->number);
		break;
	case WHAT_VNI:
		break;
	}
}

/* VLANs first: behind them pcap looks below the tag. */
static void plain_put(struct text *text, const struct terms *terms)
{
	bool first = true;

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < terms->n; i++) {
			const enum what what = terms->term[i].row->what;

			if (what == WHAT_VNI || (what == WHAT_VLAN) != (round == 0))
				continue;
			put(text, "%s", first ? "" : " and ");
			term_put(text, &terms->term[i]);
			first = false;
		}
}

/*
 * VXLAN (RFC 7348) by hand: this libpcap has no word for it. udp[n:m], or ip6[48 + n:m], reads the outer
 * datagram behind its UDP header: 8 bytes of VXLAN, then the inner frame.
 */
struct carrier {
	const char *name; /* "udp" */
	unsigned base;    /* of the inner frame */
	unsigned l3; /* of the inner IP header: behind Ethernet and the tags that are asked for */
};

/* The bits of an address, word by word, at offset at. */
static void address_put(
	struct text *text, const struct carrier *carrier, unsigned at, const struct term *term)
{
	bool any = false;

	for (unsigned bit = 0; bit < term->bits; bit += 32) {
		const unsigned n = term->bits - bit < 32 ? term->bits - bit : 32;
		uint32_t word;

		memcpy(&word, term->byte + bit / 8, sizeof(word));
		put(text, "%s%s[%u:4] & 0x%08" PRIx32 " = 0x%08" PRIx32, any ? " and " : "",
			carrier->name, at + bit / 8, n == 32 ? UINT32_MAX : ~(UINT32_MAX >> n),
			ntohl(word));
		any = true;
	}
	if (!any)
		put(text, "len >= 0");
}

static void inner_mac_put(
	struct text *text, const struct carrier *carrier, unsigned at, const struct term *term)
{
	const uint8_t *b = term->byte;

	put(text, "%s[%u:4] = 0x%02x%02x%02x%02x and %s[%u:2] = 0x%02x%02x", carrier->name, at,
		b[0], b[1], b[2], b[3], carrier->name, at + 4, b[4], b[5]);
}

typedef void end_put(
	struct text *text, const struct carrier *carrier, unsigned at, const struct term *term);

/* One end, the other, or either: at the offsets of the source's and the destination's value. */
static void ends_put(struct text *text, const struct carrier *carrier, end_put *write, unsigned src,
	unsigned dst, const struct term *term)
{
	put(text, "((");
	write(text, carrier, term->row->side == SIDE_DST ? dst : src, term);
	if (term->row->side == SIDE_ANY) {
		put(text, ") or (");
		write(text, carrier, dst, term);
	}
	put(text, "))");
}

/* at: 0 the source port, 2 the destination port. */
static void inner_port_put(
	struct text *text, const struct carrier *carrier, unsigned at, const struct term *term)
{
	const unsigned l3 = carrier->l3;
	const char *c = carrier->name;

	put(text,
		"(%s[%u:2] = 0x0800 and %s[%u:2] & 0x1fff = 0 and "
		"(%s[%u] = 6 or %s[%u] = 17 or %s[%u] = 132) and "
		"%s[%u + ((%s[%u] & 15) << 2):2] = %" PRIu32 ")",
		c, l3 - 2, c, l3 + 6, c, l3 + 9, c, l3 + 9, c, l3 + 9, c, l3 + at, c, l3,
		term->number);
	put(text,
		" or (%s[%u:2] = 0x86dd and (%s[%u] = 6 or %s[%u] = 17 or %s[%u] = 132) and "
		"%s[%u:2] = %" PRIu32 ")",
		c, l3 - 2, c, l3 + 6, c, l3 + 6, c, l3 + 6, c, l3 + 40 + at, term->number);
}

static void inner_put(struct text *text, const struct carrier *carrier, const struct term *term)
{
	const unsigned l3 = carrier->l3;
	const char *c = carrier->name;

	switch (term->row->what) {
	case WHAT_ETHTYPE:
		put(text, "%s[%u:2] = 0x%04" PRIx32, c, l3 - 2, term->number);
		break;
	case WHAT_MAC:
		ends_put(text, carrier, inner_mac_put, carrier->base + 6, carrier->base, term);
		break;
	case WHAT_IP4:
		put(text, "%s[%u:2] = 0x%04x and ", c, l3 - 2, ETHERTYPE_IP4);
		ends_put(text, carrier, address_put, l3 + 12, l3 + 16, term);
		break;
	case WHAT_IP6:
		put(text, "%s[%u:2] = 0x%04x and ", c, l3 - 2, ETHERTYPE_IP6);
		ends_put(text, carrier, address_put, l3 + 8, l3 + 24, term);
		break;
	case WHAT_PROTO4:
		put(text, "%s[%u:2] = 0x%04x and %s[%u] = %" PRIu32, c, l3 - 2, ETHERTYPE_IP4, c,
			l3 + 9, term->number);
		break;
	case WHAT_PROTO6:
		put(text, "%s[%u:2] = 0x%04x and %s[%u] = %" PRIu32, c, l3 - 2, ETHERTYPE_IP6, c,
			l3 + 6, term->number);
		break;
	case WHAT_PORT:
		ends_put(text, carrier, inner_port_put, 0, 2, term);
		break;
	case WHAT_VLAN:
	case WHAT_VNI:
		break;
	}
}

static void vxlan_put(struct text *text, const struct terms *terms, bool v6)
{
	struct carrier carrier = {.name = v6 ? "ip6" : "udp", .base = v6 ? 56 : 16};
	const unsigned head = carrier.base - 8;
	unsigned tag = carrier.base + 12;

	put(text, v6 ? "ip6[6] = 17 and ip6[42:2] = 4789" : "udp dst port 4789 and ip");
	/* flag I: the VNI is there */
	put(text, " and %s[%u] & 8 != 0 and %s[%u:4] & 0xffffff00 = 0x%08" PRIx32, carrier.name,
		head, carrier.name, head + 4, terms->vni->number << 8);
	for (unsigned i = 0; i < terms->n; i++) {
		if (terms->term[i].row->what != WHAT_VLAN)
			continue;
		put(text,
			" and (%s[%u:2] = 0x8100 or %s[%u:2] = 0x88a8 or %s[%u:2] = 0x9100) and "
			"%s[%u:2] & 0xfff = %" PRIu32,
			carrier.name, tag, carrier.name, tag, carrier.name, tag, carrier.name,
			tag + 2, terms->term[i].number);
		tag += 4;
	}
	carrier.l3 = tag + 2;
	for (unsigned i = 0; i < terms->n; i++) {
		const enum what what = terms->term[i].row->what;

		if (what == WHAT_VLAN || what == WHAT_VNI)
			continue;
		put(text, " and ");
		inner_put(text, &carrier, &terms->term[i]);
	}
}
