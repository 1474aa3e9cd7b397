/* What a stranger or a hostile peer may send before and below messages: handshake records, data
 * preambles, tcp frames, sealed frames, shared rings. The first byte chooses. */
#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "secure/handshake.h"
#include "secure/ticket.h"
#include "transport/ring.h"

#define MESSAGE 512
#define RING 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_handshake(struct bytes input)
{
    struct error e = { 0 };
    static const struct handshake_binding binding;
    static const uint8_t key[CLUSTER_KEY];
    struct handshake h;
    if (handshake_peek(&h, input, &e) != 0) {
        return;
    }
    /* The same claims with a right MAC: only the version may be wrong then. */
    uint8_t record[HANDSHAKE_BYTES];
    handshake_make(record, &h, &binding, key);
    int code = handshake_check(bytes_of(record, sizeof record), h.role, &binding, key, &e);
    assert(code == (h.version == HANDSHAKE_VERSION ? 0 : ERR_UNSUPPORTED));
    code = handshake_check(input, h.role, &binding, key, &e);
    assert(code == ERR_AUTH || memcmp(record, input.data, sizeof record) == 0);
}

static void try_preamble(struct bytes input)
{
    static struct ticket_table table;
    struct error e = { 0 };
    struct ticket_grant grant;
    struct ticket *one = &table.tickets[0];
    *one = (struct ticket){ .open = true, .expires_ns = 10 };
    if (input.size == PREAMBLE_BYTES) {
        memcpy(one->value, input.data + 16, 16); /* a known ticket: the proof decides */
    }
    int code = ticket_redeem(&table, input, 5, &grant, &e);
    assert(code == ERR_AUTH || code == ERR_FORMAT);
}

static void receive_all(struct channel *ch, bool sealed)
{
    struct error e = { 0 };
    uint8_t message[MESSAGE];
    size_t n = 0;
    int code;
    while ((code = channel_recv(ch, message, sizeof message, &n, 1, &e)) == 0) {
        assert(n <= sizeof message && !sealed);
    }
    assert(e.text[0] != '\0');
    channel_close(ch);
}

static void try_stream(struct bytes input, bool sealed)
{
    struct error e = { 0 };
    struct channel *ch = NULL;
    struct channel_options o = { .max_message = MESSAGE, .spin_ns = 1 };
    int fds[2];
    if (input.size > 4096 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        return;
    }
    ssize_t n = write(fds[1], input.data, input.size);
    assert(n == (ssize_t)input.size);
    close(fds[1]);
    if (tcp_from_fd(&ch, fds[0], &o, &e) != 0) {
        return;
    }
    struct seal_keys keys = { .cipher = sealed ? SEAL_AES_128_GCM : SEAL_PLAIN };
    if (channel_seal(&ch, ch, &keys, &e) == 0) {
        receive_all(ch, sealed);
    }
}

static void free_rings(void *arg)
{
    free(arg);
}

/* A peer that writes whatever it likes into the shared memory: positions first, then bytes. */
static void try_ring(struct bytes input)
{
    struct error e = { 0 };
    struct channel *ch = NULL;
    int fds[2];
    struct memory_options o = { .channel = {
                                    .max_message = MESSAGE, .ring_bytes = RING, .spin_ns = 1 } };
    struct ring *in = aligned_alloc(64, 2 * ring_size(RING));
    if (in == NULL || input.size < 9 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        free(in);
        return;
    }
    memset(in, 0, 2 * ring_size(RING));
    struct ring *out = (struct ring *)(void *)((uint8_t *)in + ring_size(RING));
    uint64_t tail = 0;
    memcpy(&tail, input.data, 8);
    size_t n = input.size - 8 < RING ? input.size - 8 : RING;
    memcpy(in->data, input.data + 8, n);
    atomic_store(&in->tail, tail);
    atomic_store(&in->closed, 1);
    struct ring_end end = { .in = in, .out = out, .fd = fds[0], .release = free_rings, .arg = in };
    if (ring_open(&ch, "shm", &end, &o, &e) == 0) {
        receive_all(ch, false);
    }
    close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct bytes input = bytes_of(data + 1, size - 1);
    switch (data[0] % 5) {
    case 0:
        try_handshake(input);
        break;
    case 1:
        try_preamble(input);
        break;
    case 2:
        try_stream(input, false);
        break;
    case 3:
        try_stream(input, true);
        break;
    default:
        try_ring(input);
    }
    return 0;
}
