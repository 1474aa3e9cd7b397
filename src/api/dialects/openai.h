/* OpenAI's API: chat completions and completions. */
#ifndef SHOAL_API_DIALECTS_OPENAI_H
#define SHOAL_API_DIALECTS_OPENAI_H

#include "api/answer.h"

/* POST /v1/chat/completions, POST /v1/completions. */
extern const struct dialect dialect_openai_chat, dialect_openai_text;

/* What differs between the two. */
struct openai_format {
    const char *id_prefix, *object, *chunk_object;
    /* Parts of "choices". whole writes what text and log have; chunk says text and its tokens,
     * packed, finish NULL where it isn't known yet. */
    void (*whole)(const struct answer *a, int index, const char *finish, struct pieces *out);
    json_t *(*chunk)(const struct answer *a, const struct chat_event *e, const char *finish);
};

/* The table's functions; its own is the format. */
void openai_begin(struct answer *a);
int openai_event(struct answer *a, const struct chat_event *e);
void openai_end(struct answer *a, struct responder *r);
void openai_error(struct responder *r, const struct api_problem *p, bool streaming);
int openai_keep_alive(struct answer *a, int done, int total);

/* A table that reads with parse_fn and tells in format. */
#define OPENAI_DIALECT(parse_fn, format)                                                           \
    {                                                                                              \
        .parse = parse_fn, .begin = openai_begin, .event = openai_event, .end = openai_end,        \
        .error = openai_error, .keep_alive = openai_keep_alive,                                    \
        .stream_type = "text/event-stream; charset=utf-8", .own = format                           \
    }

#endif
