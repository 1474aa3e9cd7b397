/* HTTP/1.1 on the server's side, as pure functions of bytes. Source: RFC 9112. */
#ifndef SHOAL_API_HTTP_H
#define SHOAL_API_HTTP_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes of a request line with its headers: browsers with many cookies stay below 8 KiB. */
#define HTTP_MAX_HEAD (16u << 10)
/* Header lines. */
#define HTTP_MAX_HEADERS 100
#define HTTP_MAX_METHOD 16
#define HTTP_MAX_TARGET 2048
/* Bytes of one chunk-size line with its extensions. */
#define HTTP_MAX_CHUNK_LINE 256

/* A parsed head. Texts are copies or borrowed from the head's bytes. */
struct http_head {
    char method[HTTP_MAX_METHOD + 1];
    char target[HTTP_MAX_TARGET + 1];
    int minor;              /* of HTTP/1.x: 0 or 1 */
    int64_t content_length; /* -1: not given */
    bool chunked;
    bool keep_alive;
    bool expect_continue;
    /* What browsers say: a page of another site caused it; it is to be shown as a page itself; a
     * preflight from a public page to a private address. */
    bool cross_site, navigation, private_network;
    /* Borrowed; empty: not given. host: of an absolute target where there is one (RFC 9112,
     * 3.2.2). asked_headers: of a preflight, a list of names. */
    struct bytes host, origin, asked_headers;
};

/* Finds the end of a head: bytes up to and with its empty line, 0 when it isn't all there yet, -1
 * when a line ends without CR (then no more bytes help). Leading empty lines are a part of it. */
int64_t http_head_size(struct bytes input);

/* Parses a whole head. Returns 0 or the HTTP status that refuses it (400, 411, 414, 415, 431, 501,
 * 505), with the reason in e. */
int http_head_parse(struct bytes head, struct http_head *ret, struct error *e);

/* Decoder of a chunked body. Caller's struct; zero bytes is a new body. */
struct http_chunks {
    int state;
    uint64_t left; /* of the present chunk */
    size_t line;   /* bytes of the present line */
    bool cr;       /* its CR has come, LF is due */
    bool done;
};

/* Takes input and appends its data to body. *used is how many bytes were taken (all, until done).
 * Returns 0 or an HTTP status (400, 413), with the reason in e. */
int http_chunks_feed(struct http_chunks *c, struct bytes input, struct buffer *body, size_t *used,
                     struct error *e);

/* "OK" of 200. */
const char *http_reason(int status);

#endif
