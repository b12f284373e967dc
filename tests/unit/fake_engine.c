/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/engine.h"

static struct port ports[CONFIG_PORTS_MAX];
static unsigned n_ports;

void fake_engine_start(const struct config *config);
void fake_engine_stop(void);

void fake_engine_start(const struct config *config)
{
	memset(ports, 0, sizeof(ports));
	n_ports = config->n_ports;
	for (unsigned i = 0; i < n_ports; i++) {
		struct port *port = &ports[i];

		port->config = &config->ports[i];
		port->index = i;
		strcpy(port->driver, "af_packet");
		memcpy(port->mac, "\x02\0\0\0\0\x01", 6);
		port->has_mac = true;
		port->direction = PORT_DIRECTION_EXACT;
		port->n_queues = 1;
		port->queues = calloc(1, sizeof(*port->queues));
		port->queues[0].polled = 7;
		port->link_up = true;
		port->mtu = 1500;
		port->offered = 7;
	}
}

void fake_engine_stop(void)
{
	for (unsigned i = 0; i < n_ports; i++)
		free(ports[i].queues);
	n_ports = 0;
}

unsigned engine_ports(void)
{
	return n_ports;
}

struct port *engine_port(unsigned index)
{
	return &ports[index];
}

struct port *engine_port_find(const char *name)
{
	for (unsigned i = 0; i < n_ports; i++)
		if (strcmp(ports[i].config->name, name) == 0)
			return &ports[i];
	return NULL;
}

const char *port_loss_name(enum port_loss loss)
{
	static const char *const names[] = {"exact", "lower_bound", "none"};

	return names[loss];
}

const char *port_direction_name(enum port_direction direction)
{
	static const char *const names[] = {"exact", "by_mac", "none"};

	return names[direction];
}

const char *end_reason_name(enum end_reason reason)
{
	static const char *const names[] = {
#define X(name) #name,
		END_REASONS(X)
#undef X
	};

	return names[reason];
}

const char *drop_name(enum drop drop)
{
	static const char *const names[] = {
#define X(name, help) #name,
		DROP_REASONS(X)
#undef X
	};

	return names[drop];
}

const char *filter_engine_name(enum filter_engine engine)
{
	static const char *const names[] = {"none", "jit", "interpreter", "classifier"};

	return names[engine];
}

const char *engine_sink_name(void)
{
	return "uring";
}

void engine_status(struct engine_status *status)
{
	memset(status, 0, sizeof(*status));
	status->blocks = 1024;
	status->blocks_free = 1000;
	status->n_lcores = 1;
	status->lcores[0] = (struct engine_lcore){.lcore = 1, .cpu = 1, .role = "rx"};
}

/* A compiler that dislikes the word "bad". */
static char compiled[FILTER_EXPRESSION_MAX];

int filter_compile_start(const char *expression)
{
	snprintf(compiled, sizeof(compiled), "%s", expression);
	return eventfd(1, EFD_CLOEXEC);
}

int filter_compile_finish(int fd, struct filter_code *code, struct err *err)
{
	const char *bad = strstr(compiled, "bad");

	close(fd);
	code->n = bad == NULL ? 4 : 0;
	if (bad == NULL)
		return 0;
	return err_set(
		err, EINVAL, "filter", "syntax error at 'bad', character %td", bad - compiled + 1);
}
