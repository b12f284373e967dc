/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/table: found by id, walked by age, whatever was added and removed in whatever order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/table.h"

#define N 2000

static struct session made[N];

/* Ids of which many have the same first bytes, so that buckets are shared. */
static int table_fill(void **state)
{
	memset(made, 0, sizeof(made));
	for (unsigned i = 0; i < N; i++) {
		made[i].id.byte[0] = i % 7;
		made[i].id.byte[15] = (uint8_t)i;
		made[i].id.byte[14] = (uint8_t)(i >> 8);
	}
	return table_count();
}

static int table_clear(void **state)
{
	while (table_newest() != NULL)
		table_remove(table_newest());
	return table_count() != 0 || table_oldest() != NULL;
}

/* n made, serials rising from the oldest to the newest, both ways. */
static void order_check(unsigned n)
{
	const struct session *session;
	uint64_t before = 0;
	unsigned seen = 0;

	for (session = table_oldest(); session != NULL; session = session->newer) {
		assert_true(session->serial > before);
		before = session->serial;
		assert_ptr_equal(table_find(&session->id), session);
		seen++;
	}
	assert_int_equal(seen, n);
	assert_int_equal(table_count(), n);
	for (session = table_newest(); session != NULL; session = session->older) {
		assert_int_equal(session->serial, before);
		before = session->older != NULL ? session->older->serial : 0;
		seen--;
	}
	assert_int_equal(seen, 0);
	assert_int_equal(before, 0);
}

static void an_empty_table_finds_nothing(void **state)
{
	assert_null(table_find(&made[0].id));
	assert_null(table_newest());
	assert_null(table_oldest());
	order_check(0);
}

static void new_ones_get_the_next_serial(void **state)
{
	uint64_t last;

	table_add(&made[0]);
	last = made[0].serial;
	assert_true(last > 0);
	for (unsigned i = 1; i < N; i++) {
		table_add(&made[i]);
		assert_int_equal(made[i].serial, last + i);
		assert_ptr_equal(table_newest(), &made[i]);
	}
	assert_ptr_equal(table_oldest(), &made[0]);
	order_check(N);
}

static void a_serial_is_never_used_twice(void **state)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < 100; i++) {
		table_add(&made[i]);
		assert_true(made[i].serial > last);
		last = made[i].serial;
		table_remove(&made[i]);
	}
	/* What was loaded counts too. */
	made[200].serial = last + 1000;
	table_add(&made[200]);
	table_remove(&made[200]);
	table_add(&made[201]);
	assert_int_equal(made[201].serial, last + 1001);
}

/* At start they come as the directory has them. */
static void loaded_ones_are_put_in_order(void **state)
{
	for (unsigned i = 0; i < N; i++) {
		struct session *session = &made[i * 1237 % N];

		session->serial = 1 + i * 777 % N;
		table_add(session);
	}
	order_check(N);
	assert_int_equal(table_oldest()->serial, 1);
	assert_int_equal(table_newest()->serial, N);
}

static void removed_ones_are_gone_and_others_stay(void **state)
{
	unsigned left = N;

	for (unsigned i = 0; i < N; i++)
		table_add(&made[i]);
	for (unsigned i = 0; i < N; i++) {
		struct session *session = &made[i * 1237 % N];

		table_remove(session);
		left--;
		assert_null(table_find(&session->id));
		if (i % 100 == 0)
			order_check(left);
	}
	order_check(0);
}

/* Which are tended: a bit in seen for each. */
static unsigned active_seen(bool *seen)
{
	unsigned n = 0;

	memset(seen, 0, N * sizeof(*seen));
	for (const struct session *s = table_active(); s != NULL; s = s->active_next, n++)
		seen[s - made] = true;
	return n;
}

static void those_that_rest_are_not_tended(void **state)
{
	static bool seen[N];

	assert_null(table_active());
	for (unsigned i = 0; i < N; i++)
		table_add(&made[i]);
	assert_int_equal(active_seen(seen), N);
	assert_ptr_equal(table_active(), &made[N - 1]);
	for (unsigned i = 0; i < N; i += 3)
		table_rest(&made[i]);
	table_rest(&made[0]); /* once more is nothing */
	for (unsigned i = 0; i < N; i += 4)
		table_remove(&made[i]);
	(void)active_seen(seen);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(seen[i], i % 3 != 0 && i % 4 != 0);
	for (unsigned i = 0; i < N; i++)
		if (i % 4 != 0)
			assert_ptr_equal(table_find(&made[i].id), &made[i]);
}

static void ids_that_are_not_there_are_not_found(void **state)
{
	struct uuid id = {{0}};

	for (unsigned i = 0; i < N; i++)
		table_add(&made[i]);
	for (unsigned i = 0; i < N; i++) {
		id = made[i].id;
		id.byte[8] = 1;
		assert_null(table_find(&id));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, table_fill, table_clear)
	const struct CMUnitTest tests[] = {
		TEST(an_empty_table_finds_nothing),
		TEST(new_ones_get_the_next_serial),
		TEST(a_serial_is_never_used_twice),
		TEST(loaded_ones_are_put_in_order),
		TEST(removed_ones_are_gone_and_others_stay),
		TEST(those_that_rest_are_not_tended),
		TEST(ids_that_are_not_there_are_not_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
