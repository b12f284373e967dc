/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/client/books.h"

#include <string.h>

#include "api/client/text.h"

#define N_TERMS_MAX 4

/* name = sum of terms, of the members of a "counters" object */
struct port_law {
	const char *text;
	const char *left;
	const char *terms[N_TERMS_MAX + 1];
	bool needs_exact;
};

static const struct port_law port_laws[] = {
	{"offered = rx + nic_missed + nic_errors + nic_nombuf", "offered",
		{"rx", "nic_missed", "nic_errors", "nic_nombuf"}, true},
	{"rx = matched + unmatched", "rx", {"matched", "unmatched"}, false},
};

static void law_set(
	struct books_law *law, const char *text, uint64_t left, uint64_t right, bool moving);
static uint64_t terms_sum(const json_t *counters, const char *const *terms);

unsigned books_capture(const json_t *capture, struct books_law laws[BOOKS_LAWS_MAX])
{
	const json_t *ledger = json_object_get(capture, "ledger");
	const char *state = text_string(capture, "state");
	bool closed = strcmp(state, "complete") == 0 || strcmp(state, "failed") == 0 ||
		      strcmp(state, "deleted") == 0;
	uint64_t accepted = text_number(ledger, "accepted");
	unsigned n = 0;

	law_set(&laws[n++], "offered = filtered + sampled_out + over_limit + accepted",
		text_number(ledger, "offered"),
		terms_sum(ledger, (const char *const[]){"filtered", "sampled_out", "over_limit",
					  "accepted", NULL}),
		!closed);
	law_set(&laws[n++], "accepted = written + dropped + in_flight + unknown", accepted,
		text_dropped(ledger) + terms_sum(ledger, (const char *const[]){"written",
								 "in_flight", "unknown", NULL}),
		!closed);
	law_set(&laws[n++], "durable <= written", text_number(ledger, "written"),
		text_number(ledger, "durable"), true);
	if (closed)
		law_set(&laws[n++], "in_flight = 0", text_number(ledger, "in_flight"), 0, false);
	if (json_is_integer(json_object_get(ledger, "unknown_max")))
		law_set(&laws[n++], "unknown <= unknown_max", text_number(ledger, "unknown_max"),
			text_number(ledger, "unknown"), true);
	return n;
}

unsigned books_port(const json_t *before, const json_t *now, struct books_law laws[BOOKS_LAWS_MAX])
{
	const json_t *old = json_object_get(before, "counters");
	const json_t *new = json_object_get(now, "counters");
	bool exact = strcmp(text_string(now, "loss_visibility"), "exact") == 0;
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(port_laws) / sizeof(port_laws[0]); i++) {
		const struct port_law *law = &port_laws[i];

		if (law->needs_exact && !exact)
			continue;
		law_set(&laws[n], law->text, text_number(new, law->left),
			terms_sum(new, law->terms), false);
		/* Only what moved may differ, and only by as much as it moved. */
		if (!laws[n].holds)
			laws[n].holds = text_number(old, law->left) <= laws[n].right &&
					terms_sum(old, law->terms) <= laws[n].left &&
					text_number(old, law->left) != laws[n].left;
		n++;
	}
	return n;
}

/* moving: the left side may be ahead. */
static void law_set(
	struct books_law *law, const char *text, uint64_t left, uint64_t right, bool moving)
{
	law->text = text;
	law->left = left;
	law->right = right;
	law->residual = (int64_t)(left - right);
	law->holds = law->residual == 0 || (moving && law->residual > 0);
}

static uint64_t terms_sum(const json_t *counters, const char *const *terms)
{
	uint64_t sum = 0;

	for (; *terms != NULL; terms++)
		sum += text_number(counters, *terms);
	return sum;
}
