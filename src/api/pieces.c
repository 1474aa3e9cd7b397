/* A large answer in pieces. */
#include "api/internal.h"

#include <stdlib.h>

/* Bytes of one piece, and of the largest value in it: an answer's whole text. */
#define PIECE (64u << 10)
#define MAX_PIECE (PIECE + 6 * API_MAX_TEXT)

void pieces_begin(struct pieces *p, struct responder *r, int status)
{
    *p = (struct pieces){ .responder = r };
    buffer_init(&p->text, MAX_PIECE);
    r->closed = NULL;
    r->ops->begin(r, status, "application/json", false, NULL);
}

static void flush(struct pieces *p)
{
    p->failed = p->failed || p->text.failed;
    if (!p->failed) {
        p->failed = p->responder->ops->write(p->responder, buffer_bytes(&p->text)) != 0;
    }
    buffer_clear(&p->text);
}

void pieces_text(struct pieces *p, const char *text)
{
    buffer_text(&p->text, text);
    if (p->text.size >= PIECE) {
        flush(p);
    }
}

void pieces_json(struct pieces *p, json_t *value)
{
    char *text = value != NULL ? json_dumps(value, API_JSON_FLAGS | JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    p->failed = p->failed || text == NULL;
    pieces_text(p, text != NULL ? text : "");
    free(text);
}

void pieces_end(struct pieces *p)
{
    flush(p);
    buffer_done(&p->text);
    p->responder->ops->end(p->responder);
}
