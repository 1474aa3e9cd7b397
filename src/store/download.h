/* One file from a web server into a folder, whatever the server does meanwhile: requests go on
 * where the last one ended, what came is checked, and the file gets its name in one step. */
#ifndef SHOAL_STORE_DOWNLOAD_H
#define SHOAL_STORE_DOWNLOAD_H

#include "base/error.h"
#include "store/digest.h"

#include <stdbool.h>
#include <stdint.h>

/* Left free on a disk, in bytes: a system without any room stops working. */
#define DOWNLOAD_DISK_RESERVE (64ull << 20)

/* For a line that people read. */
struct download_progress {
    const char *name;   /* of the file */
    uint64_t bytes;     /* that are here */
    int64_t size;       /* of the whole file; -1: unknown */
    double bytes_per_s; /* over the last seconds; 0: unknown */
    double left_s;      /* -1: unknown */
    const char *state;  /* NULL while bytes come, else what happens: "checking", "waiting" */
};

/* Called about five times a second in the caller's thread; false cancels. */
typedef bool download_progress_fn(void *arg, const struct download_progress *p);

/* All texts are borrowed for the call. */
struct download_options {
    const char *url;    /* http or https, with NAME:PASSWORD@ if need be */
    const char *target; /* path of the file; its folder exists */
    const char *sha256; /* hex of any case that the file must have; NULL: what the hub says */
    const char *hub;    /* address whose server gets the token; NULL: none */
    const char *token;  /* NULL or "": none */
    const char *page;   /* of the hub's repository, for texts; NULL: none */
    bool model;         /* the file must begin as GGUF does: anything else is refused at once */
    /* What is wrong with the whole file at `path`, before it gets its name; NULL: nothing is
     * checked. FAIL_FORMAT removes it, other errors keep it for another time. */
    int (*check)(const char *path, struct error *e);
    download_progress_fn *progress; /* NULL: silent */
    void *arg;
    /* Bytes free in a folder, as file_free_space, which NULL stands for. */
    int (*free_space)(const char *folder, uint64_t *ret, struct error *e);
    unsigned stall_s;       /* without a byte worth speaking of: try again; 0: 30 */
    uint64_t retry_wait_ns; /* before the second try, doubling; 0: one second */
};

struct download_result {
    bool present;             /* it was there already; nothing was fetched */
    bool verified;            /* its sha256 is the one that was expected */
    uint64_t bytes;           /* of the file */
    char sha256[DIGEST_TEXT]; /* of the file; "" if it was there and nobody named one */
};

/* Fetches the file. An earlier part of it (TARGET.part) is gone on with where the server allows it
 * and the file is still the same; otherwise it begins again. A present TARGET stays if it has the
 * expected sha256 (or, where none is known, the right size) and is replaced otherwise.
 *
 * Returns 0. Errors say what to do: FAIL_ARG (address, sha256), FAIL_AUTH, FAIL_NOT_FOUND,
 * FAIL_BUSY (the server, or another process that fetches it), FAIL_LIMIT (no room on the disk),
 * FAIL_FORMAT (it isn't the file that was expected), FAIL_TIMEOUT, FAIL_CLOSED, FAIL_IO,
 * FAIL_CANCELLED. What came is kept except with FAIL_FORMAT. Blocks; one thread at a time a target.
 */
int download(const struct download_options *o, struct download_result *ret, struct error *e);

#endif
