/* A few threads for what takes a request long before it can be answered: reading megabytes of JSON,
 * rendering, encoding. The loop that asks for it goes on meanwhile. */
#ifndef SHOAL_CHAT_WORKER_H
#define SHOAL_CHAT_WORKER_H

#include "base/error.h"

/* One piece of work. Caller's struct, usually inside a larger one; it must stay until done was
 * called. work runs on a worker, done behind it on the same thread and must only take note. */
struct chat_task {
    void (*work)(void *arg);
    void (*done)(void *arg);
    void *arg;
    struct chat_task *next;
};

struct chat_workers;

/* FAIL_NOMEM. */
int chat_workers_open(struct chat_workers **ret, int threads, struct error *e);
/* Finishes all tasks, then ends. NULL is fine. */
void chat_workers_close(struct chat_workers *w);
/* In the order of the calls as far as one thread can. Any thread. */
void chat_workers_add(struct chat_workers *w, struct chat_task *task);

#endif
