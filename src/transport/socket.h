/* Differences of sockets between systems: Linux asks for no SIGPIPE with each send, macOS once. */
#ifndef SHOAL_TRANSPORT_SOCKET_H
#define SHOAL_TRANSPORT_SOCKET_H

#include <fcntl.h>
#include <sys/socket.h>

#if !defined(MSG_NOSIGNAL)
#define MSG_NOSIGNAL 0
#endif

#if defined(SO_NOSIGPIPE)
static inline void socket_quiet(int fd)
{
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
}
#else
static inline void socket_quiet(int fd)
{
    (void)fd;
}
#endif

/* Sends raise no signal; programs started later don't inherit the descriptor. */
static inline void socket_prepare(int fd)
{
    socket_quiet(fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

#endif
