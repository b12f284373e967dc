/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "control/table.h"

#include <string.h>

#define BUCKETS 16384 /* a power of two; ids are random, so their first bytes are a hash */

static struct {
	struct session *buckets[BUCKETS];
	struct session *newest, *oldest;
	struct session *active;
	uint64_t serial_last;
	unsigned n;
} table;

static struct session **bucket_of(const struct uuid *id);

void table_add(struct session *session)
{
	struct session **bucket = bucket_of(&session->id);
	struct session *older = table.newest;

	if (session->serial == 0)
		session->serial = table.serial_last + 1;
	if (session->serial > table.serial_last)
		table.serial_last = session->serial;
	session->hash_next = *bucket;
	*bucket = session;
	/* Only at start do they come in another order than that of their serials. */
	while (older != NULL && older->serial > session->serial)
		older = older->older;
	session->older = older;
	session->newer = older != NULL ? older->newer : table.oldest;
	*(session->newer != NULL ? &session->newer->older : &table.newest) = session;
	*(older != NULL ? &older->newer : &table.oldest) = session;
	session->active_next = table.active;
	session->active_at = &table.active;
	if (table.active != NULL)
		table.active->active_at = &session->active_next;
	table.active = session;
	table.n++;
}

void table_remove(struct session *session)
{
	struct session **at = bucket_of(&session->id);

	table_rest(session);
	while (*at != session)
		at = &(*at)->hash_next;
	*at = session->hash_next;
	*(session->newer != NULL ? &session->newer->older : &table.newest) = session->older;
	*(session->older != NULL ? &session->older->newer : &table.oldest) = session->newer;
	table.n--;
}

struct session *table_active(void)
{
	return table.active;
}

void table_rest(struct session *session)
{
	if (session->active_at == NULL)
		return;
	*session->active_at = session->active_next;
	if (session->active_next != NULL)
		session->active_next->active_at = session->active_at;
	session->active_next = NULL;
	session->active_at = NULL;
}

struct session *table_find(const struct uuid *id)
{
	struct session *session = *bucket_of(id);

	while (session != NULL && memcmp(&session->id, id, sizeof(*id)) != 0)
		session = session->hash_next;
	return session;
}

struct session *table_newest(void)
{
	return table.newest;
}

struct session *table_oldest(void)
{
	return table.oldest;
}

unsigned table_count(void)
{
	return table.n;
}

static struct session **bucket_of(const struct uuid *id)
{
	uint32_t hash;

	memcpy(&hash, id->byte, sizeof(hash));
	return &table.buckets[hash & (BUCKETS - 1)];
}
