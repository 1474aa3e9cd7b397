/* What is asked of a model, whatever dialect it was asked in. */
#ifndef SHOAL_CHAT_REQUEST_H
#define SHOAL_CHAT_REQUEST_H

#include "chat/stops.h"
#include "engine/sampler.h"

#include <jansson.h>

/* A prompt without a conversation: a text, or ids when ids is not NULL. */
struct chat_prompt {
    struct bytes text; /* borrowed from the request's root */
    int32_t *ids;      /* owned; not checked against a vocabulary */
    int n_ids;
};

/* What becomes of the reasoning that a model writes between tags. */
enum chat_reasoning {
    CHAT_REASONING_TEXT, /* it stays in the text with its tags */
    CHAT_REASONING_APART /* events of its own, without tags */
};

/* Caller's struct; zero is a request for nothing. Whoever parsed it ends it by chat_request_done.
 */
struct chat_request {
    json_t *root; /* owned, or NULL: what the texts below are borrowed from */
    /* Owned: {"messages": [...], "tools": [...], ...}, the variables of the template; NULL: prompts
     * instead. */
    json_t *conversation;
    struct chat_prompt *prompts; /* (n_prompts), owned */
    int n_prompts;
    int n;                    /* answers to each conversation or prompt; at least 1 */
    bool echo;                /* a prompt comes before its answer */
    int max_tokens;           /* < 0: as far as the context goes */
    bool has_seed;            /* else each answer gets one of its own */
    struct sampling sampling; /* bias and constraint are owned; each answer gets a clone of it */
    bool want_logprobs;       /* sampling.n_top says how many alternatives */
    struct bytes stops[STOPS_MAX];
    int n_stops;
    enum chat_reasoning reasoning;
};

/* Frees what it owns. */
void chat_request_done(struct chat_request *r);

/* Answers that it asks for. */
int chat_request_answers(const struct chat_request *r);

#endif
