/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * What a session may ask for: bounds and rules between members. Pure but for the engine's ports.
 * Control thread. Errors name members as the native API calls them.
 */
#ifndef CONTROL_SPEC_H
#define CONTROL_SPEC_H

#include "config/config.h"
#include "config/err.h"
#include "control/session.h"

/* 0, or -errno with err. The filter is not compiled here. */
int spec_check(const struct session_spec *spec, const struct config *config, struct err *err);

/* The limits of spec alone, for its ports and filter. */
int spec_limits_check(
	const struct session_spec *spec, const struct config *config, struct err *err);

/*
 * The file's header: section and one interface block per port, in spec order. malloc'ed; *len its
 * length. NULL without memory.
 */
void *spec_header(const struct session_spec *spec, size_t *len);

#endif
