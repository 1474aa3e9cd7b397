/* OpenAI's request bodies: JSON to a struct, or the reason why not. Pure. */
#ifndef SHOAL_API_OPENAI_PARSE_H
#define SHOAL_API_OPENAI_PARSE_H

#include "api/problem.h"
#include "base/bytes.h"
#include "engine/sampler.h"
#include "chat/stops.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* OpenAI's limits; of stops there may be more, see chat/stops.h. */
#define OPENAI_MAX_TEXT_LOGPROBS 5
/* Prompts of one completion request: as many places as a queue has. */
#define OPENAI_MAX_PROMPTS 64
/* Messages of a conversation, and parts of one: far above any context window. */
#define OPENAI_MAX_MESSAGES 10000
#define OPENAI_MAX_PARTS 1000
/* What a completion without max_tokens gets, as at OpenAI. */
#define OPENAI_TEXT_MAX_TOKENS 16

enum openai_endpoint { OPENAI_CHAT, OPENAI_TEXT };

/* One prompt of a completion: a text, or ids when ids is not NULL. */
struct openai_prompt {
    struct bytes text; /* borrowed from the body */
    int32_t *ids;      /* owned; not checked against a vocabulary */
    int n_ids;
};

/* Owned by the caller after success: openai_request_done. */
struct openai_request {
    enum openai_endpoint endpoint;
    json_t *root; /* owned; the texts below are borrowed from it */
    const char *model;
    bool stream, include_usage;
    bool echo;                /* completions: the prompt comes before the answer */
    bool want_logprobs;       /* sampling.n_top says how many alternatives */
    int max_tokens;           /* < 0: as far as the context goes */
    bool has_seed;            /* else each answer gets one of its own */
    struct sampling sampling; /* bias is owned by this struct */
    struct bytes stops[STOPS_MAX];
    int n_stops;
    json_t *conversation; /* chat, owned: {"messages": [{role, content}], ...} for the template */
    struct openai_prompt *prompts; /* completions, owned */
    int n_prompts;
};

/* Reads a body. Unknown and harmless fields are ignored; those of OpenAI's that would change the
 * answer and are not there yet are refused by name unless they have their default. Returns 0, or -1
 * with the problem; *ret is then untouched. */
int openai_parse(enum openai_endpoint endpoint, struct bytes body, struct openai_request *ret,
                 struct api_problem *p);
void openai_request_done(struct openai_request *r);

#endif
