/* A counter that threads wait on: they spin for a while and then sleep. Linux sleeps on a futex,
 * others on a condition; both sides of the choice stand in this header only. */
#ifndef SHOAL_OS_PARK_H
#define SHOAL_OS_PARK_H

#include "os/clock.h"
#include "os/thread.h"

#include <sched.h>
#include <stdatomic.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Tells the core that this is a spin loop. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Caller's struct. On a cache line of its own: others spin on it. */
struct park {
    _Alignas(64) atomic_uint value;
    atomic_uint sleepers;
#if !defined(__linux__)
    struct mutex lock;
    struct condition changed;
#endif
};

#if defined(__linux__)
static inline void park_init(struct park *p)
{
    atomic_init(&p->value, 0);
    atomic_init(&p->sleepers, 0);
}

static inline void park_done(struct park *p)
{
    (void)p;
}

static inline void park_sleep(struct park *p, unsigned seen)
{
    atomic_fetch_add_explicit(&p->sleepers, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&p->value, memory_order_seq_cst) == seen) {
        syscall(SYS_futex, &p->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub_explicit(&p->sleepers, 1, memory_order_relaxed);
}

static inline void park_wake(struct park *p)
{
    syscall(SYS_futex, &p->value, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}
#else
static inline void park_init(struct park *p)
{
    atomic_init(&p->value, 0);
    atomic_init(&p->sleepers, 0);
    mutex_init(&p->lock);
    condition_init(&p->changed);
}

static inline void park_done(struct park *p)
{
    condition_done(&p->changed);
    mutex_done(&p->lock);
}

static inline void park_sleep(struct park *p, unsigned seen)
{
    mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->sleepers, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&p->value, memory_order_seq_cst) == seen) {
        condition_wait(&p->changed, &p->lock, CLOCK_NS_PER_S);
    }
    atomic_fetch_sub_explicit(&p->sleepers, 1, memory_order_relaxed);
    mutex_unlock(&p->lock);
}

static inline void park_wake(struct park *p)
{
    mutex_lock(&p->lock);
    condition_signal(&p->changed);
    mutex_unlock(&p->lock);
}
#endif

/* The present value, to be given to park_wait. What was written before the advance that gave it is
 * seen (acquire). */
static inline unsigned park_value(struct park *p)
{
    return atomic_load_explicit(&p->value, memory_order_acquire);
}

/* Adds one and wakes all who wait. What was written before is seen by those who leave park_wait.
 * Sequentially consistent against park_sleep's pair of accesses, or a sleeper could be missed. */
static inline void park_advance(struct park *p)
{
    atomic_fetch_add_explicit(&p->value, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&p->sleepers, memory_order_seq_cst) != 0) {
        park_wake(p);
    }
}

/* The first part of a spin keeps the core; the rest offers it to others at every turn: on a machine
 * with fewer free cores than threads, the awaited one is often waiting for this very core. */
#define SPIN_HARD_NS 2000u

/* One turn of a spin that began `spent_ns` ago. */
static inline void spin_turn(uint64_t spent_ns)
{
    if (spent_ns < SPIN_HARD_NS) {
        cpu_relax();
    } else {
        sched_yield();
    }
}

/* Returns once the value differs from `seen`: spins up to spin_ns, then sleeps. */
static inline void park_wait(struct park *p, unsigned seen, uint64_t spin_ns)
{
    uint64_t begin = 0, spent = 0;
    for (unsigned i = 0; park_value(p) == seen; i++) {
        if (i % 16 == 15 || spent >= SPIN_HARD_NS) { /* the clock costs as much as a few turns */
            uint64_t now = clock_now_ns();
            begin = begin == 0 ? now : begin;
            spent = now - begin;
            if (spent >= spin_ns) {
                break;
            }
        }
        spin_turn(spent);
    }
    while (park_value(p) == seen) {
        park_sleep(p, seen);
    }
}

#endif
