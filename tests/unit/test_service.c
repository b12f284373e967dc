/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * control/service: what the service manager is told, and that it is told nothing once a core hangs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <event2/event.h>

#include "control/service.h"
#include "control/stall.h"
#include "engine/engine.h"

static struct engine_status engine = {
	.n_lcores = 2, .lcores = {{.role = "rx"}, {.role = "writer"}}};
static unsigned n_woken;
static unsigned n_hanging; /* the first so many make no round when they are woken */
static struct event_base *base;
static int manager;

static struct stall stall;

const struct stall *stall_get(void)
{
	return &stall;
}

void engine_status(struct engine_status *status)
{
	*status = engine;
}

void engine_wake(void)
{
	n_woken++;
	for (unsigned i = n_hanging; i < engine.n_lcores; i++)
		engine.lcores[i].rounds++;
}

static int manager_open(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	base = event_base_new();
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/test-service-%d", getpid());
	unlink(address.sun_path);
	if (base == NULL || bind(manager, (struct sockaddr *)&address, sizeof(address)) != 0)
		return -1;
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	setenv("WATCHDOG_USEC", "40000", 1);
	n_hanging = 0;
	return 0;
}

static int manager_close(void **state)
{
	service_stopping();
	unlink(getenv("NOTIFY_SOCKET"));
	close(manager);
	event_base_free(base);
	return 0;
}

static const char *told(void)
{
	static char text[64];
	ssize_t len = recv(manager, text, sizeof(text) - 1, 0);

	text[len < 0 ? 0 : len] = '\0';
	return text;
}

static void turns(unsigned n)
{
	while (n-- != 0)
		event_base_loop(base, EVLOOP_ONCE);
}

static void the_watchdog_is_fed_while_all_move(void **state)
{
	assert_int_equal(service_ready(base), 0);
	assert_string_equal(told(), "READY=1");
	assert_string_equal(told(), "");
	turns(3);
	for (unsigned i = 0; i < 3; i++)
		assert_string_equal(told(), "WATCHDOG=1");
	assert_string_equal(told(), "");
	service_stopping();
	assert_string_equal(told(), "STOPPING=1");
}

static void a_core_that_hangs_starves_it(void **state)
{
	struct service_watchdog before;

	assert_int_equal(service_ready(base), 0);
	assert_string_equal(told(), "READY=1");
	n_hanging = 1;
	turns(1); /* the round it made before still counts */
	assert_string_equal(told(), "WATCHDOG=1");
	before = *service_watchdog();
	turns(3);
	assert_string_equal(told(), "");
	assert_int_equal(service_watchdog()->held - before.held, 3);
	assert_int_equal(service_watchdog()->fed, before.fed);
	n_hanging = 0;
	turns(2);
	assert_string_equal(told(), "WATCHDOG=1");
	assert_true(service_watchdog()->fed > before.fed);
}

/* A writer may wait for a disk that does not answer: to be started anew would not help it. */
static void a_disk_that_hangs_is_no_reason(void **state)
{
	assert_int_equal(service_ready(base), 0);
	assert_string_equal(told(), "READY=1");
	stall.stalled = true;
	engine.lcores[0] = (struct engine_lcore){.role = "writer"};
	engine.lcores[1] = (struct engine_lcore){.role = "rx"};
	n_hanging = 1;
	turns(3);
	for (unsigned i = 0; i < 3; i++)
		assert_string_equal(told(), "WATCHDOG=1");
	n_hanging = 2;
	turns(3);
	assert_string_equal(told(), "WATCHDOG=1"); /* what was made before */
	assert_string_equal(told(), "");
	stall.stalled = false;
}

static void nobody_asks_nothing_is_done(void **state)
{
	unsigned before = n_woken;

	unsetenv("WATCHDOG_USEC");
	assert_int_equal(service_ready(base), 0);
	assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 1); /* no events */
	assert_int_equal(n_woken, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			the_watchdog_is_fed_while_all_move, manager_open, manager_close),
		cmocka_unit_test_setup_teardown(
			a_core_that_hangs_starves_it, manager_open, manager_close),
		cmocka_unit_test_setup_teardown(
			a_disk_that_hangs_is_no_reason, manager_open, manager_close),
		cmocka_unit_test_setup_teardown(
			nobody_asks_nothing_is_done, manager_open, manager_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
