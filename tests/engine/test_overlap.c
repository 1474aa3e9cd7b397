/* The choice between one step for all streams and overlapping ones, on pipelines made here: stages
 * that read their weights in read_ns, compute a row in row_ns, and may share one memory bus. */
#include "tests/test.h"

#include "base/attributes.h"
#include "base/random.h"
#include "engine/overlap.h"

#define STREAMS 8
#define STAGES 2

struct pipeline {
    double read_ns, row_ns;
    double bus;   /* 1: stages that work at once read as slowly as one by one; 0: at full speed */
    double noise; /* share by which a round's time varies */
    struct random rng;
};

/* Time of one round (a token of each stream) when `steps` steps share the streams. */
static double round_ns(struct pipeline *p, int streams, int steps)
{
    int rows = (streams + steps - 1) / steps, busy = steps < STAGES ? steps : STAGES;
    double slowdown = 1 + p->bus * (busy - 1);
    double stage = p->read_ns * slowdown + p->row_ns * rows;
    double ns = stage * (steps < STAGES ? STAGES : steps);
    return ns * (1 + p->noise * (random_unit(random_next(&p->rng)) - 0.5));
}

/* Runs rounds; returns the mean rate in tokens/s of the last half. */
static double run(struct overlap *o, struct pipeline *p, int streams, int rounds, uint64_t *now)
{
    double late = 0;
    for (int r = 0; r < rounds; r++) {
        int steps = overlap_steps(o, streams);
        assert_in_range(steps, 1, STAGES + 1 < streams ? STAGES + 1 : streams);
        double ns = round_ns(p, streams, steps);
        for (int s = 0, left = streams; s < steps; s++) {
            int rows = (left + steps - s - 1) / (steps - s);
            left -= rows;
            *now += (uint64_t)(ns / steps);
            overlap_take(o, streams, rows, false, *now);
        }
        late += r >= rounds / 2 ? ns : 0;
    }
    return (double)streams * (rounds - rounds / 2) * 1e9 / late;
}

static double best_rate(const struct pipeline *p, int streams)
{
    double best = 0;
    for (int steps = 1; steps <= STAGES + 1 && steps <= streams; steps++) {
        struct pipeline q = *p;
        q.noise = 0;
        double rate = streams * 1e9 / round_ns(&q, streams, steps);
        best = rate > best ? rate : best;
    }
    return best;
}

static void the_faster_way_is_found(void **state)
{
    (void)state;
    /* Two machines; two on one bus; compute-bound; reading alone counts, on one bus. */
    static const struct pipeline pipelines[] = {
        { .read_ns = 1e7, .row_ns = 1e6 },
        { .read_ns = 1e7, .row_ns = 1e6, .bus = 0.8 },
        { .read_ns = 1e6, .row_ns = 4e6, .bus = 1 },
        { .read_ns = 1e7, .row_ns = 1e4, .bus = 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(pipelines); i++)
        for (int streams = 1; streams <= STREAMS; streams++) {
            struct overlap o;
            struct pipeline p = pipelines[i];
            uint64_t now = 1;
            overlap_init(&o, STAGES + 1);
            assert_true(run(&o, &p, streams, 400, &now) > 0.94 * best_rate(&p, streams));
            assert_int_equal(o.compared, streams > 1 ? streams : 0);
            double rate = 0, best = 0;
            for (int way = 0; way < OVERLAP_CHOICES; way++)
                if (overlap_measured(&o, streams, way, &rate) > 0)
                    best = rate > best ? rate : best;
            assert_true(streams == 1 || best > 0.94 * best_rate(&p, streams));
        }
}

static void noise_does_not_lead_astray(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct overlap o;
        struct pipeline p = {
            .read_ns = 1e7, .row_ns = 1e6, .bus = 0.8, .noise = 0.2, .rng = { seed }
        };
        uint64_t now = 1;
        overlap_init(&o, STAGES + 1);
        if (run(&o, &p, 2, 1000, &now) < 0.9 * best_rate(&p, 2))
            fail_test("seed %d", (int)seed);
    }
}

/* The devices are at times half as fast, as on a shared host: that is no reason to try the slower
 * way again and again. */
static void a_slow_spell_changes_nothing(void **state)
{
    (void)state;
    struct overlap o;
    struct pipeline p = { .read_ns = 1e7, .row_ns = 1e6, .bus = 0.8, .noise = 0.1 };
    uint64_t now = 1;
    int wrong = 0, rounds = 0;
    overlap_init(&o, STAGES + 1);
    for (int spell = 0; spell < 200; spell++) {
        struct pipeline q = p;
        q.read_ns *= 1 + spell % 2;
        q.row_ns *= 1 + spell % 2;
        q.rng.state = (uint64_t)spell;
        for (int r = 0; r < 20 + spell % 7; r++, rounds++) {
            wrong += overlap_steps(&o, 2) != 1;
            run(&o, &q, 2, 1, &now);
        }
    }
    print_message("%d of %d rounds in the slower way\n", wrong, rounds);
    assert_true(wrong * 20 < rounds);
}

static void a_change_is_noticed(void **state)
{
    (void)state;
    struct overlap o;
    struct pipeline together = { .read_ns = 1e7, .row_ns = 1e4, .bus = 1 };
    struct pipeline apart = { .read_ns = 1e7, .row_ns = 4e6 };
    uint64_t now = 1;
    overlap_init(&o, STAGES + 1);
    run(&o, &together, 4, 200, &now);
    assert_int_equal(overlap_steps(&o, 4), 1);
    /* The bus is free now: the next trial of overlapped steps shows it. */
    assert_true(run(&o, &apart, 4, 2000, &now) > 0.94 * best_rate(&apart, 4));
}

static void disturbed_results_say_nothing(void **state)
{
    (void)state;
    struct overlap o;
    overlap_init(&o, STAGES + 1);
    for (int i = 0; i < 1000; i++)
        overlap_take(&o, 2, 2, true, (uint64_t)i * 1000);
    assert_true(o.cases[1].rate[0] <= 0);
    assert_int_equal(overlap_steps(&o, 2), 1);
}

static void one_device_or_stream_has_one_step(void **state)
{
    (void)state;
    struct overlap o;
    uint64_t now = 1;
    struct pipeline p = { .read_ns = 1e6, .row_ns = 1e5 };
    overlap_init(&o, STAGES + 1);
    run(&o, &p, 1, 500, &now);
    assert_int_equal(overlap_steps(&o, 1), 1);
    overlap_init(&o, 1);
    for (int i = 0; i < 1000; i++) {
        overlap_take(&o, 8, 8, false, now += 1000);
        assert_int_equal(overlap_steps(&o, 8), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_faster_way_is_found),
        cmocka_unit_test(noise_does_not_lead_astray),
        cmocka_unit_test(a_slow_spell_changes_nothing),
        cmocka_unit_test(a_change_is_noticed),
        cmocka_unit_test(disturbed_results_say_nothing),
        cmocka_unit_test(one_device_or_stream_has_one_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
