/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/s3_xml.h"

#include <stdint.h>
#include <string.h>

static const struct {
	const char *name;
	char value;
} entities[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};

static bool tag_at(struct s3_xml xml, size_t at, const char *tag, bool end, size_t *behind);
static size_t entity_decode(struct s3_xml text, size_t at, char utf8[4], size_t *n);
static size_t number_decode(struct s3_xml text, size_t at, uint32_t *code);
static size_t utf8_put(uint32_t code, char out[4]);

bool s3_xml_find(struct s3_xml xml, const char *tag, struct s3_xml *content, struct s3_xml *rest)
{
	size_t begin = 0, end;

	for (size_t i = 0; i < xml.len && begin == 0; i++)
		if (xml.at[i] == '<')
			tag_at(xml, i, tag, false, &begin);
	if (begin == 0)
		return false;
	/* <tag/> has no content. */
	*content = (struct s3_xml){xml.at + begin, 0};
	if (rest != NULL)
		*rest = (struct s3_xml){xml.at + begin, xml.len - begin};
	if (xml.at[begin - 2] == '/')
		return true;
	for (size_t i = begin; i < xml.len; i++)
		if (xml.at[i] == '<' && tag_at(xml, i, tag, true, &end)) {
			content->len = i - begin;
			if (rest != NULL)
				*rest = (struct s3_xml){xml.at + end, xml.len - end};
			return true;
		}
	return false;
}

bool s3_xml_text(struct s3_xml xml, const char *tag, char *out, size_t size)
{
	struct s3_xml text;
	size_t len = 0;

	out[0] = '\0';
	if (!s3_xml_find(xml, tag, &text, NULL))
		return false;
	for (size_t i = 0; i < text.len;) {
		char utf8[4] = {text.at[i]};
		size_t n = 1, step = 1;

		if (text.at[i] == '&')
			step = entity_decode(text, i, utf8, &n);
		if (step == 0 || len + n >= size || (unsigned char)utf8[0] < 0x20 ||
			utf8[0] == 0x7f || text.at[i] == '<') {
			out[0] = '\0';
			return false;
		}
		memcpy(out + len, utf8, n);
		len += n;
		i += step;
	}
	out[len] = '\0';
	return true;
}

bool s3_xml_is(struct s3_xml xml, const char *tag)
{
	size_t behind;

	for (size_t i = 0; i < xml.len; i++) {
		const char *end;

		if (strchr(" \t\r\n", xml.at[i]) != NULL && xml.at[i] != '\0')
			continue;
		if (xml.at[i] != '<')
			return false;
		if (i + 1 < xml.len && xml.at[i + 1] == '?') {
			end = memchr(xml.at + i, '>', xml.len - i);
			if (end == NULL)
				return false;
			i = (size_t)(end - xml.at);
			continue;
		}
		return tag_at(xml, i, tag, false, &behind);
	}
	return false;
}

/* At a '<': is it <tag ...> or, for the end, </tag>? Where it ends. */
static bool tag_at(struct s3_xml xml, size_t at, const char *tag, bool end, size_t *behind)
{
	const size_t tag_len = strlen(tag);
	const char *close;

	at += end ? 2 : 1;
	if (at > xml.len || (end && xml.at[at - 1] != '/') || xml.len - at < tag_len + 1 ||
		memcmp(xml.at + at, tag, tag_len) != 0)
		return false;
	at += tag_len;
	if (strchr(" \t\r\n/>", xml.at[at]) == NULL || xml.at[at] == '\0')
		return false;
	close = memchr(xml.at + at, '>', xml.len - at);
	if (close == NULL)
		return false;
	*behind = (size_t)(close - xml.at) + 1;
	return true;
}

/* How many bytes the entity takes and what it stands for; 0: it is none that is known. */
static size_t entity_decode(struct s3_xml text, size_t at, char utf8[4], size_t *n)
{
	uint32_t code;
	size_t len;

	at++;
	for (unsigned i = 0; i < sizeof(entities) / sizeof(entities[0]); i++) {
		len = strlen(entities[i].name);
		if (text.len - at >= len && memcmp(text.at + at, entities[i].name, len) == 0) {
			utf8[0] = entities[i].value;
			*n = 1;
			return len + 1;
		}
	}
	len = number_decode(text, at, &code);
	if (len == 0)
		return 0;
	*n = utf8_put(code, utf8);
	return *n == 0 ? 0 : len + 1;
}

/* "#65;" or "#x41;" */
static size_t number_decode(struct s3_xml text, size_t at, uint32_t *code)
{
	const size_t begin = at;
	uint32_t base = 10;
	unsigned digits = 0;

	*code = 0;
	if (at >= text.len || text.at[at++] != '#')
		return 0;
	if (at < text.len && text.at[at] == 'x') {
		base = 16;
		at++;
	}
	for (; at < text.len && text.at[at] != ';'; at++) {
		const char c = text.at[at];
		const uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
				       : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
				       : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
							      : 16;

		if (digit >= base || ++digits > 7)
			return 0;
		*code = *code * base + digit;
	}
	return at < text.len && digits > 0 ? at - begin + 1 : 0;
}

/* 0: no character. */
static size_t utf8_put(uint32_t code, char out[4])
{
	if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		out[0] = (char)(0xe0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3f));
		out[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | code >> 18);
	out[1] = (char)(0x80 | (code >> 12 & 0x3f));
	out[2] = (char)(0x80 | (code >> 6 & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}
