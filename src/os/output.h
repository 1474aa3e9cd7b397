/* Files that grow while they come from elsewhere, the room that a disk has for them, and how they
 * get their final name. */
#ifndef SHOAL_OS_OUTPUT_H
#define SHOAL_OS_OUTPUT_H

#include "base/bytes.h"
#include "base/error.h"
#include "os/file.h"

#include <stdbool.h>
#include <stdint.h>

/* A file that only this process writes. Caller's struct; path is borrowed. */
struct file_output {
    int fd; /* -1: none */
    const char *path;
};

/* Opens path for appending, made if it is missing, and locks it against other processes that open
 * it by this function; a symbolic link is refused. FAIL_BUSY when another one has it, FAIL_AUTH,
 * FAIL_LIMIT (no room), FAIL_IO. *ret untouched then. Ended by file_output_close(). */
int file_output_open(struct file_output *ret, const char *path, struct error *e);
void file_output_close(struct file_output *f);

/* Writes at the end. FAIL_LIMIT when the disk is full (or a quota or the largest size of a file is
 * reached): what fitted of these bytes stays in the file, and *written tells how many. FAIL_IO. */
int file_output_append(struct file_output *f, struct bytes more, size_t *written, struct error *e);

/* Cuts the file to `size` bytes. FAIL_IO. */
int file_output_truncate(struct file_output *f, uint64_t size, struct error *e);

/* Returns once the bytes are on the disk. FAIL_IO, FAIL_LIMIT. */
int file_output_sync(struct file_output *f, struct error *e);

/* Bytes that this user may still write into a folder's file system. FAIL_NOT_FOUND, FAIL_IO. */
int file_free_space(const char *folder, uint64_t *ret, struct error *e);

/* Gives `from` the name `to`, replacing what has it, in one step; both in one file system. */
int file_rename(const char *from, const char *to, struct error *e);

/* A second name for the file that `from` names (its target, if it is a symbolic link).
 * FAIL_UNSUPPORTED where these two places can't share a file: then it must be copied. */
int file_link(const char *from, const char *to, struct error *e);

/* Removes a file; one that is not there is fine. False when it is still there. */
bool file_remove(const char *path);

#endif
