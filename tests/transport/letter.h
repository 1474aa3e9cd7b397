/* Sending descriptors as a peer of shared memory does, or as it should not. */
#ifndef SHOAL_TESTS_TRANSPORT_LETTER_H
#define SHOAL_TESTS_TRANSPORT_LETTER_H

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bytes.h"

#define LETTER_DESCRIPTORS 3 /* one more than there should be */

/* One datagram with n descriptors to a connected socket. */
static inline void letter_send(int to, struct bytes letter, const int *fds, size_t n)
{
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(LETTER_DESCRIPTORS * sizeof(int))];
    } control = { .space = { 0 } };
    struct iovec v = { .iov_base = (void *)(uintptr_t)letter.data, .iov_len = letter.size };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    assert(n <= LETTER_DESCRIPTORS);
    if (n > 0) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    }
    ssize_t sent = sendmsg(to, &m, MSG_DONTWAIT);
    assert(sent == (ssize_t)letter.size);
    (void)sent;
}

#endif
