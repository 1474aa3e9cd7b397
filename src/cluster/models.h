/* The GGUF files a device has. Between devices a model is named by its size and the SHA-256 of its
 * header, never by a path; whether two files of one such name are the same model is what
 * cluster/check.h finds out. */
#ifndef SHOAL_CLUSTER_MODELS_H
#define SHOAL_CLUSTER_MODELS_H

#include "base/error.h"
#include "store/digest.h"

#include <stdbool.h>
#include <stdint.h>

struct gguf;

#define MODEL_ID_TEXT 128
#define MODEL_PATH_TEXT 1024
#define MODEL_SHA_TEXT DIGEST_TEXT
/* Files of one folder: more are left out with a word in the log. */
#define MODELS_MAX 1024

struct model_file {
    char id[MODEL_ID_TEXT];      /* the file's name without folder and ending */
    char path[MODEL_PATH_TEXT];  /* of the first part */
    uint64_t size;               /* bytes of all parts */
    int parts;                   /* files of a split model; 1 otherwise */
    uint8_t stamp[DIGEST_BYTES]; /* of all parts' files: changes when they do (store/chunks.h) */
    char sha256[MODEL_SHA_TEXT]; /* of the header: bytes before the tensors' data, first part */
    bool bad;                    /* not a GGUF file that can be read; why is in the log once */
};

struct model_list {
    struct model_file *files; /* owned */
    int n;
};

/* Reads one file's identity. Errors are those of opening a GGUF file; they name the path. */
int model_identify(const char *path, struct model_file *ret, struct error *e);
/* The same of an open one. FAIL_LIMIT, FAIL_NOMEM. */
int model_identify_open(const struct gguf *g, struct model_file *ret, struct error *e);

/* Brings the list up to date with the folder (one level; further parts of split files are left
 * out): only files that are new or have changed are read. A folder that does not exist is empty.
 * *changed tells whether anything is different. FAIL_NOMEM, FAIL_IO. */
int models_scan(struct model_list *list, const char *folder, bool *changed, struct error *e);
void models_done(struct model_list *list);

/* The same in a thread of its own, since folders may be large and disks slow. FAIL_NOMEM. `wake` is
 * called in that thread when it is about to end. */
struct models_scan;
int models_scan_begin(struct models_scan **ret, const struct model_list *list, const char *folder,
                      void (*wake)(void *arg), void *arg, struct error *e);
/* True once it has ended: the list is up to date then, *changed as above, and *scan NULL. */
bool models_scan_end(struct models_scan **scan, struct model_list *list, bool *changed);
/* Waits for it and drops what it found. NULL is fine. */
void models_scan_drop(struct models_scan *scan);

/* A copy, with memory of its own. FAIL_NOMEM. */
int models_copy(const struct model_list *list, struct model_list *ret, struct error *e);

/* The next file from `at` on that may be this model; -1 when there is none. Several files may have
 * one size and header and be different models. */
int models_like(const struct model_list *list, int at, uint64_t size, const char *sha256);
/* By name: exact, then without regard to case and to an ending ".gguf". NULL when there is none.
 * Borrowed until the next scan. */
const struct model_file *models_by_name(const struct model_list *list, const char *name);

#endif
