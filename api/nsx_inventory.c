/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "api/nsx_inventory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/port.h"
#include "api/auth.h"
#include "api/nsx_json.h"

#define TERMS_MAX    8
#define TERM_MAX     200
#define SEGMENT_PATH "/infra/segments/sluice"
#define PORT_PATH    SEGMENT_PATH "/ports/"

/* Names the space of our names (RFC 9562, 5.5). */
static const uint8_t name_space[16] = {0x6f, 0x2d, 0x1b, 0x57, 0x0c, 0x9e, 0x4a, 0x35, 0x9d, 0x41,
	0x53, 0x1c, 0x75, 0x6c, 0x75, 0x69};

static const char *port_name(unsigned index)
{
	return engine_port(index)->config->name;
}

void nsx_port_id(const char *name, char id[UUID_TEXT_SIZE])
{
	uint8_t text[sizeof(name_space) + CONFIG_NAME_MAX], digest[20];
	size_t len = strnlen(name, CONFIG_NAME_MAX);
	struct uuid uuid;

	memcpy(text, name_space, sizeof(name_space));
	memcpy(text + sizeof(name_space), name, len);
	auth_sha1(text, sizeof(name_space) + len, digest);
	memcpy(uuid.byte, digest, sizeof(uuid.byte));
	uuid.byte[6] = (uuid.byte[6] & 0x0f) | 0x50; /* version 5 */
	uuid.byte[8] = (uuid.byte[8] & 0x3f) | 0x80;
	uuid_print(&uuid, id);
}

/* The port that [nsx] points calls point, or point itself. */
static const char *point_resolve(const char *point, const struct config *config)
{
	const struct config_list *points = &config->nsx.points;
	size_t len = strlen(point);

	for (unsigned i = 0; i < points->n; i++)
		if (strncmp(points->item[i], point, len) == 0 && points->item[i][len] == '=')
			return points->item[i] + len + 1;
	return point;
}

int nsx_port_find(const char *point, const struct config *config, const struct nsx_ports *ports,
	struct err *err)
{
	const char *name = point_resolve(point, config);
	char id[UUID_TEXT_SIZE], known[160] = "";
	size_t len = 0;

	if (strncmp(name, PORT_PATH, strlen(PORT_PATH)) == 0)
		name += strlen(PORT_PATH);
	for (unsigned i = 0; i < ports->n; i++) {
		nsx_port_id(port_name(ports->port[i]), id);
		if (strcmp(port_name(ports->port[i]), name) == 0 || strcmp(id, name) == 0)
			return ports->port[i];
		if (len < sizeof(known))
			len += snprintf(known + len, sizeof(known) - len, "%s%s", i > 0 ? ", " : "",
				port_name(ports->port[i]));
	}
	return err_set(err, EINVAL, "capvalue", "there is no point %.63s; known: %s", point, known);
}

static void put(json_t *object, const char *name, json_t *value)
{
	json_object_set_new_nocheck(object, name, value);
}

static bool asked(const char *wanted, const char *value)
{
	return wanted == NULL || strcmp(wanted, value) == 0;
}

/* The node that captures on it: what [nsx] node says, which requests must name then. */
static const char *host_id(const struct config *config, const char *id)
{
	return config->nsx.node[0] != '\0' ? config->nsx.node : id;
}

static json_t *machine_json(const struct config *config, const char *name, const char *id)
{
	json_t *machine = json_object(), *source = json_object();

	put(source, "target_id", json_string(host_id(config, id)));
	put(source, "target_display_name", json_string(name));
	put(source, "target_type", json_string("HostNode"));
	put(source, "is_valid", json_true());
	put(machine, "resource_type", json_string("VirtualMachine"));
	put(machine, "external_id", json_string(id));
	put(machine, "display_name", json_string(name));
	put(machine, "host_id", json_string(host_id(config, id)));
	put(machine, "local_id_on_host", json_string(name));
	put(machine, "power_state", json_string("VM_RUNNING"));
	put(machine, "type", json_string("REGULAR"));
	put(machine, "compute_ids", json_array());
	put(machine, "source", source);
	return machine;
}

json_t *nsx_virtual_machines(const struct config *config, const struct nsx_ports *ports,
	const char *display_name, const char *external_id)
{
	json_t *list = json_array();
	char id[UUID_TEXT_SIZE];

	for (unsigned i = 0; i < ports->n; i++) {
		const char *name = port_name(ports->port[i]);

		nsx_port_id(name, id);
		if (asked(display_name, name) && asked(external_id, id))
			json_array_append_new(list, machine_json(config, name, id));
	}
	return nsx_list(list);
}

static json_t *vif_json(const struct config *config, unsigned index, const char *id)
{
	const struct port *port = engine_port(index);
	json_t *vif = json_object();

	put(vif, "resource_type", json_string("VirtualNetworkInterface"));
	put(vif, "external_id", json_string(id));
	put(vif, "owner_vm_id", json_string(id));
	put(vif, "vm_local_id_on_host", json_string(port_name(index)));
	put(vif, "host_id", json_string(host_id(config, id)));
	put(vif, "display_name", json_string(port_name(index)));
	put(vif, "device_name", json_string(port_name(index)));
	put(vif, "device_key", json_string("4000"));
	if (port->has_mac)
		put(vif, "mac_address",
			json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", port->mac[0], port->mac[1],
				port->mac[2], port->mac[3], port->mac[4], port->mac[5]));
	put(vif, "lport_attachment_id", json_string(id));
	put(vif, "ip_address_info", json_array());
	return vif;
}

json_t *nsx_vifs(const struct config *config, const struct nsx_ports *ports,
	const char *owner_vm_id, const char *lport_attachment_id)
{
	json_t *list = json_array();
	char id[UUID_TEXT_SIZE];

	for (unsigned i = 0; i < ports->n; i++) {
		nsx_port_id(port_name(ports->port[i]), id);
		if (asked(owner_vm_id, id) && asked(lport_attachment_id, id))
			json_array_append_new(list, vif_json(config, ports->port[i], id));
	}
	return nsx_list(list);
}

static json_t *segment_port_json(const char *name, const char *id)
{
	json_t *port = json_object(), *attachment = json_object();

	put(attachment, "id", json_string(id));
	put(attachment, "type", json_string("PARENT"));
	put(port, "resource_type", json_string("SegmentPort"));
	put(port, "id", json_string(id));
	put(port, "unique_id", json_string(id));
	put(port, "display_name", json_string(name));
	put(port, "attachment", attachment);
	put(port, "path", json_sprintf(PORT_PATH "%s", id));
	put(port, "relative_path", json_string(id));
	put(port, "parent_path", json_string(SEGMENT_PATH));
	put(port, "admin_state", json_string("UP"));
	return port;
}

struct term {
	char field[TERM_MAX];
	char value[TERM_MAX];
};

/* "FIELD:VALUE", the value perhaps in quotes. */
static bool term_parse(const char *text, size_t len, struct term *term)
{
	const char *colon = memchr(text, ':', len);
	size_t field_len = colon != NULL ? (size_t)(colon - text) : 0;
	size_t value_len = colon != NULL ? len - field_len - 1 : 0;

	if (field_len == 0 || value_len == 0 || len >= TERM_MAX)
		return false;
	snprintf(term->field, TERM_MAX, "%.*s", (int)field_len, text);
	text = colon + 1;
	if (value_len > 1 && text[0] == '"' && text[value_len - 1] == '"') {
		text++;
		value_len -= 2;
	} else if (memchr(text, ' ', value_len) != NULL) {
		return false; /* it would be an OR, or something that was not meant as a value */
	}
	snprintf(term->value, TERM_MAX, "%.*s", (int)value_len, text);
	return true;
}

static int query_parse(const char *query, struct term *terms, unsigned *n, struct err *err)
{
	const char *at = query + strspn(query, " ");

	*n = 0;
	while (*at != '\0') {
		const char *and = strstr(at, " AND ");
		size_t len = and != NULL ? (size_t)(and-at) : strlen(at);

		while (len > 0 && at[len - 1] == ' ')
			len--;
		if (*n == TERMS_MAX || !term_parse(at, len, &terms[*n]))
			break;
		(*n)++;
		at = and != NULL ? and+5 : "";
		at += strspn(at, " ");
	}
	if (*n > 0 && *at == '\0')
		return 0;
	return err_set(err, EINVAL, "query",
		"must be FIELD:VALUE, with AND between at most %d of them, not \"%.100s\"",
		TERMS_MAX, query);
}

/* Does the object say value where field points ("attachment.id")? */
static bool object_has(const json_t *object, const struct term *term)
{
	const char *field = term->field;

	while (object != NULL && *field != '\0') {
		const size_t len = strcspn(field, ".");
		char name[TERM_MAX];

		if (len >= sizeof(name))
			return false;
		memcpy(name, field, len);
		name[len] = '\0';
		object = json_object_get(object, name);
		field += len;
		field += *field == '.';
	}
	return json_is_string(object) && strcmp(json_string_value(object), term->value) == 0;
}

json_t *nsx_search(const struct config *config, const struct nsx_ports *ports, const char *query,
	struct err *err)
{
	struct term terms[TERMS_MAX];
	char id[UUID_TEXT_SIZE];
	unsigned n;
	json_t *list;

	if (query_parse(query, terms, &n, err) < 0)
		return NULL;
	list = json_array();
	for (unsigned i = 0; i < ports->n; i++) {
		const char *name = port_name(ports->port[i]);
		json_t *candidates[3];

		nsx_port_id(name, id);
		candidates[0] = machine_json(config, name, id);
		candidates[1] = vif_json(config, ports->port[i], id);
		candidates[2] = segment_port_json(name, id);
		for (unsigned k = 0; k < 3; k++) {
			bool all = true;

			for (unsigned t = 0; t < n; t++)
				all = all && object_has(candidates[k], &terms[t]);
			if (all)
				json_array_append(list, candidates[k]);
			json_decref(candidates[k]);
		}
	}
	return nsx_list(list);
}
