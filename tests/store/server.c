/* The misbehaving web server: see server.h. */
#include "tests/store/server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 10000
#define SLICE_MS 20
#define HEAD_MAX 8192

/* False when the server is to stop, the peer has gone, or it takes too long. */
static bool readable(struct server *s, int fd)
{
    for (int waited = 0; waited < WAIT_MS && !atomic_load(&s->stop); waited += SLICE_MS) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, SLICE_MS) > 0) {
            return true;
        }
    }
    return false;
}

static void header(const char *head, const char *name, char ret[static SERVER_TEXT])
{
    size_t n = strlen(name);
    ret[0] = '\0';
    for (const char *p = strstr(head, "\r\n"); p != NULL; p = strstr(p + 2, "\r\n")) {
        if (strncasecmp(p + 2, name, n) == 0 && p[2 + n] == ':') {
            const char *value = p + 3 + n + strspn(p + 3 + n, " ");
            snprintf(ret, SERVER_TEXT, "%.*s", (int)strcspn(value, "\r"), value);
        }
    }
}

static bool read_request(struct server *s, int fd, struct asked *q)
{
    char head[HEAD_MAX + 1];
    size_t n = 0;
    head[0] = '\0';
    while (strstr(head, "\r\n\r\n") == NULL) {
        ssize_t k = n < HEAD_MAX && readable(s, fd) ? recv(fd, head + n, HEAD_MAX - n, 0) : 0;
        if (k <= 0) {
            return false;
        }
        n += (size_t)k;
        head[n] = '\0';
    }
    *q = (struct asked){ .index = atomic_fetch_add(&s->requests, 1) };
    char range[SERVER_TEXT];
    const char *path = strchr(head, ' ');
    snprintf(q->path, sizeof q->path, "%.*s", (int)strcspn(path + 1, " \r"), path + 1);
    header(head, "Range", range);
    header(head, "If-Range", q->if_range);
    header(head, "Authorization", q->authorization);
    q->ranged = sscanf(range, "bytes=%llu-", (unsigned long long *)&q->offset) == 1;
    return true;
}

static void honest(struct server *s, const struct asked *q, struct answer *a)
{
    *a = (struct answer){ .status = 200, .content = s->content };
    snprintf(a->etag, sizeof a->etag, "%s", s->etag);
    if (q->ranged && q->offset >= s->content.size) {
        a->status = 416;
        snprintf(a->range, sizeof a->range, "bytes */%zu", s->content.size);
    } else if (q->ranged && (q->if_range[0] == '\0' || strcmp(q->if_range, a->etag) == 0)) {
        a->status = 206;
        a->from = q->offset;
        a->send = s->content.size - q->offset;
        snprintf(a->range, sizeof a->range, "bytes %llu-%zu/%zu", (unsigned long long)q->offset,
                 s->content.size - 1, s->content.size);
    } else {
        a->send = s->content.size;
    }
    a->length = (int64_t)a->send;
}

static bool send_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        struct pollfd poll_for = { .fd = fd, .events = POLLOUT };
        ssize_t n = poll(&poll_for, 1, WAIT_MS) > 0 ? send(fd, p, size, MSG_NOSIGNAL) : -1;
        if (n <= 0) {
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static void send_answer(struct server *s, int fd, const struct answer *a)
{
    struct buffer head;
    buffer_init(&head, HEAD_MAX);
    buffer_printf(&head, "HTTP/1.1 %d Answer\r\nConnection: close\r\n", a->status);
    if (a->length >= 0) {
        buffer_printf(&head, "Content-Length: %lld\r\n", (long long)a->length);
    }
    if (a->range[0]) {
        buffer_printf(&head, "Content-Range: %s\r\n", a->range);
    }
    if (a->etag[0]) {
        buffer_printf(&head, "ETag: %s\r\n", a->etag);
    }
    if (a->location[0]) {
        buffer_printf(&head, "Location: %s\r\n", a->location);
    }
    buffer_printf(&head, "%s\r\n", a->more);
    assert(!head.failed);
    uint64_t send_now = a->from + a->send > a->content.size ? a->content.size - a->from : a->send;
    if (send_all(fd, head.data, head.size) &&
        send_all(fd, a->content.data + a->from, (size_t)send_now)) {
        atomic_fetch_add(&s->sent, send_now);
        char byte;
        if (a->ending == ENDING_STALL && readable(s, fd)) {
            (void)!recv(fd, &byte, 1, 0);
        } else if (a->ending == ENDING_RESET) {
            struct linger hard = { .l_onoff = 1 };
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        } else {
            shutdown(fd, SHUT_WR); /* bytes that the client still sends must not become a reset */
            while (readable(s, fd) && recv(fd, &byte, 1, 0) > 0) {
            }
        }
    }
    buffer_done(&head);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    while (!atomic_load(&s->stop)) {
        struct pollfd p = { .fd = s->fd, .events = POLLIN };
        int fd = poll(&p, 1, SLICE_MS) > 0 ? accept(s->fd, NULL, NULL) : -1;
        struct asked q;
        if (fd >= 0 && read_request(s, fd, &q)) {
            struct answer a;
            honest(s, &q, &a);
            if (s->decide != NULL) {
                s->decide(s->arg, &q, &a);
            }
            s->last = q;
            send_answer(s, fd, &a);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return NULL;
}

void server_start(struct server *s, struct bytes content, decide_fn *decide, void *arg)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    *s = (struct server){ .content = content, .decide = decide, .arg = arg, .etag = "\"one\"" };
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(s->fd, 16) != 0 ||
        getsockname(s->fd, (struct sockaddr *)&a, &n) != 0 ||
        thread_start(&s->thread, serve, s, NULL) != 0) {
        perror("the test's server");
        abort();
    }
    s->port = ntohs(a.sin_port);
}

void server_stop(struct server *s)
{
    atomic_store(&s->stop, true);
    thread_join(&s->thread);
    close(s->fd);
}

void server_url(const struct server *s, const char *path, char ret[static SERVER_TEXT])
{
    snprintf(ret, SERVER_TEXT, "http://127.0.0.1:%d%s", s->port, path);
}
