/* HTTP/1.1 on the server's side, as pure functions of bytes. */
#include "api/http.h"

#include <string.h>

enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

struct status_text {
    int status;
    const char *text;
};

static const struct status_text reasons[] = {
    { 100, "Continue" },
    { 200, "OK" },
    { 204, "No Content" },
    { 400, "Bad Request" },
    { 401, "Unauthorized" },
    { 403, "Forbidden" },
    { 404, "Not Found" },
    { 405, "Method Not Allowed" },
    { 408, "Request Timeout" },
    { 411, "Length Required" },
    { 413, "Content Too Large" },
    { 414, "URI Too Long" },
    { 415, "Unsupported Media Type" },
    { 429, "Too Many Requests" },
    { 431, "Request Header Fields Too Large" },
    { 500, "Internal Server Error" },
    { 501, "Not Implemented" },
    { 503, "Service Unavailable" },
    { 505, "HTTP Version Not Supported" },
};

const char *http_reason(int status)
{
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return "Status";
}

static char lower(uint8_t c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static bool equal_nocase(struct bytes a, const char *text)
{
    if (a.size != strlen(text)) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (lower(a.data[i]) != lower((uint8_t)text[i])) {
            return false;
        }
    }
    return true;
}

/* tchar of RFC 9110, 5.6.2. */
static bool is_token(struct bytes b)
{
    for (size_t i = 0; i < b.size; i++) {
        uint8_t c = b.data[i];
        bool alnum = (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
        if (!alnum && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return b.size > 0;
}

int64_t http_head_size(struct bytes input)
{
    size_t start = 0;
    while (start + 1 < input.size && input.data[start] == '\r' && input.data[start + 1] == '\n') {
        start += 2; /* RFC 9112, 2.2: empty lines before a request are ignored */
    }
    for (size_t i = start; i < input.size; i++) {
        if (input.data[i] != '\n') {
            continue;
        }
        if (i == 0 || input.data[i - 1] != '\r') {
            return -1;
        }
        if (i + 2 < input.size && input.data[i + 1] == '\r' && input.data[i + 2] == '\n') {
            return (int64_t)(i + 3);
        }
    }
    return 0;
}

/* The next line without its CR LF; false at the end. */
static bool next_line(struct bytes *rest, struct bytes *line)
{
    for (size_t i = 0; i + 1 < rest->size; i++) {
        if (rest->data[i] == '\r' && rest->data[i + 1] == '\n') {
            *line = bytes_of(rest->data, i);
            *rest = bytes_of(rest->data + i + 2, rest->size - i - 2);
            return true;
        }
    }
    return false;
}

static struct bytes trim(struct bytes b)
{
    while (b.size > 0 && (b.data[0] == ' ' || b.data[0] == '\t')) {
        b = bytes_of(b.data + 1, b.size - 1);
    }
    while (b.size > 0 && (b.data[b.size - 1] == ' ' || b.data[b.size - 1] == '\t')) {
        b.size--;
    }
    return b;
}

static struct bytes take_word(struct bytes *line)
{
    size_t n = 0;
    while (n < line->size && line->data[n] != ' ') {
        n++;
    }
    struct bytes word = bytes_of(line->data, n);
    size_t skip = n < line->size ? n + 1 : n;
    *line = bytes_of(line->data + skip, line->size - skip);
    return word;
}

static int refuse(struct error *e, int status, const char *text)
{
    fail(e, FAIL_FORMAT, "%s", text);
    return status;
}

/* Takes "http://HOST" off a target, which proxies and some clients send (RFC 9112, 3.2.2). */
static struct bytes take_authority(struct bytes *target)
{
    const char *const schemes[] = { "http://", "https://" };
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t start = strlen(schemes[i]), end = start;
        if (target->size <= start || !equal_nocase(bytes_of(target->data, start), schemes[i])) {
            continue;
        }
        while (end < target->size && target->data[end] != '/' && target->data[end] != '?') {
            end++;
        }
        struct bytes host = bytes_of(target->data + start, end - start);
        if (host.size == 0) {
            break;
        }
        *target = bytes_of(target->data + end, target->size - end);
        return host;
    }
    return (struct bytes){ 0 };
}

static int parse_request_line(struct bytes line, struct http_head *ret, struct error *e)
{
    struct bytes method = take_word(&line), target = take_word(&line);
    if (!is_token(method)) {
        return refuse(e, 400, "The request line doesn't begin with a method.");
    }
    if (method.size > HTTP_MAX_METHOD) {
        return refuse(e, 501, "Unknown method.");
    }
    if (target.size > HTTP_MAX_TARGET) {
        return refuse(e, 414, "The path is too long.");
    }
    for (size_t i = 0; i < target.size; i++) {
        if (target.data[i] <= ' ' || target.data[i] >= 0x7f) {
            return refuse(e, 400, "The path has bytes that must be percent-encoded.");
        }
    }
    ret->host = take_authority(&target);
    if (ret->host.size > 0 && (target.size == 0 || target.data[0] == '?')) {
        ret->target[0] = '/'; /* "http://host" and "http://host?query" have no path */
    } else if (target.size == 0 || (target.data[0] != '/' && !bytes_equal_text(target, "*"))) {
        return refuse(e, 400, "The path doesn't begin with '/'.");
    }
    if (line.size != 8 || !bytes_starts_with(line, "HTTP/") || line.data[6] != '.') {
        return refuse(e, 400, "The request line doesn't end with an HTTP version.");
    }
    if (line.data[5] != '1' || (line.data[7] != '0' && line.data[7] != '1')) {
        return refuse(e, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
    }
    memcpy(ret->method, method.data, method.size);
    memcpy(ret->target + strlen(ret->target), target.data, target.size);
    ret->minor = line.data[7] - '0';
    return 0;
}

static int parse_length(struct bytes value, struct http_head *ret, struct error *e)
{
    int64_t n = 0;
    if (value.size == 0 || value.size > 15) { /* 15 digits can't overflow */
        return refuse(e, 400, "Content-Length isn't a plain number.");
    }
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return refuse(e, 400, "Content-Length isn't a plain number.");
        }
        n = n * 10 + (value.data[i] - '0');
    }
    if (ret->content_length >= 0 && ret->content_length != n) {
        return refuse(e, 400, "Two Content-Length headers differ.");
    }
    ret->content_length = n;
    return 0;
}

/* A Connection header is a list. */
static void parse_connection(struct bytes value, struct http_head *ret)
{
    while (value.size > 0) {
        const uint8_t *comma = memchr(value.data, ',', value.size);
        size_t n = comma ? (size_t)(comma - value.data) : value.size;
        struct bytes item = trim(bytes_of(value.data, n));
        if (equal_nocase(item, "close")) {
            ret->keep_alive = false;
        } else if (equal_nocase(item, "keep-alive") && ret->minor == 0) {
            ret->keep_alive = true;
        }
        n += comma ? 1 : 0;
        value = bytes_of(value.data + n, value.size - n);
    }
}

static int take_once(struct bytes *ret, struct bytes value, const char *twice, struct error *e)
{
    if (ret->data != NULL) {
        return refuse(e, 400, twice);
    }
    *ret = value;
    return 0;
}

/* Headers that only browsers send: Fetch Metadata and CORS. */
static void parse_browser(struct bytes name, struct bytes value, struct http_head *ret)
{
    if (equal_nocase(name, "sec-fetch-site")) {
        ret->cross_site = equal_nocase(value, "cross-site");
    } else if (equal_nocase(name, "sec-fetch-dest")) {
        ret->navigation = equal_nocase(value, "document");
    } else if (equal_nocase(name, "access-control-request-headers")) {
        ret->asked_headers = value;
    } else if (equal_nocase(name, "access-control-request-private-network")) {
        ret->private_network = equal_nocase(value, "true");
    }
}

static int parse_header(struct bytes line, struct http_head *ret, struct error *e)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    struct bytes name = bytes_of(line.data, colon ? (size_t)(colon - line.data) : 0);
    if (!is_token(name)) {
        return refuse(e, 400, "A header line has no proper name.");
    }
    struct bytes value = trim(bytes_of(colon + 1, line.size - name.size - 1));
    for (size_t i = 0; i < value.size; i++) {
        if ((value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f) {
            return refuse(e, 400, "A header has a control character in its value.");
        }
    }
    if (equal_nocase(name, "content-length")) {
        return parse_length(value, ret, e);
    }
    if (equal_nocase(name, "transfer-encoding")) {
        if (!equal_nocase(value, "chunked") || ret->chunked || ret->minor == 0) {
            return refuse(e, 501, "The only Transfer-Encoding known here is 'chunked', once.");
        }
        ret->chunked = true;
    } else if (equal_nocase(name, "connection")) {
        parse_connection(value, ret);
    } else if (equal_nocase(name, "expect")) {
        ret->expect_continue = equal_nocase(value, "100-continue");
    } else if (equal_nocase(name, "content-encoding")) {
        if (value.size > 0 && !equal_nocase(value, "identity")) {
            return refuse(e, 415,
                          "The body is compressed (Content-Encoding), which isn't understood "
                          "here; send it as it is.");
        }
    } else if (equal_nocase(name, "host")) {
        return take_once(&ret->host, value, "Two Host headers.", e);
    } else if (equal_nocase(name, "origin")) {
        return take_once(&ret->origin, value, "Two Origin headers.", e);
    } else {
        parse_browser(name, value, ret);
    }
    return 0;
}

int http_head_parse(struct bytes head, struct http_head *ret, struct error *e)
{
    struct http_head h = { .content_length = -1 };
    struct bytes line = { 0 };
    while (next_line(&head, &line) && line.size == 0) {
    }
    int status = parse_request_line(line, &h, e);
    struct bytes authority = h.host;
    h.host = (struct bytes){ 0 };
    h.keep_alive = h.minor == 1;
    for (int n = 0; status == 0 && next_line(&head, &line) && line.size > 0; n++) {
        status =
            n < HTTP_MAX_HEADERS ? parse_header(line, &h, e) : refuse(e, 431, "Too many headers.");
    }
    if (status != 0) {
        return status;
    }
    if (h.chunked && h.content_length >= 0) { /* RFC 9112, 6.1: a way to smuggle requests */
        return refuse(e, 400, "Content-Length and Transfer-Encoding exclude each other.");
    }
    if (h.minor == 1 && h.host.size == 0) {
        return refuse(e, 400, "The Host header is missing.");
    }
    if (!h.chunked && h.content_length < 0 && strcmp(h.method, "POST") == 0) {
        return refuse(e, 411, "A POST needs Content-Length or Transfer-Encoding: chunked.");
    }
    h.host = authority.size > 0 ? authority : h.host;
    *ret = h;
    return 0;
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (uint8_t)lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A line of a chunked body ends with CR LF and has neither within (a bare LF is read differently by
 * different servers, which lets requests be smuggled). True: byte belongs to a line's end; *ended
 * when it is the last of it. */
static bool feed_line_end(struct http_chunks *c, uint8_t byte, bool *ended, int *status,
                          struct error *e)
{
    bool due = c->cr;
    *ended = due && byte == '\n';
    c->cr = !due && byte == '\r';
    if (due != (byte == '\n')) {
        *status = refuse(e, 400, "A line of the chunked body doesn't end with CR LF.");
    }
    return due || c->cr || *status != 0;
}

/* One byte of a chunk-size line; its end starts the data. */
static int feed_size(struct http_chunks *c, uint8_t byte, struct error *e)
{
    int digit = hex(byte), status = 0;
    bool ended = false;
    if (c->line == 0 && digit < 0) {
        return refuse(e, 400, "A chunk's size isn't a hexadecimal number.");
    }
    if (feed_line_end(c, byte, &ended, &status, e)) {
        c->state = ended ? (c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER) : c->state;
        c->line = ended ? 0 : c->line;
        return status;
    }
    if (++c->line > HTTP_MAX_CHUNK_LINE) {
        return refuse(e, 400, "A chunk's size line is too long.");
    }
    if (c->state == CHUNK_SIZE && digit >= 0 && c->line <= 8) {
        c->left = c->left * 16 + (uint64_t)digit;
    } else if (byte == ';' || byte == ' ' || byte == '\t') {
        c->state = CHUNK_EXTENSION;
    } else if (c->state == CHUNK_SIZE) {
        return refuse(e, 400, "A chunk's size isn't a hexadecimal number.");
    }
    return 0;
}

/* One byte of the trailers, which are read and ignored; an empty line ends the body. */
static int feed_trailer(struct http_chunks *c, uint8_t byte, struct error *e)
{
    bool ended = false;
    int status = 0;
    if (feed_line_end(c, byte, &ended, &status, e)) {
        c->done = ended && c->line == 0;
        c->line = ended ? 0 : c->line;
        return status;
    }
    return ++c->line > HTTP_MAX_CHUNK_LINE ? refuse(e, 400, "A trailer is too long.") : 0;
}

int http_chunks_feed(struct http_chunks *c, struct bytes input, struct buffer *body, size_t *used,
                     struct error *e)
{
    size_t i = 0;
    int status = 0;
    while (i < input.size && !c->done && status == 0) {
        uint8_t byte = input.data[i];
        switch (c->state) {
        case CHUNK_DATA: {
            size_t n = input.size - i < c->left ? input.size - i : (size_t)c->left;
            if (buffer_append(body, bytes_of(input.data + i, n)) != 0) {
                status = refuse(e, 413, "The body is too large.");
                break;
            }
            i += n;
            c->left -= n;
            c->state = c->left > 0 ? CHUNK_DATA : CHUNK_DATA_END;
            continue;
        }
        case CHUNK_DATA_END:
            if (byte != (c->line == 0 ? '\r' : '\n')) {
                status = refuse(e, 400, "A chunk doesn't end where its size says.");
            } else if (++c->line == 2) {
                c->line = 0;
                c->state = CHUNK_SIZE;
            }
            break;
        case CHUNK_TRAILER:
            status = feed_trailer(c, byte, e);
            break;
        default:
            status = feed_size(c, byte, e);
            break;
        }
        i++;
    }
    *used = i;
    return status;
}
