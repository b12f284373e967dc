/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Any bytes as an S3 server's answer, through libcurl as it is. There is no server: what s3.c connects is
 * one end of a pair, and the answer lies in it already.
 */
#include "answers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int peer = -1; /* the other end of the last connection */

/* In the place of libc's for s3.c, and for libcurl, which connects what it was given. */
int socket(int domain, int type, int protocol)
{
	int pair[2];

	fuzz_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	close(peer);
	peer = pair[1];
	fuzz_check(answer_size == 0 ||
		   send(peer, answer, answer_size, MSG_NOSIGNAL) == (ssize_t)answer_size);
	shutdown(peer, SHUT_WR);
	return pair[0];
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
	const struct sockaddr_in *in = (const void *)address;

	fuzz_check(in->sin_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	return 0;
}
