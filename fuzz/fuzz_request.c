/* OpenAI's bodies: whatever the bytes, a request that is taken is within its bounds, and one that
 * isn't says why in proper JSON. */
#include "fuzz/fuzz.h"

#include "api/dialects/openai_parse.h"

#include <math.h>
#include <stdlib.h>

static void check(int endpoint, const struct ask *r)
{
    const struct sampling *s = &r->chat.sampling;
    bool bounded = s->temperature >= 0.0f && s->temperature <= 2.0f && s->top_p >= 0.0f &&
                   s->top_p <= 1.0f && s->top_k >= 0 && s->n_top >= 0 &&
                   s->n_top <= SAMPLER_MAX_TOP && s->n_bias <= SAMPLER_MAX_BIAS &&
                   r->chat.n_stops <= STOPS_MAX && r->chat.n_prompts <= OPENAI_MAX_PROMPTS &&
                   r->model != NULL && r->chat.max_tokens >= -1;
    if (!bounded || (endpoint == OPENAI_CHAT) != (r->chat.conversation != NULL)) {
        abort();
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    for (int endpoint = OPENAI_CHAT; endpoint <= OPENAI_TEXT; endpoint++) {
        struct ask r;
        struct api_problem p = { 0 };
        if (openai_parse((enum openai_endpoint)endpoint, bytes_of(data, size), &r, &p) == 0) {
            check(endpoint, &r);
            chat_request_done(&r.chat);
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
