#include "tests/test.h"

#include "store/meter.h"
#include "store/part.h"
#include "store/reply.h"

#define SHA "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

/* Lines are separated by '|'. */
static struct reply hear(const char *lines)
{
    struct reply r;
    reply_init(&r);
    while (*lines != '\0') {
        size_t n = strcspn(lines, "|");
        reply_line(&r, bytes_of(lines, n));
        lines += n + (lines[n] == '|');
    }
    reply_line(&r, bytes_text("\r\n"));
    return r;
}

static void heads_are_read(void **state)
{
    struct reply r = hear("HTTP/1.1 206 Partial Content\r\n|content-LENGTH: 100\r\n|"
                          "Content-Range: bytes 100-199/300\r\n|ETag: \"x\"\r\n|"
                          "Last-Modified: Tue, 24 Nov 2026 03:00:00 GMT\r\n|Retry-After: 7|"
                          "X-Linked-Size: 300|X-Linked-ETag: \"" SHA "\"|X-Error-Code: GatedRepo");
    assert_int_equal(r.status, 206);
    assert_false(r.bad);
    assert_int_equal(r.length, 100);
    assert_int_equal(r.first, 100);
    assert_int_equal(r.last, 199);
    assert_int_equal(r.total, 300);
    assert_string_equal(r.etag, "\"x\"");
    assert_string_equal(r.modified, "Tue, 24 Nov 2026 03:00:00 GMT");
    assert_int_equal(r.retry_after_s, 7);
    assert_int_equal(r.linked_size, 300);
    assert_string_equal(r.linked_sha256, SHA);
    assert_string_equal(r.code, "GatedRepo");
    assert_true(r.ended);
    reply_line(&r, bytes_text("ETag: \"trailer\""));
    assert_string_equal(r.etag, "\"x\"");
}

static void interim_answers_are_passed_over(void **state)
{
    struct reply r;
    reply_init(&r);
    reply_line(&r, bytes_text("HTTP/1.1 103 Early Hints"));
    reply_line(&r, bytes_text("ETag: \"early\""));
    reply_line(&r, bytes_text("\r\n"));
    reply_line(&r, bytes_text("HTTP/2 200"));
    assert_int_equal(r.status, 200);
    assert_false(r.ended);
    assert_string_equal(r.etag, "");
}

static void numbers_that_are_none_are_noticed(void **state)
{
    static const char *const bad[] = {
        "HTTP/1.1 200|Content-Length: -5",
        "HTTP/1.1 200|Content-Length: 12x",
        "HTTP/1.1 200|Content-Length:",
        "HTTP/1.1 200|Content-Length: 99999999999999999999",
        "HTTP/1.1 206|Content-Range: bytes 5-4/10",
        "HTTP/1.1 206|Content-Range: bytes 5-10/10",
        "HTTP/1.1 206|Content-Range: bytes 5-9",
        "HTTP/1.1 206|Content-Range: bytes 5-9/10x",
        "HTTP/1.1 206|Content-Range: lines 5-9/10",
        "HTTP/1.1 206|Content-Range: bytes -9/10",
        "HTTP/1.1 206|Content-Range:",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (!hear(bad[i]).bad) {
            fail_test("%s", bad[i]);
        }
    }
    assert_string_equal(hear("HTTP/1.1 200|ETag: W/\"weak\"").etag, "");
    assert_string_equal(hear("HTTP/1.1 200|X-Linked-Etag: \"short\"").linked_sha256, "");
    assert_int_equal(hear("HTTP/1.1 20").status, 0);
    assert_int_equal(hear("HTTP/1.1 99999").status, 0);
    struct reply r = hear("HTTP/1.1 416|Content-Range: bytes */300");
    assert_int_equal(r.total, 300);
    assert_false(r.bad);
}

static void judged(const char *lines, uint64_t offset, int64_t size, const char *etag,
                   enum reply_action expected)
{
    struct reply r = hear(lines);
    enum reply_action a =
        reply_judge(&r, &(struct reply_request){ .offset = offset, .size = size, .etag = etag });
    if (a != expected) {
        fail_test("%s from %d: %d instead of %d", lines, (int)offset, a, expected);
    }
}

static void only_the_rest_of_the_same_file_is_taken(void **state)
{
    judged("HTTP/1.1 200|Content-Length: 9", 0, -1, "", REPLY_START);
    judged("HTTP/1.1 200", 0, -1, "", REPLY_START);
    judged("HTTP/1.1 200|Content-Length: 9", 5, 9, "\"a\"", REPLY_START);
    judged("HTTP/1.1 200|Content-Length: x", 0, -1, "", REPLY_REFUSED);
#define RANGE "HTTP/1.1 206|Content-Range: bytes "
    judged(RANGE "5-8/9|Content-Length: 4|ETag: \"a\"", 5, 9, "\"a\"", REPLY_TAKE);
    judged(RANGE "5-8/9", 5, -1, "", REPLY_TAKE);
    judged(RANGE "5-6/9", 5, 9, "", REPLY_TAKE);
    judged(RANGE "5-8/*", 5, 9, "", REPLY_TAKE);
    judged(RANGE "5-8/*", 5, -1, "", REPLY_AGAIN);
    judged(RANGE "5-9/*", 5, 9, "", REPLY_AGAIN);
    judged(RANGE "4-8/9", 5, 9, "", REPLY_AGAIN);
    judged(RANGE "6-8/9", 5, 9, "", REPLY_AGAIN);
    judged(RANGE "5-9/10", 5, 9, "", REPLY_AGAIN);
    judged(RANGE "5-8/9|Content-Length: 5", 5, 9, "", REPLY_AGAIN);
    judged(RANGE "5-8/9|ETag: \"b\"", 5, 9, "\"a\"", REPLY_AGAIN);
    judged("HTTP/1.1 206|Content-Length: 4", 5, 9, "", REPLY_AGAIN);
    judged(RANGE "0-8/9", 0, -1, "", REPLY_START);
    judged(RANGE "0-7/9", 0, -1, "", REPLY_REFUSED);
    judged("HTTP/1.1 206", 0, -1, "", REPLY_REFUSED);
#undef RANGE
    judged("HTTP/1.1 416", 5, 9, "", REPLY_AGAIN);
    judged("HTTP/1.1 416", 0, 9, "", REPLY_REFUSED);
    judged("HTTP/1.1 302|Location: /x", 5, 9, "", REPLY_REDIRECT);
    judged("HTTP/1.1 503", 0, -1, "", REPLY_RETRY);
    judged("HTTP/1.1 404", 0, -1, "", REPLY_REFUSED);
    judged("HTTP/1.1 204", 0, -1, "", REPLY_REFUSED);
    judged("garbage", 0, -1, "", REPLY_REFUSED);
}

static void told(const char *lines, const struct reply_asked *a, int code, const char *text)
{
    struct reply r = hear(lines);
    struct error e = { 0 };
    assert_int_equal(reply_explain(&r, a, &e), code);
    if (strstr(e.text, text) == NULL) {
        fail_test("no \"%s\" in: %s", text, e.text);
    }
    assert_true(strlen(e.text) < ERROR_TEXT - 1);
}

static void refusals_say_what_to_type(void **state)
{
    struct reply_asked hub = { .url = "https://hub.example/o/r/resolve/main/m.gguf",
                               .page = "https://hub.example/o/r",
                               .host = "https://hub.example",
                               .hub = true };
    struct reply_asked web = { .url = "https://w.example/m.gguf",
                               .page = "",
                               .host = "https://w.example:443" };
    told("HTTP/1.1 401", &hub, FAIL_AUTH, "HF_TOKEN=hf_... shoal pull");
    told("HTTP/1.1 401", &hub, FAIL_AUTH, "https://hub.example/settings/tokens");
    told("HTTP/1.1 403|X-Error-Code: GatedRepo", &hub, FAIL_AUTH, "accept");
    told("HTTP/1.1 401", &web, FAIL_AUTH, "NAME:PASSWORD@");
    told("HTTP/1.1 403", &web, FAIL_AUTH, "expired");
    told("HTTP/1.1 404", &web, FAIL_NOT_FOUND, "check the address");
    told("HTTP/1.1 404", &hub, FAIL_NOT_FOUND, "https://hub.example/o/r/tree/main");
    told("HTTP/1.1 404|X-Error-Code: RevisionNotFound", &hub, FAIL_NOT_FOUND, "@REVISION");
    told("HTTP/1.1 404|X-Error-Code: RepoNotFound", &hub, FAIL_NOT_FOUND, "no such repository");
    told("HTTP/1.1 429|Retry-After: 90", &hub, FAIL_BUSY, "again in 90 s, or with a token");
    told("HTTP/1.1 500", &web, FAIL_BUSY, "what came is kept");
    told("HTTP/1.1 501", &web, FAIL_IO, "501");
    told("HTTP/1.1 418", &web, FAIL_UNSUPPORTED, "418");
    hub.token = true;
    told("HTTP/1.1 401", &hub, FAIL_AUTH, "token in HF_TOKEN is not valid");
    told("HTTP/1.1 403", &hub, FAIL_AUTH, "accept them");
    web.login = true;
    told("HTTP/1.1 401", &web, FAIL_AUTH, "name and password in the address are not accepted");
}

static void states_come_back_or_are_refused(void **state)
{
    static const char good[] = "{\"version\":1,\"source\":\"" SHA "\",\"sha256\":\"\","
                               "\"etag\":\"\\\"x\\\"\",\"modified\":\"\",\"size\":7}";
    struct part_state s;
    struct error e = { 0 };
    assert_int_equal(part_state_parse(bytes_text(good), &s, &e), 0);
    assert_string_equal(s.etag, "\"x\"");
    assert_int_equal(s.size, 7);
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"version\":2,\"source\":\"" SHA
        "\",\"sha256\":\"\",\"etag\":\"\",\"modified\":\"\",\"size\":7}",
        "{\"version\":1,\"source\":\"x\",\"sha256\":\"\",\"etag\":\"\",\"modified\":\"\",\"size\":"
        "7}",
        "{\"version\":1,\"source\":\"" SHA
        "\",\"sha256\":\"zz\",\"etag\":\"\",\"modified\":\"\",\"size\":7}",
        "{\"version\":1,\"source\":\"" SHA
        "\",\"sha256\":\"\",\"etag\":\"a\\r\\nX: y\",\"modified\":\"\",\"size\":7}",
        "{\"version\":1,\"source\":\"" SHA
        "\",\"sha256\":\"\",\"etag\":\"\",\"modified\":\"\",\"size\":-2}",
        "{\"version\":1,\"source\":\"" SHA
        "\",\"sha256\":\"\",\"etag\":\"\",\"modified\":\"\",\"size\":\"7\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (part_state_parse(bytes_text(bad[i]), &s, &e) != FAIL_FORMAT) {
            fail_test("taken: %s", bad[i]);
        }
    }
}

static void speed_is_that_of_the_last_seconds(void **state)
{
    struct meter m = { 0 };
    assert_true(meter_rate(&m) == 0 && meter_left_s(&m, 100) == -1);
    for (uint64_t i = 0; i <= 100; i++) { /* 25 s at 1 MB/s, then at 10 MB/s */
        meter_add(&m, i * METER_SAMPLE_NS, i * 250000);
    }
    assert_true(meter_rate(&m) == 1e6);
    assert_true(meter_left_s(&m, 27000000) == 2);
    for (uint64_t i = 1; i <= 40; i++) {
        meter_add(&m, (100 + i) * METER_SAMPLE_NS, 25000000 + i * 2500000);
    }
    assert_true(meter_rate(&m) == 1e7);
    meter_add(&m, 1000 * METER_SAMPLE_NS, 0); /* begins again */
    assert_true(meter_rate(&m) == 0);
}

static void digests_are_sha256(void **state)
{
    char text[DIGEST_TEXT];
    assert_int_equal(digest_of_text("abc", text, NULL), 0);
    assert_string_equal(text, SHA); /* FIPS 180-2, appendix B.1 */
    assert_true(digest_parse(bytes_text("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F2"
                                        "0015AD"),
                             text));
    assert_string_equal(text, SHA);
    assert_false(digest_parse(bytes_text("ba78"), text));
    assert_false(digest_parse(bytes_text("ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f"
                                         "20015ad"),
                              text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_read),
        cmocka_unit_test(interim_answers_are_passed_over),
        cmocka_unit_test(numbers_that_are_none_are_noticed),
        cmocka_unit_test(only_the_rest_of_the_same_file_is_taken),
        cmocka_unit_test(refusals_say_what_to_type),
        cmocka_unit_test(states_come_back_or_are_refused),
        cmocka_unit_test(speed_is_that_of_the_last_seconds),
        cmocka_unit_test(digests_are_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
