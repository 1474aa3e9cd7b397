/* What channel implementations share: the table each of them fills. */
#ifndef SHOAL_TRANSPORT_INTERNAL_H
#define SHOAL_TRANSPORT_INTERNAL_H

#include <stdatomic.h>

#include "transport/rhythm.h"
#include "transport/transport.h"

/* Results of a step besides errors. */
enum channel_step { CHANNEL_IDLE = 0, CHANNEL_DONE = 1, CHANNEL_MOVED = 2 };

/* How to sleep until something changes. */
struct channel_sleep {
    int fd;
    bool readable, writable; /* what to wait for on fd */
    uint64_t wake_ns;        /* look again at this time at the latest */
};

/* Nothing in here waits, except close. */
struct channel_ops {
    const char *name;
    /* Moves a message of `total` bytes on; *done is 0 at first, then the implementation's, and
     * stays 0 as long as nothing can be seen by the peer. */
    int (*send_some)(struct channel *ch, const struct transfer *t, size_t *done, struct error *e);
    /* Moves the next message into t->in; *size when DONE. Called with the same memory until DONE
     * or suspend. */
    int (*recv_some)(struct channel *ch, void *in, size_t capacity, size_t *size, struct error *e);
    /* CHANNEL_DONE and its bytes when the next message's size is known. */
    int (*announced)(struct channel *ch, size_t *size, struct error *e);
    /* CHANNEL_DONE when a message has begun to arrive. */
    int (*peek)(struct channel *ch, struct error *e);
    /* The receiver's memory ends: keep a half-received message elsewhere. FAIL_NOMEM. */
    int (*suspend)(struct channel *ch, struct error *e);
    /* Announces that the caller will sleep, which then tries send_some or recv_some once more
     * before it does. */
    void (*sleep_begin)(struct channel *ch, bool sending, bool receiving,
                        struct channel_sleep *how);
    void (*sleep_end)(struct channel *ch);
    void (*shutdown)(struct channel *ch); /* any thread */
    void (*close)(struct channel *ch);    /* frees */
};

/* First member of every implementation. */
struct channel {
    const struct channel_ops *ops;
    size_t max_message;
    uint64_t spin_ns;
    struct rhythm rhythm; /* of what comes in */
    atomic_bool broken;
};

/* Memory for at least `need` bytes, what is in it kept; never more than it takes, since a channel's
 * largest message is far above most channels' ordinary ones. Allocates only for a message larger
 * than those before it. FAIL_NOMEM. */
int channel_grow(uint8_t **memory, size_t *capacity, size_t need, struct error *e);

/* Options with the defaults filled in. */
struct channel_options channel_defaults(const struct channel_options *options);

#endif
