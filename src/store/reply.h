/* The head of a server's answer to a request for (the rest of) a file, and what follows from it.
 * Pure. A server is a stranger: it may refuse ranges, send another file than before, or say sizes
 * that are not true. Source: RFC 9110, sections 13, 14 and 15; the hub's X-Linked-* headers. */
#ifndef SHOAL_STORE_REPLY_H
#define SHOAL_STORE_REPLY_H

#include "base/bytes.h"
#include "base/error.h"
#include "store/digest.h"
#include "store/url.h"

#include <stdbool.h>
#include <stdint.h>

#define REPLY_ETAG_TEXT 256    /* a longer one is treated as missing */
#define REPLY_MODIFIED_TEXT 64 /* dates have 29 bytes */
#define REPLY_CODE_TEXT 48     /* the hub's error codes */

/* Caller's struct. Numbers are -1 where the server didn't say. */
struct reply {
    int status; /* 0 before the first line */
    bool bad;   /* a length or range that is none */
    int64_t length;
    int64_t first, last, total; /* of a Content-Range; total -1 for '*' */
    int64_t retry_after_s;
    int64_t linked_size; /* the hub's word on the file behind a redirection */
    char linked_sha256[DIGEST_TEXT];
    char etag[REPLY_ETAG_TEXT]; /* strong ones only, with quotes */
    char modified[REPLY_MODIFIED_TEXT];
    char location[URL_TEXT];
    char code[REPLY_CODE_TEXT]; /* X-Error-Code */
    bool ended;                 /* the empty line came; later lines are trailers */
};

/* Nothing heard yet. */
void reply_init(struct reply *r);

/* Takes one line of the head, with or without its line end. A status line begins a new answer
 * (after an interim one); lines that mean nothing to us are passed over. */
void reply_line(struct reply *r, struct bytes line);

/* What was asked, and what is known of the file from earlier requests. */
struct reply_request {
    uint64_t offset;  /* first byte asked for; 0: no range was asked for */
    int64_t size;     /* of the whole file, -1 */
    const char *etag; /* strong, or "" */
};

enum reply_action {
    REPLY_TAKE,     /* the body goes on at the offset asked for */
    REPLY_START,    /* the body is the whole file: begin again with it */
    REPLY_AGAIN,    /* no use: ask once more, without a range */
    REPLY_REDIRECT, /* to location */
    REPLY_RETRY,    /* a server's trouble that may pass */
    REPLY_REFUSED,  /* there is no point in asking again */
    REPLY_ACTION_COUNT
};

/* Only for a reply that has ended. */
enum reply_action reply_judge(const struct reply *r, const struct reply_request *q);

/* The whole file's size as this reply tells it, -1. */
int64_t reply_size(const struct reply *r);

/* Who was asked, for the texts below. */
struct reply_asked {
    const char *url;   /* as shown to people */
    const char *page;  /* of the hub's repository, or "" */
    const char *host;  /* the origin that answered */
    bool hub;          /* the host is the hub's */
    bool token, login; /* one was sent */
};

/* Records why a RETRY or REFUSED reply gives no file, and what a person can do; returns a FAIL_
 * code: AUTH, NOT_FOUND, BUSY (ask later), UNSUPPORTED, IO. */
int reply_explain(const struct reply *r, const struct reply_asked *asked, struct error *e);

#endif
