/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * NSX's filter options (name and value, all of which must hold) as a pcap expression. Nothing of a
 * value goes into the expression as it came: it is parsed, and written anew. Pure; any thread.
 */
#ifndef API_NSX_FILTER_H
#define API_NSX_FILTER_H

#include <stddef.h>

#include "config/err.h"
#include "config/json.h"

#define NSX_OPTIONS_MAX 32

/*
 * The expression for options ({"values":[{"name","value"},..]}, or NULL), "" for none. VNI means that
 * all others speak of the inner packet, under Geneve or VXLAN. 0, or -EINVAL with err: its field is
 * "options.values.0 (VLAN)" or a part of that.
 */
int nsx_filter(const json_t *options, char *text, size_t size, struct err *err);

#endif
