/* What a web server and a state file may say to a download: heads of answers are judged and
 * explained, addresses taken apart, names made harmless. The first byte chooses. */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/part.h"
#include "store/reply.h"
#include "store/source.h"

static void fuzz_head(struct bytes input)
{
    struct reply r;
    struct error e = { 0 };
    reply_init(&r);
    while (input.size > 0) {
        const uint8_t *end = memchr(input.data, '\n', input.size);
        size_t n = end ? (size_t)(end - input.data) + 1 : input.size;
        reply_line(&r, bytes_of(input.data, n));
        input = bytes_of(input.data + n, input.size - n);
    }
    assert(strlen(r.etag) < sizeof r.etag && strlen(r.location) < sizeof r.location);
    assert(r.last < 0 || r.first <= r.last);
    assert(r.total < 0 || r.last < r.total);
    for (uint64_t offset = 0; offset < 20; offset += 10) {
        struct reply_request q = { .offset = offset, .size = 20, .etag = "\"a\"" };
        enum reply_action a = reply_judge(&r, &q);
        assert(a < REPLY_ACTION_COUNT);
        assert(a != REPLY_TAKE || (r.first == (int64_t)offset && r.last < 20 && offset > 0));
    }
    struct reply_asked asked = { .url = "u", .page = "p", .host = "h", .hub = r.status & 1 };
    assert(reply_explain(&r, &asked, &e) < 0 && e.text[0] != '\0');
}

static void fuzz_state(struct bytes input)
{
    struct part_state s;
    if (part_state_parse(input, &s, NULL) == 0) {
        assert(s.size >= -1 && strlen(s.source) == DIGEST_TEXT - 1);
        assert(strpbrk(s.etag, "\r\n") == NULL && strpbrk(s.modified, "\r\n") == NULL);
    }
}

static void fuzz_source(const char *text)
{
    struct source s, part;
    if (source_parse(text, SOURCE_HUB_ENDPOINT, &s, NULL) != 0) {
        return;
    }
    assert(s.name[0] != '\0' && s.name[0] != '.' && strpbrk(s.name, "/\\\r\n") == NULL);
    assert(s.part >= 1 && s.part <= s.parts);
    if (source_part(&s, s.parts, &part, NULL) == 0) {
        assert(strlen(part.name) == strlen(s.name) && strlen(part.from) == strlen(s.from));
    }
    struct url u, next;
    char shown[64];
    if (s.kind != SOURCE_FILE && url_parse(s.from, &u, NULL) == 0) {
        url_show(&u, shown, sizeof shown);
        assert(strchr(shown, '?') == NULL);
        assert(url_redirect(&u, text, &next, NULL) != 0 || next.encrypted || !u.encrypted);
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return;
    }
    struct bytes rest = bytes_of(data + 1, size - 1);
    char *text = malloc(size);
    if (text == NULL) {
        return;
    }
    memcpy(text, rest.data, rest.size);
    text[rest.size] = '\0';
    switch (data[0]) {
    case 's':
        fuzz_state(rest);
        break;
    case 'u':
        fuzz_source(text);
        break;
    default:
        fuzz_head(rest);
        break;
    }
    free(text);
}
