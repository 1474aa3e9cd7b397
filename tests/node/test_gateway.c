/* What a gateway knows of an answer that its head gives: enough to go on with it elsewhere. */
#include "tests/cluster/devices.h"

#include "api/api.h"
#include "engine/engine.h"
#include "node/peer_reply.h"
#include "os/clock.h"
#include "peer/stream.h"

#include <stdatomic.h>
#include <stdio.h>

#define N_TOKENS 12
#define SEED 9223372036854775783u

static const int32_t prompt[] = { 1, 40, 50, 60 };

struct gateway {
    struct cluster_forward *forward;
    struct buffer reply;
    bool over, whole;
    int32_t prompt[8], ids[64];
    int n_prompt, n_ids;
    uint64_t seed, bytes;
};

static struct gateway *new_gateway(void)
{
    struct gateway *g = calloc(1, sizeof *g);
    buffer_init(&g->reply, 1u << 20);
    return g;
}

static void free_gateway(struct gateway *g)
{
    buffer_done(&g->reply);
    free(g);
}

static void on_begin(void *arg, int status, const char *type)
{
    (void)arg;
    (void)type;
    assert_int_equal(status, 200);
}

static void on_write(void *arg, struct bytes data)
{
    struct gateway *g = arg;
    struct stream_log log;
    buffer_append(&g->reply, data);
    g->whole = cluster_forward_log(g->forward, &log, &g->bytes);
    assert_true(log.n_prompt <= (int)ARRAY_LEN(g->prompt) && log.n_ids <= (int)ARRAY_LEN(g->ids));
    for (int i = 0; i < log.n_prompt; i++)
        g->prompt[i] = log.prompt[i];
    for (int i = 0; i < log.n_ids; i++)
        g->ids[i] = log.ids[i];
    g->n_prompt = log.n_prompt;
    g->n_ids = log.n_ids;
    g->seed = log.seed;
}

static void on_end(void *arg)
{
    ((struct gateway *)arg)->over = true;
}

static void on_failed(void *arg, const struct error *e)
{
    (void)arg;
    fail_test("%s", e->text);
}

static bool is_over(void *arg)
{
    return ((struct gateway *)arg)->over;
}

/* --- the head's API --- */

static int model_count(void *arg)
{
    return cluster_model_count(((struct fixture *)arg)->devices[0].cluster);
}

static void model_at(void *arg, int index, struct api_model *ret)
{
    struct cluster_model m;
    cluster_model_at(((struct fixture *)arg)->devices[0].cluster, index, &m);
    *ret = (struct api_model){ .id = m.id,
                               .engine = m.engine,
                               .text = m.text,
                               .context = m.context,
                               .ready = m.state == MODEL_READY };
}

static bool member_ready(void *arg)
{
    const struct fixture *f = arg;
    struct cluster_model m = { 0 };
    if (cluster_model_count(f->devices[1].cluster) > 0)
        cluster_model_at(f->devices[1].cluster, 0, &m);
    return m.state == MODEL_READY;
}

static struct api *open_both(struct fixture *f, struct api **where)
{
    struct error e = { 0 };
    struct cluster_options o = options_of(f, 0);
    o.on_request = peer_request;
    o.arg = where;
    open_device(f, 0, &o);
    add_model(f);
    assert_int_equal(api_open(where,
                              &(struct api_options){
                                  .base = f->base,
                                  .provider = { .count = model_count, .at = model_at, .arg = f } },
                              &e),
                     0);
    copy_key(f, 0, 1);
    struct cluster_options b = options_of(f, 1);
    open_device(f, 1, &b);
    assert_true(run_until(f, member_ready, f, 10 * SECOND));
    return *where;
}

static struct gateway *ask(struct fixture *f, const char *prompts, const char *more)
{
    struct gateway *g = new_gateway();
    struct error e = { 0 };
    char body[512];
    snprintf(body, sizeof body,
             "{\"model\": \"gemma3\", \"prompt\": %s, \"max_tokens\": %d, "
             "\"temperature\": 1, \"top_p\": 1, \"seed\": %llu, \"ignore_eos\": true%s}",
             prompts, N_TOKENS, (unsigned long long)SEED, more);
    const struct cluster_sink sink = { on_begin, on_write, on_end, on_failed, g };
    const struct cluster_request q = { "POST", "/v1/completions", bytes_text(body) };
    assert_int_equal(cluster_forward(f->devices[1].cluster, &q, &sink, &g->forward, &e), 0);
    assert_true(run_until(f, is_over, g, 20 * SECOND));
    return g;
}

/* --- what the engine samples for the same --- */

struct sampled {
    int32_t ids[64];
    int n;
    atomic_bool over;
};

static enum engine_verdict took(void *arg, const struct engine_token *t)
{
    struct sampled *s = arg;
    s->ids[s->n++] = t->id;
    return ENGINE_CONTINUE;
}

static void ended(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                  const struct error *error)
{
    (void)finish;
    (void)usage;
    (void)error;
    atomic_store(&((struct sampled *)arg)->over, true);
}

static void sample(struct fixture *f, struct sampled *s)
{
    struct cluster_model m;
    struct error e = { 0 };
    uint64_t ticket = 0;
    *s = (struct sampled){ .n = 0 };
    cluster_model_at(f->devices[0].cluster, 0, &m);
    const struct engine_request q = { .prompt = prompt,
                                      .n_prompt = (int)ARRAY_LEN(prompt),
                                      .max_tokens = N_TOKENS,
                                      .sampling = { .temperature = 1, .top_p = 1, .seed = SEED },
                                      .on_token = took,
                                      .on_end = ended,
                                      .arg = s };
    assert_int_equal(engine_submit(m.engine, &q, &ticket, &e), 0);
    for (int i = 0; i < 1000 && !atomic_load(&s->over); i++)
        clock_sleep(CLOCK_NS_PER_S / 100);
    assert_true(atomic_load(&s->over));
}

static void a_gateway_knows_what_was_sampled(void **state)
{
    struct fixture *f = *state;
    static const char *const ways[] = { ", \"stream\": true", "" };
    struct api *where = NULL;
    struct sampled s;
    open_both(f, &where);
    sample(f, &s);
    assert_true(s.n > 0);
    for (size_t k = 0; k < ARRAY_LEN(ways); k++) {
        struct gateway *g = ask(f, "[1, 40, 50, 60]", ways[k]);
        assert_true(g->whole);
        assert_int_equal(g->n_prompt, ARRAY_LEN(prompt));
        assert_memory_equal(g->prompt, prompt, sizeof prompt);
        assert_int_equal(g->n_ids, s.n);
        assert_memory_equal(g->ids, s.ids, (size_t)s.n * sizeof *s.ids);
        assert_true(g->seed == SEED);
        assert_int_equal(g->bytes, g->reply.size);
        free_gateway(g);
    }
    /* Several answers are no one sequence. */
    struct gateway *g = ask(f, "[[1, 40], [1, 50]]", "");
    assert_false(g->whole);
    assert_int_equal(g->n_ids, 0);
    free_gateway(g);
    cluster_close(f->devices[1].cluster);
    cluster_close(f->devices[0].cluster);
    f->devices[0].cluster = f->devices[1].cluster = NULL;
    api_close(where);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_gateway_knows_what_was_sampled, devices_set_up,
                                        devices_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
