/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Finding packets by words: "tcp 10.0.0.1 -syn" is what has "tcp" and "10.0.0.1" somewhere in its line,
 * addresses or protocols, and not "syn". Letters of either case. Pure; any thread.
 */
#ifndef API_PACKET_WORDS_H
#define API_PACKET_WORDS_H

#include <stdbool.h>

#include "config/err.h"
#include "control/packet.h"

#define PACKET_WORDS_MAX 8
#define PACKET_WORD_MAX  64 /* with its NUL */

struct packet_words {
	unsigned n; /* 0: every packet has them */
	struct {
		bool absent;
		char text[PACKET_WORD_MAX];
	} word[PACKET_WORDS_MAX];
};

/* text NULL: no words. 0, or -EINVAL with err (field "words"). */
int packet_words_parse(const char *text, struct packet_words *words, struct err *err);

bool packet_words_match(const struct packet_words *words, const struct packet_summary *summary);

#endif
