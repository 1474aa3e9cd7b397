/* What a stranger or a hostile peer may send before and below messages: handshake records, data
 * preambles, tcp frames, sealed frames, shared rings. The first byte chooses. Frames and rings also
 * come as an honest peer makes them, with edits, so that what lies behind the checks is reached. */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "secure/handshake.h"
#include "secure/ticket.h"
#include "transport/ring.h"

#define MESSAGE 512
#define RING 4096
#define MAX_SENT 8 /* messages of an honest peer */
#define EDIT 4     /* bytes of one edit: place (2), value, count */

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
    assert(code == (h.version == HANDSHAKE_VERSION ? 0 : FAIL_UNSUPPORTED));
    code = handshake_check(input, h.role, &binding, key, &e);
    assert(code == FAIL_AUTH || memcmp(record, input.data, sizeof record) == 0);
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
    assert(code == FAIL_AUTH || code == FAIL_FORMAT);
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

/* --- an honest peer whose bytes were changed on their way --- */

struct sent {
    uint8_t data[MAX_SENT][MESSAGE];
    size_t size[MAX_SENT];
    int n;
};

/* Sends messages over ch as the input says: their count, then a size and a first byte for each. */
static void send_some(struct channel *ch, struct bytes *input, struct sent *s)
{
    struct error e = { 0 };
    s->n = input->size > 0 ? input->data[0] % (MAX_SENT + 1) : 0;
    *input = input->size > 0 ? bytes_of(input->data + 1, input->size - 1) : *input;
    for (int i = 0; i < s->n; i++) {
        uint8_t size = input->size > 1 ? input->data[0] : 0, first = size ? input->data[1] : 0;
        *input = input->size > 1 ? bytes_of(input->data + 2, input->size - 2) : *input;
        s->size[i] = size;
        for (size_t k = 0; k < size; k++) {
            s->data[i][k] = (uint8_t)(first + k);
        }
        struct bytes part = bytes_of(s->data[i], size);
        if (channel_send(ch, &part, 1, UINT64_MAX, &e) != 0) {
            abort();
        }
    }
}

static void edit(uint8_t *data, size_t size, struct bytes edits)
{
    for (size_t i = 0; i + EDIT <= edits.size && size > 0; i += EDIT) {
        const uint8_t *x = edits.data + i;
        size_t at = ((size_t)x[0] << 8 | x[1]) % size;
        for (size_t k = 0; k <= x[3] % 8u && at + k < size; k++) {
            data[at + k] = k == 0 ? x[2] : (uint8_t)(x[2] ^ x[3]);
        }
    }
}

/* What arrives is what was sent, in order, until something is refused; exact: no other message may
 * get through, whatever was changed. */
static void expect_sent(struct channel *ch, const struct sent *s, bool exact)
{
    struct error e = { 0 };
    uint8_t message[MESSAGE];
    size_t n = 0;
    int code = 0;
    for (int i = 0; (code = channel_recv(ch, message, sizeof message, &n, 1, &e)) == 0; i++) {
        assert(n <= sizeof message);
        assert(!exact || (i < s->n && n == s->size[i] && memcmp(message, s->data[i], n) == 0));
    }
    assert(e.text[0] != '\0');
    channel_close(ch);
}

static void open_pair(struct channel **ret, int *other, const struct channel_options *o)
{
    struct error e = { 0 };
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0 || tcp_from_fd(ret, fds[0], o, &e) != 0) {
        abort();
    }
    *other = fds[1];
}

/* The honest frames' bytes pass through our hands. */
static void try_edited_stream(struct bytes input, enum seal_cipher cipher)
{
    struct error e = { 0 };
    struct channel *from = NULL, *to = NULL;
    struct channel_options o = { .max_message = MESSAGE + SEAL_OVERHEAD, .spin_ns = 1 };
    struct seal_keys keys = { .cipher = cipher };
    struct sent s;
    static uint8_t wire[MAX_SENT * (MESSAGE + 64)];
    int tap = -1, feed = -1;
    open_pair(&from, &tap, &o);
    open_pair(&to, &feed, &o);
    if (channel_seal(&from, from, &keys, &e) != 0 || channel_seal(&to, to, &keys, &e) != 0) {
        abort();
    }
    send_some(from, &input, &s);
    channel_close(from);
    ssize_t n = read(tap, wire, sizeof wire);
    edit(wire, n > 0 ? (size_t)n : 0, input);
    n = n > 0 ? write(feed, wire, (size_t)n) : 0;
    assert(n >= 0);
    close(tap);
    close(feed);
    expect_sent(to, &s, cipher != SEAL_PLAIN);
}

static struct channel *open_ring(struct ring *in, struct ring *out, int fd, void (*release)(void *))
{
    struct error e = { 0 };
    struct channel *ch = NULL;
    struct memory_options o = { .channel = {
                                    .max_message = MESSAGE, .ring_bytes = RING, .spin_ns = 1 } };
    struct ring_end end = { .in = in, .out = out, .fd = fd, .release = release, .arg = in };
    return ring_open(&ch, "shm", &end, &o, &e) == 0 ? ch : NULL;
}

static void keep_rings(void *arg)
{
    (void)arg;
}

/* Positions, flags and bytes that an honest writer left, changed anywhere. */
static void try_edited_ring(struct bytes input)
{
    struct sent s;
    int fds[2];
    struct ring *in = aligned_alloc(64, 2 * ring_size(RING));
    if (in == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        free(in);
        return;
    }
    memset(in, 0, 2 * ring_size(RING));
    struct ring *out = (struct ring *)(void *)((uint8_t *)in + ring_size(RING));
    struct channel *writer = open_ring(out, in, fds[1], keep_rings);
    struct channel *reader = open_ring(in, out, fds[0], free_rings);
    assert(writer != NULL && reader != NULL);
    send_some(writer, &input, &s);
    channel_close(writer);
    edit((uint8_t *)in, ring_size(RING), input);
    expect_sent(reader, &s, input.size < EDIT);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return;
    }
    struct bytes input = bytes_of(data + 1, size - 1);
    switch (data[0] % 9) {
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
    case 4:
        try_ring(input);
        break;
    case 5:
        try_edited_ring(input);
        break;
    default: /* 6, 7, 8: plain and each cipher */
        try_edited_stream(input, (enum seal_cipher)(data[0] % 9 - 6));
    }
}
