/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Its own few lines of ini: what reads configurations would leave the secret in buffers of its own.
 */
#include "control/s3_credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/file.h"
#include "control/secret.h"

#define FILE_MAX 16384
#define TEXT_MAX 4096

static int file_check(int fd, const char *path, struct stat *st, struct err *err);
static int lines_take(
	char *text, const char *path, struct s3_credentials *credentials, struct err *err);
static int line_take(char *line, unsigned number, const char *path,
	struct s3_credentials *credentials, struct err *err);
static char *trim(char *text);

int s3_credentials_read(const char *path, struct s3_credentials *credentials, struct err *err)
{
	char *text = NULL;
	struct stat st;
	int fd, rc;

	memset(credentials, 0, sizeof(*credentials));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_set(
			err, errno, "credentials", "cannot open %.200s: %s", path, strerror(errno));
	rc = file_check(fd, path, &st, err);
	if (rc == 0 && (text = secret_calloc(1, (size_t)st.st_size + 1)) == NULL)
		rc = err_set(err, ENOMEM, "credentials", "no memory");
	if (rc == 0 && (rc = file_read_at(fd, text, (size_t)st.st_size, 0)) != 0)
		rc = err_set(
			err, -rc, "credentials", "cannot read %.200s: %s", path, strerror(-rc));
	if (rc == 0)
		rc = lines_take(text, path, credentials, err);
	close(fd);
	secret_free(text);
	return rc;
}

void s3_credentials_free(struct s3_credentials *credentials)
{
	secret_free(credentials->access_key);
	secret_free(credentials->secret_key);
	secret_free(credentials->session_token);
	memset(credentials, 0, sizeof(*credentials));
}

static int file_check(int fd, const char *path, struct stat *st, struct err *err)
{
	if (fstat(fd, st) != 0)
		return err_set(
			err, errno, "credentials", "cannot read %.200s: %s", path, strerror(errno));
	if (!S_ISREG(st->st_mode) || st->st_size > FILE_MAX)
		return err_set(err, EINVAL, "credentials",
			"%.200s is not a file of at most %d bytes", path, FILE_MAX);
	if ((st->st_mode & 077) != 0)
		return err_set(err, EACCES, "credentials",
			"others may read %.200s (mode %o), allowed: 0600 or less", path,
			st->st_mode & 07777);
	return 0;
}

static int lines_take(
	char *text, const char *path, struct s3_credentials *credentials, struct err *err)
{
	unsigned number = 0;
	char *line;
	int rc = 0;

	while (rc == 0 && (line = strsep(&text, "\n")) != NULL)
		rc = line_take(line, ++number, path, credentials, err);
	if (rc == 0 && (credentials->access_key == NULL || credentials->secret_key == NULL))
		rc = err_set(err, EINVAL, "credentials", "%.200s has no %s", path,
			credentials->access_key == NULL ? "access_key" : "secret_key");
	return rc;
}

/* "key = value", "; comment", "# comment", "[section]" or nothing. */
static int line_take(char *line, unsigned number, const char *path,
	struct s3_credentials *credentials, struct err *err)
{
	const struct {
		const char *key;
		char **value;
	} keys[] = {
		{"access_key", &credentials->access_key},
		{"secret_key", &credentials->secret_key},
		{"session_token", &credentials->session_token},
	};
	char *key = trim(line), *value = strchr(key, '=');

	if (*key == '\0' || strchr(";#[", *key) != NULL)
		return 0;
	if (value != NULL)
		*value++ = '\0';
	key = trim(key);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]) && value != NULL; i++) {
		if (strcmp(key, keys[i].key) != 0)
			continue;
		value = trim(value);
		for (const char *c = value; *c != '\0'; c++)
			if (*c <= ' ' || *c == 0x7f)
				return err_set(err, EINVAL, "credentials",
					"%.200s:%u: the value holds a blank", path, number);
		if (strlen(value) > TEXT_MAX)
			return err_set(err, EINVAL, "credentials",
				"%.200s:%u: the value has more than %d characters", path, number,
				TEXT_MAX);
		if (*value == '\0' && keys[i].value == &credentials->session_token)
			return 0;
		if (*keys[i].value != NULL || *value == '\0')
			return err_set(err, EINVAL, "credentials", "%.200s:%u: %s %s", path, number,
				keys[i].key, *value == '\0' ? "is empty" : "stands there twice");
		*keys[i].value = secret_strdup(value);
		return *keys[i].value != NULL ? 0
					      : err_set(err, ENOMEM, "credentials", "no memory");
	}
	return err_set(err, EINVAL, "credentials",
		"%.200s:%u: not understood, allowed: access_key, secret_key and session_token = "
		"value",
		path, number);
}

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t\r");
	len = strlen(text);
	while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL)
		len--;
	text[len] = '\0';
	return text;
}
