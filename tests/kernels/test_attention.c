/* Attention over pages: against double, equal over tables, and blind to its neighbours. */
#include "tests/test.h"

#include <math.h>

#include "base/attributes.h"
#include "tests/kernels/support.h"

struct cache {
    int head_dim, value_dim, positions;
    bool f32;
    float *k, *v; /* (positions, dim) as given */
    uint8_t *bytes;
    const uint8_t *pages[16];
};

static void cache_make(struct cache *c, const struct kernels *table, struct seed *s)
{
    size_t page = kernels_page_bytes(c->head_dim, c->value_dim, c->f32);
    int n = (c->positions + KERNEL_PAGE - 1) / KERNEL_PAGE;
    assert_true(n <= 16);
    c->k = aligned_make((size_t)c->positions * c->head_dim * 4);
    c->v = aligned_make((size_t)c->positions * c->value_dim * 4);
    c->bytes = aligned_make(page * (size_t)n);
    fill(c->k, (size_t)c->positions * c->head_dim, s);
    fill(c->v, (size_t)c->positions * c->value_dim, s);
    for (int i = 0; i < n; i++)
        c->pages[i] = c->bytes + (size_t)i * page;
    for (int p = 0; p < c->positions; p++)
        table->store_kv(c->bytes + (size_t)(p / KERNEL_PAGE) * page, p % KERNEL_PAGE,
                        c->k + (size_t)p * c->head_dim, c->head_dim,
                        c->v + (size_t)p * c->value_dim, c->value_dim, c->f32);
}

static void cache_free(struct cache *c)
{
    free(c->k);
    free(c->v);
    free(c->bytes);
}

#define MOST 24
struct queries {
    struct attention a;
    const float *q[MOST];
    float *out[MOST], *rows, *outs;
    int32_t first[MOST], last[MOST];
    float sink[MOST];
};

/* n queries with spans as a prefill chunk with a window has them. */
static void queries_make(struct queries *s, const struct cache *c, int n, struct seed *seed)
{
    s->rows = aligned_make((size_t)n * c->head_dim * 4);
    s->outs = aligned_make((size_t)n * c->value_dim * 4);
    fill(s->rows, (size_t)n * c->head_dim, seed);
    for (int i = 0; i < n; i++) {
        s->q[i] = s->rows + (size_t)i * c->head_dim;
        s->out[i] = s->outs + (size_t)i * c->value_dim;
        s->last[i] = (int32_t)(seed_bits(seed) % (uint32_t)c->positions);
        s->first[i] = i % 3 ? 0 : (int32_t)(seed_bits(seed) % (uint32_t)(s->last[i] + 1));
        s->sink[i] = seed_unit(seed);
    }
    s->a = (struct attention){ .head_dim = c->head_dim,
                               .value_dim = c->value_dim,
                               .n_queries = n,
                               .q = s->q,
                               .out = s->out,
                               .first = s->first,
                               .last = s->last,
                               .pages = c->pages,
                               .f32 = c->f32,
                               .scale = 1 / sqrtf((float)c->head_dim) };
    s->a.scratch = aligned_make(kernels_attention_scratch(n, c->positions) * 4);
}

static void queries_free(struct queries *s)
{
    free(s->rows);
    free(s->outs);
    free(s->a.scratch);
}

static void attend_double(const struct cache *c, const struct queries *s, int query, double *out)
{
    double weights[1024], max = s->a.sink ? s->sink[query] : -1e300, sum = 0;
    int first = s->first[query], last = s->last[query];
    for (int p = first; p <= last; p++) {
        double score = 0;
        for (int d = 0; d < c->head_dim; d++)
            score += (double)s->q[query][d] * c->k[(size_t)p * c->head_dim + d];
        score *= s->a.scale;
        if (s->a.softcap != 0)
            score = s->a.softcap * tanh(score / s->a.softcap);
        weights[p - first] = score;
        max = fmax(max, score);
    }
    for (int p = first; p <= last; p++)
        sum += weights[p - first] = exp(weights[p - first] - max);
    if (s->a.sink)
        sum += exp(s->sink[query] - max);
    for (int d = 0; d < c->value_dim; d++) {
        out[d] = 0;
        for (int p = first; p <= last; p++)
            out[d] += weights[p - first] / sum * c->v[(size_t)p * c->value_dim + d];
    }
}

struct shape {
    int head_dim, value_dim, positions, queries;
    bool f32, cap, sink;
};

static const struct shape shapes[] = {
    { 64, 64, 200, 1, true, false, false },   { 64, 64, 200, 4, false, false, false },
    { 80, 80, 130, 9, false, true, false },   { 96, 96, 65, 16, true, false, true },
    { 128, 128, 300, 5, false, false, true }, { 256, 256, 100, 24, false, true, false },
    { 32, 32, 40, 7, true, false, false },    { 72, 40, 77, 3, true, true, true },
    { 20, 12, 17, 2, false, false, false },   { 192, 128, 64, 23, true, false, false },
};

static void one_shape(const struct shape *shape, struct seed *seed)
{
    int n;
    const struct kernels *const *all = kernels_all(&n);
    struct cache c = { shape->head_dim, shape->value_dim, shape->positions, shape->f32 };
    struct queries s;
    cache_make(&c, all[0], seed);
    queries_make(&s, &c, shape->queries, seed);
    s.a.softcap = shape->cap ? 3.0f : 0;
    s.a.sink = shape->sink ? s.sink : NULL;
    all[0]->attention(&s.a);
    double expected[256], tolerance = shape->f32 ? 2e-5 : 2e-2;
    for (int i = 0; i < shape->queries; i++) {
        attend_double(&c, &s, i, expected);
        for (int d = 0; d < shape->value_dim; d++)
            if (!(fabs(s.out[i][d] - expected[d]) <= tolerance))
                fail_test("head %d, query %d, value %d: %g, not %g", shape->head_dim, i, d,
                          s.out[i][d], expected[d]);
    }
    size_t bytes = (size_t)shape->queries * shape->value_dim * 4;
    float *kept = aligned_make(bytes);
    memcpy(kept, s.outs, bytes);
    for (int k = 1; k < n; k++) {
        struct cache mine = { shape->head_dim, shape->value_dim, shape->positions, shape->f32 };
        struct seed same = { 77 }, again = { 77 };
        memset(s.outs, 0xff, bytes);
        all[k]->attention(&s.a);
        if (memcmp(kept, s.outs, bytes) != 0)
            fail_test("%s differs from scalar, head %d", all[k]->name, shape->head_dim);
        struct cache scalar = mine;
        cache_make(&mine, all[k], &same);
        cache_make(&scalar, all[0], &again);
        assert_memory_equal(mine.bytes, scalar.bytes,
                            kernels_page_bytes(c.head_dim, c.value_dim, c.f32));
        cache_free(&mine);
        cache_free(&scalar);
    }
    free(kept);
    queries_free(&s);
    cache_free(&c);
}

static void attention_of_every_shape(void **state)
{
    struct seed seed = { 31 };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        one_shape(&shapes[i], &seed);
}

/* Each query alone, later positions and unseen pages changed: the same bits. */
static void queries_do_not_depend_on_each_other(void **state)
{
    struct seed seed = { 32 };
    int n;
    const struct kernels *const *all = kernels_all(&n);
    struct cache c = { 64, 80, 400, true };
    struct queries s;
    cache_make(&c, all[0], &seed);
    queries_make(&s, &c, MOST, &seed);
    for (int k = 0; k < n; k++) {
        static float together[MOST * 80];
        all[k]->attention(&s.a);
        memcpy(together, s.outs, sizeof(together));
        for (int i = 0; i < MOST; i++) {
            struct attention one = s.a;
            const uint8_t *pages[16] = { 0 };
            for (int p = s.first[i] / KERNEL_PAGE; p <= s.last[i] / KERNEL_PAGE; p++)
                pages[p] = c.pages[p];
            one.n_queries = 1;
            one.q += i;
            one.out += i;
            one.first += i;
            one.last += i;
            one.pages = pages;
            memset(s.out[i], 0xff, 80 * 4);
            all[k]->attention(&one);
            assert_memory_equal(s.out[i], together + i * 80, 80 * 4);
        }
    }
    queries_free(&s);
    cache_free(&c);
}

static void pages_hold_finite_values(void **state)
{
    int n;
    const struct kernels *const *all = kernels_all(&n);
    float k[16] = { INFINITY, -INFINITY, NAN, 1e9f, -1e9f, 65519.0f, 1e-9f };
    for (int i = 0; i < n; i++)
        for (int f32 = 0; f32 < 2; f32++) {
            uint8_t *page = aligned_make(kernels_page_bytes(16, 16, f32));
            all[i]->store_kv(page, 5, k, 16, k, 16, f32);
            for (int d = 0; d < 16; d++) {
                size_t at = (size_t)16 * KERNEL_PAGE + 5 * 16 + d;
                uint32_t bits = 0, exponent = f32 ? 0x7f800000 : 0x7c00;
                memcpy(&bits, page + at * (f32 ? 4 : 2), f32 ? 4 : 2);
                assert_true((bits & exponent) != exponent);
            }
            free(page);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_of_every_shape),
        cmocka_unit_test(queries_do_not_depend_on_each_other),
        cmocka_unit_test(pages_hold_finite_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
