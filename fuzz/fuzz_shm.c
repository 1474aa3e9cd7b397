/* What a process that knows the token may hand over as shared memory: the letter's bytes and the
 * descriptors with it. The first byte chooses the descriptors. */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/transport/letter.h"
#include "transport/ring.h"

#define RING 4096
#define MESSAGE 512
#define LETTER_MAX 4096

static int make_memory(bool sealed, off_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert(fd >= 0 && ftruncate(fd, size) == 0);
    assert(!sealed || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    return fd;
}

/* Uses the channel as far as its peer lets it. */
static void join(struct shm_parcel *parcel)
{
    static const uint8_t answer[SHM_ANSWER];
    const struct channel_options o = { .max_message = MESSAGE, .spin_ns = 1 };
    struct error e = { 0 };
    struct channel *ch = NULL;
    uint8_t message[MESSAGE];
    size_t n = 0;
    int code = shm_join(&ch, parcel, answer, &o, &e);
    if (code == 0) {
        code = channel_recv(ch, message, sizeof message, &n, 1, &e);
        channel_close(ch);
    }
    assert(code != 0 && e.text[0] != '\0');
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct shm_parcel parcel;
    struct error e = { 0 };
    int box[2], bell[2];
    if (size < 2 || size > LETTER_MAX) {
        return;
    }
    assert(socketpair(AF_UNIX, SOCK_DGRAM, 0, box) == 0);
    assert(socketpair(AF_UNIX, SOCK_STREAM, 0, bell) == 0);
    bool sealed = (data[0] & 4) == 0;
    off_t bytes = (data[0] & 8) == 0 ? 2 * (off_t)ring_size(RING) : 100;
    int fds[3] = { bell[1], make_memory(sealed, bytes), bell[1] };
    letter_send(box[1], bytes_of(data + 1, size - 1), fds, data[0] & LETTER_DESCRIPTORS);
    close(bell[1]);
    close(fds[1]);
    if (shm_take(&parcel, box[0], &e) == 0) {
        join(&parcel);
    }
    /* Nothing of what came is left open. */
    struct pollfd end = { .fd = bell[0], .events = POLLIN };
    assert(poll(&end, 1, 0) == 1 && (end.revents & POLLHUP) != 0);
    close(bell[0]);
    close(box[0]);
    close(box[1]);
}
