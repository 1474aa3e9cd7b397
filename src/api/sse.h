/* Server-sent events. Source: WHATWG HTML, "Server-sent events". */
#ifndef SHOAL_API_SSE_H
#define SHOAL_API_SSE_H

#include "api/responder.h"

#include <jansson.h>

/* "data: {...}\n\n"; json is stolen. Returns what the responder's write does, FAIL_NOMEM. */
int sse_json(struct responder *r, json_t *json);
/* "data: [DONE]\n\n", OpenAI's end of a stream. */
int sse_done(struct responder *r);
/* ": prefill 120 of 512 tokens\n\n": clients skip it, proxies see that the line lives. */
int sse_progress(struct responder *r, int done, int total);

#endif
