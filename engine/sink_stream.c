/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 */
#include "engine/sink_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_debug.h>

#include "engine/block.h"
#include "engine/clock.h"
#include "engine/pcapng.h"
#include "engine/sample.h"
#include "engine/sink.h"
#include "engine/tap.h"

#define BATCH_MAX     64
#define PACKET_MAX    (TAP_SNAPLEN_MAX + 256) /* framed: head, padding, options */
#define SOCKET_BUFFER (4 * 1024 * 1024)
#define DOWN_NS \
	2500000000ULL /* nothing is sent after an error; hosts limit what they say of those */
#define PROBE_NS          100000000ULL /* then one packet, with so long for an answer */
#define ENCAPSULATION_MAX 8

static const struct {
	const char *name;
	uint16_t port;
	uint8_t head[ENCAPSULATION_MAX];
	unsigned head_len;
} encapsulations[] = {
	/* no checksum, key or sequence; Transparent Ethernet Bridging */
	[STREAM_gre] = {"gre", 4754, {0, 0, 0x65, 0x58}, 4},
	/* version 1, a received packet, Ethernet; the end of the tags */
	[STREAM_tzsp] = {"tzsp", 37008, {1, 0, 0, 1, 1}, 5},
};

/* A packet that waits for the rest of its batch. */
struct outgoing {
	struct block *block; /* where it ends */
	uint32_t interface;
	uint32_t cap_len;
};

struct stream {
	int fd;
	enum stream_encapsulation encapsulation;
	uint64_t parsed; /* stream offset behind the last byte that was looked at */
	uint8_t *carry;  /* the beginning of a packet whose end is in the next block */
	uint32_t carry_len;
	uint64_t down_until_ns;  /* the receiver was said not to be there */
	uint64_t probe_until_ns; /* and is asked again: 0 = all is well */
	unsigned n;
	struct outgoing outgoing[BATCH_MAX];
	struct iovec iovs[BATCH_MAX][2];
	struct mmsghdr messages[BATCH_MAX];
};

static struct sample_rate stream_rate; /* shared by all writers; zero: nothing may be sent */

static void block_parse(struct stream *stream, struct block *block);
static void carry_add(struct stream *stream, const uint8_t *data, uint32_t len);
static void packet_add(struct stream *stream, struct block *block, const uint8_t *epb);
static void batch_send(struct stream *stream);
static unsigned batch_allowed(struct stream *stream, uint64_t now_ns);
static bool receiver_refuses(struct stream *stream);
static void packets_lose(struct stream *stream, unsigned from, unsigned to, bool oversize);
static int filter_print(int fd, const struct sockaddr_storage *to, uint16_t source_port,
	char filter[STREAM_FILTER_MAX]);

const char *sink_stream_encapsulation_name(enum stream_encapsulation encapsulation)
{
	return encapsulations[encapsulation].name;
}

uint16_t sink_stream_encapsulation_port(enum stream_encapsulation encapsulation)
{
	return encapsulations[encapsulation].port;
}

void sink_stream_rate_set(uint64_t pps)
{
	sample_rate_init(&stream_rate, pps, clock_tsc_hz(), rte_rdtsc());
}

int sink_stream_open(const struct sockaddr_storage *to, uint16_t source_port,
	char filter[STREAM_FILTER_MAX], struct err *err)
{
	const bool v6 = to->ss_family == AF_INET6;
	const socklen_t len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	const int one = 1, buffer = SOCKET_BUFFER, dont = IP_PMTUDISC_DONT;
	struct sockaddr_storage from = {.ss_family = to->ss_family};
	int fd = socket(to->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	int rc;

	if (fd < 0)
		return err_set(err, EAGAIN, "output", "no socket: %s", strerror(errno));
	if (v6)
		((struct sockaddr_in6 *)&from)->sin6_port = htons(source_port);
	else
		((struct sockaddr_in *)&from)->sin_port = htons(source_port);
	/* Packets that do not fit the way are fragmented, not lost. */
	setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER,
		&dont, sizeof(dont));
	/* What ICMP says is kept until it is asked for: sendmmsg may swallow it. */
	setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &one,
		sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&from, len) < 0) {
		rc = err_set(err, EAGAIN, "stream.source_port", "%u cannot be used: %s",
			source_port, strerror(errno));
		goto fail;
	}
	if (connect(fd, (const struct sockaddr *)to, len) < 0) {
		rc = err_set(
			err, EINVAL, "output.address", "cannot be reached: %s", strerror(errno));
		goto fail;
	}
	rc = filter_print(fd, to, source_port, filter);
	if (rc == 0)
		return fd;
	err_set(err, -rc, "output.address", "has no source address here");
fail:
	close(fd);
	return rc;
}

/* Both addresses of an IPv6 header behind a tag, word by word. */
static void ends6_print(const struct in6_addr *src, const struct in6_addr *dst, char text[320])
{
	size_t len = 0;

	for (unsigned i = 0; i < 8; i++)
		len += snprintf(text + len, 320 - len, " and ether[%u:4] = 0x%08x", 26 + 4 * i,
			ntohl(i < 4 ? src->s6_addr32[i] : dst->s6_addr32[i - 4]));
}

/*
 * Everything but our own: what left from the port that all streams share, whoever captures it, and the
 * later fragments of this stream, which have no ports; with and without a VLAN tag. In ether[] and
 * without pcap's "vlan", which would make all that follows look behind the tag.
 */
static int filter_print(int fd, const struct sockaddr_storage *to, uint16_t source_port,
	char filter[STREAM_FILTER_MAX])
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], ends[320];
	uint32_t src4, dst4;

	if (getsockname(fd, (struct sockaddr *)&from, &len) < 0)
		return -errno;
	if (to->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&from)->sin6_addr, src, sizeof(src));
		inet_ntop(
			AF_INET6, &((const struct sockaddr_in6 *)to)->sin6_addr, dst, sizeof(dst));
		ends6_print(&((struct sockaddr_in6 *)&from)->sin6_addr,
			&((const struct sockaddr_in6 *)to)->sin6_addr, ends);
		snprintf(filter, STREAM_FILTER_MAX,
			"not (udp src port %u or (ip6 src host %s and ip6 dst host %s and ip6[6] = "
			"44) or (ether[12:2] = 0x8100 and ether[16:2] = 0x86dd and ((ether[24] = "
			"17 and ether[58:2] = %u) or (ether[24] = 44%s))))",
			source_port, src, dst, source_port, ends);
		return 0;
	}
	src4 = ntohl(((struct sockaddr_in *)&from)->sin_addr.s_addr);
	dst4 = ntohl(((const struct sockaddr_in *)to)->sin_addr.s_addr);
	snprintf(filter, STREAM_FILTER_MAX,
		"not (udp src port %u or (ip[9] = 17 and ip[12:4] = 0x%08x and ip[16:4] = 0x%08x "
		"and ip[6:2] & 0x1fff != 0) or (ether[12:2] = 0x8100 and ether[16:2] = 0x0800 and "
		"ether[27] = 17 and ((ether[24:2] & 0x1fff = 0 and ether[18 + ((ether[18] & 15) << "
		"2):2] = %u) or (ether[24:2] & 0x1fff != 0 and ether[30:4] = 0x%08x and "
		"ether[34:4] = 0x%08x))))",
		source_port, src4, dst4, source_port, src4, dst4);
	return 0;
}

struct stream *sink_stream_new(int fd, enum stream_encapsulation encapsulation)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		return NULL;
	stream->fd = fd;
	stream->encapsulation = encapsulation;
	stream->carry = malloc(PACKET_MAX);
	if (stream->carry == NULL) {
		free(stream);
		return NULL;
	}
	for (unsigned i = 0; i < BATCH_MAX; i++) {
		stream->iovs[i][0] = (struct iovec){
			.iov_base = (void *)(uintptr_t)encapsulations[encapsulation].head,
			.iov_len = encapsulations[encapsulation].head_len};
		stream->messages[i].msg_hdr =
			(struct msghdr){.msg_iov = stream->iovs[i], .msg_iovlen = 2};
	}
	return stream;
}

void sink_stream_free(struct stream *stream)
{
	if (stream == NULL)
		return;
	free(stream->carry);
	free(stream);
}

void sink_stream_send(struct stream *stream, struct sink_write *write)
{
	for (struct block *block = write->blocks; block != NULL; block = block->next)
		block_parse(stream, block);
	/* The blocks go back after this. */
	batch_send(stream);
}

static uint32_t epb_len(const uint8_t *epb)
{
	uint32_t len;

	memcpy(&len, epb + 4, sizeof(len));
	return len;
}

/* The block's bytes that were not seen before; the page that a partial one ended in comes twice. */
static void block_parse(struct stream *stream, struct block *block)
{
	const uint64_t end = block->partial ? block->whole_end : block->offset + block->len;
	const uint8_t *at, *stop;

	memset(block->unsent, 0, sizeof(block->unsent));
	memset(block->oversize, 0, sizeof(block->oversize));
	block->unsent_bytes = 0;
	if (stream->parsed >= end)
		return;
	at = block->data + (stream->parsed - block->offset);
	stop = block->data + (end - block->offset);
	stream->parsed = end;
	while (stream->carry_len != 0 && at < stop) {
		uint32_t need = stream->carry_len < 8 ? 8 : epb_len(stream->carry);
		uint32_t take = need - stream->carry_len;

		take = take < stop - at ? take : (uint32_t)(stop - at);
		carry_add(stream, at, take);
		at += take;
		if (stream->carry_len < 8 || stream->carry_len < epb_len(stream->carry))
			continue;
		packet_add(stream, block, stream->carry);
		batch_send(stream); /* before the carry is used again */
		stream->carry_len = 0;
	}
	while (stop - at >= 8 && epb_len(at) <= stop - at) {
		packet_add(stream, block, at);
		at += epb_len(at);
	}
	carry_add(stream, at, (uint32_t)(stop - at));
}

static void carry_add(struct stream *stream, const uint8_t *data, uint32_t len)
{
	RTE_VERIFY(stream->carry_len + len <= PACKET_MAX);
	memcpy(stream->carry + stream->carry_len, data, len);
	stream->carry_len += len;
}

static void packet_add(struct stream *stream, struct block *block, const uint8_t *epb)
{
	struct pcapng_epb_head head;

	memcpy(&head, epb, sizeof(head));
	RTE_VERIFY(head.type == PCAPNG_EPB && head.interface_id < CONFIG_PORTS_MAX);
	stream->outgoing[stream->n] = (struct outgoing){
		.block = block, .interface = head.interface_id, .cap_len = head.cap_len};
	stream->iovs[stream->n][1] = (struct iovec){
		.iov_base = (void *)(uintptr_t)(epb + PCAPNG_EPB_HEAD), .iov_len = head.cap_len};
	if (++stream->n == BATCH_MAX)
		batch_send(stream);
}

/* Everything in the batch is sent or counted; nothing is kept for later. */
static void batch_send(struct stream *stream)
{
	const uint64_t now_ns = stream->n != 0 ? clock_monotonic_ns() : 0;
	const unsigned n_allowed = batch_allowed(stream, now_ns);
	unsigned at = 0;

	while (at < n_allowed) {
		int n = sendmmsg(stream->fd, stream->messages + at, n_allowed - at,
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			at += n;
		} else if (errno == EMSGSIZE) {
			packets_lose(stream, at, at + 1, true);
			at++;
		} else if (errno != EINTR) {
			/* A full socket is empty again in a moment; anything else takes longer. */
			if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
				stream->down_until_ns = now_ns + DOWN_NS;
			break;
		}
		/* What cut the call short may be told in no other way. */
		if (at < n_allowed && receiver_refuses(stream)) {
			stream->down_until_ns = now_ns + DOWN_NS;
			break;
		}
	}
	packets_lose(stream, at, stream->n, false);
	stream->n = 0;
}

/*
 * How many of the batch may go. A receiver that was said not to be there gets one packet every few seconds until
 * nobody says so any more: what is sent into the void would be counted as sent.
 */
static unsigned batch_allowed(struct stream *stream, uint64_t now_ns)
{
	unsigned n = stream->n;

	if (n == 0 || now_ns < stream->down_until_ns)
		return 0;
	if (stream->down_until_ns != 0) {
		/* The time is over: one goes, and then there is some time for an answer. */
		stream->down_until_ns = 0;
		stream->probe_until_ns = now_ns + PROBE_NS;
		n = 1;
	} else if (stream->probe_until_ns != 0) {
		if (receiver_refuses(stream))
			stream->down_until_ns = now_ns + DOWN_NS;
		if (stream->down_until_ns != 0 || now_ns < stream->probe_until_ns)
			return 0;
		stream->probe_until_ns = 0;
	}
	return __builtin_popcountll(sample_rate_take(
		&stream_rate, rte_rdtsc(), n == 64 ? UINT64_MAX : (1ULL << n) - 1));
}

/* Has anybody on the way said by ICMP that it does not go through? */
static bool receiver_refuses(struct stream *stream)
{
	bool refuses = false;
	char control[512];
	struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};

	while (recvmsg(stream->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0) {
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL;
			c = CMSG_NXTHDR(&message, c)) {
			struct sock_extended_err error;

			memcpy(&error, CMSG_DATA(c), sizeof(error));
			refuses = refuses || error.ee_origin == SO_EE_ORIGIN_ICMP ||
				  error.ee_origin == SO_EE_ORIGIN_ICMP6;
		}
		message.msg_controllen = sizeof(control);
	}
	return refuses;
}

static void packets_lose(struct stream *stream, unsigned from, unsigned to, bool oversize)
{
	for (unsigned i = from; i < to; i++) {
		const struct outgoing *packet = &stream->outgoing[i];

		if (oversize)
			packet->block->oversize[packet->interface]++;
		else
			packet->block->unsent[packet->interface]++;
		packet->block->unsent_bytes += packet->cap_len;
	}
}
