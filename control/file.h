/* SPDX-License-Identifier: Apache-2.0
 * Copyright The Sluice authors
 *
 * Small files beneath a directory descriptor, and whole reads and writes. Everything blocks:
 * storage, bulk or read worker. Names are ours, never text from outside.
 */
#ifndef CONTROL_FILE_H
#define CONTROL_FILE_H

#include <stddef.h>
#include <stdint.h>

/* All len bytes or -errno; a read past the end of the file is -ENODATA. */
int file_write_at(int fd, const void *data, size_t len, uint64_t offset);
int file_read_at(int fd, void *data, size_t len, uint64_t offset);

/*
 * A regular file, for reading, at a path beneath dir of which no part is a link: nobody who puts one there
 * makes us read elsewhere, and no pipe makes us wait. -errno; -EINVAL: it is no regular file.
 */
int file_open(int dir, const char *path);

/* Put a whole new file in the place of name: write beside it, fsync, rename, fsync dir. 0 or
 * -errno. */
int file_replace(int dir, const char *name, const void *data, size_t len);

/* The whole file, with a NUL behind it, in malloc'd memory; *len_out (may be NULL) without the NUL.
 * 0, -ENOENT, -EFBIG beyond size_max, or -errno. */
int file_load(int dir, const char *name, size_t size_max, char **data, size_t *len_out);

/*
 * A small value that survives torn writes: two slots in turn, each with generation and checksum.
 * The file must exist and be durable in its directory (file_slots_make). len <= FILE_SLOT_MAX.
 * Write: generation must grow by one each time. Read: the newest whole slot; -ENOENT: none.
 */
#define FILE_SLOT_MAX 8160
int file_slots_make(int dir, const char *name);
int file_slot_write(int dir, const char *name, uint64_t generation, const void *data, size_t len);
int file_slot_read(int dir, const char *name, uint64_t *generation, void *data, size_t len);

/* 1: since file_slots_make no more than one generation was written, be it whole or not. 0: more were, or
 * it was not made to its end. -errno. */
int file_slots_fresh(int dir, const char *name);

/* CRC-32C (Castagnoli) of data, going on from crc (0 to begin). */
uint32_t file_crc32c(uint32_t crc, const void *data, size_t len);

#endif
