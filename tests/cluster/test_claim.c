/* Claims as messages: what a head says of a model's bytes, whole and in pieces, and what no head
 * may say. */
#include "tests/test.h"

#include "cluster/claim.h"
#include "peer/message.h"

#include <stdio.h>

#define TENSORS (2 * CLAIM_PIECE + 5)

static uint8_t *digests_of(int n, int salt)
{
    uint8_t *all = malloc((size_t)n * DIGEST_BYTES);
    for (int i = 0; i < n * DIGEST_BYTES; i++) {
        all[i] = (uint8_t)(i * 31 + i / 251 + salt);
    }
    return all;
}

/* Over the wire: as a frame and back. */
static int send(struct claims *c, json_t *m, struct error *e)
{
    struct buffer frame;
    struct message got;
    buffer_init(&frame, MESSAGE_MAX + 64);
    assert_int_equal(message_encode(m, &frame, e), 0);
    assert_int_equal(
        message_parse(bytes_of(frame.data + MESSAGE_HEAD, frame.size - MESSAGE_HEAD), &got, e), 0);
    assert_string_equal(got.type, "claim");
    int code = claims_take(c, got.body, e);
    message_done(&got);
    buffer_done(&frame);
    return code;
}

static void pieces_make_a_claim(void **state)
{
    (void)state;
    struct claims c = { 0 };
    struct error e = { 0 };
    uint8_t *all = digests_of(TENSORS, 0), *other = digests_of(TENSORS, 0);
    for (int kind = 0; kind < CLAIM_KINDS; kind++) {
        struct claim_piece p = { .placement = 7,
                                 .epoch = 3,
                                 .kind = (enum claim_kind)kind,
                                 .seed = 12345,
                                 .share_follows = true,
                                 .tensors = TENSORS,
                                 .digests = all };
        for (p.first = 0; p.first < TENSORS; p.first += CLAIM_PIECE) {
            assert_false(claim_complete(&c, p.kind));
            assert_int_equal(send(&c, claim_json(&p), &e), 0);
        }
        assert_true(claim_complete(&c, p.kind));
        assert_memory_equal(c.kinds[kind].digests, all, (size_t)TENSORS * DIGEST_BYTES);
    }
    assert_true(c.seed == 12345 && c.share_follows);
    assert_int_equal(claim_difference(&c.kinds[CLAIM_SHARE], all, TENSORS), -1);
    other[(size_t)(TENSORS - 1) * DIGEST_BYTES + 31] ^= 1;
    assert_int_equal(claim_difference(&c.kinds[CLAIM_SHARE], other, TENSORS), TENSORS - 1);
    other[5] ^= 0x80;
    assert_int_equal(claim_difference(&c.kinds[CLAIM_SHARE], other, TENSORS), 0);
    claims_done(&c);
    free(all);
    free(other);
}

static void a_head_that_cannot_say_says_why(void **state)
{
    (void)state;
    struct claims c = { 0 };
    struct error e = { 0 };
    assert_int_equal(send(&c, claim_failed_json(1, 1, "m.gguf is gone"), &e), 0);
    assert_string_equal(c.failed, "m.gguf is gone");
    claims_done(&c);
}

/* Each is refused, and the next right piece is taken as if nothing had been said. */
static void wrong_claims_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{}",
        "{'kind': 'all', 'tensors': 2, 'first': 1, 'seed': 0, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 0, 'first': 0, 'seed': 0, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 1048577, 'first': 1, 'seed': 0, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 3, 'first': 1, 'seed': 0, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 0, 'seed': 0, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 2, 'seed': 0, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'seed': -1, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'digests': 'D'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'seed': 0, 'digests': ''}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'seed': 0, 'digests': 'D0'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'seed': 0, 'digests': 'DD'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'seed': 0, 'digests': 'U'}",
        "{'kind': 'sample', 'tensors': 2, 'first': 1, 'seed': 0, 'digests': 7}",
        "{'kind': 'failed'}",
    };
    static const char digest[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    static const char upper[] = "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff";
    uint8_t *all = digests_of(2, 9);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct claims c = { 0 };
        struct error e = { 0 };
        char text[512];
        size_t n = 0;
        for (const char *p = wrong[i]; *p != '\0'; p++) {
            const char *put = p[0] == 'D' ? digest : p[0] == 'U' ? upper : NULL;
            n += put ? (size_t)snprintf(text + n, sizeof text - n, "%s", put)
                     : (size_t)snprintf(text + n, sizeof text - n, "%c", *p == '\'' ? '"' : *p);
        }
        struct claim_piece p = { .placement = 1, .epoch = 1, .tensors = 2, .digests = all };
        json_t *first = claim_json(&p), *m = json_loads(text, 0, NULL);
        json_object_set_new(first, "digests", json_string(digest)); /* the first of two */
        assert_int_equal(claims_take(&c, first, &e), 0);
        assert_non_null(m);
        assert_int_equal(claims_take(&c, m, &e), FAIL_FORMAT);
        assert_true(e.text[0] != '\0');
        assert_true(c.failed[0] == '\0' && c.kinds[CLAIM_SAMPLE].have == 1);
        p.first = 1;
        assert_int_equal(send(&c, claim_json(&p), &e), 0);
        assert_true(claim_complete(&c, CLAIM_SAMPLE));
        json_decref(first);
        json_decref(m);
        claims_done(&c);
    }
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_make_a_claim),
        cmocka_unit_test(a_head_that_cannot_say_says_why),
        cmocka_unit_test(wrong_claims_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
