#include "tests/test.h"

#include "peer/address.h"
#include "peer/data.h"
#include "peer/message.h"
#include "cluster/part.h"
#include "plan/context.h"
#include "stage/wire.h"

#include <stdio.h>

static void frames_come_back(void **state)
{
    struct buffer out;
    struct error e = { 0 };
    struct message m;
    size_t n = 0;
    buffer_init(&out, 1 << 20);
    assert_int_equal(message_encode(json_pack("{s:s, s:i}", "type", "ping", "sent", 7), &out, &e),
                     0);
    assert_int_equal(message_size(out.data, &n, &e), 0);
    assert_int_equal(n, out.size - MESSAGE_HEAD);
    assert_int_equal(message_parse(bytes_of(out.data + MESSAGE_HEAD, n), &m, &e), 0);
    assert_string_equal(m.type, "ping");
    int sent = 0;
    assert_int_equal(message_int(m.body, "sent", 0, 10, &sent, &e), 0);
    assert_int_equal(sent, 7);
    assert_int_equal(message_int(m.body, "sent", 0, 6, &sent, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "'sent' is 7"));
    assert_int_equal(message_int(m.body, "type", 0, 6, &sent, &e), FAIL_FORMAT);
    message_done(&m);

    buffer_clear(&out);
    assert_int_equal(message_encode_data(9, bytes_text("abc"), &out, &e), 0);
    assert_int_equal(
        message_parse(bytes_of(out.data + MESSAGE_HEAD, out.size - MESSAGE_HEAD), &m, &e), 0);
    assert_string_equal(m.type, "");
    assert_int_equal(m.stream, 9);
    assert_true(bytes_equal_text(m.data, "abc"));
    buffer_done(&out);
}

static void what_is_too_large_is_refused(void **state)
{
    struct buffer out;
    struct error e = { 0 };
    char *text = malloc(MESSAGE_MAX + 1);
    memset(text, 'x', MESSAGE_MAX);
    text[MESSAGE_MAX] = '\0';
    buffer_init(&out, 4u << 20);
    buffer_text(&out, "before");
    assert_int_equal(message_encode(json_pack("{s:s}", "type", text), &out, &e), FAIL_LIMIT);
    assert_int_equal(message_encode(json_pack("{s:s}", "type", "gr\xfc"), &out, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "is not UTF-8"));
    assert_string_equal(buffer_cstr(&out), "before");
    assert_int_equal(message_encode_data(1, bytes_of(text, MESSAGE_DATA_MAX + 1), &out, &e),
                     FAIL_LIMIT);
    buffer_done(&out);
    free(text);
    size_t n = 0;
    assert_int_equal(message_size((const uint8_t *)"\xff\xff\xff\xff", &n, &e), FAIL_FORMAT);
    assert_int_equal(message_size((const uint8_t *)"\0\0\0\0", &n, &e), FAIL_FORMAT);
}

static void orders_come_back(void **state)
{
    static struct part_order o, back;
    struct error e = { 0 };
    o = (struct part_order){ .placement = 3,
                             .epoch = 4,
                             .model_size = 99,
                             .rank = 2,
                             .max_rows = 16,
                             .max_sessions = 2,
                             .context = 300,
                             .state_tokens = 512,
                             .exact = true };
    assert_int_equal(split_parse("4@1:3/3@2/1@1", 8, &o.plan, &e), 0);
    snprintf(o.model_id, sizeof o.model_id, "m");
    snprintf(o.model_sha256, sizeof o.model_sha256, "abc");
    for (int r = 0; r < o.plan.n_ranks; r++) {
        snprintf(o.devices[r], sizeof o.devices[r], "d%d", r);
        snprintf(o.addresses[r], sizeof o.addresses[r], "10.0.0.%d:1", r);
    }
    snprintf(o.head, sizeof o.head, "d0");
    json_t *m = part_order_json(&o);
    assert_non_null(m);
    assert_int_equal(part_order_parse(m, &back, &e), 0);
    assert_memory_equal(&back.plan, &o.plan, sizeof o.plan);
    assert_string_equal(back.devices[3], "d3");
    assert_int_equal(back.rank, 2);
    assert_true(back.exact);
    assert_int_equal(back.context, 300);
    assert_int_equal(back.state_tokens, 512);
    assert_string_equal(part_order_device(&back, WIRE_HEAD), "d0");
    json_object_set_new(m, "rank", json_integer(4));
    assert_int_equal(part_order_parse(m, &back, &e), FAIL_FORMAT);
    json_object_set_new(m, "rank", json_integer(0));
    json_object_set_new(m, "state_tokens", json_integer(2 * CONTEXT_MAX));
    assert_int_equal(part_order_parse(m, &back, &e), 0);
    assert_int_equal(back.context, 300);
    json_object_del(m, "context"); /* an equal share for each */
    assert_int_equal(part_order_parse(m, &back, &e), 0);
    assert_int_equal(back.context, CONTEXT_MAX);
    json_object_set_new(m, "context", json_integer(CONTEXT_MAX + 1));
    assert_int_equal(part_order_parse(m, &back, &e), FAIL_FORMAT);
    json_object_set_new(m, "context", json_integer(513));
    json_object_set_new(m, "state_tokens", json_integer(512)); /* not even one */
    assert_int_equal(part_order_parse(m, &back, &e), FAIL_FORMAT);
    json_object_set_new(m, "context", json_integer(512));
    assert_int_equal(part_order_parse(m, &back, &e), 0);
    json_object_set_new(m, "state_tokens", json_integer(INT64_C(1) << 32));
    assert_int_equal(part_order_parse(m, &back, &e), FAIL_FORMAT);
    json_object_set_new(m, "state_tokens", json_integer(512));
    json_object_set_new(m, "max_sessions", json_integer(PART_MAX_SESSIONS + 1));
    assert_int_equal(part_order_parse(m, &back, &e), FAIL_FORMAT);
    json_object_set_new(m, "max_sessions", json_integer(2));
    json_object_set_new(m, "stages", json_pack("[[i,i]]", 8, 3));
    assert_int_equal(part_order_parse(m, &back, &e), FAIL_FORMAT);
    assert_non_null(strstr(e.text, "3 of 4 ranks"));
    json_decref(m);
}

static int read_answer(const json_t *m, struct ticket_answer *ret, struct error *e)
{
    *ret = (struct ticket_answer){ .index = 0 };
    return message_read(m, ticket_answer_fields, TICKET_ANSWER_FIELDS, ret, e);
}

static void tickets_come_back(void **state)
{
    struct ticket_answer t = { 3, 4, 5, "ab", "shm1:", "" }, back;
    struct error e = { 0 };
    json_t *m = ticket_answer_json(&t);
    assert_int_equal(read_answer(m, &back, &e), 0);
    assert_int_equal(back.subject, 3);
    assert_int_equal(back.epoch, 4);
    assert_int_equal(back.index, 5);
    assert_string_equal(back.ticket, "ab");
    assert_string_equal(back.shm, "shm1:");
    assert_string_equal(back.error, "");
    /* What is no text or too long is refused by its name. */
    char longer[SHM_TOKEN + 1];
    memset(longer, 'x', SHM_TOKEN);
    longer[SHM_TOKEN] = '\0';
    json_t *const bad[] = { json_string(longer), json_integer(1), json_null(), json_object() };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        json_object_set_new(m, "shm", bad[i]);
        assert_int_equal(read_answer(m, &back, &e), FAIL_FORMAT);
        assert_non_null(strstr(e.text, "'shm'"));
    }
    json_decref(m);
    t.shm[0] = '\0'; /* then the field is not there */
    m = ticket_answer_json(&t);
    assert_null(json_object_get(m, "shm"));
    assert_int_equal(read_answer(m, &back, &e), 0);
    assert_string_equal(back.shm, "");
    json_decref(m);
}

struct sample {
    char name[4];
    int64_t large;
    int small;
    bool flag;
    const json_t *list, *object, *whole;
};

static const struct message_field sample_fields[] = {
    { MESSAGE_TEXT(struct sample, name) },
    { MESSAGE_INTEGER(struct sample, large, -1, INT64_MAX) },
    { MESSAGE_INT(struct sample, small, 1, 9), .optional = true },
    { MESSAGE_FLAG(struct sample, flag) },
    { MESSAGE_ARRAY(struct sample, list, 2) },
    { MESSAGE_OBJECT(struct sample, object) },
    { MESSAGE_WHOLE(struct sample, whole) },
};

static int read_sample(const char *text, struct sample *s, struct error *e)
{
    json_t *m = json_loads(text, 0, NULL);
    assert_non_null(m);
    *s = (struct sample){ .name = "" };
    int code = message_read(m, sample_fields, ARRAY_LEN(sample_fields), s, e);
    json_decref(m);
    return code;
}

static void fields_are_read_by_their_table(void **state)
{
    static const struct {
        const char *text, *names;
    } bad[] = {
        { "{}", "'name'" },
        { "{\"name\":\"abcd\",\"large\":0,\"list\":[],\"object\":{}}", "'name'" },
        { "{\"name\":\"a\",\"large\":-2,\"list\":[],\"object\":{}}", "'large' is -2" },
        { "{\"name\":\"a\",\"large\":0.5,\"list\":[],\"object\":{}}", "'large'" },
        { "{\"name\":\"a\",\"large\":0,\"small\":10,\"list\":[],\"object\":{}}", "'small'" },
        { "{\"name\":\"a\",\"large\":0,\"list\":[1,2,3],\"object\":{}}", "'list'" },
        { "{\"name\":\"a\",\"large\":0,\"list\":{},\"object\":{}}", "'list'" },
        { "{\"name\":\"a\",\"large\":0,\"list\":[],\"object\":[]}", "'object'" },
    };
    struct sample s;
    struct error e = { 0 };
    assert_int_equal(read_sample("{\"name\":\"abc\",\"large\":9223372036854775807,\"flag\":true,"
                                 "\"list\":[1],\"object\":{},\"more\":1}",
                                 &s, &e),
                     0);
    assert_string_equal(s.name, "abc");
    assert_true(s.large == INT64_MAX);
    assert_int_equal(s.small, 0);
    assert_true(s.flag);
    assert_non_null(s.list);
    assert_non_null(s.object);
    assert_non_null(s.whole);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(read_sample(bad[i].text, &s, &e), FAIL_FORMAT);
        assert_non_null(strstr(e.text, bad[i].names));
    }
}

static void reports_name_transports(void **state)
{
    struct part_report r;
    struct error e = { 0 };
    json_t *m = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "placement", 1,
                          "epoch", 1, "state", 2, "done", 0, "total", 0, "weights", 0, "bytes", 0,
                          "progress", 0, "steps", 0, "busy", 0);
    assert_int_equal(part_take_report(m, &r, &e), 0); /* a device that doesn't say it */
    assert_int_equal(r.transports, 0);
    /* Bits that nobody knows yet are passed over. */
    json_object_set_new(m, "transports", json_integer(2 + 8 + (1 << 20)));
    assert_int_equal(part_take_report(m, &r, &e), 0);
    json_t *names = part_transports(r.transports);
    assert_int_equal(json_array_size(names), 2);
    assert_string_equal(json_string_value(json_array_get(names, 0)), "shm");
    assert_string_equal(json_string_value(json_array_get(names, 1)), "sealed tcp");
    json_decref(names);
    json_object_set_new(m, "transports", json_integer(-1));
    assert_int_equal(part_take_report(m, &r, &e), FAIL_FORMAT);
    json_decref(m);
}

static void channels_of_a_plan(void **state)
{
    struct placement_plan plan;
    struct wire_link links[WIRE_MAX_LINKS];
    assert_int_equal(split_parse("4@1:1/4@1:1:1", 8, &plan, NULL), 0);
    /* 5 to the head, 3 between the stages, 1 and 3 within them. */
    assert_int_equal(wire_links(&plan, links), 12);
    assert_int_equal(wire_source(&plan, 0), WIRE_HEAD);
    assert_int_equal(wire_source(&plan, 2), 0);
    assert_int_equal(wire_source(&plan, 3), 1);
    assert_int_equal(wire_source(&plan, 4), 0);
}

static void addresses(void **state)
{
    static const struct {
        const char *text, *host;
        int port;
        bool loopback;
    } good[] = {
        { "127.0.0.1", "127.0.0.1", 5, true },
        { "nas:99", "nas", 99, false },
        { "[::1]:7", "::1", 7, true },
        { "fe80::1", "fe80::1", 5, false },
        { "[fe80::1]", "fe80::1", 5, false },
        { "fe80::1%eth0", "fe80::1%eth0", 5, false },
        { "[fe80::1%eth0]:7", "fe80::1%eth0", 7, false },
        { "::1:2150", "::1:2150", 5, false }, /* an address too */
        { "localhost:1", "localhost", 1, true },
        { "10.127.0.1:80", "10.127.0.1", 80, false },
    };
    char host[ADDRESS_TEXT];
    int port = 0;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(address_parse(good[i].text, 5, host, &port, NULL), 0);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
        assert_int_equal(address_is_loopback(good[i].text), good[i].loopback);
    }
    static const char *const bad[] = { "",      ":5",       "a:",   "a:0",       "a:65536",
                                       "[::1",  "[::1]x",   "a:1x", "::1:21501", "fe80::1::2",
                                       "1:2:3", "[nas]:99", "[]:1", "a:1:2" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error e = { 0 };
        assert_int_equal(address_parse(bad[i], 5, host, &port, &e), FAIL_ARG);
        assert_non_null(strstr(e.text, "is not an address"));
    }
    address_join("::1", 9, host);
    assert_string_equal(host, "[::1]:9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(orders_come_back),
        cmocka_unit_test(tickets_come_back),
        cmocka_unit_test(fields_are_read_by_their_table),
        cmocka_unit_test(reports_name_transports),
        cmocka_unit_test(channels_of_a_plan),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
