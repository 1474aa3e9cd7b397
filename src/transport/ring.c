/* Channels over shared rings: see ring.h.
 *
 * A message is a header and its bytes, written in pieces as there is room, so that the reader
 * copies out while the writer copies in. Whoever is about to sleep says so first and looks once
 * more; whoever publishes looks afterwards whether the other sleeps. Both are sequentially
 * consistent, so at least one of them sees the other. */
#include "transport/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/random.h"
#include "os/clock.h"
#include "transport/socket.h"

#define PIECE 8192u /* bytes published at once: the two copies overlap */
#define MARK 0x4c414f48u

struct header {
    uint32_t size;
    uint32_t mark; /* a ring that is overwritten shows here */
    uint64_t due_ns;
};

struct ring_channel {
    struct channel base;
    struct ring_end end;
    uint64_t mask;
    uint64_t tail, head;   /* our own positions: out's tail, in's head */
    uint64_t head_seen;    /* out's head as last read, to touch its line less often */
    struct header message; /* being received */
    bool receiving;
    bool end_seen;  /* the doorbell said that the peer is gone */
    uint32_t got;   /* bytes of it that were copied out */
    uint8_t *into;  /* where to */
    uint8_t *stash; /* or here between two receives */
    bool stashed;
    uint64_t wake_ns; /* when a delayed message is due */
    struct memory_options script;
    uint64_t n_sent;
};

_Static_assert(sizeof(struct header) == 16, "fixed layout");

static struct ring_channel *self(struct channel *ch)
{
    return (struct ring_channel *)(void *)ch;
}

static void ring_bell(struct ring_channel *c, _Atomic uint32_t *sleeps)
{
    if (atomic_load_explicit(sleeps, memory_order_seq_cst) != 0 &&
        atomic_exchange_explicit(sleeps, 0, memory_order_relaxed) != 0) {
        /* A full socket has bells enough; a closed one is noticed elsewhere. */
        ssize_t n = send(c->end.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n;
    }
}

static void copy_in(struct ring_channel *c, const void *from, size_t n)
{
    size_t at = (size_t)(c->tail & c->mask), first = (size_t)c->mask + 1 - at;
    if (n == 0) { /* of an empty message, which may have no memory */
        return;
    }
    first = first < n ? first : n;
    memcpy(c->end.out->data + at, from, first);
    memcpy(c->end.out->data, (const uint8_t *)from + first, n - first);
    c->tail += n;
}

static void copy_out(struct ring_channel *c, void *to, size_t n)
{
    size_t at = (size_t)(c->head & c->mask), first = (size_t)c->mask + 1 - at;
    if (n == 0) {
        return;
    }
    first = first < n ? first : n;
    memcpy(to, c->end.in->data + at, first);
    memcpy((uint8_t *)to + first, c->end.in->data, n - first);
    c->head += n;
}

static void publish_tail(struct ring_channel *c)
{
    atomic_store_explicit(&c->end.out->tail, c->tail, memory_order_seq_cst);
    ring_bell(c, &c->end.out->reader_sleeps);
}

static void publish_head(struct ring_channel *c)
{
    atomic_store_explicit(&c->end.in->head, c->head, memory_order_seq_cst);
    ring_bell(c, &c->end.in->writer_sleeps);
}

static bool peer_gone(struct ring_channel *c)
{
    return c->end_seen || atomic_load_explicit(&c->end.in->closed, memory_order_acquire) != 0 ||
           atomic_load_explicit(&c->end.out->closed, memory_order_acquire) != 0;
}

/* Free bytes for writing, or an error. */
static int64_t room(struct ring_channel *c, struct error *e)
{
    uint64_t used = c->tail - c->head_seen;
    if (used + PIECE + sizeof(struct header) > c->mask + 1) {
        c->head_seen = atomic_load_explicit(&c->end.out->head, memory_order_seq_cst);
        used = c->tail - c->head_seen;
        if (used > c->mask + 1) {
            return fail(e, FAIL_FORMAT, "the peer spoiled the ring's positions");
        }
    }
    return (int64_t)(c->mask + 1 - used);
}

/* Bytes to read, or an error; closed is looked at first, so that what came before it is seen. */
static int64_t available(struct ring_channel *c, struct error *e)
{
    bool gone = peer_gone(c);
    uint64_t n = atomic_load_explicit(&c->end.in->tail, memory_order_seq_cst) - c->head;
    if (n > c->mask + 1) {
        return fail(e, FAIL_FORMAT, "the peer spoiled the ring's positions");
    }
    if (n == 0 && gone) {
        return fail(e, FAIL_CLOSED, "the peer closed the %s channel", c->base.ops->name);
    }
    return (int64_t)n;
}

/* Scripted misbehaviour: true when the message at hand is to vanish. */
static bool is_lost(const struct ring_channel *c)
{
    return c->script.loss_ppm != 0 &&
           random_at(c->script.seed, c->n_sent) % 1000000 < c->script.loss_ppm;
}

static int send_begin(struct ring_channel *c, size_t total, size_t *done, struct error *e)
{
    if (c->script.die_after != 0 && c->n_sent >= c->script.die_after) {
        return fail(e, FAIL_CLOSED, "this end died after %llu messages, as scripted",
                    (unsigned long long)c->n_sent);
    }
    if (is_lost(c)) {
        c->n_sent++;
        return CHANNEL_DONE;
    }
    int64_t free_bytes = room(c, e);
    if (free_bytes < (int64_t)sizeof(struct header)) {
        return free_bytes < 0 ? (int)free_bytes : CHANNEL_IDLE;
    }
    struct header h = { .size = (uint32_t)total, .mark = MARK };
    h.due_ns = c->script.delay_ns != 0 ? clock_deadline(c->script.delay_ns) : 0;
    copy_in(c, &h, sizeof h);
    *done = sizeof h;
    return CHANNEL_MOVED;
}

static int ring_send_some(struct channel *ch, const struct transfer *t, size_t *done,
                          struct error *e)
{
    struct ring_channel *c = self(ch);
    if (peer_gone(c)) {
        return fail(e, FAIL_CLOSED, "the peer closed the %s channel", ch->ops->name);
    }
    size_t before = *done;
    if (before == 0) {
        int r = send_begin(c, t->total, done, e);
        if (r != CHANNEL_MOVED) {
            return r;
        }
    }
    size_t start = sizeof(struct header); /* of the part, counted as *done is */
    for (int i = 0; i < t->n_parts; start += t->parts[i++].size) {
        while (*done < start + t->parts[i].size) {
            int64_t n = room(c, e);
            if (n < 0) {
                return (int)n;
            }
            size_t left = start + t->parts[i].size - *done;
            size_t piece = (size_t)n < left ? (size_t)n : left;
            if (piece == 0) {
                publish_tail(c);
                return *done != before ? CHANNEL_MOVED : CHANNEL_IDLE;
            }
            piece = piece < PIECE ? piece : PIECE;
            copy_in(c, t->parts[i].data + (*done - start), piece);
            *done += piece;
            if (left > piece) {
                publish_tail(c);
            }
        }
    }
    publish_tail(c);
    c->n_sent++;
    return CHANNEL_DONE;
}

/* Reads the next message's header when all of it is there and due. */
static int recv_begin(struct ring_channel *c, struct error *e)
{
    int64_t n = available(c, e);
    if (n < (int64_t)sizeof(struct header)) {
        return n < 0 ? (int)n : CHANNEL_IDLE;
    }
    uint64_t head = c->head;
    struct header h;
    copy_out(c, &h, sizeof h);
    if (h.mark != MARK || h.size > c->base.max_message) {
        return fail(e, FAIL_LIMIT, "the peer announced %u bytes (mark %08x), the limit is %zu",
                    h.size, h.mark, c->base.max_message);
    }
    if (h.due_ns != 0 && h.due_ns > clock_now_ns()) {
        c->head = head;
        c->wake_ns = h.due_ns;
        return CHANNEL_IDLE;
    }
    c->message = h;
    c->receiving = true;
    c->got = 0;
    c->wake_ns = UINT64_MAX;
    publish_head(c);
    return CHANNEL_MOVED;
}

static int ring_recv_some(struct channel *ch, void *in, size_t capacity, size_t *size,
                          struct error *e)
{
    struct ring_channel *c = self(ch);
    if (!c->receiving) {
        int r = recv_begin(c, e);
        if (r != CHANNEL_MOVED) {
            return r;
        }
    }
    if (c->message.size > capacity) {
        return fail(e, FAIL_LIMIT, "a message of %u bytes for %zu bytes of memory", c->message.size,
                    capacity);
    }
    if (c->stashed) {
        if (c->got > 0) {
            memcpy(in, c->stash, c->got);
        }
        c->stashed = false;
    }
    c->into = in;
    bool moved = false;
    while (c->got < c->message.size) {
        int64_t n = available(c, e);
        if (n <= 0) {
            return n < 0 ? (int)n : moved ? CHANNEL_MOVED : CHANNEL_IDLE;
        }
        size_t left = c->message.size - c->got;
        size_t piece = (size_t)n < left ? (size_t)n : left;
        copy_out(c, c->into + c->got, piece);
        c->got += (uint32_t)piece;
        publish_head(c);
        moved = true;
    }
    c->receiving = false;
    *size = c->message.size;
    return CHANNEL_DONE;
}

static int ring_announced(struct channel *ch, size_t *size, struct error *e)
{
    struct ring_channel *c = self(ch);
    if (!c->receiving) {
        int r = recv_begin(c, e);
        if (r != CHANNEL_MOVED) {
            return r;
        }
    }
    *size = c->message.size;
    return CHANNEL_DONE;
}

static int ring_peek(struct channel *ch, struct error *e)
{
    struct ring_channel *c = self(ch);
    if (c->receiving) {
        return CHANNEL_DONE;
    }
    int r = recv_begin(c, e);
    return r == CHANNEL_MOVED ? CHANNEL_DONE : r;
}

static int ring_suspend(struct channel *ch, struct error *e)
{
    struct ring_channel *c = self(ch);
    if (!c->receiving || c->stashed || c->got == 0) {
        return 0;
    }
    if (c->stash == NULL) {
        c->stash = malloc(c->base.max_message);
    }
    if (c->stash == NULL) {
        return fail(e, FAIL_NOMEM, "memory for half a message");
    }
    memcpy(c->stash, c->into, c->got);
    c->stashed = true;
    return 0;
}

static void ring_sleep_begin(struct channel *ch, bool sending, bool receiving,
                             struct channel_sleep *how)
{
    struct ring_channel *c = self(ch);
    how->fd = c->end.fd;
    how->readable = true;
    if (sending) {
        atomic_store_explicit(&c->end.out->writer_sleeps, 1, memory_order_seq_cst);
        c->head_seen = atomic_load_explicit(&c->end.out->head, memory_order_seq_cst);
    }
    if (receiving) {
        atomic_store_explicit(&c->end.in->reader_sleeps, 1, memory_order_seq_cst);
        how->wake_ns = c->wake_ns;
    }
}

static void ring_sleep_end(struct channel *ch)
{
    struct ring_channel *c = self(ch);
    atomic_store_explicit(&c->end.out->writer_sleeps, 0, memory_order_relaxed);
    atomic_store_explicit(&c->end.in->reader_sleeps, 0, memory_order_relaxed);
    uint8_t bells[64];
    ssize_t n;
    while ((n = recv(c->end.fd, bells, sizeof bells, MSG_DONTWAIT)) > 0) {
    }
    c->end_seen = c->end_seen || n == 0 || (errno != EAGAIN && errno != EINTR);
}

static void ring_shutdown(struct channel *ch)
{
    struct ring_channel *c = self(ch);
    atomic_store_explicit(&c->end.out->closed, 1, memory_order_release);
    atomic_store_explicit(&c->end.in->closed, 1, memory_order_release);
    shutdown(c->end.fd, SHUT_RDWR);
}

static void ring_close(struct channel *ch)
{
    struct ring_channel *c = self(ch);
    close(c->end.fd);
    c->end.release(c->end.arg);
    free(c->stash);
    free(c);
}

#define RING_OPS(ops_name)                                                                         \
    {                                                                                              \
        .name = ops_name, .send_some = ring_send_some, .recv_some = ring_recv_some,                \
        .announced = ring_announced, .peek = ring_peek, .suspend = ring_suspend,                   \
        .sleep_begin = ring_sleep_begin, .sleep_end = ring_sleep_end, .shutdown = ring_shutdown,   \
        .close = ring_close                                                                        \
    }
static const struct channel_ops memory_ops = RING_OPS("memory");
static const struct channel_ops shm_ops = RING_OPS("shm");
#undef RING_OPS

int ring_check(const struct channel_options *o, struct error *e)
{
    if (o->ring_bytes < 4096 || o->ring_bytes > ((size_t)1 << 30) ||
        (o->ring_bytes & (o->ring_bytes - 1)) != 0) {
        return fail(e, FAIL_ARG, "a ring of %zu bytes is no power of two from 4 KiB to 1 GiB",
                    o->ring_bytes);
    }
    if (o->max_message > UINT32_MAX) {
        return fail(e, FAIL_ARG, "messages of %zu bytes, the most are 4 GiB", o->max_message);
    }
    return 0;
}

int ring_open(struct channel **ret, const char *name, const struct ring_end *end,
              const struct memory_options *script, struct error *e)
{
    struct channel_options o = channel_defaults(&script->channel);
    struct ring_channel *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a %s channel", name);
    }
    c->base.ops = strcmp(name, "shm") == 0 ? &shm_ops : &memory_ops;
    c->base.max_message = o.max_message;
    c->base.spin_ns = o.spin_ns;
    atomic_init(&c->base.broken, false);
    c->end = *end;
    c->mask = o.ring_bytes - 1;
    c->wake_ns = UINT64_MAX;
    c->script = *script;
    *ret = &c->base;
    return 0;
}
