/* Attention phase: one task is a tile of queries of one run against one KV head. */
#include "backend/cpu/internal.h"

/* What the tasks of one instruction share. */
struct attend_plan {
    const struct instr *in;
    const struct state *state;
    int q_heads; /* of this rank */
    int tokens_a_tile;
    size_t page_bytes; /* of one head */
};

/* Query heads [first, end) of this rank that read KV head kv (of this rank). */
static void query_heads(const struct attend_plan *p, int kv, int *first, int *end)
{
    int group = p->in->attend.heads_per_kv, global = p->in->attend.kv_first + kv;
    *first = global * group - p->in->attend.head_first;
    *end = *first + group;
    if (*first < 0)
        *first = 0;
    if (*end > p->q_heads)
        *end = p->q_heads;
}

/* One KV head's queries of a few rows of one run. */
struct attend_tile {
    int run;
    int row, n_rows; /* of the step's rows */
    int kv;
};

static void attend_task(struct cpu_ctx *c, const struct attend_plan *p, const struct attend_tile *t,
                        int thread)
{
    int kv = t->kv;
    const struct state *s = p->state;
    const struct cpu_session *session = &c->sessions[c->run_sessions[t->run]];
    const float *q_rows[KERNEL_QUERIES * 8];
    float *out_rows[KERNEL_QUERIES * 8];
    int32_t first[KERNEL_QUERIES * 8], last[KERNEL_QUERIES * 8];
    int head_first, head_end, n = 0;
    query_heads(p, kv, &head_first, &head_end);
    int q_width = c->program->values[p->in->in[0]].width;
    int out_width = c->program->values[p->in->out].width;
    int32_t low = INT32_MAX, high = 0;
    for (int row = t->row; row < t->row + t->n_rows; row++)
        for (int h = head_first; h < head_end; h++, n++) {
            int32_t position = c->rows[row].position;
            q_rows[n] = cpu_value(c, p->in->in[0]) + (size_t)row * (size_t)q_width +
                        (size_t)h * (size_t)s->key_dim;
            out_rows[n] = cpu_value(c, p->in->out) + (size_t)row * (size_t)out_width +
                          (size_t)h * (size_t)s->value_dim;
            last[n] = position;
            first[n] = s->window && position >= s->window ? position - s->window + 1 : 0;
            low = first[n] < low ? first[n] : low;
            high = position > high ? position : high;
        }
    if (n == 0)
        return;
    const uint8_t **pages = c->thread_pages[thread];
    for (int32_t page = low / CPU_PAGE; page <= high / CPU_PAGE; page++)
        pages[page] = cpu_state_page(c, session, p->in->state, page) + (size_t)kv * p->page_bytes;
    struct attention a = { .head_dim = s->key_dim,
                           .value_dim = s->value_dim,
                           .n_queries = n,
                           .q = q_rows,
                           .out = out_rows,
                           .first = first,
                           .last = last,
                           .pages = pages,
                           .f32 = c->options.exact,
                           .scale = p->in->attend.scale,
                           .softcap = p->in->attend.softcap,
                           .scratch = c->thread_scores[thread] };
    c->k->attention(&a);
}

/* Tokens whose queries fill one call. */
static int tile_tokens(int queries_a_token)
{
    int tokens = queries_a_token ? KERNEL_QUERIES / queries_a_token : 1;
    return tokens < 1 ? 1 : tokens;
}

void cpu_run_attend(struct cpu_ctx *c, struct cpu_phase *phase, int thread)
{
    const struct instr *in = &c->program->instrs[phase->instrs[0]];
    const struct state *s = &c->program->states[in->state];
    if (s->heads == 0)
        return;
    struct attend_plan p = { .in = in, .state = s };
    p.q_heads = c->program->values[in->in[0]].width / s->key_dim;
    p.tokens_a_tile = tile_tokens(in->attend.heads_per_kv);
    p.page_bytes = kernels_page_bytes(s->key_dim, s->value_dim, c->options.exact);
    int task = atomic_fetch_add_explicit(&phase->claimed, 1, memory_order_relaxed);
    int at = 0, row = 0;
    /* Tasks are numbered run by run, tile by tile, KV head by KV head. */
    for (int run = 0; run < c->step.n_runs; run++) {
        int count = c->runs[run].count;
        int tiles = (count + p.tokens_a_tile - 1) / p.tokens_a_tile;
        while (task < at + tiles * s->heads) {
            /* The last tiles see the most positions: give them out first. */
            int first = (tiles - 1 - (task - at) / s->heads) * p.tokens_a_tile;
            int n = count - first < p.tokens_a_tile ? count - first : p.tokens_a_tile;
            const struct attend_tile tile = { run, row + first, n, (task - at) % s->heads };
            attend_task(c, &p, &tile, thread);
            task = atomic_fetch_add_explicit(&phase->claimed, 1, memory_order_relaxed);
        }
        at += tiles * s->heads;
        row += count;
    }
}
