/* Rings in memory shared by two processes.
 *
 * The offerer makes the memory (an anonymous file sealed against shrinking, so that neither side
 * can make the other's accesses fault) and listens on a socket with a random name. Names of sockets
 * can be seen by every user of the host, so the token also carries a secret, which the peer shows
 * first; it then gets the file's descriptor. The socket stays as doorbell and tells of death. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/clock.h"
#include "secure/openssl.h"
#include "secure/text.h"
#include "transport/ring.h"

#define HALF 16
#define PREFIX "shm1:"
#define PROOF_NS                                                                                   \
    CLOCK_NS_PER_S /* a caller that doesn't show the secret holds others up so long                \
                    */

_Static_assert(sizeof PREFIX - 1 + 4 * HALF + 1 <= SHM_TOKEN, "token");

struct shm_offer {
    int listener, memory;
    uint8_t name[HALF], secret[HALF];
    struct channel_options options;
};

/* What travels with the descriptor. */
struct terms {
    uint64_t ring_bytes, max_message;
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
        int code = fail(e, ERR_IO, "shared memory: %s", strerror(errno));
        tcp_close(fd);
        return code;
    }
    *ret = fd;
    return 0;
}

static int make_listener(int *ret, const uint8_t *name, struct error *e)
{
    struct sockaddr_un a;
    socklen_t size = socket_name(&a, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, size) != 0 || listen(fd, 4) != 0) {
        int code = fail(e, ERR_IO, "socket of shared memory: %s", strerror(errno));
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
        return fail(e, ERR_NOMEM, "memory for a shm channel");
    }
    m->size = mapping_size(o->ring_bytes);
    m->at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (m->at == MAP_FAILED) {
        free(m);
        return fail(e, ERR_NOMEM, "mapping shared memory: %s", strerror(errno));
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

int shm_offer(struct shm_offer **ret, char token[static SHM_TOKEN],
              const struct channel_options *options, struct error *e)
{
    struct channel_options o = channel_defaults(options);
    int code = ring_check(&o, e);
    if (code != 0) {
        return code;
    }
    struct shm_offer *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, ERR_NOMEM, "memory for a shm channel");
    }
    *s = (struct shm_offer){ .listener = -1, .memory = -1, .options = o };
    if (RAND_bytes(s->name, HALF) != 1 || RAND_bytes(s->secret, HALF) != 1) {
        code = fail(e, ERR_IO, "no random bytes");
    }
    code = code == 0 ? make_memory(&s->memory, mapping_size(o.ring_bytes), e) : code;
    code = code == 0 ? make_listener(&s->listener, s->name, e) : code;
    if (code != 0) {
        shm_offer_close(s);
        return code;
    }
    memcpy(token, PREFIX, sizeof PREFIX - 1);
    hex_format(token + sizeof PREFIX - 1, s->name, HALF);
    hex_format(token + sizeof PREFIX - 1 + 2 * HALF, s->secret, HALF);
    *ret = s;
    return 0;
}

static int send_memory(int fd, const struct shm_offer *s, struct error *e)
{
    struct terms t = { .ring_bytes = s->options.ring_bytes, .max_message = s->options.max_message };
    struct iovec v = { .iov_base = &t, .iov_len = sizeof t };
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(sizeof(int))];
    } control = { .space = { 0 } };
    struct msghdr m = { .msg_iov = &v,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control.space };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &s->memory, sizeof(int));
    return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)sizeof t
               ? 0
               : fail(e, ERR_IO, "handing shared memory over: %s", strerror(errno));
}

int shm_offer_wait(struct channel **ret, struct shm_offer *s, uint64_t deadline_ns, struct error *e)
{
    for (;;) {
        uint8_t shown[HALF];
        int fd = -1;
        int code = tcp_accept(&fd, s->listener, deadline_ns, e);
        if (code != 0) {
            return code;
        }
        uint64_t soon = clock_deadline(PROOF_NS);
        code = tcp_read_all(fd, shown, HALF, soon < deadline_ns ? soon : deadline_ns, NULL);
        if (code == 0 && CRYPTO_memcmp(shown, s->secret, HALF) == 0) {
            code = send_memory(fd, s, e);
            code = code == 0 ? open_end(ret, s->memory, fd, &s->options, true, e) : code;
            if (code != 0) {
                tcp_close(fd);
            }
            return code;
        }
        tcp_close(fd); /* a stranger; the peer may still come */
    }
}

void shm_offer_close(struct shm_offer *s)
{
    if (s != NULL) {
        tcp_close(s->listener);
        tcp_close(s->memory);
        free(s);
    }
}

/* The terms and the descriptor that comes with them. */
static int receive_memory(int *ret, struct terms *t, int fd, struct error *e)
{
    struct iovec v = { .iov_base = t, .iov_len = sizeof *t };
    union {
        struct cmsghdr header;
        uint8_t space[CMSG_SPACE(sizeof(int))];
    } control = { .space = { 0 } };
    struct msghdr m = { .msg_iov = &v,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control.space };
    ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n == (ssize_t)sizeof *t ? CMSG_FIRSTHDR(&m) : NULL;
    if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
        c->cmsg_len != CMSG_LEN(sizeof(int))) {
        return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)
                   ? fail(e, ERR_TIMEOUT, "the offerer of shared memory did not answer")
                   : fail(e, ERR_CLOSED, "the offerer of shared memory refused or is gone");
    }
    memcpy(ret, CMSG_DATA(c), sizeof(int));
    return 0;
}

/* What came must be as large as it says and stay so. */
static int check_memory(int memory, const struct terms *t, const struct channel_options *o,
                        struct error *e)
{
    struct stat s;
    struct channel_options theirs = *o;
    theirs.ring_bytes = t->ring_bytes;
    int code = ring_check(&theirs, e);
    if (code != 0) {
        return code;
    }
    int seals = fcntl(memory, F_GET_SEALS);
    if (fstat(memory, &s) != 0 || s.st_size < (off_t)mapping_size(t->ring_bytes) || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0) {
        return fail(e, ERR_FORMAT, "the offered memory is too small or not sealed");
    }
    if (t->max_message != o->max_message) {
        return fail(e, ERR_ARG, "messages up to %zu bytes here, %llu at the offerer",
                    o->max_message, (unsigned long long)t->max_message);
    }
    return 0;
}

static int connect_to(int *ret, const uint8_t *name, uint64_t deadline_ns, struct error *e)
{
    struct sockaddr_un a;
    socklen_t size = socket_name(&a, name);
    uint64_t now = clock_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 1000;
    struct timeval limit = { .tv_sec = (time_t)(left / CLOCK_NS_PER_S),
                             .tv_usec = (suseconds_t)(left % CLOCK_NS_PER_S / 1000) };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return fail(e, ERR_IO, "socket: %s", strerror(errno));
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, size) != 0) {
        int code = fail(e, errno == EAGAIN ? ERR_TIMEOUT : ERR_NOT_FOUND,
                        "no offer of shared memory by this name on this host: %s", strerror(errno));
        close(fd);
        return code;
    }
    *ret = fd;
    return 0;
}

int shm_accept(struct channel **ret, const char *token, const struct channel_options *options,
               uint64_t deadline_ns, struct error *e)
{
    struct channel_options o = channel_defaults(options);
    uint8_t halves[2 * HALF];
    struct terms t = { 0 };
    int fd = -1, memory = -1;
    if (!bytes_starts_with(bytes_text(token), PREFIX) ||
        !hex_parse(halves, sizeof halves, bytes_text(token + sizeof PREFIX - 1))) {
        return fail(e, ERR_FORMAT, "no token of shared memory");
    }
    int code = connect_to(&fd, halves, deadline_ns, e);
    code = code == 0 ? tcp_write_all(fd, bytes_of(halves + HALF, HALF), deadline_ns, e) : code;
    code = code == 0 ? receive_memory(&memory, &t, fd, e) : code;
    code = code == 0 ? check_memory(memory, &t, &o, e) : code;
    o.ring_bytes = t.ring_bytes;
    code = code == 0 ? open_end(ret, memory, fd, &o, false, e) : code;
    tcp_close(memory);
    if (code != 0) {
        tcp_close(fd);
    }
    return code;
}
