/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * engine/block: homes, their stacks, the rings there and back, and what is kept for lanes that hold
 * nothing. Blocks are counted after every test: none is lost or given out twice.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "eal_fixture.h"
#include "engine/block.h"

#define HOMES     3
#define WRITERS   2
#define BLOCKS    32 /* of each home */
#define ALL       (HOMES * BLOCKS)
#define RECEIVE_N 16

static int pool_start(void **state)
{
	struct err err;

	return block_pool_new(ALL * BLOCK_SIZE, false, HOMES, WRITERS, &err);
}

static int pool_stop(void **state)
{
	const unsigned n = block_free_count();

	block_pool_free();
	return n == ALL ? 0 : -1;
}

static void memory_is_split_over_homes(void **state)
{
	struct block *blocks[ALL];
	unsigned n = 0;

	assert_int_equal(block_count(), ALL);
	assert_int_equal(block_free_count(), ALL);
	assert_int_equal(block_lanes_max(), ALL / 2);
	assert_false(block_on_hugepages());
	for (unsigned h = 0; h < HOMES; h++) {
		struct block *block;

		while ((block = block_take(block_home(h), false)) != NULL) {
			assert_int_equal(block->home, h);
			assert_int_equal((uintptr_t)block->data % BLOCK_PAGE, 0);
			/* All of it can be written, and nobody else has any of it. */
			memset(block->data, (int)n, BLOCK_SIZE);
			blocks[n++] = block;
		}
		assert_int_equal(n, (h + 1) * BLOCKS);
	}
	assert_int_equal(block_free_count(), 0);
	for (unsigned i = 0; i < ALL; i++) {
		assert_int_equal(blocks[i]->data[0], i);
		assert_int_equal(blocks[i]->data[BLOCK_SIZE - 1], i);
		block_untake(block_home(blocks[i]->home), blocks[i]);
	}
}

static void what_does_not_divide_is_left_out(void **state)
{
	struct err err;

	/* 2 MiB are the smallest step: 32 blocks, which three homes share evenly. */
	block_pool_free();
	assert_int_equal(block_pool_new(1, false, 3, 1, &err), 0);
	assert_int_equal(block_count(), 30);
	assert_int_equal(block_home(2)->n_blocks, 10);
	assert_int_equal(block_lanes_max(), 15);
	block_pool_free();
	assert_int_equal(pool_start(state), 0);
}

static void too_much_memory_is_refused_by_name(void **state)
{
	struct err err = {0};

	block_pool_free();
	assert_int_equal(block_pool_new(1ULL << 50, false, 1, 1, &err), -ENOMEM);
	assert_string_equal(err.field, "engine.block_memory");
	assert_non_null(strstr(err.text, "1073741824 MiB"));
	assert_int_equal(pool_start(state), 0);
}

static void the_last_returned_is_the_first_used(void **state)
{
	struct block_home *home = block_home(0);
	struct block *a = block_take(home, false), *b = block_take(home, false), *got;

	block_untake(home, a);
	assert_ptr_equal(block_take(home, false), a);
	for (unsigned w = 0; w < WRITERS; w++) {
		block_send(home, w, a);
		assert_int_equal(block_receive(w, &got, 1), 1);
		assert_ptr_equal(got, a);
		block_return(w, a);
		assert_ptr_equal(block_take(home, false), a);
	}
	block_untake(home, b);
	block_untake(home, a);
}

static void the_last_blocks_are_kept(void **state)
{
	struct block_home *home = block_home(1);
	struct block *blocks[BLOCKS];
	unsigned n = 0;

	home->n_lanes = 5;
	while ((blocks[n] = block_take(home, true)) != NULL)
		n++;
	assert_int_equal(n, BLOCKS - 5);
	for (unsigned i = 0; i < 5; i++) {
		blocks[n] = block_take(home, false);
		assert_non_null(blocks[n++]);
		assert_null(block_take(home, true));
	}
	assert_null(block_take(home, false));
	/* Another home has its own. */
	block_untake(block_home(0), block_take(block_home(0), true));
	while (n > 0)
		block_untake(home, blocks[--n]);
	home->n_lanes = 0;
}

static void scarce_is_less_than_a_quarter(void **state)
{
	struct block_home *home = block_home(0);
	struct block *blocks[BLOCKS];

	for (unsigned n = 0; n < BLOCKS; n++) {
		assert_int_equal(block_scarce(0), BLOCKS - n < BLOCKS / 4);
		blocks[n] = block_take(home, false);
	}
	assert_true(block_scarce(0));
	assert_false(block_scarce(1));
	for (unsigned n = 0; n < BLOCKS; n++)
		block_untake(home, blocks[n]);
}

static void when_blocks_are_few_who_has_many_gets_none(void **state)
{
	struct block_home home = {.n_blocks = 256, .n_lanes = 4, .n_free = 33};

	assert_false(block_share_is_over(&home, 223));
	home.n_free = 32;
	assert_false(block_share_is_over(&home, 64));
	assert_true(block_share_is_over(&home, 65)); /* more than its share */
	home.n_free = 20;
	assert_false(block_share_is_over(&home, 40));
	assert_true(block_share_is_over(&home, 41)); /* more than twice what is left */
	home.n_lanes = 1;
	home.n_free = 1;
	assert_false(block_share_is_over(&home, 255));
}

static void blocks_in_a_ring_back_are_free(void **state)
{
	struct block_home *home = block_home(0);
	struct block *got;

	block_send(home, 1, block_take(home, false));
	block_send(home, 1, block_take(home, false));
	assert_int_equal(block_free_count(), ALL - 2);
	assert_int_equal(block_receive(0, &got, 1), 0);
	assert_int_equal(block_receive(1, &got, 1), 1);
	assert_int_equal(block_free_count(), ALL - 2);
	block_return(1, got);
	assert_int_equal(block_free_count(), ALL - 1);
	assert_int_equal(home->n_free, BLOCKS - 2);
	block_collect(home);
	assert_int_equal(home->n_free, BLOCKS - 1);
	assert_int_equal(block_receive(1, &got, 1), 1);
	block_return(1, got);
}

static void a_ring_has_room_for_all_and_their_ends(void **state)
{
	static struct block ends[ALL / 2];
	struct block *got[ALL + ALL / 2];
	struct block_home *home = block_home(2);
	struct block *block;
	unsigned n = 0, k;

	while ((block = block_take(home, false)) != NULL)
		block_send(home, 0, block);
	for (unsigned i = 0; i < block_lanes_max(); i++)
		block_send(home, 0, &ends[i]);
	while ((k = block_receive(0, got + n, RECEIVE_N)) != 0)
		n += k;
	assert_int_equal(n, BLOCKS + ALL / 2);
	for (unsigned i = 0; i < BLOCKS; i++)
		block_return(0, got[i]);
	for (unsigned i = 0; i < ALL / 2; i++)
		assert_ptr_equal(got[BLOCKS + i], &ends[i]);
}

/* One lcore with two writers, both threads of their own: each gets its blocks in order. */
#define ROUNDS 20000U

struct reader {
	pthread_t thread;
	unsigned writer;
	unsigned n;
	unsigned n_wrong;
};

static void *reader_run(void *arg)
{
	struct reader *reader = arg;
	struct block *blocks[RECEIVE_N];

	while (reader->n < ROUNDS / WRITERS) {
		unsigned n = block_receive(reader->writer, blocks, RECEIVE_N);

		for (unsigned i = 0; i < n; i++) {
			reader->n_wrong += blocks[i]->offset != reader->n++;
			memset(blocks[i]->data, 0xff, 8);
			block_return(reader->writer, blocks[i]);
		}
		if (n == 0)
			sched_yield();
	}
	return NULL;
}

static void two_writers_get_theirs_in_order(void **state)
{
	struct block_home *home = block_home(0);
	struct reader readers[WRITERS];
	uint64_t next[WRITERS] = {0};

	for (unsigned w = 0; w < WRITERS; w++) {
		readers[w] = (struct reader){.writer = w};
		assert_int_equal(
			pthread_create(&readers[w].thread, NULL, reader_run, &readers[w]), 0);
	}
	for (unsigned i = 0; i < ROUNDS;) {
		struct block *block = block_take(home, false);

		if (block == NULL) {
			sched_yield();
			continue;
		}
		block->offset = next[i % WRITERS]++;
		block_send(home, i++ % WRITERS, block);
	}
	for (unsigned w = 0; w < WRITERS; w++) {
		pthread_join(readers[w].thread, NULL);
		assert_int_equal(readers[w].n, ROUNDS / WRITERS);
		assert_int_equal(readers[w].n_wrong, 0);
	}
}

static int eal_start(void **state)
{
	return eal_fixture_start();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_start, pool_stop)
	const struct CMUnitTest tests[] = {
		TEST(memory_is_split_over_homes),
		TEST(what_does_not_divide_is_left_out),
		TEST(too_much_memory_is_refused_by_name),
		TEST(the_last_returned_is_the_first_used),
		TEST(the_last_blocks_are_kept),
		TEST(scarce_is_less_than_a_quarter),
		TEST(when_blocks_are_few_who_has_many_gets_none),
		TEST(blocks_in_a_ring_back_are_free),
		TEST(a_ring_has_room_for_all_and_their_ends),
		TEST(two_writers_get_theirs_in_order),
	};

	return cmocka_run_group_tests(tests, eal_start, NULL);
}
