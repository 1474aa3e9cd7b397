/* A chat with history, as a client of /v1/chat/completions sees it; for this folder only. */
#ifndef SHOAL_CLI_CONVERSATION_H
#define SHOAL_CLI_CONVERSATION_H

#include "base/buffer.h"
#include "base/error.h"
#include "cli/wrap.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct conversation_options {
    const char *model;
    const char *system;      /* NULL: none */
    double temperature;      /* < 0: the server's default */
    double top_p;            /* < 0: the server's default */
    const char *const *stop; /* texts that end an answer */
    int n_stop;
    bool silent;        /* the answer is kept, not shown */
    int64_t seed;       /* < 0: none */
    int64_t max_tokens; /* 0: none */
};

/* Zero-initialise, then init; done frees. */
struct conversation {
    struct conversation_options options;
    json_t *messages;
    struct buffer line;    /* of the stream, until its end is there */
    struct buffer answer;  /* the present one */
    struct buffer failure; /* an error's body */
    bool ended;            /* the stream said [DONE] */
    char finish[32];       /* why the answer ended, as the API calls it; "": it didn't say */
    struct wrap wrap;      /* the answer's place on a terminal */
    uint64_t asked_ns, first_ns, last_ns;
    int prompt_tokens, cached_tokens, completion_tokens;
};

/* An empty history, or one of the system message. o's texts are borrowed. FAIL_NOMEM, FAIL_ARG. */
int conversation_init(struct conversation *c, const struct conversation_options *o,
                      struct error *e);
/* Frees what init and the turns made. */
void conversation_done(struct conversation *c);

/* Forgets all but the system message. */
void conversation_clear(struct conversation *c);

/* Adds the user's message and gives the request's JSON body (caller frees by free()). FAIL_ARG for
 * what is no text: NUL bytes, bytes that are no UTF-8. */
int conversation_ask(struct conversation *c, struct bytes text, char **body, struct error *e);

/* Bytes of the reply's event stream, or of an error's body. Printable text goes to stdout. */
int conversation_take(void *c, struct bytes data);

/* After the reply: keeps the answer as history, or takes the question back when it failed.
 * status: HTTP's; result: the transfer's. Errors carry the server's message. */
int conversation_finish(struct conversation *c, long status, int result, struct error *e);

/* "prefill 120 tokens, 830.1 tokens/s; decode 64 tokens, 55.0 tokens/s" to stderr; of a handful of
 * tokens no rate, which would be noise. */
void conversation_print_rates(const struct conversation *c);

/* To stderr, that the answer is not whole, and why; nothing if it is. */
void conversation_print_cut(const struct conversation *c);

/* The last answer and what is known of it, as one JSON object to stdout. FAIL_NOMEM, FAIL_IO. */
int conversation_print_json(const struct conversation *c, struct error *e);

#endif
