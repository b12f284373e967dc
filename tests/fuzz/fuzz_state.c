/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * The durable marks of a capture, as a crash may have left them. The first byte chooses: up to three bytes
 * of a good file changed, and what is read is one of the two states in it or none; a state of any
 * content under a right checksum; or a file of noise.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

#include "control/file.h"
#include "control/store.h"

#define FILE_SIZE 16384
#define EDITS     3 /* more than a checksum of 32 bits is there for */

static const struct uuid id = {{1}};
static int dir, fd;
static char state_path[272];
static struct store_state states[2]; /* the older one, the newer one */
static uint8_t good[FILE_SIZE];

static void state_remove(void)
{
	unlink(state_path);
	rmdir(dirname(state_path));
}

static void state_fill(struct store_state *state, uint64_t generation)
{
	*state = (struct store_state){.version = STORE_STATE_VERSION,
		.generation = generation,
		.id = id,
		.books = {.noted_ns = generation, .offered = 100, .accepted = generation},
		.n_lanes = 2 + (unsigned)(generation & 1)};
	for (unsigned i = 0; i < state->n_lanes; i++)
		state->marks[i] = (struct store_mark){generation << 20, generation << 10};
	fuzz_check(file_slot_write(dir, "state", generation, state, sizeof(*state)) == 0);
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
	fuzz_check(file_slots_make(dir, "state") == 0);
	state_fill(&states[0], 6);
	state_fill(&states[1], 7);
	fd = openat(dir, "state", O_RDWR);
	fuzz_check(fd >= 0 && pread(fd, good, sizeof(good), 0) == sizeof(good));
	return 0;
}

static void file_put(const uint8_t *data, size_t size)
{
	fuzz_check(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
}

/* What was read, read again now and then, is the same. */
static int state_read(struct store_state *state)
{
	static struct store_state again;
	static unsigned n_reads;
	int rc = store_state_read(dir, &id, state);

	fuzz_check(rc == 0 || rc == -ENOENT);
	if (++n_reads % 16 == 0)
		fuzz_check(store_state_read(dir, &id, &again) == rc &&
			   (rc != 0 || memcmp(state, &again, sizeof(again)) == 0));
	fuzz_check(rc != 0 || state->n_lanes <= STORE_LANES_MAX);
	return rc;
}

/* Three bytes an edit: where in the file, low byte first, and what is changed there. */
static void edits_try(const uint8_t *data, size_t size)
{
	static struct store_state state;
	uint8_t bytes[FILE_SIZE];
	bool touched[2] = {false, false};
	int rc;

	memcpy(bytes, good, sizeof(bytes));
	for (unsigned i = 0; i < EDITS && size >= 3; i++, data += 3, size -= 3) {
		unsigned at = (unsigned)(data[0] | data[1] << 8) % FILE_SIZE;

		bytes[at] ^= data[2];
		touched[at / (FILE_SIZE / 2)] = true;
	}
	file_put(bytes, size > 0 ? FILE_SIZE - 1 - data[0] : FILE_SIZE);
	touched[1] |= size > 0;
	rc = state_read(&state);
	if (rc == 0)
		fuzz_check(memcmp(&state, &states[0], sizeof(state)) == 0 ||
			   memcmp(&state, &states[1], sizeof(state)) == 0);
	fuzz_check(rc == 0 || (touched[0] && touched[1]));
	/* Generation 7 stands in the second slot. */
	if (!touched[1])
		fuzz_check(memcmp(&state, &states[1], sizeof(state)) == 0);
}

/* Two bytes say where in the state the rest is put. */
static void content_try(const uint8_t *data, size_t size)
{
	static struct store_state wrote, state;
	size_t at = size >= 2 ? (size_t)(data[0] | data[1] << 8) % sizeof(wrote) : 0;
	size_t len = size >= 2 ? size - 2 : 0;

	wrote = states[1];
	wrote.generation = 9;
	if (len > sizeof(wrote) - at)
		len = sizeof(wrote) - at;
	if (len != 0)
		memcpy((uint8_t *)&wrote + at, data + 2, len);
	file_put(good, FILE_SIZE);
	fuzz_check(file_slot_write(dir, "state", 9, &wrote, sizeof(wrote)) == 0);
	if (state_read(&state) == 0)
		fuzz_check(memcmp(&state, &wrote, sizeof(state)) == 0 &&
			   memcmp(&state.id, &id, sizeof(id)) == 0 && state.generation == 9);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct store_state state;

	if (size == 0)
		return 0;
	if (data[0] % 4 < 2) {
		edits_try(data + 1, size - 1);
	} else if (data[0] % 4 == 2) {
		content_try(data + 1, size - 1);
	} else {
		file_put(data + 1, size - 1);
		state_read(&state);
	}
	return 0;
}
