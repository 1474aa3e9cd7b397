/* OpenAI's bodies: whatever the bytes, a request that is taken is within its bounds, and one that
 * isn't says why in proper JSON. */
#include "fuzz/fuzz.h"

#include "api/openai_parse.h"

#include <math.h>
#include <stdlib.h>

static void check(const struct openai_request *r)
{
    const struct sampling *s = &r->sampling;
    bool bounded = s->temperature >= 0.0f && s->temperature <= 2.0f && s->top_p >= 0.0f &&
                   s->top_p <= 1.0f && s->top_k >= 0 && s->n_top >= 0 &&
                   s->n_top <= SAMPLER_MAX_TOP && s->n_bias <= SAMPLER_MAX_BIAS &&
                   r->n_stops <= STOPS_MAX && r->n_prompts <= OPENAI_MAX_PROMPTS &&
                   r->model != NULL && r->max_tokens >= -1;
    if (!bounded || (r->endpoint == OPENAI_CHAT) != (r->conversation != NULL)) {
        abort();
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    for (int endpoint = OPENAI_CHAT; endpoint <= OPENAI_TEXT; endpoint++) {
        struct openai_request r;
        struct api_problem p = { 0 };
        if (openai_parse((enum openai_endpoint)endpoint, bytes_of(data, size), &r, &p) == 0) {
            check(&r);
            openai_request_done(&r);
            continue;
        }
        json_t *j = problem_json(&p);
        bool status = p.status == 400 || p.status == 404;
        if (!status || p.message[0] == '\0' || j == NULL) {
            abort();
        }
        json_decref(j);
    }
}
