/* A device in this process: what it tells, what it holds, and how it ends. */
#include "tests/test.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/node.h"
#include "node/running.h"
#include "os/thread.h"
#include "secure/identity.h"

struct world {
    char home[64], models[80];
    struct node_options options;
    struct node_state state; /* as it was told */
    char device[IDENTITY_TEXT];
    int second; /* what a second device in the same home gets */
    struct thread client;
    char reply[512];
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->home, sizeof w->home, "/tmp/shoal-node-XXXXXX");
    assert_non_null(mkdtemp(w->home));
    snprintf(w->models, sizeof w->models, "%s/models", w->home);
    w->options = (struct node_options){
        .home = w->home, .models_dir = w->models, .peer_port = 0, .threads = 1, .arg = w
    };
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    static const char *const names[] = { "device.key", "device.lock", "cluster.key", "cluster.own",
                                         "running" };
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", w->home, names[i]);
        unlink(path);
    }
    rmdir(w->home);
    free(w);
    return 0;
}

/* Asks for /health until it is answered, which only the running loop does, then ends the device. */
static void *ask(void *arg)
{
    struct world *w = arg;
    static const char request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)w->state.port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        write(fd, request, sizeof request - 1) == (ssize_t)sizeof request - 1) {
        ssize_t n = read(fd, w->reply, sizeof w->reply - 1);
        w->reply[n > 0 ? n : 0] = '\0';
    }
    close(fd);
    kill(getpid(), SIGTERM);
    return NULL;
}

static int start_client(void *arg, const struct node_state *s, struct error *e)
{
    struct world *w = arg;
    struct running r = { 0 };
    w->state = *s;
    snprintf(w->device, sizeof w->device, "%s", s->device);
    assert_int_equal(running_find(w->home, &r, e), 0);
    assert_int_equal(r.port, s->port);
    assert_int_equal(r.peer_port, s->peer_port);
    struct node_options same = w->options;
    same.on_start = NULL;
    w->second = node_run(&same, NULL);
    return thread_start(&w->client, ask, w, e);
}

static void a_device_runs_until_a_signal(void **state)
{
    struct world *w = *state;
    struct error e = { 0 };
    struct running r;
    w->options.on_start = start_client;
    if (node_run(&w->options, &e) != 0)
        fail_test("%s", e.text);
    thread_join(&w->client);
    assert_true(w->state.port > 0 && w->state.peer_port > 0 && w->state.head);
    assert_int_equal(strlen(w->device), IDENTITY_TEXT - 1);
    assert_int_equal(strncmp(w->reply, "HTTP/1.1 ", 9), 0);
    assert_int_equal(w->second, FAIL_BUSY); /* one home is one device */
    assert_int_equal(running_find(w->home, &r, &e), FAIL_CLOSED);
}

static int refuse(void *arg, const struct node_state *s, struct error *e)
{
    (void)arg;
    (void)s;
    return fail(e, FAIL_IO, "not like this");
}

static void what_starts_it_may_end_it(void **state)
{
    struct world *w = *state;
    struct error e = { 0 };
    w->options.on_start = refuse;
    assert_int_equal(node_run(&w->options, &e), FAIL_IO);
    assert_string_equal(e.text, "not like this");
    assert_false(home_is_held(w->home));
    w->options.isa = "nosuch";
    assert_int_equal(node_run(&w->options, &e), FAIL_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_device_runs_until_a_signal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_starts_it_may_end_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
