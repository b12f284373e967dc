/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The door: start and stop, ports, publication. What happens to packets is behind it.
 */
#include "engine/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "config/log.h"
#include "engine/block.h"
#include "engine/clock.h"
#include "engine/eal.h"
#include "engine/event.h"
#include "engine/lane.h"
#include "engine/rcu.h"
#include "engine/rx.h"
#include "engine/rx_set.h"
#include "engine/sink.h"
#include "engine/writer.h"

#define SAT_MAX_S 2 /* what a source holds when a session begins is handed over within */

static struct {
	unsigned n_ports;
	struct port ports[CONFIG_PORTS_MAX];
} engine;

static int ports_open(const struct config *config, struct err *err);
static void ports_close(void);

int engine_start(const struct config *config, struct err *err)
{
	bool huge;
	int rc;

	rc = eal_start(config, &huge, err);
	if (rc != 0)
		return rc;
	rcu_register_thread();
	rcu_thread_offline();
	rc = event_open();
	if (rc == 0)
		rc = clock_init();
	if (rc != 0) {
		err_set(err, -rc, NULL, "cannot start the engine's clock and events: %s",
			strerror(-rc));
		goto fail;
	}
	rc = ports_open(config, err);
	if (rc != 0)
		goto fail;
	rc = block_pool_new(config->engine.block_memory_bytes, huge, config->engine.rx_cpus.n,
		WRITERS_PER_CPU * config->engine.writer_cpus.n, err);
	if (rc != 0)
		goto fail;
	rx_set_assign(config->engine.rx_cpus.n);
	sink_stream_rate_set(config->stream.rate_pps);
	rc = writer_start(&config->engine.writer_cpus, err);
	if (rc != 0)
		goto fail;
	/* The measurement of the storage comes after sandbox_enter. */
	if (config->engine.sandbox && config->storage.measure != CONFIG_MEASURE_NO)
		sink_uring_keep(true);
	rc = rx_start(&config->engine.rx_cpus, config->storage.durable_every_ms, err);
	if (rc == 0)
		return 0;
fail:
	engine_stop();
	return rc;
}

void engine_stop(void)
{
	rx_stop();
	rx_set_fini();
	writer_stop();
	sink_uring_keep(false);
	block_pool_free();
	ports_close();
	event_close();
	rcu_unregister_thread();
	eal_stop();
}

int engine_event_fd(void)
{
	return event_fd();
}

void engine_event_clear(void)
{
	event_clear();
	rx_set_reclaim();
}

unsigned engine_ports(void)
{
	return engine.n_ports;
}

struct port *engine_port(unsigned index)
{
	return &engine.ports[index];
}

struct port *engine_port_find(const char *name)
{
	for (unsigned i = 0; i < engine.n_ports; i++)
		if (strcmp(engine.ports[i].config->name, name) == 0)
			return &engine.ports[i];
	return NULL;
}

int engine_port_start(struct port *port, struct err *err)
{
	int rc;

	for (unsigned q = 0; q < port->n_queues; q++)
		port->queues[q].pace_start_tsc = 0;
	rc = port->ops->start(port, err);
	if (rc == 0)
		__atomic_store_n(&port->started, true, __ATOMIC_RELEASE);
	return rc;
}

void engine_port_stop(struct port *port)
{
	port->ops->refresh(port);
	port->ops->stop(port);
	__atomic_store_n(&port->started, false, __ATOMIC_RELEASE);
}

void engine_refresh(void)
{
	clock_sync();
	for (unsigned i = 0; i < engine.n_ports; i++)
		if (engine.ports[i].started)
			engine.ports[i].ops->refresh(&engine.ports[i]);
}

void engine_port_poll(struct port *port, bool on)
{
	rx_set_poll(port, on);
}

void engine_tap_add(struct tap *tap)
{
	/* Packets are stamped by either clock, and what comes from now on must not look older. */
	tap->start_ns = RTE_MIN(clock_wall_ns(), clock_tsc_to_ns(rte_rdtsc()));
	tap->start_tsc = rte_rdtsc();
	tap->known_tsc = tap->start_tsc + clock_tsc_hz() * SAT_MAX_S;
	tap->deadline_tsc = tap_deadline(tap, tap->spec.limit_ns);
	for (unsigned i = 0; i < tap->n_lanes; i++)
		writer_wake(tap->lanes[i].writer);
	rx_set_tap_add(tap);
}

void engine_tap_change(
	struct tap *tap, uint32_t snaplen_bytes, enum sample_mode sample_mode, uint32_t sample_n)
{
	tap_change(tap, snaplen_bytes, sample_mode, sample_n);
}

void engine_tap_end(struct tap *tap)
{
	rx_set_tap_end(tap);
}

void engine_tap_remove(struct tap *tap)
{
	rx_set_tap_remove(tap);
}

int engine_commit(void (*done)(void *arg), void *arg)
{
	return rx_set_publish(done, arg);
}

void engine_status(struct engine_status *status)
{
	memset(status, 0, sizeof(*status));
	status->tsc = rte_rdtsc();
	status->blocks = block_count();
	status->blocks_free = block_free_count();
	status->blocks_missed = block_missed_count();
	status->disk_writes_max = writer_count() / WRITERS_PER_CPU * SINK_WRITES_MAX;
	status->block_bytes = BLOCK_SIZE;
	status->hugepages = block_on_hugepages();
	for (unsigned i = 0; i < rx_count(); i++)
		rx_status(i, &status->lcores[status->n_lcores++]);
	for (unsigned i = 0; i < writer_count(); i++)
		writer_status(i, &status->lcores[status->n_lcores++]);
}

void engine_writes_set(uint32_t write_bytes, unsigned depth)
{
	writer_writes_set(write_bytes, depth);
}

void engine_wake(void)
{
	rx_wake();
	writer_kick();
}

unsigned engine_blocks_low(void)
{
	return block_low_take();
}

const char *engine_sink_name(void)
{
	return writer_sink_name();
}

static int ports_open(const struct config *config, struct err *err)
{
	for (unsigned i = 0; i < config->n_ports; i++) {
		struct port *port = &engine.ports[i];
		char section[CONFIG_NAME_MAX + 8];
		int rc;

		port->config = &config->ports[i];
		port->index = i;
		port->mtu = port->config->mtu;
		port->ops = port->config->device[0] != '\0' ? &port_eth_ops : &port_afpacket_ops;
		engine.n_ports++;
		rc = port->ops->open(port, err);
		if (rc != 0) {
			snprintf(section, sizeof(section), "port %s", port->config->name);
			err_prefix(err, section);
			return rc;
		}
		log_info("port %s: %s %s driver=%s queues=%u loss_visibility=%s",
			port->config->name, port->ops->kind,
			port->config->device[0] != '\0' ? port->config->device
							: port->config->interface,
			port->driver, port->n_queues, port_loss_name(port->loss));
	}
	return 0;
}

static void ports_close(void)
{
	for (unsigned i = 0; i < engine.n_ports; i++) {
		struct port *port = &engine.ports[i];

		if (port->started)
			engine_port_stop(port);
		port->ops->close(port);
	}
	engine.n_ports = 0;
}
