/* Threads, mutexes and conditions: thin names over POSIX, so that no other layer includes it.
 * Failures here are bugs or a system without memory for a thread; only starting one can fail. */
#ifndef SHOAL_OS_THREAD_H
#define SHOAL_OS_THREAD_H

#include "base/error.h"

#include <assert.h>
#include <pthread.h>
#include <sys/resource.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#if defined(__APPLE__)
#include <pthread/qos.h>
#endif

/* Caller's structs. */
struct thread {
    pthread_t handle;
};
struct mutex {
    pthread_mutex_t handle;
};
struct condition {
    pthread_cond_t handle; /* measured by the monotonic clock */
};

/* Runs fn(arg) in a new thread, which must be joined. FAIL_NOMEM. */
static inline int thread_start(struct thread *t, void *(*fn)(void *arg), void *arg, struct error *e)
{
    int code = pthread_create(&t->handle, NULL, fn, arg);
    return code == 0 ? 0 : fail(e, FAIL_NOMEM, "starting a thread: %s", strerror(code));
}

/* What one niced thread gets beside busy ones: a hundredth of a core. Less (SCHED_IDLE, nice 19)
 * would let it hold a lock for seconds that others need, where many want a core. */
#define THREAD_NICE 10

/* The calling thread gives way to whoever else wants its core. A hint. */
static inline void thread_background(void)
{
#if defined(__APPLE__)
    pthread_set_qos_class_self_np(QOS_CLASS_BACKGROUND, 0);
#elif defined(__linux__)
    setpriority(PRIO_PROCESS, 0, THREAD_NICE); /* on Linux of this thread, not its process */
#endif
}

/* Waits for the thread's end. */
static inline void thread_join(struct thread *t)
{
    int code = pthread_join(t->handle, NULL);
    assert(code == 0);
    (void)code;
}

static inline void mutex_init(struct mutex *m)
{
    pthread_mutex_init(&m->handle, NULL);
}

static inline void mutex_done(struct mutex *m)
{
    pthread_mutex_destroy(&m->handle);
}

static inline void mutex_lock(struct mutex *m)
{
    pthread_mutex_lock(&m->handle);
}

static inline void mutex_unlock(struct mutex *m)
{
    pthread_mutex_unlock(&m->handle);
}

static inline void condition_init(struct condition *c)
{
    pthread_condattr_t a;
    pthread_condattr_init(&a);
#if !defined(__APPLE__) /* macOS has no choice of clock here; its waits are relative below */
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&c->handle, &a);
    pthread_condattr_destroy(&a);
}

static inline void condition_done(struct condition *c)
{
    pthread_cond_destroy(&c->handle);
}

static inline void condition_signal(struct condition *c)
{
    pthread_cond_broadcast(&c->handle);
}

/* Releases m, waits at most timeout_ns for a signal (or a spurious wake-up), takes m again. False
 * when the time was up. */
static inline bool condition_wait(struct condition *c, struct mutex *m, uint64_t timeout_ns)
{
    struct timespec t;
#if defined(__APPLE__)
    t.tv_sec = (time_t)(timeout_ns / 1000000000u);
    t.tv_nsec = (long)(timeout_ns % 1000000000u);
    return pthread_cond_timedwait_relative_np(&c->handle, &m->handle, &t) == 0;
#else
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(timeout_ns / 1000000000u);
    t.tv_nsec += (long)(timeout_ns % 1000000000u);
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return pthread_cond_timedwait(&c->handle, &m->handle, &t) == 0;
#endif
}

#endif
