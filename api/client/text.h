/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Numbers, times and tables as people read them, and members of JSON objects without ceremony.
 */
#ifndef API_CLIENT_TEXT_H
#define API_CLIENT_TEXT_H

#include <stdint.h>

#include "config/json.h"

#define TEXT_SIZE 64 /* room for any of the texts below */

/* "12.3 M" + unit ("12.3 MB" for unit "B"): three digits. Returns out. */
const char *text_si(char out[TEXT_SIZE], double number, const char *unit);
/* "1,234,567" */
const char *text_digits(char out[TEXT_SIZE], int64_t number);
/* "2026-11-20 23:47:08" local, "-" if json is no RFC 3339 time */
const char *text_time(char out[TEXT_SIZE], const json_t *json);
/* "1:02:03" */
const char *text_duration(char out[TEXT_SIZE], double seconds);

/* Members: 0 or "" where there is none. A list of texts comes joined with ", ". */
uint64_t text_number(const json_t *object, const char *name);
const char *text_string(const json_t *object, const char *name);
const char *text_joined(char *out, size_t size, const json_t *array);

/* sum over the ledger's "dropped". */
uint64_t text_dropped(const json_t *ledger);
/* "no_block 12, io_error 3": those that are not 0. */
const char *text_drop_reasons(char *out, size_t size, const json_t *ledger);

/*
 * A table that aligns: columns are as wide as their widest cell; a column whose title begins with
 * '>' is flush right. table_print prints and frees it.
 */
#define TABLE_COLUMNS_MAX 12
struct table {
	unsigned n_columns;
	unsigned n_cells;
	unsigned size;
	char **cells; /* the titles first */
};
void table_begin(struct table *table, unsigned n_columns, const char *const *titles);
void table_cell(struct table *table, const char *text);
void table_print(struct table *table);
void table_free(struct table *table);

#endif
