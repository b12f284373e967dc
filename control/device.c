/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/device.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "config/log.h"
#include "control/job.h"
#include "control/publish.h"
#include "engine/engine.h"

enum device_state {
	DEVICE_STOPPED,
	DEVICE_STARTING,
	DEVICE_RUNNING,
	DEVICE_LEAVING,
	DEVICE_STOPPING
};

struct device {
	struct port *port;
	enum device_state state;
	unsigned n_wanted;
	struct device_wait *starters; /* wait for it to run */
	struct device_wait *stoppers; /* wait for it to have stopped */
	struct publish_wait publish;
	struct job job;
	struct err err;
};

static struct device devices[CONFIG_PORTS_MAX];

static struct device *device_of(struct port *port);
static void device_launch(struct device *device);
static void start_run(struct job *job);
static void start_done(struct job *job);
static void leave_done(struct publish_wait *wait);
static void stop_run(struct job *job);
static void stop_done(struct job *job);
static void waits_tell(struct device_wait **list, const struct err *err);

int device_start(struct err *err)
{
	for (unsigned i = 0; i < engine_ports(); i++) {
		struct port *port = engine_port(i);
		int rc;

		devices[i] = (struct device){.port = port};
		if (port->config->poll != CONFIG_POLL_ALWAYS)
			continue;
		rc = engine_port_start(port, err);
		if (rc != 0)
			return rc;
		devices[i].state = DEVICE_RUNNING;
		devices[i].n_wanted = 1;
		engine_port_poll(port, true);
		publish_soon(NULL);
	}
	return 0;
}

void device_acquire(struct port *port, struct device_wait *wait)
{
	static const struct err none;
	struct device *device = device_of(port);

	device->n_wanted++;
	if (device->state == DEVICE_RUNNING) {
		wait->done(wait, &none);
		return;
	}
	wait->next = device->starters;
	device->starters = wait;
	if (device->state == DEVICE_STOPPED)
		device_launch(device);
}

void device_release(struct port *port, struct device_wait *wait)
{
	static const struct err none;
	struct device *device = device_of(port);

	if (--device->n_wanted != 0) {
		wait->done(wait, &none);
		return;
	}
	wait->next = device->stoppers;
	device->stoppers = wait;
	device->state = DEVICE_LEAVING;
	engine_port_poll(port, false);
	device->publish.done = leave_done;
	publish_soon(&device->publish);
}

static struct device *device_of(struct port *port)
{
	return &devices[port->index];
}

static void device_launch(struct device *device)
{
	device->state = DEVICE_STARTING;
	device->job = (struct job){.run = start_run, .done = start_done};
	job_post(WORKER_DEVICE, &device->job);
}

static void start_run(struct job *job)
{
	struct device *device = (struct device *)((char *)job - offsetof(struct device, job));

	memset(&device->err, 0, sizeof(device->err));
	if (engine_port_start(device->port, &device->err) != 0 && device->err.code == 0)
		device->err.code = EIO;
}

static void start_done(struct job *job)
{
	struct device *device = (struct device *)((char *)job - offsetof(struct device, job));
	const struct err err = device->err;

	device->state = err.code == 0 ? DEVICE_RUNNING : DEVICE_STOPPED;
	if (err.code != 0) {
		log_warning("port %s does not start: %s", device->port->config->name, err.text);
		for (struct device_wait *wait = device->starters; wait != NULL; wait = wait->next)
			device->n_wanted--;
	}
	waits_tell(&device->starters, &err);
}

static void leave_done(struct publish_wait *wait)
{
	struct device *device = (struct device *)((char *)wait - offsetof(struct device, publish));

	device->state = DEVICE_STOPPING;
	device->job = (struct job){.run = stop_run, .done = stop_done};
	job_post(WORKER_DEVICE, &device->job);
}

static void stop_run(struct job *job)
{
	struct device *device = (struct device *)((char *)job - offsetof(struct device, job));

	engine_port_stop(device->port);
}

static void stop_done(struct job *job)
{
	static const struct err none;
	struct device *device = (struct device *)((char *)job - offsetof(struct device, job));

	device->state = DEVICE_STOPPED;
	waits_tell(&device->stoppers, &none);
	if (device->starters != NULL && device->state == DEVICE_STOPPED)
		device_launch(device);
}

static void waits_tell(struct device_wait **list, const struct err *err)
{
	struct device_wait *wait = *list;

	*list = NULL;
	while (wait != NULL) {
		struct device_wait *next = wait->next;

		wait->done(wait, err);
		wait = next;
	}
}

static void (*refresh_then)(void);
static bool refresh_posted;

static void refresh_run(struct job *job)
{
	engine_refresh();
}

static void refresh_done(struct job *job)
{
	refresh_posted = false;
	refresh_then();
}

void device_refresh(void (*done)(void))
{
	static struct job job = {.run = refresh_run, .done = refresh_done};

	if (refresh_posted)
		return;
	refresh_posted = true;
	refresh_then = done;
	job_post(WORKER_DEVICE, &job);
}
