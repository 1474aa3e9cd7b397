/* Message channels between ranks: one ordered channel for each (peer, purpose).
 *
 * A channel carries whole messages of known size, in order, both ways. Waiting spins for a while
 * and then sleeps, and ends at a deadline (absolute, in clock_now_ns's time) or when the peer is
 * gone. One thread at a time uses a channel; only channel_shutdown may be called from any other.
 *
 * Errors of all calls: FAIL_TIMEOUT at the deadline; FAIL_CLOSED when the peer is gone, after a
 * shutdown, and for every later call on a broken channel; FAIL_LIMIT for a message larger than the
 * maximum agreed at open, or than the receiver's memory; FAIL_FORMAT and FAIL_AUTH for what a peer
 * should never send; FAIL_IO. All break the channel except a timeout before the first byte of a
 * message has been sent, or at any moment of a receive: a half-received message is kept. */
#ifndef SHOAL_TRANSPORT_TRANSPORT_H
#define SHOAL_TRANSPORT_TRANSPORT_H

#include "base/bytes.h"
#include "base/error.h"
#include "secure/ticket.h"

#define CHANNEL_MAX_MESSAGE ((size_t)64 << 20) /* hidden states of 2048 rows of 8192 floats */
#define CHANNEL_MAX_PARTS 62                   /* pieces a sent message is gathered from */
#define CHANNEL_MAX_TRANSFERS 64               /* peers of one exchange */
#define CHANNEL_SPIN_NS 50000u
#define CHANNEL_RING_BYTES ((size_t)1 << 20) /* of memory and shm channels, each way */

struct channel;

/* Zero members mean the defaults above. Both ends must agree on max_message. */
struct channel_options {
    size_t max_message; /* bytes */
    size_t ring_bytes;  /* memory and shm: a power of two; larger messages pass in pieces */
    uint64_t spin_ns;   /* before a waiting thread sleeps; 1 hardly spins */
};

/* Sends one message, gathered from n parts (borrowed for the call). Returns when the transport has
 * taken it, not when the peer has it. */
int channel_send(struct channel *ch, const struct bytes *parts, int n, uint64_t deadline_ns,
                 struct error *e);

/* Receives the next message into buf; *size bytes of it. */
int channel_recv(struct channel *ch, void *buf, size_t capacity, size_t *size, uint64_t deadline_ns,
                 struct error *e);

/* 1 when at least the beginning of a message is there, 0 when not, or an error. Never waits. */
int channel_poll(struct channel *ch, struct error *e);

/* One peer's part of an exchange. */
struct transfer {
    struct channel *channel;
    const struct bytes *parts; /* to send; borrowed */
    int n_parts;               /* 0: nothing is sent to this peer (not even an empty message) */
    void *in;                  /* memory for its message; NULL: nothing is received from it */
    size_t capacity;
    size_t size; /* out: bytes received */
    /* Progress; written by the exchange only. */
    size_t total;
    size_t done;
    int sending;
    int receiving;
};

/* Sends to and receives from n peers, all at once: progress on one never waits for another, so
 * that ranks which all send first can't block each other, however large the messages. An error
 * names the peer by its index in t. */
int channel_exchange(struct transfer *t, int n, uint64_t deadline_ns, struct error *e);

/* Breaks the channel and wakes whoever waits in it, here (FAIL_CLOSED) and at the peer, which still
 * gets what was sent before. Any thread; the channel must still be closed. */
void channel_shutdown(struct channel *ch);

/* Shuts down and frees. NULL is fine. */
void channel_close(struct channel *ch);

/* This end's waiting thread computes: while messages come in a rhythm it keeps its core awake for
 * the next one (see rhythm.h). Before the first use. */
void channel_computes(struct channel *ch);

/* "tcp", "sealed tcp", ...: static text. */
const char *channel_name(const struct channel *ch);

/* The largest message. */
size_t channel_max_message(const struct channel *ch);

/* --- memory: two ends in one process --- */

/* How a pair misbehaves, for tests. */
struct memory_options {
    struct channel_options channel;
    uint64_t delay_ns;  /* of every message, after its sending */
    uint32_t loss_ppm;  /* messages of a million that vanish */
    uint64_t seed;      /* of the losses */
    uint64_t die_after; /* an end that has sent so many messages is dead; 0: never */
};

/* options may be NULL. FAIL_NOMEM, FAIL_IO, FAIL_ARG. */
int memory_pair(struct channel **a, struct channel **b, const struct memory_options *options,
                struct error *e);

/* --- shm: two processes of one host (Linux) --- */

#define SHM_TOKEN 72  /* text, NUL included */
#define SHM_ANSWER 32 /* bytes */

struct shm_offer;

/* Where this process takes channels from others of its host: *fd becomes readable when there is
 * something to take. The token leads others there. It is a secret: it goes to them over a channel
 * that is authenticated already; whoever has none can neither be heard nor keep others from it.
 * FAIL_UNSUPPORTED on other systems; FAIL_IO. */
int shm_listen(int *fd, char token[static SHM_TOKEN], struct error *e);

/* Makes shared memory and hands one end to the process that the token came from, with a ticket's
 * preamble. options may be NULL. Never waits. FAIL_FORMAT for what is no token, FAIL_NOT_FOUND when
 * that process is not on this host (or in another network namespace) or gone, FAIL_BUSY while it
 * has not taken what was sent to it before; FAIL_UNSUPPORTED, FAIL_IO, FAIL_NOMEM, FAIL_ARG. */
int shm_offer(struct shm_offer **ret, const char *token,
              const uint8_t preamble[static PREAMBLE_BYTES], const struct channel_options *options,
              struct error *e);

/* Readable when the peer has answered or gone. The offer's own. */
int shm_offer_fd(const struct shm_offer *offer);

/* The channel, after the peer's answer, which proves that it knows the ticket. Never waits. Takes
 * the offer, also on failure. FAIL_TIMEOUT before an answer, FAIL_CLOSED when the peer refused or
 * is gone, FAIL_AUTH for another answer; FAIL_IO, FAIL_NOMEM. */
int shm_offer_finish(struct channel **ret, struct shm_offer *offer,
                     const uint8_t answer[static SHM_ANSWER], struct error *e);

/* Withdraws an offer. NULL is fine. */
void shm_offer_close(struct shm_offer *offer);

/* What came in; owns two descriptors until shm_join or shm_refuse. */
struct shm_parcel {
    int fd, memory;
    uint64_t ring_bytes, max_message;
    uint8_t preamble[PREAMBLE_BYTES];
};

/* The next parcel of a listener. Never waits. FAIL_TIMEOUT when there is none, FAIL_FORMAT for one
 * that is not whole (it is dropped), FAIL_IO. */
int shm_take(struct shm_parcel *ret, int listener, struct error *e);

/* Answers and opens the channel. max_message of the options must be the offerer's; its rings are
 * taken as they are. Ends the parcel, also on failure. FAIL_FORMAT for memory that is too small or
 * may shrink; FAIL_ARG, FAIL_NOMEM, FAIL_CLOSED. */
int shm_join(struct channel **ret, struct shm_parcel *parcel,
             const uint8_t answer[static SHM_ANSWER], const struct channel_options *options,
             struct error *e);

/* Ends a parcel; the offerer sees it. */
void shm_refuse(struct shm_parcel *parcel);

/* --- tcp --- */

/* A channel over a connected stream socket (TCP; a UNIX one works too). Takes the descriptor, also
 * on failure. options may be NULL. */
int tcp_from_fd(struct channel **ret, int fd, const struct channel_options *options,
                struct error *e);

/* Connects to "host:port", "[v6 address]:port"; a new descriptor in *fd, non-blocking, NODELAY.
 * Names are resolved by the system, whose time is not bounded by the deadline: control code hands
 * in addresses. FAIL_ARG, FAIL_NOT_FOUND, FAIL_TIMEOUT, FAIL_IO, FAIL_CLOSED where nobody listens.
 */
int tcp_connect(int *fd, const char *address, uint64_t deadline_ns, struct error *e);

/* Listens on host (NULL: all interfaces, both families) and port (0: any free one). FAIL_ARG;
 * FAIL_BUSY where the port is taken; FAIL_IO. */
int tcp_listen(int *fd, const char *host, int port, struct error *e);

/* The port a socket is bound to, or FAIL_IO. */
int tcp_local_port(int fd, struct error *e);

/* The next connection; FAIL_TIMEOUT, FAIL_IO. */
int tcp_accept(int *fd, int listener, uint64_t deadline_ns, struct error *e);

/* Writes or reads exactly size bytes on a non-blocking socket, for preambles. FAIL_TIMEOUT,
 * FAIL_CLOSED, FAIL_IO. */
int tcp_write_all(int fd, struct bytes data, uint64_t deadline_ns, struct error *e);
int tcp_read_all(int fd, void *buf, size_t size, uint64_t deadline_ns, struct error *e);

/* Closes a descriptor from above; -1 is fine. */
void tcp_close(int fd);

/* --- sealing: a filter over any channel --- */

#define SEAL_OVERHEAD 16 /* bytes that sealing adds to a message */

/* Each message becomes one AEAD frame, its nonce a counter, with the keys of ticket.h. A frame that
 * was altered, replayed, reordered, cut or left out gives FAIL_AUTH, which names it and breaks the
 * channel. Takes inner, also on failure; keys are copied. max_message is the inner one's less
 * SEAL_OVERHEAD. SEAL_PLAIN gives inner itself. FAIL_NOMEM, FAIL_ARG. */
int channel_seal(struct channel **ret, struct channel *inner, const struct seal_keys *keys,
                 struct error *e);

#endif
