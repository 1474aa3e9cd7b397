/* Sealed channels against an attacker on the wire. */
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "os/clock.h"
#include "tests/transport/pairs.h"
#include "transport/pair.h"

#define FRAME 36 /* of a 16-byte message: length, text, tag */

/* a sends sealed frames into a socket whose other end is ours; b receives what we write. */
struct wire {
    struct channel *a, *b;
    int from_a, to_b;
};

static void open_wire(struct wire *w, enum seal_cipher cipher)
{
    struct error e = { 0 };
    int left[2], right[2];
    tcp_sockets(left);
    tcp_sockets(right);
    assert_int_equal(tcp_from_fd(&w->a, left[0], NULL, &e), 0);
    assert_int_equal(tcp_from_fd(&w->b, right[0], NULL, &e), 0);
    w->from_a = left[1];
    w->to_b = right[1];
    seal_both(&w->a, &w->b, cipher);
}

static void close_wire(struct wire *w)
{
    channel_close(w->a);
    channel_close(w->b);
    tcp_close(w->from_a);
    tcp_close(w->to_b);
}

/* The next frame of a, with `value` as message. */
static void capture(struct wire *w, uint8_t value, uint8_t frame[static FRAME])
{
    struct error e = { 0 };
    uint8_t text[16];
    memset(text, value, sizeof text);
    struct bytes part = bytes_of(text, sizeof text);
    assert_int_equal(channel_send(w->a, &part, 1, SOON, &e), 0);
    assert_int_equal(tcp_read_all(w->from_a, frame, FRAME, SOON, &e), 0);
}

static int deliver(struct wire *w, const uint8_t *frame, size_t n, uint8_t *first, struct error *e)
{
    uint8_t text[64] = { 0 };
    size_t size = 0;
    assert_int_equal(tcp_write_all(w->to_b, bytes_of(frame, n), SOON, e), 0);
    int code = channel_recv(w->b, text, sizeof text, &size, SOON, e);
    *first = text[0];
    assert_true(code != 0 || size == 16);
    return code;
}

static void frames_in_order_are_accepted(void **state)
{
    (void)state;
    for (int cipher = SEAL_AES_128_GCM; cipher < SEAL_CIPHER_COUNT; cipher++) {
        struct wire w;
        struct error e = { 0 };
        uint8_t frame[FRAME], first = 0;
        open_wire(&w, (enum seal_cipher)cipher);
        for (uint8_t i = 1; i < 20; i++) {
            capture(&w, i, frame);
            for (int k = 4; k < FRAME; k++) {
                assert_true(frame[k] != i || frame[k + 1 < FRAME ? k + 1 : k] != i ||
                            frame[k + 2 < FRAME ? k + 2 : k] != i); /* not in the clear */
            }
            assert_int_equal(deliver(&w, frame, FRAME, &first, &e), 0);
            assert_int_equal(first, i);
        }
        close_wire(&w);
    }
}

static void any_altered_bit_is_noticed(void **state)
{
    (void)state;
    for (int bit = 32; bit < FRAME * 8; bit += 7) {
        struct wire w;
        struct error e = { 0 };
        uint8_t frame[FRAME], first = 0;
        open_wire(&w, SEAL_AES_128_GCM);
        capture(&w, 1, frame);
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(deliver(&w, frame, FRAME, &first, &e), FAIL_AUTH);
        assert_non_null(strstr(e.text, "frame 0: authentication failed"));
        assert_int_equal(first, 0); /* nothing unauthenticated is handed out */
        assert_int_equal(deliver(&w, frame, FRAME, &first, &e), FAIL_CLOSED);
        close_wire(&w);
    }
}

static void replay_reordering_and_loss_are_noticed(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        struct wire w;
        struct error e = { 0 };
        uint8_t one[FRAME], two[FRAME], first = 0;
        open_wire(&w, SEAL_CHACHA20_POLY1305);
        capture(&w, 1, one);
        capture(&w, 2, two);
        if (what == 0) { /* the first one twice */
            assert_int_equal(deliver(&w, one, FRAME, &first, &e), 0);
            assert_int_equal(deliver(&w, one, FRAME, &first, &e), FAIL_AUTH);
            assert_non_null(strstr(e.text, "frame 1"));
        } else { /* the second one first, which is also what a lost first one looks like */
            assert_int_equal(deliver(&w, two, FRAME, &first, &e), FAIL_AUTH);
        }
        close_wire(&w);
    }
}

static void cut_frames_are_noticed(void **state)
{
    (void)state;
    for (uint8_t n = 0; n < 32; n += 5) {
        struct wire w;
        struct error e = { 0 };
        uint8_t frame[FRAME], first = 0;
        open_wire(&w, SEAL_AES_128_GCM);
        capture(&w, 1, frame);
        frame[0] = n; /* a shorter length, and only so many bytes */
        assert_int_equal(deliver(&w, frame, (size_t)n + 4, &first, &e), FAIL_AUTH);
        close_wire(&w);
    }
}

static void a_reflected_frame_is_refused(void **state)
{
    (void)state;
    struct wire w;
    struct error e = { 0 };
    uint8_t frame[FRAME], text[16];
    size_t size = 0;
    open_wire(&w, SEAL_AES_128_GCM);
    capture(&w, 1, frame);
    assert_int_equal(tcp_write_all(w.from_a, bytes_of(frame, FRAME), SOON, &e), 0);
    assert_int_equal(channel_recv(w.a, text, sizeof text, &size, SOON, &e), FAIL_AUTH);
    close_wire(&w);
}

/* The keys are replaced after 2^20 frames at both ends. */
static void the_keys_are_replaced(void **state)
{
    (void)state;
    struct channel *a, *b;
    struct error e = { 0 };
    sealed_memory_pair(&a, &b, NULL);
    int code = 0, value = -1;
    size_t size = 0;
    for (int i = 0; i < (1 << 20) + 100 && code == 0; i++) {
        struct bytes part = bytes_of(&i, sizeof i);
        code = channel_send(a, &part, 1, SOON, &e);
        code = code == 0 ? channel_recv(b, &value, sizeof value, &size, SOON, &e) : code;
        code = code == 0 && value != i ? -1 : code;
    }
    assert_string_equal(e.text, "");
    assert_int_equal(code, 0);
    channel_close(a);
    channel_close(b);
}

/* OpenSSL's allocations; set in main, before its first one. */
static atomic_int n_allocations;

static void *count_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    atomic_fetch_add(&n_allocations, 1);
    return malloc(size);
}

static void *count_realloc(void *p, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    atomic_fetch_add(&n_allocations, 1);
    return realloc(p, size);
}

static void count_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

static void a_message_allocates_nothing(void **state)
{
    (void)state;
    for (int cipher = SEAL_AES_128_GCM; cipher < SEAL_CIPHER_COUNT; cipher++) {
        struct channel *a, *b;
        struct error e = { 0 };
        static uint8_t out[5000], in[5000];
        plain_memory_pair(&a, &b, NULL);
        seal_both(&a, &b, (enum seal_cipher)cipher);
        int before = atomic_load(&n_allocations), code = 0;
        assert_true(before > 0); /* the counter works */
        for (int i = 0; i < 1000 && code == 0; i++) {
            struct bytes part = bytes_of(out, (size_t)i * 5);
            size_t size = 0;
            code = channel_send(a, &part, 1, SOON, &e);
            code = code == 0 ? channel_recv(b, in, sizeof in, &size, SOON, &e) : code;
        }
        assert_int_equal(code, 0);
        assert_int_equal(atomic_load(&n_allocations), before);
        channel_close(a);
        channel_close(b);
    }
}

static void plain_is_the_channel_itself(void **state)
{
    (void)state;
    struct channel *a, *b, *same = NULL;
    struct error e = { 0 };
    plain_memory_pair(&a, &b, NULL);
    assert_int_equal(channel_seal(&same, a, &(struct seal_keys){ .cipher = SEAL_PLAIN }, &e), 0);
    assert_ptr_equal(same, a);
    assert_string_equal(channel_name(a), "memory");
    seal_both(&a, &b, SEAL_AES_128_GCM);
    assert_string_equal(channel_name(a), "sealed memory");
    assert_int_equal(channel_max_message(a), CHANNEL_MAX_MESSAGE - SEAL_OVERHEAD);
    channel_close(a);
    channel_close(b);
}

/* Pages of this process's address space; 0 where the system doesn't say. */
static unsigned long address_pages(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fscanf(f, "%lu", &pages) != 1) {
            pages = 0;
        }
        fclose(f);
    }
    return pages;
}

/* Sixteen ends that may get messages of 64 MiB take what theirs take. */
static void memory_is_that_of_the_messages(void **state)
{
    enum { PAIRS = 8 };
    struct channel *a[PAIRS] = { NULL }, *b[PAIRS] = { NULL };
    struct error e = { 0 };
    unsigned long before = address_pages();
    if (before == 0) {
        skip();
    }
    for (int i = 0; i < PAIRS; i++) {
        assert_int_equal(transport_pair("tcp-sealed", &a[i], &b[i], NULL, &e), 0);
    }
    uint64_t taken = (uint64_t)(address_pages() - before) * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_true(taken < ((uint64_t)32 << 20));
    for (int i = 0; i < PAIRS; i++) {
        char in[64];
        size_t n = 0;
        const struct bytes part = bytes_text("still a channel");
        assert_int_equal(channel_send(a[i], &part, 1, clock_deadline(CLOCK_NS_PER_S), &e), 0);
        assert_int_equal(channel_recv(b[i], in, sizeof in, &n, clock_deadline(CLOCK_NS_PER_S), &e),
                         0);
        assert_int_equal(n, part.size);
        channel_close(a[i]);
        channel_close(b[i]);
    }
}

int main(void)
{
    CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_that_of_the_messages),
        cmocka_unit_test(frames_in_order_are_accepted),
        cmocka_unit_test(any_altered_bit_is_noticed),
        cmocka_unit_test(replay_reordering_and_loss_are_noticed),
        cmocka_unit_test(cut_frames_are_noticed),
        cmocka_unit_test(a_reflected_frame_is_refused),
        cmocka_unit_test(the_keys_are_replaced),
        cmocka_unit_test(a_message_allocates_nothing),
        cmocka_unit_test(plain_is_the_channel_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
