/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * A feed is one capture and its last packets; a message's text is made when the first subscriber gets
 * to it. A subscription is one channel of one connection; a cursor its place in one feed.
 */
#include "api/mist_stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "config/log.h"
#include "control/watch.h"
#include "engine/clock.h"
#include "api/mist.h"
#include "api/mist_message.h"
#include "api/websocket.h"

#define FEEDS_KEPT_MAX 4 /* that have ended and that nobody has seen yet */
#define CHANNEL_MAX    128

struct entry {
	struct mist_packet packet; /* data is ours */
	uint64_t arrived_ns;       /* monotonic */
	uint64_t skipped;          /* packets not shown up to here, since the capture began */
	char *text;                /* the message's second half; NULL: not made yet */
	size_t text_len;
};

struct feed {
	struct feed *next;
	struct uuid id;
	const struct config_account *account;
	bool organisation;
	struct mist_source source;
	struct watcher *watcher; /* NULL: it has ended */
	uint64_t ended_ns;
	uint64_t skipped;
	uint64_t first_seq, next_seq; /* entries that are there */
	size_t bytes;
	unsigned n_cursors;
	bool seen; /* somebody had a cursor */
	struct entry ring[MIST_REPLAY_MESSAGES];
};

struct cursor {
	struct cursor *next;
	struct feed *feed;
	uint64_t seq;     /* the next entry for this subscriber */
	uint64_t skipped; /* as told so far */
};

struct subscription {
	struct subscription *next;
	char channel[CHANNEL_MAX]; /* as the client wrote it */
	const struct config_account *account;
	bool organisation;
	struct cursor *cursors; /* the oldest capture first */
};

/* An answer that found no room yet. */
struct answer {
	struct answer *next;
	char *text;
};

struct subscriber {
	struct subscriber *next;
	struct websocket *websocket;
	struct principal who;
	struct subscription *subscriptions;
	unsigned n_subscriptions;
	struct answer *answers, **answers_end;
	unsigned n_answers;
};

static const struct config *stream_config;
static struct feed *feeds;
static struct subscriber *subscribers;

static void stream_message(void *arg, bool text, const char *data, size_t len);
static void stream_writable(void *arg);
static void stream_closed(void *arg);
static void feed_batch(void *arg, const struct watch_batch *batch);
static void feed_ended(void *arg, const struct session *session);
static void feed_free(struct feed *feed);
static void feeds_sweep(void);
static void cursor_add(struct subscription *subscription, struct feed *feed, bool live);
static void subscriber_pump(struct subscriber *subscriber);

void mist_stream_start(const struct config *config)
{
	stream_config = config;
}

void mist_stream_stop(void)
{
	stream_config = NULL; /* what begins from now on has nobody to tell */
	while (feeds != NULL) {
		struct feed *feed = feeds;

		feeds = feed->next;
		watch_remove(feed->watcher);
		feed_free(feed);
	}
}

void mist_stream_open(struct request *request)
{
	static const struct websocket_ops ops = {
		.message = stream_message, .writable = stream_writable, .closed = stream_closed};
	struct subscriber *subscriber = calloc(1, sizeof(*subscriber));

	if (subscriber == NULL) {
		route_error(request, 503, &(struct err){.text = "no memory"});
		return;
	}
	subscriber->who = request->who;
	subscriber->answers_end = &subscriber->answers;
	subscriber->websocket = websocket_accept(request, NULL, &ops, subscriber);
	if (subscriber->websocket == NULL) {
		free(subscriber);
		return;
	}
	subscriber->next = subscribers;
	subscribers = subscriber;
}

void mist_stream_feed(struct session *session)
{
	static const struct watch_ops ops = {.batch = feed_batch, .ended = feed_ended};
	struct feed *feed = calloc(1, sizeof(*feed)), **end = &feeds;
	struct session_info info;
	struct err err = {0};

	if (feed == NULL || stream_config == NULL) {
		free(feed);
		return;
	}
	feeds_sweep();
	session_info(session, &info);
	feed->id = info.id;
	feed->account = config_account_find(stream_config, info.account);
	mist_source_read(&info, stream_config, &feed->source);
	feed->organisation = feed->source.organisation;
	if (feed->account != NULL)
		feed->watcher = watch_add(session, &ops, feed, &err);
	if (feed->watcher == NULL) {
		log_warning("capture not streamed account=%s error=%s", info.account, err.text);
		feed_free(feed);
		return;
	}
	while (*end != NULL)
		end = &(*end)->next;
	*end = feed;
	for (struct subscriber *one = subscribers; one != NULL; one = one->next)
		for (struct subscription *s = one->subscriptions; s != NULL; s = s->next)
			if (s->account == feed->account && s->organisation == feed->organisation)
				cursor_add(s, feed, true);
}

static void entry_clear(struct feed *feed, struct entry *entry)
{
	feed->bytes -= entry->packet.cap_len + entry->text_len;
	free((void *)entry->packet.data);
	free(entry->text);
	*entry = (struct entry){0};
}

static struct entry *entry_at(struct feed *feed, uint64_t seq)
{
	return &feed->ring[seq % MIST_REPLAY_MESSAGES];
}

static void feed_free(struct feed *feed)
{
	while (feed->first_seq < feed->next_seq)
		entry_clear(feed, entry_at(feed, feed->first_seq++));
	free(feed);
}

static void feed_unlink(struct feed *feed)
{
	struct feed **at = &feeds;

	while (*at != feed)
		at = &(*at)->next;
	*at = feed->next;
	feed_free(feed);
}

/* Captures that have ended stay for those who read slowly; and, if nobody has seen them, a while for
 * a client that starts first and subscribes afterwards. */
static void feeds_sweep(void)
{
	const uint64_t now_ns = clock_monotonic_ns();
	unsigned n_kept = 0;
	struct feed *next;

	for (struct feed *feed = feeds; feed != NULL; feed = feed->next)
		n_kept += feed->watcher == NULL && feed->n_cursors == 0;
	for (struct feed *feed = feeds; feed != NULL; feed = next) {
		next = feed->next;
		if (feed->watcher != NULL || feed->n_cursors > 0)
			continue;
		if (feed->seen || n_kept > FEEDS_KEPT_MAX ||
			now_ns - feed->ended_ns > MIST_REPLAY_S * CLOCK_NS_PER_S) {
			feed_unlink(feed);
			n_kept--;
		}
	}
}

static void feed_add(struct feed *feed, const struct watch_packet *packet, uint64_t now_ns)
{
	uint8_t *data = malloc(packet->cap_len + 1);
	struct entry *entry;

	feed->skipped += packet->skipped;
	if (data == NULL) {
		feed->skipped++;
		return;
	}
	while (feed->next_seq - feed->first_seq == MIST_REPLAY_MESSAGES ||
		(feed->first_seq < feed->next_seq && feed->bytes > MIST_REPLAY_BYTES))
		entry_clear(feed, entry_at(feed, feed->first_seq++));
	memcpy(data, packet->data, packet->cap_len);
	entry = entry_at(feed, feed->next_seq++);
	*entry = (struct entry){
		.packet =
			{
				.time_ns = packet->time_ns,
				.interface = packet->interface,
				.flags = mist_block_flags(packet->block, packet->block_len),
				.cap_len = packet->cap_len,
				.orig_len = packet->orig_len,
				.data = data,
			},
		.arrived_ns = now_ns,
		.skipped = feed->skipped,
	};
	feed->bytes += packet->cap_len;
}

static void subscribers_pump(const struct feed *feed)
{
	struct subscriber *next;

	for (struct subscriber *one = subscribers; one != NULL && feed->n_cursors > 0; one = next) {
		next = one->next;
		subscriber_pump(one);
	}
}

static void feed_batch(void *arg, const struct watch_batch *batch)
{
	const uint64_t now_ns = clock_monotonic_ns();
	struct feed *feed = arg;
	uint64_t told = 0;

	for (unsigned i = 0; i < batch->n; i++) {
		feed_add(feed, &batch->packets[i], now_ns);
		told += batch->packets[i].skipped;
	}
	feed->skipped += batch->skipped - told; /* behind the last one */
	subscribers_pump(feed);
}

static void feed_ended(void *arg, const struct session *session)
{
	struct feed *feed = arg;

	feed->watcher = NULL;
	feed->ended_ns = clock_monotonic_ns();
	subscribers_pump(feed);
	feeds_sweep();
}

/* The first entry of the last MIST_REPLAY_S seconds. */
static uint64_t replay_begin(struct feed *feed)
{
	const uint64_t now_ns = clock_monotonic_ns();
	uint64_t seq = feed->first_seq;

	while (seq < feed->next_seq &&
		now_ns - entry_at(feed, seq)->arrived_ns > MIST_REPLAY_S * CLOCK_NS_PER_S)
		seq++;
	return seq;
}

/* live: from its first packet on; else from what is kept on. */
static void cursor_add(struct subscription *subscription, struct feed *feed, bool live)
{
	struct cursor *cursor = calloc(1, sizeof(*cursor)), **end = &subscription->cursors;

	if (cursor == NULL)
		return;
	cursor->feed = feed;
	if (!live) {
		cursor->seq = replay_begin(feed);
		/* What was skipped before it subscribed is not its loss. */
		cursor->skipped = cursor->seq < feed->next_seq
					  ? entry_at(feed, cursor->seq)->skipped
					  : feed->skipped;
	}
	while (*end != NULL)
		end = &(*end)->next;
	*end = cursor;
	feed->n_cursors++;
	feed->seen = true;
}

static void cursor_free(struct cursor *cursor)
{
	cursor->feed->n_cursors--;
	free(cursor);
}

static void subscription_free(struct subscription *subscription)
{
	while (subscription->cursors != NULL) {
		struct cursor *cursor = subscription->cursors;

		subscription->cursors = cursor->next;
		cursor_free(cursor);
	}
	free(subscription);
}

static bool message_send(struct websocket *websocket, const struct subscription *subscription,
	const struct feed *feed, uint64_t lost, const char *text, size_t text_len)
{
	char head[CHANNEL_MAX + 160], id[UUID_TEXT_SIZE];
	size_t head_len;
	char *whole;
	bool sent;

	uuid_print(&feed->id, id);
	head_len = snprintf(head, sizeof(head),
		"{\"event\":\"data\",\"channel\":\"%s\",\"data\":{\"capture_id\":\"%s\","
		"\"lost_messages\":%" PRIu64,
		subscription->channel, id, lost);
	if (head_len + text_len > websocket_room(websocket) &&
		websocket_room(websocket) != WEBSOCKET_BUFFER_MAX)
		return false;
	whole = malloc(head_len + text_len);
	if (whole == NULL)
		return false;
	memcpy(whole, head, head_len);
	memcpy(whole + head_len, text, text_len);
	sent = websocket_send_text(websocket, whole, head_len + text_len);
	free(whole);
	return sent;
}

/* Send what a cursor has before it. True: the feed has ended, and this was told. */
static bool cursor_pump(
	struct websocket *websocket, const struct subscription *subscription, struct cursor *cursor)
{
	static const char end[] = ",\"pcap_dict\":null}}";
	struct feed *feed = cursor->feed;

	while (cursor->seq < feed->next_seq) {
		uint64_t seq = cursor->seq > feed->first_seq ? cursor->seq : feed->first_seq;
		struct entry *entry = entry_at(feed, seq);

		if (websocket_room(websocket) == 0)
			return false;
		if (entry->text == NULL) {
			entry->text = mist_message(&feed->source, &entry->packet);
			if (entry->text == NULL)
				return false;
			entry->text_len = strlen(entry->text);
			feed->bytes += entry->text_len;
		}
		if (!message_send(websocket, subscription, feed,
			    seq - cursor->seq + entry->skipped - cursor->skipped, entry->text,
			    entry->text_len))
			return false;
		cursor->seq = seq + 1;
		cursor->skipped = entry->skipped;
	}
	return feed->watcher == NULL &&
	       message_send(websocket, subscription, feed, feed->skipped - cursor->skipped, end,
		       sizeof(end) - 1);
}

static void subscriber_pump(struct subscriber *subscriber)
{
	while (subscriber->answers != NULL) {
		struct answer *answer = subscriber->answers;

		if (!websocket_send_text(subscriber->websocket, answer->text, strlen(answer->text)))
			return;
		subscriber->answers = answer->next;
		if (subscriber->answers == NULL)
			subscriber->answers_end = &subscriber->answers;
		subscriber->n_answers--;
		free(answer->text);
		free(answer);
	}
	for (struct subscription *s = subscriber->subscriptions; s != NULL; s = s->next) {
		while (s->cursors != NULL) {
			struct cursor *cursor = s->cursors;

			if (!cursor_pump(subscriber->websocket, s, cursor))
				break;
			s->cursors = cursor->next;
			cursor_free(cursor);
		}
	}
}

/* Queue an answer; its order to data does not matter, that it comes does. */
static void answer_add(
	struct subscriber *subscriber, const char *event, const char *channel, const char *detail)
{
	struct answer *answer = calloc(1, sizeof(*answer));
	json_t *json = json_object();

	json_object_set_new(json, "event", json_string(event));
	json_object_set_new(json, "channel", json_text(channel));
	if (detail != NULL)
		json_object_set_new(json, "detail", json_string(detail));
	if (answer != NULL)
		answer->text = json_print(json);
	json_decref(json);
	if (answer == NULL || answer->text == NULL) {
		free(answer);
		return;
	}
	*subscriber->answers_end = answer;
	subscriber->answers_end = &answer->next;
	/* Whoever asks on and on and reads nothing is no client. */
	if (++subscriber->n_answers > 2 * MIST_CHANNELS_MAX)
		websocket_close(subscriber->websocket, WEBSOCKET_POLICY, "answers are not read");
}

/* "/sites/{id}/pcaps" or "/orgs/{id}/pcaps". */
static const struct config_account *channel_find(
	const struct subscriber *subscriber, const char *channel, bool *organisation)
{
	char scope[8], id[64], rest[8];
	int end = 0;

	if (sscanf(channel, "/%7[a-z]/%63[0-9a-fA-F-]/%7[a-z]%n", scope, id, rest, &end) != 3 ||
		channel[end] != '\0' || strcmp(rest, "pcaps") != 0)
		return NULL;
	*organisation = strcmp(scope, "orgs") == 0;
	if (!*organisation && strcmp(scope, "sites") != 0)
		return NULL;
	return mist_account(&subscriber->who, id, *organisation);
}

static struct subscription **subscription_find(struct subscriber *subscriber, const char *channel)
{
	struct subscription **at = &subscriber->subscriptions;

	while (*at != NULL && strcmp((*at)->channel, channel) != 0)
		at = &(*at)->next;
	return at;
}

static void subscription_add(struct subscriber *subscriber, const char *channel,
	const struct config_account *account, bool organisation)
{
	struct subscription *subscription = calloc(1, sizeof(*subscription));

	if (subscription == NULL)
		return;
	snprintf(subscription->channel, sizeof(subscription->channel), "%s", channel);
	subscription->account = account;
	subscription->organisation = organisation;
	*subscription_find(subscriber, channel) = subscription;
	subscriber->n_subscriptions++;
	feeds_sweep();
	for (struct feed *feed = feeds; feed != NULL; feed = feed->next)
		if (feed->account == account && feed->organisation == organisation &&
			(feed->watcher != NULL || !feed->seen))
			cursor_add(subscription, feed, false);
}

static void subscribe(struct subscriber *subscriber, const char *channel)
{
	const struct config_account *account = NULL;
	bool organisation = false;

	if (strlen(channel) < CHANNEL_MAX)
		account = channel_find(subscriber, channel, &organisation);
	if (account == NULL) {
		answer_add(subscriber, "subscribe_failed", channel,
			"there is no such channel; /sites/{site_id}/pcaps and "
			"/orgs/{org_id}/pcaps are");
		return;
	}
	if (*subscription_find(subscriber, channel) == NULL) {
		if (subscriber->n_subscriptions == MIST_CHANNELS_MAX) {
			answer_add(subscriber, "subscribe_failed", channel,
				"a connection may have 2000 channels");
			return;
		}
		subscription_add(subscriber, channel, account, organisation);
	}
	answer_add(subscriber, "channel_subscribed", channel, NULL);
}

static void unsubscribe(struct subscriber *subscriber, const char *channel)
{
	struct subscription **at = subscription_find(subscriber, channel), *gone = *at;

	if (gone != NULL) {
		*at = gone->next;
		subscriber->n_subscriptions--;
		subscription_free(gone);
	}
	answer_add(subscriber, "channel_unsubscribed", channel, NULL);
}

static void stream_message(void *arg, bool text, const char *data, size_t len)
{
	struct subscriber *subscriber = arg;
	struct err err;
	json_t *json = json_parse(data, len, &err);
	const char *channel = json_string_value(json_object_get(json, "subscribe"));
	const char *left = json_string_value(json_object_get(json, "unsubscribe"));

	if (channel != NULL)
		subscribe(subscriber, channel);
	else if (left != NULL)
		unsubscribe(subscriber, left);
	else
		answer_add(subscriber, "subscribe_failed", "",
			"a message must be {\"subscribe\": \"/sites/{site_id}/pcaps\"}");
	json_decref(json);
	subscriber_pump(subscriber);
}

static void stream_writable(void *arg)
{
	subscriber_pump(arg);
	feeds_sweep();
}

static void stream_closed(void *arg)
{
	struct subscriber *subscriber = arg, **at = &subscribers;

	while (*at != NULL && *at != subscriber)
		at = &(*at)->next;
	if (*at == subscriber)
		*at = subscriber->next;
	while (subscriber->subscriptions != NULL) {
		struct subscription *gone = subscriber->subscriptions;

		subscriber->subscriptions = gone->next;
		subscription_free(gone);
	}
	while (subscriber->answers != NULL) {
		struct answer *gone = subscriber->answers;

		subscriber->answers = gone->next;
		free(gone->text);
		free(gone);
	}
	free(subscriber);
	feeds_sweep();
}
