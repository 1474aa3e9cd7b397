/* Channels over stream sockets: a 4-byte little-endian length and the message.
 *
 * The socket's buffers keep the system's own sizing: on Linux a size set by hand is capped far
 * below what it grows to by itself. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "transport/internal.h"
#include "transport/socket.h"

#define HEADER 4u
#define READ_AHEAD ((size_t)64 << 10) /* room for the next messages' beginnings */

struct tcp_channel {
    struct channel base;
    int fd;
    uint8_t *buffer; /* received bytes; grows with the largest message */
    size_t capacity;
    size_t begin, end; /* of the bytes not yet handed out */
};

static struct tcp_channel *self(struct channel *ch)
{
    return (struct tcp_channel *)(void *)ch;
}

static int socket_error(const char *what, struct error *e)
{
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) {
        return fail(e, FAIL_CLOSED, "the peer closed the connection");
    }
    return fail(e, FAIL_IO, "%s: %s", what, strerror(errno));
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int tcp_send_some(struct channel *ch, const struct transfer *t, size_t *done,
                         struct error *e)
{
    uint8_t header[HEADER];
    for (unsigned i = 0; i < HEADER; i++) {
        header[i] = (uint8_t)(t->total >> 8 * i);
    }
    struct iovec v[CHANNEL_MAX_PARTS + 1];
    int n = 0;
    size_t skip = *done;
    for (int i = -1; i < t->n_parts; i++) {
        struct bytes part = i < 0 ? bytes_of(header, HEADER) : t->parts[i];
        if (skip >= part.size) {
            skip -= part.size;
            continue;
        }
        v[n].iov_base = (void *)(uintptr_t)(part.data + skip); /* sendmsg only reads it */
        v[n++].iov_len = part.size - skip;
        skip = 0;
    }
    struct msghdr m = { .msg_iov = v, .msg_iovlen = (size_t)n };
    ssize_t sent = sendmsg(self(ch)->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        return would_block() ? CHANNEL_IDLE : socket_error("send", e);
    }
    *done += (size_t)sent;
    return *done == t->total + HEADER ? CHANNEL_DONE : CHANNEL_MOVED;
}

/* The length of the frame at begin, once its header is there. */
static bool frame_size(const struct tcp_channel *c, size_t *size)
{
    if (c->end - c->begin < HEADER) {
        return false;
    }
    const uint8_t *h = c->buffer + c->begin;
    *size = (size_t)h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
    return true;
}

static int fill(struct tcp_channel *c, struct error *e)
{
    size_t size = 0;
    if (c->begin == c->end) {
        c->begin = c->end = 0;
    }
    if (frame_size(c, &size) && size > c->base.max_message) {
        return fail(e, FAIL_LIMIT, "the peer announced a message of %zu bytes, the limit is %zu",
                    size, c->base.max_message);
    }
    if (channel_grow(&c->buffer, &c->capacity, HEADER + size + READ_AHEAD, e) != 0) {
        return FAIL_NOMEM;
    }
    if (c->begin + HEADER + size > c->capacity || c->end == c->capacity) {
        memmove(c->buffer, c->buffer + c->begin, c->end - c->begin);
        c->end -= c->begin;
        c->begin = 0;
    }
    ssize_t n = recv(c->fd, c->buffer + c->end, c->capacity - c->end, MSG_DONTWAIT);
    if (n < 0) {
        return would_block() ? CHANNEL_IDLE : socket_error("receive", e);
    }
    if (n == 0) {
        return c->begin == c->end ? fail(e, FAIL_CLOSED, "the peer closed the connection")
                                  : fail(e, FAIL_CLOSED, "the peer closed in mid-message");
    }
    c->end += (size_t)n;
    return CHANNEL_MOVED;
}

static int tcp_recv_some(struct channel *ch, void *in, size_t capacity, size_t *size,
                         struct error *e)
{
    struct tcp_channel *c = self(ch);
    size_t n = 0;
    int moved = CHANNEL_IDLE;
    if (!frame_size(c, &n) || c->end - c->begin - HEADER < n) {
        moved = fill(c, e);
        if (moved != CHANNEL_MOVED || !frame_size(c, &n)) {
            return moved;
        }
    }
    if (n > capacity) {
        return fail(e, FAIL_LIMIT, "a message of %zu bytes for %zu bytes of memory", n, capacity);
    }
    if (c->end - c->begin - HEADER < n) {
        return moved;
    }
    if (n > 0) { /* an empty message may have no memory to go to */
        memcpy(in, c->buffer + c->begin + HEADER, n);
    }
    c->begin += HEADER + n;
    *size = n;
    return CHANNEL_DONE;
}

static int tcp_announced(struct channel *ch, size_t *size, struct error *e)
{
    struct tcp_channel *c = self(ch);
    if (!frame_size(c, size)) {
        int moved = fill(c, e);
        if (moved != CHANNEL_MOVED || !frame_size(c, size)) {
            return moved;
        }
    }
    return *size <= c->base.max_message
               ? CHANNEL_DONE
               : fail(e, FAIL_LIMIT, "the peer announced a message of %zu bytes, the limit is %zu",
                      *size, c->base.max_message);
}

static int tcp_peek(struct channel *ch, struct error *e)
{
    struct tcp_channel *c = self(ch);
    if (c->begin != c->end) {
        return CHANNEL_DONE;
    }
    int r = fill(c, e);
    return r == CHANNEL_MOVED ? CHANNEL_DONE : r;
}

static int tcp_suspend(struct channel *ch, struct error *e)
{
    (void)ch;
    (void)e;
    return 0; /* what has come stays in the buffer */
}

static void tcp_sleep_begin(struct channel *ch, bool sending, bool receiving,
                            struct channel_sleep *how)
{
    how->fd = self(ch)->fd;
    how->readable = receiving;
    how->writable = sending;
}

static void tcp_sleep_end(struct channel *ch)
{
    (void)ch;
}

static void tcp_shutdown(struct channel *ch)
{
    shutdown(self(ch)->fd, SHUT_RDWR);
}

static void tcp_channel_close(struct channel *ch)
{
    struct tcp_channel *c = self(ch);
    close(c->fd);
    free(c->buffer);
    free(c);
}

static const struct channel_ops tcp_ops = {
    .name = "tcp",
    .send_some = tcp_send_some,
    .recv_some = tcp_recv_some,
    .announced = tcp_announced,
    .peek = tcp_peek,
    .suspend = tcp_suspend,
    .sleep_begin = tcp_sleep_begin,
    .sleep_end = tcp_sleep_end,
    .shutdown = tcp_shutdown,
    .close = tcp_channel_close,
};

int tcp_from_fd(struct channel **ret, int fd, const struct channel_options *options,
                struct error *e)
{
    struct channel_options o = channel_defaults(options);
    struct tcp_channel *c = calloc(1, sizeof *c);
    int flags = fcntl(fd, F_GETFL), on = 1, code = 0;
    if (o.max_message > UINT32_MAX) {
        code = fail(e, FAIL_ARG, "messages of %zu bytes, the most are 4 GiB", o.max_message);
    } else if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        code = fail(e, FAIL_IO, "channel socket: %s", strerror(errno));
    } else if (c == NULL) {
        code = fail(e, FAIL_NOMEM, "memory for a channel");
    } else {
        code = channel_grow(&c->buffer, &c->capacity, HEADER + READ_AHEAD, e);
    }
    if (code != 0) {
        tcp_close(fd);
        free(c);
        return code;
    }
    socket_prepare(fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a UNIX socket has no such option */
    c->base.ops = &tcp_ops;
    c->base.max_message = o.max_message;
    c->base.spin_ns = o.spin_ns;
    atomic_init(&c->base.broken, false);
    c->fd = fd;
    *ret = &c->base;
    return 0;
}
