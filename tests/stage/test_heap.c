/* No heap call on compute threads while tokens are decoded: the linker puts the functions below in
 * front of the allocator for all of our code (-Wl,--wrap). The test's own thread is the head. */
#include "tests/test.h"

#include "base/arena.h"
#include "stage/inprocess.h"
#include "stage/source.h"
#include "engine/executor.h"
#include "kernels/kernels.h"
#include "os/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define TOKENS 1000
#define WARM_UP 4 /* steps, the first of which is the prompt */
#define SECOND 1000000000ull

static atomic_bool counting;
static atomic_int calls;
static pthread_t head;

static void count(void)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed) &&
        !pthread_equal(pthread_self(), head)) {
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    }
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
int __real_posix_memalign(void **ret, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *p);

void *__wrap_malloc(size_t size)
{
    count();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    count();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    count();
    return __real_realloc(p, size);
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size)
{
    count();
    return __real_posix_memalign(ret, alignment, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    count();
    return __real_aligned_alloc(alignment, size);
}

void __wrap_free(void *p)
{
    if (p != NULL) {
        count();
    }
    __real_free(p);
}

static struct executor *open_model(struct source *s, const char *spec)
{
    struct error e = { 0 };
    struct placement_plan plan;
    struct executor *x = NULL;
    const struct program *program = source_program(s);
    assert_int_equal(split_parse(spec, program->n_layers, &plan, &e), 0);
    int code = inprocess_open(&x,
                              &(struct inprocess_options){ .backend = &backend_cpu,
                                                           .program = program,
                                                           .source = source_weights(s),
                                                           .plan = &plan,
                                                           .kernels = kernels_choose(NULL, &e),
                                                           .threads = 2,
                                                           .max_rows = 16,
                                                           .max_sessions = 2,
                                                           .max_context = TOKENS + 64 },
                              &e);
    if (code != 0) {
        print_error("%s\n", e.text);
    }
    assert_int_equal(code, 0);
    return x;
}

/* One step of `rows` tokens at `first`, the last row's logits wanted. */
static void do_step(struct executor *x, uint64_t id, int first, int rows)
{
    struct step_command create = { .op = STEP_CREATE, .session = 1 };
    struct step_run run = { .session = 1, .first = first, .count = rows };
    int32_t ids[8];
    uint8_t wanted[8] = { 0 };
    struct error e = { 0 };
    for (int i = 0; i < rows; i++) {
        ids[i] = (first + i) * 7 % x->vocab;
    }
    wanted[rows - 1] = 1;
    struct step s = { .id = id,
                      .commands = &create,
                      .n_commands = id == 1,
                      .runs = &run,
                      .n_runs = 1,
                      .ids = ids,
                      .wanted = wanted,
                      .n_rows = rows,
                      .n_wanted = 1 };
    struct step_result result;
    uint64_t until = clock_now_ns() + 60 * SECOND;
    assert_int_equal(x->ops->submit(x, &s, until, &e), 0);
    assert_int_equal(x->ops->collect(x, &result, until, &e), 0);
    assert_int_equal(result.n_wanted, 1);
}

static void decode(const char *model, const char *spec)
{
    char path[512];
    struct error e = { 0 };
    struct source *s = NULL;
    snprintf(path, sizeof path, "%s/golden/%s.gguf", SHOAL_TEST_DATA, model);
    assert_int_equal(source_open(&s, path, &e), 0);
    head = pthread_self();
    /* Loading allocates: else the count below would count nothing at all. */
    atomic_store(&calls, 0);
    atomic_store(&counting, true);
    struct executor *x = open_model(s, spec);
    assert_true(atomic_load(&calls) > 0);
    do_step(x, 1, 0, 8);
    for (uint64_t i = 2; i <= WARM_UP; i++) {
        do_step(x, i, (int)i + 6, 1);
    }
    atomic_store(&calls, 0);
    for (uint64_t i = WARM_UP + 1; i <= WARM_UP + TOKENS; i++) {
        do_step(x, i, (int)i + 6, 1);
    }
    int n = atomic_load(&calls);
    atomic_store(&counting, false);
    x->ops->close(x);
    source_close(s);
    if (n != 0) {
        print_error("%s, %s: %d heap calls on compute threads\n", model, spec, n);
    }
    assert_int_equal(n, 0);
}

static void one_device(void **state)
{
    decode("llama", "2@1");
}

static void tensor_split(void **state)
{
    decode("llama", "2@1:1");
}

static void pipeline(void **state)
{
    decode("llama", "1@1/1@1");
}

static void windows_and_recurrent_states(void **state)
{
    decode("gemma3", "1");
    decode("lfm2", "1");
}

static void experts(void **state)
{
    decode("qwen3_moe", "1:1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_device), cmocka_unit_test(tensor_split),
        cmocka_unit_test(pipeline),   cmocka_unit_test(windows_and_recurrent_states),
        cmocka_unit_test(experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
