/* See pair.h. */
#include "transport/pair.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "os/clock.h"
#include "secure/ticket.h"
#include "transport/internal.h"

/* Between two ends of one process nothing takes long; this only bounds a system in trouble. */
#define CONNECT_NS (10 * CLOCK_NS_PER_S)

static int pair_memory(struct channel **a, struct channel **b, const struct channel_options *o,
                       struct error *e)
{
    return memory_pair(a, b, &(struct memory_options){ .channel = channel_defaults(o) }, e);
}

/* Nothing here waits: what one end sends is there when the other looks. */
static int pair_shm(struct channel **a, struct channel **b, const struct channel_options *o,
                    struct error *e)
{
    static const uint8_t preamble[PREAMBLE_BYTES],
        answer[SHM_ANSWER]; /* one process knows itself */
    struct shm_offer *offer = NULL;
    struct shm_parcel parcel;
    struct channel *second = NULL;
    char token[SHM_TOKEN];
    int listener = -1;
    int code = shm_listen(&listener, token, e);
    code = code == 0 ? shm_offer(&offer, token, preamble, o, e) : code;
    code = code == 0 ? shm_take(&parcel, listener, e) : code;
    code = code == 0 ? shm_join(&second, &parcel, answer, o, e) : code;
    tcp_close(listener);
    if (code != 0) {
        shm_offer_close(offer);
        return code;
    }
    code = shm_offer_finish(a, offer, answer, e);
    if (code != 0) {
        channel_close(second);
        return code;
    }
    *b = second;
    return 0;
}

static int connect_loopback(int fds[static 2], struct error *e)
{
    char address[32];
    uint64_t deadline_ns = clock_deadline(CONNECT_NS);
    int listener = -1;
    int code = tcp_listen(&listener, "127.0.0.1", 0, e);
    int port = code == 0 ? tcp_local_port(listener, e) : code;
    code = port < 0 ? port : 0;
    if (code == 0) {
        snprintf(address, sizeof address, "127.0.0.1:%d", port);
        code = tcp_connect(&fds[0], address, deadline_ns, e);
    }
    code = code == 0 ? tcp_accept(&fds[1], listener, deadline_ns, e) : code;
    tcp_close(listener);
    return code;
}

static int pair_tcp(struct channel **a, struct channel **b, const struct channel_options *o,
                    struct error *e)
{
    int fds[2] = { -1, -1 };
    struct channel *first = NULL;
    int code = connect_loopback(fds, e);
    if (code != 0) {
        tcp_close(fds[0]);
        return code;
    }
    code = tcp_from_fd(&first, fds[0], o, e);
    if (code != 0) {
        tcp_close(fds[1]);
        return code;
    }
    code = tcp_from_fd(b, fds[1], o, e);
    if (code != 0) {
        channel_close(first);
        return code;
    }
    *a = first;
    return 0;
}

/* Keys of two ends: what one sends with, the other receives with. */
static int make_keys(struct seal_keys keys[static 2], struct error *e)
{
    keys[0].cipher = keys[1].cipher = seal_cipher_best();
    for (int i = 0; i < 2; i++) {
        if (RAND_bytes(keys[i].send_key, sizeof keys[i].send_key) != 1 ||
            RAND_bytes(keys[i].send_iv, sizeof keys[i].send_iv) != 1) {
            return fail(e, FAIL_IO, "random bytes for a pair's keys");
        }
        memcpy(keys[1 - i].recv_key, keys[i].send_key, sizeof keys[i].send_key);
        memcpy(keys[1 - i].recv_iv, keys[i].send_iv, sizeof keys[i].send_iv);
    }
    return 0;
}

static int pair_tcp_sealed(struct channel **a, struct channel **b, const struct channel_options *o,
                           struct error *e)
{
    struct seal_keys keys[2];
    struct channel *first = NULL, *second = NULL;
    int code = make_keys(keys, e);
    code = code == 0 ? pair_tcp(&first, &second, o, e) : code;
    if (code != 0) {
        return code;
    }
    code = channel_seal(&first, first, &keys[0], e);
    if (code != 0) {
        channel_close(second);
        return code;
    }
    code = channel_seal(&second, second, &keys[1], e);
    if (code != 0) {
        channel_close(first);
        return code;
    }
    *a = first;
    *b = second;
    return 0;
}

/* Name, function. */
#define PAIRS(X)                                                                                   \
    X("memory", pair_memory)                                                                       \
    X("shm", pair_shm)                                                                             \
    X("tcp", pair_tcp)                                                                             \
    X("tcp-sealed", pair_tcp_sealed)

#define NAME(name, make) name,
const char *const transport_pair_names[] = { PAIRS(NAME) NULL };
#undef NAME

int transport_pair(const char *name, struct channel **a, struct channel **b,
                   const struct channel_options *options, struct error *e)
{
#define TRY(known, make)                                                                           \
    if (strcmp(name, known) == 0) {                                                                \
        return make(a, b, options, e);                                                             \
    }
    PAIRS(TRY)
#undef TRY
#define LIST(known, make) " " known
    return fail(e, FAIL_ARG, "no transport is called %.40s; there are" PAIRS(LIST), name);
#undef LIST
}
