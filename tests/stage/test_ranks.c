/* Whole placements in one process, with a made-up model: the same bits under every split, clear
 * errors in time when a rank fails or dies, nothing left behind. */
#include "tests/test.h"

#include "base/random.h"
#include "stage/distributed.h"
#include "stage/inprocess.h"
#include "stage/share.h"
#include "stage/wire.h"
#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"
#include "secure/ticket.h"
#include "tests/stage/fake.h"
#include "transport/transport.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MAX_ROWS 32
#define STEPS 40

struct faults {
    int from, to;
    struct memory_options options;
};

static int faulty_pair(void *arg, int from, int to, struct channel **a, struct channel **b,
                       struct error *e)
{
    const struct faults *f = arg;
    bool hit = f->from == from && f->to == to;
    return memory_pair(a, b, hit ? &f->options : NULL, e);
}

typedef int pair_maker(void *arg, int from, int to, struct channel **a, struct channel **b,
                       struct error *e);

static struct executor *open_with(const char *spec, const struct program *program, pair_maker *pair,
                                  void *arg)
{
    struct placement_plan plan;
    struct error e = { 0 };
    struct executor *x = NULL;
    assert_int_equal(split_parse(spec, FAKE_LAYERS, &plan, &e), 0);
    int code = inprocess_open(&x,
                              &(struct inprocess_options){ .backend = &fake_backend,
                                                           .program = program,
                                                           .source = &fake_source,
                                                           .plan = &plan,
                                                           .threads = 1,
                                                           .max_rows = MAX_ROWS,
                                                           .max_sessions = 8,
                                                           .max_context = 512,
                                                           .step_timeout_ns = SECOND,
                                                           .pair = pair,
                                                           .arg = arg },
                              &e);
    if (code != 0) {
        print_error("%s\n", e.text);
    }
    assert_int_equal(code, 0);
    return x;
}

static struct executor *open_split(const char *spec, const struct program *program,
                                   struct faults *faults)
{
    return open_with(spec, program, faults ? faulty_pair : NULL, faults);
}

/* One random step of a fixed seed: prefill chunks and decodes of two sessions mixed. */
struct script {
    struct random random;
    int32_t position[2];
    int32_t ids[MAX_ROWS];
    uint8_t wanted[MAX_ROWS];
    struct step_run runs[2];
    struct step_command commands[2];
};

static struct step next_step(struct script *s, uint64_t id)
{
    struct step step = {
        .id = id, .commands = s->commands, .runs = s->runs, .ids = s->ids, .wanted = s->wanted
    };
    if (id == 0) {
        s->commands[0] = (struct step_command){ .op = STEP_CREATE, .session = 1 };
        s->commands[1] = (struct step_command){ .op = STEP_CREATE, .session = 2 };
        step.n_commands = 2;
    }
    for (int k = 0; k < 2; k++) {
        int n = (int)random_below(&s->random, 5);
        if (n == 0) {
            continue;
        }
        s->runs[step.n_runs++] =
            (struct step_run){ .session = (uint32_t)k + 1, .first = s->position[k], .count = n };
        s->position[k] += n;
        for (int i = 0; i < n; i++, step.n_rows++) {
            s->ids[step.n_rows] = (int32_t)random_below(&s->random, FAKE_BAD_TOKEN);
            s->wanted[step.n_rows] = random_below(&s->random, 3) == 0;
            step.n_wanted += s->wanted[step.n_rows];
        }
    }
    return step;
}

/* Runs the script with as many steps in flight as the executor takes; a hash of all logits. */
static uint64_t run_script(struct executor *x, int *rows)
{
    struct script s = { .random = { 42 } };
    uint64_t hash = 1, sent = 0, got = 0;
    int wanted[STEPS];
    *rows = 0;
    while (got < STEPS) {
        struct error e = { 0 };
        while (sent < STEPS && sent - got < (uint64_t)x->depth) {
            struct step step = next_step(&s, sent);
            wanted[sent] = step.n_wanted;
            assert_int_equal(x->ops->submit(x, &step, clock_deadline(SECOND), &e), 0);
            sent++;
        }
        struct step_result r;
        int code = x->ops->collect(x, &r, clock_deadline(5 * SECOND), &e);
        if (code != 0) {
            print_error("%s\n", e.text);
        }
        assert_int_equal(code, 0);
        assert_int_equal(r.id, got);
        assert_int_equal(r.n_wanted, wanted[got]);
        for (int i = 0; i < r.n_wanted * x->vocab; i++) {
            hash = random_mix(hash ^ (uint64_t)r.logits[i]);
        }
        *rows += r.n_wanted;
        got++;
    }
    return hash;
}

static void every_split_gives_the_same_bits(void **state)
{
    static const char *const specs[] = { "1",   "1/1",     "2@1/3@1/1@1", "5:3",        "1:1:1",
                                         "1:7", "1:1/1:1", "3:1/1/1:1:2", "1/1/1/1/1/1" };
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    uint64_t first = 0;
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct executor *x = open_split(specs[i], program, NULL);
        int rows = 0;
        uint64_t hash = run_script(x, &rows);
        first = i == 0 ? hash : first;
        assert_true(rows > 20);
        if (hash != first) {
            print_error("split %s differs\n", specs[i]);
        }
        assert_int_equal(hash, first);
        x->ops->close(x);
    }
    arena_done(&arena);
}

struct sized {
    struct placement_plan plan;
    const struct program *whole;
    size_t of[LINK_KIND_COUNT]; /* the largest message, as found last */
};

static size_t largest_at(const struct sized *z, const struct wire_link *l, int end)
{
    struct arena arena = { 0 };
    struct program *part = NULL;
    size_t size = 0;
    if (end == WIRE_HEAD) {
        return wire_max_message(l, end, z->whole, MAX_ROWS);
    }
    assert_int_equal(rank_program(z->whole, &z->plan, end, &arena, &part, NULL), 0);
    size = wire_max_message(l, end, part, MAX_ROWS);
    arena_done(&arena);
    return size;
}

/* Channels that take what the plan says and nothing larger. */
static int sized_pair(void *arg, int from, int to, struct channel **a, struct channel **b,
                      struct error *e)
{
    struct sized *z = arg;
    struct wire_link links[WIRE_MAX_LINKS];
    int i = 0, n = wire_links(&z->plan, links);
    while (i < n && (links[i].from != from || links[i].to != to)) {
        i++;
    }
    assert_true(i < n);
    size_t most = largest_at(z, &links[i], from);
    assert_int_equal(largest_at(z, &links[i], to), most);
    z->of[links[i].kind] = most;
    return memory_pair(a, b, &(struct memory_options){ .channel.max_message = most }, e);
}

static void a_channel_takes_what_its_link_carries(void **state)
{
    static const char *const specs[] = { "1", "2@1/3@1/1@1", "1:1/1:1", "3:1/1/1:1:2" };
    struct arena arena = { 0 };
    struct sized z = { .whole = fake_program(&arena) };
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        int rows = 0;
        assert_int_equal(split_parse(specs[i], FAKE_LAYERS, &z.plan, NULL), 0);
        struct executor *x = open_with(specs[i], z.whole, sized_pair, &z);
        run_script(x, &rows);
        x->ops->close(x);
    }
    size_t row = (size_t)z.whole->width * sizeof(float);
    assert_int_equal(z.of[LINK_HIDDEN], WIRE_HEADER + MAX_ROWS * row);
    assert_int_equal(z.of[LINK_GROUP], MAX_ROWS * row);
    assert_int_equal(z.of[LINK_STEPS], WIRE_HEADER + WIRE_LOGITS_PIECE);
    /* One row of a large vocabulary is a message of its own. */
    struct program large = { .vocab = 300000, .width = 4096 };
    assert_int_equal(
        wire_max_message(&(struct wire_link){ LINK_STEPS, WIRE_HEAD, 0 }, 0, &large, MAX_ROWS),
        WIRE_HEADER + 300000 * sizeof(float));
    arena_done(&arena);
}

/* A step with this token in it; collects until an error and checks its text and time. */
static void expect_broken(struct executor *x, int32_t token, const char *text)
{
    struct step_command create = { .op = STEP_CREATE, .session = 1 };
    int32_t ids[] = { 1 };
    uint8_t wanted[] = { 1 };
    struct error e = { 0 };
    int code = 0;
    uint64_t begin = clock_now_ns();
    for (int i = 0; i < 20 && code == 0; i++) {
        ids[0] = i == 9 ? token : 1;
        struct step_run run = { 1, i, 1 };
        struct step s = { .id = (uint64_t)i,
                          .commands = &create,
                          .n_commands = i == 0,
                          .runs = &run,
                          .n_runs = 1,
                          .ids = ids,
                          .wanted = wanted,
                          .n_rows = 1,
                          .n_wanted = 1 };
        struct step_result r;
        code = x->ops->submit(x, &s, clock_deadline(SECOND), &e);
        /* As many steps in flight as the executor takes. */
        if (code == 0 && i + 1 >= x->depth) {
            code = x->ops->collect(x, &r, clock_deadline(4 * SECOND), &e);
        }
    }
    assert_true(code < 0 && code != FAIL_TIMEOUT);
    if (strstr(e.text, text) == NULL) {
        print_error("'%s' is not in '%s'\n", text ? text : "", e.text);
    }
    assert_non_null(strstr(e.text, text));
    assert_true(clock_now_ns() - begin < 3 * SECOND);
    struct step s = { .id = 99 };
    assert_true(x->ops->submit(x, &s, clock_deadline(SECOND), &e) < 0);
}

static void expect_failure(struct executor *x, int32_t token, const char *text)
{
    expect_broken(x, token, text);
    x->ops->close(x);
}

static void a_failing_rank_is_named(void **state)
{
    static const char *const specs[] = { "1", "1/1", "1/1/1", "2:1", "1:1/1:1" };
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        expect_failure(open_split(specs[i], program, NULL), FAKE_BAD_TOKEN, "a bad token");
    }
    arena_done(&arena);
}

static void a_dying_channel_ends_the_placement(void **state)
{
    static const struct {
        const char *spec;
        int from, to;
        int messages;
        const char *text;
    } cases[] = {
        { "1/1/1", 0, 1, 5, "rank" },       { "1/1/1", 1, 2, 0 + 1, "rank" },
        { "1:1", 0, 1, 20, "rank" },        { "1/1:1", 1, 2, 3, "rank" },
        { "1/1", WIRE_HEAD, 1, 4, "rank" }, { "1:2:1", WIRE_HEAD, 0, 6, "rank" },
    };
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct faults f = { .from = cases[i].from,
                            .to = cases[i].to,
                            .options = { .die_after = (uint64_t)cases[i].messages } };
        expect_failure(open_split(cases[i].spec, program, &f), 1, cases[i].text);
    }
    arena_done(&arena);
}

static void delays_change_nothing(void **state)
{
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    struct faults f = { .from = 0, .to = 1, .options = { .delay_ns = 2000000 } };
    int rows = 0;
    struct executor *plain = open_split("1", program, NULL);
    uint64_t expected = run_script(plain, &rows);
    plain->ops->close(plain);
    struct executor *x = open_split("1:1/1", program, &f);
    assert_int_equal(run_script(x, &rows), expected);
    x->ops->close(x);
    arena_done(&arena);
}

/* --- sealed channels with somebody on the wire --- */

enum attack { ATTACK_NONE, ATTACK_ALTER, ATTACK_REPLAY, ATTACK_REORDER };

struct wire {
    enum attack attack;
    int in, out; /* the attacker's ends */
    struct thread thread;
};

#define ATTACKED_FRAME 4
#define MAX_FRAME 65536

static bool read_all(int fd, uint8_t *to, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = read(fd, to + at, n - at);
        if (k <= 0) {
            return false;
        }
        at += (size_t)k;
    }
    return true;
}

static bool take_frame(int fd, uint8_t *frame, size_t *size)
{
    if (!read_all(fd, frame, 4)) {
        return false;
    }
    size_t n = frame[0] | (size_t)frame[1] << 8 | (size_t)frame[2] << 16;
    assert_true(n + 4 <= MAX_FRAME);
    *size = n + 4;
    return read_all(fd, frame + 4, n);
}

/* Passes frames on, and does its worst with one of them. */
static void *attack_wire(void *arg)
{
    struct wire *w = arg;
    static uint8_t frame[MAX_FRAME], other[MAX_FRAME];
    size_t n = 0, m = 0;
    for (int i = 0; take_frame(w->in, frame, &n); i++) {
        bool now = i == ATTACKED_FRAME;
        if (now && w->attack == ATTACK_ALTER) {
            frame[n / 2] ^= 1;
        }
        if (now && w->attack == ATTACK_REORDER && take_frame(w->in, other, &m) &&
            write(w->out, other, m) < 0) {
            break;
        }
        if (write(w->out, frame, n) < 0 ||
            (now && w->attack == ATTACK_REPLAY && write(w->out, frame, n) < 0)) {
            break;
        }
    }
    close(w->in);
    close(w->out);
    return NULL;
}

static int attacked_pair(void *arg, int from, int to, struct channel **a, struct channel **b,
                         struct error *e)
{
    struct wire *w = arg;
    if (from != 0 || to != 1) {
        return memory_pair(a, b, NULL, e);
    }
    int left[2], right[2];
    struct channel *plain_a = NULL, *plain_b = NULL;
    struct seal_keys keys = { .cipher = SEAL_AES_128_GCM };
    struct seal_keys turned = keys;
    memset(keys.send_key, 1, sizeof keys.send_key);
    memset(keys.recv_key, 2, sizeof keys.recv_key);
    memcpy(turned.send_key, keys.recv_key, sizeof keys.send_key);
    memcpy(turned.recv_key, keys.send_key, sizeof keys.send_key);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, left), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, right), 0);
    assert_int_equal(tcp_from_fd(&plain_a, left[0], NULL, e), 0);
    assert_int_equal(tcp_from_fd(&plain_b, right[0], NULL, e), 0);
    assert_int_equal(channel_seal(a, plain_a, &keys, e), 0);
    assert_int_equal(channel_seal(b, plain_b, &turned, e), 0);
    w->in = left[1];
    w->out = right[1];
    return thread_start(&w->thread, attack_wire, w, e);
}

static void an_attacked_frame_ends_the_placement(void **state)
{
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    for (enum attack k = ATTACK_NONE; k <= ATTACK_REORDER; k++) {
        struct wire w = { .attack = k };
        struct executor *x = open_with("1/1", program, attacked_pair, &w);
        if (k == ATTACK_NONE) {
            int rows = 0;
            run_script(x, &rows);
            x->ops->close(x);
        } else {
            expect_failure(x, 1, "authentication failed");
        }
        thread_join(&w.thread);
    }
    arena_done(&arena);
}

static void *break_later(void *arg)
{
    struct executor *x = arg;
    struct mutex m;
    struct condition c;
    mutex_init(&m);
    condition_init(&c);
    mutex_lock(&m);
    condition_wait(&c, &m, 50000000);
    mutex_unlock(&m);
    distributed_break(x, "device B was lost");
    condition_done(&c);
    mutex_done(&m);
    return NULL;
}

static void a_lost_device_wakes_the_head(void **state)
{
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    /* The first stage's messages come so late that only the break can end the wait. */
    struct faults f = { .from = 0, .to = 1, .options = { .delay_ns = 60 * SECOND } };
    struct executor *x = open_split("1/1", program, &f);
    struct thread t;
    struct error e = { 0 };
    assert_int_equal(thread_start(&t, break_later, x, &e), 0);
    expect_broken(x, 1, "device B was lost");
    thread_join(&t);
    x->ops->close(x);
    arena_done(&arena);
}

static void a_bad_plan_is_refused(void **state)
{
    struct arena arena = { 0 };
    struct program *program = fake_program(&arena);
    struct placement_plan plan;
    struct error e = { 0 };
    struct executor *x = NULL;
    assert_int_equal(split_parse("9@1", 9, &plan, &e), 0);
    struct inprocess_options o = { .backend = &fake_backend,
                                   .program = program,
                                   .source = &fake_source,
                                   .plan = &plan,
                                   .threads = 1,
                                   .max_rows = 8,
                                   .max_sessions = 2,
                                   .max_context = 64 };
    assert_true(inprocess_open(&x, &o, &e) < 0);
    assert_true(e.text[0] != '\0');
    arena_done(&arena);
}

int main(void)
{
    process_ignore_broken_pipes(); /* the attacker writes to sockets that its victims closed */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_gives_the_same_bits),
        cmocka_unit_test(a_channel_takes_what_its_link_carries),
        cmocka_unit_test(a_failing_rank_is_named),
        cmocka_unit_test(a_dying_channel_ends_the_placement),
        cmocka_unit_test(delays_change_nothing),
        cmocka_unit_test(an_attacked_frame_ends_the_placement),
        cmocka_unit_test(a_lost_device_wakes_the_head),
        cmocka_unit_test(a_bad_plan_is_refused),
    };
    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}
