/* Files: read-only mappings, whole files, atomic replacement. */
#ifndef SHOAL_OS_FILE_H
#define SHOAL_OS_FILE_H

#include "base/buffer.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* What tells a file from another one, or from its own later version. */
struct file_identity {
    uint64_t device, inode, size;
    int64_t modified_ns;
};

/* Tells what path names now, without opening it. FAIL_NOT_FOUND, FAIL_AUTH, FAIL_IO. */
int file_identify(const char *path, struct file_identity *ret, struct error *e);

/* Records what errno says of path: "PATH: WHAT: reason", with FAIL_NOT_FOUND, FAIL_NOMEM,
 * FAIL_AUTH, FAIL_LIMIT (a full disk) or FAIL_IO. Returns the code. */
int fail_errno(struct error *e, const char *path, const char *what);

/* Opens a regular file to read; the caller closes *ret. What is no regular file is refused
 * (FAIL_IO) and never waited for: a FIFO in a folder of models must not stop anybody.
 * FAIL_NOT_FOUND, FAIL_AUTH, FAIL_IO. */
int file_open(const char *path, int *ret, struct error *e);

struct fault_guard;

/* A whole file in memory, read-only. A file that is cut short while it is mapped reads as zeros
 * from there on, and file_map_changed says so. */
struct file_map {
    const uint8_t *data;
    uint64_t size;
    struct file_identity identity;
    struct fault_guard *guard;
    uint64_t dropped; /* bytes from here on are mapped no more; 0: all are mapped */
};

/* Maps path. FAIL_NOT_FOUND, FAIL_IO; FAIL_LIMIT beyond this machine's addresses; an empty file
 * gives size 0 and data NULL. */
int file_map_open(struct file_map *ret, const char *path, struct error *e);
void file_map_close(struct file_map *m);

/* True when path still names the file that was mapped, unchanged. */
bool file_map_unchanged(const struct file_map *m, const char *path);

/* True when what was read through the mapping can't be trusted: the file was cut short, or path
 * still names it but its size or time of change are others. A file that was deleted or replaced by
 * another keeps its content here. */
bool file_map_changed(const struct file_map *m, const char *path);

/* Copies the first `size` bytes into memory of our own at the same address: from then on nothing
 * that happens to the file changes them. Nobody else may read there meanwhile. FAIL_NOMEM. */
int file_map_keep(struct file_map *m, uint64_t size, struct error *e);

/* Unmaps what lies behind the first `size` bytes, whole pages only; those may be read no more. */
void file_map_drop(struct file_map *m, uint64_t size);

enum file_advice {
    FILE_ADVICE_SEQUENTIAL, /* will be read from front to end soon */
    FILE_ADVICE_NEEDED,     /* bring it in now */
    FILE_ADVICE_DONE,       /* its pages may go */
    FILE_ADVICE_COUNT
};

/* Tells the system how a range of the mapping will be used: a hint, its failure means nothing.
 * The range is cut to the mapping and widened to whole pages. */
void file_map_advise(const struct file_map *m, uint64_t offset, uint64_t size,
                     enum file_advice advice);

/* Reads exactly `size` bytes of path from `offset` into ret. FAIL_FORMAT when the file ends before,
 * FAIL_NOT_FOUND, FAIL_IO. */
int file_read_range(const char *path, uint64_t offset, void *ret, size_t size, struct error *e);

/* Reads all of path (or standard input for "-") into out. FAIL_LIMIT when it is larger than out's
 * limit; FAIL_IO for what is no regular file. */
int file_read_all(const char *path, struct buffer *out, struct error *e);
/* The same for a name that somebody typed: a pipe will do too ("<(...)" of a shell), which may wait
 * for its other end. Not on an event loop. */
int file_read_typed(const char *path, struct buffer *out, struct error *e);

/* Replaces path by a new file of this content, or leaves it as it was. mode as in chmod. */
int file_write_atomic(const char *path, struct bytes content, unsigned mode, struct error *e);

/* Adds at the end of path, which is made with this mode if it is missing. One write, so that the
 * pieces of several processes stay whole; it may be lost with the power. FAIL_AUTH, FAIL_NOT_FOUND,
 * FAIL_IO. */
int file_append(const char *path, struct bytes more, unsigned mode, struct error *e);

/* Makes a directory and its parents; an existing one is fine. */
int file_make_directory(const char *path, unsigned mode, struct error *e);

/* Anything of that name: file, folder or other. */
bool file_exists(const char *path);
/* A file with bytes of its own: no folder, FIFO or device. */
bool file_is_regular(const char *path);

/* Calls fn for each entry of a directory (not "." and ".."), until it answers false. */
int file_list(const char *directory, bool (*fn)(void *arg, const char *name), void *arg,
              struct error *e);

#endif
