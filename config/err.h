/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The one way to tell a person what was wrong with what they gave us: a code for machines, the field
 * it is about, a sentence for humans. Anything that judges input fills one. Any thread.
 */
#ifndef CONFIG_ERR_H
#define CONFIG_ERR_H

struct err {
	int code; /* errno value: EINVAL, ENOENT, EBUSY, ENOSPC, EAGAIN, EACCES ...; 0 = no error */
	char field[64]; /* what it is about: "limits.packets", "filter", "engine.rx_cpus"; or "" */
	char text[320]; /* says the value and what is allowed; no newline, no final full stop */
};

/* Fill err (may be NULL) and return -code. field may be NULL. */
int err_set(struct err *err, int code, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Put prefix before the field: "packets" becomes "limits.packets". Returns -err->code. */
int err_prefix(struct err *err, const char *prefix);

#endif
