/* Pairs of connected channels of every kind, for tests. */
#ifndef SHOAL_TESTS_TRANSPORT_PAIRS_H
#define SHOAL_TESTS_TRANSPORT_PAIRS_H

#include "tests/test.h"

#include "os/clock.h"
#include "secure/ticket.h"
#include "transport/pair.h"

#include <poll.h>
#include <stdio.h>

#define SOON clock_deadline(5 * CLOCK_NS_PER_S)
#define IN_MS(ms) clock_deadline((ms)*CLOCK_NS_PER_MS)

/* A TCP connection over loopback. */
static inline void tcp_sockets(int fds[static 2])
{
    struct error e = { 0 };
    char address[64];
    int listener = -1;
    assert_int_equal(tcp_listen(&listener, "127.0.0.1", 0, &e), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_local_port(listener, &e));
    assert_int_equal(tcp_connect(&fds[0], address, SOON, &e), 0);
    assert_int_equal(tcp_accept(&fds[1], listener, SOON, &e), 0);
    tcp_close(listener);
}

#define PAIR(function, name)                                                                       \
    static inline void function(struct channel **a, struct channel **b,                            \
                                const struct channel_options *o)                                   \
    {                                                                                              \
        struct error e = { 0 };                                                                    \
        assert_int_equal(transport_pair(name, a, b, o, &e), 0);                                    \
    }
PAIR(plain_memory_pair, "memory")
PAIR(tcp_pair, "tcp")
PAIR(sealed_tcp_pair, "tcp-sealed")
PAIR(shm_pair, "shm")
#undef PAIR

/* What a ticket would bring. */
static const uint8_t shm_preamble[PREAMBLE_BYTES] = "preamble", shm_answer[SHM_ANSWER] = "answer";

/* The offerer's end, once the peer has answered. */
static inline int shm_finish(struct channel **ret, struct shm_offer *offer, struct error *e)
{
    struct pollfd p = { .fd = shm_offer_fd(offer), .events = POLLIN };
    assert_int_equal(poll(&p, 1, 5000), 1);
    return shm_offer_finish(ret, offer, shm_answer, e);
}

/* The other end. */
static inline void shm_join_next(struct channel **ret, int listener,
                                 const struct channel_options *o)
{
    struct error e = { 0 };
    struct shm_parcel parcel;
    struct pollfd p = { .fd = listener, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(shm_take(&parcel, listener, &e), 0);
    assert_memory_equal(parcel.preamble, shm_preamble, PREAMBLE_BYTES);
    assert_int_equal(shm_join(ret, &parcel, shm_answer, o, &e), 0);
}

/* Keys of two ends that fit. */
static inline void test_keys(struct seal_keys keys[static 2], enum seal_cipher cipher)
{
    for (int i = 0; i < 2; i++) {
        keys[i].cipher = cipher;
        memset(keys[i].send_key, 10 + i, 32);
        memset(keys[i].recv_key, 11 - i, 32);
        memset(keys[i].send_iv, 20 + i, 12);
        memset(keys[i].recv_iv, 21 - i, 12);
    }
}

static inline void seal_both(struct channel **a, struct channel **b, enum seal_cipher cipher)
{
    struct error e = { 0 };
    struct seal_keys keys[2];
    test_keys(keys, cipher);
    assert_int_equal(channel_seal(a, *a, &keys[0], &e), 0);
    assert_int_equal(channel_seal(b, *b, &keys[1], &e), 0);
}

static inline void sealed_memory_pair(struct channel **a, struct channel **b,
                                      const struct channel_options *o)
{
    plain_memory_pair(a, b, o);
    seal_both(a, b, SEAL_CHACHA20_POLY1305);
}

#endif
