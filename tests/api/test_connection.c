/* The server's HTTP: what is refused, who may use it, and what makes room when it is full. */
#include "tests/test.h"

#include <stdio.h>
#include <sys/socket.h>

#include "os/clock.h"
#include "tests/api/mock.h"

static int raw_status(struct rig *r, const char *request)
{
    struct client c;
    char *text = NULL;
    client_open(&c, r);
    client_send(&c, request);
    int status = client_answer(&c, &text);
    assert_non_null(strstr(text, "\"error\""));
    free(text);
    assert_true(client_wait(&c, NULL)); /* and then it closes */
    client_close(&c);
    return status;
}

static void bad_http_is_refused_in_json(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ .head_timeout_ms = 30, .body_timeout_ms = 30 }, 0);
    assert_int_equal(raw_status(&r, "GARBAGE\r\n\r\n"), 400);
    assert_int_equal(raw_status(&r, "GET / HTTP/1.1\n\n"), 400);
    assert_int_equal(raw_status(&r, "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"), 505);
    assert_int_equal(raw_status(&r, "GET / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(raw_status(&r, "GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403);
    assert_int_equal(raw_status(&r, "GET /health HTTP/1.1\r\nHost: localhost\r\n"
                                    "Origin: http://evil.example\r\n\r\n"),
                     403);
    assert_int_equal(raw_status(&r, "POST / HTTP/1.1\r\nHost: localhost\r\n"
                                    "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
                     400);
    assert_int_equal(raw_status(&r, "GET /health HTTP/1.1\r\nHo"), 408);
    assert_int_equal(raw_status(&r, "POST / HTTP/1.1\r\nHost: localhost\r\n"
                                    "Content-Length: 10\r\n\r\n12345"),
                     408);
    char *large = malloc(20000);
    snprintf(large, 20000, "GET / HTTP/1.1\r\nX: %017000d\r\n\r\n", 1);
    assert_int_equal(raw_status(&r, large), 431);
    free(large);
    rig_close(&r);
}

static void paths_are_taken_as_meant(void **state)
{
    struct rig r;
    rig_open(&r, (struct server_options){ 0 }, 0);
    const struct {
        const char *request, *part;
    } cases[] = {
        { "GET /v1/models/", "\"object\":\"list\"" },
        { "GET //v1//models", "\"object\":\"list\"" },
        { "GET http://localhost:1/v1/models?x=//", "\"object\":\"list\"" },
        { "GET /models", "Did you forget /v1?" },
        { "GET /chat/completions", "Did you forget /v1?" },
        { "GET /v1/v1/models", "/v1 twice" },
        { "GET /", "the API's base URL ends with /v1" },
        { "GET /v1/", "the API's base URL ends with /v1" },
        { "GET http://evil.example/v1/models", "--allow-host evil.example\"" },
        { "GET http://evil.example:8420/v1/models", "--allow-host evil.example\"" },
        { "GET http://[fe80::1]:8420/v1/models", "--allow-host [fe80::1]\"" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct client c;
        char request[200], *text = NULL;
        snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 cases[i].request);
        client_open(&c, &r);
        client_send(&c, request);
        client_answer(&c, &text);
        if (strstr(text, cases[i].part) == NULL) {
            fprintf(stderr, "%s: %s\n", request, text);
            assert_true(false);
        }
        free(text);
        client_close(&c);
    }
    rig_close(&r);
}

/* The head of the answer to one request. */
static void head_of(struct rig *r, const char *request, char ret[static 1024])
{
    struct client c;
    client_open(&c, r);
    client_send(&c, request);
    assert_true(client_wait(&c, "\r\n\r\n"));
    snprintf(ret, 1024, "%s", buffer_cstr(&c.in));
    client_close(&c);
}

static void pages_of_allowed_origins_may_do_all(void **state)
{
    const char *const origins[] = { "https://app.example", "app://*" };
    const char *const hosts[] = { "host.docker.internal" };
    struct rig r;
    char head[1024];
    rig_open(&r, (struct server_options){ .allow = { origins, 2, hosts, 1 } }, 0);
    head_of(&r,
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: host.docker.internal:8420\r\n"
            "Origin: app://x\r\nSec-Fetch-Site: cross-site\r\nAccess-Control-Request-Method: "
            "POST\r\nAccess-Control-Request-Headers: x-stainless-os,x-api-key\r\n"
            "Access-Control-Request-Private-Network: true\r\n\r\n",
            head);
    const char *const parts[] = { " 204 ",
                                  "Access-Control-Allow-Origin: app://x\r\n",
                                  "Access-Control-Allow-Headers: x-stainless-os,x-api-key\r\n",
                                  "Access-Control-Allow-Methods: POST, OPTIONS\r\n",
                                  "Access-Control-Allow-Private-Network: true\r\n",
                                  "Access-Control-Max-Age: 600\r\n",
                                  "Access-Control-Expose-Headers: x-request-id",
                                  "Vary: Origin\r\n",
                                  "X-Request-Id: req_" };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        assert_non_null(strstr(head, parts[i]));
    }
    head_of(&r, "GET /v1/none HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n",
            head);
    assert_non_null(strstr(head, " 404 "));
    assert_non_null(strstr(head, "Access-Control-Allow-Origin: https://app.example\r\n"));
    assert_null(strstr(head, "Access-Control-Allow-Headers"));
    head_of(&r,
            "OPTIONS /v1/none HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n",
            head);
    assert_non_null(strstr(head, " 204 ")); /* the page then reads the 404 */
    rig_close(&r);
}

static void pages_of_other_sites_are_refused(void **state)
{
    struct rig r;
    char head[1024];
    rig_open(&r, (struct server_options){ 0 }, 0);
    const struct {
        const char *headers;
        int status;
    } cases[] = {
        { "Origin: https://app.example", 403 },
        { "Origin: null", 403 },
        { "Sec-Fetch-Site: cross-site", 403 },
        { "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: image", 403 },
        { "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document", 200 }, /* a link */
        { "Sec-Fetch-Site: same-site", 200 },
        { "Sec-Fetch-Site: cross-site\r\nOrigin: http://127.0.0.1:3000", 200 },
        { "Origin: http://localhost\r\nOrigin: http://localhost", 400 },
        { "Content-Encoding: gzip", 415 },
        { "Content-Encoding: identity", 200 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char request[300], status[16];
        snprintf(request, sizeof request, "GET /health HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n",
                 cases[i].headers);
        snprintf(status, sizeof status, "HTTP/1.1 %d ", cases[i].status);
        head_of(&r, request, head);
        if (strncmp(head, status, strlen(status)) != 0) {
            fprintf(stderr, "%s: %s\n", request, head);
            assert_true(false);
        }
        assert_non_null(strstr(head, "\r\nX-Request-Id: req_"));
    }
    rig_close(&r);
}

/* A client that closed its own side still gets what it asked for: `printf ... | nc -N`. */
static void a_half_closed_client_gets_its_answer(void **state)
{
    const char *const bodies[] = { HELLO "}", HELLO ",\"stream\":true}" };
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct client c;
        rig_open(&r, (struct server_options){ 0 }, i == 0 ? 0 : 20);
        mock_gate(r.mock, false);
        client_open(&c, &r);
        client_post(&c, CHAT, bodies[i]);
        shutdown(c.fd, SHUT_WR);
        assert_true(rig_wait_active(&r, 1));
        for (int k = 0; k < 20; k++) { /* it is known to be half closed */
            event_base_loop(r.base, EVLOOP_NONBLOCK);
        }
        mock_gate(r.mock, true);
        assert_true(client_wait(&c, i == 0 ? "Hello, world!" : "[DONE]"));
        assert_true(client_wait(&c, NULL)); /* nothing else can come from it */
        client_close(&c);
        rig_close(&r);
    }
    struct rig r;
    struct client c;
    char *text = NULL;
    rig_open(&r, (struct server_options){ 0 }, 0);
    client_open(&c, &r);
    client_post(&c, CHAT, ENDLESS ",\"logprobs\":true,\"top_logprobs\":20}");
    shutdown(c.fd, SHUT_WR);
    assert_true(rig_wait_active(&r, 0));
    for (uint64_t end = clock_deadline(100 * CLOCK_NS_PER_MS); clock_now_ns() < end;) {
        event_base_loop(r.base, EVLOOP_NONBLOCK); /* it takes its time to read */
    }
    assert_int_equal(client_answer(&c, &text), 200);
    assert_non_null(strstr(text, "\"finish_reason\":\"length\"}"));
    free(text);
    client_close(&c);
    client_open(&c, &r);
    client_send(&c, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/mo");
    shutdown(c.fd, SHUT_WR);
    assert_int_equal(client_answer(&c, &text), 200);
    free(text);
    assert_int_equal(client_answer(&c, &text), 200); /* of both that came whole */
    assert_non_null(strstr(text, "Mock-1"));
    free(text);
    assert_true(client_wait(&c, NULL));
    client_close(&c);
    rig_close(&r);
}

static bool is_answered(struct client *c)
{
    char *text = NULL;
    client_send(c, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    int status = client_answer(c, &text);
    free(text);
    return status == 200;
}

static void the_idlest_connection_gives_way(void **state)
{
    struct rig r;
    struct client c[4], more[2];
    rig_open(&r, (struct server_options){ .max_connections = 4 }, 0);
    for (int i = 0; i < 4; i++) {
        client_open(&c[i], &r);
    }
    const char *next = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_int_equal(send(c[0].fd, next, strlen(next), 0), strlen(next)); /* idle no longer */
    client_open(&more[0], &r);
    assert_true(client_wait(&c[1], NULL)); /* that one was */
    assert_true(is_answered(&more[0]));
    char *text = NULL;
    assert_int_equal(client_answer(&c[0], &text), 200);
    free(text);
    assert_true(is_answered(&c[0]) && is_answered(&c[2]) && is_answered(&c[3]));
    client_close(&more[0]);
    client_close(&c[1]);
    client_open(&c[1], &r);
    /* What is being answered stays, and requests on their way go only when nobody is idle. */
    mock_gate(r.mock, false);
    client_post(&c[0], CHAT, HELLO "}");
    assert_true(rig_wait_active(&r, 1));
    client_send(&c[1], "GET /hea");
    client_send(&c[2], "GET /hea");
    client_send(&c[3], "GET /hea");
    event_base_loop(r.base, EVLOOP_NONBLOCK);
    client_open(&more[0], &r);
    client_open(&more[1], &r);
    assert_true(is_answered(&more[1]));
    assert_int_equal(server_connections(r.server), 4);
    mock_gate(r.mock, true);
    assert_true(client_wait(&c[0], "Hello, world!"));
    for (int i = 0; i < 4; i++) {
        client_close(&c[i]);
    }
    client_close(&more[0]);
    client_close(&more[1]);
    rig_close(&r);
}

static void bodies_that_never_end_make_room(void **state)
{
    struct rig r;
    struct client stuck, good;
    char *text = NULL, body[1600];
    rig_open(&r, (struct server_options){ .max_body = 2000, .max_bodies = 2000 }, 0);
    client_open(&stuck, &r);
    snprintf(body, sizeof body,
             "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
             "Content-Length: 1600\r\n\r\n%01500d",
             0);
    client_send(&stuck, body);
    event_base_loop(r.base, EVLOOP_NONBLOCK);
    client_open(&good, &r);
    snprintf(body, sizeof body, "{\"model\":\"Mock-1\",\"prompt\":\"xh>\",\"user\":\"%01300d\"}",
             0);
    client_post(&good, TEXT, body);
    assert_int_equal(client_answer(&good, &text), 200);
    free(text);
    assert_int_equal(client_answer(&stuck, &text), 503);
    free(text);
    client_close(&stuck);
    client_close(&good);
    rig_close(&r);
}

static void answers_that_nobody_takes_make_room(void **state)
{
    struct rig r;
    struct client silent, good;
    char *text = NULL;
    const char *ask = ENDLESS ",\"logprobs\":true,\"top_logprobs\":20}"; /* 500 kB */
    rig_open(&r, (struct server_options){ .max_answers = 800000 }, 0);
    client_open(&silent, &r);
    client_post(&silent, CHAT, ask);
    assert_true(rig_wait_active(&r, 0));
    client_open(&good, &r);
    client_post(&good, CHAT, ask);
    assert_int_equal(client_answer(&good, &text), 200);
    free(text);
    assert_true(client_wait(&silent, NULL));
    assert_null(strstr(buffer_cstr(&silent.in), "\"finish_reason\":\"length\"}"));
    client_close(&silent);
    client_close(&good);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_http_is_refused_in_json),
        cmocka_unit_test(paths_are_taken_as_meant),
        cmocka_unit_test(pages_of_allowed_origins_may_do_all),
        cmocka_unit_test(pages_of_other_sites_are_refused),
        cmocka_unit_test(a_half_closed_client_gets_its_answer),
        cmocka_unit_test(the_idlest_connection_gives_way),
        cmocka_unit_test(bodies_that_never_end_make_room),
        cmocka_unit_test(answers_that_nobody_takes_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
