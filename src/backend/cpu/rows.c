/* Row phases: everything that a row does without looking at other rows' outputs. */
#include "backend/cpu/internal.h"

#include <math.h>

/* Frequencies of one table: f32 steps in the order that the reference takes them. YaRN after
 * Peng et al. 2023 (arXiv:2309.00071), section 3.4, with the correction range rounded outwards. */
static void yarn_blend(const struct rope *r, float *frequency)
{
    const double two_pi = 6.283185307179586;
    double dims = r->dims, base = r->base, context = r->original_context;
    double low = floor(dims * log(context / (r->yarn_beta_fast * two_pi)) / (2 * log(base)));
    double high = ceil(dims * log(context / (r->yarn_beta_slow * two_pi)) / (2 * log(base)));
    low = low < 0 ? 0 : low;
    high = high > dims - 1 ? dims - 1 : high;
    if (high <= low)
        high = low + 0.001;
    for (int i = 0; i < r->dims / 2; i++) {
        double ramp = ((double)i - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        double whole = frequency[i], stretched = whole / r->factor;
        frequency[i] = (float)(stretched * ramp + whole * (1 - ramp));
    }
}

int cpu_rope_init(struct cpu_ctx *c, struct error *e)
{
    const struct program *p = c->program;
    c->cos_tables = arena_array(&c->arena, float *, p->n_ropes + 1);
    c->sin_tables = arena_array(&c->arena, float *, p->n_ropes + 1);
    c->rope_frequency = arena_array(&c->arena, float *, p->n_ropes + 1);
    if (!c->cos_tables || !c->sin_tables || !c->rope_frequency)
        return fail(e, FAIL_NOMEM, "rope tables");
    for (int t = 0; t < p->n_ropes; t++) {
        const struct rope *r = &p->ropes[t];
        size_t half = (size_t)r->dims / 2, n = half * (size_t)c->options.max_rows;
        c->cos_tables[t] = arena_array(&c->arena, float, n);
        c->sin_tables[t] = arena_array(&c->arena, float, n);
        float *f = c->rope_frequency[t] = arena_array(&c->arena, float, half);
        if (!f || !c->cos_tables[t] || !c->sin_tables[t])
            return fail(e, FAIL_NOMEM, "rope tables");
        for (size_t i = 0; i < half; i++) {
            float power = (float)pow(r->base, (double)((float)(2 * i) / (float)r->dims));
            f[i] = 1.0f / power;
        }
        if (r->factors != PROGRAM_NONE)
            for (size_t i = 0; i < half; i++)
                f[i] /= c->weights[r->factors].vector[i];
        if (r->scaling == ROPE_SCALING_LINEAR)
            for (size_t i = 0; i < half; i++)
                f[i] /= r->factor;
        if (r->scaling == ROPE_SCALING_YARN)
            yarn_blend(r, f);
    }
    return 0;
}

/* cos and sin of every row's position, once a step for all layers and heads. */
void cpu_rope_step(struct cpu_ctx *c)
{
    const struct program *p = c->program;
    for (int t = 0; t < p->n_ropes; t++) {
        const struct rope *r = &p->ropes[t];
        int half = r->dims / 2;
        float magnitude = r->magnitude > 0 ? r->magnitude : 1.0f;
        for (int row = 0; row < c->step.n_rows; row++) {
            float *cs = c->cos_tables[t] + (size_t)row * (size_t)half;
            float *sn = c->sin_tables[t] + (size_t)row * (size_t)half;
            float position = (float)c->rows[row].position;
            for (int i = 0; i < half; i++) {
                kernels_sincos(position * c->rope_frequency[t][i], &sn[i], &cs[i]);
                cs[i] *= magnitude;
                sn[i] *= magnitude;
            }
        }
    }
}

static float *row_of(const struct cpu_ctx *c, int value, int row)
{
    return cpu_value(c, value) + (size_t)row * (size_t)c->program->values[value].width;
}

static void do_embed(struct cpu_ctx *c, const struct instr *in, int row, float *out)
{
    const struct weight *w = &c->program->weights[in->weight[0]];
    const struct cpu_weight *cw = &c->weights[in->weight[0]];
    int32_t id = c->step.ids[row] - w->row_first;
    if (id < 0 || id >= w->row_count) { /* another rank's row: its partial brings it */
        memset(out, 0, (size_t)w->col_count * sizeof(float));
        return;
    }
    if (cw->raw)
        quant_dequantize(w->type, cw->raw + (size_t)id * cw->raw_row_bytes, out,
                         (size_t)w->col_count);
    else
        c->k->unpack_row(&cw->packed, id, out);
    if (in->embed.scale != 0 && in->embed.scale != 1)
        c->k->scale(out, in->embed.scale, w->col_count, out);
}

static void do_norm(struct cpu_ctx *c, const struct instr *in, const float *x, float *out)
{
    int width = c->program->values[in->in[0]].width;
    int group = in->norm.group ? in->norm.group : width;
    const float *w = in->weight[0] == PROGRAM_NONE ? NULL : c->weights[in->weight[0]].vector;
    const float *b = in->weight[1] == PROGRAM_NONE ? NULL : c->weights[in->weight[1]].vector;
    for (int at = 0; at < width; at += group) {
        if (in->op == OP_RMS_NORM)
            c->k->rms_norm(x + at, w, group, in->norm.eps, out + at);
        else
            c->k->layer_norm(x + at, w, b, group, in->norm.eps, out + at);
    }
}

static void do_rope(struct cpu_ctx *c, const struct instr *in, int row, const float *x, float *out)
{
    const struct rope *r = &c->program->ropes[in->rope.table];
    int width = c->program->values[in->in[0]].width, half = r->dims / 2;
    const float *cs = c->cos_tables[in->rope.table] + (size_t)row * (size_t)half;
    const float *sn = c->sin_tables[in->rope.table] + (size_t)row * (size_t)half;
    memcpy(out, x, (size_t)width * sizeof(float));
    for (int at = 0; at < width; at += in->rope.head_dim)
        c->k->rope(out + at, half, r->interleaved, cs, sn);
}

static void do_act(struct cpu_ctx *c, const struct instr *in, int row, float *out)
{
    const float *gate = row_of(c, in->in[0], row);
    const float *up = in->in[1] == PROGRAM_NONE ? NULL : row_of(c, in->in[1], row);
    int n = c->program->values[in->out].width;
    switch (in->act) {
    case ACT_SILU:
        c->k->silu_mul(gate, up, n, out);
        break;
    case ACT_GELU:
        c->k->gelu_mul(gate, up, n, out);
        break;
    case ACT_RELU2:
        c->k->relu2_mul(gate, up, n, out);
        break;
    default:
        c->k->sigmoid_mul(gate, up, n, out);
        break;
    }
}

/* Softmax over the experts, the top_k best (ties: the lower id), renormalised if the family says
 * so. Every rank computes this itself, in one arithmetic, so ranks never disagree. */
static void do_route(struct cpu_ctx *c, const struct instr *in, const float *logits, float *out)
{
    int n = c->program->values[in->in[0]].width, k = in->route.top_k;
    float max = logits[0];
    for (int i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    float sum = 0, chosen = 0;
    for (int i = 0; i < n; i++)
        sum += kernels_exp(logits[i] - max);
    for (int s = 0; s < k; s++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            bool taken = false;
            for (int j = 0; j < s && !taken; j++)
                taken = (int)out[2 * j] == i;
            if (!taken && (best < 0 || logits[i] > logits[best]))
                best = i;
        }
        out[2 * s] = (float)best;
        out[2 * s + 1] = kernels_exp(logits[best] - max) / sum;
        chosen += out[2 * s + 1];
    }
    if (in->route.normalize)
        for (int s = 0; s < k; s++)
            out[2 * s + 1] /= chosen;
}

static void do_expert_sum(struct cpu_ctx *c, const struct instr *in, int row, float *out)
{
    const float *x = row_of(c, in->in[0], row), *route = row_of(c, in->in[1], row);
    int n = c->program->values[in->out].width;
    memset(out, 0, (size_t)n * sizeof(float));
    for (int s = 0; s < in->experts.top_k; s++) {
        int expert = (int)route[2 * s];
        if (expert < in->experts.first || expert >= in->experts.first + in->experts.count)
            continue;
        c->k->add_scaled(out, x + (size_t)s * (size_t)n, route[2 * s + 1], n, out);
    }
}

/* The run that a row belongs to. */
static int run_of(const struct cpu_ctx *c, int row, int *row_in_run)
{
    int at = 0, run = 0;
    while (row >= at + c->runs[run].count)
        at += c->runs[run++].count;
    *row_in_run = row - at;
    return run;
}

/* Input of the convolution `back` positions before row: from this step's rows or the state. */
static const float *conv_input(struct cpu_ctx *c, const struct instr *in, int row, int row_in_run,
                               int back)
{
    const struct state *s = &c->program->states[in->state];
    if (back <= row_in_run)
        return row_of(c, in->in[0], row - back);
    const struct cpu_session *session = &c->sessions[c->rows[row].session];
    int at = s->value_dim - (back - row_in_run);
    return session->recurrent + c->state_offset[in->state] + (size_t)at * (size_t)s->key_dim;
}

/* out[ch] = sum over taps of w[ch][tap] * x[position - (taps - 1) + tap][ch], oldest first. */
static void do_conv(struct cpu_ctx *c, const struct instr *in, int row, float *out)
{
    const struct state *s = &c->program->states[in->state];
    const float *w = c->weights[in->weight[0]].vector;
    int taps = s->value_dim + 1, row_in_run;
    run_of(c, row, &row_in_run);
    for (int ch = 0; ch < s->key_dim; ch++)
        out[ch] = 0;
    for (int tap = 0; tap < taps; tap++) {
        const float *x = conv_input(c, in, row, row_in_run, taps - 1 - tap);
        for (int ch = 0; ch < s->key_dim; ch++)
            out[ch] = fmaf(w[ch * taps + tap], x[ch], out[ch]);
    }
}

/* The last row of a run leaves the new state, apart from the present one, which stays as it is
 * until the step ends. A run shorter than the kernel keeps what it still needs. */
static void store_conv(struct cpu_ctx *c, const struct instr *in, int row)
{
    const struct state *s = &c->program->states[in->state];
    int row_in_run, run = run_of(c, row, &row_in_run);
    if (row_in_run != c->runs[run].count - 1)
        return;
    size_t width = (size_t)s->key_dim * sizeof(float);
    float *state = c->sessions[c->rows[row].session].next + c->state_offset[in->state];
    for (int i = 0; i < s->value_dim; i++)
        memcpy(state + (size_t)i * (size_t)s->key_dim,
               conv_input(c, in, row, row_in_run, s->value_dim - 1 - i), width);
}

static void store_kv(struct cpu_ctx *c, const struct instr *in, int row)
{
    const struct state *s = &c->program->states[in->state];
    const struct cpu_session *session = &c->sessions[c->rows[row].session];
    int32_t position = c->rows[row].position;
    uint8_t *page = cpu_state_page(c, session, in->state, position / CPU_PAGE);
    size_t bytes = kernels_page_bytes(s->key_dim, s->value_dim, c->options.exact);
    const float *k = row_of(c, in->in[1], row), *v = row_of(c, in->in[2], row);
    for (int h = 0; h < s->heads; h++)
        c->k->store_kv(page + (size_t)h * bytes, position % CPU_PAGE, k + h * s->key_dim,
                       s->key_dim, v + h * s->value_dim, s->value_dim, c->options.exact);
}

static void do_row(struct cpu_ctx *c, const struct instr *in, int row)
{
    int n = c->program->values[in->out].width;
    float *out = row_of(c, in->out, row);
    const float *x = in->in[0] == PROGRAM_NONE ? NULL : row_of(c, in->in[0], row);
    switch (in->op) {
    case OP_EMBED:
        do_embed(c, in, row, out);
        break;
    case OP_RMS_NORM:
    case OP_LAYER_NORM:
        do_norm(c, in, x, out);
        break;
    case OP_ROPE:
        do_rope(c, in, row, x, out);
        break;
    case OP_ACT:
        do_act(c, in, row, out);
        break;
    case OP_ADD:
        c->k->add(x, row_of(c, in->in[1], row), n, out);
        break;
    case OP_MUL:
        c->k->mul(x, row_of(c, in->in[1], row), n, out);
        break;
    case OP_SCALE:
        c->k->scale(x, in->scale.factor, n, out);
        break;
    case OP_SOFTCAP:
        c->k->softcap(x, in->softcap.cap, n, out);
        break;
    case OP_ROWS:
        memcpy(out, row_of(c, in->in[0], c->wanted_rows[row]), (size_t)n * sizeof(float));
        break;
    case OP_ROUTE:
        do_route(c, in, x, out);
        break;
    case OP_EXPERT_SUM:
        do_expert_sum(c, in, row, out);
        break;
    case OP_CONV:
        do_conv(c, in, row, out);
        break;
    case OP_SLICE:
        memcpy(out, x + in->slice.offset, (size_t)n * sizeof(float));
        break;
    case OP_PAD:
        memset(out, 0, (size_t)n * sizeof(float));
        memcpy(out + in->slice.offset, x,
               (size_t)c->program->values[in->in[0]].width * sizeof(float));
        break;
    default: /* phases of their own, or exchanges */
        break;
    }
}

/* Packs the tile of rows [first, end) of a value, with zeros where a slice cut a block. */
static void do_pack(struct cpu_ctx *c, const struct cpu_pack *p, int first, int end, int thread)
{
    int width = c->program->values[p->value].width;
    int total = cpu_value_rows(c, p->value), tile = first / KERNEL_TILE;
    const float *x = cpu_value(c, p->value);
    size_t ldx = (size_t)width;
    if (width != p->cols) {
        float *padded = c->thread_rows[thread];
        for (int row = first; row < end; row++) {
            float *to = padded + (size_t)(row - first) * (size_t)p->cols;
            memset(to, 0, (size_t)p->cols * sizeof(float));
            memcpy(to + p->pad_left, x + (size_t)row * ldx, (size_t)width * sizeof(float));
        }
        ldx = (size_t)p->cols;
        /* The packer counts rows from the batch's start. */
        x = padded - (size_t)first * ldx;
    }
    c->k->pack_activation(p->format, x, ldx, total, p->cols, tile, c->work + p->offset);
}

/* Rows [row_first, row_end) through every operation of the phase; row_first is a multiple of
 * KERNEL_TILE. */
void cpu_run_rows(struct cpu_ctx *c, const struct cpu_phase *phase, int row_first, int row_end,
                  int thread)
{
    for (int i = 0; i < phase->n_ops; i++) {
        const struct cpu_row_op *op = &c->row_ops[phase->first_op + i];
        if (op->instr == PROGRAM_NONE) {
            for (int t = row_first; t < row_end; t += KERNEL_TILE)
                do_pack(c, &c->packs[op->pack], t,
                        t + KERNEL_TILE < row_end ? t + KERNEL_TILE : row_end, thread);
            continue;
        }
        const struct instr *in = &c->program->instrs[op->instr];
        for (int row = row_first; row < row_end; row++) {
            if (op->store_kv && in->op == OP_ATTEND)
                store_kv(c, in, row);
            else if (op->store_kv)
                store_conv(c, in, row);
            else
                do_row(c, in, row);
        }
    }
}
