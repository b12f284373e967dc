/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Ports as NSX's clients look for them: each is a virtual machine with one virtual interface on one
 * segment port. Pure but for looking at ports; control thread.
 */
#ifndef API_NSX_INVENTORY_H
#define API_NSX_INVENTORY_H

#include "config/config.h"
#include "config/json.h"
#include "control/uuid.h"

/* The ports that an asker may see, as engine indexes. */
struct nsx_ports {
	unsigned n;
	uint8_t port[CONFIG_PORTS_MAX];
};

/* The UUID by which a port of this name is known, always the same. */
void nsx_port_id(const char *name, char id[UUID_TEXT_SIZE]);

/*
 * The engine index of the port that point names: its name, a name in [nsx] points, its id, or the path
 * of its segment port. -EINVAL with err (field capvalue).
 */
int nsx_port_find(const char *point, const struct config *config, const struct nsx_ports *ports,
	struct err *err);

/* Lists; what is NULL is not asked for. */
json_t *nsx_virtual_machines(const struct config *config, const struct nsx_ports *ports,
	const char *display_name, const char *external_id);
json_t *nsx_vifs(const struct config *config, const struct nsx_ports *ports,
	const char *owner_vm_id, const char *lport_attachment_id);

/* query: "FIELD:VALUE AND FIELD:VALUE ..". NULL with err (field query) if it is not that. */
json_t *nsx_search(const struct config *config, const struct nsx_ports *ports, const char *query,
	struct err *err);

#endif
