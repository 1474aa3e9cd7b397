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

#endif
