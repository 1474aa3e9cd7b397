/* What an answer is made of, in the order in which it comes, whatever dialect tells it on. */
#ifndef SHOAL_CHAT_EVENT_H
#define SHOAL_CHAT_EVENT_H

#include "chat/generate.h"

/* Of one answer: START first and once, unless it fails before its first token; text, reasoning and
 * tool calls in any order; FINISH or ERROR last and once. SAMPLED, where it is wanted,
 * comes before the text of its tokens, and before START too. How far the prompt is isn't told but
 * asked for (chat_answers_progress): it matters only where a stream has been silent for long. */
enum chat_event_kind {
    CHAT_START,
    CHAT_TEXT,
    CHAT_REASONING,
    CHAT_TOOL_BEGIN,
    CHAT_TOOL_ARGUMENTS,
    CHAT_SAMPLED,
    CHAT_FINISH,
    CHAT_ERROR,
    CHAT_EVENT_COUNT
};

/* Borrowed for the call. */
struct chat_event {
    enum chat_event_kind kind;
    int answer; /* index, from 0 */
    /* START: the prompt that is to stand before the answer. TEXT, REASONING, TOOL_ARGUMENTS: more
     * of it, valid UTF-8. TOOL_BEGIN: the tool's name. */
    struct bytes text;
    struct bytes log;   /* TEXT, REASONING: the tokens of it, see chat_log_each */
    int call;           /* TOOL_: index of the call in the answer, from 0 */
    const int32_t *ids; /* SAMPLED: (n_ids) what the answer goes on with */
    int n_ids;
    const struct generate_end *end; /* FINISH, ERROR */
};

/* Tokens packed, a tenth of what their JSON takes. FAIL_LIMIT: to is full. */
int chat_log_pack(struct buffer *to, const struct generate_token *tokens, int n);
/* each is called for each token, in order. */
void chat_log_each(struct bytes packed, void (*each)(void *arg, const struct generate_token *token),
                   void *arg);

#endif
