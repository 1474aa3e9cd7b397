/* Guarded mappings: see fault.h. */
#include "os/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Files mapped at once: models of 16 placements, their parts and pieces of split files. */
#define MAX_GUARDS 256

struct fault_guard {
    atomic_uintptr_t start, end; /* both 0: free */
    atomic_bool taken, happened;
};

/* Global because a signal handler gets no argument; slots are never freed, so that the handler may
 * walk them at any moment. */
static struct fault_guard guards[MAX_GUARDS];
static struct sigaction before;
static atomic_uintptr_t page_bytes; /* always the same; written whenever files are mapped */

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    for (int i = 0; i < MAX_GUARDS; i++) {
        struct fault_guard *g = &guards[i];
        uintptr_t start = atomic_load_explicit(&g->start, memory_order_acquire);
        uintptr_t end = atomic_load_explicit(&g->end, memory_order_acquire);
        if (at < start || at >= end)
            continue;
        uintptr_t page = at & ~(atomic_load_explicit(&page_bytes, memory_order_relaxed) - 1);
        atomic_store_explicit(&g->happened, true, memory_order_release);
        /* A system call and nothing else: allowed in a handler. */
        if (mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                 0) != MAP_FAILED)
            return;
    }
    /* Not ours: the instruction runs again and meets whoever was there before us. */
    sigaction(SIGBUS, &before, NULL);
    (void)number;
    (void)context;
}

/* Anyone may have put another handler in place since the last time: ours goes on top of it. Returns
 * the size of a page. */
static uintptr_t install(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction ours = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO }, now;
    sigemptyset(&ours.sa_mask);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    atomic_store_explicit(&page_bytes, page, memory_order_relaxed);
    pthread_mutex_lock(&lock);
    if (sigaction(SIGBUS, NULL, &now) == 0 &&
        !((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_bus_error)) {
        before = now;
        sigaction(SIGBUS, &ours, NULL);
    }
    pthread_mutex_unlock(&lock);
    return page;
}

struct fault_guard *fault_guard(const void *start, size_t size)
{
    uintptr_t page = install();
    for (int i = 0; i < MAX_GUARDS; i++) {
        struct fault_guard *g = &guards[i];
        if (atomic_exchange_explicit(&g->taken, true, memory_order_acq_rel))
            continue;
        atomic_store_explicit(&g->happened, false, memory_order_relaxed);
        uintptr_t end = ((uintptr_t)start + size + page - 1) & ~(page - 1);
        atomic_store_explicit(&g->end, end, memory_order_release);
        atomic_store_explicit(&g->start, (uintptr_t)start, memory_order_release);
        return g;
    }
    return NULL;
}

void fault_release(struct fault_guard *g)
{
    if (!g)
        return;
    atomic_store_explicit(&g->end, 0, memory_order_release);
    atomic_store_explicit(&g->start, 0, memory_order_release);
    atomic_store_explicit(&g->taken, false, memory_order_release);
}

bool fault_happened(const struct fault_guard *g)
{
    return g && atomic_load_explicit(&g->happened, memory_order_acquire);
}
