/* A channel over two byte rings in shared memory and a socket as doorbell: what the memory and the
 * shm transports have in common. */
#ifndef SHOAL_TRANSPORT_RING_H
#define SHOAL_TRANSPORT_RING_H

#include "transport/internal.h"

/* One direction. The peer may be another process, so the layout is fixed and nothing in it is
 * trusted: sizes are checked, positions are masked. */
struct ring {
    _Alignas(64) _Atomic uint64_t tail; /* bytes ever written; the writer's */
    _Atomic uint32_t reader_sleeps;     /* set by the reader, taken back by whoever wakes it */
    _Alignas(64) _Atomic uint64_t head; /* bytes ever read; the reader's */
    _Atomic uint32_t writer_sleeps;
    _Alignas(64) _Atomic uint32_t closed; /* by either end */
    _Alignas(64) uint8_t data[];          /* ring_bytes */
};

struct ring_end {
    struct ring *out, *in;
    int fd; /* connected socket to the peer's end: a byte wakes it, its end means death */
    void (*release)(void *arg); /* of the rings' memory, called once by close */
    void *arg;
};

/* Bytes of one ring. */
static inline size_t ring_size(size_t ring_bytes)
{
    return sizeof(struct ring) + ring_bytes;
}

/* FAIL_ARG for a ring that is no power of two from 4 KiB to 1 GiB. */
int ring_check(const struct channel_options *options, struct error *e);

/* Takes fd and memory on success only. script is copied; NULL for none. */
int ring_open(struct channel **ret, const char *name, const struct ring_end *end,
              const struct memory_options *script, struct error *e);

#endif
