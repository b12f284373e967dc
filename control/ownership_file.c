/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/ownership_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "control/file.h"

#define VERSION  1
#define HEAD_FMT "sluice-ownership %u %08x\n"
#define HEAD_MAX 64

static json_t *entry_print(const struct ownership *owned);
static int entry_parse(const json_t *json, struct ownership *owned);
static bool text_take(const json_t *json, const char *key, char *to, size_t size);

char *ownership_file_print(const struct ownership *first)
{
	json_t *list = json_array();
	char *body, *text = NULL;

	for (const struct ownership *owned = first; owned != NULL; owned = owned->next)
		json_array_append_new(list, entry_print(owned));
	body = json_print(list);
	json_decref(list);
	if (body != NULL && asprintf(&text, HEAD_FMT "%s\n", VERSION,
				    file_crc32c(0, body, strlen(body)), body) < 0)
		text = NULL;
	free(body);
	return text;
}

/* What stands behind the head, without the final newline; NULL with err. */
static const char *body_find(const char *text, size_t len, size_t *body_len, struct err *err)
{
	const char *end = memchr(text, '\n', len < HEAD_MAX ? len : HEAD_MAX);
	unsigned version, crc;
	char head[HEAD_MAX + 2];

	if (end == NULL || text[len - 1] != '\n' || end == text + len - 1)
		goto damaged;
	snprintf(head, sizeof(head), "%.*s\n", (int)(end - text), text);
	if (sscanf(head, HEAD_FMT, &version, &crc) != 2)
		goto damaged;
	if (version != VERSION) {
		err_set(err, EINVAL, NULL, "its version is %u, only %u is known", version, VERSION);
		return NULL;
	}
	*body_len = len - (end + 1 - text) - 1;
	if (file_crc32c(0, end + 1, *body_len) == crc)
		return end + 1;
damaged:
	err_set(err, EINVAL, NULL, "it is damaged");
	return NULL;
}

int ownership_file_parse(const char *text, size_t len, struct ownership **first, struct err *err)
{
	const char *body = len > 0 ? body_find(text, len, &len, err) : NULL;
	json_t *list = body != NULL ? json_parse(body, len, err) : NULL;
	struct ownership **last = first;
	const json_t *json;
	size_t i;
	int rc = 0;

	*first = NULL;
	if (!json_is_array(list))
		rc = -EINVAL;
	if (text[0] == '\0' || (rc != 0 && list != NULL))
		rc = err_set(err, EINVAL, NULL, "it is damaged");
	json_array_foreach (list, i, json) {
		*last = calloc(1, sizeof(**last));
		if (*last == NULL)
			rc = err_set(err, ENOMEM, NULL, "no memory");
		else if (entry_parse(json, *last) < 0)
			rc = err_set(err, EINVAL, NULL, "its entry %zu is not understood", i + 1);
		if (rc < 0)
			break;
		last = &(*last)->next;
	}
	json_decref(list);
	if (rc < 0) {
		ownership_list_free(*first);
		*first = NULL;
	}
	return rc;
}

void ownership_list_free(struct ownership *first)
{
	while (first != NULL) {
		struct ownership *next = first->next;

		free(first);
		first = next;
	}
}

static json_t *entry_print(const struct ownership *owned)
{
	json_t *json = json_object();
	char id[UUID_TEXT_SIZE];

	uuid_print_hex(&owned->id, id);
	json_object_set_new(json, "id", json_string(id));
	json_object_set_new(json, "account", json_text(owned->account));
	json_object_set_new(json, "bucket", json_text(owned->bucket));
	json_object_set_new(json, "prefix", json_text(owned->prefix));
	json_object_set_new(json, "destination", json_text(owned->destination));
	json_object_set_new(json, "challenge", json_text(owned->challenge));
	json_object_set_new(json, "status", json_string(ownership_status_name(owned->status)));
	json_object_set_new(json, "submitted_ns", json_integer((json_int_t)owned->submitted_ns));
	json_object_set_new(json, "validated_ns", json_integer((json_int_t)owned->validated_ns));
	return json;
}

static int entry_parse(const json_t *json, struct ownership *owned)
{
	const char *id = json_string_value(json_object_get(json, "id"));
	const char *status = json_string_value(json_object_get(json, "status"));

	if (id == NULL || !uuid_parse(id, strlen(id), &owned->id) || status == NULL)
		return -EINVAL;
	if (!text_take(json, "account", owned->account, sizeof(owned->account)) ||
		!text_take(json, "bucket", owned->bucket, sizeof(owned->bucket)) ||
		!text_take(json, "prefix", owned->prefix, sizeof(owned->prefix)) ||
		!text_take(json, "destination", owned->destination, sizeof(owned->destination)) ||
		!text_take(json, "challenge", owned->challenge, sizeof(owned->challenge)) ||
		strlen(owned->challenge) != OWNERSHIP_CHALLENGE_LEN)
		return -EINVAL;
	owned->submitted_ns = json_integer_value(json_object_get(json, "submitted_ns"));
	owned->validated_ns = json_integer_value(json_object_get(json, "validated_ns"));
	for (unsigned i = 0; i < OWNERSHIP_STATUS_COUNT; i++) {
		owned->status = i;
		if (strcmp(status, ownership_status_name(i)) == 0)
			return 0;
	}
	return -EINVAL;
}

static bool text_take(const json_t *json, const char *key, char *to, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL && (size_t)snprintf(to, size, "%s", text) < size;
}
