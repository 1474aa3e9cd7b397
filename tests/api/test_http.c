/* HTTP heads and chunks, as pure functions. */
#include "tests/test.h"

#include <stdio.h>

#include "api/allow.h"
#include "api/http.h"

static int parse(const char *head, struct http_head *h)
{
    struct error e = { 0 };
    assert_int_equal(http_head_size(bytes_text(head)), strlen(head));
    int status = http_head_parse(bytes_text(head), h, &e);
    assert_true((status == 0) == (e.text[0] == '\0'));
    return status;
}

static void heads_are_understood(void **state)
{
    struct http_head h;
    assert_int_equal(parse("\r\nPOST /v1/x?y=1 HTTP/1.1\r\nhOsT:  a.b:80 \r\nContent-Length: 12\r\n"
                           "Connection: Keep-Alive, close\r\nExpect: 100-continue\r\n"
                           "Origin: http://[::1]\r\n\r\n",
                           &h),
                     0);
    assert_string_equal(h.method, "POST");
    assert_string_equal(h.target, "/v1/x?y=1");
    assert_int_equal(h.content_length, 12);
    assert_true(bytes_equal_text(h.host, "a.b:80"));
    assert_true(h.expect_continue && !h.keep_alive && !h.chunked);
    assert_true(bytes_equal_text(h.origin, "http://[::1]"));
    const struct {
        const char *target, *path;
    } absolute[] = { { "http://a.b:80/v1/models", "/v1/models" },
                     { "HTTP://a.b:80", "/" },
                     { "https://a.b:80?x=/1", "/?x=/1" } };
    for (size_t i = 0; i < 3; i++) {
        char head[200];
        snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: other\r\n\r\n", absolute[i].target);
        assert_int_equal(parse(head, &h), 0);
        assert_string_equal(h.target, absolute[i].path);
        assert_true(bytes_equal_text(h.host, "a.b:80")); /* not what the header says */
    }
    assert_int_equal(parse("OPTIONS /v1 HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n"
                           "Access-Control-Request-Headers: a, b\r\nSec-Fetch-Dest: document\r\n"
                           "Access-Control-Request-Private-Network: true\r\n\r\n",
                           &h),
                     0);
    assert_true(h.cross_site && h.navigation && h.private_network);
    assert_true(bytes_equal_text(h.asked_headers, "a, b"));
    assert_int_equal(parse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &h), 0);
    assert_true(h.keep_alive && h.minor == 0 && h.content_length == -1);
    assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", &h), 0);
    assert_true(h.keep_alive);
}

static void bad_heads_are_refused(void **state)
{
    const struct {
        int status;
        const char *head;
    } cases[] = {
        { 400, " / HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET  HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET x HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET / HTTP/1.1 \r\nHost: x\r\n\r\n" },
        { 400, "GET /\r\nHost: x\r\n\r\n" },
        { 505, "GET / HTTP/1.2\r\nHost: x\r\n\r\n" },
        { 505, "GET / HTTP/3.0\r\nHost: x\r\n\r\n" },
        { 501, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nA: \x02\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" },
        { 400, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"
               "\r\n" },
        { 501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" },
        { 411, "POST / HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 415,
          "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\n\r\n" },
        { 400, "GET / HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nOrigin: http://a\r\n\r\n" },
        { 400, "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 400, "GET http://a/x HTTP/1.1\r\n\r\n" },
        { 400, "GET ftp://a/x HTTP/1.1\r\nHost: x\r\n\r\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct http_head h;
        assert_int_equal(parse(cases[i].head, &h), cases[i].status);
    }
    assert_int_equal(http_head_size(bytes_text("GET / HTTP/1.1\nHost")), -1);
    assert_int_equal(http_head_size(bytes_text("GET / HTTP/1.1\r\nHost: x\r\n")), 0);
    char target[3000] = "GET /";
    memset(target + 5, 'a', 2500);
    memcpy(target + 2505, " HTTP/1.1\r\nHost: x\r\n\r\n", 23);
    struct http_head h;
    assert_int_equal(parse(target, &h), 414);
}

/* Feeds in pieces of every size; returns the status, the body in out. */
static int unchunk(const char *text, size_t piece, struct buffer *out, bool *done, size_t *used)
{
    struct http_chunks c = { 0 };
    size_t at = 0, size = strlen(text);
    int status = 0;
    while (at < size && !c.done && status == 0) {
        size_t n = size - at < piece ? size - at : piece, taken = 0;
        status = http_chunks_feed(&c, bytes_of(text + at, n), out, &taken, NULL);
        at += taken;
    }
    *done = c.done;
    *used = at;
    return status;
}

static void chunks_are_put_together(void **state)
{
    const char *good =
        "4\r\nWiki\r\n006;a=b\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX: y\r\n\r\nrest";
    for (size_t piece = 1; piece < 70; piece++) {
        struct buffer out;
        bool done = false;
        size_t used = 0;
        buffer_init(&out, 100);
        assert_int_equal(unchunk(good, piece, &out, &done, &used), 0);
        assert_true(done);
        assert_int_equal(used, strlen(good) - 4);
        assert_string_equal(buffer_cstr(&out), "Wikipedia in \r\n\r\nchunks.");
        buffer_done(&out);
    }
    const char *const bad[] = { "x\r\n",
                                "\r\n",
                                ";\r\n",
                                "-1\r\n",
                                "123456789\r\na",
                                "2\r\nabc\r\n0",
                                "1\r\na\n",
                                "1\na\r\n0\r\n\r\n",     /* bare LF after a size, */
                                "1;x=y\na\r\n0\r\n\r\n", /* an extension, */
                                "0\r\nX: y\n\r\n",       /* a trailer, */
                                "0\r\n\n",               /* at the end; */
                                "1\ra\r\n0\r\n\r\n",     /* bare CR */
                                "1;\rx\r\na\r\n0\r\n\r\n",
                                "0\r\n\rx" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buffer out;
        bool done = false;
        size_t used = 0;
        buffer_init(&out, 100);
        assert_int_equal(unchunk(bad[i], 3, &out, &done, &used), 400);
        assert_int_equal(
            unchunk("65\r\n0123456789012345678901234567890123456789012345678901234567890123"
                    "4567890123456789012345678901234567890\r\n0\r\n\r\n",
                    1000, &out, &done, &used),
            413);
        buffer_done(&out);
    }
}

static void only_this_machine_is_loopback(void **state)
{
    const struct allow none = { 0 };
    const char *const good[] = { "localhost", "LOCALHOST:1", "127.0.0.1:8420",
                                 "127.1.2.3", "[::1]",       "[::1]:99" };
    const char *const bad[] = { "",
                                "localhost.evil.example",
                                "127.0.0.1.evil.example",
                                "evil:8420",
                                "localhost:80x",
                                "[::2]:1",
                                "10.0.0.1",
                                "::1:80",
                                "[::1]x" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(allow_host(&none, bytes_text(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(allow_host(&none, bytes_text(bad[i])));
    }
    assert_true(allow_origin(&none, bytes_text("https://localhost:3000")));
    assert_false(allow_origin(&none, bytes_text("null")));
    assert_false(allow_origin(&none, bytes_text("http://")));
    assert_false(allow_origin(&none, bytes_text("http://localhost@evil.example")));
}

static void others_are_allowed_by_name(void **state)
{
    const char *const origins[] = { "https://app.example", "app://*", "chrome-extension://abc" };
    const char *const hosts[] = { "host.docker.internal", "[fe80::1]" };
    const struct allow a = { origins, 3, hosts, 2 };
    const char *const pages[] = { "https://app.example", "HTTPS://App.Example", "app://obsidian.md",
                                  "chrome-extension://abc", "http://127.0.0.1" };
    const char *const strangers[] = { "https://app.example:444", "https://app.example.evil",
                                      "http://app.example",      "app://",
                                      "chrome-extension://abcd", "apps://x",
                                      "https://evil/app://x",    "" };
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        assert_true(allow_origin(&a, bytes_text(pages[i])));
    }
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        assert_false(allow_origin(&a, bytes_text(strangers[i])));
    }
    assert_true(allow_host(&a, bytes_text("host.docker.internal:8420")));
    assert_true(allow_host(&a, bytes_text("HOST.docker.internal")));
    assert_true(allow_host(&a, bytes_text("[fe80::1]:1")));
    assert_false(allow_host(&a, bytes_text("docker.internal")));
    assert_false(allow_host(&a, bytes_text("host.docker.internal.evil")));
    const char *const any[] = { "*" };
    const struct allow all = { any, 1, any, 1 };
    assert_true(allow_origin(&all, bytes_text("null")));
    assert_true(allow_host(&all, bytes_text("whatever:1")));
    assert_false(allow_host(&all, bytes_text("whatever:x")));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(allow_check_origin(origins[i], NULL), 0);
    }
    const char *const no_origins[] = { "app.example", "https://", "https://a/b", "https://a b",
                                       "" };
    for (size_t i = 0; i < sizeof no_origins / sizeof no_origins[0]; i++) {
        assert_int_equal(allow_check_origin(no_origins[i], NULL), FAIL_ARG);
    }
    assert_int_equal(allow_check_host("host.docker.internal", NULL), 0);
    assert_int_equal(allow_check_host("[fe80::1]", NULL), 0);
    const char *const no_hosts[] = { "a:80", "[fe80::1]:80", "http://a", "a/b", "" };
    for (size_t i = 0; i < sizeof no_hosts / sizeof no_hosts[0]; i++) {
        assert_int_equal(allow_check_host(no_hosts[i], NULL), FAIL_ARG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_understood),
        cmocka_unit_test(bad_heads_are_refused),
        cmocka_unit_test(chunks_are_put_together),
        cmocka_unit_test(only_this_machine_is_loopback),
        cmocka_unit_test(others_are_allowed_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
