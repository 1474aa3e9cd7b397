/* The output parser: what a model writes, cut anywhere, gives the same parts as in one piece, and
 * nothing but white space and tags is lost. The first byte: which parser, and how the text is cut.
 */
#include "fuzz/fuzz.h"

#include "base/buffer.h"
#include "base/utf8.h"
#include "chat/parser.h"

#include <stdlib.h>

/* Each part as its kind and its text, those of one kind joined. */
struct parts {
    struct buffer text;
    int last;
};

static void on_part(void *arg, enum chat_event_kind kind, struct bytes text)
{
    struct parts *p = arg;
    if (text.size == 0 || (kind != CHAT_TEXT && kind != CHAT_REASONING)) {
        abort();
    }
    if (p->last != (int)kind) {
        buffer_u8(&p->text, kind == CHAT_TEXT ? 0xfe : 0xff); /* in no UTF-8 */
    }
    p->last = (int)kind;
    buffer_append(&p->text, text);
}

static void parse(struct bytes text, uint8_t how, size_t step, struct parts *p)
{
    struct chat_parser *parser = NULL;
    struct error e = { 0 };
    *p = (struct parts){ .last = -1 };
    buffer_init(&p->text, 2 * text.size + 16);
    enum chat_reasoning reasoning = how & 1 ? CHAT_REASONING_APART : CHAT_REASONING_TEXT;
    if (chat_parser_open(&parser, reasoning, (how & 3) == 3, &e) != 0) {
        abort();
    }
    for (size_t i = 0, n; i < text.size; i += n) {
        n = text.size - i < step ? text.size - i : step;
        while (i + n < text.size && (text.data[i + n] & 0xc0) == 0x80) {
            n++; /* whole characters */
        }
        if (chat_parser_push(parser, bytes_of(text.data + i, n), on_part, p) != 0) {
            abort();
        }
    }
    chat_parser_finish(parser, on_part, p);
    chat_parser_close(parser);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct parts whole, pieces;
    if (size == 0) {
        return;
    }
    struct bytes text = bytes_of(data + 1, size - 1);
    for (size_t i = 0; i < text.size;) {
        uint32_t c;
        int n = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        if (n <= 0) {
            return;
        }
        i += (size_t)n;
    }
    parse(text, data[0], SIZE_MAX, &whole);
    parse(text, data[0], 1 + (data[0] >> 2) % 8, &pieces);
    if (!bytes_equal(buffer_bytes(&whole.text), buffer_bytes(&pieces.text)) ||
        whole.text.size > text.size + 2) {
        abort();
    }
    buffer_done(&whole.text);
    buffer_done(&pieces.text);
}
