/* Telling connections apart: see listener.h. */
#include "secure/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "secure/ticket.h"

int listener_peek(enum listener_kind *ret, int fd, struct error *e)
{
    uint8_t first[PREAMBLE_BYTES];
    ssize_t n = recv(fd, first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        *ret = LISTENER_UNKNOWN;
        return 0;
    }
    if (n <= 0) {
        return n == 0 || errno == ECONNRESET ? fail(e, FAIL_CLOSED, "the peer went away")
                                             : fail(e, FAIL_IO, "peek: %s", strerror(errno));
    }
    *ret = first[0] != PREAMBLE_FIRST_BYTE ? LISTENER_TLS
           : n == PREAMBLE_BYTES           ? LISTENER_DATA
                                           : LISTENER_UNKNOWN;
    return 0;
}
