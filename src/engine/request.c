/* See request.h. */
#include "engine/request.h"

#include "os/clock.h"

#include <stdlib.h>
#include <string.h>

int request_open(struct request **ret, const struct engine_request *ask, int context,
                 struct error *e)
{
    int room = context - ask->n_prompt;
    int most = ask->max_tokens < 0 || ask->max_tokens > room ? room : ask->max_tokens;
    struct request *r = calloc(1, sizeof(*r));
    int32_t *tokens = malloc((size_t)(ask->n_prompt + most + 1) * sizeof(*tokens));
    if (!r || !tokens) {
        free(r);
        free(tokens);
        return fail(e, FAIL_NOMEM, "a request of %d tokens", ask->n_prompt);
    }
    memcpy(tokens, ask->prompt, (size_t)ask->n_prompt * sizeof(*tokens));
    r->ask = *ask;
    r->tokens = tokens;
    r->ask.prompt = tokens;
    r->n_tokens = r->n_prompt = ask->n_prompt;
    r->capacity = ask->n_prompt + (most > 0 ? most : 1);
    r->n_told = ask->first_row;
    r->submitted_ns = clock_now_ns();
    *ret = r;
    return 0;
}

void request_close(struct request *r)
{
    struct constraint *c = r->ask.sampling.constraint;
    if (c)
        c->ops->close(c);
    free(r->tokens);
    free(r);
}

void request_rewind(struct request *r)
{
    r->phase = REQUEST_WAITING;
    r->session = NULL;
    r->held = false;
    r->n_sent = r->n_done = r->in_flight = 0;
}

void request_queue_add(struct request_queue *q, struct request *r)
{
    r->next = NULL;
    if (q->last)
        q->last->next = r;
    else
        q->first = r;
    q->last = r;
}

void request_queue_add_first(struct request_queue *q, struct request *r)
{
    r->next = q->first;
    q->first = r;
    if (!q->last)
        q->last = r;
}

struct request *request_queue_take(struct request_queue *q)
{
    struct request *r = q->first;
    if (!r)
        return NULL;
    q->first = r->next;
    if (!q->first)
        q->last = NULL;
    r->next = NULL;
    return r;
}
