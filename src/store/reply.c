/* Heads of answers: see reply.h. */
#include "store/reply.h"

#include <stdio.h>
#include <strings.h>

void reply_init(struct reply *r)
{
    *r = (struct reply){
        .length = -1, .first = -1, .last = -1, .total = -1, .retry_after_s = -1, .linked_size = -1
    };
}

static struct bytes trim(struct bytes b)
{
    while (b.size > 0 && strchr(" \t\r\n", b.data[b.size - 1]) != NULL && b.data[b.size - 1]) {
        b.size--;
    }
    while (b.size > 0 && (b.data[0] == ' ' || b.data[0] == '\t')) {
        b = bytes_of(b.data + 1, b.size - 1);
    }
    return b;
}

/* A whole number from the front of *b; -1 if there is none or it has more than 18 digits. */
static int64_t take_number(struct bytes *b)
{
    int64_t n = 0;
    size_t i = 0;
    for (; i < b->size && b->data[i] >= '0' && b->data[i] <= '9'; i++) {
        if (i == 18) {
            return -1;
        }
        n = n * 10 + (b->data[i] - '0');
    }
    if (i == 0) {
        return -1; /* also of no bytes, whose pointer may be NULL */
    }
    *b = bytes_of(b->data + i, b->size - i);
    return n;
}

/* A number and nothing else. */
static int64_t number(struct bytes b)
{
    int64_t n = take_number(&b);
    return b.size == 0 ? n : -1;
}

static bool take_byte(struct bytes *b, char c)
{
    if (b->size == 0 || b->data[0] != (uint8_t)c) {
        return false;
    }
    *b = bytes_of(b->data + 1, b->size - 1);
    return true;
}

/* "bytes 100-199/200", "bytes 100-199/" followed by a star, or "bytes", star, "/200". */
static void take_range(struct reply *r, struct bytes b)
{
    bool ok = b.size > 6 && strncasecmp((const char *)b.data, "bytes ", 6) == 0;
    b = ok ? trim(bytes_of(b.data + 6, b.size - 6)) : b;
    int64_t first = -1, last = -1, total = -1;
    if (ok && !take_byte(&b, '*')) {
        first = take_number(&b);
        ok = first >= 0 && take_byte(&b, '-');
        last = ok ? take_number(&b) : -1;
        ok = ok && last >= first;
    }
    ok = ok && take_byte(&b, '/');
    if (ok && !take_byte(&b, '*')) {
        total = take_number(&b);
        ok = total >= 0 && last < total;
    }
    if (!ok || b.size != 0) {
        r->bad = true;
        return;
    }
    r->first = first;
    r->last = last;
    r->total = total;
}

/* Printable text that fits, or nothing: half of a name is another name. */
static void take_text(struct bytes b, char *ret, size_t size)
{
    ret[0] = '\0';
    for (size_t i = 0; i < b.size; i++) {
        if (b.data[i] < 0x20 || b.data[i] == 0x7f) {
            return;
        }
    }
    if (b.size < size && b.size > 0) {
        memcpy(ret, b.data, b.size);
        ret[b.size] = '\0';
    }
}

static void take_etag(struct reply *r, struct bytes b)
{
    bool strong = b.size >= 2 && b.data[0] == '"' && b.data[b.size - 1] == '"';
    take_text(strong ? b : (struct bytes){ 0 }, r->etag, sizeof r->etag);
}

static void take_linked_etag(struct reply *r, struct bytes b)
{
    if (b.size >= 2 && b.data[0] == '"' && b.data[b.size - 1] == '"') {
        b = bytes_of(b.data + 1, b.size - 2);
    }
    digest_parse(b, r->linked_sha256); /* files outside the large-file store have another hash */
}

static void take_header(struct reply *r, struct bytes name, struct bytes value)
{
    static const char *const names[] = { "content-length", "content-range", "etag",
                                         "last-modified",  "location",      "retry-after",
                                         "x-linked-size",  "x-linked-etag", "x-error-code" };
    size_t i = 0, n = sizeof names / sizeof names[0];
    while (i < n && !(name.size == strlen(names[i]) &&
                      strncasecmp((const char *)name.data, names[i], name.size) == 0)) {
        i++;
    }
    switch (i) {
    case 0:
        r->length = number(value);
        r->bad = r->bad || r->length < 0;
        break;
    case 1:
        take_range(r, value);
        break;
    case 2:
        take_etag(r, value);
        break;
    case 3:
        take_text(value, r->modified, sizeof r->modified);
        break;
    case 4:
        take_text(value, r->location, sizeof r->location);
        break;
    case 5:
        r->retry_after_s = number(value); /* a date is left out: the usual wait does */
        break;
    case 6:
        r->linked_size = number(value);
        break;
    case 7:
        take_linked_etag(r, value);
        break;
    case 8:
        take_text(value, r->code, sizeof r->code);
        break;
    default:
        break;
    }
}

void reply_line(struct reply *r, struct bytes line)
{
    if (r->ended && r->status >= 200) {
        return;
    }
    if (bytes_starts_with(line, "HTTP/")) {
        const uint8_t *space = memchr(line.data, ' ', line.size);
        struct bytes b = { 0 };
        if (space != NULL) {
            b = bytes_of(space + 1, line.size - (size_t)(space + 1 - line.data));
        }
        reply_init(r);
        int64_t status = take_number(&b);
        r->status = status >= 100 && status <= 999 ? (int)status : 0;
        return;
    }
    line = trim(line);
    if (line.size == 0) {
        r->ended = true;
        return;
    }
    const uint8_t *colon = memchr(line.data, ':', line.size);
    if (colon != NULL) {
        size_t n = (size_t)(colon - line.data);
        take_header(r, bytes_of(line.data, n), trim(bytes_of(colon + 1, line.size - n - 1)));
    }
}

int64_t reply_size(const struct reply *r)
{
    return r->status == 206 ? r->total : r->length;
}

/* Whether a 206 is the rest of the file that we have the beginning of. */
static bool continues(const struct reply *r, const struct reply_request *q)
{
    if (r->bad || r->first != (int64_t)q->offset || r->first < 0) {
        return false;
    }
    if (r->length >= 0 && r->length != r->last - r->first + 1) {
        return false;
    }
    if (r->total < 0 ? q->size < 0 || r->last >= q->size : q->size >= 0 && r->total != q->size) {
        return false;
    }
    return r->etag[0] == '\0' || q->etag[0] == '\0' || strcmp(r->etag, q->etag) == 0;
}

enum reply_action reply_judge(const struct reply *r, const struct reply_request *q)
{
    switch (r->status) {
    case 200:
        return r->bad ? REPLY_REFUSED : REPLY_START;
    case 206:
        if (q->offset == 0) {
            /* Nobody asked for a part; the whole file under this name would still do. */
            return continues(r, q) && r->last + 1 == r->total ? REPLY_START : REPLY_REFUSED;
        }
        return continues(r, q) ? REPLY_TAKE : REPLY_AGAIN;
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        return REPLY_REDIRECT;
    case 412:
    case 416:
        return q->offset > 0 ? REPLY_AGAIN : REPLY_REFUSED;
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return REPLY_RETRY;
    default:
        return REPLY_REFUSED;
    }
}
