/* Sampling: a pure function of logits, history, settings, seed and position. */
#ifndef SHOAL_ENGINE_SAMPLER_H
#define SHOAL_ENGINE_SAMPLER_H

#include "base/error.h"
#include "engine/constraint.h"

#include <stdbool.h>
#include <stdint.h>

#define SAMPLER_MAX_BIAS 1024
#define SAMPLER_MAX_TOP 20 /* OpenAI's limit of top_logprobs */

struct sampler_bias {
    int32_t id;
    float bias; /* added to the logit; -100 or less bans, as OpenAI has it */
};

/* Zero-initialised means greedy. Copied by value; bias and constraint are borrowed for the
 * request's life. */
struct sampling {
    float temperature;        /* 0: greedy */
    int top_k;                /* 0: off */
    float top_p;              /* 0 or >= 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 0 or 1: off; llama.cpp's rule: divides positive logits */
    float presence_penalty;   /* OpenAI's rules, over generated tokens */
    float frequency_penalty;
    int penalty_window; /* tokens of history the repetition penalty looks at; 0: 64 */
    uint64_t seed;
    const struct sampler_bias *bias;
    int n_bias;
    int n_top; /* alternatives to report, 0..SAMPLER_MAX_TOP */
    bool want_logprob;
    struct constraint *constraint; /* what the answer must keep to, or NULL */
};

struct sampler_logprob {
    int32_t id;
    float logprob;
};

/* What one pick gives. */
struct sampler_pick {
    int32_t id;    /* -1: there was no number to pick from */
    float logprob; /* of the model's own distribution, before penalties and temperature */
    struct sampler_logprob top[SAMPLER_MAX_TOP];
    int n_top;
};

/* Scratch of one head thread. */
struct sampler;
int sampler_open(struct sampler **ret, int vocab, struct error *e);
void sampler_close(struct sampler *s);

/* The sequence so far. Borrowed. */
struct sampler_history {
    const int32_t *ids; /* (n) prompt and generated tokens */
    int n;
    int n_generated; /* the last ones, which the model made */
};

/* Picks the token that follows the history, and tells the constraint. logits: (vocab), not changed.
 * The random number is random_at(seed, history->n), so the same request gives the same tokens alone
 * or among others. NaN logits count as -infinity. FAIL_FORMAT where all are: the model gives no
 * numbers; FAIL_STATE where the constraint allows none that is a number; the constraint's own
 * errors. Allocates nothing. */
int sampler_pick(struct sampler *s, const struct sampling *o, const float *logits,
                 const struct sampler_history *history, struct sampler_pick *ret, struct error *e);

#endif
