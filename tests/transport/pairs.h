/* Pairs of connected channels of every kind, for tests. */
#ifndef SHOAL_TESTS_TRANSPORT_PAIRS_H
#define SHOAL_TESTS_TRANSPORT_PAIRS_H

#include "tests/test.h"

#include "os/clock.h"
#include "transport/transport.h"

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

static inline void tcp_pair(struct channel **a, struct channel **b, const struct channel_options *o)
{
    struct error e = { 0 };
    int fds[2];
    tcp_sockets(fds);
    assert_int_equal(tcp_from_fd(a, fds[0], o, &e), 0);
    assert_int_equal(tcp_from_fd(b, fds[1], o, &e), 0);
}

static inline void plain_memory_pair(struct channel **a, struct channel **b,
                                     const struct channel_options *o)
{
    struct error e = { 0 };
    struct memory_options m = { 0 };
    if (o != NULL) {
        m.channel = *o;
    }
    assert_int_equal(memory_pair(a, b, &m, &e), 0);
}

#endif
