/* Server-sent events. */
#include "api/sse.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/problem.h"
#include "base/buffer.h"

/* Bytes of one event: a turn's text with log probabilities stays far below. */
#define MAX_EVENT (64u << 20)

int sse_json(struct responder *r, json_t *json)
{
    char *text = json != NULL ? json_dumps(json, API_JSON_FLAGS) : NULL;
    json_decref(json);
    if (text == NULL) {
        return FAIL_NOMEM;
    }
    struct buffer event; /* in one piece: one write, one HTTP chunk */
    buffer_init(&event, MAX_EVENT);
    buffer_text(&event, "data: ");
    buffer_text(&event, text);
    buffer_text(&event, "\n\n");
    int code = event.failed ? FAIL_NOMEM : r->ops->write(r, buffer_bytes(&event));
    buffer_done(&event);
    free(text);
    return code;
}

int sse_done(struct responder *r)
{
    return r->ops->write(r, bytes_text("data: [DONE]\n\n"));
}

int sse_progress(struct responder *r, int done, int total)
{
    char line[80];
    int n = total > 0 ? snprintf(line, sizeof line, ": prefill %d of %d tokens\n\n", done, total)
                      : snprintf(line, sizeof line, ": waiting\n\n");
    return r->ops->write(r, bytes_of(line, (size_t)n));
}
