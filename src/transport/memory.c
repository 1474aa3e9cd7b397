/* Two ends of a channel in one process. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/ring.h"
#include "transport/socket.h"

/* Both rings, freed by the end that closes last. */
struct shared {
    atomic_int ends;
    struct ring *rings[2];
};

static void release(void *arg)
{
    struct shared *s = arg;
    if (atomic_fetch_sub_explicit(&s->ends, 1, memory_order_acq_rel) == 1) {
        free(s->rings[0]);
        free(s->rings[1]);
        free(s);
    }
}

static struct ring *make_ring(size_t ring_bytes)
{
    struct ring *r = aligned_alloc(64, ring_size(ring_bytes));
    if (r != NULL) {
        memset(r, 0, sizeof *r);
    }
    return r;
}

int memory_pair(struct channel **a, struct channel **b, const struct memory_options *options,
                struct error *e)
{
    struct memory_options script = options != NULL ? *options : (struct memory_options){ 0 };
    script.channel = channel_defaults(&script.channel);
    int code = ring_check(&script.channel, e);
    if (code != 0) {
        return code;
    }
    int fds[2] = { -1, -1 };
    struct channel *first = NULL, *second = NULL;
    struct shared *s = calloc(1, sizeof *s);
    if (s == NULL || (s->rings[0] = make_ring(script.channel.ring_bytes)) == NULL ||
        (s->rings[1] = make_ring(script.channel.ring_bytes)) == NULL) {
        code = fail(e, FAIL_NOMEM, "memory for a channel");
    } else if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) {
        code = fail(e, FAIL_IO, "doorbell of a memory channel: %s", strerror(errno));
    } else {
        socket_prepare(fds[0]);
        socket_prepare(fds[1]);
        atomic_init(&s->ends, 2);
        struct ring_end end = { .fd = fds[0], .release = release, .arg = s };
        end.out = s->rings[0];
        end.in = s->rings[1];
        code = ring_open(&first, "memory", &end, &script, e);
        end = (struct ring_end){ .fd = fds[1], .release = release, .arg = s };
        end.out = s->rings[1];
        end.in = s->rings[0];
        script.seed = ~script.seed; /* the two directions lose different messages */
        code = code == 0 ? ring_open(&second, "memory", &end, &script, e) : code;
    }
    if (code == 0) {
        *a = first;
        *b = second;
        return 0;
    }
    free(first); /* nothing else is its own before both are there */
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
        if (s != NULL) {
            free(s->rings[i]);
        }
    }
    free(s);
    return code;
}
