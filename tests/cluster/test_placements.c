/* Placements of one service over devices that come, go and hang, from 20,000 seeds.
 *
 * test_placements [FIRST COUNT]: other seeds; with COUNT 1 the run is printed. */
#include "tests/test.h"

#include "tests/cluster/sim_world.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t first_seed = 1, n_seeds = 20000;

static void seeds(void **state)
{
    (void)state;
    static struct sim world; /* too large for a stack */
    struct sim *s = &world;
    uint64_t served = 0, ended = 0, suspended = 0, tokens = 0, answered = 0;
    for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++) {
        const char *wrong = sim_run(s, seed, n_seeds == 1);
        if (wrong != NULL) {
            fail_test("seed %llu, %llu ms: %s", (unsigned long long)seed,
                      (unsigned long long)(s->now / MS), wrong);
        }
        served += (uint64_t)s->served;
        ended += (uint64_t)s->ended;
        suspended += (uint64_t)s->suspended;
        tokens += (uint64_t)s->tokens;
        answered += (uint64_t)s->answered;
    }
    printf("%llu seeds: %llu placements served, %llu ended, %llu times requests waited, %llu "
           "requests got their whole answer, %llu tokens\n",
           (unsigned long long)n_seeds, (unsigned long long)served, (unsigned long long)ended,
           (unsigned long long)suspended, (unsigned long long)answered, (unsigned long long)tokens);
    /* A simulation in which nothing happens shows nothing. */
    assert_true(n_seeds < 1000 || (served > 2 * n_seeds && ended > 3 * n_seeds &&
                                   suspended > n_seeds && answered > 5 * n_seeds));
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        first_seed = strtoull(argv[1], NULL, 10);
        n_seeds = strtoull(argv[2], NULL, 10);
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(seeds) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
