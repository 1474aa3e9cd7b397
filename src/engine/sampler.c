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
/* Where exp stops, far from denormals, and the weight that counts as none. */
#define EXP_LEAST (-700.0)
#define WEIGHT_LEAST 1e-303
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
    double *weights;       /* (vocab) exp of the scaled logits, 1 at the largest */
    struct candidate *set; /* (vocab) candidates of the present pick */
    uint32_t *mask;        /* ((vocab + 31) / 32) what a constraint allows */
};

int sampler_open(struct sampler **ret, int vocab, struct error *e)
{
    if (vocab <= 0) {
        return fail(e, FAIL_RANGE, "sampler for a vocabulary of %d tokens", vocab);
    }
    struct sampler *s = calloc(1, sizeof *s);
    size_t n = (size_t)vocab;
    if (s != NULL) {
        s->vocab = vocab;
        s->adjusted = malloc(n * sizeof *s->adjusted);
        s->counts = calloc(n, sizeof *s->counts);
        s->weights = malloc(n * sizeof *s->weights);
        s->set = malloc(n * sizeof *s->set);
        s->mask = malloc((n + 31) / 32 * sizeof *s->mask);
    }
    if (s == NULL || s->adjusted == NULL || s->counts == NULL || s->weights == NULL ||
        s->set == NULL || s->mask == NULL) {
        sampler_close(s);
        return fail(e, FAIL_NOMEM, "sampler for a vocabulary of %d tokens", vocab);
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
    free(s->weights);
    free(s->set);
    free(s->mask);
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

/* exp of EXP_LEAST <= x <= 0, in operations that a compiler can do for several
 * values at once: 2^k times a Taylor polynomial around 0 of what is left, within 2 units in the
 * last place. The same bits everywhere, as nothing is contracted. */
static inline double exp_negative(double x)
{
    static const double ln2_high = 0x1.62e42fefa0000p-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
    double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p52; /* k in the lowest bits */
    double k = shifted - 0x1.8p52;
    double r = (x - k * ln2_high) - k * ln2_low;
    double p = 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits = 0, scale = 0;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&scale, &p, sizeof scale);
    scale += bits << 52; /* adds k to the exponent */
    memcpy(&p, &scale, sizeof p);
    return p;
}

/* Four sums side by side, always added in the same order. */
static double sum_weights(const struct sampler *s)
{
    double a = 0.0, b = 0.0, c = 0.0, d = 0.0;
    int i = 0;
    for (; i + 4 <= s->vocab; i += 4) {
        a += s->weights[i];
        b += s->weights[i + 1];
        c += s->weights[i + 2];
        d += s->weights[i + 3];
    }
    for (; i < s->vocab; i++) {
        a += s->weights[i];
    }
    return (a + b) + (c + d);
}

/* Weights of all tokens; returns their sum. */
static double weigh(struct sampler *s, float max, double scale)
{
    for (int i = 0; i < s->vocab; i++) { /* loops without branches, for several at once */
        double x = ((double)s->adjusted[i] - (double)max) * scale;
        s->weights[i] = x > EXP_LEAST ? x : EXP_LEAST;
    }
    for (int i = 0; i < s->vocab; i++) {
        s->weights[i] = exp_negative(s->weights[i]);
    }
    for (int i = 0; i < s->vocab; i++) { /* banned tokens have no weight at all */
        s->weights[i] = s->weights[i] > WEIGHT_LEAST ? s->weights[i] : 0.0;
    }
    return sum_weights(s);
}

/* The first of the largest logits, which have no NaN. */
static int32_t argmax(const float *logits, int n)
{
    float lanes[8];
    int i = 0;
    for (int k = 0; k < 8; k++) {
        lanes[k] = -INFINITY;
    }
    for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; k++) {
            lanes[k] = logits[i + k] > lanes[k] ? logits[i + k] : lanes[k];
        }
    }
    for (; i < n; i++) {
        lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
    }
    for (int k = 1; k < 8; k++) {
        lanes[0] = lanes[k] > lanes[0] ? lanes[k] : lanes[0];
    }
    int32_t best = 0;
    while (logits[best] != lanes[0]) {
        best++;
    }
    return best;
}

/* The n_top likeliest tokens of the model's own distribution; returns its log-sum-exp. Before
 * anything is adjusted. */
static double report_top(struct sampler *s, int n_top, struct sampler_pick *ret)
{
    struct candidate top[SAMPLER_MAX_TOP];
    int n = 0;
    float least = -INFINITY; /* of a full list: most tokens are below it */
    for (int32_t i = 0; i < s->vocab && n_top > 0; i++) {
        struct candidate c = { s->adjusted[i], i };
        if (n == n_top && c.logit <= least) {
            continue; /* ties stay with the lower id, which came first */
        }
        int at = n < n_top ? n++ : n - 1;
        for (; at > 0 && before(c, top[at - 1]); at--) {
            top[at] = top[at - 1];
        }
        top[at] = c;
        least = top[n - 1].logit;
    }
    float max = s->adjusted[argmax(s->adjusted, s->vocab)];
    double lse = max > -INFINITY ? (double)max + log(weigh(s, max, 1.0)) : 0.0;
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

static void adjust(struct sampler *s, const struct sampling *o, const struct sampler_history *h)
{
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
static int select_top_p(struct sampler *s, double total, double top_p)
{
    double least = (1.0 - top_p) * total / s->vocab;
    int n = 0;
    for (int32_t i = 0; i < s->vocab; i++) {
        if (s->weights[i] >= least) {
            s->set[n++] = (struct candidate){ s->adjusted[i], i };
        }
    }
    heapify(s->set, n, true);
    /* The root is the next in order: it moves behind the shrinking heap, from the end. */
    double reached = 0.0;
    int kept = 0;
    while (kept < n && reached < top_p * total) {
        struct candidate c = s->set[0];
        reached += s->weights[c.id];
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

/* Cuts a set in order, whose weights are known, to its nucleus. */
static int cut_top_p(const struct sampler *s, int n, double top_p)
{
    double total = 0.0, reached = 0.0;
    for (int i = 0; i < n; i++) {
        total += s->weights[s->set[i].id];
    }
    int kept = 0;
    while (kept < n && reached < top_p * total) {
        reached += s->weights[s->set[kept].id];
        kept++;
    }
    return kept > 0 ? kept : 1;
}

/* Draws from the first n of the set: the first whose running share passes the random number. */
static int32_t draw_from_set(const struct sampler *s, int n, double min_p, double unit)
{
    double total = 0.0, reached = 0.0;
    int32_t last = s->set[0].id;
    for (int i = 0; i < n; i++) {
        double w = s->weights[s->set[i].id];
        total += w >= min_p ? w : 0.0;
    }
    for (int i = 0; i < n; i++) {
        double w = s->weights[s->set[i].id];
        w = w >= min_p ? w : 0.0;
        reached += w;
        last = w > 0.0 ? s->set[i].id : last;
        if (reached > unit * total) {
            break;
        }
    }
    return last;
}

/* The same from the whole vocabulary in the order of ids. */
static int32_t draw_from_all(struct sampler *s, double min_p, double unit)
{
    for (int i = 0; i < s->vocab && min_p > 0.0; i++) {
        s->weights[i] *= s->weights[i] >= min_p ? 1.0 : 0.0;
    }
    double threshold = unit * sum_weights(s), reached = 0.0;
    int32_t last = 0;
    for (int32_t i = 0; i < s->vocab; i++) {
        reached += s->weights[i];
        if (reached > threshold) {
            return i;
        }
        last = s->weights[i] > 0.0 ? i : last; /* rounding may leave the sum below its threshold */
    }
    return last;
}

/* max: the largest logit, not -infinity, whose weight is 1, so that a draw finds one. Tokens whose
 * weight is below min_p are left out of it. */
static int32_t sample(struct sampler *s, const struct sampling *o, float max, double unit)
{
    double scale = 1.0 / (double)o->temperature, top_p = (double)o->top_p;
    double min_p = o->min_p > 0.0f ? fmin((double)o->min_p, 1.0) : 0.0;
    bool nucleus = o->top_p > 0.0f && o->top_p < 1.0f;
    if (o->top_k > 0 && o->top_k < s->vocab) {
        int n = select_top_k(s, o->top_k);
        for (int i = 0; i < n; i++) {
            double x = ((double)s->set[i].logit - (double)max) * scale;
            s->weights[s->set[i].id] = x > EXP_LEAST ? exp_negative(x) : 0.0;
        }
        n = nucleus ? cut_top_p(s, n, top_p) : n;
        return draw_from_set(s, n, min_p, unit);
    }
    double total = weigh(s, max, scale);
    if (nucleus) {
        return draw_from_set(s, select_top_p(s, total, top_p), min_p, unit);
    }
    return draw_from_all(s, min_p, unit);
}

/* Bans what the constraint does not allow. */
static void apply_mask(struct sampler *s)
{
    for (int i = 0; i < s->vocab; i++) {
        if ((s->mask[i / 32] >> (i % 32) & 1) == 0) {
            s->adjusted[i] = -INFINITY;
        }
    }
}

static void take_logits(struct sampler *s, const float *logits)
{
    for (int i = 0; i < s->vocab; i++) {
        s->adjusted[i] = clean(logits[i]);
    }
}

/* Everything is banned: the model's own choice among what the constraint allows. */
static int pick_unbanned(struct sampler *s, const struct sampling *o, const float *logits,
                         struct sampler_pick *ret, struct error *e)
{
    take_logits(s, logits);
    if (s->adjusted[argmax(s->adjusted, s->vocab)] == -INFINITY) {
        return fail(e, FAIL_FORMAT,
                    "the model gives no numbers (NaN): its file is damaged, or it overflows");
    }
    if (o->constraint != NULL) {
        apply_mask(s);
    }
    ret->id = argmax(s->adjusted, s->vocab);
    return s->adjusted[ret->id] > -INFINITY
               ? 0
               : fail(e, FAIL_STATE, "no token that the answer's format allows is left here");
}

int sampler_pick(struct sampler *s, const struct sampling *o, const float *logits,
                 const struct sampler_history *history, struct sampler_pick *ret, struct error *e)
{
    int n_top = o->n_top < 0 ? 0 : o->n_top > SAMPLER_MAX_TOP ? SAMPLER_MAX_TOP : o->n_top;
    n_top = n_top < s->vocab ? n_top : s->vocab;
    bool wanted = o->want_logprob || n_top > 0;
    int code = 0;
    take_logits(s, logits);
    ret->n_top = 0;
    double lse = wanted ? report_top(s, n_top, ret) : 0.0;
    adjust(s, o, history);
    if (o->constraint != NULL) {
        memset(s->mask, 0, ((size_t)s->vocab + 31) / 32 * sizeof *s->mask);
        code = o->constraint->ops->allowed(o->constraint, s->vocab, s->mask, e);
        if (code != 0) {
            return code;
        }
        apply_mask(s);
    }
    ret->id = argmax(s->adjusted, s->vocab);
    float max = s->adjusted[ret->id];
    if (max == -INFINITY) {
        code = pick_unbanned(s, o, logits, ret, e);
    } else if (o->temperature > 0.0f) {
        double unit = random_unit(random_at(o->seed, (uint64_t)history->n));
        ret->id = sample(s, o, max, unit);
    }
    if (code != 0) {
        return code;
    }
    ret->logprob = wanted ? (float)((double)clean(logits[ret->id]) - lse) : 0.0f;
    return o->constraint != NULL ? o->constraint->ops->accept(o->constraint, ret->id, e) : 0;
}
