/* Sockets before they are channels: connecting, listening, preambles. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/clock.h"
#include "transport/socket.h"
#include "transport/transport.h"

#define ADDRESS_BYTES 300 /* a host name of 255 bytes, brackets, a port */
#define BACKLOG 64

void tcp_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void set_options(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    socket_prepare(fd);
}

/* Waits for events; 0, FAIL_TIMEOUT or FAIL_IO. */
static int wait_for(int fd, short events, uint64_t deadline_ns, struct error *e)
{
    for (;;) {
        uint64_t now = clock_now_ns();
        if (now >= deadline_ns) {
            return fail(e, FAIL_TIMEOUT, "no answer before the deadline");
        }
        uint64_t ms = (deadline_ns - now + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
        struct pollfd p = { .fd = fd, .events = events };
        int n = poll(&p, 1, ms > 60000 ? 60000 : (int)ms);
        if (n > 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return fail(e, FAIL_IO, "poll: %s", strerror(errno));
        }
    }
}

/* "host:port" and "[v6]:port" into their halves, which point into text. */
static int split_address(char text[static ADDRESS_BYTES], const char *address, char **host,
                         char **port, struct error *e)
{
    int n = snprintf(text, ADDRESS_BYTES, "%s", address);
    char *colon = n > 0 && n < ADDRESS_BYTES ? strrchr(text, ':') : NULL;
    if (colon == NULL || colon == text || colon[1] == '\0') {
        return fail(e, FAIL_ARG, "address \"%.100s\" is not HOST:PORT", address);
    }
    *colon = '\0';
    *host = text;
    *port = colon + 1;
    if (text[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        *host = text + 1;
    }
    return 0;
}

static int connect_one(int *ret, const struct addrinfo *a, uint64_t deadline_ns, struct error *e)
{
    int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd < 0) {
        return fail(e, FAIL_IO, "socket: %s", strerror(errno));
    }
    set_options(fd);
    int code = 0;
    if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
        int failure = errno;
        if (failure == EINPROGRESS) {
            code = wait_for(fd, POLLOUT, deadline_ns, e);
            socklen_t size = sizeof failure;
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size);
        }
        if (code == 0 && failure != 0) {
            code =
                fail(e, failure == ECONNREFUSED ? FAIL_CLOSED : FAIL_IO, "%s", strerror(failure));
        }
    }
    if (code != 0) {
        close(fd);
        return code;
    }
    *ret = fd;
    return 0;
}

int tcp_connect(int *fd, const char *address, uint64_t deadline_ns, struct error *e)
{
    char text[ADDRESS_BYTES], *host = NULL, *port = NULL;
    int code = split_address(text, address, &host, &port, e);
    if (code != 0) {
        return code;
    }
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list;
    int status = getaddrinfo(host, port, &hints, &list);
    if (status != 0) {
        return fail(e, FAIL_NOT_FOUND, "%s: %s", address, gai_strerror(status));
    }
    code = FAIL_NOT_FOUND;
    for (const struct addrinfo *a = list; a != NULL && code != 0; a = a->ai_next) {
        code = connect_one(fd, a, deadline_ns, e);
    }
    freeaddrinfo(list);
    if (code != 0) {
        wrap(e, "connecting to %s", address);
    }
    return code;
}

static int listen_on(int *ret, const struct addrinfo *a, struct error *e)
{
    int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd < 0) {
        return fail(e, FAIL_IO, "socket: %s", strerror(errno));
    }
    int on = 1, off = 0;
    set_options(fd);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int failure = errno;
        close(fd);
        return fail(e, failure == EADDRINUSE ? FAIL_BUSY : FAIL_IO, "%s", strerror(failure));
    }
    *ret = fd;
    return 0;
}

int tcp_listen(int *fd, const char *host, int port, struct error *e)
{
    if (port < 0 || port > 65535) {
        return fail(e, FAIL_ARG, "port %d is not 0 to 65535", port);
    }
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *list = NULL;
    int code = FAIL_IO;
    /* The IPv6 wildcard takes both families; without IPv6 in the system the other one is left. */
    static const int families[] = { AF_INET6, AF_INET };
    for (int i = 0; i < 2 && code != 0 && code != FAIL_BUSY; i++) {
        hints.ai_family = host != NULL ? AF_UNSPEC : families[i];
        int status = getaddrinfo(host, service, &hints, &list);
        if (status != 0) {
            code = fail(e, FAIL_ARG, "%s", gai_strerror(status));
            continue;
        }
        for (const struct addrinfo *a = list; a != NULL && code != 0; a = a->ai_next) {
            code = listen_on(fd, a, e);
        }
        freeaddrinfo(list);
    }
    if (code != 0) {
        wrap(e, "listening on %s port %d", host != NULL ? host : "all interfaces", port);
    }
    return code;
}

int tcp_local_port(int fd, struct error *e)
{
    struct sockaddr_storage s;
    socklen_t size = sizeof s;
    char port[16];
    if (getsockname(fd, (struct sockaddr *)&s, &size) != 0 ||
        getnameinfo((struct sockaddr *)&s, size, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0) {
        return fail(e, FAIL_IO, "address of a socket: %s", strerror(errno));
    }
    int n = 0;
    for (const char *p = port; *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (*p - '0');
    }
    return n;
}

int tcp_accept(int *ret, int listener, uint64_t deadline_ns, struct error *e)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            set_options(fd);
            *ret = fd;
            return 0;
        }
        /* ECONNABORTED: the caller went away while it waited. */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            return fail(e, FAIL_IO, "accept: %s", strerror(errno));
        }
        int code = wait_for(listener, POLLIN, deadline_ns, e);
        if (code != 0) {
            return code;
        }
    }
}

int tcp_write_all(int fd, struct bytes data, uint64_t deadline_ns, struct error *e)
{
    while (data.size > 0) {
        ssize_t n = send(fd, data.data, data.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            data = bytes_of(data.data + n, data.size - (size_t)n);
        } else if (errno == EAGAIN || errno == EINTR) {
            int code = wait_for(fd, POLLOUT, deadline_ns, e);
            if (code != 0) {
                return code;
            }
        } else {
            return fail(e, errno == EPIPE || errno == ECONNRESET ? FAIL_CLOSED : FAIL_IO,
                        "send: %s", strerror(errno));
        }
    }
    return 0;
}

int tcp_read_all(int fd, void *buf, size_t size, uint64_t deadline_ns, struct error *e)
{
    uint8_t *at = buf;
    while (size > 0) {
        ssize_t n = recv(fd, at, size, MSG_DONTWAIT);
        if (n > 0) {
            at += n;
            size -= (size_t)n;
        } else if (n == 0) {
            return fail(e, FAIL_CLOSED, "the peer closed the connection");
        } else if (errno == EAGAIN || errno == EINTR) {
            int code = wait_for(fd, POLLIN, deadline_ns, e);
            if (code != 0) {
                return code;
            }
        } else {
            return fail(e, errno == ECONNRESET ? FAIL_CLOSED : FAIL_IO, "receive: %s",
                        strerror(errno));
        }
    }
    return 0;
}
