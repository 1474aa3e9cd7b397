/* A file that is not all here yet: NAME.part, with NAME.part.json beside it that says what of. */
#ifndef SHOAL_STORE_PART_H
#define SHOAL_STORE_PART_H

#include "base/error.h"
#include "os/output.h"
#include "store/digest.h"
#include "store/reply.h"

#include <stdbool.h>
#include <stdint.h>

#define PART_PATH_TEXT 4096

/* What the bytes are the beginning of; kept on disk. */
struct part_state {
    char source[DIGEST_TEXT];           /* of the address, which may hold a secret itself */
    char sha256[DIGEST_TEXT];           /* of the whole file, or "" */
    char etag[REPLY_ETAG_TEXT];         /* strong, or "" */
    char modified[REPLY_MODIFIED_TEXT]; /* or "" */
    int64_t size;                       /* -1: unknown */
};

/* Caller's struct; the lock on the file is held until part_close(). */
struct part {
    char target[PART_PATH_TEXT]; /* the final path */
    char path[PART_PATH_TEXT];   /* of the part */
    char state_path[PART_PATH_TEXT];
    struct file_output out;
    struct digest *digest; /* of all bytes in the file */
    uint64_t size;         /* bytes in the file */
    struct part_state state;
    struct part_state saved; /* what state_path holds, if is_saved */
    bool is_saved;
};

/* Reads the state from its text. FAIL_FORMAT for anything that part_save() doesn't write. */
int part_state_parse(struct bytes text, struct part_state *ret, struct error *e);

/* Opens FOLDER/NAME.part. What is there of the same source stays and is read once for the digest
 * (`go_on` as in digest_add_file()); anything else is thrown away. FAIL_BUSY when another process
 * fetches the same file, FAIL_ARG for a path that is too long, and errors of files. */
int part_open(struct part *p, const char *target, const char *source,
              bool (*go_on)(void *arg, uint64_t done), void *arg, struct error *e);

/* Gives the file back; what came stays for the next time, but an empty part is removed. */
void part_close(struct part *p);

/* Throws all bytes away. */
int part_restart(struct part *p, struct error *e);

/* Writes the state down, before the first byte that it speaks of, unless it stands there already.
 */
int part_save(struct part *p, struct error *e);

/* Adds bytes. FAIL_LIMIT when the disk is full: the text says so and what came is kept. */
int part_append(struct part *p, struct bytes more, struct error *e);

/* The bytes reach the disk and the file gets its final name; then only part_close() is left. */
int part_finish(struct part *p, struct error *e);

/* Removes the part and its state; then only part_close() is left. */
void part_discard(struct part *p);

#endif
