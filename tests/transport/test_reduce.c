/* All-reduce against a sequential sum in rank order, bit for bit. */
#include <stdio.h>

#include "tests/transport/pairs.h"

#include "base/random.h"
#include "os/thread.h"
#include "transport/reduce.h"

#define MAX_RANKS 7
#define MAX_FLOATS 70001

struct rank {
    struct thread thread;
    struct channel *channels[MAX_RANKS];
    struct group *group;
    int rank, n_ranks;
    size_t n;
    float *x;
    int code;
    bool dies;
    uint64_t deadline_ms;
    char text[ERROR_TEXT];
};

static float number(int rank, size_t i)
{
    uint64_t bits = random_at(77 + (uint64_t)rank, i);
    float scale = (float)(1 << (bits & 15)); /* so that the order of additions shows */
    return (float)(random_unit(bits) - 0.5) * scale;
}

static void *reduce_rank(void *arg)
{
    struct rank *r = arg;
    struct error e = { 0 };
    for (size_t i = 0; i < r->n; i++) {
        r->x[i] = number(r->rank, i);
    }
    if (r->dies) {
        for (int k = 0; k < r->n_ranks; k++) {
            if (k != r->rank) {
                channel_shutdown(r->channels[k]);
            }
        }
        r->code = 0;
        return NULL;
    }
    r->code = group_all_reduce(r->group, r->x, r->n, IN_MS(r->deadline_ms), &e);
    snprintf(r->text, sizeof r->text, "%s", e.text);
    return NULL;
}

static void open_group(struct rank *ranks, int n_ranks,
                       void (*open)(struct channel **a, struct channel **b,
                                    const struct channel_options *o))
{
    for (int a = 0; a < n_ranks; a++) {
        for (int b = a + 1; b < n_ranks; b++) {
            open(&ranks[a].channels[b], &ranks[b].channels[a], NULL);
        }
    }
    for (int r = 0; r < n_ranks; r++) {
        struct error e = { 0 };
        ranks[r].rank = r;
        ranks[r].n_ranks = n_ranks;
        ranks[r].deadline_ms = 5000;
        ranks[r].x = malloc(MAX_FLOATS * sizeof(float));
        struct group_options o = {
            .rank = r, .n_ranks = n_ranks, .channels = ranks[r].channels, .max_floats = MAX_FLOATS
        };
        assert_int_equal(group_open(&ranks[r].group, &o, &e), 0);
    }
}

static void close_group(struct rank *ranks, int n_ranks)
{
    for (int r = 0; r < n_ranks; r++) {
        group_close(ranks[r].group);
        free(ranks[r].x);
        for (int k = 0; k < n_ranks; k++) {
            channel_close(ranks[r].channels[k]);
        }
    }
}

static void run_all(struct rank *ranks, int n_ranks, size_t n)
{
    for (int r = 0; r < n_ranks; r++) {
        ranks[r].n = n;
        assert_int_equal(thread_start(&ranks[r].thread, reduce_rank, &ranks[r], NULL), 0);
    }
    for (int r = 0; r < n_ranks; r++) {
        thread_join(&ranks[r].thread);
    }
}

static void check_sums(const struct rank *ranks, int n_ranks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float sum = number(0, i);
        for (int r = 1; r < n_ranks; r++) {
            sum += number(r, i);
        }
        for (int r = 0; r < n_ranks; r++) {
            if (memcmp(&ranks[r].x[i], &sum, sizeof sum) != 0) {
                print_error("%d ranks, %zu floats: rank %d, element %zu\n", n_ranks, n, r, i);
                assert_true(!"the sums differ");
            }
        }
    }
}

static void sums_over_memory(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 576, 8192, 8193, 20000, MAX_FLOATS };
    for (int n_ranks = 1; n_ranks <= MAX_RANKS; n_ranks++) {
        struct rank ranks[MAX_RANKS] = { 0 };
        open_group(ranks, n_ranks, plain_memory_pair);
        for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
            run_all(ranks, n_ranks, sizes[k]);
            for (int r = 0; r < n_ranks; r++) {
                assert_string_equal(ranks[r].text, "");
                assert_int_equal(ranks[r].code, 0);
            }
            check_sums(ranks, n_ranks, sizes[k]);
        }
        close_group(ranks, n_ranks);
    }
}

static void sums_over_tcp(void **state)
{
    (void)state;
    struct rank ranks[MAX_RANKS] = { 0 };
    open_group(ranks, 3, tcp_pair);
    run_all(ranks, 3, 5000);
    check_sums(ranks, 3, 5000);
    run_all(ranks, 3, MAX_FLOATS);
    check_sums(ranks, 3, MAX_FLOATS);
    close_group(ranks, 3);
}

static void death_of_one_ends_all(void **state)
{
    (void)state;
    static const size_t sizes[] = { 100, MAX_FLOATS };
    for (int n_ranks = 2; n_ranks <= 5; n_ranks++) {
        for (int k = 0; k < 2; k++) {
            struct rank ranks[MAX_RANKS] = { 0 };
            open_group(ranks, n_ranks, k == 0 ? plain_memory_pair : tcp_pair);
            ranks[1].dies = true;
            uint64_t begin = clock_now_ns();
            run_all(ranks, n_ranks, sizes[k]);
            assert_true(clock_now_ns() - begin < 5 * CLOCK_NS_PER_S);
            for (int r = 0; r < n_ranks; r++) {
                assert_int_equal(ranks[r].code, r == 1 ? 0 : FAIL_CLOSED);
                assert_true(r == 1 || strstr(ranks[r].text, "to rank 1: ") != NULL);
            }
            close_group(ranks, n_ranks);
        }
    }
}

static void silence_of_one_ends_at_the_deadline(void **state)
{
    (void)state;
    struct rank ranks[MAX_RANKS] = { 0 };
    open_group(ranks, 3, plain_memory_pair);
    struct error e = { 0 };
    float x[4] = { 0 };
    uint64_t begin = clock_now_ns();
    assert_int_equal(group_all_reduce(ranks[0].group, x, 4, IN_MS(30), &e), FAIL_TIMEOUT);
    assert_true(clock_now_ns() - begin < 2 * CLOCK_NS_PER_S);
    assert_non_null(strstr(e.text, "rank 0 to rank 1"));
    close_group(ranks, 3);
}

struct gather {
    struct rank *r;
    struct thread thread;
    uint8_t all[64];
    int code;
};

static void *gather_rank(void *arg)
{
    struct gather *g = arg;
    static const size_t sizes[] = { 5, 0, 17 };
    uint8_t mine[17];
    memset(mine, 'a' + g->r->rank, sizeof mine);
    g->code = group_all_gather(g->r->group, mine, g->all, sizes, SOON, NULL);
    return NULL;
}

static void gathers_side_by_side(void **state)
{
    (void)state;
    struct rank ranks[MAX_RANKS] = { 0 };
    struct gather g[3] = { 0 };
    open_group(ranks, 3, plain_memory_pair);
    for (int r = 0; r < 3; r++) {
        g[r].r = &ranks[r];
        assert_int_equal(thread_start(&g[r].thread, gather_rank, &g[r], NULL), 0);
    }
    for (int r = 0; r < 3; r++) {
        thread_join(&g[r].thread);
        assert_int_equal(g[r].code, 0);
        assert_string_equal((char *)g[r].all, "aaaaaccccccccccccccccc");
    }
    close_group(ranks, 3);
}

static void wrong_groups_are_refused(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct group *g = NULL;
    struct channel *none[2] = { NULL, NULL };
    struct group_options o = { .rank = 2, .n_ranks = 2, .channels = none, .max_floats = 1 };
    assert_int_equal(group_open(&g, &o, &e), FAIL_ARG);
    o.rank = 0;
    assert_int_equal(group_open(&g, &o, &e), FAIL_ARG);
    o.n_ranks = 1;
    assert_int_equal(group_open(&g, &o, &e), 0);
    float x[2] = { 1, 2 };
    assert_int_equal(group_all_reduce(g, x, 2, SOON, &e), FAIL_LIMIT);
    assert_int_equal(group_all_reduce(g, x, 1, SOON, &e), 0);
    group_close(g);
    group_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_over_memory),
        cmocka_unit_test(sums_over_tcp),
        cmocka_unit_test(death_of_one_ends_all),
        cmocka_unit_test(silence_of_one_ends_at_the_deadline),
        cmocka_unit_test(gathers_side_by_side),
        cmocka_unit_test(wrong_groups_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
