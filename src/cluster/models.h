/* The GGUF files a device has, and what identifies a model between devices: its size and the
 * SHA-256 of its header, never a path. */
#ifndef SHOAL_CLUSTER_MODELS_H
#define SHOAL_CLUSTER_MODELS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_ID_TEXT 128
#define MODEL_PATH_TEXT 1024
#define MODEL_SHA_TEXT 65 /* hex and NUL */
/* Files of one folder: more are left out with a word in the log. */
#define MODELS_MAX 1024

struct model_file {
    char id[MODEL_ID_TEXT];      /* the file's name without folder and ending */
    char path[MODEL_PATH_TEXT];  /* of the first part */
    uint64_t size;               /* bytes of all parts */
    int64_t changed_ns;          /* of the first part: tells whether the identity is still right */
    char sha256[MODEL_SHA_TEXT]; /* of the header: bytes before the tensors' data, first part */
    bool bad;                    /* not a GGUF file that can be read; why is in the log once */
};

struct model_list {
    struct model_file *files; /* owned */
    int n;
};

/* Reads one file's identity. Errors are those of opening a GGUF file; they name the path. */
int model_identify(const char *path, struct model_file *ret, struct error *e);

/* Brings the list up to date with the folder (one level; further parts of split files are left
 * out): only files that are new or have changed are read. A folder that does not exist is empty.
 * *changed tells whether anything is different. FAIL_NOMEM, FAIL_IO. */
int models_scan(struct model_list *list, const char *folder, bool *changed, struct error *e);
void models_done(struct model_list *list);

/* By identity, or by name: exact, then without regard to case and to an ending ".gguf". NULL when
 * there is none. Borrowed until the next scan. */
const struct model_file *models_identified(const struct model_list *list, uint64_t size,
                                           const char *sha256);
const struct model_file *models_by_name(const struct model_list *list, const char *name);

#endif
