/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * JSON in and out. This is the one file that includes jansson; whoever needs a json_t includes
 * this.
 *
 * What comes from outside is parsed strictly (json_parse) and then read by a table (json_decode): a
 * shape lists an object's members once, with type, range and help, and the same rows decide what is
 * accepted, where it goes and what the error says. Any thread.
 */
#ifndef CONFIG_JSON_H
#define CONFIG_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "config/err.h"

#define JSON_DEPTH_MAX 32
#define JSON_TEXTS_MAX 64

enum json_kind {
	JSON_KIND_TEXT,    /* const char *, borrowed from the document; min..max are bytes */
	JSON_KIND_LINES,   /* the same; line feeds and tabs are allowed in it */
	JSON_KIND_BOOL,    /* bool */
	JSON_KIND_INTEGER, /* uint64_t */
	JSON_KIND_NUMBER,  /* double */
	JSON_KIND_WORD,    /* unsigned: the position in words */
	JSON_KIND_TEXTS,   /* struct json_texts; min..max are how many */
	JSON_KIND_OBJECT,  /* the struct that shape describes, embedded */
};

struct json_texts {
	unsigned n;
	const char *item[JSON_TEXTS_MAX];
};

/* One member of an object: what it may be, and where its value goes. */
struct json_field {
	const char *name;
	enum json_kind kind;
	size_t offset; /* in the struct that json_decode fills */
	int64_t min;   /* never negative for JSON_KIND_INTEGER */
	int64_t max;
	bool required;
	const char *const *words; /* JSON_KIND_WORD: ends with NULL */
	const struct json_shape *shape;
	const char *help; /* what the member means, for errors and documents */
};

struct json_shape {
	const struct json_field *fields;
	unsigned n_fields;
	bool unknown_ignored; /* else an unknown member is an error */
	bool null_is_absent;  /* else null is a wrong type */
	bool real_is_integer; /* 300.0 will do for 300; else it is a wrong type */
};

#define JSON_SHAPE_FIELDS(table) .fields = (table), .n_fields = sizeof(table) / sizeof((table)[0])

/*
 * Parse len bytes of text: one document, no duplicate members, valid UTF-8, at most JSON_DEPTH_MAX
 * deep, nothing behind it. NULL with err (EINVAL, no field) if it is not that. Free with
 * json_decref.
 */
json_t *json_parse(const char *text, size_t len, struct err *err);

/*
 * Read object into the struct at out by shape. Members that are absent leave out as it is, so out
 * holds the defaults before. 0, or -EINVAL with err: field is the path ("limits.packets",
 * "ports.2"), text says the value and what is allowed. Borrowed texts live as long as object.
 */
int json_decode(const json_t *object, const struct json_shape *shape, void *out, struct err *err);

/*
 * Main, before there are threads: watch the memory of documents, so that a text is whole or NULL. get:
 * where it comes from; NULL: malloc.
 */
void json_memory(void *(*get)(size_t size));

/* Compact text; the caller frees it. NULL without memory, also when a part of json found none while this
 * thread made it. json may be NULL for want of memory: who prints it all the same is told NULL, and what is
 * made next is not taken for incomplete. */
char *json_print(const json_t *json);
/* The same with escapes for everything beyond ASCII. */
char *json_print_ascii(const json_t *json);

/* A JSON string of text that may be cut in the middle of a character: what is not UTF-8 becomes
 * '?'. */
json_t *json_text(const char *text);

/* The number as integer where it is whole, as the documents show it ("300", "0.5"). */
json_t *json_number(double number);

#endif
