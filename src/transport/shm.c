/* Rings in memory shared by two processes.
 *
 * The offerer makes the memory (an anonymous file sealed against shrinking, so that neither side
 * can make the other's accesses fault) and a pair of sockets, and sends the peer the file, one
 * socket and a ticket's preamble in one datagram: so there is no half-open state and nobody waits.
 * The sockets then serve as doorbell and tell of death.
 *
 * Names of sockets can be seen by every user of the host. So the token also carries a secret, with
 * which datagrams begin; the kernel drops others at their sender (a socket filter): strangers can
 * neither fill the queue nor leave descriptors here. And the name may be taken by another process
 * once its owner is gone: therefore the peer answers with what only the ticket's issuer knows. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/hex.h"
#include "transport/ring.h"

#define HALF 16
#define PREFIX "shm1:"
#define WORDS (HALF / 4) /* a socket filter compares words */

_Static_assert(sizeof PREFIX - 1 + 4 * HALF + 1 <= SHM_TOKEN, "token");

struct shm_offer {
    int fd, memory;
    struct channel_options options;
};

/* The datagram. Both ends are on one host: native byte order. */
struct letter {
    uint8_t secret[HALF];
    uint64_t ring_bytes, max_message;
    uint8_t preamble[PREAMBLE_BYTES];
};

_Static_assert(sizeof(struct letter) == HALF + 16 + PREAMBLE_BYTES, "fixed layout");

/* Room for exactly the descriptors of a letter: what is more stays outside. */
union rights {
    struct cmsghdr header;
    uint8_t space[CMSG_SPACE(2 * sizeof(int))];
};

struct mapping {
    void *at;
    size_t size;
};

static void release(void *arg)
{
    struct mapping *m = arg;
    munmap(m->at, m->size);
    free(m);
}

static size_t mapping_size(size_t ring_bytes)
{
    return 2 * ring_size(ring_bytes);
}

static socklen_t socket_name(struct sockaddr_un *a, const uint8_t *name)
{
    char hex[2 * HALF + 1];
    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    hex_format(hex, name, HALF);
    memcpy(a->sun_path + 1, "shoal-", 6); /* begins with NUL: no file */
    memcpy(a->sun_path + 7, hex, 2 * HALF);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 7 + 2 * HALF);
}

static int make_memory(int *ret, size_t size, struct error *e)
{
    int fd = memfd_create("shoal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int code = fail(e, FAIL_IO, "shared memory: %s", strerror(errno));
        tcp_close(fd);
        return code;
    }
    *ret = fd;
    return 0;
}

/* Takes fd on success. */
static int open_end(struct channel **ret, int memory, int fd, const struct channel_options *o,
                    bool offerer, struct error *e)
{
    struct mapping *m = malloc(sizeof *m);
    if (m == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a shm channel");
    }
    m->size = mapping_size(o->ring_bytes);
    m->at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (m->at == MAP_FAILED) {
        free(m);
        return fail(e, FAIL_NOMEM, "mapping shared memory: %s", strerror(errno));
    }
    struct ring *first = m->at;
    struct ring *second = (struct ring *)(void *)((uint8_t *)m->at + ring_size(o->ring_bytes));
    struct ring_end end = { .out = offerer ? first : second,
                            .in = offerer ? second : first,
                            .fd = fd,
                            .release = release,
                            .arg = m };
    int code = ring_open(ret, "shm", &end, &(struct memory_options){ .channel = *o }, e);
    if (code != 0) {
        release(m);
    }
    return code;
}

/* --- taking --- */

/* Lets through what begins with the secret. */
static bool attach_filter(int fd, const uint8_t *secret)
{
    struct sock_filter f[2 * WORDS + 2];
    for (unsigned i = 0; i < WORDS; i++) {
        const uint8_t *b = secret + 4 * i;
        uint32_t word =
            (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
        f[2 * i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4 * i);
        f[2 * i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, word, 0,
                                                    (uint8_t)(2 * (WORDS - i) - 1));
    }
    f[2 * WORDS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
    f[2 * WORDS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = { .len = 2 * WORDS + 2, .filter = f };
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

int shm_listen(int *ret, char token[static SHM_TOKEN], struct error *e)
{
    uint8_t halves[2 * HALF]; /* name, secret */
    struct sockaddr_un a;
    if (RAND_bytes(halves, sizeof halves) != 1) {
        return fail(e, FAIL_IO, "no random bytes");
    }
    socklen_t size = socket_name(&a, halves);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !attach_filter(fd, halves + HALF) || bind(fd, (struct sockaddr *)&a, size) != 0) {
        int code = fail(e, FAIL_IO, "socket of shared memory: %s", strerror(errno));
        tcp_close(fd);
        return code;
    }
    memcpy(token, PREFIX, sizeof PREFIX - 1);
    hex_format(token + sizeof PREFIX - 1, halves, sizeof halves);
    *ret = fd;
    return 0;
}

/* The descriptors of a message; -1 for those that did not come. */
static void take_rights(struct msghdr *m, int fds[static 2])
{
    fds[0] = fds[1] = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        size_t size = c->cmsg_len - CMSG_LEN(0);
        memcpy(fds, CMSG_DATA(c), size < 2 * sizeof(int) ? size : 2 * sizeof(int));
    }
}

int shm_take(struct shm_parcel *ret, int listener, struct error *e)
{
    struct letter letter;
    union rights rights = { .space = { 0 } };
    struct iovec v = { .iov_base = &letter, .iov_len = sizeof letter };
    struct msghdr m = { .msg_iov = &v,
                        .msg_iovlen = 1,
                        .msg_control = &rights,
                        .msg_controllen = sizeof rights.space };
    int fds[2];
    ssize_t n = recvmsg(listener, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR
                   ? fail(e, FAIL_TIMEOUT, "no shared memory is offered")
                   : fail(e, FAIL_IO, "taking shared memory: %s", strerror(errno));
    }
    take_rights(&m, fds);
    if (n != (ssize_t)sizeof letter || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
        fds[1] < 0) {
        tcp_close(fds[0]);
        tcp_close(fds[1]);
        return fail(e, FAIL_FORMAT, "an offer of shared memory that is not whole");
    }
    *ret = (struct shm_parcel){ .fd = fds[0],
                                .memory = fds[1],
                                .ring_bytes = letter.ring_bytes,
                                .max_message = letter.max_message };
    memcpy(ret->preamble, letter.preamble, PREAMBLE_BYTES);
    return 0;
}

/* What came must be as large as it says and stay so. */
static int check_parcel(const struct shm_parcel *p, const struct channel_options *o,
                        struct error *e)
{
    struct stat s;
    int code = ring_check(o, e);
    if (code != 0) {
        return code;
    }
    int seals = fcntl(p->memory, F_GET_SEALS);
    if (fstat(p->memory, &s) != 0 || s.st_size < (off_t)mapping_size(o->ring_bytes) || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0) {
        return fail(e, FAIL_FORMAT, "the offered memory is too small or not sealed");
    }
    if (p->max_message != o->max_message) {
        return fail(e, FAIL_ARG, "messages up to %zu bytes here, %llu at the offerer",
                    o->max_message, (unsigned long long)p->max_message);
    }
    return 0;
}

int shm_join(struct channel **ret, struct shm_parcel *p, const uint8_t answer[static SHM_ANSWER],
             const struct channel_options *options, struct error *e)
{
    struct channel_options o = channel_defaults(options);
    struct channel *ch = NULL;
    o.ring_bytes = p->ring_bytes;
    int code = check_parcel(p, &o, e);
    code = code == 0 ? open_end(&ch, p->memory, p->fd, &o, false, e) : code;
    if (code != 0) {
        shm_refuse(p);
        return code;
    }
    tcp_close(p->memory);
    /* Everything is ready: the offerer may use it as soon as it has this. */
    if (send(p->fd, answer, SHM_ANSWER, MSG_DONTWAIT | MSG_NOSIGNAL) != SHM_ANSWER) {
        channel_close(ch);
        return fail(e, FAIL_CLOSED, "the offerer of shared memory is gone");
    }
    *ret = ch;
    return 0;
}

void shm_refuse(struct shm_parcel *p)
{
    tcp_close(p->fd);
    tcp_close(p->memory);
}

/* --- offering --- */

static int connect_to(int *ret, const uint8_t *name, struct error *e)
{
    struct sockaddr_un a;
    socklen_t size = socket_name(&a, name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, size) != 0) {
        int code =
            fail(e, FAIL_NOT_FOUND, "no process of this name on this host: %s", strerror(errno));
        tcp_close(fd);
        return code;
    }
    *ret = fd;
    return 0;
}

static int send_letter(int to, const struct letter *letter, const int fds[static 2],
                       struct error *e)
{
    union rights rights = { .space = { 0 } };
    struct iovec v = { .iov_base = (void *)(uintptr_t)letter, .iov_len = sizeof *letter };
    struct msghdr m = { .msg_iov = &v,
                        .msg_iovlen = 1,
                        .msg_control = &rights,
                        .msg_controllen = sizeof rights.space };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
    if (sendmsg(to, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof *letter) {
        return 0;
    }
    return fail(e,
                errno == EAGAIN         ? FAIL_BUSY
                : errno == ECONNREFUSED ? FAIL_NOT_FOUND
                                        : FAIL_IO,
                "handing shared memory over: %s", strerror(errno));
}

int shm_offer(struct shm_offer **ret, const char *token,
              const uint8_t preamble[static PREAMBLE_BYTES], const struct channel_options *options,
              struct error *e)
{
    struct channel_options o = channel_defaults(options);
    uint8_t halves[2 * HALF];
    int to = -1, pair[2] = { -1, -1 };
    if (!bytes_starts_with(bytes_text(token), PREFIX) ||
        !hex_parse(halves, sizeof halves, bytes_text(token + sizeof PREFIX - 1))) {
        return fail(e, FAIL_FORMAT, "no token of shared memory");
    }
    struct shm_offer *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a shm channel");
    }
    *s = (struct shm_offer){ .fd = -1, .memory = -1, .options = o };
    int code = ring_check(&o, e);
    code = code == 0 ? connect_to(&to, halves, e) : code;
    code = code == 0 ? make_memory(&s->memory, mapping_size(o.ring_bytes), e) : code;
    if (code == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        code = fail(e, FAIL_IO, "sockets of shared memory: %s", strerror(errno));
    }
    if (code == 0) {
        struct letter letter = { .ring_bytes = o.ring_bytes, .max_message = o.max_message };
        memcpy(letter.secret, halves + HALF, HALF);
        memcpy(letter.preamble, preamble, PREAMBLE_BYTES);
        s->fd = pair[0];
        code = send_letter(to, &letter, (int[2]){ pair[1], s->memory }, e);
    }
    tcp_close(to);
    tcp_close(pair[1]); /* the peer has its own, or nobody */
    if (code != 0) {
        shm_offer_close(s);
        return code;
    }
    *ret = s;
    return 0;
}

int shm_offer_fd(const struct shm_offer *s)
{
    return s->fd;
}

int shm_offer_finish(struct channel **ret, struct shm_offer *s,
                     const uint8_t answer[static SHM_ANSWER], struct error *e)
{
    uint8_t got[SHM_ANSWER];
    ssize_t n = recv(s->fd, got, sizeof got, MSG_DONTWAIT);
    int code = 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        code = fail(e, FAIL_TIMEOUT, "no answer to an offer of shared memory");
    } else if (n <= 0) {
        code = fail(e, FAIL_CLOSED, "the offer of shared memory was refused");
    } else if (n != SHM_ANSWER || CRYPTO_memcmp(got, answer, SHM_ANSWER) != 0) {
        code = fail(e, FAIL_AUTH, "another process answers the offer of shared memory");
    }
    code = code == 0 ? open_end(ret, s->memory, s->fd, &s->options, true, e) : code;
    if (code == 0) {
        s->fd = -1; /* the channel's */
    }
    shm_offer_close(s);
    return code;
}

void shm_offer_close(struct shm_offer *s)
{
    if (s != NULL) {
        tcp_close(s->fd);
        tcp_close(s->memory);
        free(s);
    }
}
