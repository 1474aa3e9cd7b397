/* Whole clusters in one process: several devices on one event loop, each with its own keys, over
 * real sockets of loopback, with a made-up backend. Nothing sleeps, except where a device that
 * stands still is what is tested: the loop runs until what is waited for has happened, or fails at
 * a deadline. */
#include "tests/cluster/devices.h"

#include "engine/engine.h"
#include "os/clock.h"
#include "os/log.h"
#include "tests/stage/fake.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What an engine request gave; written by the head's thread. */
struct result {
    atomic_int tokens;
    atomic_bool ended;
    enum engine_finish finish;
    char error[512];
};

static bool head_not_ready(void *arg)
{
    return !head_ready(arg);
}

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct result *r = arg;
    (void)t;
    atomic_fetch_add(&r->tokens, 1);
    return ENGINE_CONTINUE;
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct result *r = arg;
    (void)usage;
    r->finish = finish;
    snprintf(r->error, sizeof r->error, "%s", error ? error->text : "");
    atomic_store(&r->ended, true);
}

static bool result_ended(void *arg)
{
    return atomic_load(&((struct result *)arg)->ended);
}

static bool some_tokens(void *arg)
{
    return atomic_load(&((struct result *)arg)->tokens) > 3 || result_ended(arg);
}

static void submit(struct fixture *f, struct result *r, int max_tokens)
{
    static const int32_t prompt[] = { 5, 6, 7, 8 };
    struct cluster_model m;
    struct error e = { 0 };
    uint64_t ticket = 0;
    cluster_model_at(f->devices[0].cluster, 0, &m);
    assert_non_null(m.engine);
    struct engine_request q = { .prompt = prompt,
                                .n_prompt = 4,
                                .max_tokens = max_tokens,
                                .on_token = on_token,
                                .on_end = on_end,
                                .arg = r };
    assert_int_equal(engine_submit(m.engine, &q, &ticket, &e), 0);
}

static void answer(struct fixture *f)
{
    struct result r = { 0 };
    submit(f, &r, 8);
    assert_true(run_until(f, result_ended, &r, 10 * SECOND));
    assert_int_not_equal(r.finish, FINISH_ERROR);
    assert_true(atomic_load(&r.tokens) > 0);
}

static void one_device_serves(void **state)
{
    struct fixture *f = *state;
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    add_model(f);
    assert_true(run_until(f, head_ready, f, 10 * SECOND));
    answer(f);
    json_t *status = cluster_status(f->devices[0].cluster);
    assert_int_equal(json_array_size(json_object_get(status, "devices")), 1);
    assert_int_equal(json_array_size(json_object_get(status, "models")), 1);
    json_decref(status);
}

static void devices_join_and_serve(struct fixture *f, const char *split, int n, bool seal)
{
    open_devices(f, split, n, seal);
    assert_true(run_until(f, head_ready, f, 20 * SECOND));
    answer(f);
}

/* The transports that the head tells of a rank, joined; "" before its device has said so. */
static void transports_of(struct fixture *f, int rank, char text[static 64])
{
    json_t *status = cluster_status(f->devices[0].cluster), *stage = NULL, *item = NULL;
    size_t i = 0;
    int first = 0;
    text[0] = '\0';
    json_array_foreach(
        json_object_get(json_array_get(json_object_get(status, "models"), 0), "stages"), i, stage)
    {
        const json_t *ranks = json_object_get(stage, "ranks");
        const json_t *r = json_array_get(ranks, (size_t)(rank - first));
        size_t k = 0;
        json_array_foreach(json_object_get(r, "transports"), k, item)
        {
            size_t n = strlen(text);
            snprintf(text + n, 64 - n, "%s%s", k ? "+" : "", json_string_value(item));
        }
        first += (int)json_array_size(ranks);
        if (r != NULL) {
            break;
        }
    }
    json_decref(status);
}

static bool transports_told(void *arg)
{
    char text[64];
    int told = 0;
    for (int r = 0; r < 2; r++) {
        transports_of(arg, r, text);
        told += text[0] != '\0';
    }
    return told == 2;
}

/* Of the first two ranks; the head holds the first. */
static void expect_transports(struct fixture *f, const char *first, const char *second)
{
    char text[64];
    assert_true(run_until(f, transports_told, f, 10 * SECOND));
    transports_of(f, 0, text);
    assert_string_equal(text, first);
    transports_of(f, 1, text);
    assert_string_equal(text, second);
}

static void a_pipeline_of_three(void **state)
{
    struct fixture *f = *state;
    devices_join_and_serve(f, "1/1/1", 3, false);
    expect_transports(f, "memory+shm", "shm");
    json_t *status = cluster_status(f->devices[0].cluster);
    assert_int_equal(json_array_size(json_object_get(status, "devices")), 3);
    json_decref(status);
}

static void a_sealed_tensor_split(void **state)
{
    devices_join_and_serve(*state, "1:1", 2, true);
    expect_transports(*state, "memory+sealed tcp", "sealed tcp");
}

/* No file may grow to the size of the rings, nor memory that is a file. */
static void without_shared_memory_it_is_tcp(void **state)
{
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){ .rlim_cur = 1 << 20, .rlim_max = before.rlim_max };
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    devices_join_and_serve(*state, "1/1", 2, false);
    expect_transports(*state, "memory+sealed tcp", "sealed tcp");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
}

/* Takes what is handed over, before the devices of this process can, and refuses it. */
static int refuse_parcels(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++) {
        struct sockaddr_un a = { 0 };
        socklen_t size = sizeof a;
        struct shm_parcel parcel;
        if (getsockname(fd, (struct sockaddr *)&a, &size) == 0 && a.sun_family == AF_UNIX &&
            memcmp(a.sun_path, "\0shoal-", 7) == 0) {
            for (; shm_take(&parcel, fd, NULL) == 0; n++) {
                shm_refuse(&parcel);
            }
        }
    }
    return n;
}

struct refusing {
    struct fixture *fixture;
    int n;
};

static bool head_ready_refusing(void *arg)
{
    struct refusing *r = arg;
    r->n += refuse_parcels();
    return head_ready(r->fixture);
}

static void refused_shared_memory_gives_way_to_tcp(void **state)
{
    struct refusing r = { .fixture = *state };
    open_devices(*state, "1/1", 2, false);
    assert_true(run_until(*state, head_ready_refusing, &r, 20 * SECOND));
    assert_int_equal(r.n, 2); /* one for the steps, one for the hidden states */
    answer(*state);
    expect_transports(*state, "memory+sealed tcp", "sealed tcp");
}

static void a_two_by_two(void **state)
{
    devices_join_and_serve(*state, "1:1/1:1", 4, true);
}

static void a_lost_device_ends_requests_and_comes_back(void **state)
{
    struct fixture *f = *state;
    devices_join_and_serve(f, "1/1", 2, false);
    struct result r = { 0 };
    submit(f, &r, 100);
    assert_true(run_until(f, some_tokens, &r, 10 * SECOND));
    uint64_t begin = clock_now_ns();
    close_device(f, 1);
    assert_true(run_until(f, result_ended, &r, 10 * SECOND));
    /* The made-up model may have ended by itself a moment before. */
    if (r.finish == FINISH_ERROR) {
        assert_non_null(strstr(r.error, "B"));
    }
    assert_true(clock_now_ns() - begin < 5 * SECOND);
    assert_true(run_until(f, head_not_ready, f, 10 * SECOND));

    struct cluster_options o = options_of(f, 1);
    open_device(f, 1, &o);
    assert_true(run_until(f, head_ready, f, 20 * SECOND));
    answer(f);
}

/* A process that doesn't run for longer than others may be silent hears nobody, and blames nobody.
 */
static void standing_still_loses_nobody(void **state)
{
    struct fixture *f = *state;
    struct cluster_model before, after;
    devices_join_and_serve(f, "1/1", 2, false);
    cluster_model_at(f->devices[0].cluster, 0, &before);
    clock_sleep(5 * SECOND);
    uint64_t until = clock_deadline(SECOND);
    assert_true(run_until(f, passed, &until, 10 * SECOND));
    assert_true(head_ready(f));
    cluster_model_at(f->devices[0].cluster, 0, &after);
    assert_ptr_equal(after.engine, before.engine);
    answer(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_device_serves, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(a_pipeline_of_three, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(a_sealed_tensor_split, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(without_shared_memory_it_is_tcp, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(refused_shared_memory_gives_way_to_tcp, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(a_two_by_two, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(a_lost_device_ends_requests_and_comes_back, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(standing_still_loses_nobody, devices_set_up,
                                        devices_tear_down),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
