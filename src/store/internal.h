/* A download in progress, shared by its loop (download.c) and its requests (transfer.c). */
#ifndef SHOAL_STORE_INTERNAL_H
#define SHOAL_STORE_INTERNAL_H

#include <curl/curl.h>

#include "store/download.h"
#include "store/meter.h"
#include "store/part.h"
#include "store/reply.h"
#include "store/url.h"

#define HEAD_BYTES 64 /* enough to see what a file is */

/* What a request led to. */
enum step {
    STEP_DONE,    /* its body came to its end */
    STEP_AGAIN,   /* begin again at byte 0 */
    STEP_NEXT,    /* a redirection: go on at hop */
    STEP_RETRY,   /* trouble that may pass: why is in error */
    STEP_FAILED,  /* why is in error */
    STEP_PRESENT, /* the target has this size already */
    STEP_COUNT
};

struct transfer {
    const struct download_options *o;
    CURL *curl;
    struct url first, hop; /* as asked for, and where redirections led */
    char hub_origin[URL_ORIGIN_TEXT];
    char shown[ERROR_TEXT / 2]; /* the first address, for people */
    struct part part;
    char expected[DIGEST_TEXT]; /* sha256, or "" */
    char linked[DIGEST_TEXT];   /* what the first server says of it, or "" */
    int64_t linked_size;        /* -1 */
    struct reply reply;
    bool answered, taking; /* the head has come; its body is the file's */
    bool compared;         /* the target is another file than the expected one */
    enum step step;
    struct error error;
    uint8_t head[HEAD_BYTES];
    struct meter meter;
    uint64_t shown_ns;
    uint64_t room_until; /* size of the part up to which the disk had room when last asked */
};

/* One request to t->hop, and what follows from its answer. */
enum step transfer_request(struct transfer *t);

/* Tells the caller how far it is; false to cancel. */
bool transfer_progress(struct transfer *t, const char *state);

#endif
