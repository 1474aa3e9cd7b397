/* A model's text to the parts of an answer: what is reasoning, what is text. Stands between what
 * was generated and whoever tells it on. */
#ifndef SHOAL_CHAT_PARSER_H
#define SHOAL_CHAT_PARSER_H

#include "chat/event.h"
#include "chat/request.h"

struct chat_parser;

/* Takes one part of an answer, borrowed for the call. */
typedef void chat_part_fn(void *arg, enum chat_event_kind kind, struct bytes text);

/* The parser that the request needs, for one answer. inside: the prompt has opened the reasoning
 * already. FAIL_NOMEM. */
int chat_parser_open(struct chat_parser **ret, enum chat_reasoning reasoning, bool inside,
                     struct error *e);
/* NULL is fine. */
void chat_parser_close(struct chat_parser *p);

/* Takes more text (valid UTF-8, whole characters) and hands on what is clear; what may become a tag
 * is held back. The parts do not depend on how the text was cut. FAIL_NOMEM. */
int chat_parser_push(struct chat_parser *p, struct bytes text, chat_part_fn *part, void *arg);
/* The answer has ended: hands on what was held back. */
void chat_parser_finish(struct chat_parser *p, chat_part_fn *part, void *arg);

#endif
