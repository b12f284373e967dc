/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/packet_words.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX (PACKET_INFO_MAX + 320)

static size_t flow_print(const struct packet_summary *summary, const struct packet_flow *flow,
	char *text, size_t size);

int packet_words_parse(const char *text, struct packet_words *words, struct err *err)
{
	words->n = 0;
	while (text != NULL && *(text += strspn(text, " \t")) != '\0') {
		const bool absent = text[0] == '-' && text[1] != '\0' && text[1] != ' ';
		size_t len;

		text += absent;
		len = strcspn(text, " \t");
		if (words->n == PACKET_WORDS_MAX)
			return err_set(err, EINVAL, "words", "at most %d words are allowed",
				PACKET_WORDS_MAX);
		if (len >= PACKET_WORD_MAX)
			return err_set(err, EINVAL, "words",
				"a word of %zu bytes is too long, at most %d are allowed", len,
				PACKET_WORD_MAX - 1);
		words->word[words->n].absent = absent;
		snprintf(words->word[words->n].text, PACKET_WORD_MAX, "%.*s", (int)len, text);
		words->n++;
		text += len;
	}
	return 0;
}

bool packet_words_match(const struct packet_words *words, const struct packet_summary *summary)
{
	char line[LINE_MAX];
	size_t len;

	if (words->n == 0)
		return true;
	len = (size_t)snprintf(line, sizeof(line), "%s", summary->info);
	len += flow_print(summary, &summary->outer, line + len, sizeof(line) - len);
	if (summary->tunnel != NULL)
		flow_print(summary, &summary->inner, line + len, sizeof(line) - len);
	for (unsigned i = 0; i < words->n; i++)
		if ((strcasestr(line, words->word[i].text) == NULL) != words->word[i].absent)
			return false;
	return true;
}

/* What the line leaves out. */
static size_t flow_print(const struct packet_summary *summary, const struct packet_flow *flow,
	char *text, size_t size)
{
	char src[PACKET_MAC_MAX], dst[PACKET_MAC_MAX];

	packet_mac_print(flow->src_mac, src);
	packet_mac_print(flow->dst_mac, dst);
	return (size_t)snprintf(text, size, " %s %s %s %s", flow->protocol,
		flow->has_mac ? src : "", flow->has_mac ? dst : "",
		summary->tunnel != NULL ? summary->tunnel : "");
}
