/* The sampler: ties, filters, penalties, and the frequencies it draws with. */
#include "tests/test.h"

#include <math.h>

#include "base/random.h"
#include "engine/sampler.h"

#define VOCAB 1000

static int pick_at(struct sampler *s, const struct sampling *o, const float *logits, int n)
{
    int32_t ids[512] = { 0 };
    struct sampler_pick p;
    int code = sampler_pick(s, o, logits, &(struct sampler_history){ ids, n, 0 }, &p, NULL);
    return code == 0 ? p.id : code;
}

static void fill(float *logits, int n, uint64_t seed, double scale)
{
    struct random r = { seed };
    for (int i = 0; i < n; i++) {
        logits[i] = (float)(scale * (random_unit(random_next(&r)) * 2.0 - 1.0));
    }
}

static void greedy_takes_the_lowest_of_ties(void **state)
{
    struct sampler *s = NULL;
    assert_int_equal(sampler_open(&s, 6, NULL), 0);
    const float logits[6] = { 1.0f, NAN, 7.0f, 7.0f, INFINITY - INFINITY, 6.0f };
    assert_int_equal(pick_at(s, &(struct sampling){ 0 }, logits, 1), 2);
    const float bad[6] = { NAN, NAN, NAN, NAN, NAN, NAN };
    assert_int_equal(pick_at(s, &(struct sampling){ 0 }, bad, 1), FAIL_FORMAT);
    assert_int_equal(pick_at(s, &(struct sampling){ .temperature = 1.0f }, bad, 1), FAIL_FORMAT);
    const struct sampling report = { .want_logprob = true, .n_top = 5 };
    assert_int_equal(pick_at(s, &report, bad, 1), FAIL_FORMAT);
    const struct sampler_bias ban = { 2, -100.0f }; /* all that is a number is banned */
    const float one[6] = { NAN, NAN, 3.0f, -INFINITY, NAN, NAN };
    assert_int_equal(pick_at(s, &(struct sampling){ .bias = &ban, .n_bias = 1 }, one, 1), 2);
    const float huge[6] = { 0, 0, INFINITY, 0, 0, 0 };
    assert_int_equal(pick_at(s, &(struct sampling){ .temperature = 1.0f }, huge, 1), 2);
    sampler_close(s);
}

static void same_seed_and_position_give_the_same_token(void **state)
{
    struct sampler *s = NULL;
    assert_int_equal(sampler_open(&s, VOCAB, NULL), 0);
    float logits[VOCAB];
    fill(logits, VOCAB, 1, 3.0);
    struct sampling o = { .temperature = 1.0f, .seed = 7 };
    int differing = 0;
    for (int n = 1; n < 200; n++) {
        int a = pick_at(s, &o, logits, n);
        pick_at(s, &(struct sampling){ .temperature = 2.0f, .top_k = 5, .seed = 9 }, logits, n);
        assert_int_equal(pick_at(s, &o, logits, n), a);
        differing += a != pick_at(s, &o, logits, n + 200);
    }
    assert_true(differing > 150);
    sampler_close(s);
}

/* The set of tokens a filter lets through, by the definition: a full sort. */
static int reference_set(const float *logits, const struct sampling *o, bool *in)
{
    int order[VOCAB];
    double w[VOCAB], total = 0.0, max = -INFINITY;
    for (int i = 0; i < VOCAB; i++) {
        max = (double)logits[i] > max ? (double)logits[i] : max;
        int at = i;
        for (; at > 0 && logits[order[at - 1]] < logits[i]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
        in[i] = false;
    }
    int n = o->top_k > 0 && o->top_k < VOCAB ? o->top_k : VOCAB;
    for (int i = 0; i < n; i++) {
        w[i] = exp(((double)logits[order[i]] - max) / (double)o->temperature);
        total += w[i];
    }
    double reached = 0.0;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (o->top_p > 0.0f && o->top_p < 1.0f && reached >= (double)o->top_p * total) {
            break;
        }
        reached += w[i];
        if (o->min_p <= 0.0f || w[i] >= (double)o->min_p) {
            in[order[i]] = true;
            kept++;
        }
    }
    return kept;
}

static void filters_keep_what_their_definition_keeps(void **state)
{
    struct sampler *s = NULL;
    assert_int_equal(sampler_open(&s, VOCAB, NULL), 0);
    const struct sampling cases[] = {
        { .temperature = 1.0f, .top_k = 1 },
        { .temperature = 1.0f, .top_k = 7 },
        { .temperature = 0.7f, .top_k = 40, .top_p = 0.8f },
        { .temperature = 0.5f, .top_p = 0.3f },
        { .temperature = 1.3f, .top_p = 0.9f, .min_p = 0.2f },
        { .temperature = 1.0f, .min_p = 0.5f },
        { .temperature = 1.0f, .top_k = 999, .top_p = 0.1f, .min_p = 0.1f },
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (uint64_t seed = 1; seed <= 10; seed++) {
            float logits[VOCAB];
            bool in[VOCAB], seen[VOCAB] = { false };
            fill(logits, VOCAB, seed, 5.0);
            logits[17] = logits[400]; /* a tie */
            struct sampling o = cases[c];
            o.seed = seed;
            int kept = reference_set(logits, &o, in), found = 0;
            for (int n = 1; n < 512; n++) {
                int id = pick_at(s, &o, logits, n);
                assert_true(in[id]);
                found += !seen[id];
                seen[id] = true;
            }
            assert_true(found >= (kept < 8 ? kept / 2 : 4));
        }
    }
    sampler_close(s);
}

static void draws_follow_the_distribution(void **state)
{
    struct sampler *s = NULL;
    assert_int_equal(sampler_open(&s, 4, NULL), 0);
    const float logits[4] = { 0.0f, 1.0f, 2.0f, -INFINITY };
    const struct sampling kinds[] = { { .temperature = 1.0f },
                                      { .temperature = 1.0f, .top_k = 3 },
                                      { .temperature = 1.0f, .top_p = 0.999f } };
    double z = 1.0 + exp(1.0) + exp(2.0);
    for (size_t k = 0; k < 3; k++) {
        int counts[4] = { 0 };
        for (uint64_t i = 0; i < 100000; i++) {
            struct sampling o = kinds[k];
            o.seed = i;
            counts[pick_at(s, &o, logits, 3)]++;
        }
        for (int i = 0; i < 3; i++) {
            double expected = 100000.0 * exp((double)logits[i]) / z;
            assert_true(fabs(counts[i] - expected) < 5.0 * sqrt(expected));
        }
        assert_int_equal(counts[3], 0);
    }
    sampler_close(s);
}

static void penalties_and_bias(void **state)
{
    struct sampler *s = NULL;
    assert_int_equal(sampler_open(&s, 5, NULL), 0);
    const float logits[5] = { 4.0f, 3.9f, 3.8f, -1.0f, -1.1f };
    const int32_t ids[] = { 0, 0, 1 };
    struct sampler_pick p;
    /* Repetition looks at the prompt too: 4/1.1 and 3.9/1.1 fall below 3.8. */
    sampler_pick(s, &(struct sampling){ .repetition_penalty = 1.1f }, logits,
                 &(struct sampler_history){ ids, 3, 0 }, &p, NULL);
    assert_int_equal(p.id, 2);
    sampler_pick(s, &(struct sampling){ .repetition_penalty = 1.1f, .penalty_window = 1 }, logits,
                 &(struct sampler_history){ ids, 3, 0 }, &p, NULL);
    assert_int_equal(p.id, 0);
    /* Presence and frequency only see what the model made: the last token, id 1. */
    sampler_pick(s, &(struct sampling){ .presence_penalty = 1.0f }, logits,
                 &(struct sampler_history){ ids, 3, 1 }, &p, NULL);
    assert_int_equal(p.id, 0);
    sampler_pick(s, &(struct sampling){ .frequency_penalty = 0.15f }, logits,
                 &(struct sampler_history){ ids, 3, 3 }, &p, NULL);
    assert_int_equal(p.id, 2); /* 4 - 0.3, 3.9 - 0.15, 3.8 */
    const struct sampler_bias bias[] = { { 0, -100.0f }, { 4, 6.0f }, { 99, 5.0f } };
    sampler_pick(s, &(struct sampling){ .bias = bias, .n_bias = 3 }, logits,
                 &(struct sampler_history){ ids, 3, 0 }, &p, NULL);
    assert_int_equal(p.id, 4);
    sampler_pick(s, &(struct sampling){ .bias = bias, .n_bias = 1 }, logits,
                 &(struct sampler_history){ ids, 3, 0 }, &p, NULL);
    assert_int_equal(p.id, 1);
    /* Nothing of one call is left for the next. */
    assert_int_equal(pick_at(s, &(struct sampling){ 0 }, logits, 3), 0);
    sampler_close(s);
}

static void logprobs_are_of_the_models_own_distribution(void **state)
{
    struct sampler *s = NULL;
    assert_int_equal(sampler_open(&s, 4, NULL), 0);
    const float logits[4] = { 0.0f, 1.0f, 1.0f, -2.0f };
    const struct sampler_bias bias = { 3, 50.0f };
    struct sampler_pick p;
    sampler_pick(s,
                 &(struct sampling){ .bias = &bias, .n_bias = 1, .n_top = 20, .temperature = 0.1f },
                 logits, &(struct sampler_history){ NULL, 0, 0 }, &p, NULL);
    double lse = log(1.0 + 2.0 * exp(1.0) + exp(-2.0));
    assert_int_equal(p.id, 3);
    assert_true(fabs((double)p.logprob - (-2.0 - lse)) < 1e-6);
    assert_int_equal(p.n_top, 4);
    const int32_t order[4] = { 1, 2, 0, 3 };
    for (int i = 0; i < 4; i++) {
        assert_int_equal(p.top[i].id, order[i]);
        assert_true(fabs((double)p.top[i].logprob - ((double)logits[order[i]] - lse)) < 1e-6);
    }
    sampler_close(s);
}

static void a_large_vocabulary_works(void **state)
{
    enum { LARGE = 262144 };
    struct sampler *s = NULL;
    float *logits = malloc(LARGE * sizeof *logits);
    assert_non_null(logits);
    fill(logits, LARGE, 3, 10.0);
    assert_int_equal(sampler_open(&s, LARGE, NULL), 0);
    int k =
        pick_at(s, &(struct sampling){ .temperature = 1.0f, .top_k = 40, .seed = 5 }, logits, 9);
    assert_true(logits[k] > 9.9f);
    pick_at(s, &(struct sampling){ .temperature = 1.0f, .top_p = 0.95f, .seed = 5 }, logits, 9);
    for (int i = 0; i < LARGE; i++) {
        logits[i] = 1.0f; /* all tied: the nucleus is the first ids */
    }
    for (uint64_t seed = 0; seed < 20; seed++) {
        int id = pick_at(s, &(struct sampling){ .temperature = 1.0f, .top_p = 0.01f, .seed = seed },
                         logits, 9);
        assert_true(id < LARGE / 100 + 1);
    }
    free(logits);
    sampler_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_of_ties),
        cmocka_unit_test(same_seed_and_position_give_the_same_token),
        cmocka_unit_test(filters_keep_what_their_definition_keeps),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(penalties_and_bias),
        cmocka_unit_test(logprobs_are_of_the_models_own_distribution),
        cmocka_unit_test(a_large_vocabulary_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
