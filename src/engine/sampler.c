/* The sampler: bias, penalties, temperature, top-k, top-p, min-p, in this order, then one draw.
 *
 * Ties go to the lowest id everywhere and sums are taken in a fixed order, so a pick is a function
 * of its arguments alone. Nothing sorts the whole vocabulary: top-k keeps a heap of k, top-p looks
 * only at tokens that can be part of the nucleus. */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

/* As llama.cpp's default: far enough back to see a loop of a sentence. */
#define DEFAULT_WINDOW 64
/* OpenAI: -100 is a ban. */
#define BIAS_BAN (-100.0f)

struct candidate {
    float logit;
    int32_t id;
};

struct sampler {
    int vocab;
    float *adjusted;       /* (vocab) logits after bias and penalties */
    uint32_t *counts;      /* (vocab) all zero between calls */
    struct candidate *set; /* (vocab) candidates of the present pick */
};

int sampler_open(struct sampler **ret, int vocab, struct error *e)
{
    if (vocab <= 0) {
        return fail(e, ERR_RANGE, "sampler for a vocabulary of %d tokens", vocab);
    }
    struct sampler *s = calloc(1, sizeof *s);
    size_t n = (size_t)vocab;
    if (s != NULL) {
        s->vocab = vocab;
        s->adjusted = malloc(n * sizeof *s->adjusted);
        s->counts = calloc(n, sizeof *s->counts);
        s->set = malloc(n * sizeof *s->set);
    }
    if (s == NULL || s->adjusted == NULL || s->counts == NULL || s->set == NULL) {
        sampler_close(s);
        return fail(e, ERR_NOMEM, "sampler for a vocabulary of %d tokens", vocab);
    }
    *ret = s;
    return 0;
}

void sampler_close(struct sampler *s)
{
    if (s == NULL) {
        return;
    }
    free(s->adjusted);
    free(s->counts);
    free(s->set);
    free(s);
}

/* A logit that sums and comparisons can't stumble over. */
static inline float clean(float logit)
{
    if (logit != logit) {
        return -INFINITY;
    }
    return logit > FLT_MAX ? FLT_MAX : logit;
}

/* Whether a comes before b: larger logit first, then the lower id. */
static inline bool before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* The model's own distribution: its log-sum-exp, the n_top likeliest tokens. */
static double report_top(const struct sampler *s, const float *logits, int n_top,
                         struct sampler_pick *ret)
{
    struct candidate top[SAMPLER_MAX_TOP];
    int n = 0;
    float max = -INFINITY;
    for (int32_t i = 0; i < s->vocab; i++) {
        struct candidate c = { clean(logits[i]), i };
        max = c.logit > max ? c.logit : max;
        if (n_top == 0 || (n == n_top && !before(c, top[n - 1]))) {
            continue;
        }
        int at = n < n_top ? n++ : n - 1;
        for (; at > 0 && before(c, top[at - 1]); at--) {
            top[at] = top[at - 1];
        }
        top[at] = c;
    }
    double sum = 0.0;
    for (int i = 0; i < s->vocab && max > -INFINITY; i++) {
        sum += exp((double)clean(logits[i]) - (double)max);
    }
    double lse = sum > 0.0 ? (double)max + log(sum) : 0.0;
    for (int i = 0; i < n; i++) {
        ret->top[i].id = top[i].id;
        ret->top[i].logprob = (float)((double)top[i].logit - lse);
    }
    ret->n_top = n;
    return lse;
}

static void penalize_repetition(struct sampler *s, const struct sampling *o,
                                const struct sampler_history *h)
{
    int window = o->penalty_window > 0 ? o->penalty_window : DEFAULT_WINDOW;
    int first = h->n > window ? h->n - window : 0;
    for (int i = first; i < h->n; i++) {
        int32_t id = h->ids[i];
        if (id < 0 || id >= s->vocab || s->counts[id]++ != 0) {
            continue;
        }
        float *l = &s->adjusted[id];
        *l = *l > 0.0f ? *l / o->repetition_penalty : *l * o->repetition_penalty;
    }
    for (int i = first; i < h->n; i++) {
        if (h->ids[i] >= 0 && h->ids[i] < s->vocab) {
            s->counts[h->ids[i]] = 0;
        }
    }
}

static void penalize_presence(struct sampler *s, const struct sampling *o,
                              const struct sampler_history *h)
{
    int first = h->n_generated < h->n ? h->n - h->n_generated : 0;
    for (int i = first; i < h->n; i++) {
        if (h->ids[i] >= 0 && h->ids[i] < s->vocab) {
            s->counts[h->ids[i]]++;
        }
    }
    for (int i = first; i < h->n; i++) {
        int32_t id = h->ids[i];
        if (id >= 0 && id < s->vocab && s->counts[id] != 0) {
            s->adjusted[id] -= o->presence_penalty + o->frequency_penalty * (float)s->counts[id];
            s->counts[id] = 0;
        }
    }
}

static void adjust(struct sampler *s, const struct sampling *o, const float *logits,
                   const struct sampler_history *h)
{
    for (int i = 0; i < s->vocab; i++) {
        s->adjusted[i] = clean(logits[i]);
    }
    if (o->repetition_penalty > 0.0f && o->repetition_penalty != 1.0f) {
        penalize_repetition(s, o, h);
    }
    if (o->presence_penalty != 0.0f || o->frequency_penalty != 0.0f) {
        penalize_presence(s, o, h);
    }
    for (int i = 0; i < o->n_bias; i++) {
        int32_t id = o->bias[i].id;
        if (id >= 0 && id < s->vocab) {
            float l = s->adjusted[id] + o->bias[i].bias;
            s->adjusted[id] = o->bias[i].bias <= BIAS_BAN ? -INFINITY : clean(l);
        }
    }
}

static int32_t argmax(const float *logits, int n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (clean(logits[i]) > clean(logits[best])) {
            best = i;
        }
    }
    return best;
}

/* Restores the heap below `at`; the root is the candidate that comes last (top-k drops it) or,
 * with first true, the one that comes first. */
static void sift_down(struct candidate *heap, int n, int at, bool first)
{
    struct candidate c = heap[at];
    for (;;) {
        int child = 2 * at + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && before(heap[child + 1], heap[child]) == first) {
            child++;
        }
        if (before(heap[child], c) != first) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = c;
}

static void heapify(struct candidate *heap, int n, bool first)
{
    for (int i = n / 2 - 1; i >= 0; i--) {
        sift_down(heap, n, i, first);
    }
}

/* The k first candidates of the vocabulary into the set, in order. */
static int select_top_k(struct sampler *s, int k)
{
    struct candidate *heap = s->set;
    for (int32_t i = 0; i < k; i++) {
        heap[i] = (struct candidate){ s->adjusted[i], i };
    }
    heapify(heap, k, false);
    for (int32_t i = k; i < s->vocab; i++) {
        struct candidate c = { s->adjusted[i], i };
        if (before(c, heap[0])) {
            heap[0] = c;
            sift_down(heap, k, 0, false);
        }
    }
    for (int n = k - 1; n > 0; n--) { /* the last ones go to the end: a heapsort */
        struct candidate c = heap[0];
        heap[0] = heap[n];
        heap[n] = c;
        sift_down(heap, n, 0, false);
    }
    return k;
}

/* The smallest set of first tokens whose share reaches top_p, in order, without top-k. A token
 * below (1 - p) / vocab of the whole can't be in it: all such together hold less than 1 - p. */
static int select_top_p(struct sampler *s, float max, double temperature, double top_p)
{
    double total = 0.0;
    for (int i = 0; i < s->vocab; i++) {
        total += exp(((double)s->adjusted[i] - (double)max) / temperature);
    }
    double least = log((1.0 - top_p) * total / s->vocab) * temperature + (double)max;
    int n = 0;
    for (int32_t i = 0; i < s->vocab; i++) {
        if ((double)s->adjusted[i] >= least || s->adjusted[i] == max) {
            s->set[n++] = (struct candidate){ s->adjusted[i], i };
        }
    }
    heapify(s->set, n, true);
    /* The root is the next in order: it moves behind the shrinking heap, from the end. */
    double reached = 0.0;
    int kept = 0;
    while (kept < n && reached < top_p * total) {
        struct candidate c = s->set[0];
        reached += exp(((double)c.logit - (double)max) / temperature);
        kept++;
        s->set[0] = s->set[n - kept];
        s->set[n - kept] = c;
        sift_down(s->set, n - kept, 0, true);
    }
    for (int i = 0; i < kept; i++) { /* the first stands at n - 1, the last at n - kept */
        int from = n - 1 - i;
        if (from <= i) {
            break;
        }
        struct candidate c = s->set[i];
        s->set[i] = s->set[from];
        s->set[from] = c;
    }
    return kept;
}

/* Cuts a set in order to its nucleus. */
static int cut_top_p(const struct sampler *s, int n, double temperature, double top_p)
{
    double max = (double)s->set[0].logit, total = 0.0, reached = 0.0;
    for (int i = 0; i < n; i++) {
        total += exp(((double)s->set[i].logit - max) / temperature);
    }
    int kept = 0;
    while (kept < n && reached < top_p * total) {
        reached += exp(((double)s->set[kept].logit - max) / temperature);
        kept++;
    }
    return kept > 0 ? kept : 1;
}

/* Draws from the set: the first whose running share passes the random number. */
static int32_t draw(const struct sampler *s, int n, double max, double temperature, double unit)
{
    double total = 0.0, reached = 0.0;
    for (int i = 0; i < n; i++) {
        total += exp(((double)s->set[i].logit - max) / temperature);
    }
    int32_t last = s->set[0].id;
    for (int i = 0; i < n; i++) {
        double w = exp(((double)s->set[i].logit - max) / temperature);
        if (w <= 0.0) {
            continue;
        }
        reached += w;
        last = s->set[i].id;
        if (reached > unit * total) {
            break;
        }
    }
    return last;
}

static int32_t sample(struct sampler *s, const struct sampling *o, float max, double unit)
{
    double temperature = (double)o->temperature, top_p = (double)o->top_p;
    bool nucleus = o->top_p > 0.0f && o->top_p < 1.0f;
    int n = 0;
    if (o->top_k > 0 && o->top_k < s->vocab) {
        n = select_top_k(s, o->top_k);
        n = nucleus ? cut_top_p(s, n, temperature, top_p) : n;
    } else if (nucleus) {
        n = select_top_p(s, max, temperature, top_p);
    } else {
        for (int32_t i = 0; i < s->vocab; i++) {
            s->set[i] = (struct candidate){ s->adjusted[i], i };
        }
        n = s->vocab;
    }
    if (o->min_p > 0.0f) {
        double least = (double)max + temperature * log((double)o->min_p);
        int kept = 0;
        for (int i = 0; i < n; i++) {
            if ((double)s->set[i].logit >= least || s->set[i].logit == max) {
                s->set[kept++] = s->set[i];
            }
        }
        n = kept;
    }
    return draw(s, n, (double)max, temperature, unit);
}

void sampler_pick(struct sampler *s, const struct sampling *o, const float *logits,
                  const struct sampler_history *history, struct sampler_pick *ret)
{
    int n_top = o->n_top < 0 ? 0 : o->n_top > SAMPLER_MAX_TOP ? SAMPLER_MAX_TOP : o->n_top;
    n_top = n_top < s->vocab ? n_top : s->vocab;
    bool wanted = o->want_logprob || n_top > 0;
    ret->n_top = 0;
    double lse = wanted ? report_top(s, logits, n_top, ret) : 0.0;
    adjust(s, o, logits, history);
    ret->id = argmax(s->adjusted, s->vocab);
    float max = s->adjusted[ret->id];
    if (max == -INFINITY) { /* everything is banned: the model's own choice */
        ret->id = argmax(logits, s->vocab);
    } else if (o->temperature > 0.0f) {
        double unit = random_unit(random_at(o->seed, (uint64_t)history->n));
        ret->id = sample(s, o, max, unit);
    }
    ret->logprob = wanted ? (float)((double)clean(logits[ret->id]) - lse) : 0.0f;
}
