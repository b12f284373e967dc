/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The durable marks of a capture, as a crash may have left them: what is believed has its checksum, and
 * that says nothing of a file of noise.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <libgen.h>
#include <unistd.h>

#include "control/store.h"

static int dir;
static char state_path[272];

static void state_remove(void)
{
	unlink(state_path);
	rmdir(dirname(state_path));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static char path[256];
	const char *parent = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/fuzz_state.XXXXXX", parent != NULL ? parent : "/tmp");

	fuzz_check(mkdtemp(path) != NULL);
	dir = open(path, O_RDONLY | O_DIRECTORY);
	fuzz_check(dir >= 0);
	snprintf(state_path, sizeof(state_path), "%s/state", path);
	atexit(state_remove);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = openat(dir, "state", O_CREAT | O_TRUNC | O_RDWR, 0600), rc;
	static const struct uuid id = {{1}};
	static struct store_state state;

	fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	rc = store_state_read(dir, &id, &state);
	fuzz_check(rc <= 0);
	if (rc == 0)
		fuzz_check(state.n_lanes <= STORE_LANES_MAX);
	return 0;
}
