/* Time: a monotonic clock for deadlines and measurements, wall time for people and expiries. */
#ifndef SHOAL_OS_CLOCK_H
#define SHOAL_OS_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_S 1000000000ull
#define CLOCK_NS_PER_MS 1000000ull

/* Nanoseconds since some fixed point; never goes back. All deadlines are absolute in it. */
static inline uint64_t clock_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * CLOCK_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Seconds since 1970, UTC; may jump when somebody sets the clock. */
static inline int64_t clock_wall_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec;
}

/* The deadline `ns` from now; saturates instead of wrapping round. */
static inline uint64_t clock_deadline(uint64_t ns)
{
    uint64_t now = clock_now_ns();
    return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

/* Sleeps at least `ns` nanoseconds; a signal may end it sooner. */
static inline void clock_sleep(uint64_t ns)
{
    struct timespec t = { .tv_sec = (time_t)(ns / CLOCK_NS_PER_S),
                          .tv_nsec = (long)(ns % CLOCK_NS_PER_S) };
    nanosleep(&t, NULL);
}

/* A loop's own time, for the deadlines that it keeps for others. While a process is kept from its
 * core, or its machine is suspended, it hears nobody and sends nothing, so that time says nothing
 * about anyone: a turn of the loop counts as `most_ns` at most, however late it came. So deadlines
 * give way as far as this process itself is slow. Starts zeroed. */
struct loop_time {
    uint64_t now_ns;   /* never 0 after the first turn; constant within a turn */
    uint64_t clock_ns; /* of the last turn */
};

static inline void loop_time_turn(struct loop_time *t, uint64_t clock_ns, uint64_t most_ns)
{
    uint64_t passed = t->clock_ns != 0 ? clock_ns - t->clock_ns : most_ns;
    t->now_ns += passed < most_ns ? passed : most_ns;
    t->clock_ns = clock_ns;
}

#endif
