/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What was wrong with an expression, and where. libpcap says what but not where ("syntax error"),
 * so the place is found by asking it about beginnings of the expression. Runs in the child of the
 * helper, under its limits; gives the place up rather than the message when time runs short.
 */
#include "engine/filter_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SEARCH_TIME_MAX_NS 200000000 /* of the 500 ms that the helper allows */

/* libpcap's scanner has a complaint of its own about this number, wherever the parser gets to read it. */
#define PROBE "99999999999"

struct token {
	uint16_t start, end; /* bytes of the expression */
};

struct text {
	const char *expression;
	const char *message; /* libpcap's on the whole expression */
	uint64_t deadline_ns;
	uint32_t n;
	struct token token[FILTER_EXPRESSION_MAX];
	char scratch[FILTER_EXPRESSION_MAX + sizeof(PROBE)];
};

static void text_split(struct text *text);
static int text_locate(struct text *text, bool (*wrong)(struct text *text, uint32_t n));
static bool prefix_has_message(struct text *text, uint32_t n);
static bool prefix_is_hopeless(struct text *text, uint32_t n);
static bool is_syntax_error(const char *message);
static bool is_about_memory(const char *message);
static void message_clean(char *message);
static uint64_t cpu_now_ns(void);
static int explain_syntax(struct text *text, struct err *err);
static int explain_meaning(struct text *text, struct err *err);

int filter_text_compile(const char *expression, struct filter_code *code, struct err *err)
{
	static struct text text;
	char message[FILTER_MESSAGE_MAX];
	int ret = filter_translate(expression, true, code, message);

	if (ret == 0)
		return 0;
	if (ret == -ENOMEM || is_about_memory(message))
		return err_set(
			err, EINVAL, "filter", "needs more memory to compile than is allowed");
	message_clean(message);
	text.expression = expression;
	text.message = message;
	text.deadline_ns = cpu_now_ns() + SEARCH_TIME_MAX_NS;
	text_split(&text);
	return is_syntax_error(message) ? explain_syntax(&text, err) : explain_meaning(&text, err);
}

static uint64_t cpu_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool is_syntax_error(const char *message)
{
	return strstr(message, "syntax error") != NULL;
}

static bool is_about_memory(const char *message)
{
	/* None of them a word that the expression may have. */
	static const char *const words[] = {"out of memory", "out of dynamic memory",
		"memory exhausted", "Cannot allocate memory"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strstr(message, words[i]) != NULL)
			return true;
	}
	return strcmp(message, "malloc") == 0;
}

/* One line, printable, without the final stop or newline that some messages have. */
static void message_clean(char *message)
{
	size_t len = strlen(message);

	while (len > 0 && (isspace((unsigned char)message[len - 1]) || message[len - 1] == '.'))
		message[--len] = '\0';
	for (size_t i = 0; i < len; i++) {
		if (!isprint((unsigned char)message[i]))
			message[i] = '?';
	}
}

/* --- where -------------------------------------------------------------------------------------
 */

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || (c != '\0' && strchr("_.:\\", c) != NULL) ||
	       (c & 0x80) != 0;
}

static uint32_t token_end(const char *expression, uint32_t i)
{
	static const char *const pairs[] = {"&&", "||", "==", "!=", ">=", "<=", "<<", ">>"};

	if (is_word(expression[i])) {
		/* 01-02-03-04-05-06, tcp-syn, 1-1023: a minus between word characters belongs. */
		while (is_word(expression[i]) ||
			(expression[i] == '-' && is_word(expression[i + 1])))
			i++;
		return i;
	}
	for (unsigned p = 0; p < sizeof(pairs) / sizeof(pairs[0]); p++) {
		if (strncmp(expression + i, pairs[p], 2) == 0)
			return i + 2;
	}
	return i + 1;
}

static void text_split(struct text *text)
{
	uint32_t i = 0;

	text->n = 0;
	for (;;) {
		while (isspace((unsigned char)text->expression[i]))
			i++;
		if (text->expression[i] == '\0')
			return;
		text->token[text->n].start = (uint16_t)i;
		i = token_end(text->expression, i);
		text->token[text->n++].end = (uint16_t)i;
	}
}

/*
 * The first token with which the beginning of the expression is wrong. Once wrong, a beginning
 * stays wrong however it goes on, so halving finds it. n when none is; -ETIME when there was no
 * time.
 */
static int text_locate(struct text *text, bool (*wrong)(struct text *text, uint32_t n))
{
	uint32_t low = 0, high = text->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		bool is_wrong = wrong(text, middle + 1);

		if (cpu_now_ns() > text->deadline_ns)
			return -ETIME;
		if (is_wrong)
			high = middle;
		else
			low = middle + 1;
	}
	return (int)low;
}

/* What libpcap says about the first n tokens followed by more; NULL when it likes them. */
static const char *prefix_message(struct text *text, uint32_t n, const char *more)
{
	static char message[FILTER_MESSAGE_MAX];

	snprintf(text->scratch, sizeof(text->scratch), "%.*s %s", text->token[n - 1].end,
		text->expression, more);
	return filter_translate(text->scratch, false, NULL, message) == 0 ? NULL : message;
}

static bool prefix_has_message(struct text *text, uint32_t n)
{
	char cleaned[FILTER_MESSAGE_MAX];
	const char *message = prefix_message(text, n, "");

	if (message == NULL)
		return false;
	snprintf(cleaned, sizeof(cleaned), "%s", message);
	message_clean(cleaned);
	return strcmp(cleaned, text->message) == 0;
}

/* The parser, which reads no further than it has to, stumbles before the end of the first n tokens. */
static bool prefix_is_hopeless(struct text *text, uint32_t n)
{
	const char *message = prefix_message(text, n, PROBE);

	return message != NULL && is_syntax_error(message);
}

/* --- what to say -------------------------------------------------------------------------------
 */

static const char *token_text(const struct text *text, uint32_t i, char word[64])
{
	snprintf(word, 64, "%.*s", text->token[i].end - text->token[i].start,
		text->expression + text->token[i].start);
	message_clean(word);
	return word;
}

static int explain_syntax(struct text *text, struct err *err)
{
	int at = text_locate(text, prefix_is_hopeless);
	char word[64];

	if (at < 0 || text->n == 0)
		return err_set(err, EINVAL, "filter", "%s", text->message);
	if (at == (int)text->n)
		return err_set(err, EINVAL, "filter", "%s at the end, after '%s'", text->message,
			token_text(text, text->n - 1, word));
	return err_set(err, EINVAL, "filter", "%s at '%s', character %u", text->message,
		token_text(text, (uint32_t)at, word), text->token[at].start + 1);
}

/* The first quoted word of libpcap's message. */
static bool message_word(const char *message, char word[64])
{
	const char *start = strpbrk(message, "'\""), *end;

	if (start == NULL)
		return false;
	end = strchr(start + 1, *start);
	if (end == NULL || end == start + 1 || end - start > 64)
		return false;
	snprintf(word, 64, "%.*s", (int)(end - start - 1), start + 1);
	return true;
}

/* The byte that the word is at: its last occurrence up to and with token at. -1 when it is not
 * there. */
static int word_position(const struct text *text, const char *word, uint32_t at)
{
	size_t len = strlen(word);

	for (int i = (int)text->token[at].end - (int)len; i >= 0; i--) {
		if (strncmp(text->expression + i, word, len) == 0)
			return i;
	}
	return -1;
}

static bool is_about_a_name(const char *message)
{
	static const char *const openings[] = {
		"unknown host '", "unknown network '", "unknown ether host '", "unknown gateway '"};

	for (unsigned i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
		if (strncmp(message, openings[i], strlen(openings[i])) == 0)
			return true;
	}
	return false;
}

static int explain_meaning(struct text *text, struct err *err)
{
	int at = text_locate(text, prefix_has_message), position = -1;
	bool found = at >= 0 && at < (int)text->n;
	char word[64];

	if (found && message_word(text->message, word))
		position = word_position(text, word, (uint32_t)at);
	if (position >= 0 && is_about_a_name(text->message))
		return err_set(err, EINVAL, "filter",
			"host names are not resolved; write an address instead of '%s', character "
			"%d",
			word, position + 1);
	if (is_about_a_name(text->message))
		return err_set(err, EINVAL, "filter",
			"host names are not resolved; write an address (%s)", text->message);
	if (position >= 0)
		return err_set(
			err, EINVAL, "filter", "%s, character %d", text->message, position + 1);
	/* Not found: said about the whole, as "expression rejects all packets", or no time. */
	if (!found)
		return err_set(err, EINVAL, "filter", "%s", text->message);
	return err_set(err, EINVAL, "filter", "%s at '%s', character %u", text->message,
		token_text(text, (uint32_t)at, word), text->token[at].start + 1);
}
