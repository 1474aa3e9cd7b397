/* OpenAI's request bodies: JSON to a struct, or the reason why not. Pure. */
#ifndef SHOAL_API_DIALECTS_OPENAI_PARSE_H
#define SHOAL_API_DIALECTS_OPENAI_PARSE_H

#include "api/dialect.h"

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

/* Reads a body. Unknown and harmless fields are ignored; those of OpenAI's that would change the
 * answer and are not there yet are refused by name unless they have their default. Returns 0, or -1
 * with the problem; *ret is then untouched. */
int openai_parse(enum openai_endpoint endpoint, struct bytes body, struct ask *ret,
                 struct api_problem *p);

#endif
