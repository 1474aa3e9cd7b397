/* Parts of an answer: see parser.h. A format is a row of the table below. */
#include "chat/parser.h"

#include <stdlib.h>

#include "base/attributes.h"
#include "base/buffer.h"

/* White space before the tag that opens an answer; a model that writes more of it begins with
 * text. Held back are at most this and a tag. */
#define MAX_BLANK 4096
/* With one piece of text that comes: far more than a token has. */
#define MAX_PUSHED (4u << 20)

enum place { BEFORE, INSIDE, BEHIND };

struct format {
    enum chat_reasoning reasoning;
    const char *open, *close; /* tags, or NULL: everything is text */
};

static const struct format formats[] = {
    { CHAT_REASONING_TEXT, NULL, NULL },
    { CHAT_REASONING_APART, "<think>", "</think>" },
};

struct chat_parser {
    const struct format *format;
    enum place place;
    bool skip;          /* white space that follows a tag */
    struct buffer held; /* the beginning of what may be a tag */
};

int chat_parser_open(struct chat_parser **ret, enum chat_reasoning reasoning, bool inside,
                     struct error *e)
{
    struct chat_parser *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return fail(e, FAIL_NOMEM, "memory for an answer");
    }
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (formats[i].reasoning == reasoning) {
            p->format = &formats[i];
        }
    }
    p->place = p->format->open == NULL ? BEHIND : inside ? INSIDE : BEFORE;
    p->skip = inside;
    buffer_init(&p->held, MAX_PUSHED);
    *ret = p;
    return 0;
}

void chat_parser_close(struct chat_parser *p)
{
    if (p != NULL) {
        buffer_done(&p->held);
        free(p);
    }
}

static size_t white_space(struct bytes text)
{
    size_t n = 0;
    while (n < text.size && strchr(" \t\r\n", text.data[n]) != NULL && text.data[n] != '\0') {
        n++;
    }
    return n;
}

static struct bytes behind(struct bytes text, size_t n)
{
    return bytes_of(text.data + n, text.size - n);
}

/* Hands on text of the present place. */
static void hand_on(struct chat_parser *p, struct bytes text, chat_part_fn *part, void *arg)
{
    if (p->skip && text.size > 0) {
        text = behind(text, white_space(text));
    }
    if (text.size > 0) {
        p->skip = false;
        part(arg, p->place == INSIDE ? CHAT_REASONING : CHAT_TEXT, text);
    }
}

/* Bytes at text's end that may be the beginning of a tag. */
static size_t tag_begun(struct bytes text, const char *tag)
{
    size_t most = strlen(tag) - 1;
    for (size_t n = most < text.size ? most : text.size; n > 0; n--) {
        if (memcmp(text.data + text.size - n, tag, n) == 0) {
            return n;
        }
    }
    return 0;
}

/* Only an answer's very beginning opens the reasoning. Returns the bytes that are done with. */
static size_t before(struct chat_parser *p, struct bytes text)
{
    const char *tag = p->format->open;
    size_t blank = white_space(text), size = strlen(tag), left = text.size - blank;
    size_t same = left < size ? left : size;
    bool begun = blank <= MAX_BLANK && memcmp(text.data + blank, tag, same) == 0;
    if (begun && same == size) {
        p->place = INSIDE;
        p->skip = true;
        return blank + size;
    }
    if (!begun) {
        p->place = BEHIND;
    }
    return 0;
}

/* Reasoning up to its closing tag. Returns the bytes that are done with. */
static size_t inside(struct chat_parser *p, struct bytes text, chat_part_fn *part, void *arg)
{
    const char *tag = p->format->close;
    const uint8_t *at = text.size > 0 ? memmem(text.data, text.size, tag, strlen(tag)) : NULL;
    size_t n = at != NULL ? (size_t)(at - text.data) : text.size - tag_begun(text, tag);
    hand_on(p, bytes_of(text.data, n), part, arg);
    if (at == NULL) {
        return n;
    }
    p->place = BEHIND;
    p->skip = true;
    return n + strlen(tag);
}

int chat_parser_push(struct chat_parser *p, struct bytes text, chat_part_fn *part, void *arg)
{
    if (text.size == 0) {
        return 0;
    }
    if (p->place == BEHIND && p->held.size == 0) {
        hand_on(p, text, part, arg);
        return 0;
    }
    if (buffer_append(&p->held, text) != 0) {
        return FAIL_NOMEM;
    }
    struct bytes rest = buffer_bytes(&p->held);
    if (p->place == BEFORE) {
        rest = behind(rest, before(p, rest));
    }
    if (p->place == INSIDE) {
        rest = behind(rest, inside(p, rest, part, arg));
    }
    if (p->place == BEHIND) {
        hand_on(p, rest, part, arg);
        rest.size = 0;
    }
    memmove(p->held.data, rest.data, rest.size);
    p->held.size = rest.size;
    return 0;
}

void chat_parser_finish(struct chat_parser *p, chat_part_fn *part, void *arg)
{
    hand_on(p, buffer_bytes(&p->held), part, arg);
    buffer_clear(&p->held);
}
