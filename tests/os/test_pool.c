/* The compute pool: every thread runs, barriers hold, pieces are claimed once. */
#include "tests/test.h"

#include "os/pool.h"

#define ROUNDS 300
#define PIECES 10000

struct job {
    struct pool *pool;
    int seen[16]; /* plain memory: the barriers alone must order it */
    int sums[16];
    int wrong;
    atomic_size_t next;
    atomic_uchar taken[PIECES];
};

static void barriers(void *arg, int thread, int n)
{
    struct job *j = arg;
    for (int r = 1; r <= ROUNDS; r++) {
        j->seen[thread] = r * (thread + 1);
        pool_barrier(j->pool, thread);
        int sum = 0;
        for (int i = 0; i < n; i++) {
            sum += j->seen[i];
        }
        j->sums[thread] += sum;
        pool_barrier(j->pool, thread);
    }
}

static void claims(void *arg, int thread, int n)
{
    struct job *j = arg;
    (void)thread;
    (void)n;
    for (size_t i; (i = pool_claim(j->pool, &j->next, 7)) < PIECES;) {
        for (size_t k = i; k < i + 7 && k < PIECES; k++) {
            atomic_fetch_add_explicit(&j->taken[k], 1, memory_order_relaxed);
        }
    }
}

static void check_pool(int threads, uint64_t spin_ns, bool pin)
{
    struct error e = { 0 };
    struct pool *p = NULL;
    struct pool_options o = { .threads = threads, .spin_ns = spin_ns, .pin = pin };
    assert_int_equal(pool_open(&p, &o, &e), 0);
    assert_int_equal(pool_threads(p), threads);
    struct job *j = calloc(1, sizeof *j);
    j->pool = p;
    for (int times = 0; times < 3; times++) {
        pool_run(p, barriers, j);
    }
    int each = threads * (threads + 1) / 2 * (ROUNDS * (ROUNDS + 1) / 2) * 3;
    for (int i = 0; i < threads; i++) {
        assert_int_equal(j->sums[i], each);
    }
    pool_run(p, claims, j);
    for (int i = 0; i < PIECES; i++) {
        assert_int_equal(atomic_load(&j->taken[i]), 1);
    }
    free(j);
    pool_close(p);
}

static void works_alone(void **state)
{
    (void)state;
    check_pool(1, 0, false);
}

static void works_with_two(void **state)
{
    (void)state;
    check_pool(2, 0, true);
}

static void works_with_more_threads_than_cores(void **state)
{
    (void)state;
    check_pool(7, 0, false);
}

static void works_when_everyone_sleeps_at_once(void **state)
{
    (void)state;
    check_pool(3, 1, false);
}

static void refuses_silly_sizes(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct pool *p = NULL;
    assert_int_equal(pool_open(&p, &(struct pool_options){ .threads = -1 }, &e), FAIL_RANGE);
    assert_int_equal(pool_open(&p, &(struct pool_options){ .threads = 1000 }, &e), FAIL_RANGE);
    assert_null(p);
    pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(works_alone),
        cmocka_unit_test(works_with_two),
        cmocka_unit_test(works_with_more_threads_than_cores),
        cmocka_unit_test(works_when_everyone_sleeps_at_once),
        cmocka_unit_test(refuses_silly_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
