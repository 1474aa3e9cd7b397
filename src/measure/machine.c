/* Limits: see machine.h. */
#include "measure/internal.h"

#include "base/attributes.h"
#include "kernels/kernels.h"
#include "measure/peak.h"
#include "os/clock.h"
#include "os/memory.h"
#include "os/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Long beside a timer and a wake-up, short beside the changes of a shared machine. */
#define PEAK_SECONDS 5e-3

static const struct peak *find_peak(const char *isa)
{
    static const struct peak *const peaks[] = {
        &peak_scalar,
#if defined(__x86_64__)
        &peak_avx2,
        &peak_avx512,
#elif defined(__aarch64__)
        &peak_neon,
        &peak_dotprod,
#endif
    };
    for (size_t i = 0; i < ARRAY_LEN(peaks); i++)
        if (strcmp(peaks[i]->name, isa) == 0)
            return peaks[i];
    return peaks[0];
}

struct timing {
    struct machine *machine;
    int threads;
    void (*work)(void *arg);
    void *arg;
    _Atomic uint64_t start_ns; /* of the first thread that began */
};

/* Threads that aren't wanted wait at the pool's end. */
static void begin_together(void *arg, int thread, int n_threads)
{
    struct timing *t = arg;
    (void)n_threads;
    pool_barrier(t->machine->pool, thread);
    if (thread >= t->threads)
        return;
    uint64_t now = clock_now_ns(), first = t->start_ns;
    while (now < first && !atomic_compare_exchange_weak(&t->start_ns, &first, now)) {
    }
    t->work(t->arg);
}

double machine_time(struct machine *m, int threads, void (*work)(void *arg), void *arg)
{
    assert(threads >= 1 && threads <= m->threads);
    struct timing t = {
        .machine = m, .threads = threads, .work = work, .arg = arg, .start_ns = UINT64_MAX
    };
    pool_run(m->pool, begin_together, &t);
    uint64_t ns = clock_now_ns() - t.start_ns;
    return (double)(ns ? ns : 1) / (double)CLOCK_NS_PER_S;
}

struct reading {
    struct machine *machine;
    const uint8_t *memory;
    atomic_size_t next;
};

static void read_pieces(void *arg)
{
    struct reading *r = arg;
    for (;;) {
        size_t at = pool_claim(r->machine->pool, &r->next, MEASURE_PIECE);
        if (at >= r->machine->bytes)
            return;
        size_t left = r->machine->bytes - at;
        r->machine->sum +=
            r->machine->peak->read(r->memory + at, left < MEASURE_PIECE ? left : MEASURE_PIECE);
    }
}

static double read_rate(struct machine *m, const uint8_t *memory, int threads)
{
    struct reading r = { .machine = m, .memory = memory };
    return (double)m->bytes / machine_time(m, threads, read_pieces, &r);
}

static void compute_int8(void *arg)
{
    struct machine *m = arg;
    m->sum += m->peak->int8(m->rounds[0]);
}

static void compute_f32(void *arg)
{
    struct machine *m = arg;
    m->sum += m->peak->f32(m->rounds[1]) > 0;
}

static double peak_rate(struct machine *m, int which, int threads)
{
    double seconds = machine_time(m, threads, which ? compute_f32 : compute_int8, m);
    return (double)PEAK_MACS * m->rounds[which] * threads / seconds;
}

double machine_limit(struct machine *m, enum machine_limit limit, int threads)
{
    switch (limit) {
    case LIMIT_READ:
        return read_rate(m, m->memory, threads);
    case LIMIT_READ_ORDINARY:
        return read_rate(m, m->ordinary, threads);
    default:
        return peak_rate(m, limit == LIMIT_F32, threads);
    }
}

enum machine_limit machine_peak_of(enum quant_type type)
{
    return kernels_activation_format(type, false) == ACTIVATION_F32 ? LIMIT_F32 : LIMIT_INT8;
}

/* Doubles the rounds of a peak until they take long enough. */
static void choose_rounds(struct machine *m, int which)
{
    m->rounds[which] = 1;
    while (m->rounds[which] < PEAK_MAX_ROUNDS &&
           (double)PEAK_MACS * m->rounds[which] / peak_rate(m, which, 1) < PEAK_SECONDS)
        m->rounds[which] *= 2;
}

int machine_open(struct machine **ret, const struct machine_options *options, struct error *e)
{
    struct machine *m = calloc(1, sizeof(*m));
    if (!m)
        return fail(e, FAIL_NOMEM, "measurements");
    m->kernels = options->kernels;
    m->peak = find_peak(m->kernels->isa);
    m->threads = options->threads;
    m->bytes = options->bytes ? options->bytes : MACHINE_BYTES;
    int r = pool_open(&m->pool, &(struct pool_options){ .threads = m->threads }, e);
    if (!r) {
        m->memory = memory_huge_alloc(m->bytes);
        m->ordinary = memory_ordinary_alloc(m->bytes);
        if (!m->memory || !m->ordinary)
            r = fail(e, FAIL_NOMEM, "%zu bytes of memory to measure", 2 * m->bytes);
    }
    if (r) {
        machine_close(m);
        return r;
    }
    memset(m->memory, 1, m->bytes);
    memset(m->ordinary, 1, m->bytes);
    choose_rounds(m, 0);
    choose_rounds(m, 1);
    *ret = m;
    return 0;
}

void machine_close(struct machine *m)
{
    if (!m)
        return;
    pool_close(m->pool);
    memory_huge_free(m->memory, m->bytes);
    memory_huge_free(m->ordinary, m->bytes);
    free(m);
}
