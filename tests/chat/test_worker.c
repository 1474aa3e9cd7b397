/* Workers: every task is done once, also those that wait when they are closed. */
#include "tests/test.h"

#include <stdatomic.h>

#include "chat/worker.h"

struct count {
    struct chat_task task;
    int worked, done;
    atomic_int *all;
};

static void work(void *arg)
{
    struct count *c = arg;
    c->worked++;
}

static void done(void *arg)
{
    struct count *c = arg;
    c->done += c->worked == 1;
    atomic_fetch_add(c->all, 1);
}

static void every_task_is_done_once(void **state)
{
    (void)state;
    enum { N = 1000 };
    static struct count counts[N];
    for (int threads = 1; threads <= 3; threads++) {
        struct chat_workers *w = NULL;
        struct error e = { 0 };
        atomic_int all = 0;
        assert_int_equal(chat_workers_open(&w, threads, &e), 0);
        for (int i = 0; i < N; i++) {
            counts[i] = (struct count){ .task = { work, done, &counts[i], NULL }, .all = &all };
            chat_workers_add(w, &counts[i].task);
        }
        chat_workers_close(w);
        assert_int_equal(all, N);
        for (int i = 0; i < N; i++)
            assert_true(counts[i].worked == 1 && counts[i].done == 1);
    }
    chat_workers_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_task_is_done_once) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
