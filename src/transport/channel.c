/* Waiting on channels: see transport.h. All of them sleep in one poll(2), each with a descriptor
 * that becomes readable when something changes: a socket, or the doorbell of a shared ring. A futex
 * would wake a microsecond earlier, but nobody can wait for several, nor for a futex and a socket.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/park.h"
#include "transport/internal.h"

#define POLL_MAX_MS 1000 /* a lost wake-up would cost this much, not a hang */

int channel_grow(uint8_t **memory, size_t *capacity, size_t need, struct error *e)
{
    if (need <= *capacity) {
        return 0;
    }
    uint8_t *more = realloc(*memory, need);
    if (more == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a message of %zu bytes", need);
    }
    *memory = more;
    *capacity = need;
    return 0;
}

struct channel_options channel_defaults(const struct channel_options *options)
{
    struct channel_options o = options != NULL ? *options : (struct channel_options){ 0 };
    o.max_message = o.max_message == 0 ? CHANNEL_MAX_MESSAGE : o.max_message;
    o.ring_bytes = o.ring_bytes == 0 ? CHANNEL_RING_BYTES : o.ring_bytes;
    o.spin_ns = o.spin_ns == 0 ? CHANNEL_SPIN_NS : o.spin_ns;
    return o;
}

static int broken(struct transfer *t, int n, int i, struct error *e)
{
    return n == 1 ? fail(e, FAIL_CLOSED, "%s channel is closed or broken", channel_name(t->channel))
                  : fail(e, FAIL_CLOSED, "%s channel of peer %d is closed or broken",
                         channel_name(t->channel), i);
}

static int prepare(struct transfer *t, int n, struct error *e)
{
    if (n < 0 || n > CHANNEL_MAX_TRANSFERS) {
        return fail(e, FAIL_ARG, "%d channels at once, the most are %d", n, CHANNEL_MAX_TRANSFERS);
    }
    for (int i = 0; i < n; i++) {
        t[i].total = t[i].done = t[i].size = 0;
        t[i].sending = t[i].n_parts > 0;
        t[i].receiving = t[i].in != NULL;
        if (t[i].n_parts < 0 || t[i].n_parts > CHANNEL_MAX_PARTS) {
            return fail(e, FAIL_ARG, "a message of %d parts, the most are %d", t[i].n_parts,
                        CHANNEL_MAX_PARTS);
        }
        for (int k = 0; k < t[i].n_parts; k++) {
            size_t size = t[i].parts[k].size;
            if (size > t[i].channel->max_message - t[i].total) {
                return fail(e, FAIL_LIMIT,
                            "a message longer than the channel's maximum of %zu bytes",
                            t[i].channel->max_message);
            }
            t[i].total += size;
        }
    }
    return 0;
}

/* After an error other than a timeout, or in the middle of a sent message. */
static int give_up(struct transfer *t, int n, int i, int code, struct error *e)
{
    channel_shutdown(t[i].channel);
    if (n > 1) {
        wrap(e, "peer %d", i);
    }
    return code;
}

/* One round over all transfers. *moved: something went on. Returns how many are unfinished. */
static int step_all(struct transfer *t, int n, bool *moved, struct error *e)
{
    int pending = 0;
    *moved = false;
    for (int i = 0; i < n; i++) {
        struct channel *ch = t[i].channel;
        if (!t[i].sending && !t[i].receiving) {
            continue;
        }
        if (atomic_load_explicit(&ch->broken, memory_order_relaxed)) {
            return broken(&t[i], n, i, e);
        }
        if (t[i].sending) {
            int r = ch->ops->send_some(ch, &t[i], &t[i].done, e);
            if (r < 0) {
                return give_up(t, n, i, r, e);
            }
            t[i].sending = r != CHANNEL_DONE;
            *moved = *moved || r != CHANNEL_IDLE;
        }
        if (t[i].receiving) {
            int r = ch->ops->recv_some(ch, t[i].in, t[i].capacity, &t[i].size, e);
            if (r < 0) {
                return give_up(t, n, i, r, e);
            }
            t[i].receiving = r != CHANNEL_DONE;
            *moved = *moved || r != CHANNEL_IDLE;
        }
        pending += t[i].sending || t[i].receiving;
    }
    return pending;
}

static int timed_out(struct transfer *t, int n, struct error *e)
{
    int first = -1;
    bool sent = false;
    for (int i = 0; i < n; i++) {
        if (!t[i].sending && !t[i].receiving) {
            continue;
        }
        if (first < 0) {
            first = i;
            sent = t[i].sending;
        }
        if (t[i].sending && t[i].done > 0) {
            channel_shutdown(t[i].channel);
        }
        int code = t[i].receiving ? t[i].channel->ops->suspend(t[i].channel, e) : 0;
        if (code != 0) {
            return give_up(t, n, i, code, e);
        }
    }
    const char *what = sent ? "could not be sent" : "did not come";
    return n == 1 ? fail(e, FAIL_TIMEOUT, "a message %s before the deadline", what)
                  : fail(e, FAIL_TIMEOUT, "peer %d: a message %s before the deadline", first, what);
}

static int poll_timeout_ms(uint64_t until_ns)
{
    uint64_t now = clock_now_ns();
    uint64_t ms = until_ns > now ? (until_ns - now + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS : 0;
    return ms < POLL_MAX_MS ? (int)ms : POLL_MAX_MS;
}

/* Sleeps until a channel has news or the deadline passes. The announcement comes before the last
 * look, so that a peer either is seen by it or sees us asleep. Returns as step_all. */
static int sleep_all(struct transfer *t, int n, uint64_t deadline_ns, struct error *e)
{
    struct pollfd fds[CHANNEL_MAX_TRANSFERS];
    int owner[CHANNEL_MAX_TRANSFERS];
    int count = 0;
    uint64_t until = deadline_ns;
    for (int i = 0; i < n; i++) {
        if (t[i].sending || t[i].receiving) {
            struct channel_sleep how = { .wake_ns = UINT64_MAX };
            t[i].channel->ops->sleep_begin(t[i].channel, t[i].sending, t[i].receiving, &how);
            fds[count] = (struct pollfd){ .fd = how.fd };
            fds[count].events = (short)((how.readable ? POLLIN : 0) | (how.writable ? POLLOUT : 0));
            until = how.wake_ns < until ? how.wake_ns : until;
            owner[count++] = i;
        }
    }
    bool moved = false;
    int pending = step_all(t, n, &moved, e);
    if (pending > 0 && !moved) {
        if (poll(fds, (nfds_t)count, poll_timeout_ms(until)) < 0 && errno != EINTR) {
            pending = fail(e, FAIL_IO, "poll: %s", strerror(errno));
        }
    }
    for (int k = 0; k < count; k++) {
        t[owner[k]].channel->ops->sleep_end(t[owner[k]].channel);
    }
    return pending;
}

/* One exchange under way. */
struct exchange {
    struct transfer *t;
    int n;
    uint64_t deadline_ns;
    uint64_t idle_ns; /* since when nothing moves; 0: something did */
    bool awaited;     /* nothing has come yet of what is to be received */
};

/* Something moved; received: of the first peer's message. */
static void moved_on(struct exchange *x, bool received)
{
    if (x->awaited && received) {
        rhythm_came(&x->t[0].channel->rhythm, x->idle_ns > 0 ? clock_now_ns() - x->idle_ns : 0);
        x->awaited = false;
    }
    x->idle_ns = 0;
}

/* Spins a turn or sleeps; returns as step_all. */
static int wait_all(struct exchange *x, struct error *e)
{
    struct channel *first = x->t[0].channel;
    uint64_t now = clock_now_ns();
    x->idle_ns = x->idle_ns == 0 ? now : x->idle_ns;
    uint64_t waited = now - x->idle_ns;
    if (now >= x->deadline_ns) {
        if (x->awaited) {
            rhythm_paused(&first->rhythm, waited);
        }
        return timed_out(x->t, x->n, e);
    }
    struct rhythm none = { 0 };
    uint64_t sleep = rhythm_sleep(x->awaited ? &first->rhythm : &none, waited, first->spin_ns);
    if (sleep == 0) {
        spin_turn(waited);
        return 1;
    }
    uint64_t until = sleep < x->deadline_ns - now ? now + sleep : x->deadline_ns;
    int pending = sleep_all(x->t, x->n, until, e);
    if (pending == 0) {
        moved_on(x, true);
    }
    return pending;
}

int channel_exchange(struct transfer *t, int n, uint64_t deadline_ns, struct error *e)
{
    struct exchange x = {
        .t = t, .n = n, .deadline_ns = deadline_ns, .awaited = n > 0 && t[0].in != NULL
    };
    int pending = prepare(t, n, e);
    if (pending != 0) {
        return pending;
    }
    do {
        bool moved = false, sending = n > 0 && t[0].sending;
        pending = step_all(t, n, &moved, e);
        if (pending == 0 || moved) {
            moved_on(&x, pending == 0 || !sending);
        } else if (pending > 0) {
            pending = wait_all(&x, e);
        }
    } while (pending > 0);
    return pending;
}

int channel_send(struct channel *ch, const struct bytes *parts, int n, uint64_t deadline_ns,
                 struct error *e)
{
    static const struct bytes empty;
    struct transfer t = { .channel = ch,
                          .parts = n > 0 ? parts : &empty,
                          .n_parts = n > 0 ? n : 1 };
    return channel_exchange(&t, 1, deadline_ns, e);
}

int channel_recv(struct channel *ch, void *buf, size_t capacity, size_t *size, uint64_t deadline_ns,
                 struct error *e)
{
    struct transfer t = { .channel = ch, .in = buf, .capacity = capacity };
    if (buf == NULL) {
        return fail(e, FAIL_ARG, "receiving into no memory");
    }
    int code = channel_exchange(&t, 1, deadline_ns, e);
    if (code == 0) {
        *size = t.size;
    }
    return code;
}

int channel_poll(struct channel *ch, struct error *e)
{
    struct transfer t = { .channel = ch };
    if (atomic_load_explicit(&ch->broken, memory_order_relaxed)) {
        return broken(&t, 1, 0, e);
    }
    int r = ch->ops->peek(ch, e);
    return r < 0 ? give_up(&t, 1, 0, r, e) : r == CHANNEL_DONE;
}

void channel_shutdown(struct channel *ch)
{
    atomic_store_explicit(&ch->broken, true, memory_order_relaxed);
    ch->ops->shutdown(ch);
}

void channel_close(struct channel *ch)
{
    if (ch != NULL) {
        ch->ops->shutdown(ch);
        ch->ops->close(ch);
    }
}

void channel_computes(struct channel *ch)
{
    ch->rhythm.computes = true;
}

const char *channel_name(const struct channel *ch)
{
    return ch->ops->name;
}

size_t channel_max_message(const struct channel *ch)
{
    return ch->max_message;
}
