/* Whole clusters in one process: several devices on one event loop, each with its own keys, over
 * real sockets of loopback, with a made-up backend. Nothing sleeps, except where a device that
 * stands still is what is tested: the loop runs until what is waited for has happened, or fails at
 * a deadline. */
#include "tests/test.h"

#include "cluster/cluster.h"
#include "engine/engine.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "peer/stream.h"
#include "secure/invitation.h"
#include "tests/stage/fake.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MAX_DEVICES 4

struct device_slot {
    char home[256], join[64];
    struct cluster *cluster;
};

struct fixture {
    struct event_base *base;
    char root[128], models[256];
    struct device_slot devices[MAX_DEVICES];
    int requests;
    int write_code; /* of the last reply's pieces */
};

/* What an engine request gave; written by the head's thread. */
struct result {
    atomic_int tokens;
    atomic_bool ended;
    enum engine_finish finish;
    char error[512];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    evthread_use_pthreads();
    f->base = event_base_new();
    snprintf(f->root, sizeof f->root, "/tmp/shoal-test-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->models, sizeof f->models, "%s", SHOAL_TEST_DATA "/golden");
    for (int i = 0; i < MAX_DEVICES; i++) {
        snprintf(f->devices[i].home, sizeof f->devices[i].home, "%s/%d", f->root, i);
    }
    log_set_level(LOG_ERROR);
    *state = f;
    return 0;
}

static bool remove_list(void *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", (const char *)folder, name);
    unlink(path);
    return true;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = MAX_DEVICES - 1; i >= 0; i--) {
        cluster_close(f->devices[i].cluster);
        char path[320];
        static const char *const files[] = { "device.key", "cluster.key", "device.lock", "head",
                                             "invitations" };
        for (size_t k = 0; k < ARRAY_LEN(files); k++) {
            snprintf(path, sizeof path, "%s/%s", f->devices[i].home, files[k]);
            unlink(path);
        }
        snprintf(path, sizeof path, "%s/invitations.lock", f->devices[i].home);
        unlink(path);
        snprintf(path, sizeof path, "%s/chunks", f->devices[i].home);
        file_list(path, remove_list, path, NULL);
        rmdir(path);
        rmdir(f->devices[i].home);
    }
    rmdir(f->root);
    event_base_free(f->base);
    free(f);
    return 0;
}

/* Runs the loop until done(arg) or the deadline. */
static bool run_until(struct fixture *f, bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
    uint64_t until = clock_deadline(limit_ns);
    while (!done(arg) && clock_now_ns() < until) {
        event_base_loop(f->base, EVLOOP_ONCE);
    }
    return done(arg);
}

/* A file of a home into another, as its owner would copy it. */
static void copy_file(struct fixture *f, int from, int to, const char *name)
{
    char path[320];
    struct buffer key;
    struct error e = { 0 };
    buffer_init(&key, 4096);
    snprintf(path, sizeof path, "%s/%s", f->devices[from].home, name);
    assert_int_equal(file_read_all(path, &key, &e), 0);
    assert_int_equal(file_make_directory(f->devices[to].home, 0700, &e), 0);
    snprintf(path, sizeof path, "%s/%s", f->devices[to].home, name);
    assert_int_equal(file_write_atomic(path, buffer_bytes(&key), 0600, &e), 0);
    buffer_done(&key);
}

/* The head's cluster key for a member. */
static void copy_key(struct fixture *f, int from, int to)
{
    copy_file(f, from, to, "cluster.key");
}

static struct cluster_options options_of(struct fixture *f, int i)
{
    static const char *const names[] = { "A", "B", "C", "D" };
    return (struct cluster_options){ .base = f->base,
                                     .home = f->devices[i].home,
                                     .models_dir = f->models,
                                     .name = names[i],
                                     .backend = &fake_backend,
                                     .isa = "fake",
                                     .threads = 1,
                                     .context = 128 };
}

static void open_device(struct fixture *f, int i, struct cluster_options *o)
{
    struct error e = { 0 };
    if (i > 0 && o->join == NULL && o->invite == NULL && f->devices[0].cluster != NULL) {
        snprintf(f->devices[i].join, sizeof f->devices[i].join, "127.0.0.1:%d",
                 cluster_peer_port(f->devices[0].cluster));
        o->join = f->devices[i].join;
    }
    int code = cluster_open(&f->devices[i].cluster, o, &e);
    if (code != 0) {
        print_error("%s\n", e.text);
    }
    assert_int_equal(code, 0);
}

static void close_device(struct fixture *f, int i)
{
    cluster_close(f->devices[i].cluster);
    f->devices[i].cluster = NULL;
}

static bool head_ready(void *arg)
{
    struct fixture *f = arg;
    struct cluster_model m;
    if (cluster_model_count(f->devices[0].cluster) == 0) {
        return false;
    }
    cluster_model_at(f->devices[0].cluster, 0, &m);
    return m.state == MODEL_READY;
}

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

static void add_model(struct fixture *f)
{
    struct error e = { 0 };
    int code = cluster_add_model(f->devices[0].cluster, "gemma3", &e);
    if (code != 0) {
        print_error("%s\n", e.text);
    }
    assert_int_equal(code, 0);
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

static void open_devices(struct fixture *f, const char *split, int n, bool seal)
{
    for (int i = 0; i < n; i++) {
        struct cluster_options o = options_of(f, i);
        o.split = split;
        o.seal = seal;
        if (i > 0) {
            copy_key(f, 0, i);
        }
        open_device(f, i, &o);
        if (i == 0) {
            add_model(f);
        }
    }
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

static bool passed(void *arg)
{
    return clock_now_ns() >= *(const uint64_t *)arg;
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

static bool two_known(void *arg)
{
    struct fixture *f = arg;
    json_t *status = cluster_status(f->devices[0].cluster);
    size_t alive = json_array_size(json_object_get(status, "links"));
    json_decref(status);
    return alive > 0;
}

/* Each turn of the loop comes late, as on a machine with more work than cores: every step of the
 * opening takes one, and all of them together longer than a stranger may take. */
static void a_loop_that_comes_late_is_no_stranger(void **state)
{
    struct fixture *f = *state;
    open_devices(f, NULL, 2, false);
    uint64_t begin = clock_now_ns(), until = clock_deadline(20 * SECOND);
    while (!two_known(f) && clock_now_ns() < until) {
        clock_sleep(SECOND / 2);
        event_base_loop(f->base, EVLOOP_ONCE);
    }
    assert_true(two_known(f));
    assert_true(clock_now_ns() - begin > 5 * SECOND); /* or it shows nothing */
}

/* The address that the head's one link comes from, with its port. */
static void only_link(struct fixture *f, char text[static 80])
{
    json_t *status = cluster_status(f->devices[0].cluster);
    const json_t *links = json_object_get(status, "links");
    assert_int_equal(json_array_size(links), 1);
    snprintf(text, 80, "%s",
             json_string_value(json_object_get(json_array_get(links, 0), "address")));
    json_decref(status);
}

static bool no_link(void *arg)
{
    return !two_known(arg);
}

static void a_copied_key_throws_nobody_out(void **state)
{
    struct fixture *f = *state;
    char before[80], after[80];
    open_devices(f, NULL, 2, false);
    assert_true(run_until(f, two_known, f, 10 * SECOND));
    only_link(f, before);
    copy_key(f, 0, 2);
    copy_file(f, 1, 2, "device.key");
    struct cluster_options o = options_of(f, 2);
    open_device(f, 2, &o);
    uint64_t until = clock_deadline(5 * SECOND / 2); /* the copy tries each second */
    assert_true(run_until(f, passed, &until, 10 * SECOND));
    only_link(f, after);
    assert_string_equal(before, after);
    /* Once the first is gone the copy is as good. */
    close_device(f, 1);
    assert_true(run_until(f, no_link, f, 10 * SECOND));
    assert_true(run_until(f, two_known, f, 10 * SECOND));
}

static void one_home_is_one_device(void **state)
{
    struct fixture *f = *state;
    struct cluster *second = NULL;
    struct error e = { 0 };
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    assert_int_equal(cluster_open(&second, &o, &e), FAIL_BUSY);
    assert_non_null(strstr(e.text, f->devices[0].home));
    close_device(f, 0);
    open_device(f, 0, &o);
}

static void a_wrong_key_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cluster_options head = options_of(f, 2);
    open_device(f, 2, &head); /* the head of another cluster makes another key */
    copy_key(f, 2, 1);
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_false(run_until(f, two_known, f, 2 * SECOND));
}

static void another_version_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    b.protocol_version = 77;
    open_device(f, 1, &b);
    assert_false(run_until(f, two_known, f, 2 * SECOND));
}

static void an_invitation_brings_the_key(void **state)
{
    struct fixture *f = *state;
    struct invitation i;
    struct error e = { 0 };
    char text[INVITATION_TEXT];
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    assert_int_equal(invitation_create(&i, f->devices[0].home, clock_wall_s(), 1, &e), 0);
    i.n_addresses = 1;
    snprintf(i.addresses[0], sizeof i.addresses[0], "127.0.0.1:%d",
             cluster_peer_port(f->devices[0].cluster));
    invitation_format(text, &i);
    struct cluster_options b = options_of(f, 1);
    b.invite = text;
    open_device(f, 1, &b);
    assert_true(run_until(f, two_known, f, 10 * SECOND));
    /* It has the key now and comes back without the invitation. */
    close_device(f, 1);
    struct cluster_options again = options_of(f, 1);
    open_device(f, 1, &again);
    assert_true(run_until(f, two_known, f, 10 * SECOND));
    /* The invitation is used up. */
    struct cluster_options c = options_of(f, 2);
    c.invite = text;
    open_device(f, 2, &c);
    json_t *status = NULL;
    assert_false(run_until(f, head_ready, f, 1500000000ull));
    status = cluster_status(f->devices[0].cluster);
    assert_int_equal(json_array_size(json_object_get(status, "links")), 1);
    json_decref(status);
}

/* --- requests that travel --- */

static void echo(void *arg, const struct cluster_request *q, struct cluster_reply *reply)
{
    struct fixture *f = arg;
    f->requests++;
    cluster_reply_begin(reply, 200, "application/json");
    cluster_reply_write(reply, bytes_text(q->path));
    cluster_reply_write(reply, q->body);
    cluster_reply_end(reply);
}

struct reply_seen {
    int status;
    struct buffer body;
    bool ended, failed;
};

static void saw_begin(void *arg, int status, const char *type)
{
    ((struct reply_seen *)arg)->status = status;
    assert_true(strcmp(type, "application/json") == 0 || strcmp(type, "text/event-stream") == 0);
}

static void saw_write(void *arg, struct bytes data)
{
    buffer_append(&((struct reply_seen *)arg)->body, data);
}

static void saw_end(void *arg)
{
    ((struct reply_seen *)arg)->ended = true;
}

static void saw_failure(void *arg, const struct error *e)
{
    (void)e;
    ((struct reply_seen *)arg)->failed = true;
}

static bool reply_over(void *arg)
{
    struct reply_seen *s = arg;
    return s->ended || s->failed;
}

static bool member_linked(void *arg)
{
    struct fixture *f = arg;
    struct cluster_model m;
    if (cluster_model_count(f->devices[1].cluster) == 0) {
        return false;
    }
    cluster_model_at(f->devices[1].cluster, 0, &m);
    return m.state == MODEL_READY;
}

static void a_request_travels_to_the_head(void **state)
{
    struct fixture *f = *state;
    struct cluster_options o = options_of(f, 0);
    o.on_request = echo;
    o.arg = f;
    open_device(f, 0, &o);
    add_model(f);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_true(run_until(f, member_linked, f, 10 * SECOND));

    struct reply_seen seen = { 0 };
    buffer_init(&seen.body, 4u << 20);
    char *body = malloc(1000000);
    memset(body, 'x', 1000000);
    struct cluster_sink sink = { saw_begin, saw_write, saw_end, saw_failure, &seen };
    struct cluster_request q = { "POST", "/v1/x", bytes_of(body, 1000000) };
    struct cluster_forward *forward = NULL;
    struct error e = { 0 };
    assert_int_equal(cluster_forward(f->devices[1].cluster, &q, &sink, &forward, &e), 0);
    assert_true(run_until(f, reply_over, &seen, 10 * SECOND));
    assert_true(seen.ended);
    assert_int_equal(seen.status, 200);
    assert_int_equal(seen.body.size, 1000000 + 5);
    assert_int_equal(f->requests, 1);
    buffer_done(&seen.body);
    free(body);
}

#define LARGE (40u << 20)

/* "/large" gets a body of LARGE bytes, "/events" as many in a stream of events. */
static void answer_much(void *arg, const struct cluster_request *q, struct cluster_reply *reply)
{
    struct fixture *f = arg;
    static const uint8_t zeros[1u << 16];
    bool events = strcmp(q->path, "/events") == 0;
    size_t most = strcmp(q->path, "/small") == 0 ? 5 : LARGE;
    f->requests++;
    cluster_reply_begin(reply, 200, events ? "text/event-stream" : "application/json");
    for (size_t n = 0; n < most && f->write_code == 0; n += sizeof zeros) {
        size_t left = most - n;
        f->write_code =
            cluster_reply_write(reply, bytes_of(zeros, left < sizeof zeros ? left : sizeof zeros));
    }
    cluster_reply_end(reply);
}

static void start_request(struct fixture *f, const char *path, struct reply_seen *seen)
{
    struct cluster_sink sink = { saw_begin, saw_write, saw_end, saw_failure, seen };
    struct cluster_request q = { "POST", path, bytes_text("x") };
    struct cluster_forward *forward = NULL;
    struct error e = { 0 };
    *seen = (struct reply_seen){ .status = 0 };
    buffer_init(&seen->body, LARGE + 4096);
    assert_int_equal(cluster_forward(f->devices[1].cluster, &q, &sink, &forward, &e), 0);
}

/* More than the link would have held: it is taken from in turn, and what is short passes by. An
 * endless stream that nobody takes is given up by itself. */
static void a_large_answer_ends_no_link(void **state)
{
    struct fixture *f = *state;
    struct reply_seen large, small, events;
    struct cluster_options o = options_of(f, 0);
    o.on_request = answer_much;
    o.arg = f;
    open_device(f, 0, &o);
    add_model(f);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_true(run_until(f, member_linked, f, 10 * SECOND));
    start_request(f, "/large", &large);
    start_request(f, "/small", &small);
    assert_true(run_until(f, reply_over, &small, 10 * SECOND));
    assert_true(small.ended);
    assert_int_equal(f->write_code, 0);
    assert_false(large.ended); /* it was overtaken */
    assert_true(run_until(f, reply_over, &large, 20 * SECOND));
    assert_true(large.ended);
    assert_int_equal(large.body.size, LARGE);
    start_request(f, "/events", &events);
    assert_true(run_until(f, reply_over, &events, 20 * SECOND));
    assert_int_equal(f->write_code, FAIL_LIMIT);
    assert_true(member_linked(f));
    buffer_done(&large.body);
    buffer_done(&small.body);
    buffer_done(&events.body);
}

/* Never answers. */
static void hold(void *arg, const struct cluster_request *request, struct cluster_reply *reply)
{
    (void)request;
    (void)reply;
    ((struct fixture *)arg)->requests++;
}

/* A limit of requests refuses a request; the link, and what else travels on it, stay. */
static void one_request_too_many_is_refused(void **state)
{
    enum { MOST = STREAM_MAX_OF_PEER };
    struct fixture *f = *state;
    struct cluster_options o = options_of(f, 0);
    o.on_request = hold;
    o.arg = f;
    open_device(f, 0, &o);
    add_model(f);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_true(run_until(f, member_linked, f, 10 * SECOND));
    struct reply_seen *seen = calloc(MOST + 1, sizeof *seen);
    struct cluster_request q = { "POST", "/v1/x", bytes_text("x") };
    for (int i = 0; i <= MOST; i++) {
        buffer_init(&seen[i].body, 4096);
        struct cluster_sink sink = { saw_begin, saw_write, saw_end, saw_failure, &seen[i] };
        struct cluster_forward *forward = NULL;
        struct error e = { 0 };
        assert_int_equal(cluster_forward(f->devices[1].cluster, &q, &sink, &forward, &e), 0);
    }
    assert_true(run_until(f, reply_over, &seen[MOST], 10 * SECOND));
    assert_true(seen[MOST].ended);
    assert_int_equal(seen[MOST].status, 503);
    assert_non_null(strstr(buffer_cstr(&seen[MOST].body), "\"error\""));
    assert_int_equal(f->requests, MOST);
    for (int i = 0; i <= MOST; i++) {
        assert_false(seen[i].failed);
    }
    cluster_stop(f->devices[1].cluster); /* ends what it sent */
    for (int i = 0; i <= MOST; i++) {
        assert_int_equal(seen[i].failed, i < MOST);
        buffer_done(&seen[i].body);
    }
    free(seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_device_serves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pipeline_of_three, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sealed_tensor_split, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_shared_memory_it_is_tcp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refused_shared_memory_gives_way_to_tcp, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_two_by_two, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_device_ends_requests_and_comes_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(standing_still_loses_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_loop_that_comes_late_is_no_stranger, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copied_key_throws_nobody_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_home_is_one_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_key_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_version_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_invitation_brings_the_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_travels_to_the_head, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_answer_ends_no_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_request_too_many_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
