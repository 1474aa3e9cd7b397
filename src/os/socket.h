/* What event loops need of sockets beside libevent's own functions. */
#ifndef SHOAL_OS_SOCKET_H
#define SHOAL_OS_SOCKET_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Small messages leave at once instead of waiting for the last one's acknowledgement. Fails only
 * on sockets that have no such delay. */
static inline void socket_no_delay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Sends what no reader sees, to find out by socket_is_reset, a moment later, whether there is one:
 * a byte of urgent data, which stands outside of the stream (RFC 6093). At most once for a
 * connection: of two that weren't taken the first would be read as data. False where it can't be
 * sent: not TCP, or gone already. */
static inline bool socket_probe(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
           (address.ss_family == AF_INET || address.ss_family == AF_INET6) &&
           send(fd, "", 1, MSG_OOB) == 1;
}

/* Whether the other end refused what was sent to it (it is gone, not just silent). */
static inline bool socket_is_reset(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0;
}

/* Whether bytes have come that nobody has read yet. */
static inline bool socket_has_input(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* No more bytes will be sent; those under way still arrive. */
static inline void socket_end_writing(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

#endif
