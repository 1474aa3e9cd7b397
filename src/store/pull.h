/* `shoal pull`: a model from wherever it is into the models folder. */
#ifndef SHOAL_STORE_PULL_H
#define SHOAL_STORE_PULL_H

#include "base/error.h"
#include "store/download.h"
#include "store/part.h"

#include <stdbool.h>
#include <stdint.h>

/* All texts are borrowed for the call. */
struct pull_options {
    const char *spec;   /* see source_parse() */
    const char *folder; /* models; made if it is missing */
    const char *sha256; /* of a model in one file; NULL: what the hub says */
    const char *hub;    /* HF_ENDPOINT; NULL: SOURCE_HUB_ENDPOINT */
    const char *token;  /* HF_TOKEN; NULL or "": none. Sent to the hub's server only */
    download_progress_fn *progress;
    void *arg;
    unsigned stall_s; /* as in download_options, for tests */
    uint64_t retry_wait_ns;
};

struct pull_result {
    char path[PART_PATH_TEXT]; /* of the model's first file */
    int parts;                 /* files */
    bool present;              /* all were there already */
    bool linked;               /* a file of this machine, now under a second name */
    bool local;                /* it came from this machine */
    bool verified;             /* the sha256 of every file was the expected one */
    uint64_t bytes;            /* of all files */
    char sha256[DIGEST_TEXT];  /* of a model in one file, if it was computed; else "" */
};

/* Fetches, copies or links every file of a model; the first part of a split model comes last, so
 * that the folder never shows half a model. A file that is no GGUF file doesn't stay. FAIL_ARG for
 * a SPEC or sha256 that can't be right, else the errors of download() and of reading GGUF. */
int pull(const struct pull_options *o, struct pull_result *ret, struct error *e);

#endif
