/* Workers: see worker.h. */
#include "chat/worker.h"

#include <stdlib.h>

#include "os/thread.h"

/* A signal ends the wait; this is only how often it looks without one. */
#define IDLE_NS 60000000000u

struct chat_workers {
    struct mutex lock;
    struct condition changed;
    struct chat_task *first, **end; /* under the lock, as closing */
    bool closing;
    int n;
    struct thread threads[];
};

static struct chat_task *take(struct chat_workers *w)
{
    mutex_lock(&w->lock);
    while (w->first == NULL && !w->closing) {
        condition_wait(&w->changed, &w->lock, IDLE_NS);
    }
    struct chat_task *task = w->first;
    if (task != NULL) {
        w->first = task->next;
        w->end = w->first != NULL ? w->end : &w->first;
    }
    mutex_unlock(&w->lock);
    return task;
}

static void *run(void *arg)
{
    for (struct chat_task *task; (task = take(arg)) != NULL;) {
        task->work(task->arg);
        task->done(task->arg); /* it may be gone from here on */
    }
    return NULL;
}

int chat_workers_open(struct chat_workers **ret, int threads, struct error *e)
{
    struct chat_workers *w = calloc(1, sizeof *w + (size_t)threads * sizeof w->threads[0]);
    if (w == NULL) {
        return fail(e, FAIL_NOMEM, "memory for %d threads", threads);
    }
    mutex_init(&w->lock);
    condition_init(&w->changed);
    w->end = &w->first;
    for (; w->n < threads; w->n++) {
        int code = thread_start(&w->threads[w->n], run, w, e);
        if (code != 0) {
            chat_workers_close(w);
            return code;
        }
    }
    *ret = w;
    return 0;
}

void chat_workers_close(struct chat_workers *w)
{
    if (w == NULL) {
        return;
    }
    mutex_lock(&w->lock);
    w->closing = true;
    condition_signal(&w->changed);
    mutex_unlock(&w->lock);
    for (int i = 0; i < w->n; i++) {
        thread_join(&w->threads[i]);
    }
    condition_done(&w->changed);
    mutex_done(&w->lock);
    free(w);
}

void chat_workers_add(struct chat_workers *w, struct chat_task *task)
{
    task->next = NULL;
    mutex_lock(&w->lock);
    *w->end = task;
    w->end = &task->next;
    condition_signal(&w->changed);
    mutex_unlock(&w->lock);
}
