/* Round trips of one message between two processes (two threads for memory), and the cost of the
 * compute pool's barrier: medians, in microseconds. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/clock.h"
#include "os/pool.h"
#include "os/thread.h"
#include "secure/ticket.h"
#include "transport/transport.h"

#define LARGEST ((size_t)4 << 20)
#define ROUNDS 4000
/* Bytes moved by the rounds of one size, at most. */
#define MOST_BYTES ((size_t)1 << 30)
#define SOON clock_deadline(10 * CLOCK_NS_PER_S)

static void stop(const char *what, const struct error *e)
{
    fprintf(stderr, "bench_transport: %s: %s\n", what, e->text);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double median_us(uint64_t *samples, size_t n)
{
    qsort(samples, n, sizeof *samples, compare);
    return (double)samples[n / 2] / 1000;
}

/* Answers every message until the peer closes. */
static void *echo(void *arg)
{
    struct channel *ch = arg;
    static uint8_t buf[LARGEST];
    size_t size = 0;
    while (channel_recv(ch, buf, sizeof buf, &size, SOON, NULL) == 0) {
        struct bytes part = bytes_of(buf, size);
        if (channel_send(ch, &part, 1, SOON, NULL) != 0) {
            break;
        }
    }
    channel_close(ch);
    return NULL;
}

static double round_trip_us(struct channel *ch, size_t size)
{
    static uint64_t samples[ROUNDS];
    static uint8_t out[LARGEST], in[LARGEST];
    struct error e = { 0 };
    size_t rounds = MOST_BYTES / size < ROUNDS ? MOST_BYTES / size : ROUNDS;
    for (size_t i = 0; i < rounds; i++) {
        struct bytes part = bytes_of(out, size);
        size_t got = 0;
        uint64_t begin = clock_now_ns();
        if (channel_send(ch, &part, 1, SOON, &e) != 0 ||
            channel_recv(ch, in, sizeof in, &got, SOON, &e) != 0) {
            stop(channel_name(ch), &e);
        }
        samples[i] = clock_now_ns() - begin;
    }
    return median_us(samples, rounds);
}

static void report(struct channel *ch, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", channel_name(ch), suffix);
    static const size_t sizes[] = { 64, (size_t)16 << 10, (size_t)128 << 10, LARGEST };
    double us = 0;
    printf("%-28s", name);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        us = round_trip_us(ch, sizes[i]);
        printf(" %10.2f", us);
    }
    printf(" %10.2f\n", 2 * (double)LARGEST / us / 1000);
    fflush(stdout);
    channel_close(ch);
}

static void bench_memory(void)
{
    struct channel *a = NULL, *b = NULL;
    struct error e = { 0 };
    struct thread t;
    if (memory_pair(&a, &b, NULL, &e) != 0 || thread_start(&t, echo, b, &e) != 0) {
        stop("memory", &e);
    }
    report(a, "");
    thread_join(&t);
}

static void wait_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    poll(&p, 1, 10000);
}

static void bench_shm(size_t ring_bytes, const char *suffix)
{
    static const uint8_t preamble[PREAMBLE_BYTES], answer[SHM_ANSWER];
    const struct channel_options options = { .ring_bytes = ring_bytes };
    struct shm_offer *offer = NULL;
    struct shm_parcel parcel;
    char token[SHM_TOKEN];
    int listener = -1;
    struct channel *ch = NULL;
    struct error e = { 0 };
    if (shm_listen(&listener, token, &e) != 0) {
        printf("shm: %s\n", e.text);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        wait_readable(listener);
        if (shm_take(&parcel, listener, &e) == 0 && shm_join(&ch, &parcel, answer, NULL, &e) == 0) {
            tcp_close(listener);
            echo(ch);
        }
        _exit(0);
    }
    if (shm_offer(&offer, token, preamble, &options, &e) != 0) {
        stop("shm", &e);
    }
    tcp_close(listener);
    wait_readable(shm_offer_fd(offer));
    if (shm_offer_finish(&ch, offer, answer, &e) != 0) {
        stop("shm", &e);
    }
    report(ch, suffix);
    waitpid(child, NULL, 0);
}

static struct channel *tcp_end(int fd, enum seal_cipher cipher, int side, uint64_t spin_ns)
{
    struct error e = { 0 };
    struct channel *ch = NULL;
    struct seal_keys keys = { .cipher = cipher };
    memset(keys.send_key, 1 + side, sizeof keys.send_key);
    memset(keys.recv_key, 2 - side, sizeof keys.recv_key);
    if (tcp_from_fd(&ch, fd, &(struct channel_options){ .spin_ns = spin_ns }, &e) != 0 ||
        channel_seal(&ch, ch, &keys, &e) != 0) {
        stop("tcp", &e);
    }
    return ch;
}

static void bench_tcp(enum seal_cipher cipher, uint64_t spin_ns, const char *suffix)
{
    struct error e = { 0 };
    int listener = -1, fds[2] = { -1, -1 };
    char address[32];
    if (tcp_listen(&listener, "127.0.0.1", 0, &e) != 0) {
        stop("tcp", &e);
    }
    snprintf(address, sizeof address, "127.0.0.1:%d", tcp_local_port(listener, &e));
    if (tcp_connect(&fds[0], address, SOON, &e) != 0 ||
        tcp_accept(&fds[1], listener, SOON, &e) != 0) {
        stop("tcp", &e);
    }
    tcp_close(listener);
    pid_t child = fork();
    if (child == 0) {
        tcp_close(fds[0]);
        echo(tcp_end(fds[1], cipher, 1, spin_ns));
        _exit(0);
    }
    tcp_close(fds[1]);
    report(tcp_end(fds[0], cipher, 0, spin_ns), suffix);
    waitpid(child, NULL, 0);
}

#define BARRIERS 20000
#define BLOCK 100 /* barriers of one sample */

struct barriers {
    struct pool *pool;
    uint64_t samples[BARRIERS / BLOCK];
};

static void run_barriers(void *arg, int thread, int n_threads)
{
    struct barriers *b = arg;
    (void)n_threads;
    for (int i = 0; i < BARRIERS / BLOCK; i++) {
        uint64_t begin = clock_now_ns();
        for (int k = 0; k < BLOCK; k++) {
            pool_barrier(b->pool, thread);
        }
        if (thread == 0) {
            b->samples[i] = (clock_now_ns() - begin) / BLOCK;
        }
    }
}

static void bench_barrier(int threads)
{
    struct barriers b;
    struct error e = { 0 };
    if (pool_open(&b.pool, &(struct pool_options){ .threads = threads }, &e) != 0) {
        stop("pool", &e);
    }
    pool_run(b.pool, run_barriers, &b);
    printf("pool barrier, %2d threads      %10.2f\n", threads,
           median_us(b.samples, BARRIERS / BLOCK));
    pool_close(b.pool);
}

int main(void)
{
    printf(
        "round trip, median of %d, us         64 B     16 KiB    128 KiB      4 MiB       GB/s\n",
        ROUNDS);
    bench_memory();
    bench_shm(0, "");
    bench_tcp(SEAL_PLAIN, 0, "");
    bench_tcp(SEAL_AES_128_GCM, 0, " (AES-128-GCM)");
    bench_tcp(SEAL_CHACHA20_POLY1305, 0, " (ChaCha20)");
    bench_tcp(SEAL_PLAIN, 1, ", not spinning");
    printf("\n");
    bench_barrier(1);
    bench_barrier(2);
    bench_barrier(3);
    bench_barrier(8);
    return 0;
}
