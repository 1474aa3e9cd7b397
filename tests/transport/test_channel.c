/* What every kind of channel promises. */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/transport/pairs.h"

#include "base/random.h"
#include "os/thread.h"

struct kind {
    void (*open)(struct channel **a, struct channel **b, const struct channel_options *o);
};

static void open_pair(void **state, struct channel **a, struct channel **b,
                      const struct channel_options *o)
{
    ((const struct kind *)*state)->open(a, b, o);
}

static void fill_random(uint8_t *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)random_at(seed, i);
    }
}

static void messages_keep_order_and_bounds(void **state)
{
    struct channel *a, *b;
    struct error e = { 0 };
    open_pair(state, &a, &b, NULL);
    static uint8_t out[50000], in[50000];
    fill_random(out, sizeof out, 1);
    static const size_t sizes[] = { 0, 1, 3, 4, 5, 15, 16, 17, 8191, 8192, 8193, 50000 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t half = sizes[i] / 3;
        struct bytes parts[] = { bytes_of(out, half), bytes_of(NULL, 0),
                                 bytes_of(out + half, sizes[i] - half) };
        assert_int_equal(channel_send(a, parts, 3, SOON, &e), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t size = 77;
        assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), 0);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(in, out, size);
    }
    assert_int_equal(channel_poll(b, &e), 0);
    assert_int_equal(channel_poll(a, &e), 0);
    channel_close(a);
    channel_close(b);
}

static void timeouts_leave_the_channel_whole(void **state)
{
    struct channel *a, *b;
    struct error e = { 0 };
    open_pair(state, &a, &b, NULL);
    char in[8];
    size_t size = 0;
    uint64_t begin = clock_now_ns();
    assert_int_equal(channel_recv(b, in, sizeof in, &size, IN_MS(20), &e), FAIL_TIMEOUT);
    assert_true(clock_now_ns() - begin >= 20 * CLOCK_NS_PER_MS);
    assert_true(clock_now_ns() - begin < 2 * CLOCK_NS_PER_S);
    struct bytes part = bytes_text("hello");
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
    while (channel_poll(b, &e) == 0) {
    }
    assert_int_equal(channel_poll(b, &e), 1);
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), 0);
    assert_int_equal(size, 5);
    channel_close(a);
    channel_close(b);
}

static void closing_lets_sent_messages_through(void **state)
{
    struct channel *a, *b;
    struct error e = { 0 };
    open_pair(state, &a, &b, NULL);
    struct bytes part = bytes_text("last words");
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
    channel_close(a);
    char in[16];
    size_t size = 0;
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), 0);
    assert_int_equal(size, 10);
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), FAIL_CLOSED);
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), FAIL_CLOSED);
    assert_int_equal(channel_poll(b, &e), FAIL_CLOSED);
    channel_close(b);
}

static void too_long_messages_are_refused(void **state)
{
    struct channel *a, *b;
    struct error e = { 0 };
    struct channel_options o = { .max_message = 1000 };
    open_pair(state, &a, &b, &o);
    static char big[1200], in[1200];
    size_t size = 0;
    struct bytes part = bytes_of(big, sizeof big);
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), FAIL_LIMIT);
    part.size = 900; /* refused before anything was sent: the channel still works */
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
    assert_int_equal(channel_recv(b, in, 899, &size, SOON, &e), FAIL_LIMIT);
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), FAIL_CLOSED);
    channel_close(a);
    channel_close(b);
}

struct side {
    struct channel *ch;
    size_t size;
    uint64_t seed, other;
    int code, wrong;
    struct thread thread;
};

static void *exchange_side(void *arg)
{
    struct side *s = arg;
    struct error e = { 0 };
    uint8_t *out = malloc(s->size), *in = malloc(s->size);
    for (int round = 0; round < 3 && s->code == 0; round++) {
        fill_random(out, s->size, s->seed + (uint64_t)round);
        struct bytes part = bytes_of(out, s->size);
        struct transfer t = {
            .channel = s->ch, .parts = &part, .n_parts = 1, .in = in, .capacity = s->size
        };
        s->code = channel_exchange(&t, 1, SOON, &e);
        fill_random(out, s->size, s->other + (uint64_t)round);
        s->wrong += s->code == 0 && (t.size != s->size || memcmp(in, out, s->size) != 0);
    }
    free(out);
    free(in);
    return NULL;
}

/* Both send far more than any buffer holds before either has received. */
static void big_exchanges_cannot_deadlock(void **state)
{
    struct side s[2] = { { .size = 3u << 20, .seed = 10, .other = 20 },
                         { .size = 3u << 20, .seed = 20, .other = 10 } };
    open_pair(state, &s[0].ch, &s[1].ch, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(thread_start(&s[i].thread, exchange_side, &s[i], NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        thread_join(&s[i].thread);
        assert_int_equal(s[i].code, 0);
        assert_int_equal(s[i].wrong, 0);
        channel_close(s[i].ch);
    }
}

static void *echo(void *arg)
{
    struct side *s = arg;
    static _Thread_local uint8_t buf[20000];
    size_t size = 0;
    for (int i = 0; s->code == 0; i++) {
        s->code = channel_recv(s->ch, buf, sizeof buf, &size, SOON, NULL);
        struct bytes part = bytes_of(buf, size);
        s->code = s->code == 0 ? channel_send(s->ch, &part, 1, SOON, NULL) : s->code;
    }
    return NULL;
}

/* Sleeping on both sides all the time: no wake-up may be lost. */
static void no_wake_up_is_lost(void **state)
{
    struct side s = { 0 };
    struct channel *a;
    struct error e = { 0 };
    open_pair(state, &a, &s.ch, &(struct channel_options){ .spin_ns = 1, .ring_bytes = 4096 });
    assert_int_equal(thread_start(&s.thread, echo, &s, NULL), 0);
    static uint8_t out[20000], in[20000];
    fill_random(out, sizeof out, 3);
    for (size_t i = 0; i < 400; i++) {
        size_t n = i * 50, size = 0;
        struct bytes part = bytes_of(out, n);
        uint64_t begin = clock_now_ns();
        assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
        assert_int_equal(channel_recv(a, in, sizeof in, &size, SOON, &e), 0);
        assert_true(clock_now_ns() - begin < CLOCK_NS_PER_S); /* a lost one takes a second */
        assert_int_equal(size, n);
        assert_memory_equal(in, out, n);
    }
    channel_close(a);
    thread_join(&s.thread);
    assert_int_equal(s.code, FAIL_CLOSED);
    channel_close(s.ch);
}

static void *wait_for_message(void *arg)
{
    struct side *s = arg;
    size_t size = 0;
    char buf[4];
    s->code = channel_recv(s->ch, buf, sizeof buf, &size, SOON, NULL);
    return NULL;
}

static void shutdown_wakes_both_ends(void **state)
{
    struct side s[2] = { 0 };
    open_pair(state, &s[0].ch, &s[1].ch, &(struct channel_options){ .spin_ns = 1 });
    uint64_t begin = clock_now_ns();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(thread_start(&s[i].thread, wait_for_message, &s[i], NULL), 0);
    }
    channel_shutdown(s[0].ch);
    for (int i = 0; i < 2; i++) {
        thread_join(&s[i].thread);
        assert_int_equal(s[i].code, FAIL_CLOSED);
    }
    assert_true(clock_now_ns() - begin < CLOCK_NS_PER_S);
    channel_close(s[0].ch);
    channel_close(s[1].ch);
}

static void *send_slowly(void *arg)
{
    struct side *s = arg;
    uint8_t *out = malloc(s->size);
    fill_random(out, s->size, s->seed);
    struct bytes part = bytes_of(out, s->size);
    s->code = channel_send(s->ch, &part, 1, SOON, NULL);
    free(out);
    return NULL;
}

/* A message larger than all buffers; the receiver gives up in its middle and comes back with other
 * memory. */
static void half_received_messages_survive_a_timeout(void **state)
{
    struct side s = { .size = 20u << 20, .seed = 5 };
    struct channel *a;
    struct error e = { 0 };
    open_pair(state, &a, &s.ch, NULL);
    uint8_t *in[2] = { malloc(s.size), malloc(s.size) };
    assert_int_equal(thread_start(&s.thread, send_slowly, &s, NULL), 0);
    while (channel_poll(a, &e) == 0) {
    }
    int code = FAIL_TIMEOUT, tries = 0;
    size_t size = 0;
    for (; code == FAIL_TIMEOUT && tries < 100000; tries++) {
        memset(in[(tries + 1) & 1], 0xee, 4096);
        code = channel_recv(a, in[tries & 1], s.size, &size, clock_now_ns() + 300000, &e);
    }
    thread_join(&s.thread);
    assert_int_equal(s.code, 0);
    assert_int_equal(code, 0);
    uint8_t *got = in[(tries - 1) & 1], *other = in[tries & 1];
    fill_random(other, s.size, s.seed);
    assert_int_equal(size, s.size);
    assert_memory_equal(got, other, size);
    free(in[0]);
    free(in[1]);
    channel_close(a);
    channel_close(s.ch);
}

/* --- what only the memory transport does --- */

static void delay_is_kept(void **state)
{
    (void)state;
    struct channel *a, *b;
    struct error e = { 0 };
    struct memory_options o = { .delay_ns = 20 * CLOCK_NS_PER_MS };
    assert_int_equal(memory_pair(&a, &b, &o, &e), 0);
    struct bytes part = bytes_text("x");
    uint64_t begin = clock_now_ns();
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
    assert_int_equal(channel_poll(b, &e), 0);
    char in[4];
    size_t size = 0;
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), 0);
    uint64_t took = clock_now_ns() - begin;
    assert_true(took >= o.delay_ns && took < o.delay_ns + CLOCK_NS_PER_S);
    channel_close(a);
    channel_close(b);
}

static void loss_and_death_follow_the_script(void **state)
{
    (void)state;
    struct channel *a, *b;
    struct error e = { 0 };
    struct memory_options o = { .loss_ppm = 300000, .seed = 9, .die_after = 100 };
    assert_int_equal(memory_pair(&a, &b, &o, &e), 0);
    for (int i = 0; i < 100; i++) {
        struct bytes part = bytes_of(&i, sizeof i);
        assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
    }
    struct bytes part = bytes_text("x");
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), FAIL_CLOSED);
    int n = 0, last = -1, value = 0;
    size_t size = 0;
    while (channel_recv(b, &value, sizeof value, &size, SOON, &e) == 0) {
        assert_true(value > last);
        last = value;
        n++;
    }
    assert_in_range(n, 50, 90);
    channel_close(a);
    channel_close(b);
}

static void silly_options_are_refused(void **state)
{
    (void)state;
    struct channel *a = NULL, *b = NULL;
    struct error e = { 0 };
    struct memory_options o = { .channel.ring_bytes = 5000 };
    assert_int_equal(memory_pair(&a, &b, &o, &e), FAIL_ARG);
    int fd = -1;
    assert_int_equal(tcp_connect(&fd, "nonsense", SOON, &e), FAIL_ARG);
    assert_int_equal(tcp_connect(&fd, ":1", SOON, &e), FAIL_ARG);
    assert_int_equal(tcp_listen(&fd, "127.0.0.1", 70000, &e), FAIL_ARG);
    channel_close(NULL);
}

static void unknown_pairs_are_refused_with_the_known_names(void **state)
{
    (void)state;
    struct channel *a = NULL, *b = NULL;
    struct error e = { 0 };
    assert_int_equal(transport_pair("pigeon", &a, &b, NULL, &e), FAIL_ARG);
    assert_non_null(strstr(e.text, "pigeon"));
    for (int i = 0; transport_pair_names[i] != NULL; i++) {
        assert_non_null(strstr(e.text, transport_pair_names[i]));
    }
    assert_null(a);
    assert_null(b);
}

static void a_taken_port_is_named(void **state)
{
    (void)state;
    struct error e = { 0 };
    int fd = -1, second = -1;
    assert_int_equal(tcp_listen(&fd, NULL, 0, &e), 0);
    int port = tcp_local_port(fd, &e);
    assert_in_range(port, 1, 65535);
    assert_int_equal(tcp_listen(&second, NULL, port, &e), FAIL_BUSY);
    tcp_close(fd);
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    assert_int_equal(tcp_connect(&second, address, SOON, &e), FAIL_CLOSED);
}

static void a_forged_length_is_refused(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct channel *b;
    int fds[2];
    tcp_sockets(fds);
    assert_int_equal(tcp_from_fd(&b, fds[1], &(struct channel_options){ .max_message = 4096 }, &e),
                     0);
    assert_int_equal(tcp_write_all(fds[0], bytes_of("\xff\xff\xff\xffzzz", 7), SOON, &e), 0);
    char in[4096];
    size_t size = 0;
    assert_int_equal(channel_recv(b, in, sizeof in, &size, SOON, &e), FAIL_LIMIT);
    tcp_close(fds[0]);
    channel_close(b);
}

/* --- shm between processes --- */

/* The child echoes one message and is then killed where it sleeps. */
static void death_of_a_process_is_noticed(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct shm_offer *offer = NULL;
    struct channel *a = NULL;
    char token[SHM_TOKEN];
    int listener = -1;
    assert_int_equal(shm_listen(&listener, token, &e), 0);
    pid_t child = fork();
    if (child == 0) {
        struct side echo_side = { 0 };
        if (shm_offer(&offer, token, shm_preamble, NULL, &e) == 0 &&
            shm_finish(&echo_side.ch, offer, &e) == 0) {
            echo(&echo_side);
        }
        _exit(0);
    }
    shm_join_next(&a, listener, NULL);
    struct bytes part = bytes_text("ping");
    char in[8];
    size_t size = 0;
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), 0);
    assert_int_equal(channel_recv(a, in, sizeof in, &size, SOON, &e), 0);
    kill(child, SIGKILL);
    uint64_t begin = clock_now_ns();
    assert_int_equal(channel_recv(a, in, sizeof in, &size, SOON, &e), FAIL_CLOSED);
    assert_true(clock_now_ns() - begin < CLOCK_NS_PER_S);
    assert_int_equal(channel_send(a, &part, 1, SOON, &e), FAIL_CLOSED);
    waitpid(child, NULL, 0);
    channel_close(a);
    tcp_close(listener);
}

#define EACH(test, kind)                                                                           \
    {                                                                                              \
        .name = #test " over " #kind, .test_func = test, .initial_state = (void *)&kind            \
    }
#define ALL(kind)                                                                                  \
    EACH(messages_keep_order_and_bounds, kind), EACH(timeouts_leave_the_channel_whole, kind),      \
        EACH(closing_lets_sent_messages_through, kind), EACH(too_long_messages_are_refused, kind), \
        EACH(big_exchanges_cannot_deadlock, kind), EACH(no_wake_up_is_lost, kind),                 \
        EACH(shutdown_wakes_both_ends, kind), EACH(half_received_messages_survive_a_timeout, kind)

int main(void)
{
    static struct kind memory = { plain_memory_pair }, tcp = { tcp_pair };
    static struct kind sealed_tcp = { sealed_tcp_pair }, sealed_memory = { sealed_memory_pair };
    static struct kind shm = { shm_pair };
    const struct CMUnitTest tests[] = {
        ALL(memory),
        ALL(tcp),
        ALL(shm),
        ALL(sealed_tcp),
        ALL(sealed_memory),
        cmocka_unit_test(death_of_a_process_is_noticed),
        cmocka_unit_test(delay_is_kept),
        cmocka_unit_test(loss_and_death_follow_the_script),
        cmocka_unit_test(silly_options_are_refused),
        cmocka_unit_test(unknown_pairs_are_refused_with_the_known_names),
        cmocka_unit_test(a_taken_port_is_named),
        cmocka_unit_test(a_forged_length_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
