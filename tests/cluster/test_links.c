/* Devices that come, are refused, copied, and ask each other: whole clusters in one process, over
 * real sockets of loopback. */
#include "tests/cluster/devices.h"

#include "os/clock.h"
#include "peer/stream.h"
#include "secure/invitation.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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

static bool reply_over(void *arg)
{
    struct reply_seen *s = arg;
    return s->ended || s->failed;
}

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
    assert_false(reply_over(arg));
    ((struct reply_seen *)arg)->failed = true;
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

/* A head that answers requests so, and a member that knows its model. */
static void open_answering(struct fixture *f,
                           void (*on_request)(void *arg, const struct cluster_request *request,
                                              struct cluster_reply *reply))
{
    struct cluster_options o = options_of(f, 0);
    o.on_request = on_request;
    o.arg = f;
    open_device(f, 0, &o);
    add_model(f);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_true(run_until(f, member_linked, f, 10 * SECOND));
}

static void a_request_travels_to_the_head(void **state)
{
    struct fixture *f = *state;
    open_answering(f, echo);

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
    open_answering(f, answer_much);
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

/* Large bodies are under way when their head goes: each request ends once, and in a turn of its
 * own, never while another one is being sent. */
static void a_head_goes_while_bodies_travel(void **state)
{
    enum { REQUESTS = 9, BODY = 8 << 20 };
    struct fixture *f = *state;
    struct reply_seen seen[REQUESTS];
    open_answering(f, echo);
    char *body = calloc(1, BODY);
    struct cluster_request q = { "POST", "/v1/x", bytes_of(body, BODY) };
    for (int i = 0; i < REQUESTS; i++) {
        struct cluster_forward *forward = NULL;
        struct error e = { 0 };
        seen[i] = (struct reply_seen){ .status = 0 };
        buffer_init(&seen[i].body, 1024);
        struct cluster_sink sink = { saw_begin, saw_write, saw_end, saw_failure, &seen[i] };
        assert_int_equal(cluster_forward(f->devices[1].cluster, &q, &sink, &forward, &e), 0);
        assert_false(reply_over(&seen[i]));
        event_base_loop(f->base, EVLOOP_NONBLOCK);
    }
    close_device(f, 0);
    for (int i = 0; i < REQUESTS; i++) {
        assert_true(run_until(f, reply_over, &seen[i], 10 * SECOND));
        buffer_done(&seen[i].body);
    }
    free(body);
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
    open_answering(f, hold);
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

/* --- who is believed --- */

static bool model_seen(void *arg)
{
    struct fixture *f = arg;
    return cluster_model_count(f->devices[1].cluster) > 0;
}

static bool member_alone(void *arg)
{
    return !model_seen(arg);
}

/* A device with the cluster's key that says it is the head, at the very address that was joined:
 * who followed another one before does not obey it, who never followed anybody does. */
static void a_claim_makes_no_head(void **state)
{
    struct fixture *f = *state;
    struct error e = { 0 };
    open_devices(f, NULL, 2, false);
    assert_true(run_until(f, model_seen, f, 10 * SECOND));
    int port = cluster_peer_port(f->devices[0].cluster);
    copy_key(f, 0, 2);
    close_device(f, 0);
    assert_true(run_until(f, member_alone, f, 10 * SECOND));
    struct cluster_options o = options_of(f, 2);
    o.peer_port = port;
    assert_int_equal(cluster_open(&f->devices[2].cluster, &o, &e), 0);
    assert_int_equal(cluster_add_model(f->devices[2].cluster, "gemma3", &e), 0);
    uint64_t until = clock_deadline(3 * SECOND); /* it joins again each second */
    assert_true(run_until(f, passed, &until, 10 * SECOND));
    assert_false(model_seen(f));
    /* Nor after a restart: it is kept on disk. */
    close_device(f, 1);
    struct cluster_options b = options_of(f, 1);
    b.join = f->devices[1].join;
    assert_int_equal(cluster_open(&f->devices[1].cluster, &b, &e), 0);
    until = clock_deadline(2 * SECOND);
    assert_true(run_until(f, passed, &until, 10 * SECOND));
    assert_false(model_seen(f));
    /* The true one comes back. */
    close_device(f, 2);
    struct cluster_options a = options_of(f, 0);
    a.peer_port = port;
    assert_int_equal(cluster_open(&f->devices[0].cluster, &a, &e), 0);
    add_model(f);
    assert_true(run_until(f, model_seen, f, 10 * SECOND));
}

static bool third_sees_the_model(void *arg)
{
    const struct fixture *f = arg;
    return cluster_model_count(f->devices[2].cluster) > 0;
}

/* Who joins at a member that is not the head is led to it, and follows it. */
static void a_member_leads_to_the_head(void **state)
{
    struct fixture *f = *state;
    open_devices(f, NULL, 2, false);
    assert_true(run_until(f, model_seen, f, 10 * SECOND));
    copy_key(f, 0, 2);
    char member[64];
    snprintf(member, sizeof member, "127.0.0.1:%d", cluster_peer_port(f->devices[1].cluster));
    struct cluster_options o = options_of(f, 2);
    o.join = member;
    open_device(f, 2, &o);
    assert_true(run_until(f, third_sees_the_model, f, 10 * SECOND));
}

/* --- strangers --- */

#define STRANGERS 200

static int stranger(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    evutil_make_socket_nonblocking(fd);
    connect(fd, (struct sockaddr *)&a, sizeof a);
    return fd;
}

static void silent_connections_keep_nobody_out(void **state)
{
    struct fixture *f = *state;
    int fds[STRANGERS];
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    for (int i = 0; i < STRANGERS; i++) {
        fds[i] = stranger(cluster_peer_port(f->devices[0].cluster));
        event_base_loop(f->base, EVLOOP_NONBLOCK);
    }
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    uint64_t begin = clock_now_ns();
    open_device(f, 1, &b);
    assert_true(run_until(f, two_known, f, 10 * SECOND));
    assert_true(clock_now_ns() - begin < 3 * SECOND); /* not only after their deadline */
    for (int i = 0; i < STRANGERS; i++) {
        close(fds[i]);
    }
}

/* Without descriptors the port rests; the loop is not kept busy by connections that can't be
 * taken. */
static void no_descriptor_is_no_busy_loop(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, less;
    struct cluster_options o = options_of(f, 0);
    open_device(f, 0, &o);
    int last = stranger(cluster_peer_port(f->devices[0].cluster));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    less = (struct rlimit){ .rlim_cur = (rlim_t)last + 1, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    uint64_t until = clock_deadline(SECOND);
    int turns = 0;
    while (clock_now_ns() < until) {
        event_base_loop(f->base, EVLOOP_ONCE);
        turns++;
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(turns < 100);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_true(run_until(f, two_known, f, 10 * SECOND));
    close(last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_loop_that_comes_late_is_no_stranger, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(a_copied_key_throws_nobody_out, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(one_home_is_one_device, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_key_is_refused, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(another_version_is_refused, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(an_invitation_brings_the_key, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(a_request_travels_to_the_head, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(a_large_answer_ends_no_link, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(a_head_goes_while_bodies_travel, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(one_request_too_many_is_refused, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(a_claim_makes_no_head, devices_set_up, devices_tear_down),
        cmocka_unit_test_setup_teardown(a_member_leads_to_the_head, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(silent_connections_keep_nobody_out, devices_set_up,
                                        devices_tear_down),
        cmocka_unit_test_setup_teardown(no_descriptor_is_no_busy_loop, devices_set_up,
                                        devices_tear_down),
    };
    return cmocka_run_group_tests_name("links", tests, NULL, NULL);
}
