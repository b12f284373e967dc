/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * One SSL_CTX is made from the files and then constant; connections hold a reference to the one that
 * they began with, so a new one takes its place without touching them.
 */
#include "api/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "config/log.h"
#include "control/job.h"

#define FILE_SIZE_MAX (1 << 20)
#define SOON_S        (14 * 24 * 3600) /* an end of validity that is worth a warning */
#define CIPHERS       "ECDHE+AESGCM:ECDHE+CHACHA20"
#define GROUPS        "X25519:P-256:P-384"

/* A reload on its way: files are read by a worker. */
struct reload {
	struct job job;
	const struct config *config;
	SSL_CTX *made;
	int64_t expires_s;
	struct err err;
};

static struct {
	const struct config *config; /* NULL: no TLS */
	SSL_CTX *ctx;
	struct tls_status status;
	bool reloading, again;
	struct reload reload;
} tls;

static SSL_CTX *context_make(const struct config *config, int64_t *expires_s, struct err *err);
static void context_use(SSL_CTX *made, int64_t expires_s);
static void reload_run(struct job *job);
static void reload_done(struct job *job);

int tls_start(const struct config *config, struct err *err)
{
	int64_t expires_s;
	SSL_CTX *made;

	tls.status = (struct tls_status){0};
	if (config->api.tls_certificate[0] == '\0')
		return 0;
	made = context_make(config, &expires_s, err);
	if (made == NULL)
		return -err->code;
	tls.config = config;
	context_use(made, expires_s);
	return 0;
}

void tls_stop(void)
{
	SSL_CTX_free(tls.ctx);
	tls.ctx = NULL;
	tls.config = NULL;
}

bool tls_enabled(void)
{
	return tls.ctx != NULL;
}

void tls_reload(void)
{
	if (tls.config == NULL) {
		log_info("nothing to read again: there is no TLS certificate");
		return;
	}
	tls.again = tls.reloading;
	if (tls.reloading)
		return;
	tls.reloading = true;
	tls.reload = (struct reload){
		.job = {.run = reload_run, .done = reload_done}, .config = tls.config};
	job_post(WORKER_READ, &tls.reload.job);
}

struct bufferevent *tls_accept(struct event_base *base, int fd)
{
	SSL *ssl = SSL_new(tls.ctx);
	struct bufferevent *bev;

	if (ssl == NULL)
		return NULL;
	bev = bufferevent_openssl_socket_new(
		base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		SSL_free(ssl);
	return bev;
}

void tls_goodbye(struct bufferevent *bev)
{
	SSL *ssl = bufferevent_openssl_get_ssl(bev);

	if (ssl != NULL && SSL_is_init_finished(ssl))
		SSL_shutdown(ssl); /* once: the answer is not waited for */
	ERR_clear_error();
}

void tls_status(struct tls_status *status)
{
	*status = tls.status;
}

static void context_use(SSL_CTX *made, int64_t expires_s)
{
	char text[40];
	time_t expires = expires_s;
	struct tm tm;

	SSL_CTX_free(tls.ctx);
	tls.ctx = made;
	tls.status.expires_s = expires_s;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&expires, &tm));
	if (expires < time(NULL) + SOON_S)
		log_warning("tls certificate ends soon, or has ended expires=%s", text);
	else
		log_info("tls certificate expires=%s", text);
}

static void reload_run(struct job *job)
{
	struct reload *reload = (struct reload *)job;

	reload->made = context_make(reload->config, &reload->expires_s, &reload->err);
}

static void reload_done(struct job *job)
{
	struct reload *reload = (struct reload *)job;

	tls.reloading = false;
	if (tls.config == NULL) { /* stopped meanwhile */
		SSL_CTX_free(reload->made);
		return;
	}
	if (reload->made != NULL) {
		tls.status.reloads++;
		context_use(reload->made, reload->expires_s);
	} else {
		tls.status.reloads_failed++;
		log_error("tls certificate kept as it was, the new one is no good: %s: %s",
			reload->err.field, reload->err.text);
	}
	if (tls.again)
		tls_reload();
}

/* What libssl last complained about, without its file names and numbers. */
static int library_fail(struct err *err, const char *option, const char *path, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	err_set(err, EINVAL, option, "%s %s%s%s", path, what, reason != NULL ? ": " : "",
		reason != NULL ? reason : "");
	ERR_clear_error();
	return -EINVAL;
}

/* A whole file in memory; secret: nobody but its owner and group may read it. */
static BIO *file_read(const char *option, const char *path, bool secret, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	BIO *bio = NULL;
	char part[4096];
	struct stat st;
	ssize_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(err, errno, option, "%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > FILE_SIZE_MAX) {
		err_set(err, EINVAL, option, "%s is no file of at most %d bytes", path,
			FILE_SIZE_MAX);
	} else if (secret && (st.st_mode & (S_IRWXO | S_IWGRP | S_IXGRP)) != 0) {
		err_set(err, EPERM, option,
			"%s has mode %04o and lets others in, allowed: 0600, or 0640", path,
			st.st_mode & 07777);
	} else if ((bio = BIO_new(secret ? BIO_s_secmem() : BIO_s_mem())) == NULL) {
		err_set(err, ENOMEM, option, "no memory for %s", path);
	}
	while (bio != NULL && (n = read(fd, part, sizeof(part))) > 0)
		BIO_write(bio, part, (int)n);
	if (bio != NULL && n < 0) {
		err_set(err, errno, option, "%s: %s", path, strerror(errno));
		BIO_free(bio);
		bio = NULL;
	}
	OPENSSL_cleanse(part, sizeof(part));
	if (fd >= 0)
		close(fd);
	return bio;
}

static int64_t end_of(const X509 *certificate)
{
	struct tm tm = {0};

	ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm);
	return timegm(&tm);
}

/* The server's own certificate first, then those that lead to a root. */
static int certificate_use(SSL_CTX *ctx, const char *path, int64_t *expires_s, struct err *err)
{
	static const char option[] = "api.tls_certificate";
	BIO *bio = file_read(option, path, false, err);
	X509 *certificate;
	int rc = 0;

	if (bio == NULL)
		return -err->code;
	certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	if (certificate == NULL || SSL_CTX_use_certificate(ctx, certificate) != 1) {
		rc = library_fail(err, option, path, "holds no certificate in PEM that will do");
		goto out;
	}
	*expires_s = end_of(certificate);
	for (X509 *next; rc == 0 && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL;)
		if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
			X509_free(next);
			rc = library_fail(err, option, path, "has a chain that will not do");
		}
	/* The last attempt found no more: that is no error. Anything else is. */
	if (rc == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		rc = library_fail(err, option, path, "has a damaged certificate in its chain");
	ERR_clear_error();
out:
	X509_free(certificate);
	BIO_free(bio);
	return rc;
}

/* A key with a passphrase would ask for it at a terminal. */
static int no_passphrase(char *text, int size, int writing, void *arg)
{
	return -1;
}

static int key_use(SSL_CTX *ctx, const char *path, struct err *err)
{
	static const char option[] = "api.tls_key";
	BIO *bio = file_read(option, path, true, err);
	EVP_PKEY *key;
	int rc = 0;

	if (bio == NULL)
		return -err->code;
	key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	if (key == NULL)
		rc = library_fail(
			err, option, path, "holds no private key in PEM, or one with a passphrase");
	else if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		rc = library_fail(err, option, path, "is not the key of the certificate");
	EVP_PKEY_free(key);
	BIO_free(bio);
	return rc;
}

/* Whose signature a client's certificate must have. */
static int authorities_use(SSL_CTX *ctx, const struct config *config, struct err *err)
{
	static const char option[] = "api.tls_client_ca";
	const char *path = config->api.tls_client_ca;
	const bool required = config->api.tls_client == CONFIG_TLS_CLIENT_REQUIRED;
	X509 *certificate;
	unsigned n = 0;
	int rc = 0;
	BIO *bio;

	if (config->api.tls_client == CONFIG_TLS_CLIENT_OFF)
		return 0;
	bio = file_read(option, path, false, err);
	if (bio == NULL)
		return -err->code;
	while (rc == 0 && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		n++;
		if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate) != 1 ||
			SSL_CTX_add_client_CA(ctx, certificate) != 1)
			rc = library_fail(err, option, path, "has a certificate that will not do");
		X509_free(certificate);
	}
	if (rc == 0 && (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE))
		rc = library_fail(err, option, path, "holds no certificates in PEM");
	ERR_clear_error();
	BIO_free(bio);
	SSL_CTX_set_verify(
		ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return rc;
}

/* HTTP/1.1 is all that is spoken: who offers protocols without it is told so in the handshake. */
static int protocol_choose(SSL *ssl, const unsigned char **out, unsigned char *out_len,
	const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char http11[] = "\x08http/1.1";

	return SSL_select_next_proto((unsigned char **)out, out_len, http11, sizeof(http11) - 1, in,
		       in_len) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int context_set_up(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
					 SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* An idle connection keeps no buffers. */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(ctx, protocol_choose, NULL);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
			       SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
			       SSL_CTX_set_cipher_list(ctx, CIPHERS) == 1 &&
			       SSL_CTX_set1_groups_list(ctx, GROUPS) == 1
		       ? 0
		       : -EINVAL;
}

static SSL_CTX *context_make(const struct config *config, int64_t *expires_s, struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int rc;

	ERR_clear_error();
	if (ctx == NULL || context_set_up(ctx) < 0)
		rc = err_set(err, EINVAL, "api.tls_certificate", "libssl cannot be set up");
	else
		rc = certificate_use(ctx, config->api.tls_certificate, expires_s, err);
	if (rc == 0)
		rc = key_use(ctx, config->api.tls_key, err);
	if (rc == 0)
		rc = authorities_use(ctx, config, err);
	if (rc == 0)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}
